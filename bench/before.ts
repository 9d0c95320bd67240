/**
 * Another commit beside this one: both checkouts are measured in turn, each by its own benchmark, so that a claim of speed has
 * its before and its after from one run.
 */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { BenchEntry } from './harness.ts';
import type { Report } from './report.ts';

const run = promisify(execFile);
/** Where the folder of the other checkout is told to the process inside the lab. */
const FOLDER = 'TORTIE_BENCH_BEFORE';

/** Have a revision in .cache/before/COMMIT, installed and built; asks the npm registry, so it is for outside of labs. */
export function checkOut(root: string, revision: string): void {
  const commit = commitOf(root, revision);
  const folder = join(root, '.cache/before', commit);
  const done = join(folder, 'dist/.built');
  if (!existsSync(done)) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const files = execFileSync('git', ['-C', root, 'archive', commit], { maxBuffer: 2 ** 30 });
    execFileSync('tar', ['-x', '-C', folder], { input: files });
    execFileSync('scripts/setup', ['--for', 'bench'], { cwd: folder, stdio: ['ignore', 2, 2] });
  }
  process.env[FOLDER] = folder;
}

function commitOf(root: string, revision: string): string {
  const git = ['-C', root, 'rev-parse', '--short', '--verify', '--quiet', `${revision}^{commit}`];
  try {
    return execFileSync('git', git, { encoding: 'utf8' }).trim();
  } catch {
    throw new Error(`--before ${revision}: there is no such commit in ${root}`);
  }
}

/** The entry as a race of ours against what `checkOut` brought. */
export function againstBefore(entry: BenchEntry, root: string, quick: boolean): BenchEntry {
  const folder = process.env[FOLDER]!;
  const commit = folder.split('/').at(-1)!;
  const { name, unit, better } = entry;
  return {
    ...{ name, unit, better },
    peers: [commit],
    prepare: async () => ({
      ours: () => figureOf(root, name, quick),
      peers: { [commit]: { version: 'the same benchmark there', run: () => figureOf(folder, name, quick) } },
      close: async () => {},
    }),
  };
}

/** One round of an entry by a checkout's own benchmark. */
async function figureOf(root: string, name: string, quick: boolean): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'tortie-bench-'));
  try {
    const program = join(root, 'dist/bench/run.js');
    const file = join(folder, 'report.json');
    // Benchmarks of old commits measure their peers as well.
    const alone = readFileSync(program, 'utf8').includes("'--ours'") ? ['--ours'] : [];
    const args = ['--only', name, '--rounds', '1', '--json', file, ...alone, ...(quick ? ['--quick'] : [])];
    await run(process.execPath, [program, ...args], { cwd: root, maxBuffer: 2 ** 26 });
    const { results } = JSON.parse(readFileSync(file, 'utf8')) as Report;
    const { ours } = results[0]!;
    if ('error' in ours) throw new Error(ours.error);
    return ours.median;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
