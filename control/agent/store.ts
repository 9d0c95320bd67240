/**
 * Descriptors that outlive the agent: whoever holds them keeps a device's queue and a socket's buffer filling
 * until the next agent reads on. Held by systemd (FDSTORE) or by a keeper of our own, each under a name that tells
 * the port, what it was opened as, and its place among the port's descriptors: "calia/tap.4026532000.7.24/0/1".
 */
import {
  forgetDescriptors,
  storeDescriptors,
  takeInheritedDescriptors,
} from '../../dataplane/native/systemd.ts';
import { startKeeper } from '../keeper/client.ts';

export type HolderKind = 'systemd' | 'keeper' | 'none';

/** Who holds descriptors, and copies of them. */
export interface Holder {
  take(): { readonly name: string; readonly fd: number }[];
  keep(name: string, fd: number): void;
  forget(name: string): void;
}

const systemd: Holder = {
  take: () => takeInheritedDescriptors(),
  keep: (name, fd) => void storeDescriptors(name, Int32Array.of(fd)),
  forget: (name) => void forgetDescriptors(name),
};

/** What is to hold descriptors: systemd, if it runs us and stores descriptors for us; or a process of our own. */
export async function openHolder(kind: HolderKind, node: string): Promise<Holder | null> {
  if (kind === 'none') return null;
  return kind === 'systemd' ? systemd : startKeeper(node);
}

/** The descriptors of one port. */
interface Held {
  /** What they were opened as. */
  readonly key: string;
  readonly fds: readonly number[];
}

interface Taken {
  readonly name: string;
  readonly fd: number;
  readonly index: number;
}

export class DescriptorStore {
  readonly kind: HolderKind;
  /** How many descriptors of the agent before were taken over. */
  inherited = 0;
  /** Why descriptors are not held, or null. */
  problem: string | null = null;
  readonly #open: () => Promise<Holder | null>;
  readonly #close: (fd: number) => void;
  /** By port what the agent before left, until it is claimed. */
  readonly #left = new Map<string, Held>();
  /** By port what is held, or should be. */
  readonly #kept = new Map<string, Held>();
  #holder: Holder | null = null;

  /** `open` finds or starts who holds; `close` closes a descriptor of ours. */
  constructor(kind: HolderKind, open: () => Promise<Holder | null>, close: (fd: number) => void) {
    this.kind = kind;
    this.#open = open;
    this.#close = close;
  }

  /** How many descriptors are held. */
  get size(): number {
    return this.#holder ? [...this.#kept.values()].reduce((sum, { fds }) => sum + fds.length, 0) : 0;
  }

  /** Take what the agent before left. */
  async start(): Promise<void> {
    await this.check();
    const found = new Map<string, { port: string; key: string; count: number; taken: Taken[] }>();
    this.#attempt((holder) => {
      // The later of two by one name is the one that is held.
      for (const { name, fd } of new Map(holder.take().map((taken) => [taken.name, taken])).values()) {
        const [port = '', key = '', index, count] = name.split('/');
        const group = `${port}/${key}/${count}`;
        const entry = found.get(group) ?? { port, key, count: Number(count), taken: [] };
        entry.taken.push({ name, fd, index: Number(index) });
        found.set(group, entry);
      }
    });
    for (const { port, key, count, taken } of found.values()) {
      const fds = [...taken].sort((one, other) => one.index - other.index).map(({ fd }) => fd);
      if (taken.length === count) this.#left.set(decodeURIComponent(port), { key, fds });
      else this.#drop(taken);
    }
  }

  /** See to it that there is someone who holds; what should be held is given to whoever comes anew. */
  async check(): Promise<void> {
    if (this.#holder || this.kind === 'none') return;
    try {
      this.#holder = await this.#open();
      this.problem = null;
    } catch (error) {
      this.problem = `no descriptor would outlive this agent: ${(error as Error).message}`;
      return;
    }
    for (const [port, held] of this.#kept) this.#give(port, held);
  }

  /**
   * The descriptors that the agent before left for a port, if it opened them as `isSame` says; ours from now on.
   * If not, they are given up at once: they may be in the way of what is opened in their place.
   */
  claim(port: string, isSame: (key: string, count: number) => boolean): Held | null {
    const held = this.#left.get(port);
    if (!held) return null;
    this.#left.delete(port);
    if (!isSame(held.key, held.fds.length)) {
      this.#giveUp(port, held);
      return null;
    }
    this.inherited += held.fds.length;
    this.#kept.set(port, held);
    return held;
  }

  /** Have a port's descriptors held. */
  keep(port: string, key: string, fds: readonly number[]): void {
    const held = { key, fds };
    this.forget(port);
    this.#kept.set(port, held);
    this.#give(port, held);
  }

  /** Nobody is to hold a port's descriptors any more. */
  forget(port: string): void {
    const held = this.#kept.get(port);
    if (!held) return;
    this.#kept.delete(port);
    for (const name of namesOf(port, held)) this.#attempt((holder) => holder.forget(name));
  }

  /** Give up what the agent before left and nobody claimed. */
  discard(): void {
    for (const [port, held] of this.#left) this.#giveUp(port, held);
    this.#left.clear();
  }

  #give(port: string, held: Held): void {
    for (const [index, name] of namesOf(port, held).entries()) {
      this.#attempt((holder) => holder.keep(name, held.fds[index]!));
    }
  }

  #giveUp(port: string, held: Held): void {
    this.#drop(namesOf(port, held).map((name, index) => ({ name, fd: held.fds[index]! })));
  }

  #drop(taken: readonly { readonly name: string; readonly fd: number }[]): void {
    for (const { name, fd } of taken) {
      this.#close(fd);
      this.#attempt((holder) => holder.forget(name));
    }
  }

  #attempt(action: (holder: Holder) => void): void {
    if (!this.#holder) return;
    try {
      action(this.#holder);
    } catch (error) {
      // The next reconcile looks for another holder.
      this.#holder = null;
      this.problem = `no descriptor would outlive this agent: ${(error as Error).message}`;
    }
  }
}

const nameOf = (port: string, key: string, index: number, count: number): string =>
  `${encodeURIComponent(port)}/${key}/${index}/${count}`;

const namesOf = (port: string, { key, fds }: Held): string[] =>
  fds.map((_, index) => nameOf(port, key, index, fds.length));
