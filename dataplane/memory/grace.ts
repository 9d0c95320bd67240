/**
 * Grace periods (quiescent-state reclamation): memory that a reader may still hold is reused only after
 * every worker has passed a quiet point.
 *
 * A worker enters once a loop, when it holds nothing, and leaves while it sleeps. Control retires memory and
 * polls; nobody waits for anybody.
 */
import { MAX_WORKERS } from './layout.ts';

/** int32 cells a cache line: each worker's epoch has a line of its own. */
const LINE = 16;
const OFFLINE = 0;

/** The global epoch in line 0; worker w's last seen epoch in line 1 + w, 0 while it is offline. */
export function createEpochs(): SharedArrayBuffer {
  const epochs = new SharedArrayBuffer((1 + MAX_WORKERS) * LINE * 4);
  new Int32Array(epochs)[0] = 1;
  return epochs;
}

/** The workers' side. */
export class Readers {
  readonly #cells: Int32Array;

  constructor(epochs: SharedArrayBuffer) {
    this.#cells = new Int32Array(epochs);
  }

  /** Pass a quiet point: whatever was read from the tables before is held no more. */
  enter(worker: number): void {
    // If control moves on between load and store, we publish the older epoch and merely delay it a loop.
    Atomics.store(this.#cells, (1 + worker) * LINE, Atomics.load(this.#cells, 0));
    // Look-ups are plain loads. Where memory is ordered weakly (ARM) only a load keeps them behind the store:
    // before it, control takes us for offline and waits for nobody.
    Atomics.load(this.#cells, 0);
  }

  /** Go offline: holds nothing until the next `enter`. */
  leave(worker: number): void {
    Atomics.store(this.#cells, (1 + worker) * LINE, OFFLINE);
  }
}

/** Control's side. */
export class GracePeriods {
  readonly #cells: Int32Array;
  #retired: { epoch: number; free: () => void }[] = [];

  constructor(epochs: SharedArrayBuffer) {
    this.#cells = new Int32Array(epochs);
  }

  /** Call `free` from a later `poll`, once no worker can still hold what was unlinked before this call. */
  retire(free: () => void): void {
    this.#retired.push({ epoch: this.#advance(), free });
  }

  /** Free what no worker holds any more. */
  poll(): void {
    const oldest = this.#oldestEpoch();
    const ready = this.#retired.filter((item) => item.epoch <= oldest);
    if (ready.length === 0) return;
    this.#retired = this.#retired.filter((item) => item.epoch > oldest);
    for (const { free } of ready) free();
  }

  get pending(): number {
    return this.#retired.length;
  }

  #advance(): number {
    const next = Atomics.load(this.#cells, 0) + 1;
    // Epochs are compared as numbers and 0 means offline: 2^31 retirements outlive any process here.
    Atomics.store(this.#cells, 0, next);
    return next;
  }

  #oldestEpoch(): number {
    let oldest = Atomics.load(this.#cells, 0);
    for (let worker = 0; worker < MAX_WORKERS; worker++) {
      const seen = Atomics.load(this.#cells, (1 + worker) * LINE);
      if (seen !== OFFLINE && seen < oldest) oldest = seen;
    }
    return oldest;
  }
}
