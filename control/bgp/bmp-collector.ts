/**
 * The TCP connection to one BMP collector: dialled again and again, and given up where the collector does not read: what
 * waits for it is bounded, and never slows down anything else.
 */
import { connect, type Socket } from 'node:net';
import { ADMINISTRATIVELY_CLOSED, initiation, termination } from './bmp.ts';
import type { Log } from './session.ts';

export type BmpMode = 'adj-in' | 'adj-out' | 'loc-rib';

export interface CollectorConfig {
  /** IPv4 or IPv6. */
  readonly address: string;
  readonly port: number;
  /** What is told: routes as they came in, as they went out, the best ones. */
  readonly modes: readonly BmpMode[];
  /** Time between reports of statistics. */
  readonly statisticsSeconds: number;
  /** Bytes that may wait to be read. Default 64 MiB. */
  readonly maxQueueBytes?: number;
  /** Time between attempts, doubling. Default 30 s to 12 min (RFC 7854 section 3.2). */
  readonly retryMinMs?: number;
  readonly retryMaxMs?: number;
}

export interface BmpStatus {
  readonly address: string;
  readonly port: number;
  readonly up: boolean;
  /** Since when it is up, or not. */
  readonly since: Date;
  /** Why the last connection or attempt failed; null while up, and before the first. */
  readonly lastError: string | null;
  readonly queuedBytes: number;
  /** Sessions with it so far, and bytes that were sent in all of them. */
  readonly sessions: number;
  readonly bytesSent: number;
}

export interface CollectorHost {
  readonly sysName: string;
  readonly sysDescr: string;
  readonly log: Log;
  /** It is there, and has heard of nothing but us. */
  onUp(collector: Collector): void;
  onDown(collector: Collector): void;
  /** All that was sent is on its way. */
  onDrain(collector: Collector): void;
}

const DEFAULT_MAX_QUEUE = 64 * 1024 * 1024;
const DEFAULT_RETRY_MIN_MS = 30_000;
const DEFAULT_RETRY_MAX_MS = 720_000;
const CONNECT_MS = 10_000;
const KEEPALIVE_MS = 60_000;
/** How long a collector may read nothing of what waits. */
const STALL_MS = 120_000;
/** How long the last message may take. */
const LINGER_MS = 1000;

export class Collector {
  readonly config: CollectorConfig;
  readonly name: string;
  readonly #host: CollectorHost;
  #socket: Socket | null = null;
  #up = false;
  #stopped = false;
  #since = new Date();
  #lastError: string | null = null;
  #sessions = 0;
  #bytesSent = 0;
  #attempts = 0;
  #retry: NodeJS.Timeout | undefined;
  #stall: NodeJS.Timeout | undefined;
  #connecting: NodeJS.Timeout | undefined;
  /** What the kernel had taken when it was last looked at. */
  #taken = 0;

  constructor(config: CollectorConfig, host: CollectorHost) {
    this.config = config;
    this.#host = host;
    const { address, port } = config;
    this.name = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
    this.#dial();
  }

  get isUp(): boolean {
    return this.#up;
  }

  get queuedBytes(): number {
    return this.#socket?.writableLength ?? 0;
  }

  get status(): BmpStatus {
    const { address, port } = this.config;
    return {
      address,
      port,
      up: this.#up,
      since: this.#since,
      lastError: this.#lastError,
      queuedBytes: this.queuedBytes,
      sessions: this.#sessions,
      bytesSent: this.#bytesSent,
    };
  }

  send(messages: Uint8Array): void {
    const socket = this.#socket;
    if (!socket || !this.#up) return;
    socket.write(messages);
    this.#bytesSent += messages.length;
    const most = this.config.maxQueueBytes ?? DEFAULT_MAX_QUEUE;
    if (socket.writableLength > most) this.#end(`it does not read: more than ${most} bytes wait`);
  }

  /** Say good-bye. Settles when it is gone, within about a second. */
  async stop(text: string): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    const socket = this.#socket;
    if (!socket) return;
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    if (this.#up) {
      this.#leave();
      socket.end(termination(ADMINISTRATIVELY_CLOSED, text));
      const linger = setTimeout(() => socket.destroy(), LINGER_MS);
      socket.once('close', () => clearTimeout(linger));
    } else socket.destroy();
    await closed;
  }

  #dial(): void {
    const { address, port } = this.config;
    const socket = connect({ host: address, port, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS });
    this.#socket = socket;
    this.#connecting = setTimeout(() => this.#end(`no connection within ${CONNECT_MS / 1000} s`), CONNECT_MS);
    socket.once('connect', () => this.#begin(socket));
    socket.on('drain', () => this.#up && this.#host.onDrain(this));
    // A collector has nothing to say (section 3.3).
    socket.resume();
    socket.on('error', (error: NodeJS.ErrnoException) => this.#ended(socket, error.code ?? error.message));
    socket.on('end', () => this.#ended(socket, 'it closed the connection'));
    socket.on('close', () => this.#ended(socket, 'connection closed'));
  }

  #begin(socket: Socket): void {
    clearTimeout(this.#connecting);
    this.#up = true;
    this.#since = new Date();
    this.#lastError = null;
    this.#sessions++;
    this.#taken = 0;
    this.#stall = setInterval(() => this.#look(socket), STALL_MS);
    const { sysName, sysDescr } = this.#host;
    this.#host.log('info', 'BMP collector is there', { collector: this.name });
    this.send(initiation(sysName, sysDescr));
    this.#host.onUp(this);
  }

  #look(socket: Socket): void {
    const taken = socket.bytesWritten - socket.writableLength;
    // Who reads is no bad collector: the next attempts are quick again.
    if (taken > this.#taken || socket.writableLength === 0) this.#attempts = 0;
    else this.#end(`it has read nothing for ${STALL_MS / 1000} s`);
    this.#taken = taken;
  }

  #end(reason: string): void {
    if (this.#socket) this.#ended(this.#socket, reason);
  }

  #ended(socket: Socket, reason: string): void {
    if (socket !== this.#socket) return;
    this.#leave();
    this.#socket = null;
    socket.destroy();
    if (this.#stopped) return;
    this.#lastError = reason;
    const { retryMinMs = DEFAULT_RETRY_MIN_MS, retryMaxMs = DEFAULT_RETRY_MAX_MS } = this.config;
    const pause = Math.min(retryMinMs * 2 ** this.#attempts++, retryMaxMs);
    this.#host.log('warn', 'no BMP collector', { collector: this.name, reason, retryMs: pause });
    this.#retry = setTimeout(() => this.#dial(), pause);
  }

  #leave(): void {
    clearTimeout(this.#connecting);
    clearInterval(this.#stall);
    if (!this.#up) return;
    this.#up = false;
    this.#since = new Date();
    this.#host.onDown(this);
  }
}
