import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import { dropped, expectBalanced } from './account.ts';
import { block, Cluster } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { ping } from './traffic.ts';

describe.skipIf(noLab)('an agent comes and goes', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 1, bgp: 'bird', mode: 'ipip' });
  });
  afterAll(() => cluster?.close());

  const reachable = () =>
    until(
      'pods reach each other',
      async () => (await ping(cluster.lab, 'pod1a', '10.65.2.2')).received === 3,
    );

  it('SIGHUP with a bad file changes nothing, and says where it is bad', async () => {
    const file = join(cluster.resources, 'ippool-pods.yaml');
    const good = readFileSync(file, 'utf8');
    const agent = cluster.agents.get(1)!;
    const before = await cluster.tortie(1, 'show', 'routes', '--node', 'node1');
    try {
      writeFileSync(file, good.replace('ipipMode', 'ippMode'));
      agent.signal('SIGHUP');
      await until('the agent complains', () => agent.output.includes('did you mean ipipMode?'));
      expect(await cluster.tortie(1, 'show', 'routes', '--node', 'node1')).toBe(before);
      expect(await ping(cluster.lab, 'pod1a', '10.65.2.2')).toMatchObject({ received: 3 });
    } finally {
      writeFileSync(file, good);
    }
  });

  it('SIGTERM: the peer keeps our routes, exit 0, everything stays and is adopted', async () => {
    const [routes, addresses] = [
      await cluster.lab.run('node1', 'ip', ['route']),
      await cluster.lab.run('pod1a', 'ip', ['-o', 'link', 'show', 'eth0']),
    ];
    expect(await cluster.agents.get(1)!.stop()).toBe(0);
    expect(await cluster.birdc('show', 'protocols', 'all', 'node1')).toMatch(
      /Neighbor graceful restart active/,
    );
    expect(await cluster.birdc('show', 'route', block(1))).toContain(block(1));
    // A device without a queue has no carrier; the device, its MAC and the pod's routes are what must stay.
    const mac = (text: string) => text.match(/link\/ether (\S+)/)![1];
    expect(mac(await cluster.lab.run('pod1a', 'ip', ['-o', 'link', 'show', 'eth0']))).toBe(mac(addresses));
    expect(await cluster.lab.run('pod1a', 'ip', ['route'])).toMatch(/default via 169\.254\.1\.1/);
    cluster.startAgent(1);
    await cluster.ready(1);
    await cluster.routed('ipip');
    await reachable();
    expect(await cluster.lab.run('node1', 'ip', ['route'])).toBe(routes);
  });

  it('kill -9: the next agent adopts', async () => {
    await cluster.agents.get(1)!.stop('SIGKILL');
    cluster.startAgent(1);
    await cluster.ready(1);
    await cluster.routed('ipip');
    await reachable();
  });

  it('a second agent of the node is refused', async () => {
    const first = cluster.agents.get(1)!;
    const second = cluster.startAgent(1);
    cluster.agents.set(1, first);
    await until('the second agent ends', () => second.ended);
    expect(second.output).toMatch(/already|runs/);
    expect(first.ended).toBe(false);
    await reachable();
  });

  it('finds its way back when the reflector restarts', async () => {
    await cluster.birdc('disable', 'node1');
    await until('the route is gone', async () => {
      const routes = await cluster.api(1).routes();
      return !routes.some((route) => route.prefix === '10.65.2.0/26');
    });
    await cluster.birdc('enable', 'node1');
    await cluster.routed('ipip');
    await reachable();
  });

  it('shows what its worker does, to people and to Prometheus', async () => {
    const [worker] = (await cluster.api(1).runtime()).workers;
    expect(worker!.frames).toBeGreaterThanOrEqual(worker!.bursts);
    expect(worker!.busyShare).toBeLessThan(0.5);
    expect(await cluster.tortie(1, 'show', 'runtime', '--node', 'node1')).toMatch(
      /^WORKER .* BUSY +DEATHS\n0 /,
    );
    const socket = '/run/tortie/node1/api.sock';
    const url = 'http://tortie/metrics';
    const text = await cluster.lab.run('node1', 'curl', ['-sS', '--unix-socket', socket, url]);
    expect(text).toMatch(/^tortie_bgp_peer_established\{peer="192.0.2.254",type="global"\} 1$/m);
    expect(text).toMatch(/^tortie_port_receive_frames_total\{port="calipod1a",kind="pod"\} [1-9]/m);
  });

  it('purge removes all that is tortie’s, and nothing else', async () => {
    const { lab } = cluster;
    await lab.ip('node1', 'tuntap add foreign mode tap', 'route add blackhole 203.0.113.0/24 proto static');
    await lab.run('node1', process.execPath, [
      join(import.meta.dirname, '../../dist/control/cli/main.js'),
      'purge',
      '--config',
      cluster.settingsFile(1),
    ]);
    await until('the agent ends', () => cluster.agents.get(1)!.ended);
    const [links, routes, pod] = [
      await lab.run('node1', 'ip', ['-o', 'link']),
      await lab.run('node1', 'ip', ['route']),
      await lab.run('pod1a', 'ip', ['-o', 'link']),
    ];
    expect(links).not.toMatch(/tortie/);
    expect(links).toMatch(/foreign/);
    expect(routes).not.toMatch(/proto 84/);
    expect(routes).toMatch(/blackhole 203\.0\.113\.0\/24/);
    expect(pod).not.toMatch(/eth0/);
    // The other node, on the same machine, is untouched.
    expect(await lab.run('pod2a', 'ip', ['-o', 'link'])).toMatch(/eth0/);
    expect(await ping(lab, 'node2', '10.65.2.2')).toMatchObject({ received: 3 });
  });
});

describe.skipIf(noLab)('who may send what', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 1, bgp: 'mesh', mode: 'vxlan' });
  });
  afterAll(() => cluster?.close());

  /** Send one packet that Linux would not, by scapy. */
  const scapy = (netns: string, expression: string) =>
    cluster.lab.run(netns, '/usr/bin/python3', [
      '-c',
      `from scapy.all import *\nfrom scapy.layers.vxlan import VXLAN\n${expression}`,
    ]);

  it('a pod sends from its own address only', async () => {
    await scapy(
      'pod1a',
      'sendp(Ether(dst="ee:ee:ee:ee:ee:ee")/IP(src="10.65.1.77",dst="10.65.2.2")/ICMP(), iface="eth0", count=3, verbose=0)',
    );
    await until(
      'three are dropped',
      async () => (await dropped(cluster, 1, 'calipod1a', 'pod_source')) === 3,
    );
  });

  it('a tunnel packet comes from a known peer, and carries only what is routed via it', async () => {
    const inner = (source: string) =>
      `UDP(sport=50000,dport=4789)/VXLAN(vni=4096,flags=8)/Ether(src="66:00:00:00:00:02",dst="66:00:00:00:00:01")/IP(src="${source}",dst="10.65.1.2")/ICMP()`;
    await cluster.lab.ip('underlay', 'addr add 192.0.2.200/24 dev br0');
    await scapy('underlay', `send(IP(src="192.0.2.200",dst="192.0.2.1")/${inner('10.65.2.2')}, verbose=0)`);
    await until(
      'the stranger is dropped',
      async () => (await dropped(cluster, 1, 'vxlan', 'unknown_peer')) === 1,
    );
    await scapy('node2', `send(IP(src="192.0.2.2",dst="192.0.2.1")/${inner('10.65.3.2')}, verbose=0)`);
    await until('the liar is dropped', async () => (await dropped(cluster, 1, 'vxlan', 'peer_source')) === 1);
  });

  it('so it is with IPIP', async () => {
    await cluster.switchTo('ipip');
    const inner = (source: string) => `IP(src="${source}",dst="10.65.1.2")/ICMP()`;
    await scapy('underlay', `send(IP(src="192.0.2.200",dst="192.0.2.1")/${inner('10.65.2.2')}, verbose=0)`);
    await until(
      'the stranger is dropped',
      async () => (await dropped(cluster, 1, 'ipip', 'unknown_peer')) === 1,
    );
    await scapy('node2', `send(IP(src="192.0.2.2",dst="192.0.2.1")/${inner('10.65.3.2')}, verbose=0)`);
    await until('the liar is dropped', async () => (await dropped(cluster, 1, 'ipip', 'peer_source')) === 1);
  });

  it('keeps its account', () => expectBalanced(cluster, 1));
});
