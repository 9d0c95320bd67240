import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createEpochs, GracePeriods, Readers } from '../memory/grace.ts';
import { ADJ_NEXT_HOP, ADJ_ROW, createAdjacencies, IPIP } from './adjacency.ts';
import { AdjacencyWriter } from './adjacency-writer.ts';
import { deal, moved } from './deal.ts';
import { BUCKETS, bucketOf, createGroups, hasNextHop, MAX_GROUPS, MAX_MEMBERS } from './groups.ts';
import { GroupWriter } from './groups-writer.ts';

const someMembers = fc.uniqueArray(fc.integer({ min: 0, max: 65_535 }), {
  minLength: 1,
  maxLength: MAX_MEMBERS,
});
const countsOf = (layout: ArrayLike<number>, members: readonly number[]) =>
  members.map((member) => Array.from(layout).filter((other) => other === member).length);
function expectBalanced(layout: ArrayLike<number>, members: readonly number[]): void {
  const counts = countsOf(layout, members);
  expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
  expect(counts.reduce((sum, count) => sum + count)).toBe(BUCKETS);
}

describe('buckets', () => {
  it('are dealt evenly, whatever comes and goes, one by one or at once', () => {
    fc.assert(
      fc.property(fc.array(someMembers, { minLength: 1, maxLength: 12 }), (sets) => {
        let layout: Uint16Array | null = null;
        for (const members of sets) {
          const next: Uint16Array = deal(members, layout);
          expectBalanced(next, members);
          layout = next;
        }
      }),
    );
  });

  it('stay but for those of a member that goes', () => {
    fc.assert(
      fc.property(
        fc.array(someMembers, { minLength: 1 }),
        someMembers,
        fc.nat(),
        (history, members, pick) => {
          fc.pre(members.length > 1);
          let before: Uint16Array | null = null;
          for (const set of [...history, members]) before = deal(set, before);
          const gone = members[pick % members.length]!;
          const after = deal(
            members.filter((member) => member !== gone),
            before,
          );
          for (let bucket = 0; bucket < BUCKETS; bucket++) {
            if (before![bucket] !== gone) expect(after[bucket]).toBe(before![bucket]);
          }
          expect(moved(before!, after)).toBe(countsOf(before!, [gone])[0]);
        },
      ),
    );
  });

  it('go to a member that comes as its fair share, and to nobody else', () => {
    fc.assert(
      fc.property(fc.array(someMembers), someMembers, (history, members) => {
        fc.pre(members.length > 1);
        const [newcomer, ...others] = members as [number, ...number[]];
        let before: Uint16Array | null = null;
        for (const set of [...history, others]) before = deal(set, before);
        const after = deal(members, before);
        for (let bucket = 0; bucket < BUCKETS; bucket++) {
          if (after[bucket] !== before![bucket]) expect(after[bucket]).toBe(newcomer);
        }
        expect(moved(before!, after)).toBe(Math.floor(BUCKETS / members.length));
      }),
    );
  });

  it('are dealt alike from the same members and the same past', () => {
    fc.assert(
      fc.property(someMembers, someMembers, (before, after) => {
        expect(deal(after, deal(before, null))).toEqual(deal(after, deal(before, null)));
        expect(deal(before, deal(before, null))).toEqual(deal(before, null));
      }),
    );
  });
});

describe('groups', () => {
  function tables() {
    const epochs = createEpochs();
    const grace = new GracePeriods(epochs);
    const [adjacencies, shared] = [createAdjacencies(), createGroups()];
    const rows = new AdjacencyWriter(adjacencies, grace);
    const member = (nextHop: number) =>
      rows.acquire({ kind: IPIP, port: 1, nextHop, mtu: 0, source: 1, dmac: null, smac: null, vni: 0 });
    return {
      grace,
      rows,
      member,
      readers: new Readers(epochs),
      table: new Int32Array(adjacencies),
      buckets: new Uint16Array(shared),
      groups: new GroupWriter(shared, rows, grace),
    };
  }

  it('lead from a hash to a member, by the low bits', () => {
    const { groups, member, table, buckets } = tables();
    const members = [member(11), member(12), member(13)];
    const other = groups.acquire(deal([member(14)], null));
    const row = groups.acquire(deal(members, null)) * ADJ_ROW;
    for (let hash = 0; hash < BUCKETS; hash++) {
      const index = buckets[bucketOf(table, row, hash)]!;
      expect(table[index * ADJ_ROW + ADJ_NEXT_HOP]).toBe(11 + (hash % 3));
      expect(bucketOf(table, row, hash - BUCKETS)).toBe(bucketOf(table, row, hash));
    }
    expect([10, 11, 12, 13, 14].map((hop) => hasNextHop(table, buckets, row, hop))).toEqual([
      false,
      true,
      true,
      true,
      false,
    ]);
    expect(hasNextHop(table, buckets, other * ADJ_ROW, 14)).toBe(true);
    expect(hasNextHop(table, buckets, members[0]! * ADJ_ROW, 11)).toBe(false);
  });

  it('take other members in place', () => {
    const { groups, member, table, buckets } = tables();
    const row = groups.acquire(deal([member(11), member(12)], null));
    groups.update(row, deal([member(13)], null));
    expect([11, 12, 13].map((hop) => hasNextHop(table, buckets, row * ADJ_ROW, hop))).toEqual([
      false,
      false,
      true,
    ]);
  });

  it('have a limit, and are given out again only when nobody can be reading them', () => {
    const { groups, grace, rows, readers, member } = tables();
    const layout = deal([member(11)], null);
    const taken = Array.from({ length: MAX_GROUPS }, () => groups.acquire(layout));
    expect(new Set(taken).size).toBe(MAX_GROUPS);
    expect(() => groups.acquire(layout)).toThrow('all 4096 groups of next hops are in use');
    readers.enter(0);
    groups.release(taken[7]!);
    expect([groups.size, rows.size]).toEqual([MAX_GROUPS - 1, MAX_GROUPS]);
    expect(() => groups.acquire(layout)).toThrow('in use');
    readers.enter(0);
    grace.poll();
    expect(groups.acquire(layout)).toBe(taken[7]);
  });
});
