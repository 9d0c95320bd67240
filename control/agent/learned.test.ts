import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BLACKHOLE } from '../../dataplane/fib/adjacency.ts';
import { formatPrefix, IPV4, IPV6, parseWords } from '../bgp/family.ts';
import type { LearnedRoute } from './feeder.ts';
import { type InForce, LearnedRoutes, MAX_KEPT_ROUTES } from './learned.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-learned-'));
  path = join(folder, 'node1', 'learned.json');
});
afterEach(() => rmSync(folder, { recursive: true }));

const inForce = (
  all: readonly LearnedRoute[],
  tunnelled: readonly (LearnedRoute | null)[] = [],
): InForce => ({
  size: all.length,
  standins: 0,
  *routes() {
    yield* all;
  },
  *tunnelled() {
    yield* tunnelled;
  },
});

const adjacency = {
  kind: BLACKHOLE,
  port: null,
  nextHop: 0,
  mtu: 0,
  source: 0,
  dmac: null,
  smac: null,
  vni: 0,
};
function route(prefix: string, nextHop: string): LearnedRoute {
  const [address = '', length] = prefix.split('/');
  const family = prefix.includes(':') ? IPV6 : IPV4;
  const peerLabel = '192.0.2.9 (AS 64512)';
  return {
    family,
    words: parseWords(address),
    length: Number(length),
    nextHop,
    adjacency,
    peerLabel,
    shares: [],
    layout: null,
  };
}

it('keeps routes of both families for the next agent', async () => {
  const routes = [route('10.65.1.0/26', '192.0.2.2'), route('fd65:1::/122', '2001:db8::2')];
  expect(await new LearnedRoutes(path).save(inForce(routes))).toBe(true);
  const kept = new LearnedRoutes(path).load()!;
  expect(kept.map((one) => [formatPrefix(one), one.nextHops.map(({ text }) => text), one.peerLabel])).toEqual(
    [
      ['10.65.1.0/26', ['192.0.2.2'], '192.0.2.9 (AS 64512)'],
      ['fd65:1::/122', ['2001:db8::2'], '192.0.2.9 (AS 64512)'],
    ],
  );
  expect(kept[1]!.nextHops[0]!.words).toEqual(parseWords('2001:db8::2'));
});

it('keeps all next hops of a route, and which of them each bucket had', async () => {
  const shares = ['192.0.2.2', '192.0.2.3'].map((nextHop) => ({ nextHop, adjacency, buckets: 64 }));
  const layout = Uint8Array.from({ length: 128 }, (_, bucket) => (bucket % 3) & 1);
  await new LearnedRoutes(path).save(inForce([{ ...route('10.65.1.0/26', '192.0.2.2'), shares, layout }]));
  const [kept] = new LearnedRoutes(path).load()!;
  expect(kept!.nextHops.map(({ text }) => text)).toEqual(['192.0.2.2', '192.0.2.3']);
  expect(kept!.layout).toEqual(layout);
});

it('knows of no agent before where there is no file, or half a one, or one of another form', async () => {
  const learned = new LearnedRoutes(path);
  expect(learned.load()).toBeNull();
  await learned.save(inForce([]));
  expect(learned.load()).toEqual([]);
  await learned.save(inForce([route('10.65.1.0/26', '192.0.2.2'), route('10.65.2.0/26', '192.0.2.2')]));
  const whole = readFileSync(path, 'utf8');
  for (let length = 0; length < whole.length - 1; length++) {
    writeFileSync(path, whole.slice(0, length));
    expect(learned.load()).toBeNull();
  }
  for (const text of [
    '{"format":2,"routes":[]}',
    '{"format":4,"tooMany":false,"count":1}\n["x","y","z"]\n',
  ]) {
    writeFileSync(path, text);
    expect(learned.load()).toBeNull();
  }
});

it('keeps no more than it can write in a moment, but what goes into tunnels, and that there was an agent', async () => {
  const learned = new LearnedRoutes(path);
  const one = route('10.0.0.0/26', '192.0.2.2');
  const many = Array.from({ length: MAX_KEPT_ROUTES + 1 }, (_, index) => ({ ...one, words: [index << 6] }));
  expect(await learned.save(inForce(many))).toBe(false);
  expect(learned.load()).toEqual([]);
  expect(await learned.save(inForce(many, [null, many[7]!, null, many[9]!]))).toBe(false);
  expect(learned.load()!.map(({ words }) => words)).toEqual([many[7]!.words, many[9]!.words]);
  for (const force of [inForce(many, many), inForce(many.slice(1))]) {
    await learned.save(force);
    expect(learned.load()).toHaveLength(MAX_KEPT_ROUTES);
    expect(readFileSync(path, 'utf8').length).toBeLessThan(4_000_000);
  }
});
