/**
 * A port moves bursts between a worker's arena and a device or socket. What the bytes mean is the pipeline's
 * business; a port knows only where a frame begins.
 *
 *   kind       receive hands over            transmit expects
 *   pod, host  Ethernet                      Ethernet
 *   vxlan      VXLAN header (RFC 7348 5)     outer IPv4 header; the port sends from the VXLAN header on
 *   ipip       outer IPv4 header             outer IPv4 header
 */

import type { PortSpec } from '../messages.ts';
import type { Native } from '../native/index.ts';
import { IpipPort } from './ipip.ts';
import { TapPort } from './tap.ts';
import { VxlanPort } from './vxlan.ts';

export interface Port {
  /** Descriptors that become readable when there is something to receive. */
  readonly inputs: readonly number[];
  /**
   * Receive up to `max` frames behind `headroom` free bytes each, from arena offset `start` on, and describe
   * each in a row (memory/burst.ts). Returns how many; 0 when there is nothing. Throws the addon's error.
   */
  receive(arena: Uint8Array, rows: Int32Array, max: number, start: number, headroom: number): number;
  /** Send `count` rows; STATUS of each is 0 or errno. Returns how many went. */
  transmit(arena: Uint8Array, rows: Int32Array, count: number): number;
}

/** A port over the descriptors that control opened. Throws for kinds that have no device. */
export function openPort(native: Native, spec: PortSpec, worker: number): Port {
  switch (spec.kind) {
    case 'pod':
    case 'host':
      return new TapPort(native, spec.fds, worker);
    case 'vxlan':
      return new VxlanPort(native, spec.fds);
    case 'ipip':
      return new IpipPort(native, spec.fds);
    case 'underlay':
      throw new Error(`port ${spec.name}: an underlay port is for replay, no worker can open one`);
  }
}
