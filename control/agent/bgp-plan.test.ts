import { describe, expect, it } from 'vitest';
import { formatAddress4 } from '../address.ts';
import { type Kind, type Resource, SCHEMAS } from '../resources/schema.ts';
import { bgpPlan } from './bgp-plan.ts';

const make = (kind: Kind, name: string, spec: object): Resource =>
  SCHEMAS[kind].parse({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec });
const node = (name: string, address: string, asNumber?: number) =>
  make('Node', name, { bgp: { ipv4Address: `${address}/24`, ...(asNumber && { asNumber }) } });
const nodes = [node('n1', '192.0.2.1'), node('n2', '192.0.2.2'), node('n3', '192.0.2.3', 65003)];
const meshOff = make('BGPConfiguration', 'default', { nodeToNodeMeshEnabled: false, asNumber: 64600 });
const peers = (resources: Resource[], name = 'n1') =>
  bgpPlan(name, resources).peers.map(
    ({ address, port, asn, type }) => `${formatAddress4(address)}:${port} ${asn} ${type}`,
  );

describe('peers', () => {
  it('are all other nodes by default', () => {
    expect(bgpPlan('n1', nodes)).toMatchObject({ asn: 64512, listenPort: 179 });
    expect(peers(nodes)).toEqual([
      '192.0.2.2:179 64512 node-to-node mesh',
      '192.0.2.3:179 65003 node-to-node mesh',
    ]);
  });

  it('are none without mesh and BGPPeers', () => {
    expect(peers([...nodes, meshOff])).toEqual([]);
    expect(bgpPlan('n1', [...nodes, meshOff]).asn).toBe(64600);
    expect(bgpPlan('n3', [...nodes, meshOff]).asn).toBe(65003);
  });

  it('are reflectors for every node, and those for this one', () => {
    const resources = [
      ...nodes,
      meshOff,
      make('BGPPeer', 'rr', { peerIP: '192.0.2.9', asNumber: 64512 }),
      make('BGPPeer', 'tor', { node: 'n1', peerIP: '192.0.2.10:1179', asNumber: 65010 }),
      make('BGPPeer', 'other', { node: 'n2', peerIP: '192.0.2.11', asNumber: 65011 }),
    ];
    expect(peers(resources)).toEqual(['192.0.2.9:179 64512 global', '192.0.2.10:1179 65010 node specific']);
    expect(peers(resources, 'n2')[1]).toBe('192.0.2.11:179 65011 node specific');
  });

  it('are one an address, the most specific, and never the node itself', () => {
    const resources = [
      ...nodes,
      make('BGPPeer', 'mine', { node: 'n1', peerIP: '192.0.2.2', asNumber: 65002 }),
      make('BGPPeer', 'all', { peerIP: '192.0.2.2', asNumber: 65001 }),
      make('BGPPeer', 'self', { peerIP: '192.0.2.1', asNumber: 64512 }),
    ];
    expect(peers(resources)[0]).toBe('192.0.2.2:179 65002 node specific');
    expect(peers(resources)).toHaveLength(2);
  });
});

it('watches the peers that are to be watched, at both ends', () => {
  const resources = [
    ...nodes,
    meshOff,
    make('BGPPeer', 'tor', { peerIP: '192.0.2.9', asNumber: 65001, bfd: {} }),
    make('BGPPeer', 'far', { peerIP: '192.0.2.8', asNumber: 65001 }),
    make('BGPPeer', 'rack', {
      node: 'n1',
      peerSelector: 'all()',
      bfd: { minimumSendInterval: '100ms', minimumRecvInterval: '1.5s', multiplier: 5, multihop: true },
    }),
  ];
  const bfd = (name: string, address: string) =>
    bgpPlan(name, resources).peers.find((peer) => formatAddress4(peer.address) === address)?.bfd;
  expect(bfd('n1', '192.0.2.9')).toEqual({ minTxMs: 300, minRxMs: 300, multiplier: 3, multihop: false });
  expect(bfd('n1', '192.0.2.8')).toBeUndefined();
  const fast = { minTxMs: 100, minRxMs: 1500, multiplier: 5, multihop: true };
  expect(bfd('n1', '192.0.2.2')).toEqual(fast);
  expect(bfd('n2', '192.0.2.1')).toEqual(fast);
  for (const interval of ['9ms', '61s', '300']) {
    expect(() =>
      make('BGPPeer', 'x', { peerIP: '192.0.2.9', bfd: { minimumSendInterval: interval } }),
    ).toThrow();
  }
});

describe('selectors', () => {
  const labelled = (name: string, address: string, labels: Record<string, string>, bgp: object = {}) =>
    SCHEMAS.Node.parse({
      apiVersion: 'projectcalico.org/v3',
      kind: 'Node',
      metadata: { name, labels },
      spec: { bgp: { ipv4Address: `${address}/24`, ...bgp } },
    });
  const rack = [
    labelled('n1', '192.0.2.1', { rack: 'a' }),
    labelled('n2', '192.0.2.2', { rack: 'b' }),
    labelled('r1', '192.0.2.8', { reflector: '' }, { routeReflectorClusterID: '1.0.0.1' }),
    labelled(
      'r2',
      '192.0.2.9',
      { reflector: '', rack: 'a' },
      { routeReflectorClusterID: '1.0.0.1', asNumber: 64513 },
    ),
  ];

  it('leave reflectors out of the mesh', () => {
    expect(peers(rack)).toEqual(['192.0.2.2:179 64512 node-to-node mesh']);
    expect(peers(rack, 'r1')).toEqual([]);
  });

  it('choose the nodes that peer with an address', () => {
    const tor = make('BGPPeer', 'tor', {
      nodeSelector: "rack == 'a'",
      peerIP: '192.0.2.100',
      asNumber: 65010,
    });
    expect(peers([...rack, meshOff, tor])).toEqual(['192.0.2.100:179 65010 node specific']);
    expect(peers([...rack, meshOff, tor], 'n2')).toEqual([]);
  });

  it('choose the nodes to peer with, and these peer back unless told not to', () => {
    const spec = { nodeSelector: '!has(reflector)', peerSelector: 'has(reflector)' };
    const toReflectors = make('BGPPeer', 'rr', spec);
    const all = [...rack, meshOff, toReflectors];
    const reflectors = ['192.0.2.8:179 64600 node specific', '192.0.2.9:179 64513 node specific'];
    expect(peers(all)).toEqual(reflectors);
    expect(peers(all, 'r1')).toEqual([
      '192.0.2.1:179 64600 node specific',
      '192.0.2.2:179 64600 node specific',
    ]);
    const oneWay = [...rack, meshOff, make('BGPPeer', 'rr', { ...spec, reversePeering: 'Manual' })];
    expect(peers(oneWay)).toEqual(reflectors);
    expect(peers(oneWay, 'r1')).toEqual([]);
  });

  it('let reflectors mesh among themselves', () => {
    const among = make('BGPPeer', 'rrs', { nodeSelector: 'has(reflector)', peerSelector: 'has(reflector)' });
    expect(peers([...rack, meshOff, among], 'r1')).toEqual(['192.0.2.9:179 64513 node specific']);
    expect(peers([...rack, meshOff, among])).toEqual([]);
  });

  it('need a node to choose from', () => {
    expect(peers([make('BGPPeer', 'rr', { peerIP: '192.0.2.9', asNumber: 64512 })], 'none')).toEqual([]);
  });
});

it('dials a node that a BGPPeer names where nodes listen', () => {
  const port = make('BGPConfiguration', 'default', { listenPort: 1790, nodeToNodeMeshEnabled: false });
  const named = make('BGPPeer', 'n2', { peerIP: '192.0.2.2', asNumber: 64512 });
  expect(peers([...nodes, port, named])).toEqual(['192.0.2.2:1790 64512 global']);
});

it('listens where the configuration says, and the mesh dials there', () => {
  const resources = [...nodes, make('BGPConfiguration', 'default', { listenPort: 1790 })];
  expect(bgpPlan('n1', resources).listenPort).toBe(1790);
  expect(peers(resources)[0]).toContain('192.0.2.2:1790');
});
