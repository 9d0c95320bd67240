import { describe, expect, it } from 'vitest';
import { parseAddress4, parseMac, parsePrefix4 } from '../address.ts';
import type { DesiredPort, KernelRoute } from '../desired.ts';
import type { Link, Route } from './iproute.ts';
import {
  aliasOf,
  deleteRoute,
  linkWithAddress,
  ownerOfAlias,
  planHost,
  planPod,
  QUEUE_LENGTH,
} from './plan.ts';

const owner = { node: 'n1', scope: 4026531833 };
const pod: DesiredPort = {
  name: 'calia',
  kind: 'pod',
  netns: 'a',
  device: 'eth0',
  mac: parseMac('02:00:00:00:00:0a'),
  addresses: [parseAddress4('10.65.0.2')],
  addresses6: [],
  sources6: [],
  sources: [parseAddress4('10.65.0.2'), -1, parseAddress4('172.16.0.0'), parseAddress4('255.255.255.0')],
  mtu: 1450,
  queues: 1,
};
const host: DesiredPort = {
  ...pod,
  name: 'tortie0',
  kind: 'host',
  netns: null,
  device: 'tortie0',
  addresses: [parseAddress4('10.65.0.1')],
  sources: [],
  addresses6: [],
  sources6: [],
};
const lo: Link = { ifindex: 1, ifname: 'lo', flags: ['LOOPBACK', 'UP'], mtu: 65536, addr_info: [] };
const inet = (local: string, prefixlen = 32) => ({ family: 'inet', local, prefixlen, scope: '0' });
const deviceOf = (port: DesiredPort, address: string): Link => ({
  ifindex: 2,
  ifname: port.device,
  flags: ['UP'],
  mtu: 1450,
  txqlen: QUEUE_LENGTH,
  address: '02:00:00:00:00:0a',
  ifalias: aliasOf(owner, port),
  addr_info: [inet(address)],
});

describe('alias', () => {
  it('names node, namespace and port, and is known again', () => {
    expect(aliasOf(owner, pod)).toBe('tortie:n1:4026531833:pod:calia');
    expect(ownerOfAlias(aliasOf(owner, pod))).toEqual(owner);
    for (const alias of [undefined, '', 'tortie', 'tortie:n1', 'uplink', 'tortie:n1:x:pod:a']) {
      expect(ownerOfAlias(alias)).toBeNull();
    }
  });
});

describe('a pod’s namespace', () => {
  const routes: Route[] = [
    { type: '1', dst: '169.254.1.1', dev: 'eth0', protocol: '3' },
    { type: '1', dst: 'default', gateway: '169.254.1.1', dev: 'eth0', protocol: '3' },
  ];
  const plan = (links: Link[], present: Route[]) => planPod(pod, aliasOf(owner, pod), links, present);

  it('has no way out by IPv4 if its addresses are of IPv6 alone', () => {
    const six = { ...pod, addresses: [], addresses6: [[0xfd65 << 16, 0, 0, 2]] as DesiredPort['addresses6'] };
    const commands = planPod(six, aliasOf(owner, six), [], []);
    expect(commands.filter((command) => command.startsWith('route '))).toEqual([]);
    expect(plan([], []).filter((command) => command.startsWith('route '))).toHaveLength(2);
  });

  it('is set up whole behind a new device', () => {
    expect(plan([{ ...lo, flags: ['LOOPBACK'] }], [])).toEqual([
      'link set dev lo up',
      'link set dev eth0 alias tortie:n1:4026531833:pod:calia',
      'link set dev eth0 mtu 1450',
      'link set dev eth0 txqueuelen 8192',
      'link set dev eth0 address 02:00:00:00:00:0a',
      'link set dev eth0 addrgenmode none',
      'link set dev eth0 up',
      'addr add 10.65.0.2/32 dev eth0',
      'route add 169.254.1.1 dev eth0 scope link',
      'route add default via 169.254.1.1 dev eth0',
    ]);
  });

  it('is left alone as it should be', () => {
    expect(plan([lo, deviceOf(pod, '10.65.0.2')], routes)).toEqual([]);
  });

  it('is mended where it drifted, and nowhere else', () => {
    const drifted = { ...deviceOf(pod, '10.65.0.9'), mtu: 1500 };
    const stranger: Route = { type: '1', dst: '10.0.0.0/8', dev: 'net1', protocol: '3' };
    expect(plan([lo, drifted], [...routes.slice(0, 1), stranger])).toEqual([
      'link set dev eth0 mtu 1450',
      'addr add 10.65.0.2/32 dev eth0',
      'addr del 10.65.0.9/32 dev eth0',
      'route add default via 169.254.1.1 dev eth0',
    ]);
  });

  it('keeps an address that the pod may send from, and every IPv6 address', () => {
    const link = deviceOf(pod, '10.65.0.2');
    const more = [inet('172.16.0.7', 24), { ...inet('fd00::1', 128), family: 'inet6' }];
    expect(plan([lo, { ...link, addr_info: [...link.addr_info, ...more] }], routes)).toEqual([]);
  });

  it('leaves the way out to a device that has it, and stands behind it', () => {
    const first = { ...deviceOf(pod, '10.65.0.9'), ifname: 'net0', ifindex: 7 };
    const theirs = routes.map((route) => ({ ...route, dev: 'net0' }));
    expect(plan([lo, first, deviceOf(pod, '10.65.0.2')], theirs)).toEqual([
      'route add 169.254.1.1 dev eth0 scope link metric 2055',
      'route add default via 169.254.1.1 dev eth0 metric 2055',
    ]);
  });

  it('adds routes again after the device was down, which took them', () => {
    const down = { ...deviceOf(pod, '10.65.0.2'), flags: [] };
    expect(plan([lo, down], [])).toEqual([
      'link set dev eth0 up',
      'route add 169.254.1.1 dev eth0 scope link',
      'route add default via 169.254.1.1 dev eth0',
    ]);
  });
});

describe('the node’s namespace', () => {
  const tunnelled: KernelRoute = {
    ...parsePrefix4('10.65.1.0/26'),
    via: null,
    source: parseAddress4('10.65.0.1'),
  };
  const n3 = parseAddress4('192.0.2.3');
  const direct: KernelRoute = { ...parsePrefix4('10.65.3.0/26'), via: n3, source: null };
  const resolved = new Map([['192.0.2.3', { gateway: '192.0.2.3', dev: 'eth1' }]]);
  const ours = (dst: string, more: object): Route => ({ type: '1', dst, protocol: '84', ...more });
  const there = [
    ours('10.65.1.0/26', { dev: 'tortie0', prefsrc: '10.65.0.1' }),
    ours('10.65.3.0/26', { dev: 'eth1', gateway: '192.0.2.3' }),
  ];
  const plan = (wanted: KernelRoute[], routes: Route[], hops = resolved) =>
    planHost(host, aliasOf(owner, host), wanted, hops, [lo, deviceOf(host, '10.65.0.1')], routes);

  it('gets routes to the host device and by way of nodes', () => {
    expect(plan([tunnelled, direct], [])).toEqual([
      'route add 10.65.1.0/26 dev tortie0 scope link src 10.65.0.1 proto 84',
      'route add 10.65.3.0/26 via 192.0.2.3 dev eth1 proto 84',
    ]);
  });

  it('is left alone as it should be', () => {
    expect(plan([tunnelled, direct], there)).toEqual([]);
  });

  it('changes what differs before it removes what is no more, and touches no stranger’s route', () => {
    const stranger: Route = { type: '1', dst: '10.66.0.0/16', dev: 'eth1', protocol: '3' };
    const stale = [
      ours('10.65.9.0/26', { dev: 'eth1', gateway: '192.0.2.9' }),
      ours('10.65.8.0/26', { type: '6' }),
    ];
    const moved = { ...parsePrefix4('10.65.3.0/26'), via: null, source: parseAddress4('10.65.0.1') };
    expect(plan([tunnelled, moved], [...stale, stranger, ...there])).toEqual([
      'route replace 10.65.3.0/26 dev tortie0 scope link src 10.65.0.1 proto 84',
      'route del 10.65.9.0/26 via 192.0.2.9 dev eth1 proto 84',
      'route del blackhole 10.65.8.0/26 proto 84',
    ]);
  });

  it('never replaces a stranger’s route of the same prefix', () => {
    const stranger: Route = { type: '1', dst: '10.65.1.0/26', dev: 'eth1', protocol: '3' };
    expect(plan([tunnelled], [stranger])[0]).toMatch(/^route add 10\.65\.1\.0\/26/);
  });

  it('leaves a route as it is while its next hop is not resolved', () => {
    expect(plan([tunnelled, direct], there, new Map())).toEqual([]);
    expect(plan([tunnelled, direct], there.slice(0, 1), new Map())).toEqual([]);
  });

  it('names a host route as ip prints it, so that it is found again', () => {
    const route: KernelRoute = { ...parsePrefix4('10.65.1.1/32'), via: null, source: null };
    expect(plan([route], [ours('10.65.1.1', { dev: 'tortie0' })])).toEqual([]);
  });

  it('keeps one of our routes a prefix: one with a metric is not ours to want', () => {
    const double = ours('10.65.1.0/26', { dev: 'eth1', metric: 5 });
    expect(plan([tunnelled, direct], [...there, double])).toEqual([deleteRoute(double)]);
    expect(deleteRoute(double)).toBe('route del 10.65.1.0/26 dev eth1 proto 84 metric 5');
  });
});

it('finds the underlay device by the node’s address', () => {
  const link = { ...lo, ifname: 'eth1', addr_info: [inet('192.0.2.1', 24)] };
  expect(linkWithAddress([lo, link], '192.0.2.1')?.ifname).toBe('eth1');
  expect(linkWithAddress([lo, link], '192.0.2.2')).toBeUndefined();
});
