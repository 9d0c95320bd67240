/** Next hops, one object an address, so that reachability is known once for all routes that share it. */
import { type Family, formatWords, IPV4 } from './family.ts';

export interface NextHop {
  readonly family: Family;
  /** One or four int32, host order. */
  readonly words: readonly number[];
  readonly text: string;
  /** Besides, or instead, a link-local address (RFC 2545 section 3). */
  readonly linkLocal: readonly number[] | null;
  /** What resolution found (RFC 4271 9.1.2.1): whether it can be reached, and the interior cost. */
  reachable: boolean;
  cost: number;
  /** Attribute sets that hold it. */
  uses: number;
}

export interface Resolution {
  readonly reachable: boolean;
  readonly cost: number;
}

export type Resolver = (nextHop: NextHop) => Resolution;

const FIRST_SWEEP = 1024;

export class NextHops {
  /** How a next hop is reached, asked once for each and again by `resolve`. */
  resolver: Resolver = () => ({ reachable: true, cost: 0 });
  readonly #ip4 = new Map<number, NextHop>();
  readonly #ip6 = new Map<string, NextHop>();
  #sweepAt = FIRST_SWEEP;

  at(family: Family, words: readonly number[], linkLocal: readonly number[] | null = null): NextHop {
    const known =
      family === IPV4
        ? this.#ip4.get(words[0]!)
        : this.#ip6.get(`${words.join()}/${linkLocal?.join() ?? ''}`);
    if (known) return known;
    const text = formatWords(family, words);
    const nextHop: NextHop = { family, words, text, linkLocal, reachable: true, cost: 0, uses: 0 };
    Object.assign(nextHop, this.resolver(nextHop));
    if (this.#ip4.size + this.#ip6.size >= this.#sweepAt) this.#sweep();
    if (family === IPV4) this.#ip4.set(words[0]!, nextHop);
    else this.#ip6.set(`${words.join()}/${linkLocal?.join() ?? ''}`, nextHop);
    return nextHop;
  }

  *[Symbol.iterator](): Generator<NextHop> {
    yield* this.#ip4.values();
    yield* this.#ip6.values();
  }

  /** Ask the resolver anew about all; answers those whose answer is another. */
  resolve(): Set<NextHop> {
    const changed = new Set<NextHop>();
    for (const nextHop of this) {
      const { reachable, cost } = this.resolver(nextHop);
      if (reachable === nextHop.reachable && cost === nextHop.cost) continue;
      nextHop.reachable = reachable;
      nextHop.cost = cost;
      changed.add(nextHop);
    }
    return changed;
  }

  /** Forget those that no route holds: a peer may name any number of them. */
  #sweep(): void {
    for (const [key, { uses }] of this.#ip4) if (uses === 0) this.#ip4.delete(key);
    for (const [key, { uses }] of this.#ip6) if (uses === 0) this.#ip6.delete(key);
    this.#sweepAt = Math.max(FIRST_SWEEP, 2 * (this.#ip4.size + this.#ip6.size));
  }
}
