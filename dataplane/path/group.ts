/** Which member of a group a packet leaves by (ECMP): that of its flow's bucket. */
import * as adj from '../fib/adjacency.ts';
import { ADJ_ROW } from '../fib/adjacency.ts';
import { BUCKETS, bucketOf } from '../fib/groups.ts';
import * as step from '../trace.ts';
import { groupHash, groupHash6 } from '../wire/flow.ts';
import { HOST, type Path } from './path.ts';

/** The cell at which the row of the packet's member begins. `row` is that of the group. */
export function memberOf4(path: Path, row: number, ip: number, length: number): number {
  return member(path, row, groupHash(path.bytes, ip, length, path.salt));
}

/** The same for IPv6. */
export function memberOf6(path: Path, row: number, ip: number, length: number): number {
  return member(path, row, groupHash6(path.bytes, ip, length, path.salt));
}

function member(path: Path, row: number, hash: number): number {
  const { adjacencies, buckets } = path;
  const bucket = bucketOf(adjacencies, row, hash);
  let index = buckets[bucket];
  if (path.portKind === HOST && adjacencies[index * ADJ_ROW + adj.ADJ_KIND] === adj.HOST) {
    index = tunnelFrom(path, bucket);
  }
  if (path.traced) {
    const group = adjacencies[row + adj.ADJ_GROUP];
    path.step(step.GROUP, group, bucket % BUCKETS, index, adjacencies[index * ADJ_ROW + adj.ADJ_NEXT_HOP]);
  }
  return index * ADJ_ROW;
}

/**
 * The member of the next bucket that leads into a tunnel. The host has the group's other members itself: what it hands over is
 * for one that only we have. Without any, the bucket's own.
 */
function tunnelFrom(path: Path, bucket: number): number {
  const { adjacencies, buckets } = path;
  const first = bucket - (bucket % BUCKETS);
  for (let i = 1; i < BUCKETS; i++) {
    const index = buckets[first + ((bucket + i) % BUCKETS)];
    if (adjacencies[index * ADJ_ROW + adj.ADJ_KIND] !== adj.HOST) return index;
  }
  return buckets[bucket];
}
