/**
 * IPv6 (RFC 8200). Offsets count from the IPv6 header. An address is named by where it stands: `(bytes, at)`,
 * sixteen bytes; as numbers it is four int32.
 */
import { fold, get16, get32, put16, put32, sum16 } from './bytes.ts';

export const IPV6_LENGTH = 40;
export const NEXT_HOP_BY_HOP = 0;
export const NEXT_ROUTING = 43;
export const NEXT_FRAGMENT = 44;
export const NEXT_AUTHENTICATION = 51;
export const NEXT_ICMPV6 = 58;
export const NEXT_OPTIONS = 60;
export const NEXT_MOBILITY = 135;
/** Least MTU of a link (RFC 8200 5). */
export const MIN_MTU = 1280;
/** Most extension headers that are walked. */
export const MAX_EXTENSIONS = 8;

/** The gateway's address in every pod, fe80::ecee:eeff:feee:eeee: what its MAC makes (RFC 4291 app. A). */
export const GATEWAY6: readonly number[] = [0xfe800000 | 0, 0, 0xeceeeeff | 0, 0xfeeeeeee | 0];

/** Where the addresses stand. */
export const SOURCE = 8;
export const DESTINATION = 24;
export const ADDRESS_LENGTH = 16;

/** What checkIpv6 found, in the order in which it looks. */
export const IPV6_OK = 0;
export const IPV6_SHORT = 1;
export const IPV6_VERSION = 2;
export const IPV6_PAYLOAD_LENGTH = 3;

/**
 * Whether `length` bytes hold a header and the payload that it announces. More bytes are padding and legal. After IPV6_OK,
 * totalLength bytes exist. A jumbogram (RFC 2675) announces nothing and has a hop-by-hop header: no link here carries one.
 */
export function checkIpv6(bytes: DataView, offset: number, length: number): number {
  if (length < IPV6_LENGTH) return IPV6_SHORT;
  if (bytes.getUint8(offset) >> 4 !== 6) return IPV6_VERSION;
  const payload = get16(bytes, offset + 4);
  if (payload === 0 && bytes.getUint8(offset + 6) === NEXT_HOP_BY_HOP) return IPV6_PAYLOAD_LENGTH;
  return payload + IPV6_LENGTH > length ? IPV6_PAYLOAD_LENGTH : IPV6_OK;
}

export const trafficClass = (bytes: DataView, offset: number): number => (get16(bytes, offset) >> 4) & 0xff;
export const totalLength = (bytes: DataView, offset: number): number =>
  get16(bytes, offset + 4) + IPV6_LENGTH;
export const nextHeader = (bytes: DataView, offset: number): number => bytes.getUint8(offset + 6);
export const hopLimit = (bytes: DataView, offset: number): number => bytes.getUint8(offset + 7);

export function setTrafficClass(bytes: DataView, offset: number, value: number): void {
  put16(bytes, offset, (get16(bytes, offset) & 0xf00f) | (value << 4));
}

/** Twenty bits (RFC 6437). */
export const flowLabel = (bytes: DataView, offset: number): number =>
  ((bytes.getUint8(offset + 1) & 0x0f) << 16) | get16(bytes, offset + 2);

export function setFlowLabel(bytes: DataView, offset: number, label: number): void {
  bytes.setUint8(offset + 1, (bytes.getUint8(offset + 1) & 0xf0) | (label >> 16));
  put16(bytes, offset + 2, label);
}

export function decrementHopLimit(bytes: DataView, offset: number): void {
  bytes.setUint8(offset + 7, bytes.getUint8(offset + 7) - 1);
}

/** Of a fragment header's third and fourth byte (RFC 8200 4.5). */
const FRAGMENT_OFFSET = 0xfff8;
const MORE_FRAGMENTS = 1;

/** What `upperLayer` answers when the chain is longer than the packet or than MAX_EXTENSIONS. */
export const CHAIN_BROKEN = -1;
/**
 * Bit of `upperLayer`'s answer: the packet is a fragment, the first of its packet unless the protocol is NEXT_FRAGMENT. An
 * atomic fragment, which is a whole packet, counts as one (RFC 6946 section 4).
 */
export const FRAGMENTED = 1 << 24;

/**
 * Walk the extension headers of a packet of `total` bytes. Answers the protocol in the low byte, and above it, 16 bits, where
 * its header begins, counted from the IPv6 header. A later fragment ends the walk: its protocol is NEXT_FRAGMENT.
 */
export function upperLayer(bytes: DataView, offset: number, total: number): number {
  let protocol = bytes.getUint8(offset + 6);
  let at = IPV6_LENGTH;
  let fragmented = 0;
  for (let walked = 0; walked <= MAX_EXTENSIONS; walked++) {
    if (!isExtension(protocol)) return fragmented | (at << 8) | protocol;
    if (at + 8 > total) return CHAIN_BROKEN;
    if (protocol === NEXT_FRAGMENT) {
      const place = get16(bytes, offset + at + 2);
      if ((place & (FRAGMENT_OFFSET | MORE_FRAGMENTS)) !== 0) fragmented = FRAGMENTED;
      if ((place & FRAGMENT_OFFSET) !== 0) return fragmented | (at << 8) | protocol;
    }
    const next = bytes.getUint8(offset + at);
    at += extensionLength(protocol, bytes.getUint8(offset + at + 1));
    if (at > total) return CHAIN_BROKEN;
    protocol = next;
  }
  return CHAIN_BROKEN;
}

/**
 * Where a packet of `total` bytes has a routing header of type 0 that is not used up (RFC 5095), counted from the IPv6
 * header; 0 if it has none, or none within MAX_EXTENSIONS headers.
 */
export function routingHeader0(bytes: DataView, offset: number, total: number): number {
  let protocol = bytes.getUint8(offset + 6);
  let at = IPV6_LENGTH;
  for (let walked = 0; walked < MAX_EXTENSIONS; walked++) {
    if (!isExtension(protocol) || at + 8 > total) return 0;
    const header = offset + at;
    if (protocol === NEXT_ROUTING && bytes.getUint8(header + 2) === 0 && bytes.getUint8(header + 3) !== 0)
      return at;
    if (protocol === NEXT_FRAGMENT && (get16(bytes, header + 2) & FRAGMENT_OFFSET) !== 0) return 0;
    at += extensionLength(protocol, bytes.getUint8(header + 1));
    protocol = bytes.getUint8(header);
  }
  return 0;
}

export const upperProtocol = (upper: number): number => upper & 0xff;
export const upperOffset = (upper: number): number => (upper >> 8) & 0xffff;

function isExtension(protocol: number): boolean {
  switch (protocol) {
    case NEXT_HOP_BY_HOP:
    case NEXT_ROUTING:
    case NEXT_FRAGMENT:
    case NEXT_AUTHENTICATION:
    case NEXT_OPTIONS:
    case NEXT_MOBILITY:
      return true;
    default:
      return false;
  }
}

/** Bytes of an extension header by its own word. The authentication header counts in units of its own (RFC 4302 2.2). */
function extensionLength(protocol: number, word: number): number {
  if (protocol === NEXT_FRAGMENT) return 8;
  return protocol === NEXT_AUTHENTICATION ? (word + 2) << 2 : (word + 1) << 3;
}

/** Write the first eight bytes of a header, flow label 0; the addresses are copied by whoever has them. */
export function putIpv6(
  bytes: DataView,
  offset: number,
  classOfTraffic: number,
  payload: number,
  next: number,
  limit: number,
): void {
  bytes.setUint8(offset, 0x60 | (classOfTraffic >> 4));
  bytes.setUint8(offset + 1, classOfTraffic << 4);
  put16(bytes, offset + 2, 0);
  put16(bytes, offset + 4, payload);
  bytes.setUint8(offset + 6, next);
  bytes.setUint8(offset + 7, limit);
}

/** Folded sum of the pseudo header that the packet's addresses make (RFC 8200 8.1), for `length` bytes of a protocol. */
export function pseudoSum6(bytes: DataView, offset: number, protocol: number, length: number): number {
  return fold(sum16(bytes, offset + SOURCE, 2 * ADDRESS_LENGTH, 0) + protocol + length);
}

export function copyAddress(to: DataView, toAt: number, from: DataView, fromAt: number): void {
  for (let i = 0; i < ADDRESS_LENGTH; i += 4) put32(to, toAt + i, get32(from, fromAt + i));
}

/** Write the address that stands as four words from `first` on. */
export function copyWords(to: DataView, toAt: number, words: Int32Array, first: number): void {
  for (let word = 0; word < 4; word++) put32(to, toAt + word * 4, words[first + word]);
}

/** Write an address of four words. */
export function putAddress(bytes: DataView, at: number, words: readonly number[]): void {
  for (let word = 0; word < 4; word++) put32(bytes, at + word * 4, words[word]);
}

/** Whether the address at `at` is that of four words from `first` on. */
export function isAddress(bytes: DataView, at: number, words: ArrayLike<number>, first = 0): boolean {
  for (let word = 0; word < 4; word++) if (get32(bytes, at + word * 4) !== words[first + word]) return false;
  return true;
}

export const isUnspecified6 = (bytes: DataView, at: number): boolean =>
  (get32(bytes, at) | get32(bytes, at + 4) | get32(bytes, at + 8) | get32(bytes, at + 12)) === 0;
export const isMulticast6 = (bytes: DataView, at: number): boolean => bytes.getUint8(at) === 0xff;
/** fe80::/10 is never forwarded (RFC 4291 2.5.6). */
export const isLinkLocal6 = (bytes: DataView, at: number): boolean =>
  bytes.getUint8(at) === 0xfe && bytes.getUint8(at + 1) >> 6 === 2;
/** Unspecified, loopback and the rest of ::/96, and addresses mapped from IPv4, belong on no wire (RFC 4291 2.5, RFC 6890). */
export function isReserved6(bytes: DataView, at: number): boolean {
  if ((get32(bytes, at) | get32(bytes, at + 4) | get16(bytes, at + 8)) !== 0) return false;
  const sixth = get16(bytes, at + 10);
  return sixth === 0 || sixth === 0xffff;
}
