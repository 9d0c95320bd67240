/** Tables in MRT: TABLE_DUMP_V2 (RFC 6396 section 4.3) and its forms with path identifiers (RFC 8050 section 4). */
import { located, nextHopBytes, withAttribute } from './attribute-list.ts';
import { AttributeType as T } from './attributes.ts';
import { get16, get32, put16, put32 } from './bytes.ts';
import { type Family, IPV4, IPV6 } from './family.ts';
import {
  MrtFault,
  type MrtRecord,
  PEER_INDEX_TABLE,
  putHeader,
  RECORD_HEADER,
  RIB_IPV4_UNICAST,
  RIB_IPV4_UNICAST_ADDPATH,
  RIB_IPV6_UNICAST,
  RIB_IPV6_UNICAST_ADDPATH,
  TABLE_DUMP_V2,
} from './mrt.ts';
import type { NextHop } from './next-hop.ts';

/** Peers that a file can name: their numbers have 16 bit. */
export const MAX_PEERS = 0xffff;
/** Paths that one record can hold. */
const MAX_ENTRIES = 0xffff;

export interface MrtPeer {
  /** BGP identifier, int32. */
  readonly id: number;
  /** Its words; all 0: routes of the table's owner. */
  readonly address: readonly number[];
  readonly asn: number;
}

export interface PeerIndex {
  /** BGP identifier of whoever wrote the table, int32. */
  readonly collector: number;
  readonly view: string;
  readonly peers: readonly MrtPeer[];
}

const IP6_PEER = 1;
const AS4_PEER = 2;

/** Words of an address at `at`. */
export function wordsAt(bytes: Uint8Array, at: number, family: Family): number[] {
  return Array.from({ length: family.words }, (_, i) => get32(bytes, at + 4 * i));
}

/** Throws MrtFault. */
export function decodePeerIndex({ bytes, at, end }: MrtRecord): PeerIndex {
  const need = (to: number) => {
    if (to > end) throw new MrtFault('the table of peers is cut short');
  };
  need(at + 6);
  const viewAt = at + 6;
  const peersAt = viewAt + get16(bytes, at + 4);
  need(peersAt + 2);
  const count = get16(bytes, peersAt);
  const peers: MrtPeer[] = [];
  let next = peersAt + 2;
  while (peers.length < count) {
    need(next + 1);
    const type = bytes[next]!;
    const family = type & IP6_PEER ? IPV6 : IPV4;
    const asnAt = next + 5 + 4 * family.words;
    const stop = asnAt + (type & AS4_PEER ? 4 : 2);
    need(stop);
    peers.push({
      id: get32(bytes, next + 1),
      address: wordsAt(bytes, next + 5, family),
      asn: type & AS4_PEER ? get32(bytes, asnAt) >>> 0 : get16(bytes, asnAt),
    });
    next = stop;
  }
  if (next !== end) throw new MrtFault('bytes behind the last peer');
  const view = new TextDecoder().decode(bytes.subarray(viewAt, peersAt));
  return { collector: get32(bytes, at), view, peers };
}

/** The record that a table begins with. `time` in seconds since the epoch. At most MAX_PEERS peers. */
export function encodePeerIndex({ collector, view, peers }: PeerIndex, time: number): Uint8Array {
  const name = new TextEncoder().encode(view);
  const size = peers.reduce(
    (sum, { address }) => sum + 9 + 4 * address.length,
    RECORD_HEADER + 8 + name.length,
  );
  const out = new Uint8Array(size);
  let at = RECORD_HEADER;
  put32(out, at, collector);
  put16(out, at + 4, name.length);
  out.set(name, at + 6);
  at += 6 + name.length;
  put16(out, at, peers.length);
  at += 2;
  for (const { id, address, asn } of peers) {
    out[at] = AS4_PEER | (address.length === 4 ? IP6_PEER : 0);
    put32(out, at + 1, id);
    at += 5;
    for (const word of [...address, asn]) {
      put32(out, at, word);
      at += 4;
    }
  }
  putHeader(out, 0, size, time, TABLE_DUMP_V2, PEER_INDEX_TABLE);
  return out;
}

/** Family of a table's record, and whether its paths have identifiers; null: another record. */
export function ribForm(subtype: number): { family: Family; addPath: boolean } | null {
  switch (subtype) {
    case RIB_IPV4_UNICAST:
      return { family: IPV4, addPath: false };
    case RIB_IPV4_UNICAST_ADDPATH:
      return { family: IPV4, addPath: true };
    case RIB_IPV6_UNICAST:
      return { family: IPV6, addPath: false };
    case RIB_IPV6_UNICAST_ADDPATH:
      return { family: IPV6, addPath: true };
    default:
      return null;
  }
}

/** One path of a prefix; its attributes are bytes[at..end) of the record. */
export interface RibEntry {
  readonly peer: number;
  /** Seconds since the epoch. */
  readonly since: number;
  readonly pathId: number;
  readonly at: number;
  readonly end: number;
}

/** Where the prefix of a table's record lies, its length first: bytes[from..to). Throws MrtFault. */
export function prefixIn({ bytes, at, end }: MrtRecord, family: Family): { from: number; to: number } {
  const from = at + 4;
  if (from >= end) throw new MrtFault('no prefix');
  const length = bytes[from]!;
  const to = from + 1 + ((length + 7) >> 3);
  if (length > family.bits) throw new MrtFault(`prefix length ${length}`);
  if (to > end) throw new MrtFault('a prefix is cut short');
  return { from, to };
}

/** The paths of a table's record, behind its prefix. Throws MrtFault in the middle of them. */
export function* entriesIn({ bytes, end }: MrtRecord, from: number, addPath: boolean): Generator<RibEntry> {
  if (from + 2 > end) throw new MrtFault('no count of paths');
  const header = addPath ? 12 : 8;
  let at = from + 2;
  for (let left = get16(bytes, from); left > 0; left--) {
    if (at + header > end) throw new MrtFault('a path is cut short');
    const attributesAt = at + header;
    const stop = attributesAt + get16(bytes, attributesAt - 2);
    if (stop > end) throw new MrtFault('path attributes run over the end of the record');
    yield {
      peer: get16(bytes, at),
      since: get32(bytes, at + 2) >>> 0,
      pathId: addPath ? get32(bytes, at + 6) : 0,
      at: attributesAt,
      end: stop,
    };
    at = stop;
  }
  if (at !== end) throw new MrtFault('bytes behind the last path');
}

const TRANSITIVE = 0x40;
const OPTIONAL = 0x80;

/**
 * The attribute list of a path: NEXT_HOP, or what MRT keeps of MP_REACH_NLRI, the next hop alone (RFC 6396 section
 * 4.3.4). `bytes` has four-octet ASes and no next hop. Routes of the table's owner have an unspecified one.
 */
export function tableAttributes(bytes: Uint8Array, nextHop: NextHop | null, family: Family): Uint8Array {
  const hop = nextHop ? nextHopBytes(nextHop) : new Array<number>(4 * family.words).fill(0);
  const attribute =
    family === IPV4 && hop.length === 4
      ? [TRANSITIVE, T.NEXT_HOP, hop.length, ...hop]
      : [OPTIONAL, T.MP_REACH, 1 + hop.length, hop.length, ...hop];
  return withAttribute(bytes, attribute);
}

/** A next hop that only a table has: its attribute is bytes[from..to). */
export interface TableNextHop {
  readonly from: number;
  readonly to: number;
  /** Null: unspecified, a route of the table's owner. */
  readonly words: number[] | null;
  readonly linkLocal: number[] | null;
}

/**
 * The next hop of a path whose attributes cannot be read as those of an UPDATE: in an MP_REACH_NLRI, or unspecified. Some
 * writers keep the whole MP_REACH_NLRI; that begins with the high octet of its AFI, 0, which no length of a next hop
 * is. Throws MrtFault.
 */
export function tableNextHop(bytes: Uint8Array, at: number, end: number): TableNextHop | null {
  for (const { type, from, value, to } of located(bytes, at, end)) {
    if (type === T.NEXT_HOP && to - value === 4 && get32(bytes, value) === 0) {
      return { from, to, words: null, linkLocal: null };
    }
    if (type !== T.MP_REACH) continue;
    const lengthAt = bytes[value] === 0 ? value + 3 : value;
    const length = lengthAt < to ? bytes[lengthAt]! : 0;
    const hopAt = lengthAt + 1;
    if (
      ![4, 16, 32].includes(length) ||
      hopAt + length > to ||
      (lengthAt === value && hopAt + length !== to)
    ) {
      throw new MrtFault(`MP_REACH_NLRI of ${to - value} bytes with a next hop of ${length}`);
    }
    const family = length === 4 ? IPV4 : IPV6;
    const linkLocal = length === 32 ? wordsAt(bytes, hopAt + 16, IPV6) : null;
    const words = wordsAt(bytes, hopAt, family);
    return { from, to, words: words.every((word) => word === 0) ? null : words, linkLocal };
  }
  return null;
}

/** A path as a table's record takes it. */
export interface TableEntry {
  readonly peer: number;
  /** Seconds since the epoch. */
  readonly since: number;
  readonly pathId: number;
  readonly attributes: Uint8Array;
}

/** Writes records of one table, in pieces of about `size` bytes. */
export class TableWriter {
  readonly #size: number;
  readonly #time: number;
  #out: Uint8Array;
  #end = 0;
  #sequence = 0;

  /** `time` in seconds since the epoch. */
  constructor(time: number, size: number) {
    this.#time = time;
    this.#size = size;
    this.#out = new Uint8Array(size);
  }

  get isFull(): boolean {
    return this.#end >= this.#size;
  }

  /** What was written since the last call. */
  take(): Uint8Array {
    const taken = this.#out.subarray(0, this.#end);
    this.#out = new Uint8Array(this.#size);
    this.#end = 0;
    return taken;
  }

  /** Write a prefix: `prefix` is its length and as many octets as that needs. */
  add(family: Family, prefix: ArrayLike<number>, entries: readonly TableEntry[]): void {
    // RFC 8050 section 4: records with identifiers, or without, not both in one.
    this.#write(
      family,
      prefix,
      entries.filter(({ pathId }) => pathId === 0),
      false,
    );
    this.#write(
      family,
      prefix,
      entries.filter(({ pathId }) => pathId !== 0),
      true,
    );
  }

  #write(family: Family, prefix: ArrayLike<number>, entries: readonly TableEntry[], addPath: boolean): void {
    for (let from = 0; from < entries.length; from += MAX_ENTRIES) {
      this.#writeRecord(family, prefix, entries.slice(from, from + MAX_ENTRIES), addPath);
    }
  }

  #writeRecord(
    family: Family,
    prefix: ArrayLike<number>,
    entries: readonly TableEntry[],
    addPath: boolean,
  ): void {
    const header = addPath ? 12 : 8;
    const size = entries.reduce(
      (sum, { attributes }) => sum + header + attributes.length,
      RECORD_HEADER + 4 + prefix.length + 2,
    );
    const start = this.#room(size);
    const out = this.#out;
    let at = start + RECORD_HEADER;
    put32(out, at, this.#sequence);
    this.#sequence = (this.#sequence + 1) | 0;
    out.set(prefix, at + 4);
    at += 4 + prefix.length;
    put16(out, at, entries.length);
    at += 2;
    for (const { peer, since, pathId, attributes } of entries) {
      put16(out, at, peer);
      put32(out, at + 2, since);
      if (addPath) put32(out, at + 6, pathId);
      put16(out, at + header - 2, attributes.length);
      out.set(attributes, at + header);
      at += header + attributes.length;
    }
    const plain = family === IPV4 ? RIB_IPV4_UNICAST : RIB_IPV6_UNICAST;
    const wide = family === IPV4 ? RIB_IPV4_UNICAST_ADDPATH : RIB_IPV6_UNICAST_ADDPATH;
    putHeader(out, start, at, this.#time, TABLE_DUMP_V2, addPath ? wide : plain);
  }

  #room(size: number): number {
    const start = this.#end;
    this.#end += size;
    if (this.#end > this.#out.length) {
      const out = new Uint8Array(Math.max(this.#end, 2 * this.#out.length));
      out.set(this.#out.subarray(0, start));
      this.#out = out;
    }
    return start;
  }
}
