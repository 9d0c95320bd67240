/** `tortie trace`: what happens to packets, told by the code that moves them. */
import { type Command, InvalidArgumentError } from 'commander';
import { MAX_TRACE_COUNT, type TraceView } from '../api/types.ts';
import { asksDaemon, type DaemonOptions, daemon } from './daemon.ts';
import type { Io } from './io.ts';
import { addressArgument } from './show.ts';

interface TraceOptions extends DaemonOptions {
  readonly port?: string;
  readonly host?: string;
  readonly count: number;
}

export function addTrace(program: Command, io: Io): void {
  asksDaemon(program.command('trace'))
    .description('follow packets through the pipeline, until the count is reached or Ctrl-C')
    .option('--port <name>', 'only packets that come in by this port')
    .option('--host <ip>', 'only packets from or to this address, inside a tunnel too', addressArgument)
    .option('--count <n>', `how many packets, at most ${MAX_TRACE_COUNT}`, countArgument, 10)
    .addHelpText(
      'after',
      '\nWith --json: one JSON object a line.\n\nExample:\n  tortie trace --host 10.65.1.2 --count 1',
    )
    .action(async ({ port, host, count, json, ...where }: TraceOptions) => {
      const wanted = { count, ...(port !== undefined && { port }), ...(host !== undefined && { host }) };
      const begun = () => io.err('Tracing. Ctrl-C ends it.\n');
      for await (const packet of daemon(io, where).trace(wanted, io.interrupted, begun)) {
        io.out(json ? `${JSON.stringify(packet)}\n` : packetText(packet));
      }
    });
}

function countArgument(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > MAX_TRACE_COUNT) {
    throw new InvalidArgumentError(`It is no number from 1 to ${MAX_TRACE_COUNT}.`);
  }
  return count;
}

const packetText = ({ packet, steps, verdict }: TraceView): string =>
  `${[`packet ${packet}`, ...steps.map(({ text }) => `  ${text}`), `  => ${verdict}`].join('\n')}\n\n`;
