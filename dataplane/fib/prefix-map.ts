/**
 * Prefix to value, in flat typed arrays: what control must remember of a million routes without a million
 * objects. Open addressing with linear probing and backward-shift deletion.
 */
const MIN_CAPACITY = 1024;
const FREE = 0xff;

export class PrefixMap {
  #prefixes = new Int32Array(MIN_CAPACITY);
  /** Prefix length, or FREE. */
  #lengths = new Uint8Array(MIN_CAPACITY).fill(FREE);
  #values = new Uint16Array(MIN_CAPACITY);
  #size = 0;
  /** Prefixes of each length: lengths that do not occur are never searched. */
  readonly #perLength = new Uint32Array(33);

  get size(): number {
    return this.#size;
  }

  /** The value, or -1. `prefix` must have no host bits. */
  get(prefix: number, length: number): number {
    const slot = this.#find(prefix, length);
    return this.#lengths[slot] === FREE ? -1 : this.#values[slot]!;
  }

  /** True if the prefix is new. */
  set(prefix: number, length: number, value: number): boolean {
    if (this.#size * 2 >= this.#lengths.length) this.#grow();
    const slot = this.#find(prefix, length);
    const fresh = this.#lengths[slot] === FREE;
    if (fresh) {
      this.#prefixes[slot] = prefix;
      this.#lengths[slot] = length;
      this.#size++;
      this.#perLength[length]! += 1;
    }
    this.#values[slot] = value;
    return fresh;
  }

  delete(prefix: number, length: number): boolean {
    let hole = this.#find(prefix, length);
    if (this.#lengths[hole] === FREE) return false;
    this.#size--;
    this.#perLength[length]! -= 1;
    const mask = this.#lengths.length - 1;
    // Move later entries of the run back, so that no search ends early at the hole.
    for (let next = (hole + 1) & mask; this.#lengths[next] !== FREE; next = (next + 1) & mask) {
      const home = hash(this.#prefixes[next]!, this.#lengths[next]!) & mask;
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      this.#prefixes[hole] = this.#prefixes[next]!;
      this.#lengths[hole] = this.#lengths[next]!;
      this.#values[hole] = this.#values[next]!;
      hole = next;
    }
    this.#lengths[hole] = FREE;
    return true;
  }

  /** Length of the longest prefix shorter than `length` that covers, or -1. */
  coverLength(prefix: number, length: number): number {
    for (let shorter = length - 1; shorter >= 0; shorter--) {
      if (this.#perLength[shorter] === 0) continue;
      const slot = this.#find(prefix & maskOf(shorter), shorter);
      if (this.#lengths[slot] !== FREE) return shorter;
    }
    return -1;
  }

  *entries(): Generator<{ prefix: number; length: number; value: number }> {
    for (let slot = 0; slot < this.#lengths.length; slot++) {
      const length = this.#lengths[slot]!;
      if (length !== FREE) yield { prefix: this.#prefixes[slot]!, length, value: this.#values[slot]! };
    }
  }

  /** The slot of a prefix, or the free slot where it would go. */
  #find(prefix: number, length: number): number {
    const mask = this.#lengths.length - 1;
    let slot = hash(prefix, length) & mask;
    while (
      this.#lengths[slot] !== FREE &&
      (this.#prefixes[slot] !== prefix || this.#lengths[slot] !== length)
    ) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #grow(): void {
    const prefixes = this.#prefixes;
    const lengths = this.#lengths;
    const values = this.#values;
    this.#prefixes = new Int32Array(prefixes.length * 2);
    this.#lengths = new Uint8Array(prefixes.length * 2).fill(FREE);
    this.#values = new Uint16Array(prefixes.length * 2);
    for (let i = 0; i < lengths.length; i++) {
      if (lengths[i] === FREE) continue;
      const slot = this.#find(prefixes[i]!, lengths[i]!);
      this.#prefixes[slot] = prefixes[i]!;
      this.#lengths[slot] = lengths[i]!;
      this.#values[slot] = values[i]!;
    }
  }
}

/** Network mask as int32. */
export const maskOf = (length: number): number => (length === 0 ? 0 : -1 << (32 - length));

function hash(prefix: number, length: number): number {
  let mixed = Math.imul(prefix ^ Math.imul(length, 0x9e3779b1), 0x85ebca6b);
  mixed ^= mixed >>> 15;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 13);
}
