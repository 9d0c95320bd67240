import { expect, it } from 'vitest';
import { LIFETIME_MS, PathMtus } from './path-mtus.ts';

const PEER = '10.0.0.2';
function paths() {
  const clock = { now: 1000 };
  return { clock, paths: new PathMtus(() => clock.now) };
}

it('believes what is less, and only what is less', () => {
  const { paths: mtus } = paths();
  expect(mtus.of(PEER)).toBeUndefined();
  expect(mtus.learn(PEER, 1400, '198.51.100.1')).toBe(true);
  expect(mtus.learn(PEER, 1400, '198.51.100.1')).toBe(false);
  expect(mtus.learn(PEER, 1450, '198.51.100.1')).toBe(false);
  expect(mtus.of(PEER)).toBe(1400);
  expect(mtus.learn(PEER, 1300, 'route')).toBe(true);
  expect(mtus.list()).toMatchObject([{ peer: PEER, mtu: 1300, from: 'route' }]);
});

it('forgets ten minutes after it was last said (RFC 1191 6.3)', () => {
  const { clock, paths: mtus } = paths();
  mtus.learn(PEER, 1400, 'a');
  clock.now += LIFETIME_MS - 1;
  expect(mtus.expire()).toBe(false);
  mtus.learn(PEER, 1400, 'a');
  clock.now += LIFETIME_MS - 1;
  expect(mtus.expire()).toBe(false);
  clock.now += 1;
  expect(mtus.expire()).toBe(true);
  expect(mtus.of(PEER)).toBeUndefined();
});

it('is bounded', () => {
  const { paths: mtus } = paths();
  for (let peer = 1; peer <= 5000; peer++) mtus.learn(`fd00::${peer}`, 1400, 'a');
  expect(mtus.list()).toHaveLength(4096);
  expect(mtus.learn('fd00::1', 1300, 'a')).toBe(true);
});
