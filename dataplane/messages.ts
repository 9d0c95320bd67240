/**
 * The port messages: all that crosses between control and a worker besides the shared tables.
 * Control posts a WorkerCommand and signals the worker's eventfd; the worker answers with WorkerEvents.
 */
import type { SharedTables } from './memory/layout.ts';
import type { TracedPacket } from './trace.ts';

/** underlay: outer headers and all, for replay and uplinks without sockets. */
export type PortKind = 'pod' | 'host' | 'vxlan' | 'vxlan6' | 'ipip' | 'underlay';

/** What a worker must know of a port. Ids are dense indices below MAX_PORTS, never reused within a run before all workers acked the detach. */
export interface PortSpec {
  readonly id: number;
  readonly kind: PortKind;
  readonly name: string;
  /**
   * Descriptors, those that are read first: TAP queues; for vxlan [receive, ..., send, ...] (a power of two of
   * senders); for ipip [raw, ...].
   */
  readonly fds: readonly number[];
  /** For each descriptor that is read the worker that reads it, or -1. All workers may send by the port. */
  readonly readers: readonly number[];
  /** MAC of the pod / the host's side of the host TAP, for frames that we originate. */
  readonly mac: Uint8Array | null;
  /** Pod: addresses it may send from, host-order int32 pairs [prefix, mask, prefix, mask, ...]; its own /32s first. */
  readonly sources: readonly number[];
  /** The same for IPv6: eight int32 each, four of the prefix and four of its mask. */
  readonly sources6?: readonly number[];
  readonly mtu: number;
  /** TAPs: bytes of virtio's header before each frame, 0 for none. */
  readonly vnetHeader?: number;
  /** Pods: limits of their bandwidth. */
  readonly limits?: Limits;
  /** For labs: what goes wrong at this port. */
  readonly faults?: FaultSpec;
  /** Tunnels: how packets leave. */
  readonly way?: TunnelWay;
  /** With way `host`: the host's TAP. */
  readonly uplink?: UplinkSpec;
}

export interface Limit {
  /** Bytes a second. */
  readonly rate: number;
  /** Bytes that may pass at once after a rest. */
  readonly burst: number;
}

/** What a port may receive (from its device) and be sent (to its device). */
export interface Limits {
  readonly from: Limit | null;
  readonly to: Limit | null;
  /** The buckets, which all workers share: four doubles. */
  readonly state: SharedArrayBuffer;
}

/**
 * host: through the host's TAP, super-frames whole. sockets: super-frames are cut, the kernel sends and joins
 * runs of datagrams (UDP_SEGMENT, UDP_GRO). plain: cut, packet by packet.
 */
export const TUNNEL_WAYS = ['host', 'sockets', 'plain'] as const;
export type TunnelWay = (typeof TUNNEL_WAYS)[number];

/** Chances of what may befall a frame, 0 to 1 each. */
export interface Faults {
  /** Is lost. */
  readonly loss?: number;
  /** Has a bit turned over. */
  readonly corrupt?: number;
  /** Is cut short. */
  readonly truncate?: number;
  /** Changes places with the next one. */
  readonly reorder?: number;
  /** Is sent twice; on its way to the device only. */
  readonly duplicate?: number;
  /** Waits for up to `delayMs` milliseconds; on its way to the device only. */
  readonly delay?: number;
  readonly delayMs?: number;
}

/** For labs and tests: what befalls the frames of a port. */
export interface FaultSpec {
  readonly seed: number;
  /** Of frames received from the device, and sent to it. */
  readonly from: Faults;
  readonly to: Faults;
}

export interface UplinkSpec {
  readonly fds: readonly number[];
  readonly vnetHeader: number;
  /** MAC of the host's side. */
  readonly mac: Uint8Array;
}

/** What a worker must know of the node. */
export interface NodeSpec {
  /** Node address: outer source of tunnels, source of ICMP errors that leave by none. Host order. */
  readonly address: number;
  /** Its addresses inside tunnels: sources of ICMP errors that leave by them. Without one the node address is. */
  readonly vxlanAddress?: number;
  readonly ipipAddress?: number;
  /** Addresses that are this node itself (node address, tunnel addresses): legal outer destinations. */
  readonly local: readonly number[];
  /** Source of ICMPv6 errors that leave the pod's link, four int32; without one they do not. */
  readonly address6?: readonly number[];
  /** IPv6 addresses that are this node itself, four int32 each. */
  readonly local6?: readonly number[];
  /** Outer source of VXLAN over IPv6, four int32; without one there is none. */
  readonly underlay6?: readonly number[];
  /** Our VTEP's MAC and VNI. */
  readonly vtepMac: Uint8Array;
  /** The VTEP's MAC over IPv6, if it has another there. */
  readonly vtepMac6?: Uint8Array;
  readonly vni: number;
  /** DSCP of all tunnel packets (pipe model of RFC 2983); without it that of the packet inside (uniform model). */
  readonly dscp?: number;
  /** ICMP errors a second (token bucket a worker). */
  readonly icmpRate: number;
}

export interface TraceFilter {
  readonly port?: number;
  /** Which packets, as filter.ts runs it. Default: all. */
  readonly program?: Int32Array;
  /** One in so many of those that match. Default: each. */
  readonly sample?: number;
  /** First bytes of a packet to keep, up to MOST_SNAP. */
  readonly snap?: number;
  /** Packets to trace before it switches itself off. */
  readonly count: number;
}

export type WorkerCommand =
  | { readonly type: 'attach'; readonly seq: number; readonly port: PortSpec }
  | { readonly type: 'detach'; readonly seq: number; readonly port: number }
  | { readonly type: 'node'; readonly seq: number; readonly node: NodeSpec }
  | { readonly type: 'trace'; readonly seq: number; readonly filter: TraceFilter | null }
  /** Answered by an ack with stats. */
  | { readonly type: 'stats'; readonly seq: number }
  | { readonly type: 'stop'; readonly seq: number };

/** What a worker has done since it started, and what it spent its time on. */
export interface WorkerRuntime {
  /** Times that it woke from epoll, or found work there at once. */
  readonly wakeups: number;
  readonly bursts: number;
  /** Frames in those bursts; a super-frame is one. */
  readonly frames: number;
  /** Time outside epoll. */
  readonly busySeconds: number;
  /** The same as a share of the last seconds, 0 to 1. */
  readonly busyShare: number;
  /** Frames in the bursts that were timed, and the seconds that each stage of those took (runtime.ts, STAGE_NAMES). */
  readonly sampledFrames: number;
  readonly sampledSeconds: readonly number[];
}

/** Super-frames that were cut or made on the way out; frames are accounted for as they were received. */
export interface OffloadTally {
  /** Super-frames that were cut for a socket, and the packets that came of them. */
  cut: number;
  cutInto: number;
  /** Received segments that were joined for a device, and the super-frames that came of them. */
  joined: number;
  joinedInto: number;
}

export interface WorkerStats extends WorkerRuntime {
  readonly offload: OffloadTally;
  /** Ports that it receives from. */
  readonly ports: number;
}

export type WorkerEvent =
  | { readonly type: 'ready' }
  /** `error`: why the command could not be carried out. */
  | { readonly type: 'ack'; readonly seq: number; readonly error?: string; readonly stats?: WorkerStats }
  /** `missed`: packets until now that were not traced since those before them had not been taken. */
  | { readonly type: 'trace'; readonly packets: TracedPacket[]; readonly missed: number }
  | { readonly type: 'log'; readonly level: 'warn' | 'error'; readonly message: string };

export interface WorkerData {
  readonly index: number;
  readonly tables: SharedTables;
  readonly wakeFd: number;
}
