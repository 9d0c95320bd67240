import { expect, it } from 'vitest';
import { policyObstacle } from './firewall.ts';

const chains = (...list: object[]) =>
  JSON.stringify({ nftables: [{ metainfo: { version: '1.0.6' } }, ...list.map((chain) => ({ chain }))] });
const forward = {
  family: 'ip',
  table: 'filter',
  name: 'FORWARD',
  handle: 1,
  type: 'filter',
  hook: 'forward',
  prio: 0,
};

it('sees a forward chain that drops what no rule accepts', () => {
  expect(policyObstacle(chains({ ...forward, policy: 'drop' }))).toMatch(/nft ip filter FORWARD/);
});

it.each([
  ['no chain at all', chains()],
  ['a policy of accept', chains({ ...forward, policy: 'accept' })],
  ['another hook', chains({ ...forward, hook: 'input', policy: 'drop' })],
  ['a bridge', chains({ ...forward, family: 'bridge', policy: 'drop' })],
  ['a chain that rules jump to', chains({ family: 'ip', table: 'filter', name: 'DOCKER' })],
])('sees no obstacle in %s', (_name, text) => {
  expect(policyObstacle(text)).toBeNull();
});
