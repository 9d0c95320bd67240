/**
 * Counters: a Float64Array of [worker][port][cell], each slice written by one worker only, with plain
 * stores, and summed by whoever looks. 2^53 frames last longer than the machine.
 *
 * The account of an ingress port (in frames received, at quiet points):
 *   RX_FRAMES = DELIVERED + CONSUMED + HELD + sum over reasons of drops.
 * Frames that tortie makes itself (ARP replies, ICMP errors) are counted apart, under ORIGINATED of the port
 * whose frame caused them.
 */
import { DROP_REASONS, type DropName } from './drops.ts';
import { MAX_PORTS, MAX_WORKERS } from './memory/layout.ts';

export const RX_FRAMES = 0;
export const RX_BYTES = 1;
/** Frames received here that left by some port. */
export const DELIVERED = 2;
/** Frames received here that were answered (proxy ARP), or became part of the packet that another frame completed. */
export const CONSUMED = 3;
/** Frames that left by this port, whoever sent them. */
export const TX_FRAMES = 4;
export const TX_BYTES = 5;
/** Frames made on account of frames received here. */
export const ORIGINATED = 6;
/** Of those, made but not sent: no route back, or the send failed. */
export const ORIGINATED_LOST = 7;
/** ICMP errors that were due and not made: rate limit. */
export const ICMP_LIMITED = 8;
/** Fragments received here that wait for the others of their packet: comes and goes, unlike the rest. */
export const HELD = 9;
/** First drop cell; reason r is at DROPS + r. */
export const DROPS = 16;
/** Cells a port. */
export const CELLS = 80;

if (DROPS + DROP_REASONS.length > CELLS) throw new Error('more drop reasons than counter cells');

export const COUNTER_NAMES = [
  'rxFrames',
  'rxBytes',
  'delivered',
  'consumed',
  'txFrames',
  'txBytes',
  'originated',
  'originatedLost',
  'icmpLimited',
  'held',
] as const;

export function createCounters(): SharedArrayBuffer {
  return new SharedArrayBuffer(MAX_WORKERS * MAX_PORTS * CELLS * 8);
}

/** Index of a worker's first cell for a port. */
export const cellsOf = (worker: number, port: number): number => (worker * MAX_PORTS + port) * CELLS;

export interface PortCounters {
  readonly totals: Record<(typeof COUNTER_NAMES)[number], number>;
  /** Frames by drop reason, only reasons that occurred. */
  readonly drops: { readonly reason: DropName; readonly description: string; readonly packets: number }[];
}

/** Sum a port's cells over all workers. */
export function readPortCounters(counters: Float64Array, port: number): PortCounters {
  const sum = (cell: number) => {
    let total = 0;
    for (let worker = 0; worker < MAX_WORKERS; worker++) total += counters[cellsOf(worker, port) + cell];
    return total;
  };
  const totals = Object.fromEntries(COUNTER_NAMES.map((name, cell) => [name, sum(cell)]));
  const drops = DROP_REASONS.map((reason, index) => ({
    reason: reason.name as DropName,
    description: reason.description,
    packets: sum(DROPS + index),
  })).filter((drop) => drop.packets > 0);
  return { totals: totals as PortCounters['totals'], drops };
}

/** Forget a port's counts before its id is used again. Only while no worker has the port attached. */
export function clearPortCounters(counters: Float64Array, port: number): void {
  for (let worker = 0; worker < MAX_WORKERS; worker++) {
    const first = cellsOf(worker, port);
    counters.fill(0, first, first + CELLS);
  }
}
