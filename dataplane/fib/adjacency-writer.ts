/** Control's side of the adjacency table: equal rows are shared and counted, freed after a grace period. */
import type { GracePeriods } from '../memory/grace.ts';
import { MAX_ADJACENCIES } from '../memory/layout.ts';
import { ADJ_ROW, type Adjacency, writeAdjacency } from './adjacency.ts';

/** Every row is in use. */
export class AdjacencyError extends Error {
  readonly code = 'ADJACENCY_FULL';
}

export class AdjacencyWriter {
  readonly #table: Int32Array;
  readonly #grace: GracePeriods;
  readonly #byContent = new Map<string, { index: number; references: number }>();
  readonly #content: string[] = [];
  /** Row 0 is "no route" and never given out. */
  #next = 1;
  #free: number[] = [];

  constructor(shared: SharedArrayBuffer, grace: GracePeriods) {
    this.#table = new Int32Array(shared);
    this.#grace = grace;
  }

  /** A row that says this, complete in shared memory before the index is returned. Release it as often. */
  acquire(adjacency: Adjacency): number {
    const scratch = new Int32Array(ADJ_ROW);
    writeAdjacency(scratch, 0, adjacency);
    const content = scratch.join();
    const known = this.#byContent.get(content);
    if (known) {
      known.references++;
      return known.index;
    }
    const index = this.#take();
    writeAdjacency(this.#table, index, adjacency);
    this.#byContent.set(content, { index, references: 1 });
    this.#content[index] = content;
    return index;
  }

  /** Give one reference back. No FIB entry may refer to the row on account of it any more. */
  release(index: number): void {
    const content = this.#content[index];
    const known = content === undefined ? undefined : this.#byContent.get(content);
    if (content === undefined || !known) throw new Error(`adjacency ${index} is not in use`);
    if (--known.references > 0) return;
    this.#byContent.delete(content);
    delete this.#content[index];
    this.#grace.retire(() => this.#free.push(index));
  }

  get size(): number {
    return this.#byContent.size;
  }

  #take(): number {
    if (this.#next < MAX_ADJACENCIES) return this.#free.pop() ?? this.#next++;
    if (this.#free.length === 0) this.#grace.poll();
    const index = this.#free.pop();
    if (index === undefined) throw new AdjacencyError(`all ${MAX_ADJACENCIES - 1} adjacencies are in use`);
    return index;
  }
}
