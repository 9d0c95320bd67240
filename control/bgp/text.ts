/** Attributes as people write them. */
import { formatAddress4 } from '../address.ts';
import { type AsSegment, type Attributes, ORIGIN_NAMES } from './attributes.ts';

/** Attributes but the next hop, as JSON carries them. */
export interface AttributesView {
  origin: (typeof ORIGIN_NAMES)[number];
  /** AS numbers, sets in braces. */
  asPath: string;
  /** As it came; null where it did not. */
  localPref: number | null;
  /** MULTI_EXIT_DISC. */
  med: number | null;
  communities: string[];
  largeCommunities: string[];
  extendedCommunities: string[];
  originatorId: string | null;
  clusterList: string[];
  atomicAggregate: boolean;
  aggregator: string | null;
  /** AS that marked the route as one for its customers only (RFC 9234). */
  onlyToCustomer: number | null;
  /** Optional attributes that are passed on as they came: type, and value in hexadecimal. */
  others: string[];
}

export const attributesView = (attributes: Attributes): AttributesView => ({
  origin: ORIGIN_NAMES[attributes.origin]!,
  asPath: asPathText(attributes.asPath),
  localPref: attributes.localPref,
  med: attributes.med,
  communities: attributes.communities.map(communityText),
  largeCommunities: largeCommunityTexts(attributes.largeCommunities),
  extendedCommunities: extendedCommunityTexts(attributes.extendedCommunities),
  originatorId: attributes.originatorId === null ? null : formatAddress4(attributes.originatorId),
  clusterList: attributes.clusterList.map(formatAddress4),
  atomicAggregate: attributes.atomicAggregate,
  aggregator:
    attributes.aggregator && `${attributes.aggregator.asn} ${formatAddress4(attributes.aggregator.address)}`,
  onlyToCustomer: attributes.otc,
  others: attributes.unknown.map(({ type, value }) => `${type}:${Buffer.from(value).toString('hex')}`),
});

/** "64512 64513", sets in braces. */
export const asPathText = (path: readonly AsSegment[]): string =>
  path.map(({ set, asns }) => (set ? `{${asns.join(' ')}}` : asns.join(' '))).join(' ');

/** RFC 1997, 7999, 8326, 9494. */
const WELL_KNOWN = new Map([
  [0xffff0000, 'graceful-shutdown'],
  [0xffff0006, 'llgr-stale'],
  [0xffff0007, 'no-llgr'],
  [0xffff029a, 'blackhole'],
  [0xffffff01, 'no-export'],
  [0xffffff02, 'no-advertise'],
  [0xffffff03, 'no-export-subconfed'],
]);

export const communityText = (community: number): string =>
  WELL_KNOWN.get(community >>> 0) ?? `${community >>> 16}:${community & 0xffff}`;

/** Three words each, flat (RFC 8092). */
export const largeCommunityTexts = (words: readonly number[]): string[] =>
  Array.from({ length: Math.floor(words.length / 3) }, (_, i) =>
    words
      .slice(3 * i, 3 * i + 3)
      .map((word) => word >>> 0)
      .join(':'),
  );

/** By the low octet of the type, of those that are administered by an AS or an address (RFC 4360 section 4, 5). */
const EXTENDED_KINDS = new Map([
  [2, 'rt'],
  [3, 'ro'],
]);

/** Two words each, flat (RFC 4360, 5668): route targets and origins by name, others in hexadecimal. */
export function extendedCommunityTexts(words: readonly number[]): string[] {
  const texts: string[] = [];
  for (let i = 0; i + 1 < words.length; i += 2) {
    const [high, low] = [words[i]! >>> 0, words[i + 1]! >>> 0];
    const kind = EXTENDED_KINDS.get((high >>> 16) & 0xff);
    const administrator = kind === undefined ? -1 : (high >>> 24) & 0xbf;
    const wide = ((high & 0xffff) * 0x10000 + (low >>> 16)) >>> 0;
    if (administrator === 0) texts.push(`${kind}:${high & 0xffff}:${low}`);
    else if (administrator === 1) texts.push(`${kind}:${formatAddress4(wide | 0)}:${low & 0xffff}`);
    else if (administrator === 2) texts.push(`${kind}:${wide}:${low & 0xffff}`);
    else texts.push(`0x${high.toString(16).padStart(8, '0')}${low.toString(16).padStart(8, '0')}`);
  }
  return texts;
}
