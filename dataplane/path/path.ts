/**
 * What all of the packet path knows: the shared tables, the ports, the node, the frame in hand, and how a
 * frame's end is counted. The stories beside this file are told by functions that take it first.
 */
import * as counter from '../counters.ts';
import { cellsOf, DROPS } from '../counters.ts';
import { Egress } from '../egress.ts';
import { EvidenceWriter } from '../evidence.ts';
import { type Fib4, openFib4 } from '../fib/fib4.ts';
import { type Fib6, openFib6 } from '../fib/fib6.ts';
import * as filter from '../filter.ts';
import { CHECKSUM_FIELD, CHECKSUM_START, HEADERS_END, LENGTH, OFFSET, ROW, TIGHT } from '../memory/burst.ts';
import { EGRESS_ROWS, HEADROOM, MAX_PORTS, MAX_WORKERS, type SharedTables } from '../memory/layout.ts';
import type { NodeSpec, PortSpec, TraceFilter } from '../messages.ts';
import * as step from '../trace.ts';
import { type TracedPacket, Tracer } from '../trace.ts';
import { get32, viewOf } from '../wire/bytes.ts';
import { GATEWAY6, isAddress, putAddress } from '../wire/ipv6.ts';
import { ECN_MASK } from './ecn.ts';
import { Reassembler } from './reassembly.ts';

/** Kinds of port, as numbers for switches. */
export const GONE = 0;
export const POD = 1;
export const HOST = 2;
export const VXLAN = 3;
export const IPIP = 4;
export const UNDERLAY = 5;
export const VXLAN6 = 6;
const KINDS: Record<PortSpec['kind'], number> = {
  pod: POD,
  host: HOST,
  vxlan: VXLAN,
  vxlan6: VXLAN6,
  ipip: IPIP,
  underlay: UNDERLAY,
};

/** What frames of each kind of port begin with. */
const OUTERMOST = [
  filter.IP,
  filter.ETHERNET,
  filter.ETHERNET,
  filter.VXLAN,
  filter.IP,
  filter.IP,
  filter.VXLAN,
] as const;

export interface PathOptions {
  readonly tables: SharedTables;
  readonly worker: number;
  /** The frames' memory. HEADROOM bytes before every received frame are free. */
  readonly arena: Uint8Array;
  /** Where in the arena frames are copied to that have no free bytes before them; [start, end). */
  readonly spare?: readonly [start: number, end: number];
  /** Milliseconds, for the ICMP rate limit and the time of drops; replay passes the capture's time. */
  readonly clock?: () => number;
}

/** Before a copied frame: as before a received one, which has an Ethernet header in front of its packet as well. */
export const SPARE_HEADROOM = HEADROOM + 64;
/** The unspecified address. */
const NOBODY6 = [0, 0, 0, 0] as const;
/** Cells of a row that are places in the packet. */
const PLACES = [CHECKSUM_START, CHECKSUM_FIELD, HEADERS_END] as const;

interface Bucket {
  tokens: number;
  /** Milliseconds. */
  refilled: number;
}

/** Take one of a bucket that has `rate` of them, and gets as many a second. */
function takeToken(bucket: Bucket, rate: number, now: number): boolean {
  const refill = ((now - bucket.refilled) * rate) / 1000;
  bucket.tokens = Math.min(rate, bucket.tokens + refill);
  bucket.refilled = now;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}

export class Path {
  readonly egress = new Egress();
  readonly bytes: DataView;
  readonly #arena: Uint8Array;
  readonly fib4: Fib4;
  readonly fib6: Fib6;
  readonly adjacencies: Int32Array;
  readonly buckets: Uint16Array;
  readonly peers: Int32Array;
  readonly peers6: Int32Array;
  readonly counters: Float64Array;
  readonly worker: number;

  // What is known of ports, by id.
  readonly kinds = new Uint8Array(MAX_PORTS);
  readonly macHi = new Int32Array(MAX_PORTS);
  readonly macLo = new Int32Array(MAX_PORTS);
  readonly mtus = new Int32Array(MAX_PORTS);
  /** Pod's first address: the fast path of the source check. */
  readonly #ownAddress = new Int32Array(MAX_PORTS);
  /** Prefix and mask pairs that a pod may send from. */
  readonly #sources: Int32Array[] = [];
  /** The same for IPv6: eight words each. */
  readonly #sources6: Int32Array[] = [];

  // What is known of the node.
  address = 0;
  /** Of hashes that pick members of groups: another on each node, and the same after a restart. */
  salt = 0;
  /** Of its ends of the tunnels. */
  vxlanAddress = 0;
  ipipAddress = 0;
  vtepHi = 0;
  vtepLo = 0;
  vtep6Hi = 0;
  vtep6Lo = 0;
  vni = 0;
  /** The TOS byte of outer headers is `(inner & tosKept) | tosSet`: ECN always of the inner, DSCP if the node says so. */
  tosKept = 0xff;
  tosSet = 0;
  #local = new Int32Array(0);
  #local6 = new Int32Array(0);
  /** Source of ICMPv6 errors: the gateway's link-local address if the node has no other. */
  readonly address6 = new DataView(new ArrayBuffer(16));
  /** Outer source of VXLAN over IPv6. */
  readonly underlay6 = new DataView(new ArrayBuffer(16));
  /** Two addresses, while the packet that held them is written over. */
  readonly scratch = new DataView(new ArrayBuffer(32));

  // The frame in hand: its row, the port that it came by, and that port's counters.
  rows: Int32Array = new Int32Array(0);
  row = 0;
  /** Behind the last row of the burst. */
  end = 0;
  /** Out of a tunnel: ECN of its outer header. */
  outerEcn = 0;
  /** What its row has in OFFLOAD. */
  offload = 0;
  port = 0;
  portKind = GONE;
  cells = 0;
  /** Where answers for nothing go, so that no engine leaves the questions out. */
  fetched = 0;
  /** Whether its steps are recorded. */
  traced = false;
  #tracer: Tracer | null = null;

  readonly reassembler = new Reassembler();
  readonly #evidence: EvidenceWriter;
  readonly #clock: () => number;
  readonly #time: () => number;
  #icmpRate = 0;
  readonly #errors: Bucket = { tokens: 0, refilled: 0 };
  readonly #pathMtus: Bucket = { tokens: 0, refilled: 0 };
  #identification = 0;

  // Of the arena's spare part: where it begins, ends, and is free.
  readonly #spareStart: number;
  readonly #spareEnd: number;
  #spareNext = 0;

  constructor(options: PathOptions) {
    this.bytes = viewOf(options.arena);
    this.#arena = options.arena;
    this.worker = options.worker;
    this.#identification = options.worker;
    this.#clock = options.clock ?? (() => performance.now());
    this.#time = options.clock ?? Date.now;
    this.#evidence = new EvidenceWriter(options.tables.evidence, options.worker);
    this.fib4 = openFib4(options.tables.fib4);
    this.fib6 = openFib6(options.tables.fib6);
    this.adjacencies = new Int32Array(options.tables.adjacencies);
    this.buckets = new Uint16Array(options.tables.groups);
    this.peers = new Int32Array(options.tables.peers);
    this.peers6 = new Int32Array(options.tables.peers6);
    this.counters = new Float64Array(options.tables.counters);
    [this.#spareStart, this.#spareEnd] = options.spare ?? [0, 0];
  }

  attach(spec: PortSpec): void {
    this.egress.open(spec.id);
    this.macHi[spec.id] = spec.mac ? (spec.mac[0] << 8) | spec.mac[1] : 0;
    this.macLo[spec.id] = spec.mac ? get32(viewOf(spec.mac), 2) : 0;
    this.#sources[spec.id] = Int32Array.from(spec.sources);
    this.#ownAddress[spec.id] = spec.sources[0] ?? 0;
    this.#sources6[spec.id] = Int32Array.from(spec.sources6 ?? []);
    this.mtus[spec.id] = spec.mtu;
    this.kinds[spec.id] = KINDS[spec.kind];
  }

  detach(port: number): void {
    this.kinds[port] = GONE;
  }

  setNode(node: NodeSpec): void {
    this.address = node.address;
    this.salt = Math.imul(node.address ^ (node.underlay6?.[3] ?? 0), 0x9e3779b1);
    this.vxlanAddress = node.vxlanAddress ?? node.address;
    this.ipipAddress = node.ipipAddress ?? node.address;
    this.#local = Int32Array.from(node.local);
    this.#local6 = Int32Array.from(node.local6 ?? []);
    putAddress(this.address6, 0, node.address6 ?? GATEWAY6);
    putAddress(this.underlay6, 0, node.underlay6 ?? NOBODY6);
    this.vtepHi = (node.vtepMac[0] << 8) | node.vtepMac[1];
    this.vtepLo = get32(viewOf(node.vtepMac), 2);
    const six = node.vtepMac6 ?? node.vtepMac;
    this.vtep6Hi = (six[0] << 8) | six[1];
    this.vtep6Lo = get32(viewOf(six), 2);
    this.vni = node.vni;
    const { dscp } = node;
    this.tosKept = dscp === undefined ? 0xff : ECN_MASK;
    this.tosSet = (dscp ?? 0) << 2;
    this.#icmpRate = node.icmpRate;
    for (const bucket of [this.#errors, this.#pathMtus]) {
      bucket.tokens = node.icmpRate;
      bucket.refilled = this.#clock();
    }
  }

  // ---- Addresses -----------------------------------------------------------------------------------

  /** Whether the pod in hand may send from this address. */
  maySend(source: number): boolean {
    if (source === this.#ownAddress[this.port]) return true;
    const sources = this.#sources[this.port];
    for (let i = 0; i < sources.length; i += 2) {
      if ((source & sources[i + 1]) === sources[i]) return true;
    }
    return false;
  }

  /** Whether an address is one of the pod's own (a /32 among its sources). */
  isOwn(address: number): boolean {
    const sources = this.#sources[this.port];
    for (let i = 0; i < sources.length; i += 2) {
      if (sources[i] === address && sources[i + 1] === -1) return true;
    }
    return false;
  }

  /** Whether an address is the node's own. */
  isLocal(address: number): boolean {
    const local = this.#local;
    for (let i = 0; i < local.length; i++) if (local[i] === address) return true;
    return false;
  }

  /** maySend for the address at `at`. */
  maySend6(at: number): boolean {
    const { bytes } = this;
    const sources = this.#sources6[this.port];
    for (let i = 0; i < sources.length; i += 8) {
      const differs =
        ((get32(bytes, at) & sources[i + 4]) ^ sources[i]) |
        ((get32(bytes, at + 4) & sources[i + 5]) ^ sources[i + 1]) |
        ((get32(bytes, at + 8) & sources[i + 6]) ^ sources[i + 2]) |
        ((get32(bytes, at + 12) & sources[i + 7]) ^ sources[i + 3]);
      if (differs === 0) return true;
    }
    return false;
  }

  /** isOwn for the address at `at`. */
  isOwn6(at: number): boolean {
    const sources = this.#sources6[this.port];
    for (let i = 0; i < sources.length; i += 8) {
      if (sources[i + 7] === -1 && isAddress(this.bytes, at, sources, i)) return true;
    }
    return false;
  }

  /** isLocal for the address at `at`. */
  isLocal6(at: number): boolean {
    const local = this.#local6;
    for (let i = 0; i < local.length; i += 4) if (isAddress(this.bytes, at, local, i)) return true;
    return false;
  }

  /** isLocal for four words from `first` on. */
  isLocalWords6(words: Int32Array, first: number): boolean {
    const local = this.#local6;
    for (let i = 0; i < local.length; i += 4) {
      const differs =
        (local[i] ^ words[first]) |
        (local[i + 1] ^ words[first + 1]) |
        (local[i + 2] ^ words[first + 2]) |
        (local[i + 3] ^ words[first + 3]);
      if (differs === 0) return true;
    }
    return false;
  }

  // ---- Room and numbers ----------------------------------------------------------------------------

  /** A new burst: the spare room is free again. */
  freeSpare(): void {
    this.#spareNext = this.#spareStart;
  }

  /** Where the packet at `ip` has free bytes before it: there, or copied to the spare room; 0 when that is full. */
  withRoom(ip: number, length: number): number {
    if ((this.offload & TIGHT) === 0) return ip;
    const at = this.takeSpare(length);
    if (at === 0) return 0;
    this.copy(ip, at, length);
    // What the row says of places in the packet is to be true of the copy.
    for (const cell of PLACES) this.rows[this.row + cell] += at - ip;
    return at;
  }

  /** `length` bytes of the spare room with free bytes before them; 0 when it is full. */
  takeSpare(length: number): number {
    const at = this.#spareNext + SPARE_HEADROOM;
    if (at + length > this.#spareEnd) return 0;
    this.#spareNext = at + length;
    return at;
  }

  /** Whether one frame may become `frames` that leave by a port, and take `bytes` of the spare room. */
  hasRoom(port: number, frames: number, bytes: number): boolean {
    // Each frame that is still to come of the burst may want a row as well.
    const left = this.end - this.row / ROW - 1;
    const isQueued = this.egress.count(port) + frames + left <= EGRESS_ROWS;
    return isQueued && this.#spareNext + bytes <= this.#spareEnd;
  }

  copy(from: number, to: number, length: number): void {
    this.#arena.copyWithin(to, from, from + length);
  }

  /** Of no other worker's packets, so that no two fragments are taken for one packet's (RFC 6864 4.3). */
  nextIdentification(): number {
    this.#identification = (this.#identification + MAX_WORKERS) & 0xffff;
    return this.#identification;
  }

  /** Milliseconds of the path's clock. */
  now(): number {
    return this.#clock();
  }

  /** Whether one more ICMP error may be made now. */
  takeIcmpToken(): boolean {
    return takeToken(this.#errors, this.#icmpRate, this.#clock());
  }

  /** The same of those about path MTU: what others do must not take them from a sender, which would stall in silence. */
  takePathMtuToken(): boolean {
    return takeToken(this.#pathMtus, this.#icmpRate, this.#clock());
  }

  // ---- How a frame ends ----------------------------------------------------------------------------

  count(cell: number, by: number): void {
    this.counters[this.cells + cell] += by;
  }

  drop(reason: number): void {
    this.counters[this.cells + DROPS + reason] += 1;
    this.keepEvidence(this.port, reason, this.rows[this.row + OFFSET], this.rows[this.row + LENGTH]);
    if (this.traced) this.step(step.DROPPED, reason);
  }

  /** Held frames of a port are held no more; their end is counted in `cell`. */
  settleHeld(port: number, frames: number, cell: number): void {
    const cells = cellsOf(this.worker, port);
    this.counters[cells + counter.HELD] -= frames;
    this.counters[cells + cell] += frames;
  }

  /** A frame that `port` brought has been dropped, and stands at `offset`. */
  keepEvidence(port: number, reason: number, offset: number, length: number): void {
    this.#evidence.keep(port, reason, this.#time(), this.bytes, offset, length);
  }

  /** A frame that cannot leave: ours is lost, another's is dropped for the reason. */
  lost(from: number, reason: number): void {
    if (from < 0) this.count(counter.ORIGINATED_LOST, 1);
    else this.drop(reason);
  }

  // ---- Tracing -------------------------------------------------------------------------------------

  get tracing(): boolean {
    return this.#tracer !== null;
  }

  setTrace(filter: TraceFilter | null): void {
    this.#tracer = filter ? new Tracer(filter, this.#time) : null;
  }

  takeTraces(): TracedPacket[] {
    if (!this.#tracer) return [];
    const traces = this.#tracer.take();
    if (this.#tracer.done) this.#tracer = null;
    return traces;
  }

  /** Packets that were not traced, since those before them had not been taken. */
  get tracesMissed(): number {
    return this.#tracer?.missed ?? 0;
  }

  beginTrace(offset: number, length: number): void {
    const outermost = OUTERMOST[this.portKind];
    this.traced = this.#tracer?.begin(this.bytes, this.port, offset, length, outermost) ?? false;
    if (this.traced) this.step(step.RECEIVED, this.port, length);
  }

  endTrace(): void {
    this.#tracer?.end();
    this.traced = false;
  }

  step(code: number, a = 0, b = 0, c = 0, d = 0): void {
    this.#tracer?.step(code, a, b, c, d);
  }
}

/** A step whose four arguments are an address. */
export function stepAddress(path: Path, code: number, bytes: DataView, at: number): void {
  path.step(code, get32(bytes, at), get32(bytes, at + 4), get32(bytes, at + 8), get32(bytes, at + 12));
}
