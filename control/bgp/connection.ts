/**
 * One TCP connection to a peer, from OPEN to its end: the states OpenSent, OpenConfirm and Established of RFC
 * 4271 section 8, with hold, keepalive and send-hold timers. Which of two connections lives, and when to dial
 * again, is for the session that owns it.
 */
import type { Socket } from 'node:net';
import { AS_TRANS } from './attributes.ts';
import { get32 } from './bytes.ts';
import {
  type Abilities,
  abilitiesOf,
  CAP_MULTIPROTOCOL,
  type Capability,
  describeCapabilities,
  ourCapabilities,
  rolesAgree,
} from './capabilities.ts';
import type { Role } from './config.ts';
import {
  BgpError,
  CEASE,
  CEASE_HARD_RESET,
  CEASE_MAX_PREFIXES,
  CEASE_RESET,
  CEASE_RESOURCES,
  CEASE_SHUTDOWN,
  describe,
  FSM_ERROR,
  HOLD_TIMER_EXPIRED,
  OPEN_ERROR,
  SEND_HOLD_TIMER_EXPIRED,
} from './error.ts';
import { FAMILIES, type Family, familyOf, formatWords, IPV4 } from './family.ts';
import { type Framed, Framer } from './framing.ts';
import {
  decodeNotification,
  decodeOpen,
  decodeRouteRefresh,
  encodeNotification,
  encodeOpen,
  HEADER,
  KEEPALIVE,
  keepalive,
  MAX_EXTENDED_MESSAGE,
  MAX_MESSAGE,
  NOTIFICATION,
  type Notification,
  OPEN,
  ROUTE_REFRESH,
  UPDATE,
} from './message.ts';
import { causeOf } from './socket.ts';
import type { Offer, PeerCounters } from './status.ts';

export interface ConnectionConfig {
  /** Our AS in this session. */
  asn: number;
  /** BGP identifier, int32. */
  routerId: number;
  peerAsn: number;
  families: readonly Family[];
  /** Seconds that we propose: 0 or at least 3. */
  holdTime: number;
  /** Seconds between KEEPALIVEs, at most a third of the hold time. */
  keepaliveTime: number | null;
  restartTime: number;
  /** Our forwarding state outlived a restart, and we have not been told all again yet. */
  restarting: boolean;
  /** What the peer was told before is still forwarded as told. */
  forwarding: boolean;
  longLivedTime: number;
  addPathReceive: boolean;
  addPathSend: boolean;
  role: Role | null;
  strictRole: boolean;
  /** How long a peer may take to send its OPEN, ms. */
  openMs: number;
  /** How long a peer may take nothing of what we send, ms (RFC 9687). */
  sendHoldMs: number;
  /** Bytes that may wait for a peer that reads slowly; beyond, the session is closed. */
  maxOutputBytes: number;
}

/** What both sides agreed on. */
export interface Agreement {
  /** Seconds. */
  readonly holdTime: number;
  readonly keepaliveTime: number;
  readonly as4: boolean;
  /** By index of the family, as are the flags below. */
  readonly families: readonly [boolean, boolean];
  readonly addPathReceive: readonly [boolean, boolean];
  readonly addPathSend: readonly [boolean, boolean];
  readonly nextHop6: boolean;
  readonly refresh: boolean;
  readonly enhancedRefresh: boolean;
  readonly maxMessage: number;
  /** Both sides let restarts go on through NOTIFICATIONs (RFC 8538). */
  readonly notification: boolean;
  readonly theirs: Abilities;
}

/** What the owner is told. What these throw as BgpError ends the session with its NOTIFICATION. */
export interface ConnectionOwner {
  readonly counters: PeerCounters;
  /** The peer's OPEN is good. The owner may close this connection, or the other. */
  onOpen(connection: Connection): void;
  onEstablished(connection: Connection, agreement: Agreement): void;
  /**
   * The body of an UPDATE is bytes[offset..end). Answers how many prefixes it was about; one of many is worked off step by step,
   * each of which answers so; after the end of the connection there are no more.
   */
  onUpdate(connection: Connection, bytes: Uint8Array, offset: number, end: number): number | Iterator<number>;
  onRefresh(connection: Connection, family: Family, subtype: number): void;
  /** What was sent has left: there is room again. */
  onDrain(connection: Connection): void;
  /** Whole messages as they come and go: bytes[from..to). */
  onMessage(direction: 'in' | 'out', bytes: Uint8Array, from: number, to: number): void;
  onClosed(connection: Connection, ending: Ending): void;
}

export interface Ending {
  readonly reason: string;
  readonly error: unknown;
  /** The peer's NOTIFICATION, if that ended it. */
  readonly told: Notification | null;
  /** RFC 4724 and 8538: routes may be kept for a peer that comes back. */
  readonly graceful: boolean;
}

export type ConnectionState = 'OpenSent' | 'OpenConfirm' | 'Established' | 'Closed';

/** Messages, and prefixes among them, that are worked off before other things get their turn. */
const SLICE_MESSAGES = 256;
const SLICE_PREFIXES = 1024;
/** Bytes waiting above which no more UPDATEs are made. */
const OUTPUT_MARK = 256 * 1024;
/** How long a peer gets to take our NOTIFICATION before the connection is cut. */
const LINGER_MS = 1000;
const NOTHING = new Uint8Array(0);

export class Connection {
  readonly outgoing: boolean;
  /** When it was connected, by performance.now(). */
  readonly begun = performance.now();
  /** As text, without a zone. */
  readonly localAddress: string;
  readonly localPort: number;
  readonly remotePort: number;
  state: ConnectionState = 'OpenSent';
  /** The peer's identifier, int32; 0 until its OPEN. */
  peerId = 0;
  agreement: Agreement | null = null;
  readonly ours: Offer;
  theirs: Offer | null = null;
  readonly openSent: Uint8Array;
  openReceived: Uint8Array | null = null;
  /** Settles when the socket is closed. */
  readonly closed: Promise<void>;

  readonly #socket: Socket;
  readonly #owner: ConnectionOwner;
  readonly #config: ConnectionConfig;
  readonly #framer = new Framer();
  /** Messages wait for the next slice; the socket is paused meanwhile. */
  #backlog = false;
  /** An UPDATE that is being worked off. */
  #update: Iterator<number> | null = null;
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
    this.localAddress = (socket.localAddress ?? '').replace(/^::ffff:/, '').replace(/%.*$/, '');
    this.localPort = socket.localPort ?? 0;
    this.remotePort = socket.remotePort ?? 0;
    this.closed = new Promise((resolve) => {
      socket.once('close', resolve);
    });
    socket.setNoDelay(true);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#end(`connection lost: ${causeOf(error)}`, error, true);
    });
    socket.on('end', () => this.#end('connection closed by the peer', null, true));
    socket.on('close', () => this.#end('connection closed', null, true));
    socket.on('data', (chunk: Uint8Array) => {
      if (this.state === 'Closed') return;
      owner.counters.bytesIn += chunk.length;
      this.#framer.push(chunk);
      this.#work();
    });
    socket.on('drain', () => {
      if (this.state === 'Established') this.#owner.onDrain(this);
    });
    this.#hold = setTimeout(() => this.#holdExpired(), config.openMs);
    const { asn, routerId, holdTime } = config;
    const as2 = asn > 0xffff ? AS_TRANS : asn;
    const capabilities = ourCapabilities(config);
    this.ours = offerOf(asn, routerId, holdTime, capabilities);
    this.openSent = encodeOpen({ as2, holdTime, routerId, capabilities });
    this.send(this.openSent);
  }

  /** Bytes that wait to be sent. */
  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  /** Send whole messages. False: enough waits to be sent; the owner hears onDrain when it is gone. */
  send(messages: Uint8Array): boolean {
    const socket = this.#socket;
    if (this.state === 'Closed') return false;
    if (socket.writableLength > 0 && socket.writableLength + messages.length > this.#config.maxOutputBytes) {
      const text = `the peer does not read: ${socket.writableLength} bytes wait for it`;
      this.fail(new BgpError(CEASE, CEASE_RESOURCES, text));
      return false;
    }
    this.#countOut(messages);
    const flushed = socket.write(messages, () => this.#sent());
    this.#sendHold ??= setTimeout(() => this.#sendHoldExpired(), this.#config.sendHoldMs);
    return flushed || socket.writableLength < OUTPUT_MARK;
  }

  /** End the session with a NOTIFICATION. */
  fail(error: BgpError): void {
    const isHard = error.code === CEASE && error.subcode === CEASE_HARD_RESET;
    this.#end(error.message, error, (this.agreement?.notification ?? false) && !isHard, error);
  }

  /** End it for good: routes are not to be kept (RFC 8538 section 3.1). */
  failHard(error: BgpError): void {
    if (!this.agreement?.notification) return this.fail(error);
    const data = Uint8Array.of(error.code, error.subcode, ...error.data);
    this.#end(error.message, error, false, { code: CEASE, subcode: CEASE_HARD_RESET, data });
  }

  /**
   * End it for a restart of ours, in which routes are to be kept. To a peer that does so only where a connection is lost
   * without a word (RFC 4724 section 4.2), nothing is said.
   */
  leave(error: BgpError): void {
    const { agreement } = this;
    if (agreement?.theirs.restart && !agreement.notification) this.#end(error.message, null, true);
    else this.fail(error);
  }

  /** The peer has restarted and this connection is a leftover: nothing is said, routes are kept (RFC 4724 section 5). */
  supersede(reason: string): void {
    this.#end(reason, null, true);
  }

  #countOut(messages: Uint8Array): void {
    const { counters } = this.#owner;
    counters.bytesOut += messages.length;
    for (let at = 0; at < messages.length; at += (messages[at + 16]! << 8) | messages[at + 17]!) {
      counters.messagesOut++;
      const type = messages[at + 18];
      if (type === UPDATE) counters.updatesOut++;
      else if (type === KEEPALIVE) counters.keepalivesOut++;
      else if (type === ROUTE_REFRESH) counters.refreshesOut++;
      else if (type === NOTIFICATION) counters.notificationsOut++;
    }
    this.#owner.onMessage('out', messages, 0, messages.length);
  }

  #sent(): void {
    if (this.state === 'Closed') return;
    if (this.#socket.writableLength > 0) this.#sendHold?.refresh();
    else {
      clearTimeout(this.#sendHold);
      this.#sendHold = undefined;
    }
  }

  #end(
    reason: string,
    error: unknown,
    graceful: boolean,
    notification: Notification | null = null,
    told: Notification | null = null,
  ): void {
    if (this.state === 'Closed') return;
    this.state = 'Closed';
    clearTimeout(this.#hold);
    clearTimeout(this.#keepalive);
    clearTimeout(this.#sendHold);
    const socket = this.#socket;
    if (notification) {
      const message = encodeNotification(notification);
      this.#countOut(message);
      // Closing with unread bytes would reset the connection and the NOTIFICATION with it: read on, and wait.
      socket.end(message);
      socket.resume();
      const linger = setTimeout(() => socket.destroy(), LINGER_MS);
      socket.once('close', () => clearTimeout(linger));
    } else socket.destroy();
    this.#owner.onClosed(this, { reason, error, told, graceful });
  }

  /** Work off what has arrived, a slice in a turn of the event loop. */
  #work(): void {
    this.#backlog = false;
    let prefixes = 0;
    try {
      for (let messages = 0; messages < SLICE_MESSAGES && prefixes < SLICE_PREFIXES; ) {
        if (this.#update) {
          const step = this.#update.next();
          if (step.done) this.#update = null;
          else prefixes += step.value;
        } else {
          const message = this.#framer.next();
          if (!message) {
            if (this.#socket.isPaused()) this.#socket.resume();
            return;
          }
          messages++;
          this.#heard++;
          this.#owner.counters.messagesIn++;
          const { bytes, offset, end } = message;
          this.#owner.onMessage('in', bytes, offset - HEADER, end);
          prefixes += this.#receive(message);
        }
        if ((this.state as ConnectionState) === 'Closed') return;
      }
    } catch (error) {
      if (error instanceof BgpError) this.fail(error);
      else {
        const text = error instanceof Error ? error.message : String(error);
        const notification = new BgpError(CEASE, CEASE_RESOURCES, `internal error: ${text}`);
        this.#end(notification.message, error, false, notification);
      }
      return;
    }
    this.#backlog = true;
    this.#socket.pause();
    setImmediate(() => {
      if (this.state !== 'Closed') this.#work();
    });
  }

  /** Answers how many prefixes a message was about, as far as it is done with. */
  #receive({ type, bytes, offset, end }: Framed): number {
    const { counters } = this.#owner;
    if (type === NOTIFICATION) {
      counters.notificationsIn++;
      const notification = decodeNotification(bytes, offset, end);
      const isHard = notification.code === CEASE && notification.subcode === CEASE_HARD_RESET;
      const graceful = (this.agreement?.notification ?? false) && !isHard;
      const reason = `the peer sent ${explain(notification)}${this.#hint(notification)}`;
      this.#end(reason, null, graceful, null, notification);
      return 0;
    }
    if (this.state === 'OpenSent') {
      if (type !== OPEN) throw unexpected(1, type);
      this.#opened(bytes, offset, end);
      return 0;
    }
    if (this.state === 'OpenConfirm') {
      if (type !== KEEPALIVE) throw unexpected(2, type);
      counters.keepalivesIn++;
      this.state = 'Established';
      if (this.agreement!.holdTime > 0) this.#hold?.refresh();
      else {
        clearTimeout(this.#hold);
        this.#hold = undefined;
      }
      this.#owner.onEstablished(this, this.agreement!);
      return 0;
    }
    this.#hold?.refresh();
    switch (type) {
      case UPDATE:
        counters.updatesIn++;
        return this.#begin(this.#owner.onUpdate(this, bytes, offset, end));
      case KEEPALIVE:
        counters.keepalivesIn++;
        return 0;
      case ROUTE_REFRESH: {
        counters.refreshesIn++;
        const { afi, subtype, safi } = decodeRouteRefresh(bytes, offset, end);
        const family = familyOf(afi, safi);
        // Families that were not agreed on are ignored (RFC 2918 section 4).
        if (family && this.agreement!.families[family.index]) this.#owner.onRefresh(this, family, subtype);
        return 0;
      }
      default:
        throw unexpected(3, type);
    }
  }

  /** What a NOTIFICATION does not say and its reader would look for. */
  #hint({ code, subcode }: Notification): string {
    return code === OPEN_ERROR && subcode === 2
      ? `: it expects another AS than ours, ${this.#config.asn}`
      : '';
  }

  #begin(update: number | Iterator<number>): number {
    if (typeof update === 'number') return update;
    this.#update = update;
    return 0;
  }

  #opened(bytes: Uint8Array, offset: number, end: number): void {
    const open = decodeOpen(bytes, offset, end);
    this.openReceived = bytes.slice(offset - HEADER, end);
    const { asn, peerAsn, routerId } = this.#config;
    const theirs = abilitiesOf(open.capabilities);
    const theirAsn = theirs.as4 ?? open.as2;
    this.theirs = offerOf(theirAsn, open.routerId, open.holdTime, open.capabilities);
    if (theirAsn === 0) throw new BgpError(OPEN_ERROR, 2, 'AS 0 (RFC 7607)');
    if (theirAsn !== peerAsn) throw new BgpError(OPEN_ERROR, 2, `AS ${theirAsn} instead of ${peerAsn}`);
    if (open.routerId === routerId && peerAsn === asn) {
      throw new BgpError(OPEN_ERROR, 3, 'the peer has our own BGP identifier (RFC 6286)');
    }
    this.#checkRoles(theirs);
    this.agreement = agree(this.#config, theirs, open.holdTime);
    this.peerId = open.routerId;
    // What we may send depends on the peer; what it may send, on our own capability (RFC 8654 section 3).
    this.#framer.limit = MAX_EXTENDED_MESSAGE;
    this.state = 'OpenConfirm';
    this.#owner.onOpen(this);
    if ((this.state as ConnectionState) === 'Closed') return;
    this.send(keepalive);
    if ((this.state as ConnectionState) === 'Closed') return;
    // Without a hold time, what waits for OPEN waits for the KEEPALIVE too.
    if (this.agreement.holdTime > 0) {
      clearTimeout(this.#hold);
      this.#hold = setTimeout(() => this.#holdExpired(), this.agreement.holdTime * 1000);
      this.#scheduleKeepalive();
    }
  }

  /** RFC 9234 section 4.2. */
  #checkRoles({ role, rolesDiffer, roleUnknown }: Abilities): void {
    const { role: ours, strictRole, asn, peerAsn } = this.#config;
    if (asn === peerAsn) return;
    if (rolesDiffer) throw new BgpError(OPEN_ERROR, 11, 'the peer says two roles at once');
    if (!ours) return;
    if (roleUnknown) throw new BgpError(OPEN_ERROR, 11, 'the peer says a role that there is not');
    if (role && !rolesAgree(ours, role)) {
      throw new BgpError(OPEN_ERROR, 11, `the peer says that it is ${role}, and we are ${ours}`);
    }
    if (!role && strictRole) throw new BgpError(OPEN_ERROR, 11, 'the peer does not say its role');
  }

  /** Shortened at random by up to a quarter (RFC 4271 section 10). */
  #scheduleKeepalive(): void {
    const ms = this.agreement!.keepaliveTime * 1000 * (0.75 + Math.random() / 4);
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

/** A message of a type that has no place in the state that a subcode stands for (RFC 6608 section 4). */
const unexpected = (subcode: number, type: number) =>
  new BgpError(FSM_ERROR, subcode, `message of type ${type}`, Uint8Array.of(type));

/** What both sides can do. Throws 2/7 if there is no family that both carry. */
function agree(config: ConnectionConfig, theirs: Abilities, theirHoldTime: number): Agreement {
  const both = (test: (family: Family) => boolean): [boolean, boolean] => [
    test(FAMILIES[0]!),
    test(FAMILIES[1]!),
  ];
  const families = both((family) => config.families.includes(family) && theirs.families[family.index]);
  if (!families.includes(true)) {
    const wanted = config.families.flatMap(({ afi, safi }) => [CAP_MULTIPROTOCOL, 4, 0, afi, 0, safi]);
    const names = config.families.map(({ name }) => name).join(', ');
    throw new BgpError(OPEN_ERROR, 7, `the peer carries none of ${names}`, Uint8Array.from(wanted));
  }
  const holdTime = Math.min(theirHoldTime, config.holdTime);
  return {
    holdTime,
    keepaliveTime: Math.min(config.keepaliveTime ?? holdTime / 3, holdTime / 3),
    as4: theirs.as4 !== null,
    families,
    addPathReceive: both(
      ({ index }) => config.addPathReceive && families[index] && theirs.addPathSend[index],
    ),
    addPathSend: both(({ index }) => config.addPathSend && families[index] && theirs.addPathReceive[index]),
    nextHop6: families[IPV4.index] && theirs.nextHop6,
    refresh: theirs.refresh,
    enhancedRefresh: theirs.enhancedRefresh && theirs.refresh,
    maxMessage: theirs.extendedMessage ? MAX_EXTENDED_MESSAGE : MAX_MESSAGE,
    notification: theirs.restart?.notification ?? false,
    theirs,
  };
}

export const offerOf = (
  asn: number,
  routerId: number,
  holdTime: number,
  capabilities: readonly Capability[],
): Offer => ({
  asn,
  routerId: formatWords(IPV4, [routerId]),
  holdTime,
  capabilities: describeCapabilities(capabilities),
});

/** What a NOTIFICATION says, with the limit of a peer (RFC 4486), and the operator's words in a shutdown (RFC 9003). */
export function explain({ code, subcode, data }: Notification): string {
  const text = describe(code, subcode);
  if (code !== CEASE) return text;
  if (subcode === CEASE_HARD_RESET && data.length >= 2) {
    const inner = { code: data[0]!, subcode: data[1]!, data: data.subarray(2) };
    // A hard reset within a hard reset has no meaning, and thousands of them would not fit the stack.
    if (inner.code === CEASE && inner.subcode === CEASE_HARD_RESET) inner.data = NOTHING;
    return `${text}: ${explain(inner)}`;
  }
  if (subcode === CEASE_MAX_PREFIXES && data.length >= 7) {
    const family = familyOf((data[0]! << 8) | data[1]!, data[2]!)?.name;
    return `${text}: more than ${get32(data, 3) >>> 0}${family ? ` ${family}` : ''} prefixes`;
  }
  if (subcode !== CEASE_SHUTDOWN && subcode !== CEASE_RESET) return text;
  const words = Buffer.from(data.subarray(1, 1 + (data[0] ?? 0))).toString('utf8');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a peer's words must not steer a terminal
  return words ? `${text}: "${words.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')}"` : text;
}
