/**
 * The RIB of IPv4 unicast: what each source announced, and what is best for each prefix.
 *
 * announce() and withdraw() only note which prefixes they touched; the best paths of these are chosen a slice
 * at a time in later turns of the event loop, and each slice is told as one 'change'. best() and lookup() answer
 * as of the last slice, in step with what was told.
 */
import { EventEmitter } from 'node:events';
import { mask4 } from '../address.ts';
import { type Attributes, attributesKey } from '../bgp/attributes.ts';
import type { FlatPrefixes } from '../bgp/nlri.ts';
import { type Choice, choose, type Path, type PathSource, type Reason } from './decision.ts';

export interface BestRoute {
  /** int32, host order, host bits 0. */
  readonly prefix: number;
  readonly length: number;
  readonly path: Path;
  readonly reason: Reason;
}

export interface RouteChange {
  readonly prefix: number;
  readonly length: number;
  /** null: the prefix has no path any more. */
  readonly best: BestRoute | null;
}

interface Entry {
  readonly prefix: number;
  readonly length: number;
  /** One path a source, in no order. */
  readonly paths: SharedPath[];
  best: BestRoute | null;
}

interface SharedPath extends Path {
  readonly key: string;
  /** Prefixes that hold it. */
  uses: number;
}

/** What one source announced. */
interface AdjIn {
  readonly paths: Map<string, SharedPath>;
  prefixes: number;
}

/** Prefixes whose best path is chosen in one turn of the event loop. */
const SLICE = 4096;

export class Rib extends EventEmitter<{ change: [changes: readonly RouteChange[]] }> {
  /** By prefix length, then by prefix: int32 keys, and a longest match is at most 33 look-ups. */
  readonly #entries = Array.from({ length: 33 }, () => new Map<number, Entry>());
  readonly #sources = new Map<PathSource, AdjIn>();
  readonly #dirty = new Set<Entry>();
  /** Sources that are gone, and where the sweep of each stands. */
  readonly #sweeps = new Map<PathSource, Iterator<Entry>>();
  #scheduled = false;

  /** A source announces prefixes, replacing what it announced for them before. */
  announce(source: PathSource, attributes: Attributes, prefixes: FlatPrefixes): void {
    const adjIn = this.#adjIn(source);
    const path = intern(adjIn, source, attributes);
    for (let i = 0; i < prefixes.length; i += 2) {
      const entry = this.#entry(prefixes[i]!, prefixes[i + 1]!);
      const at = indexOf(entry.paths, source);
      if (at < 0) {
        entry.paths.push(path);
        adjIn.prefixes++;
      } else {
        const old = entry.paths[at]!;
        if (old === path) continue;
        release(adjIn, old);
        entry.paths[at] = path;
      }
      path.uses++;
      this.#dirty.add(entry);
    }
    if (path.uses === 0) adjIn.paths.delete(path.key);
    this.#schedule();
  }

  /** A source withdraws prefixes; those that it never announced are no error. */
  withdraw(source: PathSource, prefixes: FlatPrefixes): void {
    const adjIn = this.#sources.get(source);
    if (!adjIn) return;
    for (let i = 0; i < prefixes.length; i += 2) {
      const entry = this.#entries[prefixes[i + 1]!]!.get(prefixes[i]!);
      if (entry) this.#remove(entry, source, adjIn);
    }
    this.#schedule();
  }

  /** A source is gone for good: forget all that it announced, a slice at a time. */
  drop(source: PathSource): void {
    if (!this.#sources.has(source) || this.#sweeps.has(source)) return;
    this.#sweeps.set(source, this.#walk());
    this.#schedule();
  }

  /** Prefixes that a source has announced and not withdrawn. */
  count(source: PathSource): number {
    return this.#sources.get(source)?.prefixes ?? 0;
  }

  /** The best route of every prefix, shortest prefixes first. */
  *best(): Generator<BestRoute> {
    for (const { best } of this.#walk()) if (best) yield best;
  }

  /** The best route of exactly this prefix. */
  get(prefix: number, length: number): BestRoute | null {
    return this.#entries[length]!.get(prefix)?.best ?? null;
  }

  /** The best route of the longest prefix that holds `address` (int32). */
  lookup(address: number): BestRoute | null {
    for (let length = 32; length >= 0; length--) {
      const best = this.get(address & mask4(length), length);
      if (best) return best;
    }
    return null;
  }

  /** All paths of exactly this prefix, best first, each with the step by which it beats those after it. */
  candidates(prefix: number, length: number): Choice[] {
    const left: Path[] = [...(this.#entries[length]!.get(prefix)?.paths ?? [])];
    const ranked: Choice[] = [];
    for (let next = choose(left); next; next = choose(left)) {
      ranked.push(next);
      left.splice(left.indexOf(next.path), 1);
    }
    return ranked;
  }

  *#walk(): Generator<Entry> {
    for (const entries of this.#entries) yield* entries.values();
  }

  #adjIn(source: PathSource): AdjIn {
    let adjIn = this.#sources.get(source);
    if (!adjIn) {
      adjIn = { paths: new Map(), prefixes: 0 };
      this.#sources.set(source, adjIn);
    }
    return adjIn;
  }

  #entry(prefix: number, length: number): Entry {
    const entries = this.#entries[length]!;
    let entry = entries.get(prefix);
    if (!entry) {
      entry = { prefix, length, paths: [], best: null };
      entries.set(prefix, entry);
    }
    return entry;
  }

  #remove(entry: Entry, source: PathSource, adjIn: AdjIn): void {
    const at = indexOf(entry.paths, source);
    if (at < 0) return;
    release(adjIn, entry.paths[at]!);
    entry.paths.splice(at, 1);
    adjIn.prefixes--;
    this.#dirty.add(entry);
  }

  #schedule(): void {
    if (this.#scheduled || (this.#dirty.size === 0 && this.#sweeps.size === 0)) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#sweep();
      this.#settle();
      this.#schedule();
    });
  }

  #sweep(): void {
    for (const [source, walk] of this.#sweeps) {
      const adjIn = this.#sources.get(source)!;
      let done = false;
      for (let i = 0; i < SLICE && !done; i++) {
        const next = walk.next();
        if (!next.done) this.#remove(next.value, source, adjIn);
        done = next.done === true || adjIn.prefixes === 0;
      }
      if (!done) return;
      this.#sources.delete(source);
      this.#sweeps.delete(source);
    }
  }

  #settle(): void {
    const changes: RouteChange[] = [];
    let left = SLICE;
    for (const entry of this.#dirty) {
      if (left-- === 0) break;
      this.#dirty.delete(entry);
      const { prefix, length, best: before } = entry;
      const choice = choose(entry.paths);
      if (!choice) this.#entries[length]!.delete(prefix);
      entry.best = choice && { prefix, length, ...choice };
      if (before?.path !== choice?.path) changes.push({ prefix, length, best: entry.best });
    }
    if (changes.length > 0) this.emit('change', changes);
  }
}

function indexOf(paths: readonly Path[], source: PathSource): number {
  for (let i = 0; i < paths.length; i++) if (paths[i]!.source === source) return i;
  return -1;
}

function intern(adjIn: AdjIn, source: PathSource, attributes: Attributes): SharedPath {
  const key = attributesKey(attributes);
  let path = adjIn.paths.get(key);
  if (!path) {
    path = { source, attributes, nextHop: attributes.nextHop ?? 0, key, uses: 0 };
    adjIn.paths.set(key, path);
  }
  return path;
}

/** One prefix fewer holds the path; the last one frees its place. */
function release(adjIn: AdjIn, path: SharedPath): void {
  if (--path.uses === 0) adjIn.paths.delete(path.key);
}
