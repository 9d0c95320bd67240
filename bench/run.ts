/** `npm run bench`: measure ours and its peers in turn, and print medians and ratios. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import {
  type BenchEntry,
  createContext,
  format,
  type Measured,
  measure,
  type Result,
  ratio,
  reasonOf,
} from './harness.ts';
import { fetchNode } from './node.ts';

const ROUNDS = 7;
const QUICK_ROUNDS = 3;

interface Options {
  only?: string;
  quick?: boolean;
  json?: boolean;
  node?: string;
  list?: boolean;
}

/** Entries by file, in the order of the table; a file is loaded only when it is run or listed. */
async function loadEntries(): Promise<BenchEntry[]> {
  const files = await Promise.all([import('./fib4.ts'), import('./encap.ts'), import('./traffic.ts')]);
  return files.flatMap((file) => file.entries);
}

function select(entries: readonly BenchEntry[], only: string | undefined): BenchEntry[] {
  if (!only) return [...entries];
  const wanted = only.split(',').map((name) => name.trim());
  const unknown = wanted.filter((name) => !entries.some((entry) => entry.name === name));
  if (unknown.length > 0) {
    const known = entries.map((entry) => entry.name).join(', ');
    throw new Error(`no entry named ${unknown.join(', ')}: there are ${known}`);
  }
  return entries.filter((entry) => wanted.includes(entry.name));
}

interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly kernel: string;
  readonly node: string;
  readonly tortie: string;
  readonly mem: string;
  /** How ours stood, by entry: the offloads in force. */
  readonly settings: Record<string, string>;
}

function describeMachine(root: string): Omit<Machine, 'settings'> {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    tortie: `${version} ${commit(root)}`,
    mem: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
  };
}

/** The short commit, with `+` where the checkout differs from it. */
function commit(root: string): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', root, ...args], { encoding: 'utf8' }).trim();
    const changed = git('status', '--porcelain', '--untracked-files=no') !== '';
    return git('rev-parse', '--short', 'HEAD') + (changed ? '+' : '');
  } catch {
    return 'not in git';
  }
}

function printTable(machine: Machine, results: readonly Result[]): void {
  const { settings, ...facts } = machine;
  for (const [key, value] of Object.entries(facts)) console.log(`${key}: ${value}`);
  console.log('\nmedian (min to max) of rounds in turn; ours/peer: above 1, ours is better\n');
  const rows = [['entry', 'unit', 'who', 'median', 'min', 'max', 'ours/peer', 'version and offloads']];
  for (const result of results) {
    rows.push([
      result.name,
      `${result.unit}, ${result.better} is better`,
      'ours',
      ...cells(result.ours),
      '',
      '',
    ]);
    for (const [name, peer] of Object.entries(result.peers)) {
      const compared =
        'error' in result.ours || 'error' in peer ? '' : ratio(result, result.ours, peer).toFixed(2);
      rows.push(['', '', name, ...cells(peer), compared, peer.version]);
    }
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    );
  }
  const failed = failures(results);
  if (failed.length > 0) console.log('\nnot measured:');
  for (const [name, error] of failed) console.log(`  ${name}: ${error}`);
}

function cells(measured: Measured): string[] {
  if ('error' in measured) return ['-', '-', '-'];
  return [measured.median, measured.min, measured.max].map(format);
}

function failures(results: readonly Result[]): [string, string][] {
  const failed: [string, string][] = [];
  for (const result of results) {
    if ('error' in result.ours) failed.push([`${result.name} ours`, result.ours.error]);
    for (const [name, peer] of Object.entries(result.peers)) {
      if ('error' in peer) failed.push([`${result.name} ${name}`, peer.error]);
    }
  }
  return failed;
}

/**
 * Run ourselves again, under the Node that is wanted, in a world of its own where the entries can build
 * their namespaces. Where the kernel allows none, the entries that need one say so.
 */
function enterLab(root: string, version: string | undefined): number {
  const node = version ? fetchNode(root, version) : process.execPath;
  const enter = join(root, 'scripts/lab/enter');
  const check = spawnSync(enter, ['--check'], { encoding: 'utf8' });
  const command = [node, ...process.argv.slice(1)];
  if (check.status === 0) return spawnSync(enter, command, { stdio: 'inherit' }).status ?? 1;
  const env = { ...process.env, TORTIE_NO_LAB: check.stderr?.trim() || 'no lab here' };
  return spawnSync(node, process.argv.slice(1), { stdio: 'inherit', env }).status ?? 1;
}

async function main(options: Options): Promise<number> {
  const context = createContext(options.quick ?? false);
  const entries = select(await loadEntries(), options.only);
  if (options.list) {
    for (const entry of entries) console.log(`${entry.name}\t${entry.unit}\t${entry.peers.join(' ')}`);
    return 0;
  }
  if (!process.env.TORTIE_LAB && !process.env.TORTIE_NO_LAB) return enterLab(context.root, options.node);
  const results: Result[] = [];
  const settings: Record<string, string> = {};
  for (const entry of entries) {
    const { result, setting } = await measure(entry, context, context.quick ? QUICK_ROUNDS : ROUNDS);
    results.push(result);
    if (setting) settings[entry.name] = setting;
  }
  const machine = { ...describeMachine(context.root), settings };
  if (options.json) console.log(JSON.stringify({ machine, results }));
  else printTable(machine, results);
  return results.some((result) => 'error' in result.ours) ? 1 : 0;
}

const program = new Command('npm run bench --')
  .description('Measure ours and its peers in turn; print medians, spread and ratios.')
  .option('--only <names>', 'entries to run, separated by commas')
  .option('--quick', `${QUICK_ROUNDS} short rounds instead of ${ROUNDS}`)
  .option('--json', 'one JSON object on stdout instead of the table')
  .option('--node <version>', 'run under this Node, e.g. 24 or 20.19.0, fetched from the npm registry')
  .option('--list', 'print entries, units and peers, and stop')
  .addHelpText('after', '\nExample:\n  npm run bench -- --only encap-vxlan,tap-tcp --quick');

try {
  process.exitCode = await main(program.parse().opts<Options>());
} catch (error) {
  console.error(`bench: ${reasonOf(error)}`);
  process.exitCode = 1;
}
