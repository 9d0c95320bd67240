/**
 * `tortie node diags`: what somebody who looks into a node's trouble wants to see, in one archive. Nothing that fails keeps the
 * rest out; secrets are left out.
 */
import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { ApiClient } from '../api/client.ts';
import { TortieError } from '../error.ts';
import type { Resource } from '../resources/schema.ts';
import { VERSION } from '../version.ts';
import { checkSystem } from './check-system.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 20_000;
/** Most bytes of what one command prints. */
const MAX_BYTES = 32 * 1024 * 1024;
const LOG_LINES = 5000;
const OWNER_ONLY = 0o600;

export interface DiagsSources {
  /** The agent of the node; throws where there is none. */
  readonly agent: () => ApiClient;
  /** Resources of the datastore. */
  readonly resources: () => Promise<readonly Resource[]>;
  readonly now: Date;
}
export interface Diags {
  /** The archive. */
  readonly path: string;
  readonly items: readonly { readonly name: string; readonly problem: string | null }[];
}

/** Each a file of the archive. */
const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  'links.txt': ['ip', '-d', '-s', 'link'],
  'addresses.txt': ['ip', 'address'],
  'routes4.txt': ['ip', '-4', 'route', 'show', 'table', 'all'],
  'routes6.txt': ['ip', '-6', 'route', 'show', 'table', 'all'],
  'rules.txt': ['ip', 'rule'],
  'neighbours.txt': ['ip', 'neighbour'],
  'namespaces.txt': ['ip', 'netns', 'list-id'],
  'sockets.txt': ['ss', '-tuanp'],
  'nftables.txt': ['nft', 'list', 'ruleset'],
  'sysctl.txt': ['sysctl', '-a', '-r', '^net\\.(ipv4|ipv6|core)\\.'],
  'kernel.txt': ['uname', '-a'],
  'modules.txt': ['lsmod'],
  'log.txt': ['journalctl', '-u', 'tortie', '-n', String(LOG_LINES), '--no-pager', '-o', 'short-iso-precise'],
};

/** Collect everything, and pack it. `output`: the archive, or undefined for one in the working folder. */
export async function collectDiags(sources: DiagsSources, output: string | undefined): Promise<Diags> {
  const stamp = sources.now
    .toISOString()
    .replace(/\.\d+Z$/, '')
    .replaceAll(/[-:]/g, '')
    .replace('T', '_');
  const path = resolve(output ?? `tortie-diags-${stamp}.tar.gz`);
  const folder = mkdtempSync(join(tmpdir(), 'tortie-diags-'));
  try {
    const inside = join(folder, 'diagnostics');
    mkdirSync(inside);
    const items: { name: string; problem: string | null }[] = [];
    for (const [name, make] of Object.entries(makers(sources))) {
      const { text, problem } = await make().then(
        (made) => ({ text: made, problem: null }),
        (error: Error) => ({
          text: `not to be had: ${error.message}\n`,
          problem: error.message.split('\n')[0]!,
        }),
      );
      writeFileSync(join(inside, name), text);
      items.push({ name, problem });
    }
    await run('tar', ['-czf', path, '-C', folder, 'diagnostics'], { timeout: TIMEOUT_MS }).catch(
      (error: Error) => {
        throw new TortieError(
          'DIAGS_UNWRITABLE',
          `cannot write ${path}: ${error.message.trim()}; give another --output`,
        );
      },
    );
    chmodSync(path, OWNER_ONLY);
    return { path, items };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function makers({ agent, resources, now }: DiagsSources): Record<string, () => Promise<string>> {
  const asked = (ask: (client: ApiClient) => Promise<unknown>) => async () => json(await ask(agent()));
  const commands = Object.entries(COMMANDS).map(([name, [command, ...args]]) => [
    name,
    async () => (await run(command!, args, { timeout: TIMEOUT_MS, maxBuffer: MAX_BYTES })).stdout,
  ]);
  return {
    'tortie.json': async () => json({ version: VERSION, node: process.version, time: now.toISOString() }),
    'system.json': async () => json(await checkSystem()),
    'status.json': asked((client) => client.nodeStatus()),
    // Settings, the resources that the agent goes by, and its problems.
    'agent.json': asked((client) => client.config()),
    'ports.json': asked((client) => client.ports()),
    'routes.json': asked((client) => client.routes()),
    'bgp.json': asked(async ({ bgp }) => ({ ...(await bgp.summary()), peers: await bgp.peers() })),
    'drops.json': asked((client) => client.drops()),
    'workers.json': asked((client) => client.workers()),
    'runtime.json': asked((client) => client.runtime()),
    'resources.json': async () => json(await resources()),
    ...Object.fromEntries(commands),
  };
}

const json = (value: unknown): string => `${JSON.stringify(withoutSecrets(value), null, 2)}\n`;

/** Texts under such names, and users and passwords in URLs, are not for others to see. */
const SECRET = /password|passphrase|secret$|token|credential/i;

export function withoutSecrets(value: unknown): unknown {
  if (typeof value === 'string') return value.replaceAll(/\/\/[^/@\s]*@/g, '//(left out)@');
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => [
      key,
      SECRET.test(key) && typeof part === 'string' ? '(left out)' : withoutSecrets(part),
    ]),
  );
}
