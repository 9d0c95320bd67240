/**
 * Control's side of the IPv4 FIB: sets and deletes routes in place while workers read.
 *
 * A reader racing an update sees the old adjacency or the new one for its address, never a hole: a group is
 * complete before its link is stored, cells are replaced by single 16-bit stores, and a group's memory is
 * used again only after a grace period.
 */

import type { GracePeriods } from '../memory/grace.ts';
import { MAX_ADJACENCIES } from '../memory/layout.ts';
import { BASE_CELLS, type Fib4, GROUP_CELLS, GROUP_FLAG, lookup4, MAX_GROUPS, openFib4 } from './fib4.ts';
import { maskOf, PrefixMap } from './prefix-map.ts';

/** A cell of the header that nobody reads: it orders stores. */
const FENCE = 1;

/** A limit of the FIB was reached; nothing was changed. */
export class FibError extends Error {
  readonly code: 'FIB_FULL' | 'FIB_ARGUMENT';
  constructor(code: FibError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export interface FibStats {
  readonly routes: number;
  readonly groups: number;
  readonly groupLimit: number;
}

export class Fib4Writer {
  readonly #fib: Fib4;
  readonly #grace: GracePeriods;
  readonly #routes = new PrefixMap();
  /** Length of the prefix that owns each cell; 0: none. */
  readonly #baseDepth = new Uint8Array(BASE_CELLS);
  readonly #groupDepth = new Uint8Array(MAX_GROUPS * GROUP_CELLS);
  /** Prefixes longer than /24 in each group. */
  readonly #groupRoutes = new Uint16Array(MAX_GROUPS);
  #nextGroup = 0;
  #freeGroups: number[] = [];
  #usedGroups = 0;
  /** Keeps the reads of `fetch` from being left out. */
  fetched = 0;

  constructor(shared: SharedArrayBuffer, grace: GracePeriods) {
    this.#fib = openFib4(shared);
    this.#grace = grace;
  }

  /**
   * Read what `set` will look at. Where many routes follow one another, each waits for memory two or three times: asked for ahead,
   * these waits overlap.
   */
  fetch(prefix: number, length: number): void {
    const at = prefix >>> 8;
    const depth = length < 24 ? this.#baseDepth[at]! : 0;
    this.fetched ^= this.#routes.fetch(prefix, length) ^ this.#fib.base[at]! ^ depth;
  }

  /** Insert a route or replace its adjacency. `prefix` is an int32 without host bits. */
  set(prefix: number, length: number, adjacency: number): void {
    this.#check(prefix, length);
    if (adjacency <= 0 || adjacency >= MAX_ADJACENCIES) {
      throw new FibError('FIB_ARGUMENT', `adjacency ${adjacency} is not in 1..${MAX_ADJACENCIES - 1}`);
    }
    if (length > 24 && this.#routes.get(prefix, length) < 0) this.#reserveGroup(prefix);
    const fresh = this.#routes.set(prefix, length, adjacency);
    this.#publish();
    if (length === 0) Atomics.store(this.#fib.header, 0, adjacency);
    else if (length <= 24) this.#paintBase(prefix, length, adjacency, length, length);
    else this.#setLong(prefix, length, adjacency, fresh);
  }

  /** Remove a route; what covered it takes over. False if there was none. */
  delete(prefix: number, length: number): boolean {
    this.#check(prefix, length);
    if (!this.#routes.delete(prefix, length)) return false;
    if (length === 0) {
      Atomics.store(this.#fib.header, 0, 0);
      return true;
    }
    // The default route is not in cells: a cell that only it covers is 0.
    const coverLength = Math.max(0, this.#routes.coverLength(prefix, length));
    const cover = coverLength === 0 ? 0 : this.#routes.get(prefix & maskOf(coverLength), coverLength);
    if (length <= 24) this.#paintBase(prefix, length, cover, coverLength, length, length);
    else this.#deleteLong(prefix, length, cover, coverLength);
    return true;
  }

  /** The adjacency of exactly this prefix, or -1. */
  get(prefix: number, length: number): number {
    return this.#routes.get(prefix, length);
  }

  lookup(address: number): number {
    return lookup4(this.#fib, address);
  }

  entries(): Generator<{ prefix: number; length: number; value: number }> {
    return this.#routes.entries();
  }

  stats(): FibStats {
    return { routes: this.#routes.size, groups: this.#usedGroups, groupLimit: MAX_GROUPS };
  }

  /**
   * Give the cells under a prefix of at most 24 bits, groups included, that are owned by prefixes of
   * `minDepth`..`maxDepth` bits to an adjacency at `depth`.
   */
  #paintBase(
    prefix: number,
    length: number,
    adjacency: number,
    depth: number,
    maxDepth: number,
    minDepth = 0,
  ): void {
    const { base } = this.#fib;
    const depths = this.#baseDepth;
    const first = prefix >>> 8;
    const end = first + (1 << (24 - length));
    for (let i = first; i < end; i++) {
      const cell = base[i]!;
      if (cell >= GROUP_FLAG) {
        this.#paintGroup((cell & 0x7fff) << 8, GROUP_CELLS, adjacency, depth, maxDepth, minDepth);
      } else if (minDepth === 0 && maxDepth === 24) {
        // Nothing in these cells is longer: no need to look.
        base[i] = adjacency;
        depths[i] = depth;
      } else if (depths[i]! <= maxDepth && depths[i]! >= minDepth) {
        base[i] = adjacency;
        depths[i] = depth;
      }
    }
  }

  #paintGroup(
    first: number,
    count: number,
    adjacency: number,
    depth: number,
    maxDepth: number,
    minDepth = 0,
  ): void {
    const { groups } = this.#fib;
    const depths = this.#groupDepth;
    for (let i = first; i < first + count; i++) {
      if (depths[i]! <= maxDepth && depths[i]! >= minDepth) {
        groups[i] = adjacency;
        depths[i] = depth;
      }
    }
  }

  #setLong(prefix: number, length: number, adjacency: number, fresh: boolean): void {
    const { base } = this.#fib;
    const at = prefix >>> 8;
    const linked = base[at]! >= GROUP_FLAG;
    const group = linked ? base[at]! & 0x7fff : this.#takeGroup();
    const first = group << 8;
    if (!linked) {
      this.#fib.groups.fill(base[at]!, first, first + GROUP_CELLS);
      this.#groupDepth.fill(this.#baseDepth[at]!, first, first + GROUP_CELLS);
    }
    this.#paintGroup(first | (prefix & 0xff), 1 << (32 - length), adjacency, length, length);
    if (fresh) this.#groupRoutes[group]! += 1;
    if (!linked) Atomics.store(base, at, GROUP_FLAG | group);
  }

  #deleteLong(prefix: number, length: number, cover: number, coverLength: number): void {
    const { base, groups } = this.#fib;
    const at = prefix >>> 8;
    const group = base[at]! & 0x7fff;
    const first = group << 8;
    this.#paintGroup(first | (prefix & 0xff), 1 << (32 - length), cover, coverLength, length, length);
    this.#groupRoutes[group]! -= 1;
    if (this.#groupRoutes[group] !== 0) return;
    // Every cell now belongs to one prefix of at most 24 bits: fold the group back into its base cell.
    this.#baseDepth[at] = this.#groupDepth[first]!;
    Atomics.store(base, at, groups[first]!);
    this.#usedGroups--;
    this.#grace.retire(() => this.#freeGroups.push(group));
  }

  /** Fail before anything is changed if a new long prefix would need a group and none is left. */
  #reserveGroup(prefix: number): void {
    if (this.#fib.base[prefix >>> 8]! >= GROUP_FLAG || this.#nextGroup < MAX_GROUPS) return;
    if (this.#freeGroups.length === 0) this.#grace.poll();
    if (this.#freeGroups.length === 0) {
      throw new FibError('FIB_FULL', `all ${MAX_GROUPS} groups for prefixes longer than /24 are in use`);
    }
  }

  /**
   * Let whatever was stored before, the adjacency's row above all, be seen before any cell that is stored
   * after: cells are plain stores, which ARM may move to before a lone atomic store.
   */
  #publish(): void {
    Atomics.store(this.#fib.header, FENCE, 0);
    Atomics.load(this.#fib.header, FENCE);
  }

  #takeGroup(): number {
    this.#usedGroups++;
    return this.#freeGroups.pop() ?? this.#nextGroup++;
  }

  #check(prefix: number, length: number): void {
    if (!Number.isInteger(length) || length < 0 || length > 32) {
      throw new FibError('FIB_ARGUMENT', `prefix length ${length} is not in 0..32`);
    }
    if ((prefix & maskOf(length)) !== prefix) {
      throw new FibError('FIB_ARGUMENT', `prefix 0x${(prefix >>> 0).toString(16)}/${length} has host bits`);
    }
  }
}
