import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Attributes } from '../bgp/attributes.ts';
import { parsePrefix } from '../bgp/family.ts';
import { ACCEPT_ALL, type Policy } from '../bgp/policy.ts';
import { attributesOf, sourceOf } from '../bgp/test-routes.ts';
import { type BGPFilter, SCHEMAS } from '../resources/schema.ts';
import { exportPolicy, importPolicy, type SessionRoutes } from './bgp-filter.ts';

const filter = (name: string, spec: object): BGPFilter =>
  SCHEMAS.BGPFilter.parse({
    apiVersion: 'projectcalico.org/v3',
    kind: 'BGPFilter',
    metadata: { name },
    spec,
  });
const session = (filters: BGPFilter[], more: Partial<SessionRoutes> = {}): SessionRoutes => ({
  internal: false,
  filters,
  missing: [],
  pools: [],
  ...more,
});
const peer = sourceOf(1, { internal: false, asn: 65001 });
const own = sourceOf(0, { local: true });
const ask = (policy: Policy, cidr: string, more: Partial<Attributes> = {}, source = peer) =>
  policy.evaluate({ prefix: parsePrefix(cidr), attributes: attributesOf('192.0.2.9', more), source });
/** What a single rule makes of a route that would pass otherwise. */
const rejects = (
  rule: object,
  cidr: string,
  more: Partial<Attributes> = {},
  context: Partial<SessionRoutes> = {},
) => {
  const six = cidr.includes(':');
  const rules = { [six ? 'importV6' : 'importV4']: [{ action: 'Reject', ...rule }] };
  return !ask(importPolicy(session([filter('f', rules)], context)), cidr, more).accept;
};

describe('a rule', () => {
  it.each([
    ['Equal', '10.65.0.0/16', [true, false, false, false]],
    ['NotEqual', '10.65.0.0/16', [false, true, true, true]],
    ['In', '10.65.0.0/16', [true, true, false, false]],
    ['NotIn', '10.65.0.0/16', [false, false, true, true]],
  ])('compares prefixes by %s', (matchOperator, cidr, expected) => {
    const routes = ['10.65.0.0/16', '10.65.1.0/24', '10.66.0.0/16', '10.0.0.0/8'];
    expect(routes.map((route) => rejects({ cidr, matchOperator }, route))).toEqual(expected);
  });

  it('compares lengths within its prefix', () => {
    const rule = { cidr: '10.65.0.0/16', matchOperator: 'In', prefixLength: { min: 24, max: 26 } };
    const routes = ['10.65.0.0/16', '10.65.1.0/24', '10.65.1.0/26', '10.65.1.0/27', '10.66.1.0/24'];
    expect(routes.map((route) => rejects(rule, route))).toEqual([false, true, true, false, false]);
    const { prefixLength: _, ...open } = rule;
    expect(rejects({ ...open, prefixLength: { max: 20 } }, '10.65.0.0/16')).toBe(true);
    expect(rejects({ ...open, prefixLength: { min: 30 } }, '10.65.1.4/32')).toBe(true);
  });

  it('is of one family', () => {
    const rule = { cidr: 'fd65::/48', matchOperator: 'In' };
    expect([rejects(rule, 'fd65::1:0/122'), rejects(rule, 'fd66::/48'), rejects({}, '10.0.0.0/8')]).toEqual([
      true,
      false,
      true,
    ]);
    const four = importPolicy(session([filter('f', { importV4: [{ action: 'Reject' }] })]));
    expect([ask(four, '10.0.0.0/8').accept, ask(four, 'fd65::/48').accept]).toEqual([false, true]);
  });

  it.each<[string, object, Partial<Attributes>, boolean]>([
    [
      'a community that is there',
      { communities: { values: ['64512:7'] } },
      { communities: [64512 * 65536 + 7] },
      true,
    ],
    ['a community that is not', { communities: { values: ['64512:7'] } }, { communities: [7] }, false],
    [
      'a large community',
      { communities: { values: ['64512:1:2'] } },
      { largeCommunities: [1, 2, 3, 64512, 1, 2] },
      true,
    ],
    [
      'half of two large ones',
      { communities: { values: ['3:64512:1'] } },
      { largeCommunities: [1, 2, 3, 64512, 1, 2] },
      false,
    ],
    [
      'the path’s beginning',
      { asPathPrefix: [65001, 65002] },
      { asPath: [{ set: false, asns: [65001, 65002, 1] }] },
      true,
    ],
    [
      'another beginning',
      { asPathPrefix: [65002] },
      { asPath: [{ set: false, asns: [65001, 65002] }] },
      false,
    ],
    ['a set', { asPathPrefix: [65001] }, { asPath: [{ set: true, asns: [65001] }] }, false],
    ['a priority', { priority: 1024 }, { localPref: 2147482623 }, true],
    ['another priority', { priority: 1024 }, { localPref: 100 }, false],
    ['routes of peers', { source: 'RemotePeers' }, {}, true],
    ['an interface, which no route has', { interface: 'eth*' }, {}, false],
  ])('names %s', (_, rule, attributes, expected) => {
    expect(rejects(rule, '10.65.0.0/26', attributes)).toBe(expected);
  });

  it('is for peers of a kind', () => {
    expect(rejects({ peerType: 'eBGP' }, '10.65.0.0/26')).toBe(true);
    expect(rejects({ peerType: 'iBGP' }, '10.65.0.0/26')).toBe(false);
    expect(rejects({ peerType: 'iBGP' }, '10.65.0.0/26', {}, { internal: true })).toBe(true);
  });

  it('says what it does to a route that it accepts', () => {
    const operations = [
      { addCommunity: { value: '64512:7' } },
      { addCommunity: { value: '64512:1:2' } },
      { prependASPath: { prefix: [65001, 65001] } },
      { setPriority: { value: 512 } },
    ];
    const policy = importPolicy(session([filter('f', { importV4: [{ action: 'Accept', operations }] })]));
    expect(ask(policy, '10.65.0.0/26')).toEqual({
      accept: true,
      reason: 'BGPFilter f, rule 1 of importV4: Accept',
      operations: [
        { kind: 'add community', community: 64512 * 65536 + 7 },
        { kind: 'add large community', community: [64512, 1, 2] },
        { kind: 'prepend', asns: [65001, 65001] },
        { kind: 'set local preference', value: 2147483135 },
      ],
    });
  });
});

/** A naive reading of Calico's documentation, on texts: what a rule means is said once more, by other means. */
describe('rules of all kinds, over all filters', () => {
  type Direction = 'import' | 'export';
  interface AnyRule {
    action: 'Accept' | 'Reject';
    cidr?: string;
    matchOperator?: 'Equal' | 'NotEqual' | 'In' | 'NotIn';
    prefixLength?: { min?: number; max?: number };
    source?: 'RemotePeers';
    interface?: string;
    peerType?: 'eBGP' | 'iBGP';
    communities?: { values: string[] };
    asPathPrefix?: number[];
    priority?: number;
    operations?: object[];
  }
  interface AnyRoute {
    prefix: string;
    communities: string[];
    large: string[];
    path: number[];
    priority: number | null;
    isOwn: boolean;
  }
  const FOUR = ['0.0.0.0/0', '10.0.0.0/8', '10.64.0.0/10', '10.65.0.0/16', '10.65.1.0/24', '10.65.1.1/32'];
  const SIX = ['::/0', 'fd65::/16', 'fd65::/48', 'fd65:0:0:1::/64', 'fd65:0:0:1::1:0/122', 'fd66::/48'];
  const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 });
  const asns = fc.array(fc.constantFrom(65001, 65002, 4_200_000_000), { minLength: 1, maxLength: 3 });
  const small = fc.constantFrom('64512:1', '65535:0', '0:7');
  const large = fc.constantFrom('64512:1:2', '4200000000:0:7');
  const priorities = fc.constantFrom(1, 512, 1024);

  const anyRule = (cidrs: readonly string[]): fc.Arbitrary<AnyRule> =>
    fc
      .record({
        action: fc.constantFrom('Accept' as const, 'Reject' as const),
        match: maybe(
          fc.record({
            cidr: fc.constantFrom(...cidrs),
            matchOperator: fc.constantFrom(
              'Equal' as const,
              'NotEqual' as const,
              'In' as const,
              'NotIn' as const,
            ),
          }),
        ),
        lengths: maybe(fc.tuple(maybe(fc.constantFrom(0, 8, 24)), maybe(fc.constantFrom(24, 32)))),
        source: maybe(fc.constant('RemotePeers' as const)),
        interface: maybe(fc.constant('eth*')),
        peerType: maybe(fc.constantFrom('eBGP' as const, 'iBGP' as const)),
        community: maybe(fc.oneof(small, large)),
        asPathPrefix: maybe(asns),
        priority: maybe(priorities),
        addCommunity: maybe(small),
      })
      .map(({ action, match, lengths, community, addCommunity, ...rest }) => {
        const isRange = match && lengths && match.matchOperator.endsWith('In');
        const [min, max] = lengths ?? [];
        const rule = {
          action,
          ...match,
          ...(isRange && { prefixLength: { min, max } }),
          ...rest,
          ...(community && { communities: { values: [community] } }),
          ...(addCommunity &&
            action === 'Accept' && { operations: [{ addCommunity: { value: addCommunity } }] }),
        };
        return JSON.parse(JSON.stringify(rule)) as AnyRule;
      });
  const anyRoute = (prefixes: readonly string[]): fc.Arbitrary<AnyRoute> =>
    fc.record({
      prefix: fc.constantFrom(...prefixes),
      communities: fc.uniqueArray(small),
      large: fc.uniqueArray(large),
      path: fc.array(fc.constantFrom(65001, 65002, 4_200_000_000), { maxLength: 4 }),
      priority: fc.option(priorities),
      isOwn: fc.boolean(),
    });

  /** An address's bits as text. */
  function bitsOf(address: string): string {
    if (!address.includes(':'))
      return address
        .split('.')
        .map((part) => Number(part).toString(2).padStart(8, '0'))
        .join('');
    const [head = '', tail] = address.split('::').map((half) => half.split(':').filter((part) => part));
    const zeros = new Array(8 - head.length - (tail?.length ?? 0)).fill('0');
    return [...head, ...zeros, ...(tail ?? [])]
      .map((part) => Number.parseInt(part, 16).toString(2).padStart(16, '0'))
      .join('');
  }
  const networkOf = (prefix: string) => {
    const [address = '', length] = prefix.split('/');
    return bitsOf(address).slice(0, Number(length));
  };

  function isMeant(rule: AnyRule, route: AnyRoute, internal: boolean): boolean {
    const { cidr, prefixLength, communities, asPathPrefix, priority } = rule;
    if (rule.interface) return false;
    if (rule.peerType && rule.peerType !== (internal ? 'iBGP' : 'eBGP')) return false;
    if (rule.source && route.isOwn) return false;
    if (cidr) {
      const length = networkOf(route.prefix).length;
      const isIn =
        networkOf(route.prefix).startsWith(networkOf(cidr)) &&
        length >= (prefixLength?.min ?? 0) &&
        length <= (prefixLength?.max ?? 128);
      const isTrue = {
        Equal: route.prefix === cidr,
        NotEqual: route.prefix !== cidr,
        In: isIn,
        NotIn: !isIn,
      };
      if (!isTrue[rule.matchOperator!]) return false;
    }
    if (communities && ![...route.communities, ...route.large].includes(communities.values[0]!)) return false;
    if (asPathPrefix && !`${route.path.join()},`.startsWith(`${asPathPrefix.join()},`)) return false;
    return priority === undefined || priority === route.priority;
  }

  const numbers = (text: string) => text.split(':').map(Number);

  it.each<[Direction, 4 | 6]>([
    ['import', 4],
    ['import', 6],
    ['export', 4],
    ['export', 6],
  ])('decide as a naive reading has it: %s of IPv%i', (direction, version) => {
    const prefixes = version === 4 ? FOUR : SIX;
    const lists = fc.array(fc.array(anyRule(prefixes), { maxLength: 4 }), { maxLength: 3 });
    const cluster = version === 4 ? '10.65.0.0/16' : 'fd65::/48';
    const pools = [{ cidr: cluster, disableBGPExport: false }];
    fc.assert(
      fc.property(lists, anyRoute(prefixes), fc.boolean(), (filters, route, internal) => {
        const field = `${direction}V${version}`;
        const made = filters.map((rules, i) => filter(`f${i}`, { [field]: rules }));
        const policy = (direction === 'import' ? importPolicy : exportPolicy)(
          session(made, { internal, pools }),
        );
        const verdict = ask(
          policy,
          route.prefix,
          {
            communities: route.communities.map((text) => numbers(text).reduce((a, b) => a * 65536 + b)),
            largeCommunities: route.large.flatMap(numbers),
            asPath: route.path.length > 0 ? [{ set: false, asns: route.path }] : [],
            localPref: route.priority && 2147483647 - route.priority,
          },
          route.isOwn ? own : peer,
        );
        const first = filters.flat().find((rule) => isMeant(rule, route, internal));
        const isOfCluster = networkOf(route.prefix).startsWith(networkOf(cluster));
        const otherwise = direction === 'import' || route.isOwn || isOfCluster;
        expect(verdict.accept).toBe(first ? first.action === 'Accept' : otherwise);
        expect(verdict.operations).toHaveLength(first?.operations?.length ?? 0);
      }),
      { numRuns: 500 },
    );
  });
});

describe('without a word', () => {
  const pools = [
    { cidr: '10.65.0.0/16', disableBGPExport: false },
    { cidr: '10.65.9.0/24', disableBGPExport: true },
  ];
  it('all comes in', () => {
    expect(importPolicy(session([]))).toBe(ACCEPT_ALL);
  });

  it('what is our own leaves, and of others’ what is of the cluster’s pools that are exported', () => {
    const policy = exportPolicy(session([], { pools }));
    expect(ask(policy, '203.0.113.0/24', {}, own).accept).toBe(true);
    expect(ask(policy, '10.65.1.0/26').accept).toBe(true);
    expect(ask(policy, '10.65.9.0/26')).toMatchObject({
      accept: false,
      reason: 'pool 10.65.9.0/24 is not exported',
    });
    expect(ask(policy, '0.0.0.0/0')).toMatchObject({
      accept: false,
      reason: 'of no pool: only routes of the cluster are passed on',
    });
  });

  it('but a filter may let others leave', () => {
    const transit = filter('transit', { exportV4: [{ action: 'Accept', source: 'RemotePeers' }] });
    const policy = exportPolicy(session([transit], { pools }));
    expect(ask(policy, '203.0.113.0/24').accept).toBe(true);
    const quiet = filter('quiet', { exportV4: [{ action: 'Reject', source: 'RemotePeers' }] });
    expect(ask(exportPolicy(session([quiet], { pools })), '10.65.1.0/26').accept).toBe(false);
    expect(ask(exportPolicy(session([quiet], { pools })), '10.65.1.0/26', {}, own).accept).toBe(true);
  });

  it('sessions that pass the same are told alike', () => {
    const [a, b] = [session([], { pools }), session([filter('f', {})], { pools })];
    expect(exportPolicy(a).key).toBe(exportPolicy({ ...a }).key);
    expect(exportPolicy(a).key).not.toBe(exportPolicy(b).key);
  });
});
