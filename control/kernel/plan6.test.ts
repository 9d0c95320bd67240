import { describe, expect, it } from 'vitest';
import { bytesOf6, mask6, parsePrefix6, tryAddress6, type Words6 } from '../address.ts';
import type { DesiredPort } from '../desired.ts';
import type { Link, Route } from './iproute.ts';
import { planAddresses6, planPod6, planRoutes6 } from './plan6.ts';

const words = (text: string): Words6 => tryAddress6(text)!;
const port = (addresses: string[], kind: DesiredPort['kind'] = 'pod'): DesiredPort => ({
  name: 'cali1',
  kind,
  netns: 'a',
  device: 'eth0',
  mac: null,
  addresses: [],
  sources: [],
  addresses6: addresses.map(words),
  sources6: kind === 'pod' ? [...words('2001:db8::'), ...mask6(32)] : [],
  mtu: 1500,
  queues: 1,
});
const linkWith = (...addresses: string[]): Link => ({
  ifindex: 2,
  ifname: 'eth0',
  flags: ['UP'],
  mtu: 1500,
  addr_info: addresses.map((local) => ({
    family: 'inet6',
    local,
    prefixlen: local.startsWith('fe80') ? 64 : 128,
    scope: local.startsWith('fe80') ? '253' : '0',
  })),
});

describe('addresses', () => {
  it('are added without duplicate address detection, stale ones go, allowed and link-local ones stay', () => {
    expect(planAddresses6(port(['fd65::2']), undefined)).toEqual(['addr add fd65::2/128 dev eth0 nodad']);
    const there = linkWith('fe80::1', 'fd65::2', 'fd65::3', '2001:db8::1');
    expect(planAddresses6(port(['fd65::2']), there)).toEqual(['addr del fd65::3/128 dev eth0']);
    expect(planAddresses6(port([]), there)).toEqual([]);
    expect(planAddresses6(port([], 'host'), linkWith('fd65::1'))).toEqual(['addr del fd65::1/128 dev eth0']);
  });
});

it('gives a pod with IPv6 its way out, once', () => {
  const way = { dst: 'default', gateway: 'fe80::ecee:eeff:feee:eeee', dev: 'eth0' };
  expect(planPod6(port(['fd65::2']), [], [])).toEqual([`route add default via ${way.gateway} dev eth0`]);
  expect(planPod6(port(['fd65::2']), [], [way])).toEqual([]);
  expect(planPod6(port([]), [], [])).toEqual([]);
});

it('adds, replaces and removes our routes, and leaves those of unresolved next hops', () => {
  const ours = (dst: string, more: object): Route => ({ dst, protocol: '84', metric: 1024, ...more });
  const tunnelled = { to: parsePrefix6('fd65:0:0:2::/122'), via: null, source: words('fd65::1') };
  const direct = { to: parsePrefix6('fd65:0:0:3::9/128'), via: words('fd00::3'), source: null };
  const resolved = new Map([['fd00::3', { gateway: 'fd00::3', dev: 'eth1' }]]);
  const plan = (routes: Route[], hops = resolved) =>
    planRoutes6('tortie0', [tunnelled, direct], hops, routes);
  expect(plan([])).toEqual([
    'route add fd65:0:0:2::/122 dev tortie0 src fd65::1 proto 84',
    'route add fd65:0:0:3::9 via fd00::3 dev eth1 proto 84',
  ]);
  const there = [
    ours('fd65:0:0:2::/122', { dev: 'tortie0', prefsrc: 'fd65::1' }),
    ours('fd65:0:0:3::9', { dev: 'eth1', gateway: 'fd00::3' }),
  ];
  expect(plan(there)).toEqual([]);
  expect(plan(there, new Map())).toEqual([]);
  expect(plan([{ ...there[0]!, dev: 'eth9' }, there[1]!, ours('fd99::/64', { dev: 'tortie0' })])).toEqual([
    'route replace fd65:0:0:2::/122 dev tortie0 src fd65::1 proto 84',
    'route del fd99::/64 dev tortie0 proto 84 metric 1024',
  ]);
});

it('knows sixteen bytes of four words', () => {
  expect(Buffer.from(bytesOf6(words('fd65::ffff:2'))).toString('hex')).toBe(
    'fd6500000000000000000000ffff0002',
  );
});
