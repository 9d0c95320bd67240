/** The agent feels its own pulse: what /liveness and /readiness tell, and what feeds the service manager's watchdog. */
import type { Logger } from 'pino';
import { sdNotify } from '../../dataplane/native/systemd.ts';
import type { Health } from '../api/health.ts';
import type { NodeAgent } from './node.ts';

const BEAT_MS = 5000;
/** A packet thread that has not answered by then is stuck. */
const ANSWER_MS = 4000;
/** Reports are good for so long. */
const TIMEOUT_MS = 20_000;
/** A reconcile that takes longer hangs. */
const RECONCILE_MS = 60_000;

export interface PulseSource {
  /** Why the store is out of reach, or null. */
  storeProblem(): string | null;
}

export class Pulse {
  readonly #agent: NodeAgent;
  readonly #source: PulseSource;
  readonly #health: Health;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | null = null;
  /** Nothing is good before the start, and that is no news. */
  #wasGood = false;

  constructor(agent: NodeAgent, source: PulseSource, health: Health, log: Logger) {
    this.#agent = agent;
    this.#source = source;
    this.#health = health;
    this.#log = log;
  }

  start(): void {
    void this.beat();
    this.#timer = setInterval(() => void this.beat(), beatMs());
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
  }

  /** Report on every part. The watchdog is fed only if threads and reconciles make progress. */
  async beat(): Promise<void> {
    const { workers, routing } = this.#agent;
    const problem = this.#source.storeProblem();
    this.#health.report('datastore', 0, { ready: problem === null, detail: problem });

    const reconcile = this.#agent.reconciling();
    const isStuck = reconcile.forMs > RECONCILE_MS;
    this.#health.report('reconcile', TIMEOUT_MS, {
      live: !isStuck,
      ready: reconcile.isDone,
      detail: isStuck ? `since ${Math.round(reconcile.forMs / 1000)} s` : null,
    });
    if (reconcile.isDone) {
      const waits = routing.isSettled() ? null : unestablished(routing.peers());
      this.#health.report('bgp', 0, { ready: waits === null, detail: waits });
    }

    const answered = await inTime(workers.stats());
    const silent = answered === null ? workers.size : workers.size - answered.length;
    this.#health.report('workers', TIMEOUT_MS, {
      live: silent === 0,
      ready: silent === 0,
      detail: silent === 0 ? null : `${silent} of ${workers.size} do not answer`,
    });
    const isGood = !isStuck && silent === 0;
    if (!isGood && this.#wasGood)
      this.#log.error({ silent, isStuck }, 'no progress: the watchdog is not fed');
    this.#wasGood = isGood;
    if (isGood) sdNotify('WATCHDOG=1');
  }
}

/** Twice as often as the service manager wants to hear (sd_watchdog_enabled(3)). */
function beatMs(): number {
  const wanted = Number(process.env.WATCHDOG_USEC);
  return wanted > 0 ? Math.min(BEAT_MS, wanted / 2000) : BEAT_MS;
}

function unestablished(peers: readonly { address: string; info: string }[]): string {
  const missing = peers.filter(({ info }) => info !== 'Established').map(({ address }) => address);
  return missing.length > 0 ? `not established with ${missing.join(', ')}` : 'waiting for routes';
}

async function inTime<T>(work: Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ANSWER_MS);
  });
  const first = await Promise.race([work.catch(() => null), late]);
  clearTimeout(timer);
  return first;
}
