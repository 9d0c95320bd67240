/**
 * Which of several paths to a prefix is best, and by which step it won (RFC 4271 9.1.2.2, RFC 4456 section 9, with
 * RFC 9494 section 4.3 for stale paths and RFC 7911 for several paths of one peer).
 */
import type { AttributeSet } from '../bgp/attribute-table.ts';
import type { Attributes } from '../bgp/attributes.ts';
import type { NextHop } from '../bgp/next-hop.ts';

/** Who announces paths. One object a peer, also over its restarts. */
export interface PathSource {
  /** Dense number, used anew when the source is gone. */
  readonly index: number;
  /** Peer's address as text; '' for ourselves. */
  readonly name: string;
  /** Its words. */
  readonly address: readonly number[];
  /** Peer's BGP identifier, int32. */
  id: number;
  readonly asn: number;
  /** iBGP. */
  readonly internal: boolean;
  /** It is a client of ours (RFC 4456). */
  readonly client: boolean;
  /** Routes that this node originates. */
  readonly local: boolean;
}

/** A path for people. */
export interface Path {
  readonly source: PathSource;
  /** Good until the event loop turns. */
  readonly set: AttributeSet;
  readonly attributes: Attributes;
  /** Null on routes of our own. */
  readonly nextHop: NextHop | null;
  /** As the peer gave it (RFC 7911), or 0. */
  readonly pathId: number;
  /** When it came, ms since the epoch, to the second. */
  readonly since: number;
  /** From the session before (RFC 4724). */
  readonly stale: boolean;
  /** Why it cannot be chosen, or null. */
  readonly excluded: string | null;
}

/** The step of the decision process by which the best path beat its hardest rival. */
export type Reason =
  | 'only path'
  | 'own route'
  | 'not stale'
  | 'local preference'
  | 'AS path length'
  | 'origin'
  | 'MED'
  | 'external over internal'
  | 'interior cost'
  | 'router id'
  | 'cluster list length'
  | 'peer address'
  | 'path identifier';

/** What the decision asks of a path. */
export interface Contender {
  readonly set: AttributeSet;
  readonly source: PathSource;
  readonly pathId: number;
  readonly longLivedStale: boolean;
}

const unsigned = (word: number) => word ^ 0x80000000;

function compareAddresses(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) return a.length - b.length;
  for (let i = 0; i < a.length; i++) {
    const order = unsigned(a[i]!) - unsigned(b[i]!);
    if (order !== 0) return order;
  }
  return 0;
}

const costOf = ({ set }: Contender): number => set.nextHop?.cost ?? 0;
const routerId = ({ set, source }: Contender): number => set.originator ?? unsigned(source.id);

/** Negative: `a` is better. MED compares paths of one neighbouring AS alone. */
const STEPS: readonly { reason: Reason; order: (a: Contender, b: Contender) => number }[] = [
  { reason: 'own route', order: (a, b) => Number(b.source.local) - Number(a.source.local) },
  { reason: 'not stale', order: (a, b) => Number(a.longLivedStale) - Number(b.longLivedStale) },
  { reason: 'local preference', order: (a, b) => b.set.localPref - a.set.localPref },
  { reason: 'AS path length', order: (a, b) => a.set.pathLength - b.set.pathLength },
  { reason: 'origin', order: (a, b) => a.set.origin - b.set.origin },
  {
    reason: 'MED',
    order: (a, b) => (a.set.neighbourAs === b.set.neighbourAs ? a.set.med - b.set.med : 0),
  },
  {
    reason: 'external over internal',
    order: (a, b) => Number(a.source.internal) - Number(b.source.internal),
  },
  { reason: 'interior cost', order: (a, b) => costOf(a) - costOf(b) },
  { reason: 'router id', order: (a, b) => routerId(a) - routerId(b) },
  { reason: 'cluster list length', order: (a, b) => a.set.clusterLength - b.set.clusterLength },
  { reason: 'peer address', order: (a, b) => compareAddresses(a.source.address, b.source.address) },
  { reason: 'path identifier', order: (a, b) => unsigned(a.pathId) - unsigned(b.pathId) },
];

/** By the number of its step, counted from 1; 0: the only path. */
export const REASONS: readonly Reason[] = ['only path', ...STEPS.map(({ reason }) => reason)];

/** Paths that are equal up to and with this step share the load. */
export const LAST_COMMON_STEP = REASONS.indexOf('interior cost');

/** The number of the step that decides, counted from 1: positive where `a` wins, negative where `b` does. */
export function compare(a: Contender, b: Contender): number {
  for (let i = 0; i < STEPS.length; i++) {
    const order = STEPS[i]!.order(a, b);
    if (order !== 0) return order < 0 ? i + 1 : -(i + 1);
  }
  return STEPS.length;
}

export interface Choice<C extends Contender> {
  readonly best: C;
  /** Number of the step, see REASONS. */
  readonly step: number;
}

/** The best of some paths. Their order makes no difference. */
export function choose<C extends Contender>(paths: readonly C[]): Choice<C> | null {
  if (paths.length === 0) return null;
  if (paths.length === 1) return { best: paths[0]!, step: 0 };
  // "Better" is not transitive across neighbours because of MED, but it is among paths of one neighbour, and
  // among the winners of different neighbours: take the best of each, then the best of those.
  const champions = new Map<number, C>();
  for (const path of paths) {
    const champion = champions.get(path.set.neighbourAs);
    if (!champion || compare(path, champion) > 0) champions.set(path.set.neighbourAs, path);
  }
  let best: C | null = null;
  for (const path of champions.values()) if (!best || compare(path, best) > 0) best = path;
  let step = 0;
  for (const path of paths) if (path !== best) step = Math.max(step, Math.abs(compare(best!, path)));
  return { best: best!, step };
}

/**
 * The paths that are as good as the best but for the tie-breaks, in their order: they may share the load. Because of MED a path
 * may lose against another one than the best (RFC 4271 9.1.2.2 c).
 */
export function equals<C extends Contender>(best: C, paths: readonly C[]): C[] {
  const isWorse = (path: C, other: C) => {
    const step = compare(other, path);
    return other !== path && step > 0 && step <= LAST_COMMON_STEP;
  };
  const others = paths.filter((path) => path !== best && !paths.some((other) => isWorse(path, other)));
  return [best, ...others.sort((a, b) => -compare(a, b))];
}
