/** Out by VXLAN over IPv6. Apart from send.ts, so that tunnels over IPv4 pay nothing for it. */
import { DROP } from '../drops.ts';
import * as adj from '../fib/adjacency.ts';
import { isIpv4 } from '../offload/transport.ts';
import * as step from '../trace.ts';
import { ETHERNET_LENGTH, TYPE_IPV4, TYPE_IPV6 } from '../wire/ethernet.ts';
import { flowHash, flowHash6 } from '../wire/flow.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { IPV6_LENGTH } from '../wire/ipv6.ts';
import * as udp from '../wire/udp.ts';
import { UDP_LENGTH } from '../wire/udp.ts';
import { flowLabelOf, sourcePortOf, VXLAN_LENGTH } from '../wire/vxlan.ts';
import { type Path, stepAddress, UNDERLAY } from './path.ts';
import { OUTER_TTL, putDatagram, queue } from './send.ts';

/** Outer IPv6, UDP, VXLAN and inner Ethernet. */
const OVERHEAD = IPV6_LENGTH + UDP_LENGTH + VXLAN_LENGTH + ETHERNET_LENGTH;

/** `send` for an adjacency of kind VXLAN6. */
export function sendVxlan6(path: Path, row: number, ip: number, length: number, from: number): void {
  const { bytes, adjacencies } = path;
  const at = from < 0 ? ip : path.withRoom(ip, length);
  if (at === 0) return path.lost(from, DROP.tx_full);
  const port = adjacencies[row + adj.ADJ_PORT];
  const is4 = isIpv4(bytes, at);
  const inner = is4 ? ipv4.tos(bytes, at) : ipv6.trafficClass(bytes, at);
  // DSCP uniform or pipe (RFC 2983), ECN in normal mode (RFC 6040 4.1).
  const tos = (inner & path.tosKept) | path.tosSet;
  const hash = is4 ? flowHash(bytes, at, length) : flowHash6(bytes, at, length);
  const udpPort = sourcePortOf(hash);
  const offset = at - OVERHEAD;
  const datagram = offset + IPV6_LENGTH;
  const size = length + OVERHEAD - IPV6_LENGTH;
  ipv6.putIpv6(bytes, offset, tos, size, ipv4.PROTOCOL_UDP, OUTER_TTL);
  // Routers between the nodes spread flows by it, who need not look for ports (RFC 6438).
  ipv6.setFlowLabel(bytes, offset, flowLabelOf(hash));
  ipv6.copyAddress(bytes, offset + ipv6.SOURCE, path.underlay6, 0);
  ipv6.copyWords(bytes, offset + ipv6.DESTINATION, adjacencies, row + adj.ADJ_NEXT_HOP6);
  putDatagram(path, row, datagram, size, is4 ? TYPE_IPV4 : TYPE_IPV6, udpPort);
  // A UDP socket's kernel writes the outer checksum; anything else needs it from us.
  if (path.kinds[port] === UNDERLAY) {
    const pseudo = ipv6.pseudoSum6(bytes, offset, ipv4.PROTOCOL_UDP, size);
    udp.putUdpChecksum(bytes, datagram, size, pseudo);
  }
  if (path.traced) {
    stepAddress(path, step.PEER6, bytes, offset + ipv6.DESTINATION);
    path.step(step.ENCAPSULATED6, adj.VXLAN6, adjacencies[row + adj.ADJ_VNI], ipv6.flowLabel(bytes, offset));
    path.step(step.OUTER, udpPort, tos, OUTER_TTL, size + IPV6_LENGTH);
  }
  const to = adjacencies[row + adj.ADJ_NEXT_HOP];
  queue(path, port, offset, size + IPV6_LENGTH, from, to, udpPort, tos);
}
