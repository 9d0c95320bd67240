/** Prefixes as UPDATEs carry them (RFC 4271 4.3, 4760 section 5, with path identifiers RFC 7911 section 3). */
import { get32, put32 } from './bytes.ts';
import { BgpError, UPDATE_ERROR } from './error.ts';
import { type Family, IPV4 } from './family.ts';

/** In an entry of a PrefixList: the length, the path identifier (0 without add-path), then the address's words. */
export const LENGTH = 0;
export const PATH_ID = 1;
export const WORDS = 2;

const MIN_ENTRIES = 64;

/** Prefixes of one family, entry behind entry in one array of int32. It keeps its memory when it is cleared. */
export class PrefixList {
  readonly family: Family;
  /** int32 an entry. */
  readonly stride: number;
  data: Int32Array;
  /** int32 in use: a multiple of `stride`. */
  end = 0;

  constructor(family: Family, data?: Int32Array) {
    this.family = family;
    this.stride = WORDS + family.words;
    this.data = data ?? new Int32Array(MIN_ENTRIES * this.stride);
  }

  get count(): number {
    return this.end / this.stride;
  }

  clear(): void {
    this.end = 0;
  }

  /** The list itself, or in parts of so many entries, over the same memory: good until an entry is added. */
  *parts(entries: number): Generator<PrefixList> {
    const size = entries * this.stride;
    if (this.end <= size) {
      if (this.end > 0) yield this;
      return;
    }
    for (let from = 0; from < this.end; from += size) {
      const data = this.data.subarray(from, Math.min(this.end, from + size));
      const part = new PrefixList(this.family, data);
      part.end = data.length;
      yield part;
    }
  }

  /** Room for one more entry, and where it begins. */
  extend(): number {
    const at = this.end;
    if (at === this.data.length) {
      const data = new Int32Array(this.data.length * 2);
      data.set(this.data);
      this.data = data;
    }
    this.end = at + this.stride;
    return at;
  }

  add(words: ArrayLike<number>, length: number, pathId = 0): void {
    const at = this.extend();
    this.data[at + LENGTH] = length;
    this.data[at + PATH_ID] = pathId;
    for (let i = 0; i < this.family.words; i++) this.data[at + WORDS + i] = words[i]!;
  }

  addAll(other: PrefixList): void {
    for (let from = 0; from < other.end; from += this.stride) this.addEntry(other, from);
  }

  /** Add the entry of another list that begins at data[from]. */
  addEntry({ data }: PrefixList, from: number): void {
    const at = this.extend();
    for (let i = 0; i < this.stride; i++) this.data[at + i] = data[from + i]!;
  }
}

/**
 * Append the prefixes of bytes[offset..end) to a list. Bits after a prefix's length are of no meaning and come out
 * as 0. Throws 3/10 if they cannot be read.
 */
export function decodePrefixes(
  bytes: Uint8Array,
  offset: number,
  end: number,
  addPath: boolean,
  list: PrefixList,
): void {
  const { family } = list;
  let at = offset;
  while (at < end) {
    let pathId = 0;
    if (addPath) {
      if (at + 5 > end) throw new BgpError(UPDATE_ERROR, 10, 'a path identifier is cut short');
      pathId = get32(bytes, at);
      at += 4;
    }
    const length = bytes[at++]!;
    if (length > family.bits) throw new BgpError(UPDATE_ERROR, 10, `prefix length ${length}`);
    const stop = at + ((length + 7) >> 3);
    if (stop > end) throw new BgpError(UPDATE_ERROR, 10, 'a prefix is cut short');
    const entry = list.extend();
    const { data } = list;
    data[entry + LENGTH] = length;
    data[entry + PATH_ID] = pathId;
    if (family === IPV4) {
      let word = 0;
      for (let shift = 24; at < stop; shift -= 8) word |= bytes[at++]! << shift;
      data[entry + WORDS] = length === 0 ? 0 : word & (-1 << (32 - length));
    } else {
      for (let i = 0; i < 4; i++) {
        let word = 0;
        for (let shift = 24; shift >= 0 && at < stop; shift -= 8) word |= bytes[at++]! << shift;
        const bits = length - 32 * i;
        data[entry + WORDS + i] = bits >= 32 ? word : bits <= 0 ? 0 : word & (-1 << (32 - bits));
      }
    }
  }
}

/** Bytes that one prefix takes. */
export function prefixSize(length: number, addPath: boolean): number {
  return (addPath ? 5 : 1) + ((length + 7) >> 3);
}

/** Write the entries data[from..to) of a list at `offset`; answers the offset behind them. */
export function encodePrefixes(
  list: PrefixList,
  from: number,
  to: number,
  addPath: boolean,
  bytes: Uint8Array,
  offset: number,
): number {
  const { data, stride } = list;
  let at = offset;
  for (let entry = from; entry < to; entry += stride) {
    if (addPath) {
      put32(bytes, at, data[entry + PATH_ID]!);
      at += 4;
    }
    const length = data[entry + LENGTH]!;
    bytes[at++] = length;
    for (let bit = 0; bit < length; bit += 8) {
      bytes[at++] = data[entry + WORDS + (bit >> 5)]! >> (24 - (bit & 31));
    }
  }
  return at;
}
