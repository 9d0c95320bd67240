/**
 * `npm run bench -- --charts`: what things cost against their size, measured and drawn into docs/charts/.
 *
 *   routes.svg   look-ups a second and memory, 100 to 1,000,000 routes
 *   packets.svg  datagrams a second and their bits, 64 to 9000 bytes and super-frames
 *   pods.svg     throughput of one TCP stream for every two pods, 2 to 250 pods
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DpdkTable } from './dpdk.ts';
import { loadRoutes, tableKeys } from './fib-shapes/routes.ts';
import { image4, PASSES } from './fib4.ts';
import { type BenchContext, format, reasonOf, summarize } from './harness.ts';
import { Lab } from './lab.ts';
import { ONE_NODE, oursOnOneNode, type PodPlace, twoPods } from './ours.ts';
import { ovsOnOneNode } from './ovs.ts';
import { cRelay, kernelRouter, type Path, podBehind } from './paths.ts';
import type { Machine } from './report.ts';
import { type Chart, drawChart, type Series } from './svg.ts';
import { datagrams } from './traffic.ts';

const run = promisify(execFile);

const ROUNDS = 3;
const SECONDS = 1;
const ROUTES = [100, 1000, 10_000, 100_000, 1_000_000];
/** Bytes of an IPv4 packet; a datagram's payload is 28 less. */
const SIZES = [64, 128, 256, 512, 1500, 4096, 9000];
const HEADERS = 28;
const LARGE_MTU = 9000;
/** A super-frame: this many datagrams of an MTU of 1500 handed over at once. */
const SEGMENT = 1500 - HEADERS;
const SUPER = SEGMENT * 44;
const SUPER_SIZE = 65_536;
const PODS = [2, 8, 32, 100, 250];
const STREAMS_PORT = '5202';

/** Medians by x, of a series that grows round by round. */
class Collected {
  readonly #figures = new Map<string, Map<number, number[]>>();

  add(series: string, x: number, figure: number): void {
    const points = this.#figures.get(series) ?? new Map<number, number[]>();
    this.#figures.set(series, points);
    points.set(x, [...(points.get(x) ?? []), figure]);
  }

  series(scale: (figure: number, x: number) => number = (figure) => figure): Series[] {
    return [...this.#figures].map(([name, points]) => ({
      name,
      points: [...points].map(([x, figures]) => [x, scale(summarize(figures).median, x)] as const),
    }));
  }
}

/** Add one figure, or say why there is none: a peer that is missing leaves a gap. */
async function note(
  context: BenchContext,
  collected: Collected,
  series: string,
  x: number,
  measure: () => Promise<number>,
): Promise<void> {
  try {
    const figure = await measure();
    collected.add(series, x, figure);
    context.log(`${series} at ${x}: ${format(figure)}`);
  } catch (error) {
    context.log(`${series} at ${x}: ${reasonOf(error)}`);
  }
}

async function routesChart(context: BenchContext): Promise<Chart> {
  const [speeds, memory] = [new Collected(), new Collected()];
  const folder = mkdtempSync(join(tmpdir(), 'tortie-charts-'));
  const [keyFile, routesFile] = [join(folder, 'keys'), join(folder, 'routes')];
  try {
    for (const count of ROUTES) {
      const routes = loadRoutes(count);
      const image = image4(routes);
      writeFileSync(keyFile, new Uint8Array(tableKeys(routes).buffer));
      writeFileSync(routesFile, image);
      const program = join(context.root, 'dist/bench/fib-size.js');
      await note(context, speeds, 'ours', count, async () => {
        const args = ['--expose-gc', program, routesFile, keyFile];
        const [speed, bytes] = (await run(process.execPath, args)).stdout.split(' ').map(Number);
        memory.add('ours', count, bytes! / 2 ** 20);
        return speed!;
      });
      for (const kind of ['rte_fib', 'rte_lpm'] as const) {
        await note(context, speeds, kind, count, async () => {
          const table = await DpdkTable.open(context, kind, 4, image);
          try {
            memory.add(kind, count, table.bytes / 2 ** 20);
            return (await table.ask(keyFile, PASSES)).speed;
          } finally {
            await table.close();
          }
        });
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return {
    notes: ['keys from the table; rte_fib and rte_lpm of DPDK, 64 and one at a time'],
    title: 'IPv4 look-ups and memory against routes',
    x: 'routes',
    ticks: ROUTES,
    panels: [
      { title: 'Look-ups of keys from the table', unit: 'M/s', series: speeds.series() },
      { title: 'What the process grew by', unit: 'MiB', series: memory.series() },
    ],
  };
}

async function packetsChart(context: BenchContext): Promise<Chart> {
  const packets = new Collected();
  const versions: string[] = [];
  const lab = new Lab();
  try {
    const ours = await oursOnOneNode(lab, context, await twoPods(lab), LARGE_MTU);
    const paths = new Map([['ours', ours]]);
    const peers: Record<string, () => Promise<Path>> = {
      'c-relay': () => cRelay(lab, context, ours, LARGE_MTU),
      'kernel-router': () => kernelRouter(lab, LARGE_MTU),
      ovs: () => ovsOnOneNode(lab, 'ovs', LARGE_MTU),
      'ovs-dpdk': () => ovsOnOneNode(lab, 'ovs-dpdk', LARGE_MTU),
    };
    for (const [name, build] of Object.entries(peers)) {
      await build().then(
        (path) => {
          paths.set(name, path);
          versions.push(`${name}: ${path.version}`);
        },
        (error) => context.log(`${name}: ${reasonOf(error)}`),
      );
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (const size of SIZES) {
        for (const [name, path] of paths) {
          await note(context, packets, name, size, () =>
            datagrams(lab, path, context, SECONDS, size - HEADERS),
          );
        }
      }
      for (const [name, path] of paths) {
        await note(context, packets, name, SUPER_SIZE, () =>
          datagrams(lab, path, context, SECONDS, SUPER, SEGMENT),
        );
      }
    }
  } finally {
    await lab.close();
  }
  const payload = (size: number) => (size === SUPER_SIZE ? SUPER : size - HEADERS);
  return {
    notes: versions,
    title: 'Datagrams between two pods of a node against their size',
    x: 'bytes of a packet',
    ticks: [...SIZES, SUPER_SIZE],
    tickNames: { [SUPER_SIZE]: 'super' },
    panels: [
      { title: 'Arrived', unit: 'thousands a second', series: packets.series() },
      { title: 'Payload', unit: 'Gb/s', series: packets.series((k, size) => (k * payload(size) * 8) / 1e6) },
    ],
  };
}

/** Gb/s over all pairs of pods: the first with the second, the third with the fourth. */
async function streams(
  lab: Lab,
  context: BenchContext,
  inside: string,
  pods: readonly Omit<PodPlace, 'node'>[],
): Promise<number> {
  const program = await context.compile('streams');
  const pairs: string[] = [];
  for (let i = 0; i + 1 < pods.length; i += 2) {
    pairs.push(pods[i]!.netns, pods[i + 1]!.netns, pods[i + 1]!.address);
  }
  const bytes = Number(await lab.run(inside, program, [String(SECONDS), STREAMS_PORT, ...pairs]));
  return (bytes * 8) / SECONDS / 1e9;
}

async function podsChart(context: BenchContext): Promise<Chart> {
  const throughput = new Collected();
  for (const count of PODS) {
    const lab = new Lab();
    try {
      const [ours, routed]: [PodPlace[], PodPlace[]] = [[], []];
      const router = await lab.netns('router');
      await lab.sysctl(router, 'net.ipv4.ip_forward=1');
      for (let i = 0; i < count; i++) {
        const name = `pod${i}`;
        const own = await lab.netns(name);
        ours.push({ name, node: ONE_NODE, netns: own, address: `10.65.1.${2 + i}` });
        const veth = await lab.netns(`routed${i}`);
        await podBehind(lab, router, veth, name, `10.65.${i}`);
        routed.push({ name, node: router, netns: veth, address: `10.65.${i}.2` });
      }
      await oursOnOneNode(lab, context, ours);
      for (let round = 0; round < ROUNDS; round++) {
        await note(context, throughput, 'ours', count, () => streams(lab, context, ONE_NODE, ours));
        await note(context, throughput, 'kernel-router', count, () => streams(lab, context, router, routed));
      }
    } finally {
      await lab.close();
    }
  }
  return {
    notes: [],
    title: 'Throughput of a node against its pods',
    x: 'pods, one TCP stream for every two',
    ticks: PODS,
    panels: [{ title: 'All streams together', unit: 'Gb/s', series: throughput.series() }],
  };
}

const CHARTS = { routes: routesChart, packets: packetsChart, pods: podsChart };

/** Measure and draw the charts named, or all. */
export async function drawCharts(
  context: BenchContext,
  machine: Machine,
  only: readonly string[] | undefined,
): Promise<void> {
  const unknown = only?.filter((name) => !(name in CHARTS)) ?? [];
  if (unknown.length > 0) {
    throw new Error(`no chart named ${unknown.join(', ')}: there are ${Object.keys(CHARTS).join(', ')}`);
  }
  const folder = join(context.root, 'docs/charts');
  mkdirSync(folder, { recursive: true });
  for (const [name, measure] of Object.entries(CHARTS)) {
    if (only && !only.includes(name)) continue;
    context.log(`chart ${name}`);
    const chart = await measure(context);
    const notes = [
      ...chart.notes,
      `tortie ${machine.tortie}, Node ${machine.node.slice(1)}`,
      `${machine.cpu}, ${machine.cores} cores, Linux ${machine.kernel}`,
      `npm run bench -- --charts --only ${name}`,
    ];
    writeFileSync(join(folder, `${name}.svg`), drawChart({ ...chart, notes }));
  }
}
