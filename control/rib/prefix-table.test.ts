import { describe, expect, it } from 'vitest';
import { IPV6 } from '../bgp/family.ts';
import { PrefixTable } from './prefix-table.ts';

const LENGTH = 128;
const COUNT = 500;

/** Addresses that collide where the hash begins with `seed`: the last word undoes what the others did. */
function colliding(seed: number): number[][] {
  return Array.from({ length: COUNT }, (_, i) => {
    const words = [0x20010db8, 0, i];
    let hash = seed ^ Math.imul(LENGTH + 1, 0x9e3779b1);
    for (const word of words) {
      hash = Math.imul(hash ^ word, 0x85ebca6b);
      hash ^= hash >>> 15;
    }
    return [...words, hash];
  });
}

/** How many words of an address a search looks at. */
function looks(table: PrefixTable, words: readonly number[]): number {
  let count = 0;
  const watched = new Proxy(words, {
    get: (target, key) => {
      count++;
      return Reflect.get(target, key);
    },
  });
  expect(table.find(watched, 0, LENGTH)).toBeGreaterThanOrEqual(0);
  return count;
}

describe('PrefixTable', () => {
  const prefixes = colliding(0);
  const last = prefixes.at(-1)!;

  it('finds prefixes that collide', () => {
    const table = new PrefixTable(IPV6, 0, 0);
    const ids = prefixes.map((words) => table.intern(words, 0, LENGTH));
    expect(prefixes.map((words) => table.find(words, 0, LENGTH))).toEqual(ids);
    // They do collide: the last one is compared with all.
    expect(looks(table, last)).toBeGreaterThan(COUNT);
  });

  it('begins its hash where nobody outside knows, so that a peer cannot choose prefixes that collide', () => {
    const table = new PrefixTable(IPV6, 0);
    for (const words of prefixes) table.intern(words, 0, LENGTH);
    expect(looks(table, last)).toBeLessThan(50);
  });
});
