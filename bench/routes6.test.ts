import { expect, it } from 'vitest';
import { type Routes6, randomKeys6, tableKeys6 } from './routes6.ts';

const routes: Routes6 = {
  description: '',
  prefixes: [Uint8Array.of(0x20, 1, 0xd, 0xb8, 0xa0, ...Array(11).fill(0)), new Uint8Array(16).fill(0xfd)],
  lengths: Uint8Array.of(35, 128),
  adjacencies: Uint16Array.of(1, 2),
};

it('takes keys from inside the routes, of all of them', () => {
  const keys = tableKeys6(routes);
  const seen = new Set<number>();
  for (let at = 0; at < keys.length; at += 16) {
    const key = keys.subarray(at, at + 16);
    if (key[0] === 0xfd) {
      if (!key.every((byte) => byte === 0xfd)) throw new Error(`${key} is not in the /128`);
    } else if (key[3] !== 0xb8 || key[4]! >> 5 !== 5) throw new Error(`${key} is not in the /35`);
    seen.add(key[0]!);
  }
  expect([...seen].sort()).toEqual([0x20, 0xfd]);
});

it('takes random keys from 2000::/3', () => {
  const keys = randomKeys6();
  expect(keys.length).toBe(16 << 20);
  for (let at = 0; at < keys.length; at += 16) if (keys[at]! >> 5 !== 1) throw new Error(`${keys[at]}`);
});
