/**
 * Routes of a peer whose session has ended and may come back: we are the helper of its restart (RFC 4724 section 4.2, RFC 8538),
 * and of one that takes long (RFC 9494).
 */
import type { PathSource } from '../rib/decision.ts';
import type { Rib } from '../rib/rib.ts';
import type { Agreement } from './connection.ts';
import { FAMILIES, type Family } from './family.ts';

/** How long a peer that has come back may take to tell all its routes until the stale ones go. */
const STALE_PATH_MS = 360_000;
/** A timer holds 24.8 days; the most that can be asked for long-lived routes is 194. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class KeptRoutes {
  readonly #ribs: readonly [Rib, Rib];
  readonly #source: PathSource;
  readonly #log: (message: string, fields: Record<string, unknown>) => void;
  /** The end of the peer's restart time; then, that of its telling all again. */
  #restart: NodeJS.Timeout | undefined;
  #until: Date | null = null;
  /** By index of the family. */
  readonly #longLived: (NodeJS.Timeout | undefined)[] = [undefined, undefined];
  /** What the last session's peer offered, until its restart time is over. */
  #before: Agreement | null = null;

  constructor(
    ribs: readonly [Rib, Rib],
    source: PathSource,
    log: (message: string, fields: Record<string, unknown>) => void,
  ) {
    this.#ribs = ribs;
    this.#source = source;
    this.#log = log;
  }

  /** Until when they wait for the peer, or null. */
  get until(): Date | null {
    return this.#until;
  }

  /** The peer is waited for. */
  get isWaiting(): boolean {
    return this.#before !== null;
  }

  /**
   * The session has ended and the peer may come back: its routes of families that it said are stale and stay, for its restart time.
   * `mayKeep`: such restarts are not switched off for the peer. `longLivedTime` is asked when that time is over: whether we keep
   * routes for longer, 0 if not.
   */
  keep(agreement: Agreement, mayKeep: boolean, longLivedTime: () => number): void {
    const { restart, longLived } = agreement.theirs;
    const isKept = restart !== null && mayKeep;
    let anyKept = false;
    for (const { index } of FAMILIES) {
      const rib = this.#ribs[index];
      rib.markStale(this.#source);
      if (isKept && restart.families[index] && (restart.time > 0 || longLived[index] > 0)) anyKept = true;
      else rib.sweepStale(this.#source);
    }
    if (!anyKept) return;
    this.#endLongLived();
    this.#before = agreement;
    const ms = restart!.time * 1000;
    this.#until = new Date(Date.now() + ms);
    clearTimeout(this.#restart);
    this.#restart = setTimeout(() => this.#expired(longLivedTime()), ms);
    this.#log('routes kept while the peer restarts', { seconds: restart!.time });
  }

  /** The peer did not come back in time. */
  #expired(ours: number): void {
    const seconds = this.#before?.theirs.longLived ?? [0, 0];
    this.#until = null;
    for (const { index, name } of FAMILIES) {
      const rib = this.#ribs[index];
      const time = ours > 0 ? seconds[index] : 0;
      if (time === 0 || rib.staleCount(this.#source) === 0) {
        rib.sweepStale(this.#source);
        continue;
      }
      rib.demoteStale(this.#source);
      this.#log('stale routes live on', { family: name, seconds: time });
      this.#longLived[index] = setTimeout(
        () => {
          this.#longLived[index] = undefined;
          rib.sweepStale(this.#source);
        },
        Math.min(time * 1000, MAX_TIMER_MS),
      );
    }
    this.#before = null;
  }

  /**
   * A session is up again: stale routes of families that were not kept by the peer go, others wait for End-of-RIB. What
   * is long-lived by now has a flag of its own, and its time goes on (RFC 9494 section 4.2).
   */
  resume({ theirs, families }: Agreement): void {
    const { restart, longLivedForwarding } = theirs;
    this.#endRestart();
    let isWaiting = false;
    for (const { index } of FAMILIES) {
      const rib = this.#ribs[index];
      const isLongLived = this.#longLived[index] !== undefined;
      const isForwarded = isLongLived ? longLivedForwarding[index] : restart?.forwarding[index];
      if (rib.staleCount(this.#source) > 0 && families[index] && isForwarded) {
        if (!isLongLived) isWaiting = true;
        continue;
      }
      this.#endLongLived(index);
      rib.sweepStale(this.#source);
    }
    if (isWaiting) this.#restart = setTimeout(() => this.#sweep(), STALE_PATH_MS);
  }

  /** The peer has told all of a family: what it did not tell again goes. */
  endOfRib({ index }: Family): void {
    this.#endLongLived(index);
    this.#ribs[index].sweepStale(this.#source);
  }

  /** All of them go. */
  forget(): void {
    this.stop();
    for (const rib of this.#ribs) rib.markStale(this.#source);
    this.#sweep();
  }

  /** Wait for nothing any more; whoever stops the session sees to the routes. */
  stop(): void {
    this.#endRestart();
    this.#endLongLived();
  }

  #sweep(): void {
    for (const rib of this.#ribs) rib.sweepStale(this.#source);
  }

  #endRestart(): void {
    clearTimeout(this.#restart);
    this.#until = null;
    this.#before = null;
  }

  #endLongLived(...indices: Family['index'][]): void {
    for (const index of indices.length > 0 ? indices : ([0, 1] as const)) {
      clearTimeout(this.#longLived[index]);
      this.#longLived[index] = undefined;
    }
  }
}
