/** IPv4 (RFC 791). Offsets count from the IP header. */
import { fold, get16, get32, put16, put32, updateChecksum } from './bytes.ts';

export const IPV4_LENGTH = 20;
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_IPIP = 4;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const DONT_FRAGMENT = 0x4000;
export const MORE_FRAGMENTS = 0x2000;
export const FRAGMENT_OFFSET = 0x1fff;

/** What checkIpv4 found, in the order in which it looks. */
export const IPV4_OK = 0;
export const IPV4_SHORT = 1;
export const IPV4_VERSION = 2;
export const IPV4_HEADER_LENGTH = 3;
export const IPV4_TOTAL_LENGTH = 4;
export const IPV4_CHECKSUM = 5;
export const IPV4_OFFSET_ONE = 6;
export const IPV4_SOURCE_ROUTE = 7;

/**
 * The checks of RFC 1812 5.2.2, the fragment offset of 1 that RFC 1858 warns of, and the source routes that RFC 7126 4.3
 * and 4.4 want dropped. `length` bytes are there; more than the total length is padding and legal. After IPV4_OK, headerLength and totalLength bytes
 * exist.
 */
export function checkIpv4(bytes: DataView, offset: number, length: number): number {
  if (length < IPV4_LENGTH) return IPV4_SHORT;
  // Version, header length, TOS, total length.
  const first = get32(bytes, offset);
  if (first >>> 28 !== 4) return IPV4_VERSION;
  const header = (first >>> 22) & 0x3c;
  if (header < IPV4_LENGTH || header > length) return IPV4_HEADER_LENGTH;
  const total = first & 0xffff;
  if (total < header || total > length) return IPV4_TOTAL_LENGTH;
  if (headerSum(bytes, offset, header) !== 0xffff) return IPV4_CHECKSUM;
  if ((get16(bytes, offset + 6) & FRAGMENT_OFFSET) === 1) return IPV4_OFFSET_ONE;
  if (header > IPV4_LENGTH && hasSourceRoute(bytes, offset, header)) return IPV4_SOURCE_ROUTE;
  return IPV4_OK;
}

const OPTION_END = 0;
const OPTION_NOP = 1;
const LOOSE_SOURCE_ROUTE = 0x83;
const STRICT_SOURCE_ROUTE = 0x89;

/** Whether a header of `length` bytes asks for a way of the sender's own (RFC 791 3.1). Options that cannot be read end the search. */
function hasSourceRoute(bytes: DataView, offset: number, length: number): boolean {
  let at = IPV4_LENGTH;
  while (at < length) {
    const type = bytes.getUint8(offset + at);
    if (type === LOOSE_SOURCE_ROUTE || type === STRICT_SOURCE_ROUTE) return true;
    if (type === OPTION_END) return false;
    if (type !== OPTION_NOP && at + 1 >= length) return false;
    const size = type === OPTION_NOP ? 1 : bytes.getUint8(offset + at + 1);
    if (size === 0) return false;
    at += size;
  }
  return false;
}

/** Folded sum over a header of `length` bytes; 0xffff when its checksum is right. */
function headerSum(bytes: DataView, offset: number, length: number): number {
  let sum =
    halves(get32(bytes, offset)) +
    halves(get32(bytes, offset + 4)) +
    halves(get32(bytes, offset + 8)) +
    halves(get32(bytes, offset + 12)) +
    halves(get32(bytes, offset + 16));
  for (let i = offset + IPV4_LENGTH; i < offset + length; i += 4) sum += halves(get32(bytes, i));
  return fold(sum);
}

/** The sum of a word's two 16-bit halves. */
const halves = (word: number): number => (word >>> 16) + (word & 0xffff);

export const headerLength = (bytes: DataView, offset: number): number => (bytes.getUint8(offset) & 15) << 2;
export const tos = (bytes: DataView, offset: number): number => bytes.getUint8(offset + 1);
export const totalLength = (bytes: DataView, offset: number): number => get16(bytes, offset + 2);
export const identification = (bytes: DataView, offset: number): number => get16(bytes, offset + 4);
export const fragment = (bytes: DataView, offset: number): number => get16(bytes, offset + 6);
export const ttl = (bytes: DataView, offset: number): number => bytes.getUint8(offset + 8);
export const protocol = (bytes: DataView, offset: number): number => bytes.getUint8(offset + 9);
export const source = (bytes: DataView, offset: number): number => get32(bytes, offset + 12);
export const destination = (bytes: DataView, offset: number): number => get32(bytes, offset + 16);

/**
 * Take one from the TTL and mend the checksum. Of equation 3 of RFC 1624, `~m + m'` is the constant 0xfeff
 * when the high byte of a word sinks by one.
 */
export function decrementTtl(bytes: DataView, offset: number): void {
  // TTL, protocol, checksum.
  const word = get32(bytes, offset + 8);
  const sum = (~word & 0xffff) + 0xfeff;
  const checksum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
  put32(bytes, offset + 8, ((word - 0x01000000) & 0xffff0000) | checksum);
}

/** Write the TOS byte of a header whose checksum is right, and mend that (RFC 1624, equation 3). */
export function setTos(bytes: DataView, offset: number, tosByte: number): void {
  const before = get16(bytes, offset);
  const after = (before & 0xff00) | tosByte;
  put16(bytes, offset, after);
  put16(bytes, offset + 10, updateChecksum(get16(bytes, offset + 10), before, after));
}

/** Write a header of 20 bytes without options, checksum included. Of a `total` that no field holds, the low 16 bits: a super-frame's is cut later. */
export function putIpv4(
  bytes: DataView,
  offset: number,
  tosByte: number,
  total: number,
  identification: number,
  flags: number,
  timeToLive: number,
  protocolNumber: number,
  sourceAddress: number,
  destinationAddress: number,
): void {
  const first = 0x45000000 | (tosByte << 16) | (total & 0xffff);
  const second = ((identification & 0xffff) << 16) | flags;
  const third = (timeToLive << 24) | (protocolNumber << 16);
  const sum =
    halves(first) + halves(second) + halves(third) + halves(sourceAddress) + halves(destinationAddress);
  put32(bytes, offset, first);
  put32(bytes, offset + 4, second);
  put32(bytes, offset + 8, third | (~fold(sum) & 0xffff));
  put32(bytes, offset + 12, sourceAddress);
  put32(bytes, offset + 16, destinationAddress);
}

/** Another source in a header that stands, and its checksum. */
export function setSource(bytes: DataView, offset: number, address: number): void {
  put32(bytes, offset + 12, address);
  putHeaderChecksum(bytes, offset);
}

/** Compute and store the checksum of a header that stands, options included. */
export function putHeaderChecksum(bytes: DataView, offset: number): void {
  put16(bytes, offset + 10, 0);
  put16(bytes, offset + 10, ~headerSum(bytes, offset, headerLength(bytes, offset)));
}

/** Folded sum of the pseudo header for an upper-layer checksum (RFC 768, RFC 9293 3.1). */
export function pseudoSum(
  sourceAddress: number,
  destinationAddress: number,
  protocolNumber: number,
  length: number,
): number {
  return fold(halves(sourceAddress) + halves(destinationAddress) + protocolNumber + length);
}

/** 0/8, 127/8, 224/4, 240/4 and broadcast can never be a source (RFC 1812 5.3.7). */
export function isMartianSource(address: number): boolean {
  const first = address >>> 24;
  return first === 0 || first === 127 || first >= 224;
}

export const isMulticast = (address: number): boolean => address >>> 28 === 14;
export const isBroadcast = (address: number): boolean => address === -1;
/** 169.254/16 must not be forwarded (RFC 3927 7). */
export const isLinkLocal = (address: number): boolean => address >>> 16 === 0xa9fe;
/** 0/8 and 127/8 are no destination outside a host (RFC 1812 5.3.7); 240/4 is reserved. */
export function isMartianDestination(address: number): boolean {
  const first = address >>> 24;
  return first === 0 || first === 127 || first >= 240;
}
