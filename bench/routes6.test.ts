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
  const firsts = new Set<number>();
  let outside = 0;
  for (let at = 0; at < keys.length; at += 16) {
    firsts.add(keys[at]!);
    if (keys[at] === 0xfd) outside += Number(keys[at + 15] !== 0xfd);
    else outside += Number(keys[at + 3] !== 0xb8 || keys[at + 4]! >> 5 !== 5);
  }
  expect(firsts).toEqual(new Set([0x20, 0xfd]));
  expect(outside).toBe(0);
});

it('takes random keys from 2000::/3', () => {
  const keys = randomKeys6();
  expect(keys.length).toBe(16 << 20);
  let outside = 0;
  for (let at = 0; at < keys.length; at += 16) outside += Number(keys[at]! >> 5 !== 1);
  expect(outside).toBe(0);
});
