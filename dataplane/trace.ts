/**
 * What happened to a packet, told by the code that did it. The pipeline calls `step` only while the packet
 * in hand is traced, so that an untraced packet pays for one boolean.
 *
 * A record is an Int32Array: per step one code and four arguments, as named in STEPS. Control turns records
 * into words (and adds who announced the route); the dataplane knows only numbers.
 */
import type { TraceFilter } from './messages.ts';
import { get16, get32 } from './wire/bytes.ts';
import { TYPE_ARP, TYPE_IPV4, TYPE_IPV6 } from './wire/ethernet.ts';
import { DESTINATION, IPV6_LENGTH, isAddress, SOURCE } from './wire/ipv6.ts';

/** int32 cells in a step. */
export const STEP_CELLS = 5;
/** Most steps of one packet; more are cut off. */
const MAX_STEPS = 32;
/** Traced packets kept until someone takes them; more are not traced. */
const MAX_PENDING = 256;

/** Names of the steps and of their arguments, by code. */
export const STEPS = [
  ['received', 'port', 'length'],
  ['arp-request', 'sender', 'target'],
  ['arp-reply', 'target'],
  ['tunnel', 'kind', 'peer', 'vni'],
  ['header', 'source', 'destination', 'ttlProtocol', 'length'],
  ['source-checked', 'source', 'against'],
  ['lookup', 'destination', 'adjacency', 'kind', 'nextHop'],
  ['ttl', 'before', 'after'],
  ['too-big', 'length', 'mtu'],
  ['encapsulated', 'kind', 'source', 'destination', 'detail'],
  ['icmp-error', 'typeCode', 'destination', 'mtu'],
  ['icmp-suppressed', 'typeCode', 'limited'],
  ['sent', 'port', 'length'],
  ['consumed'],
  ['dropped', 'reason'],
  ['source6', 'a', 'b', 'c', 'd'],
  ['destination6', 'a', 'b', 'c', 'd'],
  ['header6', 'hopLimit', 'next', 'length'],
  ['source-checked6', 'against'],
  ['lookup6', 'adjacency', 'kind', 'nextHop'],
  ['solicitation', 'a', 'b', 'c', 'd'],
  ['advertisement', 'a', 'b', 'c', 'd'],
  ['icmp6-error', 'typeCode', 'word'],
  ['icmp6-suppressed', 'typeCode', 'limited'],
  ['ecn', 'inner', 'outer', 'merged'],
  ['peer6', 'a', 'b', 'c', 'd'],
  ['tunnel6', 'kind', 'vni'],
  ['encapsulated6', 'kind', 'vni', 'flowLabel'],
  ['fragmented', 'pieces', 'mtu'],
  ['fragment', 'start', 'length', 'last'],
  ['reassembled', 'fragments', 'length'],
  ['group', 'group', 'bucket', 'adjacency', 'nextHop'],
] as const;

export const RECEIVED = 0;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;
export const TUNNEL = 3;
export const HEADER = 4;
export const SOURCE_CHECKED = 5;
export const LOOKUP = 6;
export const TTL = 7;
export const TOO_BIG = 8;
export const ENCAPSULATED = 9;
export const ICMP_ERROR = 10;
export const ICMP_SUPPRESSED = 11;
export const SENT = 12;
export const CONSUMED = 13;
export const DROPPED = 14;
/** Addresses of IPv6 are steps of their own, four words: what comes after says what is done about them. */
export const SOURCE6 = 15;
export const DESTINATION6 = 16;
export const HEADER6 = 17;
export const SOURCE_CHECKED6 = 18;
export const LOOKUP6 = 19;
export const SOLICITATION = 20;
export const ADVERTISEMENT = 21;
export const ICMP6_ERROR = 22;
export const ICMP6_SUPPRESSED = 23;
/** Codepoints of RFC 3168; merged is -1 where the packet must go. */
export const ECN = 24;
/** The far end of a tunnel over IPv6. */
export const PEER6 = 25;
export const TUNNEL6 = 26;
export const ENCAPSULATED6 = 27;
export const FRAGMENTED = 28;
/** A fragment of a tunnel packet came, and waits unless a step behind says otherwise. */
export const FRAGMENT = 29;
export const REASSEMBLED = 30;
/** The member of a group that the packet's flow has. */
export const GROUP = 31;

/** `against` of source-checked. */
export const AGAINST_POD = 0;
export const AGAINST_PEER = 1;

export class Tracer {
  readonly #filter: TraceFilter;
  readonly #cells = new Int32Array(MAX_STEPS * STEP_CELLS);
  #length = 0;
  #left: number;
  #finished: Int32Array[] = [];

  constructor(filter: TraceFilter) {
    this.#filter = filter;
    this.#left = filter.count;
  }

  /** True when the packet in hand is to be traced; `l2` tells whether it begins with Ethernet. */
  begin(bytes: DataView, port: number, offset: number, length: number, l2: boolean): boolean {
    if (this.#left <= 0 || this.#finished.length >= MAX_PENDING) return false;
    const { port: wanted, host, host6 } = this.#filter;
    if (wanted !== undefined && wanted !== port) return false;
    const wantsHost = host !== undefined || host6 !== undefined;
    if (wantsHost && !mentions(bytes, offset, length, l2, this.#filter)) return false;
    this.#left--;
    this.#length = 0;
    return true;
  }

  step(code: number, a: number, b: number, c: number, d: number): void {
    const at = this.#length;
    if (at === this.#cells.length) return;
    const cells = this.#cells;
    cells[at] = code;
    cells[at + 1] = a;
    cells[at + 2] = b;
    cells[at + 3] = c;
    cells[at + 4] = d;
    this.#length = at + STEP_CELLS;
  }

  end(): void {
    this.#finished.push(this.#cells.slice(0, this.#length));
  }

  /** True once `count` packets have been traced and taken. */
  get done(): boolean {
    return this.#left <= 0 && this.#finished.length === 0;
  }

  take(): Int32Array[] {
    const taken = this.#finished;
    this.#finished = [];
    return taken;
  }
}

/** Whether a frame's (inner) IP header or ARP packet names the filter's host. Looks at no more than is there. */
function mentions(
  bytes: DataView,
  offset: number,
  length: number,
  l2: boolean,
  filter: TraceFilter,
): boolean {
  const { host, host6 } = filter;
  let at = offset;
  const end = offset + length;
  if (l2) {
    if (length < 14) return false;
    const type = get16(bytes, offset + 12);
    if (type === TYPE_ARP) {
      return at + 42 <= end && (get32(bytes, at + 28) === host || get32(bytes, at + 38) === host);
    }
    if (type !== TYPE_IPV4 && type !== TYPE_IPV6) return false;
    at += 14;
  }
  // Walk inwards: an outer header (IPIP), VXLAN and its Ethernet, until one names the host.
  while (at + 20 <= end && bytes.getUint8(at) >> 4 === 4) {
    if (get32(bytes, at + 12) === host || get32(bytes, at + 16) === host) return true;
    const header = (bytes.getUint8(at) & 15) << 2;
    if (at + header + 4 > end) return false;
    if (bytes.getUint8(at + 9) === 4) at += header;
    else if (bytes.getUint8(at + 9) === 17 && get16(bytes, at + header + 2) === 4789)
      at += header + 8 + 8 + 14;
    else return false;
  }
  if (host6 === undefined || at + IPV6_LENGTH > end || bytes.getUint8(at) >> 4 !== 6) return false;
  return isAddress(bytes, at + SOURCE, host6) || isAddress(bytes, at + DESTINATION, host6);
}
