/**
 * Which routes a session may not use (RFC 4271 6.3 and 9.1.2, RFC 4456 section 8, RFC 9234 section 5), and how others
 * come in.
 */
import { GRACEFUL_SHUTDOWN } from './attribute-table.ts';
import { type Attributes, acrossBorder } from './attributes.ts';
import type { Role } from './config.ts';
import { type Family, IPV4 } from './family.ts';

/** What the checks on a received route depend on. */
export interface ImportRules {
  readonly internal: boolean;
  /** Our ASes: the speaker's, and the one that this session knows. */
  readonly asns: readonly number[];
  readonly allowOwnAs: number;
  readonly routerId: number;
  readonly clusterId: number;
  /** Addresses that are ours, as text. */
  readonly ownAddresses: ReadonlySet<string>;
  readonly role: Role | null;
  readonly peerAsn: number;
}

export const NOT_UNICAST = 'the prefix is multicast';

/** Whether a prefix, by the first word of its address, holds multicast addresses alone (224.0.0.0/4, ff00::/8). */
export const isMulticast = (family: Family, word: number, length: number): boolean =>
  family === IPV4 ? word >>> 28 === 0xe && length >= 4 : word >>> 24 === 0xff && length >= 8;

/** Why a route may not be used, or null. */
export function refusal(
  { asPath, originatorId, clusterList, nextHop, otc }: Attributes,
  rules: ImportRules,
): string | null {
  let own = 0;
  for (const { asns } of asPath) for (const asn of asns) if (rules.asns.includes(asn)) own++;
  if (own > rules.allowOwnAs) return 'our AS is in AS_PATH';
  if (originatorId === rules.routerId) return 'ORIGINATOR_ID is ours';
  if (clusterList.includes(rules.clusterId)) return 'CLUSTER_LIST holds our cluster';
  if (nextHop && rules.ownAddresses.has(nextHop.text)) return 'NEXT_HOP is our own address';
  if (rules.internal || otc === null || !rules.role) return null;
  // From whom we serve, a route that was for customers only is a leak; so is another's mark from a lateral peer.
  if (rules.role === 'provider' || rules.role === 'rs') return 'a route leak: OTC from a customer';
  if (rules.role === 'peer' && otc !== rules.peerAsn) return `a route leak: OTC of AS ${otc} from a peer`;
  return null;
}

/** The attributes with which a good route enters the RIB. */
export function imported(attributes: Attributes, { internal, role, peerAsn }: ImportRules): Attributes {
  if (internal) return attributes;
  let out = asLastChoice(acrossBorder(attributes));
  if (role && out.otc === null && (role === 'customer' || role === 'rs-client' || role === 'peer')) {
    out = { ...out, otc: peerAsn };
  }
  return out;
}

/** RFC 8326 section 4.2: whoever leaves wants to be the last choice, whatever an import policy makes of it. */
export const asLastChoice = (attributes: Attributes): Attributes =>
  attributes.communities.includes(GRACEFUL_SHUTDOWN) ? { ...attributes, localPref: 0 } : attributes;
