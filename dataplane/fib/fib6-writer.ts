/**
 * Control's side of the IPv6 FIB: sets and deletes routes in place while workers read.
 *
 * A reader racing an update sees the old adjacency or the new one for its address, never a hole: a group is complete
 * before its link is stored, cells are replaced by single 16-bit stores, and a group's memory is used again only after a
 * grace period. A deep group's row never changes while it is linked: where a new prefix leaves a shared stretch
 * half way, a new group is put between, and where the row's own adjacency changes, a copy takes the group's place.
 */
import type { GracePeriods } from '../memory/grace.ts';
import { MAX_ADJACENCIES } from '../memory/layout.ts';
import { get32, viewOf } from '../wire/bytes.ts';
import { FibError, type FibStats } from './fib4-writer.ts';
import {
  AT,
  BASE,
  CELLS6,
  DEEP,
  DEEP_BYTE,
  ELSE,
  type Fib6,
  GROUP_CELLS,
  INDEX,
  KEY,
  LEVEL_32,
  LEVEL_40,
  LEVEL_48,
  LINK,
  lookup6,
  MASK,
  MAX_GROUPS6,
  openFib6,
  ROW6,
} from './fib6.ts';
import { maskWord, PrefixMap6, type Route6 } from './prefix-map6.ts';

/** A cell of the header that nobody reads: it orders stores. */
const FENCE = 1;
/** Where the cells of each fixed level begin, and of the deep groups. */
const LEVELS = [LEVEL_32, LEVEL_40, LEVEL_48, DEEP] as const;
const DEEP_LEVEL = 3;
/** First byte below the base. */
const LEVEL_BYTE = 3;
const ADDRESS_BITS = 128;
/** A new prefix takes at most a deep group for itself and one put between. */
const DEEP_NEED = 2;

/** The groups of one level. */
interface Pool {
  next: number;
  used: number;
  readonly free: number[];
}

export class Fib6Writer {
  readonly #fib: Fib6;
  readonly #grace: GracePeriods;
  readonly #routes = new PrefixMap6();
  /** Length of the prefix that owns each cell; 0: none. */
  readonly #depths = new Uint8Array(CELLS6);
  /** The same of a deep group's ELSE. */
  readonly #elseDepths = new Uint8Array(MAX_GROUPS6);
  /** What holds each group, by level: prefixes that end in it, and links to groups below. */
  readonly #holders = LEVELS.map(() => new Uint32Array(MAX_GROUPS6));
  readonly #pools: readonly Pool[] = LEVELS.map(() => ({ next: 0, used: 0, free: [] }));
  /** What gives back the groups that the change in hand has taken out. */
  #unlinked: (() => void)[] = [];
  /** The prefix in hand. */
  readonly #prefix = new Uint8Array(16);
  readonly #view = viewOf(this.#prefix);

  constructor(shared: SharedArrayBuffer, grace: GracePeriods) {
    this.#fib = openFib6(shared);
    this.#grace = grace;
  }

  /** Insert a route or replace its adjacency. `prefix` is sixteen bytes without host bits. */
  set(prefix: Uint8Array, length: number, adjacency: number): void {
    this.#take(prefix, length);
    if (adjacency <= 0 || adjacency >= MAX_ADJACENCIES) {
      throw new FibError('FIB_ARGUMENT', `adjacency ${adjacency} is not in 1..${MAX_ADJACENCIES - 1}`);
    }
    const fresh = this.#routes.get(this.#view, 0, length) < 0;
    if (fresh) this.#reserve(length);
    this.#routes.set(this.#view, 0, length, adjacency);
    this.#publish();
    if (length === 0) Atomics.store(this.#fib.header, 0, adjacency);
    else this.#insert(length, adjacency, fresh);
    this.#retireUnlinked();
  }

  /** Remove a route; what covered it takes over. False if there was none. */
  delete(prefix: Uint8Array, length: number): boolean {
    this.#take(prefix, length);
    if (!this.#routes.delete(this.#view, 0, length)) return false;
    if (length === 0) {
      Atomics.store(this.#fib.header, 0, 0);
      return true;
    }
    // The default route is not in cells: a cell that only it covers is 0.
    const coverLength = Math.max(0, this.#routes.coverLength(this.#view, 0, length));
    const cover = coverLength === 0 ? 0 : this.#routes.get(this.#view, 0, coverLength);
    this.#remove(length, cover, coverLength);
    this.#retireUnlinked();
    return true;
  }

  /** The adjacency of exactly this prefix, or -1. */
  get(prefix: Uint8Array, length: number): number {
    return this.#routes.get(viewOf(prefix), 0, length);
  }

  lookup(address: Uint8Array): number {
    return lookup6(this.#fib, viewOf(address), 0);
  }

  entries(): Generator<Route6> {
    return this.#routes.entries();
  }

  stats(): FibStats {
    const groups = this.#pools.reduce((sum, pool) => sum + pool.used, 0);
    return { routes: this.#routes.size, groups, groupLimit: MAX_GROUPS6 * LEVELS.length };
  }

  // ---- Insertion -----------------------------------------------------------------------------------

  #insert(length: number, adjacency: number, fresh: boolean): void {
    const { cells } = this.#fib;
    const last = (length - 1) >> 3;
    if (last < LEVEL_BYTE) {
      const cell = BASE + (get32(this.#view, 0) >>> 8);
      return this.#paint(cell, 1 << (24 - length), adjacency, length, length);
    }
    // Down the fixed levels. `link` is the cell that names the next group; `holder` counts what its group holds.
    let link = BASE + (get32(this.#view, 0) >>> 8);
    let level = 0;
    for (; level < DEEP_LEVEL; level++) {
      const isLinked = cells[link]! >= LINK;
      const group = isLinked ? cells[link]! & INDEX : this.#newGroup(level, link);
      const cell = LEVELS[level]! + ((group << 8) | this.#prefix[LEVEL_BYTE + level]!);
      const ends = last === LEVEL_BYTE + level;
      if (ends) {
        this.#paint(cell, this.#span(length), adjacency, length, length);
        if (fresh) this.#hold(level, group);
      }
      if (!isLinked) {
        // Of what comes further below nothing is there yet: a reader that passes here finds what it found before.
        if (level > 0) this.#hold(level - 1, this.#groupOf(link, level - 1));
        this.#link(link, group);
      }
      if (ends) return;
      link = cell;
    }
    this.#insertDeep(link, last, length, adjacency, fresh);
  }

  #insertDeep(from: number, last: number, length: number, adjacency: number, fresh: boolean): void {
    const { cells, rows } = this.#fib;
    let link = from;
    for (;;) {
      if (cells[link]! < LINK) {
        const group = this.#newDeep(link, last);
        this.#paint(this.#cellIn(group, last), this.#span(length), adjacency, length, length);
        this.#hold(DEEP_LEVEL, group);
        this.#holdLink(link);
        this.#link(link, group);
        return;
      }
      const group = cells[link]! & INDEX;
      const at = rows[group * ROW6 + AT]!;
      const split = Math.min(last, this.#firstDifference(group, at));
      if (split < at) {
        // The prefix ends in, or leaves, the stretch that the group's addresses share: a group between.
        const between = this.#newBetween(link, group, split);
        this.#link(link, between);
        if (split === last) {
          // Only now: until the group between is there, what is below answers for more than the prefix covers.
          this.#paint(this.#cellIn(between, last), this.#span(length), adjacency, length, length);
          this.#hold(DEEP_LEVEL, between);
          return;
        }
        link = this.#cellIn(between, split);
        continue;
      }
      if (at === last) {
        this.#paint(this.#cellIn(group, last), this.#span(length), adjacency, length, length);
        if (fresh) this.#hold(DEEP_LEVEL, group);
        return;
      }
      link = this.#cellIn(group, at);
    }
  }

  /** The first byte in which the prefix in hand differs from what a deep group's addresses share, or `at`. */
  #firstDifference(group: number, at: number): number {
    const row = group * ROW6 + KEY;
    for (let byte = DEEP_BYTE; byte < at; byte++) {
      const word = this.#fib.rows[row + (byte >> 2) - 1]!;
      if (((word >>> (24 - 8 * (byte & 3))) & 0xff) !== this.#prefix[byte]!) return byte;
    }
    return at;
  }

  /** A group of a fixed level that answers as the cell does that will name it. */
  #newGroup(level: number, link: number): number {
    const group = this.#takeGroup(level);
    this.#fill(LEVELS[level]! + (group << 8), this.#fib.cells[link]!, this.#depths[link]!);
    return group;
  }

  /** A deep group at byte `at` of the prefix in hand that answers as the cell does that will name it. */
  #newDeep(link: number, at: number): number {
    const group = this.#takeGroup(DEEP_LEVEL);
    const adjacency = this.#fib.cells[link]!;
    const depth = this.#depths[link]!;
    this.#writeRow(group, at, adjacency, depth);
    this.#fill(DEEP + (group << 8), adjacency, depth);
    return group;
  }

  /** A deep group at byte `at` that answers as `below` does, which it names. */
  #newBetween(link: number, below: number, at: number): number {
    const { rows, cells } = this.#fib;
    const group = this.#takeGroup(DEEP_LEVEL);
    const adjacency = rows[below * ROW6 + ELSE]!;
    const depth = this.#elseDepths[below]!;
    // Up to `at` the prefix in hand is the same as what is below.
    this.#writeRow(group, at, adjacency, depth);
    this.#fill(DEEP + (group << 8), adjacency, depth);
    const word = rows[below * ROW6 + KEY + (at >> 2) - 1]!;
    cells[DEEP + ((group << 8) | ((word >>> (24 - 8 * (at & 3))) & 0xff))] = cells[link]!;
    this.#hold(DEEP_LEVEL, group);
    return group;
  }

  #writeRow(group: number, at: number, adjacency: number, depth: number): void {
    const { rows } = this.#fib;
    const row = group * ROW6;
    for (let word = 1; word < 4; word++) {
      const mask = maskWord(at * 8, word);
      rows[row + MASK + word - 1] = mask;
      rows[row + KEY + word - 1] = get32(this.#view, word * 4) & mask;
    }
    rows[row + AT] = at;
    rows[row + ELSE] = adjacency;
    this.#elseDepths[group] = depth;
  }

  // ---- Removal -------------------------------------------------------------------------------------

  /** Give what the prefix in hand owned to its cover, and take away the groups that hold nothing any more. */
  #remove(length: number, cover: number, coverLength: number): void {
    const { cells, rows } = this.#fib;
    const last = (length - 1) >> 3;
    const first = BASE + (get32(this.#view, 0) >>> 8);
    if (last < LEVEL_BYTE) {
      return this.#paint(first, 1 << (24 - length), cover, coverLength, length, length);
    }
    /** The cells that name the groups on the way down, and the groups' levels. */
    const links: number[] = [];
    let link = first;
    let level = 0;
    for (;;) {
      links.push(link);
      const group = cells[link]! & INDEX;
      const at = level < DEEP_LEVEL ? LEVEL_BYTE + level : rows[group * ROW6 + AT]!;
      const cell = LEVELS[level]! + ((group << 8) | this.#prefix[at]!);
      if (at === last) {
        this.#paint(cell, this.#span(length), cover, coverLength, length, length);
        break;
      }
      link = cell;
      if (level < DEEP_LEVEL) level++;
    }
    this.#prune(links);
  }

  #prune(links: number[]): void {
    const { cells, rows } = this.#fib;
    for (let depth = links.length - 1; depth >= 0; depth--) {
      const link = links[depth]!;
      const level = Math.min(depth, DEEP_LEVEL);
      const group = cells[link]! & INDEX;
      const holders = this.#holders[level]!;
      holders[group]! -= 1;
      if (holders[group] !== 0) {
        // One link and nothing else: the group above may name the one below itself.
        if (level === DEEP_LEVEL && holders[group] === 1) this.#bridge(link, group);
        return;
      }
      // Every cell now belongs to one shorter prefix: fold the group back into the cell that named it.
      const start = LEVELS[level]! + (group << 8);
      const isDeep = level === DEEP_LEVEL;
      const value = isDeep ? rows[group * ROW6 + ELSE]! : cells[start]!;
      this.#depths[link] = isDeep ? this.#elseDepths[group]! : this.#depths[start]!;
      this.#link(link, -1, value);
      this.#giveBack(level, group);
    }
  }

  /** Name the group below directly if the one link is all that a deep group holds. */
  #bridge(link: number, group: number): void {
    const { cells } = this.#fib;
    const start = DEEP + (group << 8);
    for (let cell = start; cell < start + GROUP_CELLS; cell++) {
      if (cells[cell]! < LINK) continue;
      this.#link(link, cells[cell]! & INDEX);
      this.#giveBack(DEEP_LEVEL, group);
      return;
    }
  }

  // ---- Cells and groups ----------------------------------------------------------------------------

  /**
   * Give `count` cells from `first` on, and all below them, that are owned by prefixes of `minDepth`..`maxDepth` bits to
   * an adjacency at `depth`.
   */
  #paint(
    first: number,
    count: number,
    adjacency: number,
    depth: number,
    maxDepth: number,
    minDepth = 0,
  ): void {
    const { cells, rows } = this.#fib;
    const depths = this.#depths;
    for (let cell = first; cell < first + count; cell++) {
      const value = cells[cell]!;
      if (value < LINK) {
        if (depths[cell]! <= maxDepth && depths[cell]! >= minDepth) {
          cells[cell] = adjacency;
          depths[cell] = depth;
        }
        continue;
      }
      const group = value & INDEX;
      const below = levelBelow(cell);
      if (below < DEEP_LEVEL) {
        this.#paint(LEVELS[below]! + (group << 8), GROUP_CELLS, adjacency, depth, maxDepth, minDepth);
        continue;
      }
      // What is in a deep group belongs to no shorter prefix than its ELSE does.
      const own = this.#elseDepths[group]!;
      if (own > maxDepth || own < minDepth) continue;
      const other = this.#copyDeep(group);
      rows[other * ROW6 + ELSE] = adjacency;
      this.#elseDepths[other] = depth;
      this.#paint(DEEP + (other << 8), GROUP_CELLS, adjacency, depth, maxDepth, minDepth);
      if (other === group) continue;
      this.#link(cell, other);
      this.#giveBack(DEEP_LEVEL, group);
    }
  }

  /**
   * A copy of a deep group, to be given another ELSE. In place it would be wrong: a reader may be on its way to the group
   * from before another was put above it, for an address that this one's ELSE was not painted for. With no group left
   * it is done in place all the same, and such a reader may err once.
   */
  #copyDeep(group: number): number {
    if (this.#left(DEEP_LEVEL) === 0) this.#grace.poll();
    if (this.#left(DEEP_LEVEL) === 0) return group;
    const { rows, cells } = this.#fib;
    const copy = this.#takeGroup(DEEP_LEVEL);
    rows.copyWithin(copy * ROW6, group * ROW6, (group + 1) * ROW6);
    const first = DEEP + (group << 8);
    cells.copyWithin(DEEP + (copy << 8), first, first + GROUP_CELLS);
    this.#depths.copyWithin(DEEP + (copy << 8), first, first + GROUP_CELLS);
    const holders = this.#holders[DEEP_LEVEL]!;
    holders[copy] = holders[group]!;
    return copy;
  }

  #fill(first: number, adjacency: number, depth: number): void {
    this.#fib.cells.fill(adjacency, first, first + GROUP_CELLS);
    this.#depths.fill(depth, first, first + GROUP_CELLS);
  }

  /** Store a link, or a value in a link's place, after everything that it leads to. */
  #link(cell: number, group: number, value = LINK | group): void {
    Atomics.store(this.#fib.cells, cell, value);
  }

  #cellIn(group: number, byte: number): number {
    return DEEP + ((group << 8) | this.#prefix[byte]!);
  }

  /** Cells that a prefix takes in the group in which it ends. */
  #span(length: number): number {
    return 1 << (-length & 7);
  }

  #hold(level: number, group: number): void {
    this.#holders[level]![group]! += 1;
  }

  /** The group in which a cell of the given level lies. */
  #groupOf(cell: number, level: number): number {
    return (cell - LEVELS[level]!) >> 8;
  }

  /** Count a link that is about to be stored in a cell for the cell's own group. */
  #holdLink(cell: number): void {
    const level = cell >= DEEP ? DEEP_LEVEL : DEEP_LEVEL - 1;
    this.#hold(level, this.#groupOf(cell, level));
  }

  #takeGroup(level: number): number {
    const pool = this.#pools[level]!;
    pool.used++;
    const group = pool.free.pop() ?? pool.next++;
    this.#holders[level]![group] = 0;
    return group;
  }

  /** Only once the change is whole: what is not linked from a copy may be so from what the copy will replace. */
  #giveBack(level: number, group: number): void {
    const pool = this.#pools[level]!;
    pool.used--;
    this.#unlinked.push(() => pool.free.push(group));
  }

  #retireUnlinked(): void {
    for (const free of this.#unlinked) this.#grace.retire(free);
    this.#unlinked = [];
  }

  /** Groups of a level that may be taken. */
  #left(level: number): number {
    const pool = this.#pools[level]!;
    return MAX_GROUPS6 - pool.next + pool.free.length;
  }

  /** Fail before anything is changed if a new prefix of this length could find no group. */
  #reserve(length: number): void {
    const last = (length - 1) >> 3;
    for (let level = 0; level <= DEEP_LEVEL && LEVEL_BYTE + level <= last; level++) {
      const need = level === DEEP_LEVEL ? DEEP_NEED : 1;
      if (this.#left(level) < need) this.#grace.poll();
      if (this.#left(level) >= need) continue;
      const where = level === DEEP_LEVEL ? '/48' : `/${24 + 8 * level}`;
      throw new FibError(
        'FIB_FULL',
        `all ${MAX_GROUPS6} groups for IPv6 prefixes longer than ${where} are in use`,
      );
    }
  }

  /** Let whatever was stored before, the adjacency's row above all, be seen before any cell that is stored after. */
  #publish(): void {
    Atomics.store(this.#fib.header, FENCE, 0);
    Atomics.load(this.#fib.header, FENCE);
  }

  /** Take a prefix in hand. */
  #take(prefix: Uint8Array, length: number): void {
    if (!Number.isInteger(length) || length < 0 || length > ADDRESS_BITS) {
      throw new FibError('FIB_ARGUMENT', `prefix length ${length} is not in 0..${ADDRESS_BITS}`);
    }
    this.#prefix.set(prefix);
    for (let word = 0; word < 4; word++) {
      if ((get32(this.#view, word * 4) & ~maskWord(length, word)) !== 0) {
        throw new FibError(
          'FIB_ARGUMENT',
          `prefix ${Buffer.from(prefix).toString('hex')}/${length} has host bits`,
        );
      }
    }
  }
}

/** The level of the group that a cell may name. */
function levelBelow(cell: number): number {
  if (cell < LEVEL_32) return 0;
  if (cell < LEVEL_40) return 1;
  return cell < LEVEL_48 ? 2 : DEEP_LEVEL;
}
