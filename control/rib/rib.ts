/**
 * The RIB of one family: the paths that each source announced, and what is best for each prefix.
 *
 * announce() and withdraw() only note which prefixes they touched; the best paths of these are chosen a slice at a
 * time in later turns of the event loop, and each slice is told as one 'change': numbers of prefixes, good until the
 * listeners return. What is asked about best paths is answered as of the last slice, in step with what was told.
 *
 * Prefixes and paths are records of int32, not objects: a path takes 20 bytes, a prefix 24 (IPv6: 36) and its place
 * in the hash.
 */
import { EventEmitter } from 'node:events';
import { type AttributeSet, type AttributeTable, NO_LLGR } from '../bgp/attribute-table.ts';
import type { Attributes } from '../bgp/attributes.ts';
import type { Family, Prefix } from '../bgp/family.ts';
import type { NextHop } from '../bgp/next-hop.ts';
import { LENGTH, PATH_ID, type PrefixList, WORDS } from '../bgp/nlri.ts';
import {
  type Contender,
  choose,
  equals,
  LAST_COMMON_STEP,
  type Path,
  type PathSource,
  REASONS,
  type Reason,
} from './decision.ts';
import { PrefixTable } from './prefix-table.ts';
import { Records } from './records.ts';

export interface Route {
  readonly prefix: Prefix;
  readonly path: Path;
  readonly reason: Reason;
}

/** A path in its place among all of a prefix. */
export interface Candidate {
  readonly path: Path;
  /** The step by which it beats those after it; null on paths that cannot be chosen. */
  readonly reason: Reason | null;
  /** As good as the best but for the tie-breaks. */
  readonly multipath: boolean;
}

/** Why a path is in the RIB and cannot be chosen. */
export const ADMITTED = 0;
export const FILTERED = 1;
export const REFUSED = 2;
export const NEXT_HOP_UNREACHABLE = 'next hop unreachable';
const EXCLUSIONS = ['', 'refused by the import policy', 'refused: a loop, or no unicast route'];

// Notes of a prefix, behind its words and its length.
const NOTES = 4;
/** First path, or -1. */
const HEAD = 1;
/** Best path, or -1. */
const BEST = 2;
/** Number of the deciding step, and flags. */
const STATE = 3;
/** Others that refer to the number of the prefix. */
const HOLDS = 4;
const DIRTY = 0x100;
/** The best path's attributes are others than were told. */
const CHANGED = 0x200;
/** Its change is being told: the number must stay. */
const TELLING = 0x400;
const STEP = 0xff;

// Fields of a path.
const PATH = 5;
/** Next path of the prefix, or -1. */
const NEXT = 0;
const SET = 1;
/** Index of the source, flags << 16, generation << 18. */
const ORIGIN = 2;
const ID = 3;
/** Seconds since the RIB was made. */
const SINCE = 4;
const SOURCE_MASK = 0xffff;
const FLAGS_SHIFT = 16;
const FLAGS_MASK = 3;
const GENERATION_SHIFT = 18;
const GENERATION_MASK = 0x3fff;

/** Prefixes whose best path is chosen, and prefixes that a sweep looks at, in one turn of the event loop. */
const SLICE = 512;
/** Slices go on in one turn for so long: others wait. */
const TURN_MS = 3;
const SWEEP_SLICE = 16_384;
export const MAX_SOURCES = SOURCE_MASK + 1;

/** What a source has in the RIB. */
interface Holdings {
  readonly source: PathSource;
  admitted: number;
  excluded: number;
  stale: number;
  /** Counts sessions and rounds of telling all again: paths of an earlier one are stale. 14 bit. */
  generation: number;
  /** Its paths of generations before `keep` are going. */
  sweep: (Sweep & { keep: number; isAgain: boolean }) | null;
  /** Its stale paths live on as the last choice (RFC 9494). */
  longLived: boolean;
}

/** Work over all prefixes, a slice at a time: true from `visit` touches the prefix. */
interface Sweep {
  at: number;
  visit(id: number): void;
  done(): void;
}

export class Rib extends EventEmitter<{
  /** Best paths have changed. */
  change: [ids: Int32Array, count: number];
  /** Any paths have changed. */
  touch: [ids: Int32Array, count: number];
}> {
  readonly family: Family;
  readonly #table: AttributeTable;
  readonly #prefixes: PrefixTable;
  readonly #paths = new Records(PATH);
  readonly #holdings: (Holdings | undefined)[] = [];
  /** A whole second, as times are told. */
  readonly #epoch = Math.floor(Date.now() / 1000) * 1000;
  readonly #clock: () => number;
  readonly #base: number;
  #dirty = new Int32Array(SLICE);
  #dirtyAt = 0;
  #dirtyEnd = 0;
  #sweeps: Sweep[] = [];
  /** Next hops that a sweep which has not begun will look for. */
  #changedHops = new Set<NextHop>();
  #scheduled = false;
  readonly #changed = new Int32Array(SLICE);
  readonly #touched = new Int32Array(SLICE);

  /** `clock`: when a path that is announced now came, ms since the epoch. */
  constructor(family: Family, table: AttributeTable, clock: () => number = Date.now) {
    super();
    this.setMaxListeners(0);
    this.family = family;
    this.#table = table;
    this.#clock = clock;
    this.#prefixes = new PrefixTable(family, NOTES);
    this.#base = this.#prefixes.lengthField;
  }

  // ---- What sources say ------------------------------------------------------------------------------

  /** A source that may announce from now on. Its index must be free. */
  addSource(source: PathSource): void {
    this.#holdings[source.index] = {
      source,
      admitted: 0,
      excluded: 0,
      stale: 0,
      generation: 0,
      sweep: null,
      longLived: false,
    };
  }

  /** A source announces prefixes, replacing what it announced for them (under their path identifiers) before. */
  announce(source: PathSource, set: AttributeSet, list: PrefixList, exclusion = ADMITTED): void {
    const { data, end, stride } = list;
    const now = this.#now();
    this.#prefixes.fetch(list);
    for (let at = 0; at < end; at += stride) this.#announce(source, set, data, at, exclusion, now);
    this.#schedule();
  }

  /** The same for the entry of a list that begins at data[at]. `settle` is the caller's to call afterwards. */
  announceOne(source: PathSource, set: AttributeSet, data: Int32Array, at: number): void {
    this.#announce(source, set, data, at, ADMITTED, this.#now());
  }

  #announce(
    source: PathSource,
    set: AttributeSet,
    data: Int32Array,
    at: number,
    exclusion: number,
    now: number,
  ): void {
    const holdings = this.#holdings[source.index]!;
    const { records } = this.#prefixes;
    const size = records.size;
    const prefix = this.#prefixes.intern(data, at + WORDS, data[at + LENGTH]!);
    if (records.size > size) {
      const page = records.page(prefix);
      const notes = records.at(prefix) + this.#base;
      page[notes + HEAD] = -1;
      page[notes + BEST] = -1;
      page[notes + STATE] = 0;
      page[notes + HOLDS] = 0;
    }
    const paths = this.#paths;
    const origin = source.index | (exclusion << FLAGS_SHIFT) | (holdings.generation << GENERATION_SHIFT);
    const known = this.#find(prefix, source.index, data[at + PATH_ID]!);
    let path = known;
    if (path >= 0) {
      const before = paths.get(path, SET);
      const wasOrigin = paths.get(path, ORIGIN);
      this.#count(holdings, wasOrigin, -1);
      this.#count(holdings, origin, 1);
      paths.set(path, ORIGIN, origin);
      const isSame = before === set.id && ((wasOrigin ^ origin) & (FLAGS_MASK << FLAGS_SHIFT)) === 0;
      // A stale path that is told again is the same path: who was told of it need not hear.
      if (isSame && !holdings.longLived) return;
      this.#table.hold(set.id);
      this.#table.release(before);
      if (this.#noted(prefix, BEST) === path) this.#flag(prefix, CHANGED);
    } else {
      path = paths.allocate();
      paths.set(path, NEXT, this.#noted(prefix, HEAD));
      paths.set(path, ORIGIN, origin);
      paths.set(path, ID, data[at + PATH_ID]!);
      this.#note(prefix, HEAD, path);
      this.#table.hold(set.id);
      this.#count(holdings, origin, 1);
    }
    paths.set(path, SET, set.id);
    paths.set(path, SINCE, now);
    this.#touch(prefix);
  }

  /** A source withdraws prefixes; those that it never announced are no error. */
  withdraw(source: PathSource, list: PrefixList): void {
    const { data, end, stride } = list;
    for (let at = 0; at < end; at += stride) this.withdrawOne(source, data, at);
    this.#schedule();
  }

  withdrawOne(source: PathSource, data: Int32Array, at: number): void {
    const prefix = this.#prefixes.find(data, at + WORDS, data[at + LENGTH]!);
    if (prefix < 0) return;
    const path = this.#find(prefix, source.index, data[at + PATH_ID]!);
    if (path >= 0) this.#remove(prefix, path);
  }

  /** Have the touched prefixes' best paths chosen soon. */
  settle(): void {
    this.#schedule();
  }

  /** A source's session is gone and may come back: what it said is stale now. What was stale before goes. */
  markStale(source: PathSource): void {
    const holdings = this.#holdings[source.index]!;
    const wasStale = holdings.stale > 0;
    const before = holdings.generation;
    holdings.generation = (before + 1) & GENERATION_MASK;
    holdings.stale = holdings.admitted + holdings.excluded;
    holdings.longLived = false;
    if (wasStale) this.#sweepBefore(holdings, before);
  }

  /** A source has told all that it knows, or its time is over: what is stale still goes. */
  sweepStale(source: PathSource): void {
    const holdings = this.#holdings[source.index]!;
    holdings.longLived = false;
    if (holdings.stale > 0) this.#sweepBefore(holdings, holdings.generation);
  }

  /** A source's stale paths become the last choice, and those that do not want that go (RFC 9494 4.2). */
  demoteStale(source: PathSource): void {
    this.#holdings[source.index]!.longLived = true;
    this.#startSweep((prefix) => {
      for (let path = this.#noted(prefix, HEAD), next: number; path >= 0; path = next) {
        next = this.#paths.get(path, NEXT);
        if (this.#sourceIndex(path) !== source.index || this.#age(path) === 0) continue;
        if (this.#setOf(path).attributes.communities.includes(NO_LLGR)) this.#remove(prefix, path);
        else {
          if (this.#noted(prefix, BEST) === path) this.#flag(prefix, CHANGED);
          this.#touch(prefix);
        }
      }
    });
  }

  /** A source is gone for good: forget all that it announced. Its index is free when that is done. */
  drop(source: PathSource, done: () => void = () => {}): void {
    const { sweep } = this.#holdings[source.index]!;
    if (sweep) sweep.isAgain = false;
    const end = () => {
      this.#holdings[source.index] = undefined;
      done();
    };
    if (!sweep && this.count(source) + this.excludedCount(source) === 0) return end();
    this.#startSweep((prefix) => this.#removeOf(source, prefix, () => true), end);
  }

  /** Next hops have become reachable, or no more, or cost something else. */
  nextHopsChanged(changed: ReadonlySet<NextHop>): void {
    // One sweep looks for all that change before it begins: links that flap do not pile them up.
    const isWaiting = this.#changedHops.size > 0;
    for (const nextHop of changed) this.#changedHops.add(nextHop);
    if (isWaiting) return;
    let hops: ReadonlySet<NextHop> | null = null;
    const begin = () => {
      const all = this.#changedHops;
      this.#changedHops = new Set();
      return all;
    };
    const visit = (prefix: number) => {
      hops ??= begin();
      for (let path = this.#noted(prefix, HEAD); path >= 0; path = this.#paths.get(path, NEXT)) {
        const { nextHop } = this.#setOf(path);
        if (nextHop && hops.has(nextHop)) this.#touch(prefix);
      }
    };
    this.#startSweep(visit, () => {
      hops ??= begin();
    });
  }

  // ---- What is known ---------------------------------------------------------------------------------

  /** Prefixes with a path. */
  get size(): number {
    return this.#prefixes.records.size;
  }

  get pathCount(): number {
    return this.#paths.size;
  }

  /** Memory of prefixes and paths, used or not; attributes are the table's. */
  get bytes(): number {
    return this.#prefixes.bytes + this.#paths.bytes;
  }

  /** No best path is still to be chosen. */
  get isSettled(): boolean {
    return this.#dirtyAt === this.#dirtyEnd && this.#sweeps.length === 0;
  }

  /** Paths of a source that may be chosen, that may not, and that are stale. */
  count(source: PathSource): number {
    return this.#holdings[source.index]?.admitted ?? 0;
  }
  excludedCount(source: PathSource): number {
    return this.#holdings[source.index]?.excluded ?? 0;
  }
  staleCount(source: PathSource): number {
    return this.#holdings[source.index]?.stale ?? 0;
  }

  /** Numbers of prefixes are below. */
  get end(): number {
    return this.#prefixes.records.end;
  }

  lengthOf(id: number): number {
    return this.#prefixes.records.get(id, this.#base);
  }

  /** A word of a prefix's address. */
  wordOf(id: number, word: number): number {
    return this.#prefixes.records.get(id, word);
  }

  /** All words, into `out`. */
  wordsOf(id: number, out: number[]): number[] {
    for (let i = 0; i < this.family.words; i++) out[i] = this.#prefixes.records.get(id, i);
    return out;
  }

  prefixOf(id: number): Prefix {
    return { family: this.family, words: this.wordsOf(id, []), length: this.lengthOf(id) };
  }

  /** Numbers of prefixes that have a best path. */
  *ids(): Generator<number> {
    for (let id = 0; id < this.end; id++) if (this.hasBest(id)) yield id;
  }

  /** Numbers of free records have length -1 - so this is for numbers of all ages. */
  hasBest(id: number): boolean {
    return this.#isUsed(id) && this.#noted(id, BEST) >= 0;
  }

  bestSet(id: number): AttributeSet | null {
    const path = this.#noted(id, BEST);
    return path < 0 ? null : this.#setOf(path);
  }

  bestSource(id: number): PathSource | null {
    const path = this.#noted(id, BEST);
    return path < 0 ? null : this.#sourceOf(path);
  }

  /** Whether the best path is a stale one of a long-lived restart. */
  bestIsLongLivedStale(id: number): boolean {
    const path = this.#noted(id, BEST);
    return path >= 0 && this.#isLongLivedStale(path);
  }

  bestOf(id: number): Path | null {
    const path = this.#noted(id, BEST);
    return path < 0 ? null : this.#view(path);
  }

  reasonOf(id: number): Reason {
    return REASONS[this.#noted(id, STATE) & STEP]!;
  }

  /** Paths that share a prefix's load, the best first. */
  multipathOf(id: number): Path[] {
    const contenders = this.#contenders(id);
    const best = contenders.find(({ path }) => path === this.#noted(id, BEST));
    return best ? equals(best, contenders).map(({ path }) => this.#view(path)) : [];
  }

  /** Whether other paths may be as good as the best but for the tie-breaks: one of those decided. */
  sharesLoad(id: number): boolean {
    return (this.#noted(id, STATE) & STEP) > LAST_COMMON_STEP;
  }

  /** Next hops of the paths that share a prefix's load, each once, the best path's first. */
  nextHopsOf(id: number): NextHop[] {
    const path = this.#noted(id, BEST);
    if (path < 0) return [];
    const { nextHop } = this.#setOf(path);
    const contenders = this.sharesLoad(id) ? this.#contenders(id) : [];
    const best = contenders.find((contender) => contender.path === path);
    if (!best) return nextHop ? [nextHop] : [];
    return [...new Set(equals(best, contenders).flatMap(({ set }) => set.nextHop ?? []))];
  }

  /** All paths of a prefix that may be chosen, in no order, with numbers that stay while they live. */
  eligible(id: number): (Contender & { path: number })[] {
    return this.#contenders(id);
  }

  /** The number of a prefix, or -1. */
  find({ words, length }: Prefix): number {
    return this.#prefixes.find(words, 0, length);
  }

  get(prefix: Prefix): Route | null {
    const id = this.find(prefix);
    return id < 0 ? null : this.#route(id);
  }

  /** The route that a packet to an address takes. */
  lookup(words: ArrayLike<number>): Route | null {
    const masked = Array.from(words);
    for (let length = this.family.bits; length >= 0; length--) {
      if (length < this.family.bits)
        masked[length >> 5]! &= length % 32 === 0 ? 0 : -1 << (32 - (length % 32));
      const id = this.#prefixes.find(masked, 0, length);
      const route = id < 0 ? null : this.#route(id);
      if (route) return route;
    }
    return null;
  }

  /** The best route of every prefix, in no order. Changes meanwhile may or may not show. */
  *best(): Generator<Route> {
    for (let id = 0; id < this.end; id++) if (this.hasBest(id)) yield this.#route(id)!;
  }

  /** All paths of exactly this prefix: the best first, in order, then those that cannot be chosen. */
  candidates(prefix: Prefix): Candidate[] {
    const id = this.find(prefix);
    if (id < 0) return [];
    let left = this.#contenders(id);
    const first = choose(left);
    const shares = new Set(first ? equals(first.best, left) : []);
    const ranked: Candidate[] = [];
    for (let next = first; next; next = choose(left)) {
      const { best, step } = next;
      ranked.push({ path: this.#view(best.path), reason: REASONS[step]!, multipath: shares.has(best) });
      left = left.filter((contender) => contender !== best);
    }
    const chosen = new Set(this.#contenders(id).map(({ path }) => path));
    for (const path of this.#pathsOf(id)) {
      if (!chosen.has(path)) ranked.push({ path: this.#view(path), reason: null, multipath: false });
    }
    return ranked;
  }

  /** All paths of a prefix, by its number, in no order. */
  *pathsAt(id: number): Generator<Path> {
    if (this.#isUsed(id)) for (const path of this.#pathsOf(id)) yield this.#view(path);
  }

  /** All that a source announced, in no order. */
  *adjIn(source: PathSource): Generator<{ prefix: Prefix; path: Path }> {
    for (let id = 0; id < this.end; id++) {
      if (!this.#isUsed(id)) continue;
      for (const path of this.#pathsOf(id)) {
        if (this.#sourceIndex(path) === source.index)
          yield { prefix: this.prefixOf(id), path: this.#view(path) };
      }
    }
  }

  /** Keep a prefix's number while it is referred to, also when it has no path. */
  hold(id: number): void {
    this.#note(id, HOLDS, this.#noted(id, HOLDS) + 1);
  }

  unhold(id: number): void {
    this.#note(id, HOLDS, this.#noted(id, HOLDS) - 1);
    this.#freeIfUnused(id);
  }

  // ---- Records ---------------------------------------------------------------------------------------

  #noted(id: number, note: number): number {
    return this.#prefixes.records.get(id, this.#base + note);
  }

  #note(id: number, note: number, value: number): void {
    this.#prefixes.records.set(id, this.#base + note, value);
  }

  #flag(id: number, flag: number): void {
    this.#note(id, STATE, this.#noted(id, STATE) | flag);
  }

  #isUsed(id: number): boolean {
    return this.#prefixes.records.get(id, this.#base) >= 0;
  }

  #now(): number {
    return Math.floor((this.#clock() - this.#epoch) / 1000);
  }

  #sourceIndex(path: number): number {
    return this.#paths.get(path, ORIGIN) & SOURCE_MASK;
  }

  #sourceOf(path: number): PathSource {
    return this.#holdings[this.#sourceIndex(path)]!.source;
  }

  #setOf(path: number): AttributeSet {
    return this.#table.get(this.#paths.get(path, SET));
  }

  /** Sessions that have ended since the path was told: 0, it is fresh. */
  #age(path: number): number {
    const origin = this.#paths.get(path, ORIGIN);
    return (
      (this.#holdings[origin & SOURCE_MASK]!.generation - (origin >>> GENERATION_SHIFT)) & GENERATION_MASK
    );
  }

  #isLongLivedStale(path: number): boolean {
    return this.#holdings[this.#sourceIndex(path)]!.longLived && this.#age(path) > 0;
  }

  #exclusion(path: number): number {
    return (this.#paths.get(path, ORIGIN) >> FLAGS_SHIFT) & FLAGS_MASK;
  }

  #isReachable(path: number): boolean {
    const { nextHop } = this.#setOf(path);
    return nextHop === null || nextHop.reachable;
  }

  *#pathsOf(id: number): Generator<number> {
    for (let path = this.#noted(id, HEAD); path >= 0; path = this.#paths.get(path, NEXT)) yield path;
  }

  #find(prefix: number, source: number, pathId: number): number {
    const paths = this.#paths;
    for (let path = this.#noted(prefix, HEAD); path >= 0; path = paths.get(path, NEXT)) {
      if ((paths.get(path, ORIGIN) & SOURCE_MASK) === source && paths.get(path, ID) === pathId) return path;
    }
    return -1;
  }

  #count(holdings: Holdings, origin: number, by: 1 | -1): void {
    if (((origin >> FLAGS_SHIFT) & FLAGS_MASK) === ADMITTED) holdings.admitted += by;
    else holdings.excluded += by;
    if (origin >>> GENERATION_SHIFT !== holdings.generation) holdings.stale += by;
  }

  #remove(prefix: number, path: number): void {
    const paths = this.#paths;
    const next = paths.get(path, NEXT);
    if (this.#noted(prefix, HEAD) === path) this.#note(prefix, HEAD, next);
    else {
      let before = this.#noted(prefix, HEAD);
      while (paths.get(before, NEXT) !== path) before = paths.get(before, NEXT);
      paths.set(before, NEXT, next);
    }
    if (this.#noted(prefix, BEST) === path) {
      this.#note(prefix, BEST, -1);
      this.#flag(prefix, CHANGED);
    }
    this.#count(this.#holdings[this.#sourceIndex(path)]!, paths.get(path, ORIGIN), -1);
    this.#table.release(paths.get(path, SET));
    paths.release(path);
    this.#touch(prefix);
  }

  #freeIfUnused(id: number): void {
    if (this.#noted(id, HEAD) >= 0 || this.#noted(id, HOLDS) > 0) return;
    if ((this.#noted(id, STATE) & (DIRTY | TELLING)) !== 0) return;
    this.#prefixes.remove(id);
    this.#prefixes.records.set(id, this.#base, -1);
  }

  #route(id: number): Route | null {
    const path = this.#noted(id, BEST);
    if (path < 0) return null;
    return { prefix: this.prefixOf(id), path: this.#view(path), reason: this.reasonOf(id) };
  }

  #view(path: number): Path {
    const set = this.#setOf(path);
    const excluded =
      EXCLUSIONS[this.#exclusion(path)] || (this.#isReachable(path) ? null : NEXT_HOP_UNREACHABLE);
    let attributes: Attributes | null = null;
    return {
      source: this.#sourceOf(path),
      set,
      get attributes() {
        attributes ??= set.attributes;
        return attributes;
      },
      nextHop: set.nextHop,
      pathId: this.#paths.get(path, ID),
      since: this.#epoch + this.#paths.get(path, SINCE) * 1000,
      stale: this.#age(path) > 0,
      excluded,
    };
  }

  // ---- Best paths ------------------------------------------------------------------------------------

  #touch(id: number): void {
    const state = this.#noted(id, STATE);
    if ((state & DIRTY) !== 0) return;
    this.#note(id, STATE, state | DIRTY);
    if (this.#dirtyEnd === this.#dirty.length) this.#makeRoom();
    this.#dirty[this.#dirtyEnd++] = id;
  }

  #makeRoom(): void {
    const waiting = this.#dirty.subarray(this.#dirtyAt, this.#dirtyEnd);
    const isHalfEmpty = waiting.length * 2 < this.#dirty.length;
    const next = isHalfEmpty ? this.#dirty : new Int32Array(this.#dirty.length * 2);
    next.set(waiting);
    this.#dirty = next;
    this.#dirtyAt = 0;
    this.#dirtyEnd = waiting.length;
  }

  #schedule(): void {
    if (this.#scheduled || this.isSettled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#sweep();
      const end = performance.now() + TURN_MS;
      do this.#settleSlice();
      while (this.#dirtyAt < this.#dirtyEnd && performance.now() < end);
      this.#schedule();
    });
  }

  /** The paths of a source that it told before generation `keep` go. One sweep a source, however often it asks. */
  #sweepBefore(holdings: Holdings, keep: number): void {
    const { source, sweep } = holdings;
    if (sweep) {
      sweep.keep = keep;
      sweep.isAgain = sweep.at > 0;
      return;
    }
    const next = {
      at: 0,
      keep,
      isAgain: false,
      visit: (prefix: number) => {
        // What was told since the sweep was asked for stays, though it may be stale by now.
        const oldest = (holdings.generation - next.keep) & GENERATION_MASK;
        this.#removeOf(source, prefix, (path) => this.#age(path) > oldest);
      },
      done: () => {
        holdings.sweep = null;
        if (next.isAgain) this.#sweepBefore(holdings, next.keep);
      },
    };
    holdings.sweep = next;
    this.#sweeps.push(next);
    this.#schedule();
  }

  #removeOf({ index }: PathSource, prefix: number, isOver: (path: number) => boolean): void {
    for (let path = this.#noted(prefix, HEAD), next: number; path >= 0; path = next) {
      next = this.#paths.get(path, NEXT);
      if (this.#sourceIndex(path) === index && isOver(path)) this.#remove(prefix, path);
    }
  }

  #startSweep(visit: (prefix: number) => void, done: () => void = () => {}): void {
    this.#sweeps.push({ at: 0, visit, done });
    this.#schedule();
  }

  #sweep(): void {
    const [sweep] = this.#sweeps;
    if (!sweep) return;
    const end = Math.min(sweep.at + SWEEP_SLICE, this.end);
    for (; sweep.at < end; sweep.at++) if (this.#isUsed(sweep.at)) sweep.visit(sweep.at);
    if (sweep.at < this.end) return;
    this.#sweeps.shift();
    sweep.done();
  }

  #contenders(prefix: number): (Contender & { path: number })[] {
    const list: (Contender & { path: number })[] = [];
    for (let path = this.#noted(prefix, HEAD); path >= 0; path = this.#paths.get(path, NEXT)) {
      if (!this.#mayBeChosen(path)) continue;
      const source = this.#sourceOf(path);
      const set = this.#setOf(path);
      const longLivedStale = set.llgrStale || this.#isLongLivedStale(path);
      list.push({ path, set, source, pathId: this.#paths.get(path, ID), longLivedStale });
    }
    return list;
  }

  #mayBeChosen(path: number): boolean {
    return this.#exclusion(path) === ADMITTED && this.#isReachable(path);
  }

  #settleSlice(): void {
    let changed = 0;
    let touched = 0;
    const end = Math.min(this.#dirtyEnd, this.#dirtyAt + SLICE);
    while (this.#dirtyAt < end) {
      const id = this.#dirty[this.#dirtyAt++]!;
      this.#touched[touched++] = id;
      if (this.#decide(id)) this.#changed[changed++] = id;
    }
    // Nobody else may use the numbers before all have been told.
    if (changed > 0) this.emit('change', this.#changed, changed);
    this.emit('touch', this.#touched, touched);
    for (let i = 0; i < touched; i++) {
      const id = this.#touched[i]!;
      this.#note(id, STATE, this.#noted(id, STATE) & ~TELLING);
      this.#freeIfUnused(id);
    }
  }

  /** Choose a prefix's best path; whether it is another than was told. */
  #decide(id: number): boolean {
    const before = this.#noted(id, BEST);
    const wasChanged = (this.#noted(id, STATE) & CHANGED) !== 0;
    const head = this.#noted(id, HEAD);
    let best = -1;
    let step = 0;
    if (head >= 0 && this.#paths.get(head, NEXT) < 0) best = this.#mayBeChosen(head) ? head : -1;
    else if (head >= 0) {
      const choice = choose(this.#contenders(id));
      if (choice) {
        best = choice.best.path;
        step = choice.step;
      }
    }
    this.#note(id, BEST, best);
    this.#note(id, STATE, step | TELLING);
    return best !== before || wasChanged;
  }
}
