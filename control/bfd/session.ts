/**
 * One BFD session in asynchronous mode (RFC 5880 section 6.8): its state, timers, Poll Sequences and Detection Time.
 * Pure: the clock, chance and the wire are given, so that a test can play both ends in no time.
 */
import {
  ADMIN_DOWN,
  type ControlPacket,
  DIAG_ADMIN_DOWN,
  DIAG_NEIGHBOR_DOWN,
  DIAG_NONE,
  DIAG_TIMEOUT,
  DOWN,
  INIT,
  type State,
  UP,
} from './packet.ts';

export interface Timers {
  /** Milliseconds between packets, at least, that we would like to send and are able to receive. Up to 4,294,967. */
  readonly minTxMs: number;
  readonly minRxMs: number;
  /** Packets that the peer may miss until it takes us for gone: 1 to 255. */
  readonly multiplier: number;
}

export interface Change {
  readonly before: State;
  readonly state: State;
  /**
   * The path is to be taken for broken (RFC 5882 section 3.2): it was up, and is not because nobody wanted it so. Neither
   * end's AdminDown is a failure.
   */
  readonly failed: boolean;
}

export interface Surroundings {
  send(packet: ControlPacket): void;
  changed(change: Change): void;
  /** 0 to 1, like Math.random. */
  random(): number;
}

/** What a session sends at most before it is Up (RFC 5880 section 6.8.3): microseconds. */
const SLOW_US = 1_000_000;

/** What the peer said last. Forgotten when it is silent for a Detection Time. */
interface Remote {
  readonly discriminator: number;
  readonly state: State;
  readonly diagnostic: number;
  readonly demand: boolean;
  readonly multiplier: number;
  readonly minTxUs: number;
  readonly minRxUs: number;
}
const UNKNOWN: Remote = {
  discriminator: 0,
  state: DOWN,
  diagnostic: DIAG_NONE,
  demand: false,
  multiplier: 0,
  minTxUs: 0,
  minRxUs: 1,
};

/** Two intervals that go together, in microseconds. */
interface Intervals {
  readonly txUs: number;
  readonly rxUs: number;
}

export class BfdSession {
  readonly discriminator: number;
  readonly #around: Surroundings;
  #timers: Timers;
  #state: State = DOWN;
  #diagnostic = DIAG_NONE;
  #remote = UNKNOWN;
  /** What packets say: bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval. */
  #announced: Intervals;
  /** What our own timers use: behind `#announced` while the peer has not confirmed a change (RFC 5880 section 6.8.3). */
  #inForce: Intervals;
  /**
   * Of a Poll Sequence (section 6.5): `settling` is after its Final, until a packet without Final shows that none of it is
   * under way any more; another sequence would be ambiguous before.
   */
  #poll: 'none' | 'polling' | 'settling' = 'none';
  /** Milliseconds of the given clock; -Infinity: never. */
  #lastTx = Number.NEGATIVE_INFINITY;
  #lastRx = Number.NEGATIVE_INFINITY;
  /** By what the present interval is shortened. */
  #jitter = 1;
  /** What the last packet said, but for Poll and Final. */
  #said = '';

  /** `discriminator`: of no other session, not 0. Begins as Down; the first packet is due at once. */
  constructor(discriminator: number, timers: Timers, around: Surroundings) {
    this.discriminator = discriminator;
    this.#timers = timers;
    this.#around = around;
    this.#announced = this.#wanted();
    this.#inForce = this.#announced;
  }

  get state(): State {
    return this.#state;
  }

  /** Why it is in its state. */
  get diagnostic(): number {
    return this.#diagnostic;
  }

  get remote(): Remote {
    return this.#remote;
  }

  get timers(): Timers {
    return this.#timers;
  }

  /** Milliseconds between our packets, before jitter. */
  get txMs(): number {
    return Math.max(this.#inForce.txUs, this.#remote.minRxUs) / 1000;
  }

  /** Milliseconds of silence after which the peer is gone (section 6.8.4); 0: not known yet. */
  get detectionMs(): number {
    return (this.#remote.multiplier * Math.max(this.#inForce.rxUs, this.#remote.minTxUs)) / 1000;
  }

  /** When `advance` is to be called next, unless a packet comes before: milliseconds of the clock, or Infinity. */
  get deadline(): number {
    return Math.min(this.#txDue, this.expiry);
  }

  /** When the peer is taken for gone: milliseconds of the clock, or Infinity. */
  get expiry(): number {
    return this.#remote.discriminator === 0 ? Number.POSITIVE_INFINITY : this.#lastRx + this.detectionMs;
  }

  /** Do what is due by now. */
  advance(nowMs: number): void {
    if (nowMs >= this.expiry) this.#expire();
    this.#tell(nowMs);
    if (nowMs >= this.#txDue) this.#transmit(nowMs);
  }

  /** Section 6.8.6, from where the packet is known to be well-formed and for this session. */
  receive(packet: ControlPacket, nowMs: number): void {
    const { mine, state, diagnostic, demand, multiplier, minTxUs, minRxUs } = packet;
    this.#lastRx = nowMs;
    this.#remote = { discriminator: mine, state, diagnostic, demand, multiplier, minTxUs, minRxUs };
    if (this.#poll === 'polling' && packet.final) {
      this.#poll = 'settling';
      this.#inForce = this.#announced;
    } else if (this.#poll === 'settling' && !packet.final) {
      this.#poll = 'none';
      this.#negotiate();
    }
    // An AdminDown session discards the packet here, without an answer.
    if (this.#state === ADMIN_DOWN) return;
    this.#follow(state);
    if (packet.poll) this.#send(true);
    this.#tell(nowMs);
  }

  /** Take other timers. The session stays as it is; the peer learns them by a Poll Sequence. */
  reconfigure(timers: Timers, nowMs: number): void {
    this.#timers = timers;
    this.#negotiate();
    this.#tell(nowMs);
  }

  /**
   * Be AdminDown (section 6.8.16). The peer is to be told for a Detection Time of its own; until then `advance` goes on
   * sending.
   */
  disable(nowMs: number): void {
    if (this.#state === ADMIN_DOWN) return;
    this.#enter(ADMIN_DOWN, DIAG_ADMIN_DOWN);
    this.#tell(nowMs);
  }

  enable(nowMs: number): void {
    if (this.#state !== ADMIN_DOWN) return;
    this.#enter(DOWN, DIAG_NONE);
    this.#tell(nowMs);
  }

  // ---- State ----------------------------------------------------------------------------------------

  #follow(said: State): void {
    switch (this.#state) {
      case DOWN:
        if (said === DOWN) this.#enter(INIT, this.#diagnostic);
        else if (said === INIT) this.#enter(UP, DIAG_NONE);
        break;
      case INIT:
        if (said === ADMIN_DOWN) this.#enter(DOWN, DIAG_NEIGHBOR_DOWN);
        else if (said !== DOWN) this.#enter(UP, DIAG_NONE);
        break;
      case UP:
        if (said === ADMIN_DOWN || said === DOWN) this.#enter(DOWN, DIAG_NEIGHBOR_DOWN);
        break;
    }
  }

  /** The peer is silent for the Detection Time: it is forgotten, and a session that has begun is over. */
  #expire(): void {
    this.#remote = UNKNOWN;
    this.#poll = 'none';
    if (this.#state === INIT || this.#state === UP) this.#enter(DOWN, DIAG_TIMEOUT);
  }

  #enter(state: State, diagnostic: number): void {
    const before = this.#state;
    this.#state = state;
    this.#diagnostic = diagnostic;
    // Nothing is held back for the peer's confirmation outside Up.
    if (before === UP) {
      this.#poll = 'none';
      this.#inForce = this.#announced;
    }
    this.#negotiate();
    const failed = before === UP && state === DOWN && this.#remote.state !== ADMIN_DOWN;
    this.#around.changed({ before, state, failed });
  }

  // ---- Timers ---------------------------------------------------------------------------------------

  #wanted(): Intervals {
    const txUs = Math.round(this.#timers.minTxMs * 1000);
    return {
      txUs: this.#state === UP ? txUs : Math.max(txUs, SLOW_US),
      rxUs: Math.round(this.#timers.minRxMs * 1000),
    };
  }

  /** Announce what is wanted, unless a Poll Sequence of an earlier change must end first. */
  #negotiate(): void {
    const wanted = this.#wanted();
    const { txUs, rxUs } = this.#announced;
    if (wanted.txUs === txUs && wanted.rxUs === rxUs) return;
    const isUp = this.#state === UP;
    if (isUp && this.#poll !== 'none') return;
    this.#announced = wanted;
    // While Up, we slow down and expect more only when the peer knows.
    this.#inForce = isUp
      ? { txUs: Math.min(wanted.txUs, this.#inForce.txUs), rxUs: Math.max(wanted.rxUs, this.#inForce.rxUs) }
      : wanted;
    // A peer that is not there cannot answer.
    if (this.#remote.discriminator !== 0) this.#poll = 'polling';
  }

  // ---- Sending --------------------------------------------------------------------------------------

  /** Whether packets are sent by the clock (section 6.8.7). */
  get #isPeriodic(): boolean {
    const { minRxUs, demand, state } = this.#remote;
    const isDemanded = demand && state === UP && this.#state === UP;
    return minRxUs > 0 && (!isDemanded || this.#poll === 'polling');
  }

  get #txDue(): number {
    return this.#isPeriodic ? this.#lastTx + this.txMs * this.#jitter : Number.POSITIVE_INFINITY;
  }

  /** What is new is said at once, not by the clock. */
  #tell(nowMs: number): void {
    if (this.#isPeriodic && this.#said !== '' && this.#content() !== this.#said) this.#transmit(nowMs);
  }

  #transmit(nowMs: number): void {
    this.#lastTx = nowMs;
    // With a multiplier of 1, a packet must be there before the interval is over.
    const least = this.#timers.multiplier === 1 ? 0.1 : 0;
    this.#jitter = 1 - least - (0.25 - least) * this.#around.random();
    this.#send(false);
  }

  /** `isFinal`: an answer to a Poll, at any time. */
  #send(isFinal: boolean): void {
    this.#said = this.#content();
    this.#around.send({
      diagnostic: this.#diagnostic,
      state: this.#state,
      poll: this.#poll === 'polling' && !isFinal,
      final: isFinal,
      // We run in a process of our own, which outlives that of the control plane.
      independent: true,
      demand: false,
      multiplier: this.#timers.multiplier,
      mine: this.discriminator,
      yours: this.#remote.discriminator,
      minTxUs: this.#announced.txUs,
      minRxUs: this.#announced.rxUs,
      minEchoRxUs: 0,
    });
  }

  /** All that can change in a packet, but for Poll and Final. */
  #content(): string {
    const { txUs, rxUs } = this.#announced;
    const { multiplier } = this.#timers;
    return `${this.#state} ${this.#diagnostic} ${multiplier} ${this.#remote.discriminator} ${txUs} ${rxUs}`;
  }
}
