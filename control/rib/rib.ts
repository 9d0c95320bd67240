/**
 * The RIB: what each peer announced, which path is best for each prefix, and by which step of the decision
 * it won (RFC 4271 section 9.1.2.2, RFC 4456 section 9).
 */
import { type Attributes, asPathLength, neighbourAs } from '../bgp/attributes.ts';

/** Who announced a path. */
export interface PathSource {
  /** Peer's address, int32 host order. */
  readonly address: number;
  /** Peer's BGP identifier. */
  readonly id: number;
  readonly asn: number;
  readonly internal: boolean;
}

export interface Path {
  readonly source: PathSource;
  readonly attributes: Attributes;
  readonly nextHop: number;
}

/** The step of the decision process by which the best path beat the next best. */
export type Reason =
  | 'only path'
  | 'local preference'
  | 'AS path length'
  | 'origin'
  | 'MED'
  | 'external over internal'
  | 'router id'
  | 'cluster list length'
  | 'peer address';

export interface BestRoute {
  readonly prefix: number;
  readonly length: number;
  readonly path: Path;
  readonly reason: Reason;
}

export interface RouteChange {
  readonly prefix: number;
  readonly length: number;
  readonly best: BestRoute | null;
}

interface Entry {
  readonly prefix: number;
  readonly length: number;
  /** One path a peer, in no order. */
  readonly paths: Path[];
  best: BestRoute | null;
}

const DEFAULT_LOCAL_PREF = 100;

export class Rib {
  readonly #entries = new Map<number, Entry>();
  readonly #dirty = new Set<number>();
  readonly #onChange: (changes: readonly RouteChange[]) => void;
  #scheduled = false;

  /** `onChange` is called once a turn of the event loop with all prefixes whose best path changed. */
  constructor(onChange: (changes: readonly RouteChange[]) => void) {
    this.#onChange = onChange;
  }

  /** A peer announces a prefix, replacing what it announced before. */
  announce(prefix: number, length: number, path: Path): void {
    const key = keyOf(prefix, length);
    let entry = this.#entries.get(key);
    if (!entry) {
      entry = { prefix, length, paths: [], best: null };
      this.#entries.set(key, entry);
    }
    const at = entry.paths.findIndex((old) => old.source === path.source);
    if (at >= 0) entry.paths[at] = path;
    else entry.paths.push(path);
    this.#touch(key);
  }

  withdraw(prefix: number, length: number, source: PathSource): void {
    const key = keyOf(prefix, length);
    const entry = this.#entries.get(key);
    const at = entry?.paths.findIndex((path) => path.source === source) ?? -1;
    if (!entry || at < 0) return;
    entry.paths.splice(at, 1);
    this.#touch(key);
  }

  /** Forget all that a peer announced. */
  withdrawAll(source: PathSource): void {
    for (const entry of this.#entries.values()) this.withdraw(entry.prefix, entry.length, source);
  }

  /** The best routes as of the last change that was told. */
  *best(): Generator<BestRoute> {
    for (const { best } of this.#entries.values()) if (best) yield best;
  }

  /** All paths of exactly this prefix, best first, each with the step by which it beats the next. */
  candidates(prefix: number, length: number): { path: Path; reason: Reason }[] {
    const left = [...(this.#entries.get(keyOf(prefix, length))?.paths ?? [])];
    const ranked: { path: Path; reason: Reason }[] = [];
    for (let best = choose(left); best; best = choose(left)) {
      ranked.push(best);
      left.splice(left.indexOf(best.path), 1);
    }
    return ranked;
  }

  #touch(key: number): void {
    this.#dirty.add(key);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#settle());
  }

  #settle(): void {
    this.#scheduled = false;
    const changes: RouteChange[] = [];
    for (const key of this.#dirty) {
      const entry = this.#entries.get(key);
      if (!entry) continue;
      const chosen = choose(entry.paths);
      const { prefix, length } = entry;
      const before = entry.best;
      entry.best = chosen ? { prefix, length, ...chosen } : null;
      if (entry.paths.length === 0) this.#entries.delete(key);
      if (before?.path !== entry.best?.path) changes.push({ prefix, length, best: entry.best });
    }
    this.#dirty.clear();
    if (changes.length > 0) this.#onChange(changes);
  }
}

/** Prefix and length as one integer below 2^38. */
const keyOf = (prefix: number, length: number): number => (prefix >>> 0) * 64 + length;

/** The best of some paths, and the step that told it from the runner-up. */
export function choose(paths: readonly Path[]): { path: Path; reason: Reason } | null {
  const [first, ...others] = paths;
  if (!first) return null;
  // MED compares only paths of one neighbouring AS, so "better" is not transitive: among paths of the same
  // neighbour find the best first, then compare the winners (RFC 4271 9.1.2.2 c, deterministic MED).
  const byNeighbour = new Map<number | null, Path>();
  let reason: Reason = 'only path';
  for (const path of [first, ...others]) {
    const neighbour = neighbourAs(path.attributes);
    const champion = byNeighbour.get(neighbour);
    if (!champion) byNeighbour.set(neighbour, path);
    else byNeighbour.set(neighbour, compare(path, champion).order < 0 ? path : champion);
  }
  const champions = [...byNeighbour.values()];
  let best = champions[0]!;
  for (const path of champions.slice(1)) if (compare(path, best).order < 0) best = path;
  // The hardest step that it took to beat anyone is the one worth telling.
  let rank = -1;
  for (const path of paths) {
    if (path === best) continue;
    const step = compare(best, path);
    if (step.rank > rank) {
      rank = step.rank;
      reason = step.reason;
    }
  }
  return { path: best, reason };
}

const STEPS: readonly { reason: Reason; key: (path: Path, other: Path) => number }[] = [
  { reason: 'local preference', key: (path) => -(path.attributes.localPref ?? DEFAULT_LOCAL_PREF) },
  { reason: 'AS path length', key: (path) => asPathLength(path.attributes) },
  { reason: 'origin', key: (path) => path.attributes.origin },
  {
    reason: 'MED',
    key: (path, other) =>
      neighbourAs(path.attributes) === neighbourAs(other.attributes) ? (path.attributes.med ?? 0) : 0,
  },
  { reason: 'external over internal', key: (path) => (path.source.internal ? 1 : 0) },
  { reason: 'router id', key: (path) => (path.attributes.originatorId ?? path.source.id) >>> 0 },
  { reason: 'cluster list length', key: (path) => path.attributes.clusterList.length },
  { reason: 'peer address', key: (path) => path.source.address >>> 0 },
];

/** Negative order: `a` is better. `rank` is the number of the step that decided. */
function compare(a: Path, b: Path): { order: number; rank: number; reason: Reason } {
  for (const [rank, { reason, key }] of STEPS.entries()) {
    const order = key(a, b) - key(b, a);
    if (order !== 0) return { order, rank, reason };
  }
  return { order: 0, rank: STEPS.length, reason: 'peer address' };
}
