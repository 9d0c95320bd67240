/** Explicit congestion notification out of a tunnel (RFC 6040): what the network between nodes says reaches the pods. */
import { DROP } from '../drops.ts';
import * as step from '../trace.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import type { Path } from './path.ts';

/** Codepoints (RFC 3168 section 5). */
const NOT_ECT = 0;
const ECT_1 = 1;
const ECT_0 = 2;
const CE = 3;
export const ECN_MASK = 3;

/** The packet must go: whoever sent it would not see that the network is congested. */
const DROPPED = -1;
/** RFC 6040 section 4.2, figure 4: rows by the inner header, columns by the outer, both as numbered above. */
const MERGED = Int8Array.from([
  ...[NOT_ECT, NOT_ECT, NOT_ECT, DROPPED],
  ...[ECT_1, ECT_1, ECT_1, CE],
  ...[ECT_0, ECT_1, ECT_0, CE],
  ...[CE, CE, CE, CE],
]);

/** Merge the outer header's codepoint, which is not Not-ECT, into the packet at `ip`. False: it was dropped. */
export function mergeEcn4(path: Path, ip: number, outer: number): boolean {
  const before = ipv4.tos(path.bytes, ip);
  const after = merged(path, before & ECN_MASK, outer);
  if (after === DROPPED) return false;
  if (after !== (before & ECN_MASK)) ipv4.setTos(path.bytes, ip, (before & ~ECN_MASK) | after);
  return true;
}

/** mergeEcn4 for IPv6. */
export function mergeEcn6(path: Path, ip: number, outer: number): boolean {
  const before = ipv6.trafficClass(path.bytes, ip);
  const after = merged(path, before & ECN_MASK, outer);
  if (after === DROPPED) return false;
  if (after !== (before & ECN_MASK)) ipv6.setTrafficClass(path.bytes, ip, (before & ~ECN_MASK) | after);
  return true;
}

function merged(path: Path, inner: number, outer: number): number {
  const after = MERGED[(inner << 2) | outer];
  if (path.traced) path.step(step.ECN, inner, outer, after);
  if (after === DROPPED) path.drop(DROP.ecn_ce);
  return after;
}
