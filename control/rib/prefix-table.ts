/**
 * Prefixes of one family under dense numbers: found by a hash of open addressing, in shards that grow one at a time.
 * What others note about a prefix stands in its record, behind the words and the length.
 */
import { HASH_SEED } from '../bgp/bytes.ts';
import type { Family } from '../bgp/family.ts';
import { LENGTH, type PrefixList, WORDS } from '../bgp/nlri.ts';
import { Records } from './records.ts';

const SHARD_BITS = 10;
const SHARDS = 1 << SHARD_BITS;
const FIRST_SLOTS = 8;

export class PrefixTable {
  readonly family: Family;
  readonly records: Records;
  /** Field of the length; the words stand before it, notes after it. */
  readonly lengthField: number;
  readonly #words: number;
  readonly #seed: number;
  /**
   * Two cells a slot: number of the prefix + 1, 0 is free, and its hash, so that neither a search nor growing has to look at
   * records that lie anywhere in memory. The number of slots is a power of two.
   */
  readonly #shards: Int32Array[] = Array.from({ length: SHARDS }, () => new Int32Array(2 * FIRST_SLOTS));
  readonly #used = new Int32Array(SHARDS);
  #slots = SHARDS * FIRST_SLOTS;
  /** Keeps the reads of `fetch` from being left out. */
  fetched = 0;

  /** `notes`: int32 a prefix for others. `seed`: where hashes begin, int32. */
  constructor(family: Family, notes: number, seed = HASH_SEED) {
    this.family = family;
    this.#seed = seed;
    this.#words = family.words;
    this.lengthField = family.words;
    this.records = new Records(family.words + 1 + notes);
  }

  /** Memory of the records and the hash. */
  get bytes(): number {
    return this.records.bytes + this.#slots * 8;
  }

  /**
   * Read what finding the prefixes of a list will look at: in a table larger than the caches each search waits for memory, and here
   * they all wait at once.
   */
  fetch({ data, end, stride }: PrefixList): void {
    let sum = 0;
    for (let at = 0; at < end; at += stride) {
      const hash = this.#hash(data, at + WORDS, data[at + LENGTH]!);
      const slots = this.#shards[hash >>> (32 - SHARD_BITS)]!;
      sum ^= slots[(hash << 1) & (slots.length - 1)]!;
    }
    this.fetched = sum;
  }

  /** The number of the prefix whose words are data[at...], or -1. */
  find(data: ArrayLike<number>, at: number, length: number): number {
    const hash = this.#hash(data, at, length);
    const slots = this.#shards[hash >>> (32 - SHARD_BITS)]!;
    const mask = slots.length - 1;
    for (let slot = (hash << 1) & mask; ; slot = (slot + 2) & mask) {
      const id = slots[slot]! - 1;
      if (id < 0 || (slots[slot + 1] === hash && this.#is(id, data, at, length))) return id;
    }
  }

  /** The same, or a new one; its notes are undefined then, and `size` has grown. */
  intern(data: ArrayLike<number>, at: number, length: number): number {
    const hash = this.#hash(data, at, length);
    const shard = hash >>> (32 - SHARD_BITS);
    const slots = this.#shards[shard]!;
    const mask = slots.length - 1;
    let slot = (hash << 1) & mask;
    for (; ; slot = (slot + 2) & mask) {
      const id = slots[slot]! - 1;
      if (id < 0) break;
      if (slots[slot + 1] === hash && this.#is(id, data, at, length)) return id;
    }
    const id = this.records.allocate();
    const page = this.records.page(id);
    const record = this.records.at(id);
    for (let i = 0; i < this.#words; i++) page[record + i] = data[at + i]!;
    page[record + this.lengthField] = length;
    slots[slot] = id + 1;
    slots[slot + 1] = hash;
    if (++this.#used[shard]! * 8 > slots.length * 3) this.#grow(shard);
    return id;
  }

  /** Forget a prefix; its number is used again. */
  remove(id: number): void {
    const hash = this.#hashOf(id);
    const shard = hash >>> (32 - SHARD_BITS);
    const slots = this.#shards[shard]!;
    const mask = slots.length - 1;
    let hole = (hash << 1) & mask;
    while (slots[hole] !== id + 1) hole = (hole + 2) & mask;
    // Move later entries of the run back, so that no search ends early at the hole.
    for (let next = (hole + 2) & mask; slots[next] !== 0; next = (next + 2) & mask) {
      const home = (slots[next + 1]! << 1) & mask;
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      slots[hole] = slots[next]!;
      slots[hole + 1] = slots[next + 1]!;
      hole = next;
    }
    slots[hole] = 0;
    this.#used[shard]! -= 1;
    this.records.release(id);
  }

  #is(id: number, data: ArrayLike<number>, at: number, length: number): boolean {
    const page = this.records.page(id);
    const record = this.records.at(id);
    if (page[record + this.lengthField] !== length) return false;
    for (let i = 0; i < this.#words; i++) if (page[record + i] !== data[at + i]) return false;
    return true;
  }

  #hash(data: ArrayLike<number>, at: number, length: number): number {
    let hash = this.#seed ^ Math.imul(length + 1, 0x9e3779b1);
    for (let i = 0; i < this.#words; i++) {
      hash = Math.imul(hash ^ data[at + i]!, 0x85ebca6b);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash, 0xc2b2ae35);
    return hash ^ (hash >>> 13);
  }

  #hashOf(id: number): number {
    return this.#hash(this.records.page(id), this.records.at(id), this.records.get(id, this.lengthField));
  }

  #grow(shard: number): void {
    const before = this.#shards[shard]!;
    const slots = new Int32Array(before.length * 2);
    const mask = slots.length - 1;
    for (let at = 0; at < before.length; at += 2) {
      if (before[at] === 0) continue;
      let slot = (before[at + 1]! << 1) & mask;
      while (slots[slot] !== 0) slot = (slot + 2) & mask;
      slots[slot] = before[at]!;
      slots[slot + 1] = before[at + 1]!;
    }
    this.#shards[shard] = slots;
    this.#slots += before.length / 2;
  }
}
