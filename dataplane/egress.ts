/** The egress queues of a worker: what the pipeline wants sent, until the burst is over. */
import { ADDRESS, LENGTH, OFFSET, PORT, ROW, STATUS, TOS, UDP_PORT } from './memory/burst.ts';
import { BURST, MAX_PORTS } from './memory/layout.ts';

/** Frames waiting to leave, one queue of rows a port; a burst puts at most one row in for each frame received. */
export class Egress {
  readonly dirty = new Int32Array(MAX_PORTS);
  dirtyCount = 0;
  readonly #rows: (Int32Array | undefined)[] = [];
  readonly #counts = new Int32Array(MAX_PORTS);

  open(port: number): void {
    this.#rows[port] ??= new Int32Array(BURST * ROW);
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
    this.#counts[port] = count + 1;
  }
}
