/**
 * What the control socket speaks: HTTP/1.1 over a Unix socket, JSON bodies of these shapes, errors as
 * { error: { code, message } } with a 4xx or 5xx status. The agent implements AgentApi; server.ts serves it;
 * client.ts and the CLI consume it.
 */
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
  host?: string;
  count: number;
}
/** One traced packet: lines ready to print and the same as data. */
export interface TraceView {
  packet: number;
  steps: { step: string; text: string; [key: string]: unknown }[];
  verdict: string;
}

export interface AgentApi {
  nodeStatus(): NodeStatusView;
  ports(): PortView[];
  routes(): RouteView[];
  lookup(address: string): LookupView;
  drops(): DropView[];
  workers(): Promise<WorkerView[]>;
  runtime(): Promise<RuntimeView>;
  /** What a Prometheus server scrapes. */
  metrics(): Promise<MetricsView>;
  configShow(): unknown;
  /** Calls back for every traced packet until count is reached or the signal aborts; resolves then. */
  trace(request: TraceRequest, emit: (packet: TraceView) => void, signal: AbortSignal): Promise<void>;
}
