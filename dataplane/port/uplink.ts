/**
 * Tunnel packets through the host's TAP instead of a socket: the host's kernel forwards them like any other,
 * and so cuts super-frames where the underlay's device does not (docs/ARCHITECTURE.md, "Ways of a tunnel").
 * Receipt needs nothing: what comes back is for the node's own address, and so for its sockets.
 */
import {
  CHECKSUM_FIELD,
  CHECKSUM_START,
  INNER_NETWORK,
  LENGTH,
  OFFLOAD,
  OFFSET,
  OUTER_TRANSPORT,
  PARTIAL_CHECKSUM,
  ROW,
  SUPER_MASK,
} from '../memory/burst.ts';
import type { UplinkSpec } from '../messages.ts';
import { fold, get16, get32, put16, sum16, viewOf } from '../wire/bytes.ts';
import { ETHERNET_LENGTH, GATEWAY_HI, GATEWAY_LO, putEthernet, TYPE_IPV4 } from '../wire/ethernet.ts';
import { destination, IPV4_LENGTH, PROTOCOL_UDP, pseudoSum, source } from '../wire/ipv4.ts';
import { UDP_LENGTH } from '../wire/udp.ts';
import { VXLAN_LENGTH } from '../wire/vxlan.ts';
import type { Workspace } from './port.ts';

/** From the outer IPv4 header to the inner IP header. */
const VXLAN_OVERHEAD = IPV4_LENGTH + UDP_LENGTH + VXLAN_LENGTH + ETHERNET_LENGTH;

export class Uplink {
  readonly #workspace: Workspace;
  readonly #fd: number;
  readonly #vnetHeader: number;
  readonly #macHi: number;
  readonly #macLo: number;

  constructor(workspace: Workspace, spec: UplinkSpec, worker: number) {
    this.#workspace = workspace;
    this.#fd = spec.fds[worker % spec.fds.length];
    this.#vnetHeader = spec.vnetHeader;
    this.#macHi = get16(viewOf(spec.mac), 0);
    this.#macLo = get32(viewOf(spec.mac), 2);
  }

  /** Send rows that begin at their outer IPv4 header; OFFSET and LENGTH are as before afterwards. */
  transmit(arena: Uint8Array, rows: Int32Array, count: number, isVxlan: boolean): number {
    const { native, bytes } = this.#workspace;
    for (let row = 0; row < count * ROW; row += ROW) {
      const outer = rows[row + OFFSET];
      if (isVxlan) finishVxlan(bytes, rows, row, outer);
      const frame = outer - ETHERNET_LENGTH;
      putEthernet(bytes, frame, this.#macHi, this.#macLo, GATEWAY_HI, GATEWAY_LO, TYPE_IPV4);
      rows[row + OFFSET] = frame;
      rows[row + LENGTH] += ETHERNET_LENGTH;
    }
    const sent = native.tapWrite(this.#fd, arena, rows, count, this.#vnetHeader);
    for (let row = 0; row < count * ROW; row += ROW) {
      rows[row + OFFSET] += ETHERNET_LENGTH;
      rows[row + LENGTH] -= ETHERNET_LENGTH;
    }
    return sent;
  }
}

/**
 * The outer UDP checksum. A super-frame's is its pseudo header's sum, each segment's is completed where it is
 * cut. Beside a partial inner checksum the outer one is known without the payload: once the inner is complete,
 * its bytes add up to the complement of their pseudo header ("local checksum offload" in Linux' words). Else
 * the whole is left to the kernel.
 */
function finishVxlan(bytes: DataView, rows: Int32Array, row: number, outer: number): void {
  const datagram = outer + IPV4_LENGTH;
  const length = rows[row + LENGTH] - IPV4_LENGTH;
  const field = datagram + UDP_LENGTH - 2;
  const pseudo = pseudoSum(source(bytes, outer), destination(bytes, outer), PROTOCOL_UDP, length);
  if ((rows[row + OFFLOAD] & SUPER_MASK) !== 0) {
    rows[row + OUTER_TRANSPORT] = datagram;
    rows[row + INNER_NETWORK] = outer + VXLAN_OVERHEAD;
    put16(bytes, field, pseudo);
  } else if ((rows[row + OFFLOAD] & PARTIAL_CHECKSUM) !== 0) {
    const inner = rows[row + CHECKSUM_START];
    const completed = ~get16(bytes, rows[row + CHECKSUM_FIELD]) & 0xffff;
    put16(bytes, field, 0);
    const checksum = ~fold(sum16(bytes, datagram, inner - datagram, pseudo) + completed) & 0xffff;
    put16(bytes, field, checksum === 0 ? 0xffff : checksum);
  } else {
    put16(bytes, field, pseudo);
    rows[row + OFFLOAD] = PARTIAL_CHECKSUM;
    rows[row + CHECKSUM_START] = datagram;
    rows[row + CHECKSUM_FIELD] = field;
  }
}
