/** `tortie show ...`: what the agent has and does. */
import { type Command, InvalidArgumentError } from 'commander';
import { tryAddress4, tryAddress6 } from '../address.ts';
import type { ApiClient } from '../api/client.ts';
import type {
  DropView,
  LookupView,
  PathMtuView,
  PortView,
  RestartView,
  RouteView,
  RuntimeView,
  WorkerRuntimeView,
  WorkerView,
} from '../api/types.ts';
import { asksDaemon, type DaemonOptions, daemon } from './daemon.ts';
import { type Io, printJson } from './io.ts';
import { columns, Lines, LongTable } from './table.ts';

export function addShow(program: Command, io: Io): void {
  const show = program.command('show').description('what the agent has and does');
  const add = <T>(
    name: string,
    description: string,
    ask: (client: ApiClient) => Promise<T>,
    text: (view: T) => string,
  ) =>
    asksDaemon(show.command(name))
      .description(description)
      .addHelpText('after', `\nExample:\n  tortie show ${name}`)
      .action(async (options: DaemonOptions) => {
        const view = await ask(daemon(io, options));
        if (options.json) printJson(io, view);
        else io.out(text(view));
      });

  add('ports', 'ports, their devices and counters', (client) => client.ports(), portsText);
  addRoutes(show, io);
  add('drops', 'packets dropped, by port and reason', (client) => client.drops(), dropsText);
  add(
    'path-mtu',
    'tunnels whose path takes less than the underlay’s device',
    (client) => client.pathMtus(),
    pathMtusText,
  );
  add('workers', 'the packet threads', (client) => client.workers(), workersText);
  add('runtime', 'how the packet threads spend their time', (client) => client.runtime(), runtimeText);
  asksDaemon(show.command('lookup'))
    .description('the route that a packet to an address takes')
    .argument('<ip>', 'IPv4 or IPv6 address', addressArgument)
    .addHelpText('after', '\nExample:\n  tortie show lookup 10.65.1.2')
    .action(async (ip: string, options: DaemonOptions) => {
      const view = await daemon(io, options).lookup(ip);
      if (options.json) printJson(io, view);
      else io.out(lookupText(view));
    });
}

/** There may be as many as the Internet has: they are written as they come. */
function addRoutes(show: Command, io: Io): void {
  asksDaemon(show.command('routes'))
    .description('the routes that packets follow, and who told them')
    .addHelpText('after', '\nExample:\n  tortie show routes')
    .action(async ({ json, ...where }: DaemonOptions) => {
      const routes = daemon(io, where).eachRoute(io.interrupted);
      if (json) {
        const lines = new Lines(io.out);
        let before = '[\n  ';
        for await (const route of routes) {
          lines.add(`${before}${JSON.stringify(route)}`);
          before = ',\n  ';
        }
        lines.add(before.startsWith('[') ? '[]\n' : '\n]\n');
        return lines.end();
      }
      // Those of the node itself come first, in order; they stay there.
      const table = new LongTable<RouteView>(io.out, ROUTE_HEADER, routeRow, () => 0);
      for await (const route of routes) table.add(route);
      table.end();
    });
}

/** For commander: an address of either family, or a usage error. */
export function addressArgument(text: string): string {
  if (tryAddress4(text) === null && tryAddress6(text) === null) {
    throw new InvalidArgumentError('It is no IP address such as 10.65.1.2 or fd65::2.');
  }
  return text;
}

const orDash = (text: string | null): string => text || '-';
const list = (texts: readonly string[]): string => texts.join(',') || '-';

const portsText = (ports: readonly PortView[]): string =>
  columns(
    ['PORT', 'KIND', 'NETNS', 'DEVICE', 'ADDRESSES', 'MAC', 'MTU', 'WORKERS', 'STATE', 'RX', 'TX', 'DETAIL'],
    ports.map((port) => [
      port.name,
      port.kind,
      orDash(port.netns),
      orDash(port.device),
      list(port.addresses),
      orDash(port.mac),
      String(port.mtu),
      list(port.workers.map(String)),
      port.state,
      String(port.counters.rxFrames ?? 0),
      String(port.counters.txFrames ?? 0),
      port.detail ?? (port.way ? `way ${port.way}: ${port.wayReason}` : ''),
    ]),
  );

const ROUTE_HEADER = ['PREFIX', 'NEXT HOP', 'VIA', 'PORT', 'ORIGIN'];
/** Of several next hops each has its buckets behind it: "192.0.2.2 (64), 192.0.2.3 (64)". */
const routeRow = (route: RouteView): string[] => [
  route.prefix,
  route.members?.map(({ nextHop, buckets }) => `${nextHop} (${buckets})`).join(', ') ?? orDash(route.nextHop),
  [...new Set(route.members?.map(({ via }) => via) ?? [route.via])].join(', '),
  [...new Set(route.members?.map(({ port }) => orDash(port)) ?? [orDash(route.port)])].join(', '),
  route.origin,
];

/** The route taken is marked; those below it would take its place if it went. */
const lookupText = ({ route, candidates }: LookupView): string => {
  const others = candidates.filter((candidate) => candidate.prefix !== route.prefix);
  return columns(
    ['', ...ROUTE_HEADER],
    [['*', ...routeRow(route)], ...others.map((other) => ['', ...routeRow(other)])],
  );
};

const dropsText = (drops: readonly DropView[]): string =>
  drops.length === 0
    ? 'No drops.\n'
    : columns(
        ['PORT', 'REASON', 'PACKETS', 'DESCRIPTION', 'LAST', 'ITS HEADERS'],
        drops.map(({ port, reason, packets, description, last }) => [
          port,
          reason,
          String(packets),
          description,
          last?.at ?? '-',
          last?.text ?? '-',
        ]),
      );

const pathMtusText = (paths: readonly PathMtuView[]): string =>
  paths.length === 0
    ? 'No path is known to take less than the underlay’s device.\n'
    : columns(
        ['PEER', 'MTU', 'FROM', 'LEARNED', 'UNTIL'],
        paths.map(({ peer, mtu, from, learned, until }) => [peer, String(mtu), from, learned, until]),
      );

const workersText = (workers: readonly WorkerView[]): string =>
  columns(
    ['WORKER', 'THREAD', 'STATE', 'DEATHS', 'BURSTS', 'FRAMES', 'SLEEPS', 'PORTS'],
    workers.map((worker) => [
      String(worker.index),
      worker.threadId === null ? '-' : String(worker.threadId),
      worker.state,
      String(worker.deaths),
      String(worker.bursts),
      String(worker.frames),
      String(worker.sleeps),
      list(worker.ports),
    ]),
  );

const STAGES = ['receive', 'pipeline', 'transmit'];

const runtimeText = ({ workers, restart }: RuntimeView): string =>
  `${workersRuntime(workers)}\n${restartText(restart)}\n`;

function restartText({ holder, held, inherited, staleRoutes, staleUntil }: RestartView): string {
  const kept =
    holder === 'none'
      ? 'Nothing outlives the agent'
      : `${holder === 'keeper' ? 'A keeper' : 'systemd'} holds ${held} descriptors for the next agent`;
  const stale = staleUntil === null ? '' : `; ${staleRoutes} routes of its run are stale until ${staleUntil}`;
  return `${kept}. The one before left ${inherited}${stale}.`;
}

const workersRuntime = (workers: readonly WorkerRuntimeView[]): string =>
  columns(
    [
      'WORKER',
      'PORTS',
      'WAKEUPS',
      'BURSTS',
      'FRAMES',
      'FRAMES/BURST',
      ...STAGES.map((stage) => `${stage.toUpperCase()} NS`),
      'CUT',
      'JOINED',
      'BUSY',
      'DEATHS',
    ],
    workers.map((worker) => [
      String(worker.index),
      String(worker.ports),
      String(worker.wakeups),
      String(worker.bursts),
      String(worker.frames),
      ratio(worker.frames, worker.bursts, 1),
      ...STAGES.map((stage) => nsPerFrame(worker, stage)),
      `${worker.offload.cut} > ${worker.offload.cutInto}`,
      `${worker.offload.joined} > ${worker.offload.joinedInto}`,
      `${(worker.busyShare * 100).toFixed(1)} %`,
      String(worker.deaths),
    ]),
  );

const ratio = (a: number, b: number, digits: number): string => (b === 0 ? '-' : (a / b).toFixed(digits));

function nsPerFrame({ stages }: WorkerRuntimeView, name: string): string {
  const stage = stages.find((candidate) => candidate.stage === name);
  return stage ? ratio(stage.seconds * 1e9, stage.frames, 0) : '-';
}
