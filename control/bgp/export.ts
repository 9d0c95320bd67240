/**
 * What a session passes on and how (RFC 4271 5.1 and 9.2; RFC 1997; RFC 4360 section 6; RFC 4456 section 8; RFC 8326;
 * RFC 9234 section 5; RFC 9494 section 4.3), and which routes it may not use.
 */
import type { PathSource } from '../rib/decision.ts';
import {
  DEFAULT_LOCAL_PREF,
  GRACEFUL_SHUTDOWN,
  LLGR_STALE,
  NO_ADVERTISE,
  NO_EXPORT,
  NO_EXPORT_SUBCONFED,
} from './attribute-table.ts';
import { type Attributes, acrossBorder, distinct, prepend } from './attributes.ts';
import type { Role } from './config.ts';
import { type Family, IPV4 } from './family.ts';
import type { NextHop } from './next-hop.ts';
import type { Operation, Policy } from './policy.ts';

/** All that decides how a route leaves. Sessions for which it is the same form an update group. */
export interface ExportRules {
  readonly family: Family;
  /** iBGP. */
  readonly internal: boolean;
  /** AS that an external peer knows us by. */
  readonly localAsn: number;
  /** Our BGP identifier and that of our cluster, int32. */
  readonly routerId: number;
  readonly clusterId: number;
  /** The peer is our client. */
  readonly client: boolean;
  /** Our own next hop for this family, or null: there is none. */
  readonly self: NextHop | null;
  readonly nextHopMode: 'auto' | 'self' | 'keep';
  /** IPv4 routes may have IPv6 next hops. */
  readonly nextHop6: boolean;
  readonly role: Role | null;
  /** The peer keeps stale routes as we do. */
  readonly longLived: boolean;
  readonly gracefulShutdown: boolean;
  readonly policy: Policy;
}

/** A route for customers only must not go to these (RFC 9234 section 5, egress 2). */
const UPWARDS: readonly Role[] = ['customer', 'peer', 'rs-client'];
/** A route that goes to these is for their customers only (egress 1). */
const DOWNWARDS: readonly Role[] = ['provider', 'peer', 'rs'];

/** As below; null if the route is not announced. */
export function exported(...given: Parameters<typeof exportedOr>): Attributes | null {
  const outcome = exportedOr(...given);
  return typeof outcome === 'string' ? null : outcome;
}

/**
 * The attributes with which a route is announced, or in words why it is not. `operations`: what the export policy
 * does to it.
 */
export function exportedOr(
  attributes: Attributes,
  source: PathSource,
  isLongLivedStale: boolean,
  operations: readonly Operation[],
  rules: ExportRules,
): Attributes | string {
  const { internal, localAsn, role, family } = rules;
  // What our own routes and the export policy carry is for the peer to heed (RFC 1997: "all routes received").
  const received = source.local ? [] : attributes.communities;
  if (received.includes(NO_ADVERTISE)) return 'it has the community no-advertise';
  const isReflected = source.internal && internal;
  if (isReflected && !source.client && !rules.client)
    return 'it is from an internal peer, and neither is a client';
  const isStale = isLongLivedStale || attributes.communities.includes(LLGR_STALE);
  if (isStale && !rules.longLived) return 'it is stale, and the peer does not keep such routes (RFC 9494)';

  let out = attributes;
  if (isLongLivedStale) out = withCommunity(out, LLGR_STALE);
  if (rules.gracefulShutdown) out = withCommunity(out, GRACEFUL_SHUTDOWN);
  out = operations.reduce(apply, out);

  const isSelf =
    attributes.nextHop === null ||
    // On another link, an address of a link leads nowhere.
    attributes.nextHop.linkLocal === attributes.nextHop.words ||
    rules.nextHopMode === 'self' ||
    (rules.nextHopMode === 'auto' && !internal);
  const nextHop = isSelf ? rules.self : attributes.nextHop;
  if (!nextHop) return 'there is no address of ours to name as next hop';
  if (family === IPV4 ? nextHop.family !== IPV4 && !rules.nextHop6 : nextHop.family === IPV4) {
    return `the peer takes no next hop such as ${nextHop.text} for ${family.name}`;
  }

  if (internal) {
    out = { ...out, nextHop, localPref: out.localPref ?? DEFAULT_LOCAL_PREF };
    if (!isReflected) return out;
    return {
      ...out,
      originatorId: out.originatorId ?? source.id,
      clusterList: [rules.clusterId, ...out.clusterList],
    };
  }
  if (received.includes(NO_EXPORT)) return 'it has the community no-export';
  if (received.includes(NO_EXPORT_SUBCONFED)) return 'it has the community no-export-subconfed';
  if (role && out.otc !== null && UPWARDS.includes(role)) return 'it is for customers only (RFC 9234)';
  return {
    ...acrossBorder(out),
    asPath: prepend(out.asPath, localAsn),
    nextHop,
    med: source.local ? out.med : null,
    localPref: null,
    originatorId: null,
    clusterList: [],
    otc: out.otc ?? (role && DOWNWARDS.includes(role) ? localAsn : null),
  };
}

/** What a policy's operation makes of a route. */
export function apply(attributes: Attributes, operation: Operation): Attributes {
  switch (operation.kind) {
    case 'add community':
      return withCommunity(attributes, operation.community);
    case 'add large community':
      return {
        ...attributes,
        largeCommunities: distinct([...attributes.largeCommunities, ...operation.community], 3),
      };
    case 'prepend':
      return { ...attributes, asPath: operation.asns.reduceRight(prepend, [...attributes.asPath]) };
    case 'set local preference':
      return { ...attributes, localPref: operation.value };
  }
}

export const withCommunity = (attributes: Attributes, community: number): Attributes =>
  attributes.communities.includes(community)
    ? attributes
    : { ...attributes, communities: [...attributes.communities, community] };
