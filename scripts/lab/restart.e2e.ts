import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { stringify } from 'yaml';
import { MAX_KEPT_ROUTES } from '../../control/agent/learned.ts';
import { until } from '../../control/bgp/until.ts';
import { BURST } from '../../dataplane/memory/layout.ts';
import { expectBalanced } from './account.ts';
import { block, Cluster, Daemon } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { ping, tcp } from './traffic.ts';

/** A thousand pings a second, for longer than any restart takes. */
const PINGS = 6000;
const FLOOD = ['-q', '-i', '0.001', '-c', String(PINGS), '-W', '5'];

/** What a process that is killed has read and not sent yet, at most a burst, dies with it. */
const MOST_LOST = { SIGTERM: 0, SIGKILL: BURST };

/** The agent of node 1 ends and another starts, while pods here and there ping each other. */
async function restartUnderPings(cluster: Cluster, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  await ping(cluster.lab, 'pod1a', '10.65.2.2');
  const pinging = [
    ping(cluster.lab, 'pod1a', '10.65.2.2', FLOOD),
    ping(cluster.lab, 'pod2a', '10.65.1.2', FLOOD),
  ];
  await sleep(500);
  await cluster.agents.get(1)!.stop(signal);
  cluster.startAgent(1);
  await cluster.ready(1);
  for (const { sent, received, output } of await Promise.all(pinging)) {
    expect(sent).toBe(PINGS);
    expect(sent - received, output).toBeLessThanOrEqual(2 * MOST_LOST[signal]);
  }
}

describe.skipIf(noLab)('a restart', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 2, bgp: 'none', mode: 'vxlan' });
    await ping(cluster.lab, 'pod1a', '10.65.2.2');
    await ping(cluster.lab, 'pod1a', '10.65.1.3');
  });
  afterAll(() => cluster?.close());

  /** End node 1's agent and start the next; resolves when that one answers. */
  async function restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await cluster.agents.get(1)!.stop(signal);
    cluster.startAgent(1);
    await cluster.ready(1);
  }

  it.each([
    ['SIGTERM', 'through VXLAN', '10.65.2.2'],
    ['SIGKILL', 'through VXLAN', '10.65.2.2'],
    ['SIGTERM', 'on one node', '10.65.1.3'],
    ['SIGKILL', 'on one node', '10.65.1.3'],
  ] as const)('by %s loses no ping of a thousand a second %s', async (signal, _, address) => {
    const pinging = ping(cluster.lab, 'pod1a', address, FLOOD);
    await sleep(500);
    await restart(signal);
    const { sent, received, output } = await pinging;
    expect(sent).toBe(PINGS);
    expect(sent - received, output).toBeLessThanOrEqual(MOST_LOST[signal]);
  });

  it.each([
    ['through VXLAN', 'pod2a', '10.65.2.2'],
    ['on one node', 'pod1b', '10.65.1.3'],
  ] as const)('leaves a TCP connection whole %s', async (_, server, address) => {
    const transfer = tcp(cluster.lab, 'pod1a', server, address, ['-t', '6']);
    await sleep(1000);
    await restart('SIGTERM');
    await restart('SIGKILL');
    // More than the second before could carry: it went on behind them.
    expect(await transfer).toBeGreaterThan(10_000_000);
  });

  it('says what was taken over, and its account is right', async () => {
    const { restart: view } = await cluster.api(1).runtime();
    // Two pods, the host, one receiving and sixteen sending sockets.
    expect(view).toEqual({ holder: 'keeper', held: 20, inherited: 20, staleRoutes: 0, staleUntil: null });
    expect(await cluster.tortie(1, 'show', 'runtime', '--node', 'node1')).toContain(
      'A keeper holds 20 descriptors for the next agent. The one before left 20.',
    );
    await expectBalanced(cluster, 1);
  });

  it('opens anew what is no longer wanted as it was', async () => {
    await cluster.agents.get(1)!.stop();
    await cluster.lab.ip('pod1b', 'link del eth0');
    cluster.startAgent(1);
    await cluster.ready(1);
    await until('all but the old device is taken over', async () => {
      const { held, inherited } = (await cluster.api(1).runtime()).restart;
      return held === 20 && inherited === 19;
    });
    await until('the new device works', async () => {
      const { received } = await ping(cluster.lab, 'pod1b', '10.65.2.2');
      return received === 3;
    });
  });

  it('without an agent, purge ends the keeper', async () => {
    await cluster.agents.get(1)!.stop();
    const said = await cluster.tortie(1, 'purge', '--config', cluster.settingsFile(1));
    expect(said).toMatch(/removed keeper of node node1 \(pid \d+\)\n/);
    expect(await cluster.lab.run('node1', 'cat', ['/proc/net/unix'])).not.toContain('@tortie-keeper:node1');
    expect(await cluster.lab.run('pod1a', 'ip', ['-o', 'link'])).not.toContain('eth0');
  });
});

describe.skipIf(noLab)('routes that BGP told before a restart', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.create({
      nodes: 2,
      podsPerNode: 1,
      bgp: 'bird',
      mode: 'ipip',
      // BIRD takes three seconds until it tells a peer that has restarted.
      settings: { restart: { staleTime: 6 } },
    });
  });
  afterAll(() => cluster?.close());

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'and ours at our peers: by %s no ping is lost from here, nor from there',
    async (signal) => {
      await restartUnderPings(cluster, signal);
      // The reflector kept the routes until they were told anew, and then forgot that they were stale.
      expect(await cluster.birdc('show', 'route', 'all', block(1))).not.toContain('STALE');
    },
  );

  const isRouted = async () => (await cluster.api(1).routes()).some(({ prefix }) => prefix === block(2));

  it('stay while BGP is silent, for as long as they may', async () => {
    await cluster.agents.get(1)!.stop('SIGKILL');
    await cluster.birdc('disable', 'node1');
    cluster.startAgent(1);
    await until(
      'the agent answers',
      async () =>
        (
          await cluster
            .api(1)
            .ports()
            .catch(() => [])
        ).length > 2,
    );
    const { staleRoutes, staleUntil } = (await cluster.api(1).runtime()).restart;
    expect(staleRoutes).toBe(1);
    expect(await isRouted()).toBe(true);
    await until('the route is gone', async () => !(await isRouted()));
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(staleUntil!));
  });

  it('are fresh once BGP has told them', async () => {
    await cluster.birdc('enable', 'node1');
    await cluster.routed('ipip');
    await cluster.agents.get(1)!.stop('SIGKILL');
    cluster.startAgent(1);
    await cluster.ready(1);
    await until('the route is there and fresh', async () => {
      const { staleRoutes } = (await cluster.api(1).runtime()).restart;
      return staleRoutes === 0 && (await isRouted());
    });
  });
});

describe.skipIf(noLab)('beside more routes than are written down for the next agent, a restart', () => {
  const UPLINK = '192.0.2.240';
  const TOLD = MAX_KEPT_ROUTES + 10_000;
  const GONE = 1000;
  let cluster: Cluster;
  let uplink: Daemon;
  const file = (name: string) => join(cluster.lab.folder, name);

  /** The uplink tells so many prefixes. */
  function configure(count: number): void {
    const prefix = (i: number) => `20.${i >> 8}.${i & 255}.0/24`;
    const routes = Array.from({ length: count }, (_, i) => `route ${prefix(i)} blackhole;`);
    writeFileSync(
      file('uplink.conf'),
      `router id ${UPLINK};
       protocol device {}
       protocol static { ipv4; ${routes.join('\n')} }
       protocol bgp node1 {
         local ${UPLINK} as 64640; neighbor 192.0.2.1 as 64512; passive on; error wait time 1, 2;
         ipv4 { import all; export where source = RTS_STATIC; };
       }\n`,
    );
  }
  const birdc = (...command: string[]) =>
    cluster.lab.run('uplink', 'birdc', ['-s', file('uplink.ctl'), ...command], 20_000);
  const inKernel = async () =>
    (await cluster.lab.run('node1', 'sh', ['-c', 'ip route show proto 85 | wc -l'])).trim();
  const kernelHas = (count: number) =>
    until(`the kernel has ${count} routes`, async () => (await inKernel()) === String(count), 60_000);

  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 1, bgp: 'bird', mode: 'ipip' });
    await cluster.lab.netns('uplink');
    await cluster.plug('uplink', UPLINK);
    configure(TOLD);
    const command = [
      'bird',
      '-f',
      '-c',
      file('uplink.conf'),
      '-s',
      file('uplink.ctl'),
      '-P',
      file('uplink.pid'),
    ];
    uplink = new Daemon('uplink', command, file('uplink.log'));
    await until('BIRD answers', () => birdc('show', 'status').catch(() => null));
    const peer = {
      apiVersion: 'projectcalico.org/v3',
      kind: 'BGPPeer',
      metadata: { name: 'uplink' },
      spec: { node: 'node1', peerIP: UPLINK, asNumber: 64640 },
    };
    writeFileSync(join(cluster.resources, 'uplink.yaml'), stringify(peer));
    cluster.reload();
    await kernelHas(TOLD + 1);
  });
  afterAll(async () => {
    await uplink?.stop();
    await cluster?.close();
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'by %s loses no ping between pods, and leaves the kernel what is told then and no more',
    async (signal) => {
      await restartUnderPings(cluster, signal);
      await kernelHas(TOLD + 1);
    },
  );

  it('forgets what was withdrawn meanwhile', async () => {
    await cluster.agents.get(1)!.stop('SIGKILL');
    configure(TOLD - GONE);
    await birdc('configure');
    cluster.startAgent(1);
    await cluster.ready(1);
    await kernelHas(TOLD - GONE + 1);
    await until('all is well', async () => {
      const { problems } = (await cluster.api(1).config()) as { problems: string[] };
      return problems.length === 0;
    });
    expect(await inKernel()).toBe(String(TOLD - GONE + 1));
  });
});

describe.skipIf(noLab)('nodes of a mesh that restart together', () => {
  const UPLINK = '192.0.2.240';
  let cluster: Cluster;
  let uplink: Daemon;

  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 1, bgp: 'mesh', mode: 'ipip' });
    // It takes three seconds until it has told a peer that has restarted, who tells others only then.
    await cluster.lab.netns('uplink');
    await cluster.plug('uplink', UPLINK);
    const base = join(cluster.lab.folder, 'uplink');
    writeFileSync(
      `${base}.conf`,
      `router id ${UPLINK};
       protocol device {}
       protocol bgp node1 {
         local ${UPLINK} as 64640; neighbor 192.0.2.1 as 64512; passive on; error wait time 1, 2;
         ipv4 { import all; export all; };
       }\n`,
    );
    const command = ['bird', '-f', '-c', `${base}.conf`, '-s', `${base}.ctl`, '-P', `${base}.pid`];
    uplink = new Daemon('uplink', command, `${base}.log`);
    const peer = {
      apiVersion: 'projectcalico.org/v3',
      kind: 'BGPPeer',
      metadata: { name: 'uplink' },
      spec: { node: 'node1', peerIP: UPLINK, asNumber: 64640 },
    };
    writeFileSync(join(cluster.resources, 'uplink.yaml'), stringify(peer));
    cluster.reload();
    await until('the uplink has all', async () => {
      const [one] = (await cluster.api(1).bgp.peers()).filter(({ address }) => address === UPLINK);
      return one?.families[0]?.endOfRibSent && one.families[0].endOfRibReceived;
    });
  });
  afterAll(async () => {
    await uplink?.stop();
    await cluster?.close();
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)('by %s lose no ping between their pods', async (signal) => {
    await ping(cluster.lab, 'pod1a', '10.65.2.2');
    const pinging = [
      ping(cluster.lab, 'pod1a', '10.65.2.2', FLOOD),
      ping(cluster.lab, 'pod2a', '10.65.1.2', FLOOD),
    ];
    await sleep(500);
    await Promise.all([1, 2].map((number) => cluster.agents.get(number)!.stop(signal)));
    for (const number of [1, 2]) cluster.startAgent(number);
    for (const number of [1, 2]) await cluster.ready(number);
    for (const { sent, received, output } of await Promise.all(pinging)) {
      expect(sent).toBe(PINGS);
      expect(sent - received, output).toBeLessThanOrEqual(4 * MOST_LOST[signal]);
    }
    await until('nothing stands in any more', async () => {
      const views = await Promise.all([1, 2].map((number) => cluster.api(number).runtime()));
      return views.every(({ restart: { staleRoutes } }) => staleRoutes === 0);
    });
    await cluster.routed('ipip');
  });
});
