/** A TAP device, of a pod or of the host: one descriptor a queue. */
import { OFFLOAD, ROW, SEGMENTED } from '../memory/burst.ts';
import { BURST } from '../memory/layout.ts';
import type { PortSpec } from '../messages.ts';
import { Inputs } from './inputs.ts';
import type { Port, Workspace } from './port.ts';

export class TapPort implements Port {
  readonly inputs: readonly number[];
  readonly #workspace: Workspace;
  readonly #vnetHeader: number;
  readonly #inputs: Inputs;
  readonly #output: number;

  /** Each worker writes to a queue of its own as far as there are queues, and so contends with no other. */
  constructor(workspace: Workspace, spec: PortSpec, worker: number) {
    const { fds, vnetHeader = 0 } = spec;
    if (fds.length === 0) throw new Error('a TAP port needs a descriptor');
    this.#workspace = workspace;
    this.#vnetHeader = vnetHeader;
    this.#inputs = new Inputs(spec, worker);
    this.inputs = this.#inputs.fds;
    this.#output = fds[worker % fds.length];
  }

  receive(arena: Uint8Array, rows: Int32Array, start: number, headroom: number): number {
    const { native } = this.#workspace;
    for (let tried = 0; tried < this.inputs.length; tried++) {
      const count = native.tapRead(
        this.#inputs.next(),
        arena,
        rows,
        BURST,
        start,
        headroom,
        this.#vnetHeader,
      );
      if (count > 0) return count;
    }
    return 0;
  }

  transmit(arena: Uint8Array, rows: Int32Array, count: number): number {
    const { native, joiner, tally } = this.#workspace;
    if (this.#vnetHeader === 0 || count === 1 || !hasSegments(rows, count)) {
      return native.tapWrite(this.#output, arena, rows, count, this.#vnetHeader);
    }
    const frames = joiner.join(rows, count);
    const written = native.tapWrite(this.#output, arena, joiner.rows, frames, this.#vnetHeader);
    joiner.settle(rows, count);
    if (frames === count) return written;
    tally.joined += joiner.joined;
    tally.joinedInto += joiner.joinedInto;
    return written === frames ? count : 0;
  }
}

/** Whether there may be something to join: two neighbours from a tunnel's wire. */
function hasSegments(rows: Int32Array, count: number): boolean {
  for (let row = ROW; row < count * ROW; row += ROW) {
    if ((rows[row + OFFLOAD] & rows[row - ROW + OFFLOAD] & SEGMENTED) !== 0) return true;
  }
  return false;
}
