import { expect, it } from 'vitest';
import { routesImage } from './dpdk.ts';
import { image4 } from './fib4.ts';

it('writes 20 bytes a route: address, length, next hop', () => {
  const address = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
  const image = routesImage([
    { address: Uint8Array.of(0, 2, 0, 192), length: 24, hop: 0x1234 },
    { address, length: 128, hop: 1 },
  ]);
  expect([...image.subarray(0, 20)]).toEqual([0, 2, 0, 192, ...Array(12).fill(0), 24, 0, 0x34, 0x12]);
  expect([...image.subarray(20)]).toEqual([...address, 128, 0, 1, 0]);
});

it('has IPv4 addresses in host order', () => {
  const routes = {
    description: '',
    prefixes: Int32Array.of(0xc0000200 | 0),
    lengths: Uint8Array.of(24),
    adjacencies: Uint16Array.of(7),
  };
  expect([...image4(routes)].slice(0, 4)).toEqual([0, 2, 0, 192]);
});
