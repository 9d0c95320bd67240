/** Where the kernel hears of paths that take less: ICMP messages to the node, and its own routes. */
import { LENGTH, OFFSET, ROW } from '../../dataplane/memory/burst.ts';
import { MAX_FRAME } from '../../dataplane/memory/layout.ts';
import { type FdWatch, native } from '../../dataplane/native/index.ts';
import { type PathMtuNews, pathMtuNews } from '../../dataplane/path/path-mtu.ts';
import { viewOf } from '../../dataplane/wire/bytes.ts';
import { source } from '../../dataplane/wire/ipv4.ts';
import { formatAddress4 } from '../address.ts';
import { reach } from './netlink.ts';

const PROTOCOL_ICMP = 1;
/** Messages that are read at a time: more wait in the socket. */
const MESSAGES = 8;
const BUFFER_BYTES = 262_144;

export type OnNews = (news: PathMtuNews, from: string) => void;

/** A raw socket for ICMP to the node's address; the kernel hands it destination unreachable only. */
export class IcmpListener {
  readonly #onNews: OnNews;
  readonly #arena = new Uint8Array(MESSAGES * (MAX_FRAME + 128));
  readonly #rows = new Int32Array(MESSAGES * ROW);
  #open: { readonly address: number; readonly fd: number; readonly watch: FdWatch } | null = null;

  constructor(onNews: OnNews) {
    this.#onNews = onNews;
  }

  /** Listen on an address, and no more on the one before. Throws the addon's error. */
  listen(address: number): void {
    if (this.#open?.address === address) return;
    this.close();
    const fd = native().rawOpen({ address, protocol: PROTOCOL_ICMP, bufferBytes: BUFFER_BYTES });
    try {
      this.#open = { address, fd, watch: native().fdWatch(fd, () => this.#read(fd)) };
    } catch (error) {
      native().close(fd);
      throw error;
    }
  }

  close(): void {
    if (!this.#open) return;
    const { fd, watch } = this.#open;
    this.#open = null;
    native().fdUnwatch(watch);
    native().close(fd);
  }

  #read(fd: number): void {
    const bytes = viewOf(this.#arena);
    let count = 0;
    try {
      count = native().rawReceive(fd, this.#arena, this.#rows, MESSAGES, 0, 0);
    } catch {
      // An error that the socket had noted for somebody: it is gone with this.
      return;
    }
    for (let row = 0; row < count * ROW; row += ROW) {
      const offset = this.#rows[row + OFFSET]!;
      const news = pathMtuNews(bytes, offset, this.#rows[row + LENGTH]!);
      if (news) this.#onNews(news, formatAddress4(source(bytes, offset)));
    }
  }
}

/** What the kernel's routes to these addresses, text, say of the MTU, where they do. */
export function routeMtus(peers: readonly string[]): Map<string, number> {
  const mtus = new Map<string, number>();
  for (const [index, route] of reach(null, peers).entries())
    if ('mtu' in route && route.mtu !== undefined) mtus.set(peers[index]!, route.mtu);
  return mtus;
}
