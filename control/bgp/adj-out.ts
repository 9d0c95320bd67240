/**
 * What one peer is told: the RIB's best routes through the export policy, as UPDATEs.
 *
 * Only prefixes are queued, each once; what to say about one is looked up when there is room to say it. So a
 * slow peer costs memory for its prefixes and not for their history, and hears the latest.
 */
import type { Path } from '../rib/decision.ts';
import type { BestRoute, Rib, RouteChange } from '../rib/rib.ts';
import type { Attributes } from './attributes.ts';
import type { FlatPrefixes } from './nlri.ts';
import { encodeAnnouncements, encodeWithdrawals } from './update.ts';

/** Prefixes worked off in one turn of the event loop. */
const SLICE = 2048;

const keyOf = (prefix: number, length: number) => (prefix >>> 0) * 64 + length;

export interface AdjOutOptions {
  as4: boolean;
  /** Export policy: null is not to be announced. */
  exported(path: Path): Attributes | null;
  /** False: no room for more, call pump() when there is. */
  send(message: Uint8Array): boolean;
}

export class AdjOut {
  readonly #rib: Rib;
  readonly #options: AdjOutOptions;
  readonly #cache = new WeakMap<Path, { attributes: Attributes | null }>();
  /** What the peer holds from us. */
  readonly #advertised = new Set<number>();
  readonly #pending = new Map<number, { prefix: number; length: number }>();
  /** All of the RIB, as far as it is still to be told. */
  #walk: Iterator<BestRoute> | null = null;
  #blocked = false;
  #scheduled = false;
  #closed = false;

  constructor(rib: Rib, options: AdjOutOptions) {
    this.#rib = rib;
    this.#options = options;
    rib.on('change', this.#onChange);
    this.refresh();
  }

  /** Prefixes that the peer holds from us. */
  get size(): number {
    return this.#advertised.size;
  }

  /** Tell the peer everything (again). */
  refresh(): void {
    this.#walk = this.#rib.best();
    this.#schedule();
  }

  /** There is room to send. */
  pump(): void {
    this.#blocked = false;
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    this.#rib.off('change', this.#onChange);
    this.#walk = null;
    this.#pending.clear();
  }

  readonly #onChange = (changes: readonly RouteChange[]): void => {
    for (const { prefix, length, best } of changes) {
      const key = keyOf(prefix, length);
      if (this.#advertised.has(key) || (best && this.#exported(best.path))) {
        this.#pending.set(key, { prefix, length });
      }
    }
    if (this.#pending.size > 0) this.#schedule();
  };

  #exported(path: Path): Attributes | null {
    let known = this.#cache.get(path);
    if (!known) {
      known = { attributes: this.#options.exported(path) };
      this.#cache.set(path, known);
    }
    return known.attributes;
  }

  #schedule(): void {
    if (this.#scheduled || this.#blocked || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#closed) return;
      this.#slice();
      if (this.#walk || this.#pending.size > 0) this.#schedule();
    });
  }

  #slice(): void {
    const withdrawn: FlatPrefixes = [];
    const announced = new Map<Attributes, FlatPrefixes>();
    let left = SLICE;
    const tell = (prefix: number, length: number) => {
      left--;
      const best = this.#rib.get(prefix, length);
      const attributes = best && this.#exported(best.path);
      const key = keyOf(prefix, length);
      if (attributes) {
        const list = announced.get(attributes);
        if (list) list.push(prefix, length);
        else announced.set(attributes, [prefix, length]);
        this.#advertised.add(key);
      } else if (this.#advertised.delete(key)) withdrawn.push(prefix, length);
    };
    for (const [key, { prefix, length }] of this.#pending) {
      if (left === 0) break;
      this.#pending.delete(key);
      tell(prefix, length);
    }
    while (this.#walk && left > 0) {
      const next = this.#walk.next();
      if (next.done) this.#walk = null;
      else tell(next.value.prefix, next.value.length);
    }
    for (const message of encodeWithdrawals(withdrawn)) this.#send(message);
    for (const [attributes, prefixes] of announced) {
      for (const message of encodeAnnouncements({ attributes, prefixes }, this.#options)) this.#send(message);
    }
  }

  #send(message: Uint8Array): void {
    if (!this.#closed && !this.#options.send(message)) this.#blocked = true;
  }
}
