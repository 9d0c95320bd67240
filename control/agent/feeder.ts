/**
 * Learned routes into the tables that workers read, change by change: RIB to trie.
 *
 * A way is how routes of one pool and one next hop travel; all that share it share its row of the adjacency table. For
 * each prefix of the RIB the feeder remembers the number of its way, two bytes, and nothing else: the prefix itself is
 * in the RIB and in the trie. A route that moves is written over in place, so that no packet sees a hole; a row is given
 * back only when no route is left in it.
 *
 * After a restart there are routes that BGP told the agent before. They stand in until BGP tells them anew, or is known
 * not to.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Words6 } from '../address.ts';
import { type Family, formatPrefix, IPV4, IPV6, maskWords } from '../bgp/family.ts';
import type { NextHop } from '../bgp/next-hop.ts';
import type { DesiredAdjacency, Learning, Reach } from '../desired.ts';
import type { PathSource } from '../rib/decision.ts';
import type { Rib } from '../rib/rib.ts';
import type { Learned, TableWriter } from '../tables.ts';

/** Ways are numbered in 16 bits; 0 is none. There are no more rows of adjacencies either. */
const MAX_WAYS = 65_535;
/** Routes looked at anew in one turn of the event loop, when what they depend on has changed. */
const SLICE = 8192;
/** Left-out routes that are named in problems. */
const MAX_NAMED = 8;

export interface Way {
  readonly number: number;
  readonly family: Family;
  readonly pool: number;
  readonly nextHop: Pick<NextHop, 'words' | 'text'>;
  /** Null: such routes are left out. */
  reach: Reach | null;
  /** Of the table of adjacencies. 0: none, its port is not there or the table is full. */
  row: number;
  /** Routes that travel so. */
  uses: number;
}

/** A route in force. */
export interface LearnedRoute {
  readonly family: Family;
  readonly words: readonly number[];
  readonly length: number;
  readonly nextHop: string;
  readonly adjacency: DesiredAdjacency;
  /** Who told it, for people: "10.0.0.3 (AS 64512)". */
  readonly peerLabel: string;
}

/** One of the agent before. */
export interface StaleRoute {
  readonly family: Family;
  readonly words: readonly number[];
  readonly length: number;
  readonly nextHop: Pick<NextHop, 'words' | 'text'>;
  readonly peerLabel: string;
}

interface Standin {
  readonly route: StaleRoute;
  way: Way | null;
}

/** Who wants to know of prefixes that are in another way than before: the kernel's routes. */
export interface Follower {
  moved(rib: Rib, id: number): void;
  /** A prefix is about to leave a tunnel for the host, which must know the way before packets come. */
  beforeDirect(rib: Rib, id: number, way: Way): void;
  /** Numbers of prefixes of the RIBs before mean nothing any more. */
  follow(ribs: readonly Rib[]): void;
}

export const labelOf = ({ name, asn }: PathSource): string => `${name} (AS ${asn})`;

export class Feeder implements Learned {
  /** What is in force has changed, or may have. */
  onChange: () => void = () => {};
  follower: Follower | null = null;
  readonly #tables: TableWriter;
  readonly #portId: (name: string) => number | null;
  #learning: Learning | null = null;
  #ribs: readonly Rib[] = [];
  #stopFollowing: (() => void)[] = [];
  /** Number of its way, by family and number of the prefix. */
  readonly #wayOf: [Uint16Array, Uint16Array] = [new Uint16Array(SLICE), new Uint16Array(SLICE)];
  readonly #ways: (Way | undefined)[] = [undefined];
  readonly #free: number[] = [];
  /** By family, pool and next hop. */
  readonly #known = new Map<string, Way>();
  /** The last one, by family and pool: neighbouring routes often share a next hop. */
  readonly #recent: ({ nextHop: NextHop; way: Way } | undefined)[] = [];
  readonly #standins = new Map<string, Standin>();
  /** What a sweep over all routes has to write again, or to decide again (all of it). */
  #sweep: { ids: Generator<[Rib, number]>; changed: Set<Way>; all: boolean } | null = null;
  #sweepScheduled = false;
  /** Rows that routes may be in until a sweep is over. */
  #retired: number[] = [];
  #pruning = false;
  /** Of the prefix in hand. */
  readonly #words: number[] = [];
  /** Why routes could not be written, or null. */
  #full: string | null = null;
  /** Some left-out routes, by text. */
  readonly #leftOut = new Map<string, { rib: Rib; id: number }>();

  constructor(tables: TableWriter, portId: (name: string) => number | null) {
    this.#tables = tables;
    this.#portId = portId;
    tables.learned = this;
  }

  // ---- What BGP tells --------------------------------------------------------------------------------

  /** Follow these RIBs from now on. Those of a speaker before are forgotten with all their routes. */
  follow(ribs: readonly Rib[]): void {
    for (const stop of this.#stopFollowing) stop();
    for (const rib of this.#ribs) for (let id = 0; id < rib.end; id++) this.#move(rib, id, null);
    this.#ribs = ribs;
    this.follower?.follow(ribs);
    this.#stopFollowing = ribs.map((rib) => {
      const listener = (ids: Int32Array, count: number) => {
        for (let i = 0; i < count; i++) this.#decide(rib, ids[i]!);
        this.onChange();
      };
      rib.on('change', listener);
      return () => rib.off('change', listener);
    });
    if (this.#learning) this.#startSweep(new Set(), true);
  }

  /** Leave everything as it is: the agent ends, and its routes are to go on. */
  stop(): void {
    for (const stop of this.#stopFollowing) stop();
    this.#stopFollowing = [];
  }

  /** What the resources say from now on; near routes are written and ports are open. */
  learn(learning: Learning): void {
    const isNew = learning.pools !== this.#learning?.pools;
    this.#learning = learning;
    this.#full = null;
    const changed = new Set<Way>();
    for (const way of this.#known.values()) if (this.#renew(way)) changed.add(way);
    for (const standin of this.#standins.values()) this.#place(standin);
    if (isNew || changed.size > 0) this.#startSweep(changed, isNew);
    this.#tables.prunePeers();
  }

  /** Routes that BGP told the agent before stand in for those that it has not told yet. */
  restore(routes: Iterable<StaleRoute>): void {
    for (const route of routes) this.#standins.set(keyOf(route), { route, way: null });
  }

  /** BGP has told all that it will: what still stands in goes. */
  endRestore(): void {
    for (const [key, { route, way }] of this.#standins) {
      this.#standins.delete(key);
      this.#write(route.family, route.words, route.length, 0);
      if (way) this.#leave(way);
    }
    this.onChange();
  }

  /** Routes that still stand in. */
  get standins(): number {
    return this.#standins.size;
  }

  // ---- What is in force ------------------------------------------------------------------------------

  row4(prefix: number, length: number): number {
    return this.#wayAt(IPV4, [prefix], length)?.row ?? 0;
  }

  row6(words: Words6, length: number): number {
    return this.#wayAt(IPV6, words, length)?.row ?? 0;
  }

  get peers(): Iterable<number> {
    return [...this.#known.values()].flatMap(({ reach }) => (reach?.peer == null ? [] : [reach.peer]));
  }

  /** Routes that BGP told and that are not left out. */
  get size(): number {
    let size = 0;
    for (const { reach, uses } of this.#known.values()) if (reach) size += uses;
    return size;
  }

  /** How a prefix of the RIB travels, or null. */
  wayOf(rib: Rib, id: number): Way | null {
    return this.#ways[this.#wayOf[rib.family.index][id] ?? 0] ?? null;
  }

  /** All routes in force, in no order, near routes for the same prefixes notwithstanding. */
  *routes(): Generator<LearnedRoute> {
    for (const rib of this.#ribs) {
      for (let id = 0; id < rib.end; id++) {
        const route = this.#routeOf(rib, id);
        if (route) yield route;
      }
    }
    for (const { route, way } of this.#standins.values()) {
      if (!way?.reach) continue;
      const { adjacency } = way.reach;
      yield { ...route, nextHop: route.nextHop.text, adjacency };
    }
  }

  /** The routes that cover an address, the one that counts first. */
  *matches(family: Family, address: readonly number[]): Generator<LearnedRoute> {
    const rib = this.#ribs[family.index];
    for (let length = family.bits; length >= 0; length--) {
      const words = maskWords(address, length);
      const id = rib?.find({ family, words, length }) ?? -1;
      const route = id < 0 ? null : this.#routeOf(rib!, id);
      if (route) yield route;
      const standin = this.#standins.get(keyOf({ family, words, length }));
      if (!route && standin?.way?.reach) {
        yield {
          ...standin.route,
          nextHop: standin.route.nextHop.text,
          adjacency: standin.way.reach.adjacency,
        };
      }
    }
  }

  /** What could not be had, for people. */
  problems(): string[] {
    const problems: string[] = [];
    for (const [text, { rib, id }] of this.#leftOut) {
      const nextHop = rib.bestSet(id)?.nextHop;
      const isStill = this.wayOf(rib, id)?.reach === null && formatPrefix(rib.prefixOf(id)) === text;
      const fault =
        isStill && nextHop ? this.#learning!.fault(text, nextHop.text, labelOf(rib.bestSource(id)!)) : null;
      if (fault === null) this.#leftOut.delete(text);
      else problems.push(fault);
    }
    if (this.#full !== null) problems.push(`BGP routes are missing in the tables: ${this.#full}`);
    return problems;
  }

  #wayAt(family: Family, words: readonly number[], length: number): Way | null {
    const rib = this.#ribs[family.index];
    const id = rib?.find({ family, words, length }) ?? -1;
    const way = id < 0 ? null : this.wayOf(rib!, id);
    return way ?? this.#standins.get(keyOf({ family, words, length }))?.way ?? null;
  }

  #routeOf(rib: Rib, id: number): LearnedRoute | null {
    const way = this.wayOf(rib, id);
    const source = way?.reach ? rib.bestSource(id) : null;
    if (!source) return null;
    const { family, words, length } = rib.prefixOf(id);
    const peerLabel = labelOf(source);
    return {
      family,
      words: [...(words as number[])],
      length,
      nextHop: way!.nextHop.text,
      adjacency: way!.reach!.adjacency,
      peerLabel,
    };
  }

  // ---- One route -------------------------------------------------------------------------------------

  #decide(rib: Rib, id: number): void {
    const nextHop = rib.bestSet(id)?.nextHop;
    const isLearned = nextHop && !rib.bestSource(id)!.local;
    this.#move(rib, id, isLearned ? this.#wayFor(rib, id, nextHop) : null);
  }

  #move(rib: Rib, id: number, way: Way | null): void {
    const { family } = rib;
    const { index } = family;
    const before = this.wayOf(rib, id);
    if (before === way) return;
    const length = rib.lengthOf(id);
    const words = rib.wordsOf(id, this.#words);
    if (id >= this.#wayOf[index].length) this.#wayOf[index] = grown(this.#wayOf[index], id);
    if (way?.reach?.via != null && before?.reach?.via === null) this.follower?.beforeDirect(rib, id, way);
    this.#write(family, words, length, way?.row ?? 0);
    this.#wayOf[index][id] = way?.number ?? 0;
    if (way) way.uses++;
    if (before) this.#leave(before);
    if (this.#standins.size > 0) this.#dropStandin(keyOf({ family, words, length }));
    this.follower?.moved(rib, id);
  }

  #write(family: Family, words: readonly number[], length: number, row: number): void {
    try {
      if (family === IPV4) this.#tables.learn4(words[0]!, length, row);
      else this.#tables.learn6(words as Words6, length, row);
    } catch (error) {
      this.#full = (error as Error).message;
    }
  }

  /** What BGP tells now needs no stand-in. */
  #dropStandin(key: string): void {
    const standin = this.#standins.get(key);
    this.#standins.delete(key);
    if (standin?.way) this.#leave(standin.way);
  }

  /** A stand-in by the way that its pool and next hop have now. */
  #place(standin: Standin): void {
    const { family, words, length, nextHop } = standin.route;
    const learning = this.#learning!;
    const pool = family === IPV4 ? learning.pool4(words[0]!, length) : learning.pool6(words, length);
    const before = standin.way;
    standin.way = this.#way(family, pool, nextHop);
    if (standin.way) standin.way.uses++;
    this.#write(family, words, length, standin.way?.row ?? 0);
    if (before) this.#leave(before);
  }

  // ---- Ways ------------------------------------------------------------------------------------------

  #wayFor(rib: Rib, id: number, nextHop: NextHop): Way | null {
    const learning = this.#learning;
    const length = rib.lengthOf(id);
    // The host's own default stays the host's.
    if (!learning || length === 0) return null;
    const { family } = rib;
    const pool =
      family === IPV4
        ? learning.pool4(rib.wordOf(id, 0), length)
        : learning.pool6(rib.wordsOf(id, []), length);
    const slot = ((pool + 1) << 1) | family.index;
    const recent = this.#recent[slot];
    const way =
      recent?.nextHop === nextHop && recent.way.uses > 0 ? recent.way : this.#way(family, pool, nextHop);
    if (!way) return null;
    this.#recent[slot] = { nextHop, way };
    if (!way.reach && pool >= 0 && this.#leftOut.size < MAX_NAMED) {
      this.#leftOut.set(formatPrefix(rib.prefixOf(id)), { rib, id });
    }
    return way;
  }

  #way(family: Family, pool: number, nextHop: Way['nextHop']): Way | null {
    const key = wayKey(family, pool, nextHop);
    const known = this.#known.get(key);
    if (known) return known;
    const number = this.#free.pop() ?? this.#ways.length;
    if (number > MAX_WAYS) {
      this.#full = `all ${MAX_WAYS} ways to next hops are in use`;
      return null;
    }
    const way: Way = { number, family, pool, nextHop, reach: null, row: 0, uses: 0 };
    this.#ways[number] = way;
    this.#known.set(key, way);
    this.#renew(way);
    return way;
  }

  /** Ask anew how a way travels; whether its routes are to be written again. Whoever asks sees to that. */
  #renew(way: Way): boolean {
    const { family, pool, nextHop, row: before } = way;
    const learning = this.#learning!;
    const reach =
      family === IPV4 ? learning.reach4(pool, nextHop.words) : learning.reach6(pool, nextHop.words);
    const isSame = isDeepStrictEqual(way.reach, reach);
    way.reach = reach;
    way.row = 0;
    try {
      if (reach) way.row = this.#tables.acquire(reach.adjacency, this.#portId) ?? 0;
    } catch (error) {
      this.#full = (error as Error).message;
    }
    if (reach?.peer != null && !this.#tables.addPeer(reach.peer)) this.#full = 'the table of peers is full';
    if (before > 0 && before === way.row) this.#tables.release(before);
    else if (before > 0) this.#retired.push(before);
    return before !== way.row || !isSame;
  }

  #leave(way: Way): void {
    if (--way.uses > 0) return;
    this.#ways[way.number] = undefined;
    this.#free.push(way.number);
    this.#known.delete(wayKey(way.family, way.pool, way.nextHop));
    // A sweep may not have come to its last route: that one is in a row before.
    if (way.row > 0) this.#tables.release(way.row);
    if (way.reach?.peer != null) this.#prunePeersSoon();
  }

  /** Once for all ways that go with a session. */
  #prunePeersSoon(): void {
    if (this.#pruning) return;
    this.#pruning = true;
    setImmediate(() => {
      this.#pruning = false;
      this.#tables.prunePeers();
    });
  }

  // ---- All routes ------------------------------------------------------------------------------------

  /** Write again all routes of these ways, and, if `all`, decide again which way each route has. */
  #startSweep(changed: Set<Way>, all: boolean): void {
    const before = this.#sweep;
    for (const way of before?.changed ?? []) changed.add(way);
    this.#sweep = { ids: this.#ids(), changed, all: all || (before?.all ?? false) };
    if (!this.#sweepScheduled) this.#sweepOn();
  }

  *#ids(): Generator<[Rib, number]> {
    for (const rib of this.#ribs) for (let id = 0; id < rib.end; id++) yield [rib, id];
  }

  #sweepOn(): void {
    this.#sweepScheduled = false;
    const sweep = this.#sweep!;
    for (let count = 0; count < SLICE; count++) {
      const next = sweep.ids.next();
      if (next.done) return this.#endSweep();
      const [rib, id] = next.value;
      if (sweep.all && rib.hasBest(id)) this.#decide(rib, id);
      const way = this.wayOf(rib, id);
      if (!way || !sweep.changed.has(way)) continue;
      this.#write(rib.family, rib.wordsOf(id, this.#words), rib.lengthOf(id), way.row);
      this.follower?.moved(rib, id);
    }
    this.#sweepScheduled = true;
    setImmediate(() => this.#sweepOn());
  }

  #endSweep(): void {
    this.#sweep = null;
    for (const row of this.#retired.splice(0)) this.#tables.release(row);
    this.onChange();
  }
}

const keyOf = ({ family, words, length }: Pick<StaleRoute, 'family' | 'words' | 'length'>): string =>
  `${family.index} ${words.join()}/${length}`;

const wayKey = (family: Family, pool: number, nextHop: Way['nextHop']): string =>
  `${family.index} ${pool} ${nextHop.words.join()}`;

function grown(array: Uint16Array, id: number): Uint16Array {
  const next = new Uint16Array(Math.max(id + 1, array.length * 2));
  next.set(array);
  return next;
}
