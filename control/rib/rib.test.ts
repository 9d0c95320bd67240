import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatPrefix4, parseAddress4, parsePrefix4 } from '../address.ts';
import { type Attributes, NO_ATTRIBUTES } from '../bgp/attributes.ts';
import { until } from '../bgp/until.ts';
import { choose, type Path, type PathSource, type Reason } from './decision.ts';
import { Rib, type RouteChange } from './rib.ts';

const flat = (...prefixes: string[]) =>
  prefixes.flatMap((text) => {
    const { prefix, length } = parsePrefix4(text);
    return [prefix, length];
  });
const source = (last: number, more: Partial<PathSource> = {}): PathSource => ({
  address: parseAddress4(`10.0.0.${last}`),
  id: parseAddress4(`10.0.0.${last}`),
  asn: 64512,
  internal: true,
  local: false,
  ...more,
});
const attributes = (more: Partial<Attributes> = {}): Attributes => ({
  ...NO_ATTRIBUTES,
  nextHop: parseAddress4('10.0.0.9'),
  ...more,
});
const path = (from: PathSource, more: Partial<Attributes> = {}): Path => ({
  source: from,
  attributes: attributes(more),
  nextHop: 0,
});
const seq = (...asns: number[]) => [{ set: false, asns }];
/** All that is due has been chosen and told. */
const settled = (rib: Rib) =>
  new Promise<void>((resolve) => {
    const probe = source(250);
    rib.announce(probe, attributes(), flat('255.0.0.0/8'));
    const done = (changes: readonly RouteChange[]) => {
      if (!changes.some(({ prefix, length }) => formatPrefix4(prefix, length) === '255.0.0.0/8')) return;
      rib.off('change', done);
      rib.withdraw(probe, flat('255.0.0.0/8'));
      setImmediate(resolve);
    };
    rib.on('change', done);
  });

describe('choose', () => {
  const external = source(1, { internal: false, asn: 65001 });
  it.each<[Reason, Path, Path]>([
    ['own route', path(source(9, { local: true })), path(source(1), { localPref: 200 })],
    ['local preference', path(source(2), { localPref: 101, asPath: seq(1, 2) }), path(source(1))],
    [
      'AS path length',
      path(source(2), { asPath: seq(1), origin: 2 }),
      path(source(1), { asPath: seq(1, 2) }),
    ],
    [
      'AS path length',
      path(source(2), { asPath: [{ set: true, asns: [1, 2, 3] }] }),
      path(source(1), { asPath: seq(1, 2) }),
    ],
    ['origin', path(source(2), { origin: 0, med: 9 }), path(source(1), { origin: 1 })],
    ['MED', path(source(2), { asPath: seq(1), med: 1 }), path(external, { asPath: seq(1), med: 2 })],
    [
      'external over internal',
      path(external, { asPath: seq(1), med: 2 }),
      path(source(0), { asPath: seq(2) }),
    ],
    ['router id', path(source(1)), path(source(2))],
    ['router id', path(source(1)), path(source(200))],
    ['router id', path(source(3), { originatorId: 1 }), path(source(1))],
    [
      'cluster list length',
      path(source(2), { originatorId: 7 }),
      path(source(1), { originatorId: 7, clusterList: [1] }),
    ],
    ['peer address', path(source(1)), path({ ...source(2), id: source(1).id })],
  ])('by %s', (reason, better, worse) => {
    expect(choose([better, worse])).toEqual({ path: better, reason });
    expect(choose([worse, better])).toEqual({ path: better, reason });
  });

  it('compares MED only within one neighbouring AS, whatever the order', () => {
    const a = path(source(3), { asPath: seq(1), med: 10 });
    const b = path(source(1), { asPath: seq(1), med: 20 });
    const c = path(source(2), { asPath: seq(2), med: 0 });
    // b loses to a by MED; c then wins over a by identifier, though b would have won over c.
    for (const order of [
      [a, b, c],
      [b, c, a],
      [c, b, a],
      [c, a, b],
    ]) {
      expect(choose(order)?.path).toBe(c);
    }
  });

  it('is the elimination of RFC 4271 9.1.2.2, step by step', () => {
    const anyPath = fc.record({
      source: fc.record({
        address: fc.integer({ min: 1, max: 3 }),
        id: fc.integer({ min: 1, max: 3 }),
        asn: fc.constant(1),
        internal: fc.boolean(),
        local: fc.constant(false),
      }),
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
    const least = (paths: Path[], key: (p: Path) => number) => {
      const best = Math.min(...paths.map(key));
      return paths.filter((p) => key(p) === best);
    };
    fc.assert(
      fc.property(fc.array(anyPath, { minLength: 1, maxLength: 6 }), (raw) => {
        const paths = raw.map((p) => path(p.source, p.attributes));
        let left = least(paths, (p) => -(p.attributes.localPref ?? 100));
        left = least(left, (p) => p.attributes.asPath[0]?.asns.length ?? 0);
        left = least(left, (p) => p.attributes.origin);
        const neighbour = (p: Path) => p.attributes.asPath[0]?.asns[0] ?? 0;
        const med = (p: Path) => p.attributes.med ?? 0;
        left = left.filter((p) => left.every((q) => neighbour(q) !== neighbour(p) || med(p) <= med(q)));
        left = least(left, (p) => (p.source.internal ? 1 : 0));
        left = least(left, (p) => p.source.id);
        left = least(left, (p) => p.attributes.clusterList.length);
        left = least(left, (p) => p.source.address);
        expect(left).toContain(choose(paths)?.path);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('Rib', () => {
  it('tells each change once, and nothing that stays', async () => {
    const rib = new Rib();
    const told: RouteChange[][] = [];
    rib.on('change', (changes) => told.push([...changes]));
    const [one, two] = [source(1), source(2)];
    const prefix = flat('10.65.0.0/26');
    rib.announce(one, attributes(), prefix);
    rib.announce(two, attributes(), prefix);
    rib.withdraw(two, prefix);
    rib.announce(two, attributes({ med: 5 }), prefix);
    expect([...rib.best()]).toEqual([]);
    await until('told', () => told.length > 0);
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject([{ best: { reason: 'MED', path: { source: one } } }]);
    rib.announce(one, attributes(), prefix); // the same again
    rib.withdraw(two, prefix); // not the best
    await settled(rib);
    const own = told.flat().filter(({ length }) => length === 26);
    expect(own).toHaveLength(1);
    expect(rib.get(prefix[0]!, 26)).toMatchObject({ reason: 'only path' });
  });

  it('finds the longest match', async () => {
    const rib = new Rib();
    rib.announce(source(1), attributes(), flat('0.0.0.0/0', '10.0.0.0/8', '10.65.0.0/26', '10.65.0.1/32'));
    await settled(rib);
    const match = (text: string) => {
      const best = rib.lookup(parseAddress4(text));
      return best && formatPrefix4(best.prefix, best.length);
    };
    expect(['10.65.0.1', '10.65.0.2', '10.65.0.64', '200.0.0.1'].map(match)).toEqual([
      '10.65.0.1/32',
      '10.65.0.0/26',
      '10.0.0.0/8',
      '0.0.0.0/0',
    ]);
    expect(new Rib().lookup(1)).toBeNull();
  });

  it('ranks the candidates', async () => {
    const rib = new Rib();
    const prefix = flat('10.65.0.0/26');
    for (const last of [3, 1, 2]) rib.announce(source(last), attributes({ localPref: 100 + last }), prefix);
    expect(rib.candidates(prefix[0]!, 26).map(({ path: p, reason }) => [p.source.id & 255, reason])).toEqual([
      [3, 'local preference'],
      [2, 'local preference'],
      [1, 'only path'],
    ]);
  });

  it('shares one path among all prefixes with the same attributes', async () => {
    const rib = new Rib();
    const one = source(1);
    rib.announce(one, attributes({ communities: [1] }), flat('10.0.0.0/24'));
    rib.announce(one, attributes({ communities: [1] }), flat('10.0.1.0/24', '10.0.1.0/24'));
    await settled(rib);
    const [a, b] = [...rib.best()];
    expect(a!.path).toBe(b!.path);
    expect(rib.count(one)).toBe(2);
  });

  it('forgets a source, and only it, however much it announced', async () => {
    const rib = new Rib();
    const [one, two] = [source(1), source(2)];
    const many = Array.from({ length: 20_000 }, (_, i) => [(0x0b000000 + i * 256) | 0, 24]).flat();
    rib.announce(one, attributes(), many);
    rib.announce(two, attributes(), flat('11.0.0.0/24'));
    await until('settled', () => [...rib.best()].length === 20_000);
    rib.drop(one);
    rib.drop(one);
    await until('one route is left', () => [...rib.best()].length === 1);
    expect(rib.lookup(parseAddress4('11.0.0.1'))?.path.source).toBe(two);
    expect([rib.count(one), rib.count(two)]).toEqual([0, 1]);
  });

  it('agrees with a naive model under any sequence of announcements, withdrawals and losses', async () => {
    const sources = [source(1), source(2), source(3, { internal: false, asn: 65001 })];
    const prefixes = [
      '0.0.0.0/0',
      '10.0.0.0/8',
      '10.65.0.0/26',
      '10.65.0.0/27',
      '10.65.0.1/32',
      '192.0.2.0/24',
    ];
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant('announce' as const),
          from: fc.nat({ max: 2 }),
          what: fc.uniqueArray(fc.constantFrom(...prefixes), { minLength: 1 }),
          med: fc.option(fc.nat({ max: 2 })),
          localPref: fc.option(fc.integer({ min: 99, max: 101 })),
        }),
      },
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant('withdraw' as const),
          from: fc.nat({ max: 2 }),
          what: fc.uniqueArray(fc.constantFrom(...prefixes), { minLength: 1 }),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop' as const), from: fc.nat({ max: 2 }) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const rib = new Rib();
        const live = [...sources];
        const model = new Map<string, Map<PathSource, Path>>(prefixes.map((text) => [text, new Map()]));
        const heard = new Map<string, RouteChange['best']>();
        rib.on('change', (changes) => {
          for (const { prefix, length, best } of changes) heard.set(formatPrefix4(prefix, length), best);
        });
        for (const s of steps) {
          if (s.kind === 'settle') {
            await settled(rib);
            continue;
          }
          const from = live[s.from]!;
          if (s.kind === 'announce') {
            const given = attributes({ med: s.med, localPref: s.localPref });
            rib.announce(from, given, flat(...s.what));
            for (const text of s.what)
              model.get(text)!.set(from, { source: from, attributes: given, nextHop: 0 });
          } else if (s.kind === 'withdraw') {
            rib.withdraw(from, flat(...s.what));
            for (const text of s.what) model.get(text)!.delete(from);
          } else {
            rib.drop(from);
            for (const paths of model.values()) paths.delete(from);
            live[s.from] = { ...from }; // the peer's next session
          }
        }
        await settled(rib);
        for (const [text, paths] of model) {
          const expected = choose([...paths.values()]);
          const [prefix, length] = flat(text) as [number, number];
          const best = rib.get(prefix, length);
          expect(best?.path.source ?? null, text).toBe(expected?.path.source ?? null);
          expect(best?.path.attributes).toEqual(expected?.path.attributes);
          expect(best?.reason).toBe(expected?.reason);
          expect(heard.get(text)?.path, `told of ${text}`).toBe(best?.path);
        }
        for (const from of live) {
          expect(rib.count(from)).toBe([...model.values()].filter((paths) => paths.has(from)).length);
        }
      }),
      { numRuns: 300 },
    );
  });
});
