/** The egress queues of a worker: what the pipeline wants sent, until the burst is over. */
import {
  ADDRESS,
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  LENGTH,
  OFFLOAD,
  OFFSET,
  OUTER_TRANSPORT,
  PIECES,
  PORT,
  ROW,
  SEGMENT,
  STATUS,
  TOS,
  UDP_PORT,
} from './memory/burst.ts';
import { EGRESS_ROWS, MAX_PORTS } from './memory/layout.ts';

/** Frames waiting to leave, one queue of rows a port; a burst puts at most one row in for each frame received. */
export class Egress {
  readonly dirty = new Int32Array(MAX_PORTS);
  dirtyCount = 0;
  readonly #rows: (Int32Array | undefined)[] = [];
  readonly #counts = new Int32Array(MAX_PORTS);

  open(port: number): void {
    this.#rows[port] ??= new Int32Array(EGRESS_ROWS * ROW);
  }
  rows(port: number): Int32Array {
    return this.#rows[port]!;
  }
  count(port: number): number {
    return this.#counts[port];
  }
  /** Empty all queues. */
  clear(): void {
    for (let i = 0; i < this.dirtyCount; i++) this.#counts[this.dirty[i]] = 0;
    this.dirtyCount = 0;
  }
  push(
    port: number,
    offset: number,
    length: number,
    from: number,
    to: number,
    udpPort: number,
    tos: number,
  ): void {
    const count = this.#counts[port];
    if (count === 0) this.dirty[this.dirtyCount++] = port;
    const rows = this.#rows[port]!;
    const row = count * ROW;
    rows[row + OFFSET] = offset;
    rows[row + LENGTH] = length;
    rows[row + PORT] = from;
    rows[row + ADDRESS] = to;
    rows[row + UDP_PORT] = udpPort;
    rows[row + TOS] = tos;
    rows[row + STATUS] = 0;
    rows[row + SEGMENT] = 0;
    rows[row + OFFLOAD] = 0;
    rows[row + PIECES] = 0;
    rows[row + OUTER_TRANSPORT] = 0;
    this.#counts[port] = count + 1;
  }
  /** What was left undone of the frame that was pushed last is left undone still. */
  passOffload(port: number, received: Int32Array, from: number): void {
    const rows = this.#rows[port]!;
    const row = (this.#counts[port] - 1) * ROW;
    rows[row + SEGMENT] = received[from + SEGMENT];
    rows[row + OFFLOAD] = received[from + OFFLOAD];
    rows[row + CHECKSUM_START] = received[from + CHECKSUM_START];
    rows[row + CHECKSUM_FIELD] = received[from + CHECKSUM_FIELD];
    rows[row + HEADERS_END] = received[from + HEADERS_END];
  }
}
