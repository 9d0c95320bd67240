/** ICMP errors about IPv4 packets: when, to whom, how many. */
import * as counter from '../counters.ts';
import * as adj from '../fib/adjacency.ts';
import { ADJ_ROW } from '../fib/adjacency.ts';
import { lookup4 } from '../fib/fib4.ts';
import * as step from '../trace.ts';
import * as icmp from '../wire/icmp.ts';
import { ICMP_LENGTH } from '../wire/icmp.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { IPV4_LENGTH } from '../wire/ipv4.ts';
import { memberOf4 } from './group.ts';
import type { Path } from './path.ts';
import { OUTER_TTL, send } from './send.ts';

/** An ICMP error is at most 576 bytes in all (RFC 1812 4.3.2.3). */
const MAX_QUOTE = 576 - IPV4_LENGTH - ICMP_LENGTH;

/** Drop, and tell the sender why unless RFC 1812 4.3.2.7 forbids it. The packet is still as it was received. */
export function reject4(
  path: Path,
  reason: number,
  type: number,
  code: number,
  ip: number,
  length: number,
  mtu = 0,
): void {
  path.drop(reason);
  if (!mayReport4(path, ip, length)) {
    if (path.traced) path.step(step.ICMP_SUPPRESSED, (type << 8) | code, step.FORBIDDEN);
    return;
  }
  if (!(mtu === 0 ? path.takeIcmpToken() : path.takePathMtuToken())) {
    path.count(counter.ICMP_LIMITED, 1);
    if (path.traced) path.step(step.ICMP_SUPPRESSED, (type << 8) | code, step.LIMITED);
    return;
  }
  // The offending packet stays where it is and becomes the quotation.
  const bytes = path.bytes;
  const quoted = Math.min(length, MAX_QUOTE);
  ip = path.withRoom(ip, quoted);
  if (ip === 0) return path.lost(~path.port, reason);
  const to = ipv4.source(bytes, ip);
  // Precedence "internetwork control" (RFC 1812 4.3.2.5) over the offender's own TOS, as Linux does it.
  const tos = (ipv4.tos(bytes, ip) & 0x1e) | 0xc0;
  const start = ip - ICMP_LENGTH - IPV4_LENGTH;
  const total = quoted + ICMP_LENGTH + IPV4_LENGTH;
  icmp.putError(bytes, ip - ICMP_LENGTH, type, code, mtu, quoted);
  ipv4.putIpv4(
    bytes,
    start,
    tos,
    total,
    path.nextIdentification(),
    0,
    OUTER_TTL,
    ipv4.PROTOCOL_ICMP,
    path.address,
    to,
  );
  let row = lookup4(path.fib4, to) * ADJ_ROW;
  if (path.adjacencies[row + adj.ADJ_KIND] === adj.GROUP) row = memberOf4(path, row, start, total);
  const kind = path.adjacencies[row + adj.ADJ_KIND];
  const sendable = kind === adj.POD || kind === adj.HOST || kind === adj.VXLAN || kind === adj.IPIP;
  if (!sendable) {
    if (path.traced) path.step(step.ICMP_SUPPRESSED, (type << 8) | code, step.NO_WAY_BACK);
    return path.lost(~path.port, reason);
  }
  if (path.traced) path.step(step.ICMP_ERROR, (type << 8) | code, to, mtu);
  const from = sourceOf(path, kind);
  if (from !== path.address) ipv4.setSource(bytes, start, from);
  send(path, row, kind, start, total, ~path.port);
}

/**
 * An address of the link that an error leaves by (RFC 1812 4.3.2.4). Into a tunnel it matters: the far end's reverse path
 * filter drops what has another address there, and whoever sent the packet never learned of its path MTU.
 */
function sourceOf(path: Path, kind: number): number {
  switch (kind) {
    case adj.VXLAN:
      return path.vxlanAddress;
    case adj.IPIP:
      return path.ipipAddress;
    default:
      return path.address;
  }
}

/** No errors about errors, later fragments, or packets whose source is no single host. */
function mayReport4(path: Path, ip: number, length: number): boolean {
  const bytes = path.bytes;
  if ((ipv4.fragment(bytes, ip) & ipv4.FRAGMENT_OFFSET) !== 0) return false;
  if (ipv4.isMartianSource(ipv4.source(bytes, ip))) return false;
  if (ipv4.protocol(bytes, ip) !== ipv4.PROTOCOL_ICMP) return true;
  const header = ipv4.headerLength(bytes, ip);
  // An ICMP packet too short to tell its type may be an error.
  return length > header && !icmp.isError(bytes.getUint8(ip + header));
}
