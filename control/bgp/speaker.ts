/** The BGP speaker of a node: a listener, a session for every configured peer, and the RIB that they share. */
import { EventEmitter } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { parseAddress4, parsePrefix4 } from '../address.ts';
import { TortieError } from '../error.ts';
import type { PathSource } from '../rib/decision.ts';
import { Rib } from '../rib/rib.ts';
import { NO_ATTRIBUTES } from './attributes.ts';
import { CEASE, CEASE_CONFIG_CHANGE, CEASE_DECONFIGURED, CEASE_REJECTED, CEASE_SHUTDOWN } from './error.ts';
import { encodeNotification } from './message.ts';
import { type Log, type PeerLabel, type PeerStatus, Session, type SessionConfig } from './session.ts';

export interface PeerConfig {
  /** IPv4 address: who may connect, and whom to dial. One peer an address. */
  address: string;
  /** Default 179. */
  port?: number;
  asn: number;
  /** Source address to dial from. Default: the address that is listened on, else the kernel's choice. */
  localAddress?: string;
  /** Wait for the peer to connect. */
  passive?: boolean;
  /** Seconds; 0 (never) or 3 to 65535. Default 90. */
  holdTime?: number;
  /** Refuse paths of an external peer that do not begin with its AS; false for a route server. Default true. */
  enforceFirstAs?: boolean;
  /** More prefixes than this end the session. Default 2,000,000. */
  maxPrefixes?: number;
  /** Passed through to the status. */
  label: PeerLabel;
}

export interface Timers {
  /** How long a connection attempt may take. Default 10 s. */
  connectMs: number;
  /** How long a peer may take to send its OPEN. Default 4 min (RFC 4271 8.2.2). */
  openMs: number;
  /** Time between attempts, doubling: default 2 s to 60 s. */
  retryMinMs: number;
  retryMaxMs: number;
  /** How long a peer may take nothing of what is sent. Default 8 min (RFC 9687). */
  sendHoldMs: number;
}

export interface SpeakerConfig {
  asn: number;
  /** BGP identifier, dotted. */
  routerId: string;
  /** Absent: nobody can connect to us. Port 0 takes a free one, see Speaker.port. */
  listen?: { address: string; port: number };
  peers: readonly PeerConfig[];
  /** Prefixes of our own, announced to every peer with ourselves as next hop. */
  originate: readonly string[];
  timers?: Partial<Timers>;
  /** Bytes that may wait for one peer. Default 8 MiB. */
  maxOutputBytes?: number;
}

const DEFAULT_TIMERS: Timers = {
  connectMs: 10_000,
  openMs: 240_000,
  retryMinMs: 2_000,
  retryMaxMs: 60_000,
  sendHoldMs: 480_000,
};
const DEFAULT_PORT = 179;
const DEFAULT_HOLD_TIME = 90;
const DEFAULT_MAX_PREFIXES = 2_000_000;
const DEFAULT_MAX_OUTPUT = 8 * 1024 * 1024;
/** Connections at a time, configured peers or not. */
const MAX_CONNECTIONS = 4096;

/** Source of our own routes. */
const LOCAL: PathSource = { address: 0, id: 0, asn: 0, internal: false, local: true };

/** Emits 'state' with a peer's status when its session changes state. */
export class Speaker extends EventEmitter<{ state: [PeerStatus] }> {
  readonly rib = new Rib();
  readonly #log: Log;
  #config: SpeakerConfig;
  /** By peer's address. */
  #sessions = new Map<string, Session>();
  #originated = new Set<string>();
  #server: Server | null = null;
  #running = false;
  /** Changes of configuration and the stop happen one after another. */
  #turn: Promise<void> = Promise.resolve();

  /** Throws TortieError BGP_CONFIG if the configuration cannot be meant. */
  constructor({ log, ...config }: SpeakerConfig & { log: Log }) {
    super();
    check(config);
    this.#config = config;
    this.#log = log;
    this.rib.setMaxListeners(0);
  }

  /** Listen and dial. Rejects with TortieError BGP_LISTEN if the address cannot be listened on. */
  start(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#listen();
      this.#running = true;
      this.#originate();
      this.#startSessions();
    });
  }

  /** Cease to all peers. Settles when they are told, within two seconds. */
  stop(): Promise<void> {
    return this.#inTurn(async () => {
      this.#running = false;
      this.#unlisten();
      const sessions = [...this.#sessions.values()];
      this.#sessions.clear();
      await Promise.all(sessions.map((session) => session.stop(CEASE_SHUTDOWN)));
    });
  }

  /**
   * Become what `config` says; sessions that it does not touch go on, and those that it does restart. Rejects
   * with BGP_CONFIG, which changes nothing, or with BGP_LISTEN, when all is done but the listening.
   */
  reconfigure(config: SpeakerConfig): Promise<void> {
    return this.#inTurn(async () => {
      check(config);
      const before = this.#config;
      this.#config = config;
      if (!this.#running) return;
      const wanted = this.#sessionConfigs();
      const stopping: Promise<void>[] = [];
      for (const [address, session] of this.#sessions) {
        const peer = wanted.get(address);
        if (peer && same(peer.config, session.config)) session.label = peer.label;
        else {
          this.#sessions.delete(address);
          stopping.push(session.stop(peer ? CEASE_CONFIG_CHANGE : CEASE_DECONFIGURED));
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
      this.#originate();
      this.#startSessions();
      if (deaf) throw deaf;
    });
  }

  peers(): PeerStatus[] {
    return [...this.#sessions.values()].map((session) => session.status);
  }

  /** The port that is listened on, or null. */
  get port(): number | null {
    const address = this.#server?.address();
    return address && typeof address === 'object' ? address.port : null;
  }

  #inTurn(action: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(action);
    this.#turn = done.catch(() => {});
    return done;
  }

  #originate(): void {
    const wanted = new Set(this.#config.originate);
    const flat = (list: Iterable<string>) =>
      [...list].flatMap((text) => {
        const { prefix, length } = parsePrefix4(text);
        return [prefix, length];
      });
    this.rib.withdraw(LOCAL, flat([...this.#originated].filter((text) => !wanted.has(text))));
    this.rib.announce(LOCAL, NO_ATTRIBUTES, flat(wanted));
    this.#originated = wanted;
  }

  #sessionConfigs(): Map<string, { config: SessionConfig; label: PeerLabel }> {
    const { asn, routerId, listen, peers, timers, maxOutputBytes } = this.#config;
    const own = listen && listen.address !== '0.0.0.0' ? listen.address : null;
    return new Map(
      peers.map((peer) => [
        peer.address,
        {
          label: peer.label,
          config: {
            ...DEFAULT_TIMERS,
            ...timers,
            asn,
            routerId: parseAddress4(routerId),
            peerAsn: peer.asn,
            address: parseAddress4(peer.address),
            port: peer.port ?? DEFAULT_PORT,
            localAddress: peer.localAddress ?? own,
            passive: peer.passive ?? false,
            enforceFirstAs: peer.enforceFirstAs ?? true,
            holdTime: peer.holdTime ?? DEFAULT_HOLD_TIME,
            maxPrefixes: peer.maxPrefixes ?? DEFAULT_MAX_PREFIXES,
            maxOutputBytes: maxOutputBytes ?? DEFAULT_MAX_OUTPUT,
            ownAddresses: own ? [parseAddress4(own)] : [],
          },
        },
      ]),
    );
  }

  #startSessions(): void {
    for (const [address, { config, label }] of this.#sessionConfigs()) {
      if (this.#sessions.has(address)) continue;
      const session = new Session(config, label, this.rib, this.#log, (changed) => {
        this.emit('state', changed.status);
      });
      this.#sessions.set(address, session);
      session.start();
    }
  }

  async #listen(): Promise<void> {
    const { listen } = this.#config;
    if (!listen) return;
    const server = createServer((socket) => this.#accept(socket));
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const where = `${listen.address}:${listen.port}`;
        const hint =
          error.code === 'EADDRINUSE'
            ? 'another BGP speaker runs there; stop it or set another listenPort'
            : 'check the address, and NET_BIND_SERVICE for ports below 1024';
        const text = `cannot listen for BGP on ${where}: ${error.code ?? error.message}; ${hint}`;
        reject(new TortieError('BGP_LISTEN', text, 1, { cause: error }));
      });
      server.listen(listen.port, listen.address, resolve);
    });
    server.on('error', (error) => this.#log('error', 'BGP listener', { reason: error.message }));
    this.#server = server;
  }

  #unlisten(): void {
    this.#server?.close();
    this.#server = null;
  }

  #accept(socket: Socket): void {
    const from = (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
    const session = this.#sessions.get(from);
    if (session && this.#running) return session.accept(socket);
    this.#log('info', 'connection refused: not a peer', { peer: from });
    socket.on('error', () => {});
    socket.end(encodeNotification({ code: CEASE, subcode: CEASE_REJECTED, data: new Uint8Array(0) }));
    socket.resume();
    const linger = setTimeout(() => socket.destroy(), 1000);
    socket.once('close', () => clearTimeout(linger));
  }
}

const same = (a: SessionConfig, b: SessionConfig) => JSON.stringify(a) === JSON.stringify(b);

function check({ asn, routerId, listen, peers, originate }: SpeakerConfig): void {
  const fault = (text: string) => new TortieError('BGP_CONFIG', `BGP: ${text}`);
  const wellFormed = <T>(what: string, parse: () => T): T => {
    try {
      return parse();
    } catch (error) {
      throw fault(`${what}: ${error instanceof Error ? error.message : error}`);
    }
  };
  const isAsn = (value: number) => Number.isInteger(value) && value > 0 && value < 2 ** 32 && value !== 23456;
  if (!isAsn(asn)) throw fault(`AS number ${asn} is not within 1 to 4294967295`);
  if (wellFormed('routerId', () => parseAddress4(routerId)) === 0) throw fault('routerId 0.0.0.0');
  if (listen) wellFormed('listen', () => parseAddress4(listen.address));
  for (const prefix of originate) wellFormed('originate', () => parsePrefix4(prefix));
  const seen = new Set<number>();
  for (const peer of peers) {
    const address = wellFormed('peer', () => parseAddress4(peer.address));
    if (seen.has(address)) throw fault(`two peers have the address ${peer.address}`);
    seen.add(address);
    if (!isAsn(peer.asn)) throw fault(`peer ${peer.address}: AS number ${peer.asn}`);
    const hold = peer.holdTime ?? DEFAULT_HOLD_TIME;
    if (!Number.isInteger(hold) || hold < 0 || hold === 1 || hold === 2 || hold > 65535) {
      throw fault(`peer ${peer.address}: hold time ${hold}; 0 or 3 to 65535 s are allowed`);
    }
    const { localAddress } = peer;
    if (localAddress) wellFormed(`peer ${peer.address}`, () => parseAddress4(localAddress));
  }
}
