/**
 * Path attributes between the wire and what the RIB holds (RFC 4271 4.3 and 5, 1997, 2545, 4360, 4456,
 * 4760, 6793, 8092, 8950, 9234), with
 * the revised error handling of RFC 7606: a malformed attribute costs the routes of its UPDATE
 * (treat-as-withdraw) or only itself (discard); the session ends only where the prefixes cannot be trusted.
 */
import { get16, get32, HASH_SEED, put16, put32 } from './bytes.ts';
import { BgpError, UPDATE_ERROR } from './error.ts';
import { type Family, familyOf, IPV4, IPV6 } from './family.ts';
import type { NextHop, NextHops } from './next-hop.ts';

export const IGP = 0;
export const EGP = 1;
export const INCOMPLETE = 2;
export const ORIGIN_NAMES = ['IGP', 'EGP', 'incomplete'] as const;

export interface AsSegment {
  /** An AS_SET (unordered, counts as one) instead of an AS_SEQUENCE. */
  set: boolean;
  asns: readonly number[];
}

/** An optional transitive attribute that is passed on as it came. */
export interface UnknownAttribute {
  type: number;
  value: Uint8Array;
}

/** Immutable once made: the RIB shares one object among all prefixes that carry it. */
export interface Attributes {
  readonly origin: number;
  readonly asPath: readonly AsSegment[];
  /** Null on routes of our own: each session puts its own address. */
  readonly nextHop: NextHop | null;
  /** 32 bit, unsigned. */
  readonly med: number | null;
  readonly localPref: number | null;
  readonly atomicAggregate: boolean;
  readonly aggregator: { readonly asn: number; readonly address: number } | null;
  /** 32 bit each, unsigned: AS << 16 | value. */
  readonly communities: readonly number[];
  /** Two words each, flat, 32 bit unsigned (RFC 4360). */
  readonly extendedCommunities: readonly number[];
  /** Three words each, flat, 32 bit unsigned (RFC 8092). */
  readonly largeCommunities: readonly number[];
  readonly originatorId: number | null;
  /** int32 each, the latest reflector first. */
  readonly clusterList: readonly number[];
  /** AS that marked the route as one for its customers only (RFC 9234). */
  readonly otc: number | null;
  readonly unknown: readonly UnknownAttribute[];
  /**
   * Types of known attributes that somebody on the way did not know: their Partial bit stays set (RFC 4271 section 5).
   * Absent where there is none.
   */
  readonly partial?: readonly number[];
}

export const NO_ATTRIBUTES: Attributes = {
  origin: IGP,
  asPath: [],
  nextHop: null,
  med: null,
  localPref: null,
  atomicAggregate: false,
  aggregator: null,
  communities: [],
  extendedCommunities: [],
  largeCommunities: [],
  originatorId: null,
  clusterList: [],
  otc: null,
  unknown: [],
};

/** What a session agreed on, as far as attributes depend on it. */
export interface AttributeContext {
  /** Both sides have the 4-octet AS capability. */
  as4: boolean;
  ibgp: boolean;
  /** AS that an external path has to begin with (RFC 4271 6.3); null: any, as from a route server. */
  firstAs: number | null;
  /** Families that both sides carry, by index. */
  families: readonly [boolean, boolean];
  /** Path identifiers come with their prefixes, by index of the family. */
  addPath: readonly [boolean, boolean];
  /** IPv4 routes may have IPv6 next hops (RFC 8950). */
  nextHop6: boolean;
  nextHops: NextHops;
}

/** The prefixes of an MP attribute: bytes[at..end) of the message. */
export interface MpPrefixes {
  family: Family;
  at: number;
  end: number;
}

export interface DecodedAttributes {
  attributes: Attributes;
  /** Attribute types that came, malformed ones included. */
  present: number[];
  /** MP_REACH_NLRI of a family that is carried; no next hop if that is malformed. */
  reach: (MpPrefixes & { nextHop: NextHop | null }) | null;
  /** MP_UNREACH_NLRI of such a family. */
  unreach: MpPrefixes | null;
  /** An MP attribute of whatever family came: prefixes did arrive, though none may be for us. */
  otherFamily: boolean;
  /** Why the routes are to be treated as withdrawn, or null. */
  fault: string | null;
  /** What is wrong with the address in NEXT_HOP, which concerns routes outside of MP_REACH_NLRI alone; or null. */
  nextHopFault: string | null;
  /** Attributes left out, and why. */
  discarded: string[];
}

const T = {
  ORIGIN: 1,
  AS_PATH: 2,
  NEXT_HOP: 3,
  MED: 4,
  LOCAL_PREF: 5,
  ATOMIC_AGGREGATE: 6,
  AGGREGATOR: 7,
  COMMUNITIES: 8,
  ORIGINATOR_ID: 9,
  CLUSTER_LIST: 10,
  MP_REACH: 14,
  MP_UNREACH: 15,
  EXTENDED_COMMUNITIES: 16,
  AS4_PATH: 17,
  AS4_AGGREGATOR: 18,
  IPV6_COMMUNITIES: 25,
  LARGE_COMMUNITIES: 32,
  OTC: 35,
} as const;

export { T as AttributeType };

const OPTIONAL = 0x80;
const TRANSITIVE = 0x40;
const PARTIAL = 0x20;
const EXTENDED = 0x10;

/** Known types that are passed on with the Partial bit that they came with. */
const KEEP_PARTIAL: readonly number[] = [
  T.AGGREGATOR,
  T.COMMUNITIES,
  T.EXTENDED_COMMUNITIES,
  T.IPV6_COMMUNITIES,
  T.LARGE_COMMUNITIES,
  T.OTC,
];

/** Optional and Transitive bits that a known type must have. */
const FLAGS: Record<number, number> = {
  [T.ORIGIN]: TRANSITIVE,
  [T.AS_PATH]: TRANSITIVE,
  [T.NEXT_HOP]: TRANSITIVE,
  [T.MED]: OPTIONAL,
  [T.LOCAL_PREF]: TRANSITIVE,
  [T.ATOMIC_AGGREGATE]: TRANSITIVE,
  [T.AGGREGATOR]: OPTIONAL | TRANSITIVE,
  [T.COMMUNITIES]: OPTIONAL | TRANSITIVE,
  [T.ORIGINATOR_ID]: OPTIONAL,
  [T.CLUSTER_LIST]: OPTIONAL,
  [T.MP_REACH]: OPTIONAL,
  [T.MP_UNREACH]: OPTIONAL,
  [T.AS4_PATH]: OPTIONAL | TRANSITIVE,
  [T.AS4_AGGREGATOR]: OPTIONAL | TRANSITIVE,
  [T.EXTENDED_COMMUNITIES]: OPTIONAL | TRANSITIVE,
  [T.IPV6_COMMUNITIES]: OPTIONAL | TRANSITIVE,
  [T.LARGE_COMMUNITIES]: OPTIONAL | TRANSITIVE,
  [T.OTC]: OPTIONAL | TRANSITIVE,
};

/** Stands for an AS number above 65535 where only two octets fit (RFC 6793). */
export const AS_TRANS = 23456;

const SEGMENT_SET = 1;
const SEGMENT_SEQUENCE = 2;
const SEGMENT_CONFED_SEQUENCE = 3;
const SEGMENT_CONFED_SET = 4;

/**
 * AS path of `width`-octet numbers, or a reason why it is none (RFC 7606 7.2, RFC 7607). `onConfed` hears of segments of
 * confederations that are left out; without it they are refused.
 */
function decodeAsPath(
  bytes: Uint8Array,
  offset: number,
  end: number,
  width: 2 | 4,
  onConfed?: () => void,
): AsSegment[] | string {
  const path: AsSegment[] = [];
  let at = offset;
  while (at < end) {
    if (at + 2 > end) return 'a segment header is cut short';
    const type = bytes[at]!;
    const count = bytes[at + 1]!;
    at += 2;
    const isConfed = type === SEGMENT_CONFED_SEQUENCE || type === SEGMENT_CONFED_SET;
    if (type !== SEGMENT_SET && type !== SEGMENT_SEQUENCE && !(isConfed && onConfed))
      return `segment of type ${type}`;
    if (count === 0) return 'an empty segment';
    if (at + count * width > end) return 'a segment is cut short';
    if (isConfed) {
      onConfed!();
      at += count * width;
      continue;
    }
    const asns: number[] = [];
    for (let i = 0; i < count; i++, at += width) {
      const asn = width === 4 ? get32(bytes, at) >>> 0 : get16(bytes, at);
      if (asn === 0) return 'AS 0';
      asns.push(asn);
    }
    path.push({ set: type === SEGMENT_SET, asns });
  }
  return path;
}

/** Number of hops for comparing paths: a set counts as one (RFC 4271 9.1.2.2 a). */
export function pathLength(path: readonly AsSegment[]): number {
  let sum = 0;
  for (const segment of path) sum += segment.set ? 1 : segment.asns.length;
  return sum;
}

/** The AS that the route was heard from: the leftmost of a leading sequence, or null. */
export function neighbourAs(path: readonly AsSegment[]): number | null {
  const first = path[0];
  return first && !first.set ? first.asns[0]! : null;
}

export function hasAs(path: readonly AsSegment[], asn: number): boolean {
  return path.some((segment) => segment.asns.includes(asn));
}

/** The path with one more AS in front (RFC 4271 5.1.2); a full sequence of 255 gets a new one before it. */
export function prepend(path: readonly AsSegment[], asn: number): AsSegment[] {
  const first = path[0];
  if (first && !first.set && first.asns.length < 255) {
    return [{ set: false, asns: [asn, ...first.asns] }, ...path.slice(1)];
  }
  return [{ set: false, asns: [asn] }, ...path];
}

/** Rebuild the path that a 2-octet speaker passed on (RFC 6793 4.2.3): its extra leading hops, then AS4_PATH. */
function mergeAs4(path: AsSegment[], as4Path: AsSegment[]): AsSegment[] {
  let extra = pathLength(path) - pathLength(as4Path);
  if (extra < 0) return path;
  const merged: AsSegment[] = [];
  for (const segment of path) {
    if (extra <= 0) break;
    const take = segment.set ? segment.asns.length : Math.min(extra, segment.asns.length);
    merged.push({ set: segment.set, asns: segment.asns.slice(0, take) });
    extra -= segment.set ? 1 : take;
  }
  const last = merged.at(-1);
  const next = as4Path[0];
  if (last && next && !last.set && !next.set && last.asns.length + next.asns.length <= 255) {
    merged.pop();
    return [...merged, { set: false, asns: [...last.asns, ...next.asns] }, ...as4Path.slice(1)];
  }
  return [...merged, ...as4Path];
}

/** In the first octet of an extended community: it stays within an AS (RFC 4360 section 2, RFC 5701 section 2). */
const NON_TRANSITIVE = 0x40;
const IPV6_COMMUNITY = 20;

/** The attributes as they cross the border of an AS: without non-transitive extended communities (RFC 4360 section 6). */
export function acrossBorder(attributes: Attributes): Attributes {
  const { extendedCommunities, unknown } = attributes;
  const isLocal = (_: number, i: number) => (extendedCommunities[i & ~1]! & (NON_TRANSITIVE << 24)) !== 0;
  const six = unknown.find(({ type }) => type === T.IPV6_COMMUNITIES)?.value ?? [];
  const isLocal6 = (_: number, i: number) => (six[i - (i % IPV6_COMMUNITY)]! & NON_TRANSITIVE) !== 0;
  let out = attributes;
  if (extendedCommunities.some(isLocal)) {
    out = { ...out, extendedCommunities: extendedCommunities.filter((word, i) => !isLocal(word, i)) };
  }
  if (six.some(isLocal6)) {
    const value = Uint8Array.from(six.filter((byte, i) => !isLocal6(byte, i)));
    const others = unknown.filter(({ type }) => type !== T.IPV6_COMMUNITIES);
    const left = value.length > 0 ? [{ type: T.IPV6_COMMUNITIES, value }] : [];
    out = { ...out, unknown: [...others, ...left].sort((a, b) => a.type - b.type) };
  }
  return out;
}

function words(bytes: Uint8Array, offset: number, end: number): number[] {
  const list: number[] = [];
  for (let at = offset; at < end; at += 4) list.push(get32(bytes, at));
  return list;
}

function unsigned(bytes: Uint8Array, offset: number, end: number): number[] {
  const list: number[] = [];
  for (let at = offset; at < end; at += 4) list.push(get32(bytes, at) >>> 0);
  return list;
}

/** A list of tuples of `size` words without those that occur again (RFC 8092 section 5). */
export function distinct(list: readonly number[], size: number): readonly number[] {
  if (list.length <= size) return list;
  // Where each tuple begins + 1, by its hash: a message holds thousands, and strings of them would take long.
  const slots = new Int32Array(2 << (32 - Math.clz32(list.length / size)));
  const mask = slots.length - 1;
  let out: number[] | null = null;
  for (let at = 0; at < list.length; at += size) {
    let hash = HASH_SEED;
    for (let i = 0; i < size; i++) {
      hash = Math.imul(hash ^ list[at + i]!, 0x85ebca6b);
      hash ^= hash >>> 15;
    }
    let slot = hash & mask;
    while (slots[slot] !== 0 && !isSame(list, slots[slot]! - 1, at, size)) slot = (slot + 1) & mask;
    if (slots[slot] !== 0) {
      out ??= list.slice(0, at);
      continue;
    }
    slots[slot] = at + 1;
    if (out) for (let i = 0; i < size; i++) out.push(list[at + i]!);
  }
  return out ?? list;
}

function isSame(list: readonly number[], a: number, b: number, size: number): boolean {
  for (let i = 0; i < size; i++) if (list[a + i] !== list[b + i]) return false;
  return true;
}

/** 0/8, multicast and class E cannot be next hops (RFC 4271 6.3: "a valid IP host address"). */
/** Loopback passes: speakers of one machine tell it each other, and the tracking of next hops judges it. */
const isHost = (address: number) => address >>> 24 !== 0 && address >>> 28 < 14;
const isLinkLocal = (words: readonly number[]) => words[0]! >>> 22 === 0xfe80 >>> 6;
const isHost6 = (words: readonly number[]) =>
  words[0]! >>> 24 !== 0xff && (words[0] !== 0 || words[1] !== 0 || words[2] !== 0 || words[3]! >>> 0 > 1);

/** Bytes that the next hop of a family may take. */
function nextHopFits(family: Family, length: number, context: AttributeContext): boolean {
  if (family === IPV6 || (context.nextHop6 && length !== 4)) return length === 16 || length === 32;
  return length === 4;
}

/** The next hop in an MP_REACH_NLRI, or null if it is no host address (RFC 2545 section 3, 8950 section 3). */
function decodeNextHop(bytes: Uint8Array, at: number, length: number, nextHops: NextHops): NextHop | null {
  if (length === 4) {
    const address = get32(bytes, at);
    return isHost(address) ? nextHops.at(IPV4, [address]) : null;
  }
  const global = words(bytes, at, at + 16);
  const local = length === 32 ? words(bytes, at + 16, at + 32) : null;
  if (isHost6(global)) {
    const linkLocal = local && isLinkLocal(local) ? local : isLinkLocal(global) ? global : null;
    return nextHops.at(IPV6, global, linkLocal);
  }
  return local && isLinkLocal(local) ? nextHops.at(IPV6, local, local) : null;
}

/** How often each type has come in the list that is being decoded. */
const SEEN = new Uint16Array(256);

/**
 * Decode the path attributes in bytes[offset..end). Throws BgpError 3/x only where RFC 7606 asks for a session
 * reset: a repeated MP attribute, prefixes that cannot be read, an unknown well-known attribute.
 */
export function decodeAttributes(
  bytes: Uint8Array,
  offset: number,
  end: number,
  context: AttributeContext,
): DecodedAttributes {
  const out: DecodedAttributes = {
    attributes: NO_ATTRIBUTES,
    present: [],
    reach: null,
    unreach: null,
    otherFamily: false,
    fault: null,
    nextHopFault: null,
    discarded: [],
  };
  const partial: number[] = [];
  SEEN.fill(0);
  const a: { -readonly [K in keyof Attributes]: Attributes[K] } = { ...NO_ATTRIBUTES };
  const unknown: UnknownAttribute[] = [];
  let as4Path: AsSegment[] | null = null;
  let as4Aggregator: Attributes['aggregator'] = null;
  const fault = (text: string) => {
    out.fault ??= text;
  };
  const discard = (text: string) => {
    out.discarded.push(text);
  };

  let start = offset;
  while (start < end) {
    const flags = bytes[start]!;
    const header = flags & EXTENDED ? 4 : 3;
    const type = bytes[start + 1]!;
    const at = start + header;
    const length = at > end ? 0 : flags & EXTENDED ? get16(bytes, start + 2) : bytes[start + 2]!;
    const stop = at + length;
    if (stop > end) {
      fault('an attribute runs over the end of the list');
      break;
    }
    const whole = () => bytes.slice(start, stop);
    if (SEEN[type]!++ > 0) {
      if (type === T.MP_REACH || type === T.MP_UNREACH) {
        throw new BgpError(UPDATE_ERROR, 1, `attribute ${type} occurs twice`);
      }
      // Once is enough to say it: a message has room for thousands.
      if (SEEN[type] === 2) discard(`attribute ${type} occurs again`);
      start = stop;
      continue;
    }
    out.present.push(type);
    const expected = FLAGS[type];
    const flagsHold = expected === undefined || (flags & (OPTIONAL | TRANSITIVE)) === expected;
    const internalOnly = type === T.LOCAL_PREF || type === T.ORIGINATOR_ID || type === T.CLUSTER_LIST;
    if (internalOnly && !context.ibgp) {
      discard(`attribute ${type} from an external peer`);
      start = stop;
      continue;
    }
    // RFC 6793 4.1 and 6: of no worth from who speaks four octets, whatever is wrong with it.
    if (context.as4 && (type === T.AS4_PATH || type === T.AS4_AGGREGATOR)) {
      discard(`attribute ${type} from a speaker of four-octet AS numbers`);
      start = stop;
      continue;
    }
    if (flags & PARTIAL && expected === (OPTIONAL | TRANSITIVE)) partial.push(type);
    if (!flagsHold) fault(`attribute ${type} has flags 0x${flags.toString(16)}`);

    switch (type) {
      case T.ORIGIN:
        if (length !== 1) fault(`ORIGIN of ${length} bytes`);
        else if (bytes[at]! > INCOMPLETE) fault(`ORIGIN ${bytes[at]}`);
        else a.origin = bytes[at]!;
        break;
      case T.AS_PATH: {
        const path = decodeAsPath(bytes, at, stop, context.as4 ? 4 : 2);
        if (typeof path === 'string') fault(`AS_PATH: ${path}`);
        else if (!context.ibgp && context.firstAs !== null && neighbourAs(path) !== context.firstAs) {
          fault(`AS_PATH does not begin with the peer's AS ${context.firstAs}`);
        } else a.asPath = path;
        break;
      }
      case T.NEXT_HOP:
        if (length !== 4) fault(`NEXT_HOP of ${length} bytes`);
        else if (!isHost(get32(bytes, at))) out.nextHopFault = 'NEXT_HOP is no host address';
        else a.nextHop = context.nextHops.at(IPV4, [get32(bytes, at)]);
        break;
      case T.MED:
        if (length !== 4) fault(`MULTI_EXIT_DISC of ${length} bytes`);
        else a.med = get32(bytes, at) >>> 0;
        break;
      case T.LOCAL_PREF:
        if (length !== 4) fault(`LOCAL_PREF of ${length} bytes`);
        else a.localPref = get32(bytes, at) >>> 0;
        break;
      case T.ATOMIC_AGGREGATE:
        if (length !== 0) discard(`ATOMIC_AGGREGATE of ${length} bytes`);
        else a.atomicAggregate = true;
        break;
      case T.AGGREGATOR:
        if (length !== (context.as4 ? 8 : 6)) discard(`AGGREGATOR of ${length} bytes`);
        else {
          const asn = context.as4 ? get32(bytes, at) >>> 0 : get16(bytes, at);
          if (asn === 0) discard('AGGREGATOR with AS 0');
          else a.aggregator = { asn, address: get32(bytes, stop - 4) };
        }
        break;
      case T.COMMUNITIES:
        if (length === 0 || length % 4 !== 0) fault(`COMMUNITIES of ${length} bytes`);
        else a.communities = distinct(unsigned(bytes, at, stop), 1);
        break;
      case T.EXTENDED_COMMUNITIES:
        if (length === 0 || length % 8 !== 0) fault(`EXTENDED COMMUNITIES of ${length} bytes`);
        else a.extendedCommunities = unsigned(bytes, at, stop);
        break;
      case T.IPV6_COMMUNITIES:
        if (length === 0 || length % 20 !== 0) fault(`IPv6 EXTENDED COMMUNITIES of ${length} bytes`);
        else unknown.push({ type, value: bytes.slice(at, stop) });
        break;
      case T.LARGE_COMMUNITIES:
        if (length === 0 || length % 12 !== 0) fault(`LARGE_COMMUNITY of ${length} bytes`);
        else a.largeCommunities = distinct(unsigned(bytes, at, stop), 3);
        break;
      case T.OTC:
        if (length !== 4) fault(`OTC of ${length} bytes`);
        else a.otc = get32(bytes, at) >>> 0;
        break;
      case T.ORIGINATOR_ID:
        if (length !== 4) fault(`ORIGINATOR_ID of ${length} bytes`);
        else a.originatorId = get32(bytes, at);
        break;
      case T.CLUSTER_LIST:
        if (length === 0 || length % 4 !== 0) fault(`CLUSTER_LIST of ${length} bytes`);
        else a.clusterList = words(bytes, at, stop);
        break;
      case T.MP_REACH: {
        const nextHopLength = bytes[at + 3]!;
        if (length < 5 || length < 5 + nextHopLength) {
          throw new BgpError(UPDATE_ERROR, 9, `MP_REACH_NLRI of ${length} bytes`, whole());
        }
        const family = familyOf(get16(bytes, at), bytes[at + 2]!);
        if (!family || !context.families[family.index]) {
          out.otherFamily = true;
          break;
        }
        if (!nextHopFits(family, nextHopLength, context)) {
          const text = `MP_REACH_NLRI of ${family.name} with a next hop of ${nextHopLength} bytes`;
          throw new BgpError(UPDATE_ERROR, 9, text, whole());
        }
        const nextHop = decodeNextHop(bytes, at + 4, nextHopLength, context.nextHops);
        if (!nextHop) fault('MP_REACH_NLRI: the next hop is no host address');
        out.reach = { family, nextHop, at: at + 5 + nextHopLength, end: stop };
        break;
      }
      case T.MP_UNREACH: {
        if (length < 3) throw new BgpError(UPDATE_ERROR, 9, `MP_UNREACH_NLRI of ${length} bytes`, whole());
        const family = familyOf(get16(bytes, at), bytes[at + 2]!);
        if (!family || !context.families[family.index]) out.otherFamily = true;
        else out.unreach = { family, at: at + 3, end: stop };
        break;
      }
      case T.AS4_PATH: {
        const path = decodeAsPath(bytes, at, stop, 4, () =>
          discard('AS4_PATH: a segment of a confederation'),
        );
        if (typeof path === 'string') discard(`AS4_PATH: ${path}`);
        else as4Path = path;
        break;
      }
      case T.AS4_AGGREGATOR:
        if (length !== 8) discard(`AS4_AGGREGATOR of ${length} bytes`);
        else if (get32(bytes, at) === 0) discard('AS4_AGGREGATOR with AS 0');
        else as4Aggregator = { asn: get32(bytes, at) >>> 0, address: get32(bytes, at + 4) };
        break;
      default:
        if (!(flags & OPTIONAL)) {
          throw new BgpError(UPDATE_ERROR, 2, `attribute ${type} is said to be well known`, whole());
        }
        if (flags & TRANSITIVE) unknown.push({ type, value: bytes.slice(at, stop) });
    }
    start = stop;
  }

  if (!context.as4) {
    // An AGGREGATOR that is not AS_TRANS shows that a 2-octet speaker aggregated: AS4_* are stale (RFC 6793 4.2.3).
    const stale = a.aggregator !== null && as4Aggregator !== null && a.aggregator.asn !== AS_TRANS;
    if (!stale) {
      if (a.aggregator && as4Aggregator) a.aggregator = as4Aggregator;
      if (as4Path) a.asPath = mergeAs4([...a.asPath], as4Path);
    }
  }
  if (unknown.length > 0) a.unknown = unknown;
  const kept = partial.filter((type) => KEEP_PARTIAL.includes(type));
  if (kept.length > 0) a.partial = kept;
  out.attributes = a;
  return out;
}

/** Attributes one behind the other, in memory that is used again for the next list. */
class AttributeWriter {
  #bytes = new Uint8Array(1024);
  #end = 0;

  /** A copy of all that was written; the next list begins. */
  take(): Uint8Array {
    const bytes = this.#bytes.slice(0, this.#end);
    this.#end = 0;
    return bytes;
  }

  /** The header of an attribute, whose value of so many bytes is to be put then. */
  begin(flags: number, type: number, length: number): void {
    const end = this.#end + 4 + length;
    if (end > this.#bytes.length) {
      const bytes = new Uint8Array(2 * end);
      bytes.set(this.#bytes.subarray(0, this.#end));
      this.#bytes = bytes;
    }
    this.put8(length > 255 ? flags | EXTENDED : flags);
    this.put8(type);
    if (length > 255) this.put16(length);
    else this.put8(length);
  }

  put8(value: number): void {
    this.#bytes[this.#end++] = value;
  }

  put16(value: number): void {
    put16(this.#bytes, this.#end, value);
    this.#end += 2;
  }

  put32(value: number): void {
    put32(this.#bytes, this.#end, value);
    this.#end += 4;
  }

  /** A whole attribute of words, if there are any. */
  words(flags: number, type: number, list: readonly number[]): void {
    if (list.length === 0) return;
    this.begin(flags, type, 4 * list.length);
    for (const word of list) this.put32(word);
  }

  word(flags: number, type: number, value: number): void {
    this.begin(flags, type, 4);
    this.put32(value);
  }

  value(flags: number, type: number, value: Uint8Array): void {
    this.begin(flags, type, value.length);
    this.#bytes.set(value, this.#end);
    this.#end += value.length;
  }

  asPath(flags: number, type: number, path: readonly AsSegment[], width: 2 | 4): void {
    let size = 0;
    for (const { asns } of path) size += 2 * Math.ceil(asns.length / 255) + width * asns.length;
    this.begin(flags, type, size);
    for (const { set, asns } of path) {
      for (let from = 0; from < asns.length; from += 255) {
        const to = Math.min(asns.length, from + 255);
        this.put8(set ? SEGMENT_SET : SEGMENT_SEQUENCE);
        this.put8(to - from);
        for (let i = from; i < to; i++) {
          const asn = asns[i]!;
          if (width === 4) this.put32(asn);
          else this.put16(asn > 0xffff ? AS_TRANS : asn);
        }
      }
    }
  }
}

const writer = new AttributeWriter();

/** How an attribute list is to be written. */
export interface EncodeContext {
  as4: boolean;
  /** Write NEXT_HOP: the attribute of IPv4 routes with an IPv4 next hop, outside of MP_REACH_NLRI. */
  nextHop: boolean;
}

/** The attribute list of an UPDATE but for MP attributes, in order of type, with canonical flags. */
export function encodeAttributes(a: Attributes, context: EncodeContext): Uint8Array {
  const shared = (type: number) => OPTIONAL | TRANSITIVE | (a.partial?.includes(type) ? PARTIAL : 0);
  const { as4 } = context;
  writer.begin(TRANSITIVE, T.ORIGIN, 1);
  writer.put8(a.origin);
  writer.asPath(TRANSITIVE, T.AS_PATH, a.asPath, as4 ? 4 : 2);
  if (context.nextHop && a.nextHop) writer.word(TRANSITIVE, T.NEXT_HOP, a.nextHop.words[0]!);
  if (a.med !== null) writer.word(OPTIONAL, T.MED, a.med);
  if (a.localPref !== null) writer.word(TRANSITIVE, T.LOCAL_PREF, a.localPref);
  if (a.atomicAggregate) writer.begin(TRANSITIVE, T.ATOMIC_AGGREGATE, 0);
  if (a.aggregator) {
    const { asn, address } = a.aggregator;
    writer.begin(shared(T.AGGREGATOR), T.AGGREGATOR, as4 ? 8 : 6);
    if (as4) writer.put32(asn);
    else writer.put16(asn > 0xffff ? AS_TRANS : asn);
    writer.put32(address);
  }
  writer.words(shared(T.COMMUNITIES), T.COMMUNITIES, a.communities);
  if (a.originatorId !== null) writer.word(OPTIONAL, T.ORIGINATOR_ID, a.originatorId);
  writer.words(OPTIONAL, T.CLUSTER_LIST, a.clusterList);
  writer.words(shared(T.EXTENDED_COMMUNITIES), T.EXTENDED_COMMUNITIES, a.extendedCommunities);
  if (!as4) {
    const isWide = a.asPath.some(({ asns }) => asns.some((asn) => asn > 0xffff));
    if (isWide) writer.asPath(OPTIONAL | TRANSITIVE, T.AS4_PATH, a.asPath, 4);
    if (a.aggregator && a.aggregator.asn > 0xffff) {
      const { asn, address } = a.aggregator;
      writer.words(OPTIONAL | TRANSITIVE, T.AS4_AGGREGATOR, [asn, address]);
    }
  }
  writer.words(shared(T.LARGE_COMMUNITIES), T.LARGE_COMMUNITIES, a.largeCommunities);
  if (a.otc !== null) writer.word(shared(T.OTC), T.OTC, a.otc);
  for (const { type, value } of a.unknown) {
    const flags = type === T.IPV6_COMMUNITIES ? shared(type) : OPTIONAL | TRANSITIVE | PARTIAL;
    writer.value(flags, type, value);
  }
  return writer.take();
}
