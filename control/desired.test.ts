import { describe, expect, it } from 'vitest';
import { KIND_NAMES } from '../dataplane/fib/adjacency.ts';
import { formatAddress4, formatMac, formatPrefix4, parseAddress4, parsePrefix4 } from './address.ts';
import { type BgpRoute, type Desired, type DesiredSettings, desiredState, vtepMac } from './desired.ts';
import { type Resource, SCHEMAS } from './resources/schema.ts';

const settings: DesiredSettings = {
  nodeName: 'n1',
  hostDevice: 'tortie0',
  underlayMtu: 1500,
  vni: 4096,
  icmpRate: 100,
};
const head = { apiVersion: 'projectcalico.org/v3' };
const pool = (cidr: string, modes: object = {}): Resource =>
  SCHEMAS.IPPool.parse({ ...head, kind: 'IPPool', metadata: { name: cidr }, spec: { cidr, ...modes } });
const node = (name: string, ipv4Address: string, blocks: string[], more: object = {}, bgp: object = {}) =>
  SCHEMAS.Node.parse({
    ...head,
    kind: 'Node',
    metadata: { name },
    spec: { bgp: { ipv4Address, ...bgp }, blocks, ...more },
  });
const workload = (name: string, ipNetworks: string[], more: object = {}) =>
  SCHEMAS.WorkloadEndpoint.parse({
    ...head,
    kind: 'WorkloadEndpoint',
    metadata: { name, namespace: 'default' },
    spec: { node: 'n1', interfaceName: `cali${name}`, netns: `ns-${name}`, ipNetworks, ...more },
  });
const bgp = (cidr: string, nextHop: string): BgpRoute => ({
  ...parsePrefix4(cidr),
  nextHop: parseAddress4(nextHop),
  peerLabel: '192.0.2.9 (AS 64512)',
});

/** The FIB as text: "10.65.1.0/26 ipip 192.0.2.2 bgp ...". */
const fib = (desired: Desired): string[] =>
  [...desired.routes.values()].map(({ prefix, length, adjacency, origin }) => {
    const hop = adjacency.nextHop ? ` ${formatAddress4(adjacency.nextHop)}` : '';
    return `${formatPrefix4(prefix, length)} ${KIND_NAMES[adjacency.kind]}${hop}, ${origin}`;
  });
const kernel = (desired: Desired): string[] =>
  [...desired.kernelRoutes.values()].map(({ prefix, length, via, source }) => {
    const way = via === null ? 'dev' : `via ${formatAddress4(via)}`;
    return `${formatPrefix4(prefix, length)} ${way}${source === null ? '' : ` src ${formatAddress4(source)}`}`;
  });
const near = node('n2', '192.0.2.2/24', ['10.65.1.0/26']);
const far = node('n3', '198.51.100.3/24', ['10.65.2.0/26']);
const self = node('n1', '192.0.2.1/24', ['10.65.0.0/26'], {}, { ipv4IPIPTunnelAddr: '10.65.0.1' });
const routes = [bgp('10.65.1.0/26', '192.0.2.2'), bgp('10.65.2.0/26', '198.51.100.3')];

it('tells the workers the node’s addresses, inside tunnels too', () => {
  const both = node(
    'n1',
    '192.0.2.1/24',
    [],
    { ipv4VXLANTunnelAddr: '10.66.0.1' },
    { ipv4IPIPTunnelAddr: '10.65.0.1' },
  );
  expect(desiredState(settings, [both], []).node).toMatchObject({
    address: parseAddress4('192.0.2.1'),
    vxlanAddress: parseAddress4('10.66.0.1'),
    ipipAddress: parseAddress4('10.65.0.1'),
  });
});

describe('ports', () => {
  it('has a port for each pod of this node, with a stable MAC, and the host', () => {
    const elsewhere = workload('x', ['10.65.1.2/32'], { node: 'n2' });
    const resources = [
      pool('10.65.0.0/16'),
      self,
      workload('a', ['10.65.0.2/32'], { allowSpoofedSourcePrefixes: ['172.16.0.0/24'] }),
      elsewhere,
    ];
    const [host, a, ...rest] = desiredState(settings, resources, []).ports;
    expect(rest).toEqual([]);
    expect(host).toMatchObject({ kind: 'host', device: 'tortie0', netns: null, mtu: 1500 });
    expect(host?.addresses.map(formatAddress4)).toEqual(['10.65.0.1']);
    expect(a).toMatchObject({ name: 'calia', kind: 'pod', netns: 'ns-a', device: 'eth0' });
    expect(a?.sources).toEqual([
      parseAddress4('10.65.0.2'),
      -1,
      parseAddress4('172.16.0.0'),
      parseAddress4('255.255.255.0'),
    ]);
    expect(a?.mac).toEqual(desiredState(settings, resources, []).ports[1]?.mac);
    expect(a!.mac![0]! & 3).toBe(2);
  });

  it('is known by what people call its pod', () => {
    const called = workload('n1-k8s-web--7d-eth0', ['10.65.0.2/32'], {
      interfaceName: 'cali7d',
      pod: 'web-7d',
    });
    const { podNames } = desiredState(settings, [pool('10.65.0.0/16'), self, called], []);
    expect([...podNames]).toEqual([
      ['cali7d', ['n1-k8s-web--7d-eth0', 'web-7d', 'default/n1-k8s-web--7d-eth0', 'default/web-7d']],
    ]);
  });

  it.each([
    [{ ipipMode: 'Always' }, ['ipip'], 1480],
    [{ vxlanMode: 'CrossSubnet' }, ['vxlan'], 1450],
    [{}, [], 1500],
    // It gives no new addresses, but those that it gave are reached as before.
    [{ ipipMode: 'Always', disabled: true }, ['ipip'], 1500],
  ])('opens the pools’ tunnels, and sizes pods as the enabled ones say: %j', (modes, tunnels, mtu) => {
    const { ports } = desiredState(
      settings,
      [pool('10.65.0.0/16', modes), self, workload('a', ['10.65.0.2/32'])],
      [],
    );
    expect(ports.map((port) => port.name)).toEqual(['tortie0', 'calia', ...tunnels]);
    expect(ports[1]?.mtu).toBe(mtu);
  });

  it('lowers MTUs and takes the VNI as FelixConfiguration says, of the node before the default', () => {
    const felix = (name: string, spec: object) =>
      SCHEMAS.FelixConfiguration.parse({ ...head, kind: 'FelixConfiguration', metadata: { name }, spec });
    const desired = desiredState(
      settings,
      [
        pool('10.65.0.0/16', { ipipMode: 'Always' }),
        pool('10.66.0.0/16', { vxlanMode: 'Always' }),
        self,
        workload('a', ['10.65.0.2/32']),
        felix('default', { vxlanVNI: 5000, vxlanMTU: 1400, ipipMTU: 9000 }),
        felix('node.n1', { vxlanVNI: 5001 }),
        felix('node.n2', { vxlanVNI: 5002, vxlanMTU: 1300 }),
      ],
      [],
    );
    expect(desired.node.vni).toBe(5001);
    expect(desired.ports.map(({ name, mtu }) => [name, mtu])).toEqual([
      ['tortie0', 1400],
      ['calia', 1400],
      ['vxlan', 1400],
      ['ipip', 1480],
    ]);
  });

  it('gives a pod without a namespace no port, and says so', () => {
    const desired = desiredState(settings, [self, workload('a', ['10.65.0.2/32'], { netns: undefined })], []);
    expect(desired.ports.map(({ name }) => name)).toEqual(['tortie0']);
    expect(desired.problems).toEqual([
      'workload default/a: names no namespace, so it has no port; set netns',
    ]);
  });

  it('announces no block of a pool with disableBGPExport', () => {
    const announced = (modes: object) =>
      desiredState(settings, [pool('10.65.0.0/16', modes), self, workload('a', ['10.65.1.2/32'])], [])
        .originate;
    expect(announced({})).toEqual(['10.65.1.2/32', '10.65.0.0/26']);
    expect(announced({ disableBGPExport: true })).toEqual([]);
  });

  it('keeps the tunnel of a disabled pool whose addresses are still routed', () => {
    const { ports } = desiredState(
      settings,
      [pool('10.65.0.0/16', { ipipMode: 'Always', disabled: true }), self],
      routes,
    );
    expect(ports.map((port) => port.name)).toContain('ipip');
  });

  it('refuses a second port of one name and says so', () => {
    const resources = [
      self,
      workload('a', ['10.65.0.2/32']),
      workload('b', ['10.65.0.3/32'], { interfaceName: 'calia' }),
    ];
    const desired = desiredState(settings, resources, []);
    expect(desired.ports).toHaveLength(2);
    expect(desired.problems).toEqual([expect.stringContaining('workload default/b')]);
  });
});

describe('routes', () => {
  const local = [
    '192.0.2.1/32 host, this node',
    '10.65.0.1/32 host, this node',
    '10.65.0.2/32 pod, workload default/a',
    '10.65.0.0/26 blackhole, block',
  ];
  const of = (modes: object, ...more: Resource[]) =>
    desiredState(
      settings,
      [pool('10.65.0.0/16', modes), self, near, far, workload('a', ['10.65.0.2/32']), ...more],
      routes,
    );

  it('tunnels where the pool says Always', () => {
    const desired = of({ ipipMode: 'Always' });
    expect(fib(desired)).toEqual([
      ...local,
      '10.65.1.0/26 ipip 192.0.2.2, bgp 192.0.2.9 (AS 64512)',
      '10.65.2.0/26 ipip 198.51.100.3, bgp 192.0.2.9 (AS 64512)',
      '0.0.0.0/0 host, default',
    ]);
    expect(kernel(desired)).toEqual([
      '10.65.0.0/26 dev src 10.65.0.1',
      '10.65.1.0/26 dev src 10.65.0.1',
      '10.65.2.0/26 dev src 10.65.0.1',
    ]);
    const [route] = [...desired.routes.values()].slice(4);
    expect(route?.adjacency).toMatchObject({ mtu: 1480, source: parseAddress4('192.0.2.1'), port: 'ipip' });
  });

  it('tunnels only out of the subnet where it says CrossSubnet', () => {
    const desired = of({ ipipMode: 'CrossSubnet' });
    expect(fib(desired).slice(4, 6)).toEqual([
      '10.65.1.0/26 host 192.0.2.2, bgp 192.0.2.9 (AS 64512)',
      '10.65.2.0/26 ipip 198.51.100.3, bgp 192.0.2.9 (AS 64512)',
    ]);
    expect(kernel(desired).slice(1)).toEqual([
      '10.65.1.0/26 via 192.0.2.2',
      '10.65.2.0/26 dev src 10.65.0.1',
    ]);
  });

  it('leaves it to the kernel where it says Never', () => {
    const desired = of({});
    expect(kernel(desired).slice(1)).toEqual(['10.65.1.0/26 via 192.0.2.2', '10.65.2.0/26 via 198.51.100.3']);
    expect(desired.ports.map((port) => port.kind)).toEqual(['host', 'pod']);
  });

  it('takes blocks of VXLAN pools from the datastore alone, and says what BGP announces of them beside it', () => {
    const n4 = node('n4', '192.0.2.4/24', ['10.65.4.0/26'], { vxlanTunnelMACAddr: '66:00:00:00:00:04' });
    const resources = [pool('10.65.0.0/16', { vxlanMode: 'Always' }), self, near, n4];
    const desired = desiredState(settings, resources, [
      bgp('10.65.1.0/26', '192.0.2.4'),
      bgp('10.65.4.0/26', '192.0.2.4'),
      bgp('10.65.5.0/26', '192.0.2.5'),
    ]);
    expect(fib(desired).slice(3)).toEqual([
      '10.65.1.0/26 vxlan 192.0.2.2, datastore node n2',
      '10.65.4.0/26 vxlan 192.0.2.4, datastore node n4',
      '0.0.0.0/0 host, default',
    ]);
    expect(desired.problems).toEqual([
      '10.65.1.0/26 of VXLAN pool 10.65.0.0/16 is announced by 192.0.2.9 (AS 64512) with next hop 192.0.2.4, which the datastore does not say; the announcement is left out',
      expect.stringContaining('10.65.5.0/26 of VXLAN pool'),
    ]);
    const [derived, given] = [...desired.routes.values()].slice(3).map((route) => route.adjacency);
    expect(derived?.dmac).toEqual(vtepMac('n2'));
    expect(formatMac(given!.dmac!)).toBe('66:00:00:00:00:04');
    expect(derived).toMatchObject({ mtu: 1450, vni: 4096, smac: vtepMac('n1') });
    expect(desired.node.vtepMac).toEqual(vtepMac('n1'));
  });

  it('reaches tunnel addresses of other nodes as their pool says, or through their tunnel', () => {
    const n2 = node(
      'n2',
      '192.0.2.2/24',
      [],
      { ipv4VXLANTunnelAddr: '10.70.0.2' },
      { ipv4IPIPTunnelAddr: '10.65.1.1' },
    );
    const desired = desiredState(settings, [pool('10.65.0.0/16', { ipipMode: 'CrossSubnet' }), self, n2], []);
    expect(fib(desired).slice(3, 5)).toEqual([
      '10.65.1.1/32 host 192.0.2.2, tunnel address of node n2',
      '10.70.0.2/32 vxlan 192.0.2.2, tunnel address of node n2',
    ]);
  });

  it('takes routes outside every pool as they come, but never the default and never to itself', () => {
    const desired = desiredState(
      settings,
      [pool('10.65.0.0/16', { ipipMode: 'Always' }), self],
      [
        bgp('203.0.113.0/24', '192.0.2.254'),
        bgp('0.0.0.0/0', '192.0.2.254'),
        bgp('10.65.9.0/26', '192.0.2.1'),
      ],
    );
    expect(fib(desired).slice(3)).toEqual([
      '203.0.113.0/24 host 192.0.2.254, bgp 192.0.2.9 (AS 64512)',
      '0.0.0.0/0 host, default',
    ]);
    expect(kernel(desired)).toEqual(['10.65.0.0/26 dev src 10.65.0.1', '203.0.113.0/24 via 192.0.2.254']);
  });

  it('prefers what lives here: own block and pods win over BGP', () => {
    const desired = desiredState(
      settings,
      [pool('10.65.0.0/16'), self, workload('a', ['10.65.0.2/32'])],
      [bgp('10.65.0.0/26', '192.0.2.2'), bgp('10.65.0.2/32', '192.0.2.2')],
    );
    expect(fib(desired)).toEqual([...local, '0.0.0.0/0 host, default']);
  });

  it('announces its blocks, and a borrowed address by itself', () => {
    const desired = desiredState(settings, [self, workload('b', ['10.65.1.7/32'])], []);
    expect(desired.originate).toEqual(['10.65.1.7/32', '10.65.0.0/26']);
    expect(kernel(desired)).toContain('10.65.1.7/32 dev src 10.65.0.1');
  });

  it('knows as peers all listed nodes and every tunnel’s end', () => {
    const desired = desiredState(
      settings,
      [pool('10.65.0.0/16', { ipipMode: 'Always' }), self, near],
      [bgp('10.65.9.0/26', '203.0.113.9')],
    );
    expect([...desired.peers].map(formatAddress4)).toEqual(['192.0.2.2', '203.0.113.9']);
  });
});

it('says what is missing: the node itself, or its tunnel address', () => {
  expect(() => desiredState(settings, [near], [])).toThrow('no Node "n1"');
  const bare = node('n1', '192.0.2.1/24', ['10.65.0.0/26']);
  const desired = desiredState(settings, [pool('10.65.0.0/16', { ipipMode: 'Always' }), bare], routes);
  expect(desired.problems).toEqual([expect.stringContaining('n1 has no tunnel address')]);
});

it('derives the VTEP’s MAC from the node’s name as Felix does', () => {
  expect(formatMac(vtepMac('n1'))).toMatch(/^66:/);
  expect(vtepMac('n1')).not.toEqual(vtepMac('n2'));
});
