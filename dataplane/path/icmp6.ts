/** ICMPv6 errors about IPv6 packets: when, to whom, how many. */
import * as counter from '../counters.ts';
import * as adj from '../fib/adjacency.ts';
import { ADJ_ROW } from '../fib/adjacency.ts';
import { lookup6 } from '../fib/fib6.ts';
import * as step from '../trace.ts';
import { ETHERNET_LENGTH, GATEWAY_HI, GATEWAY_LO, putEthernet, TYPE_IPV6 } from '../wire/ethernet.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import { ICMPV6_LENGTH } from '../wire/icmpv6.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { IPV6_LENGTH } from '../wire/ipv6.ts';
import { memberOf6 } from './group.ts';
import type { Path } from './path.ts';
import { OUTER_TTL, send } from './send.ts';
import { sendVxlan6 } from './send6.ts';

const HEADERS = IPV6_LENGTH + ICMPV6_LENGTH;
/** An ICMPv6 error fits the least MTU (RFC 4443 2.4 (c)). */
const MAX_QUOTE = ipv6.MIN_MTU - HEADERS;
/** Precedence "internetwork control", as errors about IPv4 have it. */
const CLASS = 0xc0;

/**
 * Drop, and tell the sender why unless RFC 4443 2.4 (e) forbids it. The packet is still as it was received. `word` is the
 * message's: an MTU, or a pointer to the byte that is wrong.
 */
export function reject6(
  path: Path,
  reason: number,
  type: number,
  code: number,
  ip: number,
  length: number,
  word = 0,
): void {
  path.drop(reason);
  if (!mayReport6(path, ip, length)) {
    if (path.traced) path.step(step.ICMP6_SUPPRESSED, (type << 8) | code, step.FORBIDDEN);
    return;
  }
  if (!(type === icmpv6.TOO_BIG6 ? path.takePathMtuToken() : path.takeIcmpToken())) {
    path.count(counter.ICMP_LIMITED, 1);
    if (path.traced) path.step(step.ICMP6_SUPPRESSED, (type << 8) | code, step.LIMITED);
    return;
  }
  // The offending packet stays where it is and becomes the quotation.
  const { bytes, address6 } = path;
  const quoted = Math.min(length, MAX_QUOTE);
  const at = path.withRoom(ip, quoted);
  if (at === 0) return path.lost(~path.port, reason);
  const start = at - HEADERS;
  const message = at - ICMPV6_LENGTH;
  ipv6.putIpv6(bytes, start, CLASS, ICMPV6_LENGTH + quoted, ipv6.NEXT_ICMPV6, OUTER_TTL);
  ipv6.copyAddress(bytes, start + ipv6.DESTINATION, bytes, at + ipv6.SOURCE);
  const isOnLink = ipv6.isLinkLocal6(bytes, start + ipv6.DESTINATION);
  if (isOnLink) ipv6.putAddress(bytes, start + ipv6.SOURCE, ipv6.GATEWAY6);
  else ipv6.copyAddress(bytes, start + ipv6.SOURCE, address6, 0);
  icmpv6.putError6(bytes, message, type, code, word);
  const pseudo = ipv6.pseudoSum6(bytes, start, ipv6.NEXT_ICMPV6, ICMPV6_LENGTH + quoted);
  icmpv6.putIcmpv6Checksum(bytes, message, ICMPV6_LENGTH + quoted, pseudo);
  if (isOnLink) {
    if (path.traced) path.step(step.ICMP6_ERROR, (type << 8) | code, word);
    return sendOnLink(path, start, quoted + HEADERS);
  }
  let row = lookup6(path.fib6, bytes, start + ipv6.DESTINATION) * ADJ_ROW;
  if (path.adjacencies[row + adj.ADJ_KIND] === adj.GROUP) row = memberOf6(path, row, start, quoted + HEADERS);
  const kind = path.adjacencies[row + adj.ADJ_KIND];
  // A node without an address of its own speaks as the gateway, which only its pods have as a neighbour.
  const isFar = kind === adj.HOST || kind === adj.VXLAN || kind === adj.VXLAN6;
  const sendable = kind === adj.POD || (isFar && !ipv6.isLinkLocal6(address6, 0));
  if (!sendable) {
    if (path.traced) path.step(step.ICMP6_SUPPRESSED, (type << 8) | code, step.NO_WAY_BACK);
    return path.lost(~path.port, reason);
  }
  if (path.traced) path.step(step.ICMP6_ERROR, (type << 8) | code, word);
  if (kind === adj.VXLAN6) sendVxlan6(path, row, start, quoted + HEADERS, ~path.port);
  else send(path, row, kind, start, quoted + HEADERS, ~path.port);
}

/** To the pod in hand by its link-local address, which has no route. */
function sendOnLink(path: Path, ip: number, length: number): void {
  const { bytes, port } = path;
  const offset = ip - ETHERNET_LENGTH;
  const size = length + ETHERNET_LENGTH;
  const { macHi, macLo } = path;
  putEthernet(bytes, offset, macHi[port], macLo[port], GATEWAY_HI, GATEWAY_LO, TYPE_IPV6);
  if (path.traced) path.step(step.SENT, port, size);
  path.egress.push(port, offset, size, ~port, 0, 0, 0);
}

/** No errors about errors and redirects, nor to what is no single host. */
function mayReport6(path: Path, ip: number, length: number): boolean {
  const { bytes } = path;
  const source = ip + ipv6.SOURCE;
  if (ipv6.isMulticast6(bytes, source) || ipv6.isReserved6(bytes, source)) return false;
  const upper = ipv6.upperLayer(bytes, ip, length);
  // What cannot be told may be an error.
  if (upper === ipv6.CHAIN_BROKEN) return false;
  const at = ipv6.upperOffset(upper);
  const protocol = ipv6.upperProtocol(upper);
  if (protocol === ipv6.NEXT_FRAGMENT) return bytes.getUint8(ip + at) !== ipv6.NEXT_ICMPV6;
  if (protocol !== ipv6.NEXT_ICMPV6) return true;
  return at < length && !icmpv6.isError6(bytes.getUint8(ip + at));
}
