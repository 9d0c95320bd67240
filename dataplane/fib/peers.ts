/**
 * The set of known peers: IPv4 addresses that may send us tunnel packets. An open-addressing hash set in
 * shared memory: entries never move, so a reader needs no lock and sees each change at once.
 *
 * Nobody in 0/8 is a peer: 0 marks a free slot, and the rest of it are the numbers of peers over IPv6 (peers6.ts). Deletion leaves a tombstone (-1, 255.255.255.255, no peer
 * either), except directly before a free slot, where no search needs one.
 */
import { MAX_PEERS } from '../memory/layout.ts';

/**
 * Four times the limit. At twice, a full table whose peers come and go fills with tombstones until a search for
 * a stranger crosses all of it; at four times, 400,000 replacements leave 2.5 probes for a stranger.
 */
const SLOTS = MAX_PEERS * 4;
const FREE = 0;
const TOMBSTONE = -1;

export function createPeers(): SharedArrayBuffer {
  return new SharedArrayBuffer(SLOTS * 4);
}

export function hasPeer(table: Int32Array, address: number): boolean {
  let slot = home(address);
  for (let probes = 0; probes < SLOTS; probes++) {
    const found = table[slot];
    if (found === address) return address !== FREE && address !== TOMBSTONE;
    if (found === FREE) return false;
    slot = (slot + 1) & (SLOTS - 1);
  }
  return false;
}

const home = (address: number): number => (Math.imul(address, 0x9e3779b1) >>> 8) & (SLOTS - 1);

export class PeerWriter {
  readonly #table: Int32Array;
  readonly #members = new Set<number>();

  constructor(shared: SharedArrayBuffer) {
    this.#table = new Int32Array(shared);
  }

  /** False if the table is full; true if the address is in it now. */
  add(address: number): boolean {
    if (address >>> 24 === 0 || address === TOMBSTONE) return false;
    if (this.#members.has(address)) return true;
    if (this.#members.size >= MAX_PEERS) return false;
    let slot = home(address);
    while (this.#table[slot] !== FREE && this.#table[slot] !== TOMBSTONE) slot = (slot + 1) & (SLOTS - 1);
    Atomics.store(this.#table, slot, address);
    this.#members.add(address);
    return true;
  }

  delete(address: number): void {
    if (!this.#members.delete(address)) return;
    let slot = home(address);
    while (this.#table[slot] !== address) slot = (slot + 1) & (SLOTS - 1);
    Atomics.store(this.#table, slot, TOMBSTONE);
    if (this.#table[(slot + 1) & (SLOTS - 1)] !== FREE) return;
    // Whoever comes this far ends at the free slot: this tombstone, and those directly before it, serve nobody.
    for (; this.#table[slot] === TOMBSTONE; slot = (slot - 1) & (SLOTS - 1)) {
      Atomics.store(this.#table, slot, FREE);
    }
  }

  has(address: number): boolean {
    return this.#members.has(address);
  }

  get size(): number {
    return this.#members.size;
  }

  values(): IterableIterator<number> {
    return this.#members.values();
  }
}
