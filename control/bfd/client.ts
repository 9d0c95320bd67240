/** The agent's side of the BFD process: finds or starts it, tells it what sessions there are to be, and hears of them. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TortieError } from '../error.ts';
import { ADMIN_DOWN, DIAG_NONE, diagnosticText, STATE_NAMES, UP } from './packet.ts';
import type { FromProcess, SessionReport, SessionSpec, Statistics } from './protocol.ts';
import { Lines, line, PROTOCOL } from './protocol.ts';

const START_MS = 5000;
const START_POLL_MS = 20;
/** Between attempts to have the process back, doubling. */
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5000;

/** Node 20 loads no TypeScript by itself: the process runs from the build, also when we run from source. */
const ENTRY = `${import.meta.dirname.replace(/(?<!\/dist)\/control\/bfd$/, '/dist/control/bfd')}/process.js`;

export type Log = (
  level: 'info' | 'warn' | 'error',
  message: string,
  fields: Record<string, unknown>,
) => void;

/** What is said of the session with a peer. */
export interface BfdState {
  readonly peer: string;
  /** For people: "Up, sending every 300 ms, detection 900 ms". */
  readonly text: string;
  /** The path is to be taken for broken: it was up, and is not because nobody wanted it so (RFC 5882 section 3.2). */
  readonly failed: boolean;
  /** The peer's BFD lives apart from its control plane: a failure is the path's, not a restart's (section 4.3). */
  readonly independent: boolean;
}

export interface BfdClientOptions {
  /** Path of the process's socket. */
  readonly socket: string;
  /** Called whenever the text is another, or the path fails. */
  readonly onState: (state: BfdState) => void;
  readonly log: Log;
}

export class BfdClient {
  readonly #options: BfdClientOptions;
  /** Null: nothing is wanted of us, yet or any more. */
  #wanted: readonly SessionSpec[] | null = null;
  #socket: Socket | null = null;
  #connecting: Promise<void> | null = null;
  #retry: NodeJS.Timeout | undefined;
  #retryMs = RETRY_MIN_MS;
  readonly #reports = new Map<string, SessionReport>();
  /** By peer how often the session had failed when it was last heard of: stays while there is no process to ask. */
  readonly #failures = new Map<string, Pick<SessionReport, 'discriminator' | 'failures'>>();
  /** By peer what was said last. */
  readonly #said = new Map<string, string>();
  /** Of the process, or null while there is none. */
  pid: number | null = null;
  statistics: Statistics | null = null;
  /** Why there is no BFD though there should be, or null. */
  problem: string | null = null;

  constructor(options: BfdClientOptions) {
    this.#options = options;
  }

  /** Have these sessions and no others, now or as soon as the process is there. Without sessions there need be none. */
  configure(sessions: readonly SessionSpec[]): void {
    const isNew = JSON.stringify(sessions) !== JSON.stringify(this.#wanted);
    this.#wanted = sessions;
    // To those who have begun to listen since.
    for (const [peer, text] of this.#said) {
      this.#options.onState({ peer, text, failed: false, independent: false });
    }
    if (!isNew) return;
    if (this.pid !== null) this.#tellWanted(sessions);
    // An agent before us may have left a process that nobody needs any more.
    else if (!this.#socket && (sessions.length > 0 || existsSync(this.#options.socket))) this.#connect();
  }

  /** The last that was heard of the session with a peer. */
  session(peer: string): SessionReport | null {
    return this.#reports.get(peer) ?? null;
  }

  sessions(): SessionReport[] {
    return [...this.#reports.values()];
  }

  /**
   * Let go of the process. `keep`: an agent comes back soon, and finds its sessions as they are; else the process takes leave of
   * all peers and ends, which this does not wait for.
   */
  stop({ keep = false } = {}): void {
    clearTimeout(this.#retry);
    this.#wanted = null;
    const socket = this.#socket;
    this.#lose();
    if (keep) socket?.end();
    else socket?.end(line({ op: 'stop' }));
  }

  #tellWanted(sessions: readonly SessionSpec[]): void {
    this.#socket?.write(line(sessions.length > 0 ? { op: 'configure', sessions } : { op: 'stop' }));
    const isWanted = new Set(sessions.map(({ peer }) => peer));
    for (const peer of this.#reports.keys()) {
      if (isWanted.has(peer)) continue;
      this.#reports.delete(peer);
      this.#failures.delete(peer);
      this.#said.delete(peer);
    }
  }

  #connect(): void {
    clearTimeout(this.#retry);
    this.#connecting ??= this.#open()
      .then(
        (socket) => {
          if (socket) this.#adopt(socket);
        },
        (error: Error) => this.#fail(error.message),
      )
      .finally(() => {
        this.#connecting = null;
      });
  }

  /** Null: there is no process, and none is needed. */
  async #open(): Promise<Socket | null> {
    const { socket: path } = this.#options;
    const running = await dial(path);
    if (running || !this.#wanted?.length) return running;
    mkdirSync(dirname(path), { recursive: true });
    // A session and a folder of its own, nothing of ours open: it must not end or hold anything because of us.
    const child = spawn(process.execPath, [ENTRY, path], {
      detached: true,
      stdio: 'ignore',
      cwd: '/',
    });
    let failure: string | null = null;
    child.once('error', (error) => {
      failure = error.message;
    });
    child.once('exit', (code, signal) => {
      failure ??= `it ended with ${signal ?? code}`;
    });
    child.unref();
    for (let waited = 0; waited < START_MS && failure === null; waited += START_POLL_MS) {
      await sleep(START_POLL_MS);
      const socket = await dial(path);
      if (socket) return socket;
    }
    throw new TortieError('BFD', `the BFD process: ${failure ?? `no answer within ${START_MS / 1000} s`}`);
  }

  #adopt(socket: Socket): void {
    if (!this.#wanted) {
      socket.end();
      return;
    }
    this.#socket = socket;
    const lines = new Lines<FromProcess>();
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      try {
        for (const message of lines.push(text)) if (this.#socket === socket) this.#hear(message, socket);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    let why = 'its process has gone';
    socket.on('error', (error) => {
      why = error.message;
    });
    socket.on('close', () => {
      if (this.#socket === socket) this.#fail(why);
    });
  }

  #hear(message: FromProcess, socket: Socket): void {
    switch (message.op) {
      case 'hello':
        // One that an agent of another version, or of the same name in another namespace, has left behind cannot serve us.
        if (message.protocol !== PROTOCOL || message.netns !== statSync('/proc/self/ns/net').ino) {
          socket.end(line({ op: 'stop' }));
          return this.#fail('a process of another version or network namespace must end first');
        }
        this.pid = message.pid;
        return this.#tellWanted(this.#wanted ?? []);
      case 'report':
        this.statistics = message.statistics;
        for (const report of message.sessions) this.#note(report);
        this.#retryMs = RETRY_MIN_MS;
        this.problem = null;
        return;
      case 'changed':
        return this.#note(message.session);
      case 'fatal':
        this.#options.log('error', 'BFD: the process fails', { reason: message.text });
    }
  }

  #note(report: SessionReport): void {
    const { discriminator, failures } = report;
    const { peer } = report.spec;
    // It may have been told to end meanwhile.
    if (!this.#wanted?.some((spec) => spec.peer === peer)) return;
    this.#reports.set(peer, report);
    const before = this.#failures.get(peer);
    this.#failures.set(peer, { discriminator, failures });
    // What came before us, or in another life of the process, is not news.
    const failed = before?.discriminator === discriminator && failures > before.failures;
    const text = describe(report);
    const independent = report.remoteIndependent;
    if (failed && report.state === UP) {
      this.#say({ peer, text: 'Down for a moment while nobody listened', failed, independent });
      this.#say({ peer, text, failed: false, independent });
    } else this.#say({ peer, text, failed, independent });
  }

  #say(state: BfdState): void {
    if (this.#said.get(state.peer) === state.text && !state.failed) return;
    this.#said.set(state.peer, state.text);
    this.#options.onState(state);
  }

  #lose(): void {
    this.#socket = null;
    this.pid = null;
    this.statistics = null;
    this.#reports.clear();
    this.#said.clear();
  }

  #fail(why: string): void {
    this.#lose();
    if (!this.#wanted?.length) return;
    this.problem = `no BFD: ${why}; it is tried again`;
    this.#options.log('warn', 'no BFD; it is started again', { reason: why, pauseMs: this.#retryMs });
    // That we do not know is no failure of the path.
    for (const { peer } of this.#wanted) {
      this.#say({ peer, text: `unknown: ${why}`, failed: false, independent: false });
    }
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }
}

/** Have a process that an agent has left behind take leave of its peers and end. False: there is none. */
export async function stopBfd(path: string): Promise<boolean> {
  const socket = await dial(path);
  socket?.end(line({ op: 'stop' }));
  return socket !== null;
}

/** A session in words. */
export function describe(report: SessionReport): string {
  const { problem, state, diagnostic, remoteState, txMs, detectionMs } = report;
  if (problem !== null) return `no session: ${problem}`;
  const name = STATE_NAMES[state] ?? `state ${state}`;
  if (state === UP) return `${name}, sending every ${txMs} ms, detection ${detectionMs} ms`;
  if (remoteState === ADMIN_DOWN) return `${name}: the peer is AdminDown`;
  return diagnostic === DIAG_NONE ? name : `${name}: ${diagnosticText(diagnostic)}`;
}

/** A connection, or null if nobody listens. */
const dial = (path: string): Promise<Socket | null> =>
  new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(null);
      else reject(error);
    });
  });
