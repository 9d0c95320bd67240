/** Routes to measure look-ups with: a real table where it is at hand, else a generated one of like shape. */
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { maskOf } from '../../dataplane/fib/prefix-map.ts';

/** Flat: prefixes[i]/lengths[i] -> adjacencies[i], in random order, no prefix twice. */
export interface Routes {
  readonly description: string;
  readonly prefixes: Int32Array;
  readonly lengths: Uint8Array;
  readonly adjacencies: Uint16Array;
}

/** Adjacencies that routes point to: as many as a large cluster has nodes. */
export const ADJACENCIES = 1000;
export const REAL_TABLE = '../shared/data/internet-prefixes.txt.gz';

/** xorshift32: the same numbers every time. */
export function random(seed: number): () => number {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state | 0;
  };
}

/** All routes of the table, or `count` of it; generated ones make up what a real table has too few. */
export function loadRoutes(count?: number): Routes {
  const real = existsSync(REAL_TABLE) ? realPrefixes() : null;
  const prefixes = real ?? generatedPrefixes(900_000, []);
  shuffle(prefixes, random(7));
  const taken =
    (count ?? 0) > prefixes.length ? generatedPrefixes(count!, prefixes) : prefixes.slice(0, count);
  return {
    description: `${taken.length} routes, ${real ? 'of a real table' : 'generated: no real table at ../shared/data'}`,
    prefixes: Int32Array.from(taken, ([prefix]) => prefix),
    lengths: Uint8Array.from(taken, ([, length]) => length),
    adjacencies: Uint16Array.from(taken, (_, i) => 1 + (i % ADJACENCIES)),
  };
}

function realPrefixes(): [number, number][] {
  const lines = gunzipSync(readFileSync(REAL_TABLE)).toString().split('\n');
  return lines
    .filter((line) => line.includes('.'))
    .map((line) => {
      const [address, length] = line.split('/') as [string, string];
      return [address.split('.').reduce((sum, part) => (sum << 8) | Number(part), 0), Number(length)];
    });
}

/** Share of each prefix length in the real table, thousandths: most are /24, few are longer. */
const LENGTHS: readonly [number, number][] = [
  [24, 610],
  [23, 105],
  [22, 120],
  [21, 55],
  [20, 45],
  [19, 27],
  [18, 14],
  [17, 8],
  [16, 14],
  [15, 1],
  [29, 1],
];

/** The length that the share numbered `at` (of a thousand) falls to. */
function lengthAt(at: number): number {
  let upTo = 0;
  for (const [length, share] of LENGTHS) {
    upTo += share;
    if (at < upTo) return length;
  }
  return 24;
}

/** `count` prefixes, the given ones first. */
function generatedPrefixes(count: number, first: readonly [number, number][]): [number, number][] {
  const next = random(11);
  const seen = new Map(first.map((prefix) => [prefix.join('/'), prefix]));
  while (seen.size < count) {
    const length = lengthAt((next() >>> 0) % 1000);
    // Unicast space, dense as the real table is.
    const prefix = (((next() >>> 0) % 0xdf000000) | 0x01000000) & maskOf(length);
    seen.set(`${prefix}/${length}`, [prefix, length]);
  }
  return [...seen.values()];
}

export function shuffle<T>(items: T[], next: () => number): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = (next() >>> 0) % (i + 1);
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
}

/** 2^20 addresses anywhere, or inside the routes. */
export function randomKeys(): Int32Array {
  const next = random(3);
  return Int32Array.from({ length: 1 << 20 }, next);
}

export function tableKeys(routes: Routes): Int32Array {
  const next = random(5);
  return Int32Array.from({ length: 1 << 20 }, () => {
    const i = (next() >>> 0) % routes.prefixes.length;
    return routes.prefixes[i]! | (next() & ~maskOf(routes.lengths[i]!));
  });
}
