/**
 * All workers as one: what each must know is remembered here, so that a worker that dies is replaced by one that
 * knows the same, and an input passes from one worker to another without ever being read by two.
 */

import { MAX_PORTS, type SharedTables } from './memory/layout.ts';
import type { NodeSpec, PortSpec, TraceFilter, WorkerStats } from './messages.ts';
import { type Command, spawnWorker, type WorkerHandle } from './spawn.ts';
import type { TracedPacket } from './trace.ts';

/** As many deaths within this time are too many to go on; milliseconds. */
export const MAX_DEATHS = 5;
const DEATHS_WINDOW_MS = 60_000;
/** In place of a reader: nobody reads this input. */
const NOBODY = -1;

export interface PoolOptions {
  /** At most MAX_WORKERS. */
  readonly size: number;
  readonly tables: SharedTables;
  readonly onTrace?: (packets: TracedPacket[], missed: number) => void;
  readonly onLog: (level: 'warn' | 'error', message: string) => void;
  /** MAX_DEATHS within a minute: no worker is replaced any more. */
  readonly onGiveUp: (error: Error) => void;
}

/** A place for a worker, and who has it. */
export interface Slot {
  readonly index: number;
  /** Null while the one before is gone and the next is not ready. */
  readonly handle: WorkerHandle | null;
  /** How many that had this place have died. */
  readonly deaths: number;
}

export class WorkerPool {
  readonly #options: PoolOptions;
  readonly #slots: { index: number; handle: WorkerHandle | null; deaths: number }[];
  readonly #ports: (PortSpec | undefined)[] = new Array(MAX_PORTS).fill(undefined);
  #node: NodeSpec | null = null;
  #trace: TraceFilter | null = null;
  #deathTimes: number[] = [];
  #state: 'new' | 'running' | 'ended' = 'new';

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#slots = Array.from({ length: options.size }, (_, index) => ({ index, handle: null, deaths: 0 }));
  }

  get size(): number {
    return this.#options.size;
  }

  get slots(): readonly Slot[] {
    return this.#slots;
  }

  /** Start all workers. Rejects if one cannot be started; the others are then stopped. */
  async start(): Promise<void> {
    const started = await Promise.allSettled(
      this.#slots.map(async (slot) => {
        slot.handle = await this.#spawn(slot.index);
      }),
    );
    const failed = started.find((result) => result.status === 'rejected');
    if (failed) {
      await this.stop();
      throw failed.reason;
    }
    this.#state = 'running';
  }

  /** Let all workers finish their bursts and end. */
  async stop(): Promise<void> {
    this.#state = 'ended';
    await Promise.all(this.#slots.map(({ handle }) => handle?.stop()));
  }

  /** Rejects, as all of these, if a worker could not carry it out. One that dies meanwhile is told when replaced. */
  setNode(node: NodeSpec): Promise<void> {
    this.#node = node;
    return this.#tellAll({ type: 'node', node });
  }

  /** Take a filter in (or away: null) for all workers. */
  trace(filter: TraceFilter | null): Promise<void> {
    this.#trace = filter;
    return this.#tellAll({ type: 'trace', filter });
  }

  /**
   * Attach a port, or attach it anew. An input that changes its reader is first taken from the old one, which has
   * finished its burst when it says so; meanwhile packets wait in the descriptor. So packets of an input leave in
   * the order in which they came, and none is lost.
   */
  async attach(port: PortSpec): Promise<void> {
    const old = this.#ports[port.id];
    if (old) {
      const keeps = (index: number) =>
        old.fds[index] === port.fds[index] && old.readers[index] === port.readers[index];
      const losing = new Set(old.readers.filter((_, index) => !keeps(index)));
      const readers = old.readers.map((reader, index) => (keeps(index) ? reader : NOBODY));
      const between: PortSpec = { ...old, readers };
      this.#ports[port.id] = between;
      await Promise.all(
        this.#slots
          .filter(({ index }) => losing.has(index))
          .map((slot) => this.#tell(slot, { type: 'attach', port: between })),
      );
    }
    this.#ports[port.id] = port;
    await this.#tellAll({ type: 'attach', port });
  }

  /** Resolves once no worker knows the port: its descriptors can be closed, its id given to another. */
  async detach(port: number): Promise<void> {
    this.#ports[port] = undefined;
    await this.#tellAll({ type: 'detach', port });
  }

  /** What the workers that run have done. One that dies while it is asked is left out. */
  async stats(): Promise<{ handle: WorkerHandle; stats: WorkerStats }[]> {
    const answers = await Promise.all(
      this.#slots.map(async ({ handle }) => {
        if (!handle) return [];
        const stats = await handle.stats().catch(() => null);
        return stats ? [{ handle, stats }] : [];
      }),
    );
    return answers.flat();
  }

  #spawn(index: number): Promise<WorkerHandle> {
    const { tables, onTrace, onLog } = this.#options;
    return spawnWorker({
      index,
      tables,
      ...(onTrace && { onTrace }),
      onLog,
      onDeath: (error) => this.#died(index, error),
    });
  }

  /** The thread has ended, so nobody reads its inputs: whoever comes next may. */
  #died(index: number, error: Error): void {
    if (this.#state !== 'running') return;
    const slot = this.#slots[index];
    slot.handle = null;
    slot.deaths++;
    const now = performance.now();
    this.#deathTimes = [...this.#deathTimes.filter((time) => now - time < DEATHS_WINDOW_MS), now];
    if (this.#deathTimes.length >= MAX_DEATHS) {
      this.#state = 'ended';
      this.#options.onGiveUp(error);
      return;
    }
    const stack = error.cause instanceof Error ? `: ${error.cause.stack}` : '';
    this.#options.onLog('warn', `${error.message}; another takes its place${stack}`);
    const { deaths } = slot;
    this.#replace(slot).catch((failure: Error) => {
      // One that died before it was ready is counted, and the next is on its way.
      if (slot.deaths === deaths) this.#options.onGiveUp(failure);
    });
  }

  async #replace(slot: { index: number; handle: WorkerHandle | null }): Promise<void> {
    const handle = await this.#spawn(slot.index);
    if (this.#state === 'ended') return handle.stop();
    slot.handle = handle;
    // Posted in one go, so that nothing told from now on comes before.
    const commands: Command[] = [
      ...(this.#node ? [{ type: 'node' as const, node: this.#node }] : []),
      ...this.#ports.flatMap((port) => (port ? [{ type: 'attach' as const, port }] : [])),
      ...(this.#trace ? [{ type: 'trace' as const, filter: this.#trace }] : []),
    ];
    const failed = (await Promise.allSettled(commands.map((command) => handle.send(command)))).find(
      (result) => result.status === 'rejected',
    );
    if (failed && slot.handle === handle) this.#options.onLog('error', String(failed.reason));
  }

  async #tellAll(command: Command): Promise<void> {
    await Promise.all(this.#slots.map((slot) => this.#tell(slot, command)));
  }

  async #tell(slot: Slot, command: Command): Promise<void> {
    const { handle } = slot;
    try {
      await handle?.send(command);
    } catch (error) {
      if (slot.handle === handle || this.#state === 'ended') throw error;
    }
  }
}
