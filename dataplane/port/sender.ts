/** Rows for a tunnel's socket: super-frames are cut, since no socket takes them. */
import {
  LENGTH,
  OFFLOAD,
  OFFSET,
  PIECES,
  ROW,
  SEGMENT,
  STATUS,
  SUPER_MASK,
  SUPER_UDP,
} from '../memory/burst.ts';
import { longestPacket } from '../offload/cut.ts';
import { MAX_PACKET } from '../offload/transport.ts';
import type { Workspace } from './port.ts';

const EIO = 5;
const EINVAL = 22;

/** Whether a burst has a super-frame. */
export function hasSuper(rows: Int32Array, count: number): boolean {
  for (let row = 0; row < count * ROW; row += ROW) {
    if ((rows[row + OFFLOAD] & SUPER_MASK) !== 0) return true;
  }
  return false;
}

/** Whether a burst has a packet that is too long, with its outer header, to be one: it can only be cut. */
export function hasOversize(rows: Int32Array, count: number): boolean {
  for (let row = 0; row < count * ROW; row += ROW) if (rows[row + LENGTH] > MAX_PACKET) return true;
  return false;
}

/** Whether the kernel refuses a run of packets as such. */
export function isRefused(rows: Int32Array, count: number): boolean {
  for (let row = 0; row < count * ROW; row += ROW) {
    if (rows[row + STATUS] === EINVAL || rows[row + STATUS] === EIO) return true;
  }
  return false;
}

/** Whether a burst has a super-frame of UDP. */
export function hasSuperUdp(rows: Int32Array, count: number): boolean {
  for (let row = 0; row < count * ROW; row += ROW) {
    if ((rows[row + OFFLOAD] & SUPER_MASK) === SUPER_UDP) return true;
  }
  return false;
}

export interface CutOptions {
  /** From a row's OFFSET to its inner IP header; all bytes before that are repeated in front of each packet. */
  readonly inner: number;
  /** PREFIX_FIXED or PREFIX_IPV4. */
  readonly prefix: number;
  /** The kernel cuts a run of equal packets by itself (UDP_SEGMENT). */
  readonly runs: boolean;
}

/**
 * Copy a burst to the workspace's `sent`, its super-frames cut. One that has too many segments, or comes when
 * there is no more room, is left whole there, for the addon to refuse.
 */
export function cutBurst(
  { cutter, sent, tally }: Workspace,
  rows: Int32Array,
  count: number,
  { inner, prefix, runs }: CutOptions,
): void {
  for (let cell = 0; cell < count * ROW; cell++) sent[cell] = rows[cell];
  cutter.begin(count);
  for (let row = 0; row < count * ROW; row += ROW) {
    if ((sent[row + OFFLOAD] & SUPER_MASK) === 0) continue;
    const ip = sent[row + OFFSET] + inner;
    const size = longestPacket(sent, row, sent[row + OFFSET]);
    if (!cutter.cut(sent, row, ip, prefix)) continue;
    tally.cut++;
    tally.cutInto += sent[row + PIECES];
    sent[row + SEGMENT] = runs ? size : 0;
  }
}

/** Take over what became of a burst that was cut; how many rows went. */
export function settleCut({ sent }: Workspace, rows: Int32Array, count: number): number {
  let went = 0;
  for (let row = 0; row < count * ROW; row += ROW) {
    rows[row + STATUS] = sent[row + STATUS];
    if (rows[row + STATUS] === 0) went++;
  }
  return went;
}
