/** What tests of workers stand on: pods in namespaces of their own, a node's tables, and what runs on them. Needs root. */

import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';
import { createCounters, readPortCounters } from './counters.ts';
import { createEvidence } from './evidence.ts';
import * as adj from './fib/adjacency.ts';
import { AdjacencyWriter } from './fib/adjacency-writer.ts';
import { createFib4 } from './fib/fib4.ts';
import { Fib4Writer } from './fib/fib4-writer.ts';
import { createFib6 } from './fib/fib6.ts';
import { createGroups } from './fib/groups.ts';
import { createPeers, PeerWriter } from './fib/peers.ts';
import { createPeers6 } from './fib/peers6.ts';
import { createEpochs, GracePeriods } from './memory/grace.ts';
import type { SharedTables } from './memory/layout.ts';
import type { PortKind, PortSpec } from './messages.ts';
import { native, type Tap } from './native/index.ts';
import { ip4, mac } from './scenario.ts';
import { spawnWorker, type WorkerHandle } from './spawn.ts';
import type { TracedPacket } from './trace.ts';

const run = promisify(execFile);
const tag = `ttw${process.pid}`;
export const isRoot = process.getuid?.() === 0;
export const MAC_A = mac('02:00:00:00:00:0a');

const namespaces: string[] = [];

export function namespace(name: string): string {
  const full = `${tag}${name}`;
  execFileSync('ip', ['netns', 'add', full]);
  namespaces.push(full);
  return full;
}
export const ip = (netns: string, ...args: string[]) => execFileSync('ip', ['-n', netns, ...args]);
export const ping = async (netns: string, to: string, ...args: string[]) =>
  (await run('ip', ['netns', 'exec', netns, 'ping', '-n', ...args, to])).stdout;

/** A pod: its namespace, TAP, address and default route as Calico gives them. */
export function openPod(netns: string, address: string, hardware: Uint8Array, queues = 1): Tap {
  const tap = native().tapOpen({ netns, name: 'eth0', queues, mac: hardware, mtu: 1450, up: true });
  ip(netns, 'addr', 'add', `${address}/32`, 'dev', 'eth0');
  ip(netns, 'route', 'add', '169.254.1.1', 'dev', 'eth0', 'scope', 'link');
  ip(netns, 'route', 'add', 'default', 'via', '169.254.1.1');
  return tap;
}

/** A node's tables and its one worker. */
export class TestNode {
  readonly tables: SharedTables = {
    fib4: createFib4(),
    fib6: createFib6(),
    adjacencies: adj.createAdjacencies(),
    groups: createGroups(),
    peers: createPeers(),
    peers6: createPeers6(),
    counters: createCounters(),
    evidence: createEvidence(),
    epochs: createEpochs(),
  };
  readonly logs: string[] = [];
  readonly traces: TracedPacket[] = [];
  readonly #grace = new GracePeriods(this.tables.epochs);
  readonly #fib = new Fib4Writer(this.tables.fib4, this.#grace);
  readonly #adjacencies = new AdjacencyWriter(this.tables.adjacencies, this.#grace);
  readonly peers = new PeerWriter(this.tables.peers);
  worker!: WorkerHandle;

  async start(address: number, vtepMac: Uint8Array): Promise<void> {
    this.worker = await spawnWorker({
      index: 0,
      tables: this.tables,
      onLog: (_, message) => this.logs.push(message),
      onTrace: (packets) => this.traces.push(...packets),
    });
    await this.worker.send({
      type: 'node',
      node: { address, local: [address], vtepMac, vni: 4096, icmpRate: 100 },
    });
  }

  spec(
    id: number,
    kind: PortKind,
    fds: number[],
    hardware?: Uint8Array,
    source?: string,
    readers: readonly number[] = [0],
  ): PortSpec {
    const sources = source ? [ip4(source), -1] : [];
    return {
      id,
      kind,
      name: `${kind}${id}`,
      fds,
      readers,
      mac: hardware ?? null,
      sources,
      mtu: 1450,
    };
  }

  attach(id: number, kind: PortKind, fds: number[], hardware?: Uint8Array, source?: string): Promise<void> {
    return this.worker.send({ type: 'attach', port: this.spec(id, kind, fds, hardware, source) });
  }

  route(prefix: string, length: number, to: Partial<adj.Adjacency> & { kind: number }): void {
    const none = { port: 0, nextHop: 0, mtu: 0, source: 0, dmac: null, smac: null, vni: 0 };
    this.#fib.set(ip4(prefix), length, this.#adjacencies.acquire({ ...none, ...to }));
  }

  counters(port: number) {
    return readPortCounters(new Float64Array(this.tables.counters), port);
  }
}

export function removeNamespaces(): void {
  for (const name of namespaces) {
    try {
      execFileSync('ip', ['netns', 'del', name]);
    } catch (error) {
      console.log(`left behind: ${name}: ${String(error)}`);
    }
  }
}
