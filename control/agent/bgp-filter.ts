/**
 * What sessions import and export, as Calico has it: BGPFilters first, rule by rule, and where none decides, all that
 * comes, and of what leaves the cluster's own. Pure.
 *
 * Every peer of the agent has an explicit policy, so RFC 8212's refusal of sessions without one never applies: a BGPPeer
 * is the operator's word that routes are to be exchanged.
 */
import { type Family, familyNamed, type Prefix, parsePrefix } from '../bgp/family.ts';
import {
  ACCEPT_ALL,
  ACCEPTED,
  type Operation,
  type Policy,
  type PolicyRoute,
  type Verdict,
} from '../bgp/policy.ts';
import type { BGPFilter } from '../resources/schema.ts';

type Direction = 'import' | 'export';
type Rule = BGPFilter['spec']['importV4'][number];

/** A pool's say in what leaves. */
export interface ExportPool {
  readonly cidr: string;
  readonly disableBGPExport: boolean;
}

export interface SessionRoutes {
  /** iBGP. */
  readonly internal: boolean;
  /** In the order in which they are asked. */
  readonly filters: readonly BGPFilter[];
  /** Named by the session, and not there: nothing passes. */
  readonly missing: readonly string[];
  readonly pools: readonly ExportPool[];
}

/** The largest metric: a route's priority travels as what is left of it (LOCAL_PREF). */
const MAX_PRIORITY = 2147483647;
/** LOCAL_PREF of a route with this priority. */
export const localPrefOf = (priority: number): number => MAX_PRIORITY - priority;

export function importPolicy(session: SessionRoutes): Policy {
  if (session.filters.length === 0 && session.missing.length === 0) return ACCEPT_ALL;
  return policyOf('import', session, () => ACCEPTED);
}

export function exportPolicy(session: SessionRoutes): Policy {
  const pools = session.pools
    .map((pool) => ({ ...pool, prefix: parsePrefix(pool.cidr) }))
    .sort((a, b) => b.prefix.length - a.prefix.length);
  const kept = new Map(pools.map(({ cidr }) => [cidr, refused(`pool ${cidr} is not exported`)]));
  return policyOf('export', session, ({ prefix, source }) => {
    if (source.local) return ACCEPTED;
    const pool = pools.find((candidate) => contains(candidate.prefix, prefix));
    if (!pool) return FOREIGN;
    return pool.disableBGPExport ? kept.get(pool.cidr)! : ACCEPTED;
  });
}

const refused = (reason: string): Verdict => ({ accept: false, reason, operations: [] });
const FOREIGN = refused('of no pool: only routes of the cluster are passed on');

function policyOf(
  direction: Direction,
  session: SessionRoutes,
  otherwise: (route: PolicyRoute) => Verdict,
): Policy {
  const [absent] = session.missing;
  const nothing = refused(`BGPFilter ${absent} does not exist`);
  const rules = {
    ipv4: compileAll(direction, 'ipv4', session),
    ipv6: compileAll(direction, 'ipv6', session),
  };
  return {
    key: JSON.stringify([
      direction,
      session.internal,
      session.filters.map(({ metadata, spec }) => [metadata.name, spec]),
      session.missing,
      session.pools,
    ]),
    evaluate: (route) => {
      if (absent !== undefined) return nothing;
      const rule = rules[route.prefix.family.name].find(({ matches }) => matches(route));
      return rule?.verdict ?? otherwise(route);
    },
  };
}

interface Compiled {
  matches(route: PolicyRoute): boolean;
  readonly verdict: Verdict;
}

function compileAll(direction: Direction, family: Family['name'], session: SessionRoutes): Compiled[] {
  const field = `${direction}V${family === 'ipv4' ? 4 : 6}` as const;
  return session.filters.flatMap(({ metadata, spec }) =>
    spec[field].map((rule, index) => ({
      matches: compile(rule, familyNamed(family), session.internal),
      verdict: {
        accept: rule.action === 'Accept',
        reason: `BGPFilter ${metadata.name}, rule ${index + 1} of ${field}: ${rule.action}`,
        operations: (rule.operations ?? []).map(operationOf),
      },
    })),
  );
}

/** Whether a rule is meant: all that it names must be so. */
function compile(rule: Rule, family: Family, internal: boolean): Compiled['matches'] {
  const conditions: Compiled['matches'][] = [];
  const { cidr, matchOperator, prefixLength, peerType, communities, asPathPrefix, priority } = rule;
  // Of all peers of one session, or of none.
  if (peerType !== undefined && (peerType === 'iBGP') !== internal) return () => false;
  // Routes here come from peers or are the node's own: none has an interface.
  if (rule.interface !== undefined) return () => false;
  if (rule.source === 'RemotePeers') conditions.push(({ source }) => !source.local);
  if (cidr !== undefined) {
    const outer = parsePrefix(cidr);
    const { min = outer.length, max = family.bits } = prefixLength ?? {};
    const isEqual = ({ prefix }: PolicyRoute) => prefix.length === outer.length && contains(outer, prefix);
    const isIn = ({ prefix }: PolicyRoute) =>
      contains(outer, prefix) && prefix.length >= min && prefix.length <= max;
    const test = matchOperator === 'Equal' || matchOperator === 'NotEqual' ? isEqual : isIn;
    const wanted = matchOperator === 'Equal' || matchOperator === 'In';
    conditions.push((route) => test(route) === wanted);
  }
  for (const value of communities?.values ?? []) conditions.push(hasCommunity(value));
  if (asPathPrefix !== undefined) {
    conditions.push(({ attributes }) => {
      const path = attributes.asPath.flatMap(({ set, asns }) => (set ? [Number.NaN] : asns));
      return asPathPrefix.every((asn, i) => path[i] === asn);
    });
  }
  if (priority !== undefined) {
    conditions.push(({ attributes }) => attributes.localPref === localPrefOf(priority));
  }
  const [only, another] = conditions;
  if (only && !another) return only;
  return (route) => conditions.every((condition) => condition(route));
}

function hasCommunity(text: string): Compiled['matches'] {
  const wanted = communityOf(text);
  if (typeof wanted === 'number') return ({ attributes }) => attributes.communities.includes(wanted);
  return ({ attributes: { largeCommunities } }) =>
    largeCommunities.some(
      (_, at) => at % 3 === 0 && wanted.every((word, i) => largeCommunities[at + i] === word),
    );
}

/** A community as its number, or a large one as its three. The text is one that the schema accepts. */
export function communityOf(text: string): number | readonly [number, number, number] {
  const [a = 0, b = 0, c] = text.split(':').map(Number);
  return c === undefined ? ((a << 16) | b) >>> 0 : [a, b, c];
}

function operationOf(operation: NonNullable<Rule['operations']>[number]): Operation {
  if (operation.addCommunity) {
    const community = communityOf(operation.addCommunity.value);
    return typeof community === 'number'
      ? { kind: 'add community', community }
      : { kind: 'add large community', community };
  }
  if (operation.prependASPath) return { kind: 'prepend', asns: operation.prependASPath.prefix };
  return { kind: 'set local preference', value: localPrefOf(operation.setPriority!.value) };
}

/** Whether a prefix is another or lies within it. */
export function contains(outer: Prefix, { family, words, length }: Prefix): boolean {
  if (family !== outer.family || length < outer.length) return false;
  for (let i = 0, bits = outer.length; bits > 0; i++, bits -= 32) {
    if ((words[i]! ^ outer.words[i]!) >>> Math.max(0, 32 - bits) !== 0) return false;
  }
  return true;
}
