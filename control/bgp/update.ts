/** The UPDATE message (RFC 4271 4.3, 4760, errors by RFC 7606; End-of-RIB of RFC 4724 section 2). */
import { nextHopBytes } from './attribute-list.ts';
import type { AttributeSet, AttributeTable } from './attribute-table.ts';
import { hashOf } from './attribute-table.ts';
import { type AttributeContext, decodeAttributes, AttributeType as T } from './attributes.ts';
import { get16, put16 } from './bytes.ts';
import { BgpError, UPDATE_ERROR } from './error.ts';
import { type Family, IPV4, IPV6 } from './family.ts';
import { frame, HEADER, UPDATE } from './message.ts';
import type { NextHop } from './next-hop.ts';
import { decodePrefixes, encodePrefixes, LENGTH, PrefixList, prefixSize } from './nlri.ts';

/** Routes of one family that came with one set of attributes, which is held until the next UPDATE is decoded. */
export interface Announcement {
  readonly set: AttributeSet;
  readonly prefixes: PrefixList;
}

/** One decoded UPDATE. It is good until the next one is decoded: the decoder uses its lists again. */
export interface Update {
  /** By index of the family. */
  readonly withdrawn: readonly [PrefixList, PrefixList];
  readonly announced: readonly Announcement[];
  /** The family whose initial routes are all told now. */
  readonly endOfRib: Family | null;
  /** Why announced routes were treated as withdrawn, or null (RFC 7606). */
  readonly fault: string | null;
  /** Attributes that were left out, and why. */
  readonly discarded: readonly string[];
}

interface Remembered {
  hash: number;
  /** The list, and room behind it: memory that the next one in this place uses again. */
  raw: Uint8Array;
  length: number;
  set: AttributeSet;
}

const NOTHING: readonly string[] = [];
/** Attribute lists that are recognised without decoding them again; a power of two. */
const MEMORY = 256;
/**
 * Bytes that a route's attributes may take with ASes of four octets. An attribute has 16 bits for its length: what we
 * pass on is to have room for what we add, and an AS_PATH of two octets takes twice as much here as it took on the wire.
 */
export const MAX_ATTRIBUTES = 60_000;

/** Decodes the UPDATEs of one session. */
export class UpdateDecoder {
  readonly #context: AttributeContext;
  readonly #table: AttributeTable;
  readonly #withdrawn = [new PrefixList(IPV4), new PrefixList(IPV6)] as const;
  readonly #reached = [new PrefixList(IPV4), new PrefixList(IPV6)] as const;
  /** IPv4 routes outside of MP_REACH_NLRI. */
  readonly #plain = new PrefixList(IPV4);
  readonly #lists = [...this.#withdrawn, ...this.#reached, this.#plain];
  readonly #memory: (Remembered | undefined)[] = new Array(MEMORY);
  #announced: Announcement[] = [];

  constructor(context: AttributeContext, table: AttributeTable) {
    this.#context = context;
    this.#table = table;
  }

  /** Decode the body of an UPDATE. Throws 3/x where the session cannot go on. */
  decode(bytes: Uint8Array, offset: number, end: number): Update {
    this.release();
    const attributesLengthAt = offset + 2 + get16(bytes, offset);
    if (attributesLengthAt + 2 > end) {
      throw new BgpError(UPDATE_ERROR, 1, 'withdrawn routes run over the end of the message');
    }
    const attributesAt = attributesLengthAt + 2;
    const prefixesAt = attributesAt + get16(bytes, attributesLengthAt);
    if (prefixesAt > end) {
      throw new BgpError(UPDATE_ERROR, 1, 'path attributes run over the end of the message');
    }
    const { addPath, families } = this.#context;
    const [withdrawn4] = this.#withdrawn;
    for (const list of this.#lists) list.clear();
    decodePrefixes(bytes, offset + 2, attributesLengthAt, addPath[0], withdrawn4);
    decodePrefixes(bytes, prefixesAt, end, addPath[0], this.#plain);
    // Without the capability for it, IPv4 was not agreed on (RFC 4760 section 8).
    if (!families[0]) {
      withdrawn4.clear();
      this.#plain.clear();
    }
    const bare = withdrawn4.end === 0 && this.#plain.end === 0;
    if (attributesAt === prefixesAt) {
      if (this.#plain.end > 0) return this.#asWithdrawn('no path attributes', NOTHING);
      const endOfRib = bare && end - offset === 4 && families[0] ? IPV4 : null;
      return this.#update(endOfRib, null, NOTHING);
    }

    const known = this.#plain.end > 0 ? this.#recall(bytes, attributesAt, prefixesAt) : null;
    if (known) {
      this.#announce(known, this.#plain);
      return this.#update(null, null, NOTHING);
    }
    const decoded = decodeAttributes(bytes, attributesAt, prefixesAt, this.#context);
    const { attributes, present, reach, unreach, discarded } = decoded;
    if (unreach) {
      const { family, at, end: stop } = unreach;
      decodePrefixes(bytes, at, stop, addPath[family.index], this.#withdrawn[family.index]);
    }
    let reached: PrefixList | null = null;
    if (reach) {
      reached = this.#reached[reach.family.index];
      decodePrefixes(bytes, reach.at, reach.end, addPath[reach.family.index], reached);
    }

    let fault = decoded.fault;
    if (this.#plain.end > 0) fault ??= decoded.nextHopFault;
    const isReachable = this.#plain.end > 0 || (reached !== null && reached.end > 0);
    if (isReachable) {
      if (!present.includes(T.ORIGIN)) fault ??= 'no ORIGIN';
      if (!present.includes(T.AS_PATH)) fault ??= 'no AS_PATH';
      if (this.#plain.end > 0 && !present.includes(T.NEXT_HOP)) fault ??= 'no NEXT_HOP';
    } else if (fault && !decoded.otherFamily) {
      // RFC 7606 5.2: nothing reachable was read, so nothing can stand for what the broken attributes belong to.
      throw new BgpError(UPDATE_ERROR, 1, fault);
    }
    if (fault) return this.#asWithdrawn(fault, discarded);
    if (this.#plain.end > 0) this.#announce(this.#table.acquire(attributes), this.#plain);
    if (reached && reached.end > 0) {
      this.#announce(this.#table.acquire({ ...attributes, nextHop: reach!.nextHop }), reached);
    }
    if (this.#announced.some(({ set }) => set.size > MAX_ATTRIBUTES)) {
      this.release();
      return this.#asWithdrawn(`path attributes of more than ${MAX_ATTRIBUTES} bytes`, discarded);
    }
    if (this.#plain.end > 0 && !reach && !unreach && discarded.length === 0) {
      this.#remember(bytes, attributesAt, prefixesAt, this.#announced[0]!.set);
    }
    const only = bare && !reach && present.length === 1 && unreach?.at === unreach?.end;
    return this.#update(only && unreach ? unreach.family : null, null, discarded);
  }

  /** Let go of the attribute sets of the last UPDATE. */
  release(): void {
    for (const { set } of this.#announced) this.#table.release(set.id);
    this.#announced = [];
  }

  #announce(set: AttributeSet, prefixes: PrefixList): void {
    this.#announced.push({ set, prefixes });
  }

  #asWithdrawn(fault: string, discarded: readonly string[]): Update {
    this.#withdrawn[0].addAll(this.#plain);
    for (const list of this.#reached) this.#withdrawn[list.family.index].addAll(list);
    return this.#update(null, fault, discarded);
  }

  #update(endOfRib: Family | null, fault: string | null, discarded: readonly string[]): Update {
    return { withdrawn: this.#withdrawn, announced: this.#announced, endOfRib, fault, discarded };
  }

  /** The set that the same bytes meant a short while ago, held once more. */
  #recall(bytes: Uint8Array, from: number, to: number): AttributeSet | null {
    const hash = hashOf(bytes, from, to);
    const known = this.#memory[hash & (MEMORY - 1)];
    if (!known || known.hash !== hash || known.length !== to - from) return null;
    for (let i = 0; i < known.length; i++) if (known.raw[i] !== bytes[from + i]) return null;
    if (!this.#table.isHeld(known.set)) return null;
    this.#table.hold(known.set.id);
    return known.set;
  }

  #remember(bytes: Uint8Array, from: number, to: number, set: AttributeSet): void {
    const hash = hashOf(bytes, from, to);
    const length = to - from;
    const place = hash & (MEMORY - 1);
    const before = this.#memory[place];
    const raw = before && before.raw.length >= length ? before.raw : new Uint8Array(length);
    for (let i = 0; i < length; i++) raw[i] = bytes[from + i]!;
    if (!before) this.#memory[place] = { hash, raw, length, set };
    else {
      before.hash = hash;
      before.raw = raw;
      before.length = length;
      before.set = set;
    }
  }
}

/** How a session writes its UPDATEs. */
export interface UpdateFormat {
  family: Family;
  addPath: boolean;
  /** Largest message, bytes: 4096, or 65535 (RFC 8654). */
  maxMessage: number;
}

/** An attribute list as it goes out: `bytes` without MP_REACH_NLRI. */
export interface EncodedAttributes {
  bytes: Uint8Array;
  /** The next hop of MP_REACH_NLRI; null: IPv4 routes outside of it, their NEXT_HOP is in `bytes`. */
  nextHop: NextHop | null;
}

/** Cut a list into runs that fit `room` bytes: where they begin and end in its data, and their size in bytes. */
function* runs(
  { data, end, stride }: PrefixList,
  room: number,
  addPath: boolean,
): Generator<[from: number, to: number, size: number]> {
  let from = 0;
  let size = 0;
  for (let at = 0; at < end; at += stride) {
    const next = prefixSize(data[at + LENGTH]!, addPath);
    if (size + next > room) {
      yield [from, at, size];
      from = at;
      size = 0;
    }
    size += next;
  }
  if (from < end) yield [from, end, size];
}

const OPTIONAL_EXTENDED = 0x90;

/** UPDATEs that withdraw all prefixes of a list. */
export function* encodeWithdrawals(list: PrefixList, format: UpdateFormat): Generator<Uint8Array> {
  const { family, addPath, maxMessage } = format;
  if (family === IPV4) {
    for (const [from, to, size] of runs(list, maxMessage - HEADER - 4, addPath)) {
      const body = new Uint8Array(4 + size);
      put16(body, 0, size);
      encodePrefixes(list, from, to, addPath, body, 2);
      yield frame(UPDATE, body);
    }
    return;
  }
  for (const [from, to, size] of runs(list, maxMessage - HEADER - 4 - 7, addPath)) {
    const body = new Uint8Array(4 + 7 + size);
    put16(body, 2, 7 + size);
    body.set([OPTIONAL_EXTENDED, T.MP_UNREACH, (3 + size) >> 8, 3 + size, 0, family.afi, family.safi], 4);
    encodePrefixes(list, from, to, addPath, body, 11);
    yield frame(UPDATE, body);
  }
}

/** Bytes that attributes leave for prefixes in one message. */
function roomFor({ bytes, nextHop }: EncodedAttributes, { family, maxMessage }: UpdateFormat): number {
  const reach = nextHop ? reachHeader(family, nextHop).length : 0;
  return maxMessage - HEADER - 4 - bytes.length - reach;
}

/** Whether attributes leave room for any prefix: a route for which they do not is not to be told (RFC 4271 9.2). */
export function hasRoom(encoded: EncodedAttributes, format: UpdateFormat): boolean {
  return roomFor(encoded, format) >= prefixSize(format.family.bits, format.addPath);
}

/**
 * UPDATEs that announce all prefixes of a list. Nothing at all when the attributes leave no room for a prefix (RFC
 * 4271 9.2: such a route is not advertised).
 */
export function* encodeAnnouncements(
  encoded: EncodedAttributes,
  list: PrefixList,
  format: UpdateFormat,
): Generator<Uint8Array> {
  const { bytes, nextHop } = encoded;
  const { family, addPath } = format;
  if (!hasRoom(encoded, format)) return;
  const reach = nextHop ? reachHeader(family, nextHop) : new Uint8Array(0);
  const room = roomFor(encoded, format);
  for (const [from, to, size] of runs(list, room, addPath)) {
    const body = new Uint8Array(4 + bytes.length + reach.length + size);
    const attributes = bytes.length + (nextHop ? reach.length + size : 0);
    put16(body, 2, attributes);
    // RFC 7606 5.1: MP_REACH_NLRI is to be the first.
    if (nextHop) {
      put16(reach, 2, reach.length - 4 + size);
      body.set(reach, 4);
      const at = encodePrefixes(list, from, to, addPath, body, 4 + reach.length);
      body.set(bytes, at);
    } else {
      body.set(bytes, 4);
      encodePrefixes(list, from, to, addPath, body, 4 + bytes.length);
    }
    yield frame(UPDATE, body);
  }
}

function reachHeader(family: Family, nextHop: NextHop): Uint8Array {
  // A link-local address is of use on its own link alone, which the peer need not share (RFC 2545 section 3).
  const hop = nextHopBytes({ ...nextHop, linkLocal: null });
  return Uint8Array.from([
    OPTIONAL_EXTENDED,
    T.MP_REACH,
    0,
    0,
    0,
    family.afi,
    family.safi,
    hop.length,
    ...hop,
    0,
  ]);
}

/** "All that there was to tell is told" (RFC 4724 section 2). */
export function endOfRib(family: Family): Uint8Array {
  if (family === IPV4) return frame(UPDATE, new Uint8Array(4));
  return frame(UPDATE, Uint8Array.of(0, 0, 0, 6, 0x80, T.MP_UNREACH, 3, 0, family.afi, family.safi));
}
