/** A port's descriptors that one worker reads, in turn, so that a busy one does not starve the others. */
import type { PortSpec } from '../messages.ts';

export class Inputs {
  readonly fds: readonly number[];
  #next = 0;

  constructor({ fds, readers }: PortSpec, worker: number) {
    this.fds = fds.filter((_, index) => readers[index] === worker);
  }

  /** Whose turn it is. Only while there is one. */
  next(): number {
    const fd = this.fds[this.#next];
    this.#next = this.#next + 1 === this.fds.length ? 0 : this.#next + 1;
    return fd;
  }
}
