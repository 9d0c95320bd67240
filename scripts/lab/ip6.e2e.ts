import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { until } from '../../control/bgp/until.ts';
import { expectBalanced } from './account.ts';
import { block6, Cluster, type Mode, nodeAddress6, tunnelAddress6 } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { ping, tcp, wire } from './traffic.ts';

const WIRE = {
  direct: { filter: 'icmp6 and ip6[40] == 128', proof: /fd65:0:0:1::2 > fd65:0:0:2::2/ },
  vxlan: { filter: 'ip6 and udp port 4789', proof: /VXLAN, flags \[I\] \(0x08\), vni 4096/ },
};

describe.skipIf(noLab)('IPv6 between dual-stack pods of two nodes', () => {
  let cluster: Cluster;
  const pod = (name: string) => cluster.pod(name).address6;
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 2, bgp: 'mesh', mode: 'vxlan', ip6: true });
  });
  afterAll(() => cluster?.close());

  it('gives a pod its default route by the gateway’s link-local address, which is there', async () => {
    const { lab } = cluster;
    expect(await lab.run('pod1a', 'ip', ['-6', 'route'])).toMatch(
      /default via fe80::ecee:eeff:feee:eeee dev eth0/,
    );
    expect(await ping(lab, 'pod1a', pod('pod1b'))).toMatchObject({ sent: 3, received: 3, ttl: 63 });
    expect(await lab.run('pod1a', 'ip', ['-6', 'neigh'])).toMatch(
      /fe80::ecee:eeff:feee:eeee dev eth0 lladdr ee:ee:ee:ee:ee:ee router/,
    );
    expect(await tcp(lab, 'pod1a', 'pod1b', pod('pod1b'))).toBeGreaterThan(1e6);
  });

  describe.each<Mode & keyof typeof WIRE>(['vxlan', 'direct'])('%s', (mode) => {
    const via = mode === 'vxlan' ? 'vxlan6' : mode;
    beforeAll(async () => {
      await cluster.switchTo(mode);
      for (const [own, other] of [
        [1, 2],
        [2, 1],
      ] as const) {
        await until(`node${own} routes IPv6 by ${mode}`, async () => {
          const routes = await cluster.api(own).routes();
          return routes.find((route) => route.prefix === block6(other))?.via === via;
        });
      }
    });

    it('carries ping across nodes with hop limit 62, in that mode on the wire', async () => {
      const { filter, proof } = WIRE[mode];
      const seen = await wire(cluster.lab, 'underlay', 'node1', filter, async () => {
        expect(await ping(cluster.lab, 'pod1a', pod('pod2a'))).toMatchObject({
          sent: 3,
          received: 3,
          ttl: 62,
        });
      });
      expect(seen).toMatch(proof);
    });

    it('carries TCP both ways', async () => {
      expect(await tcp(cluster.lab, 'pod1a', 'pod2a', pod('pod2a'))).toBeGreaterThan(1e6);
      expect(await tcp(cluster.lab, 'pod2b', 'pod1b', pod('pod1b'))).toBeGreaterThan(1e6);
    });

    it('joins hosts and pods, here and on the other node', async () => {
      const { lab } = cluster;
      expect(await ping(lab, 'node1', pod('pod1a'))).toMatchObject({ received: 3, ttl: 64 });
      expect(await ping(lab, 'node1', pod('pod2a'))).toMatchObject({ received: 3, ttl: 63 });
      expect(await ping(lab, 'pod1a', nodeAddress6(1))).toMatchObject({ received: 3, ttl: 64 });
      expect(await ping(lab, 'pod1a', tunnelAddress6(1))).toMatchObject({ received: 3, ttl: 64 });
    });

    it('tells a sender what fits', async () => {
      const fits = { vxlan: 1430, direct: 1500 }[mode];
      const whole = (size: number) => ['-M', 'do', '-s', String(size - 48)];
      expect(await ping(cluster.lab, 'pod1a', pod('pod2a'), whole(fits))).toMatchObject({ received: 3 });
      const tooBig = await ping(cluster.lab, 'pod1a', pod('pod2a'), whole(fits + 1));
      expect(tooBig.received).toBe(0);
    });
  });

  it('answers hop limit 1 with time exceeded from the node', async () => {
    const expired = await ping(cluster.lab, 'pod1a', pod('pod2a'), ['-t', '1']);
    expect(expired.received).toBe(0);
    expect(expired.output).toMatch(/From fd65:0:0:1::1 .*Time exceeded: Hop limit/);
  });

  it('shows the route of an address', async () => {
    const shown = await cluster.tortie(1, 'show', 'lookup', '--node', 'node1', pod('pod2a'));
    expect(shown).toMatch(/fd65:0:0:2::\/122\s+fd00::2\s+direct/);
  });

  it('goes in VXLAN over IPv4 while the other node has no IPv6 address', async () => {
    const file = join(cluster.resources, 'node-node2.yaml');
    const node = parse(readFileSync(file, 'utf8'));
    delete node.spec.bgp.ipv6Address;
    writeFileSync(file, stringify(node));
    await cluster.switchTo('vxlan');
    for (const [own, other] of [
      [1, 2],
      [2, 1],
    ] as const) {
      await until(`node${own} routes IPv6 by vxlan`, async () => {
        const routes = await cluster.api(own).routes();
        return routes.find((route) => route.prefix === block6(other))?.via === 'vxlan';
      });
    }
    const seen = await wire(cluster.lab, 'underlay', 'node1', 'ip and udp port 4789', async () => {
      expect(await ping(cluster.lab, 'pod1a', pod('pod2a'))).toMatchObject({ received: 3, ttl: 62 });
    });
    expect(seen).toMatch(WIRE.vxlan.proof);
    expect(await tcp(cluster.lab, 'pod1a', 'pod2a', pod('pod2a'))).toBeGreaterThan(1e6);
  });

  it('keeps its account', async () => {
    await expectBalanced(cluster, 1);
    await expectBalanced(cluster, 2);
  });
});
