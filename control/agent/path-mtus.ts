/**
 * What tunnels' paths take less than the underlay's device, as routers on the way and the kernel's routes say. An entry lives for ten
 * minutes (RFC 1191 6.3), so that a path that grew is found out; if it has not, the next large packet brings the news again.
 */

/** How long a path's MTU is believed; milliseconds. */
export const LIFETIME_MS = 600_000;
/** Peers that may have an entry. */
const MOST = 4096;

export interface PathMtu {
  /** The tunnel's far end, of either family, as text. */
  readonly peer: string;
  /** The largest outer packet that goes through, bytes. */
  readonly mtu: number;
  /** Who said so: a router's address, or "route". */
  readonly from: string;
  /** When it was last said, and until when it holds; milliseconds since 1970. */
  readonly learned: number;
  readonly until: number;
}

export class PathMtus {
  readonly #paths = new Map<string, PathMtu>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** Believe it, unless less is known already. Whether the peer's tunnel must change. */
  learn(peer: string, mtu: number, from: string): boolean {
    const known = this.#paths.get(peer);
    if (!known && this.#paths.size >= MOST) return false;
    if (known && known.mtu < mtu) return false;
    const learned = this.#now();
    this.#paths.set(peer, { peer, mtu, from, learned, until: learned + LIFETIME_MS });
    return known?.mtu !== mtu;
  }

  /** The largest outer packet to a peer, where less than what the device takes is known. */
  of(peer: string): number | undefined {
    return this.#paths.get(peer)?.mtu;
  }

  /** Forget what is too old. Whether there was something. */
  expire(): boolean {
    const now = this.#now();
    const old = [...this.#paths.values()].filter(({ until }) => until <= now);
    for (const { peer } of old) this.#paths.delete(peer);
    return old.length > 0;
  }

  list(): PathMtu[] {
    return [...this.#paths.values()].sort((a, b) => a.peer.localeCompare(b.peer, 'en', { numeric: true }));
  }
}
