import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { describe, expect, it } from 'vitest';
import { createEpochs, GracePeriods, Readers } from '../memory/grace.ts';
import { viewOf } from '../wire/bytes.ts';
import { createFib6, lookup6, MAX_GROUPS6, openFib6 } from './fib6.ts';
import { Fib6Writer } from './fib6-writer.ts';
import { maskWord, PrefixMap6 } from './prefix-map6.ts';

const ip6 = (text: string) => Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray());
const key = (prefix: Uint8Array, length: number) => `${Buffer.from(prefix).toString('hex')}/${length}`;

/** The first `length` bits, the rest zero. */
function masked(address: Uint8Array, length: number): Uint8Array {
  const view = viewOf(address.slice());
  for (let word = 0; word < 4; word++) {
    view.setInt32(word * 4, view.getInt32(word * 4) & maskWord(length, word));
  }
  return new Uint8Array(view.buffer);
}

/** The longest match by looking for every length. */
class Oracle {
  readonly routes = new Map<string, { prefix: Uint8Array; length: number; adjacency: number }>();
  lookup(address: Uint8Array): number {
    for (let length = 128; length >= 0; length--) {
      const found = this.routes.get(key(masked(address, length), length));
      if (found) return found.adjacency;
    }
    return 0;
  }
}

function fresh() {
  const shared = createFib6();
  const grace = new GracePeriods(createEpochs());
  return { shared, grace, fib: new Fib6Writer(shared, grace) };
}

/** Prefixes that nest, touch and part half way: few addresses, all lengths, borders of levels. */
const prefixes = fc
  .tuple(
    fc.constantFrom(
      ...[
        'fd00:10:65::',
        'fd00:10:65::1',
        'fd00:10:65:ff00::',
        'fd00:10:65:0:8000::',
        'fd00:10:65::ff:0:1',
      ].map(ip6),
      ...['fd00:10:66::', 'fd00:11::', '2001:db8::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', '::'].map(
        ip6,
      ),
    ),
    fc.oneof(
      fc.integer({ min: 0, max: 128 }),
      fc.integer({ min: 22, max: 50 }),
      fc.constantFrom(56, 63, 64, 65, 112, 120, 121, 122, 128),
    ),
  )
  .map(([address, length]) => ({ prefix: masked(address, length), length }));

const operations = fc.array(
  fc.tuple(prefixes, fc.integer({ min: 0, max: 6 })).map(([prefix, adjacency]) => ({ ...prefix, adjacency })),
  { maxLength: 60 },
);

/** Addresses at and beside the borders of the prefixes. */
function probes(routes: readonly { prefix: Uint8Array; length: number }[]): Uint8Array[] {
  const beside = (address: Uint8Array, by: bigint) => {
    const all = (1n << 128n) - 1n;
    const sum = (BigInt(`0x${Buffer.from(address).toString('hex')}`) + by) & all;
    return Uint8Array.from(Buffer.from(sum.toString(16).padStart(32, '0'), 'hex'));
  };
  return routes.flatMap(({ prefix, length }) => {
    const size = 1n << BigInt(128 - length);
    return [0n, size - 1n, -1n, size, 1n, size >> 1n].map((by) => beside(prefix, by));
  });
}

describe('Fib6', () => {
  it('answers as the oracle does after any sequence of changes', () => {
    // One table for all sequences: creating it each time would be most of the test.
    const { fib, grace } = fresh();
    fc.assert(
      fc.property(operations, (steps) => {
        const oracle = new Oracle();
        const compare = () => {
          for (const address of probes(steps)) {
            const found = fib.lookup(address);
            if (found !== oracle.lookup(address)) {
              expect([key(address, 128), found]).toEqual([key(address, 128), oracle.lookup(address)]);
            }
          }
        };
        for (const { prefix, length, adjacency } of steps) {
          // Adjacency 0 stands for "delete".
          if (adjacency === 0) {
            expect(fib.delete(prefix, length)).toBe(oracle.routes.delete(key(prefix, length)));
          } else {
            fib.set(prefix, length, adjacency);
            oracle.routes.set(key(prefix, length), { prefix, length, adjacency });
          }
        }
        compare();
        for (const { prefix, length } of [...oracle.routes.values()]) {
          fib.delete(prefix, length);
          oracle.routes.delete(key(prefix, length));
        }
        compare();
        expect(fib.stats()).toMatchObject({ routes: 0, groups: 0 });
        grace.poll();
      }),
      { numRuns: 300, verbose: 1 },
    );
  }, 120_000);

  it('takes one group below /48 for a block and its pods, and one where two blocks part', () => {
    const { fib } = fresh();
    fib.set(ip6('fd00:10:65::'), 48, 1);
    const before = fib.stats().groups;
    fib.set(ip6('fd00:10:65:1:2:3:4:0'), 122, 2);
    for (let i = 1; i < 64; i++) fib.set(ip6(`fd00:10:65:1:2:3:4:${i.toString(16)}`), 128, 3);
    // The /48 ends in the group of its /40; the one below is the level's, the other the block's.
    expect(fib.stats().groups - before).toBe(2 - 1);
    fib.set(ip6('fd00:10:65:1:ff:3:4:0'), 122, 4);
    expect(fib.stats().groups - before).toBe(3);
    expect(fib.lookup(ip6('fd00:10:65:1:2:3:4:3f'))).toBe(3);
    expect(fib.lookup(ip6('fd00:10:65:1:2:3:4:40'))).toBe(1);
    expect(fib.lookup(ip6('fd00:10:65:1:ff:3:4:3f'))).toBe(4);
    fib.delete(ip6('fd00:10:65:1:ff:3:4:0'), 122);
    expect(fib.stats().groups - before).toBe(1);
    expect(fib.lookup(ip6('fd00:10:65:1:2:3:4:3f'))).toBe(3);
  });

  it('gives a group back after a grace period', () => {
    const epochs = createEpochs();
    const readers = new Readers(epochs);
    const grace = new GracePeriods(epochs);
    const fib = new Fib6Writer(createFib6(), grace);
    readers.enter(3);
    fib.set(ip6('fd00::'), 128, 2);
    expect(fib.stats().groups).toBe(4);
    fib.delete(ip6('fd00::'), 128);
    expect(fib.stats().groups).toBe(0);
    grace.poll();
    expect(grace.pending).toBe(4);
    readers.enter(3);
    grace.poll();
    expect(grace.pending).toBe(0);
  });

  it('says so when a level’s groups are used, and changes nothing', () => {
    const { fib } = fresh();
    const prefix = (i: number) => Uint8Array.from([0x20, i >> 8, i, ...new Array(13).fill(0)]);
    for (let i = 0; i < MAX_GROUPS6; i++) fib.set(prefix(i), 32, 1);
    const one = prefix(MAX_GROUPS6);
    expect(() => fib.set(one, 32, 1)).toThrow(expect.objectContaining({ code: 'FIB_FULL' }));
    expect(fib.get(one, 32)).toBe(-1);
    fib.set(one, 24, 1);
    fib.delete(prefix(0), 32);
    fib.set(one, 32, 2);
    expect(fib.lookup(one)).toBe(2);
  });

  it('refuses host bits, bad lengths and bad adjacencies', () => {
    const { fib } = fresh();
    for (const [prefix, length, adjacency] of [
      ['::1', 127, 1],
      ['fd00::', 7, 1],
      ['::', 129, 1],
      ['::', -1, 1],
      ['fd00::', 8, 0],
      ['fd00::', 8, 32768],
    ] as const) {
      expect(() => fib.set(ip6(prefix), length, adjacency)).toThrow(
        expect.objectContaining({ code: 'FIB_ARGUMENT' }),
      );
    }
  });

  it('holds a real table: every route is found, and addresses inside and outside as the oracle says', () => {
    const file = new URL('../../../shared/data/internet-prefixes.txt.gz', import.meta.url);
    if (!existsSync(file)) {
      console.log('skipped: no routing table at ../shared/data/internet-prefixes.txt.gz');
      return;
    }
    const map = new PrefixMap6();
    const { fib } = fresh();
    const all: { prefix: Uint8Array; length: number }[] = [];
    for (const line of gunzipSync(readFileSync(file)).toString().split('\n')) {
      if (!line.includes(':')) continue;
      const [text, bits] = line.split('/');
      const [prefix, length] = [ip6(text!), Number(bits)];
      const adjacency = 1 + (all.length % 1000);
      all.push({ prefix, length });
      fib.set(prefix, length, adjacency);
      map.set(viewOf(prefix), 0, length, adjacency);
    }
    expect(fib.stats().routes).toBe(160_147);
    let seed = 1;
    const random = () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
      return seed >>> 8;
    };
    const compare = (address: Uint8Array) => {
      const view = viewOf(address);
      const length = map.get(view, 0, 128) >= 0 ? 128 : map.coverLength(view, 0, 128);
      const expected = length < 0 ? 0 : map.get(view, 0, length);
      if (fib.lookup(address) !== expected)
        expect([key(address, 128), fib.lookup(address)]).toEqual([expected]);
    };
    for (const { prefix, length } of all) {
      compare(prefix);
      const address = prefix.map((byte, i) => byte | (i * 8 >= length ? random() & 0xff : 0));
      compare(address);
      address[Math.max(0, (length >> 3) - 1)]! ^= 1 << (random() & 7);
      compare(address);
    }
  }, 120_000);
});

it('PrefixMap6 keeps what a Map keeps', () => {
  fc.assert(
    fc.property(operations, (steps) => {
      const map = new PrefixMap6();
      const model = new Map<string, number>();
      for (const { prefix, length, adjacency } of steps) {
        const [name, view] = [key(prefix, length), viewOf(prefix)];
        if (adjacency === 0) expect(map.delete(view, 0, length)).toBe(model.delete(name));
        else {
          expect(map.set(view, 0, length, adjacency)).toBe(!model.has(name));
          model.set(name, adjacency);
        }
        expect(map.size).toBe(model.size);
      }
      const entries = [...map.entries()].map(({ prefix, length, value }) => [key(prefix, length), value]);
      expect(new Map(entries as [string, number][])).toEqual(model);
    }),
    { verbose: 1 },
  );
});

it('a look-up without routes is "no route"', () => {
  expect(lookup6(openFib6(createFib6()), viewOf(ip6('fd00::1')), 0)).toBe(0);
});
