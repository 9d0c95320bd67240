/** `tortie bgp`: the BGP speaker, to look at. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { peerNamed } from '../api/peer-named.ts';
import type { BgpRouteQuery, BgpRouteView, BgpWatchQuery } from '../api/types.ts';
import { FAMILIES } from '../bgp/family.ts';
import { addMrt } from './bgp-mrt.ts';
import {
  byPrefix,
  eventText,
  peersText,
  peerText,
  problemsText,
  ROUTE_HEADER,
  routeCells,
  summaryText,
  whyText,
} from './bgp-text.ts';
import { asksDaemon, type DaemonOptions, daemon } from './daemon.ts';
import { type Io, printJson } from './io.ts';
import { peerArgument } from './peer.ts';
import { prefixArgument } from './prefix.ts';
import { Lines, LongTable } from './table.ts';

export function addBgp(program: Command, io: Io): void {
  const bgp = program.command('bgp').description('the BGP speaker: peers, routes, and why they are best');
  addPeers(bgp, io);
  addRoutes(bgp, io);
  addWhy(bgp, io);
  addMonitor(bgp, io);
  addMrt(bgp, io);
  addRefresh(bgp, io);
  addReset(bgp, io);
}

function addPeers(bgp: Command, io: Io): void {
  asksDaemon(bgp.command('peers'))
    .description('peers, the states of their sessions, and why those are down that are')
    .addHelpText('after', '\nExample:\n  tortie bgp peers')
    .action(async (options: DaemonOptions) => {
      const { bgp: speaker } = daemon(io, options);
      const peers = await speaker.peers();
      if (options.json) return printJson(io, peers);
      const { problems } = await speaker.summary();
      io.out(`${peersText(peers, io.now())}${problemsText(problems)}`);
    });
  asksDaemon(bgp.command('summary'))
    .description('the speaker as a whole: its tables, and what each session carries')
    .addHelpText('after', '\nExample:\n  tortie bgp summary')
    .action(async (options: DaemonOptions) => {
      const client = daemon(io, options);
      const [summary, peers] = [await client.bgp.summary(), await client.bgp.peers()];
      if (options.json) printJson(io, { ...summary, peers });
      else io.out(`${summaryText(summary, peers, io.now())}${problemsText(summary.problems)}`);
    });
  asksDaemon(bgp.command('peer'))
    .description('all about one peer: what both sides offer, timers, counters, the last error')
    .argument('<peer>', 'its address or name', peerArgument)
    .addHelpText('after', '\nExamples:\n  tortie bgp peer 192.0.2.2\n  tortie bgp peer node2')
    .action(async (name: string, options: DaemonOptions) => {
      const { bgp: speaker } = daemon(io, options);
      const [peers, { problems }] = [await speaker.peers(), await speaker.summary()];
      const peer = peerNamed(peers, name, problems);
      if (options.json) printJson(io, peer);
      else io.out(peerText(peer, io.now()));
    });
}

interface RouteOptions extends DaemonOptions, Omit<BgpRouteQuery, 'prefix'> {}

function addRoutes(bgp: Command, io: Io): void {
  asksDaemon(bgp.command('routes'))
    .description('routes: all that peers told, what one told or was told, or the best')
    .argument('[prefix]', 'prefix, or an address: the longest prefix that holds it', prefixArgument)
    .option('--longer', 'also what lies within the prefix')
    .addOption(
      new Option('--in <peer>', 'what this peer told us, refused or not')
        .argParser(peerArgument)
        .conflicts(['out']),
    )
    .addOption(
      new Option('--out <peer>', 'what we told this peer').argParser(peerArgument).conflicts(['best']),
    )
    .option('--best', 'best paths only')
    .addOption(
      new Option('--family <family>', 'routes of one family').choices(FAMILIES.map(({ name }) => name)),
    )
    .addHelpText(
      'after',
      '\nMarks: * best, = shares its load, ! cannot be used. With --json: one JSON object a line.\n\n' +
        'Examples:\n  tortie bgp routes --best\n  tortie bgp routes 10.65.0.0/16 --longer --in 192.0.2.2',
    )
    .action(async (prefix: string | undefined, options: RouteOptions) => {
      const { longer, in: from, out, best, family, json, ...where } = options;
      const query = given<BgpRouteQuery>({ prefix, longer, in: from, out, best, family });
      const routes = daemon(io, where).bgp.routes(query, io.interrupted);
      if (json) {
        const lines = new Lines(io.out);
        for await (const route of routes) lines.add(`${JSON.stringify(route)}\n`);
        return lines.end();
      }
      const now = io.now();
      const cells = (route: BgpRouteView) => routeCells(route, now);
      const table = new LongTable<BgpRouteView>(io.out, ROUTE_HEADER, cells, byPrefix);
      for await (const route of routes) table.add(route);
      if (!table.isEmpty) table.end();
      else io.out('No routes.\n');
    });
}

/** Without what is not given. */
const given = <T extends object>(query: { [K in keyof T]: T[K] | undefined }): T =>
  Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined)) as T;

interface WhyOptions extends DaemonOptions {
  readonly to?: string;
}

function addWhy(bgp: Command, io: Io): void {
  asksDaemon(bgp.command('why'))
    .description(
      'why a path is best: all paths of a prefix in order, the step that decided, and what cannot be used',
    )
    .argument('<prefix>', 'prefix, or an address: the longest prefix that holds it', prefixArgument)
    .option('--to <peer>', 'also what this peer is told of it, or why nothing', peerArgument)
    .addHelpText(
      'after',
      '\nExamples:\n  tortie bgp why 203.0.113.0/24\n  tortie bgp why 203.0.113.0/24 --to 192.0.2.2',
    )
    .action(async (prefix: string, { to, json, ...where }: WhyOptions) => {
      const why = await daemon(io, where).bgp.why(prefix, to);
      if (json) printJson(io, why);
      else io.out(whyText(prefix, why, io.now()));
    });
}

interface MonitorOptions extends DaemonOptions {
  readonly best?: boolean;
  readonly count?: number;
}

function addMonitor(bgp: Command, io: Io): void {
  asksDaemon(bgp.command('monitor'))
    .description('what BGP does, as it does it: states of sessions, and messages decoded, until Ctrl-C')
    .argument('[peer]', 'what concerns this peer alone: its address or name', peerArgument)
    .option('--best', 'also what becomes the best path of each prefix')
    .option('--count <n>', 'end after so many', countArgument)
    .addHelpText(
      'after',
      '\nWith --json: one JSON object a line.\n\n' +
        'Examples:\n  tortie bgp monitor 192.0.2.2\n  tortie bgp monitor --best --count 100 --json',
    )
    .action(async (peer: string | undefined, { best, count, json, ...where }: MonitorOptions) => {
      const begun = () => io.err('Watching. Ctrl-C ends it.\n');
      const query = given<BgpWatchQuery>({ peer, best });
      let seen = 0;
      for await (const event of daemon(io, where).bgp.monitor(query, io.interrupted, begun)) {
        io.out(json ? `${JSON.stringify(event)}\n` : eventText(event));
        if (++seen === count) break;
      }
    });
}

function countArgument(text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1) throw new InvalidArgumentError('It is no number from 1.');
  return count;
}

function addRefresh(bgp: Command, io: Io): void {
  asksDaemon(bgp.command('refresh'))
    .description('ask a peer for all its routes again, and tell it ours; the session goes on')
    .argument('<peer>', 'its address or name', peerArgument)
    .addHelpText('after', '\nExample:\n  tortie bgp refresh 192.0.2.2')
    .action(async (peer: string, { json, ...where }: DaemonOptions) => {
      await daemon(io, where).bgp.refresh(peer);
      if (json) printJson(io, { peer });
      else io.out(`${peer} is asked for its routes, and told ours\n`);
    });
}

interface ResetOptions extends DaemonOptions {
  readonly message?: string;
}

/** RFC 9003 section 2. */
const MAX_TEXT_BYTES = 255;

function addReset(bgp: Command, io: Io): void {
  asksDaemon(bgp.command('reset'))
    .description('end the session with a peer and begin anew: traffic stops meanwhile')
    .argument('<peer>', 'its address or name', peerArgument)
    .option('--message <text>', 'why, for the operator of the peer; at most 255 bytes', messageArgument)
    .addHelpText('after', '\nExample:\n  tortie bgp reset 192.0.2.2 --message "new line card, back at noon"')
    .action(async (peer: string, { message, json, ...where }: ResetOptions) => {
      await daemon(io, where).bgp.reset(peer, message);
      if (json) printJson(io, { peer, message: message ?? null });
      else io.out(`The session with ${peer} is reset\n`);
    });
}

function messageArgument(text: string): string {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_TEXT_BYTES)
    throw new InvalidArgumentError(`It has ${bytes} bytes; 255 are allowed (RFC 9003).`);
  return text;
}
