/**
 * IPv6 between two ports: checks, source, look-up, hop limit, out. From a pod or the host a packet comes with its
 * Ethernet header, out of a tunnel without.
 */
import { DROP } from '../drops.ts';
import * as adj from '../fib/adjacency.ts';
import { ADJ_ROW } from '../fib/adjacency.ts';
import { lookup6 } from '../fib/fib6.ts';
import { hasNextHop } from '../fib/groups.ts';
import { peer6Cell } from '../fib/peers6.ts';
import { SEGMENTED } from '../memory/burst.ts';
import { describeUnfinished, isPlausible } from '../offload/received.ts';
import * as step from '../trace.ts';
import * as ethernet from '../wire/ethernet.ts';
import { ETHERNET_LENGTH, GATEWAY_HI, GATEWAY_LO } from '../wire/ethernet.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { mergeEcn6 } from './ecn.ts';
import { memberOf6 } from './group.ts';
import { reject6 } from './icmp6.ts';
import { longestOf } from './ipv4.ts';
import { fromLink } from './nd.ts';
import { HOST, type Path, POD, stepAddress } from './path.ts';
import { send } from './send.ts';
import { sendVxlan6 } from './send6.ts';

/** checkIpv6's answer as a drop reason. */
export const IPV6_DROPS = [-1, DROP.ip6_short, DROP.ip6_version, DROP.ip6_payload_length];

/** A frame of a pod or the host, at least an Ethernet header long. */
export function fromInside6(path: Path, offset: number, length: number): void {
  const { bytes } = path;
  const ip = offset + ETHERNET_LENGTH;
  const problem = ipv6.checkIpv6(bytes, ip, length - ETHERNET_LENGTH);
  if (problem !== ipv6.IPV6_OK) return path.drop(IPV6_DROPS[problem]);
  const total = ipv6.totalLength(bytes, ip);
  if (path.traced) traceHeader6(path, ip);
  if (path.offload !== 0 && !isPlausible(bytes, path.rows, path.row, ip, total)) {
    return path.drop(DROP.offload_header);
  }
  const isForLink =
    ipv6.nextHeader(bytes, ip) === ipv6.NEXT_ICMPV6 ||
    ipv6.isMulticast6(bytes, ip + ipv6.DESTINATION) ||
    ipv6.isLinkLocal6(bytes, ip + ipv6.DESTINATION);
  if (isForLink && fromLink(path, offset, total)) return;
  if (
    ethernet.destinationHi(bytes, offset) !== GATEWAY_HI ||
    ethernet.destinationLo(bytes, offset) !== GATEWAY_LO
  ) {
    return path.drop(DROP.foreign_mac);
  }
  if (isMartianSource6(path, ip)) return fromMartian6(path, ip, total);
  if (path.portKind === POD) {
    if (!path.maySend6(ip + ipv6.SOURCE)) return path.drop(DROP.pod_source);
    if (path.traced) path.step(step.SOURCE_CHECKED6, step.AGAINST_POD);
  }
  forward6(path, ip, total);
}

/** The inner packet of a tunnel: a peer may only send what is routed via it. */
export function decapsulated6(path: Path, ip: number, length: number, peer: number): void {
  const { bytes } = path;
  const problem = ipv6.checkIpv6(bytes, ip, length);
  if (problem !== ipv6.IPV6_OK) return path.drop(IPV6_DROPS[problem]);
  const total = ipv6.totalLength(bytes, ip);
  if (path.traced) traceHeader6(path, ip);
  if (isMartianSource6(path, ip)) return path.drop(DROP.martian_source);
  if (ipv6.isMulticast6(bytes, ip + ipv6.DESTINATION)) return path.drop(DROP.multicast);
  // A node's own address needs no route via itself: ICMPv6 errors come from it where it has no address in the tunnel.
  const back = lookup6(path.fib6, bytes, ip + ipv6.SOURCE) * ADJ_ROW;
  if (
    path.adjacencies[back + adj.ADJ_NEXT_HOP] !== peer &&
    !hasNextHop(path.adjacencies, path.buckets, back, peer) &&
    !isPeer6(path, ip + ipv6.SOURCE, peer)
  ) {
    return path.drop(DROP.peer_source);
  }
  if (path.traced) path.step(step.SOURCE_CHECKED6, step.AGAINST_PEER);
  if (path.outerEcn !== 0 && !mergeEcn6(path, ip, path.outerEcn)) return;
  if ((path.offload & SEGMENTED) !== 0) {
    describeUnfinished(bytes, path.rows, path.row, ip, total, path.mtus[path.port]);
  }
  forward6(path, ip, total);
}

/** Whether the address at `at` is that of the peer, which may be one over IPv6 (fib/peers6.ts). */
function isPeer6(path: Path, at: number, peer: number): boolean {
  return peer >>> 24 === 0 && ipv6.isAddress(path.bytes, at, path.peers6, peer6Cell(peer));
}

/** Unspecified, loopback, mapped and groups are nobody's source; link-local ones are no source beyond the link. */
function isMartianSource6(path: Path, ip: number): boolean {
  const { bytes } = path;
  const source = ip + ipv6.SOURCE;
  return (
    ipv6.isMulticast6(bytes, source) || ipv6.isLinkLocal6(bytes, source) || ipv6.isReserved6(bytes, source)
  );
}

/** Drop it. A pod that sends from its link-local address beyond the link is told so (RFC 4443 3.1). */
function fromMartian6(path: Path, ip: number, length: number): void {
  const { bytes, portKind } = path;
  const source = ip + ipv6.SOURCE;
  const isItsOwn = ipv6.isLinkLocal6(bytes, source) && !ipv6.isAddress(bytes, source, ipv6.GATEWAY6);
  if (portKind !== POD || !isItsOwn) return path.drop(DROP.martian_source);
  reject6(path, DROP.martian_source, icmpv6.UNREACHABLE6, icmpv6.CODE_SCOPE, ip, length);
}

/** Send the packet at `ip` where the FIB says, or say why not. `length` is its total length. */
function forward6(path: Path, ip: number, length: number): void {
  const { bytes, adjacencies } = path;
  const next = ipv6.nextHeader(bytes, ip);
  if (next !== PROTOCOL_TCP && next !== PROTOCOL_UDP) {
    // The only header that a router looks for (RFC 7045 2.1): it would send the packet to and fro.
    const at = ipv6.routingHeader0(bytes, ip, length);
    if (at !== 0) return hasRoutingHeader0(path, ip, length, at);
  }
  const destination = ip + ipv6.DESTINATION;
  const index = lookup6(path.fib6, bytes, destination);
  let row = index * ADJ_ROW;
  let kind = adjacencies[row + adj.ADJ_KIND];
  if (path.traced) path.step(step.LOOKUP6, index, kind, adjacencies[row + adj.ADJ_NEXT_HOP]);

  switch (kind) {
    case adj.POD:
    case adj.VXLAN:
    case adj.VXLAN6:
      break;
    case adj.HOST:
    case adj.GROUP:
      if (kind === adj.GROUP) {
        row = memberOf6(path, row, ip, length);
        kind = adjacencies[row + adj.ADJ_KIND];
      }
      // The host sent it here because nobody nearer has it: neither have we.
      if (kind === adj.HOST && path.portKind === HOST)
        return reject6(path, DROP.host_loop, icmpv6.UNREACHABLE6, icmpv6.CODE_NO_ROUTE, ip, length);
      break;
    case adj.BLACKHOLE:
      return path.drop(DROP.blackhole);
    case adj.UNREACHABLE:
      return reject6(path, DROP.unreachable, icmpv6.UNREACHABLE6, icmpv6.CODE_ADDRESS, ip, length);
    case adj.PROHIBIT:
      return reject6(path, DROP.prohibit, icmpv6.UNREACHABLE6, icmpv6.CODE_PROHIBITED6, ip, length);
    default:
      return reject6(path, DROP.no_route, icmpv6.UNREACHABLE6, icmpv6.CODE_NO_ROUTE, ip, length);
  }
  if (ipv6.isReserved6(bytes, destination)) return path.drop(DROP.martian_destination);
  if (ipv6.isLinkLocal6(bytes, destination)) return path.drop(DROP.link_local);
  if (kind === adj.VXLAN && path.isLocal(adjacencies[row + adj.ADJ_NEXT_HOP]))
    return path.drop(DROP.tunnel_loop);
  if (kind === adj.VXLAN6 && wouldLoop6(path, row, ip)) return path.drop(DROP.tunnel_loop);

  // tortie and its host's kernel are one router: what crosses the host port loses its hop in the kernel.
  const takesHop = kind !== adj.HOST && path.portKind !== HOST;
  const limit = ipv6.hopLimit(bytes, ip);
  if (takesHop && limit <= 1) {
    return reject6(path, DROP.ttl_expired, icmpv6.TIME_EXCEEDED6, icmpv6.CODE_HOP_LIMIT, ip, length);
  }
  const mtu = adjacencies[row + adj.ADJ_MTU];
  if (mtu !== 0 && length > mtu) {
    const packet = longestOf(path, ip, length);
    if (packet > mtu) return tooBig6(path, ip, packet, length, mtu);
  }
  if (path.traced) path.step(step.MTU, longestOf(path, ip, length), mtu);
  if (takesHop) {
    ipv6.decrementHopLimit(bytes, ip);
    if (path.traced) path.step(step.TTL, limit, limit - 1);
  }
  if (kind === adj.VXLAN6) sendVxlan6(path, row, ip, length, path.port);
  else send(path, row, kind, ip, length, path.port);
}

/** Nobody honours it (RFC 5095 3): say what its end would, pointing at its type. */
function hasRoutingHeader0(path: Path, ip: number, length: number, at: number): void {
  const { PARAMETER_PROBLEM6, CODE_FIELD } = icmpv6;
  reject6(path, DROP.ip6_routing_header, PARAMETER_PROBLEM6, CODE_FIELD, ip, length, at + 2);
}

/** Never into a tunnel that ends here, and never a packet from or to the tunnel's own far end (RFC 2003 3.2, RFC 2473 4.1.2). */
function wouldLoop6(path: Path, row: number, ip: number): boolean {
  const { bytes, adjacencies } = path;
  const end = row + adj.ADJ_NEXT_HOP6;
  return (
    ipv6.isAddress(bytes, ip + ipv6.DESTINATION, adjacencies, end) ||
    ipv6.isAddress(bytes, ip + ipv6.SOURCE, adjacencies, end) ||
    path.isLocalWords6(adjacencies, end)
  );
}

/** Larger than the next link takes (RFC 8201 4). Nobody is asked for less than every link must carry. */
function tooBig6(path: Path, ip: number, packet: number, length: number, mtu: number): void {
  if (path.traced) path.step(step.TOO_BIG, packet, mtu);
  if (packet <= ipv6.MIN_MTU) return path.drop(DROP.too_big);
  reject6(path, DROP.too_big, icmpv6.TOO_BIG6, 0, ip, length, Math.max(mtu, ipv6.MIN_MTU));
}

function traceHeader6(path: Path, ip: number): void {
  const { bytes } = path;
  stepAddress(path, step.SOURCE6, bytes, ip + ipv6.SOURCE);
  stepAddress(path, step.DESTINATION6, bytes, ip + ipv6.DESTINATION);
  path.step(step.HEADER6, ipv6.hopLimit(bytes, ip), ipv6.nextHeader(bytes, ip), ipv6.totalLength(bytes, ip));
}
