/**
 * What the control socket speaks: HTTP/1.1 over a Unix socket, JSON bodies of these shapes, errors as
 * { error: { code, message } } with a 4xx or 5xx status. The agent implements AgentApi; server.ts serves it;
 * client.ts and the CLI consume it.
 */

import type { PortKind } from '../../dataplane/messages.ts';
import type { BmpStatus } from '../bgp/bmp-collector.ts';
import type { MessageView } from '../bgp/describe.ts';
import type { FamilyName } from '../bgp/family.ts';
import type { PeerStatus, SessionState } from '../bgp/status.ts';
import type { AttributesView } from '../bgp/text.ts';

export interface ApiErrorBody {
  error: { code: string; message: string };
}

export interface PeerView {
  address: string;
  type: 'node-to-node mesh' | 'node specific' | 'global';
  /** calicoctl's STATE: "up", "start", "down"... */
  state: string;
  /** Since when it is in that state: ISO 8601. */
  since: string;
  /** BGP state machine's state: Idle, Connect, Active, OpenSent, OpenConfirm, Established. */
  info: string;
  lastError: string | null;
}
export interface NodeStatusView {
  node: string;
  pid: number;
  version: string;
  startedAt: string;
  asNumber: number;
  peersV4: PeerView[];
  peersV6: PeerView[];
}
export interface PortView {
  id: number;
  name: string;
  kind: string;
  /** Namespace of the device, or null for the node's own. */
  netns: string | null;
  device: string;
  mac: string | null;
  addresses: string[];
  mtu: number;
  /** Tunnels: how packets leave, and why so. */
  way?: string;
  wayReason?: string;
  /** Pods: bits a second that may come from it and go to it; null: as many as there are. */
  limits?: { fromPod: number | null; toPod: number | null };
  /** Who reads it: a worker for each queue or receiving socket. */
  workers: number[];
  state: 'up' | 'failed';
  detail: string | null;
  counters: Record<string, number>;
}
export interface RouteView {
  prefix: string;
  nextHop: string | null;
  /** pod | host | vxlan | ipip | direct | blackhole | unreachable | prohibit | no-route */
  via: string;
  port: string | null;
  /** Who told: "workload NAME", "block", "bgp 10.0.0.3 (AS 64512)", "datastore node NAME", "static" ... */
  origin: string;
  /** Where several next hops share the route by flow (ECMP): all of them. What stands above is the first's. */
  members?: RouteMemberView[];
}
export interface RouteMemberView {
  nextHop: string;
  /** As of a route; "unusable" while its port is not there or the resources leave it out. */
  via: string;
  port: string | null;
  /** Of 128, into which flows are put by their hash. */
  buckets: number;
}
export interface LookupView {
  address: string;
  /** The route that a packet to the address takes. */
  route: RouteView;
  /** All routes that contain the address, longest prefix first. */
  candidates: RouteView[];
}
export interface DropView {
  port: string;
  reason: string;
  description: string;
  packets: number;
  /** The last of them; null where others have taken its place. */
  last: DroppedFrame | null;
}
/** A tunnel whose path takes less than the underlay's device. */
export interface PathMtuView {
  peer: string;
  /** The largest outer packet that goes through, bytes. */
  mtu: number;
  /** Who said so: a router's address, or "route" for the kernel's. */
  from: string;
  /** When it was last said, and until when it holds, ISO 8601. */
  learned: string;
  until: string;
}
export interface DroppedFrame {
  /** When, ISO 8601. */
  at: string;
  /** Its headers in words. */
  text: string;
  /** Bytes of the whole frame. */
  length: number;
  /** Its first bytes, hexadecimal. */
  bytes: string;
}
export interface WorkerView {
  index: number;
  threadId: number | null;
  /** starting: the one before died, and the next is not ready yet. */
  state: 'running' | 'starting';
  /** How many packet threads have died here. */
  deaths: number;
  ports: string[];
  bursts: number;
  frames: number;
  sleeps: number;
}
/** How a packet thread spends its time. */
export interface WorkerRuntimeView {
  index: number;
  /** Since when it runs: ISO 8601. */
  startedAt: string;
  /** How many packet threads have died in this place. */
  deaths: number;
  wakeups: number;
  bursts: number;
  /** A super-frame counts as one. */
  frames: number;
  /** Share of the last seconds spent outside epoll, 0 to 1. */
  busyShare: number;
  busySeconds: number;
  /** Each stage, from one burst in 64: how many frames were timed, and how long they took. */
  stages: { stage: string; frames: number; seconds: number }[];
  ports: number;
  /** Super-frames cut for a socket and the packets that came of them; segments joined and the super-frames made. */
  offload: { cut: number; cutInto: number; joined: number; joinedInto: number };
}
/** What a restart would find, and what this one found. */
export interface RestartView {
  /** Who holds devices and sockets while no agent runs; none also when that failed. */
  holder: 'systemd' | 'keeper' | 'none';
  /** Descriptors held. */
  held: number;
  /** Descriptors that this agent took over from the one before. */
  inherited: number;
  /** Routes of the run before that BGP has not told anew yet, and until when they are kept: ISO 8601. */
  staleRoutes: number;
  staleUntil: string | null;
}
export interface RuntimeView {
  restart: RestartView;
  workers: WorkerRuntimeView[];
}
export interface MetricsView {
  contentType: string;
  text: string;
}
/** Most packets that one request may trace. */
export const MAX_TRACE_COUNT = 10_000;

export interface TraceRequest {
  port?: string;
  /** An expression (control/filter.ts). Default: all packets. */
  filter?: string;
  /** One in so many of those that match. Default: each. */
  sample?: number;
  /** Send so many first bytes of each packet. Default: none. */
  snap?: number;
  count: number;
}
/** A packet that nobody sends. */
export interface ExplainRequest {
  /** A port's name, a pod's namespace or address, or "host". */
  from: string;
  to: string;
  /** Default: icmp, an echo request. */
  proto?: 'icmp' | 'tcp' | 'udp';
  sport?: number;
  dport?: number;
  /** Of the whole IP packet, bytes. Default: its headers. */
  size?: number;
  /** Default: 64. */
  ttl?: number;
  /** IPv4: false clears DF. */
  df?: boolean;
}
export interface ExplainView {
  /** Port that it would come by. */
  from: string;
  /** Its headers in words. */
  packet: string;
  /** Of the frame, bytes. */
  length: number;
  steps: { step: string; text: string; [key: string]: unknown }[];
  verdict: string;
}
/** One traced packet: lines ready to print and the same as data. */
export interface TraceView {
  packet: number;
  /** When it came, ISO 8601, and by which port. */
  at: string;
  port: string;
  kind: PortKind;
  /** Of the whole frame, bytes. */
  length: number;
  /** Its first bytes as received, hexadecimal, if they were asked for. */
  bytes?: string;
  /** Packets until now that were not traced, since those before them had not been taken. */
  missed: number;
  steps: { step: string; text: string; [key: string]: unknown }[];
  verdict: string;
}

/** A shape as JSON carries it: dates are ISO 8601. */
export type AsJson<T> = T extends Date
  ? string
  : T extends readonly (infer U)[]
    ? AsJson<U>[]
    : T extends object
      ? { [K in keyof T]: AsJson<T[K]> }
      : T;

export type BgpPeerView = AsJson<PeerStatus>;
export type BmpCollectorView = AsJson<BmpStatus>;

export interface BgpSummaryView {
  asn: number;
  routerId: string;
  clusterId: string;
  /** `bytes`: memory of the tables of prefixes and paths. */
  tables: { family: FamilyName; prefixes: number; paths: number; bytes: number }[];
  /** Different sets of attributes, which all these paths and what peers were told share. */
  attributeSets: number;
  /** Collectors that are told of all this by BMP (RFC 7854). */
  bmp: BmpCollectorView[];
  /** Learned routes that packets follow. */
  forwarded: number;
  /** What is not as the resources want it. */
  problems: BgpProblemView[];
}

export interface BgpProblemView {
  readonly text: string;
  /** The peer that has no session for it, by its address and the names of its resources; empty: it costs no session. */
  readonly leftOut: readonly string[];
}

export interface BgpRouteQuery {
  /** A prefix, or an address: the longest prefix that holds it. Default: all. */
  prefix?: string;
  /** Also what lies within the prefix. */
  longer?: boolean;
  /** What this peer told us, what we refused of it included. */
  in?: string;
  /** What we told this peer. */
  out?: string;
  /** Best paths only. */
  best?: boolean;
  /** Default: both. */
  family?: FamilyName;
}

export interface BgpDumpQuery {
  /** What this peer told us, what we refused of it included. Default: of all, what we did not refuse. */
  in?: string;
  /** Default: both. */
  family?: FamilyName;
}

export interface BgpRouteView {
  family: FamilyName;
  prefix: string;
  /** RFC 7911; 0: none. */
  pathId: number;
  /** Null: this node's own. */
  nextHop: string | null;
  /** Interior cost of the next hop; null where it cannot be reached, and on routes of our own. */
  cost: number | null;
  /** Who told it; null: this node itself. */
  peer: string | null;
  peerAsn: number | null;
  /** When it came: ISO 8601; null on what we sent. */
  since: string | null;
  /** Of a session that has ended and is to come back. */
  stale: boolean;
  state: 'best' | 'multipath' | 'worse' | 'excluded' | 'sent';
  /** The step by which it is best, or worse than a better path; or why it cannot be chosen. */
  reason: string;
  /** What that step compared: "3 against 1"; null where the step says it all. */
  detail: string | null;
  attributes: AttributesView;
}

export interface BgpWhyView {
  /** The prefix that was found; null: there is none. */
  prefix: string | null;
  /** What packets follow instead: the longest prefix with a best path that holds what was asked for; null: none. */
  covering: string | null;
  /** The step that decided; null: no path can be chosen. */
  decidedBy: string | null;
  /** The best first, in order, then those that cannot be chosen. */
  candidates: BgpRouteView[];
  /** Null: not asked for, or there is no such prefix. */
  told: BgpToldView | null;
}

/** What a peer is told of a prefix. */
export interface BgpToldView {
  peer: string;
  routes: BgpRouteView[];
  /** Why there are none. */
  reason: string | null;
}

export interface BgpWatchQuery {
  /** What concerns this peer alone. Default: all. */
  peer?: string;
  /** Also what becomes the best path of each prefix. */
  best?: boolean;
}

export type BgpEvent = { at: string } & (
  | { event: 'state'; peer: string; asn: number; state: SessionState; lastError: string | null }
  | ({ event: 'message'; peer: string; direction: 'in' | 'out' } & MessageView)
  /** The best path of a prefix, as it is when the event is read; null: none any more. */
  | { event: 'best'; family: FamilyName; prefix: string; route: BgpRouteView | null }
  /** So many events came faster than they were read, and are not told. */
  | { event: 'lost'; count: number }
);

/** Somebody who watches. It remembers a bounded number of events. */
export interface BgpWatch {
  /** Those since the last call. */
  events(): Iterable<BgpEvent>;
  close(): void;
}

/**
 * The BGP speaker, to look at. Everything throws BGP_OFF where there is none. A peer goes by its address in any spelling, or by the
 * name of its resource: PEER_UNKNOWN where there is none, PEER_AMBIGUOUS where there are several.
 */
export interface BgpView {
  summary(): BgpSummaryView;
  peers(): PeerStatus[];
  /**
   * In no order, each as it is when its turn comes: nothing is copied. Null: nothing found so far, the reader may
   * pause. Throws PEER_UNKNOWN and PREFIX before the first.
   */
  routes(query: BgpRouteQuery): Iterable<BgpRouteView | null>;
  /**
   * The table as an MRT file (RFC 6396), piece by piece, each route as it is when its turn comes. Null: the reader may pause.
   * Throws PEER_UNKNOWN before the first.
   */
  dump(query: BgpDumpQuery): Iterable<Uint8Array | null>;
  /** All paths of a prefix, or of the longest that holds an address. `to`: a peer. Throws PREFIX and PEER_UNKNOWN. */
  why(prefix: string, to?: string): BgpWhyView;
  /** `wake` is called when there are events, and not again before they are read. Throws PEER_UNKNOWN. */
  watch(query: BgpWatchQuery, wake: () => void): BgpWatch;
  /**
   * Ask a peer for all its routes again, and tell it ours (RFC 2918). Throws PEER_UNKNOWN, BGP_PEER_DOWN or
   * BGP_NO_REFRESH.
   */
  refresh(peer: string): void;
  /**
   * End a session and begin anew, with words for the peer's operator (RFC 9003): at most 255 bytes of UTF-8. Throws
   * PEER_UNKNOWN or BGP_TEXT.
   */
  reset(peer: string, message: string): void;
}

export interface AgentApi {
  readonly bgp: BgpView;
  nodeStatus(): NodeStatusView;
  ports(): PortView[];
  /** Those of the node itself first, in order; then those that BGP told, each as it is when its turn comes. */
  routes(): Iterable<RouteView>;
  lookup(address: string): LookupView;
  drops(): DropView[];
  pathMtus(): PathMtuView[];
  workers(): Promise<WorkerView[]>;
  runtime(): Promise<RuntimeView>;
  /** What a Prometheus server scrapes. */
  metrics(): Promise<MetricsView>;
  configShow(): unknown;
  /** Calls back for every traced packet until count is reached or the signal aborts; resolves then. */
  /** Throws PORT_UNKNOWN, FAMILY, SIZE and NOT_READY. */
  explain(request: ExplainRequest): ExplainView;
  trace(request: TraceRequest, emit: (packet: TraceView) => void, signal: AbortSignal): Promise<void>;
}
