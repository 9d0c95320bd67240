/**
 * IPv6 prefix to value, in flat typed arrays, as PrefixMap is for IPv4. Open addressing with linear probing and
 * backward-shift deletion. A prefix is named by where its sixteen bytes stand, without host bits.
 */
import { get32, viewOf } from '../wire/bytes.ts';

const MIN_CAPACITY = 1024;
const FREE = 0xff;
/** int32 cells of an address. */
const WORDS = 4;

export interface Route6 {
  /** Sixteen bytes. */
  readonly prefix: Uint8Array;
  readonly length: number;
  readonly value: number;
}

export class PrefixMap6 {
  #prefixes = new Int32Array(MIN_CAPACITY * WORDS);
  /** Prefix length, or FREE. */
  #lengths = new Uint8Array(MIN_CAPACITY).fill(FREE);
  #values = new Uint16Array(MIN_CAPACITY);
  #size = 0;
  /** Prefixes of each length: lengths that do not occur are never searched. */
  readonly #perLength = new Uint32Array(129);
  /** The prefix that is looked for. */
  readonly #wanted = new Int32Array(WORDS);

  get size(): number {
    return this.#size;
  }

  /** The value, or -1. */
  get(bytes: DataView, at: number, length: number): number {
    this.#want(bytes, at, length);
    const slot = this.#find(length);
    return this.#lengths[slot] === FREE ? -1 : this.#values[slot]!;
  }

  /** True if the prefix is new. */
  set(bytes: DataView, at: number, length: number, value: number): boolean {
    if (this.#size * 2 >= this.#lengths.length) this.#grow();
    this.#want(bytes, at, length);
    const slot = this.#find(length);
    const fresh = this.#lengths[slot] === FREE;
    if (fresh) {
      this.#prefixes.set(this.#wanted, slot * WORDS);
      this.#lengths[slot] = length;
      this.#size++;
      this.#perLength[length]! += 1;
    }
    this.#values[slot] = value;
    return fresh;
  }

  delete(bytes: DataView, at: number, length: number): boolean {
    this.#want(bytes, at, length);
    let hole = this.#find(length);
    if (this.#lengths[hole] === FREE) return false;
    this.#size--;
    this.#perLength[length]! -= 1;
    const mask = this.#lengths.length - 1;
    // Move later entries of the run back, so that no search ends early at the hole.
    for (let next = (hole + 1) & mask; this.#lengths[next] !== FREE; next = (next + 1) & mask) {
      const home = this.#home(this.#prefixes, next * WORDS, this.#lengths[next]!);
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      this.#prefixes.copyWithin(hole * WORDS, next * WORDS, next * WORDS + WORDS);
      this.#lengths[hole] = this.#lengths[next]!;
      this.#values[hole] = this.#values[next]!;
      hole = next;
    }
    this.#lengths[hole] = FREE;
    return true;
  }

  /** Length of the longest prefix shorter than `length` that covers, or -1. */
  coverLength(bytes: DataView, at: number, length: number): number {
    for (let shorter = length - 1; shorter >= 0; shorter--) {
      if (this.#perLength[shorter] === 0) continue;
      this.#want(bytes, at, shorter);
      if (this.#lengths[this.#find(shorter)] !== FREE) return shorter;
    }
    return -1;
  }

  *entries(): Generator<Route6> {
    for (let slot = 0; slot < this.#lengths.length; slot++) {
      const length = this.#lengths[slot]!;
      if (length === FREE) continue;
      const prefix = new Uint8Array(16);
      const view = viewOf(prefix);
      for (let word = 0; word < WORDS; word++) view.setInt32(word * 4, this.#prefixes[slot * WORDS + word]!);
      yield { prefix, length, value: this.#values[slot]! };
    }
  }

  /** Note the first `length` bits of an address as what is looked for. */
  #want(bytes: DataView, at: number, length: number): void {
    for (let word = 0; word < WORDS; word++) {
      this.#wanted[word] = get32(bytes, at + word * 4) & maskWord(length, word);
    }
  }

  /** The slot of the wanted prefix, or the free slot where it would go. */
  #find(length: number): number {
    const wanted = this.#wanted;
    const prefixes = this.#prefixes;
    const mask = this.#lengths.length - 1;
    let slot = this.#home(wanted, 0, length);
    while (this.#lengths[slot] !== FREE) {
      const at = slot * WORDS;
      if (
        this.#lengths[slot] === length &&
        prefixes[at] === wanted[0] &&
        prefixes[at + 1] === wanted[1] &&
        prefixes[at + 2] === wanted[2] &&
        prefixes[at + 3] === wanted[3]
      ) {
        return slot;
      }
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #home(words: Int32Array, at: number, length: number): number {
    let hash = length;
    for (let word = 0; word < WORDS; word++) {
      hash = Math.imul(hash ^ words[at + word]!, 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash, 0xc2b2ae35);
    return (hash ^ (hash >>> 13)) & (this.#lengths.length - 1);
  }

  #grow(): void {
    const prefixes = this.#prefixes;
    const lengths = this.#lengths;
    const values = this.#values;
    this.#prefixes = new Int32Array(prefixes.length * 2);
    this.#lengths = new Uint8Array(lengths.length * 2).fill(FREE);
    this.#values = new Uint16Array(values.length * 2);
    for (let i = 0; i < lengths.length; i++) {
      if (lengths[i] === FREE) continue;
      for (let word = 0; word < WORDS; word++) this.#wanted[word] = prefixes[i * WORDS + word]!;
      const slot = this.#find(lengths[i]!);
      this.#prefixes.set(this.#wanted, slot * WORDS);
      this.#lengths[slot] = lengths[i]!;
      this.#values[slot] = values[i]!;
    }
  }
}

/** Network mask of one of an address's four words, as int32. */
export function maskWord(length: number, word: number): number {
  const bits = length - word * 32;
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}
