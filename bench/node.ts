/** Other Node binaries, from the npm registry: one package, one binary, no install script. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Path of a Node binary, fetched into .cache/node/VERSION unless it is there. `version` is exact or a major,
 * which means the latest of that major when it was fetched.
 */
export function fetchNode(root: string, version: string): string {
  const folder = join(root, '.cache/node', version);
  const name = `node-linux-${process.arch}`;
  const binary = join(folder, 'node_modules', name, 'bin/node');
  if (!existsSync(binary)) {
    if (!/^\d+(\.\d+){0,2}$/.test(version)) throw new Error(`Node "${version}": expected e.g. 24 or 20.19.0`);
    mkdirSync(folder, { recursive: true });
    const args = ['install', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund', '--no-save'];
    execFileSync('npm', [...args, `${name}@${version}`], { stdio: ['ignore', 'ignore', 'pipe'] });
  }
  return binary;
}

/** `node dist/bench/node.js VERSION` prints the path, for scripts. */
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(fetchNode(process.cwd(), process.argv[2] ?? ''));
}
