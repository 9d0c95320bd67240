/** In from the underlay: outer checks, known peer, decapsulate. */
import { DROP } from '../drops.ts';
import * as adj from '../fib/adjacency.ts';
import { hasPeer } from '../fib/peers.ts';
import * as step from '../trace.ts';
import * as ethernet from '../wire/ethernet.ts';
import { ETHERNET_LENGTH } from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as udp from '../wire/udp.ts';
import { UDP_LENGTH } from '../wire/udp.ts';
import * as vxlan from '../wire/vxlan.ts';
import { VXLAN_LENGTH, VXLAN_PORT } from '../wire/vxlan.ts';
import { ECN_MASK } from './ecn.ts';
import { decapsulated4, IPV4_DROPS } from './ipv4.ts';
import { decapsulated6 } from './ipv6.ts';
import type { Path } from './path.ts';

/**
 * A packet as the underlay carries it, outer headers and all: replay, and uplinks without sockets. What
 * the kernel checks before its sockets see a packet is checked here.
 */
export function fromUnderlay(path: Path, offset: number, length: number): void {
  const bytes = path.bytes;
  const problem = ipv4.checkIpv4(bytes, offset, length);
  if (problem !== ipv4.IPV4_OK) return path.drop(IPV4_DROPS[problem]);
  const header = ipv4.headerLength(bytes, offset);
  const total = ipv4.totalLength(bytes, offset);
  const destination = ipv4.destination(bytes, offset);
  if (!path.isLocal(destination)) return path.drop(DROP.outer_destination);
  const protocol = ipv4.protocol(bytes, offset);
  if (protocol !== ipv4.PROTOCOL_IPIP && protocol !== ipv4.PROTOCOL_UDP) return path.drop(DROP.not_tunnel);
  if ((ipv4.fragment(bytes, offset) & (ipv4.FRAGMENT_OFFSET | ipv4.MORE_FRAGMENTS)) !== 0) {
    return path.drop(DROP.outer_fragment);
  }
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
  fromVxlan(path, datagram + UDP_LENGTH, size - UDP_LENGTH, source, ipv4.tos(bytes, offset));
}

/** From the VXLAN header on (RFC 7348 section 5). `tos` is the outer header's. */
export function fromVxlan(path: Path, offset: number, length: number, peer: number, tos: number): void {
  const bytes = path.bytes;
  path.outerEcn = tos & ECN_MASK;
  if (length < VXLAN_LENGTH + ETHERNET_LENGTH) return path.drop(DROP.vxlan_short);
  if (!vxlan.hasVni(bytes, offset)) return path.drop(DROP.vxlan_flags);
  const vni = vxlan.vni(bytes, offset);
  if (path.traced) path.step(step.TUNNEL, adj.VXLAN, peer, vni);
  if (vni !== path.vni) return path.drop(DROP.vxlan_vni);
  if (!hasPeer(path.peers, peer)) return path.drop(DROP.unknown_peer);
  const frame = offset + VXLAN_LENGTH;
  const type = ethernet.etherType(bytes, frame);
  if (type === ethernet.TYPE_VLAN) return path.drop(DROP.vxlan_vlan);
  if (
    ethernet.destinationHi(bytes, frame) !== path.vtepHi ||
    ethernet.destinationLo(bytes, frame) !== path.vtepLo
  ) {
    return path.drop(DROP.vxlan_mac);
  }
  const ip = frame + ETHERNET_LENGTH;
  const size = length - VXLAN_LENGTH - ETHERNET_LENGTH;
  if (type === ethernet.TYPE_IPV4) decapsulated4(path, ip, size, peer);
  else if (type === ethernet.TYPE_IPV6) decapsulated6(path, ip, size, peer);
  else path.drop(DROP.not_ip);
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
