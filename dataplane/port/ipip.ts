/** IPIP (RFC 2003) over a raw socket of protocol 4: the kernel does outer ARP, routing and reassembly. */
import type { Native } from '../native/index.ts';
import type { Port } from './port.ts';

const PROTOCOL_IPIP = 4;

export class IpipPort implements Port {
  readonly inputs: readonly number[];
  readonly #native: Native;
  readonly #fd: number;

  /** `fds`: the raw socket. */
  constructor(native: Native, fds: readonly number[]) {
    if (fds.length !== 1) throw new Error(`an IPIP port needs one descriptor, not ${fds.length}`);
    this.#native = native;
    this.inputs = fds;
    this.#fd = fds[0];
  }

  receive(arena: Uint8Array, rows: Int32Array, max: number, start: number, headroom: number): number {
    return this.#native.rawReceive(this.#fd, arena, rows, max, start, headroom);
  }

  transmit(arena: Uint8Array, rows: Int32Array, count: number): number {
    return this.#native.rawSend(this.#fd, arena, rows, count);
  }
}

/** Open an IPIP port's descriptors. `address`: the node's, host order. */
export function openIpipSocket(
  native: Native,
  options: { readonly address: number; readonly netns?: string; readonly bufferBytes: number },
): number[] {
  return [native.rawOpen({ ...options, protocol: PROTOCOL_IPIP, headerIncluded: true })];
}
