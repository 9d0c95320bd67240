/** A node full of pods: how soon it forwards, what it weighs, and what it costs while nothing happens. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiClient } from '../control/api/client.ts';
import type { BenchContext, BenchEntry, Prepared } from './harness.ts';
import { Lab, type Service } from './lab.ts';
import { apiOf, type PodPlace, startAgent, writeResources } from './ours.ts';

const PODS = 250;
const NODE = 'full-node';
const START_LIMIT_MS = 60_000;
const POLL_MS = 10;
/** After the start: until caches are warm and what was born in the start is gone. */
const CALM_MS = 5000;
/** Long enough for one look at all namespaces, which comes every 90 s. */
const IDLE_SECONDS = 95;
/** /proc/PID/stat counts CPU time in these. */
const TICKS_PER_SECOND = 100;

class FullNode {
  readonly #lab = new Lab();
  readonly #context: BenchContext;
  readonly #pods: PodPlace[];
  #agent: Service | null = null;

  constructor(context: BenchContext) {
    this.#context = context;
    this.#pods = Array.from({ length: PODS }, (_, index) => ({
      name: `${index}`,
      node: NODE,
      netns: `full-${index}`,
      address: `10.65.1.${index + 2}`,
    }));
  }

  async build(): Promise<void> {
    await this.#lab.netns(NODE);
    await this.#lab.ip(
      NODE,
      'link add eth0 type bridge',
      'link set eth0 up',
      'addr add 192.0.2.1/24 dev eth0',
    );
    for (const { netns } of this.#pods) await this.#lab.netns(netns);
    writeResources(this.#lab, 'direct', [NODE], this.#pods);
  }

  /** Start an agent where there is none; seconds until every pod is up and the last one answers the first. */
  async start(): Promise<number> {
    const [first, last] = [this.#pods[0]!, this.#pods.at(-1)!];
    const begun = performance.now();
    this.#agent = startAgent(this.#lab, this.#context, NODE, {});
    const api = new ApiClient(apiOf(this.#lab, NODE));
    while (performance.now() - begun < START_LIMIT_MS) {
      if (this.#agent.ended) throw new Error(`the agent ended: ${this.#agent.said || 'without a word'}`);
      const ports = await api.ports().catch(() => []);
      const up = ports.filter(({ kind, state }) => kind === 'pod' && state === 'up').length;
      if (up === PODS && (await this.#lab.answers(first.netns, last.address))) {
        return (performance.now() - begun) / 1000;
      }
      await sleep(POLL_MS);
    }
    throw new Error(`not all of ${PODS} pods are up after ${START_LIMIT_MS / 1000} s`);
  }

  /** Resident memory, MiB. */
  async resident(): Promise<number> {
    const status = readFileSync(`/proc/${await this.#pid()}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
  }

  /** CPU time in a span of idleness, the agent's and its children's, per cent of a core. */
  async idle(seconds: number): Promise<number> {
    const pid = await this.#pid();
    const ticks = () => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
      return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    };
    const before = ticks();
    await sleep(seconds * 1000);
    return ((ticks() - before) / TICKS_PER_SECOND / seconds) * 100;
  }

  /** The agent ends, and all that it made goes. */
  async clear(): Promise<void> {
    await this.#agent?.stop();
    this.#agent = null;
    const main = `${this.#context.root}/dist/control/cli/main.js`;
    await this.#lab.run(NODE, process.execPath, [main, 'purge', '--node', NODE]);
  }

  async close(): Promise<void> {
    await this.clear();
    await this.#lab.close();
  }

  async #pid(): Promise<number> {
    return (await new ApiClient(apiOf(this.#lab, NODE)).nodeStatus()).pid;
  }
}

async function prepare(
  context: BenchContext,
  measure: (node: FullNode) => Promise<number>,
): Promise<Prepared> {
  const node = new FullNode(context);
  try {
    await node.build();
  } catch (error) {
    await node.close();
    throw error;
  }
  return {
    setting: `${PODS} pods, Node ${process.version}`,
    ours: () => measure(node),
    peers: {},
    close: () => node.close(),
  };
}

/** Each round begins with nothing there. */
const entry = (
  name: string,
  unit: string,
  measure: (node: FullNode, started: number) => Promise<number>,
): BenchEntry => ({
  name,
  unit,
  better: 'lower',
  peers: [],
  prepare: (context) =>
    prepare(context, async (node) => {
      const started = await node.start();
      const figure = await measure(node, started);
      await node.clear();
      return figure;
    }),
});

const calm = () => sleep(CALM_MS);

export const entries: BenchEntry[] = [
  entry('pods-250', 's from start to forwarding', async (_, started) => started),
  entry('pods-250-rss', 'MiB resident', (node) => calm().then(() => node.resident())),
  entry('pods-250-idle', '% of a core, idle', (node) => calm().then(() => node.idle(IDLE_SECONDS))),
];
