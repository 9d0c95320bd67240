/**
 * What happened to a packet, told by the code that did it. The pipeline calls `step` only while the packet
 * in hand is traced, so that an untraced packet pays for one boolean.
 *
 * The steps of a packet are an Int32Array: per step one code and four arguments, as named in STEPS. Control turns records
 * into words (and adds who announced the route); the dataplane knows only numbers.
 */
import * as filter from './filter.ts';
import { FrameFilter, PENDING } from './filter.ts';
import type { TraceFilter } from './messages.ts';
import { viewOf } from './wire/bytes.ts';

/** int32 cells in a step. */
export const STEP_CELLS = 5;
/** Most steps of one packet; more are cut off. */
const MAX_STEPS = 32;
/** Traced packets kept until someone takes them; more are not traced. */
const MAX_PENDING = 256;
/** Bytes of a frame that are kept: what a filter looks at, and at most. */
const LEAST_SNAP = 256;
export const MOST_SNAP = 2048;
/** Verdicts of filter.ts by the step that is one. */
const VERDICT_DROPPED = filter.DROPPED;
/** A packet that came to no end that anybody knows of. */
const NO_VERDICT = 9;

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
  ['icmp-suppressed', 'typeCode', 'why'],
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
  ['icmp6-suppressed', 'typeCode', 'why'],
  ['ecn', 'inner', 'outer', 'merged'],
  ['peer6', 'a', 'b', 'c', 'd'],
  ['tunnel6', 'kind', 'vni'],
  ['encapsulated6', 'kind', 'vni', 'flowLabel'],
  ['fragmented', 'pieces', 'mtu'],
  ['fragment', 'start', 'length', 'last'],
  ['reassembled', 'fragments', 'length'],
  ['group', 'group', 'bucket', 'adjacency', 'nextHop'],
  ['mtu', 'length', 'mtu'],
  ['outer', 'sourcePort', 'tos', 'ttl', 'length'],
  ['link', 'hi', 'lo'],
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

/** What a packet's size was compared with; 0: no limit of ours. */
export const MTU = 32;
/** What the kernel, or the wire, gets in front: an outer header. */
export const OUTER = 33;
/** Ethernet addresses in front of a packet to a device: those that it came with, and the new destination. */
export const LINK = 34;

/** `against` of source-checked. */
export const AGAINST_POD = 0;
export const AGAINST_PEER = 1;

/** `why` of icmp-suppressed: by RFC 1812 4.3.2.7 or RFC 4443 2.4 (e), by the rate limit, or as nothing leads to the sender. */
export const FORBIDDEN = 0;
export const LIMITED = 1;
export const NO_WAY_BACK = 2;

const VERDICTS: Readonly<Record<number, number>> = {
  [SENT]: filter.SENT,
  [CONSUMED]: filter.CONSUMED,
  [FRAGMENT]: filter.HELD,
};

/** A packet and what was done with it. */
export interface TracedPacket {
  /** Steps of STEP_CELLS cells each. */
  readonly steps: Int32Array;
  /** Port that it came by. */
  readonly port: number;
  /** When, milliseconds since 1970. */
  readonly time: number;
  /** Of the whole frame, bytes. */
  readonly length: number;
  /** Its first bytes, as they were received. */
  readonly bytes: Uint8Array;
}

export class Tracer {
  readonly #port: number;
  readonly #filter: FrameFilter;
  readonly #sample: number;
  readonly #time: () => number;
  readonly #cells = new Int32Array(MAX_STEPS * STEP_CELLS);
  readonly #kept: Uint8Array;
  readonly #keptView: DataView;
  #left: number;
  #matched = 0;
  /** Packets that would have been traced, had those before them been taken. */
  missed = 0;
  #finished: TracedPacket[] = [];

  // The packet in hand.
  #steps = 0;
  #from = 0;
  #outermost = 0;
  #began = 0;
  #whole = 0;
  #verdict = PENDING;
  #reason = 0;

  constructor({ port, program, sample, snap, count }: TraceFilter, time: () => number) {
    this.#port = port ?? -1;
    this.#filter = new FrameFilter(program ?? new Int32Array(0));
    this.#sample = sample ?? 1;
    this.#kept = new Uint8Array(Math.max(LEAST_SNAP, Math.min(snap ?? LEAST_SNAP, MOST_SNAP)));
    this.#keptView = viewOf(this.#kept);
    this.#left = count;
    this.#time = time;
  }

  /** True when the packet in hand may be one to trace; `outermost` is what it begins with (filter.ts). */
  begin(bytes: DataView, port: number, offset: number, length: number, outermost: number): boolean {
    if (this.#left <= 0 || (this.#port >= 0 && this.#port !== port)) return false;
    const kept = Math.min(length, this.#kept.length);
    if (this.#filter.matches(bytes, offset, kept, length, outermost, PENDING, 0) === false) return false;
    if (this.#finished.length >= MAX_PENDING) {
      this.missed++;
      return false;
    }
    // What is in the arena will be written over.
    for (let i = 0; i < kept; i++) this.#kept[i] = bytes.getUint8(offset + i);
    this.#steps = 0;
    this.#from = port;
    this.#outermost = outermost;
    this.#began = this.#time();
    this.#whole = length;
    this.#verdict = PENDING;
    return true;
  }

  step(code: number, a: number, b: number, c: number, d: number): void {
    if (code === DROPPED && this.#verdict !== VERDICT_DROPPED) {
      this.#verdict = VERDICT_DROPPED;
      this.#reason = a;
    } else if (code === CONSUMED || code === FRAGMENT || code === SENT) {
      // An ICMP error that is sent does not undo the drop.
      if (this.#verdict !== VERDICT_DROPPED) this.#verdict = VERDICTS[code];
    }
    const at = this.#steps;
    if (at === this.#cells.length) return;
    const cells = this.#cells;
    cells[at] = code;
    cells[at + 1] = a;
    cells[at + 2] = b;
    cells[at + 3] = c;
    cells[at + 4] = d;
    this.#steps = at + STEP_CELLS;
  }

  end(): void {
    const kept = Math.min(this.#whole, this.#kept.length);
    const verdict = this.#verdict;
    const matches = this.#filter.matches(
      this.#keptView,
      0,
      kept,
      this.#whole,
      this.#outermost,
      verdict === PENDING ? NO_VERDICT : verdict,
      this.#reason,
    );
    if (matches !== true || this.#matched++ % this.#sample !== 0) return;
    this.#left--;
    this.#finished.push({
      steps: this.#cells.slice(0, this.#steps),
      port: this.#from,
      time: this.#began,
      length: this.#whole,
      bytes: this.#kept.slice(0, kept),
    });
  }

  /** True once `count` packets have been traced and taken. */
  get done(): boolean {
    return this.#left <= 0 && this.#finished.length === 0;
  }

  take(): TracedPacket[] {
    const taken = this.#finished;
    this.#finished = [];
    return taken;
  }
}
