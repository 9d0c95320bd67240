import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { until } from '../../control/bgp/until.ts';
import { block, block6, Cluster, Daemon } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { ping } from './traffic.ts';

const TOR = '192.0.2.200';
const TOR6 = 'fd00::200';
const CLIENT = '192.0.2.201';

/** A BIRD beside the cluster. */
class Bird {
  readonly #cluster: Cluster;
  readonly #netns: string;
  readonly #daemon: Daemon;
  readonly #socket: string;

  private constructor(cluster: Cluster, netns: string, config: string) {
    const base = join(cluster.lab.folder, netns);
    writeFileSync(`${base}.conf`, config);
    this.#cluster = cluster;
    this.#netns = netns;
    this.#socket = `${base}.ctl`;
    const command = ['bird', '-f', '-c', `${base}.conf`, '-s', this.#socket, '-P', `${base}.pid`];
    this.#daemon = new Daemon(netns, command, `${base}.log`);
  }

  static async start(cluster: Cluster, netns: string, address: string, config: string): Promise<Bird> {
    await cluster.lab.netns(netns);
    await cluster.plug(netns, address);
    const bird = new Bird(cluster, netns, config);
    await until(`BIRD in ${netns} answers`, () => bird.ask('show', 'status'));
    return bird;
  }

  /** Null where BIRD finds nothing. */
  ask(...command: string[]): Promise<string | null> {
    return this.#cluster.lab
      .run(this.#netns, 'birdc', ['-s', this.#socket, ...command], 5000)
      .catch(() => null);
  }

  stop(): Promise<unknown> {
    return this.#daemon.stop();
  }
}

const timing = 'connect retry time 1; connect delay time 1; error wait time 1, 2;';

describe.skipIf(noLab)('policy beside BIRD', () => {
  let cluster: Cluster;
  let tor: Bird;
  let client: Bird;

  const write = (kind: string, name: string, spec: unknown) =>
    writeFileSync(
      join(cluster.resources, `${kind.toLowerCase()}-${name}.yaml`),
      stringify({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec }),
    );
  const established = async () => {
    const { peersV4, peersV6 } = await cluster.api(1).nodeStatus();
    return (
      peersV4.length === 3 &&
      peersV6.length === 1 &&
      [...peersV4, ...peersV6].every((peer) => peer.state === 'up')
    );
  };

  beforeAll(async () => {
    const settings = { bgp: { retrySeconds: 0.2, secrets: 'secrets' } };
    cluster = await Cluster.create({
      nodes: 1,
      podsPerNode: 1,
      bgp: 'bird',
      mode: 'direct',
      ip6: true,
      settings,
    });
    tor = await Bird.start(
      cluster,
      'tor',
      TOR,
      `router id ${TOR};
protocol device { }
protocol static four { ipv4; route 203.0.113.0/24 blackhole { bgp_community.add((65001, 1)); }; route 198.51.100.0/24 blackhole; }
protocol static six { ipv6; route fd99::/48 blackhole; route fd98::/48 blackhole; }
template bgp node { ${timing} ipv4 { import all; export all; next hop self; }; }
protocol bgp node4 { local ${TOR} as 65001; neighbor 192.0.2.1 as 64512; password "lab"; ${timing} ipv4 { import all; export all; }; }
protocol bgp node6 { local ${TOR6} as 65001; neighbor fd00::1 as 64512; ${timing} ipv6 { import all; export all; }; }
`,
    );
    await cluster.lab.ip('tor', `addr add ${TOR6}/64 dev eth0 nodad`);
    client = await Bird.start(
      cluster,
      'client',
      CLIENT,
      `router id ${CLIENT};
protocol device { }
protocol static { ipv4; route 10.65.77.0/26 blackhole; route 10.65.1.2/32 blackhole; route 10.65.1.9/32 blackhole; route 172.16.0.0/16 blackhole; route 172.17.0.0/16 blackhole { bgp_next_hop = 198.18.7.9; }; }
protocol bgp node { local ${CLIENT} as 64512; neighbor 192.0.2.1 as 64512; ${timing} ipv4 { import all; export all; }; }
`,
    );
    mkdirSync(join(cluster.lab.folder, 'secrets/tor'), { recursive: true });
    writeFileSync(join(cluster.lab.folder, 'secrets/tor/password'), 'lab\n');
    write('BGPConfiguration', 'default', {
      asNumber: 64512,
      nodeToNodeMeshEnabled: false,
      serviceClusterIPs: [{ cidr: '10.96.0.0/12' }],
      communities: [{ name: 'pods', value: '64512:100' }],
      prefixAdvertisements: [
        { cidr: '10.65.0.0/16', communities: ['pods'] },
        { cidr: '10.96.0.0/12', communities: ['64512:1:2'] },
      ],
    });
    write('BGPFilter', 'uplink', {
      importV4: [
        { action: 'Reject', cidr: '198.51.100.0/24', matchOperator: 'Equal' },
        { action: 'Accept', operations: [{ addCommunity: { value: '64512:9' } }] },
      ],
      exportV4: [{ action: 'Reject', cidr: '10.65.77.0/24', matchOperator: 'In' }],
      importV6: [{ action: 'Reject', cidr: 'fd98::/48', matchOperator: 'Equal' }],
      exportV6: [{ action: 'Accept', operations: [{ prependASPath: { prefix: [64512] } }] }],
    });
    const uplink = { asNumber: 65001, filters: ['uplink'] };
    write('BGPPeer', 'tor4', {
      ...uplink,
      peerIP: TOR,
      password: { secretKeyRef: { name: 'tor', key: 'password' } },
      session: { keepFiltered: true },
    });
    write('BGPPeer', 'tor6', { ...uplink, peerIP: TOR6 });
    write('BGPPeer', 'client', { peerIP: CLIENT, asNumber: 64512 });
    write('Node', 'node1', {
      bgp: { ipv4Address: '192.0.2.1/24', ipv6Address: 'fd00::1/64', routeReflectorClusterID: '1.0.0.1' },
      blocks: [block(1), block6(1)],
    });
    cluster.reload();
    await until('all sessions are up', established, 40_000);
  });
  afterAll(async () => {
    await tor?.stop();
    await client?.stop();
    await cluster?.close();
  });

  it('takes what the filter lets pass, changed as it says, into the tables and the kernel', async () => {
    await until('the routes are there', async () => {
      const prefixes = (await cluster.api(1).routes()).map(({ prefix }) => prefix);
      return prefixes.includes('203.0.113.0/24') && prefixes.includes('fd99::/48');
    });
    const prefixes = (await cluster.api(1).routes()).map(({ prefix }) => prefix);
    expect(prefixes).not.toContain('198.51.100.0/24');
    expect(prefixes).not.toContain('fd98::/48');
    await until('the kernel knows', async () =>
      (await cluster.lab.run('node1', 'ip', ['route', 'show', '203.0.113.0/24'])).includes(
        `via ${TOR} dev eth0`,
      ),
    );
    await until('and of IPv6', async () =>
      (await cluster.lab.run('node1', 'ip', ['-6', 'route', 'show', 'fd99::/48'])).includes(
        `via ${TOR6} dev eth0`,
      ),
    );
    const why = await cluster.tortie(1, 'bgp', 'why', '198.51.100.0/24', '--node', 'node1');
    expect(why).toContain('BGPFilter uplink, rule 1 of importV4');
  });

  it('announces blocks and services, of both families, with communities and path as they are to be', async () => {
    const of = (prefix: string) =>
      until(`${prefix} is announced`, () => tor.ask('show', 'route', 'all', prefix));
    const pods = await of(block(1));
    expect(pods).toContain('BGP.community: (64512,100)');
    expect(pods).toContain('BGP.next_hop: 192.0.2.1');
    expect(await of('10.96.0.0/12')).toContain('BGP.large_community: (64512, 1, 2)');
    const six = await of(block6(1));
    expect(six).toContain('BGP.as_path: 64512 64512');
    expect(six).toContain('BGP.next_hop: fd00::1');
    expect(await tor.ask('show', 'route', '10.65.77.0/26')).toBeNull();
  });

  it('reflects between clients what is the cluster’s, and nothing else', async () => {
    const reflected = await until('it is reflected', () =>
      cluster.birdc('show', 'route', 'all', '10.65.77.0/26').catch(() => null),
    );
    expect(reflected).toContain('BGP.cluster_list: 1.0.0.1');
    expect(reflected).toContain(`BGP.originator_id: ${CLIENT}`);
    expect(reflected).toContain(`BGP.next_hop: ${CLIENT}`);
    // Neither a client's own network nor the uplink's is passed on.
    for (const prefix of ['172.16.0.0/16', '203.0.113.0/24']) {
      expect(await cluster.birdc('show', 'route', prefix).catch(() => null)).toBeNull();
    }
    expect(await client.ask('show', 'route', 'all', block(1))).toContain('BGP.local_pref: 2147482623');
  });

  it('lets what a filter refused pass when the filter is changed, without a new session', async () => {
    const since = (await cluster.api(1).nodeStatus()).peersV4.map((peer) => peer.since);
    write('BGPFilter', 'uplink', {
      exportV4: [{ action: 'Reject', cidr: '10.96.0.0/12', matchOperator: 'Equal' }],
    });
    cluster.reload();
    await until('the route is there', async () =>
      (await cluster.api(1).routes()).some(({ prefix }) => prefix === '198.51.100.0/24'),
    );
    await until(
      'the service is withdrawn',
      async () => (await tor.ask('show', 'route', '10.96.0.0/12')) === null,
    );
    await until('the other client’s block is announced', () => tor.ask('show', 'route', '10.65.77.0/26'));
    expect((await cluster.api(1).nodeStatus()).peersV4.map((peer) => peer.since)).toEqual(since);
  });

  it('takes routes whose next hop the kernel does not reach for no routes, and finds them again', async () => {
    // The client tells of a network behind a router that is on another wire.
    const hop = '198.18.7.9';
    const far = (up: 'up' | 'down') => cluster.lab.ip('node1', `link set far ${up}`);
    await cluster.lab.netns('beyond');
    await cluster.lab.veth('node1', 'far', 'beyond', 'eth0');
    await cluster.lab.ip('node1', 'addr add 198.18.7.1/24 dev far');
    const why = () => cluster.tortie(1, 'bgp', 'why', '172.17.0.0/16', '--node', 'node1');
    const via = async () =>
      (await cluster.lab.run('node1', 'ip', ['route', 'show', '172.17.0.0/16'])).includes(
        `via ${hop} dev far`,
      );
    await until('the route is there', via);
    await far('down');
    await until('the next hop is lost', async () => (await why()).includes('next hop unreachable'));
    expect((await cluster.api(1).routes()).map(({ prefix }) => prefix)).not.toContain('172.17.0.0/16');
    await far('up');
    await until('the route is there again', via);
    expect((await cluster.api(1).routes()).map(({ prefix }) => prefix)).toContain('172.17.0.0/16');
  });

  it('lets nobody take the packets of a pod that is here, of those that its host sends neither', async () => {
    const learned = async () =>
      (await cluster.lab.run('node1', 'ip', ['route', 'show', 'proto', '85'])).trim();
    // Both came together; of no pod here is the one.
    await until('the kernel has what the client tells', async () => (await learned()).includes('10.65.1.9 '));
    expect(await cluster.tortie(1, 'bgp', 'routes', '10.65.1.2/32', '--node', 'node1')).toContain(CLIENT);
    expect(await learned()).not.toContain('10.65.1.2 ');
    expect(await ping(cluster.lab, 'node1', '10.65.1.2')).toMatchObject({ received: 3 });
  });

  it('leaves no learned route in the kernel when all is purged', async () => {
    const routes = (...family: string[]) =>
      cluster.lab.run('node1', 'ip', [...family, 'route', 'show', 'proto', '85']).then((text) => text.trim());
    expect(await routes()).toContain('203.0.113.0/24');
    await cluster.agents.get(1)!.stop();
    const said = await cluster.tortie(1, 'purge', '--config', cluster.settingsFile(1));
    expect(said).toMatch(/^removed \d+ routes that BGP told, in the node’s namespace$/m);
    expect([await routes(), await routes('-6')]).toEqual(['', '']);
    cluster.startAgent(1);
    await until('all sessions are up again', () => established().catch(() => false), 40_000);
  });

  it('has no session without its password, and says so', async () => {
    write('BGPPeer', 'tor4', {
      peerIP: TOR,
      asNumber: 65001,
      password: { secretKeyRef: { name: 'tor', key: 'gone' } },
    });
    cluster.reload();
    await until('the session ends', async () => {
      const { peersV4 } = await cluster.api(1).nodeStatus();
      return !peersV4.some(({ address }) => address === TOR);
    });
    const why = 'the password tor/gone is not in bgp.secrets of the settings';
    await until('it is said', () => cluster.agents.get(1)!.output.includes(why));
  });
});
