/** In from the underlay: outer checks, known peer, decapsulate. */
import { DROP } from '../drops.ts';
import * as adj from '../fib/adjacency.ts';
import { hasPeer } from '../fib/peers.ts';
import { peer6, peer6Cell } from '../fib/peers6.ts';
import * as step from '../trace.ts';
import * as ethernet from '../wire/ethernet.ts';
import { ETHERNET_LENGTH } from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as udp from '../wire/udp.ts';
import { UDP_LENGTH } from '../wire/udp.ts';
import * as vxlan from '../wire/vxlan.ts';
import { VXLAN_LENGTH, VXLAN_PORT } from '../wire/vxlan.ts';
import { ECN_MASK } from './ecn.ts';
import { decapsulated4, IPV4_DROPS } from './ipv4.ts';
import { decapsulated6, IPV6_DROPS } from './ipv6.ts';
import type { Path } from './path.ts';

/**
 * A packet as the underlay carries it, outer headers and all: replay, and uplinks without sockets. What
 * the kernel checks before its sockets see a packet is checked here.
 */
export function fromUnderlay(path: Path, offset: number, length: number): void {
  const bytes = path.bytes;
  // What replay leaves of a frame that has no packet.
  if (length === 0) return path.drop(DROP.not_ip);
  if (bytes.getUint8(offset) >> 4 === 6) return fromUnderlay6(path, offset, length);
  const problem = ipv4.checkIpv4(bytes, offset, length);
  if (problem !== ipv4.IPV4_OK) return path.drop(IPV4_DROPS[problem]);
  const destination = ipv4.destination(bytes, offset);
  if (!path.isLocal(destination)) return path.drop(DROP.outer_destination);
  const protocol = ipv4.protocol(bytes, offset);
  if (protocol !== ipv4.PROTOCOL_IPIP && protocol !== ipv4.PROTOCOL_UDP) return path.drop(DROP.not_tunnel);
  // Those of VXLAN could be dropped (RFC 7348 4.3); a socket's kernel makes them whole as well.
  if ((ipv4.fragment(bytes, offset) & (ipv4.FRAGMENT_OFFSET | ipv4.MORE_FRAGMENTS)) !== 0) {
    offset = path.reassembler.take(path, offset);
    if (offset === 0) return;
  }
  const header = ipv4.headerLength(bytes, offset);
  const total = ipv4.totalLength(bytes, offset);
  if (protocol === ipv4.PROTOCOL_IPIP) return fromIpip(path, offset, total);

  const datagram = offset + header;
  const room = total - header;
  if (room < UDP_LENGTH) return path.drop(DROP.udp_length);
  if (udp.destinationPort(bytes, datagram) !== VXLAN_PORT) return path.drop(DROP.not_tunnel);
  const size = udp.udpLength(bytes, datagram);
  if (size < UDP_LENGTH || size > room) return path.drop(DROP.udp_length);
  const source = ipv4.source(bytes, offset);
  const pseudo = ipv4.pseudoSum(source, destination, ipv4.PROTOCOL_UDP, size);
  if (!udp.udpChecksumHolds(bytes, datagram, size, pseudo)) return path.drop(DROP.udp_checksum);
  fromVxlan(path, adj.VXLAN, datagram + UDP_LENGTH, size - UDP_LENGTH, source, ipv4.tos(bytes, offset));
}

/** fromUnderlay of an IPv6 packet, at least a byte of it. */
function fromUnderlay6(path: Path, offset: number, length: number): void {
  const { bytes } = path;
  const problem = ipv6.checkIpv6(bytes, offset, length);
  if (problem !== ipv6.IPV6_OK) return path.drop(IPV6_DROPS[problem]);
  const total = ipv6.totalLength(bytes, offset);
  if (!path.isLocal6(offset + ipv6.DESTINATION)) return path.drop(DROP.outer_destination);
  const upper = ipv6.upperLayer(bytes, offset, total);
  if (upper === ipv6.CHAIN_BROKEN) return path.drop(DROP.not_tunnel);
  const at = ipv6.upperOffset(upper);
  const protocol = ipv6.upperProtocol(upper);
  if (protocol !== ipv4.PROTOCOL_UDP && protocol !== ipv6.NEXT_FRAGMENT) return path.drop(DROP.not_tunnel);
  if ((upper & ipv6.FRAGMENTED) !== 0) return path.drop(DROP.outer_fragment);
  const datagram = offset + at;
  const room = total - at;
  if (room < UDP_LENGTH) return path.drop(DROP.udp_length);
  if (udp.destinationPort(bytes, datagram) !== VXLAN_PORT) return path.drop(DROP.not_tunnel);
  const size = udp.udpLength(bytes, datagram);
  if (size < UDP_LENGTH || size > room) return path.drop(DROP.udp_length);
  // RFC 6935 allows 0 where both ends agree to it, which Calico's devices do not.
  if (udp.udpChecksum(bytes, datagram) === 0) return path.drop(DROP.udp6_unchecked);
  const pseudo = ipv6.pseudoSum6(bytes, offset, ipv4.PROTOCOL_UDP, size);
  if (!udp.udpChecksumHolds(bytes, datagram, size, pseudo)) return path.drop(DROP.udp_checksum);
  const peer = peer6(path.peers6, bytes, offset + ipv6.SOURCE);
  const start = datagram + UDP_LENGTH;
  fromVxlan(path, adj.VXLAN6, start, size - UDP_LENGTH, peer, ipv6.trafficClass(bytes, offset));
}

/**
 * From the VXLAN header on (RFC 7348 section 5). `kind` is adj.VXLAN, and `peer` the outer source; or adj.VXLAN6, and
 * `peer` the number of the outer source, 0 if it has none. `tos` is the outer header's.
 */
export function fromVxlan(
  path: Path,
  kind: number,
  offset: number,
  length: number,
  peer: number,
  tos: number,
): void {
  const bytes = path.bytes;
  path.outerEcn = tos & ECN_MASK;
  if (length < VXLAN_LENGTH + ETHERNET_LENGTH) return path.drop(DROP.vxlan_short);
  if (!vxlan.hasVni(bytes, offset)) return path.drop(DROP.vxlan_flags);
  const vni = vxlan.vni(bytes, offset);
  if (path.traced) traceVxlan(path, kind, peer, vni);
  if (vni !== path.vni) return path.drop(DROP.vxlan_vni);
  const isKnown = kind === adj.VXLAN ? hasPeer(path.peers, peer) : peer !== 0;
  if (!isKnown) return path.drop(DROP.unknown_peer);
  const frame = offset + VXLAN_LENGTH;
  const type = ethernet.etherType(bytes, frame);
  if (type === ethernet.TYPE_VLAN) return path.drop(DROP.vxlan_vlan);
  if (
    ethernet.destinationHi(bytes, frame) !== (kind === adj.VXLAN ? path.vtepHi : path.vtep6Hi) ||
    ethernet.destinationLo(bytes, frame) !== (kind === adj.VXLAN ? path.vtepLo : path.vtep6Lo)
  ) {
    return path.drop(DROP.vxlan_mac);
  }
  const ip = frame + ETHERNET_LENGTH;
  const size = length - VXLAN_LENGTH - ETHERNET_LENGTH;
  if (type === ethernet.TYPE_IPV4) decapsulated4(path, ip, size, peer);
  else if (type === ethernet.TYPE_IPV6) decapsulated6(path, ip, size, peer);
  else path.drop(DROP.not_ip);
}

function traceVxlan(path: Path, kind: number, peer: number, vni: number): void {
  if (kind === adj.VXLAN) return path.step(step.TUNNEL, kind, peer, vni);
  const { peers6 } = path;
  const at = peer6Cell(peer);
  if (peer !== 0) path.step(step.PEER6, peers6[at], peers6[at + 1], peers6[at + 2], peers6[at + 3]);
  path.step(step.TUNNEL6, kind, vni);
}

/** From the outer IPv4 header on (RFC 2003). */
export function fromIpip(path: Path, offset: number, length: number): void {
  const bytes = path.bytes;
  const problem = ipv4.checkIpv4(bytes, offset, length);
  if (problem !== ipv4.IPV4_OK) return path.drop(IPV4_DROPS[problem]);
  const peer = ipv4.source(bytes, offset);
  if (path.traced) path.step(step.TUNNEL, adj.IPIP, peer, 0);
  if (!path.isLocal(ipv4.destination(bytes, offset))) return path.drop(DROP.outer_destination);
  if (!hasPeer(path.peers, peer)) return path.drop(DROP.unknown_peer);
  path.outerEcn = ipv4.tos(bytes, offset) & ECN_MASK;
  const header = ipv4.headerLength(bytes, offset);
  decapsulated4(path, offset + header, ipv4.totalLength(bytes, offset) - header, peer);
}
