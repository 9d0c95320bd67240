/**
 * The agent in Prometheus' text format. Names are stable: docs/METRICS.md lists them, and a test compares.
 *
 * The workers count in shared memory and nobody keeps a second account: each scrape fills a registry of its own.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Counter, Gauge, Registry } from 'prom-client';
import type { SessionReport, Statistics } from '../bfd/protocol.ts';
import type { FamilyName } from '../bgp/family.ts';
import type { FamilyStatus, PeerCounters, PeerStatus, SessionState } from '../bgp/status.ts';
import { TortieError } from '../error.ts';
import { closeServer, HTTP_LIMITS } from './http.ts';
import type {
  AgentApi,
  BgpSummaryView,
  BmpCollectorView,
  DropView,
  MetricsView,
  NodeStatusView,
  PortView,
  RuntimeView,
} from './types.ts';

/** What a scrape tells of. */
export interface MetricsSource {
  readonly status: NodeStatusView;
  readonly ports: readonly PortView[];
  readonly drops: readonly DropView[];
  readonly runtime: RuntimeView;
  readonly routes: number;
  /** Tunnels whose path takes less than the device, and messages that said so. */
  readonly paths: { readonly limited: number; readonly messages: number };
  readonly problems: number;
  /** Nodes of the cluster, and blocks of this node. */
  readonly hosts: number;
  readonly blocks: number;
  /** Whether the store is in reach and what it says is in the tables. */
  readonly inSync: boolean;
  /** Null: this agent speaks no BGP. */
  readonly bgp: (BgpSummaryView & { readonly peers: readonly PeerStatus[] }) | null;
  /** `statistics` null: there is no BFD process. */
  readonly bfd: { readonly sessions: readonly SessionReport[]; readonly statistics: Statistics | null };
}

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly labels: readonly string[];
  /** Values with their labels, in the order of `labels`. */
  readonly samples: (source: MetricsSource) => [number, ...string[]][];
}

const family = (
  name: string,
  type: Family['type'],
  labels: readonly string[],
  help: string,
  samples: Family['samples'],
): Family => ({ name: `tortie_${name}`, help, type, labels, samples });

/** A metric that other tools know by the name that Calico gave it. */
const known = (
  name: string,
  help: string,
  value: (source: MetricsSource) => [number, ...string[]],
  ...labels: string[]
): Family => ({
  name,
  help,
  type: 'gauge',
  labels,
  samples: (source) => [value(source)],
});

/** felix_resync_state, as Felix counts it. */
const RESYNC_IN_PROGRESS = 2;
const IN_SYNC = 3;

const PORT_COUNTERS = [
  ['receive_frames', 'rxFrames', 'Frames received from the port.'],
  ['receive_bytes', 'rxBytes', 'Bytes received from the port.'],
  ['delivered_frames', 'delivered', 'Frames received here that left by some port.'],
  [
    'consumed_frames',
    'consumed',
    'Frames received here that were answered (proxy ARP), or became part of a packet that another frame completed.',
  ],
  ['dropped_frames', 'dropped', 'Frames received here that were dropped, for any reason.'],
  ['transmit_frames', 'txFrames', 'Frames that left by the port.'],
  ['transmit_bytes', 'txBytes', 'Bytes that left by the port.'],
  ['originated_frames', 'originated', 'Frames made on account of frames received here: ICMP errors.'],
  ['originated_lost_frames', 'originatedLost', 'Of those, made but not sent.'],
  ['icmp_limited', 'icmpLimited', 'ICMP errors that were due and not made: rate limit.'],
] as const;

const perWorker =
  (value: (worker: RuntimeView['workers'][number]) => number) =>
  ({ runtime }: MetricsSource) =>
    runtime.workers.map((worker): [number, string] => [value(worker), String(worker.index)]);

const perStage =
  (value: (stage: RuntimeView['workers'][number]['stages'][number]) => number) =>
  ({ runtime }: MetricsSource) =>
    runtime.workers.flatMap(({ index, stages }) =>
      stages.map((stage): [number, string, string] => [value(stage), String(index), stage.stage]),
    );

/** A metric of each BGP peer, without our prefix: GoBGP has the same where it has one. */
const ofPeers = (
  name: string,
  type: Family['type'],
  labels: readonly string[],
  help: string,
  samples: (peer: PeerStatus) => [number, ...string[]][],
): Family => ({
  name: `bgp_${name}`,
  help,
  type,
  labels: ['peer', ...labels],
  samples: ({ bgp }) =>
    (bgp?.peers ?? []).flatMap((peer) =>
      samples(peer).map(([value, ...values]): [number, ...string[]] => [value, peer.address, ...values]),
    ),
});

const ofFamilies = (name: string, help: string, value: (family: FamilyStatus) => number): Family =>
  ofPeers(name, 'gauge', ['route_family'], help, ({ families }) =>
    families.map((family) => [value(family), ROUTE_FAMILIES[family.family]]),
  );

const ofTables = (
  name: string,
  help: string,
  value: (table: BgpSummaryView['tables'][number]) => number,
): Family => ({
  name: `bgp_${name}`,
  help,
  type: 'gauge',
  labels: ['route_family'],
  samples: ({ bgp }) => (bgp?.tables ?? []).map((table) => [value(table), ROUTE_FAMILIES[table.family]]),
});

const ofCollectors = (
  name: string,
  type: Family['type'],
  help: string,
  value: (collector: BmpCollectorView) => number,
): Family => ({
  name: `bgp_bmp_${name}`,
  help,
  type,
  labels: ['collector'],
  samples: ({ bgp }) =>
    (bgp?.bmp ?? []).map((collector) => {
      const { address, port } = collector;
      return [value(collector), address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`];
    }),
});

const ofCounter = (name: string, counter: keyof PeerCounters, help: string): Family =>
  ofPeers(name, 'counter', [], help, ({ counters }) => [[counters[counter]]]);

const ROUTE_FAMILIES: Readonly<Record<FamilyName, string>> = { ipv4: 'ipv4-unicast', ipv6: 'ipv6-unicast' };

/** bgpPeerState of RFC 4273. */
const STATE_NUMBERS: Readonly<Record<SessionState, number>> = {
  Idle: 1,
  Connect: 2,
  Active: 3,
  OpenSent: 4,
  OpenConfirm: 5,
  Established: 6,
};

const MESSAGE_TYPES = [
  ['update', 'updatesIn', 'updatesOut'],
  ['keepalive', 'keepalivesIn', 'keepalivesOut'],
  ['refresh', 'refreshesIn', 'refreshesOut'],
  ['notification', 'notificationsIn', 'notificationsOut'],
] as const;

const BGP_FAMILIES: readonly Family[] = [
  ofPeers('peer_up', 'gauge', ['asn', 'type'], '1 while the session is established, else 0.', (peer) => [
    [peer.state === 'Established' ? 1 : 0, String(peer.asn), peer.label],
  ]),
  ofPeers(
    'peer_state',
    'gauge',
    [],
    'State as RFC 4273 counts: 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established.',
    ({ state }) => [[STATE_NUMBERS[state]]],
  ),
  ofPeers(
    'peer_state_since_seconds',
    'gauge',
    [],
    'When the session came into its state, Unix time.',
    ({ since }) => [[since.getTime() / 1000]],
  ),
  ofPeers(
    'peer_established_seconds',
    'gauge',
    [],
    'How long the session is established; 0 while it is not.',
    ({ state, since }) => [[state === 'Established' ? Math.max(0, Date.now() - since.getTime()) / 1000 : 0]],
  ),
  ofPeers(
    'last_error_info',
    'gauge',
    ['error'],
    'Always 1; why the last session or attempt ended. Only peers that are not established.',
    ({ lastError }) => (lastError === null ? [] : [[1, lastError]]),
  ),
  ofFamilies('routes_received', 'Routes of the peer that may be used.', ({ received }) => received),
  ofFamilies('routes_filtered', 'Routes of the peer that are kept and not used.', ({ filtered }) => filtered),
  ofFamilies(
    'routes_stale',
    'Routes of a session that ended, kept until the peer is back.',
    ({ stale }) => stale,
  ),
  ofFamilies('routes_sent', 'Routes that the peer has of us.', ({ sent }) => sent),
  ofPeers(
    'messages_total',
    'counter',
    ['direction', 'type'],
    'Messages; type is update, keepalive, refresh, notification or open.',
    ({ counters }) =>
      (['in', 'out'] as const).flatMap((direction): [number, string, string][] => {
        const told = MESSAGE_TYPES.map(([type, ins, outs]): [number, string, string] => [
          counters[direction === 'in' ? ins : outs],
          direction,
          type,
        ]);
        const all = direction === 'in' ? counters.messagesIn : counters.messagesOut;
        const opens = all - told.reduce((sum, [count]) => sum + count, 0);
        return [...told, [Math.max(0, opens), direction, 'open']];
      }),
  ),
  ofPeers('bytes_total', 'counter', ['direction'], 'Bytes of those messages.', ({ counters }) => [
    [counters.bytesIn, 'in'],
    [counters.bytesOut, 'out'],
  ]),
  ofCounter('sessions_total', 'established', 'Sessions that were established.'),
  ofCounter('session_flaps_total', 'flaps', 'Sessions that ended.'),
  ofCounter(
    'routes_refused_total',
    'routesRefused',
    'Prefixes told that may not be used: loops and the like.',
  ),
  ofCounter('routes_filtered_total', 'routesFiltered', 'Prefixes told that the import policy refused.'),
  ofCounter(
    'updates_malformed_total',
    'updatesMalformed',
    'UPDATEs whose routes counted as withdrawn for malformed attributes (RFC 7606).',
  ),
  ofCounter(
    'attributes_discarded_total',
    'attributesDiscarded',
    'Attributes left out of UPDATEs that were used (RFC 7606).',
  ),
  ofPeers('queue_bytes', 'gauge', [], 'Bytes that wait to be sent.', ({ queuedBytes }) => [[queuedBytes]]),
  ofPeers(
    'bfd_up',
    'gauge',
    [],
    '1 while BFD says that the path to the peer is up. Only peers with BFD.',
    ({ bfd }) => (bfd === null ? [] : [[/^up\b/i.test(bfd) ? 1 : 0]]),
  ),
  ofTables('rib_prefixes', 'Prefixes that somebody announces.', ({ prefixes }) => prefixes),
  ofTables('rib_paths', 'Paths to them, those that cannot be used included.', ({ paths }) => paths),
  ofTables('rib_bytes', 'Memory of the tables of prefixes and paths.', ({ bytes }) => bytes),
  {
    name: 'bgp_attribute_sets',
    help: 'Different sets of attributes that paths, and what peers were told, share.',
    type: 'gauge',
    labels: [],
    samples: ({ bgp }) => (bgp ? [[bgp.attributeSets]] : []),
  },
  ofCollectors('up', 'gauge', '1 while the BMP collector is connected, else 0.', ({ up }) => Number(up)),
  ofCollectors('queued_bytes', 'gauge', 'Bytes that wait for the BMP collector.', (c) => c.queuedBytes),
  ofCollectors('sent_bytes_total', 'counter', 'Bytes sent to the BMP collector.', (c) => c.bytesSent),
  ofCollectors('sessions_total', 'counter', 'Connections that the BMP collector took.', (c) => c.sessions),
];

const BFD_FAMILIES: readonly Family[] = [
  family(
    'bfd_failures_total',
    'counter',
    ['peer'],
    'How often BFD took the path to the peer for broken.',
    ({ bfd }) => bfd.sessions.map(({ spec, failures }) => [failures, spec.peer]),
  ),
  family('bfd_packets_total', 'counter', ['peer', 'direction'], 'BFD packets of the session.', ({ bfd }) =>
    bfd.sessions.flatMap(({ spec, packetsIn, packetsOut }): [number, string, string][] => [
      [packetsIn, spec.peer, 'in'],
      [packetsOut, spec.peer, 'out'],
    ]),
  ),
  family(
    'bfd_discarded_packets_total',
    'counter',
    ['reason'],
    'BFD packets of no session, by the rule of RFC 5880 6.8.6; refused: from too far (RFC 5881), or no room.',
    ({ bfd }) =>
      bfd.statistics
        ? [
            ...Object.entries(bfd.statistics.discards).map(([reason, count]): [number, string] => [
              count,
              reason,
            ]),
            [bfd.statistics.refused, 'refused'],
          ]
        : [],
  ),
];

/** Every family there is, in the order of the manual. */
export const FAMILIES: readonly Family[] = [
  family(
    'build_info',
    'gauge',
    ['node', 'version', 'runtime'],
    'Always 1; labels tell node, version, and Node.',
    ({ status }) => [[1, status.node, status.version, process.version]],
  ),
  family('start_time_seconds', 'gauge', [], 'When the agent started, Unix time.', ({ status }) => [
    [Date.parse(status.startedAt) / 1000],
  ]),
  family('process_cpu_seconds_total', 'counter', [], 'CPU time of the agent, all threads.', () => {
    const { user, system } = process.cpuUsage();
    return [[(user + system) / 1e6]];
  }),
  family('process_resident_memory_bytes', 'gauge', [], 'Resident memory of the agent.', () => [
    [process.memoryUsage.rss()],
  ]),
  family(
    'problems',
    'gauge',
    [],
    'What is not as it should be: the entries of "tortie config show".',
    (source) => [[source.problems]],
  ),
  family('routes', 'gauge', [], 'Routes in the FIB.', ({ routes }) => [[routes]]),
  family(
    'path_mtu_limited',
    'gauge',
    [],
    'Tunnels whose path takes less than the underlay’s device: "tortie show path-mtu".',
    ({ paths }) => [[paths.limited]],
  ),
  family(
    'path_mtu_messages_total',
    'counter',
    [],
    'ICMP messages 3/4 about tunnel packets of this node that were believed.',
    ({ paths }) => [[paths.messages]],
  ),
  family(
    'bgp_peer_established',
    'gauge',
    ['peer', 'type'],
    '1 while the session is established, else 0.',
    ({ status }) =>
      [...status.peersV4, ...status.peersV6].map(({ address, type, info }) => [
        info === 'Established' ? 1 : 0,
        address,
        type,
      ]),
  ),
  ...BGP_FAMILIES,
  ...BFD_FAMILIES,
  known('felix_active_local_endpoints', 'Pods of this node whose port is up.', ({ ports }) => [
    ports.filter(({ kind, state }) => kind === 'pod' && state === 'up').length,
  ]),
  known('felix_cluster_num_hosts', 'Nodes of the cluster.', ({ hosts }) => [hosts]),
  known('felix_route_table_num_routes', 'Routes in the FIB, as tortie_routes.', ({ routes }) => [routes]),
  known(
    'felix_resync_state',
    '3 while what the datastore says is in the tables, 2 while it is out of reach.',
    ({ inSync }) => [inSync ? IN_SYNC : RESYNC_IN_PROGRESS],
  ),
  known('ipam_blocks', 'Blocks of this node.', ({ blocks, status }) => [blocks, status.node], 'node'),
  family('port_up', 'gauge', ['port', 'kind'], '1 while the port is as it should be, else 0.', ({ ports }) =>
    ports.map(({ name, kind, state }) => [state === 'up' ? 1 : 0, name, kind]),
  ),
  ...PORT_COUNTERS.map(([name, counter, help]) =>
    family(`port_${name}_total`, 'counter', ['port', 'kind'], help, ({ ports }) =>
      ports.map(({ name: port, kind, counters }) => [counters[counter] ?? 0, port, kind]),
    ),
  ),
  family(
    'port_drops_total',
    'counter',
    ['port', 'reason'],
    'Frames received here that were dropped, by reason; only reasons that occurred.',
    ({ drops }) => drops.map(({ port, reason, packets }) => [packets, port, reason]),
  ),
  family(
    'descriptors_held',
    'gauge',
    ['holder'],
    'Descriptors held for the next agent, by keeper or systemd.',
    ({ runtime }) => [[runtime.restart.held, runtime.restart.holder]],
  ),
  family(
    'stale_routes',
    'gauge',
    [],
    'Routes of the run before that BGP has not told anew.',
    ({ runtime }) => [[runtime.restart.staleRoutes]],
  ),
  family(
    'worker_ports',
    'gauge',
    ['worker'],
    'Ports that the worker receives from.',
    perWorker((w) => w.ports),
  ),
  family(
    'worker_deaths_total',
    'counter',
    ['worker'],
    'Packet threads that died in this place and were replaced.',
    perWorker((w) => w.deaths),
  ),
  family(
    'worker_wakeups_total',
    'counter',
    ['worker'],
    'Times that the worker woke, or found work at once.',
    perWorker((w) => w.wakeups),
  ),
  family(
    'worker_bursts_total',
    'counter',
    ['worker'],
    'Bursts received.',
    perWorker((w) => w.bursts),
  ),
  family(
    'worker_frames_total',
    'counter',
    ['worker'],
    'Frames in those bursts; a super-frame is one.',
    perWorker((w) => w.frames),
  ),
  family(
    'worker_busy_seconds_total',
    'counter',
    ['worker'],
    'Time that the worker was awake; its rate is its busy share.',
    perWorker((w) => w.busySeconds),
  ),
  family(
    'worker_sampled_frames_total',
    'counter',
    ['worker', 'stage'],
    'Frames in the bursts that were timed: one in 64.',
    perStage((s) => s.frames),
  ),
  family(
    'worker_sampled_seconds_total',
    'counter',
    ['worker', 'stage'],
    'Time that those took in the stage (receive, pipeline, transmit).',
    perStage((s) => s.seconds),
  ),
  family(
    'worker_cut_frames_total',
    'counter',
    ['worker'],
    'Super-frames that were cut into packets for a socket.',
    perWorker((w) => w.offload.cut),
  ),
  family(
    'worker_cut_packets_total',
    'counter',
    ['worker'],
    'Packets that came of them.',
    perWorker((w) => w.offload.cutInto),
  ),
  family(
    'worker_joined_segments_total',
    'counter',
    ['worker'],
    'Received segments that were joined for a device.',
    perWorker((w) => w.offload.joined),
  ),
  family(
    'worker_joined_frames_total',
    'counter',
    ['worker'],
    'Super-frames that came of them.',
    perWorker((w) => w.offload.joinedInto),
  ),
];

export async function renderMetrics(source: MetricsSource): Promise<MetricsView> {
  const registry = new Registry();
  for (const { name, help, type, labels, samples } of FAMILIES) {
    const options = { name, help, labelNames: [...labels], registers: [registry] };
    const named = (values: readonly string[]) =>
      Object.fromEntries(labels.map((label, index) => [label, values[index]!]));
    if (type === 'counter') {
      const counter = new Counter(options);
      for (const [value, ...values] of samples(source)) counter.inc(named(values), value);
    } else {
      const gauge = new Gauge(options);
      for (const [value, ...values] of samples(source)) gauge.set(named(values), value);
    }
  }
  return { contentType: registry.contentType, text: await registry.metrics() };
}

export interface MetricsServer {
  /** The port that it listens on. */
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serve GET /metrics, and nothing else, over TCP. Nobody is asked who he is: by default only this machine can
 * connect. Throws METRICS_ADDRESS if it cannot be bound.
 */
export async function serveMetrics(
  { address, port }: { readonly address: string; readonly port: number },
  api: Pick<AgentApi, 'metrics'>,
  onError: (error: unknown) => void = () => {},
): Promise<MetricsServer> {
  const server = createServer(HTTP_LIMITS, (request, response) => {
    answer(api, request, response).catch((error) => {
      onError(error);
      response.writeHead(500).end('the agent failed; look at its log\n');
    });
  });
  server.maxConnections = HTTP_LIMITS.maxConnections;
  await new Promise<void>((resolve, reject) => {
    server.once('error', ({ message }) => {
      const advice = 'set metrics.address and metrics.port to what is free here';
      reject(new TortieError('METRICS_ADDRESS', `cannot serve metrics: ${message}; ${advice}`));
    });
    server.listen(port, address, resolve);
  });
  server.on('error', onError);
  const bound = server.address();
  return {
    port: bound !== null && typeof bound === 'object' ? bound.port : port,
    close: () => closeServer(server),
  };
}

async function answer(
  api: Pick<AgentApi, 'metrics'>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'GET') {
    response.writeHead(405, { connection: 'close' }).end('only GET is served\n');
  } else if (new URL(request.url ?? '/', 'http://tortie').pathname !== '/metrics') {
    response.writeHead(404).end('only /metrics is served here\n');
  } else {
    await answerMetrics(api, response);
  }
}

export async function answerMetrics(api: Pick<AgentApi, 'metrics'>, response: ServerResponse): Promise<void> {
  const { contentType, text } = await api.metrics();
  response.writeHead(200, { 'content-type': contentType }).end(text);
}
