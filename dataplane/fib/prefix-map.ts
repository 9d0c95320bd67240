/**
 * Prefix to value, in flat typed arrays: what control must remember of a million routes without a million objects. Open
 * addressing with linear probing and backward-shift deletion, in shards that grow one at a time, so without a pause.
 */
const SHARD_BITS = 8;
const SHARDS = 1 << SHARD_BITS;
const FIRST_SLOTS = 16;
/** int32 cells a slot: the prefix, and (length + 1) << 16 | value, 0 where the slot is free. */
const SLOT = 2;
const VALUE_MASK = 0xffff;

export class PrefixMap {
  readonly #shards: Int32Array[] = Array.from({ length: SHARDS }, () => new Int32Array(SLOT * FIRST_SLOTS));
  readonly #used = new Int32Array(SHARDS);
  #size = 0;
  /** Prefixes of each length: lengths that do not occur are never searched. */
  readonly #perLength = new Uint32Array(33);

  get size(): number {
    return this.#size;
  }

  /** Reads what `set` will look at first, and answers with it, which means nothing: see Fib4Writer.fetch. */
  fetch(prefix: number, length: number): number {
    const hash = hashOf(prefix, length);
    const cells = this.#shards[hash >>> (32 - SHARD_BITS)]!;
    return cells[(hash << 1) & (cells.length - 1)]!;
  }

  /** The value, or -1. `prefix` must have no host bits. */
  get(prefix: number, length: number): number {
    const hash = hashOf(prefix, length);
    const cells = this.#shards[hash >>> (32 - SHARD_BITS)]!;
    const entry = cells[find(cells, hash, prefix, length) + 1]!;
    return entry === 0 ? -1 : entry & VALUE_MASK;
  }

  /** True if the prefix is new. `value`: 16 bit. */
  set(prefix: number, length: number, value: number): boolean {
    const hash = hashOf(prefix, length);
    const shard = hash >>> (32 - SHARD_BITS);
    const cells = this.#shards[shard]!;
    const slot = find(cells, hash, prefix, length);
    const fresh = cells[slot + 1] === 0;
    cells[slot] = prefix;
    cells[slot + 1] = ((length + 1) << 16) | value;
    if (fresh) {
      this.#size++;
      this.#perLength[length]! += 1;
      if (++this.#used[shard]! * 2 * SLOT > cells.length) this.#grow(shard);
    }
    return fresh;
  }

  delete(prefix: number, length: number): boolean {
    const hash = hashOf(prefix, length);
    const shard = hash >>> (32 - SHARD_BITS);
    const cells = this.#shards[shard]!;
    let hole = find(cells, hash, prefix, length);
    if (cells[hole + 1] === 0) return false;
    this.#size--;
    this.#used[shard]! -= 1;
    this.#perLength[length]! -= 1;
    const mask = cells.length - 1;
    // Move later entries of the run back, so that no search ends early at the hole.
    for (let next = (hole + SLOT) & mask; cells[next + 1] !== 0; next = (next + SLOT) & mask) {
      const home = (hashOf(cells[next]!, lengthOf(cells[next + 1]!)) << 1) & mask;
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      cells[hole] = cells[next]!;
      cells[hole + 1] = cells[next + 1]!;
      hole = next;
    }
    cells[hole + 1] = 0;
    return true;
  }

  /** Length of the longest prefix shorter than `length` that covers, or -1. */
  coverLength(prefix: number, length: number): number {
    for (let shorter = length - 1; shorter >= 0; shorter--) {
      if (this.#perLength[shorter] === 0) continue;
      if (this.get(prefix & maskOf(shorter), shorter) >= 0) return shorter;
    }
    return -1;
  }

  *entries(): Generator<{ prefix: number; length: number; value: number }> {
    for (const cells of this.#shards) {
      for (let at = 0; at < cells.length; at += SLOT) {
        const entry = cells[at + 1]!;
        if (entry !== 0) yield { prefix: cells[at]!, length: lengthOf(entry), value: entry & VALUE_MASK };
      }
    }
  }

  #grow(shard: number): void {
    const before = this.#shards[shard]!;
    const cells = new Int32Array(before.length * 2);
    for (let at = 0; at < before.length; at += SLOT) {
      const entry = before[at + 1]!;
      if (entry === 0) continue;
      const prefix = before[at]!;
      const length = lengthOf(entry);
      const slot = find(cells, hashOf(prefix, length), prefix, length);
      cells[slot] = prefix;
      cells[slot + 1] = entry;
    }
    this.#shards[shard] = cells;
  }
}

/** Network mask as int32. */
export const maskOf = (length: number): number => (length === 0 ? 0 : -1 << (32 - length));

const lengthOf = (entry: number): number => (entry >>> 16) - 1;

/** Where the slot of a prefix begins, or the free slot where it would go. */
function find(cells: Int32Array, hash: number, prefix: number, length: number): number {
  const mask = cells.length - 1;
  for (let at = (hash << 1) & mask; ; at = (at + SLOT) & mask) {
    const entry = cells[at + 1]!;
    if (entry === 0 || (cells[at] === prefix && lengthOf(entry) === length)) return at;
  }
}

function hashOf(prefix: number, length: number): number {
  let mixed = Math.imul(prefix ^ Math.imul(length, 0x9e3779b1), 0x85ebca6b);
  mixed ^= mixed >>> 15;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 13);
}
