/** How buckets are dealt to the members of a group, so that little moves. */
import { BUCKETS } from './groups.ts';

/** No member. */
const NOBODY = -1;

/**
 * A member for each bucket, so that the fullest has one bucket more than the emptiest at most. Of what was before, buckets
 * of members that are gone are dealt anew, a member that came takes its share from the fullest, and nothing else moves:
 * when one of n goes, exactly its buckets do, and when one comes, BUCKETS / n at most.
 *
 * `members`: numbers from 0 to 65,535, at least one and BUCKETS at most, each once; their order counts only where there
 * was nothing before. `before`: BUCKETS numbers, or null.
 */
export function deal(members: readonly number[], before: ArrayLike<number> | null): Uint16Array {
  const dealt = new Int32Array(BUCKETS).fill(NOBODY);
  const counts = new Map(members.map((member) => [member, 0]));
  const give = (bucket: number, member: number) => {
    dealt[bucket] = member;
    counts.set(member, counts.get(member)! + 1);
  };
  for (let bucket = 0; before && bucket < BUCKETS; bucket++) {
    if (counts.has(before[bucket]!)) give(bucket, before[bucket]!);
  }
  const emptiest = () => members.reduce((a, b) => (counts.get(b)! < counts.get(a)! ? b : a));
  const fullest = () => members.reduce((a, b) => (counts.get(b)! > counts.get(a)! ? b : a));
  for (let bucket = 0; bucket < BUCKETS; bucket++) if (dealt[bucket] === NOBODY) give(bucket, emptiest());
  for (;;) {
    const from = fullest();
    const to = emptiest();
    if (counts.get(from)! - counts.get(to)! <= 1) return Uint16Array.from(dealt);
    const bucket = dealt.indexOf(from);
    counts.set(from, counts.get(from)! - 1);
    give(bucket, to);
  }
}

/** Buckets that two layouts give to different members. */
export function moved(before: ArrayLike<number>, after: ArrayLike<number>): number {
  let count = 0;
  for (let bucket = 0; bucket < BUCKETS; bucket++) if (before[bucket] !== after[bucket]) count++;
  return count;
}
