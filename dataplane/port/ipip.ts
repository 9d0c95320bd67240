/** IPIP (RFC 2003) over a raw socket of protocol 4: the kernel does outer ARP, routing and reassembly. */
import { OFFLOAD, ROW, SEGMENTED } from '../memory/burst.ts';
import { BURST } from '../memory/layout.ts';
import type { PortSpec } from '../messages.ts';
import type { Native } from '../native/index.ts';
import { PREFIX_IPV4 } from '../offload/cut.ts';
import { IPV4_LENGTH } from '../wire/ipv4.ts';
import { Inputs } from './inputs.ts';
import type { Port, Workspace } from './port.ts';
import { cutBurst, hasOversize, hasSuper, hasSuperUdp, settleCut } from './sender.ts';
import { Uplink } from './uplink.ts';

const PROTOCOL_IPIP = 4;
const CUTTING = { inner: IPV4_LENGTH, prefix: PREFIX_IPV4, runs: false };

export class IpipPort implements Port {
  readonly inputs: readonly number[];
  readonly #workspace: Workspace;
  readonly #inputs: Inputs;
  readonly #output: number;
  readonly #uplink: Uplink | null;

  /** Each worker sends by a socket of its own as far as there are sockets. */
  constructor(workspace: Workspace, spec: PortSpec, worker: number) {
    const { fds, way, uplink } = spec;
    if (fds.length === 0) throw new Error('an IPIP port needs a descriptor');
    this.#workspace = workspace;
    this.#inputs = new Inputs(spec, worker);
    this.inputs = this.#inputs.fds;
    this.#output = fds[worker % fds.length];
    this.#uplink = way === 'host' && uplink ? new Uplink(workspace, uplink, worker) : null;
  }

  receive(arena: Uint8Array, rows: Int32Array, start: number, headroom: number): number {
    const { native } = this.#workspace;
    for (let tried = 0; tried < this.inputs.length; tried++) {
      const count = native.rawReceive(this.#inputs.next(), arena, rows, BURST, start, headroom);
      for (let row = 0; row < count * ROW; row += ROW) rows[row + OFFLOAD] = SEGMENTED;
      if (count > 0) return count;
    }
    return 0;
  }

  transmit(arena: Uint8Array, rows: Int32Array, count: number): number {
    // A raw socket that receives a super-frame of UDP whole is not told where its datagrams end.
    if (this.#uplink && !hasOversize(rows, count) && !hasSuperUdp(rows, count)) {
      return this.#uplink.transmit(arena, rows, count, false);
    }
    const { native, sent } = this.#workspace;
    if (!hasSuper(rows, count)) return native.rawSend(this.#output, arena, rows, count);
    cutBurst(this.#workspace, rows, count, CUTTING);
    native.rawSend(this.#output, arena, sent, count);
    return settleCut(this.#workspace, rows, count);
  }
}

export interface IpipSockets {
  /** The node's, host order. */
  readonly address: number;
  readonly netns?: string;
  readonly bufferBytes: number;
  /** How many receive, each the flows whose hash is its own: as many as workers. Default: one. */
  readonly receivers?: number;
}

/** Open an IPIP port's descriptors. Throws the addon's error, with nothing left open. */
export function openIpipSockets(native: Native, { receivers = 1, ...rest }: IpipSockets): number[] {
  const fds: number[] = [];
  try {
    for (let index = 0; index < receivers; index++) {
      const fd = native.rawOpen({ ...rest, protocol: PROTOCOL_IPIP, headerIncluded: true });
      fds.push(fd);
      // Each raw socket is handed every packet: without a share of its own all workers would forward it.
      if (receivers > 1) native.socketSpread(fd, { index, count: receivers });
    }
    return fds;
  } catch (error) {
    for (const fd of fds) native.close(fd);
    throw error;
  }
}
