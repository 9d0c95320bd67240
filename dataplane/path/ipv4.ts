/**
 * IPv4 between two ports: checks, source, look-up, TTL, out. From a pod or the host a packet comes with its
 * Ethernet header, out of a tunnel without.
 */
import { DROP } from '../drops.ts';
import * as adj from '../fib/adjacency.ts';
import { ADJ_ROW } from '../fib/adjacency.ts';
import { lookup4 } from '../fib/fib4.ts';
import { hasNextHop } from '../fib/groups.ts';
import { LENGTH, OFFLOAD, OFFSET, ROW, SEGMENTED, SUPER_MASK } from '../memory/burst.ts';
import { longestPacket } from '../offload/cut.ts';
import { describeUnfinished, isPlausible } from '../offload/received.ts';
import * as step from '../trace.ts';
import * as ethernet from '../wire/ethernet.ts';
import { ETHERNET_LENGTH, GATEWAY_HI, GATEWAY_LO } from '../wire/ethernet.ts';
import * as icmp from '../wire/icmp.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { mergeEcn4 } from './ecn.ts';
import { sendPieces4 } from './fragment.ts';
import { memberOf4 } from './group.ts';
import { reject4 } from './icmp4.ts';
import { HOST, type Path, POD } from './path.ts';
import { send } from './send.ts';

/** checkIpv4's answer as a drop reason. */
export const IPV4_DROPS = [
  -1,
  DROP.ip4_short,
  DROP.ip4_version,
  DROP.ip4_header_length,
  DROP.ip4_total_length,
  DROP.ip4_checksum,
  DROP.ip4_offset_one,
  DROP.ip4_source_route,
];

/**
 * Look the destinations of a burst of Ethernet frames up, so that the table's cache lines are on their way all at
 * once: one after another, each packet would wait for its own. Frames are not checked yet, so the answers are for nothing.
 */
export function fetchRoutes4(path: Path, rows: Int32Array, first: number, count: number): void {
  const { bytes, fib4 } = path;
  let fetched = 0;
  for (let row = first * ROW; row < (first + count) * ROW; row += ROW) {
    if (rows[row + LENGTH] < ETHERNET_LENGTH + ipv4.IPV4_LENGTH) continue;
    fetched |= lookup4(fib4, ipv4.destination(bytes, rows[row + OFFSET] + ETHERNET_LENGTH));
  }
  path.fetched = fetched;
}

/** A frame of a pod or the host, at least an Ethernet header long. */
export function fromInside4(path: Path, offset: number, length: number): void {
  const bytes = path.bytes;
  const ip = offset + ETHERNET_LENGTH;
  const problem = ipv4.checkIpv4(bytes, ip, length - ETHERNET_LENGTH);
  if (problem !== ipv4.IPV4_OK) return path.drop(IPV4_DROPS[problem]);
  const total = ipv4.totalLength(bytes, ip);
  const source = ipv4.source(bytes, ip);
  const destination = ipv4.destination(bytes, ip);
  if (path.traced) traceHeader4(path, ip);
  if (path.offload !== 0 && !isPlausible(bytes, path.rows, path.row, ip, total)) {
    return path.drop(DROP.offload_header);
  }
  if (ipv4.isMulticast(destination)) return path.drop(DROP.multicast);
  if (ipv4.isBroadcast(destination)) return path.drop(DROP.broadcast);
  if (
    ethernet.destinationHi(bytes, offset) !== GATEWAY_HI ||
    ethernet.destinationLo(bytes, offset) !== GATEWAY_LO
  ) {
    return path.drop(DROP.foreign_mac);
  }
  if (ipv4.isMartianSource(source)) return path.drop(DROP.martian_source);
  if (path.portKind === POD) {
    if (!path.maySend(source)) return path.drop(DROP.pod_source);
    if (path.traced) path.step(step.SOURCE_CHECKED, source, step.AGAINST_POD);
  }
  forward4(path, ip, total, destination);
}

/** The inner packet of a tunnel: a peer may only send what is routed via it. */
export function decapsulated4(path: Path, ip: number, length: number, peer: number): void {
  const bytes = path.bytes;
  const problem = ipv4.checkIpv4(bytes, ip, length);
  if (problem !== ipv4.IPV4_OK) return path.drop(IPV4_DROPS[problem]);
  const source = ipv4.source(bytes, ip);
  const destination = ipv4.destination(bytes, ip);
  if (path.traced) traceHeader4(path, ip);
  if (ipv4.isMartianSource(source)) return path.drop(DROP.martian_source);
  if (ipv4.isMulticast(destination)) return path.drop(DROP.multicast);
  if (ipv4.isBroadcast(destination)) return path.drop(DROP.broadcast);
  const total = ipv4.totalLength(bytes, ip);
  // A node's own address needs no route via itself: ICMP errors and its host's traffic come from it.
  const back = lookup4(path.fib4, source) * ADJ_ROW;
  if (
    source !== peer &&
    path.adjacencies[back + adj.ADJ_NEXT_HOP] !== peer &&
    !hasNextHop(path.adjacencies, path.buckets, back, peer)
  ) {
    return path.drop(DROP.peer_source);
  }
  if (path.traced) path.step(step.SOURCE_CHECKED, source, step.AGAINST_PEER);
  if (path.outerEcn !== 0 && !mergeEcn4(path, ip, path.outerEcn)) return;
  if ((path.offload & SEGMENTED) !== 0) {
    describeUnfinished(bytes, path.rows, path.row, ip, total, path.mtus[path.port]);
    path.offload = path.rows[path.row + OFFLOAD];
  }
  forward4(path, ip, total, destination);
}

/** Send the packet at `ip` where the FIB says, or say why not. `length` is its total length. */
function forward4(path: Path, ip: number, length: number, destination: number): void {
  const bytes = path.bytes;
  const index = lookup4(path.fib4, destination);
  let row = index * ADJ_ROW;
  const adjacencies = path.adjacencies;
  let kind = adjacencies[row + adj.ADJ_KIND];
  if (path.traced) path.step(step.LOOKUP, destination, index, kind, adjacencies[row + adj.ADJ_NEXT_HOP]);

  switch (kind) {
    case adj.POD:
    case adj.VXLAN:
    case adj.IPIP:
      break;
    case adj.HOST:
    case adj.GROUP:
      if (kind === adj.GROUP) {
        row = memberOf4(path, row, ip, length);
        kind = adjacencies[row + adj.ADJ_KIND];
      }
      // The host sent it here because nobody nearer has it: neither have we.
      if (kind === adj.HOST && path.portKind === HOST)
        return reject4(path, DROP.host_loop, icmp.UNREACHABLE, icmp.CODE_NET, ip, length);
      break;
    case adj.BLACKHOLE:
      return path.drop(DROP.blackhole);
    case adj.UNREACHABLE:
      return reject4(path, DROP.unreachable, icmp.UNREACHABLE, icmp.CODE_HOST, ip, length);
    case adj.PROHIBIT:
      return reject4(path, DROP.prohibit, icmp.UNREACHABLE, icmp.CODE_PROHIBITED, ip, length);
    default:
      return reject4(path, DROP.no_route, icmp.UNREACHABLE, icmp.CODE_NET, ip, length);
  }
  if (ipv4.isMartianDestination(destination)) return path.drop(DROP.martian_destination);
  if (ipv4.isLinkLocal(destination)) return path.drop(DROP.link_local);
  if (kind === adj.VXLAN || kind === adj.IPIP) {
    if (wouldLoop(path, row, ip, destination)) return path.drop(DROP.tunnel_loop);
  }

  // tortie and its host's kernel are one router: what crosses the host port loses its TTL in the kernel.
  const takesTtl = kind !== adj.HOST && path.portKind !== HOST;
  const ttl = ipv4.ttl(bytes, ip);
  if (takesTtl && ttl <= 1)
    return reject4(path, DROP.ttl_expired, icmp.TIME_EXCEEDED, icmp.CODE_TTL, ip, length);
  const mtu = adjacencies[row + adj.ADJ_MTU];
  if (mtu !== 0 && length > mtu) {
    const packet = longestOf(path, ip, length);
    if (packet > mtu) {
      if (path.traced) path.step(step.TOO_BIG, packet, mtu);
      if ((ipv4.fragment(bytes, ip) & ipv4.DONT_FRAGMENT) !== 0)
        return reject4(path, DROP.too_big, icmp.UNREACHABLE, icmp.CODE_FRAGMENTATION_NEEDED, ip, length, mtu);
      if (takesTtl) takeTtl(path, ip, ttl);
      return sendPieces4(path, row, kind, ip, length, mtu);
    }
  }
  if (path.traced) path.step(step.MTU, longestOf(path, ip, length), mtu);
  if (takesTtl) takeTtl(path, ip, ttl);
  send(path, row, kind, ip, length, path.port);
}

/** What counts against an MTU: of a super-frame the packets that it stands for. */
export function longestOf(path: Path, ip: number, length: number): number {
  const isSuper = (path.offload & SUPER_MASK) !== 0;
  return isSuper ? longestPacket(path.rows, path.row, ip) : length;
}

function takeTtl(path: Path, ip: number, ttl: number): void {
  ipv4.decrementTtl(path.bytes, ip);
  if (path.traced) path.step(step.TTL, ttl, ttl - 1);
}

/**
 * RFC 2003 3.2: never into a tunnel that ends here, and never a packet from or to the tunnel's own far
 * end, which would be tunnelled for ever if the route to that end led into the tunnel.
 */
function wouldLoop(path: Path, row: number, ip: number, destination: number): boolean {
  const end = path.adjacencies[row + adj.ADJ_NEXT_HOP];
  return destination === end || ipv4.source(path.bytes, ip) === end || path.isLocal(end);
}

function traceHeader4(path: Path, ip: number): void {
  const bytes = path.bytes;
  path.step(
    step.HEADER,
    ipv4.source(bytes, ip),
    ipv4.destination(bytes, ip),
    (ipv4.ttl(bytes, ip) << 8) | ipv4.protocol(bytes, ip),
    ipv4.totalLength(bytes, ip),
  );
}
