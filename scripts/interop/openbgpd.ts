/** OpenBGPD, its portable edition. */
import { mkdirSync, writeFileSync } from 'node:fs';
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

const BGPD = '/usr/sbin/bgpd';
const BGPCTL = '/usr/sbin/bgpctl';
/** Where it locks itself up; Debian makes it at boot. */
const JAIL = '/run/openbgpd';

interface ShownRoute {
  prefix: string;
  aspath: string;
  exit_nexthop: string;
  origin: string;
  metric: number;
  localpref: number;
  communities?: string[];
  large_communities?: string[];
  extended_communities?: string[];
}

export class Openbgpd implements Driver {
  readonly name = 'OpenBGPD';
  readonly package = 'openbgpd';
  readonly programs = [BGPD, BGPCTL];
  readonly needsRoot = true;
  readonly reflects = true;
  readonly cannot = {
    'refresh-ask': 'OpenBGPD 7.7 answers no request (openbgpd-portable issue 46, mended since)',
    'restart-helper': 'OpenBGPD 7.7 announces no forwarding state of its own: it helps others alone',
    'long-lived-helper': 'OpenBGPD 7.7 does not speak RFC 9494',
    'long-lived': 'OpenBGPD 7.7 does not speak RFC 9494',
    'refresh-marks': 'OpenBGPD 7.7 answers no request (openbgpd-portable issue 46, mended since)',
    'md5-dial': 'OpenBGPD 7.7 asks the kernel for MD5 by PF_KEY, which Linux does not do',
    'md5-accept': 'OpenBGPD 7.7 asks the kernel for MD5 by PF_KEY, which Linux does not do',
    'md5-ipv6': 'OpenBGPD 7.7 asks the kernel for MD5 by PF_KEY, which Linux does not do',
    'next-hop6': 'OpenBGPD 7.7 does not speak RFC 8950',
    'extended-messages': 'OpenBGPD 7.7 does not speak RFC 8654',
    bfd: 'OpenBGPD 7.7 has no BFD',
  };
  place!: Place;

  async version(): Promise<string> {
    return /\d[\d.]*/.exec(await this.place.run('sh', '-c', `${BGPD} -V 2>&1`))![0];
  }

  async start(config: DaemonConfig): Promise<void> {
    const { place } = this;
    mkdirSync(JAIL, { recursive: true, mode: 0o755 });
    // It refuses a file that others may read, for the passwords in it.
    writeFileSync(place.file('bgpd.conf'), configuration(config, this.#socket), { mode: 0o600 });
    const daemon = place.start('bgpd', [BGPD, '-d', '-v', '-f', place.file('bgpd.conf')]);
    await until('OpenBGPD answers', () => {
      if (daemon.ended) throw new Error(`OpenBGPD ended: ${daemon.output}`);
      return this.#ask('show', 'summary').catch(() => null);
    });
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
    const { rib = [] } = JSON.parse(await this.#ask('-j', 'show', 'rib', 'detail', prefix)) as {
      rib?: ShownRoute[];
    };
    return rib
      .filter((route) => route.prefix === prefix)
      .map((route) => ({
        nextHop: route.exit_nexthop,
        origin: route.origin.toLowerCase(),
        med: route.metric,
        localPref: route.localpref,
        asPath: route.aspath.trim(),
        communities: route.communities ?? [],
        largeCommunities: route.large_communities ?? [],
        extendedCommunities: (route.extended_communities ?? []).map((text) => text.replace(/^rt /, 'rt:')),
      }));
  }

  /** What the other side told at the end of a session stands in its log, too. */
  async describe(peer: string): Promise<string> {
    return `${await this.#ask('show', 'neighbor', peer)}\n${this.place.output}`;
  }

  async refresh(peer: string): Promise<void> {
    await this.#ask('neighbor', peer, 'refresh');
  }

  async shutdown(peer: string, text: string): Promise<void> {
    await this.#ask('neighbor', peer, 'down', text);
  }

  get #socket(): string {
    return this.place.file('bgpd.sock');
  }

  #ask(...command: string[]): Promise<string> {
    return this.place.run(BGPCTL, '-s', this.#socket, ...command);
  }
}

const configuration = (
  { asn, routerId, address6, peerings, routes }: DaemonConfig,
  socket: string,
): string => `AS ${asn}
router-id ${routerId}
fib-update no
connect-retry 1
socket "${socket}"
${[...new Set(peerings.map(({ local }) => local))].map((local) => `listen on ${local}`).join('\n')}
${routes.map((route) => network(route, address6)).join('\n')}
${peerings.map((peering) => neighbor(peering, asn)).join('\n')}
allow from any
allow to any
`;

function network(
  { prefix, communities = [], largeCommunities = [], extendedCommunities = [] }: Announced,
  address6: string,
): string {
  const set = [
    // Left to itself it says ::1 over an IPv4 session.
    isIp6(prefix) && `nexthop ${address6}`,
    ...communities.map((text) => `community ${text}`),
    ...largeCommunities.map((text) => `large-community ${text}`),
    ...extendedCommunities.map((text) => `ext-community ${text.replace(':', ' ')}`),
  ].filter(Boolean);
  return `network ${prefix}${set.length > 0 ? ` set { ${set.join(' ')} }` : ''}`;
}

function neighbor(p: Peering, asn: number): string {
  const options = [
    `remote-as ${p.peerAsn}`,
    `local-address ${p.local}`,
    ...(['ipv4', 'ipv6'] as const).map(
      (family) => `announce IPv${family.slice(3)} ${p.families.includes(family) ? 'unicast' : 'none'}`,
    ),
    p.passive !== false && 'passive',
    p.password && `tcp md5sig password "${p.password}"`,
    p.ttlSecurity && 'ttl-security yes',
    p.client && 'route-reflector',
    p.addPath === 'receive' && 'announce add-path recv yes',
    p.addPath === 'send' && 'announce add-path send all',
    p.maxPrefixes && `max-prefix ${p.maxPrefixes}`,
    p.as4 === false && 'announce as-4byte no',
    p.role && p.peerAsn !== asn && `announce policy ${p.role}`,
  ];
  return `neighbor ${p.peer} {\n${options.filter(Boolean).join('\n')}\n}`;
}
