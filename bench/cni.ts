/** What a pod waits for its network: the wall time of one ADD, plugin process included, on a node that fills up to 250 pods. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { ApiClient } from '../control/api/client.ts';
import {
  type BenchContext,
  type BenchEntry,
  type Peer,
  type Prepared,
  summarize,
  type Unavailable,
} from './harness.ts';
import { Lab } from './lab.ts';
import { apiOf, startAgent } from './ours.ts';

const PODS = 250;
const NODE = 'cni-node';
const READY_MS = 20_000;
const POLL_MS = 20;
/** Where Debian has the plugins of containernetworking-plugins. */
const PLUGINS = '/usr/lib/cni';
const POOL = '10.65.0.0/16';

/** A plugin, how it is configured, and the environment that it needs. */
interface Plugin {
  readonly program: string;
  readonly folder: string;
  readonly conf: Record<string, unknown>;
  readonly env: Record<string, string>;
}

class FillingNode {
  readonly #lab = new Lab();
  readonly #context: BenchContext;

  constructor(context: BenchContext) {
    this.#context = context;
  }

  async build(): Promise<void> {
    const lab = this.#lab;
    await lab.netns(NODE);
    await lab.ip(NODE, 'link add eth0 type bridge', 'link set eth0 up', 'addr add 192.0.2.1/24 dev eth0');
    for (let pod = 0; pod < PODS; pod++) await lab.netns(`cni-${pod}`);
    const agent = startAgent(lab, this.#context, NODE, {
      datastore: { kind: 'embedded', path: join(lab.folder, 'store') },
    });
    const api = new ApiClient(apiOf(lab, NODE));
    const end = performance.now() + READY_MS;
    while (!(await api.ports().catch(() => []))[0]) {
      if (agent.ended) throw new Error(`the agent ended: ${agent.said || 'without a word'}`);
      if (performance.now() > end) throw new Error(`the agent is not ready after ${READY_MS / 1000} s`);
      await sleep(POLL_MS);
    }
    const pool = {
      apiVersion: 'projectcalico.org/v3',
      kind: 'IPPool',
      metadata: { name: 'pods' },
      spec: { cidr: POOL, vxlanMode: 'Always' },
    };
    const file = join(lab.folder, 'pool.yaml');
    writeFileSync(file, stringify(pool));
    const main = join(this.#context.root, 'dist/control/cli/main.js');
    await lab.run(NODE, process.execPath, [
      main,
      'apply',
      '-f',
      file,
      '--config',
      join(lab.folder, `${NODE}.yaml`),
    ]);
  }

  ours(): Plugin {
    const { root } = this.#context;
    return {
      program: join(root, 'build/Release/tortie-cni'),
      folder: join(root, 'build/Release'),
      conf: { type: 'tortie-cni', ipam: { type: 'tortie-ipam' } },
      env: { TORTIE_CNI_SOCKET: `/run/tortie/${NODE}/cni.sock` },
    };
  }

  ptp(): Peer | Unavailable {
    const program = join(PLUGINS, 'ptp');
    if (!existsSync(program)) return { unavailable: `no ${program}: scripts/bench-peers installs it` };
    const ipam = {
      type: 'host-local',
      subnet: '10.66.0.0/16',
      dataDir: join(this.#lab.folder, 'host-local'),
    };
    const plugin = { program, folder: PLUGINS, conf: { type: 'ptp', ipam }, env: {} };
    return { version: 'ptp and host-local of containernetworking-plugins', run: () => this.fill(plugin) };
  }

  /** Median wall time of an ADD, ms, while the node fills up; then all pods go. */
  async fill(plugin: Plugin): Promise<number> {
    const times: number[] = [];
    try {
      for (let pod = 0; pod < PODS; pod++) {
        const begun = performance.now();
        await this.#call(plugin, 'ADD', pod);
        times.push(performance.now() - begun);
      }
    } finally {
      for (let pod = 0; pod < times.length; pod++) await this.#call(plugin, 'DEL', pod);
    }
    return summarize(times).median;
  }

  async #call({ program, folder, conf, env }: Plugin, command: string, pod: number): Promise<void> {
    const child = spawn('ip', ['netns', 'exec', NODE, program], {
      env: {
        ...process.env,
        ...env,
        CNI_COMMAND: command,
        CNI_CONTAINERID: `container-${pod}`,
        CNI_NETNS: `/run/netns/cni-${pod}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: folder,
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-${pod}`,
      },
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (said += data));
    child.stdin.end(JSON.stringify({ cniVersion: '1.0.0', name: 'bench', ...conf }));
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`${program} ${command} of pod ${pod} failed: ${said}`);
  }

  close(): Promise<void> {
    return this.#lab.close();
  }
}

async function prepare(context: BenchContext): Promise<Prepared> {
  const node = new FillingNode(context);
  try {
    await node.build();
  } catch (error) {
    await node.close();
    throw error;
  }
  return {
    setting: `${PODS} pods, Node ${process.version}`,
    ours: () => node.fill(node.ours()),
    peers: { 'ptp-host-local': node.ptp() },
    close: () => node.close(),
  };
}

export const entries: BenchEntry[] = [
  { name: 'node-cni-add', unit: 'ms a pod', better: 'lower', peers: ['ptp-host-local'], prepare },
];
