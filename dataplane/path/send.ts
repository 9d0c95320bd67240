/** Out: what goes in front of a packet that has been looked up, and into which queue. */
import { DROP } from '../drops.ts';
import * as adj from '../fib/adjacency.ts';
import { isIpv4 } from '../offload/transport.ts';
import * as step from '../trace.ts';
import * as ethernet from '../wire/ethernet.ts';
import { ETHERNET_LENGTH, GATEWAY_HI, GATEWAY_LO } from '../wire/ethernet.ts';
import { flowHash, flowHash6 } from '../wire/flow.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { IPV4_LENGTH } from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as udp from '../wire/udp.ts';
import { UDP_LENGTH } from '../wire/udp.ts';
import * as vxlan from '../wire/vxlan.ts';
import { VXLAN_LENGTH, VXLAN_PORT } from '../wire/vxlan.ts';
import { GONE, type Path, UNDERLAY } from './path.ts';

export const OUTER_TTL = 64;

/** Write what goes in front of the packet and queue it; send6.ts for VXLAN over IPv6. `from` is the port to charge, complemented if we made it. */
export function send(path: Path, row: number, kind: number, ip: number, length: number, from: number): void {
  const bytes = path.bytes;
  const adjacencies = path.adjacencies;
  const port = adjacencies[row + adj.ADJ_PORT];
  if ((kind === adj.VXLAN || kind === adj.IPIP) && from >= 0) {
    ip = path.withRoom(ip, length);
    if (ip === 0) return path.lost(from, DROP.tx_full);
  }
  let offset: number;
  let size: number;
  let to = 0;
  let udpPort = 0;
  const is4 = isIpv4(bytes, ip);
  const type = is4 ? ethernet.TYPE_IPV4 : ethernet.TYPE_IPV6;
  const inner = is4 ? ipv4.tos(bytes, ip) : ipv6.trafficClass(bytes, ip);
  // DSCP uniform or pipe (RFC 2983), ECN in normal mode (RFC 6040 4.1).
  const tos = (inner & path.tosKept) | path.tosSet;
  if (kind === adj.VXLAN) {
    to = adjacencies[row + adj.ADJ_NEXT_HOP];
    const hash = is4 ? flowHash(bytes, ip, length) : flowHash6(bytes, ip, length);
    udpPort = vxlan.sourcePortOf(hash);
    offset = ip - ETHERNET_LENGTH - VXLAN_LENGTH - UDP_LENGTH - IPV4_LENGTH;
    size = ip - offset + length;
    putVxlanHeaders(path, row, offset, size, type, tos, udpPort, to, path.kinds[port] === UNDERLAY);
  } else if (kind === adj.IPIP) {
    to = adjacencies[row + adj.ADJ_NEXT_HOP];
    offset = ip - IPV4_LENGTH;
    size = length + IPV4_LENGTH;
    // RFC 2003 3.1: DF is inherited, so that path MTU discovery goes through the tunnel.
    const flags = ipv4.fragment(bytes, ip) & ipv4.DONT_FRAGMENT;
    const source = adjacencies[row + adj.ADJ_SOURCE];
    ipv4.putIpv4(
      bytes,
      offset,
      tos,
      size,
      path.nextIdentification(),
      flags,
      OUTER_TTL,
      ipv4.PROTOCOL_IPIP,
      source,
      to,
    );
    if (path.traced) path.step(step.ENCAPSULATED, kind, source, to, ipv4.PROTOCOL_IPIP);
  } else {
    offset = ip - ETHERNET_LENGTH;
    size = length + ETHERNET_LENGTH;
    ethernet.putEthernet(
      bytes,
      offset,
      adjacencies[row + adj.ADJ_DMAC_HI],
      adjacencies[row + adj.ADJ_DMAC_LO],
      GATEWAY_HI,
      GATEWAY_LO,
      type,
    );
  }
  if (path.traced) traceFront(path, row, kind, size, tos, udpPort);
  queue(path, port, offset, size, from, to, udpPort, tos);
}

/** What goes in front of the packet, beyond the tunnel's ends. */
function traceFront(path: Path, row: number, kind: number, size: number, tos: number, udpPort: number): void {
  const { adjacencies } = path;
  if (kind === adj.VXLAN || kind === adj.IPIP) path.step(step.OUTER, udpPort, tos, OUTER_TTL, size);
  else path.step(step.LINK, adjacencies[row + adj.ADJ_DMAC_HI], adjacencies[row + adj.ADJ_DMAC_LO]);
}

/** Queue a frame that has all its headers. */
export function queue(
  path: Path,
  port: number,
  offset: number,
  size: number,
  from: number,
  to: number,
  udpPort: number,
  tos: number,
): void {
  if (path.kinds[port] === GONE) return path.lost(from, DROP.port_gone);
  if (path.traced) path.step(step.SENT, port, size);
  path.egress.push(port, offset, size, from, to, udpPort, tos);
  if (from >= 0 && path.offload !== 0) {
    path.egress.passOffload(port, path.rows, path.row);
  }
}

/** Outer IPv4, UDP, VXLAN and inner Ethernet: 50 bytes. */
function putVxlanHeaders(
  path: Path,
  row: number,
  offset: number,
  size: number,
  type: number,
  tos: number,
  udpPort: number,
  to: number,
  checksummed: boolean,
): void {
  const bytes = path.bytes;
  const adjacencies = path.adjacencies;
  const datagram = offset + IPV4_LENGTH;
  const source = adjacencies[row + adj.ADJ_SOURCE];
  const vni = adjacencies[row + adj.ADJ_VNI];
  // VXLAN packets are never fragmented (RFC 7348 4.3): DF always.
  ipv4.putIpv4(
    bytes,
    offset,
    tos,
    size,
    path.nextIdentification(),
    ipv4.DONT_FRAGMENT,
    OUTER_TTL,
    ipv4.PROTOCOL_UDP,
    source,
    to,
  );
  putDatagram(path, row, datagram, size - IPV4_LENGTH, type, udpPort);
  // A UDP socket's kernel writes the outer checksum; anything else needs it from us.
  if (checksummed) {
    const pseudo = ipv4.pseudoSum(source, to, ipv4.PROTOCOL_UDP, size - IPV4_LENGTH);
    udp.putUdpChecksum(bytes, datagram, size - IPV4_LENGTH, pseudo);
  }
  if (path.traced) path.step(step.ENCAPSULATED, adj.VXLAN, source, to, vni);
}

/** UDP, VXLAN and inner Ethernet: 30 bytes. `length` is UDP's. */
export function putDatagram(
  path: Path,
  row: number,
  datagram: number,
  length: number,
  type: number,
  udpPort: number,
): void {
  const { bytes, adjacencies } = path;
  udp.putUdp(bytes, datagram, udpPort, VXLAN_PORT, length);
  vxlan.putVxlan(bytes, datagram + UDP_LENGTH, adjacencies[row + adj.ADJ_VNI]);
  ethernet.putEthernet(
    bytes,
    datagram + UDP_LENGTH + VXLAN_LENGTH,
    adjacencies[row + adj.ADJ_DMAC_HI],
    adjacencies[row + adj.ADJ_DMAC_LO],
    adjacencies[row + adj.ADJ_SMAC_HI],
    adjacencies[row + adj.ADJ_SMAC_LO],
    type,
  );
}
