/** `tortie agent` and `tortie purge`: starting the daemon, and removing all that it left. */
import type { Command } from 'commander';
import { loadConfig } from '../config/config.ts';
import { EX_USAGE, TortieError } from '../error.ts';
import type { PurgeOptions } from '../purge.ts';
import { type Io, printJson } from './io.ts';

export function addAgent(program: Command, io: Io): void {
  program
    .command('agent')
    .description('run the node agent in the foreground; SIGHUP reloads, SIGTERM ends it')
    .requiredOption('--config <file>', 'settings of the agent (docs/CONFIG.md)')
    .addHelpText('after', '\nExample:\n  tortie agent --config /etc/tortie/agent.yaml')
    .action(async ({ config }: { config: string }) => {
      io.exitCode = await io.actions.runAgent(config);
    });
}

interface PurgeFlags {
  readonly config?: string;
  readonly node?: string;
  readonly all?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function addPurge(program: Command, io: Io): void {
  program
    .command('purge')
    .description('stop the agent and remove every device, route and socket that is tortie’s')
    .option('--config <file>', 'what is of the node that these settings name')
    .option('--node <name>', 'what is of this node')
    .option('--all', 'what is of any node on this machine')
    .option('--dry-run', 'only say what would be removed')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  tortie purge --config /etc/tortie/agent.yaml --dry-run')
    .action(async (flags: PurgeFlags) => {
      const done = await io.actions.purge(scopeOf(flags));
      if (flags.json) printJson(io, { dryRun: flags.dryRun === true, actions: done });
      else {
        const verb = flags.dryRun ? 'would remove' : 'removed';
        for (const { subject, error } of done) {
          io.out(error === null ? `${verb} ${subject}\n` : `could not remove ${subject}: ${error}\n`);
        }
        if (done.length === 0) io.out('Nothing to remove.\n');
      }
      if (done.some(({ error }) => error !== null)) io.exitCode = 1;
    });
}

function scopeOf({ config, node, all, dryRun = false }: PurgeFlags): PurgeOptions {
  if ([config, node, all].filter((flag) => flag !== undefined).length !== 1) {
    throw new TortieError('PURGE_SCOPE', 'give one of --config FILE, --node NAME and --all', EX_USAGE);
  }
  if (all) return { all, dryRun };
  if (node !== undefined) return { nodeName: node, dryRun };
  const { nodeName, sockets } = loadConfig(config!);
  return { nodeName, apiSocket: sockets.api, dryRun };
}
