/** The agent's side of the keeper. Every question is answered at once by a process that does nothing else, so we wait. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { native as load } from '../../dataplane/native/index.ts';
import { TortieError } from '../error.ts';
import { decode, encode, keeperAddress, MAX_MESSAGE, OP } from './protocol.ts';

const ANSWER_MS = 2000;
const START_MS = 5000;
const START_POLL_MS = 10;

/** Node 20 loads no TypeScript by itself: the keeper runs from the build, also when we run from source. */
const ENTRY = import.meta.dirname.replace(/(?<!\/dist)\/control\/keeper$/, '/dist/control/keeper');

export interface KeptDescriptor {
  readonly name: string;
  readonly fd: number;
}

export class KeeperClient {
  readonly #native = load();
  readonly #node: string;
  readonly #fd: number;
  readonly #epoll: number;
  readonly #buffer = new Uint8Array(MAX_MESSAGE);
  readonly #ready = new Int32Array(1);

  /** Throws the addon's error if nobody listens. */
  constructor(node: string) {
    this.#node = node;
    this.#fd = this.#native.unixConnect(keeperAddress(node));
    this.#epoll = this.#native.epollCreate();
    this.#native.epollAdd(this.#epoll, this.#fd, 0);
  }

  /** Copies of all that is kept: the keeper keeps it on. */
  take(): KeptDescriptor[] {
    const taken: KeptDescriptor[] = [];
    for (let index = 0; ; index++) {
      const { op, text, fds } = this.#ask(OP.get, String(index));
      const [fd] = fds;
      if (op !== OP.descriptor || fd === undefined) return taken;
      taken.push({ name: text, fd });
    }
  }

  keep(name: string, fd: number): void {
    this.#ask(OP.keep, name, Int32Array.of(fd));
  }

  forget(name: string): void {
    this.#ask(OP.forget, name);
  }

  close(): void {
    this.#native.close(this.#epoll);
    this.#native.close(this.#fd);
  }

  #ask(op: string, text: string, sent = new Int32Array(0)): { op: string; text: string; fds: number[] } {
    this.#native.sendFds(this.#fd, sent, encode(op, text));
    const deadline = performance.now() + ANSWER_MS;
    for (let left = ANSWER_MS; left > 0; left = deadline - performance.now()) {
      this.#native.epollWait(this.#epoll, this.#ready, left);
      const answer = this.#native.receiveFds(this.#fd, this.#buffer);
      if (!answer) continue;
      if (answer.bytes === 0) throw this.#lost('went away');
      const { op: told, text: said } = decode(this.#buffer.subarray(0, answer.bytes));
      if (told === OP.refused) throw this.#lost(`refuses: ${said}`);
      return { op: told, text: said, fds: answer.fds };
    }
    throw this.#lost(`gave no answer within ${ANSWER_MS / 1000} s`);
  }

  #lost(why: string): TortieError {
    return new TortieError('KEEPER', `the keeper of node ${this.#node} ${why}`);
  }
}

/** The keeper that runs in this namespace, or a new one. It outlives us. */
export async function startKeeper(node: string): Promise<KeeperClient> {
  const running = tryConnect(node);
  if (running) return running;
  let failure: Error | null = null;
  // A session and a folder of its own, nothing of ours open: it must not end or hold anything because of us.
  const child = spawn(process.execPath, [`${ENTRY}/main.js`, node], {
    detached: true,
    stdio: 'ignore',
    cwd: '/',
  });
  child.once('error', (error) => {
    failure = error;
  });
  child.unref();
  for (let waited = 0; waited < START_MS && failure === null; waited += START_POLL_MS) {
    await sleep(START_POLL_MS);
    const client = tryConnect(node);
    if (client) return client;
  }
  const why = failure === null ? `does not answer within ${START_MS / 1000} s` : String(failure);
  throw new TortieError('KEEPER', `the keeper of node ${node} cannot be started: ${why}`);
}

function tryConnect(node: string): KeeperClient | null {
  try {
    return new KeeperClient(node);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') return null;
    throw error;
  }
}
