/** The decoder and the RIB alone, each in a process of its own: a recorded session, bare decoding, and ten full tables. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { loadRoutes } from './fib-shapes/routes.ts';
import type { BenchContext, BenchEntry } from './harness.ts';

const run = promisify(execFile);
const LIMIT_MS = 180_000;
const SESSION = '../shared/data/bgp-session-2015.mrt.gz';
const PEERS = 10;
const QUICK_ROUTES = 100_000;

async function figures(context: BenchContext, ...args: string[]): Promise<Record<string, number>> {
  const program = join(context.root, 'dist/bench/bgp-table.js');
  // Millions of paths need more than Node's usual heap only for what is garbage already.
  const node = ['--expose-gc', '--max-old-space-size=4096', program, ...args];
  const { stdout } = await run(process.execPath, node, { timeout: LIMIT_MS, cwd: context.root });
  const found = JSON.parse(stdout) as Record<string, number>;
  context.log(
    Object.entries(found)
      .map(([name, value]) => `${name} ${Number(value.toFixed(2))}`)
      .join(', '),
  );
  return found;
}

const entry = (
  name: string,
  unit: string,
  better: 'higher' | 'lower',
  args: (context: BenchContext) => string[],
  figure: string,
  setting: (context: BenchContext) => string,
): BenchEntry => ({
  name,
  unit,
  better,
  peers: [],
  prepare: async (context) => ({
    setting: `${setting(context)}, Node ${process.version}`,
    ours: async () => (await figures(context, ...args(context)))[figure]!,
    peers: {},
    close: async () => {},
  }),
});

/** The recorded session, which is at hand only beside the project. */
function session({ root }: BenchContext): string {
  const file = process.env.TORTIE_BGP_SESSION ?? join(root, SESSION);
  if (!existsSync(file))
    throw new Error(`no recorded session at ${file}: name an MRT file in TORTIE_BGP_SESSION`);
  return file;
}
const routesOf = ({ quick }: BenchContext): number => (quick ? QUICK_ROUTES : loadRoutes().prefixes.length);

const replay = ['replay'] as const;
export const entries: BenchEntry[] = [
  entry(
    'bgp-replay',
    's',
    'lower',
    (c) => [...replay, session(c)],
    'seconds',
    () => 'a recorded session, no network',
  ),
  entry(
    'bgp-replay-memory',
    'bytes a path',
    'lower',
    (c) => [...replay, session(c)],
    'bytesAPath',
    () => 'a recorded session; heap and buffers',
  ),
  entry(
    'bgp-decode',
    'M prefixes/s',
    'higher',
    () => ['decode'],
    'millions',
    () => loadRoutes().description,
  ),
  entry(
    'bgp-memory',
    'bytes a path',
    'lower',
    (c) => ['memory', String(PEERS), String(routesOf(c))],
    'bytesAPath',
    (c) => `${PEERS} peers x ${routesOf(c)} routes, a set for every six of each`,
  ),
];
