/**
 * TCP connections to peers and from them, with passwords (RFC 2385) and TTL security (RFC 5082). What these need is set
 * before the first segment: on sockets that the addon opens and Node's own take over.
 */
import { once } from 'node:events';
import { createServer, type Server, Socket } from 'node:net';
import { native as load } from '../../dataplane/native/index.ts';
import { TortieError } from '../error.ts';
import { type TtlLimit, ttlFilter } from './ttl-filter.ts';

export interface DialOptions {
  address: string;
  port: number;
  localAddress: string | null;
  password: string | null;
  /** Hops that the peer is away at most (RFC 5082), or null. */
  ttlSecurity: number | null;
  timeoutMs: number;
}

export interface Dialing {
  /** Settles once: a connected socket, or why there is none. */
  readonly connected: Promise<Socket>;
  cancel(): void;
}

/** Bytes of a password (TCP_MD5SIG_MAXKEYLEN). */
export const MAX_PASSWORD = 80;
const SYSTEM_TTL = -1;
const MAX_TTL = 255;
/** A neighbour's packet arrives with 255, one from a hop further with 254. */
const leastTtl = (hops: number): number => MAX_TTL + 1 - hops;
const anyAddress = (address: string): string => (address.includes(':') ? '::' : '0.0.0.0');

export function dial(options: DialOptions): Dialing {
  const { address, port, timeoutMs } = options;
  let socket: Socket;
  try {
    socket = new Socket({ fd: openToDial(options) });
  } catch (error) {
    return { connected: Promise.reject(error), cancel: () => {} };
  }
  socket.connect({ host: address, port });
  const connected = new Promise<Socket>((resolve, reject) => {
    const timer = setTimeout(
      () => socket.destroy(new Error(`no answer in ${timeoutMs / 1000} s${silence(options)}`)),
      timeoutMs,
    );
    socket.once('error', reject);
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new Error('cancelled'));
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', reject);
      resolve(socket);
    });
  });
  return { connected, cancel: () => socket.destroy() };
}

/** Why a peer that is there may not answer: kernels drop what is guarded otherwise than they know without a word. */
function silence({ password, ttlSecurity }: DialOptions): string {
  const hops = ttlSecurity === 1 ? 'a hop' : `${ttlSecurity} hops`;
  const reasons = [
    ...(password === null ? [] : ['has another password or none']),
    ...(ttlSecurity === null ? [] : [`is more than ${hops} away`]),
  ];
  return reasons.length === 0 ? '' : `; so it is with a peer that ${reasons.join(', or ')}`;
}

/** Throws TortieError BGP_SOCKET if the kernel does not do what the connection needs. */
function openToDial({ address, localAddress, password, ttlSecurity }: DialOptions): number {
  return openSocket(localAddress ?? anyAddress(address), 0, (fd) =>
    guard(fd, { address, password, ttlSecurity }),
  );
}

/** A descriptor for Node, which closes it. Throws TortieError BGP_SOCKET. */
function openSocket(address: string, port: number, prepare: (fd: number) => void): number {
  const native = load();
  try {
    const fd = native.tcpOpen({ address, port });
    try {
      prepare(fd);
    } catch (error) {
      native.close(fd);
      throw error;
    }
    native.release(fd);
    return fd;
  } catch (error) {
    throw new TortieError('BGP_SOCKET', textOf(error), 1, { cause: error });
  }
}

/** What a connection has to bring, set on its own socket. */
function guard(fd: number, { address, password, ttlSecurity }: Guard): void {
  const native = load();
  if (password !== null) native.tcpPassword(fd, address, password);
  if (ttlSecurity === null) native.tcpTtl(fd, SYSTEM_TTL, 0);
  else native.tcpTtl(fd, MAX_TTL, leastTtl(ttlSecurity));
}

export interface ListenOptions {
  addresses: readonly string[];
  port: number;
}

export interface Guard {
  address: string;
  password: string | null;
  ttlSecurity: number | null;
}

/** Connections at a time on one address, configured peers or not. */
const MAX_CONNECTIONS = 4096;

/** One address that is listened on. */
class Listening {
  readonly server: Server;
  readonly #isIp6: boolean;
  #fd = -1;
  /** Peers that have a key here. */
  readonly #keys = new Map<string, string>();
  #filter = '';

  constructor(address: string, server: Server) {
    this.#isIp6 = address.includes(':');
    this.server = server;
  }

  /** Listen: who connects is guarded from the first segment on. */
  async open(
    address: string,
    port: number,
    guards: readonly Guard[],
    faults: Map<string, string>,
  ): Promise<void> {
    const fd = openSocket(address, port, (opened) => {
      this.#fd = opened;
      // Answers to SYNs are the listening socket's, and a peer with TTL security takes them with no less.
      load().tcpTtl(opened, MAX_TTL, 0);
      this.guard(guards, faults);
    });
    this.server.listen({ fd });
    await once(this.server, 'listening');
  }

  get dropped(): number {
    return load().socketDrops(this.#fd);
  }

  /** Become what `guards` say. Into `faults` goes whose connections cannot be guarded, and why. */
  guard(guards: readonly Guard[], faults: Map<string, string>): void {
    const ours = guards.filter(({ address }) => address.includes(':') === this.#isIp6);
    const passwords = new Map(ours.map(({ address, password }) => [address, password ?? '']));
    for (const address of new Set([...this.#keys.keys(), ...passwords.keys()])) {
      const password = passwords.get(address) ?? '';
      if ((this.#keys.get(address) ?? '') === password) continue;
      try {
        load().tcpPassword(this.#fd, address, password);
        if (password === '') this.#keys.delete(address);
        else this.#keys.set(address, password);
      } catch (error) {
        faults.set(address, textOf(error));
      }
    }
    const limits: TtlLimit[] = [];
    for (const { address, ttlSecurity } of ours) {
      if (ttlSecurity !== null) limits.push({ address, least: leastTtl(ttlSecurity) });
    }
    try {
      const program = ttlFilter(limits);
      const form = program.join();
      if (form !== this.#filter) load().socketFilter(this.#fd, program);
      this.#filter = form;
    } catch (error) {
      for (const { address } of limits) faults.set(address, textOf(error));
    }
  }
}

export class Listener {
  readonly #listening: Listening[] = [];
  #guards = new Map<string, Guard>();
  #faults = new Map<string, string>();
  /** The port that is listened on. */
  port = 0;

  /** Peers whose connections are refused since the kernel cannot guard them, and why. */
  get faults(): ReadonlyMap<string, string> {
    return this.#faults;
  }

  /** Rejects with TortieError BGP_LISTEN if an address cannot be listened on. */
  static async open(
    { addresses, port }: ListenOptions,
    guards: readonly Guard[],
    onConnection: (socket: Socket, from: string) => void,
    onError: (error: Error) => void,
  ): Promise<Listener> {
    const listener = new Listener();
    listener.port = port;
    listener.setPeers(guards);
    try {
      for (const address of addresses) await listener.#listen(address, onConnection, onError);
    } catch (error) {
      listener.close();
      throw error;
    }
    return listener;
  }

  /**
   * What connections of peers have to bring from now on; those that are up keep what they had. A peer that cannot be
   * guarded as it says is in `faults`, and refused.
   */
  setPeers(peers: readonly Guard[]): void {
    this.#guards = new Map(peers.map((peer) => [peer.address, peer]));
    this.#faults = new Map();
    for (const listening of this.#listening) listening.guard(peers, this.#faults);
  }

  /** Segments that were dropped where we listen. */
  get dropped(): number {
    return this.#listening.reduce((sum, { dropped }) => sum + dropped, 0);
  }

  close(): void {
    for (const { server } of this.#listening.splice(0)) server.close();
  }

  async #listen(
    address: string,
    onConnection: (socket: Socket, from: string) => void,
    onError: (error: Error) => void,
  ): Promise<void> {
    const server = createServer((socket) => {
      const from = (socket.remoteAddress ?? '').replace(/%.*$/, '');
      try {
        this.#guardAccepted(socket, from);
      } catch (error) {
        onError(new TortieError('BGP_SOCKET', `connection of ${from} refused: ${textOf(error)}`));
        socket.destroy();
        return;
      }
      onConnection(socket, from);
    });
    server.maxConnections = MAX_CONNECTIONS;
    const listening = new Listening(address, server);
    try {
      await listening.open(address, this.port, [...this.#guards.values()], this.#faults);
    } catch (error) {
      const cause = (error instanceof TortieError ? error.cause : error) as NodeJS.ErrnoException;
      const hint =
        cause.code === 'EADDRINUSE'
          ? 'another BGP speaker runs there; stop it or set another listenPort'
          : 'check the address, and NET_BIND_SERVICE for ports below 1024';
      const text = `cannot listen for BGP on ${address} port ${this.port}: ${cause.code ?? cause.message}; ${hint}`;
      throw new TortieError('BGP_LISTEN', text, 1, { cause });
    }
    server.on('error', onError);
    this.#listening.push(listening);
    const bound = server.address();
    if (bound && typeof bound === 'object') this.port = bound.port;
  }

  /**
   * A connection is guarded from its SYN on by what it inherits from the socket that listens: the peer's key, and the
   * filter of all peers' TTLs. Then it gets its own: also what has changed while it waited to be accepted.
   */
  #guardAccepted(socket: Socket, from: string): void {
    const fault = this.#faults.get(from);
    if (fault) throw new Error(fault);
    const { password = null, ttlSecurity = null } = this.#guards.get(from) ?? {};
    const fd = descriptorOf(socket);
    guard(fd, { address: from, password, ttlSecurity });
    load().socketFilter(fd, new Int32Array(0));
  }
}

/** Node has no public name for it. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  if (!handle || !(handle.fd >= 0)) throw new Error('it was closed at once');
  return handle.fd;
}

/** What the kernel says of connections, as their operators would. */
const CAUSES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens on that port there',
  ECONNRESET: 'the other side broke it off',
  EPIPE: 'the other side broke it off',
  EHOSTUNREACH: 'it does not answer on its link, or a router cannot reach it',
  ENETUNREACH: 'there is no route to it',
  ETIMEDOUT: 'the other side no longer answers',
};

/** "ECONNREFUSED, nothing listens on that port there". */
export function causeOf({ code, message }: NodeJS.ErrnoException): string {
  if (code === undefined) return message;
  const words = CAUSES[code];
  return words === undefined ? code : `${code}, ${words}`;
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
