/** What a step of the decision process compared, in words. */
import { formatAddress4 } from '../address.ts';
import { ORIGIN_NAMES } from '../bgp/attributes.ts';
import type { Contender, Reason } from '../rib/decision.ts';

/** What the decision keeps in the order of int32, as the unsigned number that it is. */
const unsigned = (value: number): number => (value ^ 0x80000000) >>> 0;

/** What each step looks at; null: the words of the step say it. */
const MEASURES: Readonly<Record<Reason, ((contender: Contender) => string | number) | null>> = {
  'only path': null,
  'own route': null,
  'not stale': null,
  'local preference': ({ set }) => unsigned(set.localPref),
  'AS path length': ({ set }) => set.pathLength,
  origin: ({ set }) => ORIGIN_NAMES[set.origin]!,
  MED: ({ set }) => unsigned(set.med),
  'external over internal': null,
  'interior cost': ({ set }) => set.nextHop?.cost ?? 0,
  'router id': ({ set, source }) =>
    formatAddress4(set.originator === null ? source.id : unsigned(set.originator) | 0),
  'cluster list length': ({ set }) => set.clusterLength,
  'peer address': ({ source }) => source.name,
  'path identifier': ({ pathId }) => pathId >>> 0,
};

/** "3 against 1": what was compared of a path and of the better one, whose place among all is `place`, from 0. */
export function measured(step: Reason, worse: Contender, better: Contender, place: number): string | null {
  const measure = MEASURES[step];
  // Without words about it, it is the best that a path is worse than.
  const whose = place === 0 ? '' : ` of path ${place + 1}`;
  if (measure) return `${measure(worse)} against ${measure(better)}${whose}`;
  return whose === '' ? null : `than path ${place + 1}`;
}
