/** Where TCP and UDP are in a packet of either family, and what their checksums begin with. */
import { fold, get16, sum16 } from '../wire/bytes.ts';
import { FRAGMENT_OFFSET, fragment, headerLength, MORE_FRAGMENTS, PROTOCOL_TCP } from '../wire/ipv4.ts';
import { IPV6_LENGTH } from '../wire/ipv6.ts';
import { TCP_LENGTH, tcpHeaderLength } from '../wire/tcp.ts';

/** Largest IP packet without jumbograms. */
export const MAX_PACKET = 65535;

export const isIpv4 = (bytes: DataView, ip: number): boolean => bytes.getUint8(ip) >> 4 === 4;

/** Position of the header behind IPv4's options, or behind IPv6's fixed header. */
export const transportOf = (bytes: DataView, ip: number): number =>
  ip + (isIpv4(bytes, ip) ? headerLength(bytes, ip) : IPV6_LENGTH);

/** Protocol, or next header of IPv6's fixed header. */
export const protocolOf = (bytes: DataView, ip: number): number =>
  isIpv4(bytes, ip) ? bytes.getUint8(ip + 9) : bytes.getUint8(ip + 6);

/** Whether a packet is a fragment of IPv4; those of IPv6 have a protocol of their own. */
export const isFragment = (bytes: DataView, ip: number): boolean =>
  isIpv4(bytes, ip) && (fragment(bytes, ip) & (FRAGMENT_OFFSET | MORE_FRAGMENTS)) !== 0;

/** Position of the TCP header of a packet that is no fragment and ends at `end`, if it is whole; else 0. */
export function unfragmentedTcp(bytes: DataView, ip: number, end: number): number {
  if (protocolOf(bytes, ip) !== PROTOCOL_TCP || isFragment(bytes, ip)) return 0;
  const transport = transportOf(bytes, ip);
  if (transport + TCP_LENGTH > end) return 0;
  const header = tcpHeaderLength(bytes, transport);
  return header < TCP_LENGTH || transport + header > end ? 0 : transport;
}

/** Folded sum of the pseudo header of `length` bytes of a protocol (RFC 9293 3.1, RFC 8200 8.1). */
export function transportPseudoSum(bytes: DataView, ip: number, protocol: number, length: number): number {
  return isIpv4(bytes, ip)
    ? sum16(bytes, ip + 12, 8, protocol + length)
    : fold(sum16(bytes, ip + 8, 32, protocol + length));
}

/** Total length of the packet by its own header. */
export const packetLength = (bytes: DataView, ip: number): number =>
  isIpv4(bytes, ip) ? get16(bytes, ip + 2) : get16(bytes, ip + 4) + IPV6_LENGTH;
