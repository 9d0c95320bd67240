/**
 * A port moves bursts between a worker's arena and a device or socket. What the bytes mean is the pipeline's
 * business; a port knows where a frame begins, and what its device or the way it sends cannot do by itself.
 *
 *   kind       receive hands over            transmit expects
 *   pod, host  Ethernet                      Ethernet
 *   vxlan      VXLAN header (RFC 7348 5)     outer IPv4 header
 *   vxlan6     VXLAN header                  outer IPv6 header
 *   ipip       outer IPv4 header             outer IPv4 header
 */

import { ROW } from '../memory/burst.ts';
import { BURST, EGRESS_ROWS } from '../memory/layout.ts';
import type { OffloadTally, PortKind, PortSpec } from '../messages.ts';
import type { Native } from '../native/index.ts';
import { Cutter, MAX_SEGMENTS } from '../offload/cut.ts';
import { Joiner } from '../offload/join.ts';
import { viewOf } from '../wire/bytes.ts';
import { ETHERNET_LENGTH } from '../wire/ethernet.ts';
import { IPV4_LENGTH } from '../wire/ipv4.ts';
import { IPV6_LENGTH } from '../wire/ipv6.ts';
import { UDP_LENGTH } from '../wire/udp.ts';
import { FaultyPort } from './faults.ts';
import { IpipPort } from './ipip.ts';
import { ShapedPort } from './shaper.ts';
import { TapPort } from './tap.ts';
import { VxlanPort } from './vxlan.ts';

export interface Port {
  /** Descriptors that this worker is to watch: they become readable when there is something to receive. */
  readonly inputs: readonly number[];
  /**
   * Receive a burst behind `headroom` free bytes each, from arena offset `start` on, and describe each frame in
   * a row (memory/burst.ts). Returns how many, RECEIVE_ROWS at most; 0 when there is nothing. Throws the addon's error.
   */
  receive(arena: Uint8Array, rows: Int32Array, start: number, headroom: number): number;
  /** Send `count` rows, EGRESS_ROWS at most; STATUS of each is 0 or errno. Returns how many went. */
  transmit(arena: Uint8Array, rows: Int32Array, count: number): number;
}

/** A port that needs a clock: it may rest from receiving, and frames may wait before it. */
export interface TimedPort extends Port {
  /** How long not to receive, ms. */
  restMs(): number;
  /** How long until something that waits may go, ms; -1: nothing waits. */
  drainMs(): number;
  /** Send what has waited long enough; between bursts. */
  drain(): void;
  /** Send all that waits. */
  flush(): void;
}

export const isTimed = (port: Port): port is TimedPort => 'drain' in port;

/** What the ports of a worker share to work in: it serves one at a time. */
export class Workspace {
  readonly native: Native;
  /** The arena. */
  readonly bytes: DataView;
  readonly cutter: Cutter;
  readonly joiner: Joiner;
  /** As received, before what the kernel joined is split. */
  readonly received = new Int32Array(BURST * ROW);
  /** As sent: frames, then the packets that super-frames were cut into. */
  readonly sent = new Int32Array((EGRESS_ROWS + 4 * MAX_SEGMENTS) * ROW);
  readonly tally: OffloadTally = { cut: 0, cutInto: 0, joined: 0, joinedInto: 0 };
  /** Milliseconds of a clock that all workers share. */
  readonly now: () => number;
  /** Known peers over IPv6 (fib/peers6.ts); null: no port asks. */
  readonly peers6: Int32Array | null;

  /** `room`: where in the arena CUT_ROOM bytes are for headers. */
  constructor(
    native: Native,
    arena: Uint8Array,
    room: number,
    now: () => number = () => performance.now(),
    peers6: Int32Array | null = null,
  ) {
    this.native = native;
    this.peers6 = peers6;
    this.now = now;
    this.bytes = viewOf(arena);
    this.cutter = new Cutter(arena, room);
    this.joiner = new Joiner(native, arena);
  }
}

/** A port over the descriptors that control opened. Throws for kinds that have no device. */
export function openPort(workspace: Workspace, spec: PortSpec, worker: number): Port {
  const port = openSound(workspace, spec, worker);
  const { faults } = spec;
  if (!faults) return port;
  const { bytes, now } = workspace;
  const arena = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Workers do not make the same mistakes.
  return new FaultyPort(port, { ...faults, seed: faults.seed + worker }, arena, now, LEAST[spec.kind]);
}

/** Bytes that each kind needs of what it sends: the headers that its device or its socket's kernel reads, or writes itself. */
const LEAST: Record<PortKind, number> = {
  pod: ETHERNET_LENGTH,
  host: ETHERNET_LENGTH,
  vxlan: IPV4_LENGTH + UDP_LENGTH,
  vxlan6: IPV6_LENGTH + UDP_LENGTH,
  ipip: IPV4_LENGTH,
  underlay: 1,
};

function openSound(workspace: Workspace, spec: PortSpec, worker: number): Port {
  switch (spec.kind) {
    case 'pod':
    case 'host': {
      const tap = new TapPort(workspace, spec, worker);
      return spec.limits ? new ShapedPort(tap, spec.limits, workspace.now) : tap;
    }
    case 'vxlan':
    case 'vxlan6':
      return new VxlanPort(workspace, spec, worker);
    case 'ipip':
      return new IpipPort(workspace, spec, worker);
    case 'underlay':
      throw new Error(`port ${spec.name}: an underlay port is for replay, no worker can open one`);
  }
}
