/** A BGP speaker that says the same every time, for tests of what stands around it. */
import { NO_ATTRIBUTES } from '../bgp/attributes.ts';
import { encodePeerIndex } from '../bgp/mrt-table.ts';
import type { FamilyStatus, PeerCounters, PeerStatus } from '../bgp/status.ts';
import { type AttributesView, attributesView } from '../bgp/text.ts';
import { peerNamed } from './peer-named.ts';
import type { BgpEvent, BgpProblemView, BgpRouteView, BgpToldView, BgpView } from './types.ts';

const NO_COUNTERS: PeerCounters = {
  messagesIn: 0,
  messagesOut: 0,
  bytesIn: 0,
  bytesOut: 0,
  updatesIn: 0,
  updatesOut: 0,
  keepalivesIn: 0,
  keepalivesOut: 0,
  refreshesIn: 0,
  refreshesOut: 0,
  notificationsIn: 0,
  notificationsOut: 0,
  routesRefused: 0,
  routesFiltered: 0,
  updatesMalformed: 0,
  attributesDiscarded: 0,
  established: 0,
  flaps: 0,
};

const family = (values: Partial<FamilyStatus>): FamilyStatus => ({
  family: 'ipv4',
  received: 0,
  filtered: 0,
  stale: 0,
  sent: 0,
  endOfRibReceived: true,
  endOfRibSent: true,
  addPathReceive: false,
  addPathSend: false,
  ...values,
});

/** A node of the mesh that is up, and an uplink whose link has failed. */
export const fakePeers = (): PeerStatus[] => [
  {
    address: '192.0.2.2',
    port: 179,
    label: 'node-to-node mesh',
    resource: { kind: 'Node', name: 'node2' },
    asn: 64512,
    localAsn: 64512,
    internal: true,
    state: 'Established',
    since: new Date('2026-01-01T09:46:48Z'),
    lastError: null,
    lastErrorAt: null,
    endReason: null,
    endedAt: null,
    localAddress: '192.0.2.1',
    holdTime: 90,
    keepaliveTime: 30,
    ours: {
      asn: 64512,
      routerId: '192.0.2.1',
      holdTime: 90,
      capabilities: [
        'IPv4 unicast',
        'IPv6 unicast',
        'route refresh',
        'enhanced route refresh',
        'extended messages',
        '4-octet AS 64512',
        'graceful restart (120 s; through notifications; IPv4 unicast, IPv6 unicast)',
      ],
    },
    theirs: {
      asn: 64512,
      routerId: '192.0.2.2',
      holdTime: 180,
      capabilities: [
        'IPv4 unicast',
        'IPv6 unicast',
        'route refresh',
        '4-octet AS 64512',
        'graceful restart (120 s; helper only)',
      ],
    },
    counters: {
      ...NO_COUNTERS,
      messagesIn: 271,
      messagesOut: 269,
      bytesIn: 6133,
      bytesOut: 5241,
      updatesIn: 4,
      updatesOut: 2,
      keepalivesIn: 266,
      keepalivesOut: 266,
      established: 1,
    },
    families: [family({ received: 2, sent: 1 }), family({ family: 'ipv6', received: 1, sent: 1 })],
    queuedBytes: 0,
    bfd: 'Up, sending every 300 ms, detection 900 ms',
    restartUntil: null,
  },
  {
    address: '198.51.100.1',
    port: 179,
    label: 'global',
    resource: { kind: 'BGPPeer', name: 'uplink' },
    asn: 64501,
    localAsn: 64512,
    internal: false,
    state: 'Active',
    since: new Date('2026-01-01T11:58:20Z'),
    lastError: 'cannot connect: EHOSTUNREACH, it does not answer on its link, or a router cannot reach it',
    lastErrorAt: new Date('2026-01-01T11:59:57Z'),
    endReason: 'Cease: BFD says that the path is down (6/10): BFD: Down',
    endedAt: new Date('2026-01-01T11:58:20Z'),
    localAddress: null,
    holdTime: null,
    keepaliveTime: null,
    ours: null,
    theirs: null,
    counters: {
      ...NO_COUNTERS,
      messagesIn: 1042,
      messagesOut: 511,
      bytesIn: 88_911,
      bytesOut: 10_033,
      updatesIn: 540,
      updatesOut: 3,
      keepalivesIn: 500,
      keepalivesOut: 504,
      refreshesOut: 1,
      notificationsOut: 2,
      routesFiltered: 17,
      routesRefused: 1,
      established: 2,
      flaps: 2,
    },
    families: [family({ received: 1, filtered: 1, stale: 1, endOfRibReceived: false, endOfRibSent: false })],
    queuedBytes: 0,
    bfd: 'Down',
    restartUntil: new Date('2026-01-01T12:00:20Z'),
  },
];

const attributes = (values: Partial<AttributesView> = {}): AttributesView => ({
  ...attributesView({ ...NO_ATTRIBUTES, localPref: 100 }),
  ...values,
});

const route = (values: Partial<BgpRouteView>): BgpRouteView => ({
  family: 'ipv4',
  prefix: '10.65.1.0/26',
  pathId: 0,
  nextHop: '192.0.2.2',
  cost: 0,
  peer: '192.0.2.2',
  peerAsn: 64512,
  since: '2026-01-01T09:46:49.000Z',
  stale: false,
  state: 'best',
  reason: 'only path',
  detail: null,
  attributes: attributes(),
  ...values,
});

const uplink = { nextHop: '198.51.100.1', peer: '198.51.100.1', peerAsn: 64501 } as const;

export const fakeRoutes = (): BgpRouteView[] => [
  route({
    prefix: '203.0.113.0/24',
    reason: 'AS path length',
    attributes: attributes({ asPath: '64502', med: 20, communities: ['64512:100', 'no-export'] }),
  }),
  route({
    ...uplink,
    prefix: '203.0.113.0/24',
    since: '2025-12-29T08:00:00.000Z',
    stale: true,
    state: 'worse',
    reason: 'AS path length',
    detail: '3 against 1',
    attributes: attributes({ localPref: null, asPath: '64501 64502 {64503 64504}' }),
  }),
  route({}),
  route({
    prefix: '10.65.0.0/26',
    nextHop: null,
    cost: null,
    peer: null,
    peerAsn: null,
    since: '2026-01-01T09:46:40.000Z',
    attributes: attributes({ localPref: null }),
  }),
  route({
    ...uplink,
    prefix: '10.99.0.0/16',
    since: '2026-01-01T11:57:00.000Z',
    state: 'excluded',
    reason: 'refused by the import policy: rule 2 of BGPFilter uplinks',
    attributes: attributes({ localPref: null, asPath: '64501 64512' }),
  }),
  route({ family: 'ipv6', prefix: 'fd65:1::/122', nextHop: '2001:db8::2' }),
];

const PROBLEMS: BgpProblemView[] = [
  {
    text: 'left out: BGPPeer backup, peer 198.51.100.7: the password bgp/backup is not in bgp.secrets of the settings, so there is no session; put it there',
    leftOut: ['198.51.100.7', 'backup'],
  },
];

const known = (peer: string): string => peerNamed(fakePeers(), peer, PROBLEMS).address;

const EVENTS: BgpEvent[] = [
  {
    at: '2026-01-01T12:00:00.120Z',
    event: 'state',
    peer: '198.51.100.1',
    asn: 64501,
    state: 'Idle',
    lastError: 'the peer sent Cease: administrative shutdown (6/2): "back at noon"',
  },
  {
    at: '2026-01-01T12:00:00.122Z',
    event: 'message',
    peer: '192.0.2.2',
    direction: 'in',
    length: 57,
    type: 'UPDATE',
    withdrawn: ['10.99.0.0/16'],
    announced: [
      {
        prefixes: ['203.0.113.0/24'],
        nextHop: '192.0.2.2',
        attributes: attributes({ asPath: '64502', med: 20 }),
      },
    ],
    endOfRib: null,
    fault: null,
    discarded: [],
    unlisted: 0,
  },
  {
    at: '2026-01-01T12:00:00.125Z',
    event: 'best',
    family: 'ipv4',
    prefix: '203.0.113.0/24',
    route: route({ prefix: '203.0.113.0/24', attributes: attributes({ asPath: '64502', med: 20 }) }),
  },
  { at: '2026-01-01T12:00:00.125Z', event: 'best', family: 'ipv4', prefix: '10.99.0.0/16', route: null },
  {
    at: '2026-01-01T12:00:00.300Z',
    event: 'message',
    peer: '192.0.2.2',
    direction: 'out',
    length: 19,
    type: 'KEEPALIVE',
  },
  { at: '2026-01-01T12:00:01.000Z', event: 'lost', count: 2045 },
];

function toldTo(peer: string, prefix: string): BgpToldView {
  if (prefix === '203.0.113.0/24') return { peer, routes: [], reason: 'it has the community no-export' };
  const sent = { nextHop: '192.0.2.1', cost: null, since: null, state: 'sent', reason: '' } as const;
  const told = attributes({ asPath: '64512', localPref: null });
  return { peer, routes: [route({ ...sent, prefix, attributes: told })], reason: null };
}

/** `asked` gets what sessions were told to do. */
export const fakeBgp = (asked: string[][] = []): BgpView => ({
  summary: () => ({
    asn: 64512,
    routerId: '192.0.2.1',
    clusterId: '192.0.2.1',
    tables: [
      { family: 'ipv4', prefixes: 4, paths: 5, bytes: 1_146_880 },
      { family: 'ipv6', prefixes: 1, paths: 1, bytes: 983_040 },
    ],
    attributeSets: 5,
    bmp: [
      {
        address: '192.0.2.100',
        port: 11019,
        up: true,
        since: '2025-12-31T12:00:00.000Z',
        lastError: null,
        queuedBytes: 1024,
        sessions: 2,
        bytesSent: 73_400,
      },
      {
        address: '2001:db8::100',
        port: 11019,
        up: false,
        since: '2026-01-01T11:58:00.000Z',
        lastError: 'ECONNREFUSED',
        queuedBytes: 0,
        sessions: 1,
        bytesSent: 0,
      },
    ],
    forwarded: 3,
    problems: PROBLEMS,
  }),
  peers: fakePeers,
  routes: (query) => {
    const name = query.in ?? query.out;
    const peer = name === undefined ? undefined : known(name);
    return fakeRoutes().filter(
      (candidate) =>
        (query.family === undefined || candidate.family === query.family) &&
        (query.prefix === undefined || candidate.prefix === query.prefix) &&
        (query.in === undefined || candidate.peer === peer) &&
        (!query.best || candidate.state === 'best'),
    );
  },
  dump: ({ in: peer }) => {
    if (peer !== undefined) known(peer);
    const own = { id: 0, address: [0], asn: 64512 };
    return [encodePeerIndex({ collector: 0, view: '', peers: [own] }, 1_767_268_800), null];
  },
  why: (prefix, to) => {
    const candidates = fakeRoutes().filter((candidate) => candidate.prefix === prefix);
    return {
      prefix: candidates[0]?.prefix ?? null,
      covering: null,
      decidedBy: candidates[0]?.state === 'best' ? candidates[0].reason : null,
      candidates,
      told: to === undefined || candidates.length === 0 ? null : toldTo(known(to), prefix),
    };
  },
  watch: ({ peer: name, best }, wake) => {
    const peer = name === undefined ? undefined : known(name);
    let left = EVENTS.filter(
      (event) => (best || event.event !== 'best') && (!peer || ('peer' in event && event.peer === peer)),
    );
    setImmediate(wake);
    return {
      events: () => {
        const events = left;
        left = [];
        return events;
      },
      close: () => {},
    };
  },
  refresh: (peer) => {
    asked.push(['refresh', known(peer)]);
  },
  reset: (peer, message) => {
    asked.push(['reset', known(peer), message]);
  },
});
