/**
 * Traffic between two pods of a node while its agent loads a full table from a BIRD, against the same while nothing is loaded. One
 * TCP stream as fast as it goes shares its cores with BIRD and the control thread; one held below that shows what the load does to
 * workers beside taking their time.
 */
import { until } from '../control/bgp/until.ts';
import { Bird, type Receiver, startOurs, version } from './bgp-daemons.ts';
import { linesOf, nodeThatLearns, QUICK_ROUTES } from './bgp-load.ts';
import { loadRoutes } from './fib-shapes/routes.ts';
import type { BenchContext, BenchEntry, Prepared } from './harness.ts';
import { Lab } from './lab.ts';
import { POD_DEVICE } from './paths.ts';
import { tcpStream } from './traffic.ts';

const SENDER = 'sender';
const NODE = 'loading';
const SESSION = { address: '198.19.0.1', peer: '198.19.0.2' };
const PODS = ['10.65.1.2', '10.65.1.3'] as const;
const PODS_PATH = { client: 'loading-0', server: 'loading-1', address: PODS[1] };
/** A load takes about as long. */
const SECONDS = 3;
const CALM_MS = 60_000;

class LoadBesideTraffic {
  readonly #lab = new Lab();
  readonly #rate: string;
  #bird: Bird | null = null;
  #node: Receiver | null = null;

  constructor(rate: string) {
    this.#rate = rate;
  }

  async build(context: BenchContext): Promise<string> {
    const lab = this.#lab;
    const routes = loadRoutes(context.quick ? QUICK_ROUTES : undefined);
    await lab.netns(SENDER);
    await lab.netns(NODE);
    await lab.veth(NODE, 'eth0', SENDER, 'eth0');
    await lab.ip(NODE, `addr add ${SESSION.address}/24 dev eth0`);
    await lab.ip(SENDER, `addr add ${SESSION.peer}/24 dev eth0`);
    context.log(`BIRD reads ${routes.prefixes.length} routes`);
    this.#bird = await Bird.start(
      lab,
      SENDER,
      `router id ${SESSION.peer};
protocol device { }
protocol static { ipv4;
${[...linesOf(routes, false)].join('\n')}
}
protocol bgp node { disabled; local ${SESSION.peer} as 64512; neighbor ${SESSION.address} as 64512;
  connect delay time 1; connect retry time 1; error wait time 1, 2; ipv4 { import none; export all; next hop self; }; }
`,
    );
    const pods = PODS.map((address, index) => ({ address, netns: `${NODE}-${index}` }));
    for (const { netns } of pods) await lab.netns(netns);
    this.#node = await startOurs(lab, context, NODE, [
      ...nodeThatLearns(NODE, SESSION),
      ...pods.map(({ address, netns }) => ({
        kind: 'WorkloadEndpoint',
        name: netns,
        spec: {
          node: NODE,
          endpoint: POD_DEVICE,
          interfaceName: `cali${netns}`,
          netns,
          ipNetworks: [`${address}/32`],
        },
      })),
    ]);
    await lab.reach(PODS_PATH.client, PODS_PATH.address);
    return routes.description;
  }

  /** Gb/s between the pods, without a load. */
  async calm(): Promise<number> {
    return tcpStream(this.#lab, PODS_PATH, SECONDS, this.#rate);
  }

  /** Gb/s from the moment that the session is up. */
  async loading(): Promise<number> {
    const bird = this.#bird!;
    await bird.ask('enable', 'node');
    try {
      await until('the session is up', () => bird.isEstablished('node'), CALM_MS);
      return await tcpStream(this.#lab, PODS_PATH, SECONDS, this.#rate);
    } finally {
      await bird.ask('disable', 'node');
      await until('the routes are gone', async () => (await this.#node!.count()) === 0, CALM_MS);
    }
  }

  async close(): Promise<void> {
    await this.#node?.stop();
    await this.#bird?.stop();
    await this.#lab.close();
  }
}

async function prepare(context: BenchContext, rate: string): Promise<Prepared> {
  const load = new LoadBesideTraffic(rate);
  try {
    const description = await load.build(context);
    return {
      setting: `${description}, Node ${process.version}`,
      ours: () => load.loading(),
      peers: { calm: { version: await version('bird', '--version'), run: () => load.calm() } },
      close: () => load.close(),
    };
  } catch (error) {
    await load.close();
    throw error;
  }
}

const entry = (name: string, unit: string, rate: string): BenchEntry => ({
  name,
  unit,
  better: 'higher',
  peers: ['calm'],
  prepare: (context) => prepare(context, rate),
});

export const entries: BenchEntry[] = [
  entry('bgp-load-tcp', 'Gb/s while a table is loaded', '0'),
  entry('bgp-load-tcp-1g', 'Gb/s of one, while a table is loaded', '1G'),
];
