import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import { dropped, expectBalanced } from './account.ts';
import { type Bgp, block, Cluster, Daemon, type Mode, nodeAddress, tunnelAddress } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { ping, tcp, wire } from './traffic.ts';

const WIRE: Record<Mode, { filter: string; proof: RegExp }> = {
  ipip: { filter: 'ip proto 4', proof: /IPIP \(4\)/ },
  direct: { filter: 'icmp', proof: /10\.65\.1\.2 > 10\.65\.2\.2/ },
  vxlan: { filter: 'udp port 4789', proof: /VXLAN, flags \[I\] \(0x08\), vni 4096/ },
};

describe.skipIf(noLab).each<Bgp>(['bird', 'mesh'])('two nodes, routes by %s', (bgp) => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 2, bgp, mode: 'ipip', settings: { workers: 2 } });
  });
  afterAll(() => cluster?.close());

  it('gives a pod its route and its gateway’s MAC', async () => {
    const { lab } = cluster;
    expect(await lab.run('pod1a', 'ip', ['route'])).toMatch(
      /default via 169\.254\.1\.1 dev eth0\s+169\.254\.1\.1 dev eth0 scope link/,
    );
    expect(await ping(lab, 'pod1a', '10.65.1.3')).toMatchObject({ sent: 3, received: 3, ttl: 63 });
    expect(await lab.run('pod1a', 'arp', ['-n'])).toMatch(/169\.254\.1\.1 .*ee:ee:ee:ee:ee:ee/);
  });

  describe.each<Mode>(['ipip', 'direct', 'vxlan'])('%s', (mode) => {
    beforeAll(() => cluster.switchTo(mode));

    it('carries ping across nodes with ttl 62, in that mode on the wire', async () => {
      const { filter, proof } = WIRE[mode];
      const seen = await wire(cluster.lab, 'underlay', 'node1', filter, async () => {
        expect(await ping(cluster.lab, 'pod1a', '10.65.2.2')).toMatchObject({
          sent: 3,
          received: 3,
          ttl: 62,
        });
      });
      expect(seen).toMatch(proof);
    });

    // iperf3 ends when all is sent; what is still on its way does not count as received.
    it('carries TCP both ways', async () => {
      expect(await tcp(cluster.lab, 'pod1a', 'pod2a', '10.65.2.2')).toBeGreaterThan(1e6);
      expect(await tcp(cluster.lab, 'pod2b', 'pod1b', '10.65.1.3')).toBeGreaterThan(1e6);
    });

    it('joins hosts and pods, here and on the other node', async () => {
      const { lab } = cluster;
      expect(await ping(lab, 'node1', '10.65.1.2')).toMatchObject({ received: 3, ttl: 64 });
      expect(await ping(lab, 'node1', '10.65.2.2')).toMatchObject({ received: 3, ttl: 63 });
      expect(await ping(lab, 'pod1a', nodeAddress(1))).toMatchObject({ received: 3, ttl: 64 });
      expect(await ping(lab, 'pod1a', tunnelAddress(1))).toMatchObject({ received: 3, ttl: 64 });
      expect(await ping(lab, 'pod1a', nodeAddress(2))).toMatchObject({ received: 3 });
      expect(await tcp(lab, 'node1', 'pod2a', '10.65.2.2', ['-n', '2M'])).toBeGreaterThan(0);
    });

    it('tells a sender with DF what fits', async () => {
      const { lab } = cluster;
      const fits = { ipip: 1480, vxlan: 1450, direct: 1500 }[mode];
      expect(await ping(lab, 'pod1a', '10.65.2.2', ['-M', 'do', '-s', String(fits - 28)])).toMatchObject({
        received: 3,
      });
      const tooBig = await ping(lab, 'pod1a', '10.65.2.2', ['-M', 'do', '-s', String(fits - 27)]);
      expect(tooBig.received).toBe(0);
    });

    it('shows routes with where they came from', async () => {
      const routes = await cluster.tortie(1, 'show', 'routes', '--node', 'node1');
      const origin =
        mode === 'vxlan' ? 'datastore node node2' : bgp === 'bird' ? 'bgp 192.0.2.254' : 'bgp 192.0.2.2';
      expect(routes).toMatch(
        new RegExp(`${block(2).replaceAll('.', '\\.')}\\s+192\\.0\\.2\\.2\\s+${mode}\\s.*${origin}`),
      );
    });
  });

  it('changes modes without a moment in which the host has no route to a block', async () => {
    const { lab } = cluster;
    const to = block(2);
    await cluster.switchTo('direct');
    const command = ['ip', '-4', '-N', 'monitor', 'route'];
    const monitor = new Daemon('node1', command, join(lab.folder, 'monitor.log'));
    try {
      const probe = '198.51.100.1';
      await until('the monitor listens', async () => {
        await lab.ip('node1', `route add ${probe} dev lo`, `route del ${probe} dev lo`);
        return monitor.output.includes(probe);
      });
      for (const mode of ['vxlan', 'ipip', 'direct', 'ipip', 'vxlan', 'direct', 'vxlan'] as const) {
        const before = monitor.output.length;
        await cluster.switchTo(mode);
        const way = mode === 'direct' ? `via ${nodeAddress(2)} ` : 'dev tortie0 ';
        // Datastore and BGP have protocols of their own.
        const parts = [`${to} `, way, `proto ${mode === 'vxlan' ? 84 : 85} `];
        await until(`the kernel knows the way by ${mode}`, () =>
          monitor.output
            .slice(before)
            .split('\n')
            .some((line) => parts.every((part) => line.includes(part))),
        );
      }
      expect(monitor.output).not.toContain(`Deleted ${to} `);
    } finally {
      await monitor.stop();
    }
  });

  // Once is enough: it has nothing to do with who tells the routes.
  if (bgp === 'mesh') {
    it('explains what would become of a packet as it becomes of it', async () => {
      await cluster.switchTo('vxlan');
      const { lab } = cluster;
      const file = join(lab.folder, 'trace.pcapng');
      const tracing = cluster.tortie(
        1,
        'trace',
        '--node',
        'node1',
        'icmp and dst host 10.65.2.2',
        '--port',
        'calipod1a',
        '--count',
        '1',
        '--write',
        file,
      );
      await until('a packet is traced', async () => {
        await ping(lab, 'pod1a', '10.65.2.2', ['-c', '1']);
        return existsSync(file) && readFileSync(file).length > 200;
      });
      await tracing;
      const comment = await lab.run('node1', 'tshark', [
        '-n',
        '-r',
        file,
        '-T',
        'fields',
        '-e',
        'frame.comment',
      ]);
      const told = await cluster.tortie(
        1,
        'explain',
        '--node',
        'node1',
        '--from',
        '10.65.1.2',
        '--to',
        '10.65.2.2',
        '--size',
        '84',
      );
      const lines = told
        .trim()
        .split('\n')
        .slice(1)
        .map((line) => line.trim());
      // All but the source port, which the flow has by its hash, is the same of both: one echo request as of the other.
      expect(
        comment
          .trim()
          .split('\\n')
          .map((line) => line.trim()),
      ).toEqual(lines);
      expect(lines.at(-1)).toBe('=> sent on vxlan');
      expect(lines.join()).toMatch(/look-up 10\.65\.2\.2: 10\.65\.2\.0\/26 vxlan, from datastore node node2/);
      const tooBig = JSON.parse(
        await cluster.tortie(
          1,
          'explain',
          '--node',
          'node1',
          '--from',
          'default/pod1a',
          '--to',
          '10.65.2.2',
          '--size',
          '1451',
          '--json',
        ),
      );
      expect(tooBig).toMatchObject({ verdict: 'dropped: too_big', from: 'calipod1a' });
      expect(tooBig.steps.map(({ text }: { text: string }) => text)).toContain('1451 bytes where 1450 fit');
      // The host speaks from the address that its route has.
      const [, source] = (await lab.run('node1', 'ip', ['route', 'get', '10.65.2.2'])).match(/ src (\S+)/)!;
      const byHost = await cluster.tortie(
        1,
        'explain',
        '--node',
        'node1',
        '--from',
        'host',
        '--to',
        '10.65.2.2',
      );
      expect(byHost.split(' ')[0]).toBe(source);
      const account = await cluster.api(1).ports();
      expect(account.every(({ counters }) => (counters.icmpLimited ?? 0) === 0)).toBe(true);
    });
  }

  it('answers TTL 1 with 11/0 and a blackholed address with silence', async () => {
    const { lab } = cluster;
    const expired = await ping(lab, 'pod1a', '10.65.2.2', ['-t', '1']);
    expect(expired.received).toBe(0);
    expect(expired.output).toMatch(/From 192\.0\.2\.1 .*Time to live exceeded/);
    const silent = await ping(lab, 'pod1a', '10.65.1.60', ['-W', '1']);
    expect(silent.output).not.toMatch(/From /);
    expect(await dropped(cluster, 1, 'calipod1a', 'blackhole')).toBeGreaterThanOrEqual(3);
  });

  it('keeps its account', async () => {
    await expectBalanced(cluster, 1);
    await expectBalanced(cluster, 2);
  });
});
