/**
 * The session with one peer over all its connections: when to dial, which of two connections lives (RFC 4271
 * 6.8), what comes into the RIB and what goes out. At most one connection each way is kept.
 */
import { connect, type Socket } from 'node:net';
import { formatAddress4, formatPrefix4 } from '../address.ts';
import type { PathSource } from '../rib/decision.ts';
import type { Rib } from '../rib/rib.ts';
import { AdjOut } from './adj-out.ts';
import {
  Connection,
  type ConnectionConfig,
  type ConnectionCounters,
  type ConnectionOwner,
} from './connection.ts';
import { BgpError, CEASE, CEASE_COLLISION, CEASE_MAX_PREFIXES } from './error.ts';
import { exported, refusal, type Side } from './policy.ts';
import type { Update } from './update.ts';

export type PeerLabel = 'node-to-node mesh' | 'node specific' | 'global';
export type SessionState = 'Idle' | 'Connect' | 'Active' | 'OpenSent' | 'OpenConfirm' | 'Established';
export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields: Record<string, unknown>,
) => void;

export interface PeerCounters extends ConnectionCounters {
  /** Prefixes that were announced and may not be used: loops, next hop ourselves. */
  routesRefused: number;
  /** UPDATEs whose routes were treated as withdrawn for malformed attributes (RFC 7606). */
  updatesMalformed: number;
  /** Malformed or unwelcome attributes left out of UPDATEs that were used. */
  attributesDiscarded: number;
}

export interface PeerStatus {
  address: string;
  label: PeerLabel;
  asn: number;
  state: SessionState;
  /** Since when it is in that state. */
  since: Date;
  /** Why the last session or attempt ended; null while Established. */
  lastError: string | null;
  counters: PeerCounters;
  prefixesReceived: number;
  prefixesSent: number;
}

export interface SessionConfig extends ConnectionConfig {
  /** Peer's address, int32. */
  address: number;
  port: number;
  /** Source address to dial from, or null for the kernel's choice. */
  localAddress: string | null;
  /** Never dial. */
  passive: boolean;
  maxPrefixes: number;
  ownAddresses: readonly number[];
  /** How long the kernel may take to connect, ms. */
  connectMs: number;
  /** Time between attempts: doubles from the least to the most, ms. */
  retryMinMs: number;
  retryMaxMs: number;
}

/** A session that lasted so long makes the next attempts quick again. */
const STABLE_MS = 10_000;

/** The live session: at most one a peer. */
interface Established {
  connection: Connection;
  side: Side;
  out: AdjOut;
  since: number;
}

export class Session implements ConnectionOwner {
  readonly config: SessionConfig;
  label: PeerLabel;
  readonly counters: PeerCounters = {
    messagesIn: 0,
    messagesOut: 0,
    updatesIn: 0,
    updatesOut: 0,
    routesRefused: 0,
    updatesMalformed: 0,
    attributesDiscarded: 0,
  };
  readonly #rib: Rib;
  readonly #log: Log;
  readonly #onState: (session: Session) => void;
  readonly #name: string;
  #running = false;
  #dialing: Socket | null = null;
  #connections: Connection[] = [];
  #established: Established | null = null;
  #retry: NodeJS.Timeout | undefined;
  #attempts = 0;
  #state: SessionState = 'Idle';
  #since = new Date();
  #lastError: string | null = null;

  constructor(
    config: SessionConfig,
    label: PeerLabel,
    rib: Rib,
    log: Log,
    onState: (session: Session) => void,
  ) {
    this.config = config;
    this.label = label;
    this.#rib = rib;
    this.#log = log;
    this.#onState = onState;
    this.#name = formatAddress4(config.address);
  }

  get status(): PeerStatus {
    const live = this.#established;
    return {
      address: this.#name,
      label: this.label,
      asn: this.config.peerAsn,
      state: this.#state,
      since: this.#since,
      lastError: this.#lastError,
      counters: { ...this.counters },
      prefixesReceived: live ? this.#rib.count(live.side.peer) : 0,
      prefixesSent: live ? live.out.size : 0,
    };
  }

  start(): void {
    this.#running = true;
    this.#dial();
    this.#refreshState();
  }

  /** Cease with a subcode of RFC 4486. Settles when the connections are closed, within about a second. */
  async stop(subcode: number): Promise<void> {
    this.#running = false;
    clearTimeout(this.#retry);
    this.#dialing?.destroy();
    this.#dialing = null;
    const closing = this.#connections.map(({ closed }) => closed);
    for (const connection of [...this.#connections]) {
      connection.fail(new BgpError(CEASE, subcode, 'stopped here'));
    }
    this.#refreshState();
    await Promise.all(closing);
  }

  /** The peer has connected. */
  accept(socket: Socket): void {
    // A peer that dials again has given up what it dialled before.
    const earlier = this.#connections.find((c) => !c.outgoing && c.state !== 'Established');
    this.#adopt(socket, false);
    earlier?.fail(new BgpError(CEASE, CEASE_COLLISION, 'the peer has connected again'));
  }

  onOpen(connection: Connection): void {
    const other = this.#connections.find((c) => c !== connection && c.peerId !== 0);
    if (!other) return this.#refreshState();
    // RFC 4271 6.8: the connection that the higher identifier dialled stays (RFC 6286: at equal ones, the higher AS).
    const { routerId, asn, peerAsn } = this.config;
    const ours = routerId >>> 0;
    const theirs = connection.peerId >>> 0;
    const keepOutgoing = ours !== theirs ? ours > theirs : asn > peerAsn;
    const keepNew = other.state !== 'Established' && connection.outgoing === keepOutgoing;
    const loser = keepNew ? other : connection;
    loser.fail(new BgpError(CEASE, CEASE_COLLISION, 'another connection stays'));
    this.#refreshState();
  }

  onEstablished(connection: Connection): void {
    const { address, peerAsn, asn, routerId, ownAddresses } = this.config;
    const peer: PathSource = {
      address,
      id: connection.peerId,
      asn: peerAsn,
      internal: peerAsn === asn,
      local: false,
    };
    const side: Side = { asn, routerId, localAddress: connection.localAddress, ownAddresses, peer };
    const out = new AdjOut(this.#rib, {
      as4: connection.as4,
      exported: (path) => exported(path, side),
      send: (message) => connection.send(message),
    });
    this.#established = { connection, side, out, since: performance.now() };
    this.#lastError = null;
    clearTimeout(this.#retry);
    this.#dialing?.destroy();
    this.#dialing = null;
    this.#log('info', 'session established', { peer: this.#name, holdTime: connection.holdTime });
    this.#refreshState();
  }

  onUpdate(connection: Connection, update: Update): void {
    const live = this.#established;
    if (!live || live.connection !== connection) return;
    const { peer } = live.side;
    const { withdrawn, announced, fault, discarded } = update;
    if (fault) this.#sometimes(++this.counters.updatesMalformed, 'routes treated as withdrawn', fault);
    for (const text of discarded) {
      this.#sometimes(++this.counters.attributesDiscarded, 'attribute left out', text);
    }
    if (withdrawn.length > 0) this.#rib.withdraw(peer, withdrawn);
    for (const { attributes, prefixes } of announced) {
      const reason = refusal(attributes, live.side);
      if (reason) {
        this.counters.routesRefused += prefixes.length / 2;
        const first = formatPrefix4(prefixes[0]!, prefixes[1]!);
        this.#log('debug', 'routes refused', { peer: this.#name, reason, first, count: prefixes.length / 2 });
        this.#rib.withdraw(peer, prefixes);
      } else this.#rib.announce(peer, attributes, prefixes);
    }
    if (this.#rib.count(peer) > this.config.maxPrefixes) {
      throw new BgpError(CEASE, CEASE_MAX_PREFIXES, `more than ${this.config.maxPrefixes} prefixes`);
    }
  }

  onRefresh(connection: Connection): void {
    if (this.#established?.connection === connection) this.#established.out.refresh();
  }

  onDrain(connection: Connection): void {
    if (this.#established?.connection === connection) this.#established.out.pump();
  }

  onClosed(connection: Connection, reason: string, error: unknown): void {
    this.#connections = this.#connections.filter((c) => c !== connection);
    const live = this.#established;
    if (live?.connection === connection) {
      this.#established = null;
      live.out.close();
      this.#rib.drop(live.side.peer);
      if (performance.now() - live.since > STABLE_MS) this.#attempts = 0;
    }
    const collided = error instanceof BgpError && error.code === CEASE && error.subcode === CEASE_COLLISION;
    const internal = error instanceof Error && !(error instanceof BgpError) && !('code' in error);
    const fields = { peer: this.#name, reason, ...(internal ? { stack: error.stack } : {}) };
    this.#log(internal ? 'error' : collided || !this.#running ? 'debug' : 'warn', 'connection ended', fields);
    if (!collided) this.#lastError = reason;
    this.#retryLater();
    this.#refreshState();
  }

  #adopt(socket: Socket, outgoing: boolean): void {
    this.#connections.push(new Connection(socket, outgoing, this.config, this));
    this.#refreshState();
  }

  #dial(): void {
    const { port, localAddress, passive, connectMs } = this.config;
    if (!this.#running || passive || this.#established || this.#connections.some((c) => c.outgoing)) return;
    const socket = connect({ host: this.#name, port, ...(localAddress ? { localAddress } : {}) });
    this.#dialing = socket;
    const timer = setTimeout(
      () => socket.destroy(new Error(`no answer in ${connectMs / 1000} s`)),
      connectMs,
    );
    const failed = (error: NodeJS.ErrnoException) => {
      if (this.#dialing !== socket) return;
      this.#dialing = null;
      this.#lastError = `cannot connect: ${error.code ?? error.message}`;
      this.#log('debug', 'cannot connect', { peer: this.#name, reason: error.message });
      this.#retryLater();
      this.#refreshState();
    };
    socket.on('error', failed);
    socket.once('close', () => clearTimeout(timer));
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', failed);
      if (this.#dialing !== socket) {
        socket.on('error', () => {});
        socket.destroy();
        return;
      }
      this.#dialing = null;
      this.#adopt(socket, true);
    });
    this.#refreshState();
  }

  /** Dial again after a while that doubles with each attempt, shortened at random by up to a quarter. */
  #retryLater(): void {
    clearTimeout(this.#retry);
    if (!this.#running || this.#established) return;
    const { retryMinMs, retryMaxMs } = this.config;
    const ms = Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(this.#attempts++, 16));
    this.#retry = setTimeout(
      () => {
        if (!this.#dialing) this.#dial();
      },
      ms * (0.75 + Math.random() / 4),
    );
  }

  #refreshState(): void {
    const state = this.#currentState();
    if (state === this.#state) return;
    this.#state = state;
    this.#since = new Date();
    this.#onState(this);
  }

  #currentState(): SessionState {
    if (!this.#running) return 'Idle';
    if (this.#established) return 'Established';
    if (this.#connections.some((c) => c.state === 'OpenConfirm')) return 'OpenConfirm';
    if (this.#connections.some((c) => c.state === 'OpenSent')) return 'OpenSent';
    return this.#dialing ? 'Connect' : 'Active';
  }

  /** A peer may repeat itself a thousand times a second: log the 1st, 2nd, 4th, 8th... time. */
  #sometimes(count: number, message: string, reason: string): void {
    if ((count & (count - 1)) === 0) this.#log('warn', message, { peer: this.#name, reason, count });
  }
}
