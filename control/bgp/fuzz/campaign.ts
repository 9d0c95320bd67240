/**
 * Many sessions of a real speaker with peers that make mistakes, beside two that make none and are told what comes of it.
 *
 * What must hold: nothing but BgpError ends a session, and a session is all that it ends; what well-behaved peers are
 * told is well-formed; and nothing is left when the peers are gone.
 */
import type { Socket } from 'node:net';
import { AttributeTable } from '../attribute-table.ts';
import type { SpeakerConfig } from '../config.ts';
import { describe } from '../error.ts';
import { Framer } from '../framing.ts';
import { MemorySocket } from '../memory-socket.ts';
import { decodeNotification, keepalive, MAX_EXTENDED_MESSAGE, NOTIFICATION, UPDATE } from '../message.ts';
import { ACCEPT_ALL } from '../policy.ts';
import { Speaker } from '../speaker.ts';
import { IBGP } from '../test-routes.ts';
import { until } from '../until.ts';
import { UpdateDecoder } from '../update.ts';
import { ASN, type Form, forms, openAs } from './corpus.ts';
import { mutate } from './mutate.ts';
import { Random } from './random.ts';

/** Messages of one session at most. */
const SESSION_MESSAGES = 60;
/** Messages that took longest, and are looked at again. */
const SLOWEST = 10;
const AGAIN = 7;

export interface Slow {
  /** CPU time, of the turn of the event loop in which it was worked off, or what it left to do was. */
  readonly ms: number;
  /** Position in the campaign. */
  readonly number: number;
  readonly form: Form;
  readonly bytes: Uint8Array;
}

export interface Progress {
  readonly messages: number;
  readonly sessions: number;
  /** How sessions ended. */
  readonly ended: ReadonlyMap<string, number>;
  /** The longest first. */
  readonly slowest: readonly Slow[];
  readonly prefixes: number;
  readonly sets: number;
}

/** What must not be: with all that is needed to see it again. */
export class FuzzFailure extends Error {
  constructor(text: string, seed: number, number: number, form: Form, session: readonly Uint8Array[]) {
    const hex = Buffer.concat(session).toString('hex');
    super(`${text}\n  seed ${seed}, message ${number}, peer ${form.peer.address}\n  --replay ${hex}`);
    this.name = 'FuzzFailure';
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A peer that keeps to the rules, and decodes all that it is told. */
class Watcher {
  readonly socket = new MemorySocket();
  readonly #framer = new Framer();
  readonly #decoder: UpdateDecoder;

  constructor(as4: boolean, internal: boolean, addPath: boolean) {
    const table = new AttributeTable();
    const context = {
      ...IBGP,
      as4,
      ibgp: internal,
      firstAs: internal ? null : ASN,
      addPath: [addPath, addPath] as const,
      nextHops: table.nextHops,
    };
    this.#decoder = new UpdateDecoder(context, table);
    this.#framer.limit = MAX_EXTENDED_MESSAGE;
  }

  /** Read what has come; answers what was wrong with it, or null. */
  read(): string | null {
    for (const chunk of this.socket.written.splice(0)) {
      this.#framer.push(chunk);
      for (let next = this.#framer.next(); next; next = this.#framer.next()) {
        const { type, bytes, offset, end } = next;
        if (type === NOTIFICATION)
          return `a peer that keeps to the rules was sent ${ending(bytes, offset, end)}`;
        if (type !== UPDATE) continue;
        const { fault, discarded } = this.#decoder.decode(bytes, offset, end);
        if (fault || discarded.length > 0) {
          const hex = Buffer.from(bytes.subarray(offset, end)).toString('hex');
          return `a peer that keeps to the rules was told ${fault ?? discarded.join()}: ${hex}`;
        }
      }
    }
    return null;
  }
}

const WATCHERS = [
  { address: '10.0.0.8', asn: ASN, as4: true, addPath: true },
  { address: '10.0.0.9', asn: 65009, as4: false, addPath: false },
];

function ending(bytes: Uint8Array, offset: number, end: number): string {
  const { code, subcode } = decodeNotification(bytes, offset, end);
  return describe(code, subcode);
}

/** How a session ended, by what its socket was sent. */
function endOf(written: readonly Uint8Array[]): string {
  const framer = new Framer();
  framer.limit = MAX_EXTENDED_MESSAGE;
  for (const chunk of written) framer.push(chunk);
  for (let next = framer.next(); next; next = framer.next()) {
    if (next.type === NOTIFICATION) return ending(next.bytes, next.offset, next.end);
  }
  return 'without a NOTIFICATION of ours';
}

export class Campaign {
  readonly #forms: Form[];
  readonly #seed: number;
  readonly #random: Random;
  readonly #speaker: Speaker;
  readonly #watchers: Watcher[] = [];
  readonly #ended = new Map<string, number>();
  readonly #slowest: Slow[] = [];
  /** What the speaker has logged as an error. */
  #fault: string | null = null;
  #messages = 0;
  #sessions = 0;

  constructor(seed: number, recorded: readonly Uint8Array[]) {
    this.#seed = seed;
    this.#random = new Random(seed);
    this.#forms = forms(recorded);
    this.#speaker = new Speaker({
      ...this.#config,
      log: (level, message, fields) => {
        if (level === 'error') this.#fault ??= `${message} ${JSON.stringify(fields)}`;
      },
    });
  }

  get #config(): SpeakerConfig {
    const watching = WATCHERS.map(({ address, asn, addPath }) => ({
      address,
      asn,
      passive: true,
      label: 'global' as const,
      families: ['ipv4', 'ipv6'] as const,
      nextHop6: 'fd00::1',
      importPolicy: ACCEPT_ALL,
      exportPolicy: ACCEPT_ALL,
      longLivedTime: 60,
      ...(addPath ? { addPath: { send: 4 } } : {}),
    }));
    return {
      asn: ASN,
      routerId: '10.0.0.1',
      peers: [...this.#forms.map(({ peer }) => peer), ...watching],
      originate: [{ prefix: '10.65.0.0/26' }, { prefix: 'fd65::/64' }],
    };
  }

  get progress(): Progress {
    const { ribs, table } = this.#speaker;
    return {
      messages: this.#messages,
      sessions: this.#sessions,
      ended: this.#ended,
      slowest: this.#slowest,
      prefixes: ribs[0].size + ribs[1].size,
      sets: table.size,
    };
  }

  async start(): Promise<void> {
    await this.#speaker.start();
    for (const { address, asn, as4, addPath } of WATCHERS) {
      const watcher = new Watcher(as4, asn === ASN, addPath);
      this.#watchers.push(watcher);
      this.#speaker.session(address)!.accept(watcher.socket as unknown as Socket);
      watcher.socket.push(openAs({ asn, address, as4, addPath }));
      watcher.socket.push(keepalive);
      await until('a watcher is up', () => this.#stateOf(address) === 'Established');
    }
  }

  /** One session, of messages as many as it bears. Throws FuzzFailure. */
  async session(): Promise<void> {
    const random = this.#random;
    for (const { socket } of this.#watchers) socket.push(keepalive);
    const form = random.pick(this.#forms);
    const socket = this.#connect(form);
    const sent: Uint8Array[] = [];
    const opening = [form.open, keepalive].map((message) =>
      random.chance(0.1) ? mutate(message, form.messages, random) : message,
    );
    for (const message of opening) await this.#send(form, socket, message, sent);
    for (let left = SESSION_MESSAGES; left > 0 && this.#isUp(form, socket); left--) {
      const source = random.chance(0.003) ? random.pick(form.large) : random.pick(form.messages);
      const message = random.chance(0.9) ? mutate(source, form.messages, random) : source;
      await this.#send(form, socket, message, sent);
    }
    await this.#disconnect(socket);
  }

  /**
   * A stream of bytes to each kind of peer, a session each. Without an OPEN in front it gets the right one. Throws
   * FuzzFailure.
   */
  async replay(stream: Uint8Array): Promise<void> {
    const hasOpen = stream[18] === 1;
    for (const form of this.#forms) {
      const socket = this.#connect(form);
      const sent: Uint8Array[] = [];
      const messages = hasOpen ? [stream] : [form.open, keepalive, stream];
      for (const message of messages) await this.#send(form, socket, message, sent);
      await this.#disconnect(socket);
    }
  }

  /** The least time that the slowest messages take, each sent a few times again: what is left are not pauses of others. */
  async slowestAgain(): Promise<(Slow & { first: number })[]> {
    const slowest = [...this.#slowest];
    const out: (Slow & { first: number })[] = [];
    for (const slow of slowest) {
      let { ms } = slow;
      for (let i = 0; i < AGAIN; i++) {
        const socket = this.#connect(slow.form);
        for (const message of [slow.form.open, keepalive]) await this.#send(slow.form, socket, message, []);
        ms = Math.min(ms, await this.#send(slow.form, socket, slow.bytes, []));
        await this.#disconnect(socket);
      }
      out.push({ ...slow, first: slow.ms, ms });
    }
    return out.sort((a, b) => b.ms - a.ms);
  }

  /** All peers go. Rejects if something of them is left. */
  async end(): Promise<void> {
    const { ribs, table } = this.#speaker;
    for (const { socket } of this.#watchers) socket.destroy();
    await this.#speaker.reconfigure({ ...this.#config, peers: [], originate: [] });
    await until('all is forgotten', () => ribs.every((rib) => rib.size === 0 && rib.pathCount === 0));
    await this.#speaker.stop();
    if (table.size > 0) throw new Error(`${table.size} sets of attributes are held by nobody`);
  }

  #stateOf(address: string): string {
    return this.#speaker.session(address)!.status.state;
  }

  #isUp({ peer }: Form, socket: MemorySocket): boolean {
    return !socket.writableEnded && this.#stateOf(peer.address) === 'Established';
  }

  #connect({ peer }: Form): MemorySocket {
    const socket = new MemorySocket();
    this.#sessions++;
    this.#speaker.session(peer.address)!.accept(socket as unknown as Socket);
    return socket;
  }

  async #disconnect(socket: MemorySocket): Promise<void> {
    const end = endOf(socket.written);
    this.#ended.set(end, (this.#ended.get(end) ?? 0) + 1);
    socket.destroy();
    await turn();
  }

  /** Send a message, sometimes in pieces; answers the most that a turn of the event loop worked, ms. */
  async #send(form: Form, socket: MemorySocket, message: Uint8Array, sent: Uint8Array[]): Promise<number> {
    const number = this.#messages++;
    sent.push(message);
    let ms = 0;
    let from = process.cpuUsage();
    const pause = () => {
      const { user, system } = process.cpuUsage(from);
      ms = Math.max(ms, (user + system) / 1000);
      from = process.cpuUsage();
    };
    const cut = this.#random.chance(0.1) ? this.#random.below(message.length) : 0;
    if (cut > 0) socket.push(message.subarray(0, cut));
    socket.push(message.subarray(cut));
    pause();
    do {
      await turn();
      pause();
    } while (!socket.destroyed && (socket.isPaused() || socket.readableLength > 0));
    const fault = this.#check(form);
    if (fault) throw new FuzzFailure(fault, this.#seed, number, form, sent);
    this.#note({ ms, number, form, bytes: message });
    return ms;
  }

  #check({ peer }: Form): string | null {
    if (this.#fault) return this.#fault;
    const { lastError } = this.#speaker.session(peer.address)!.status;
    if (lastError?.includes('internal error')) return lastError;
    for (const watcher of this.#watchers) {
      const fault = watcher.read();
      if (fault) return fault;
    }
    const lost = WATCHERS.find(({ address }) => this.#stateOf(address) !== 'Established');
    return lost ? `the session with ${lost.address} has ended, which keeps to the rules` : null;
  }

  #note(slow: Slow): void {
    if (this.#slowest.length === SLOWEST && slow.ms <= this.#slowest.at(-1)!.ms) return;
    this.#slowest.push(slow);
    this.#slowest.sort((a, b) => b.ms - a.ms);
    if (this.#slowest.length > SLOWEST) this.#slowest.pop();
  }
}
