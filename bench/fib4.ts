/** Look-ups in the IPv4 FIB, random keys and keys from the table, beside the same algorithm in C. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { promisify } from 'node:util';
import { createFib4, type Fib4, lookup4, openFib4 } from '../dataplane/fib/fib4.ts';
import { Fib4Writer } from '../dataplane/fib/fib4-writer.ts';
import { createEpochs, GracePeriods } from '../dataplane/memory/grace.ts';
import { type DpdkRoute, dpdkPeers, routesImage } from './dpdk.ts';
import { loadRoutes, type Routes, randomKeys, tableKeys } from './fib-shapes/routes.ts';
import { type BenchContext, type BenchEntry, compilerVersion, type Prepared, summarize } from './harness.ts';

const run = promisify(execFile);
/** Passes over all keys in one measurement, and one more to warm up. */
export const PASSES = 9;

/** A FIB that holds the routes; with its writer, which takes memory of its own. */
export function buildFib4({ prefixes, lengths, adjacencies }: Routes) {
  const shared = createFib4();
  const writer = new Fib4Writer(shared, new GracePeriods(createEpochs()));
  for (let i = 0; i < prefixes.length; i++) writer.set(prefixes[i]!, lengths[i]!, adjacencies[i]!);
  return { fib: openFib4(shared), shared, writer };
}

async function prepare(context: BenchContext, keysOf: (routes: Routes) => Int32Array): Promise<Prepared> {
  const routes = loadRoutes();
  const { fib, shared } = buildFib4(routes);
  const keys = keysOf(routes);
  const twin = await context.compile('fib-twin');
  const folder = await mkdtemp(join(tmpdir(), 'tortie-bench-fib-'));
  const [table, keyFile] = [join(folder, 'table'), join(folder, 'keys')];
  await writeFile(table, new Uint8Array(shared));
  await writeFile(keyFile, new Uint8Array(keys.buffer));
  const dpdk = await dpdkPeers(context, 4, image4(routes), keyFile, PASSES, pass(fib, keys));
  return {
    setting: routes.description,
    ours: async () => summarize(Array.from({ length: PASSES }, () => millionsPerSecond(fib, keys))).median,
    peers: {
      'c-twin': {
        version: await compilerVersion(),
        run: async () => {
          const { stdout } = await run(twin, [table, keyFile, String(PASSES + 1)]);
          return summarize(stdout.trim().split('\n').slice(1).map(Number)).median;
        },
      },
      ...dpdk.peers,
    },
    close: async () => {
      await dpdk.close();
      await rm(folder, { recursive: true });
    },
  };
}

/** Routes as DPDK's tables take them. */
export function image4({ prefixes, lengths, adjacencies }: Routes): Uint8Array {
  const addresses = new Uint8Array(prefixes.buffer, prefixes.byteOffset, prefixes.byteLength);
  const routes = Array.from(
    lengths,
    (length, i): DpdkRoute => ({
      address: addresses.subarray(i * 4, i * 4 + 4),
      length,
      hop: adjacencies[i]!,
    }),
  );
  return routesImage(routes);
}

let sink = 0;

/** Look all keys up; the sum of what they found. */
function pass(fib: Fib4, keys: Int32Array): number {
  let sum = 0;
  for (let i = 0; i < keys.length; i++) sum += lookup4(fib, keys[i]!);
  sink += sum;
  return sum;
}

export function millionsPerSecond(fib: Fib4, keys: Int32Array): number {
  const start = performance.now();
  pass(fib, keys);
  return keys.length / (performance.now() - start) / 1000;
}

const entry = (name: string, keysOf: (routes: Routes) => Int32Array): BenchEntry => ({
  name,
  unit: 'M look-ups/s',
  better: 'higher',
  peers: ['c-twin', 'rte_fib', 'rte_lpm'],
  prepare: (context) => prepare(context, keysOf),
});

export const entries: readonly BenchEntry[] = [
  entry('fib4-random', randomKeys),
  entry('fib4-table', tableKeys),
];

/** Kept so that no engine may leave the look-ups out. */
export const checksum = (): number => sink;
