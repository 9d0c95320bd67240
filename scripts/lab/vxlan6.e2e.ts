/** Nodes and pods that have no IPv4 address at all: VXLAN over IPv6, between two of ours and with the kernel's device. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { Lab } from '../../bench/lab.ts';
import { formatMac } from '../../control/address.ts';
import { ApiClient } from '../../control/api/client.ts';
import { until } from '../../control/bgp/until.ts';
import { vtepMac6 } from '../../control/desired.ts';
import { expectBalanced } from './account.ts';
import { Cluster, Daemon, nodeAddress6, nodeName, TORTIE } from './cluster.ts';
import { kernelVxlan6Node } from './foreign.ts';
import { noLab } from './in-lab.ts';
import { ping, tcp, wire } from './traffic.ts';

const FITS = 1430;
/** Of the twenty that iperf3 sends, what surely has arrived when it stops counting. */
const MEGABYTES = 2 * 1024 * 1024;

describe.skipIf(noLab)('VXLAN over IPv6 without any IPv4', () => {
  let cluster: Cluster;
  let kernel: { pod: string; address: string };
  const addressOf = (name: string) => (name === 'pod3a' ? kernel.address : cluster.pod(name).address6);
  beforeAll(async () => {
    cluster = await Cluster.create({
      nodes: 3,
      podsPerNode: 1,
      bgp: 'mesh',
      mode: 'vxlan',
      ip6: 'only',
      foreign: [3],
    });
    kernel = await kernelVxlan6Node(cluster, 3, [1, 2]);
    await cluster.routed('vxlan');
  });
  afterAll(() => cluster?.close());
  /** Of the first node's VXLAN, by their inodes. */
  const sockets = async () => {
    const listed = await cluster.lab.run('node1', 'ss', [
      '-6',
      '-u',
      '-a',
      '-n',
      '-e',
      'src',
      `[${nodeAddress6(1)}]`,
    ]);
    return [...listed.matchAll(/ino:(\d+)/g)].map(([, inode]) => inode).sort();
  };

  it('gives a pod one address, and its way out by the gateway’s link-local one', async () => {
    const { lab } = cluster;
    const shown = JSON.parse(await lab.run('pod1a', 'ip', ['-j', 'addr', 'show', 'dev', 'eth0']));
    const addresses = shown[0].addr_info as { family: string; scope: string; local: string }[];
    const global = addresses.filter(({ scope }) => scope === 'global').map(({ local }) => local);
    expect([global, shown[0].mtu]).toEqual([[addressOf('pod1a')], FITS]);
    expect(addresses.some(({ family }) => family === 'inet')).toBe(false);
    expect(await lab.run('pod1a', 'ip', ['-6', 'route'])).toMatch(
      /default via fe80::ecee:eeff:feee:eeee dev eth0/,
    );
    expect(await lab.run('pod1a', 'ip', ['-4', 'route'])).toBe('');
    // Its detection lasts a while; nothing is sent from an address that is deprecated.
    await lab.ip('pod1a', 'addr add fd65:0:0:1::77/128 dev eth0 preferred_lft 0');
  });

  it.each([
    ['pod1a', 'pod2a'],
    ['pod2a', 'pod1a'],
    ['pod1a', 'pod3a'],
    ['pod3a', 'pod1a'],
  ])('carries ping from %s to %s, one hop a node, in UDP with a checksum that holds', async (from, to) => {
    const frames = await wire(cluster.lab, 'underlay', 'node1', 'ip6 and udp port 4789', async () => {
      expect(await ping(cluster.lab, from, addressOf(to))).toMatchObject({ sent: 3, received: 3, ttl: 62 });
    });
    const outer = (frames ?? '').split('\n').filter((line) => line.includes('.4789: '));
    expect(outer.length).toBeGreaterThan(0);
    for (const line of outer) expect(line).toMatch(/hlim 64.*\[udp sum ok\] VXLAN, flags \[I\]/);
    // The label says which flow it is to routers on the way (RFC 6438); the kernel's device sets none by default.
    const ours = outer.filter(
      (line) => !line.includes(`${nodeAddress6(3)}.`) || line.includes(`> ${nodeAddress6(3)}.`),
    );
    for (const line of ours) expect(line).toMatch(/flowlabel 0x[0-9a-f]{5}/);
  });

  it.each([
    ['pod1a', 'pod2a'],
    ['pod2a', 'pod1a'],
    ['pod1a', 'pod3a'],
    ['pod3a', 'pod1a'],
  ])('carries TCP from %s to %s', async (from, to) => {
    expect(await tcp(cluster.lab, from, to, addressOf(to))).toBeGreaterThan(MEGABYTES);
  });

  it('lets duplicate address detection pass', async () => {
    const { lab } = cluster;
    // Since the first test.
    await until('the address is no more tentative', async () => {
      const shown = await lab.run('pod1a', 'ip', ['-6', 'addr', 'show', 'dev', 'eth0']);
      expect(shown).not.toContain('dadfailed');
      return shown.includes('fd65:0:0:1::77') && !shown.includes('tentative');
    });
    await lab.ip('pod1a', 'addr del fd65:0:0:1::77/128 dev eth0');
  });

  it('tells a sender that 1430 bytes fit, and carries as many', async () => {
    const { lab } = cluster;
    // A pod that thinks more of its device.
    await lab.ip('pod1a', 'link set eth0 mtu 1500');
    const whole = (size: number) => ['-c', '1', '-M', 'do', '-s', String(size - 48)];
    const tooBig = await ping(lab, 'pod1a', addressOf('pod2a'), whole(FITS + 1));
    expect(tooBig.received).toBe(0);
    expect(tooBig.output).toMatch(/From fd65:0:0:1::1 icmp_seq=1 Packet too big: mtu=1430/);
    expect(await ping(lab, 'pod1a', addressOf('pod2a'), whole(FITS))).toMatchObject({ received: 1 });
    expect(await ping(lab, 'pod1a', addressOf('pod3a'), whole(FITS))).toMatchObject({ received: 1 });
  });

  it('learns that the path to a node takes less, and tells senders', async () => {
    const { lab } = cluster;
    await lab.netns('router');
    await lab.veth('router', 'eth0', 'underlay', 'router');
    await lab.ip('underlay', 'link set router master br0');
    await lab.sysctl('router', 'net.ipv6.conf.all.forwarding=1');
    await lab.ip('router', 'addr add fd00::250/64 dev eth0 nodad');
    await lab.ip('router', ...[1, 2].map((node) => `route add ${nodeAddress6(node)} dev eth0 mtu lock 1400`));
    await lab.ip(nodeName(1), `route add ${nodeAddress6(2)} via fd00::250`);
    await lab.ip(nodeName(2), `route add ${nodeAddress6(1)} via fd00::250`);
    expect(await tcp(lab, 'pod1a', 'pod2a', addressOf('pod2a'))).toBeGreaterThan(MEGABYTES);
    const known = (await cluster.api(1).pathMtus()).map(({ peer, mtu, from }) => ({ peer, mtu, from }));
    expect(known).toEqual([{ peer: nodeAddress6(2), mtu: 1400, from: 'route' }]);
    const sized = (size: number) =>
      ping(lab, 'pod1a', addressOf('pod2a'), ['-c', '1', '-M', 'do', '-s', String(size - 48)]);
    await lab.ip('pod1a', '-6 route flush cache');
    expect((await sized(1331)).output).toMatch(/Packet too big: mtu=1330/);
    expect(await sized(1330)).toMatchObject({ received: 1 });
    await lab.ip(nodeName(1), `route del ${nodeAddress6(2)} via fd00::250`);
    await lab.ip(nodeName(2), `route del ${nodeAddress6(1)} via fd00::250`);
  });

  it('is told by name: peer, way, and why not the fastest', async () => {
    const lookup = await cluster.api(1).lookup(addressOf('pod2a'));
    expect(lookup.route).toMatchObject({ nextHop: nodeAddress6(2), via: 'vxlan6', port: 'vxlan6' });
    const told = await cluster.tortie(
      1,
      'explain',
      '--node',
      'node1',
      '--from',
      'pod1a',
      '--to',
      addressOf('pod2a'),
    );
    expect(told).toContain(`tunnel peer ${nodeAddress6(2)}`);
    expect(told).toMatch(/into VXLAN over IPv6 to that peer, VNI 4096, flow label 0x[0-9a-f]+/);
    const port = (await cluster.api(1).ports()).find(({ name }) => name === 'vxlan6');
    expect(port).toMatchObject({ state: 'up', way: 'sockets', addresses: [nodeAddress6(1)] });
    expect(port!.wayReason).toBe('the way through the host is for tunnels over IPv4');
  });

  it('goes on after a restart of the agent, with its sockets', async () => {
    const before = await sockets();
    expect(before.length).toBeGreaterThan(1);
    await cluster.agents.get(1)!.stop();
    cluster.startAgent(1);
    await cluster.ready(1);
    await until('pods reach each other again', async () => {
      const { sent, received } = await ping(cluster.lab, 'pod1a', addressOf('pod2a'), ['-c', '1']);
      return sent === received;
    });
    expect(await sockets()).toEqual(before);
  });

  it('goes unencapsulated where the pool says so, by routes of BGP over IPv6', async () => {
    await until('the two nodes are neighbours', async () =>
      (await cluster.api(1).nodeStatus()).peersV6.some(
        ({ address, info }) => address === nodeAddress6(2) && info === 'Established',
      ),
    );
    await cluster.switchTo('direct');
    const { route } = await cluster.api(1).lookup(addressOf('pod2a'));
    expect(route).toMatchObject({ nextHop: nodeAddress6(2), via: 'direct' });
    expect(await ping(cluster.lab, 'pod1a', addressOf('pod2a'))).toMatchObject({ received: 3, ttl: 62 });
  });

  it('leaves accounts that add up', async () => {
    await expectBalanced(cluster, 1);
    await expectBalanced(cluster, 2);
  });
});

describe.skipIf(noLab)('a node of IPv6 alone', () => {
  const lab = new Lab();
  let agent: Daemon | null = null;
  afterAll(async () => {
    await agent?.stop();
    await lab.close();
  });

  it('registers itself, gets a tunnel address of the pool, and opens its tunnel', async () => {
    const file = join(lab.folder, 'six.yaml');
    const settings = { nodeName: 'six', nodeAddress6: 'fd00::6/64', health: { enabled: false } };
    writeFileSync(file, stringify({ ...settings, datastore: { kind: 'embedded', path: 'store' } }));
    await lab.netns('six');
    await lab.netns('net');
    await lab.veth('six', 'eth0', 'net', 'six');
    await lab.ip('six', 'addr add fd00::6/64 dev eth0 nodad');
    const tortie = (...args: string[]) => lab.run('six', process.execPath, [TORTIE, ...args, '-c', file]);
    const pool = { apiVersion: 'projectcalico.org/v3', kind: 'IPPool', metadata: { name: 'pods6' } };
    writeFileSync(`${file}.pool`, stringify({ ...pool, spec: { cidr: 'fd65::/48', vxlanMode: 'Always' } }));
    await tortie('apply', '-f', `${file}.pool`);
    agent = new Daemon('six', [process.execPath, TORTIE, 'agent', '--config', file], `${file}.log`);
    const api = new ApiClient('/run/tortie/six/api.sock');
    await until('its tunnel is up', async () => {
      if (agent!.ended) throw new Error(agent!.output);
      const ports = await api.ports().catch(() => []);
      return ports.some(({ name, state }) => name === 'vxlan6' && state === 'up');
    });
    await until('it has a tunnel address', async () =>
      (await tortie('get', 'node', 'six', '-o', 'yaml')).includes('ipv6VXLANTunnelAddr'),
    );
    const { spec } = parse(await tortie('get', 'node', 'six', '-o', 'yaml'));
    expect(spec.bgp).toEqual({ ipv6Address: 'fd00::6/64' });
    expect(spec.ipv6VXLANTunnelAddr).toMatch(/^fd65:/);
    // Of Calico's making: "f" and SHA-1 of "six-v6".
    expect(spec.vxlanTunnelMACAddrV6).toBe(formatMac(vtepMac6('six')));
    expect(await lab.run('six', 'ip', ['-4', 'addr', 'show', 'scope', 'global'])).toBe('');
  });
});
