/** IPIP (RFC 2003) over a raw socket of protocol 4: the kernel does outer ARP, routing and reassembly. */
import { OFFLOAD, ROW, SEGMENTED } from '../memory/burst.ts';
import { BURST } from '../memory/layout.ts';
import type { PortSpec } from '../messages.ts';
import type { Native } from '../native/index.ts';
import { PREFIX_IPV4 } from '../offload/cut.ts';
import { IPV4_LENGTH } from '../wire/ipv4.ts';
import type { Port, Workspace } from './port.ts';
import { cutBurst, hasSuper, settleCut } from './sender.ts';
import { Uplink } from './uplink.ts';

const PROTOCOL_IPIP = 4;
const CUTTING = { inner: IPV4_LENGTH, prefix: PREFIX_IPV4, runs: false };

export class IpipPort implements Port {
  readonly inputs: readonly number[];
  readonly #workspace: Workspace;
  readonly #fd: number;
  readonly #uplink: Uplink | null;

  /** `fds`: the raw socket. */
  constructor(workspace: Workspace, { fds, way, uplink }: PortSpec, worker: number) {
    if (fds.length !== 1) throw new Error(`an IPIP port needs one descriptor, not ${fds.length}`);
    this.#workspace = workspace;
    this.inputs = fds;
    this.#fd = fds[0];
    this.#uplink = way === 'host' && uplink ? new Uplink(workspace, uplink, worker) : null;
  }

  receive(arena: Uint8Array, rows: Int32Array, start: number, headroom: number): number {
    const count = this.#workspace.native.rawReceive(this.#fd, arena, rows, BURST, start, headroom);
    for (let row = 0; row < count * ROW; row += ROW) rows[row + OFFLOAD] = SEGMENTED;
    return count;
  }

  transmit(arena: Uint8Array, rows: Int32Array, count: number): number {
    if (this.#uplink) return this.#uplink.transmit(arena, rows, count, false);
    const { native, sent } = this.#workspace;
    if (!hasSuper(rows, count)) return native.rawSend(this.#fd, arena, rows, count);
    cutBurst(this.#workspace, rows, count, CUTTING);
    native.rawSend(this.#fd, arena, sent, count);
    return settleCut(this.#workspace, rows, count);
  }
}

/** Open an IPIP port's descriptors. `address`: the node's, host order. */
export function openIpipSocket(
  native: Native,
  options: { readonly address: number; readonly netns?: string; readonly bufferBytes: number },
): number[] {
  return [native.rawOpen({ ...options, protocol: PROTOCOL_IPIP, headerIncluded: true })];
}
