/** BGP speakers for the benchmarks, each in a namespace of its own: ours as the agent runs it, BIRD, GoBGP. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { ApiClient } from '../control/api/client.ts';
import { until } from '../control/bgp/until.ts';
import type { BenchContext } from './harness.ts';
import type { Lab, Service } from './lab.ts';
import { apiOf, startAgent } from './ours.ts';

const run = promisify(execFile);
export const ASN = 64512;
/** BIRD reads a million routes from its configuration. */
const BIRD_START_MS = 90_000;
/** Between two questions for the count. */
const MIN_PAUSE_MS = 10;
const MAX_PAUSE_MS = 50;
const SLOW_PAUSE_MS = 2000;

/** What a benchmark needs of a receiver. */
export interface Receiver {
  /** Routes that it has taken and uses: what packets would follow. */
  count(): Promise<number>;
  /** Its answer costs it a walk through all routes: it is asked every few seconds. */
  readonly isSlow?: boolean;
  stop(): Promise<void>;
}

export async function version(program: string, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await run(program, args);
  return (stdout + stderr).trim().split('\n')[0]!;
}

/** A BIRD with this configuration; `ask` is birdc. */
export class Bird {
  readonly #lab: Lab;
  readonly #netns: string;
  readonly #socket: string;
  readonly #service: Service;

  private constructor(lab: Lab, netns: string, config: string) {
    const base = join(lab.folder, `${netns}-bird`);
    writeFileSync(`${base}.conf`, config);
    this.#lab = lab;
    this.#netns = netns;
    this.#socket = `${base}.ctl`;
    this.#service = lab.spawn(netns, 'bird', [
      ...['-f', '-c', `${base}.conf`, '-s', this.#socket, '-P', `${base}.pid`],
    ]);
  }

  static async start(lab: Lab, netns: string, config: string): Promise<Bird> {
    const bird = new Bird(lab, netns, config);
    await until(
      'BIRD answers',
      () => {
        if (bird.#service.ended) throw new Error(`BIRD ended: ${bird.#service.said || 'without a word'}`);
        return bird.ask('show', 'status').catch(() => null);
      },
      BIRD_START_MS,
    );
    return bird;
  }

  ask(...command: string[]): Promise<string> {
    return this.#lab.run(this.#netns, 'birdc', ['-s', this.#socket, ...command]);
  }

  async isEstablished(protocol: string): Promise<boolean> {
    return (await this.ask('show', 'protocols', protocol)).includes('Established');
  }

  /** Routes that a protocol has brought in. */
  async imported(protocol: string): Promise<number> {
    const text = await this.ask('show', 'protocols', 'all', protocol);
    return Number(/Routes:\s+(\d+) imported/.exec(text)?.[1] ?? 0);
  }

  stop(): Promise<unknown> {
    return this.#service.stop();
  }
}

export interface Session {
  /** Of the receiver and its peer. */
  readonly address: string;
  readonly peer: string;
}

/** An agent that waits for a peer, and takes all that it tells. */
export async function startOurs(
  lab: Lab,
  context: BenchContext,
  netns: string,
  resources: readonly { kind: string; name: string; spec: unknown }[],
): Promise<Receiver & { readonly api: ApiClient }> {
  const documents = resources.map(({ kind, name, spec }) =>
    stringify({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec }),
  );
  writeFileSync(join(lab.folder, 'resources.yaml'), documents.join('---\n'));
  const agent = startAgent(lab, context, netns, {
    bgp: { enabled: true, retrySeconds: 0.2 },
    log: { level: 'error' },
  });
  const api = new ApiClient(apiOf(lab, netns));
  await until('the agent speaks BGP', async () => {
    if (agent.ended) throw new Error(`the agent ended: ${agent.said || 'without a word'}`);
    return api.bgp.summary().catch(() => null);
  });
  return {
    api,
    count: async () => (await api.bgp.summary()).forwarded,
    stop: async () => {
      await agent.stop();
      const main = join(context.root, 'dist/control/cli/main.js');
      await lab.run(netns, process.execPath, [main, 'purge', '--node', netns]);
    },
  };
}

export async function startBird(lab: Lab, netns: string, { address, peer }: Session): Promise<Receiver> {
  const bird = await Bird.start(
    lab,
    netns,
    `router id ${address};
protocol device { }
protocol bgp sender { local ${address} as ${ASN}; neighbor ${peer} as ${ASN}; passive; ipv4 { import all; export none; }; }
`,
  );
  return { count: () => bird.imported('sender'), stop: async () => void (await bird.stop()) };
}

export async function startGobgp(lab: Lab, netns: string, { address, peer }: Session): Promise<Receiver> {
  const file = join(lab.folder, 'gobgp.toml');
  writeFileSync(
    file,
    `[global.config]
  as = ${ASN}
  router-id = "${address}"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "${peer}"
    peer-as = ${ASN}
  [neighbors.transport.config]
    passive-mode = true
`,
  );
  const daemon = lab.spawn(netns, 'gobgpd', ['-f', file, '-l', 'error']);
  const ask = (...args: string[]) => lab.run(netns, 'gobgp', [...args, '-j']);
  await until('GoBGP answers', () => {
    if (daemon.ended) throw new Error(`gobgpd ended: ${daemon.said || 'without a word'}`);
    return ask('neighbor').catch(() => null);
  });
  return {
    isSlow: true,
    count: async () => {
      const text = await ask('global', 'rib', 'summary');
      return Number((JSON.parse(text) as { num_path?: number }).num_path ?? 0);
    },
    stop: async () => void (await daemon.stop()),
  };
}

/** Seconds from when the peer is up until a receiver has this many routes: 99 of 100 of them, and all. */
export async function timeUntil(
  receiver: Receiver,
  total: number,
  begun: number,
  limitMs: number,
): Promise<{ most: number; all: number }> {
  let most = Number.NaN;
  for (;;) {
    const asked = performance.now();
    const found = await receiver.count();
    const now = performance.now();
    if (Number.isNaN(most) && found >= total * 0.99) most = (now - begun) / 1000;
    if (found >= total) return { most, all: (now - begun) / 1000 };
    if (now - begun > limitMs) throw new Error(`${found} of ${total} routes after ${limitMs / 1000} s`);
    // Where asking costs nothing, an answer that comes late comes from who is busy with the routes.
    const pause = receiver.isSlow ? SLOW_PAUSE_MS : Math.min(MAX_PAUSE_MS, now - asked);
    await sleep(Math.max(MIN_PAUSE_MS, pause));
  }
}
