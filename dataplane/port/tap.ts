/** A TAP device, of a pod or of the host: one descriptor a queue. */
import type { Native } from '../native/index.ts';
import type { Port } from './port.ts';

export class TapPort implements Port {
  readonly inputs: readonly number[];
  readonly #native: Native;
  readonly #output: number;
  #next = 0;

  /** Each worker writes to a queue of its own as far as there are queues, and so contends with no other. */
  constructor(native: Native, fds: readonly number[], worker: number) {
    if (fds.length === 0) throw new Error('a TAP port needs a descriptor');
    this.#native = native;
    this.inputs = fds;
    this.#output = fds[worker % fds.length];
  }

  /** From one queue a burst, taking turns, so that a busy queue does not starve the others. */
  receive(arena: Uint8Array, rows: Int32Array, max: number, start: number, headroom: number): number {
    const fds = this.inputs;
    for (let tried = 0; tried < fds.length; tried++) {
      const fd = fds[this.#next];
      this.#next = this.#next + 1 === fds.length ? 0 : this.#next + 1;
      const count = this.#native.tapRead(fd, arena, rows, max, start, headroom);
      if (count > 0) return count;
    }
    return 0;
  }

  transmit(arena: Uint8Array, rows: Int32Array, count: number): number {
    return this.#native.tapWrite(this.#output, arena, rows, count);
  }
}
