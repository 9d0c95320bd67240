/**
 * What a worker spends its time on, at next to no cost: the addon notes the clock around each sleep, and the
 * stages of one burst in SAMPLE are timed.
 */
import type { WorkerRuntime } from './messages.ts';

/** One burst in this many is timed. */
export const SAMPLE = 64;
/** Cells of the clock that epollWait writes, ms: falling asleep, and waking. */
const SLEPT_FROM = 0;
const SLEPT_TO = 1;

export const RECEIVE = 0;
export const PIPELINE = 1;
export const TRANSMIT = 2;
export const STAGE_NAMES = ['receive', 'pipeline', 'transmit'] as const;

/** The busy share is taken over this many whole seconds, and the one that has begun. */
export const WINDOW_SECONDS = 4;
/** Seconds remembered: a power of two above the window. */
const SECONDS = 8;

export class Runtime {
  /** Written by epollWait. */
  readonly clock = new Float64Array(2);
  wakeups = 0;
  bursts = 0;
  frames = 0;
  readonly #startedAt: number;
  readonly #stageMs = new Float64Array(STAGE_NAMES.length);
  #timedFrames = 0;
  #timing = false;
  /** Times in typed arrays: a number field of a class would be allocated anew at every store. */
  readonly #lap = new Float64Array(1);
  /** Since when it is awake, ms, and how long it has been in all. */
  readonly #awakeFrom = new Float64Array(1);
  readonly #busyMs = new Float64Array(1);
  /** Awake ms within each of the last seconds; a second's number modulo SECONDS is its cell. */
  readonly #perSecond = new Float64Array(SECONDS);
  readonly #secondOf = new Float64Array(SECONDS);

  /** `now`: CLOCK_MONOTONIC, ms. */
  constructor(now: number) {
    this.#startedAt = now;
    this.#awakeFrom[0] = now;
  }

  /** After epollWait: account for the time since the wake-up before. */
  woke(): void {
    this.wakeups++;
    this.#awakeUntil(this.clock[SLEPT_FROM]);
    this.#awakeFrom[0] = this.clock[SLEPT_TO];
  }

  /** Before a receive. */
  begin(): void {
    // The last of each, not the first: a thread's first bursts run cold code.
    this.#timing = this.bursts % SAMPLE === SAMPLE - 1;
    if (this.#timing) this.#lap[0] = performance.now();
  }

  /** A burst was received. */
  received(frames: number): void {
    this.bursts++;
    this.frames += frames;
    if (this.#timing) this.#timedFrames += frames;
    this.end(RECEIVE);
  }

  /** A stage of the burst is over. */
  end(stage: number): void {
    if (!this.#timing) return;
    const now = performance.now();
    this.#stageMs[stage] += now - this.#lap[0];
    this.#lap[0] = now;
  }

  /** `now`: CLOCK_MONOTONIC, ms. */
  snapshot(now: number): WorkerRuntime {
    this.#awakeUntil(now);
    this.#awakeFrom[0] = now;
    const second = Math.floor(now / 1000);
    const first = Math.max(this.#startedAt, (second - WINDOW_SECONDS) * 1000);
    let busy = 0;
    for (let cell = 0; cell < SECONDS; cell++) {
      if (this.#secondOf[cell] >= second - WINDOW_SECONDS) busy += this.#perSecond[cell];
    }
    return {
      wakeups: this.wakeups,
      bursts: this.bursts,
      frames: this.frames,
      busySeconds: this.#busyMs[0] / 1000,
      busyShare: now > first ? Math.min(1, busy / (now - first)) : 0,
      sampledFrames: this.#timedFrames,
      sampledSeconds: [...this.#stageMs].map((ms) => ms / 1000),
    };
  }

  #awakeUntil(end: number): void {
    let from = this.#awakeFrom[0];
    this.#busyMs[0] += end - from;
    // Seconds that have left the window by the end need no entry.
    from = Math.max(from, end - SECONDS * 1000 + 1000);
    while (from < end) {
      const second = Math.floor(from / 1000);
      const until = Math.min(end, (second + 1) * 1000);
      const cell = second % SECONDS;
      if (this.#secondOf[cell] !== second) {
        this.#secondOf[cell] = second;
        this.#perSecond[cell] = 0;
      }
      this.#perSecond[cell] += until - from;
      from = until;
    }
  }
}
