import { expect, it } from 'vitest';
import * as adj from '../dataplane/fib/adjacency.ts';
import { formatAddress4, formatAddress6, formatPrefix6 } from './address.ts';
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
    const hop = adjacency.nextHop === 0 ? '' : ` ${formatAddress4(adjacency.nextHop)}`;
    return `${prefix} ${adj.KIND_NAMES[adjacency.kind]}${hop}`;
  });
  const kernel = [...six.kernelRoutes.values()].map(
    ({ to, via }) => `${formatPrefix6(to)}${via ? ` via ${formatAddress6(via)}` : ''}`,
  );
  return { routes, kernel };
}

it('routes pods, own blocks, and other nodes’ blocks by VXLAN', () => {
  const desired = desiredState(settings, [node(1), node(2), pool('Always'), pod], []);
  expect(desired.problems).toEqual([]);
  expect(described(desired)).toEqual({
    routes: [
      'fd00::1/128 host',
      'fd65:0:0:1::1/128 host',
      'fd65:0:0:1::2/128 pod',
      'fd65:0:0:2::9/128 pod',
      'fd65:0:0:1::/122 blackhole',
      'fd65:0:0:2::/122 vxlan 192.0.2.2',
      'fd65:0:0:2::1/128 vxlan 192.0.2.2',
      '::/0 host',
    ],
    // The second address is borrowed from the other node's block.
    kernel: ['fd65:0:0:2::9/128', 'fd65:0:0:1::/122', 'fd65:0:0:2::/122', 'fd65:0:0:2::1/128'],
  });
  expect(formatAddress6(desired.node.address6!)).toBe('fd65:0:0:1::1');
  const port = desired.ports.find(({ name }) => name === 'cali1')!;
  expect(port.addresses6.map((words) => formatAddress6(words))).toEqual(['fd65:0:0:1::2', 'fd65:0:0:2::9']);
  expect(port.sources6).toHaveLength(3 * 8);
  expect(port.mtu).toBe(1450);
  expect(desired.ports.map(({ name }) => name)).toContain('vxlan');
});

it('goes unencapsulated by the nodes’ IPv6 addresses where the pool or the subnet says so', () => {
  for (const mode of ['Never', 'CrossSubnet'] as const) {
    const { routes, kernel } = described(desiredState(settings, [node(1), node(2), pool(mode)], []));
    expect(routes).toContain('fd65:0:0:2::/122 host 192.0.2.2');
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
