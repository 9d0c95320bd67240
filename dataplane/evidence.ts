/**
 * The last frame dropped for each reason at each port: its first bytes, as they were received. Memory that workers
 * write and control reads, of a fixed size: a worker has SLOTS of them; when more pairs of port and reason occur, the newest take
 * the place of others.
 *
 * A slot: version (odd while it is written), port, reason, length of the frame, time (two cells), and its first bytes.
 */
import { DROP_REASONS } from './drops.ts';
import { MAX_WORKERS } from './memory/layout.ts';

/** Bytes kept of a frame: Ethernet, outer IPv6, UDP, VXLAN, Ethernet, IPv6 and the ports behind it are 134. */
export const KEPT_BYTES = 136;
/** Pairs of port and reason that a worker remembers; a power of two. */
export const SLOTS = 512;
/** Slots that a pair may be in. */
const PROBES = 4;

const VERSION = 0;
const PORT = 1;
const REASON = 2;
const LENGTH = 3;
const TIME = 4;
const BYTES = 6;
const SLOT = BYTES + KEPT_BYTES / 4;

export function createEvidence(): SharedArrayBuffer {
  return new SharedArrayBuffer(MAX_WORKERS * SLOTS * SLOT * 4);
}

const slotOf = (worker: number, port: number, reason: number, probe: number): number => {
  const hash = Math.imul(port * DROP_REASONS.length + reason + 1, 0x9e3779b1) >>> 23;
  return (worker * SLOTS + ((hash + probe) & (SLOTS - 1))) * SLOT;
};

/** A worker's side. */
export class EvidenceWriter {
  readonly #cells: Int32Array;
  readonly #memory: DataView;
  readonly #worker: number;

  constructor(memory: SharedArrayBuffer, worker: number) {
    this.#cells = new Int32Array(memory);
    this.#memory = new DataView(memory);
    this.#worker = worker;
  }

  /** Keep the frame at `offset`. `time`: milliseconds since 1970. */
  keep(port: number, reason: number, time: number, bytes: DataView, offset: number, length: number): void {
    const cells = this.#cells;
    const memory = this.#memory;
    const slot = this.#slot(port, reason);
    const version = cells[slot + VERSION];
    Atomics.store(cells, slot + VERSION, (version + 1) | 1);
    cells[slot + PORT] = port;
    cells[slot + REASON] = reason;
    cells[slot + LENGTH] = length;
    memory.setFloat64((slot + TIME) * 4, time);
    const kept = Math.min(length, KEPT_BYTES);
    const at = (slot + BYTES) * 4;
    let done = 0;
    for (; done + 4 <= kept; done += 4) memory.setInt32(at + done, bytes.getInt32(offset + done));
    for (; done < kept; done++) memory.setUint8(at + done, bytes.getUint8(offset + done));
    Atomics.store(cells, slot + VERSION, ((version + 1) | 1) + 1);
  }

  /** The pair's slot, an empty one, or that of the pair that is the oldest among those that it may take. */
  #slot(port: number, reason: number): number {
    const cells = this.#cells;
    let oldest = -1;
    for (let probe = 0; probe < PROBES; probe++) {
      const slot = slotOf(this.#worker, port, reason, probe);
      if (cells[slot + VERSION] === 0) return slot;
      if (cells[slot + PORT] === port && cells[slot + REASON] === reason) return slot;
      if (oldest < 0 || this.#time(slot) < this.#time(oldest)) oldest = slot;
    }
    return oldest;
  }

  #time(slot: number): number {
    return this.#memory.getFloat64((slot + TIME) * 4);
  }
}

export interface Evidence {
  /** When it was dropped, milliseconds since 1970. */
  readonly time: number;
  /** Of the whole frame, bytes. */
  readonly length: number;
  /** Its first KEPT_BYTES. */
  readonly bytes: Uint8Array;
}

/** The newest evidence of all workers, or null when there is none or it is being written just now. */
export function readEvidence(memory: SharedArrayBuffer, port: number, reason: number): Evidence | null {
  const cells = new Int32Array(memory);
  const view = new DataView(memory);
  let newest: Evidence | null = null;
  for (let worker = 0; worker < MAX_WORKERS; worker++) {
    for (let probe = 0; probe < PROBES; probe++) {
      const slot = slotOf(worker, port, reason, probe);
      const version = Atomics.load(cells, slot + VERSION);
      if (version === 0) break;
      if (version & 1 || cells[slot + PORT] !== port || cells[slot + REASON] !== reason) continue;
      const length = cells[slot + LENGTH];
      const at = (slot + BYTES) * 4;
      const found: Evidence = {
        time: view.getFloat64((slot + TIME) * 4),
        length,
        bytes: new Uint8Array(memory.slice(at, at + Math.min(length, KEPT_BYTES))),
      };
      if (Atomics.load(cells, slot + VERSION) !== version) continue;
      if (!newest || found.time > newest.time) newest = found;
    }
  }
  return newest;
}
