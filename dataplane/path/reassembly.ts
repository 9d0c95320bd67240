/**
 * Fragments of tunnel packets, made whole before they are decapsulated (RFC 791 3.2). Sockets' kernels do this before we see a packet;
 * here it is done where there is none: a capture, or an uplink without sockets.
 *
 * Memory is bounded: MAX_PENDING packets of 64 KiB; one more takes the place of the oldest. Fragments that overlap are an attack
 * or a fault, and cost the whole packet (RFC 5722, which Linux applies to IPv4 as well); one that came before counts once.
 *
 * In the account a fragment that waits is HELD. When the packet is whole the last fragment goes on as that packet, and the
 * others are CONSUMED.
 */
import * as counter from '../counters.ts';
import { DROPS } from '../counters.ts';
import { DROP } from '../drops.ts';
import * as step from '../trace.ts';
import { put16, viewOf } from '../wire/bytes.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { ECN_MASK } from './ecn.ts';
import type { Path } from './path.ts';

/** Packets that may wait for fragments. */
export const MAX_PENDING = 32;
/** How long they may (RFC 1122 3.3.2 asks for 60 to 120 s; Linux waits 30); milliseconds. */
export const TIMEOUT_MS = 30_000;
const MAX_PACKET = 65535;
/** Fragments begin at multiples of this; bytes. */
const UNIT = 8;
const UNITS = (MAX_PACKET + 1) / UNIT;
/** Bits of codepoints that decide: one marked fragment marks the packet (RFC 3168 5.3), as with Linux. */
const HAD_NOT_ECT = 1 << 0;
const HAD_CE = 1 << 3;
/** Where payloads begin, behind room for the longest header. */
const PAYLOAD = 60;

/** What there is of one packet. */
class Pending {
  readonly bytes = viewOf(new Uint8Array(PAYLOAD + MAX_PACKET));
  /** A bit for each unit of payload that is there. */
  readonly #units = new Int32Array(UNITS / 32);
  isUsed = false;
  port = 0;
  source = 0;
  destination = 0;
  identification = 0;
  protocol = 0;
  since = 0;
  /** Fragments that wait. */
  held = 0;
  /** Payload bytes that are there, how far they reach, and how many the packet has (-1: its last fragment has not come). */
  got = 0;
  reach = 0;
  end = -1;
  /** Bytes of the first fragment's header; 0: it has not come. */
  header = 0;
  /** A bit for each codepoint of ECN that a fragment had. */
  codepoints = 0;

  begin(port: number, now: number): void {
    this.#units.fill(0);
    this.isUsed = true;
    this.port = port;
    this.since = now;
    this.held = 0;
    this.got = 0;
    this.reach = 0;
    this.end = -1;
    this.header = 0;
    this.codepoints = 0;
  }

  /** How many units of payload bytes [start, end) are there. */
  covered(start: number, end: number): number {
    const units = this.#units;
    let count = 0;
    for (let unit = start / UNIT; unit * UNIT < end; unit++) count += (units[unit >> 5] >>> (unit & 31)) & 1;
    return count;
  }

  mark(start: number, end: number): void {
    const units = this.#units;
    for (let unit = start / UNIT; unit * UNIT < end; unit++) units[unit >> 5] |= 1 << (unit & 31);
  }
}

export class Reassembler {
  readonly #pending: Pending[] = [];

  /**
   * Take the fragment at `offset`, whose header has been checked. Answers where the whole packet stands, in the spare room, if this
   * was the last piece of it; else 0: the fragment waits, or was dropped.
   */
  take(path: Path, offset: number): number {
    const { bytes } = path;
    const flags = ipv4.fragment(bytes, offset);
    const header = ipv4.headerLength(bytes, offset);
    const size = ipv4.totalLength(bytes, offset) - header;
    const start = (flags & ipv4.FRAGMENT_OFFSET) * UNIT;
    const end = start + size;
    const isLast = (flags & ipv4.MORE_FRAGMENTS) === 0;
    if (path.traced) path.step(step.FRAGMENT, start, size, Number(isLast));
    if (size === 0 || (!isLast && size % UNIT !== 0) || end + header > MAX_PACKET) {
      path.drop(DROP.outer_fragment);
      return 0;
    }
    const pending = this.#find(path, offset);
    const covered = pending.covered(start, end);
    if (covered === Math.ceil(size / UNIT)) {
      path.drop(DROP.fragment_duplicate);
      return 0;
    }
    const contradicts = isLast
      ? pending.end >= 0 || end < pending.reach
      : pending.end >= 0 && end >= pending.end;
    if (covered > 0 || contradicts) return giveUp(path, pending, DROP.fragment_overlap);
    pending.mark(start, end);
    pending.got += size;
    pending.codepoints |= 1 << (ipv4.tos(bytes, offset) & ECN_MASK);
    pending.reach = Math.max(pending.reach, end);
    if (isLast) pending.end = end;
    copy(bytes, offset + header, pending.bytes, PAYLOAD + start, size);
    if (start === 0) {
      pending.header = header;
      copy(bytes, offset, pending.bytes, PAYLOAD - header, header);
    }
    if (pending.got === pending.end) return finish(path, pending);
    pending.held++;
    path.count(counter.HELD, 1);
    return 0;
  }

  /** Give up what has waited too long. */
  expire(path: Path): void {
    const oldest = path.now() - TIMEOUT_MS;
    for (const pending of this.#pending) {
      if (pending.isUsed && pending.since < oldest) release(path, pending, DROP.reassembly_timeout);
    }
  }

  /** What there is of the fragment's packet (RFC 791 3.2 names it by these), perhaps nothing yet. */
  #find(path: Path, offset: number): Pending {
    const { bytes, port } = path;
    const source = ipv4.source(bytes, offset);
    const destination = ipv4.destination(bytes, offset);
    const identification = ipv4.identification(bytes, offset);
    const protocol = ipv4.protocol(bytes, offset);
    let free: Pending | undefined;
    let oldest: Pending | undefined;
    for (const pending of this.#pending) {
      if (!pending.isUsed) {
        free = pending;
        continue;
      }
      const isIt =
        pending.source === source &&
        pending.destination === destination &&
        pending.identification === identification &&
        pending.protocol === protocol &&
        pending.port === port;
      if (isIt) return pending;
      if (!oldest || pending.since < oldest.since) oldest = pending;
    }
    if (!free && this.#pending.length < MAX_PENDING) {
      free = new Pending();
      this.#pending.push(free);
    }
    if (!free) {
      free = oldest!;
      release(path, free, DROP.reassembly_full);
    }
    free.begin(port, path.now());
    free.source = source;
    free.destination = destination;
    free.identification = identification;
    free.protocol = protocol;
    return free;
  }
}

/** Drop the fragment in hand and those that wait. */
function giveUp(path: Path, pending: Pending, reason: number): number {
  path.drop(reason);
  release(path, pending, reason);
  return 0;
}

/** Drop the fragments that wait. */
function release(path: Path, pending: Pending, reason: number): void {
  pending.isUsed = false;
  path.settleHeld(pending.port, pending.held, DROPS + reason);
}

/** Put the whole packet into the spare room, as if it had come so. */
function finish(path: Path, pending: Pending): number {
  const { header, end, codepoints } = pending;
  const total = header + end;
  if (!agree(codepoints)) return giveUp(path, pending, DROP.fragment_overlap);
  const at = total > MAX_PACKET ? 0 : path.takeSpare(total);
  if (at === 0) return giveUp(path, pending, DROP.outer_fragment);
  if (path.traced) path.step(step.REASSEMBLED, pending.held + 1, total);
  pending.isUsed = false;
  path.settleHeld(pending.port, pending.held, counter.CONSUMED);
  const { bytes } = path;
  copy(pending.bytes, PAYLOAD - header, bytes, at, total);
  put16(bytes, at + 2, total);
  put16(bytes, at + 6, 0);
  if ((codepoints & HAD_CE) !== 0) bytes.setUint8(at + 1, ipv4.tos(bytes, at) | ECN_MASK);
  ipv4.putHeaderChecksum(bytes, at);
  return at;
}

/** Whether these codepoints may be of one packet's fragments (RFC 3168 5.3): one that knows ECN does so in all of them. */
function agree(codepoints: number): boolean {
  return (codepoints & HAD_NOT_ECT) === 0 || codepoints === HAD_NOT_ECT;
}

function copy(from: DataView, at: number, to: DataView, toAt: number, length: number): void {
  let done = 0;
  for (; done + 4 <= length; done += 4) to.setInt32(toAt + done, from.getInt32(at + done));
  for (; done < length; done++) to.setUint8(toAt + done, from.getUint8(at + done));
}
