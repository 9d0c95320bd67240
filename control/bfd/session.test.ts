/** The session by RFC 5880 section 6.8, on a clock of the test's own. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ADMIN_DOWN,
  type ControlPacket,
  DIAG_ADMIN_DOWN,
  DIAG_NEIGHBOR_DOWN,
  DIAG_TIMEOUT,
  DOWN,
  INIT,
  STATE_NAMES,
  type State,
  UP,
} from './packet.ts';
import { BfdSession, type Change, type Timers } from './session.ts';

const TIMERS: Timers = { minTxMs: 300, minRxMs: 300, multiplier: 3 };

/** A session whose peer the test plays. */
class Bench {
  now = 0;
  readonly sent: ControlPacket[] = [];
  /** When they were sent. */
  readonly times: number[] = [];
  readonly changes: Change[] = [];
  chance = 0;
  readonly session: BfdSession;

  constructor(timers: Partial<Timers> = {}) {
    this.session = new BfdSession(
      7,
      { ...TIMERS, ...timers },
      {
        send: (packet) => {
          this.sent.push(packet);
          this.times.push(this.now);
        },
        changed: (change) => void this.changes.push(change),
        random: () => this.chance,
      },
    );
    this.session.advance(0);
  }

  get last(): ControlPacket {
    return this.sent.at(-1)!;
  }

  hear(packet: Partial<ControlPacket> & { state: State }): void {
    const whole = { ...SILENT, yours: 7, ...packet };
    this.session.receive(whole, this.now);
  }

  /** Let time pass, and all that is due in it happen. */
  pass(ms: number): void {
    const end = this.now + ms;
    while (this.session.deadline <= end) {
      this.now = Math.max(this.now, this.session.deadline);
      this.session.advance(this.now);
    }
    this.now = end;
  }

  /** Up, and our Poll Sequence for the faster interval over. */
  bringUp(): void {
    this.hear({ state: DOWN, yours: 0 });
    this.hear({ state: UP });
    this.hear({ state: UP, final: true });
    this.hear({ state: UP });
    expect(this.session.state).toBe(UP);
  }
}

const SILENT: ControlPacket = {
  diagnostic: 0,
  state: DOWN,
  poll: false,
  final: false,
  independent: true,
  demand: false,
  multiplier: 3,
  mine: 9,
  yours: 0,
  minTxUs: 300_000,
  minRxUs: 300_000,
  minEchoRxUs: 0,
};

/** A bench whose session is in a state. */
function inState(state: State): Bench {
  const bench = new Bench();
  if (state === INIT) bench.hear({ state: DOWN, yours: 0 });
  else if (state === UP) bench.bringUp();
  else if (state === ADMIN_DOWN) bench.session.disable(0);
  expect(bench.session.state).toBe(state);
  return bench;
}

describe('states (section 6.8.6)', () => {
  // From, what the peer says, to. The diagnostic is 3 where the peer takes the session down.
  it.each<[State, State, State]>([
    [DOWN, ADMIN_DOWN, DOWN],
    [DOWN, DOWN, INIT],
    [DOWN, INIT, UP],
    [DOWN, UP, DOWN],
    [INIT, ADMIN_DOWN, DOWN],
    [INIT, DOWN, INIT],
    [INIT, INIT, UP],
    [INIT, UP, UP],
    [UP, ADMIN_DOWN, DOWN],
    [UP, DOWN, DOWN],
    [UP, INIT, UP],
    [UP, UP, UP],
    [ADMIN_DOWN, ADMIN_DOWN, ADMIN_DOWN],
    [ADMIN_DOWN, DOWN, ADMIN_DOWN],
    [ADMIN_DOWN, INIT, ADMIN_DOWN],
    [ADMIN_DOWN, UP, ADMIN_DOWN],
  ])('%i hears %i and is %i', (from, said, to) => {
    const bench = inState(from);
    const before = bench.session.diagnostic;
    bench.hear({ state: said });
    expect(STATE_NAMES[bench.session.state]).toBe(STATE_NAMES[to]);
    const isTaken = from !== to && to === DOWN;
    expect(bench.session.diagnostic).toBe(isTaken ? DIAG_NEIGHBOR_DOWN : before);
  });

  it('comes up by a handshake of three, each step told at once', () => {
    const bench = new Bench();
    expect(bench.last).toMatchObject({ state: DOWN, yours: 0, mine: 7 });
    bench.hear({ state: DOWN, yours: 0 });
    expect(bench.last).toMatchObject({ state: INIT, yours: 9 });
    bench.hear({ state: UP });
    expect(bench.last).toMatchObject({ state: UP, yours: 9 });
    expect(bench.changes.map(({ state }) => state)).toEqual([INIT, UP]);
    expect(bench.changes.some(({ failed }) => failed)).toBe(false);
    expect(bench.times).toEqual([0, 0, 0]);
  });

  it('is no failure when either end wants it down, and one when the peer says Down (RFC 5882 section 3.2)', () => {
    for (const [said, failed] of [
      [ADMIN_DOWN, false],
      [DOWN, true],
    ] as const) {
      const bench = inState(UP);
      bench.hear({ state: said });
      expect(bench.changes.at(-1)).toEqual({ before: UP, state: DOWN, failed });
    }
    const own = inState(UP);
    own.session.disable(0);
    expect(own.changes.at(-1)).toEqual({ before: UP, state: ADMIN_DOWN, failed: false });
  });

  it('says AdminDown while it is disabled, and begins anew as Down (section 6.8.16)', () => {
    const bench = inState(UP);
    bench.session.disable(0);
    expect(bench.last).toMatchObject({ state: ADMIN_DOWN, diagnostic: DIAG_ADMIN_DOWN });
    const before = bench.sent.length;
    bench.hear({ state: UP, poll: true });
    bench.pass(3000);
    expect(bench.sent.slice(before).every(({ state, final }) => state === ADMIN_DOWN && !final)).toBe(true);
    expect(bench.sent.length).toBeGreaterThan(before + 1);
    bench.session.enable(bench.now);
    expect(bench.last).toMatchObject({ state: DOWN, diagnostic: 0 });
  });
});

describe('Detection Time (section 6.8.4)', () => {
  it.each([
    ['our own interval', { minTxUs: 100_000, multiplier: 3 }, 900],
    ["the peer's slower interval", { minTxUs: 400_000, multiplier: 3 }, 1200],
    ["the peer's multiplier", { minTxUs: 300_000, multiplier: 5 }, 1500],
  ])('counts %s', (_, said, ms) => {
    const bench = inState(UP);
    bench.hear({ state: UP, ...said });
    expect(bench.session.detectionMs).toBe(ms);
    bench.pass(ms - 1);
    expect(bench.session.state).toBe(UP);
    bench.pass(1);
    expect(bench.session.state).toBe(DOWN);
    expect(bench.session.diagnostic).toBe(DIAG_TIMEOUT);
    expect(bench.changes.at(-1)).toEqual({ before: UP, state: DOWN, failed: true });
    expect(bench.last).toMatchObject({ state: DOWN, diagnostic: DIAG_TIMEOUT, yours: 0 });
  });

  it('ends an attempt, too', () => {
    const bench = inState(INIT);
    bench.pass(900);
    expect(bench.session.state).toBe(DOWN);
    expect(bench.changes.at(-1)).toMatchObject({ failed: false });
  });

  it('forgets a peer that is silent, also while Down: its discriminator and what it was able to receive', () => {
    const bench = new Bench();
    bench.hear({ state: ADMIN_DOWN, minRxUs: 0 });
    expect(bench.session.remote.discriminator).toBe(9);
    const before = bench.sent.length;
    bench.pass(899);
    expect(bench.sent).toHaveLength(before);
    bench.pass(2000);
    expect(bench.session.remote.discriminator).toBe(0);
    expect(bench.sent.length).toBeGreaterThan(before);
    expect(bench.last.yours).toBe(0);
  });
});

describe('sending (section 6.8.7)', () => {
  it('is slow until the session is Up (section 6.8.3)', () => {
    const bench = new Bench();
    bench.chance = 0.5;
    bench.pass(10_000);
    expect(bench.sent.every(({ minTxUs }) => minTxUs === 1_000_000)).toBe(true);
    expect(bench.sent).toHaveLength(1 + Math.floor((10_000 - 1000) / 875) + 1);
  });

  it.each([
    [3, 0, 300],
    [3, 1, 225],
    [1, 0, 270],
    [1, 1, 225],
  ])('with multiplier %i and chance %i every %i ms', (multiplier, chance, ms) => {
    const bench = new Bench({ multiplier });
    bench.chance = chance;
    bench.bringUp();
    bench.pass(300);
    const [last] = bench.times.slice(-1);
    bench.hear({ state: UP });
    bench.pass(ms);
    expect(bench.times.at(-1)! - last!).toBe(ms);
  });

  it('keeps to what the peer is able to receive, at once when that is less or more', () => {
    const bench = inState(UP);
    bench.hear({ state: UP, minRxUs: 800_000, minTxUs: 5_000_000 });
    bench.pass(5000);
    const gaps = bench.times.slice(-4).map((time, at, all) => time - (all[at - 1] ?? time));
    expect(gaps.slice(1)).toEqual([800, 800, 800]);
    bench.hear({ state: UP, minRxUs: 10_000, minTxUs: 5_000_000 });
    expect(bench.session.deadline).toBeLessThanOrEqual(bench.times.at(-1)! + 300);
  });

  it('stops when the peer wants none, and still answers its Polls', () => {
    const bench = inState(UP);
    bench.hear({ state: UP, minRxUs: 0, minTxUs: 10_000_000 });
    const before = bench.sent.length;
    bench.pass(5000);
    expect(bench.sent).toHaveLength(before);
    bench.hear({ state: UP, minRxUs: 0, poll: true });
    expect(bench.last).toMatchObject({ final: true, poll: false });
    expect(bench.sent).toHaveLength(before + 1);
  });

  it('ceases for a peer in Demand mode, but for Polls, and never asks for it (section 6.6)', () => {
    const bench = inState(UP);
    const quiet = { state: UP, demand: true, minTxUs: 10_000_000 } as const;
    bench.hear(quiet);
    const before = bench.sent.length;
    bench.pass(3000);
    expect(bench.sent).toHaveLength(before);
    bench.session.reconfigure({ ...TIMERS, minRxMs: 500 }, bench.now);
    bench.pass(1000);
    expect(bench.sent.slice(before).every(({ poll }) => poll)).toBe(true);
    expect(bench.sent.length).toBeGreaterThan(before + 1);
    bench.hear({ ...quiet, final: true });
    const after = bench.sent.length;
    bench.pass(3000);
    expect(bench.sent).toHaveLength(after);
    bench.hear({ ...quiet, demand: false });
    bench.pass(300);
    expect(bench.sent.length).toBeGreaterThan(after);
    expect(bench.sent.some(({ demand }) => demand)).toBe(false);
  });

  it('answers a Poll at once, in any state but AdminDown, without moving its own clock', () => {
    for (const state of [DOWN, INIT, UP] as const) {
      const bench = inState(state);
      bench.pass(100);
      const due = bench.session.deadline;
      bench.hear({ state: state === DOWN ? UP : state, poll: true });
      const answers = bench.sent.filter(({ final }) => final);
      expect(answers).toHaveLength(1);
      expect(answers[0]!.poll).toBe(false);
      if (state === UP) expect(bench.session.deadline).toBe(due);
    }
  });

  it('says that it lives apart from the control plane, and wants neither echo nor demand', () => {
    const bench = inState(UP);
    for (const { independent, demand, minEchoRxUs } of bench.sent) {
      expect([independent, demand, minEchoRxUs]).toEqual([true, false, 0]);
    }
  });
});

describe('Poll Sequences (sections 6.5 and 6.8.3)', () => {
  it('speeds up when Up: says so by a Poll until a Final comes', () => {
    const bench = new Bench();
    bench.hear({ state: DOWN, yours: 0 });
    bench.hear({ state: UP });
    expect(bench.last).toMatchObject({ poll: true, minTxUs: 300_000 });
    bench.pass(300);
    expect(bench.last).toMatchObject({ poll: true });
    bench.hear({ state: UP, final: true });
    bench.pass(300);
    expect(bench.last).toMatchObject({ poll: false, minTxUs: 300_000 });
  });

  it('slows down only when the peer knows', () => {
    const bench = inState(UP);
    bench.session.reconfigure({ ...TIMERS, minTxMs: 2000 }, bench.now);
    expect(bench.last).toMatchObject({ poll: true, minTxUs: 2_000_000 });
    expect(bench.session.txMs).toBe(300);
    bench.hear({ state: UP, final: true });
    expect(bench.session.txMs).toBe(2000);
  });

  it('expects more only when the peer knows, and less at once', () => {
    const bench = inState(UP);
    bench.session.reconfigure({ ...TIMERS, minRxMs: 100 }, bench.now);
    bench.hear({ state: UP, minTxUs: 50_000 });
    expect(bench.session.detectionMs).toBe(900);
    bench.hear({ state: UP, minTxUs: 50_000, final: true });
    expect(bench.session.detectionMs).toBe(300);
    bench.hear({ state: UP, minTxUs: 50_000 });
    bench.session.reconfigure({ ...TIMERS, minRxMs: 600 }, bench.now);
    expect(bench.session.detectionMs).toBe(1800);
  });

  it('begins another only after a packet without Final has come', () => {
    const bench = inState(UP);
    bench.session.reconfigure({ ...TIMERS, minTxMs: 400 }, bench.now);
    bench.session.reconfigure({ ...TIMERS, minTxMs: 500 }, bench.now);
    expect(bench.last).toMatchObject({ poll: true, minTxUs: 400_000 });
    bench.hear({ state: UP, final: true });
    expect(bench.session.txMs).toBe(400);
    bench.pass(400);
    expect(bench.last).toMatchObject({ poll: false, minTxUs: 400_000 });
    bench.hear({ state: UP });
    expect(bench.last).toMatchObject({ poll: true, minTxUs: 500_000 });
    expect(bench.session.txMs).toBe(400);
  });

  it('tells another multiplier without a Poll (section 6.8.12)', () => {
    const bench = inState(UP);
    bench.session.reconfigure({ ...TIMERS, multiplier: 5 }, bench.now);
    expect(bench.last).toMatchObject({ multiplier: 5, poll: false });
  });

  it('does not poll when nothing is new, nor a peer that is not there', () => {
    const bench = inState(UP);
    const before = bench.sent.length;
    bench.session.reconfigure({ ...TIMERS }, bench.now);
    expect(bench.sent).toHaveLength(before);
    const alone = new Bench();
    alone.session.reconfigure({ ...TIMERS, minRxMs: 50 }, 0);
    alone.pass(2000);
    expect(alone.sent.some(({ poll }) => poll)).toBe(false);
    expect(alone.last.minRxUs).toBe(50_000);
  });
});

// ---- Two ends ---------------------------------------------------------------------------------------

/** Two sessions and the path between them. */
class Pair {
  now = 0;
  readonly ends: [BfdSession, BfdSession];
  /** Since when exactly one end is Up, or null; and the longest Detection Time that each end has had meanwhile. */
  #disagreeSince: number | null = null;
  #longest: [number, number] = [0, 0];
  downs = 0;
  readonly #onItsWay: { at: number; to: 0 | 1; packet: ControlPacket }[] = [];
  readonly #latencyMs: number;
  readonly #isLost: () => boolean;

  constructor(
    timers: readonly [Timers, Timers],
    latencyMs: number,
    random: () => number,
    isLost: () => boolean,
  ) {
    this.#latencyMs = latencyMs;
    this.#isLost = isLost;
    const end = (own: 0 | 1) =>
      new BfdSession(own + 1, timers[own], {
        send: (packet) => {
          if (this.#isLost()) return;
          this.#onItsWay.push({ at: this.now + this.#latencyMs, to: own === 0 ? 1 : 0, packet });
        },
        changed: ({ before, state }) => {
          if (before === UP && state !== UP) this.downs++;
        },
        random,
      });
    this.ends = [end(0), end(1)];
  }

  get isUp(): boolean {
    return this.ends.every(({ state }) => state === UP);
  }

  run(ms: number): void {
    const stop = this.now + ms;
    for (;;) {
      // The latency is the same for all, so that packets come in order.
      const [packet] = this.#onItsWay;
      const next = Math.min(
        packet?.at ?? Number.POSITIVE_INFINITY,
        ...this.ends.map(({ deadline }) => deadline),
      );
      if (next > stop) break;
      this.now = Math.max(this.now, next);
      if (packet && packet.at <= this.now) {
        this.#onItsWay.shift();
        this.ends[packet.to].receive(packet.packet, this.now);
      } else for (const end of this.ends) end.advance(this.now);
      this.#watch();
    }
    this.now = stop;
    this.#watch();
  }

  #watch(): void {
    const [one, other] = this.ends;
    const disagree = (one.state === UP) !== (other.state === UP);
    this.#longest = disagree
      ? [Math.max(this.#longest[0], one.detectionMs), Math.max(this.#longest[1], other.detectionMs)]
      : [one.detectionMs, other.detectionMs];
    if (!disagree) this.#disagreeSince = null;
    else {
      this.#disagreeSince ??= this.now;
      const most = this.#longest[0] + this.#longest[1] + 2 * this.#latencyMs;
      expect(this.now - this.#disagreeSince).toBeLessThanOrEqual(most + 1e-6);
    }
  }
}

const timersOf = fc.record({
  minTxMs: fc.integer({ min: 10, max: 3000 }),
  minRxMs: fc.integer({ min: 10, max: 3000 }),
  multiplier: fc.integer({ min: 1, max: 5 }),
});

/** A generator of pseudo-random numbers (mulberry32). */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('two ends', () => {
  it('disagree no longer than it takes both to notice, whatever is lost, and come up when nothing is', () => {
    const phases = fc.array(
      fc.record({
        loss: fc.double({ min: 0, max: 1, noNaN: true }),
        ms: fc.integer({ min: 1, max: 20_000 }),
      }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(
        timersOf,
        timersOf,
        fc.integer({ min: 0, max: 9 }),
        fc.integer(),
        phases,
        (a, b, latency, seed, all) => {
          const random = chance(seed);
          let loss = 0;
          const pair = new Pair([a, b], latency, random, () => random() < loss);
          for (const phase of all) {
            loss = phase.loss;
            pair.run(phase.ms);
          }
          loss = 0;
          pair.run(60_000);
          expect(pair.isUp).toBe(true);
          const { downs } = pair;
          pair.run(60_000);
          expect(pair.downs).toBe(downs);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('never go down because timers change, even where a single packet may not be late', () => {
    const changes = fc.array(
      fc.record({ end: fc.constantFrom(0, 1), timers: timersOf, ms: fc.integer({ min: 0, max: 4000 }) }),
      { minLength: 1, maxLength: 12 },
    );
    fc.assert(
      fc.property(timersOf, timersOf, fc.integer(), changes, (a, b, seed, all) => {
        const pair = new Pair([a, b], 0, chance(seed), () => false);
        pair.run(20_000);
        expect(pair.isUp).toBe(true);
        for (const { end, timers, ms } of all) {
          pair.ends[end]!.reconfigure(timers, pair.now);
          pair.run(ms);
        }
        pair.run(30_000);
        expect(pair.downs).toBe(0);
        const [one, other] = pair.ends;
        expect(one.txMs).toBe(Math.max(one.timers.minTxMs, other.timers.minRxMs));
        expect(other.detectionMs).toBe(one.timers.multiplier * one.txMs);
      }),
      { numRuns: 200 },
    );
  });
});
