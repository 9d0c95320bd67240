/** Finding the daemon that a verb asks. */
import { readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Command, Option } from 'commander';
import { ApiClient } from '../api/client.ts';
import { EX_UNAVAILABLE, EX_USAGE, TortieError } from '../error.ts';
import type { Io } from './io.ts';

export interface DaemonOptions {
  readonly socket?: string;
  readonly node?: string;
  readonly json?: boolean;
}

/** Add what every verb has that asks the daemon. */
export const asksDaemon = (command: Command): Command =>
  command
    .option('--json', 'print JSON')
    .addOption(new Option('--socket <path>', 'control socket of the agent').conflicts('node'))
    .option('--node <name>', 'node whose agent to ask, if several run here');

/**
 * The client of the agent that is meant: --socket, --node, TORTIE_SOCKET, or the only one that runs here.
 * Throws AGENT_AMBIGUOUS if there are several, AGENT_NOT_RUNNING if there is none.
 */
export function daemon(io: Io, { socket, node }: DaemonOptions): ApiClient {
  if (socket !== undefined) return new ApiClient(socket);
  if (node !== undefined) return new ApiClient(join(io.runFolder, node, 'api.sock'));
  if (io.env.TORTIE_SOCKET) return new ApiClient(io.env.TORTIE_SOCKET);
  const [only, ...others] = socketsIn(io.runFolder);
  if (others.length > 0) {
    const nodes = [only!, ...others].map((path) => basename(dirname(path)));
    throw new TortieError(
      'AGENT_AMBIGUOUS',
      `several nodes have a socket here: ${nodes.join(', ')}; choose one with --node NAME`,
      EX_USAGE,
    );
  }
  if (only === undefined) {
    throw new TortieError(
      'AGENT_NOT_RUNNING',
      `no agent has a socket under ${io.runFolder}; start one with: tortie agent --config FILE, or give --socket PATH`,
      EX_UNAVAILABLE,
    );
  }
  return new ApiClient(only);
}

/** Control sockets of the agents that run here, or did. */
export function socketsIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && readdirSync(join(folder, entry.name)).includes('api.sock'))
      .map((entry) => join(folder, entry.name, 'api.sock'))
      .sort();
  } catch {
    return [];
  }
}
