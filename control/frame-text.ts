/** The headers of a frame in one line, as far as its bytes go: "10.65.0.2:1000 > 10.65.9.9:80 TCP, ttl 64, 60 bytes". */
import { get16, get32, viewOf } from '../dataplane/wire/bytes.ts';
import {
  ETHERNET_LENGTH,
  GATEWAY_HI,
  GATEWAY_LO,
  sourceHi,
  sourceLo,
  TYPE_ARP,
  TYPE_IPV4,
  TYPE_IPV6,
} from '../dataplane/wire/ethernet.ts';
import * as ipv4 from '../dataplane/wire/ipv4.ts';
import * as ipv6 from '../dataplane/wire/ipv6.ts';
import { UDP_LENGTH } from '../dataplane/wire/udp.ts';
import { VXLAN_LENGTH, VXLAN_PORT } from '../dataplane/wire/vxlan.ts';
import { formatAddress4, formatAddress6, formatMac } from './address.ts';

/** What the bytes begin with. */
export type Outermost = 'ethernet' | 'vxlan' | 'ip';

/** Protocols, and next headers of IPv6 that are one, as people call them. */
export const PROTOCOLS: Record<number, string> = {
  1: 'ICMP',
  4: 'IPIP',
  6: 'TCP',
  17: 'UDP',
  58: 'ICMPv6',
  132: 'SCTP',
};
const TCP = 6;
const UDP = 17;
const SCTP = 132;

export function frameText(bytes: Uint8Array, outermost: Outermost): string {
  const view = viewOf(bytes);
  if (outermost === 'vxlan') return vxlanText(view, 0);
  return outermost === 'ip' ? ipText(view, 0) : ethernetText(view, 0);
}

/**
 * What the bytes of a frame begin with that tortie was about to send: those to a device come from the gateway's MAC, those to a tunnel have
 * an outer header. What found no room in a queue before anything was written is as it was `received`.
 */
export function outermostOfSent(bytes: Uint8Array, received: Outermost): Outermost {
  const view = viewOf(bytes);
  const isFrame =
    bytes.length >= ETHERNET_LENGTH && sourceHi(view, 0) === GATEWAY_HI && sourceLo(view, 0) === GATEWAY_LO;
  if (isFrame) return 'ethernet';
  const version = bytes.length > 0 ? bytes[0]! >> 4 : 0;
  return version === 4 || version === 6 ? 'ip' : received;
}

function ethernetText(view: DataView, at: number): string {
  if (view.byteLength < at + ETHERNET_LENGTH) return `${view.byteLength - at} bytes of an Ethernet header`;
  const type = get16(view, at + 12);
  const packet = at + ETHERNET_LENGTH;
  if (type === TYPE_IPV4 || type === TYPE_IPV6) return ipText(view, packet);
  if (type === TYPE_ARP && view.byteLength >= packet + 28) {
    const asked = formatAddress4(get32(view, packet + 24));
    return `ARP ${get16(view, packet + 6) === 1 ? 'who has' : 'tells of'} ${asked}, ${formatAddress4(get32(view, packet + 14))} says`;
  }
  const mac = (from: number) => formatMac(new Uint8Array(view.buffer, view.byteOffset + from, 6));
  return `${mac(at + 6)} > ${mac(at)}, EtherType 0x${type.toString(16).padStart(4, '0')}`;
}

function vxlanText(view: DataView, at: number): string {
  if (view.byteLength < at + VXLAN_LENGTH) return `${view.byteLength - at} bytes of a VXLAN header`;
  return `VXLAN ${get32(view, at + 4) >>> 8}: ${ethernetText(view, at + VXLAN_LENGTH)}`;
}

function ipText(view: DataView, at: number): string {
  const here = view.byteLength - at;
  if (here < 1) return 'no IP header';
  const version = view.getUint8(at) >> 4;
  if (version === 4 && here >= ipv4.IPV4_LENGTH) return text4(view, at);
  if (version === 6 && here >= ipv6.IPV6_LENGTH) return text6(view, at);
  return `${here} bytes of an IP header of version ${version}`;
}

function text4(view: DataView, at: number): string {
  const protocol = ipv4.protocol(view, at);
  const header = ipv4.headerLength(view, at);
  // A header that cannot be one says not where it ends; it would be taken for what is inside it.
  const upper = header < ipv4.IPV4_LENGTH ? view.byteLength : at + header;
  const flags = ipv4.fragment(view, at);
  const offset = (flags & ipv4.FRAGMENT_OFFSET) * 8;
  const source = formatAddress4(ipv4.source(view, at));
  const destination = formatAddress4(ipv4.destination(view, at));
  const size = `ttl ${ipv4.ttl(view, at)}, ${ipv4.totalLength(view, at)} bytes`;
  const fragment = flags & (ipv4.FRAGMENT_OFFSET | ipv4.MORE_FRAGMENTS) ? `, fragment from ${offset}` : '';
  const notes = `${size}${flags & ipv4.DONT_FRAGMENT ? ', DF' : ''}${fragment}`;
  return flow(view, upper, protocol, source, destination, notes, offset === 0);
}

function text6(view: DataView, at: number): string {
  const address = (from: number) =>
    formatAddress6([0, 4, 8, 12].map((word) => get32(view, at + from + word)));
  const found = ipv6.upperLayer(view, at, view.byteLength - at);
  const isWhole = found !== ipv6.CHAIN_BROKEN;
  const protocol = isWhole ? ipv6.upperProtocol(found) : ipv6.nextHeader(view, at);
  const upper = at + (isWhole ? ipv6.upperOffset(found) : view.byteLength);
  const notes = `hop limit ${ipv6.hopLimit(view, at)}, ${ipv6.totalLength(view, at)} bytes`;
  return flow(view, upper, protocol, address(ipv6.SOURCE), address(ipv6.DESTINATION), notes, true);
}

function flow(
  view: DataView,
  upper: number,
  protocol: number,
  source: string,
  destination: string,
  notes: string,
  isFirst: boolean,
): string {
  const name = PROTOCOLS[protocol] ?? `protocol ${protocol}`;
  const here = isFirst ? view.byteLength - upper : 0;
  if ((protocol === TCP || protocol === UDP || protocol === SCTP) && here >= 4) {
    const [from, to] = [get16(view, upper), get16(view, upper + 2)];
    const ends = `${endpoint(source, from)} > ${endpoint(destination, to)} ${name}, ${notes}`;
    const isVxlan = protocol === UDP && to === VXLAN_PORT;
    return isVxlan && here > UDP_LENGTH ? `${ends} | ${vxlanText(view, upper + UDP_LENGTH)}` : ends;
  }
  const plain = `${source} > ${destination} ${name}`;
  if ((protocol === 1 || protocol === 58) && here >= 2) {
    return `${plain} ${view.getUint8(upper)}/${view.getUint8(upper + 1)}, ${notes}`;
  }
  return protocol === ipv4.PROTOCOL_IPIP && here > 0
    ? `${plain}, ${notes} | ${ipText(view, upper)}`
    : `${plain}, ${notes}`;
}

const endpoint = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
