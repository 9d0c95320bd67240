/**
 * VXLAN over the kernel's UDP sockets: the kernel does outer ARP, routing, checksums and reassembly.
 *
 * A UDP socket has one source port, and the source port of a VXLAN packet tells flows apart (RFC 7348 5), so
 * there is a pool to send, of which the flow's hash picks one. To receive there is a socket a worker; the kernel
 * picks one by addresses and ports (SO_REUSEPORT), so a flow stays with one.
 *
 * A port is over IPv4 or over IPv6. Over IPv6 a peer's address crosses the language border beside the row: behind the outer
 * header that the pipeline wrote, or in front of the datagram that was received, whose row then gets the peer's number.
 */
import { peer6 } from '../fib/peers6.ts';
import { ADDRESS, LENGTH, OFFSET, ROW } from '../memory/burst.ts';
import { BURST } from '../memory/layout.ts';
import type { PortSpec } from '../messages.ts';
import type { Native } from '../native/index.ts';
import { PREFIX_FIXED } from '../offload/cut.ts';
import { splitJoined } from '../offload/received.ts';
import { Inputs } from './inputs.ts';
import type { Port, Workspace } from './port.ts';
import { cutBurst, hasOversize, hasSuper, isRefused, settleCut } from './sender.ts';
import { Uplink } from './uplink.ts';

/** Outer IP and UDP headers, which the pipeline writes and the kernel writes again. */
const OUTER = 20 + 8;
const OUTER6 = 40 + 8;
/** Where the source of a datagram over IPv6 stands, counted back from it. */
const SOURCE6 = 16;
/** VXLAN and inner Ethernet headers: from what a socket sends to the inner IP header. */
const INNER = 8 + 14;
const DESTINATION_PORT = 4789;
/**
 * So many packets without a super-frame among them go by the sockets, also where super-frames go through the host: datagrams of
 * one size leave in one call there (UDP_SEGMENT). Either way has brought a packet to the underlay's device when its call
 * returns, so the packets of a flow keep their order.
 */
const RUN = 4;
/** RFC 7348 5: source ports come from the dynamic range. */
const FIRST_SOURCE_PORT = 49152;
const LAST_SOURCE_PORT = 65535;

export class VxlanPort implements Port {
  readonly inputs: readonly number[];
  readonly #workspace: Workspace;
  readonly #inputs: Inputs;
  readonly #senders: Int32Array;
  readonly #cutting: { inner: number; prefix: number; runs: boolean };
  readonly #uplink: Uplink | null;
  readonly #outer: number;
  readonly #send: Native['udpSend'];
  /** Over IPv6: numbers of the peers. */
  readonly #peers6: Int32Array | null;

  /** Descriptors: receivers, then a power of two of senders. */
  constructor(workspace: Workspace, spec: PortSpec, worker: number) {
    const { fds, readers, way, uplink } = spec;
    const senders = fds.length - readers.length;
    if (senders < 1 || (senders & (senders - 1)) !== 0)
      throw new Error(`a VXLAN port needs a power of two of senders, not ${senders}`);
    const isOver6 = spec.kind === 'vxlan6';
    this.#peers6 = isOver6 ? workspace.peers6 : null;
    if (isOver6 && this.#peers6 === null) throw new Error('a VXLAN port over IPv6 needs the table of peers');
    this.#outer = isOver6 ? OUTER6 : OUTER;
    const { native } = workspace;
    this.#send = isOver6 ? native.udp6Send : native.udpSend;
    this.#workspace = workspace;
    this.#inputs = new Inputs(spec, worker);
    this.inputs = this.#inputs.fds;
    this.#senders = Int32Array.from(fds.slice(readers.length));
    this.#cutting = { inner: INNER, prefix: PREFIX_FIXED, runs: way !== 'plain' };
    this.#uplink = way === 'host' && uplink ? new Uplink(workspace, uplink, worker) : null;
  }

  receive(arena: Uint8Array, rows: Int32Array, start: number, headroom: number): number {
    const { native, bytes, received } = this.#workspace;
    for (let tried = 0; tried < this.inputs.length; tried++) {
      const count = native.udpReceive(this.#inputs.next(), arena, received, BURST, start, headroom);
      if (count === 0) continue;
      if (this.#peers6 !== null) numberPeers(this.#peers6, bytes, received, count);
      return splitJoined(bytes, received, count, rows, INNER);
    }
    return 0;
  }

  transmit(arena: Uint8Array, rows: Int32Array, count: number): number {
    const supers = hasSuper(rows, count);
    if (this.#uplink && (supers ? !hasOversize(rows, count) : count < RUN)) {
      return this.#uplink.transmit(arena, rows, count, true);
    }
    const { sent } = this.#workspace;
    const send = this.#send;
    const outer = this.#outer;
    const runs = Number(this.#cutting.runs);
    shift(rows, count, outer);
    let went: number;
    if (supers) {
      cutBurst(this.#workspace, rows, count, this.#cutting);
      send(this.#senders, arena, sent, count, DESTINATION_PORT, runs);
      went = settleCut(this.#workspace, rows, count);
    } else {
      went = send(this.#senders, arena, rows, count, DESTINATION_PORT, runs);
    }
    // Linux before 4.18 has no UDP_SEGMENT, and some later ones refuse it where the device computes no checksums.
    if (went < count && isRefused(rows, count)) this.#cutting.runs = false;
    // The rows are accounted for as the packets that they were.
    shift(rows, count, -outer);
    return went;
  }
}

/** Give rows of datagrams over IPv6 the number of the peer that they are from, or 0. */
function numberPeers(peers: Int32Array, bytes: DataView, rows: Int32Array, count: number): void {
  for (let row = 0; row < count * ROW; row += ROW) {
    rows[row + ADDRESS] = peer6(peers, bytes, rows[row + OFFSET] - SOURCE6);
  }
}

function shift(rows: Int32Array, count: number, bytes: number): void {
  for (let row = 0; row < count * ROW; row += ROW) {
    rows[row + OFFSET] += bytes;
    rows[row + LENGTH] -= bytes;
  }
}

export interface VxlanSockets {
  /** The node's address: outer source. IPv4 host order, or IPv6 as text. */
  readonly address: number | string;
  readonly netns?: string;
  /** How many receive: as many as workers. Default: one. */
  readonly receivers?: number;
  /** Power of two. */
  readonly senders: number;
  readonly bufferBytes: number;
  /** False: outer UDP checksum 0. Not over IPv6. */
  readonly checksum?: boolean;
  /** The kernel may hand over datagrams of a flow joined (UDP_GRO). */
  readonly join?: boolean;
}

/** Open a VXLAN port's descriptors: [receiver, ..., sender, ...]. Throws the addon's error, with nothing left open. */
export function openVxlanSockets(native: Native, options: VxlanSockets): number[] {
  const { address, receivers = 1, senders, join = false, checksum, ...rest } = options;
  const bound =
    typeof address === 'string'
      ? { address6: address }
      : { address, ...(checksum === false && { checksum }) };
  const common = { ...rest, ...bound, dontFragment: true };
  const fds: number[] = [];
  try {
    const receiver = { ...common, port: DESTINATION_PORT, join, reusePort: receivers > 1 };
    for (let i = 0; i < receivers; i++) fds.push(native.udpOpen(receiver));
    for (let i = 0; i < senders; i++) fds.push(openSender(native, common, i, senders));
    return fds;
  } catch (error) {
    for (const fd of fds) native.close(fd);
    throw error;
  }
}

/** Sender i has a port that is i modulo the number of senders, so that a flow's port is near its hash. */
function openSender(
  native: Native,
  common: Omit<Parameters<Native['udpOpen']>[0], 'port'>,
  index: number,
  senders: number,
): number {
  for (let port = FIRST_SOURCE_PORT + index; ; port += senders) {
    try {
      return native.udpOpen({ ...common, port, sendOnly: true });
    } catch (error) {
      const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      if (!taken || port + senders > LAST_SOURCE_PORT) throw error;
    }
  }
}
