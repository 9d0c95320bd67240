/**
 * A node among many: what one of 1,000 nodes with 250 pods each has to do with what etcd holds of all of them. How soon an
 * agent has every route after its start, what it weighs then, and how soon a change of another node is in its table.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ApiClient } from '../control/api/client.ts';
import { until } from '../control/bgp/until.ts';
import { EtcdStore } from '../control/datastore/etcd.ts';
import { affinityKey, blockKey, resourceKey } from '../control/datastore/keys.ts';
import type { KeyValueStore } from '../control/datastore/kv.ts';
import type { BenchContext, BenchEntry, Prepared } from './harness.ts';
import { Lab, type Service } from './lab.ts';
import { apiOf, startAgent } from './ours.ts';

const run = promisify(execFile);
const NODES = 1000;
const PODS = 250;
/** /26 each, as many as hold the pods. */
const BLOCKS = 4;
const BLOCK_SIZE = 64;
const OURS = 'node-0';
const STORE_ADDRESS = '192.0.0.1';
const ENDPOINT = `http://${STORE_ADDRESS}:2379`;
const POLL_MS = 20;
const CALM_MS = 3000;
const START_LIMIT_MS = 60_000;
const CHANGES = 300;
const QUICK_CHANGES = 60;
/** Writes at a time while the store is filled. */
const WRITERS = 128;

const nodeName = (node: number): string => `node-${node}`;
/** Nodes are 192.0.0.2 and on, within 192.0.0.0/16. */
const nodeAddress = (node: number): string => `192.0.${(node + 2) >> 8}.${(node + 2) & 255}`;
/** The first address of a block: 10.0.0.0 and on. */
const blockBase = (node: number, block: number): number => (node * BLOCKS + block) * BLOCK_SIZE;
const address = (offset: number): string =>
  `10.${(offset >> 16) & 255}.${(offset >> 8) & 255}.${offset & 255}`;
const blockCidr = (node: number, block: number): string => `${address(blockBase(node, block))}/26`;

const v3 = (kind: string, name: string, spec: unknown, namespace?: string): [string, string] => {
  const metadata = { name, ...(namespace && { namespace }) };
  const value = JSON.stringify({ apiVersion: 'projectcalico.org/v3', kind, metadata, spec });
  return [resourceKey({ kind: kind as never, name, namespace }), value];
};

/** A block that `used` addresses of are taken. */
function blockValue(node: number, block: number, used: number): string {
  const allocations = Array.from({ length: BLOCK_SIZE }, (_, ordinal) => (ordinal < used ? ordinal : null));
  const attributes = allocations
    .filter((ordinal) => ordinal !== null)
    .map((ordinal) => ({
      handle_id: `k8s-pod-network.${node}-${block}-${ordinal}`,
      secondary: {
        namespace: 'default',
        node: nodeName(node),
        pod: `pod-${node}-${block * BLOCK_SIZE + ordinal}`,
      },
    }));
  return JSON.stringify({
    cidr: blockCidr(node, block),
    affinity: `host:${nodeName(node)}`,
    allocations,
    unallocated: allocations.flatMap((taken, ordinal) => (taken === null ? [ordinal] : [])),
    attributes,
    sequenceNumber: used,
    sequenceNumberForAllocation: {},
    deleted: false,
  });
}

/** Everything that such a cluster has in its store. */
function* contents(): Generator<[string, string]> {
  yield v3('IPPool', 'pods', { cidr: '10.0.0.0/12', vxlanMode: 'Always', ipipMode: 'Never', blockSize: 26 });
  for (let node = 0; node < NODES; node++) {
    yield v3('Node', nodeName(node), {
      bgp: { ipv4Address: `${nodeAddress(node)}/16` },
      ipv4VXLANTunnelAddr: address(blockBase(node, 0)),
    });
    for (let block = 0; block < BLOCKS; block++) {
      const cidr = blockCidr(node, block);
      const used = Math.min(BLOCK_SIZE, PODS + 1 - block * BLOCK_SIZE);
      yield [blockKey(cidr), blockValue(node, block, used)];
      yield [affinityKey(nodeName(node), cidr), JSON.stringify({ state: 'confirmed' })];
    }
    for (let pod = 1; node > 0 && pod <= PODS; pod++) {
      yield v3(
        'WorkloadEndpoint',
        `${nodeName(node).replaceAll('-', '--')}-k8s-pod--${node}--${pod}-eth0`,
        {
          node: nodeName(node),
          orchestrator: 'k8s',
          pod: `pod-${node}-${pod}`,
          endpoint: 'eth0',
          interfaceName: `cali${(node * 1000 + pod).toString(16).padStart(11, '0')}`,
          ipNetworks: [`${address(blockBase(node, 0) + pod)}/32`],
        },
        'default',
      );
    }
  }
}

async function fill(store: KeyValueStore): Promise<void> {
  const items = contents();
  const write = async () => {
    for (const [key, value] of items) await store.put(key, value);
  };
  await Promise.all(Array.from({ length: WRITERS }, write));
}

class ManyNodes {
  readonly #lab = new Lab();
  readonly #context: BenchContext;
  readonly #store = new EtcdStore({ endpoints: [ENDPOINT] });
  #agent: Service | null = null;
  #changes = 0;

  private constructor(context: BenchContext) {
    this.#context = context;
  }

  /** etcd with everything in it, and a node beside it. */
  static async build(context: BenchContext): Promise<ManyNodes> {
    const many = new ManyNodes(context);
    try {
      await many.#build();
    } catch (error) {
      await many.close();
      throw error;
    }
    return many;
  }

  async #build(): Promise<void> {
    const lab = this.#lab;
    await lab.netns(OURS);
    await run('ip', ['link', 'add', 'store', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', OURS]);
    await run('ip', ['addr', 'add', `${STORE_ADDRESS}/16`, 'dev', 'store']);
    await run('ip', ['link', 'set', 'store', 'up']);
    await lab.ip(OURS, 'link set eth0 up', `addr add ${nodeAddress(0)}/16 dev eth0`);
    const urls = ['--listen-client-urls', ENDPOINT, '--advertise-client-urls', ENDPOINT];
    const args = [...urls, '--data-dir', join(lab.folder, 'etcd'), '--log-level', 'error'];
    this.#etcd = spawn('etcd', args, { stdio: 'ignore' });
    await until('etcd answers', async () => {
      if (this.#etcd?.exitCode !== null) throw new Error('etcd ended at once');
      return fetch(`${ENDPOINT}/health`).then(
        ({ ok }) => ok,
        () => false,
      );
    });
    this.#context.log(`filling etcd with ${NODES} nodes of ${PODS} pods`);
    await fill(this.#store);
  }

  #etcd: ChildProcess | null = null;

  get #api(): ApiClient {
    return new ApiClient(apiOf(this.#lab, OURS));
  }

  /** Start an agent; seconds until its table has every block of every node. */
  async start(): Promise<number> {
    const begun = performance.now();
    this.#agent = startAgent(this.#lab, this.#context, OURS, {
      datastore: { kind: 'etcd', endpoints: [ENDPOINT] },
    });
    // The last to be written: whoever has it may have all.
    const last = address(blockBase(NODES - 1, BLOCKS - 1) + 1);
    while (performance.now() - begun < START_LIMIT_MS) {
      if (this.#agent.ended) throw new Error(`the agent ended: ${this.#agent.said || 'without a word'}`);
      const found = await this.#api.lookup(last).catch(() => null);
      if (found?.route.via === 'vxlan') {
        const seconds = (performance.now() - begun) / 1000;
        const routes = (await this.#api.routes()).filter(({ via }) => via === 'vxlan').length;
        // A block and a tunnel address each.
        const wanted = (NODES - 1) * (BLOCKS + 1);
        if (routes < wanted) throw new Error(`${routes} routes of ${wanted} at the first answer`);
        return seconds;
      }
      await sleep(POLL_MS);
    }
    throw new Error(`not all routes are there after ${START_LIMIT_MS / 1000} s`);
  }

  /** Resident memory, MiB. */
  async resident(): Promise<number> {
    const { pid } = await this.#api.nodeStatus();
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
  }

  /** Other nodes take blocks, one after another: ms from before the write until a packet to it would take the new route, p99. */
  async change(count: number): Promise<number> {
    // What the start has left to do is not what is measured.
    await sleep(CALM_MS);
    const times: number[] = [];
    for (let i = 0; i < count; i++) {
      // Behind all that is taken already.
      const node = 1 + (i % (NODES - 1));
      const base = (NODES * BLOCKS + this.#changes++) * BLOCK_SIZE;
      const cidr = `${address(base)}/26`;
      const value = JSON.stringify({ ...JSON.parse(blockValue(node, 0, 0)), cidr });
      const begun = performance.now();
      await this.#store.put(blockKey(cidr), value);
      while ((await this.#api.lookup(address(base + 1))).route.via !== 'vxlan') {
        if (performance.now() - begun > START_LIMIT_MS) throw new Error(`no route to ${cidr}`);
        await sleep(4);
      }
      times.push(performance.now() - begun);
      // Somebody else's time, so that changes do not come in step with reconciles.
      await sleep(Math.random() * 50);
    }
    times.sort((a, b) => a - b);
    const at = (share: number) => times[Math.ceil(share * times.length) - 1]!.toFixed(0);
    this.#context.log(`p50 ${at(0.5)}, p90 ${at(0.9)}, p99 ${at(0.99)}, most ${at(1)} ms`);
    return times[Math.ceil(0.99 * times.length) - 1]!;
  }

  /** The agent ends, and all that it made goes. */
  async clear(): Promise<void> {
    await this.#agent?.stop();
    this.#agent = null;
    const main = join(this.#context.root, 'dist/control/cli/main.js');
    await this.#lab.run(OURS, process.execPath, [main, 'purge', '--node', OURS]);
  }

  async close(): Promise<void> {
    await this.#agent?.stop();
    await this.#store.close();
    if (this.#etcd && this.#etcd.exitCode === null) {
      this.#etcd.kill('SIGKILL');
      await once(this.#etcd, 'exit');
    }
    await run('ip', ['link', 'del', 'store']).catch(() => {});
    await this.#lab.close();
  }
}

async function prepare(
  context: BenchContext,
  measure: (many: ManyNodes) => Promise<number>,
): Promise<Prepared> {
  const many = await ManyNodes.build(context);
  return {
    setting: `${NODES} nodes of ${PODS} pods in etcd, Node ${process.version}`,
    ours: () => measure(many),
    peers: {},
    close: () => many.close(),
  };
}

/** Each round begins with a new agent. */
const entry = (
  name: string,
  unit: string,
  measure: (many: ManyNodes, started: number, context: BenchContext) => Promise<number>,
): BenchEntry => ({
  name,
  unit,
  better: 'lower',
  peers: [],
  prepare: (context) =>
    prepare(context, async (many) => {
      const started = await many.start();
      const figure = await measure(many, started, context);
      await many.clear();
      return figure;
    }),
});

export const entries: BenchEntry[] = [
  entry('node-start', 's from start to all routes', async (_, started) => started),
  entry('node-rss', 'MiB resident', async (many) => {
    await sleep(CALM_MS);
    return many.resident();
  }),
  entry('node-change', 'ms p99', (many, _, { quick }) => many.change(quick ? QUICK_CHANGES : CHANGES)),
];
