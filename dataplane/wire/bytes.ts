/**
 * Big-endian fields and the Internet checksum: the alphabet of all headers.
 *
 * The contract of wire/: functions on `(bytes, offset)`, no state, no allocation. `bytes` is a DataView, since the
 * engine makes one load or store with a byte swap of its accesses, where an array of bytes takes one for each
 * byte, with a check of its bounds. A header's `check` says
 * whether `length` bytes hold a legal header; once it has passed, the accessors of that header cannot fail.
 * Addresses are int32 in host order (`| 0`), so that they stay small integers in the engine.
 */

/** The same memory, as wire/ reads and writes it. */
export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export function get16(bytes: DataView, offset: number): number {
  return bytes.getUint16(offset);
}

export function get32(bytes: DataView, offset: number): number {
  return bytes.getInt32(offset);
}

export function put16(bytes: DataView, offset: number, value: number): void {
  bytes.setUint16(offset, value);
}

export function put32(bytes: DataView, offset: number, value: number): void {
  bytes.setInt32(offset, value);
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
export function sum16(bytes: DataView, offset: number, length: number, seed: number): number {
  let sum = seed;
  const end = offset + (length & ~1);
  // 65,535 bytes add less than 2^31 to a folded seed: no folding inside the loop.
  for (let i = offset; i < end; i += 2) sum += bytes.getUint16(i);
  if (length & 1) sum += bytes.getUint8(end) << 8;
  return fold(sum >>> 0);
}

/**
 * Update a checksum when one 16-bit word changes: equation 3 of RFC 1624, which is right for all values,
 * 0x0000 and 0xffff included.
 */
export function updateChecksum(checksum: number, before: number, after: number): number {
  return ~fold((~checksum & 0xffff) + (~before & 0xffff) + after) & 0xffff;
}
