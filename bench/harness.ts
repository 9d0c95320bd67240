/**
 * What a benchmark is: something of ours and its peers, measured in turn on one machine in one run.
 *
 * Machines drift by more than most differences that are worth knowing, so a figure means little alone. Ours
 * and each peer are run A B C A B C; medians are compared, and the spread is printed beside them.
 */
import { execFile } from 'node:child_process';
import { mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface BenchEntry {
  readonly name: string;
  /** Of every figure of the entry, e.g. `M look-ups/s`. */
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** Names of all peers, also of those that `prepare` then finds unable to run here. */
  readonly peers: readonly string[];
  /** Set up ours and all peers. Throws only if ours cannot run; a peer that cannot gives its reason. */
  prepare(context: BenchContext): Promise<Prepared>;
}

export interface Prepared {
  /** How ours stands here, where that varies: the routes it holds, the Node it runs on. */
  readonly setting?: string;
  /** What `ethtool -k` says of the devices that ours uses, by name. */
  readonly offloads?: Offloads;
  /** One measurement. */
  ours(): Promise<number>;
  /** By name. A peer that is absent here is reported as having no reason, which is a defect. */
  readonly peers: Readonly<Record<string, Peer | Unavailable>>;
  /** Undo `prepare`; called once, also after a failure. */
  close(): Promise<void>;
}

export type Offloads = Readonly<Record<string, string>>;

export interface Peer {
  /** Of the peer itself, and what it was allowed: `gcc 12.2.0 -O3`. */
  readonly version: string;
  readonly offloads?: Offloads;
  run(): Promise<number>;
}

export interface Unavailable {
  readonly unavailable: string;
}

export interface BenchContext {
  /** Fewer rounds and shorter ones. */
  readonly quick: boolean;
  /** The checkout: the folder of package.json. */
  readonly root: string;
  /** Say what is going on, on stderr. */
  log(message: string): void;
  /** Compile bench/peers/NAME.c with `cc -O3`, unless that is done, and return the program's path. */
  compile(name: string): Promise<string>;
}

/** `gcc 12.2.0 -O3` */
export async function compilerVersion(): Promise<string> {
  const { stdout } = await run('cc', ['-dumpfullversion', '-dumpversion']);
  return `cc ${stdout.trim()} -O3`;
}

export function createContext(quick: boolean): BenchContext {
  const root = findRoot();
  return {
    quick,
    root,
    log: (message) => process.stderr.write(`${message}\n`),
    compile: (name) => compile(root, name),
  };
}

/** This file is bench/harness.ts as source and dist/bench/harness.js when it runs. */
function findRoot(): string {
  const parent = dirname(dirname(fileURLToPath(import.meta.url)));
  return parent.endsWith('/dist') ? dirname(parent) : parent;
}

async function compile(root: string, name: string): Promise<string> {
  const source = join(root, 'bench/peers', `${name}.c`);
  const program = join(root, 'build/bench', name);
  const [from, to] = await Promise.all([stat(source), stat(program).catch(() => null)]);
  if (to && to.mtimeMs > from.mtimeMs) return program;
  await mkdir(dirname(program), { recursive: true });
  const flags = name.startsWith('dpdk-') ? await dpdkFlags() : [];
  await run('cc', ['-O3', '-Wall', '-Wextra', '-o', program, source, ...flags]);
  return program;
}

async function dpdkFlags(): Promise<string[]> {
  try {
    const { stdout } = await run('pkg-config', ['--cflags', '--libs', 'libdpdk']);
    return stdout.trim().split(/\s+/);
  } catch {
    throw new Error('no libdpdk here: scripts/bench-peers installs libdpdk-dev and pkg-config');
  }
}

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function summarize(figures: readonly number[]): Summary {
  const sorted = [...figures].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted[sorted.length - 1]! };
}

/** Figures, or why there are none. */
export type Measured = Summary | { readonly error: string };

export type Standing = Measured & { readonly version: string; readonly offloads?: Offloads };

export interface Result {
  readonly name: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** Its version is the `setting` of `Prepared`. */
  readonly ours: Standing;
  /** With how many times as good ours is, where both have figures. */
  readonly peers: Readonly<Record<string, Standing & { readonly ratio?: number }>>;
}

/** How many times as good as the peer: above 1, ours is better. */
export function ratio(result: Pick<Result, 'better'>, ours: Summary, peer: Summary): number {
  return result.better === 'higher' ? ours.median / peer.median : peer.median / ours.median;
}

/** Run one entry: rounds of ours and every peer in turn. Who fails once is not run again. */
export async function measure(entry: BenchEntry, context: BenchContext, rounds: number): Promise<Result> {
  const { name, unit, better } = entry;
  let prepared: Prepared;
  try {
    context.log(`${name}: preparing`);
    prepared = await entry.prepare(context);
  } catch (error) {
    const failed = { version: '', error: 'not run: ours failed' };
    const peers = Object.fromEntries(entry.peers.map((peer) => [peer, failed]));
    return { name, unit, better, ours: { version: '', error: reasonOf(error) }, peers };
  }
  try {
    const { setting: version = '', offloads } = prepared;
    const ours = new Contestant('ours', { version, ...(offloads && { offloads }), run: prepared.ours });
    const peers = entry.peers.map((peer) => contestantOf(peer, prepared.peers[peer]));
    for (let round = 1; round <= rounds; round++) {
      for (const contestant of [ours, ...peers]) {
        await contestant.measure();
        const outcome = contestant.error ?? `${format(contestant.figures.at(-1)!)} ${unit}`;
        context.log(`${name} ${round}/${rounds} ${contestant.name}: ${outcome}`);
      }
    }
    const standing = ours.standing();
    const compared = peers.map((peer) => {
      const theirs = peer.standing();
      if ('error' in standing || 'error' in theirs) return [peer.name, theirs];
      return [peer.name, { ...theirs, ratio: ratio({ better }, standing, theirs) }];
    });
    return { name, unit, better, ours: standing, peers: Object.fromEntries(compared) };
  } finally {
    await prepared.close().catch((error) => context.log(`${name}: not cleaned up: ${reasonOf(error)}`));
  }
}

class Contestant {
  readonly figures: number[] = [];
  error: string | null = null;
  readonly name: string;
  readonly #peer: Peer;

  constructor(name: string, peer: Peer) {
    this.name = name;
    this.#peer = peer;
  }

  async measure(): Promise<void> {
    if (this.error) return;
    try {
      const figure = await this.#peer.run();
      if (Number.isFinite(figure) && figure > 0) this.figures.push(figure);
      else this.error = `measured ${figure}`;
    } catch (error) {
      this.error = reasonOf(error);
    }
  }

  standing(): Standing {
    const { version, offloads } = this.#peer;
    const measured = this.error ? { error: this.error } : summarize(this.figures);
    return { version, ...(offloads && { offloads }), ...measured };
  }
}

function contestantOf(name: string, peer: Peer | Unavailable | undefined): Contestant {
  if (peer && 'run' in peer) return new Contestant(name, peer);
  const contestant = new Contestant(name, { version: '', run: () => Promise.resolve(0) });
  contestant.error = peer ? peer.unavailable : 'the entry did not prepare it';
  return contestant;
}

/** An error's message on one line, with what the failed program said. */
export function reasonOf(error: unknown): string {
  const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
  const message = said || (error instanceof Error ? error.message : String(error));
  return message.split('\n').join('; ');
}

/** Three or more significant digits. */
export function format(figure: number): string {
  if (figure >= 1000) return Math.round(figure).toString();
  return figure.toPrecision(3);
}
