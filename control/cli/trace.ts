/** `tortie trace`: what happens to packets, told by the code that moves them. */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';
import { DROP_REASONS } from '../../dataplane/drops.ts';
import { MOST_SNAP } from '../../dataplane/trace.ts';
import { MAX_TRACE_COUNT, type TraceView } from '../api/types.ts';
import { EX_CANTCREAT, EX_USAGE, TortieError } from '../error.ts';
import { compileFilter } from '../filter.ts';
import { PcapngWriter } from '../pcapng.ts';
import { VERSION } from '../version.ts';
import { asksDaemon, type DaemonOptions, daemon } from './daemon.ts';
import type { Io } from './io.ts';
import { inputArgument } from './replay.ts';
import { addressArgument } from './show.ts';

interface TraceOptions extends DaemonOptions {
  readonly port?: string;
  readonly host?: string;
  readonly src?: string;
  readonly dst?: string;
  readonly proto?: string;
  readonly sport?: number;
  readonly dport?: number;
  readonly verdict?: string;
  readonly reason?: string;
  readonly sample?: number;
  readonly snap: number;
  readonly write?: string;
  readonly lab?: string;
  readonly in?: ReadonlyMap<string, string>;
  readonly count: number;
}

/** With packets in a file: so many of their bytes. */
const SNAP = 256;

const HELP = `
An expression says which packets are meant, as tcpdump's does: host, net, port,
portrange (each after src or dst, or of either), ip, ip6, arp, icmp, icmp6, tcp,
udp, sctp, ipip, proto N, less N, greater N, and, or, not, parentheses. It holds if it
holds for a packet, or for what is inside it; so "not tcp" holds for a tunnel
packet with TCP inside. Of what became of it: verdict sent, consumed, drop or
held, and reason NAME (docs/DROPS.md).

With --json: one JSON object a line. With --write: pcapng with what was done in
each packet's comment, for Wireshark.

Examples:
  tortie trace --host 10.65.1.2 --count 1
  tortie trace 'tcp and dst port 80 and not src net 10.65.0.0/16'
  tortie trace --verdict drop --write drops.pcapng
  tortie trace --lab lab.yaml --in cali1=ping.pcap 'icmp and reason ttl_expired'`;

export function addTrace(program: Command, io: Io): void {
  asksDaemon(program.command('trace'))
    .description('follow packets through the pipeline, until the count is reached or Ctrl-C')
    .argument('[expression...]', 'which packets: all of these and of the options below')
    .option('--port <name>', 'only packets that come in by this port')
    .option('--host <ip>', 'only packets from or to this address, inside a tunnel too', addressArgument)
    .option('--src <ip>', 'only packets from this address', addressArgument)
    .option('--dst <ip>', 'only packets to this address', addressArgument)
    .option('--proto <name>', 'only tcp, udp, sctp, icmp, icmp6, ipip, or a number')
    .option('--sport <n>', 'only packets from this port of TCP, UDP or SCTP', numberUpTo(65_535))
    .option('--dport <n>', 'only packets to this port of TCP, UDP or SCTP', numberUpTo(65_535))
    .option('--verdict <verdict>', 'only packets of this end: sent, consumed, drop or held')
    .option('--reason <name>', 'only packets dropped for this reason', reasonArgument)
    .option('--sample <n>', 'one in so many of those that match', numberUpTo(1_000_000))
    .option('--count <n>', `how many packets, at most ${MAX_TRACE_COUNT}`, numberUpTo(MAX_TRACE_COUNT), 10)
    .option('--write <file>', 'write them to a pcapng file, with what was done as comments')
    .option('--snap <n>', `bytes of a packet in the file, at most ${MOST_SNAP}`, numberUpTo(MOST_SNAP), SNAP)
    .option('--lab <file>', 'packets of captures through a lab file’s node, as with replay, and no agent')
    .option(
      '--in <port=file>',
      'with --lab: capture of what a port receives; may come several times',
      inputArgument,
    )
    .addHelpText('after', HELP)
    .action(async (words: string[], options: TraceOptions) => {
      const filter = filterOf(words, options);
      // What is wrong with it is said before anything is opened.
      compileFilter(filter);
      const sink = options.write === undefined ? textSink(io, options.json) : fileSink(io, options.write);
      try {
        for await (const packet of packetsOf(io, options, filter)) sink.take(packet);
      } finally {
        sink.end();
      }
    });
}

/** Where packets come from: the agent, or captures. */
async function* packetsOf(io: Io, options: TraceOptions, filter: string): AsyncGenerator<TraceView> {
  const { port, sample, snap, count, write, lab, in: inputs, json: _, ...where } = options;
  const wanted = {
    count,
    ...(port !== undefined && { port }),
    ...(filter !== '' && { filter }),
    ...(sample !== undefined && { sample }),
    ...(write !== undefined && { snap }),
  };
  if (lab !== undefined) {
    if (!inputs)
      throw new TortieError(
        'USAGE',
        '--lab needs --in PORT=FILE: a capture of what a port receives',
        EX_USAGE,
      );
    yield* await io.actions.traceReplay({ config: lab, inputs, ...wanted });
    return;
  }
  if (inputs)
    throw new TortieError('USAGE', '--in needs --lab: the lab file that says what the node is', EX_USAGE);
  const begun = () => io.err('Tracing. Ctrl-C ends it.\n');
  yield* daemon(io, where).trace(wanted, io.interrupted, begun);
}

/** Options and words as one expression. */
function filterOf(words: readonly string[], options: TraceOptions): string {
  const { host, src, dst, proto, sport, dport, verdict, reason } = options;
  const parts = [
    words.length > 0 ? words.join(' ') : undefined,
    host && `host ${host}`,
    src && `src host ${src}`,
    dst && `dst host ${dst}`,
    proto && `proto ${proto}`,
    sport !== undefined && `src port ${sport}`,
    dport !== undefined && `dst port ${dport}`,
    verdict && `verdict ${verdict}`,
    reason && `reason ${reason}`,
  ].filter((part) => typeof part === 'string');
  return parts.length === 1 ? parts[0]! : parts.map((part) => `(${part})`).join(' and ');
}

interface Sink {
  take(packet: TraceView): void;
  end(): void;
}

function textSink(io: Io, json: boolean | undefined): Sink {
  let missed = 0;
  return {
    take(packet) {
      missed = Math.max(missed, packet.missed);
      io.out(json ? `${JSON.stringify(packet)}\n` : packetText(packet));
    },
    end: () => tellMissed(io, missed),
  };
}

function fileSink(io: Io, file: string): Sink {
  const orSay = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new TortieError('OUTPUT', `cannot write ${file}: ${code}`, EX_CANTCREAT);
    }
  };
  const fd = orSay(() => openSync(file, 'w'));
  const write = (piece: Uint8Array) => orSay(() => writeFileSync(fd, piece));
  const writer = new PcapngWriter();
  write(writer.head(`tortie ${VERSION}`));
  let missed = 0;
  let count = 0;
  return {
    take(packet) {
      missed = Math.max(missed, packet.missed);
      count++;
      const { port, kind, length, bytes = '', steps, verdict } = packet;
      const comment = [...steps.map(({ text }) => text), `=> ${verdict}`].join('\n');
      const time = Date.parse(packet.at);
      write(writer.packet({ port, kind, time, length, bytes: Buffer.from(bytes, 'hex'), comment }));
    },
    end() {
      closeSync(fd);
      io.err(`${count} packets in ${file}\n`);
      tellMissed(io, missed);
    },
  };
}

function tellMissed(io: Io, missed: number): void {
  if (missed > 0)
    io.err(`${missed} more packets came too fast to be traced; ask for fewer, or use --sample\n`);
}

function numberUpTo(most: number) {
  return (text: string): number => {
    const number = Number(text);
    if (!Number.isInteger(number) || number < 1 || number > most) {
      throw new InvalidArgumentError(`It is no number from 1 to ${most}.`);
    }
    return number;
  };
}

function reasonArgument(text: string): string {
  if (!DROP_REASONS.some(({ name }) => name === text))
    throw new InvalidArgumentError('It is no drop reason; docs/DROPS.md lists them.');
  return text;
}

const packetText = ({ packet, steps, verdict }: TraceView): string =>
  `${[`packet ${packet}`, ...steps.map(({ text }) => `  ${text}`), `  => ${verdict}`].join('\n')}\n\n`;
