/** `tortie replay`: capture files through the production pipeline. */
import { type Command, InvalidArgumentError } from 'commander';
import type { Io } from './io.ts';

interface ReplayFlags {
  readonly config: string;
  readonly in: ReadonlyMap<string, string>;
  readonly out: string;
  readonly json?: boolean;
}

export function addReplay(program: Command, io: Io): void {
  program
    .command('replay')
    .description('run capture files through the pipeline: no devices, the same bytes every time')
    .requiredOption('--config <lab>', 'lab file: node name, resources, routes (docs/CONFIG.md)')
    .requiredOption(
      '--in <port=file...>',
      'capture of what a port receives; the tunnels’ port is "underlay"',
      inputArgument,
    )
    .requiredOption('--out <dir>', 'folder for one capture a port, and account.json')
    .option('--json', 'print the account as JSON')
    .addHelpText('after', '\nExample:\n  tortie replay --config lab.yaml --in cali1=ping.pcap --out out')
    .action(async ({ config, in: inputs, out, json = false }: ReplayFlags) => {
      io.exitCode = await io.actions.runReplay({ config, inputs, out, json });
    });
}

export function inputArgument(
  text: string,
  before: ReadonlyMap<string, string> = new Map(),
): ReadonlyMap<string, string> {
  const [, port, file] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (port === undefined || file === undefined) throw new InvalidArgumentError('It is not PORT=FILE.');
  if (before.has(port)) throw new InvalidArgumentError(`Port ${port} has a file already.`);
  return new Map([...before, [port, file]]);
}
