import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  ADJ_KIND,
  ADJ_NEXT_HOP,
  ADJ_ROW,
  GROUP,
  HOST,
  IPIP,
  KIND_NAMES,
} from '../../dataplane/fib/adjacency.ts';
import { lookup4, openFib4 } from '../../dataplane/fib/fib4.ts';
import { lookup6, openFib6 } from '../../dataplane/fib/fib6.ts';
import { BUCKETS, bucketOf } from '../../dataplane/fib/groups.ts';
import { hasPeer } from '../../dataplane/fib/peers.ts';
import { bytesOf6, formatAddress4, mask4, parseAddress4, parsePrefix4, tryAddress6 } from '../address.ts';
import { AttributeTable } from '../bgp/attribute-table.ts';
import { formatPrefix, IPV4, IPV6 } from '../bgp/family.ts';
import { attributesOf, listOf, sourceOf } from '../bgp/test-routes.ts';
import { until } from '../bgp/until.ts';
import { desiredState } from '../desired.ts';
import { type Resource, SCHEMAS } from '../resources/schema.ts';
import { Rib } from '../rib/rib.ts';
import { TableWriter } from '../tables.ts';
import { Feeder, type StaleRoute } from './feeder.ts';

const settings = { nodeName: 'n1', hostDevice: 'tortie0', underlayMtu: 1500, vni: 4096, icmpRate: 100 };
const head = { apiVersion: 'projectcalico.org/v3' };
const pool = (cidr: string, modes: object): Resource =>
  SCHEMAS.IPPool.parse({ ...head, kind: 'IPPool', metadata: { name: 'pool' }, spec: { cidr, ...modes } });
const node = (name: string, ipv4Address: string, blocks: string[] = [], bgp: object = {}) =>
  SCHEMAS.Node.parse({
    ...head,
    kind: 'Node',
    metadata: { name },
    spec: { bgp: { ipv4Address, ...bgp }, blocks },
  });
const self = node('n1', '192.0.2.1/24', ['10.65.0.0/26'], { ipv6Address: '2001:db8::1/64' });
const ipip = pool('10.65.0.0/16', { ipipMode: 'Always' });

const table = new AttributeTable();
const one = sourceOf(1);
const two = sourceOf(2);
const three = sourceOf(3);

let tables: TableWriter;
let ribs: [Rib, Rib];
let feeder: Feeder;
let ports: Map<string, number>;
let maximumPaths: number;

beforeEach(() => {
  maximumPaths = 16;
  tables = new TableWriter();
  ports = new Map([
    ['tortie0', 1],
    ['ipip', 2],
    ['vxlan', 3],
  ]);
  feeder = new Feeder(tables, (name) => ports.get(name) ?? null);
  ribs = newRibs();
});

function newRibs(): [Rib, Rib] {
  const made: [Rib, Rib] = [new Rib(IPV4, table), new Rib(IPV6, table)];
  for (const rib of made) for (const source of [one, two, three]) rib.addSource(source);
  return made;
}

/** What the agent does with what the resources say. */
function learn(...resources: Resource[]): string[] {
  const desired = desiredState(settings, resources);
  const problems = tables.apply(desired, (name) => ports.get(name) ?? null);
  feeder.learn(desired.learning, maximumPaths);
  return [...problems, ...feeder.problems()];
}
function announce(source: typeof one, nextHop: string, ...prefixes: string[]): void {
  const set = table.acquire(attributesOf(nextHop));
  ribs[prefixes[0]!.includes(':') ? 1 : 0].announce(source, set, listOf(...prefixes));
  table.release(set.id);
}
const withdraw = (source: typeof one, ...prefixes: string[]) =>
  ribs[prefixes[0]!.includes(':') ? 1 : 0].withdraw(source, listOf(...prefixes));
const settled = () => until('best paths are chosen', () => ribs.every((rib) => rib.isSettled));

/** What a worker finds for an address: "ipip 192.0.2.2". */
function found(address: string): string {
  const words = tryAddress6(address);
  const row = words
    ? lookup6(openFib6(tables.shared.fib6), new DataView(bytesOf6(words).buffer), 0)
    : lookup4(openFib4(tables.shared.fib4), parseAddress4(address));
  const rows = new Int32Array(tables.shared.adjacencies);
  const hop = rows[row * ADJ_ROW + ADJ_NEXT_HOP]!;
  return `${KIND_NAMES[rows[row * ADJ_ROW + ADJ_KIND]!]}${hop ? ` ${formatAddress4(hop)}` : ''}`;
}
/** Next hops of the group that a worker finds for an address, with the buckets of each: { '192.0.2.2': 64 }. */
function shares(address: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const hop of bucketsOf(address)) counts[hop] = (counts[hop] ?? 0) + 1;
  return counts;
}
/** Next hop of each bucket. */
function bucketsOf(address: string): string[] {
  const rows = new Int32Array(tables.shared.adjacencies);
  const row = lookup4(openFib4(tables.shared.fib4), parseAddress4(address)) * ADJ_ROW;
  expect(rows[row + ADJ_KIND]).toBe(GROUP);
  const first = bucketOf(rows, row, 0);
  const buckets = new Uint16Array(tables.shared.groups, first * 2, BUCKETS);
  return Array.from(buckets, (index) => {
    expect([HOST, IPIP]).toContain(rows[index * ADJ_ROW + ADJ_KIND]);
    return formatAddress4(rows[index * ADJ_ROW + ADJ_NEXT_HOP]!);
  });
}
const rowOf = (address: string) => lookup4(openFib4(tables.shared.fib4), parseAddress4(address));
const isPeer = (address: string) => hasPeer(new Int32Array(tables.shared.peers), parseAddress4(address));

describe('routes that BGP tells', () => {
  beforeEach(() => {
    feeder.follow(ribs);
    learn(ipip, self);
  });

  it('travel as their pool says, and by the host outside of pools', async () => {
    announce(one, '192.0.2.2', '10.65.1.0/26', '203.0.113.0/24');
    announce(one, '2001:db8::2', 'fd65:1::/122');
    await settled();
    expect([found('10.65.1.9'), found('203.0.113.9')]).toEqual(['ipip 192.0.2.2', 'host 192.0.2.2']);
    expect(found('fd65:1::9')).toBe('host');
    expect([...feeder.routes()].map(({ nextHop, peerLabel }) => `${nextHop} ${peerLabel}`)).toEqual([
      '192.0.2.2 10.0.0.1 (AS 64512)',
      '192.0.2.2 10.0.0.1 (AS 64512)',
      '2001:db8::2 10.0.0.1 (AS 64512)',
    ]);
    expect(feeder.size).toBe(3);
    withdraw(one, '10.65.1.0/26', '203.0.113.0/24');
    withdraw(one, 'fd65:1::/122');
    await settled();
    expect([found('10.65.1.9'), found('203.0.113.9'), found('fd65:1::9')]).toEqual([
      'host',
      'host',
      'no-route',
    ]);
    expect(feeder.size).toBe(0);
  });

  it('move to another next hop, and back to what covers them', async () => {
    announce(one, '192.0.2.2', '10.65.1.0/26');
    announce(two, '192.0.2.3', '10.65.0.0/20');
    await settled();
    announce(one, '192.0.2.4', '10.65.1.0/26');
    await settled();
    expect(found('10.65.1.1')).toBe('ipip 192.0.2.4');
    withdraw(one, '10.65.1.0/26');
    await settled();
    expect(found('10.65.1.1')).toBe('ipip 192.0.2.3');
  });

  it('let those send tunnel packets whose tunnels they are, as long as there is one', async () => {
    announce(one, '198.51.100.7', '10.65.1.0/26', '10.65.2.0/26');
    await settled();
    expect(isPeer('198.51.100.7')).toBe(true);
    withdraw(one, '10.65.1.0/26');
    await settled();
    expect(isPeer('198.51.100.7')).toBe(true);
    withdraw(one, '10.65.2.0/26');
    await settled();
    await until('the peer is forgotten', () => !isPeer('198.51.100.7'));
  });

  it('stand behind near routes, and take their place when these go', async () => {
    announce(one, '192.0.2.9', '10.65.0.0/26', '192.0.2.1/32');
    await settled();
    expect([found('10.65.0.5'), found('192.0.2.1')]).toEqual(['blackhole', 'host']);
    learn(ipip, node('n1', '192.0.2.1/24'));
    expect(found('10.65.0.5')).toBe('ipip 192.0.2.9');
    learn(ipip, self);
    expect(found('10.65.0.5')).toBe('blackhole');
  });

  it('never are the default, nor lead to ourselves', async () => {
    announce(one, '192.0.2.9', '0.0.0.0/0');
    announce(one, '192.0.2.1', '10.65.7.0/26');
    announce(one, '2001:db8::1', 'fd65::/64');
    await settled();
    expect([found('8.8.8.8'), found('10.65.7.1'), found('fd65::1')]).toEqual(['host', 'host', 'no-route']);
    expect([...feeder.routes()]).toEqual([]);
  });

  it('of VXLAN pools are the datastore’s, and what BGP says beside it is said, until it says so no more', async () => {
    announce(one, '192.0.2.7', '10.65.1.0/26');
    await settled();
    const vxlan = pool('10.65.0.0/16', { vxlanMode: 'Always' });
    learn(vxlan, self);
    expect(found('10.65.1.1')).toBe('host');
    expect(learn(vxlan, self)).toEqual([
      expect.stringContaining('10.65.1.0/26 of VXLAN pool 10.65.0.0/16 is announced by 10.0.0.1 (AS 64512)'),
    ]);
    withdraw(one, '10.65.1.0/26');
    await settled();
    expect(learn(vxlan, self)).toEqual([]);
  });

  it('are forwarded anew when pools or ports change', async () => {
    announce(one, '192.0.2.2', '10.65.1.0/26');
    await settled();
    learn(pool('10.65.0.0/16', { ipipMode: 'CrossSubnet' }), self);
    expect(found('10.65.1.1')).toBe('host 192.0.2.2');
    learn(pool('10.66.0.0/16', { ipipMode: 'Always' }), self);
    expect(found('10.65.1.1')).toBe('host 192.0.2.2');
    ports.delete('ipip');
    learn(ipip, self);
    expect(found('10.65.1.1')).toBe('host');
    ports.set('ipip', 7);
    learn(ipip, self);
    expect(found('10.65.1.1')).toBe('ipip 192.0.2.2');
  });

  it('stay when the agent ends before its sessions do', async () => {
    announce(one, '192.0.2.2', '10.65.1.0/26');
    await settled();
    feeder.stop();
    withdraw(one, '10.65.1.0/26');
    await settled();
    expect(found('10.65.1.1')).toBe('ipip 192.0.2.2');
  });

  it('go with their speaker', async () => {
    announce(one, '192.0.2.2', '10.65.1.0/26');
    await settled();
    ribs = newRibs();
    announce(one, '192.0.2.3', '10.65.2.0/26');
    await settled();
    feeder.follow(ribs);
    expect([found('10.65.1.1'), found('10.65.2.1')]).toEqual(['host', 'ipip 192.0.2.3']);
  });
});

describe('routes with several next hops', () => {
  const prefix = '10.65.1.0/26';
  const inside = '10.65.1.9';
  const hops = ['192.0.2.2', '192.0.2.3', '192.0.2.4'];
  beforeEach(() => {
    feeder.follow(ribs);
    learn(ipip, self);
  });
  async function announceAll(...prefixes: string[]): Promise<void> {
    for (const [i, source] of [one, two, three].entries()) announce(source, hops[i]!, ...prefixes);
    await settled();
  }

  it('are shared evenly, and all may send tunnel packets', async () => {
    await announceAll(prefix);
    expect(Object.keys(shares(inside)).sort()).toEqual(hops);
    expect(Object.values(shares(inside)).sort()).toEqual([42, 43, 43]);
    expect(hops.map(isPeer)).toEqual([true, true, true]);
    const [route] = [...feeder.routes()];
    expect(route!.shares.map(({ nextHop, buckets }) => [nextHop, buckets]).sort()).toEqual(
      Object.entries(shares(inside)).sort(),
    );
    expect(feeder.size).toBe(1);
  });

  it('keep the buckets of those that stay', async () => {
    await announceAll(prefix);
    const before = bucketsOf(inside);
    withdraw(two, prefix);
    await settled();
    const without = bucketsOf(inside);
    expect(without.filter((hop, bucket) => before[bucket] !== hop && before[bucket] !== hops[1])).toEqual([]);
    expect(shares(inside)).toEqual({ [hops[0]!]: 64, [hops[2]!]: 64 });
    announce(two, hops[1]!, prefix);
    await settled();
    const again = bucketsOf(inside);
    const moved = again.filter((hop, bucket) => without[bucket] !== hop);
    expect(moved).toEqual(new Array(42).fill(hops[1]));
    withdraw(two, prefix);
    withdraw(three, prefix);
    await settled();
    expect(found(inside)).toBe('ipip 192.0.2.2');
  });

  it('share groups, and give them back', async () => {
    const others = Array.from({ length: 50 }, (_, i) => `10.65.${i + 2}.0/26`);
    await announceAll(prefix, ...others);
    const rows = new Set(others.map((other) => rowOf(other.split('/')[0]!)));
    expect([...rows]).toEqual([rowOf(inside)]);
    expect(feeder.size).toBe(51);
    for (const source of [one, two, three]) withdraw(source, prefix, ...others);
    await settled();
    expect([found(inside), feeder.size]).toEqual(['host', 0]);
    await until('peers are forgotten', () => !hops.some(isPeer));
  });

  it('have no more of these than the settings say, the best ones', async () => {
    maximumPaths = 2;
    learn(ipip, self);
    await announceAll(prefix);
    expect(shares(inside)).toEqual({ [hops[0]!]: 64, [hops[1]!]: 64 });
    maximumPaths = 1;
    learn(ipip, self);
    expect(found(inside)).toBe('ipip 192.0.2.2');
    maximumPaths = 16;
    learn(ipip, self);
    expect(Object.keys(shares(inside)).sort()).toEqual(hops);
  });

  it('lose one that cannot be reached any more', async () => {
    await announceAll(prefix);
    const set = table.acquire(attributesOf(hops[0]!));
    set.nextHop!.reachable = false;
    for (const rib of ribs) rib.nextHopsChanged(new Set([set.nextHop!]));
    await settled();
    expect(Object.keys(shares(inside)).sort()).toEqual(hops.slice(1));
    set.nextHop!.reachable = true;
    for (const rib of ribs) rib.nextHopsChanged(new Set([set.nextHop!]));
    await settled();
    expect(Object.keys(shares(inside)).sort()).toEqual(hops);
    table.release(set.id);
  });

  it('are of those by tunnel and by the host, and go by what has a port', async () => {
    announce(one, '192.0.2.2', prefix);
    announce(two, '198.51.100.7', prefix);
    await settled();
    const row = rowOf(inside);
    learn(pool('10.65.0.0/16', { ipipMode: 'CrossSubnet' }), self);
    const rows = new Int32Array(tables.shared.adjacencies);
    expect(shares(inside)).toEqual({ '192.0.2.2': 64, '198.51.100.7': 64 });
    expect(rows[rowOf(inside) * ADJ_ROW + ADJ_KIND]).toBe(GROUP);
    learn(ipip, self);
    expect(shares(inside)).toEqual({ '192.0.2.2': 64, '198.51.100.7': 64 });
    learn(pool('10.65.0.0/16', { ipipMode: 'CrossSubnet' }), self);
    ports.delete('ipip');
    learn(pool('10.65.0.0/16', { ipipMode: 'CrossSubnet' }), self);
    expect(shares(inside)).toEqual({ '192.0.2.2': 128 });
    ports.delete('tortie0');
    learn(pool('10.65.0.0/16', { ipipMode: 'CrossSubnet' }), self);
    expect(rowOf(inside)).toBe(0);
    ports.set('tortie0', 1).set('ipip', 2);
    learn(pool('10.65.0.0/16', { ipipMode: 'CrossSubnet' }), self);
    expect(shares(inside)).toEqual({ '192.0.2.2': 64, '198.51.100.7': 64 });
    expect(row).toBeGreaterThan(0);
  });

  it('of one prefix that join others with the same next hops move as little', async () => {
    const other = '10.65.2.0/26';
    await announceAll(prefix);
    announce(one, hops[0]!, other);
    announce(two, hops[1]!, other);
    await settled();
    const before = bucketsOf(inside);
    withdraw(three, prefix);
    await settled();
    expect(bucketsOf(inside).filter((hop, i) => before[i] !== hops[2] && hop !== before[i])).toEqual([]);
  });
});

it('shares routes among the next hops that are told, whatever comes and goes', async () => {
  const sources = [one, two, three];
  const prefixes = ['10.65.1.0/26', '10.65.2.0/26', '203.0.113.0/24'];
  const hops = ['192.0.2.2', '192.0.2.3', '198.51.100.4'];
  const step = fc.record({
    source: fc.nat(2),
    prefixes: fc.subarray(prefixes, { minLength: 1 }),
    hop: fc.option(fc.constantFrom(...hops)),
    waits: fc.boolean(),
  });
  feeder.follow(ribs);
  learn(ipip, self);
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const told = new Map<string, string>();
      const check = async () => {
        await settled();
        for (const prefix of prefixes) {
          const address = prefix.split('/')[0]!;
          const wanted = new Set(sources.flatMap((_, i) => told.get(`${i} ${prefix}`) ?? []));
          if (wanted.size === 0) expect(found(address)).toBe('host');
          else if (wanted.size === 1) expect(found(address)).toMatch(new RegExp(` ${[...wanted][0]}$`));
          else {
            const counts = shares(address);
            expect(Object.keys(counts).sort()).toEqual([...wanted].sort());
            expect(Math.max(...Object.values(counts)) - Math.min(...Object.values(counts))).toBeLessThan(2);
          }
        }
        expect(feeder.size).toBe(
          prefixes.filter((prefix) => sources.some((_, i) => told.has(`${i} ${prefix}`))).length,
        );
      };
      for (const { source, prefixes: some, hop, waits } of steps) {
        for (const prefix of some) {
          if (hop === null) told.delete(`${source} ${prefix}`);
          else told.set(`${source} ${prefix}`, hop);
        }
        if (hop === null) withdraw(sources[source]!, ...some);
        else announce(sources[source]!, hop, ...some);
        if (waits) await check();
      }
      await check();
      for (const source of sources) withdraw(source, ...prefixes);
      await settled();
      expect(feeder.size).toBe(0);
    }),
    { numRuns: 60 },
  );
});

describe('routes of the agent before', () => {
  const stale = (prefix: string, nextHop: string): StaleRoute => {
    const { prefix: word, length } = parsePrefix4(prefix);
    return {
      family: IPV4,
      words: [word],
      length,
      nextHops: nextHop.split(' ').map((text) => ({ text, words: [parseAddress4(text)] })),
      peerLabel: 'before',
      layout: null,
    };
  };

  it('stand in until they are told anew, or are known to be no more', async () => {
    feeder.restore([stale('10.65.1.0/26', '192.0.2.2'), stale('10.65.2.0/26', '192.0.2.2')]);
    learn(ipip, self);
    feeder.follow(ribs);
    expect([found('10.65.1.1'), found('10.65.2.1')]).toEqual(['ipip 192.0.2.2', 'ipip 192.0.2.2']);
    announce(one, '192.0.2.3', '10.65.1.0/26');
    await settled();
    expect([found('10.65.1.1'), feeder.standins]).toEqual(['ipip 192.0.2.3', 1]);
    expect([...feeder.routes()].map(({ peerLabel }) => peerLabel)).toEqual(['10.0.0.1 (AS 64512)', 'before']);
    // Told anew, it goes with its peer.
    withdraw(one, '10.65.1.0/26');
    await settled();
    expect([found('10.65.1.1'), found('10.65.2.1')]).toEqual(['host', 'ipip 192.0.2.2']);
    feeder.endRestore();
    expect([found('10.65.2.1'), feeder.standins]).toEqual(['host', 0]);
  });

  it('are told apart by whether they go into tunnels, those that stand in as well', async () => {
    feeder.restore([stale('10.65.9.0/26', '192.0.2.2'), stale('198.51.100.0/24', '192.0.2.2')]);
    learn(ipip, self);
    feeder.follow(ribs);
    announce(one, '192.0.2.3', '10.65.1.0/26', '203.0.113.0/24');
    announce(two, '192.0.2.3', ...Array.from({ length: 9000 }, (_, i) => `20.${i >> 8}.${i & 255}.0/24`));
    await settled();
    const found = [...feeder.tunnelled()];
    expect(found.flatMap((route) => (route ? formatPrefix(route) : []))).toEqual([
      '10.65.1.0/26',
      '10.65.9.0/26',
    ]);
    // Among thousands of others, the reader may pause.
    expect(found).toContain(null);
  });

  it('keep their next hops and buckets until all are told anew', async () => {
    const layout = Uint8Array.from({ length: BUCKETS }, (_, bucket) => (bucket < 64 ? 1 : 0));
    const kept = { ...stale('10.65.1.0/26', '192.0.2.2 192.0.2.3'), layout };
    feeder.restore([kept, stale('10.65.2.0/26', '192.0.2.2 192.0.2.3')]);
    learn(ipip, self);
    feeder.follow(ribs);
    const before = Array.from({ length: BUCKETS }, (_, bucket) => (bucket < 64 ? '192.0.2.3' : '192.0.2.2'));
    expect(bucketsOf('10.65.1.1')).toEqual(before);
    announce(one, '192.0.2.2', '10.65.1.0/26', '10.65.2.0/26');
    await settled();
    expect([bucketsOf('10.65.1.1'), feeder.standins]).toEqual([before, 2]);
    announce(two, '192.0.2.3', '10.65.1.0/26');
    await settled();
    expect([bucketsOf('10.65.1.1'), feeder.standins]).toEqual([before, 1]);
    expect([...feeder.routes()].map(({ shares: { length } }) => length)).toEqual([2, 2]);
    feeder.endRestore();
    expect([bucketsOf('10.65.1.1'), found('10.65.2.1')]).toEqual([before, 'ipip 192.0.2.2']);
    expect(feeder.size).toBe(2);
  });

  it('give way to what is told otherwise, of which as little moves as may be', async () => {
    feeder.restore([stale('10.65.1.0/26', '192.0.2.2 192.0.2.3')]);
    learn(ipip, self);
    feeder.follow(ribs);
    const before = bucketsOf('10.65.1.1');
    announce(one, '192.0.2.2', '10.65.1.0/26');
    announce(two, '192.0.2.4', '10.65.1.0/26');
    await settled();
    expect(bucketsOf('10.65.1.1')).toEqual(before.map((hop) => (hop === '192.0.2.3' ? '192.0.2.4' : hop)));
    expect(feeder.standins).toBe(0);
  });
});

it('is in the tables what a naive model says, after any changes', async () => {
  const prefixes = [
    '10.65.0.0/16',
    '10.65.0.0/26',
    '10.65.1.0/26',
    '10.65.1.4/32',
    '10.0.0.0/8',
    '203.0.113.0/24',
  ];
  const hops = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '198.51.100.4'];
  const modes = [{ ipipMode: 'Always' }, { ipipMode: 'CrossSubnet' }, {}];
  const step = fc.oneof(
    fc.record({ prefix: fc.constantFrom(...prefixes), hop: fc.constantFrom(...hops, null) }),
    fc.record({ mode: fc.constantFrom(...modes), blocks: fc.subarray(['10.65.0.0/26', '10.65.1.0/26']) }),
  );
  const mayFollow = fc.record({
    steps: fc.array(step, { maxLength: 25 }),
    waits: fc.infiniteStream(fc.boolean()),
  });
  await fc.assert(
    fc.asyncProperty(mayFollow, async ({ steps, waits }) => {
      tables = new TableWriter();
      feeder = new Feeder(tables, (name) => ports.get(name) ?? null);
      ribs = newRibs();
      feeder.follow(ribs);
      let mode: object = modes[0]!;
      let blocks: string[] = [];
      const told = new Map<string, string>();
      const update = () => learn(pool('10.65.0.0/16', mode), node('n1', '192.0.2.1/24', blocks));
      update();
      for (const next of steps) {
        if ('mode' in next) {
          ({ mode, blocks } = next);
          update();
        } else if (next.hop === null) {
          told.delete(next.prefix);
          withdraw(one, next.prefix);
        } else {
          told.set(next.prefix, next.hop);
          announce(one, next.hop, next.prefix);
        }
        if (waits.next().value) await settled();
      }
      await settled();
      for (const address of ['10.65.0.5', '10.65.1.4', '10.65.1.5', '10.65.9.9', '10.1.1.1', '203.0.113.1']) {
        expect(found(address), address).toBe(expected(parseAddress4(address), mode, blocks, told));
      }
    }),
    { numRuns: 200 },
  );
});

/** The longest prefix that says something counts; blocks before BGP. */
function expected(
  address: number,
  mode: { ipipMode?: string },
  blocks: readonly string[],
  told: ReadonlyMap<string, string>,
): string {
  const routes: { length: number; way: string }[] = blocks
    .filter((block) => covers(block, address))
    .map((block) => ({ length: parsePrefix4(block).length, way: 'blackhole' }));
  for (const [prefix, hop] of told) {
    if (!covers(prefix, address) || hop === '192.0.2.1') continue;
    const { prefix: word, length } = parsePrefix4(prefix);
    const isPooled = length >= 16 && covers('10.65.0.0/16', word);
    const isNear = hop.startsWith('192.0.2.');
    const isTunnelled =
      isPooled && (mode.ipipMode === 'Always' || (mode.ipipMode === 'CrossSubnet' && !isNear));
    routes.push({ length, way: `${isTunnelled ? 'ipip' : 'host'} ${hop}` });
  }
  // Stable: of one length, blocks come first.
  return routes.sort((a, b) => b.length - a.length)[0]?.way ?? 'host';
}

function covers(text: string, address: number): boolean {
  const { prefix, length } = parsePrefix4(text);
  return (address & mask4(length)) === prefix;
}
