/** IPv6 routes to measure look-ups with: a real table where it is at hand, else a generated one of like shape. */
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import ipaddr from 'ipaddr.js';
import { ADJACENCIES, REAL_TABLE, random, shuffle } from './fib-shapes/routes.ts';

export interface Routes6 {
  readonly description: string;
  /** Sixteen bytes each, without host bits; in random order, no prefix twice. */
  readonly prefixes: readonly Uint8Array[];
  readonly lengths: Uint8Array;
  readonly adjacencies: Uint16Array;
}

type Prefix = readonly [address: Uint8Array, length: number];

/** Share of each prefix length in the real table, percent: half are /48. */
const SHARES: readonly (readonly [length: number, share: number])[] = [
  [48, 52],
  [32, 15],
  [44, 10],
  [40, 10],
  [36, 6],
  [46, 5],
  [29, 2],
];

export function loadRoutes6(): Routes6 {
  const real = existsSync(REAL_TABLE) ? realPrefixes() : null;
  const prefixes = real ?? generatedPrefixes(160_000);
  shuffle(prefixes, random(7));
  return {
    description: `${prefixes.length} routes, ${real ? 'of a real table' : 'generated: no real table at ../shared/data'}`,
    prefixes: prefixes.map(([address]) => address),
    lengths: Uint8Array.from(prefixes, ([, length]) => length),
    adjacencies: Uint16Array.from(prefixes, (_, i) => 1 + (i % ADJACENCIES)),
  };
}

function realPrefixes(): Prefix[] {
  const lines = gunzipSync(readFileSync(REAL_TABLE)).toString().split('\n');
  return lines
    .filter((line) => line.includes(':'))
    .map((line) => {
      const [address, length] = line.split('/') as [string, string];
      return [Uint8Array.from(ipaddr.parse(address).toByteArray()), Number(length)];
    });
}

/** Inside 2000::/12 to 2f00::/12, dense as the real table is: under a few thousand /32s. */
function generatedPrefixes(count: number): Prefix[] {
  const next = random(11);
  const seen = new Map<string, Prefix>();
  while (seen.size < count) {
    const address = randomAddress(next);
    address[0] = 0x20 | (next() & 0x0f);
    address[1]! &= 0x0f;
    const length = lengthAt((next() >>> 0) % 100);
    clearHost(address, length);
    seen.set(`${address.join('.')}/${length}`, [address, length]);
  }
  return [...seen.values()];
}

/** The length that the share numbered `at` (of a hundred) falls to. */
function lengthAt(at: number): number {
  let upTo = 0;
  for (const [length, share] of SHARES) {
    upTo += share;
    if (at < upTo) return length;
  }
  return 48;
}

function randomAddress(next: () => number): Uint8Array {
  return new Uint8Array(Int32Array.from({ length: 4 }, next).buffer);
}

function clearHost(address: Uint8Array, length: number): void {
  for (let bit = length; bit < 128; bit++) address[bit >> 3]! &= ~(0x80 >> (bit & 7));
}

const KEYS = 1 << 20;

/** 2^20 addresses of sixteen bytes, anywhere in 2000::/3, where all routes are. */
export function randomKeys6(): Uint8Array {
  const next = random(3);
  const keys = new Uint8Array(Int32Array.from({ length: KEYS * 4 }, next).buffer);
  for (let at = 0; at < keys.length; at += 16) keys[at] = 0x20 | (keys[at]! & 0x1f);
  return keys;
}

/** The same number of addresses inside the routes. */
export function tableKeys6({ prefixes, lengths }: Routes6): Uint8Array {
  const next = random(5);
  const keys = new Uint8Array(KEYS * 16);
  for (let at = 0; at < keys.length; at += 16) {
    const i = (next() >>> 0) % prefixes.length;
    const key = randomAddress(next);
    const [prefix, length] = [prefixes[i]!, lengths[i]!];
    const whole = length >> 3;
    for (let byte = 0; byte < whole; byte++) key[byte] = prefix[byte]!;
    if (length & 7) key[whole] = prefix[whole]! | (key[whole]! & (0xff >> (length & 7)));
    keys.set(key, at);
  }
  return keys;
}
