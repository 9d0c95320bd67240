/**
 * What a session lets in and what it passes on (RFC 4271 5.1, 9.1.2 and 9.2; RFC 4456 section 8; RFC 1997).
 * This speaker is no reflector: what it learnt by iBGP it does not pass to iBGP.
 */
import { DEFAULT_LOCAL_PREF, type Path, type PathSource } from '../rib/decision.ts';
import { type Attributes, hasAs, prepend } from './attributes.ts';

/** One end of a session, as policy sees it. */
export interface Side {
  asn: number;
  /** Our BGP identifier, int32. */
  routerId: number;
  /** Our address in this session, int32: the next hop that we announce. */
  localAddress: number;
  /** Addresses that are ours besides, int32. */
  ownAddresses: readonly number[];
  /** The peer. */
  peer: PathSource;
}

/** Why a route may not be used, or null. */
export function refusal(attributes: Attributes, side: Side): string | null {
  const { asPath, originatorId, clusterList, nextHop } = attributes;
  if (hasAs(asPath, side.asn)) return 'our AS is in AS_PATH';
  if (originatorId === side.routerId) return 'ORIGINATOR_ID is ours';
  if (clusterList.includes(side.routerId)) return 'CLUSTER_LIST holds our identifier';
  if (nextHop !== null && (nextHop === side.localAddress || side.ownAddresses.includes(nextHop))) {
    return 'NEXT_HOP is our own address';
  }
  return null;
}

const NO_EXPORT = 0xffffff01;
const NO_ADVERTISE = 0xffffff02;
const NO_EXPORT_SUBCONFED = 0xffffff03;

/** The attributes with which `path` is announced to the peer, or null if it is not. */
export function exported(path: Path, side: Side): Attributes | null {
  const { source, attributes } = path;
  const { peer } = side;
  if (source === peer) return null;
  if (source.internal && peer.internal) return null;
  if (attributes.communities.includes(NO_ADVERTISE)) return null;
  if (peer.internal) {
    return {
      ...attributes,
      nextHop: attributes.nextHop ?? side.localAddress,
      localPref: attributes.localPref ?? DEFAULT_LOCAL_PREF,
    };
  }
  if (attributes.communities.includes(NO_EXPORT) || attributes.communities.includes(NO_EXPORT_SUBCONFED)) {
    return null;
  }
  return {
    ...attributes,
    asPath: prepend(attributes.asPath, side.asn),
    nextHop: side.localAddress,
    med: source.local ? attributes.med : null,
    localPref: null,
    originatorId: null,
    clusterList: [],
  };
}
