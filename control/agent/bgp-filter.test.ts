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

it('lets the first rule that is meant decide, over all filters, as a naive reading does', () => {
  const cidr = fc.constantFrom('10.0.0.0/8', '10.65.0.0/16', '10.65.1.0/24', '0.0.0.0/0');
  const rule = fc.record({
    action: fc.constantFrom('Accept', 'Reject'),
    cidr,
    matchOperator: fc.constantFrom('Equal', 'NotEqual', 'In', 'NotIn'),
  });
  const inside = (inner: string, outer: string) => {
    const bits = (text: string) =>
      text
        .split('/')[0]!
        .split('.')
        .map((part) => Number(part).toString(2).padStart(8, '0'))
        .join('')
        .slice(0, Number(text.split('/')[1]));
    return bits(inner).startsWith(bits(outer));
  };
  const meant = ({ cidr: own, matchOperator }: { cidr: string; matchOperator: string }, route: string) =>
    ({ Equal: own === route, NotEqual: own !== route, In: inside(route, own), NotIn: !inside(route, own) })[
      matchOperator
    ];
  fc.assert(
    fc.property(fc.array(fc.array(rule, { maxLength: 4 }), { maxLength: 3 }), cidr, (lists, route) => {
      const policy = importPolicy(session(lists.map((importV4, i) => filter(`f${i}`, { importV4 }))));
      const first = lists.flat().find((candidate) => meant(candidate, route));
      expect(ask(policy, route).accept).toBe(first?.action !== 'Reject');
    }),
  );
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
