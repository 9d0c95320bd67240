/**
 * Joining received TCP segments into a super-frame for a TAP: the reverse of cutting, so that what was joined
 * and is cut again gives the same bytes. The rules are those of the kernel's GRO (net/ipv4/tcp_offload.c),
 * narrowed to what cutting restores: same flow, same headers but for what cutting counts up, all segments of
 * one size but the last, nothing after FIN or PSH, CWR only on the first. A segment is joined only when its
 * checksum holds, and only to the one that came right before it: the kernel joins datagrams a flow (UDP_GRO),
 * so segments of a flow come in runs.
 *
 * Payloads stay where they were received; a joined frame is written in pieces.
 */
import {
  CHECKED,
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  LENGTH,
  OFFLOAD,
  OFFSET,
  PARTIAL_CHECKSUM,
  PIECE,
  PIECES,
  ROW,
  SEGMENT,
  SEGMENTED,
  STATUS,
  SUPER_ECN,
  SUPER_MASK,
  SUPER_TCP4,
  SUPER_TCP6,
} from '../memory/burst.ts';
import { EGRESS_ROWS } from '../memory/layout.ts';
import type { Native } from '../native/index.ts';
import { get16, get32, put16, viewOf } from '../wire/bytes.ts';
import { ETHERNET_LENGTH } from '../wire/ethernet.ts';
import { IPV4_LENGTH, putHeaderChecksum } from '../wire/ipv4.ts';
import { ACK, CWR, FIN, PSH, RST, SYN, TCP_CHECKSUM, TCP_LENGTH, tcpHeaderLength, URG } from '../wire/tcp.ts';
import { isIpv4, MAX_PACKET, transportPseudoSum, unfragmentedTcp } from './transport.ts';

/** Cells of a job of the addon's `checksums`: offset, length, seed, sum. */
const JOB = 4;
const NO_JOB = -1;
const RIGHT = 0xffff;
/** Pieces that the addon writes in one frame. */
const MAX_PIECES = 200;

export class Joiner {
  /** What is to be written: frames first, then the pieces of joined frames. */
  readonly rows = new Int32Array(2 * EGRESS_ROWS * ROW);
  /** Of the burst: segments that were joined, and the super-frames made of them. */
  joined = 0;
  joinedInto = 0;
  readonly #native: Native;
  readonly #arena: Uint8Array;
  readonly #bytes: DataView;
  /** By row of the burst: its TCP header; the job of its checksum; the frame that it went into. */
  readonly #transport = new Int32Array(EGRESS_ROWS);
  readonly #job = new Int32Array(EGRESS_ROWS);
  readonly #frame = new Int32Array(EGRESS_ROWS);
  readonly #jobs = new Int32Array(EGRESS_ROWS * JOB);

  constructor(native: Native, arena: Uint8Array) {
    this.#native = native;
    this.#arena = arena;
    this.#bytes = viewOf(arena);
  }

  /** Join what can be joined of a burst towards a TAP into `rows`; how many frames these are. */
  join(burst: Int32Array, count: number): number {
    const bytes = this.#bytes;
    const rows = this.rows;
    this.#inspect(bytes, burst, count);
    this.joined = 0;
    this.joinedInto = 0;
    let frames = 0;
    let pieces = count;
    // Of the frame that is open: its row, and how many segments it has; 0: none is open.
    let head = 0;
    let segments = 0;
    for (let i = 0; i < count; i++) {
      const job = this.#job[i];
      const holds = job !== NO_JOB && this.#jobs[job * JOB + 3] === RIGHT;
      if (holds && segments > 0 && this.#follows(bytes, burst, i, head, segments)) {
        if (segments === 1) {
          rows[head + PIECE] = pieces;
          rows[head + SEGMENT] = this.#payload(bytes, burst, i - 1);
        }
        const body = this.#transport[i] + tcpHeaderLength(bytes, this.#transport[i]);
        rows[pieces * ROW + OFFSET] = body;
        rows[pieces * ROW + LENGTH] = this.#payload(bytes, burst, i);
        rows[pieces * ROW + OFFLOAD] = 0;
        pieces++;
        segments++;
        this.#frame[i] = frames - 1;
        continue;
      }
      if (segments > 1) this.#close(bytes, burst, i - 1, head, segments);
      head = frames * ROW;
      for (let cell = 0; cell < ROW; cell++) rows[head + cell] = burst[i * ROW + cell];
      if (holds) rows[head + OFFLOAD] |= CHECKED;
      this.#frame[i] = frames++;
      segments = holds ? 1 : 0;
    }
    if (segments > 1) this.#close(bytes, burst, count - 1, head, segments);
    return frames;
  }

  /** Tell each row of the burst what became of its frame. */
  settle(burst: Int32Array, count: number): void {
    for (let i = 0; i < count; i++) burst[i * ROW + STATUS] = this.rows[this.#frame[i] * ROW + STATUS];
  }

  /** Have the checksums of all segments that could be joined summed in one crossing. */
  #inspect(bytes: DataView, burst: Int32Array, count: number): void {
    let jobs = 0;
    for (let i = 0; i < count; i++) {
      const row = i * ROW;
      this.#job[i] = NO_JOB;
      if ((burst[row + OFFLOAD] & (SEGMENTED | SUPER_MASK | PARTIAL_CHECKSUM)) !== SEGMENTED) continue;
      const ip = burst[row + OFFSET] + ETHERNET_LENGTH;
      const end = burst[row + OFFSET] + burst[row + LENGTH];
      const transport = unfragmentedTcp(bytes, ip, end);
      if (transport === 0 || transport - ip !== (isIpv4(bytes, ip) ? IPV4_LENGTH : 40)) continue;
      const flags = bytes.getUint8(transport + 13);
      if (end <= transport + tcpHeaderLength(bytes, transport)) continue;
      if ((flags & (ACK | SYN | RST | URG)) !== ACK) continue;
      const job = jobs * JOB;
      this.#jobs[job] = transport;
      this.#jobs[job + 1] = end - transport;
      this.#jobs[job + 2] = transportPseudoSum(bytes, ip, 6, end - transport);
      this.#transport[i] = transport;
      this.#job[i] = jobs++;
    }
    if (jobs > 0) this.#native.checksums(this.#arena, this.#jobs, jobs);
  }

  #payload(bytes: DataView, burst: Int32Array, i: number): number {
    const transport = this.#transport[i];
    return burst[i * ROW + OFFSET] + burst[i * ROW + LENGTH] - transport - tcpHeaderLength(bytes, transport);
  }

  /** Whether segment i goes right behind the one before it, the last of the frame at `head`. */
  #follows(bytes: DataView, burst: Int32Array, i: number, head: number, segments: number): boolean {
    if (segments > MAX_PIECES) return false;
    const a = this.#transport[i - 1];
    const b = this.#transport[i];
    const header = tcpHeaderLength(bytes, b);
    if (header !== tcpHeaderLength(bytes, a)) return false;
    const payload = this.#payload(bytes, burst, i);
    const before = this.#payload(bytes, burst, i - 1);
    const size = segments === 1 ? before : this.rows[head + SEGMENT];
    const flags = bytes.getUint8(b + 13);
    const flagsBefore = bytes.getUint8(a + 13);
    // The first segment alone may have CWR (RFC 3168 6.1.2), the last alone FIN and PSH.
    const differ = (flags ^ flagsBefore) & ~(FIN | PSH | (segments === 1 ? CWR : 0));
    const total = this.rows[head + LENGTH] - ETHERNET_LENGTH + (segments - 1) * size + payload;
    return (
      before === size &&
      payload <= size &&
      total <= MAX_PACKET &&
      (flagsBefore & (FIN | PSH)) === 0 &&
      (flags & CWR) === 0 &&
      differ === 0 &&
      get32(bytes, b) === get32(bytes, a) &&
      get32(bytes, b + 4) === ((get32(bytes, a + 4) + before) | 0) &&
      get32(bytes, b + 8) === get32(bytes, a + 8) &&
      get16(bytes, b + 14) === get16(bytes, a + 14) &&
      get16(bytes, b + 18) === get16(bytes, a + 18) &&
      sameWords(bytes, a + TCP_LENGTH, b + TCP_LENGTH, header - TCP_LENGTH) &&
      networkFollows(
        bytes,
        burst[(i - 1) * ROW + OFFSET] + ETHERNET_LENGTH,
        burst[i * ROW + OFFSET] + ETHERNET_LENGTH,
      )
    );
  }

  /** Make the first segment's headers those of the whole, of which segment `last` is the last. */
  #close(bytes: DataView, burst: Int32Array, last: number, head: number, segments: number): void {
    this.joined += segments;
    this.joinedInto++;
    const rows = this.rows;
    const first = last - segments + 1;
    const ip = rows[head + OFFSET] + ETHERNET_LENGTH;
    const transport = this.#transport[first];
    const headersEnd = transport + tcpHeaderLength(bytes, transport);
    const size = rows[head + SEGMENT];
    const total = headersEnd - ip + (segments - 1) * size + this.#payload(bytes, burst, last);
    const ipv4 = isIpv4(bytes, ip);
    if (ipv4) {
      put16(bytes, ip + 2, total);
      putHeaderChecksum(bytes, ip);
    } else {
      put16(bytes, ip + 4, total - 40);
    }
    bytes.setUint8(
      transport + 13,
      bytes.getUint8(transport + 13) | (bytes.getUint8(this.#transport[last] + 13) & (FIN | PSH)),
    );
    put16(bytes, transport + TCP_CHECKSUM, transportPseudoSum(bytes, ip, 6, total - (transport - ip)));
    rows[head + PIECES] = segments - 1;
    rows[head + HEADERS_END] = headersEnd;
    rows[head + CHECKSUM_START] = transport;
    rows[head + CHECKSUM_FIELD] = transport + TCP_CHECKSUM;
    rows[head + OFFLOAD] = (ipv4 ? SUPER_TCP4 : SUPER_TCP6) | PARTIAL_CHECKSUM;
    if (bytes.getUint8(transport + 13) & CWR) rows[head + OFFLOAD] |= SUPER_ECN;
  }
}

/** Whether the IP header at b differs from the one before it, at a, only by what cutting counts up. */
function networkFollows(bytes: DataView, a: number, b: number): boolean {
  if (bytes.getUint8(a) !== bytes.getUint8(b)) return false;
  if (isIpv4(bytes, a)) {
    return (
      bytes.getUint8(a + 1) === bytes.getUint8(b + 1) &&
      get16(bytes, b + 4) === ((get16(bytes, a + 4) + 1) & 0xffff) &&
      get32(bytes, a + 6) >> 8 === get32(bytes, b + 6) >> 8 &&
      bytes.getUint8(a + 9) === bytes.getUint8(b + 9) &&
      sameWords(bytes, a + 12, b + 12, 8)
    );
  }
  return (
    get32(bytes, a) === get32(bytes, b) &&
    get16(bytes, a + 6) === get16(bytes, b + 6) &&
    sameWords(bytes, a + 8, b + 8, 32)
  );
}

/** `length` is a multiple of four, as are all that are compared. */
function sameWords(bytes: DataView, a: number, b: number, length: number): boolean {
  for (let i = 0; i < length; i += 4) if (get32(bytes, a + i) !== get32(bytes, b + i)) return false;
  return true;
}
