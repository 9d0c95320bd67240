import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AttributeSet, LLGR_STALE, NO_LLGR } from '../bgp/attribute-table.ts';
import type { Attributes } from '../bgp/attributes.ts';
import { formatPrefix, IPV4, IPV6, parseWords } from '../bgp/family.ts';
import { attributesOf, listOf, many, prefixOf, sourceOf, table } from '../bgp/test-routes.ts';
import { until } from '../bgp/until.ts';
import { type Contender, choose, equals, type PathSource, REASONS, type Reason } from './decision.ts';
import { FILTERED, Rib } from './rib.ts';

const HOP = '10.0.0.9';
const seq = (...asns: number[]) => [{ set: false, asns }];
/** A path outside of any RIB. */
const path = (
  source: PathSource,
  more: Partial<Attributes> = {},
  odd: Partial<Contender> = {},
): Contender => ({
  set: table.acquire(attributesOf(HOP, { localPref: null, ...more })),
  source,
  pathId: 0,
  longLivedStale: false,
  ...odd,
});

function ribOf(...sources: PathSource[]): Rib {
  const rib = new Rib(IPV4, table);
  for (const source of sources) rib.addSource(source);
  return rib;
}
function announce(rib: Rib, source: PathSource, more: Partial<Attributes>, ...prefixes: string[]): void {
  const set = table.acquire(attributesOf(HOP, { localPref: null, ...more }));
  rib.announce(source, set, listOf(...prefixes));
  table.release(set.id);
}
const withdraw = (rib: Rib, source: PathSource, ...prefixes: string[]) =>
  rib.withdraw(source, listOf(...prefixes));
const settled = (rib: Rib) => until('settled', () => rib.isSettled);
const best = (rib: Rib) =>
  [...rib.best()].map(({ prefix, path: { source } }) => `${formatPrefix(prefix)} of ${source.index}`).sort();

describe('choose', () => {
  const external = sourceOf(1, { internal: false, asn: 65001 });
  it.each<[Reason, Contender, Contender]>([
    ['own route', path(sourceOf(9, { local: true, internal: false })), path(sourceOf(1), { localPref: 200 })],
    ['local preference', path(sourceOf(2), { localPref: 101, asPath: seq(1, 2) }), path(sourceOf(1))],
    [
      'AS path length',
      path(sourceOf(2), { asPath: seq(1), origin: 2 }),
      path(sourceOf(1), { asPath: seq(1, 2) }),
    ],
    [
      'AS path length',
      path(sourceOf(2), { asPath: [{ set: true, asns: [1, 2, 3] }] }),
      path(sourceOf(1), { asPath: seq(1, 2) }),
    ],
    ['origin', path(sourceOf(2), { origin: 0, med: 9 }), path(sourceOf(1), { origin: 1 })],
    ['MED', path(sourceOf(2), { asPath: seq(1), med: 1 }), path(external, { asPath: seq(1), med: 2 })],
    [
      'external over internal',
      path(external, { asPath: seq(1), med: 2 }),
      path(sourceOf(0), { asPath: seq(2) }),
    ],
    ['router id', path(sourceOf(1)), path(sourceOf(2))],
    ['router id', path(sourceOf(1)), path(sourceOf(200))],
    ['router id', path(sourceOf(3), { originatorId: 1 }), path(sourceOf(1))],
    [
      'cluster list length',
      path(sourceOf(2), { originatorId: 7 }),
      path(sourceOf(1), { originatorId: 7, clusterList: [1] }),
    ],
    ['peer address', path(sourceOf(1)), path({ ...sourceOf(2), id: sourceOf(1).id })],
    ['path identifier', path(sourceOf(1), {}, { pathId: 1 }), path(sourceOf(1), {}, { pathId: -1 })],
    ['not stale', path(sourceOf(2), { localPref: 1 }), path(sourceOf(1), {}, { longLivedStale: true })],
  ])('by %s', (reason, better, worse) => {
    for (const order of [
      [better, worse],
      [worse, better],
    ]) {
      const choice = choose(order)!;
      expect(choice.best).toBe(better);
      expect(REASONS[choice.step]).toBe(reason);
    }
  });

  it('compares MED only within one neighbouring AS, whatever the order', () => {
    const a = path(sourceOf(3), { asPath: seq(1), med: 10 });
    const b = path(sourceOf(1), { asPath: seq(1), med: 20 });
    const c = path(sourceOf(2), { asPath: seq(2), med: 0 });
    // b loses to a by MED; c then wins over a by identifier, though b would have won over c.
    for (const order of [
      [a, b, c],
      [b, c, a],
      [c, b, a],
      [c, a, b],
    ]) {
      expect(choose(order)?.best).toBe(c);
    }
  });

  it('shares the load among paths that are equal but for the tie-breaks', () => {
    const [a, b] = [path(sourceOf(1)), path(sourceOf(2))];
    const worse = path(sourceOf(3), { med: 1 });
    expect(equals(a, [b, a, worse])).toEqual([a, b]);
  });

  it('shares none with a path that another of its neighbour beats by MED', () => {
    const best = path(sourceOf(1), { asPath: seq(1) });
    const [low, high] = [10, 20].map((med, i) => path(sourceOf(2 + i), { asPath: seq(2), med })) as [
      Contender,
      Contender,
    ];
    expect(equals(best, [high, low, best])).toEqual([best, low]);
    expect(equals(best, [high, best])).toEqual([best, high]);
  });

  it('is the elimination of RFC 4271 9.1.2.2, step by step', () => {
    const anyPath = fc.record({
      last: fc.integer({ min: 1, max: 3 }),
      id: fc.integer({ min: 1, max: 3 }),
      internal: fc.boolean(),
      attributes: fc.record({
        origin: fc.integer({ min: 0, max: 1 }),
        asPath: fc
          .array(fc.integer({ min: 1, max: 2 }), { maxLength: 2 })
          .map((asns) => (asns.length ? seq(...asns) : [])),
        med: fc.option(fc.integer({ min: 0, max: 2 })),
        localPref: fc.option(fc.integer({ min: 99, max: 101 })),
        clusterList: fc.array(fc.constant(1), { maxLength: 2 }),
      }),
    });
    type Any = Contender & { attributes: Attributes };
    const least = (paths: Any[], key: (p: Any) => number) => {
      const smallest = Math.min(...paths.map(key));
      return paths.filter((p) => key(p) === smallest);
    };
    fc.assert(
      fc.property(fc.array(anyPath, { minLength: 1, maxLength: 6 }), (raw) => {
        const paths = raw.map(({ last, id, internal, attributes }): Any => {
          const contender = path(sourceOf(last, { id, internal }), attributes);
          return { ...contender, attributes: contender.set.attributes };
        });
        let left = least(paths, (p) => -(p.attributes.localPref ?? 100));
        left = least(left, (p) => p.attributes.asPath[0]?.asns.length ?? 0);
        left = least(left, (p) => p.attributes.origin);
        const neighbour = (p: Any) => p.attributes.asPath[0]?.asns[0] ?? 0;
        const med = (p: Any) => p.attributes.med ?? 0;
        left = left.filter((p) => left.every((q) => neighbour(q) !== neighbour(p) || med(p) <= med(q)));
        left = least(left, (p) => (p.source.internal ? 1 : 0));
        left = least(left, (p) => p.source.id);
        left = least(left, (p) => p.attributes.clusterList.length);
        left = least(left, (p) => p.source.address[0]!);
        expect(left).toContain(choose(paths)?.best);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('Rib', () => {
  const [one, two, three] = [sourceOf(1), sourceOf(2), sourceOf(3, { internal: false, asn: 65001 })];
  const P = '10.65.0.0/26';

  it('tells each change once, and nothing that stays', async () => {
    const rib = ribOf(one, two);
    const told: string[] = [];
    rib.on('change', (ids, count) => {
      for (const id of ids.subarray(0, count))
        told.push(`${rib.reasonOf(id)} of ${rib.bestSource(id)?.index}`);
    });
    announce(rib, one, {}, P);
    announce(rib, two, {}, P);
    withdraw(rib, two, P);
    announce(rib, two, { med: 5 }, P);
    expect(best(rib)).toEqual([]);
    await settled(rib);
    expect(told).toEqual(['MED of 1']);
    announce(rib, one, {}, P); // the same again
    withdraw(rib, two, P); // not the best
    await settled(rib);
    expect(told).toHaveLength(1);
    expect(rib.get(prefixOf(P))?.reason).toBe('only path');
    announce(rib, one, { med: 1 }, P);
    await settled(rib);
    expect(told).toHaveLength(2);
  });

  it('finds the longest match', async () => {
    const rib = ribOf(one);
    announce(rib, one, {}, '0.0.0.0/0', '10.0.0.0/8', P, '10.65.0.1/32');
    await settled(rib);
    const match = (text: string) => {
      const route = rib.lookup(parseWords(text));
      return route && formatPrefix(route.prefix);
    };
    expect(['10.65.0.1', '10.65.0.2', '10.65.0.64', '200.0.0.1'].map(match)).toEqual([
      '10.65.0.1/32',
      P,
      '10.0.0.0/8',
      '0.0.0.0/0',
    ]);
    expect(ribOf().lookup([1])).toBeNull();
    const six = new Rib(IPV6, table);
    six.addSource(one);
    const set = table.acquire(attributesOf('fd00::9'));
    six.announce(one, set, listOf('::/0', '2001:db8::/32', '2001:db8:0:1::/64', '2001:db8::1/128'));
    await settled(six);
    const match6 = (text: string) => formatPrefix(six.lookup(parseWords(text))!.prefix);
    expect(['2001:db8::1', '2001:db8::2', '2001:db8:0:1::2', 'fd00::1'].map(match6)).toEqual([
      '2001:db8::1/128',
      '2001:db8::/32',
      '2001:db8:0:1::/64',
      '::/0',
    ]);
  });

  it('ranks the candidates, and says why others are none', async () => {
    const rib = ribOf(one, two, three);
    announce(rib, one, { localPref: 103 }, P);
    announce(rib, two, { localPref: 101 }, P);
    const filtered = table.acquire(attributesOf(HOP, { localPref: 200 }));
    rib.announce(three, filtered, listOf(P), FILTERED);
    await settled(rib);
    const lines = rib
      .candidates(prefixOf(P))
      .map(({ path: p, reason }) => [p.source.index, reason, p.excluded]);
    expect(lines).toEqual([
      [1, 'local preference', null],
      [2, 'only path', null],
      [3, null, 'refused by the import policy'],
    ]);
    expect([rib.count(three), rib.excludedCount(three)]).toEqual([0, 1]);
  });

  it('keeps several paths of one peer by their identifiers (RFC 7911)', async () => {
    const rib = ribOf(one);
    announce(rib, one, { med: 2 }, `${P}#1`);
    announce(rib, one, { med: 1 }, `${P}#2`);
    await settled(rib);
    expect(rib.get(prefixOf(P))).toMatchObject({ reason: 'MED', path: { pathId: 2 } });
    withdraw(rib, one, `${P}#2`);
    await settled(rib);
    expect(rib.get(prefixOf(P))).toMatchObject({ reason: 'only path', path: { pathId: 1 } });
  });

  it('goes by whether next hops can be reached, and at what cost', async () => {
    const rib = ribOf(one, two);
    const { nextHop } = attributesOf('10.0.7.7');
    announce(rib, one, { nextHop }, P);
    announce(rib, two, {}, P);
    await settled(rib);
    expect(best(rib)).toEqual([`${P} of 1`]);
    nextHop!.cost = 5;
    rib.nextHopsChanged(new Set([nextHop!]));
    await settled(rib);
    expect(rib.get(prefixOf(P))).toMatchObject({ reason: 'interior cost', path: { source: two } });
    nextHop!.reachable = false;
    rib.nextHopsChanged(new Set([nextHop!]));
    withdraw(rib, two, P);
    await settled(rib);
    expect(best(rib)).toEqual([]);
    expect(rib.candidates(prefixOf(P))[0]?.path.excluded).toBe('next hop unreachable');
  });

  it('looks once for all next hops that change before it begins to look, also where there was nothing yet', async () => {
    const rib = ribOf(one, two);
    const [first, second] = ['10.0.7.7', '10.0.7.8'].map((hop) => attributesOf(hop).nextHop!);
    rib.nextHopsChanged(new Set([first!]));
    await settled(rib);
    announce(rib, one, { nextHop: first! }, P);
    announce(rib, two, { nextHop: second! }, '10.66.0.0/16');
    await settled(rib);
    let touched = 0;
    rib.on('touch', (_ids, count) => {
      touched += count;
    });
    first!.reachable = false;
    rib.nextHopsChanged(new Set([first!]));
    second!.reachable = false;
    for (let flap = 0; flap < 1000; flap++) rib.nextHopsChanged(new Set([first!, second!]));
    await settled(rib);
    expect(best(rib)).toEqual([]);
    expect(touched).toBe(2);
    for (const hop of [first!, second!]) hop.reachable = true;
    rib.nextHopsChanged(new Set([first!, second!]));
    await settled(rib);
    expect(best(rib)).toHaveLength(2);
  });

  it('keeps the routes of a peer that restarts until it has told all again (RFC 4724)', async () => {
    const rib = ribOf(one);
    announce(rib, one, {}, P, '10.66.0.0/16', '10.67.0.0/16');
    await settled(rib);
    rib.markStale(one);
    expect([rib.count(one), rib.staleCount(one)]).toEqual([3, 3]);
    announce(rib, one, {}, P);
    announce(rib, one, { med: 1 }, '10.66.0.0/16');
    await settled(rib);
    expect(best(rib)).toHaveLength(3);
    expect(rib.get(prefixOf('10.67.0.0/16'))?.path.stale).toBe(true);
    rib.sweepStale(one);
    await settled(rib);
    expect(best(rib)).toEqual([`${P} of 1`, '10.66.0.0/16 of 1']);
    expect(rib.staleCount(one)).toBe(0);
    // Twice in a row: what was stale already goes.
    rib.markStale(one);
    announce(rib, one, {}, P);
    rib.markStale(one);
    await settled(rib);
    expect(best(rib)).toEqual([`${P} of 1`]);
  });

  it('keeps what was told since, where the peer goes while stale routes are still going', async () => {
    const rib = ribOf(one);
    announce(rib, one, {}, P, '10.66.0.0/16', '10.67.0.0/16');
    await settled(rib);
    rib.markStale(one);
    announce(rib, one, {}, P, '10.66.0.0/16');
    rib.sweepStale(one);
    // Nothing has been swept yet.
    rib.markStale(one);
    await settled(rib);
    expect(best(rib)).toEqual([`${P} of 1`, '10.66.0.0/16 of 1']);
    expect(rib.staleCount(one)).toBe(2);
  });

  it('sweeps once for a peer that begins and ends any number of rounds, and forgets none of its paths', async () => {
    const rib = ribOf(one, two);
    announce(rib, one, {}, P, '10.66.0.0/16');
    const set = table.acquire(attributesOf(HOP));
    rib.announce(two, set, many(40_000));
    table.release(set.id);
    await settled(rib);
    for (let round = 0; round < 1000; round++) {
      rib.markStale(one);
      announce(rib, one, {}, P);
      rib.sweepStale(one);
    }
    let turns = 0;
    for (; !rib.isSettled; turns++) await new Promise((resolve) => setImmediate(resolve));
    expect(turns).toBeLessThan(20);
    expect([rib.count(one), rib.staleCount(one), rib.count(two)]).toEqual([1, 0, 40_000]);
  });

  it('makes long-lived stale paths the last choice, but for those that do not want it (RFC 9494)', async () => {
    const rib = ribOf(one, two);
    announce(rib, one, { localPref: 200 }, P, '10.66.0.0/16');
    announce(rib, one, { communities: [NO_LLGR] }, '10.67.0.0/16');
    announce(rib, two, {}, P);
    await settled(rib);
    expect(best(rib)).toContain(`${P} of 1`);
    rib.markStale(one);
    rib.demoteStale(one);
    await settled(rib);
    expect(best(rib)).toEqual([`${P} of 2`, '10.66.0.0/16 of 1']);
    expect(rib.get(prefixOf(P))?.reason).toBe('not stale');
    // One that another speaker marked counts alike.
    announce(rib, two, { communities: [LLGR_STALE], localPref: 300 }, '10.66.0.0/16');
    await settled(rib);
    rib.sweepStale(one);
    await settled(rib);
    expect(best(rib)).toEqual([`${P} of 2`, '10.66.0.0/16 of 2']);
  });

  it('forgets a source, and only it, however much it announced', async () => {
    const rib = ribOf(one, two);
    const before = table.size;
    const set = table.acquire(attributesOf(HOP));
    rib.announce(one, set, many(20_000));
    table.release(set.id);
    announce(rib, two, {}, '11.0.0.0/24');
    await settled(rib);
    expect(rib.size).toBe(20_000);
    let isDone = false;
    rib.drop(one, () => {
      isDone = true;
    });
    await until('it is done', () => isDone);
    await settled(rib);
    expect(best(rib)).toEqual(['11.0.0.0/24 of 2']);
    expect([rib.count(two), rib.pathCount]).toEqual([1, 1]);
    withdraw(rib, two, '11.0.0.0/24');
    await settled(rib);
    expect([rib.size, table.size - before]).toEqual([0, 0]);
  });

  it('agrees with a naive model under any sequence of announcements, withdrawals and losses', async () => {
    const prefixes = ['0.0.0.0/0', '10.0.0.0/8', P, '10.65.0.0/27', '10.65.0.1/32', '192.0.2.0/24'];
    const from = fc.nat({ max: 2 });
    const what = fc.uniqueArray(fc.constantFrom(...prefixes), { minLength: 1 });
    const announced = fc.record({
      kind: fc.constant('announce' as const),
      from,
      what,
      pathId: fc.nat({ max: 1 }),
      med: fc.option(fc.nat({ max: 2 })),
      localPref: fc.option(fc.integer({ min: 99, max: 101 })),
    });
    const step = fc.oneof(
      { weight: 6, arbitrary: announced },
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant('withdraw' as const),
          from,
          what,
          pathId: fc.nat({ max: 1 }),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), from }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('synchronised' as const), from }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
    );
    interface Known extends Contender {
      age: number;
      set: AttributeSet;
    }
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const sources = [one, two, three];
        const rib = ribOf(...sources);
        const model = new Map<string, Map<string, Known>>(prefixes.map((text) => [text, new Map()]));
        const heard = new Map<string, string>();
        const stateOf = (prefix: string) => {
          const id = rib.find(prefixOf(prefix));
          const set = id < 0 ? null : rib.bestSet(id);
          return set ? `${rib.bestSource(id)!.index} ${set.id}` : 'none';
        };
        rib.on('change', (ids, count) => {
          for (const id of ids.subarray(0, count)) {
            const text = formatPrefix(rib.prefixOf(id));
            heard.set(text, stateOf(text));
          }
        });
        const prune = (source: PathSource, isOver: (age: number) => boolean) => {
          for (const paths of model.values()) {
            for (const [key, known] of paths)
              if (known.source === source && isOver(known.age)) paths.delete(key);
          }
        };
        for (const s of steps) {
          if (s.kind === 'settle') {
            await settled(rib);
            continue;
          }
          const source = sources[s.from]!;
          if (s.kind === 'announce') {
            const { med, localPref, pathId } = s;
            announce(rib, source, { med, localPref }, ...s.what.map((text) => `${text}#${pathId}`));
            for (const text of s.what) {
              const known = { ...path(source, { med, localPref }, { pathId }), age: 0 };
              model.get(text)!.set(`${s.from}#${pathId}`, known);
            }
          } else if (s.kind === 'withdraw') {
            withdraw(rib, source, ...s.what.map((text) => `${text}#${s.pathId}`));
            for (const text of s.what) model.get(text)!.delete(`${s.from}#${s.pathId}`);
          } else if (s.kind === 'restart') {
            rib.markStale(source);
            for (const paths of model.values())
              for (const known of paths.values()) if (known.source === source) known.age++;
            prune(source, (age) => age > 1);
          } else {
            rib.sweepStale(source);
            prune(source, (age) => age > 0);
          }
        }
        await settled(rib);
        for (const [text, paths] of model) {
          const choice = choose([...paths.values()]);
          const route = rib.get(prefixOf(text));
          expect(route?.path.source ?? null, text).toBe(choice?.best.source ?? null);
          expect(route?.path.attributes).toEqual(choice?.best.set.attributes);
          expect(route?.reason).toBe(choice ? REASONS[choice.step] : undefined);
          expect(heard.get(text) ?? 'none', `told of ${text}`).toBe(stateOf(text));
        }
        for (const source of sources) {
          const known = [...model.values()]
            .flatMap((paths) => [...paths.values()])
            .filter((p) => p.source === source);
          expect(rib.count(source)).toBe(known.length);
          expect(rib.staleCount(source)).toBe(known.filter(({ age }) => age > 0).length);
        }
      }),
      { numRuns: 300 },
    );
  });
});
