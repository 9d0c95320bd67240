/** What a speaker tells of its peers. Plain data. */
import type { PeerLabel, PeerResource } from './config.ts';
import type { FamilyName } from './family.ts';

export type SessionState = 'Idle' | 'Connect' | 'Active' | 'OpenSent' | 'OpenConfirm' | 'Established';

export interface PeerCounters {
  messagesIn: number;
  messagesOut: number;
  bytesIn: number;
  bytesOut: number;
  updatesIn: number;
  updatesOut: number;
  keepalivesIn: number;
  keepalivesOut: number;
  refreshesIn: number;
  refreshesOut: number;
  notificationsIn: number;
  notificationsOut: number;
  /** Prefixes announced that may not be used: loops, next hop ourselves. */
  routesRefused: number;
  /** Prefixes that the import policy refused. */
  routesFiltered: number;
  /** UPDATEs whose routes were treated as withdrawn for malformed attributes (RFC 7606). */
  updatesMalformed: number;
  /** Malformed or unwelcome attributes left out of UPDATEs that were used. */
  attributesDiscarded: number;
  /** Sessions that were established. */
  established: number;
  /** Sessions that ended. */
  flaps: number;
}

/** What one side's OPEN offers, in words such as "IPv4 unicast", "4-octet AS 64512", "graceful restart 120 s". */
export interface Offer {
  asn: number;
  routerId: string;
  holdTime: number;
  capabilities: string[];
}

export interface FamilyStatus {
  family: FamilyName;
  /** Prefixes that came and may be used. */
  received: number;
  /** Kept though the policy refused them. */
  filtered: number;
  /** Kept from the session before (RFC 4724). */
  stale: number;
  sent: number;
  endOfRibReceived: boolean;
  endOfRibSent: boolean;
  addPathReceive: boolean;
  addPathSend: boolean;
}

export interface PeerStatus {
  address: string;
  port: number;
  label: PeerLabel;
  /** Null: it has no name. */
  resource: PeerResource | null;
  asn: number;
  localAsn: number;
  /** iBGP. */
  internal: boolean;
  state: SessionState;
  /** Since when it is in that state. */
  since: Date;
  /** Why the last session or attempt ended, in words; null while Established. */
  lastError: string | null;
  /** When that was. */
  lastErrorAt: Date | null;
  /** Why the last session that was up ended, and when: attempts since then do not change it. Null: there was none. */
  endReason: string | null;
  endedAt: Date | null;
  localAddress: string | null;
  /** Seconds, as agreed on; null before. */
  holdTime: number | null;
  keepaliveTime: number | null;
  /** Our OPEN and the peer's; null before they are sent. */
  ours: Offer | null;
  theirs: Offer | null;
  counters: PeerCounters;
  families: FamilyStatus[];
  /** Bytes that wait to be sent. */
  queuedBytes: number;
  bfd: string | null;
  /** Until when the peer may come back without losing its routes, or null. */
  restartUntil: Date | null;
}
