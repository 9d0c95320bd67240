/**
 * Big-endian fields and the Internet checksum: the alphabet of all headers.
 *
 * The contract of wire/: functions on `(bytes, offset)`, no state, no allocation. A header's `check` says
 * whether `length` bytes hold a legal header; once it has passed, the accessors of that header cannot fail.
 * Addresses are int32 in host order (`| 0`), so that they stay small integers in the engine.
 */

export function get16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] << 8) | bytes[offset + 1];
}

export function get32(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] << 24) | (bytes[offset + 1] << 16) | (bytes[offset + 2] << 8) | bytes[offset + 3];
}

export function put16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >> 8;
  bytes[offset + 1] = value;
}

export function put32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >> 24;
  bytes[offset + 1] = value >> 16;
  bytes[offset + 2] = value >> 8;
  bytes[offset + 3] = value;
}

/** Fold a sum of 16-bit words to 16 bits with end-around carry (RFC 1071). Takes any sum below 2^32. */
export function fold(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16);
  folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/**
 * One's complement sum of `length` bytes, folded, not complemented (RFC 1071). An odd last byte counts as
 * the high half of a word. `seed` (a folded sum, or a few added) is added first.
 */
export function sum16(bytes: Uint8Array, offset: number, length: number, seed: number): number {
  let sum = seed;
  const end = offset + (length & ~1);
  // 65,535 bytes add less than 2^31 to a folded seed: no folding inside the loop.
  for (let i = offset; i < end; i += 2) sum += (bytes[i] << 8) | bytes[i + 1];
  if (length & 1) sum += bytes[end] << 8;
  return fold(sum >>> 0);
}

/**
 * Update a checksum when one 16-bit word changes: equation 3 of RFC 1624, which is right for all values,
 * 0x0000 and 0xffff included.
 */
export function updateChecksum(checksum: number, before: number, after: number): number {
  return ~fold((~checksum & 0xffff) + (~before & 0xffff) + after) & 0xffff;
}
