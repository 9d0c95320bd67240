/** A set of small numbers, a bit each, that is emptied in turn. */
export class Bitmap {
  #bits = new Int32Array(64);
  #size = 0;
  /** No word before is other than 0. */
  #first = 0;

  get size(): number {
    return this.#size;
  }

  add(value: number): void {
    const word = value >> 5;
    if (word >= this.#bits.length) {
      const bits = new Int32Array(Math.max(this.#bits.length * 2, word + 1));
      bits.set(this.#bits);
      this.#bits = bits;
    }
    const before = this.#bits[word]!;
    this.#bits[word] = before | (1 << (value & 31));
    if (this.#bits[word] === before) return;
    this.#size++;
    if (word < this.#first) this.#first = word;
  }

  delete(value: number): void {
    const word = value >> 5;
    const before = this.#bits[word] ?? 0;
    if ((before & (1 << (value & 31))) === 0) return;
    this.#bits[word] = before & ~(1 << (value & 31));
    this.#size--;
  }

  /** Remove the smallest number and answer it; -1 if there is none. */
  take(): number {
    if (this.#size === 0) return -1;
    while (this.#bits[this.#first] === 0) this.#first++;
    const bits = this.#bits[this.#first]!;
    const value = (this.#first << 5) + (31 - Math.clz32(bits & -bits));
    this.delete(value);
    return value;
  }

  clone(): Bitmap {
    const copy = new Bitmap();
    copy.#bits = this.#bits.slice();
    copy.#size = this.#size;
    copy.#first = this.#first;
    return copy;
  }
}
