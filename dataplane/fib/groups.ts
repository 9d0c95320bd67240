/**
 * Groups of adjacencies that share routes (ECMP, RFC 2991 and 2992), as workers read them. A group is a block of buckets,
 * each the index of one member's row in the table of adjacencies. A flow's hash picks the bucket, so a flow stays with its
 * member as long as its bucket does: control deals anew only the buckets of members that go, and a fair share to those
 * that come (deal.ts).
 *
 * The row that the FIB names is of kind GROUP and says which block. A bucket changes by one 16-bit store: a reader finds
 * the old member or the new one.
 */
import { ADJ_GROUP, ADJ_KIND, ADJ_NEXT_HOP, ADJ_ROW, GROUP } from './adjacency.ts';

/** Buckets of a group, a power of two: of 16 members the fullest has 8, of 5 it has 26 and the emptiest 25. */
export const BUCKETS = 128;
/** Most members of a group; each has two buckets at least. */
export const MAX_MEMBERS = 64;
/** Most groups. A full table of routes by k next hops has 2^k - k - 1 sets of more than one at most. */
export const MAX_GROUPS = 4096;

export function createGroups(): SharedArrayBuffer {
  return new SharedArrayBuffer(MAX_GROUPS * BUCKETS * 2);
}

/** The bucket, as an index of the table, that a flow of this hash has in the group whose row begins at cell `row`. */
export function bucketOf(adjacencies: Int32Array, row: number, hash: number): number {
  return adjacencies[row + ADJ_GROUP] * BUCKETS + (hash & (BUCKETS - 1));
}

/** Whether packets by the row that begins at cell `row` may go to this next hop: it is a group, and one of its members'. */
export function hasNextHop(
  adjacencies: Int32Array,
  buckets: Uint16Array,
  row: number,
  nextHop: number,
): boolean {
  if (adjacencies[row + ADJ_KIND] !== GROUP) return false;
  const first = adjacencies[row + ADJ_GROUP] * BUCKETS;
  for (let bucket = first; bucket < first + BUCKETS; bucket++) {
    if (adjacencies[buckets[bucket] * ADJ_ROW + ADJ_NEXT_HOP] === nextHop) return true;
  }
  return false;
}
