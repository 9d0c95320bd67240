/** `tortie bgp dump` and `tortie bgp load`: tables to and from MRT files (RFC 6396). */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { createGzip } from 'node:zlib';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { BgpDumpQuery, BgpRouteQuery, BgpRouteView } from '../api/types.ts';
import { FAMILIES } from '../bgp/family.ts';
import { EX_USAGE, TortieError } from '../error.ts';
import type { LoadedMrt } from '../load-mrt.ts';
import { byPrefix, counted, ROUTE_HEADER, routeCells, whyText } from './bgp-text.ts';
import { asksDaemon, type DaemonOptions, daemon } from './daemon.ts';
import { type Io, printJson } from './io.ts';
import { peerArgument } from './peer.ts';
import { prefixArgument } from './prefix.ts';
import { Lines, LongTable } from './table.ts';

interface DumpOptions extends DaemonOptions, BgpDumpQuery {}

interface LoadOptions {
  readonly routes?: string;
  readonly longer?: boolean;
  readonly best?: boolean;
  readonly why?: string;
  readonly asn?: number;
  readonly json?: boolean;
}

export function addMrt(bgp: Command, io: Io): void {
  asksDaemon(bgp.command('dump'))
    .description('write the table to an MRT file (TABLE_DUMP_V2), whole or not at all')
    .argument('<file>', 'is replaced once all is written; compressed if its name ends with .gz')
    .addOption(
      new Option('--in <peer>', 'what this peer told us alone, refused or not').argParser(peerArgument),
    )
    .addOption(
      new Option('--family <family>', 'routes of one family').choices(FAMILIES.map(({ name }) => name)),
    )
    .addHelpText(
      'after',
      '\nOf all peers, what an import policy or a loop check refused is left out.\n\n' +
        'Example:\n  tortie bgp dump table.mrt.gz',
    )
    .action(async (file: string, { in: from, family, json, ...where }: DumpOptions) => {
      const query = { ...(from !== undefined && { in: from }), ...(family !== undefined && { family }) };
      const bytes = await writeWhole(file, daemon(io, where).bgp.dump(query, io.interrupted), io.interrupted);
      if (json) printJson(io, { file, bytes });
      else io.out(`${file} has the table: ${counted(bytes, 'byte')} of MRT\n`);
    });
  bgp
    .command('load')
    .description('read an MRT file, plain or .gz, and answer about it; no agent is asked or changed')
    .argument('<file>', 'tables (TABLE_DUMP_V2) and messages (BGP4MP), in the order of the file')
    .addOption(
      new Option('--routes <prefix>', 'its routes to a prefix, or an address: the longest that holds it')
        .argParser(prefixArgument)
        .conflicts('why'),
    )
    .option('--longer', 'with --routes: also what lies within the prefix')
    .option('--best', 'with --routes: best paths only')
    .addOption(
      new Option('--why <prefix>', 'why its best path to a prefix is best').argParser(prefixArgument),
    )
    .option('--asn <n>', 'our AS: peers of the same are internal; default: as the file says', asnArgument)
    .option('--json', 'print JSON; of routes, one object a line')
    .addHelpText(
      'after',
      '\nEvery next hop counts as reachable, and nothing is refused: the file says neither. What cannot be\n' +
        'read is counted and left out. Without --routes and --why it prints what the file holds.\n\n' +
        'Examples:\n  tortie bgp load table.mrt.gz\n  tortie bgp load table.mrt.gz --why 203.0.113.0/24',
    )
    .action(async (file: string, { routes, longer, best, why, asn, json }: LoadOptions) => {
      if (routes === undefined && (longer || best)) {
        const advice = 'give --routes PREFIX with them, such as 0.0.0.0/0';
        throw new TortieError('OPTION', `--longer and --best are about routes; ${advice}`, EX_USAGE);
      }
      const loaded = await io.actions.loadMrt(file, asn ?? null);
      if (why !== undefined) {
        const answer = loaded.why(why);
        if (json) printJson(io, answer);
        else io.out(whyText(why, answer, io.now()));
      } else if (routes !== undefined) {
        const query = { prefix: routes, ...(longer && { longer }), ...(best && { best }) };
        printRoutes(io, loaded, query, json ?? false);
      } else if (json) printJson(io, loaded.summary);
      else io.out(summaryText(file, loaded.summary));
    });
}

function asnArgument(text: string): number {
  const asn = Number(text);
  if (/^\d+$/.test(text) && asn > 0 && asn < 2 ** 32) return asn;
  throw new InvalidArgumentError('It is no AS number from 1 to 4294967295.');
}

function printRoutes(io: Io, loaded: LoadedMrt, query: BgpRouteQuery, json: boolean): void {
  const lines = new Lines(io.out);
  const now = io.now();
  const cells = (route: BgpRouteView) => routeCells(route, now);
  const table = new LongTable<BgpRouteView>(io.out, ROUTE_HEADER, cells, byPrefix);
  for (const route of loaded.routes(query)) {
    if (route === null) continue;
    if (json) lines.add(`${JSON.stringify(route)}\n`);
    else table.add(route);
  }
  if (json) lines.end();
  else if (table.isEmpty) io.out('No routes.\n');
  else table.end();
}

const dateText = (seconds: number): string => new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');

function summaryText(file: string, summary: LoadedMrt['summary']): string {
  const { from, to, bytes, seconds, memoryBytes, tables } = summary;
  const when = from === null || to === null ? '' : `, from ${dateText(from)} to ${dateText(to)}`;
  const lines = [
    `${file}: ${counted(bytes, 'byte')}${when}`,
    ...summary.records.map(({ what, count }) => {
      const isSkipped = summary.skipped.some((skipped) => skipped.what === what);
      return `  ${count} x ${what}${isSkipped ? ' (not read)' : ''}`;
    }),
    counted(summary.peers, 'peer'),
    ...tables.map(
      ({ family, prefixes, paths }) =>
        `${family === 'ipv4' ? 'IPv4' : 'IPv6'}: ${counted(paths, 'path')} to ${counted(prefixes, 'prefix', 'prefixes')}`,
    ),
    `${counted(summary.asPaths, 'AS path')}, ${counted(summary.attributeSets, 'set')} of attributes`,
    `${seconds.toFixed(1)} s, ${Math.ceil(memoryBytes / 2 ** 20)} MiB`,
  ];
  if (summary.malformed.length === 0) lines.push('nothing malformed');
  for (const { what, count, offset } of summary.malformed) {
    lines.push(`malformed: ${count} x ${what}; first at offset ${offset}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Write beside the file and rename: nobody ever sees half of it. Answers how many bytes came, uncompressed. */
async function writeWhole(
  file: string,
  pieces: AsyncIterable<Buffer>,
  interrupted: AbortSignal,
): Promise<number> {
  const unfinished = join(dirname(file), `.${basename(file)}.${process.pid}`);
  const cannot = (error: unknown) =>
    error instanceof TortieError
      ? error
      : new TortieError('DUMP_FILE', `cannot write ${file}: ${(error as Error).message}`);
  let bytes = 0;
  // What cannot be asked for is not to leave an empty file behind.
  const handle = await open(unfinished, 'wx', 0o644).catch((error) => {
    throw cannot(error);
  });
  try {
    const target = createWriteStream('', { fd: handle.fd, autoClose: false });
    const sink = file.endsWith('.gz') ? createGzip() : target;
    const done = new Promise<void>((resolve, reject) => {
      target.once('finish', resolve).once('error', reject);
    });
    // Awaited below, unless something else fails first.
    done.catch(() => {});
    if (sink !== target) sink.pipe(target);
    for await (const piece of pieces) {
      bytes += piece.length;
      if (!sink.write(piece)) await Promise.race([once(sink, 'drain'), done]);
    }
    if (interrupted.aborted) throw new TortieError('DUMP_INTERRUPTED', `${file} is as it was: interrupted`);
    sink.end();
    await done;
    await handle.sync();
    await handle.close();
    await rename(unfinished, file);
    return bytes;
  } catch (error) {
    await handle.close().catch(() => {});
    await unlink(unfinished).catch(() => {});
    throw cannot(error);
  }
}
