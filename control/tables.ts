/**
 * Desired state into the shared tables: compares with what the tables hold and writes the difference, in an
 * order in which no packet sees a hole. Used by the agent and by replay alike.
 */

import { createCounters } from '../dataplane/counters.ts';
import { createEvidence } from '../dataplane/evidence.ts';
import { createAdjacencies } from '../dataplane/fib/adjacency.ts';
import { AdjacencyWriter } from '../dataplane/fib/adjacency-writer.ts';
import { createFib4 } from '../dataplane/fib/fib4.ts';
import { Fib4Writer } from '../dataplane/fib/fib4-writer.ts';
import { createFib6 } from '../dataplane/fib/fib6.ts';
import { Fib6Writer } from '../dataplane/fib/fib6-writer.ts';
import { createGroups } from '../dataplane/fib/groups.ts';
import { GroupWriter } from '../dataplane/fib/groups-writer.ts';
import { createPeers, PeerWriter } from '../dataplane/fib/peers.ts';
import { createPeers6, Peer6Writer } from '../dataplane/fib/peers6.ts';
import { createEpochs, GracePeriods } from '../dataplane/memory/grace.ts';
import type { SharedTables } from '../dataplane/memory/layout.ts';
import {
  bytesOf6,
  contains6,
  formatAddress4,
  formatAddress6,
  formatPrefix4,
  mask4,
  type Words6,
} from './address.ts';
import { type Desired, type DesiredAdjacency, type DesiredRoute, routeKey } from './desired.ts';
import type { DesiredRoute6 } from './desired6.ts';

/** A route as it was written: which row of the adjacency table it refers to. */
interface Written {
  readonly route: DesiredRoute;
  readonly index: number;
}

interface Written6 {
  readonly route: DesiredRoute6;
  readonly index: number;
}

/** What fills prefixes that no near route has: routes that others told. Rows of the adjacency table; 0: none. */
export interface Learned {
  row4(prefix: number, length: number): number;
  row6(words: Words6, length: number): number;
  /** A near route for a prefix has come, or gone. */
  near4(prefix: number, length: number): void;
  near6(words: Words6, length: number): void;
  /** May send us tunnel packets. */
  readonly peers: Iterable<number>;
}

/** Those of either map that the other does not have. */
function* changed<K, V>(before: ReadonlyMap<K, V>, after: ReadonlyMap<K, V>): Generator<V> {
  for (const [key, value] of before) if (!after.has(key)) yield value;
  for (const [key, value] of after) if (!before.has(key)) yield value;
}

const nearKey = (words: Words6, length: number): string => `${words.join()}/${length}`;

const NOTHING: Learned = { row4: () => 0, row6: () => 0, near4: () => {}, near6: () => {}, peers: [] };

export class TableWriter {
  /** Asked when a near route goes. */
  learned = NOTHING;
  readonly shared: SharedTables;
  readonly #grace: GracePeriods;
  readonly #fib: Fib4Writer;
  readonly #adjacencies: AdjacencyWriter;
  readonly #groups: GroupWriter;
  readonly #peers: PeerWriter;
  readonly #peers6: Peer6Writer;
  #routes = new Map<number, Written>();
  readonly #fib6: Fib6Writer;
  #routes6 = new Map<string, Written6>();
  /** Prefixes of near routes: quicker to ask for than their text. */
  #near6: ReadonlySet<string> = new Set();
  #near: ReadonlySet<number> = new Set();

  constructor() {
    this.shared = {
      fib4: createFib4(),
      fib6: createFib6(),
      adjacencies: createAdjacencies(),
      groups: createGroups(),
      peers: createPeers(),
      peers6: createPeers6(),
      counters: createCounters(),
      evidence: createEvidence(),
      epochs: createEpochs(),
    };
    this.#grace = new GracePeriods(this.shared.epochs);
    this.#fib = new Fib4Writer(this.shared.fib4, this.#grace);
    this.#fib6 = new Fib6Writer(this.shared.fib6, this.#grace);
    this.#adjacencies = new AdjacencyWriter(this.shared.adjacencies, this.#grace);
    this.#groups = new GroupWriter(this.shared.groups, this.#adjacencies, this.#grace);
    this.#peers = new PeerWriter(this.shared.peers);
    this.#peers6 = new Peer6Writer(this.shared.peers6, this.#grace);
  }

  /**
   * Write routes and peers. `portId` gives a port's id, or null while the port is not there: routes to it are
   * left out. Answers with what could not be written, for people.
   */
  apply(
    desired: Pick<Desired, 'routes' | 'six' | 'peers'>,
    portId: (name: string) => number | null,
  ): string[] {
    const problems: string[] = [];
    const released: number[] = [];
    for (const peer of desired.peers) if (!this.#peers.add(peer)) problems.push('the table of peers is full');
    for (const words of desired.six.peers.values()) {
      if (this.#peers6.add(words) === 0) problems.push('the table of peers over IPv6 is full');
    }

    const before = this.#routes;
    const after = new Map<number, Written>();
    for (const [key, route] of desired.routes) {
      try {
        const index = this.#acquire(route.adjacency, portId);
        if (index === null) continue;
        const old = before.get(key);
        if (old?.index !== index) this.#fib.set(route.prefix, route.length, index);
        if (old) released.push(old.index);
        after.set(key, { route, index });
      } catch (error) {
        problems.push(`${formatPrefix4(route.prefix, route.length)}: ${(error as Error).message}`);
      }
    }
    for (const [key, { route, index }] of before) {
      if (after.has(key)) continue;
      this.#write4(route.prefix, route.length, this.learned.row4(route.prefix, route.length));
      released.push(index);
    }
    this.#routes = after;
    for (const { route } of changed(before, after)) this.learned.near4(route.prefix, route.length);
    this.#apply6(desired.six.routes, portId, released, problems);
    // Only now does no route refer to the old rows.
    for (const index of released) this.#adjacencies.release(index);
    this.#near = desired.peers;
    this.prunePeers();
    this.#peers6.prune(desired.six.peers);
    this.#grace.poll();
    return problems;
  }

  #apply6(
    routes: Desired['six']['routes'],
    portId: (name: string) => number | null,
    released: number[],
    problems: string[],
  ): void {
    const before = this.#routes6;
    const after = new Map<string, Written6>();
    for (const [key, route] of routes) {
      try {
        const index = this.#acquire(route.adjacency, portId);
        if (index === null) continue;
        const old = before.get(key);
        if (old?.index !== index) this.#fib6.set(bytesOf6(route.to.words), route.to.length, index);
        if (old) released.push(old.index);
        after.set(key, { route, index });
      } catch (error) {
        problems.push(`${key}: ${(error as Error).message}`);
      }
    }
    for (const [key, { route, index }] of before) {
      if (after.has(key)) continue;
      this.#write6(route.to.words, route.to.length, this.learned.row6(route.to.words, route.to.length));
      released.push(index);
    }
    this.#routes6 = after;
    this.#near6 = new Set([...after.values()].map(({ route: { to } }) => nearKey(to.words, to.length)));
    for (const { route } of changed(before, after)) this.learned.near6(route.to.words, route.to.length);
  }

  isNear4(prefix: number, length: number): boolean {
    return this.#routes.has(routeKey(prefix, length));
  }

  isNear6(words: Words6, length: number): boolean {
    return this.#near6.has(nearKey(words, length));
  }

  /** Routes of these prefixes will soon be learned: see Fib4Writer.fetch. */
  fetch4(prefix: number, length: number): void {
    this.#fib.fetch(prefix, length);
  }

  /**
   * A learned route in its row, or (0) gone. A near route for the prefix stays. Throws FibError if the FIB is full;
   * nothing was changed then.
   */
  learn4(prefix: number, length: number, row: number): void {
    if (!this.isNear4(prefix, length)) this.#write4(prefix, length, row);
  }

  learn6(words: Words6, length: number, row: number): void {
    if (!this.isNear6(words, length)) this.#write6(words, length, row);
  }

  /** The row of an adjacency, to be given back by `release`; null while its port is not there. Throws if all are in use. */
  acquire(adjacency: DesiredAdjacency, portId: (name: string) => number | null): number | null {
    return this.#acquire(adjacency, portId);
  }

  /** The row of a new group whose buckets are rows that the caller holds. Throws if all groups or rows are in use. */
  acquireGroup(buckets: ArrayLike<number>): number {
    return this.#groups.acquire(buckets);
  }

  /** Give a group's buckets to other rows, in place. Only then may the caller release those that it had. */
  updateGroup(row: number, buckets: ArrayLike<number>): void {
    this.#groups.update(row, buckets);
  }

  /** Of an adjacency or of a group. */
  release(row: number): void {
    if (this.#groups.has(row)) this.#groups.release(row);
    else this.#adjacencies.release(row);
  }

  /** Far ends of tunnels of both families, as text. */
  peers(): string[] {
    const six = [...this.#peers6.values()].map((words) => formatAddress6(words));
    return [...[...this.#peers.values()].map(formatAddress4), ...six];
  }

  /** IPv4, host order. */
  hasPeer(address: number): boolean {
    return this.#peers.has(address);
  }

  /** Learned routes have a peer more. False: the table is full. */
  addPeer(address: number): boolean {
    return this.#peers.add(address);
  }

  /** Forget peers that neither near nor learned routes have. */
  prunePeers(): void {
    const learned = new Set(this.learned.peers);
    for (const peer of [...this.#peers.values()]) {
      if (!this.#near.has(peer) && !learned.has(peer)) this.#peers.delete(peer);
    }
  }

  /** Routes in the FIB of both families, near and learned. */
  count(): number {
    return this.#fib.stats().routes + this.#fib6.stats().routes;
  }

  #write4(prefix: number, length: number, row: number): void {
    if (row > 0) this.#fib.set(prefix, length, row);
    else this.#fib.delete(prefix, length);
  }

  #write6(words: Words6, length: number, row: number): void {
    if (row > 0) this.#fib6.set(bytesOf6(words), length, row);
    else this.#fib6.delete(bytesOf6(words), length);
  }

  /** Give back memory whose grace period is over; call now and then. */
  poll(): void {
    this.#grace.poll();
  }

  /** The near routes as written, in order of prefix. */
  routes(): DesiredRoute[] {
    return [...this.#routes.values()]
      .map(({ route }) => route)
      .sort((a, b) => (a.prefix >>> 0) - (b.prefix >>> 0) || a.length - b.length);
  }

  /** The near IPv6 routes as written, in order of prefix. */
  routes6(): DesiredRoute6[] {
    const unsigned = ({ to }: DesiredRoute6) => to.words.map((word) => word >>> 0);
    return [...this.#routes6.values()]
      .map(({ route }) => route)
      .sort((a, b) => {
        const [x, y] = [unsigned(a), unsigned(b)];
        const word = x.findIndex((value, i) => value !== y[i]);
        return word < 0 ? a.to.length - b.to.length : x[word]! - y[word]!;
      });
  }

  /** The near IPv6 routes that cover an address, the one that counts first. */
  matches6(words: Words6): DesiredRoute6[] {
    return [...this.#routes6.values()]
      .map(({ route }) => route)
      .filter(({ to }) => contains6(to, words))
      .sort((a, b) => b.to.length - a.to.length);
  }

  /** The near routes that cover an address, the one that counts first. */
  matches(address: number): DesiredRoute[] {
    const found: DesiredRoute[] = [];
    for (let length = 32; length >= 0; length--) {
      const written = this.#routes.get(routeKey(address & mask4(length), length));
      if (written) found.push(written.route);
    }
    return found;
  }

  #acquire(adjacency: DesiredAdjacency, portId: (name: string) => number | null): number | null {
    const port = adjacency.port === null ? 0 : portId(adjacency.port);
    if (port === null) return null;
    if (!adjacency.nextHop6) return this.#adjacencies.acquire({ ...adjacency, port });
    const nextHop = this.#peers6.add(adjacency.nextHop6);
    return nextHop === 0 ? null : this.#adjacencies.acquire({ ...adjacency, port, nextHop });
  }
}
