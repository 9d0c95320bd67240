/** Every way of every tunnel, over a link that passes super-frames and over a plain wire. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TunnelWay } from '../../dataplane/messages.ts';
import { expectBalanced } from './account.ts';
import { Cluster, ROOT } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { ping, tcp, wire } from './traffic.ts';

/** The offloads of a link's ends that make it a plain wire: nothing larger than its MTU, all checksums complete. */
const PLAIN = ['tx', 'off', 'tso', 'off', 'gso', 'off'];
const PASSING = ['tx', 'on', 'tso', 'on', 'gso', 'on', 'tx-udp-segmentation', 'on'];
const SEGMENTED = join(ROOT, 'scripts/lab/segmented.py');
/** Frames longer than an underlay of MTU 1500 carries. */
const TOO_LONG = 'greater 1515';

/** What a receiver that is too slow loses, and what kernels say of their own accord. */
const EVERYDAY = new Set(['tx_full', 'arp_silent', 'nd_silent', 'mld']);

describe.skipIf(noLab).each<TunnelWay>(['host', 'sockets', 'plain'])('way %s', (way) => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.create({
      nodes: 2,
      podsPerNode: 1,
      bgp: 'mesh',
      mode: 'vxlan',
      settings: { offload: { vxlan: way, ipip: way } },
    });
  });
  afterAll(() => cluster?.close());

  const setLink = async (features: readonly string[]) => {
    for (const node of ['node1', 'node2'])
      await cluster.lab.run(node, 'ethtool', ['-K', 'eth0', ...features]);
  };

  describe.each(['vxlan', 'ipip'] as const)('%s', (mode) => {
    beforeAll(() => cluster.switchTo(mode));

    it('is what the ports say', async () => {
      const ports = await cluster.api(1).ports();
      expect(ports.find(({ kind }) => kind === mode)).toMatchObject({ way, wayReason: 'as configured' });
    });

    it('carries small packets and TCP, over either link', async () => {
      const { lab } = cluster;
      for (const features of [PASSING, PLAIN]) {
        await setLink(features);
        expect(await ping(lab, 'pod1a', '10.65.2.2')).toMatchObject({ received: 3, ttl: 62 });
        expect(await tcp(lab, 'pod1a', 'pod2a', '10.65.2.2')).toBeGreaterThan(1e6);
        expect(await tcp(lab, 'pod2a', 'pod1a', '10.65.1.2')).toBeGreaterThan(1e6);
      }
    });

    it('carries datagrams that came many at a time as they were, over either link', async () => {
      const { lab } = cluster;
      for (const features of [PASSING, PLAIN]) {
        await setLink(features);
        const receiver = await lab.start('pod2a', 'python3', [SEGMENTED, 'receive', '7001', '1100']);
        await lab.run('pod1a', 'python3', [SEGMENTED, 'send', '10.65.2.2', '7001', '1200']);
        expect(await receiver.line()).toBe('600:100 1200:1000');
      }
    });

    it('puts nothing on a plain wire that it could not carry', async () => {
      const { lab } = cluster;
      await setLink(PLAIN);
      const seen = await wire(lab, 'underlay', 'node1', TOO_LONG, async () => {
        expect(await tcp(lab, 'pod1a', 'pod2a', '10.65.2.2')).toBeGreaterThan(1e6);
      });
      expect(seen).toBeNull();
    });

    it('keeps its account and refuses nothing', async () => {
      await expectBalanced(cluster, 1);
      await expectBalanced(cluster, 2);
      const drops = [...(await cluster.api(1).drops()), ...(await cluster.api(2).drops())];
      expect(drops.filter(({ reason }) => !EVERYDAY.has(reason))).toEqual([]);
    });
  });
});
