/**
 * Which of several paths to a prefix is best, and by which step it won (RFC 4271 9.1.2.2, RFC 4456 section 9).
 * The interior cost (step e) is the same for every next hop here: all nodes are one hop away.
 */
import { type Attributes, neighbourAs, pathLength } from '../bgp/attributes.ts';

/** Who announced a path. One object a session: a peer that comes back is another source. */
export interface PathSource {
  /** Peer's address, int32 host order; 0 for ourselves. */
  readonly address: number;
  /** Peer's BGP identifier, int32. */
  readonly id: number;
  readonly asn: number;
  /** iBGP. */
  readonly internal: boolean;
  /** Routes that this node originates. */
  readonly local: boolean;
}

/** One object for all prefixes that a source announced with the same attributes. */
export interface Path {
  readonly source: PathSource;
  readonly attributes: Attributes;
  /** int32; 0 on routes of our own. */
  readonly nextHop: number;
}

/** The step of the decision process by which the best path beat its hardest rival. */
export type Reason =
  | 'only path'
  | 'own route'
  | 'local preference'
  | 'AS path length'
  | 'origin'
  | 'MED'
  | 'external over internal'
  | 'router id'
  | 'cluster list length'
  | 'peer address';

/** LOCAL_PREF of a path that came without (external peers). */
export const DEFAULT_LOCAL_PREF = 100;

/** A smaller key is better. MED compares paths of one neighbouring AS alone. */
const STEPS: readonly { reason: Reason; key: (path: Path, other: Path) => number }[] = [
  { reason: 'own route', key: (path) => (path.source.local ? 0 : 1) },
  { reason: 'local preference', key: (path) => -(path.attributes.localPref ?? DEFAULT_LOCAL_PREF) },
  { reason: 'AS path length', key: (path) => pathLength(path.attributes.asPath) },
  { reason: 'origin', key: (path) => path.attributes.origin },
  {
    reason: 'MED',
    key: (path, other) => (neighbour(path) === neighbour(other) ? (path.attributes.med ?? 0) : 0),
  },
  { reason: 'external over internal', key: (path) => (path.source.internal ? 1 : 0) },
  { reason: 'router id', key: (path) => (path.attributes.originatorId ?? path.source.id) >>> 0 },
  { reason: 'cluster list length', key: (path) => path.attributes.clusterList.length },
  { reason: 'peer address', key: (path) => path.source.address >>> 0 },
];

const neighbour = (path: Path) => neighbourAs(path.attributes.asPath);

/** The number of the step that decides, counted from 1: positive where `a` wins, negative where `b` does. */
function compare(a: Path, b: Path): number {
  for (let i = 0; i < STEPS.length; i++) {
    const { key } = STEPS[i]!;
    const order = key(a, b) - key(b, a);
    if (order !== 0) return order < 0 ? i + 1 : -(i + 1);
  }
  return STEPS.length;
}

export interface Choice {
  path: Path;
  reason: Reason;
}

/** The best of some paths. Their order makes no difference. */
export function choose(paths: readonly Path[]): Choice | null {
  if (paths.length === 0) return null;
  if (paths.length === 1) return { path: paths[0]!, reason: 'only path' };
  // "Better" is not transitive across neighbours because of MED, but it is among paths of one neighbour, and
  // among the winners of different neighbours: take the best of each, then the best of those.
  const champions = new Map<number | null, Path>();
  for (const path of paths) {
    const champion = champions.get(neighbour(path));
    if (!champion || compare(path, champion) > 0) champions.set(neighbour(path), path);
  }
  let best: Path | null = null;
  for (const path of champions.values()) if (!best || compare(path, best) > 0) best = path;
  let hardest = 0;
  for (const path of paths) {
    if (path !== best) hardest = Math.max(hardest, Math.abs(compare(best!, path)));
  }
  return { path: best!, reason: STEPS[hardest - 1]!.reason };
}
