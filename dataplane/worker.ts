/**
 * A worker thread: receive a burst, run the pipeline, transmit what it queued, sleep when there is nothing.
 *
 * The thread sleeps in epoll and never returns to its event loop while it runs. Control posts a command and
 * signals the eventfd; the command is fetched by `receiveMessageOnPort`. Per burst nothing is allocated.
 */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { ROW, STATUS } from './memory/burst.ts';
import { Readers } from './memory/grace.ts';
import { BURST, EGRESS_ROWS, HEADROOM, MAX_FRAME, MAX_PORTS, RECEIVE_ROWS } from './memory/layout.ts';
import type { PortSpec, WorkerCommand, WorkerData, WorkerEvent, WorkerStats } from './messages.ts';
import { native as loadNative, type Native } from './native/index.ts';
import { CUT_ROOM } from './offload/cut.ts';
import { Pipeline } from './pipeline.ts';
import { isTimed, openPort, type Port, type TimedPort, Workspace } from './port/port.ts';
import { PIPELINE, Runtime, TRANSMIT } from './runtime.ts';

/** What epoll reports for the eventfd; ports report their ids. */
const WAKE = -1;
const WAIT_FOR_EVER = -1;
/** Most ports looked at between two sleeps. */
const READY = 64;
/** Bytes of arena a frame: headroom, the largest frame, and rounding to an odd number of cache lines. */
const SLOT = HEADROOM + MAX_FRAME + 128;
/** The arena: frames as received, headers of what is cut, copies of frames that have no room before them. */
const CUT_START = BURST * SLOT;
const SPARE_START = CUT_START + CUT_ROOM;
const ARENA = SPARE_START + EGRESS_ROWS * 4096;
/** A port says at most one thing in this time; milliseconds. */
const LOG_INTERVAL_MS = 10_000;
/** Receives that may fail in a row before a port is given up. */
const MAX_FAILURES = 16;
/** The device or descriptor is gone, and no later receive can succeed. */
const GONE = new Set(['EBADF', 'EBADFD', 'EFAULT', 'ENODEV', 'ENXIO']);
const { E2BIG, EAGAIN, EIO, EMSGSIZE, ENOBUFS, ENODEV } = constants.errno;

interface Attached {
  readonly spec: PortSpec;
  readonly port: Port;
  /** The port itself, if it needs a clock. */
  readonly timed: TimedPort | null;
  /** Whether this worker receives from it. */
  watched: boolean;
  /** Watched, but not now: it has received more than it may. */
  resting: boolean;
  /** Receives that failed in a row. */
  failures: number;
  quietUntil: number;
}

class Worker {
  readonly #index: number;
  readonly #wakeFd: number;
  readonly #control: MessagePort;
  readonly #native: Native;
  readonly #pipeline: Pipeline;
  readonly #readers: Readers;
  readonly #epoll: number;
  readonly #arena = new Uint8Array(ARENA);
  readonly #rows = new Int32Array(RECEIVE_ROWS * ROW);
  readonly #workspace: Workspace;
  readonly #ports: (Attached | undefined)[] = new Array(MAX_PORTS).fill(undefined);
  readonly #runtime = new Runtime(monotonicMs());
  /** Ports that need a clock. */
  #timed: Attached[] = [];
  #tracing = false;
  #running = true;

  constructor(control: MessagePort, data: WorkerData) {
    this.#index = data.index;
    this.#wakeFd = data.wakeFd;
    this.#control = control;
    this.#native = loadNative();
    const { clock } = this.#runtime;
    this.#workspace = new Workspace(
      this.#native,
      this.#arena,
      CUT_START,
      () => clock[1],
      new Int32Array(data.tables.peers6),
    );
    this.#pipeline = new Pipeline({
      tables: data.tables,
      worker: data.index,
      arena: this.#arena,
      spare: [SPARE_START, ARENA],
    });
    this.#readers = new Readers(data.tables.epochs);
    this.#epoll = this.#native.epollCreate();
    this.#native.epollAdd(this.#epoll, this.#wakeFd, WAKE);
  }

  run(): void {
    const ready = new Int32Array(READY);
    this.#post({ type: 'ready' });
    while (this.#running) {
      this.#readers.leave(this.#index);
      const timeout = this.#timed.length === 0 ? WAIT_FOR_EVER : this.#untilNext();
      const count = this.#native.epollWait(this.#epoll, ready, timeout, this.#runtime.clock);
      this.#readers.enter(this.#index);
      this.#runtime.woke();
      for (let i = 0; i < count; i++) {
        const tag = ready[i];
        if (tag === WAKE) this.#obey();
        else this.#serve(tag);
      }
      if (this.#timed.length > 0) this.#keepTime();
      if (this.#tracing) this.#postTraces();
    }
    this.#readers.leave(this.#index);
    this.#native.close(this.#epoll);
  }

  /** Milliseconds until a limited port may go on, for epoll; without an end if none waits. */
  #untilNext(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const { timed, resting } of this.#timed) {
      const drain = timed!.drainMs();
      if (drain >= 0) least = Math.min(least, drain);
      if (resting) least = Math.min(least, timed!.restMs());
    }
    return least === Number.POSITIVE_INFINITY ? WAIT_FOR_EVER : Math.ceil(least);
  }

  /** Send what has waited long enough; rest from those that received too much, and go on with those that have rested. */
  #keepTime(): void {
    for (const attached of this.#timed) {
      try {
        attached.timed!.drain();
      } catch (error) {
        // As with any burst: no packet may end the worker.
        this.#log(attached, 'error', `what waited is lost: ${(error as Error).message}`);
      }
      if (!attached.watched) continue;
      const rests = attached.timed!.restMs() > 0;
      if (rests === attached.resting) continue;
      attached.resting = rests;
      for (const fd of attached.port.inputs) {
        if (rests) this.#forget(fd);
        else this.#native.epollAdd(this.#epoll, fd, attached.spec.id);
      }
    }
  }

  /** One burst of a port, all the way. */
  #serve(id: number): void {
    const attached = this.#ports[id];
    // Detached by a command earlier in this round.
    if (!attached?.watched) return;
    let count: number;
    this.#runtime.begin();
    try {
      count = attached.port.receive(this.#arena, this.#rows, 0, HEADROOM);
    } catch (error) {
      this.#receiveFailed(attached, error as NodeJS.ErrnoException);
      return;
    }
    attached.failures = 0;
    if (count === 0) return;
    this.#runtime.received(count);
    try {
      for (let first = 0; first < count; first += EGRESS_ROWS) {
        this.#pipeline.receiveBurst(id, this.#rows, Math.min(EGRESS_ROWS, count - first), first);
        this.#runtime.end(PIPELINE);
        this.#flush();
        this.#runtime.end(TRANSMIT);
      }
    } catch (error) {
      // No packet may end the worker. Whoever mends this needs the stack.
      this.#pipeline.egress.clear();
      this.#log(attached, 'error', `burst of ${count} frames lost: ${(error as Error).stack}`);
    }
  }

  /** Transmit every egress queue, and settle the account of its frames. */
  #flush(): void {
    const { egress } = this.#pipeline;
    for (let i = 0; i < egress.dirtyCount; i++) {
      const id = egress.dirty[i];
      const rows = egress.rows(id);
      const count = egress.count(id);
      const attached = this.#ports[id];
      if (!attached) {
        setStatus(rows, count, ENODEV);
      } else {
        this.#transmit(attached, rows, count);
      }
      this.#pipeline.transmitted(id, rows, count);
    }
    egress.clear();
  }

  #transmit(attached: Attached, rows: Int32Array, count: number): void {
    try {
      if (attached.port.transmit(this.#arena, rows, count) === count) return;
      const errno = firstFailure(rows, count);
      if (errno !== 0) this.#log(attached, 'warn', `sending fails: ${getSystemErrorName(-errno)}`);
    } catch (error) {
      setStatus(rows, count, EIO);
      this.#log(attached, 'error', `sending fails: ${(error as Error).message}`);
    }
  }

  /** Log, and stop watching a port that can only fail: epoll would report it again at once, for ever. */
  #receiveFailed(attached: Attached, error: NodeJS.ErrnoException): void {
    attached.failures++;
    if (!GONE.has(error.code ?? '') && attached.failures < MAX_FAILURES) {
      this.#log(attached, 'warn', `receiving fails: ${error.message}`);
      return;
    }
    this.#unwatch(attached);
    attached.quietUntil = 0;
    this.#log(attached, 'error', `no longer receiving: ${error.message}`);
  }

  /** Fetch and carry out all commands. */
  #obey(): void {
    this.#native.eventfdDrain(this.#wakeFd);
    for (;;) {
      const received = receiveMessageOnPort(this.#control) as { message: WorkerCommand } | undefined;
      if (!received) return;
      const command = received.message;
      try {
        this.#carryOut(command);
        if (command.type === 'stats') this.#post({ type: 'ack', seq: command.seq, stats: this.#stats() });
        else this.#post({ type: 'ack', seq: command.seq });
      } catch (error) {
        this.#post({ type: 'ack', seq: command.seq, error: (error as Error).message });
      }
    }
  }

  #carryOut(command: WorkerCommand): void {
    switch (command.type) {
      case 'attach':
        this.#detach(command.port.id);
        this.#attach(command.port);
        break;
      case 'detach':
        this.#detach(command.port);
        break;
      case 'node':
        this.#pipeline.setNode(command.node);
        break;
      case 'trace':
        // What was traced until now is not lost to a new filter.
        if (this.#tracing) this.#postTraces();
        this.#pipeline.setTrace(command.filter);
        this.#tracing = command.filter !== null;
        break;
      case 'stats':
        break;
      case 'stop':
        this.#running = false;
        break;
    }
  }

  #attach(spec: PortSpec): void {
    const port = openPort(this.#workspace, spec, this.#index);
    const timed = isTimed(port) ? port : null;
    const attached: Attached = {
      spec,
      port,
      timed,
      watched: false,
      resting: false,
      failures: 0,
      quietUntil: 0,
    };
    if (port.inputs.length > 0) this.#watch(attached);
    this.#ports[spec.id] = attached;
    if (timed) this.#timed.push(attached);
    this.#pipeline.attach(spec);
  }

  #detach(id: number): void {
    const attached = this.#ports[id];
    if (!attached) return;
    this.#pipeline.detach(id);
    this.#unwatch(attached);
    this.#flushTimed(attached);
    this.#ports[id] = undefined;
    if (attached.timed) this.#timed = this.#timed.filter((other) => other !== attached);
  }

  /** What waits before a port that goes, or gets other limits, goes at once. */
  #flushTimed({ timed }: Attached): void {
    try {
      timed?.flush();
    } catch {
      // The device is gone, and with it who waited for the packets.
    }
  }

  #watch(attached: Attached): void {
    attached.watched = true;
    try {
      for (const fd of attached.port.inputs) this.#native.epollAdd(this.#epoll, fd, attached.spec.id);
    } catch (error) {
      this.#unwatch(attached);
      throw error;
    }
  }

  #unwatch(attached: Attached): void {
    if (!attached.watched) return;
    attached.watched = false;
    for (const fd of attached.port.inputs) this.#forget(fd);
  }

  #forget(fd: number): void {
    try {
      this.#native.epollDelete(this.#epoll, fd);
    } catch {
      // Closed or never added: epoll has forgotten it by itself.
    }
  }

  #stats(): WorkerStats {
    const ports = this.#ports.filter((attached) => attached?.watched).length;
    return { ...this.#runtime.snapshot(monotonicMs()), offload: this.#workspace.tally, ports };
  }

  #postTraces(): void {
    const missed = this.#pipeline.tracesMissed;
    const packets = this.#pipeline.takeTraces();
    if (packets.length > 0) this.#post({ type: 'trace', packets, missed });
  }

  #log(attached: Attached, level: 'warn' | 'error', what: string): void {
    const now = performance.now();
    if (now < attached.quietUntil) return;
    attached.quietUntil = now + LOG_INTERVAL_MS;
    const message = `worker ${this.#index}, port ${attached.spec.name}: ${what}`;
    this.#post({ type: 'log', level, message });
  }

  #post(event: WorkerEvent): void {
    this.#control.postMessage(event);
  }
}

/** CLOCK_MONOTONIC, as epollWait tells it. */
const monotonicMs = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

function setStatus(rows: Int32Array, count: number, errno: number): void {
  for (let row = 0; row < count * ROW; row += ROW) rows[row + STATUS] = errno;
}

/** The first errno that is not the everyday fate of packets, or 0. */
function firstFailure(rows: Int32Array, count: number): number {
  for (let row = 0; row < count * ROW; row += ROW) {
    const errno = rows[row + STATUS];
    if (errno !== 0 && errno !== EAGAIN && errno !== ENOBUFS && errno !== EMSGSIZE && errno !== E2BIG)
      return errno;
  }
  return 0;
}

if (!parentPort) throw new Error('worker.ts runs as a worker thread: see spawn.ts');
new Worker(parentPort, workerData as WorkerData).run();
