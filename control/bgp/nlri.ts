/**
 * IPv4 prefixes as UPDATE carries them: a length in bits, then as many bytes as those bits need (RFC 4271
 * 4.3). A list of prefixes is flat, [prefix, length, prefix, length, ...], since a message may hold a thousand.
 */
import { mask4 } from '../address.ts';
import { BgpError, UPDATE_ERROR } from './error.ts';

/** int32 prefix and length (0 to 32) in turn. */
export type FlatPrefixes = number[];

/** Bits after the length are of no meaning and come out as 0. Throws 3/10 if the list cannot be read. */
export function decodePrefixes(bytes: Uint8Array, offset: number, end: number): FlatPrefixes {
  const list: FlatPrefixes = [];
  let at = offset;
  while (at < end) {
    const length = bytes[at++]!;
    if (length > 32) throw new BgpError(UPDATE_ERROR, 10, `prefix length ${length}`);
    const size = (length + 7) >> 3;
    if (at + size > end) throw new BgpError(UPDATE_ERROR, 10, 'a prefix is cut short');
    let prefix = 0;
    for (let i = 0; i < size; i++) prefix |= bytes[at + i]! << (24 - 8 * i);
    list.push(prefix & mask4(length), length);
    at += size;
  }
  return list;
}

/** Bytes that one prefix takes. */
export function prefixSize(length: number): number {
  return 1 + ((length + 7) >> 3);
}

/** Write list[from..to) (flat indices) at `offset`; answers the offset behind it. */
export function encodePrefixes(
  list: FlatPrefixes,
  from: number,
  to: number,
  bytes: Uint8Array,
  offset: number,
): number {
  let at = offset;
  for (let i = from; i < to; i += 2) {
    const prefix = list[i]!;
    const length = list[i + 1]!;
    bytes[at++] = length;
    for (let shift = 24; shift > 24 - length; shift -= 8) bytes[at++] = prefix >> shift;
  }
  return at;
}
