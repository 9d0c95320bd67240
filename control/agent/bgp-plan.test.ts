import { describe, expect, it } from 'vitest';
import { parsePrefix } from '../bgp/family.ts';
import { attributesOf, sourceOf } from '../bgp/test-routes.ts';
import { type Kind, type Resource, SCHEMAS } from '../resources/schema.ts';
import { bgpPlan } from './bgp-plan.ts';

const make = (kind: Kind, name: string, spec: object): Resource =>
  SCHEMAS[kind].parse({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec });
const node = (name: string, address: string, asNumber?: number) =>
  make('Node', name, { bgp: { ipv4Address: `${address}/24`, ...(asNumber && { asNumber }) } });
const nodes = [node('n1', '192.0.2.1'), node('n2', '192.0.2.2'), node('n3', '192.0.2.3', 65003)];
const meshOff = make('BGPConfiguration', 'default', { nodeToNodeMeshEnabled: false, asNumber: 64600 });
const planOf = (nodeName: string, resources: readonly Resource[], originate: readonly string[] = []) =>
  bgpPlan({
    nodeName,
    resources,
    originate,
    secret: (name, key) => (name === 'bgp' ? `secret of ${key}` : null),
  });
const peers = (resources: Resource[], name = 'n1') =>
  planOf(name, resources).peers.map(({ address, port, asn, label }) => `${address}:${port} ${asn} ${label}`);
const peer = (resources: Resource[], address: string, name = 'n1') =>
  planOf(name, resources).peers.find((candidate) => candidate.address === address);

describe('peers', () => {
  it('are all other nodes by default', () => {
    expect(planOf('n1', nodes)).toMatchObject({ asn: 64512, listenPort: 179 });
    expect(peers(nodes)).toEqual([
      '192.0.2.2:179 64512 node-to-node mesh',
      '192.0.2.3:179 65003 node-to-node mesh',
    ]);
  });

  it('are none without mesh and BGPPeers', () => {
    expect(peers([...nodes, meshOff])).toEqual([]);
    expect(planOf('n1', [...nodes, meshOff]).asn).toBe(64600);
    expect(planOf('n3', [...nodes, meshOff]).asn).toBe(65003);
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

  it('have the name of their Node, else that of the BGPPeer', () => {
    const resources = [
      ...nodes,
      make('BGPPeer', 'mine', { node: 'n1', peerIP: '192.0.2.2', asNumber: 65002 }),
      make('BGPPeer', 'tor', { peerIP: '192.0.2.9', asNumber: 65001 }),
      make('BGPPeer', 'rr', { nodeSelector: 'all()', peerSelector: 'all()' }),
    ];
    const names = (of: readonly Resource[]) =>
      planOf('n1', of).peers.map(({ address, resource }) => `${address} ${resource?.kind} ${resource?.name}`);
    const expected = ['192.0.2.2 Node n2', '192.0.2.3 Node n3', '192.0.2.9 BGPPeer tor'];
    expect(names(resources)).toEqual(expected);
    expect(names(resources.slice(0, -1))).toEqual(expected);
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
    planOf(name, resources).peers.find((peer) => peer.address === address)?.bfd;
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
  expect(planOf('n1', resources).listenPort).toBe(1790);
  expect(peers(resources)[0]).toContain('192.0.2.2:1790');
});

describe('sessions', () => {
  const tor = (spec: object) => [
    ...nodes,
    make('BGPPeer', 'tor', { peerIP: '192.0.2.9', asNumber: 65001, ...spec }),
  ];

  it('are what a BGPPeer says', () => {
    const spec = {
      localASNumber: 65100,
      nextHopMode: 'Keep',
      password: { secretKeyRef: { name: 'bgp', key: 'tor' } },
      sourceAddress: 'None',
      maxRestartTime: '2m',
      keepaliveTime: '7s',
      numAllowedLocalASNumbers: 2,
      ttlSecurity: 1,
      session: {
        families: ['IPv4', 'IPv6'],
        passive: true,
        holdTime: '30s',
        addPath: { receive: true, send: 4 },
        maxPrefixes: 1000,
        maxPrefixesRestart: '1m',
        longLivedTime: '1h',
        role: 'customer',
        strictRole: true,
        keepFiltered: true,
        gracefulShutdown: true,
      },
    };
    expect(peer(tor(spec), '192.0.2.9')).toMatchObject({
      localAsn: 65100,
      nextHop: 'keep',
      password: 'secret of tor',
      localAddress: null,
      restartTime: 120,
      keepaliveTime: 7,
      allowOwnAs: 2,
      ttlSecurity: 1,
      families: ['ipv4', 'ipv6'],
      passive: true,
      holdTime: 30,
      addPath: { receive: true, send: 4 },
      maxPrefixes: 1000,
      maxPrefixesRestart: 60,
      longLivedTime: 3600,
      role: 'customer',
      strictRole: true,
      keepFiltered: true,
      gracefulShutdown: true,
    });
    const plain = peer(tor({ ttlSecurity: 0 }), '192.0.2.9')!;
    expect(Object.keys(plain).sort()).toEqual(
      ['address', 'asn', 'exportPolicy', 'importPolicy', 'label', 'nextHop', 'port', 'resource'].sort(),
    );
    expect(peer(tor({ keepOriginalNextHop: true }), '192.0.2.9')?.nextHop).toBe('keep');
  });

  it('are not without their password, and that is said', () => {
    const named = (ref: object) => tor({ password: { secretKeyRef: { key: 'tor', ...ref } } });
    const plan = planOf('n1', named({ name: 'gone' }));
    expect(plan.peers.map(({ address }) => address)).not.toContain('192.0.2.9');
    expect(plan.problems).toEqual([
      {
        text: expect.stringContaining('left out: BGPPeer tor, peer 192.0.2.9: the password gone/tor'),
        leftOut: ['192.0.2.9', 'tor'],
      },
    ]);
    const optional = planOf('n1', named({ name: 'gone', optional: true }));
    expect(optional.problems).toEqual([]);
    expect(optional.peers.map(({ address }) => address)).toContain('192.0.2.9');
  });

  it('that cannot be cost the others nothing', () => {
    const secret = (key: string) => ({ password: { secretKeyRef: { name: 'bgp', key } } });
    const plan = planOf('n1', [
      ...tor(secret('x'.repeat(80))),
      make('BGPPeer', 'reserved', { peerIP: '192.0.2.10', asNumber: 23456 }),
    ]);
    expect(plan.problems).toEqual([
      {
        text: expect.stringContaining('left out: BGPPeer tor, peer 192.0.2.9: a password has 1 to 80 bytes'),
        leftOut: ['192.0.2.9', 'tor'],
      },
      {
        text: 'left out: BGPPeer reserved, peer 192.0.2.10: AS number 23456',
        leftOut: ['192.0.2.10', 'reserved'],
      },
    ]);
    expect(plan.peers).toHaveLength(2);
  });

  it('are left out by what counts for their address alone', () => {
    const password = { secretKeyRef: { name: 'gone', key: 'mesh' } };
    const secured = make('BGPConfiguration', 'default', { nodeMeshPassword: password });
    const mesh = [...nodes, secured];
    const leftOut = (resources: readonly Resource[]) =>
      planOf('n1', resources).problems.map((problem) => problem.leftOut);
    expect(leftOut(mesh)).toEqual([
      ['192.0.2.2', 'n2'],
      ['192.0.2.3', 'n3'],
    ]);
    const open = make('BGPPeer', 'open', { node: 'n1', peerIP: '192.0.2.2', asNumber: 64512 });
    expect(leftOut([...mesh, open])).toEqual([['192.0.2.3', 'n3']]);
    const all = make('BGPPeer', 'all', { nodeSelector: 'all()', peerSelector: 'all()', password });
    expect(leftOut([...mesh, open, all]).sort()).toEqual([
      ['192.0.2.2', 'n2', 'all'],
      ['192.0.2.3', 'n3', 'all'],
    ]);
  });

  it('that carry IPv6 over IPv4 have a next hop for it', () => {
    const six = { session: { families: ['IPv4', 'IPv6'] } };
    const plan = planOf('n1', tor(six));
    expect(plan.problems).toEqual([
      { text: expect.stringContaining('own routes of IPv6 are not sent to 192.0.2.9'), leftOut: [] },
    ]);
    const self = make('Node', 'n1', { bgp: { ipv4Address: '192.0.2.1/24', ipv6Address: '2001:db8::1/64' } });
    const peers = planOf('n1', [self, ...tor(six).slice(1)]).peers;
    expect(peers.find(({ address }) => address === '192.0.2.9')?.nextHop6).toBe('2001:db8::1');
  });

  it('of the mesh have its password and restart time', () => {
    const secured = make('BGPConfiguration', 'default', {
      nodeMeshPassword: { secretKeyRef: { name: 'bgp', key: 'mesh' } },
      nodeMeshMaxRestartTime: '5m',
    });
    expect(peer([...nodes, secured], '192.0.2.2')).toMatchObject({
      password: 'secret of mesh',
      restartTime: 300,
    });
    expect(peer([...tor({}), secured], '192.0.2.9')?.password).toBeUndefined();
  });

  it('run over both families between nodes that have both', () => {
    const dual = (name: string, address: string, ipv6Address?: string) =>
      make('Node', name, { bgp: { ipv4Address: `${address}/24`, ...(ipv6Address && { ipv6Address }) } });
    const six = [
      dual('n1', '192.0.2.1', '2001:DB8:0::1/64'),
      dual('n2', '192.0.2.2', '2001:db8::2/64'),
      dual('n3', '192.0.2.3'),
      make('BGPPeer', 'six', { peerIP: '[2001:DB8::0:9]:1179', asNumber: 65001 }),
    ];
    expect(planOf('n1', six).addresses).toEqual(['192.0.2.1', '2001:db8::1']);
    expect(peers(six)).toEqual([
      '192.0.2.2:179 64512 node-to-node mesh',
      '2001:db8::2:179 64512 node-to-node mesh',
      '192.0.2.3:179 64512 node-to-node mesh',
      '2001:db8::9:1179 65001 global',
    ]);
    expect(peers(six, 'n3').filter((text) => text.includes('mesh'))).toEqual([
      '192.0.2.1:179 64512 node-to-node mesh',
      '192.0.2.2:179 64512 node-to-node mesh',
    ]);
  });

  it('of a reflector have those as clients that are not of its cluster', () => {
    const reflector = (name: string, address: string, routeReflectorClusterID: string) =>
      make('Node', name, { bgp: { ipv4Address: `${address}/24`, routeReflectorClusterID } });
    const all = [
      reflector('r1', '192.0.2.8', '1.0.0.1'),
      reflector('r2', '192.0.2.9', '1.0.0.1'),
      node('n1', '192.0.2.1'),
      make('BGPPeer', 'all', { peerSelector: 'all()' }),
      make('BGPPeer', 'outer', { peerIP: '192.0.2.77', asNumber: 64512 }),
      make('BGPPeer', 'tor', { peerIP: '192.0.2.99', asNumber: 65001 }),
    ];
    const clients = planOf('r1', all).peers.filter(({ reflectorClient }) => reflectorClient);
    expect(clients.map(({ address }) => address)).toEqual(['192.0.2.1', '192.0.2.77']);
    expect(planOf('r1', all).clusterId).toBe('1.0.0.1');
    expect(planOf('n1', all)).toMatchObject({ clusterId: null });
    expect(planOf('n1', all).peers.some(({ reflectorClient }) => reflectorClient)).toBe(false);
  });

  it('let nothing pass whose filter does not exist, and say so', () => {
    const plan = planOf('n1', tor({ filters: ['gone'] }));
    expect(plan.problems).toEqual([
      {
        text: expect.stringContaining('BGPPeer tor names BGPFilter gone, which does not exist'),
        leftOut: [],
      },
    ]);
    // Once, to however many peers that BGPPeer leads.
    const all = make('BGPPeer', 'all', { nodeSelector: 'all()', peerSelector: 'all()', filters: ['gone'] });
    expect(planOf('n1', [...nodes, all]).problems).toHaveLength(1);
    const { importPolicy, exportPolicy } = plan.peers.find(({ address }) => address === '192.0.2.9')!;
    for (const policy of [importPolicy!, exportPolicy!]) {
      const verdict = policy.evaluate({
        prefix: parsePrefix('10.65.0.0/26'),
        attributes: attributesOf('192.0.2.9'),
        source: sourceOf(1),
      });
      expect(verdict).toMatchObject({ accept: false, reason: 'BGPFilter gone does not exist' });
    }
  });
});

it('announces what is the node’s and the services’, with priority and communities', () => {
  const configuration = make('BGPConfiguration', 'default', {
    serviceClusterIPs: [{ cidr: '10.96.0.0/12' }],
    serviceLoadBalancerIPs: [{ cidr: 'fd96::/112' }],
    communities: [
      { name: 'pods', value: '64512:100' },
      { name: 'wide', value: '64512:1:2' },
    ],
    prefixAdvertisements: [
      { cidr: '10.65.0.0/16', communities: ['pods', '65000:7', 'gone'] },
      { cidr: 'fd96::/112', communities: ['wide'] },
    ],
    ipv6NormalRoutePriority: 500,
  });
  const plan = planOf('n1', [...nodes, configuration], ['10.65.0.0/26', 'fd65::/122']);
  expect(plan.originate).toEqual([
    {
      prefix: '10.65.0.0/26',
      localPref: 2147482623,
      communities: [64512 * 65536 + 100, 65000 * 65536 + 7],
    },
    { prefix: 'fd65::/122', localPref: 2147483147 },
    { prefix: '10.96.0.0/12', localPref: 2147482623 },
    { prefix: 'fd96::/112', localPref: 2147483147, largeCommunities: [64512, 1, 2] },
  ]);
  expect(plan.problems).toEqual([{ text: expect.stringContaining('the community "gone"'), leftOut: [] }]);
});

it('listens on all addresses where bindMode is None', () => {
  expect(planOf('n1', nodes)).toMatchObject({ bindAll: false, addresses: ['192.0.2.1'] });
  expect(planOf('n1', [...nodes, make('BGPConfiguration', 'default', { bindMode: 'None' })]).bindAll).toBe(
    true,
  );
});

it.each<[Kind, object]>([
  ['BGPPeer', { peerIP: '192.0.2.9', maxRestartTime: '2h' }],
  ['BGPPeer', { peerIP: '192.0.2.9', keepaliveTime: '400ms' }],
  ['BGPPeer', { peerIP: '192.0.2.9', session: { holdTime: '2s' } }],
  ['BGPPeer', { peerIP: '192.0.2.9', session: { strictRole: true } }],
  ['BGPConfiguration', { nodeMeshMaxRestartTime: '2h' }],
  ['BGPConfiguration', { communities: [{ name: 'a', value: '70000:5' }] }],
  ['BGPConfiguration', { communities: [{ name: 'a', value: '9999999999:1:2' }] }],
  ...['foo:bar', '65000:', '1:2:3:4', '::'].map((text): [Kind, object] => [
    'BGPConfiguration',
    { prefixAdvertisements: [{ cidr: '10.65.0.0/16', communities: [text] }] },
  ]),
  ['BGPFilter', { importV4: [{ action: 'Reject', asPathPrefix: [] }] }],
  [
    'BGPFilter',
    {
      importV4: [
        { action: 'Reject', cidr: '10.65.0.0/16', matchOperator: 'In', prefixLength: { min: 26, max: 24 } },
      ],
    },
  ],
])('does not take for a %s what cannot be: %j', (kind, spec) => {
  expect(() => make(kind, 'x', spec)).toThrow();
});
