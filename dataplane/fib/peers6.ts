/**
 * The set of known peers that tunnel over IPv6: addresses that may send us such packets, each with a number. The number
 * is what rows, adjacencies and source checks have where a peer over IPv4 has its address, so that a peer is one int32
 * everywhere. Numbers are addresses of 0/8, which no packet comes from and no peer over IPv4 has.
 *
 * An open-addressing hash set in shared memory, as in peers.ts: entries never move. A slot's address is complete before its
 * state says that it is there, and a slot that was given back is taken anew only after a grace period.
 */
import type { GracePeriods } from '../memory/grace.ts';
import { MAX_PEERS } from '../memory/layout.ts';
import { get32 } from '../wire/bytes.ts';
import { isAddress } from '../wire/ipv6.ts';

const SLOTS = MAX_PEERS * 4;
/** int32 cells of a slot: its state, and the four words of the address. */
const CELLS = 8;
const WORDS = 1;
const FREE = 0;
const TAKEN = 1;
const TOMBSTONE = 2;

export function createPeers6(): SharedArrayBuffer {
  return new SharedArrayBuffer(SLOTS * CELLS * 4);
}

/** The number of the peer whose address is at `at`; 0: it is none. */
export function peer6(table: Int32Array, bytes: DataView, at: number): number {
  let slot = home(get32(bytes, at), get32(bytes, at + 4), get32(bytes, at + 8), get32(bytes, at + 12));
  for (let probes = 0; probes < SLOTS; probes++) {
    const state = table[slot * CELLS];
    if (state === FREE) return 0;
    if (state === TAKEN && isAddress(bytes, at, table, slot * CELLS + WORDS)) return slot + 1;
    slot = (slot + 1) & (SLOTS - 1);
  }
  return 0;
}

/** Where in the table the address of a peer stands, four cells. */
export const peer6Cell = (number: number): number => (number - 1) * CELLS + WORDS;

function home(a: number, b: number, c: number, d: number): number {
  const high = Math.imul(a ^ Math.imul(b, 0x85ebca6b), 0x9e3779b1);
  const low = Math.imul(d ^ Math.imul(c, 0xc2b2ae35), 0x9e3779b1);
  return (Math.imul(high ^ (low >>> 15) ^ low, 0x9e3779b1) >>> 8) & (SLOTS - 1);
}

export class Peer6Writer {
  readonly #table: Int32Array;
  readonly #grace: GracePeriods;
  /** Number by address, its words joined. */
  readonly #members = new Map<string, number>();
  /** Slots that were given back and may still be in a worker's hands. */
  readonly #waiting = new Set<number>();

  constructor(shared: SharedArrayBuffer, grace: GracePeriods) {
    this.#table = new Int32Array(shared);
    this.#grace = grace;
  }

  /** The peer's number; it is in the table from now on. 0: the table is full. */
  add(words: readonly number[]): number {
    const key = words.join();
    const known = this.#members.get(key);
    if (known !== undefined) return known;
    if (this.#members.size + this.#waiting.size >= MAX_PEERS) return 0;
    const table = this.#table;
    let slot = home(words[0]!, words[1]!, words[2]!, words[3]!);
    while (table[slot * CELLS] === TAKEN || this.#waiting.has(slot)) slot = (slot + 1) & (SLOTS - 1);
    table.set(words, slot * CELLS + WORDS);
    Atomics.store(table, slot * CELLS, TAKEN);
    this.#members.set(key, slot + 1);
    return slot + 1;
  }

  /** No adjacency may name it any more. */
  delete(words: readonly number[]): void {
    this.#delete(words.join());
  }

  #delete(key: string): void {
    const number = this.#members.get(key);
    if (number === undefined) return;
    this.#members.delete(key);
    const slot = number - 1;
    Atomics.store(this.#table, slot * CELLS, TOMBSTONE);
    this.#waiting.add(slot);
    this.#grace.retire(() => {
      this.#waiting.delete(slot);
      this.#sweep(slot);
    });
  }

  /** Whoever comes as far as a free slot ends there: tombstones directly before it serve nobody. */
  #sweep(from: number): void {
    const table = this.#table;
    if (table[((from + 1) & (SLOTS - 1)) * CELLS] !== FREE) return;
    for (let slot = from; table[slot * CELLS] === TOMBSTONE && !this.#waiting.has(slot); ) {
      Atomics.store(table, slot * CELLS, FREE);
      slot = (slot - 1) & (SLOTS - 1);
    }
  }

  /** Forget all but those; as `delete`. By their words joined. */
  prune(kept: { has(key: string): boolean }): void {
    for (const key of [...this.#members.keys()]) if (!kept.has(key)) this.#delete(key);
  }

  has(words: readonly number[]): boolean {
    return this.#members.has(words.join());
  }

  get size(): number {
    return this.#members.size;
  }

  /** Their addresses, four words each. */
  *values(): Generator<[number, number, number, number]> {
    for (const key of this.#members.keys())
      yield key.split(',').map(Number) as [number, number, number, number];
  }
}
