/** Chance that is the same again with the same seed, for fuzzers and faults. */

/** mulberry32: small, seeded, good enough to pick bytes. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 0;
  }
  /** An integer from 0 to limit - 1. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  }
  chance(share: number): boolean {
    return this.below(1_000_000) < share * 1_000_000;
  }
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}
