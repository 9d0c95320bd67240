/** `tortie explain`: what would become of a packet, and why, without sending one. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ExplainRequest, ExplainView } from '../api/types.ts';
import { asksDaemon, type DaemonOptions, daemon } from './daemon.ts';
import { type Io, printJson } from './io.ts';
import { addressArgument } from './show.ts';

type ExplainOptions = DaemonOptions & ExplainRequest;

export function addExplain(program: Command, io: Io): void {
  asksDaemon(program.command('explain'))
    .description('what would become of a packet on this node, and why; nothing is sent')
    .requiredOption(
      '--from <pod>',
      'who would send it: a pod’s name, port, network namespace or address, or host',
    )
    .requiredOption('--to <ip>', 'its destination', addressArgument)
    .addOption(new Option('--proto <name>', 'its protocol').choices(['icmp', 'tcp', 'udp']).default('icmp'))
    .option('--sport <n>', 'its source port (default: 40000)', numberArgument(65_535))
    .option('--dport <n>', 'its destination port (default: 80)', numberArgument(65_535))
    .option('--size <n>', 'bytes of the whole IP packet (default: its headers)', numberArgument(65_535))
    .option('--ttl <n>', 'its TTL or hop limit (default: 64)', numberArgument(255))
    .option('--no-df', 'IPv4: it may be fragmented')
    .addHelpText(
      'after',
      `
The packet goes through the pipeline that forwards, with the node's tables as they
are, and with counters of its own. From "host" it is one that the host's kernel has
routed to the host device; what "ip route get" sends elsewhere never comes here.

Example:
  tortie explain --from 10.65.0.2 --to 10.65.1.2 --proto tcp --dport 80 --size 1500`,
    )
    .action(async ({ json, node, socket, ...request }: ExplainOptions) => {
      const where = { ...(node !== undefined && { node }), ...(socket !== undefined && { socket }) };
      const view = await daemon(io, where).explain(request);
      if (json) printJson(io, view);
      else io.out(explainText(view));
    });
}

function numberArgument(most: number) {
  return (text: string): number => {
    const number = Number(text);
    if (!Number.isInteger(number) || number < 1 || number > most)
      throw new InvalidArgumentError(`It is no number from 1 to ${most}.`);
    return number;
  };
}

const explainText = ({ packet, steps, verdict }: ExplainView): string =>
  `${[packet, ...steps.map(({ text }) => `  ${text}`), `  => ${verdict}`].join('\n')}\n`;
