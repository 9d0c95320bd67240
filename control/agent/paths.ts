/**
 * Path MTU discovery of the tunnels, whichever way their packets leave: routers' messages lower a tunnel's MTU at once; where a
 * packet was refused for its size without a message, the kernel's route is asked for it.
 */
import type { Logger } from 'pino';
import type { PathMtuNews } from '../../dataplane/path/path-mtu.ts';
import { formatAddress4 } from '../address.ts';
import { IcmpListener, routeMtus } from '../kernel/path-mtu.ts';
import { type PathMtu, PathMtus } from './path-mtus.ts';

/** How often refused packets and old entries are looked for. */
const LOOK_MS = 1000;

export interface PathSource {
  /** Tunnels' far ends, of both families, as text. */
  peers(): Iterable<string>;
  /** IPv4, host order. */
  hasPeer(address: number): boolean;
  /** Packets that were refused for their size until now. */
  refused(): number;
}

export class Paths {
  readonly #mtus = new PathMtus();
  readonly #source: PathSource;
  readonly #onChange: () => void;
  readonly #log: Logger;
  readonly #listener = new IcmpListener((news, from) => this.#told(news, from));
  #address: number | null = null;
  #timer: NodeJS.Timeout | null = null;
  #refused = 0;
  /** Messages that were believed. */
  messages = 0;

  constructor(source: PathSource, onChange: () => void, log: Logger) {
    this.#source = source;
    this.#onChange = onChange;
    this.#log = log;
  }

  /**
   * Listen for messages to the node's address, if it has one of IPv4. What tunnels over IPv6 are told reaches the kernel's routes, since they leave
   * by sockets always. What goes wrong is a problem of the node.
   */
  listen(address: number | null, problems: string[]): void {
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref();
    this.#address = address;
    try {
      if (address === null) this.#listener.close();
      else this.#listener.listen(address);
    } catch (error) {
      problems.push(`paths that take less are not heard of: ${(error as Error).message}`);
    }
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#listener.close();
  }

  of(peer: string): number | undefined {
    return this.#mtus.of(peer);
  }

  list(): PathMtu[] {
    return this.#mtus.list();
  }

  #told({ source, peer, mtu }: PathMtuNews, from: string): void {
    if (source !== this.#address || !this.#source.hasPeer(peer)) return;
    this.messages++;
    this.#learn(formatAddress4(peer), mtu, from);
  }

  #learn(peer: string, mtu: number, from: string): void {
    if (!this.#mtus.learn(peer, mtu, from)) return;
    this.#log.info({ peer, mtu, from }, 'the path to a node takes less');
    this.#onChange();
  }

  #look(): void {
    if (this.#mtus.expire()) this.#onChange();
    const refused = this.#source.refused();
    // A port that went takes its counts along.
    if (refused > this.#refused) this.#ask();
    this.#refused = refused;
  }

  /** Sockets refuse what is larger than the kernel's route takes, and tell no more than that. */
  #ask(): void {
    try {
      for (const [peer, mtu] of routeMtus([...this.#source.peers()])) this.#learn(peer, mtu, 'route');
    } catch (error) {
      this.#log.warn({ err: error }, 'the kernel does not tell what its routes take');
    }
  }
}
