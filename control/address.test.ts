import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  contains4,
  formatAddress4,
  formatMac,
  formatPrefix4,
  overlap4,
  parseAddress4,
  parseMac,
  parsePrefix4,
  tryAddress4,
  tryInterface4,
  tryMac,
  tryPrefix4,
} from './address.ts';

it('turns any address into text and back', () => {
  fc.assert(
    fc.property(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), (address) => {
      expect(parseAddress4(formatAddress4(address))).toBe(address);
    }),
  );
  expect(parseAddress4('255.255.255.255')).toBe(-1);
});

it.each(['', '10.1', '256.0.0.1', '1.2.3.4.5', '012.0.0.1', '::1', '1.2.3.4/8', ' 1.2.3.4'])(
  'refuses "%s" as an address',
  (text) => expect(tryAddress4(text)).toBeNull(),
);

it.each(['10.0.0.1/8', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0.0/-1', '10.0.0.0/1e1', 'x/8'])(
  'refuses "%s" as a prefix',
  (text) => expect(tryPrefix4(text)).toBeNull(),
);

it('knows prefixes', () => {
  expect(parsePrefix4('0.0.0.0/0')).toEqual({ prefix: 0, length: 0 });
  expect(parsePrefix4('10.65.0.2')).toEqual({ prefix: 0x0a410002, length: 32 });
  expect(tryInterface4('192.0.2.1/24')).toEqual({ address: 0xc0000201 | 0, length: 24 });
  expect(formatPrefix4(0x0a410000, 16)).toBe('10.65.0.0/16');
  const pool = parsePrefix4('192.168.0.0/16');
  expect(contains4(pool, parseAddress4('192.168.255.1'))).toBe(true);
  expect(contains4(pool, parseAddress4('192.169.0.1'))).toBe(false);
  expect(contains4(parsePrefix4('0.0.0.0/0'), -1)).toBe(true);
  expect(overlap4(pool, parsePrefix4('192.168.4.0/26'))).toBe(true);
  expect(overlap4(parsePrefix4('192.168.4.0/26'), pool)).toBe(true);
  expect(overlap4(pool, parsePrefix4('10.0.0.0/8'))).toBe(false);
});

it('knows MACs', () => {
  expect(formatMac(parseMac('EE:ee:00:01:02:ff'))).toBe('ee:ee:00:01:02:ff');
  expect(tryMac('ee:ee:ee:ee:ee')).toBeNull();
  expect(tryMac('ee-ee-ee-ee-ee-ee')).toBeNull();
});
