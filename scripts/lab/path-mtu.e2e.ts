/** Paths between nodes that take less than the nodes' devices: a router in the middle says so, as routers do. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import { expectBalanced } from './account.ts';
import { Cluster, type Mode, nodeAddress, nodeName } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { ping, tcp } from './traffic.ts';

const ROUTER = 'router';
const ROUTER_ADDRESS = '192.0.2.250';
const OVERHEAD = { vxlan: 50, ipip: 20 } as const;
const POD = '10.65.2.2';

describe.skipIf(noLab)('a path that takes less', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 1, bgp: 'mesh', mode: 'vxlan' });
    const { lab } = cluster;
    await lab.netns(ROUTER);
    await lab.veth(ROUTER, 'eth0', 'underlay', ROUTER);
    await lab.ip('underlay', `link set ${ROUTER} master br0`);
    await lab.sysctl(
      ROUTER,
      'net.ipv4.ip_forward=1',
      'net.ipv4.conf.all.send_redirects=0',
      'net.ipv4.conf.eth0.send_redirects=0',
    );
    await lab.ip(ROUTER, `addr add ${ROUTER_ADDRESS}/24 dev eth0`);
    await narrow(1400);
    for (const [from, to] of [
      [1, 2],
      [2, 1],
    ] as const) {
      await lab.ip(nodeName(from), `route add ${nodeAddress(to)}/32 via ${ROUTER_ADDRESS}`);
    }
  });
  afterAll(() => cluster?.close());

  /** What the router's links to the nodes take from now on. */
  const narrow = (mtu: number) =>
    cluster.lab.ip(
      ROUTER,
      ...[1, 2].map((node) => `route replace ${nodeAddress(node)}/32 dev eth0 mtu lock ${mtu}`),
    );
  const known = async (node: number) =>
    (await cluster.api(node).pathMtus()).map(({ peer, mtu, from }) => ({ peer, mtu, from }));
  /** Whether a packet of the pod's of this size, with DF, arrives. */
  const passes = async (size: number) =>
    (await ping(cluster.lab, 'pod1a', POD, ['-c', '1', '-M', 'do', '-s', String(size - 28)])).received === 1;

  it.each<Exclude<Mode, 'direct'>>(['vxlan', 'ipip'])(
    '%s: TCP goes on, and senders are told what fits',
    async (mode) => {
      await cluster.switchTo(mode);
      expect(await tcp(cluster.lab, 'pod1a', 'pod2a', POD, ['-n', '20M'])).toBeGreaterThan(1e6);
      expect(await known(1)).toEqual([{ peer: nodeAddress(2), mtu: 1400, from: ROUTER_ADDRESS }]);
      const fits = 1400 - OVERHEAD[mode];
      // The pod's kernel remembers what TCP was told.
      await cluster.lab.ip('pod1a', 'route flush cache');
      expect(await passes(fits)).toBe(true);
      const tooBig = await ping(cluster.lab, 'pod1a', POD, [
        '-c',
        '1',
        '-M',
        'do',
        '-s',
        String(fits + 1 - 28),
      ]);
      expect(tooBig.received).toBe(0);
      expect(tooBig.output).toMatch(new RegExp(`mtu ?= ?${fits}`));
    },
  );

  it.each<Exclude<Mode, 'direct'>>(['vxlan', 'ipip'])(
    '%s: what has no DF arrives in pieces',
    async (mode) => {
      await cluster.switchTo(mode);
      // A path is learned by what is lost on it, here on the way back.
      await until('both nodes know the path', async () => {
        await ping(cluster.lab, 'pod1a', POD, ['-c', '1', '-M', 'dont', '-s', '1400']);
        return (await known(1)).length > 0 && (await known(2)).length > 0;
      });
      for (const size of ['1400', '4000']) {
        expect(await ping(cluster.lab, 'pod1a', POD, ['-M', 'dont', '-s', size])).toMatchObject({
          received: 3,
        });
      }
    },
  );

  it('that shrinks while a connection lasts is noticed at once', async () => {
    await cluster.switchTo('vxlan');
    const transfer = tcp(cluster.lab, 'pod1a', 'pod2a', POD, ['-n', '60M', '-b', '300M']);
    await until('the transfer goes on', async () => {
      const [port] = (await cluster.api(1).ports()).filter(({ name }) => name === 'vxlan');
      return (port?.counters.txFrames ?? 0) > 1000;
    });
    await narrow(1280);
    expect(await transfer).toBeGreaterThan(30e6);
    expect(await known(1)).toMatchObject([{ mtu: 1280 }]);
  });

  it('by the kernel’s own route is found out where packets are refused', async () => {
    await cluster.lab.ip(
      nodeName(1),
      `route replace ${nodeAddress(2)}/32 via ${ROUTER_ADDRESS} mtu lock 1200`,
    );
    await until('the route is known', async () => {
      await passes(1230);
      return (await known(1)).some(
        ({ mtu, from }) => mtu === 1200 && (from === 'route' || from === nodeAddress(1)),
      );
    });
    expect(await passes(1150)).toBe(true);
    expect(await passes(1151)).toBe(false);
  });

  it('keeps its account', async () => {
    await expectBalanced(cluster, 1);
    await expectBalanced(cluster, 2);
  });
});
