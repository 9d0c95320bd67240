/**
 * Learned routes into the tables that workers read, change by change: RIB to trie.
 *
 * A way is how routes of one pool and one next hop travel; all that share it share its row of the adjacency table. For
 * each prefix of the RIB the feeder remembers the number of its way, two bytes, and nothing else: the prefix itself is
 * in the RIB and in the trie. A route that moves is written over in place, so that no packet sees a hole; a row is given
 * back only when no route is left in it.
 *
 * Routes whose best paths share the load have several next hops. They travel by a group: a way as well, whose members are
 * the ways of its next hops, and whose buckets are dealt so that of what was before little moves.
 *
 * After a restart there are routes that BGP told the agent before. They stand in until BGP tells them anew, or is known
 * not to.
 */
import { isDeepStrictEqual } from 'node:util';
import { deal, moved } from '../../dataplane/fib/deal.ts';
import { BUCKETS, MAX_MEMBERS } from '../../dataplane/fib/groups.ts';
import type { Words6 } from '../address.ts';
import { type Family, formatPrefix, IPV4, IPV6, maskWords, type Prefix } from '../bgp/family.ts';
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
/**
 * Groups of the same next hops, which differ in what their buckets were before. With one, routes that come from elsewhere
 * would have their flows dealt anew; with any number, routes that came about in different orders would have groups of their own.
 */
const MAX_LAYOUTS = 4;

export interface Way {
  readonly number: number;
  readonly family: Family;
  readonly pool: number;
  /** Of a group, its first. */
  readonly nextHop: Hop;
  /** Null: such routes are left out. Of a group, that of the first member that is not. */
  reach: Reach | null;
  /** Of the table of adjacencies. 0: none, its port is not there or the table is full. */
  row: number;
  /** Routes, and groups, that travel so. */
  uses: number;
  /** Null: it has one next hop. */
  readonly group: Group | null;
}

/** How routes with several next hops travel. */
interface Group {
  /** By next hop, the best path's first when the group was made. */
  readonly members: readonly Way[];
  /** Says which they are. */
  readonly key: string;
  /** Number of the member that each bucket has. */
  layout: Uint16Array;
}

type Hop = Pick<NextHop, 'words' | 'text'>;

/** One of the next hops of a route that has several. */
export interface Share {
  readonly nextHop: string;
  /** Null: it cannot be had now. */
  readonly adjacency: DesiredAdjacency | null;
  /** Of BUCKETS. */
  readonly buckets: number;
}

/** A route in force. */
export interface LearnedRoute {
  readonly family: Family;
  readonly words: readonly number[];
  readonly length: number;
  /** The first, where there are several. */
  readonly nextHop: string;
  readonly adjacency: DesiredAdjacency;
  /** Who told it, for people: "10.0.0.3 (AS 64512)". */
  readonly peerLabel: string;
  /** Where there are several next hops. */
  readonly shares: readonly Share[];
  /** Which of `shares` each bucket has. */
  readonly layout: Uint8Array | null;
}

/** One of the agent before. */
export interface StaleRoute {
  readonly family: Family;
  readonly words: readonly number[];
  readonly length: number;
  readonly nextHops: readonly Hop[];
  readonly peerLabel: string;
  /** Which of several next hops each bucket had, or null. */
  readonly layout: Uint8Array | null;
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
  /** Groups by key; those of one key differ in layout. */
  readonly #groups = new Map<string, Way[]>();
  /** By the number of a way and the key of a group, which one routes of that way join. Good until any way comes or goes. */
  readonly #joins = new Map<string, Way>();
  #maximumPaths = 0;
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
      // Not only where the best path is another: there may be another one beside it.
      const listener = (ids: Int32Array, count: number) => {
        let isNew = false;
        if (rib.family === IPV4) {
          for (let i = 0; i < count; i++) this.#tables.fetch4(rib.wordOf(ids[i]!, 0), rib.lengthOf(ids[i]!));
        }
        for (let i = 0; i < count; i++) isNew = this.#decide(rib, ids[i]!) || isNew;
        if (isNew) this.onChange();
      };
      rib.on('touch', listener);
      return () => rib.off('touch', listener);
    });
    if (this.#learning) this.#startSweep(new Set(), true);
  }

  /** Leave everything as it is: the agent ends, and its routes are to go on. */
  stop(): void {
    for (const stop of this.#stopFollowing) stop();
    this.#stopFollowing = [];
  }

  /**
   * What the resources say from now on; near routes are written and ports are open. `maximumPaths`: most next hops of a
   * route, 1 to MAX_MEMBERS.
   */
  learn(learning: Learning, maximumPaths: number): void {
    const isNew = learning.pools !== this.#learning?.pools || maximumPaths !== this.#maximumPaths;
    this.#learning = learning;
    this.#maximumPaths = Math.min(maximumPaths, MAX_MEMBERS);
    this.#full = null;
    const changed = new Set<Way>();
    for (const way of this.#known.values()) if (this.#renew(way)) changed.add(way);
    for (const way of [...this.#groups.values()].flat()) {
      if (!way.group!.members.some((member) => changed.has(member))) continue;
      this.#renewGroup(way, way.group!);
      changed.add(way);
    }
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
    for (const [key, standin] of this.#standins) {
      this.#standins.delete(key);
      const { route, way } = standin;
      const rib = this.#ribs[route.family.index];
      const id = rib?.find(route) ?? -1;
      // Some of its next hops may have been told, while others were waited for.
      const isTold = id >= 0 && this.#decide(rib!, id, standin) && this.wayOf(rib!, id) !== null;
      if (!isTold) this.#write(route.family, route.words, route.length, 0);
      if (way) this.#leave(way);
    }
    this.onChange();
  }

  /** Routes that still stand in. */
  get standins(): number {
    return this.#standins.size;
  }

  /** Have one route travel as it should, ahead of a sweep that will come to it. How it travels, or null. */
  settle(rib: Rib, id: number): Way | null {
    this.#decide(rib, id);
    return this.wayOf(rib, id);
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
    for (const { reach, uses, group } of [...this.#groups.values()].flat()) {
      if (reach) size += uses;
      for (const member of group!.members) if (member.reach) size--;
    }
    return size;
  }

  /** Whether a near route stands before what is learned for a prefix: packets follow that one. */
  isBehindNear(rib: Rib, id: number): boolean {
    const words = rib.wordsOf(id, this.#words);
    return rib.family === IPV4
      ? this.#tables.isNear4(words[0]!, rib.lengthOf(id))
      : this.#tables.isNear6(words as unknown as Words6, rib.lengthOf(id));
  }

  near4(prefix: number, length: number): void {
    this.#nearChanged(IPV4, [prefix], length);
  }

  near6(words: Words6, length: number): void {
    this.#nearChanged(IPV6, words, length);
  }

  #nearChanged(family: Family, words: readonly number[], length: number): void {
    const rib = this.#ribs[family.index];
    const id = rib?.find({ family, words, length }) ?? -1;
    if (id >= 0 && this.wayOf(rib!, id)) this.follower?.moved(rib!, id);
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
      if (way?.reach) yield { ...route, ...travelOf(way, way.reach) };
    }
  }

  /**
   * Those of them that go into tunnels: packets of the others the host's kernel forwards, whether there is an agent or not. Null
   * where none was found for a while, so that others get their turn.
   */
  *tunnelled(): Generator<LearnedRoute | null> {
    for (const rib of this.#ribs) {
      for (let id = 0; id < rib.end; id++) {
        if (id % SLICE === SLICE - 1) yield null;
        const way = this.wayOf(rib, id);
        const route = way && isTunnelled(way) ? this.#routeOf(rib, id) : null;
        if (route) yield route;
      }
    }
    for (const { route, way } of this.#standins.values()) {
      if (way?.reach && isTunnelled(way)) yield { ...route, ...travelOf(way, way.reach) };
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
        yield { ...standin.route, ...travelOf(standin.way, standin.way.reach) };
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
    return { family, words: [...(words as number[])], length, peerLabel, ...travelOf(way!, way!.reach!) };
  }

  // ---- One route -------------------------------------------------------------------------------------

  /**
   * Have a route travel as it should; whether that is otherwise than before. `standin`: the one that it had until now,
   * which is not among the others any more.
   */
  #decide(rib: Rib, id: number, standin: Standin | null = this.#standinOf(rib, id)): boolean {
    const nextHop = rib.bestSet(id)?.nextHop;
    const isLearned = nextHop && !rib.bestSource(id)!.local;
    let way = isLearned ? this.#wayFor(rib, id, nextHop) : null;
    if (way && this.#maximumPaths > 1 && rib.sharesLoad(id)) {
      way = this.#sharedBy(rib, id, way, this.wayOf(rib, id) ?? standin?.way ?? null);
    }
    // Until all peers have told, others of its next hops may be to come.
    if (way && standin?.way && this.#standins.has(keyOf(standin.route)) && isPart(way, standin.way)) {
      this.#leaveIfUnused(way);
      return false;
    }
    return this.#move(rib, id, way);
  }

  #standinOf(rib: Rib, id: number): Standin | null {
    if (this.#standins.size === 0) return null;
    return this.#standins.get(keyOf(rib.prefixOf(id))) ?? null;
  }

  #move(rib: Rib, id: number, way: Way | null): boolean {
    const { family } = rib;
    const { index } = family;
    const before = this.wayOf(rib, id);
    if (before === way) return false;
    const length = rib.lengthOf(id);
    const words = rib.wordsOf(id, this.#words);
    if (id >= this.#wayOf[index].length) this.#wayOf[index] = grown(this.#wayOf[index], id);
    if (way && before && isDirect(way) && isTunnelled(before)) this.follower?.beforeDirect(rib, id, way);
    this.#write(family, words, length, way?.row ?? 0);
    this.#wayOf[index][id] = way?.number ?? 0;
    if (way) way.uses++;
    if (before) this.#leave(before);
    if (this.#standins.size > 0) this.#dropStandin(keyOf({ family, words, length }));
    this.follower?.moved(rib, id);
    return true;
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
    const { family, words, length, nextHops, layout } = standin.route;
    const learning = this.#learning!;
    const pool = family === IPV4 ? learning.pool4(words[0]!, length) : learning.pool6(words, length);
    const before = standin.way;
    const ways = nextHops.flatMap((nextHop) => this.#way(family, pool, nextHop) ?? []);
    if (ways.length < 2) standin.way = ways[0] ?? null;
    else if (before?.group?.key !== groupKey(ways)) {
      standin.way = this.#groupOf(ways, layout && Array.from(layout, (place) => ways[place]?.number ?? 0));
    }
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
    const number = this.#takeNumber();
    if (number === 0) return null;
    const way: Way = { number, family, pool, nextHop, reach: null, row: 0, uses: 0, group: null };
    this.#ways[number] = way;
    this.#known.set(key, way);
    this.#joins.clear();
    this.#renew(way);
    return way;
  }

  /** For a new way; 0: all are in use. */
  #takeNumber(): number {
    const number = this.#free.pop() ?? this.#ways.length;
    if (number <= MAX_WAYS) return number;
    this.#full = `all ${MAX_WAYS} ways to next hops are in use`;
    return 0;
  }

  /** How a route travels whose paths share the load, the best one by `way`; `before`: as it did so far, or null. */
  #sharedBy(rib: Rib, id: number, way: Way, before: Way | null): Way {
    const { family, pool } = way;
    const ways = new Set([way]);
    for (const nextHop of rib.nextHopsOf(id)) {
      if (ways.size === this.#maximumPaths) break;
      ways.add(this.#way(family, pool, nextHop) ?? way);
    }
    if (ways.size === 1) return way;
    const members = [...ways];
    const join = `${before?.number ?? 0} ${groupKey(members)}`;
    const known = this.#joins.get(join);
    if (known) return known;
    const past = before && (before.group?.layout ?? new Uint16Array(BUCKETS).fill(before.number));
    const group = this.#groupOf(members, past);
    if (group.group) this.#joins.set(join, group);
    return group;
  }

  /** The group of these ways in which least moves; the first of them where there is no room for a group. */
  #groupOf(members: readonly Way[], past: ArrayLike<number> | null): Way {
    const key = groupKey(members);
    const known = this.#groups.get(key) ?? [];
    const [first] = members as [Way, ...Way[]];
    const live = members.filter(isLive).map(({ number }) => number);
    const layout = deal(live.length > 0 ? live : [first.number], past);
    const ranked = known
      .map((way) => ({ way, moves: past ? moved(layout, way.group!.layout) : 0 }))
      .sort((a, b) => a.moves - b.moves);
    const [nearest] = ranked;
    if (nearest && (nearest.moves === 0 || known.length >= MAX_LAYOUTS)) return nearest.way;
    const { family, pool, nextHop } = first;
    const number = this.#takeNumber();
    const group: Group = { members, key, layout };
    const way: Way = { number, family, pool, nextHop, reach: null, row: 0, uses: 0, group };
    if (number === 0 || !this.#renewGroup(way, group)) {
      if (number > 0) this.#free.push(number);
      for (const member of members) if (member !== first) this.#leaveIfUnused(member);
      return nearest?.way ?? first;
    }
    for (const member of members) member.uses++;
    this.#ways[number] = way;
    this.#groups.set(key, [...known, way]);
    this.#joins.clear();
    return way;
  }

  /** Deal a group's buckets to the members that can be had now, in place. False: there is no room for the group. */
  #renewGroup(way: Way, group: Group): boolean {
    const live = group.members.filter(isLive);
    way.reach = live[0]?.reach ?? null;
    if (live.length === 0) {
      if (way.row > 0) this.#retired.push(way.row);
      way.row = 0;
      return true;
    }
    const numbers = live.map(({ number }) => number);
    group.layout = deal(numbers, group.layout);
    const buckets = Uint16Array.from(group.layout, (number) => this.#ways[number]!.row);
    try {
      if (way.row > 0) this.#tables.updateGroup(way.row, buckets);
      else way.row = this.#tables.acquireGroup(buckets);
      return true;
    } catch (error) {
      this.#full = `${(error as Error).message}; routes with several next hops have one`;
      return false;
    }
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
    way.uses--;
    this.#leaveIfUnused(way);
  }

  #leaveIfUnused(way: Way): void {
    if (way.uses > 0) return;
    const { number, group } = way;
    this.#ways[number] = undefined;
    this.#free.push(number);
    this.#joins.clear();
    // A sweep may not have come to its last route: that one is in a row before.
    if (way.row > 0) this.#tables.release(way.row);
    if (!group) {
      this.#known.delete(wayKey(way.family, way.pool, way.nextHop));
      if (way.reach?.peer != null) this.#prunePeersSoon();
      return;
    }
    const others = this.#groups.get(group.key)!.filter((other) => other !== way);
    if (others.length > 0) this.#groups.set(group.key, others);
    else this.#groups.delete(group.key);
    for (const member of group.members) this.#leave(member);
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

const keyOf = ({ family, words, length }: Prefix): string =>
  `${family.index} ${Array.from(words).join()}/${length}`;

const groupKey = (members: readonly Way[]): string =>
  members
    .map(({ number }) => number)
    .sort((a, b) => a - b)
    .join();

const isLive = ({ reach, row }: Way): boolean => reach !== null && row > 0;

/** The ways by one next hop that a way consists of. */
export const branchesOf = (way: Way): readonly Way[] => way.group?.members ?? [way];

/** Whether the host forwards some of the packets, or a tunnel takes some. */
const isDirect = (way: Way): boolean => branchesOf(way).some(({ reach }) => reach?.via != null);
const isTunnelled = (way: Way): boolean => branchesOf(way).some(({ reach }) => reach?.via === null);

/** Whether `whole` has all next hops of `way`, and more. */
function isPart(way: Way, whole: Way): boolean {
  const branches = branchesOf(way);
  const all = branchesOf(whole);
  return branches.length < all.length && branches.every((branch) => all.includes(branch));
}

function travelOf(
  { nextHop, group }: Way,
  { adjacency }: Reach,
): Pick<LearnedRoute, 'nextHop' | 'adjacency' | 'shares' | 'layout'> {
  if (!group) return { nextHop: nextHop.text, adjacency, shares: [], layout: null };
  const numbers = group.members.map(({ number }) => number);
  const shares = group.members.map((member) => ({
    nextHop: member.nextHop.text,
    adjacency: member.reach?.adjacency ?? null,
    buckets: group.layout.filter((number) => number === member.number).length,
  }));
  const layout = Uint8Array.from(group.layout, (number) => numbers.indexOf(number));
  return { nextHop: nextHop.text, adjacency, shares, layout };
}

const wayKey = (family: Family, pool: number, nextHop: Way['nextHop']): string =>
  `${family.index} ${pool} ${nextHop.words.join()}`;

function grown(array: Uint16Array, id: number): Uint16Array {
  const next = new Uint16Array(Math.max(id + 1, array.length * 2));
  next.set(array);
  return next;
}
