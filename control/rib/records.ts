/** Records of int32 under dense numbers, in pages: they grow without being moved, so without a pause. */

const PAGE_BITS = 14;
const PAGE = 1 << PAGE_BITS;
const PAGE_MASK = PAGE - 1;

export class Records {
  /** int32 a record. */
  readonly stride: number;
  readonly #pages: Int32Array[] = [];
  /** Records that were freed, each with the number of the one freed before in its first word; -1: none. */
  #free = -1;
  #end = 0;
  #size = 0;

  constructor(stride: number) {
    this.stride = stride;
  }

  /** Records in use. */
  get size(): number {
    return this.#size;
  }

  /** All numbers in use are below. */
  get end(): number {
    return this.#end;
  }

  /** Memory, used or not. */
  get bytes(): number {
    return this.#pages.length * PAGE * this.stride * 4;
  }

  /** The page of a record; it begins there at `at(id)`. */
  page(id: number): Int32Array {
    return this.#pages[id >> PAGE_BITS]!;
  }

  at(id: number): number {
    return (id & PAGE_MASK) * this.stride;
  }

  get(id: number, field: number): number {
    return this.#pages[id >> PAGE_BITS]![(id & PAGE_MASK) * this.stride + field]!;
  }

  set(id: number, field: number, value: number): void {
    this.#pages[id >> PAGE_BITS]![(id & PAGE_MASK) * this.stride + field] = value;
  }

  /** A record of undefined content. */
  allocate(): number {
    this.#size++;
    const id = this.#free;
    if (id >= 0) {
      this.#free = this.get(id, 0);
      return id;
    }
    if (this.#end === this.#pages.length << PAGE_BITS) this.#pages.push(new Int32Array(PAGE * this.stride));
    return this.#end++;
  }

  release(id: number): void {
    this.#size--;
    this.set(id, 0, this.#free);
    this.#free = id;
  }
}
