/**
 * A port at which things go wrong, by chance and by a seed, for labs and tests: what befalls frames between the pipeline and a device.
 * Nobody else pays for it, since a port without faults has no such thing around it.
 *
 * Frames that are lost on the way to the device count as sent, as they would on a wire; those that are lost on the way from it were never received.
 * So the account of the pipeline balances whatever happens here. `tally` counts what did.
 */
import {
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  LENGTH,
  OFFLOAD,
  OFFSET,
  PARTIAL_CHECKSUM,
  ROW,
  SEGMENTED,
  STATUS,
} from '../memory/burst.ts';
import { BURST, HEADROOM, MAX_FRAME } from '../memory/layout.ts';
import type { FaultSpec, Faults } from '../messages.ts';
import { Random } from '../random.ts';
import { isTimed, type Port, type TimedPort } from './port.ts';

/** Frames that may wait; more are lost. */
const MAX_WAITING = 1024;
const DEFAULT_DELAY_MS = 10;
const POSITIONS = [CHECKSUM_START, CHECKSUM_FIELD, HEADERS_END] as const;

interface Waiting {
  readonly due: number;
  readonly row: Int32Array;
  readonly bytes: Uint8Array;
}

export class FaultyPort implements TimedPort {
  readonly inputs: readonly number[];
  readonly tally = { lost: 0, corrupted: 0, truncated: 0, reordered: 0, duplicated: 0, delayed: 0 };
  readonly #port: Port;
  readonly #arena: Uint8Array;
  readonly #now: () => number;
  readonly #least: number;
  readonly #random: Random;
  readonly #from: Faults;
  readonly #to: Faults;
  #waiting: Waiting[] = [];
  readonly #out = new Int32Array(BURST * ROW);

  /**
   * `arena`: the worker's, of which the receive slots are free between bursts. `least`: bytes that the port needs of a frame, and
   * that no cut takes.
   */
  constructor(
    port: Port,
    { seed, from, to }: FaultSpec,
    arena: Uint8Array,
    now: () => number,
    least: number,
  ) {
    this.inputs = port.inputs;
    this.#port = port;
    this.#arena = arena;
    this.#now = now;
    this.#least = least;
    this.#random = new Random(seed);
    this.#from = from;
    this.#to = to;
  }

  receive(arena: Uint8Array, rows: Int32Array, start: number, headroom: number): number {
    const count = this.#port.receive(arena, rows, start, headroom);
    let kept = 0;
    for (let i = 0; i < count; i++) {
      if (this.#happens(this.#from.loss)) {
        this.tally.lost++;
        continue;
      }
      if (kept !== i) rows.copyWithin(kept * ROW, i * ROW, (i + 1) * ROW);
      kept++;
      if (!this.#harm(arena, rows, (kept - 1) * ROW, this.#from, 1)) kept--;
    }
    this.#reorder(rows, kept, this.#from);
    return kept;
  }

  transmit(arena: Uint8Array, rows: Int32Array, count: number): number {
    this.#reorder(rows, count, this.#to);
    let went = 0;
    // In runs, so that what is unharmed leaves as it would without faults.
    let first = 0;
    const flush = (end: number) => {
      if (end > first) went += this.#transmit(arena, rows, first, end);
      first = end + 1;
    };
    for (let i = 0; i < count; i++) {
      const row = i * ROW;
      if (this.#happens(this.#to.duplicate)) {
        this.tally.duplicated++;
        this.#wait(arena, rows, row, 0);
      }
      const isDelayed = this.#happens(this.#to.delay);
      const isLost = !isDelayed && this.#happens(this.#to.loss);
      if (isDelayed) {
        this.tally.delayed++;
        this.#wait(arena, rows, row, this.#random.below((this.#to.delayMs ?? DEFAULT_DELAY_MS) + 1));
      } else if (isLost) {
        this.tally.lost++;
      } else if (this.#harm(arena, rows, row, this.#to, this.#least)) {
        continue;
      }
      flush(i);
      rows[row + STATUS] = 0;
      went++;
    }
    flush(count);
    return went;
  }

  /** Rows [first, end) as a burst of their own. */
  #transmit(arena: Uint8Array, rows: Int32Array, first: number, end: number): number {
    return this.#port.transmit(arena, rows.subarray(first * ROW, end * ROW), end - first);
  }

  restMs(): number {
    return isTimed(this.#port) ? this.#port.restMs() : 0;
  }

  drainMs(): number {
    const inner = isTimed(this.#port) ? this.#port.drainMs() : -1;
    if (this.#waiting.length === 0) return inner;
    const due = Math.max(0, Math.min(...this.#waiting.map((waiting) => waiting.due)) - this.#now());
    return inner < 0 ? due : Math.min(inner, due);
  }

  drain(): void {
    this.#send(this.#now());
    if (isTimed(this.#port)) this.#port.drain();
  }

  flush(): void {
    this.#send(Number.POSITIVE_INFINITY);
    if (isTimed(this.#port)) this.#port.flush();
  }

  #happens(chance = 0): boolean {
    return chance > 0 && this.#random.chance(chance);
  }

  /** Corrupt and truncate. False: the frame is lost, as whoever completes its checksum would have hidden the damage. */
  #harm(arena: Uint8Array, rows: Int32Array, row: number, faults: Faults, least: number): boolean {
    const length = rows[row + LENGTH];
    const isCorrupt = this.#happens(faults.corrupt);
    const isCut = this.#happens(faults.truncate);
    if (!isCorrupt && !isCut) return true;
    if ((rows[row + OFFLOAD] & PARTIAL_CHECKSUM) !== 0 || length === 0) {
      this.tally.lost++;
      return false;
    }
    if (isCorrupt) {
      this.tally.corrupted++;
      arena[rows[row + OFFSET] + this.#random.below(length)] ^= 1 << this.#random.below(8);
    }
    if (isCut) {
      this.tally.truncated++;
      rows[row + LENGTH] = Math.min(length, Math.max(least, 1 + this.#random.below(length)));
    }
    return true;
  }

  #reorder(rows: Int32Array, count: number, faults: Faults): void {
    for (let i = 0; i + 1 < count; i++) {
      if (!this.#happens(faults.reorder)) continue;
      this.tally.reordered++;
      const before = rows.slice(i * ROW, (i + 1) * ROW);
      rows.copyWithin(i * ROW, (i + 1) * ROW, (i + 2) * ROW);
      rows.set(before, (i + 1) * ROW);
    }
  }

  #wait(arena: Uint8Array, rows: Int32Array, row: number, ms: number): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.tally.lost++;
      return;
    }
    const offset = rows[row + OFFSET];
    const copy = rows.slice(row, row + ROW);
    // Places in the packet are counted from its first byte while it waits. What waits is not joined.
    for (const cell of POSITIONS) if (copy[cell] !== 0) copy[cell] -= offset;
    copy[OFFLOAD] &= ~SEGMENTED;
    const bytes = arena.slice(offset, offset + rows[row + LENGTH]);
    this.#waiting.push({ due: this.#now() + ms, row: copy, bytes });
  }

  /** Send what is due. It was accounted for when it began to wait. */
  #send(now: number): void {
    const due = this.#waiting.filter((waiting) => waiting.due <= now);
    if (due.length === 0) return;
    this.#waiting = this.#waiting.filter((waiting) => waiting.due > now);
    const fits = Math.min(BURST, Math.floor(this.#arena.length / SLOT));
    for (let first = 0; first < due.length; first += fits) {
      const burst = due.slice(first, first + fits);
      for (const [i, { row, bytes }] of burst.entries()) {
        const at = i * SLOT + HEADROOM;
        this.#arena.set(bytes, at);
        const to = i * ROW;
        this.#out.set(row, to);
        this.#out[to + OFFSET] = at;
        for (const cell of POSITIONS) if (this.#out[to + cell] !== 0) this.#out[to + cell] += at;
      }
      this.#port.transmit(this.#arena, this.#out, burst.length);
    }
  }
}

const SLOT = HEADROOM + MAX_FRAME;
