/** Control's side of groups: each has its buckets and a row in the table of adjacencies, freed after a grace period. */
import type { GracePeriods } from '../memory/grace.ts';
import { GROUP } from './adjacency.ts';
import type { AdjacencyWriter } from './adjacency-writer.ts';
import { BUCKETS, MAX_GROUPS } from './groups.ts';

/** Every group is in use. */
export class GroupError extends Error {
  readonly code = 'GROUPS_FULL';
}

export class GroupWriter {
  readonly #table: Uint16Array;
  readonly #adjacencies: AdjacencyWriter;
  readonly #grace: GracePeriods;
  /** By row. */
  readonly #blocks = new Map<number, number>();
  #next = 0;
  readonly #free: number[] = [];

  constructor(shared: SharedArrayBuffer, adjacencies: AdjacencyWriter, grace: GracePeriods) {
    this.#table = new Uint16Array(shared);
    this.#adjacencies = adjacencies;
    this.#grace = grace;
  }

  /**
   * The row of a new group with these buckets, rows of members that the caller holds until the group is released. Throws a
   * GroupError if all groups are in use, an AdjacencyError if all rows are.
   */
  acquire(buckets: ArrayLike<number>): number {
    const group = this.#take();
    try {
      this.#table.set(buckets, group * BUCKETS);
      const row = this.#adjacencies.acquire({ ...BLANK, group });
      this.#blocks.set(row, group);
      return row;
    } catch (error) {
      this.#free.push(group);
      throw error;
    }
  }

  /** Give buckets to others, one store each. Rows that go are the caller's to release, from now on. */
  update(row: number, buckets: ArrayLike<number>): void {
    const first = this.#blocks.get(row)! * BUCKETS;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      // In order, so that a new member's row is complete for whoever finds it.
      Atomics.store(this.#table, first + bucket, buckets[bucket]!);
    }
  }

  /** No FIB entry refers to the group any more. */
  release(row: number): void {
    const group = this.#blocks.get(row)!;
    this.#blocks.delete(row);
    this.#adjacencies.release(row);
    this.#grace.retire(() => this.#free.push(group));
  }

  /** Whether a row is a group's. */
  has(row: number): boolean {
    return this.#blocks.has(row);
  }

  get size(): number {
    return this.#blocks.size;
  }

  #take(): number {
    if (this.#free.length === 0 && this.#next === MAX_GROUPS) this.#grace.poll();
    const group = this.#free.pop() ?? this.#next;
    if (group === MAX_GROUPS) throw new GroupError(`all ${MAX_GROUPS} groups of next hops are in use`);
    if (group === this.#next) this.#next++;
    return group;
  }
}

const BLANK = {
  kind: GROUP,
  port: 0,
  nextHop: 0,
  mtu: 0,
  source: 0,
  dmac: null,
  smac: null,
  vni: 0,
} as const;
