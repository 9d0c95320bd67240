/**
 * A port whose bandwidth is limited: a token bucket each way. What comes from the device is simply not read while the bucket
 * is in debt, so packets wait in the device's own queue and the sender feels it; what goes to the device waits in a queue here, and is
 * dropped when that is full. Bytes are those of frames, super-frames by their length.
 */
import {
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  LENGTH,
  OFFLOAD,
  OFFSET,
  ROW,
  SEGMENTED,
  STATUS,
} from '../memory/burst.ts';
import { BURST, HEADROOM, MAX_FRAME } from '../memory/layout.ts';
import type { Limit, Limits } from '../messages.ts';
import type { Port, TimedPort } from './port.ts';

/** errno of a frame that found the queue full: EDQUOT. */
export const OVER_LIMIT = 122;
/** Seconds of its rate that a queue holds, and what it holds at least and at most, bytes. */
const QUEUE_SECONDS = 0.1;
const LEAST_QUEUE = 4 * MAX_FRAME;
const MOST_QUEUE = 32 * MAX_FRAME;
const MAX_QUEUED = 1024;
/** Shared cells of a bucket. */
const TOKENS = 0;
const REFILLED = 1;
export const BUCKET_CELLS = 2;

/**
 * Tokens are bytes. A frame passes while there is any token, and may leave a debt, so that one that is larger than the bucket passes at all. Several
 * workers share the cells: two that take at once may count one of the frames only, which is less than a burst.
 */
export class Bucket {
  readonly #perMs: number;
  readonly #depth: number;
  readonly #cells: Float64Array;

  constructor({ rate, burst }: Limit, cells: Float64Array) {
    this.#perMs = rate / 1000;
    this.#depth = burst;
    this.#cells = cells;
  }

  take(bytes: number, now: number): void {
    this.#refill(now);
    this.#cells[TOKENS] -= bytes;
  }

  /** Milliseconds until the next frame may pass; 0: now. */
  wait(now: number): number {
    this.#refill(now);
    const tokens = this.#cells[TOKENS];
    return tokens > 0 ? 0 : (1 - tokens) / this.#perMs;
  }

  #refill(now: number): void {
    const cells = this.#cells;
    const gone = now - cells[REFILLED];
    if (gone <= 0) return;
    cells[REFILLED] = now;
    cells[TOKENS] = Math.min(this.#depth, cells[TOKENS] + gone * this.#perMs);
  }
}

export class ShapedPort implements TimedPort {
  readonly inputs: readonly number[];
  readonly #port: Port;
  readonly #now: () => number;
  readonly #from: Bucket | null;
  readonly #to: Bucket | null;
  readonly #queue: FrameQueue | null;

  /** `now`: milliseconds of a clock that all workers share. */
  constructor(port: Port, { from, to, state }: Limits, now: () => number) {
    this.#port = port;
    this.inputs = port.inputs;
    this.#now = now;
    const cells = new Float64Array(state);
    this.#from = from ? new Bucket(from, cells.subarray(0, BUCKET_CELLS)) : null;
    this.#to = to ? new Bucket(to, cells.subarray(BUCKET_CELLS)) : null;
    this.#queue = to ? new FrameQueue(to.rate) : null;
  }

  receive(arena: Uint8Array, rows: Int32Array, start: number, headroom: number): number {
    if (this.restMs() > 0) return 0;
    const count = this.#port.receive(arena, rows, start, headroom);
    if (this.#from && count > 0) this.#from.take(bytesOf(rows, count), this.#now());
    return count;
  }

  transmit(arena: Uint8Array, rows: Int32Array, count: number): number {
    const [bucket, queue] = [this.#to, this.#queue];
    if (!bucket || !queue) return this.#port.transmit(arena, rows, count);
    let pass = 0;
    const now = this.#now();
    // Behind what waits already everything waits.
    while (pass < count && queue.count === 0 && bucket.wait(now) === 0) {
      bucket.take(rows[pass * ROW + LENGTH], now);
      pass++;
    }
    let went = pass > 0 ? this.#port.transmit(arena, rows, pass) : 0;
    for (let i = pass; i < count; i++) {
      const taken = queue.push(arena, rows, i * ROW);
      rows[i * ROW + STATUS] = taken ? 0 : OVER_LIMIT;
      if (taken) went++;
    }
    return went;
  }

  /** How long not to receive, ms. */
  restMs(): number {
    return this.#from?.wait(this.#now()) ?? 0;
  }

  /** How long until something that waits may go, ms; -1: nothing waits. */
  drainMs(): number {
    if (!this.#queue || this.#queue.count === 0) return -1;
    return this.#to!.wait(this.#now());
  }

  /** Send what waits, as far as the limit lets it. It was accounted for when it began to wait. */
  drain(): void {
    const [bucket, queue] = [this.#to, this.#queue];
    if (!bucket || !queue) return;
    const now = this.#now();
    while (queue.count > 0 && bucket.wait(now) === 0) {
      let count = 0;
      while (count < queue.count && count < BURST && bucket.wait(now) === 0) {
        bucket.take(queue.lengthAt(count), now);
        count++;
      }
      this.#port.transmit(queue.bytes, queue.first(count), count);
      queue.shift(count);
    }
  }

  /** Send all that waits, whatever the limit. */
  flush(): void {
    const queue = this.#queue;
    while (queue && queue.count > 0) {
      const count = Math.min(queue.count, BURST);
      this.#port.transmit(queue.bytes, queue.first(count), count);
      queue.shift(count);
    }
  }
}

function bytesOf(rows: Int32Array, count: number): number {
  let bytes = 0;
  for (let row = 0; row < count * ROW; row += ROW) bytes += rows[row + LENGTH];
  return bytes;
}

/** Frames that wait, oldest first, in a ring of bytes of their own. */
class FrameQueue {
  readonly bytes: Uint8Array;
  count = 0;
  readonly #rows = new Int32Array(MAX_QUEUED * ROW);
  readonly #out = new Int32Array(BURST * ROW);
  /** Index of the oldest row. */
  #oldest = 0;
  /** Where the next frame's bytes go. */
  #end = 0;

  constructor(rate: number) {
    this.bytes = new Uint8Array(Math.min(MOST_QUEUE, Math.max(LEAST_QUEUE, rate * QUEUE_SECONDS)));
  }

  #rowAt(index: number): number {
    return ((this.#oldest + index) % MAX_QUEUED) * ROW;
  }

  lengthAt(index: number): number {
    return this.#rows[this.#rowAt(index) + LENGTH];
  }

  /** Copy a frame in; false: no room. */
  push(arena: Uint8Array, rows: Int32Array, row: number): boolean {
    const length = rows[row + LENGTH];
    const free = this.#room(HEADROOM + length);
    if (free < 0 || this.count === MAX_QUEUED) return false;
    // The addon writes a device's header in front of a frame, which must not be another frame's end.
    const at = free + HEADROOM;
    const offset = rows[row + OFFSET];
    this.bytes.set(arena.subarray(offset, offset + length), at);
    const to = this.#rowAt(this.count);
    for (let cell = 0; cell < ROW; cell++) this.#rows[to + cell] = rows[row + cell];
    const moved = at - offset;
    this.#rows[to + OFFSET] = at;
    // Positions in the arena move with the frame. What waits is not joined.
    this.#rows[to + OFFLOAD] &= ~SEGMENTED;
    for (const cell of POSITIONS) if (this.#rows[to + cell] !== 0) this.#rows[to + cell] += moved;
    this.#end = at + length;
    this.count++;
    return true;
  }

  /** The oldest rows, for transmit. */
  first(count: number): Int32Array {
    for (let i = 0; i < count; i++) {
      const row = this.#rowAt(i);
      for (let cell = 0; cell < ROW; cell++) this.#out[i * ROW + cell] = this.#rows[row + cell];
    }
    return this.#out;
  }

  shift(count: number): void {
    this.#oldest = (this.#oldest + count) % MAX_QUEUED;
    this.count -= count;
  }

  /** Where so many bytes, with what is kept free in front, are free in one piece, or -1. */
  #room(length: number): number {
    if (this.count === 0) return length <= this.bytes.length ? 0 : -1;
    const start = this.#rows[this.#rowAt(0) + OFFSET] - HEADROOM;
    if (this.#end > start) {
      if (this.bytes.length - this.#end >= length) return this.#end;
      return start > length ? 0 : -1;
    }
    return start - this.#end > length ? this.#end : -1;
  }
}

const POSITIONS = [CHECKSUM_START, CHECKSUM_FIELD, HEADERS_END] as const;
