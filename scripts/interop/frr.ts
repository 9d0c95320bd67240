/** FRR: zebra, bgpd and bfdd. */
import { chmodSync, chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import type { FamilyName } from '../../control/bgp/family.ts';
import { until } from '../../control/bgp/until.ts';
import {
  type Announced,
  type DaemonConfig,
  type Driver,
  type Held,
  isIp6,
  type Peering,
  type Place,
} from './driver.ts';

const DAEMONS = '/usr/lib/frr';
const VTYSH = '/usr/bin/vtysh';

interface ShownPath {
  origin?: string;
  metric?: number;
  locPrf?: number;
  aspath?: { string?: string };
  community?: { string?: string };
  largeCommunity?: { string?: string };
  extendedCommunity?: { string?: string };
  nexthops?: { ip?: string; scope?: string }[];
}

export class Frr implements Driver {
  readonly name = 'FRR';
  readonly package = 'frr';
  readonly programs = ['zebra', 'bgpd', 'bfdd'].map((name) => `${DAEMONS}/${name}`).concat(VTYSH);
  readonly needsRoot = true;
  readonly reflects = true;
  readonly cannot = { 'as-trans': 'FRR 8.4 cannot leave out that capability alone' };
  place!: Place;
  #asn = 0;

  async version(): Promise<string> {
    return /version (\S+)/.exec(await this.place.run(`${DAEMONS}/bgpd`, '--version'))![1]!;
  }

  async start(config: DaemonConfig): Promise<void> {
    const { place } = this;
    this.#asn = config.asn;
    // It gives up root for a user of its own, which owns its files and sockets.
    const run = place.file('frr');
    const [uid, gid] = await Promise.all(
      ['-u', '-g'].map(async (flag) => Number(await place.run('id', flag, 'frr'))),
    );
    chmodSync(place.folder, 0o755);
    mkdirSync(run, { recursive: true });
    chownSync(run, uid!, gid!);
    writeFileSync(`${run}/bgpd.conf`, configuration(config));
    for (const name of ['zebra', 'bfdd']) writeFileSync(`${run}/${name}.conf`, '');
    for (const name of ['zebra', 'bfdd', 'bgpd']) {
      const options = [
        '-f',
        `${run}/${name}.conf`,
        '-i',
        `${run}/${name}.pid`,
        '-z',
        `${run}/zserv.api`,
        '--vty_socket',
        run,
      ];
      const control = name === 'zebra' ? [] : ['--bfdctl', `${run}/bfdd.sock`];
      const daemon = place.start(name, [
        ...[`${DAEMONS}/${name}`, ...options, ...(name === 'bfdd' ? control : [])],
        ...['-A', '127.0.0.1', '-P', '0', '--log', 'stdout'],
      ]);
      await until(`${name} answers`, () => {
        if (daemon.ended) throw new Error(`${name} ended: ${daemon.output}`);
        const refused = daemon.output.match(/No such command on config line.*/);
        if (refused) throw new Error(`${name}: ${refused[0]}`);
        return existsSync(`${run}/${name}.vty`) ? this.#ask('show version').catch(() => null) : null;
      });
    }
  }

  async stop(): Promise<void> {
    await this.place.clear();
  }

  async crash(): Promise<void> {
    await this.place.clear('SIGKILL');
  }

  async isEstablished(peer: string): Promise<boolean> {
    return /BGP state = Established/.test(await this.describe(peer));
  }

  async routes(prefix: string): Promise<Held[]> {
    const text = await this.#ask(`show bgp ${isIp6(prefix) ? 'ipv6' : 'ipv4'} unicast ${prefix} json`);
    const { paths = [] } = JSON.parse(text || '{}') as { paths?: ShownPath[] };
    const words = (value?: { string?: string }) =>
      value?.string?.split(' ').filter((word) => word !== '') ?? [];
    return paths.map((path) => ({
      nextHop: path.nexthops?.find(({ scope }) => scope !== 'link-local')?.ip ?? '',
      asPath: path.aspath?.string === 'Local' ? '' : (path.aspath?.string ?? ''),
      origin: path.origin?.toLowerCase() ?? '',
      med: path.metric ?? 0,
      localPref: path.locPrf ?? 0,
      communities: words(path.community),
      largeCommunities: words(path.largeCommunity),
      extendedCommunities: words(path.extendedCommunity).map((word) => word.replace(/^RT:/, 'rt:')),
    }));
  }

  /** What the other side told at the end of a session stands in its log alone. */
  async describe(peer: string): Promise<string> {
    return `${await this.#ask(`show bgp neighbors ${peer}`)}\n${this.place.output}`;
  }

  async refresh(peer: string): Promise<void> {
    await this.#ask(`clear bgp ipv4 unicast ${peer} in`);
  }

  async shutdown(peer: string, text: string): Promise<void> {
    await this.#ask(
      'configure terminal',
      `router bgp ${this.#asn}`,
      `neighbor ${peer} shutdown message ${text}`,
    );
  }

  async bfdIsUp(peer: string): Promise<boolean> {
    const peers = JSON.parse(await this.#ask('show bfd peers json')) as { peer: string; status: string }[];
    return peers.some((found) => found.peer === peer && found.status === 'up');
  }

  #ask(...commands: string[]): Promise<string> {
    return this.place.run(
      VTYSH,
      '--vty_socket',
      this.place.file('frr'),
      ...commands.flatMap((c) => ['-c', c]),
    );
  }
}

function configuration({ asn, routerId, peerings, routes }: DaemonConfig): string {
  const families: readonly FamilyName[] = ['ipv4', 'ipv6'];
  const maps = routes.map((route, index) => routeMap(route, `own${index}`));
  const networks = (family: FamilyName) =>
    routes.flatMap(({ prefix }, index) =>
      isIp6(prefix) === (family === 'ipv6') ? [`  network ${prefix} route-map own${index}`] : [],
    );
  const restart = peerings.find(({ restartTime }) => restartTime)?.restartTime;
  const longLived = peerings.find(({ longLivedTime }) => longLivedTime)?.longLivedTime;
  return `${maps.join('\n')}
route-map all permit 10
router bgp ${asn}
 bgp router-id ${routerId}
 no bgp ebgp-requires-policy
 bgp log-neighbor-changes
 no bgp default ipv4-unicast
 no bgp network import-check
${restart ? ` bgp graceful-restart\n bgp graceful-restart restart-time ${restart}\n bgp graceful-restart preserve-fw-state` : ''}
${longLived ? ` bgp long-lived-graceful-restart stale-time ${longLived}` : ''}
${peerings.map((peering) => neighbor(peering, asn)).join('\n')}
${families
  .map(
    (family) => ` address-family ${family} unicast
${[...networks(family), ...peerings.flatMap((peering) => activation(peering, family))].join('\n')}
 exit-address-family`,
  )
  .join('\n')}
`;
}

const routeMap = (
  { communities = [], largeCommunities = [], extendedCommunities = [] }: Announced,
  name: string,
): string =>
  [
    `route-map ${name} permit 10`,
    communities.length > 0 && ` set community ${communities.join(' ')}`,
    largeCommunities.length > 0 && ` set large-community ${largeCommunities.join(' ')}`,
    extendedCommunities.length > 0 &&
      ` set extcommunity rt ${extendedCommunities.map((text) => text.replace('rt:', '')).join(' ')}`,
    'exit',
  ]
    .filter(Boolean)
    .join('\n');

function neighbor(p: Peering, asn: number): string {
  const options = [
    `remote-as ${p.peerAsn}`,
    `update-source ${p.local}`,
    'timers connect 1',
    'advertisement-interval 0',
    p.passive !== false && 'passive',
    p.password && `password ${p.password}`,
    p.ttlSecurity && 'ttl-security hops 1',
    p.nextHop6 && 'capability extended-nexthop',
    p.role && p.peerAsn !== asn && `local-role ${p.role}`,
    p.restartTime && 'graceful-restart',
    p.bfd && 'bfd 3 100 100',
  ];
  return options
    .filter(Boolean)
    .map((option) => ` neighbor ${p.peer} ${option}`)
    .join('\n');
}

function activation(p: Peering, family: FamilyName): string[] {
  if (!p.families.includes(family)) return [];
  const options = [
    'activate',
    p.client && 'route-reflector-client',
    p.addPath === 'send' && 'addpath-tx-all-paths',
    p.maxPrefixes && `maximum-prefix ${p.maxPrefixes}`,
  ];
  return options.filter(Boolean).map((option) => `  neighbor ${p.peer} ${option}`);
}
