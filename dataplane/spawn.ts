/** Control's handle on a worker thread: start it, command it, hear from it, stop it. */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { Readers } from './memory/grace.ts';
import type { SharedTables } from './memory/layout.ts';
import type { WorkerCommand, WorkerData, WorkerEvent, WorkerStats } from './messages.ts';
import { native } from './native/index.ts';
import type { TracedPacket } from './trace.ts';

/** A command before it has its number. */
export type Command = WorkerCommand extends infer C
  ? C extends WorkerCommand
    ? Omit<C, 'seq'>
    : never
  : never;

export interface WorkerOptions {
  /** Below MAX_WORKERS; its slice of the counters and its cell of the epochs. */
  readonly index: number;
  readonly tables: SharedTables;
  readonly onTrace?: (packets: TracedPacket[], missed: number) => void;
  readonly onLog?: (level: 'warn' | 'error', message: string) => void;
  /** The worker ended without having been told to stop. */
  readonly onDeath?: (error: Error) => void;
}

export interface WorkerHandle {
  readonly index: number;
  /** Node's number of the thread. */
  readonly threadId: number;
  readonly startedAt: Date;
  /** Resolves once the worker has carried the command out; rejects when it could not, or ends before. */
  send(command: Command): Promise<void>;
  stats(): Promise<WorkerStats>;
  /** Let the worker finish its burst and end; resolves when the thread is gone. */
  stop(): Promise<void>;
  /** End the thread, whatever it is doing. */
  terminate(): Promise<void>;
}

interface Waiting {
  resolve(stats: WorkerStats | undefined): void;
  reject(error: Error): void;
}

/** Node 20 loads no TypeScript in workers: they run from the build, also when control runs from source. */
const ENTRY = new URL(
  import.meta.url.endsWith('.ts') ? '../dist/dataplane/worker.js' : './worker.js',
  import.meta.url,
);

/** Start a worker; resolves when it is ready for commands. */
export async function spawnWorker(options: WorkerOptions): Promise<WorkerHandle> {
  if (!existsSync(ENTRY)) throw new Error(`${fileURLToPath(ENTRY)} is missing: run scripts/build`);
  const handle = new Handle(options);
  await handle.ready;
  return handle;
}

const alive = new Set<Handle>();

/** A process that exits joins its threads, and one asleep in epoll would keep it waiting for ever. */
function stopAll(): void {
  for (const handle of alive) handle.tellToStop();
}

class Handle implements WorkerHandle {
  readonly index: number;
  readonly threadId: number;
  readonly startedAt = new Date();
  readonly ready: Promise<void>;
  readonly #thread: Worker;
  readonly #wakeFd: number;
  readonly #exited: Promise<void>;
  readonly #waiting = new Map<number, Waiting>();
  #seq = 0;
  #ended = false;
  /** Told to stop. */
  #ending = false;

  constructor(options: WorkerOptions) {
    this.index = options.index;
    this.#wakeFd = native().eventfdCreate();
    const data: WorkerData = { index: options.index, tables: options.tables, wakeFd: this.#wakeFd };
    this.#thread = new Worker(ENTRY, { workerData: data, name: `tortie-worker-${options.index}` });
    this.threadId = this.#thread.threadId;
    if (alive.size === 0) process.on('exit', stopAll);
    alive.add(this);
    let failure: Error | undefined;
    this.#thread.on('error', (error) => {
      failure = error as Error;
    });
    this.ready = new Promise((resolve, reject) => {
      this.#waiting.set(0, { resolve: () => resolve(), reject });
    });
    this.#exited = new Promise((resolve) => {
      this.#thread.on('exit', () => {
        alive.delete(this);
        if (alive.size === 0) process.off('exit', stopAll);
        this.#ended = true;
        native().close(this.#wakeFd);
        // It may have ended in the middle of a burst: nobody is to wait for its quiet point.
        new Readers(options.tables.epochs).leave(this.index);
        const error = new Error(`worker ${this.index} ended${failure ? `: ${failure.message}` : ''}`, {
          cause: failure,
        });
        for (const { reject } of this.#waiting.values()) reject(error);
        this.#waiting.clear();
        resolve();
        if (!this.#ending) options.onDeath?.(error);
      });
    });
    this.#thread.on('message', (event: WorkerEvent) => {
      switch (event.type) {
        case 'ready':
          this.#settle(0, undefined, undefined);
          break;
        case 'ack':
          this.#settle(event.seq, event.error, event.stats);
          break;
        case 'trace':
          options.onTrace?.(event.packets, event.missed);
          break;
        case 'log':
          options.onLog?.(event.level, event.message);
          break;
      }
    });
  }

  async send(command: Command): Promise<void> {
    await this.#request(command);
  }

  async stats(): Promise<WorkerStats> {
    return (await this.#request({ type: 'stats' }))!;
  }

  #request(command: Command): Promise<WorkerStats | undefined> {
    if (this.#ended) return Promise.reject(new Error(`worker ${this.index} has ended`));
    const seq = ++this.#seq;
    return new Promise((resolve, reject) => {
      this.#waiting.set(seq, { resolve, reject });
      this.#post({ ...command, seq });
    });
  }

  stop(): Promise<void> {
    this.tellToStop();
    return this.#exited;
  }

  tellToStop(): void {
    this.#ending = true;
    if (!this.#ended) this.#post({ type: 'stop', seq: 0 });
  }

  async terminate(): Promise<void> {
    if (this.#ended) return;
    // First the order to end, then the wake-up: the thread notices when it returns from the system call.
    const terminated = this.#thread.terminate();
    native().eventfdSignal(this.#wakeFd);
    await terminated;
    await this.#exited;
  }

  #post(command: WorkerCommand): void {
    this.#thread.postMessage(command);
    native().eventfdSignal(this.#wakeFd);
  }

  #settle(seq: number, error: string | undefined, stats: WorkerStats | undefined): void {
    const waiting = this.#waiting.get(seq);
    this.#waiting.delete(seq);
    if (error === undefined) waiting?.resolve(stats);
    else waiting?.reject(new Error(`worker ${this.index}: ${error}`));
  }
}
