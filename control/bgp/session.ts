/**
 * The session with one peer over all its connections: when to dial, which of two connections lives (RFC 4271 6.8),
 * what comes into the RIB and what goes out, and what stays while a peer restarts (RFC 4724, 8538, 9494).
 */
import type { Socket } from 'node:net';
import { TortieError } from '../error.ts';
import type { PathSource } from '../rib/decision.ts';
import type { Rib } from '../rib/rib.ts';
import type { AttributeTable } from './attribute-table.ts';
import type { Attributes } from './attributes.ts';
import type { PeerConfig, PeerLabel } from './config.ts';
import {
  type Agreement,
  Connection,
  type ConnectionConfig,
  type ConnectionOwner,
  type Ending,
} from './connection.ts';
import {
  BgpError,
  CEASE,
  CEASE_BFD_DOWN,
  CEASE_COLLISION,
  CEASE_CONFIG_CHANGE,
  CEASE_MAX_PREFIXES,
  CEASE_RESET,
} from './error.ts';
import { FAMILIES, type Family, type FamilyName, IPV4, IPV6, type Prefix, parseWords } from './family.ts';
import { Importer } from './importer.ts';
import { KeptRoutes } from './kept-routes.ts';
import { encodeRouteRefresh, REFRESH_BEGIN, REFRESH_END, REFRESH_REQUEST } from './message.ts';
import type { NextHop } from './next-hop.ts';
import { Outgoing } from './outgoing.ts';
import { ACCEPT_ALL, DENY_ALL } from './policy.ts';
import { describeRefusals, type Refusals } from './refusals.ts';
import { causeOf, type Dialing, dial } from './socket.ts';
import type { FamilyStatus, PeerCounters, PeerStatus, SessionState } from './status.ts';
import { UpdateDecoder } from './update.ts';
import type { GroupConfig, UpdateGroup } from './update-group.ts';

export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields: Record<string, unknown>,
) => void;

/** What a peer's configuration and the speaker's come to. Plain data, but for the policies in `peer`. */
export interface SessionConfig {
  readonly peer: PeerConfig;
  readonly asn: number;
  /** int32. */
  readonly routerId: number;
  readonly clusterId: number;
  readonly port: number;
  readonly families: readonly Family[];
  readonly localAddress: string | null;
  readonly holdTime: number;
  readonly maxPrefixes: number;
  readonly ownAddresses: readonly string[];
  readonly connectMs: number;
  readonly openMs: number;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  readonly sendHoldMs: number;
  readonly maxOutputBytes: number;
}

/** What sessions have in common. */
export interface SessionHost {
  readonly ribs: readonly [Rib, Rib];
  readonly table: AttributeTable;
  readonly log: Log;
  /** The speaker has restarted and has not been told all again yet. */
  readonly isRestarting: boolean;
  /** What the kernel has refused. */
  refusals(): Refusals;
  /** The update group of a form, made if there is none. */
  group(config: GroupConfig): UpdateGroup;
  /** A member has left it. */
  left(group: UpdateGroup): void;
  /** Called when a session changes state. */
  onState(session: Session): void;
  onUp(session: Session, connection: Connection): void;
  onDown(session: Session, connection: Connection, reason: string): void;
  onMessage(session: Session, direction: 'in' | 'out', bytes: Uint8Array, from: number, to: number): void;
  /** The peer has told all routes of a family, or will not. */
  onSynchronised(session: Session): void;
}

/** A session that lasted so long makes the next attempts quick again. */
const STABLE_MS = 10_000;
/** Seconds. */
export const DEFAULT_RESTART_TIME = 120;
const DEFAULT_MAX_PREFIXES_RESTART = 300;
const MAX_SHUTDOWN_TEXT = 255;
/** Bytes of an UPDATE that are logged where it is malformed (RFC 7606 section 8). */
const MAX_LOGGED = 4096;

/** The live session: at most one a peer. */
interface Established {
  readonly connection: Connection;
  readonly agreement: Agreement;
  readonly decoder: UpdateDecoder;
  readonly since: number;
  /** By index of the family. */
  readonly out: (Outgoing | null)[];
  readonly endOfRibReceived: [boolean, boolean];
  /** The peer is telling all again, between its marks (RFC 7313). */
  readonly isRefreshing: [boolean, boolean];
}

export class Session implements ConnectionOwner {
  config: SessionConfig;
  readonly source: PathSource;
  readonly counters: PeerCounters = {
    messagesIn: 0,
    messagesOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    updatesIn: 0,
    updatesOut: 0,
    keepalivesIn: 0,
    keepalivesOut: 0,
    refreshesIn: 0,
    refreshesOut: 0,
    notificationsIn: 0,
    notificationsOut: 0,
    routesRefused: 0,
    routesFiltered: 0,
    updatesMalformed: 0,
    attributesDiscarded: 0,
    established: 0,
    flaps: 0,
  };
  /** What BFD says of the peer, for people. */
  bfd: string | null = null;
  readonly name: string;
  readonly #host: SessionHost;
  readonly #importer: Importer;
  #running = false;
  #dialing: Dialing | null = null;
  #connections: Connection[] = [];
  #established: Established | null = null;
  #retry: NodeJS.Timeout | undefined;
  #attempts = 0;
  /** Not to be tried before: the peer sent too many prefixes. */
  #idleUntil = 0;
  #state: SessionState = 'Idle';
  #since = new Date();
  #lastError: string | null = null;
  #lastErrorAt: Date | null = null;
  /** What the kernel had refused when the session was last told. */
  #refusals: Refusals;
  #endReason: string | null = null;
  #endedAt: Date | null = null;
  /** Routes of the session before, while the peer restarts. */
  readonly #kept: KeptRoutes;

  constructor(config: SessionConfig, source: PathSource, host: SessionHost) {
    this.config = config;
    this.source = source;
    this.name = source.name;
    this.#host = host;
    this.#refusals = host.refusals();
    this.#kept = new KeptRoutes(host.ribs, source, (message, fields) =>
      host.log('info', message, { peer: this.name, ...fields }),
    );
    this.#importer = new Importer(
      host.ribs,
      host.table,
      source,
      this.#importConfig(),
      this.counters,
      (reason, first, count) =>
        host.log('debug', 'routes refused', { peer: this.name, reason, first, count }),
    );
    for (const rib of host.ribs) rib.addSource(source);
  }

  get label(): PeerLabel {
    return this.config.peer.label;
  }

  get status(): PeerStatus {
    const live = this.#established;
    const connection = live?.connection ?? this.#connections.at(-1) ?? null;
    const agreement = connection?.agreement ?? null;
    const { peer, asn, port } = this.config;
    return {
      address: this.name,
      port,
      label: peer.label,
      resource: peer.resource ?? null,
      asn: peer.asn,
      localAsn: peer.localAsn ?? asn,
      internal: this.source.internal,
      state: this.#state,
      since: this.#since,
      lastError: this.#lastError,
      lastErrorAt: this.#lastErrorAt,
      endReason: this.#endReason,
      endedAt: this.#endedAt,
      localAddress: connection?.localAddress ?? null,
      holdTime: agreement?.holdTime ?? null,
      keepaliveTime: agreement?.keepaliveTime ?? null,
      ours: connection?.ours ?? null,
      theirs: connection?.theirs ?? null,
      counters: { ...this.counters },
      families: this.config.families.map((family) => this.#familyStatus(family)),
      queuedBytes: connection?.queuedBytes ?? 0,
      bfd: this.bfd,
      restartUntil: this.#kept.until,
    };
  }

  /** The live connection, or null. */
  get connection(): Connection | null {
    return this.#established?.connection ?? null;
  }

  /** Whether the peer has told all that it knows (End-of-RIB); null: it is one that never says so. */
  get hasToldAll(): boolean | null {
    const live = this.#established;
    if (!live) return false;
    if (!live.agreement.theirs.restart) return null;
    return FAMILIES.every(({ index }) => !live.agreement.families[index] || live.endOfRibReceived[index]);
  }

  /** Whether the peer need not be waited for after a restart of ours (RFC 4724 section 4.1). */
  get isSynchronised(): boolean {
    return this.#established?.agreement.theirs.restart?.restarting || this.hasToldAll !== false;
  }

  start(): void {
    const { shutdown } = this.config.peer;
    if (shutdown !== undefined) return this.#failed(`shut down here${shutdown && `: ${shutdown}`}`);
    this.#running = true;
    this.#dial();
    this.#refreshState();
  }

  /**
   * Cease with a subcode of RFC 4486 and words for the peer's operator. Unless it is `graceful`, the peer is told not
   * to keep our routes. Settles when the connections are closed, within about a second.
   */
  async stop(subcode: number, text = '', graceful = false): Promise<void> {
    this.#running = false;
    this.#stopDialing();
    const closing = this.#connections.map(({ closed }) => closed);
    const error = new BgpError(CEASE, subcode, text || 'stopped here', shutdownData(text));
    for (const connection of [...this.#connections]) {
      if (graceful) connection.leave(error);
      else connection.failHard(error);
    }
    this.#kept.stop();
    this.#refreshState();
    await Promise.all(closing);
  }

  /** The peer is to be forgotten: its routes go. `done` when its source's index is free. */
  drop(done: () => void): void {
    let left = 2;
    for (const rib of this.#host.ribs) rib.drop(this.source, () => --left === 0 && done());
  }

  /** End the session and begin another. */
  reset(text: string): void {
    this.#idleUntil = 0;
    this.#attempts = 0;
    const error = new BgpError(CEASE, CEASE_RESET, text || 'reset here', shutdownData(text));
    const ending = [...this.#connections];
    for (const connection of ending) connection.failHard(error);
    clearTimeout(this.#retry);
    // A peer that has not read why would take a new connection for a restart of ours (RFC 4724 section 4.2).
    Promise.all(ending.map(({ closed }) => closed)).then(() => {
      if (!this.#dialing) this.#dial();
    });
  }

  /** Ask the peer to tell its routes again. False: it cannot. */
  requestRefresh(): boolean {
    const live = this.#established;
    if (!live?.agreement.refresh) return false;
    for (const { afi, safi, index } of FAMILIES) {
      if (!live.agreement.families[index]) continue;
      live.connection.send(encodeRouteRefresh({ afi, safi, subtype: REFRESH_REQUEST }));
    }
    return true;
  }

  /** Tell the peer all routes again. */
  tellAgain(): void {
    for (const out of this.#established?.out ?? []) out?.refresh();
  }

  /** Take another configuration, of which no part is for a new session. */
  reconfigure(config: SessionConfig): void {
    const before = this.config;
    this.config = config;
    const importBefore = JSON.stringify(importKey(this.#importer.config));
    this.#importer.config = this.#importConfig();
    if (JSON.stringify(importKey(this.#importer.config)) !== importBefore && this.#established) {
      if (!this.requestRefresh())
        this.#failAll(new BgpError(CEASE, CEASE_CONFIG_CHANGE, 'the import policy is another'));
    }
    if (!this.#host.isRestarting) this.#regroup();
    if (before.peer.bfd && !config.peer.bfd) this.bfd = null;
    if (config.peer.passive) this.#stopDialing();
    else if (before.peer.passive && this.accepts && !this.#dialing) this.#dial();
    this.#refreshState();
    // What were too many prefixes may be so no longer.
    if (JSON.stringify(config.peer) !== JSON.stringify(before.peer)) this.#endRest();
    if (config.maxPrefixes < before.maxPrefixes) this.#checkLimits();
  }

  /**
   * BFD says that the path to the peer is gone. If its BFD is `independent` of its control plane, what failed is forwarding, and
   * its routes go; else it may be restarting, and they are kept as for any restart (RFC 5882 section 4.3).
   */
  bfdDown(text: string, independent: boolean): void {
    const error = new BgpError(CEASE, CEASE_BFD_DOWN, `BFD: ${text}`);
    if (!independent) return this.#failAll(error);
    for (const connection of [...this.#connections]) connection.failHard(error);
    if (this.#kept.isWaiting) this.#kept.forget();
  }

  /** The speaker has been told all after its restart: tell others. */
  release(): void {
    const live = this.#established;
    if (live) this.#beginTelling(live);
  }

  /** What the peer has from us. */
  *adjOut(family: Family) {
    const out = this.#established?.out[family.index];
    if (out) yield* out.group.toldTo(out);
  }

  /** Why a route that it told is kept and not used, in words; null: it may be used. */
  refusalOf(prefix: Prefix, attributes: Attributes): string | null {
    return this.#importer.refusalOf(prefix, attributes);
  }

  /** What it has of one prefix, by its number in the RIB. */
  *adjOutAt(family: Family, id: number) {
    const out = this.#established?.out[family.index];
    if (out) yield* out.group.toldAt(out, id);
  }

  /** Why it is not told the best path of a prefix, in words; null: it is told, or there is no such path. */
  withheld(family: Family, id: number): string | null {
    if (!this.#established) return `the session is ${this.#state}`;
    const out = this.#established.out[family.index];
    if (out) return out.group.withheld(out, id);
    const isCarried = this.#established.agreement.families[family.index];
    return isCarried
      ? 'we have restarted, and wait until all peers have told'
      : `it does not carry ${family.name}`;
  }

  /** The peer has connected. */
  accept(socket: Socket): void {
    // A peer that dials again has given up what it dialled before.
    const earlier = this.#connections.find((c) => !c.outgoing && c.state !== 'Established');
    this.#adopt(socket, false);
    earlier?.fail(new BgpError(CEASE, CEASE_COLLISION, 'the peer has connected again'));
  }

  /**
   * Why a peer that is waited for may have been kept out: what the kernel refused, or a `fault` of our listening. A connection
   * may be there and what comes over it be refused, as of a peer that has TTL security for none but its SYN.
   */
  tellRefusals(fault: string | null): void {
    if (!this.#running || this.#established) return;
    const isConnected = this.#connections.length > 0;
    if (!isConnected && !this.config.peer.passive) return;
    const refused = this.#takeRefusals();
    const reason = isConnected ? refused && `no OPEN comes: ${refused}` : (fault ?? refused);
    if (reason === null || reason === this.#lastError) return;
    this.#failed(reason);
    this.#host.log('warn', isConnected ? 'no OPEN comes' : 'the peer cannot connect', {
      peer: this.name,
      reason,
    });
  }

  /** Whether a connection of the peer is welcome now. */
  get accepts(): boolean {
    return this.#running && Date.now() >= this.#idleUntil;
  }

  // ---- From its connections --------------------------------------------------------------------------

  onOpen(connection: Connection): void {
    const other = this.#connections.find((c) => c !== connection && c.peerId !== 0);
    if (!other) return this.#refreshState();
    // One that began earlier and is slow collides: the peer may not know yet which of the two is up, and decides by the rule below.
    const isLater = other.state === 'Established' && connection.begun > this.#established!.since;
    if (isLater && other.agreement!.theirs.restart?.families.includes(true)) {
      // RFC 4724 section 5: the peer has restarted and its old connection does not know yet.
      other.supersede('the peer has restarted, and connected anew');
      return this.#refreshState();
    }
    // RFC 4271 6.8: the connection that the higher identifier dialled stays (RFC 6286: at equal ones, the higher AS).
    const { routerId } = this.config;
    const asn = this.#localAsn;
    const peerAsn = this.source.asn;
    const ours = routerId >>> 0;
    const theirs = connection.peerId >>> 0;
    const keepOutgoing = ours !== theirs ? ours > theirs : asn > peerAsn;
    const keepNew = !isLater && connection.outgoing === keepOutgoing;
    const loser = keepNew ? other : connection;
    loser.fail(new BgpError(CEASE, CEASE_COLLISION, 'another connection stays'));
    this.#refreshState();
  }

  onEstablished(connection: Connection, agreement: Agreement): void {
    const { peer } = this.config;
    this.source.id = connection.peerId;
    const context = {
      as4: agreement.as4,
      ibgp: this.source.internal,
      firstAs: (peer.enforceFirstAs ?? true) ? peer.asn : null,
      families: agreement.families,
      addPath: agreement.addPathReceive,
      nextHop6: agreement.nextHop6,
      nextHops: this.#host.table.nextHops,
    };
    const live: Established = {
      connection,
      agreement,
      decoder: new UpdateDecoder(context, this.#host.table),
      since: performance.now(),
      out: [null, null],
      endOfRibReceived: [false, false],
      isRefreshing: [false, false],
    };
    this.#established = live;
    this.#importer.config = this.#importConfig();
    this.#lastError = null;
    this.counters.established++;
    this.#stopDialing();
    this.#kept.resume(agreement);
    this.#host.log('info', 'session established', { peer: this.name, holdTime: agreement.holdTime });
    this.#refreshState();
    this.#host.onUp(this, connection);
    if (!this.#host.isRestarting) this.#beginTelling(live);
    this.#host.onSynchronised(this);
  }

  onUpdate(
    connection: Connection,
    bytes: Uint8Array,
    offset: number,
    end: number,
  ): number | Iterator<number> {
    const live = this.#established;
    if (live?.connection !== connection) return 0;
    const update = live.decoder.decode(bytes, offset, end);
    const { fault, discarded } = update;
    const body = () => Buffer.from(bytes.slice(offset, Math.min(end, offset + MAX_LOGGED))).toString('hex');
    if (fault) this.#sometimes(++this.counters.updatesMalformed, 'routes treated as withdrawn', fault, body);
    for (const text of discarded) {
      this.#sometimes(++this.counters.attributesDiscarded, 'attribute left out', text, body);
    }
    const steps = this.#importer.take(update);
    if (typeof steps !== 'number') return this.#workOff(live, steps);
    this.#checkLimits();
    live.decoder.release();
    if (update.endOfRib) this.#endOfRib(live, update.endOfRib);
    return steps;
  }

  *#workOff(live: Established, steps: Iterable<number>): Generator<number, void> {
    for (const count of steps) {
      this.#checkLimits();
      yield count;
    }
    live.decoder.release();
  }

  onRefresh(connection: Connection, family: Family, subtype: number): void {
    const live = this.#established;
    if (live?.connection !== connection) return;
    const rib = this.#host.ribs[family.index];
    const { isRefreshing } = live;
    // Without RFC 7313 the subtype is a reserved byte, to be ignored (RFC 2918 section 3).
    if (subtype === REFRESH_REQUEST || !live.agreement.enhancedRefresh) live.out[family.index]?.refresh();
    else if (subtype === REFRESH_BEGIN && !isRefreshing[family.index]) {
      // Who speaks of graceful restart may not begin before End-of-RIB (RFC 7313 section 4): what it keeps stale would go.
      if (live.agreement.theirs.restart && !live.endOfRibReceived[family.index]) return;
      // Another beginning before the end marks nothing anew: what is stale already would go at once.
      isRefreshing[family.index] = true;
      rib.markStale(this.source);
    } else if (subtype === REFRESH_END && isRefreshing[family.index]) {
      isRefreshing[family.index] = false;
      rib.sweepStale(this.source);
    }
  }

  onDrain(connection: Connection): void {
    if (this.#established?.connection === connection) for (const out of this.#established.out) out?.drained();
  }

  onMessage(direction: 'in' | 'out', bytes: Uint8Array, from: number, to: number): void {
    this.#host.onMessage(this, direction, bytes, from, to);
  }

  onClosed(connection: Connection, { reason: cause, error, told, graceful }: Ending): void {
    this.#connections = this.#connections.filter((c) => c !== connection);
    const live = this.#established;
    const { code, subcode } = error instanceof BgpError ? error : (told ?? {});
    // Whoever says so: another connection is there, and nothing is wrong.
    const collided = code === CEASE && subcode === CEASE_COLLISION && this.#connections.length > 0;
    const isTooMany = error instanceof BgpError && code === CEASE && subcode === CEASE_MAX_PREFIXES;
    const reason = isTooMany && live?.connection === connection ? `${cause}; ${this.#restText()}` : cause;
    if (live?.connection === connection) {
      this.#established = null;
      this.#refusals = this.#host.refusals();
      this.counters.flaps++;
      this.#endReason = reason;
      this.#endedAt = new Date();
      live.decoder.release();
      this.#importer.release();
      this.#endTelling(live);
      this.#host.onDown(this, connection, reason);
      if (this.#running && graceful) this.#keepRoutes(live.agreement);
      else this.#kept.forget();
      if (performance.now() - live.since > STABLE_MS) this.#attempts = 0;
      if (isTooMany) this.#rest();
      this.#host.onSynchronised(this);
    }
    const internal = error instanceof Error && !(error instanceof BgpError) && !('code' in error);
    const fields = { peer: this.name, reason, ...(internal ? { stack: error.stack } : {}) };
    this.#host.log(
      internal ? 'error' : collided || !this.#running ? 'debug' : 'warn',
      'connection ended',
      fields,
    );
    // What becomes of a second connection is no fault of a session that is up.
    if (!collided && !this.#established) this.#failed(reason);
    this.#retryLater();
    this.#refreshState();
  }

  #keepRoutes(agreement: Agreement): void {
    const mayKeep = (this.config.peer.restartTime ?? DEFAULT_RESTART_TIME) > 0;
    this.#kept.keep(agreement, mayKeep, () => this.config.peer.longLivedTime ?? 0);
  }

  #endOfRib(live: Established, family: Family): void {
    live.endOfRibReceived[family.index] = true;
    this.#kept.endOfRib(family);
    this.#host.onSynchronised(this);
  }

  // ---- What is told ----------------------------------------------------------------------------------

  #beginTelling(live: Established): void {
    for (const family of FAMILIES) {
      if (!live.agreement.families[family.index] || live.out[family.index]) continue;
      const group = this.#host.group(this.#groupConfig(family, live));
      const { connection, agreement } = live;
      const out = new Outgoing(family, this.source, connection, agreement.enhancedRefresh, group);
      live.out[family.index] = out;
      group.join(out);
    }
  }

  #endTelling(live: Established): void {
    for (const out of live.out) {
      if (!out) continue;
      out.group.leave(out);
      this.#host.left(out.group);
    }
  }

  /** What is told may have another form now: what the peer has and would not get any more is withdrawn. */
  #regroup(): void {
    const live = this.#established;
    for (const out of live?.out ?? []) {
      if (!out) continue;
      const group = this.#host.group(this.#groupConfig(out.family, live!));
      if (group === out.group) continue;
      const before = out.group;
      const had = [...before.toldTo(out)];
      before.leave(out);
      out.group = group;
      group.join(out, had);
      this.#host.left(before);
    }
  }

  #groupConfig(family: Family, { agreement, connection }: Established): GroupConfig {
    const { peer, routerId, clusterId } = this.config;
    const { internal } = this.source;
    const send = peer.addPath?.send ?? 0;
    return {
      family,
      internal,
      localAsn: this.#localAsn,
      routerId,
      clusterId,
      client: internal && (peer.reflectorClient ?? false),
      self: this.#self(family, connection, agreement),
      nextHopMode: peer.nextHop ?? 'auto',
      nextHop6: agreement.nextHop6,
      role: internal ? null : (peer.role ?? null),
      longLived: agreement.theirs.speaksLongLived,
      gracefulShutdown: peer.gracefulShutdown ?? false,
      policy: peer.exportPolicy ?? (internal ? ACCEPT_ALL : DENY_ALL),
      as4: agreement.as4,
      addPath: agreement.addPathSend[family.index] ? Math.max(1, send) : 0,
      maxMessage: agreement.maxMessage,
    };
  }

  /** Our next hop: the address that the session runs on, or the one that is configured for the other family. */
  #self(family: Family, { localAddress }: Connection, { nextHop6 }: Agreement): NextHop | null {
    const { nextHop4, nextHop6: ours6 } = this.config.peer;
    const isOwn = localAddress.includes(':') === (family === IPV6);
    const configured = family === IPV4 ? nextHop4 : ours6;
    const text = configured ?? (isOwn ? localAddress : family === IPV4 && nextHop6 ? localAddress : null);
    if (!text) return null;
    const words = parseWords(text);
    const { nextHops } = this.#host.table;
    const nextHop = nextHops.at(words.length === 1 ? IPV4 : IPV6, words);
    return nextHop;
  }

  // ---- The rest --------------------------------------------------------------------------------------

  get #localAsn(): number {
    return this.config.peer.localAsn ?? this.config.asn;
  }

  #importConfig() {
    const { peer, asn, routerId, clusterId, ownAddresses } = this.config;
    const { internal } = this.source;
    return {
      rules: {
        internal,
        asns: [asn, this.#localAsn],
        allowOwnAs: peer.allowOwnAs ?? 0,
        routerId,
        clusterId,
        // Where we listen on all addresses, the session alone tells which is ours.
        ownAddresses: new Set([
          ...ownAddresses,
          ...(this.#established ? [this.#established.connection.localAddress] : []),
        ]),
        role: internal ? null : (peer.role ?? null),
        peerAsn: peer.asn,
      },
      policy: peer.importPolicy ?? (internal ? ACCEPT_ALL : DENY_ALL),
      keepFiltered: peer.keepFiltered ?? false,
    };
  }

  #familyStatus(family: Family): FamilyStatus {
    const rib = this.#host.ribs[family.index];
    const live = this.#established;
    const out = live?.out[family.index] ?? null;
    return {
      family: family.name as FamilyName,
      received: rib.count(this.source),
      filtered: rib.excludedCount(this.source),
      stale: rib.staleCount(this.source),
      sent: out ? out.group.countFor(out) : 0,
      endOfRibReceived: live?.endOfRibReceived[family.index] ?? false,
      endOfRibSent: out?.endOfRibSent ?? false,
      addPathReceive: live?.agreement.addPathReceive[family.index] ?? false,
      addPathSend: live?.agreement.addPathSend[family.index] ?? false,
    };
  }

  #checkLimits(): void {
    for (const family of FAMILIES) this.#checkLimit(family);
  }

  #checkLimit({ index, name, afi, safi }: Family): void {
    const { maxPrefixes } = this.config;
    const rib = this.#host.ribs[index];
    // What is kept to be shown takes memory as well.
    if (rib.count(this.source) + rib.excludedCount(this.source) <= maxPrefixes) return;
    const data = Uint8Array.of(
      0,
      afi,
      safi,
      maxPrefixes >> 24,
      maxPrefixes >> 16,
      maxPrefixes >> 8,
      maxPrefixes,
    );
    const error = new BgpError(CEASE, CEASE_MAX_PREFIXES, `more than ${maxPrefixes} ${name} prefixes`, data);
    this.#established?.connection.failHard(error);
  }

  /** After too many prefixes: no attempt for a while, or until somebody resets the session or configures it otherwise. */
  #rest(): void {
    const seconds = this.#restSeconds;
    this.#idleUntil = seconds === 0 ? Number.POSITIVE_INFINITY : Date.now() + seconds * 1000;
  }

  get #restSeconds(): number {
    return this.config.peer.maxPrefixesRestart ?? DEFAULT_MAX_PREFIXES_RESTART;
  }

  #restText(): string {
    const seconds = this.#restSeconds;
    return `tried again ${seconds === 0 ? 'not before' : `in ${seconds} s, or after`} a change or a reset`;
  }

  #endRest(): void {
    if (Date.now() >= this.#idleUntil) return;
    this.#idleUntil = 0;
    this.#attempts = 0;
    clearTimeout(this.#retry);
    this.#dial();
    this.#refreshState();
  }

  #failAll(error: BgpError): void {
    for (const connection of [...this.#connections]) connection.fail(error);
  }

  #failed(reason: string): void {
    this.#lastError = reason;
    this.#lastErrorAt = new Date();
  }

  #adopt(socket: Socket, outgoing: boolean): void {
    this.#connections.push(new Connection(socket, outgoing, this.#connectionConfig(), this));
    this.#refreshState();
  }

  #connectionConfig(): ConnectionConfig {
    const { peer, routerId, families, holdTime, openMs, sendHoldMs, maxOutputBytes } = this.config;
    return {
      asn: this.#localAsn,
      routerId,
      peerAsn: peer.asn,
      families,
      holdTime,
      keepaliveTime: peer.keepaliveTime ?? null,
      restartTime: peer.restartTime ?? DEFAULT_RESTART_TIME,
      restarting: this.#host.isRestarting,
      // Only the session was gone: a peer that is told otherwise would drop our routes (RFC 4724 section 4.2).
      forwarding: this.#host.isRestarting || this.counters.established > 0,
      longLivedTime: peer.longLivedTime ?? 0,
      addPathReceive: peer.addPath?.receive ?? false,
      addPathSend: (peer.addPath?.send ?? 0) > 0,
      role: this.source.internal ? null : (peer.role ?? null),
      strictRole: peer.strictRole ?? false,
      openMs,
      sendHoldMs,
      maxOutputBytes,
    };
  }

  #dial(): void {
    const { peer, port, localAddress, connectMs } = this.config;
    // One that waits to be dialled is no more at rest, if it was.
    if (!this.#running || peer.passive || this.#established || this.#connections.some((c) => c.outgoing))
      return this.#refreshState();
    const dialing = dial({
      address: this.name,
      port,
      localAddress,
      password: peer.password ?? null,
      ttlSecurity: peer.ttlSecurity ?? null,
      timeoutMs: connectMs,
    });
    this.#dialing = dialing;
    dialing.connected.then(
      (socket) => {
        if (this.#dialing !== dialing) {
          socket.on('error', () => {});
          socket.destroy();
          return;
        }
        this.#dialing = null;
        this.#adopt(socket, true);
      },
      (error: NodeJS.ErrnoException) => {
        if (this.#dialing !== dialing) return;
        this.#dialing = null;
        const cause = error instanceof TortieError ? error.message : causeOf(error);
        const refused = this.#takeRefusals();
        this.#failed(`cannot connect: ${cause}${refused ? `; ${refused}` : ''}`);
        this.#host.log(refused ? 'warn' : 'debug', 'cannot connect', {
          peer: this.name,
          reason: error.message,
          ...(refused ? { refused } : {}),
        });
        this.#retryLater();
        this.#refreshState();
      },
    );
    this.#refreshState();
  }

  #stopDialing(): void {
    clearTimeout(this.#retry);
    this.#dialing?.cancel();
    this.#dialing = null;
  }

  /** What of the kernel's refusals since the last time can have to do with this peer, in words, or null. */
  #takeRefusals(): string | null {
    const { password = null, ttlSecurity = null } = this.config.peer;
    const before = this.#refusals;
    this.#refusals = this.#host.refusals();
    return describeRefusals(before, this.#refusals, { password, ttlSecurity });
  }

  /** Dial again after a while that doubles with each attempt, shortened at random by up to a quarter. */
  #retryLater(): void {
    clearTimeout(this.#retry);
    if (!this.#running || this.#established || this.#idleUntil === Number.POSITIVE_INFINITY) return;
    const { retryMinMs, retryMaxMs } = this.config;
    const pause =
      Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(this.#attempts++, 16)) * (0.75 + Math.random() / 4);
    this.#retry = setTimeout(
      () => {
        this.#idleUntil = 0;
        if (!this.#dialing) this.#dial();
      },
      Math.max(pause, this.#idleUntil - Date.now()),
    );
  }

  #refreshState(): void {
    const state = this.#currentState();
    if (state === this.#state) return;
    this.#state = state;
    this.#since = new Date();
    this.#host.onState(this);
  }

  #currentState(): SessionState {
    if (!this.#running || this.#idleUntil > Date.now()) return 'Idle';
    if (this.#established) return 'Established';
    if (this.#connections.some((c) => c.state === 'OpenConfirm')) return 'OpenConfirm';
    if (this.#connections.some((c) => c.state === 'OpenSent')) return 'OpenSent';
    return this.#dialing ? 'Connect' : 'Active';
  }

  /** A peer may repeat itself a thousand times a second: log the 1st, 2nd, 4th, 8th... time. */
  #sometimes(count: number, message: string, reason: string, update: () => string): void {
    if ((count & (count - 1)) !== 0) return;
    this.#host.log('warn', message, { peer: this.name, reason, count, update: update() });
  }
}

/** The data of a Cease with words in it (RFC 9003 section 2). */
function shutdownData(text: string): Uint8Array {
  if (text === '') return new Uint8Array(0);
  const data = new Uint8Array(1 + MAX_SHUTDOWN_TEXT);
  // It stops ahead of a character that has no room.
  const { written } = new TextEncoder().encodeInto(text, data.subarray(1));
  data[0] = written;
  return data.subarray(0, 1 + written);
}

const importKey = ({ rules, policy, keepFiltered }: ReturnType<() => Importer['config']>) => ({
  ...rules,
  ownAddresses: [...rules.ownAddresses],
  policy: policy.key,
  keepFiltered,
});
