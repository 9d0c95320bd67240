/**
 * Attribute sets, one object for all routes that carry the same: their encoding, and what the decision process asks
 * for, as small integers. The full attributes are decoded when somebody wants to read them.
 *
 * A set lives as long as somebody holds it: a path in the RIB, what a peer was told.
 */
import {
  type AttributeContext,
  type Attributes,
  decodeAttributes,
  encodeAttributes,
  neighbourAs,
  pathLength,
} from './attributes.ts';
import { HASH_SEED } from './bytes.ts';
import { type NextHop, NextHops } from './next-hop.ts';

/** LOCAL_PREF of a route that came without (external peers). */
export const DEFAULT_LOCAL_PREF = 100;

/** Well-known communities (RFC 1997, 8326, 9494). */
export const GRACEFUL_SHUTDOWN = 0xffff0000;
export const LLGR_STALE = 0xffff0006;
export const NO_LLGR = 0xffff0007;
export const NO_EXPORT = 0xffffff01;
export const NO_ADVERTISE = 0xffffff02;
export const NO_EXPORT_SUBCONFED = 0xffffff03;

/** Unsigned 32 bit as an int32 of the same order: small integers compare fast and take no memory of their own. */
const ordered = (value: number): number => (value ^ 0x80000000) | 0;

export interface AttributeSet {
  /** Dense; used anew when the set is gone. */
  readonly id: number;
  readonly nextHop: NextHop | null;
  /** LOCAL_PREF and MED in the order of int32. */
  readonly localPref: number;
  readonly med: number;
  readonly pathLength: number;
  readonly origin: number;
  /** int32; 0 if the path does not begin with a sequence. */
  readonly neighbourAs: number;
  /** ORIGINATOR_ID in the order of int32, or null. */
  readonly originator: number | null;
  readonly clusterLength: number;
  /** LLGR_STALE is among the communities. */
  readonly llgrStale: boolean;
  readonly attributes: Attributes;
  /** Canonical encoding, four-octet ASes, no next hop. */
  readonly bytes: Uint8Array;
  /** Of the encoding, bytes. */
  readonly size: number;
}

class SharedSet implements AttributeSet {
  readonly id: number;
  readonly hash: number;
  readonly nextHop: NextHop | null;
  readonly localPref: number;
  readonly med: number;
  readonly pathLength: number;
  readonly origin: number;
  readonly neighbourAs: number;
  readonly originator: number | null;
  readonly clusterLength: number;
  readonly llgrStale: boolean;
  readonly chunk: Uint8Array;
  readonly at: number;
  readonly size: number;
  uses = 0;
  /** What it was made of, until another is made: who imports a new set reads it at once. */
  made: Attributes | null;
  /** Another set with the same hash. */
  next: SharedSet | null = null;

  constructor(id: number, hash: number, from: Attributes, chunk: Uint8Array, at: number, size: number) {
    this.id = id;
    this.hash = hash;
    this.made = from;
    this.nextHop = from.nextHop;
    this.localPref = ordered(from.localPref ?? DEFAULT_LOCAL_PREF);
    this.med = ordered(from.med ?? 0);
    this.pathLength = pathLength(from.asPath);
    this.origin = from.origin;
    this.neighbourAs = (neighbourAs(from.asPath) ?? 0) | 0;
    this.originator = from.originatorId === null ? null : ordered(from.originatorId);
    this.clusterLength = from.clusterList.length;
    this.llgrStale = from.communities.includes(LLGR_STALE);
    this.chunk = chunk;
    this.at = at;
    this.size = size;
  }

  get bytes(): Uint8Array {
    return this.chunk.subarray(this.at, this.at + this.size);
  }

  get attributes(): Attributes {
    if (this.made) return this.made;
    const { attributes } = decodeAttributes(this.chunk, this.at, this.at + this.size, CANONICAL);
    return { ...attributes, nextHop: this.nextHop };
  }
}

const CANONICAL: AttributeContext = {
  as4: true,
  ibgp: true,
  firstAs: null,
  families: [true, true],
  addPath: [false, false],
  nextHop6: true,
  nextHops: new NextHops(),
};
const OURS = { as4: true, nextHop: false };

/** Encodings lie together in pieces of this size: small, because a piece lives as long as the last set in it. */
const CHUNK = 4096;
/** Tables that grow one at a time make no long pauses. */
const SHARDS = 256;

export class AttributeTable {
  readonly nextHops = new NextHops();
  readonly #shards = Array.from({ length: SHARDS }, () => new Map<number, SharedSet>());
  readonly #sets: (SharedSet | null)[] = [];
  readonly #free: number[] = [];
  #newest: SharedSet | null = null;
  #chunk = new Uint8Array(CHUNK);
  #used = 0;

  /** Sets that are held. */
  get size(): number {
    return this.#sets.length - this.#free.length;
  }

  get(id: number): AttributeSet {
    return this.#sets[id]!;
  }

  /** The set of these attributes, held once more by the caller. */
  acquire(attributes: Attributes): AttributeSet {
    const bytes = encodeAttributes(attributes, OURS);
    const hash = hashOf(bytes, 0, bytes.length);
    const shard = this.#shards[hash & (SHARDS - 1)]!;
    const first = shard.get(hash) ?? null;
    for (let set = first; set; set = set.next) {
      if (set.nextHop === attributes.nextHop && same(set, bytes)) {
        set.uses++;
        return set;
      }
    }
    const at = this.#store(bytes);
    const id = this.#free.pop() ?? this.#sets.length;
    const set = new SharedSet(id, hash, attributes, this.#chunk, at, bytes.length);
    if (this.#newest) this.#newest.made = null;
    this.#newest = set;
    set.uses = 1;
    set.next = first;
    shard.set(hash, set);
    this.#sets[id] = set;
    if (set.nextHop) set.nextHop.uses++;
    return set;
  }

  /** Hold a set that somebody holds already; so often more. */
  hold(id: number, times = 1): void {
    this.#sets[id]!.uses += times;
  }

  isHeld(set: AttributeSet): boolean {
    return this.#sets[set.id] === set;
  }

  release(id: number): void {
    const set = this.#sets[id]!;
    if (--set.uses > 0) return;
    const shard = this.#shards[set.hash & (SHARDS - 1)]!;
    const first = shard.get(set.hash)!;
    if (first === set) {
      if (set.next) shard.set(set.hash, set.next);
      else shard.delete(set.hash);
    } else {
      let before = first;
      while (before.next !== set) before = before.next!;
      before.next = set.next;
    }
    this.#sets[id] = null;
    this.#free.push(id);
    if (set.nextHop) set.nextHop.uses--;
  }

  /** Put an encoding into the current chunk, or a new one; answers where. */
  #store(bytes: Uint8Array): number {
    if (this.#used + bytes.length > this.#chunk.length) {
      this.#chunk = new Uint8Array(Math.max(CHUNK, bytes.length));
      this.#used = 0;
    }
    const at = this.#used;
    this.#chunk.set(bytes, at);
    this.#used += bytes.length;
    return at;
  }
}

function same({ chunk, at, size }: SharedSet, bytes: Uint8Array): boolean {
  if (size !== bytes.length) return false;
  for (let i = 0; i < size; i++) if (chunk[at + i] !== bytes[i]) return false;
  return true;
}

/** FNV-1a from a start of this process's own, with a final mix; int32. */
export function hashOf(bytes: Uint8Array, from: number, to: number): number {
  let hash = HASH_SEED;
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  hash ^= hash >>> 15;
  return Math.imul(hash, 0x2c1b3c6d) | 0;
}
