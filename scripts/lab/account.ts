/** The account of a node at a quiet point, as its CLI shows it. */
import { expect } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import type { Cluster } from './cluster.ts';

/** rx = delivered + consumed + held + drops holds for every ingress port of the node, in frames. */
export async function expectBalanced(cluster: Cluster, node: number): Promise<void> {
  const api = cluster.api(node);
  // A frame may be between two counters while someone sends; in a lab the wire falls silent soon.
  await until(`the account of node ${node} balances`, async () => {
    const [ports, drops] = [await api.ports(), await api.drops()];
    return ports.every(({ name, counters }) => {
      const dropped = drops.filter((drop) => drop.port === name).reduce((sum, drop) => sum + drop.packets, 0);
      return counters.rxFrames === counters.delivered! + counters.consumed! + counters.held! + dropped;
    });
  });
  const ports = await api.ports();
  expect(ports.reduce((sum, port) => sum + port.counters.rxFrames!, 0)).toBeGreaterThan(0);
}

/** Frames that a port dropped for a reason so far. */
export async function dropped(cluster: Cluster, node: number, port: string, reason: string): Promise<number> {
  const drops = await cluster.api(node).drops();
  return drops.find((drop) => drop.port === port && drop.reason === reason)?.packets ?? 0;
}
