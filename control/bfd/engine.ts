/** All sessions of a node: what they are to be, their sockets and their timers. */
import { randomInt } from 'node:crypto';
import { SocketAddress } from 'node:net';
import { type ControlPacket, DISCARDS, type Discard, DOWN, decode, encode } from './packet.ts';
import { MAX_SESSIONS, type SessionReport, type SessionSpec } from './protocol.ts';
import { BfdSession, type Timers } from './session.ts';
import { Receiver, Sender } from './transport.ts';

/** After so long, an address that could not be had is tried again. */
const RETRY_MS = 1000;
/** Turns of the event loop in which what has arrived is read before a peer is taken for gone. */
const MAX_TURNS = 64;

/** As Node tells where a datagram is from. */
const canonical = (address: string): string =>
  address.includes(':') ? new SocketAddress({ address, family: 'ipv6' }).address : address;

interface Entry {
  spec: SessionSpec;
  readonly session: BfdSession;
  readonly receiverKey: string;
  readonly sender: Sender;
  timer: NodeJS.Timeout | undefined;
  /** When the timer fires; Infinity: it is not set. */
  timerAt: number;
  /** When it goes for good, having said AdminDown for long enough; Infinity: it stays. */
  goesAt: number;
  since: number;
  failures: number;
  packetsIn: number;
  packetsOut: number;
  sendErrors: number;
  /** What the peer said last of its C bit: the session forgets a peer that is gone. */
  independent: boolean;
}

export class Engine {
  readonly #onChange: (session: SessionReport) => void;
  readonly #entries = new Map<string, Entry>();
  readonly #byDiscriminator = new Map<number, Entry>();
  readonly #receivers = new Map<string, { receiver: Receiver; users: number }>();
  /** By peer, those that have no sockets yet, and why. */
  #failed = new Map<string, { spec: SessionSpec; problem: string }>();
  #retry: NodeJS.Timeout | undefined;
  #wanted: readonly SessionSpec[] = [];
  #heard = 0;
  /** Of receivers that are closed. */
  #refusedBefore = 0;
  readonly discards = Object.fromEntries(DISCARDS.map((reason) => [reason, 0])) as Record<Discard, number>;
  #onIdle: (() => void) | null = null;

  /** `onChange` is called whenever a session is in another state. */
  constructor(onChange: (session: SessionReport) => void) {
    this.#onChange = onChange;
  }

  /** Have these sessions and no others. Those that stay are not disturbed; those that go say AdminDown for a while. */
  configure(wanted: readonly SessionSpec[]): void {
    this.#wanted = wanted;
    this.#onIdle = null;
    clearTimeout(this.#retry);
    this.#failed = new Map();
    const now = performance.now();
    const next = new Map(wanted.slice(0, MAX_SESSIONS).map((spec) => [canonical(spec.peer), spec]));
    for (const [peer, entry] of this.#entries) {
      const spec = next.get(peer);
      // In another place it is another session.
      if (spec && placeOf(spec) !== placeOf(entry.spec)) this.#drop(peer, entry);
      else if (!spec) this.#leave(entry, now);
    }
    for (const [peer, spec] of next) {
      const entry = this.#entries.get(peer);
      if (entry) this.#renew(entry, spec, now);
      else this.#open(peer, spec);
    }
    for (const spec of wanted.slice(MAX_SESSIONS)) {
      this.#failed.set(canonical(spec.peer), { spec, problem: `more than ${MAX_SESSIONS} sessions` });
    }
    if (this.#failed.size > 0) this.#retry = setTimeout(() => this.configure(this.#wanted), RETRY_MS);
  }

  /** Take leave of all peers. Resolves when they have been told for long enough, unless `configure` comes between. */
  leave(): Promise<void> {
    this.configure([]);
    return new Promise((resolve) => {
      if (this.#entries.size === 0) resolve();
      else this.#onIdle = resolve;
    });
  }

  reports(): SessionReport[] {
    const open = [...this.#entries.values()].filter(({ goesAt }) => goesAt === Number.POSITIVE_INFINITY);
    return [
      ...open.map(reportOf),
      ...[...this.#failed.values()].map(({ spec, problem }) => ({ ...NOTHING, spec, problem })),
    ];
  }

  /** Datagrams that the kernel kept from us. */
  get refused(): number {
    let count = this.#refusedBefore;
    for (const { receiver } of this.#receivers.values()) count += receiver.refused;
    return count;
  }

  // ---- Sessions come and go -------------------------------------------------------------------------

  #open(peer: string, spec: SessionSpec): void {
    const receiverKey = placeOf(spec);
    try {
      this.#take(receiverKey, spec);
    } catch (error) {
      this.#failed.set(peer, { spec, problem: (error as Error).message });
      return;
    }
    let sender: Sender;
    try {
      sender = new Sender(spec.local, spec.peer, spec.multihop);
    } catch (error) {
      this.#giveBack(receiverKey);
      this.#failed.set(peer, { spec, problem: (error as Error).message });
      return;
    }
    const session = new BfdSession(this.#newDiscriminator(), spec, {
      send: (packet) => this.#send(entry, packet),
      changed: ({ failed }) => {
        entry.since = Date.now();
        if (failed) entry.failures++;
        this.#onChange(reportOf(entry));
      },
      random: Math.random,
    });
    const entry: Entry = {
      spec,
      session,
      receiverKey,
      sender,
      timer: undefined,
      timerAt: Number.POSITIVE_INFINITY,
      goesAt: Number.POSITIVE_INFINITY,
      since: Date.now(),
      failures: 0,
      packetsIn: 0,
      packetsOut: 0,
      sendErrors: 0,
      independent: false,
    };
    this.#entries.set(peer, entry);
    this.#byDiscriminator.set(session.discriminator, entry);
    this.#work(peer, entry);
  }

  #renew(entry: Entry, spec: SessionSpec, now: number): void {
    entry.spec = spec;
    entry.goesAt = Number.POSITIVE_INFINITY;
    entry.session.enable(now);
    entry.session.reconfigure(timersOf(spec), now);
    this.#arm(canonical(spec.peer), entry);
  }

  /** Section 6.8.16: the peer is told for as long as it would take to notice by itself, or until it is seen to know. */
  #leave(entry: Entry, now: number): void {
    if (entry.goesAt !== Number.POSITIVE_INFINITY) return;
    const { session } = entry;
    const { multiplier } = session.timers;
    session.disable(now);
    // A peer that is down, or not there, has nothing to notice.
    entry.goesAt = session.remote.state <= DOWN ? now : now + multiplier * session.txMs;
    this.#arm(canonical(entry.spec.peer), entry);
  }

  #drop(peer: string, entry: Entry): void {
    clearTimeout(entry.timer);
    entry.sender.close();
    this.#entries.delete(peer);
    this.#byDiscriminator.delete(entry.session.discriminator);
    this.#giveBack(entry.receiverKey);
    if (this.#entries.size > 0) return;
    this.#onIdle?.();
    this.#onIdle = null;
  }

  #take(key: string, { local, multihop }: SessionSpec): void {
    const found = this.#receivers.get(key);
    if (found) {
      found.users++;
      return;
    }
    const receiver = new Receiver(local, multihop, (packet, from) => this.#receive(key, packet, from));
    this.#receivers.set(key, { receiver, users: 1 });
  }

  #giveBack(key: string): void {
    const found = this.#receivers.get(key)!;
    if (--found.users > 0) return;
    this.#refusedBefore += found.receiver.refused;
    found.receiver.close();
    this.#receivers.delete(key);
  }

  /** Unique and hard to guess (RFC 5880 section 9). */
  #newDiscriminator(): number {
    let discriminator: number;
    do discriminator = randomInt(1, 2 ** 32);
    while (this.#byDiscriminator.has(discriminator));
    return discriminator;
  }

  // ---- Packets and time -----------------------------------------------------------------------------

  #receive(key: string, bytes: Buffer, from: string): void {
    this.#heard++;
    const packet = decode(bytes);
    if (typeof packet === 'string') {
      this.discards[packet]++;
      return;
    }
    const { yours } = packet;
    const entry = yours === 0 ? this.#entries.get(from) : this.#byDiscriminator.get(yours);
    // A packet for one hop that came by the port for several has not proved that it is from near.
    if (entry?.receiverKey !== key) {
      this.discards.session++;
      return;
    }
    entry.packetsIn++;
    entry.independent = packet.independent;
    const now = performance.now();
    entry.session.receive(packet, now);
    // It knows: there is nothing more to say.
    if (entry.goesAt !== Number.POSITIVE_INFINITY && packet.state <= DOWN) entry.goesAt = now;
    this.#arm(canonical(entry.spec.peer), entry);
  }

  #send(entry: Entry, packet: ControlPacket): void {
    entry.packetsOut++;
    entry.sender.send(encode(packet), () => {
      entry.sendErrors++;
    });
  }

  /** Do what is due, and see to the next. */
  #work(peer: string, entry: Entry): void {
    if (this.#entries.get(peer) !== entry) return;
    const now = performance.now();
    if (now >= entry.goesAt) return this.#drop(peer, entry);
    entry.session.advance(now);
    this.#arm(peer, entry);
  }

  /** A timer that fires too early sets itself anew, so that packets that put a deadline off need not. */
  #arm(peer: string, entry: Entry): void {
    const due = Math.min(entry.session.deadline, entry.goesAt);
    if (entry.timerAt <= due) return;
    clearTimeout(entry.timer);
    entry.timerAt = due;
    entry.timer = setTimeout(
      () => {
        entry.timerAt = Number.POSITIVE_INFINITY;
        if (performance.now() >= entry.session.expiry) this.#readFirst(peer, entry, MAX_TURNS);
        else this.#work(peer, entry);
      },
      Math.max(0, due - performance.now()),
    );
  }

  /**
   * A timer is looked at before the sockets are. Were we kept from running, packets of the peer may wait to be read: until a
   * turn of the loop brings none, nobody is taken for gone.
   */
  #readFirst(peer: string, entry: Entry, turns: number): void {
    const before = this.#heard;
    setImmediate(() => {
      if (this.#heard !== before && turns > 0 && performance.now() >= entry.session.expiry)
        this.#readFirst(peer, entry, turns - 1);
      else this.#work(peer, entry);
    });
  }
}

/** A packet's way to a session: the address and the port that it comes to. */
const placeOf = ({ local, multihop }: SessionSpec): string => `${canonical(local)} ${multihop}`;

const timersOf = ({ minTxMs, minRxMs, multiplier }: SessionSpec): Timers => ({
  minTxMs,
  minRxMs,
  multiplier,
});

const NOTHING = {
  state: 1,
  diagnostic: 0,
  remoteState: 1,
  remoteDiagnostic: 0,
  remoteIndependent: false,
  discriminator: 0,
  remoteDiscriminator: 0,
  txMs: 0,
  detectionMs: 0,
  since: 0,
  failures: 0,
  packetsIn: 0,
  packetsOut: 0,
  sendErrors: 0,
};

function reportOf(entry: Entry): SessionReport {
  const { spec, session, since, failures, packetsIn, packetsOut, sendErrors, independent } = entry;
  const { state, diagnostic, remote, discriminator, txMs, detectionMs } = session;
  return {
    spec,
    state,
    diagnostic,
    remoteState: remote.state,
    remoteDiagnostic: remote.diagnostic,
    remoteIndependent: independent,
    discriminator,
    remoteDiscriminator: remote.discriminator,
    txMs,
    detectionMs,
    since,
    failures,
    packetsIn,
    packetsOut,
    sendErrors,
    problem: null,
  };
}
