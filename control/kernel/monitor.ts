/** Tells when links or addresses of our network namespace change, as iproute2 hears of it. */
import { type ChildProcess, spawn } from 'node:child_process';

/** Of a change that comes in many events the first is told at once, and what follows so much later. */
const CALM_MS = 200;
/** Between attempts, when iproute2 ends. */
const RETRY_MS = 5000;

export class LinkMonitor {
  readonly #onChange: () => void;
  #child: ChildProcess | null = null;
  #timer: NodeJS.Timeout | null = null;
  #retry: NodeJS.Timeout | null = null;
  #again = false;
  #stopped = false;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  start(): void {
    const child = spawn('ip', ['-o', 'monitor', 'link', 'address'], { stdio: ['ignore', 'pipe', 'ignore'] });
    this.#child = child;
    child.stdout.on('data', () => this.#changed());
    const ended = () => {
      if (this.#child !== child || this.#stopped) return;
      this.#child = null;
      // What happened meanwhile is not known.
      this.#retry = setTimeout(() => {
        this.start();
        this.#changed();
      }, RETRY_MS).unref();
    };
    child.once('error', ended);
    child.once('exit', ended);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#retry) clearTimeout(this.#retry);
    this.#child?.kill();
    this.#child = null;
  }

  #changed(): void {
    if (this.#timer) {
      this.#again = true;
      return;
    }
    this.#onChange();
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (!this.#again) return;
      this.#again = false;
      this.#changed();
    }, CALM_MS);
  }
}
