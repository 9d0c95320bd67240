/** The `tortie` command: its verbs, and how it fails. */
import { Command, CommanderError } from 'commander';
import { EX_USAGE, TortieError } from '../error.ts';
import { ConfigError } from '../resources/yaml.ts';
import { VERSION } from '../version.ts';
import { addAgent, addPurge } from './agent.ts';
import { addBgp } from './bgp.ts';
import { addCompletion } from './complete.ts';
import { addConfig } from './config.ts';
import { addExplain } from './explain.ts';
import { addInstall } from './install.ts';
import type { Io } from './io.ts';
import { addIpam } from './ipam.ts';
import { addNode } from './node.ts';
import { addReplay } from './replay.ts';
import { addGet } from './resources/get.ts';
import { addWriters } from './resources/verbs.ts';
import { addShow } from './show.ts';
import { addTrace } from './trace.ts';

export function buildProgram(io: Io): Command {
  const program = new Command('tortie')
    .description('A Calico-style node agent whose packet path lives in user space')
    .version(VERSION)
    .exitOverride()
    .configureOutput({
      writeOut: io.out,
      writeErr: io.err,
      // The same width everywhere: the manual quotes it.
      getOutHelpWidth: () => 100,
      getErrHelpWidth: () => 100,
    })
    .addHelpText('after', '\nExample:\n  tortie node status');
  addGet(program, io);
  addWriters(program, io);
  addAgent(program, io);
  addPurge(program, io);
  addConfig(program, io);
  addInstall(program, io);
  addIpam(program, io);
  addNode(program, io);
  addShow(program, io);
  addBgp(program, io);
  addTrace(program, io);
  addExplain(program, io);
  addReplay(program, io);
  addCompletion(program, io);
  return program;
}

/** Run one command line (without the program's name); answers the exit code. */
export async function run(args: readonly string[], io: Io): Promise<number> {
  try {
    await buildProgram(io).parseAsync(args, { from: 'user' });
    return io.exitCode;
  } catch (error) {
    // Commander has printed its own errors and what was asked for by --help and --version.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EX_USAGE;
    io.err(errorText(error));
    if (io.env.TORTIE_DEBUG && error instanceof Error) io.err(`${error.stack}\n`);
    return error instanceof TortieError ? error.exitCode : 1;
  }
}

function errorText(error: unknown): string {
  // One line a complaint, each with its place.
  if (error instanceof ConfigError) return `${error.message}\n`;
  if (error instanceof TortieError) return `tortie: ${error.message} (${error.code})\n`;
  const message = error instanceof Error ? error.message : String(error);
  return `tortie: unexpected error: ${message}; set TORTIE_DEBUG=1 for more\n`;
}
