/** TCP connections to peers and from them. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { TortieError } from '../error.ts';

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

export function dial({ address, port, localAddress, timeoutMs }: DialOptions): Dialing {
  const socket = connect({ host: address, port, ...(localAddress ? { localAddress } : {}) });
  const connected = new Promise<Socket>((resolve, reject) => {
    const timer = setTimeout(
      () => socket.destroy(new Error(`no answer in ${timeoutMs / 1000} s`)),
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

export class Listener {
  readonly #servers: Server[] = [];
  /** The port that is listened on. */
  port = 0;

  /** Rejects with TortieError BGP_LISTEN if an address cannot be listened on. */
  static async open(
    { addresses, port }: ListenOptions,
    onConnection: (socket: Socket, from: string) => void,
    onError: (error: Error) => void,
  ): Promise<Listener> {
    const listener = new Listener();
    listener.port = port;
    try {
      for (const address of addresses) await listener.#listen(address, onConnection, onError);
    } catch (error) {
      listener.close();
      throw error;
    }
    return listener;
  }

  /** What connections of peers have to bring. */
  setPeers(_peers: readonly Guard[]): void {}

  close(): void {
    for (const server of this.#servers) server.close();
  }

  async #listen(
    address: string,
    onConnection: (socket: Socket, from: string) => void,
    onError: (error: Error) => void,
  ): Promise<void> {
    const server = createServer((socket) => {
      onConnection(socket, (socket.remoteAddress ?? '').replace(/^::ffff:/, '').replace(/%.*$/, ''));
    });
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const hint =
          error.code === 'EADDRINUSE'
            ? 'another BGP speaker runs there; stop it or set another listenPort'
            : 'check the address, and NET_BIND_SERVICE for ports below 1024';
        const text = `cannot listen for BGP on ${address} port ${this.port}: ${error.code ?? error.message}; ${hint}`;
        reject(new TortieError('BGP_LISTEN', text, 1, { cause: error }));
      });
      server.listen({ port: this.port, host: address, ipv6Only: true }, resolve);
    });
    server.on('error', onError);
    this.#servers.push(server);
    const bound = server.address();
    if (bound && typeof bound === 'object') this.port = bound.port;
  }
}
