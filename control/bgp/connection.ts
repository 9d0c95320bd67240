/**
 * One TCP connection to a peer, from OPEN to its end: the states OpenSent, OpenConfirm and Established of RFC
 * 4271 section 8, with hold, keepalive and send-hold timers. Which of two connections lives, and when to dial
 * again, is for the session that owns it.
 */
import type { Socket } from 'node:net';
import { parseAddress4 } from '../address.ts';
import {
  BgpError,
  CEASE,
  CEASE_RESET,
  CEASE_RESOURCES,
  CEASE_SHUTDOWN,
  describe,
  FSM_ERROR,
  HOLD_TIMER_EXPIRED,
  OPEN_ERROR,
  SEND_HOLD_TIMER_EXPIRED,
} from './error.ts';
import { type Framed, Framer } from './framing.ts';
import {
  AFI_IPV4,
  AS_TRANS,
  abilities,
  CAP_MULTIPROTOCOL,
  decodeNotification,
  decodeOpen,
  decodeRouteRefresh,
  encodeNotification,
  encodeOpen,
  KEEPALIVE,
  keepalive,
  NOTIFICATION,
  type Notification,
  OPEN,
  ourCapabilities,
  ROUTE_REFRESH,
  SAFI_UNICAST,
  UPDATE,
} from './message.ts';
import { decodeUpdate, type Update } from './update.ts';

export interface ConnectionConfig {
  asn: number;
  /** BGP identifier, int32. */
  routerId: number;
  peerAsn: number;
  /** External paths must begin with the peer's AS; false for a route server. */
  enforceFirstAs: boolean;
  /** Seconds that we propose: 0 or at least 3. */
  holdTime: number;
  /** How long a peer may take to send its OPEN, ms. */
  openMs: number;
  /** How long a peer may take nothing of what we send, ms (RFC 9687). */
  sendHoldMs: number;
  /** Bytes that may wait for a peer that reads slowly; beyond, the session is closed. */
  maxOutputBytes: number;
}

export interface ConnectionCounters {
  messagesIn: number;
  messagesOut: number;
  updatesIn: number;
  updatesOut: number;
}

/** What the owner is told. onUpdate may throw a BgpError to end the session. */
export interface ConnectionOwner {
  readonly counters: ConnectionCounters;
  /** The peer's OPEN is good. The owner may close this connection, or the other. */
  onOpen(connection: Connection): void;
  onEstablished(connection: Connection): void;
  onUpdate(connection: Connection, update: Update): void;
  /** The peer asks for all routes again. */
  onRefresh(connection: Connection): void;
  /** What was sent has left: there is room again. */
  onDrain(connection: Connection): void;
  onClosed(connection: Connection, reason: string, error: unknown): void;
}

export type ConnectionState = 'OpenSent' | 'OpenConfirm' | 'Established' | 'Closed';

/** Messages, and prefixes among them, that are worked off before other things get their turn. */
const SLICE_MESSAGES = 256;
const SLICE_PREFIXES = 4096;
/** Bytes waiting above which no more UPDATEs are made. */
const OUTPUT_MARK = 256 * 1024;
/** How long a peer gets to take our NOTIFICATION before the connection is cut. */
const LINGER_MS = 1000;

export class Connection {
  readonly outgoing: boolean;
  readonly localAddress: number;
  state: ConnectionState = 'OpenSent';
  /** The peer's identifier, int32; 0 until its OPEN. */
  peerId = 0;
  /** Negotiated, seconds. */
  holdTime = 0;
  /** AS paths carry four octets. */
  as4 = false;
  /** Settles when the socket is closed. */
  readonly closed: Promise<void>;

  readonly #socket: Socket;
  readonly #owner: ConnectionOwner;
  readonly #config: ConnectionConfig;
  readonly #framer = new Framer();
  /** Messages wait for the next slice; the socket is paused meanwhile. */
  #backlog = false;
  #heard = 0;
  #hold: NodeJS.Timeout | undefined;
  #keepalive: NodeJS.Timeout | undefined;
  #sendHold: NodeJS.Timeout | undefined;

  /** Takes over a connected socket and sends OPEN. */
  constructor(socket: Socket, outgoing: boolean, config: ConnectionConfig, owner: ConnectionOwner) {
    this.#socket = socket;
    this.outgoing = outgoing;
    this.#config = config;
    this.#owner = owner;
    this.localAddress = parseAddress4((socket.localAddress ?? '0.0.0.0').replace(/^::ffff:/, ''));
    this.closed = new Promise((resolve) => {
      socket.once('close', resolve);
    });
    socket.setNoDelay(true);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#end(`connection lost: ${error.code ?? error.message}`, error);
    });
    socket.on('end', () => this.#end('connection closed by the peer', null));
    socket.on('close', () => this.#end('connection closed', null));
    socket.on('data', (chunk: Uint8Array) => {
      if (this.state === 'Closed') return;
      this.#framer.push(chunk);
      this.#work();
    });
    socket.on('drain', () => {
      if (this.state === 'Established') this.#owner.onDrain(this);
    });
    this.#hold = setTimeout(() => this.#holdExpired(), config.openMs);
    const { asn, routerId, holdTime } = config;
    const as2 = asn > 0xffff ? AS_TRANS : asn;
    this.send(encodeOpen({ as2, holdTime, routerId, capabilities: ourCapabilities(asn) }));
  }

  /** Send a whole message. False: enough waits to be sent; the owner hears onDrain when it is gone. */
  send(message: Uint8Array): boolean {
    const socket = this.#socket;
    if (this.state === 'Closed') return false;
    if (socket.writableLength + message.length > this.#config.maxOutputBytes) {
      const text = `the peer does not read: ${socket.writableLength} bytes wait for it`;
      this.fail(new BgpError(CEASE, CEASE_RESOURCES, text));
      return false;
    }
    this.#owner.counters.messagesOut++;
    if (message[18] === UPDATE) this.#owner.counters.updatesOut++;
    const flushed = socket.write(message, () => this.#sent());
    this.#sendHold ??= setTimeout(() => this.#sendHoldExpired(), this.#config.sendHoldMs);
    return flushed || socket.writableLength < OUTPUT_MARK;
  }

  /** End the session with a NOTIFICATION. */
  fail(error: BgpError): void {
    this.#end(error.message, error, error);
  }

  #sent(): void {
    if (this.state === 'Closed') return;
    if (this.#socket.writableLength > 0) this.#sendHold?.refresh();
    else {
      clearTimeout(this.#sendHold);
      this.#sendHold = undefined;
    }
  }

  #end(reason: string, error: unknown, notification: Notification | null = null): void {
    if (this.state === 'Closed') return;
    this.state = 'Closed';
    clearTimeout(this.#hold);
    clearTimeout(this.#keepalive);
    clearTimeout(this.#sendHold);
    const socket = this.#socket;
    if (notification) {
      this.#owner.counters.messagesOut++;
      // Closing with unread bytes would reset the connection and the NOTIFICATION with it: read on, and wait.
      socket.end(encodeNotification(notification));
      socket.resume();
      const linger = setTimeout(() => socket.destroy(), LINGER_MS);
      socket.once('close', () => clearTimeout(linger));
    } else socket.destroy();
    this.#owner.onClosed(this, reason, error);
  }

  /** Work off what has arrived, a slice in a turn of the event loop. */
  #work(): void {
    this.#backlog = false;
    let prefixes = 0;
    try {
      for (let messages = 0; messages < SLICE_MESSAGES && prefixes < SLICE_PREFIXES; messages++) {
        const message = this.#framer.next();
        if (!message) {
          if (this.#socket.isPaused()) this.#socket.resume();
          return;
        }
        this.#heard++;
        this.#owner.counters.messagesIn++;
        prefixes += this.#receive(message);
        if ((this.state as ConnectionState) === 'Closed') return;
      }
    } catch (error) {
      if (error instanceof BgpError) this.fail(error);
      else {
        const text = error instanceof Error ? error.message : String(error);
        const notification = new BgpError(CEASE, CEASE_RESOURCES, `internal error: ${text}`);
        this.#end(notification.message, error, notification);
      }
      return;
    }
    this.#backlog = true;
    this.#socket.pause();
    setImmediate(() => {
      if (this.state !== 'Closed') this.#work();
    });
  }

  /** Handle one message; answers how many prefixes it held. */
  #receive({ type, bytes, offset, end }: Framed): number {
    if (type === NOTIFICATION) {
      this.#end(`the peer sent ${explain(decodeNotification(bytes, offset, end))}`, null);
      return 0;
    }
    if (this.state === 'OpenSent') {
      if (type !== OPEN) throw new BgpError(FSM_ERROR, 1, `message of type ${type}`);
      this.#opened(bytes, offset, end);
      return 0;
    }
    if (this.state === 'OpenConfirm') {
      if (type !== KEEPALIVE) throw new BgpError(FSM_ERROR, 2, `message of type ${type}`);
      this.state = 'Established';
      this.#hold?.refresh();
      this.#owner.onEstablished(this);
      return 0;
    }
    this.#hold?.refresh();
    switch (type) {
      case UPDATE: {
        this.#owner.counters.updatesIn++;
        const { peerAsn, asn, enforceFirstAs } = this.#config;
        const firstAs = enforceFirstAs ? peerAsn : null;
        const context = { as4: this.as4, ibgp: peerAsn === asn, firstAs };
        const update = decodeUpdate(bytes, offset, end, context);
        this.#owner.onUpdate(this, update);
        return update.announced.reduce((sum, a) => sum + a.prefixes.length / 2, update.withdrawn.length / 2);
      }
      case KEEPALIVE:
        return 0;
      case ROUTE_REFRESH: {
        const { afi, subtype, safi } = decodeRouteRefresh(bytes, offset);
        // Other families were not agreed on and are ignored (RFC 2918 4); subtypes belong to RFC 7313.
        if (afi === AFI_IPV4 && safi === SAFI_UNICAST && subtype === 0) this.#owner.onRefresh(this);
        return 0;
      }
      default:
        throw new BgpError(FSM_ERROR, 3, `message of type ${type}`);
    }
  }

  #opened(bytes: Uint8Array, offset: number, end: number): void {
    const open = decodeOpen(bytes, offset, end);
    const { asn, peerAsn, routerId, holdTime } = this.#config;
    const { as4, ipv4Unicast } = abilities(open);
    const theirs = as4 ?? open.as2;
    if (theirs !== peerAsn) throw new BgpError(OPEN_ERROR, 2, `AS ${theirs} instead of ${peerAsn}`);
    if (open.routerId === routerId && peerAsn === asn) {
      throw new BgpError(OPEN_ERROR, 3, 'the peer has our own BGP identifier (RFC 6286)');
    }
    if (!ipv4Unicast) {
      const wanted = Uint8Array.of(CAP_MULTIPROTOCOL, 4, 0, AFI_IPV4, 0, SAFI_UNICAST);
      throw new BgpError(OPEN_ERROR, 7, 'the peer does not speak IPv4 unicast', wanted);
    }
    this.peerId = open.routerId;
    this.as4 = as4 !== null;
    this.holdTime = Math.min(open.holdTime, holdTime);
    this.state = 'OpenConfirm';
    this.#owner.onOpen(this);
    if ((this.state as ConnectionState) === 'Closed') return;
    clearTimeout(this.#hold);
    this.#hold = undefined;
    this.send(keepalive);
    if ((this.state as ConnectionState) === 'Closed') return;
    if (this.holdTime > 0) {
      this.#hold = setTimeout(() => this.#holdExpired(), this.holdTime * 1000);
      this.#scheduleKeepalive();
    }
  }

  /** A third of the hold time, shortened at random by up to a quarter (RFC 4271 section 10). */
  #scheduleKeepalive(): void {
    const ms = (this.holdTime * 1000 * (0.75 + Math.random() / 4)) / 3;
    this.#keepalive = setTimeout(() => {
      this.send(keepalive);
      if (this.state !== 'Closed') this.#scheduleKeepalive();
    }, ms);
  }

  #holdExpired(): void {
    // The silence may be ours: read what the kernel holds before the peer is blamed.
    const heard = this.#heard;
    setImmediate(() => {
      if (this.state === 'Closed') return;
      if (this.#backlog || this.#heard !== heard) this.#hold?.refresh();
      else this.fail(new BgpError(HOLD_TIMER_EXPIRED, 0, `nothing heard in ${this.state}`));
    });
  }

  #sendHoldExpired(): void {
    const text = `the peer took nothing for ${this.#config.sendHoldMs / 1000} s`;
    this.fail(new BgpError(SEND_HOLD_TIMER_EXPIRED, 0, text));
  }
}

/** What a NOTIFICATION says, with the operator's words in a shutdown (RFC 9003). */
function explain({ code, subcode, data }: Notification): string {
  const text = describe(code, subcode);
  if (code !== CEASE || (subcode !== CEASE_SHUTDOWN && subcode !== CEASE_RESET)) return text;
  const words = Buffer.from(data.subarray(1, 1 + (data[0] ?? 0))).toString('utf8');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a peer's words must not steer a terminal
  return words ? `${text}: "${words.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')}"` : text;
}
