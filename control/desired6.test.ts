import { describe, expect, it } from 'vitest';
import * as adj from '../dataplane/fib/adjacency.ts';
import { formatAddress4, formatAddress6, formatMac, formatPrefix6, type Words6 } from './address.ts';
import { type Desired, desiredState } from './desired.ts';
import { type Resource, SCHEMAS } from './resources/schema.ts';

const settings = { nodeName: 'n1', hostDevice: 'tortie0', underlayMtu: 1500, vni: 4096, icmpRate: 100 };
const apiVersion = 'projectcalico.org/v3';

const node = (number: number, more: object = {}): Resource => ({
  apiVersion,
  kind: 'Node',
  metadata: { name: `n${number}` },
  spec: {
    bgp: { ipv4Address: `192.0.2.${number}/24`, ipv6Address: `fd00::${number}/64` },
    ipv4VXLANTunnelAddr: `10.65.${number}.1`,
    ipv6VXLANTunnelAddr: `fd65:0:0:${number}::1`,
    blocks: [`10.65.${number}.0/26`, `fd65:0:0:${number}::/122`],
    ...more,
  },
});
const pool = (vxlanMode: 'Always' | 'CrossSubnet' | 'Never'): Resource =>
  SCHEMAS.IPPool.parse({
    apiVersion,
    kind: 'IPPool',
    metadata: { name: 'six' },
    spec: { cidr: 'fd65::/48', vxlanMode },
  });
const pod = SCHEMAS.WorkloadEndpoint.parse({
  apiVersion,
  kind: 'WorkloadEndpoint',
  metadata: { name: 'a' },
  spec: {
    node: 'n1',
    interfaceName: 'cali1',
    netns: 'a',
    ipNetworks: ['10.65.1.2/32', 'fd65:0:0:1::2/128', 'fd65:0:0:2::9/128'],
    allowSpoofedSourcePrefixes: ['2001:db8::/32'],
  },
});

/** "prefix kind nextHop" of each route, and "prefix via" of each of the kernel's. */
function described({ six }: Desired) {
  const routes = [...six.routes].map(([prefix, { adjacency }]) => {
    const { nextHop, nextHop6 } = adjacency;
    const four = nextHop === 0 ? '' : ` ${formatAddress4(nextHop)}`;
    const hop = nextHop6 ? ` ${formatAddress6(nextHop6 as Words6)}` : four;
    return `${prefix} ${adj.KIND_NAMES[adjacency.kind]}${hop}`;
  });
  const kernel = [...six.kernelRoutes.values()].map(
    ({ to, via }) => `${formatPrefix6(to)}${via ? ` via ${formatAddress6(via)}` : ''}`,
  );
  return { routes, kernel };
}

it('routes pods, own blocks, and other nodes’ blocks by VXLAN over IPv6', () => {
  const desired = desiredState(settings, [node(1), node(2), pool('Always'), pod], []);
  expect(desired.problems).toEqual([]);
  expect(described(desired)).toEqual({
    routes: [
      'fd00::1/128 host',
      'fd65:0:0:1::1/128 host',
      'fd65:0:0:1::2/128 pod',
      'fd65:0:0:2::9/128 pod',
      'fd65:0:0:1::/122 blackhole',
      'fd65:0:0:2::/122 vxlan6 fd00::2',
      'fd65:0:0:2::1/128 vxlan6 fd00::2',
      '::/0 host',
    ],
    // The second address is borrowed from the other node's block.
    kernel: ['fd65:0:0:2::9/128', 'fd65:0:0:1::/122', 'fd65:0:0:2::/122', 'fd65:0:0:2::1/128'],
  });
  expect(formatAddress6(desired.node.address6!)).toBe('fd65:0:0:1::1');
  const port = desired.ports.find(({ name }) => name === 'cali1')!;
  expect(port.addresses6.map((words) => formatAddress6(words))).toEqual(['fd65:0:0:1::2', 'fd65:0:0:2::9']);
  expect(port.sources6).toHaveLength(3 * 8);
  expect(port.mtu).toBe(1430);
  expect(desired.ports.map(({ name }) => name)).toEqual(['tortie0', 'cali1', 'vxlan6', 'vxlan']);
  expect(formatAddress6(desired.ports[2]!.addresses6[0]!)).toBe('fd00::1');
  expect([...desired.six.peers.values()].map(formatAddress6)).toEqual(['fd00::2']);
  expect(formatAddress6(desired.node.underlay6 as Words6)).toBe('fd00::1');
});

it('has the MACs of the VTEPs over IPv6 that Calico has', () => {
  const macs = (desired: Desired) => {
    const { dmac, smac } = desired.six.routes.get('fd65:0:0:2::/122')!.adjacency;
    return [dmac!, smac!, desired.node.vtepMac6!].map(formatMac);
  };
  // "f" and the first five bytes of SHA-1 of "n2-v6" and "n1-v6".
  const own = '66:46:32:55:72:28';
  expect(macs(desiredState(settings, [node(1), node(2), pool('Always')]))).toEqual([
    '66:f4:09:ca:1b:0c',
    own,
    own,
  ]);
  const named = node(2, { vxlanTunnelMACAddrV6: '66:00:00:00:00:02' });
  expect(macs(desiredState(settings, [node(1), named, pool('Always')]))[0]).toBe('66:00:00:00:00:02');
});

it('takes VXLAN over IPv4 to and from nodes that have no IPv6 address', () => {
  const four = (number: number) => node(number, { bgp: { ipv4Address: `192.0.2.${number}/24` } });
  const toFour = desiredState(settings, [node(1), four(2), node(3), pool('Always')]);
  expect(toFour.problems).toEqual([]);
  expect(described(toFour).routes).toContain('fd65:0:0:2::/122 vxlan 192.0.2.2');
  expect(described(toFour).routes).toContain('fd65:0:0:3::/122 vxlan6 fd00::3');
  expect(toFour.ports.map(({ name }) => name)).toEqual(['tortie0', 'vxlan6', 'vxlan']);
  expect([...toFour.six.peers.values()].map(formatAddress6)).toEqual(['fd00::3']);
  const mtus = [...toFour.six.routes.values()].map(({ adjacency }) => adjacency.mtu);
  expect(mtus.filter((mtu) => mtu > 0)).toEqual([1450, 1450, 1430, 1430]);
  const fromFour = desiredState(settings, [four(1), node(2), pool('Always'), pod]);
  expect(described(fromFour).routes).toContain('fd65:0:0:2::/122 vxlan 192.0.2.2');
  expect(fromFour.ports.map(({ name }) => name)).toEqual(['tortie0', 'cali1', 'vxlan']);
  expect(fromFour.ports[1]!.mtu).toBe(1450);
  expect(fromFour.six.peers.size).toBe(0);
});

it('leaves out a node with the address of this one', () => {
  const twin = node(2, { bgp: { ipv4Address: '192.0.2.2/24', ipv6Address: 'fd00::1/64' } });
  const desired = desiredState(settings, [node(1), twin, pool('Always')]);
  expect(desired.problems).toEqual(['node n2 has the IPv6 address of this node; give each node its own']);
  expect(described(desired).routes.some((route) => route.startsWith('fd65:0:0:2::'))).toBe(false);
});

describe('nodes of IPv6 alone', () => {
  const alone = (number: number) =>
    node(number, {
      bgp: { ipv6Address: `fd00::${number}/64` },
      ipv4VXLANTunnelAddr: undefined,
      blocks: [`fd65:0:0:${number}::/122`],
    });

  it('reach each other, and have no tunnels over IPv4', () => {
    const desired = desiredState(settings, [alone(1), alone(2), pool('Always')]);
    expect(desired.problems).toEqual([]);
    expect(described(desired).routes).toContain('fd65:0:0:2::/122 vxlan6 fd00::2');
    expect(desired.ports.map(({ name }) => name)).toEqual(['tortie0', 'vxlan6']);
    expect([desired.peers.size, desired.node.local]).toEqual([0, []]);
    // Errors about IPv4 packets need some source (RFC 7600), and BGP an identifier of the node's own.
    expect(formatAddress4(desired.node.address)).toBe('192.0.0.8');
    expect(desired.routerId).not.toBe(desired.node.address);
    expect(desired.routerId).not.toBe(
      desiredState({ ...settings, nodeName: 'n2' }, [alone(1), alone(2)]).routerId,
    );
    const routes = [...desired.routes.values()].map(
      ({ prefix, length }) => `${formatAddress4(prefix)}/${length}`,
    );
    expect(routes).toEqual(['0.0.0.0/0']);
  });

  it('reach none of IPv4 alone, and say so', () => {
    const four = node(2, { bgp: { ipv4Address: '192.0.2.2/24' } });
    const desired = desiredState(settings, [alone(1), four, pool('Always')]);
    const fault = 'of node n2 cannot be reached: it and this node have no addresses of one family';
    expect(desired.problems).toEqual([`fd65:0:0:2::/122 ${fault}`, `fd65:0:0:2::1/128 ${fault}`]);
    expect(described(desired).routes).toContain('fd65:0:0:2::/122 unreachable');
    const pool4 = SCHEMAS.IPPool.parse({
      apiVersion,
      kind: 'IPPool',
      metadata: { name: 'four' },
      spec: { cidr: '10.65.0.0/16', vxlanMode: 'Always' },
    });
    expect(desiredState(settings, [alone(1), four, pool4]).problems).toContain(
      'node n1 has no spec.bgp.ipv4Address, so pods of IPv4 pools on other nodes cannot be reached from it',
    );
    expect(() => desiredState(settings, [node(1, { bgp: {} })])).toThrow(
      expect.objectContaining({ code: 'NODE_UNKNOWN' }),
    );
  });
});

it('looks at the subnets of IPv6 where both nodes have one', () => {
  const far = node(2, { bgp: { ipv4Address: '192.0.2.2/24', ipv6Address: 'fd00:0:0:1::2/64' } });
  const { routes } = described(desiredState(settings, [node(1), far, pool('CrossSubnet')]));
  expect(routes).toContain('fd65:0:0:2::/122 vxlan6 fd00:0:0:1::2');
});

it('goes unencapsulated by the nodes’ IPv6 addresses where the pool or the subnet says so', () => {
  for (const mode of ['Never', 'CrossSubnet'] as const) {
    const { routes, kernel } = described(desiredState(settings, [node(1), node(2), pool(mode)], []));
    expect(routes).toContain('fd65:0:0:2::/122 host fd00::2');
    expect(kernel).toContain('fd65:0:0:2::/122 via fd00::2');
  }
});

it('says so when a node has no IPv6 address to go to, and answers for it', () => {
  const bgp = { ipv4Address: '192.0.2.2/24' };
  const desired = desiredState(settings, [node(1), node(2, { bgp }), pool('Never')], []);
  expect(desired.problems).toEqual([
    'fd65:0:0:2::/122 of node n2 cannot be reached: it has no spec.bgp.ipv6Address',
    'fd65:0:0:2::1/128 of node n2 cannot be reached: it has no spec.bgp.ipv6Address',
  ]);
  expect(described(desired).routes).toContain('fd65:0:0:2::/122 unreachable');
});

it('leaves nodes without IPv6 without it', () => {
  const four = (number: number) =>
    node(number, {
      bgp: { ipv4Address: `192.0.2.${number}/24` },
      ipv6VXLANTunnelAddr: undefined,
      blocks: [`10.65.${number}.0/26`],
    });
  const desired = desiredState(settings, [four(1), four(2)], []);
  expect(described(desired)).toEqual({ routes: [], kernel: [] });
  expect(desired.node.address6).toBeUndefined();
});
