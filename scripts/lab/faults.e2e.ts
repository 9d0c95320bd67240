/** A network that loses, repeats, delays, reorders and damages packets, made at the port of a tunnel. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectBalanced } from './account.ts';
import { Cluster } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { ping, tcp } from './traffic.ts';

const WAY = { loss: 0.005, corrupt: 0.005, truncate: 0.002, reorder: 0.02 };
const faults = [
  { port: 'vxlan', seed: 7, from: WAY, to: { ...WAY, duplicate: 0.01, delay: 0.02, delayMs: 5 } },
];

describe.skipIf(noLab)('with faults at its VXLAN port', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.create({
      nodes: 2,
      podsPerNode: 1,
      bgp: 'mesh',
      mode: 'vxlan',
      settings: { faults },
    });
  });
  afterAll(() => cluster?.close());

  it('a node carries TCP all the same', async () => {
    expect(await tcp(cluster.lab, 'pod1a', 'pod2a', '10.65.2.2', ['-n', '3M'])).toBeGreaterThan(1e6);
  });

  it('a node says so, and pings are lost', async () => {
    const problems = await cluster.tortie(1, 'config', 'show', '--node', 'node1');
    expect(problems).toContain('faults are injected at port vxlan');
    const { sent, received } = await ping(cluster.lab, 'pod1a', '10.65.2.2', [
      '-c',
      '1000',
      '-i',
      '0.002',
      '-W',
      '1',
    ]);
    expect(sent).toBe(1000);
    expect(received).toBeGreaterThan(900);
    expect(received).toBeLessThan(1000);
  });

  it('a node keeps its account', async () => {
    await expectBalanced(cluster, 1);
    await expectBalanced(cluster, 2);
  });
});
