/**
 * DPDK's look-up tables as peers of our FIBs: `rte_fib` asked 64 keys at a time, `rte_lpm` one at a time. The
 * program (bench/peers/dpdk-fib.c) holds a table while an entry lasts, and answers one measurement a line.
 */
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { promisify } from 'node:util';
import { type BenchContext, type Peer, reasonOf, type Unavailable } from './harness.ts';

const run = promisify(execFile);

export type Family = 4 | 6;
export type DpdkKind = 'rte_fib' | 'rte_lpm';

const HOW: Record<DpdkKind, string> = { rte_fib: '64 at a time', rte_lpm: 'one at a time' };
export const ROUTE_BYTES = 20;

/** One route of the file that dpdk-fib reads; an IPv4 address is 4 bytes in host order, IPv6 16 in network order. */
export interface DpdkRoute {
  readonly address: Uint8Array;
  readonly length: number;
  readonly hop: number;
}

export function routesImage(routes: readonly DpdkRoute[]): Uint8Array {
  const image = new Uint8Array(routes.length * ROUTE_BYTES);
  const view = new DataView(image.buffer);
  for (const [i, { address, length, hop }] of routes.entries()) {
    image.set(address, i * ROUTE_BYTES);
    image[i * ROUTE_BYTES + 16] = length;
    view.setUint16(i * ROUTE_BYTES + 18, hop, true);
  }
  return image;
}

/** A table that is held by a process of its own. */
export class DpdkTable {
  readonly #process: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #lines: AsyncIterator<string>;
  #said = '';
  /** What it took to add all routes. */
  seconds = 0;
  /** What the process grew by. */
  bytes = 0;

  private constructor(program: string, args: readonly string[]) {
    this.#process = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
    this.#process.stderr.on('data', (data: Buffer) => {
      this.#said = (this.#said + data.toString()).slice(-500);
    });
    // An end is told by its output's end.
    this.#process.stdin.on('error', () => {});
  }

  /** Resolves once the table is built, which takes rte_lpm minutes for a full table that it has not seen before. */
  static async open(context: BenchContext, kind: DpdkKind, family: Family, routes: Uint8Array) {
    const program = await context.compile('dpdk-fib');
    const name = `${kind}${family === 6 ? '6' : ''}`;
    const digest = createHash('sha256').update(routes).digest('hex').slice(0, 16);
    const folder = join(context.root, '.cache/bench');
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `routes-${digest}`);
    writeFileSync(file, routes);
    const cache = name === 'rte_lpm' ? [join(folder, `rte_lpm-${digest}`)] : [];
    const table = new DpdkTable(program, [name, file, ...cache]);
    try {
      const [, seconds, bytes] = (await table.#line()).split(' ').map(Number);
      table.seconds = seconds!;
      table.bytes = bytes!;
      return table;
    } catch (error) {
      await table.close();
      throw error;
    }
  }

  /** Millions of look-ups a second over a file of keys, the median of some passes; and the sum of all next hops. */
  async ask(keys: string, passes: number): Promise<{ speed: number; checksum: number }> {
    this.#process.stdin.write(`${keys} ${passes}\n`);
    const [speed, checksum] = (await this.#line()).split(' ').map(Number);
    return { speed: speed!, checksum: checksum! };
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`dpdk-fib ended: ${this.#said.trim() || 'without a word'}`);
    return value;
  }

  async close(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'close');
    this.#process.kill('SIGKILL');
    await ended;
  }
}

export interface DpdkPeers {
  readonly peers: Record<DpdkKind, Peer | Unavailable>;
  close(): Promise<void>;
}

/** Both tables over the same routes and keys as ours; they must find the same next hops: `checksum` is their sum. */
export async function dpdkPeers(
  context: BenchContext,
  family: Family,
  routes: Uint8Array,
  keys: string,
  passes: number,
  checksum: number,
): Promise<DpdkPeers> {
  const tables: DpdkTable[] = [];
  const open = async (kind: DpdkKind): Promise<Peer | Unavailable> => {
    try {
      const { stdout } = await run('pkg-config', ['--modversion', 'libdpdk']);
      context.log(`${kind}: building its table`);
      const table = await DpdkTable.open(context, kind, family, routes);
      tables.push(table);
      return {
        version: `DPDK ${stdout.trim()}, ${kind}${family === 6 ? '6' : ''}, ${HOW[kind]}`,
        run: async () => {
          const answer = await table.ask(keys, passes);
          if (answer.checksum !== checksum)
            throw new Error(`found other next hops: sum ${answer.checksum}, ours ${checksum}`);
          return answer.speed;
        },
      };
    } catch (error) {
      return { unavailable: reasonOf(error) };
    }
  };
  const peers = { rte_fib: await open('rte_fib'), rte_lpm: await open('rte_lpm') };
  return {
    peers,
    close: async () => {
      await Promise.all(tables.map((table) => table.close()));
    },
  };
}
