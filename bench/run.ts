/** `npm run bench`: measure ours and its peers in turn, and print medians and ratios. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { againstBefore, checkOut } from './before.ts';
import { type BenchEntry, createContext, measure, type Result, reasonOf } from './harness.ts';
import { fetchNode } from './node.ts';
import { describeMachine, type Report, textTable } from './report.ts';

const ROUNDS = 5;
const QUICK_ROUNDS = 3;

interface Options {
  only?: string;
  quick?: boolean;
  rounds?: string;
  json?: string | true;
  node?: string;
  charts?: boolean;
  ours?: boolean;
  before?: string;
  list?: boolean;
}

/** Entries by file, in the order of the table; a file is loaded only when it is run or listed. */
async function loadEntries(): Promise<BenchEntry[]> {
  const files = await Promise.all([
    import('./traffic.ts'),
    import('./encap.ts'),
    import('./fib4.ts'),
    import('./fib6.ts'),
    import('./pods.ts'),
    import('./cni.ts'),
    import('./many-nodes.ts'),
    import('./bgp-load.ts'),
    import('./bgp-load-traffic.ts'),
    import('./bgp-reflect.ts'),
    import('./bgp-churn.ts'),
    import('./bgp-memory.ts'),
  ]);
  return files.flatMap((file) => file.entries);
}

const namesOf = (only: string | undefined): string[] | undefined =>
  only?.split(',').map((name) => name.trim());

function select(entries: readonly BenchEntry[], only: string | undefined): BenchEntry[] {
  const wanted = namesOf(only);
  if (!wanted) return [...entries];
  const matches = (name: string, pattern: string) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
  const unknown = wanted.filter((pattern) => !entries.some(({ name }) => matches(name, pattern)));
  if (unknown.length > 0) {
    const known = entries.map((entry) => entry.name).join(', ');
    throw new Error(`no entry named ${unknown.join(', ')}: there are ${known}`);
  }
  return entries.filter(({ name }) => wanted.some((pattern) => matches(name, pattern)));
}

/** Whether we are in a world of our own already, or have found that there can be none. */
const inLab = (): boolean => Boolean(process.env.TORTIE_LAB || process.env.TORTIE_NO_LAB);

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
  if (options.charts) {
    if (!inLab()) return enterLab(context.root, options.node);
    const { drawCharts } = await import('./charts.ts');
    await drawCharts(context, describeMachine(context.root), namesOf(options.only));
    return 0;
  }
  const entries = select(await loadEntries(), options.only);
  if (options.list) {
    for (const entry of entries) console.log(`${entry.name}\t${entry.unit}\t${entry.peers.join(' ')}`);
    return 0;
  }
  if (!inLab()) {
    if (options.before) checkOut(context.root, options.before);
    return enterLab(context.root, options.node);
  }
  const rounds = Number(options.rounds ?? (context.quick ? QUICK_ROUNDS : ROUNDS));
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Error(`--rounds ${options.rounds}: must be 1 or more`);
  const results: Result[] = [];
  for (const entry of entries) {
    const race = options.before
      ? againstBefore(entry, context.root, context.quick)
      : options.ours
        ? { ...entry, peers: [] }
        : entry;
    results.push(await measure(race, context, rounds));
  }
  const report: Report = { machine: describeMachine(context.root), rounds, results };
  if (options.json === true) console.log(JSON.stringify(report));
  else console.log(textTable(report));
  if (typeof options.json === 'string') writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`);
  return results.some((result) => 'error' in result.ours) ? 1 : 0;
}

const program = new Command('npm run bench --')
  .description('Measure ours and its peers in turn; print medians, spread and ratios.')
  .option('--only <names>', 'entries (or charts) to run, separated by commas; bgp-* for all that begin so')
  .option('--quick', `${QUICK_ROUNDS} short rounds instead of ${ROUNDS}`)
  .option('--rounds <count>', `that many rounds instead of ${ROUNDS}`)
  .option('--json [file]', 'one JSON object into a file beside the table, or on stdout instead of it')
  .option('--node <version>', 'run under this Node, e.g. 24 or 20.19.0, fetched from the npm registry')
  .option('--before <commit>', 'race this checkout against a commit, instead of against peers')
  .option('--ours', 'leave the peers out')
  .option('--charts', 'measure cost against size instead, and draw docs/charts/: routes, packets, pods')
  .option('--list', 'print entries, units and peers, and stop')
  .addHelpText('after', '\nExample:\n  npm run bench -- --only encap-vxlan,tap-tcp --quick');

try {
  process.exitCode = await main(program.parse().opts<Options>());
} catch (error) {
  console.error(`bench: ${reasonOf(error)}`);
  process.exitCode = 1;
}
