/**
 * Many that allocate and release at a time: processes over one store, killed or not, and what must be true of the store
 * afterwards. Run by the tests, short, and by the soak, long.
 *
 * As a program: node contention.js SETTINGS NODE OPERATIONS SEED; it prints a line "HANDLE ADDRESS..." for each allocation that it
 * has been given, "-HANDLE" before each release, and ends with "done".
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { DatastoreSettings } from '../config/config.ts';
import { openStore } from '../datastore/open.ts';
import { allAffinities } from './affinity.ts';
import { type CheckReport, check } from './check.ts';
import { listHandles } from './handles.ts';
import { openIpam } from './open.ts';

/** Handles that a process has at a time. */
const MOST_HELD = 12;
/** Short, so that addresses come round. */
const COOLDOWN_MS = 200;
const LIFETIME_MS = 1_500_000;

/** A small generator, so that a seed repeats a run (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Allocate and release at random. */
export async function churn(
  settings: DatastoreSettings,
  node: string,
  operations: number,
  seed: number,
  say: (line: string) => void,
): Promise<void> {
  const store = openStore(settings);
  const ipam = openIpam(store, { cooldownMs: COOLDOWN_MS });
  const random = randomOf(seed);
  const held: string[] = [];
  for (let i = 0; i < operations; i++) {
    if (held.length < MOST_HELD && random() < 0.6) {
      const handle = `${node}.${seed}.${i}`;
      const found = await ipam.assign({
        node,
        handle,
        attributes: { node },
        ip4: 1 + Math.floor(random() * 2),
      });
      held.push(handle);
      say([handle, ...found.map(({ address }) => address)].join(' '));
    } else if (held.length > 0) {
      const [handle] = held.splice(Math.floor(random() * held.length), 1);
      say(`-${handle}`);
      await ipam.releaseHandle(handle!);
    }
  }
  say('done');
  await store.close();
}

export interface Outcome {
  /** Addresses by handle that processes were given and have not begun to release. */
  readonly held: ReadonlyMap<string, readonly string[]>;
  /** Addresses that two had at a time. */
  readonly twice: readonly string[];
  readonly finished: number;
}

/** Run processes side by side; `killAfter`: the lines that each may say before it is killed, or null. */
export async function contend(
  settings: DatastoreSettings,
  processes: number,
  operations: number,
  seed: number,
  killAfter: (process: number) => number | null = () => null,
): Promise<Outcome> {
  const held = new Map<string, string[]>();
  const owners = new Map<string, string>();
  const twice: string[] = [];
  let finished = 0;
  const take = (line: string) => {
    if (line === 'done') finished++;
    else if (line.startsWith('-')) {
      for (const address of held.get(line.slice(1)) ?? []) owners.delete(address);
      held.delete(line.slice(1));
    } else {
      const [handle, ...addresses] = line.split(' ');
      for (const address of addresses) {
        if (owners.has(address)) twice.push(`${address}: ${owners.get(address)} and ${handle}`);
        owners.set(address, handle!);
      }
      held.set(handle!, addresses);
    }
  };
  const one = (index: number) =>
    new Promise<void>((resolve, reject) => {
      const args = [
        PROGRAM,
        JSON.stringify(settings),
        `node${index}`,
        String(operations),
        String(seed + index),
      ];
      const child = spawn(process.execPath, args, {
        timeout: LIFETIME_MS,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let left = killAfter(index);
      createInterface({ input: child.stdout! }).on('line', (line) => {
        take(line);
        if (left !== null && --left === 0) child.kill('SIGKILL');
      });
      child.on('error', reject);
      child.on('close', () => resolve());
    });
  await Promise.all(Array.from({ length: processes }, (_, index) => one(index)));
  return { held, twice, finished };
}

/** What "ipam check" finds; nothing else uses the store, so every allocation counts as leaked. */
export async function inspect(settings: DatastoreSettings): Promise<CheckReport> {
  const store = openStore(settings);
  const report = check({
    blocks: await openIpam(store).blocks(),
    handles: await listHandles(store.keys!),
    claims: await allAffinities(store.keys!),
    resources: (await store.resources.list()).map(({ resource }) => resource),
  });
  await store.close();
  return report;
}

/** Built, since a process of its own loads no TypeScript on every Node. */
const PROGRAM = fileURLToPath(import.meta.url).replace(
  /\/(?:dist\/)?control\/ipam\/[^/]*$/,
  '/dist/control/ipam/contention.js',
);

if (process.argv[1] === PROGRAM) {
  const [, , settings, node, operations, seed] = process.argv;
  await churn(JSON.parse(settings!) as DatastoreSettings, node!, Number(operations), Number(seed), (line) =>
    process.stdout.write(`${line}\n`),
  );
}
