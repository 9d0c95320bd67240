/** Look-ups in the IPv6 FIB, random keys and keys from the table, beside DPDK's. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { createFib6, type Fib6, lookup6, openFib6 } from '../dataplane/fib/fib6.ts';
import { Fib6Writer } from '../dataplane/fib/fib6-writer.ts';
import { createEpochs, GracePeriods } from '../dataplane/memory/grace.ts';
import { viewOf } from '../dataplane/wire/bytes.ts';
import { dpdkPeers, routesImage } from './dpdk.ts';
import { type BenchContext, type BenchEntry, type Prepared, summarize } from './harness.ts';
import { loadRoutes6, type Routes6, randomKeys6, tableKeys6 } from './routes6.ts';

/** Passes over all keys in one measurement. */
const PASSES = 9;

function buildFib6({ prefixes, lengths, adjacencies }: Routes6): Fib6 {
  const shared = createFib6();
  const writer = new Fib6Writer(shared, new GracePeriods(createEpochs()));
  for (const [i, prefix] of prefixes.entries()) writer.set(prefix, lengths[i]!, adjacencies[i]!);
  return openFib6(shared);
}

async function prepare(context: BenchContext, keysOf: (routes: Routes6) => Uint8Array): Promise<Prepared> {
  const routes = loadRoutes6();
  const fib = buildFib6(routes);
  const keys = keysOf(routes);
  const view = viewOf(keys);
  const folder = await mkdtemp(join(tmpdir(), 'tortie-bench-fib6-'));
  const keyFile = join(folder, 'keys');
  await writeFile(keyFile, keys);
  const { prefixes, lengths, adjacencies } = routes;
  const image = routesImage(
    prefixes.map((address, i) => ({ address, length: lengths[i]!, hop: adjacencies[i]! })),
  );
  const dpdk = await dpdkPeers(context, 6, image, keyFile, PASSES, pass(fib, view));
  return {
    setting: routes.description,
    ours: async () => summarize(Array.from({ length: PASSES }, () => millionsPerSecond(fib, view))).median,
    peers: dpdk.peers,
    close: async () => {
      await dpdk.close();
      await rm(folder, { recursive: true });
    },
  };
}

/** Look all keys up; the sum of what they found, which keeps any engine from leaving the work out. */
function pass(fib: Fib6, keys: DataView): number {
  let sum = 0;
  for (let at = 0; at < keys.byteLength; at += 16) sum += lookup6(fib, keys, at);
  return sum;
}

let sink = 0;

function millionsPerSecond(fib: Fib6, keys: DataView): number {
  const start = performance.now();
  sink ^= pass(fib, keys);
  return keys.byteLength / 16 / (performance.now() - start) / 1000;
}

const entry = (name: string, keysOf: (routes: Routes6) => Uint8Array): BenchEntry => ({
  name,
  unit: 'M look-ups/s',
  better: 'higher',
  peers: ['rte_fib', 'rte_lpm'],
  prepare: (context) => prepare(context, keysOf),
});

export const entries: readonly BenchEntry[] = [
  entry('fib6-random', randomKeys6),
  entry('fib6-table', tableKeys6),
];

export const checksum = (): number => sink;
