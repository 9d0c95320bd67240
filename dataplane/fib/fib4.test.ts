import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createEpochs, GracePeriods, Readers } from '../memory/grace.ts';
import { createFib4, lookup4, MAX_GROUPS, openFib4 } from './fib4.ts';
import { Fib4Writer } from './fib4-writer.ts';
import { maskOf, PrefixMap } from './prefix-map.ts';

const key = (prefix: number, length: number) => `${prefix}/${length}`;

/** The longest match by looking at everything. */
class Oracle {
  readonly routes = new Map<string, { prefix: number; length: number; adjacency: number }>();
  set(prefix: number, length: number, adjacency: number): void {
    this.routes.set(key(prefix, length), { prefix, length, adjacency });
  }
  delete(prefix: number, length: number): boolean {
    return this.routes.delete(key(prefix, length));
  }
  lookup(address: number): number {
    let best = { length: -1, adjacency: 0 };
    for (const route of this.routes.values()) {
      if ((address & maskOf(route.length)) === route.prefix && route.length > best.length) best = route;
    }
    return best.adjacency;
  }
}

function fresh() {
  const shared = createFib4();
  const grace = new GracePeriods(createEpochs());
  return { shared, grace, fib: new Fib4Writer(shared, grace) };
}

/** Prefixes that nest and touch: few networks, all lengths, borders of /24s. */
const prefixes = fc
  .tuple(
    fc.constantFrom(
      0x0a000000,
      0x0a0000ff,
      0x0a000100,
      0x0a00017f,
      0x0a0001ff,
      0x80000000 | 0,
      -1,
      0x7fffffff,
    ),
    fc.oneof(fc.integer({ min: 0, max: 32 }), fc.integer({ min: 23, max: 32 })),
  )
  .map(([address, length]) => ({ prefix: address & maskOf(length), length }));

const operations = fc.array(
  fc.tuple(prefixes, fc.integer({ min: 0, max: 6 })).map(([prefix, adjacency]) => ({ ...prefix, adjacency })),
  { maxLength: 60 },
);

/** Addresses at and beside the borders of the prefixes. */
function probes(routes: readonly { prefix: number; length: number }[]): number[] {
  return routes.flatMap(({ prefix, length }) => {
    const last = prefix | ~maskOf(length);
    return [prefix, last, (prefix - 1) | 0, (last + 1) | 0, prefix ^ 1];
  });
}

describe('Fib4', () => {
  it('answers as the oracle does after any sequence of changes', () => {
    // One table for all sequences: creating 48 MiB each time would be most of the test.
    const { fib } = fresh();
    fc.assert(
      fc.property(operations, (steps) => {
        const oracle = new Oracle();
        for (const { prefix, length, adjacency } of steps) {
          // Adjacency 0 stands for "delete".
          if (adjacency === 0) expect(fib.delete(prefix, length)).toBe(oracle.delete(prefix, length));
          else {
            fib.set(prefix, length, adjacency);
            oracle.set(prefix, length, adjacency);
          }
        }
        for (const address of probes(steps)) expect(fib.lookup(address)).toBe(oracle.lookup(address));
        for (const { prefix, length } of oracle.routes.values()) fib.delete(prefix, length);
        for (const address of probes(steps)) expect(fib.lookup(address)).toBe(0);
        expect(fib.stats()).toMatchObject({ routes: 0, groups: 0 });
      }),
      { numRuns: 150, verbose: 1 },
    );
  }, 120_000);

  it('gives a group back when its last long prefix goes, after a grace period', () => {
    const epochs = createEpochs();
    const readers = new Readers(epochs);
    const grace = new GracePeriods(epochs);
    const fib = new Fib4Writer(createFib4(), grace);
    readers.enter(3);
    fib.set(0x0a000000, 24, 1);
    fib.set(0x0a000080, 25, 2);
    expect(fib.stats().groups).toBe(1);
    fib.delete(0x0a000080, 25);
    expect(fib.stats().groups).toBe(0);
    expect(fib.lookup(0x0a0000ff)).toBe(1);
    grace.poll();
    expect(grace.pending).toBe(1);
    readers.enter(3);
    grace.poll();
    expect(grace.pending).toBe(0);
  });

  it('says so when all groups are used, and changes nothing', () => {
    const { fib } = fresh();
    for (let i = 0; i < MAX_GROUPS; i++) fib.set(i << 8, 32, 1);
    expect(() => fib.set(MAX_GROUPS << 8, 32, 1)).toThrow(expect.objectContaining({ code: 'FIB_FULL' }));
    expect(fib.get(MAX_GROUPS << 8, 32)).toBe(-1);
    fib.delete(0, 32);
    fib.set(MAX_GROUPS << 8, 32, 1);
    expect(fib.lookup(MAX_GROUPS << 8)).toBe(1);
  });

  it('refuses host bits, bad lengths and bad adjacencies', () => {
    const { fib } = fresh();
    for (const [prefix, length, adjacency] of [
      [1, 24, 1],
      [0, 33, 1],
      [0, -1, 1],
      [0, 8, 0],
      [0, 8, 32768],
    ] as const) {
      expect(() => fib.set(prefix, length, adjacency)).toThrow(
        expect.objectContaining({ code: 'FIB_ARGUMENT' }),
      );
    }
  });

  it('holds a real table: every route is found, and a sample of addresses as the oracle says', () => {
    const file = new URL('../../../shared/data/internet-prefixes.txt.gz', import.meta.url);
    if (!existsSync(file)) {
      console.log('skipped: no routing table at ../shared/data/internet-prefixes.txt.gz');
      return;
    }
    const map = new PrefixMap();
    const { fib } = fresh();
    let count = 0;
    for (const line of gunzipSync(readFileSync(file)).toString().split('\n')) {
      if (!line.includes('.')) continue;
      const [address, length] = line.split('/');
      const prefix = address!.split('.').reduce((sum, part) => (sum << 8) | Number(part), 0);
      const adjacency = 1 + (count++ % 1000);
      fib.set(prefix, Number(length), adjacency);
      map.set(prefix, Number(length), adjacency);
    }
    expect(fib.stats().routes).toBe(map.size);
    let address = 1;
    for (let i = 0; i < 100_000; i++) {
      address = (Math.imul(address, 1664525) + 1013904223) | 0;
      const length = map.get(address, 32) >= 0 ? 32 : map.coverLength(address, 32);
      const expected = length < 0 ? 0 : map.get(address & maskOf(length), length);
      if (fib.lookup(address) !== expected)
        expect({ address, found: fib.lookup(address) }).toEqual({ address, found: expected });
    }
  }, 120_000);
});

it('PrefixMap keeps what a Map keeps', () => {
  fc.assert(
    fc.property(operations, (steps) => {
      const map = new PrefixMap();
      const model = new Map<string, number>();
      for (const { prefix, length, adjacency } of steps) {
        const name = key(prefix, length);
        if (adjacency === 0) expect(map.delete(prefix, length)).toBe(model.delete(name));
        else {
          expect(map.set(prefix, length, adjacency)).toBe(!model.has(name));
          model.set(name, adjacency);
        }
        expect(map.size).toBe(model.size);
      }
      for (const entry of map.entries()) expect(model.get(key(entry.prefix, entry.length))).toBe(entry.value);
      for (const [name, value] of model) {
        const [prefix, length] = name.split('/').map(Number);
        expect(map.get(prefix!, length!)).toBe(value);
      }
    }),
    { verbose: 1 },
  );
});

it('a look-up without routes is "no route"', () => {
  expect(lookup4(openFib4(createFib4()), 0x0a000001)).toBe(0);
});
