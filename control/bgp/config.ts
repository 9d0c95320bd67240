/** What a speaker is told: who it is, whom it speaks with and how. Plain data, but for policies. */
import type { FamilyName } from './family.ts';
import type { Policy } from './policy.ts';

export type PeerLabel = 'node-to-node mesh' | 'node specific' | 'global';

/** What stands for the peer among the resources, and gives it its name. */
export interface PeerResource {
  readonly kind: 'Node' | 'BGPPeer';
  readonly name: string;
}

/** Ours towards the peer (RFC 9234 section 4.1). */
export type Role = 'provider' | 'customer' | 'peer' | 'rs' | 'rs-client';

export interface BfdConfig {
  /** Milliseconds, 10 to 60,000. Default 300 each. */
  minTxMs?: number;
  minRxMs?: number;
  /** Missed packets until the peer takes us for gone: 1 to 255. Default 3. */
  multiplier?: number;
  /** The peer is further than a hop away (RFC 5883): UDP 4784, no GTSM. */
  multihop?: boolean;
}

export interface PeerConfig {
  /** Who may connect, and whom to dial: IPv4 or IPv6. One peer an address. */
  address: string;
  /** Default 179. */
  port?: number;
  asn: number;
  /** What this session knows as our AS. Default: the speaker's. */
  localAsn?: number;
  /** Routes that are carried. Default: of the address's own family. */
  families?: readonly FamilyName[];
  /** Source address to dial from; null: the kernel's choice. Default: the address that is listened on, else null. */
  localAddress?: string | null;
  /** Our next hop for routes of the family that the session itself does not run over; without it they are not sent. */
  nextHop4?: string;
  nextHop6?: string;
  /** Wait for the peer to connect. */
  passive?: boolean;
  /** Seconds; 0 (never) or 3 to 65535. Default 90. */
  holdTime?: number;
  /** Seconds between KEEPALIVEs. Default: a third of the hold time. */
  keepaliveTime?: number;
  /** Password of RFC 2385. */
  password?: string;
  /** The peer is at most so many hops away, and packets from further are refused (RFC 5082). 1 to 255. */
  ttlSecurity?: number;
  /** Refuse paths of an external peer that do not begin with its AS; false for a route server. Default true. */
  enforceFirstAs?: boolean;
  /** Occurrences of our AS that are accepted in a path. Default 0. */
  allowOwnAs?: number;
  /** More prefixes of one family than this end the session. Default 2,000,000. */
  maxPrefixes?: number;
  /** Seconds until a session that ended so is tried again; 0: not before a change of configuration. Default 300. */
  maxPrefixesRestart?: number;
  /** auto: ourselves to external peers and for own routes, else as it came. Default auto. */
  nextHop?: 'auto' | 'self' | 'keep';
  /** The peer is our client (RFC 4456). */
  reflectorClient?: boolean;
  /** Take several paths a prefix, and send so many (RFC 7911). Default: no, 1. */
  addPath?: { receive?: boolean; send?: number };
  /** Seconds for which the peer may keep our routes while we restart (RFC 4724); 0: not offered. Default 120. */
  restartTime?: number;
  /** Seconds for which stale routes live on after that (RFC 9494); 0: not offered. Default 0. */
  longLivedTime?: number;
  role?: Role;
  /** Refuse a peer that does not say its role. */
  strictRole?: boolean;
  /** An external peer without a policy neither gives nor gets routes (RFC 8212); an internal one all. */
  importPolicy?: Policy;
  exportPolicy?: Policy;
  /** Remember routes that the import policy refused, to show them. They count as to `maxPrefixes`. */
  keepFiltered?: boolean;
  /** Ask the peer to move its traffic away: routes leave with GRACEFUL_SHUTDOWN (RFC 8326). */
  gracefulShutdown?: boolean;
  /** The session is to be down; the text is for the peer's operator (RFC 9003), at most 255 bytes of UTF-8. */
  shutdown?: string;
  bfd?: BfdConfig;
  /** Passed through to the status, as what follows. */
  label: PeerLabel;
  resource?: PeerResource;
}

export interface Timers {
  /** How long a connection attempt may take. Default 10 s. */
  connectMs: number;
  /** How long a peer may take to send its OPEN. Default 4 min (RFC 4271 8.2.2). */
  openMs: number;
  /** Time between attempts, doubling: default 2 s to 60 s. */
  retryMinMs: number;
  retryMaxMs: number;
  /** How long a peer may take nothing of what is sent. Default 8 min, or twice the hold time (RFC 9687 section 3.1). */
  sendHoldMs: number;
}

export interface Origination {
  prefix: string;
  /** AS << 16 | value, unsigned. */
  communities?: readonly number[];
  /** Three words each, flat. */
  largeCommunities?: readonly number[];
  /** Default 100. */
  localPref?: number;
}

export interface SpeakerConfig {
  asn: number;
  /** BGP identifier, dotted. */
  routerId: string;
  /** Identifier of the cluster that we reflect for, dotted. Default: routerId. */
  clusterId?: string;
  /** Absent: nobody can connect to us. Port 0 takes a free one, see Speaker.port. */
  listen?: { addresses: readonly string[]; port: number };
  peers: readonly PeerConfig[];
  /** Prefixes of our own, announced to every peer with ourselves as next hop. */
  originate: readonly Origination[];
  /** Our forwarding state outlived a restart: say so to peers, and wait for their End-of-RIB (RFC 4724 4.1). */
  restarting?: boolean;
  timers?: Partial<Timers>;
  /** Bytes that may wait for one peer. Default 8 MiB. */
  maxOutputBytes?: number;
}
