/** Messages of the BGP Monitoring Protocol (RFC 7854, Adj-RIB-Out by RFC 8671, Loc-RIB by RFC 9069), as the monitored side sends them. */
import { put16, put32 } from './bytes.ts';
import type { Family } from './family.ts';

const VERSION = 3;
const COMMON_HEADER = 6;
const PEER_HEADER = 42;

const ROUTE_MONITORING = 0;
const STATISTICS_REPORT = 1;
const PEER_DOWN = 2;
const PEER_UP = 3;
const INITIATION = 4;
const TERMINATION = 5;

/** Flags of the per-peer header (RFC 7854 section 4.2, RFC 8671 section 4). */
const IP6_PEER = 0x80;
export const POST_POLICY = 0x40;
/** AS paths of the messages have two octets an AS. */
export const LEGACY_AS_PATH = 0x20;
export const ADJ_OUT = 0x10;

/** Why a session ended (RFC 7854 section 4.9). */
export const LOCAL_NOTIFICATION = 1;
export const LOCAL_NO_NOTIFICATION = 2;
export const REMOTE_NOTIFICATION = 3;
export const REMOTE_NO_NOTIFICATION = 4;

/** Why a BMP session ends (RFC 7854 section 4.5). */
export const ADMINISTRATIVELY_CLOSED = 0;

const encoder = new TextEncoder();

function message(type: number, size: number): Uint8Array {
  const bytes = new Uint8Array(COMMON_HEADER + size);
  bytes[0] = VERSION;
  put32(bytes, 1, bytes.length);
  bytes[5] = type;
  return bytes;
}

/** Information TLVs (section 4.4). */
function information(
  type: number,
  tlvs: readonly (readonly [type: number, value: Uint8Array])[],
): Uint8Array {
  const bytes = message(
    type,
    tlvs.reduce((size, [, value]) => size + 4 + value.length, 0),
  );
  let at = COMMON_HEADER;
  for (const [kind, value] of tlvs) {
    put16(bytes, at, kind);
    put16(bytes, at + 2, value.length);
    bytes.set(value, at + 4);
    at += 4 + value.length;
  }
  return bytes;
}

/** The first message of a session: who we are (section 4.3). */
export const initiation = (sysName: string, sysDescr: string): Uint8Array =>
  information(INITIATION, [
    [1, encoder.encode(sysDescr)],
    [2, encoder.encode(sysName)],
  ]);

/** The last one (section 4.5), with words for people. */
export const termination = (reason: number, text: string): Uint8Array =>
  information(TERMINATION, [
    [1, Uint8Array.of(reason >> 8, reason)],
    [0, encoder.encode(text)],
  ]);

/** Types of peers (RFC 7854 section 4.2, RFC 9069 section 4.1). */
export const GLOBAL_INSTANCE = 0;
export const LOC_RIB = 3;

export interface BmpPeer {
  readonly type: typeof GLOBAL_INSTANCE | typeof LOC_RIB;
  /** One or four words; none: ourselves, whose Loc-RIB it is. */
  readonly address: readonly number[];
  readonly asn: number;
  /** BGP identifier, int32. */
  readonly id: number;
}

/** Put the per-peer header (section 4.2) behind the common one. */
function putPeer(bytes: Uint8Array, { type, address, asn, id }: BmpPeer, flags: number): void {
  const at = COMMON_HEADER;
  bytes[at] = type;
  // Of the one instance that there is: the distinguisher is 0.
  bytes[at + 1] = flags | (address.length === 4 ? IP6_PEER : 0);
  putAddress(bytes, at + 10, address);
  put32(bytes, at + 26, asn);
  put32(bytes, at + 30, id);
  const now = Date.now();
  put32(bytes, at + 34, Math.floor(now / 1000));
  put32(bytes, at + 38, (now % 1000) * 1000);
}

/** 16 bytes; IPv4 in the last four. */
function putAddress(bytes: Uint8Array, at: number, address: readonly number[]): void {
  for (const [i, word] of address.entries()) put32(bytes, at + 16 - 4 * (address.length - i), word);
}

/** Whole UPDATEs of a peer, each as one Route Monitoring message (section 4.6), one behind the other. */
export function routeMonitoring(peer: BmpPeer, flags: number, updates: readonly Uint8Array[]): Uint8Array {
  const head = COMMON_HEADER + PEER_HEADER;
  const out = new Uint8Array(updates.reduce((size, update) => size + head + update.length, 0));
  const header = message(ROUTE_MONITORING, PEER_HEADER);
  putPeer(header, peer, flags);
  let at = 0;
  for (const update of updates) {
    put32(header, 1, head + update.length);
    out.set(header, at);
    out.set(update, at + head);
    at += head + update.length;
  }
  return out;
}

export interface PeerUp {
  /** Words of our address. */
  readonly localAddress: readonly number[];
  readonly localPort: number;
  readonly remotePort: number;
  /** Whole messages. */
  readonly openSent: Uint8Array;
  readonly openReceived: Uint8Array;
}

/** Section 4.10. */
export function peerUp(peer: BmpPeer, up: PeerUp): Uint8Array {
  const { openSent, openReceived } = up;
  const bytes = message(PEER_UP, PEER_HEADER + 20 + openSent.length + openReceived.length);
  putPeer(bytes, peer, 0);
  const at = COMMON_HEADER + PEER_HEADER;
  putAddress(bytes, at, up.localAddress);
  put16(bytes, at + 16, up.localPort);
  put16(bytes, at + 18, up.remotePort);
  bytes.set(openSent, at + 20);
  bytes.set(openReceived, at + 20 + openSent.length);
  return bytes;
}

/** Section 4.9. `data`: the NOTIFICATION, whole; or the number of the FSM's event, two bytes; or nothing. */
export function peerDown(peer: BmpPeer, reason: number, data: Uint8Array): Uint8Array {
  const bytes = message(PEER_DOWN, PEER_HEADER + 1 + data.length);
  putPeer(bytes, peer, 0);
  bytes[COMMON_HEADER + PEER_HEADER] = reason;
  bytes.set(data, COMMON_HEADER + PEER_HEADER + 1);
  return bytes;
}

/** Statistics (section 4.8, RFC 8671 section 6.2): counters have 32 bit, gauges 64. */
export const REJECTED_BY_POLICY = 0;
export const ADJ_IN_ROUTES = 7;
export const ADJ_IN_ROUTES_OF_FAMILY = 9;
export const UPDATES_TREATED_AS_WITHDRAW = 11;
export const ADJ_OUT_ROUTES = 15;
export const ADJ_OUT_ROUTES_OF_FAMILY = 17;

export interface Statistic {
  readonly type: number;
  readonly value: number;
  /** Gauges alone. */
  readonly family?: Family;
}

const COUNTERS = [REJECTED_BY_POLICY, UPDATES_TREATED_AS_WITHDRAW];

export function statisticsReport(peer: BmpPeer, statistics: readonly Statistic[]): Uint8Array {
  const sizeOf = ({ type, family }: Statistic) => (COUNTERS.includes(type) ? 4 : family ? 11 : 8);
  const size = statistics.reduce((sum, statistic) => sum + 4 + sizeOf(statistic), PEER_HEADER + 4);
  const bytes = message(STATISTICS_REPORT, size);
  putPeer(bytes, peer, 0);
  let at = COMMON_HEADER + PEER_HEADER;
  put32(bytes, at, statistics.length);
  at += 4;
  for (const statistic of statistics) {
    const { type, value, family } = statistic;
    const length = sizeOf(statistic);
    put16(bytes, at, type);
    put16(bytes, at + 2, length);
    at += 4 + length;
    if (family) {
      put16(bytes, at - 11, family.afi);
      bytes[at - 9] = family.safi;
    }
    if (length > 4) put32(bytes, at - 8, Math.floor(value / 2 ** 32));
    put32(bytes, at - 4, (value % 2 ** 32) | 0);
  }
  return bytes;
}
