/** A network that loses, repeats, delays, reorders and damages packets, made at the port of a tunnel. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectBalanced } from './account.ts';
import { Cluster, ROOT } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { ping } from './traffic.ts';

const TRANSFER = `${ROOT}/scripts/mtu/transfer.py`;
/** That a transfer may take. */
const SECONDS = 60;
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

  it('a node carries TCP all the same, every byte of it', async () => {
    const { lab } = cluster;
    const place = ['10.65.2.2', '9000', String(SECONDS)];
    const receiver = lab.spawn('pod2a', 'python3', [TRANSFER, 'receive', ...place]);
    try {
      // It listens.
      await receiver.line();
      const sent = JSON.parse(
        await lab.run('pod1a', 'python3', [TRANSFER, 'send', ...place, '3000000'], SECONDS * 1000),
      );
      let line = await receiver.line(SECONDS * 1000);
      while (!line.startsWith('{')) line = await receiver.line(SECONDS * 1000);
      expect(JSON.parse(line)).toMatchObject({ bytes: 3_000_000, sha256: sent.sha256, whole: true });
    } finally {
      await receiver.stop();
    }
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
