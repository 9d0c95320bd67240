/** Lists of path attributes as bytes: attributes put in and taken out without decoding the rest. */
import { get16 } from './bytes.ts';
import type { NextHop } from './next-hop.ts';

const EXTENDED = 0x10;

/** Where an attribute lies: bytes[from..to), its value from `value` on. */
export interface Located {
  readonly type: number;
  readonly from: number;
  readonly value: number;
  readonly to: number;
}

/** The attributes in bytes[offset..end) up to the first that runs over the end. */
export function* located(bytes: Uint8Array, offset: number, end: number): Generator<Located> {
  for (let from = offset; from + 3 <= end; ) {
    const isExtended = (bytes[from]! & EXTENDED) !== 0;
    const value = from + (isExtended ? 4 : 3);
    if (value > end) return;
    const to = value + (isExtended ? get16(bytes, from + 2) : bytes[from + 2]!);
    if (to > end) return;
    yield { type: bytes[from + 1]!, from, value, to };
    from = to;
  }
}

/** A list in order of type with another attribute (whole, with its header) in its place. */
export function withAttribute(list: Uint8Array, attribute: ArrayLike<number>): Uint8Array {
  let at = list.length;
  for (const { type, from } of located(list, 0, list.length)) {
    if (type <= attribute[1]!) continue;
    at = from;
    break;
  }
  const out = new Uint8Array(list.length + attribute.length);
  out.set(list.subarray(0, at));
  out.set(attribute, at);
  out.set(list.subarray(at), at + attribute.length);
  return out;
}

/** The bytes of a next hop: 4, 16, or 32 with a link-local address besides (RFC 2545 section 3). */
export function nextHopBytes({ words, linkLocal }: NextHop): number[] {
  const all = words.length === 4 && linkLocal && linkLocal !== words ? [...words, ...linkLocal] : words;
  return all.flatMap((word) => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255]);
}
