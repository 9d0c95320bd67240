/**
 * The agent's socket for CNI: takes what the plugin's program says (wire.ts), with the pod's namespace as a descriptor, and sends
 * the answer back. For root alone; a request is bounded in size and in the time that it takes to arrive.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { type FdWatch, native as loadNative, type Native } from '../../dataplane/native/index.ts';
import { type Answer, encodeAnswer, type Header, MAX_CONFIG, MAX_MESSAGE, parseHeader } from './wire.ts';

/** Requests at a time; who comes then is told to try again by being let go. */
const MAX_CONNECTIONS = 512;
/** A program that has said nothing whole by then is let go. */
const ARRIVAL_MS = 10_000;
const NO_FDS = new Int32Array(0);

/** Who answers. `netns` is a descriptor of the pod's namespace, ours to the end of the call; null: none came. It never rejects. */
export type Handler = (header: Header, config: string, netns: number | null) => Promise<Answer>;

export interface CniServer {
  readonly path: string;
  /** Takes no more requests; those under way lose their answers. */
  close(): void;
}

/** Serve at a path. A socket file that is there is replaced: only one agent of a node runs. */
export function serveCni(path: string, handler: Handler, onError: (error: unknown) => void): CniServer {
  const native = loadNative();
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  const listener = native.unixListen(path);
  const connections = new Set<Connection>();
  const accept = () => {
    for (let peer = native.unixAccept(listener); peer; peer = native.unixAccept(listener)) {
      if (peer.uid !== 0 || connections.size >= MAX_CONNECTIONS) {
        native.close(peer.fd);
        continue;
      }
      const connection = new Connection(native, peer.fd, handler, onError, () =>
        connections.delete(connection),
      );
      connections.add(connection);
    }
  };
  const watch = native.fdWatch(listener, () => {
    try {
      accept();
    } catch (error) {
      onError(error);
    }
  });
  return {
    path,
    close: () => {
      native.fdUnwatch(watch);
      native.close(listener);
      for (const connection of [...connections]) connection.close();
      rmSync(path, { force: true });
    },
  };
}

/** One program's request. */
class Connection {
  readonly #native: Native;
  readonly #fd: number;
  readonly #handler: Handler;
  readonly #onError: (error: unknown) => void;
  readonly #onClosed: () => void;
  readonly #buffer = new Uint8Array(MAX_MESSAGE);
  readonly #late: NodeJS.Timeout;
  #watch: FdWatch | null;
  #header: Header | null = null;
  #netns: number | null = null;
  readonly #parts: Uint8Array[] = [];
  #length = 0;
  #closed = false;

  constructor(
    native: Native,
    fd: number,
    handler: Handler,
    onError: (error: unknown) => void,
    onClosed: () => void,
  ) {
    this.#native = native;
    this.#fd = fd;
    this.#handler = handler;
    this.#onError = onError;
    this.#onClosed = onClosed;
    this.#late = setTimeout(() => this.close(), ARRIVAL_MS);
    this.#watch = native.fdWatch(fd, () => this.#hear());
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#late);
    this.#deafen();
    this.#native.close(this.#fd);
    if (this.#netns !== null) this.#native.close(this.#netns);
    this.#onClosed();
  }

  #deafen(): void {
    if (this.#watch) this.#native.fdUnwatch(this.#watch);
    this.#watch = null;
  }

  #hear(): void {
    try {
      for (;;) {
        const message = this.#native.receiveFds(this.#fd, this.#buffer);
        if (!message) return;
        const isOver = message.bytes === 0;
        const isWhole = !isOver && this.#take(this.#buffer.slice(0, message.bytes), message.fds);
        if (isWhole) return void this.#answer();
        if (isOver) return this.close();
      }
    } catch (error) {
      // Too much at once, descriptors beyond our limit, or nonsense: nobody of ours.
      this.#onError(error);
      this.close();
    }
  }

  /** Whether the request is whole now. Throws if it is none. */
  #take(bytes: Uint8Array, fds: readonly number[]): boolean {
    const [netns, ...surplus] = fds;
    for (const fd of surplus) this.#native.close(fd);
    if (netns !== undefined) {
      if (this.#header) this.#native.close(netns);
      else this.#netns = netns;
    }
    if (!this.#header) {
      this.#header = parseHeader(bytes);
      if (!this.#header) throw new Error('CNI socket: the peer does not speak our protocol');
      if (this.#header.length > MAX_CONFIG) {
        throw new Error(`CNI socket: a configuration of ${this.#header.length} bytes; ${MAX_CONFIG} at most`);
      }
    } else {
      this.#parts.push(bytes);
      this.#length += bytes.length;
    }
    return this.#length >= this.#header.length;
  }

  async #answer(): Promise<void> {
    clearTimeout(this.#late);
    this.#deafen();
    const answer = await this.#handler(this.#header!, Buffer.concat(this.#parts).toString(), this.#netns);
    if (this.#closed) return;
    try {
      for (const message of encodeAnswer(answer)) this.#native.sendFds(this.#fd, NO_FDS, message);
    } catch {
      // The program has gone; the runtime will delete what it does not know of.
    }
    this.close();
  }
}
