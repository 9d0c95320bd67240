/**
 * The BGP speaker of a node: listeners, a session for every configured peer, the RIBs that they share, and the groups
 * in which peers are told.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { parseAddress4 } from '../address.ts';
import type { PathSource } from '../rib/decision.ts';
import { Rib } from '../rib/rib.ts';
import { AttributeTable } from './attribute-table.ts';
import { type Attributes, NO_ATTRIBUTES } from './attributes.ts';
import { checkSpeaker, DEFAULT_HOLD_TIME } from './check.ts';
import type { Origination, PeerConfig, SpeakerConfig, Timers } from './config.ts';
import type { Connection } from './connection.ts';
import { CEASE, CEASE_CONFIG_CHANGE, CEASE_DECONFIGURED, CEASE_REJECTED, CEASE_SHUTDOWN } from './error.ts';
import {
  FAMILIES,
  type Family,
  familyNamed,
  IPV4,
  IPV6,
  type Prefix,
  parsePrefix,
  parseWords,
} from './family.ts';
import { encodeNotification } from './message.ts';
import type { Resolver } from './next-hop.ts';
import { PrefixList } from './nlri.ts';
import { refusalReader } from './refusals.ts';
import { DEFAULT_RESTART_TIME, type Log, Session, type SessionConfig, type SessionHost } from './session.ts';
import { type Guard, Listener } from './socket.ts';
import type { PeerStatus } from './status.ts';
import { type Route, UpdateGroup } from './update-group.ts';

const DEFAULT_TIMERS: Timers = {
  connectMs: 10_000,
  openMs: 240_000,
  retryMinMs: 2_000,
  retryMaxMs: 60_000,
  sendHoldMs: 480_000,
};
const DEFAULT_PORT = 179;
const DEFAULT_MAX_PREFIXES = 2_000_000;
const DEFAULT_MAX_OUTPUT = 8 * 1024 * 1024;
/** After a restart: how long peers are waited for until we tell others what we know (RFC 4724 section 4.1). */
const DEFERRAL_MS = 60_000;
/** How often peers that are waited for are told what kept them out. */
const WATCH_MS = 2_000;

/** A session that is up, for those who watch it: what was said in OPEN, whole messages. */
export interface SessionUp {
  readonly status: PeerStatus;
  readonly localPort: number;
  readonly remotePort: number;
  readonly openSent: Uint8Array;
  readonly openReceived: Uint8Array;
}

export class Speaker extends EventEmitter<{
  /** A session has changed state. */
  state: [PeerStatus];
  up: [SessionUp];
  down: [address: string, reason: string];
  /** Whole messages, one or several, as a session reads and writes them. */
  message: [address: string, direction: 'in' | 'out', messages: Uint8Array];
  /** After a restart: all peers have told all that they know, or were waited for long enough. */
  synchronised: [];
}> {
  /** By index of the family. */
  readonly ribs: readonly [Rib, Rib];
  readonly table = new AttributeTable();
  /** Source of our own routes. */
  readonly local: PathSource = {
    index: 0,
    name: '',
    address: [0],
    id: 0,
    asn: 0,
    internal: false,
    client: false,
    local: true,
  };
  readonly #log: Log;
  readonly #host: SessionHost;
  #config: SpeakerConfig;
  /** By peer's address. */
  readonly #sessions = new Map<string, Session>();
  readonly #groups = new Map<string, UpdateGroup>();
  /** Indices of sources in use. */
  readonly #indices = new Set([0]);
  #originated = new Map<string, { prefix: Prefix; key: string }>();
  #listener: Listener | null = null;
  #running = false;
  #restarting = false;
  #deferral: NodeJS.Timeout | undefined;
  #watch: NodeJS.Timeout | undefined;
  /** Changes of configuration and the stop happen one after another. */
  #turn: Promise<void> = Promise.resolve();

  /** Throws TortieError BGP_CONFIG if the configuration cannot be meant. */
  constructor({ log, ...config }: SpeakerConfig & { log: Log }) {
    super();
    checkSpeaker(config);
    this.#config = config;
    this.#log = log;
    this.ribs = [new Rib(IPV4, this.table), new Rib(IPV6, this.table)];
    for (const rib of this.ribs) rib.addSource(this.local);
    this.#restarting = config.restarting ?? false;
    this.#host = this.#makeHost();
  }

  /** Listen and dial. Rejects with TortieError BGP_LISTEN if an address cannot be listened on. */
  start(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#listen();
      this.#running = true;
      this.#watch = setInterval(() => this.#tellRefusals(), WATCH_MS);
      this.#originate();
      this.#startSessions();
      if (this.#restarting) this.#deferral = setTimeout(() => this.#endRestart(), DEFERRAL_MS);
      this.#checkRestart();
    });
  }

  /**
   * Cease to all peers. `restarting`: our forwarding state stays and we come back, so peers that can are to keep our
   * routes. Settles when they are told, within two seconds.
   */
  stop({ restarting = false } = {}): Promise<void> {
    return this.#inTurn(async () => {
      this.#running = false;
      clearTimeout(this.#deferral);
      clearInterval(this.#watch);
      this.#unlisten();
      const sessions = [...this.#sessions.values()];
      this.#sessions.clear();
      await Promise.all(sessions.map((session) => session.stop(CEASE_SHUTDOWN, '', restarting)));
    });
  }

  /**
   * Become what `config` says. Sessions that it does not touch go on; where only policies and the like are others,
   * routes are asked for and told again; the rest restart. Rejects with BGP_CONFIG, which changes nothing, or with
   * BGP_LISTEN, when all is done but the listening.
   */
  reconfigure(config: SpeakerConfig): Promise<void> {
    return this.#inTurn(async () => {
      checkSpeaker(config);
      const before = this.#config;
      this.#config = config;
      if (!this.#running) return;
      const wanted = new Map(config.peers.map((peer) => [peer.address, this.#sessionConfig(peer)]));
      const stopping: Promise<void>[] = [];
      for (const [address, session] of this.#sessions) {
        const next = wanted.get(address);
        if (next && sessionKey(next) === sessionKey(session.config)) session.reconfigure(next);
        else {
          this.#sessions.delete(address);
          const text = next?.peer.shutdown;
          const subcode = !next
            ? CEASE_DECONFIGURED
            : text === undefined
              ? CEASE_CONFIG_CHANGE
              : CEASE_SHUTDOWN;
          stopping.push(session.stop(subcode, text).then(() => this.#forget(session)));
        }
      }
      await Promise.all(stopping);
      let deaf: unknown = null;
      if (JSON.stringify(before.listen) !== JSON.stringify(config.listen)) {
        this.#unlisten();
        await this.#listen().catch((error: unknown) => {
          deaf = error;
        });
      }
      this.#listener?.setPeers(this.#guards());
      this.#originate();
      this.#startSessions();
      if (deaf) throw deaf;
    });
  }

  peers(): PeerStatus[] {
    return [...this.#sessions.values()].map((session) => session.status);
  }

  /** The session with a peer, for what a test plays to it. */
  session(address: string): Session | undefined {
    return this.#sessions.get(address);
  }

  /** Sessions that are up. */
  *ups(): Generator<SessionUp> {
    for (const session of this.#sessions.values()) {
      const up = upOf(session, session.connection);
      if (up) yield up;
    }
  }

  /** Who a peer is as a source of routes, or null. */
  source(address: string): PathSource | null {
    return this.#sessions.get(address)?.source ?? null;
  }

  /** What a peer has from us. */
  adjOut(address: string, family: Family): Iterable<Route> {
    return this.#sessions.get(address)?.adjOut(family) ?? [];
  }

  /** Why a peer is not told the best path of a prefix, in words; null: it is told, or there is no such path. */
  withheld(address: string, family: Family, id: number): string | null {
    return this.#sessions.get(address)?.withheld(family, id) ?? null;
  }

  /** Why a route that a peer told is kept and not used, in words; null: it may be used. */
  refusalOf(address: string, prefix: Prefix, attributes: Attributes): string | null {
    return this.#sessions.get(address)?.refusalOf(prefix, attributes) ?? null;
  }

  /** What it has of one prefix, by its number in the RIB. */
  adjOutAt(address: string, family: Family, id: number): Iterable<Route> {
    return this.#sessions.get(address)?.adjOutAt(family, id) ?? [];
  }

  /** Ask a peer to tell its routes again, and tell it ours. False: it cannot, or is not up. */
  refresh(address: string): boolean {
    const session = this.#sessions.get(address);
    session?.tellAgain();
    return session?.requestRefresh() ?? false;
  }

  /** End a session and begin anew, with words for the peer's operator (RFC 9003). False: no such peer. */
  reset(address: string, text = ''): boolean {
    const session = this.#sessions.get(address);
    session?.reset(text);
    return session !== undefined;
  }

  /**
   * What BFD says of a peer. `failed`: the path was up and is taken for broken. `independent`: the peer's BFD lives apart from its
   * control plane, so that it is no restart of the peer.
   */
  bfdChanged(address: string, state: string, failed: boolean, independent = false): void {
    const session = this.#sessions.get(address);
    if (!session) return;
    session.bfd = state;
    if (failed) session.bfdDown(state, independent);
  }

  /** How next hops are reached. Asked once for each; call nextHopsChanged when answers may be others. */
  set resolver(resolver: Resolver) {
    this.table.nextHops.resolver = resolver;
    this.nextHopsChanged();
  }

  nextHopsChanged(): void {
    const changed = this.table.nextHops.resolve();
    if (changed.size > 0) for (const rib of this.ribs) rib.nextHopsChanged(changed);
  }

  /** We have restarted and peers have not told all that they know. */
  get isRestarting(): boolean {
    return this.#restarting;
  }

  /** Every peer is up, and has told all that it knows if it is one that says so (RFC 4724 section 4.1). */
  get isSynchronised(): boolean {
    return this.#wanted.every((session) => session.isSynchronised);
  }

  /** Every peer is up and has told all that it knows, those that have restarted themselves, too; null: some never say so. */
  get hasToldAll(): boolean | null {
    const told = this.#wanted.map((session) => session.hasToldAll);
    return told.includes(false) ? false : told.includes(null) ? null : true;
  }

  /** Sessions that are to be up. */
  get #wanted(): Session[] {
    return [...this.#sessions.values()].filter(({ config }) => config.peer.shutdown === undefined);
  }

  /** Our AS, and our BGP identifier, int32. */
  get identity(): { asn: number; routerId: number } {
    const { asn, routerId } = this.#config;
    return { asn, routerId: parseAddress4(routerId) };
  }

  /** The port that is listened on, or null. */
  get port(): number | null {
    return this.#listener?.port ?? null;
  }

  #inTurn(action: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(action);
    this.#turn = done.catch(() => {});
    return done;
  }

  #makeHost(): SessionHost {
    const isRestarting = () => this.#restarting;
    return {
      ribs: this.ribs,
      table: this.table,
      log: this.#log,
      get isRestarting() {
        return isRestarting();
      },
      refusals: refusalReader(() => this.#listener?.dropped ?? 0),
      group: (config) => {
        const key = UpdateGroup.key(config);
        let group = this.#groups.get(key);
        if (!group) {
          group = new UpdateGroup(this.ribs[config.family.index], this.table, config);
          this.#groups.set(key, group);
        }
        return group;
      },
      left: (group) => {
        if (!group.isEmpty) return;
        group.close();
        this.#groups.delete(UpdateGroup.key(group.config));
      },
      onState: (session) => this.emit('state', session.status),
      onUp: (session, connection) => {
        const up = upOf(session, connection);
        if (up) this.emit('up', up);
      },
      onDown: (session, _connection, reason) => this.emit('down', session.name, reason),
      onMessage: (session, direction, bytes, from, to) => {
        if (this.listenerCount('message') > 0)
          this.emit('message', session.name, direction, bytes.subarray(from, to));
      },
      onSynchronised: () => this.#checkRestart(),
    };
  }

  // ---- Restart of ours (RFC 4724 section 4.1) --------------------------------------------------------

  #checkRestart(): void {
    if (!this.#restarting || !this.#running) return;
    if (this.isSynchronised) this.#endRestart();
  }

  #endRestart(): void {
    clearTimeout(this.#deferral);
    this.#restarting = false;
    for (const session of this.#sessions.values()) session.release();
    this.emit('synchronised');
  }

  // ---- Routes of our own -----------------------------------------------------------------------------

  #originate(): void {
    const wanted = new Map(
      this.#config.originate.map((origination) => {
        const prefix = parsePrefix(origination.prefix);
        return [origination.prefix, { prefix, key: JSON.stringify(origination), origination }];
      }),
    );
    const lists = () => [new PrefixList(IPV4), new PrefixList(IPV6)] as const;
    const gone = lists();
    for (const [text, { prefix }] of this.#originated) {
      if (!wanted.has(text)) gone[prefix.family.index].add(prefix.words, prefix.length);
    }
    for (const { index } of FAMILIES) this.ribs[index].withdraw(this.local, gone[index]);
    const groups = new Map<string, { origination: Origination; lists: readonly [PrefixList, PrefixList] }>();
    for (const [text, { prefix, key, origination }] of wanted) {
      if (this.#originated.get(text)?.key === key) continue;
      const { prefix: _, ...attributes } = origination;
      const form = JSON.stringify(attributes);
      const group = groups.get(form) ?? { origination, lists: lists() };
      group.lists[prefix.family.index].add(prefix.words, prefix.length);
      groups.set(form, group);
    }
    for (const { origination, lists: both } of groups.values()) {
      const { communities = [], largeCommunities = [], localPref = null } = origination;
      const set = this.table.acquire({ ...NO_ATTRIBUTES, communities, largeCommunities, localPref });
      for (const { index } of FAMILIES) this.ribs[index].announce(this.local, set, both[index]);
      this.table.release(set.id);
    }
    this.#originated = wanted;
  }

  // ---- Sessions --------------------------------------------------------------------------------------

  #sessionConfig(peer: PeerConfig): SessionConfig {
    const { asn, routerId, clusterId, listen, timers, maxOutputBytes } = this.#config;
    const isIp6 = peer.address.includes(':');
    const holdTime = peer.holdTime ?? DEFAULT_HOLD_TIME;
    const listened = (listen?.addresses ?? []).filter((address) => !isWildcard(address));
    const own = listened.find((address) => address.includes(':') === isIp6) ?? null;
    return {
      ...DEFAULT_TIMERS,
      sendHoldMs: Math.max(DEFAULT_TIMERS.sendHoldMs, 2000 * holdTime),
      ...timers,
      peer,
      asn,
      routerId: parseAddress4(routerId),
      clusterId: parseAddress4(clusterId ?? routerId),
      port: peer.port ?? DEFAULT_PORT,
      families: (peer.families ?? [isIp6 ? 'ipv6' : 'ipv4']).map(familyNamed),
      localAddress: peer.localAddress === undefined ? own : peer.localAddress,
      holdTime,
      maxPrefixes: peer.maxPrefixes ?? DEFAULT_MAX_PREFIXES,
      maxOutputBytes: maxOutputBytes ?? DEFAULT_MAX_OUTPUT,
      ownAddresses: [...new Set([...listened, peer.localAddress, peer.nextHop4, peer.nextHop6])].filter(
        (address) => address != null,
      ),
    };
  }

  #startSessions(): void {
    for (const peer of this.#config.peers) {
      if (this.#sessions.has(peer.address)) continue;
      const config = this.#sessionConfig(peer);
      const session = new Session(config, this.#newSource(peer), this.#host);
      this.#sessions.set(peer.address, session);
      session.start();
    }
  }

  #newSource(peer: PeerConfig): PathSource {
    let index = 1;
    while (this.#indices.has(index)) index++;
    this.#indices.add(index);
    const internal = peer.asn === (peer.localAsn ?? this.#config.asn);
    return {
      index,
      name: peer.address,
      address: parseWords(peer.address),
      id: 0,
      asn: peer.asn,
      internal,
      client: internal && (peer.reflectorClient ?? false),
      local: false,
    };
  }

  #forget(session: Session): void {
    session.drop(() => this.#indices.delete(session.source.index));
  }

  // ---- Connections -----------------------------------------------------------------------------------

  async #listen(): Promise<void> {
    const { listen } = this.#config;
    if (!listen) return;
    this.#listener = await Listener.open(
      listen,
      this.#guards(),
      (socket, from) => this.#accept(socket, from),
      (error) => this.#log('error', 'BGP listener', { reason: error.message }),
    );
  }

  /** Passwords and the like of the peers, before they connect. */
  #guards(): Guard[] {
    return this.#config.peers.map(({ address, password, ttlSecurity }) => ({
      address,
      password: password ?? null,
      ttlSecurity: ttlSecurity ?? null,
    }));
  }

  /** A passive session makes no attempt that could fail: what the kernel refuses is all that can be known. */
  #tellRefusals(): void {
    for (const [address, session] of this.#sessions) {
      session.tellRefusals(this.#listener?.faults.get(address) ?? null);
    }
  }

  #unlisten(): void {
    this.#listener?.close();
    this.#listener = null;
  }

  #accept(socket: Socket, from: string): void {
    const session = this.#sessions.get(from);
    if (session?.accepts && this.#running) return session.accept(socket);
    this.#log('info', session ? 'connection refused: not now' : 'connection refused: not a peer', {
      peer: from,
    });
    socket.on('error', () => {});
    socket.end(encodeNotification({ code: CEASE, subcode: CEASE_REJECTED, data: new Uint8Array(0) }));
    socket.resume();
    const linger = setTimeout(() => socket.destroy(), 1000);
    socket.once('close', () => clearTimeout(linger));
  }
}

function upOf(session: Session, connection: Connection | null): SessionUp | null {
  if (!connection?.openReceived) return null;
  const { localPort, remotePort, openSent, openReceived } = connection;
  return { status: session.status, localPort, remotePort, openSent, openReceived };
}

const isWildcard = (address: string): boolean => address === '0.0.0.0' || address === '::';

/** What a session cannot take up while it lasts: other values of these begin it anew. */
function sessionKey(config: SessionConfig): string {
  const {
    label: _label,
    resource: _resource,
    importPolicy: _import,
    exportPolicy: _export,
    keepFiltered: _keep,
    maxPrefixes: _max,
    maxPrefixesRestart: _restart,
    allowOwnAs: _own,
    nextHop: _mode,
    nextHop4: _four,
    nextHop6: _six,
    gracefulShutdown: _graceful,
    bfd: _bfd,
    // As they come out with all defaults, these are among the rest.
    port: _port,
    families: _families,
    localAddress: _address,
    holdTime: _hold,
    passive: _passive,
    addPath,
    restartTime = DEFAULT_RESTART_TIME,
    longLivedTime = 0,
    reflectorClient = false,
    strictRole = false,
    enforceFirstAs = true,
    ...peer
  } = config.peer;
  const {
    maxPrefixes: _limit,
    ownAddresses: _addresses,
    connectMs: _connect,
    openMs: _open,
    retryMinMs: _retryMin,
    retryMaxMs: _retryMax,
    families,
    ...rest
  } = config;
  return JSON.stringify({
    ...rest,
    peer,
    families: families.map(({ name }) => name),
    // How many paths are sent does not show in an OPEN.
    addPath: [addPath?.receive ?? false, (addPath?.send ?? 0) > 0],
    defaulted: [restartTime, longLivedTime, reflectorClient, strictRole, enforceFirstAs],
  });
}
