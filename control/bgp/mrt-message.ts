/** Messages and changes of state in MRT: BGP4MP and BGP4MP_ET (RFC 6396 section 4.4, RFC 8050 section 3). */
import { get16, get32 } from './bytes.ts';
import { IPV4, IPV6 } from './family.ts';
import {
  BGP4MP_ET,
  MESSAGE_ADDPATH,
  MESSAGE_AS4,
  MESSAGE_AS4_ADDPATH,
  MESSAGE_AS4_LOCAL,
  MESSAGE_AS4_LOCAL_ADDPATH,
  MESSAGE_LOCAL,
  MESSAGE_LOCAL_ADDPATH,
  MrtFault,
  type MrtRecord,
  STATE_CHANGE,
  STATE_CHANGE_AS4,
} from './mrt.ts';
import { wordsAt } from './mrt-table.ts';

const AS4 = [
  MESSAGE_AS4,
  STATE_CHANGE_AS4,
  MESSAGE_AS4_LOCAL,
  MESSAGE_AS4_ADDPATH,
  MESSAGE_AS4_LOCAL_ADDPATH,
];
const LOCAL = [MESSAGE_LOCAL, MESSAGE_AS4_LOCAL, MESSAGE_LOCAL_ADDPATH, MESSAGE_AS4_LOCAL_ADDPATH];
const ADDPATH = [MESSAGE_ADDPATH, MESSAGE_AS4_ADDPATH, MESSAGE_LOCAL_ADDPATH, MESSAGE_AS4_LOCAL_ADDPATH];

/** Number of the state Established (RFC 6396 section 4.4.1). */
export const ESTABLISHED = 6;

export interface Bgp4mp {
  readonly peerAsn: number;
  readonly localAsn: number;
  /** Words of the peer's address. */
  readonly peer: readonly number[];
  /** AS numbers of the session's messages have four octets. */
  readonly as4: boolean;
  /** Its prefixes have path identifiers. */
  readonly addPath: boolean;
  /** It was sent by whoever wrote the file, not received. */
  readonly isLocal: boolean;
  /** A change of state, or null: a BGP message, bytes[at..end) of the record. */
  readonly states: { readonly from: number; readonly to: number } | null;
  readonly at: number;
  readonly end: number;
}

/** Decode a record of type BGP4MP or BGP4MP_ET. Throws MrtFault; null: a subtype that is not known. */
export function decodeBgp4mp({ type, subtype, bytes, at: start, end }: MrtRecord): Bgp4mp | null {
  if (subtype > MESSAGE_AS4_LOCAL_ADDPATH || subtype === 2 || subtype === 3) return null;
  const at = type === BGP4MP_ET ? start + 4 : start;
  const as4 = AS4.includes(subtype);
  const asSize = as4 ? 4 : 2;
  const familyAt = at + 2 * asSize + 2;
  if (familyAt + 2 > end) throw new MrtFault('the header of a message is cut short');
  const afi = get16(bytes, familyAt);
  const family = afi === IPV4.afi ? IPV4 : afi === IPV6.afi ? IPV6 : null;
  if (!family) throw new MrtFault(`addresses of family ${afi}`);
  const peerAt = familyAt + 2;
  const body = peerAt + 8 * family.words;
  const isState = subtype === STATE_CHANGE || subtype === STATE_CHANGE_AS4;
  if (body + (isState ? 4 : 0) > end) throw new MrtFault('the header of a message is cut short');
  const asn = (from: number) => (as4 ? get32(bytes, from) >>> 0 : get16(bytes, from));
  return {
    peerAsn: asn(at),
    localAsn: asn(at + asSize),
    peer: wordsAt(bytes, peerAt, family),
    as4,
    addPath: ADDPATH.includes(subtype),
    isLocal: LOCAL.includes(subtype),
    states: isState ? { from: get16(bytes, body), to: get16(bytes, body + 2) } : null,
    at: body,
    end,
  };
}
