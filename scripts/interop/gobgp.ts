/** GoBGP. */
import { writeFileSync } from 'node:fs';
import { ORIGIN_NAMES } from '../../control/bgp/attributes.ts';
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

const GOBGPD = '/usr/bin/gobgpd';
const GOBGP = '/usr/bin/gobgp';

const ORIGIN = 1;
const AS_PATH = 2;
const NEXT_HOP = 3;
const MED = 4;
const LOCAL_PREF = 5;
const COMMUNITIES = 8;
const MP_REACH = 14;
const EXTENDED_COMMUNITIES = 16;
const LARGE_COMMUNITIES = 32;

interface ShownAttribute {
  type: number;
  nexthop?: string;
  metric?: number;
  as_paths?: { asns: number[] }[];
  communities?: number[];
  value?: unknown;
}

export class Gobgp implements Driver {
  readonly name = 'GoBGP';
  readonly package = 'gobgpd';
  readonly programs = [GOBGPD, GOBGP];
  readonly reflects = true;
  readonly cannot = {
    'refresh-answer': 'GoBGP keeps what came in, and never asks',
    'as-trans': 'GoBGP 3 cannot be without the capability',
    'refresh-marks': 'GoBGP 3 does not speak RFC 7313',
    roles: 'GoBGP 3 does not speak RFC 9234',
    'only-to-customer': 'GoBGP 3 does not speak RFC 9234',
    'extended-messages': 'GoBGP 3 does not speak RFC 8654',
    bfd: 'GoBGP 3 has no BFD',
  };
  place!: Place;

  async version(): Promise<string> {
    return /\d[\d.]*/.exec(await this.place.run(GOBGPD, '--version'))![0];
  }

  async start(config: DaemonConfig, { restarting = false } = {}): Promise<void> {
    const { place } = this;
    writeFileSync(place.file('gobgpd.json'), JSON.stringify(configuration(config)));
    const options = ['-t', 'json', '-f', place.file('gobgpd.json'), '--api-hosts', '127.0.0.1:50051'];
    // It learns its own routes by command. After a restart they must be there before it says that it has told all.
    const hidden = restarting ? config.peerings : [];
    for (const { peer } of hidden) await place.silence(peer, true);
    const daemon = place.start('gobgpd', [
      ...[GOBGPD, ...options, '--pprof-disable', '--log-plain'],
      ...(restarting ? ['-r'] : []),
    ]);
    await until('GoBGP answers', () => {
      if (daemon.ended) throw new Error(`GoBGP ended: ${daemon.output}`);
      return this.#ask('global').catch(() => null);
    });
    for (const route of config.routes) await this.#announce(route);
    for (const { peer } of hidden) await place.silence(peer, false);
  }

  async stop(): Promise<void> {
    await this.place.clear();
  }

  async crash(): Promise<void> {
    await this.place.clear('SIGKILL');
  }

  async isEstablished(peer: string): Promise<boolean> {
    return /BGP state = ESTABLISHED/i.test(await this.describe(peer));
  }

  async routes(prefix: string): Promise<Held[]> {
    const text = await this.#ask('global', 'rib', ...family(isIp6(prefix) ? 'ipv6' : 'ipv4'), '-j');
    const all = JSON.parse(text || '{}') as Record<string, { attrs: ShownAttribute[] }[]>;
    return (all[prefix] ?? []).map(({ attrs }) => {
      const of = (type: number) => attrs.find((attribute) => attribute.type === type);
      const value = (type: number) => (of(type)?.value ?? []) as Record<string, unknown>[];
      return {
        nextHop: of(NEXT_HOP)?.nexthop ?? of(MP_REACH)?.nexthop ?? '',
        origin: ORIGIN_NAMES[Number(of(ORIGIN)?.value ?? 0)]!.toLowerCase(),
        med: of(MED)?.metric ?? 0,
        localPref: Number(of(LOCAL_PREF)?.value ?? 0),
        asPath: (of(AS_PATH)?.as_paths ?? []).flatMap(({ asns }) => asns).join(' '),
        communities: (of(COMMUNITIES)?.communities ?? []).map((c) => `${c >>> 16}:${c & 0xffff}`),
        largeCommunities: value(LARGE_COMMUNITIES).map((c) => `${c.ASN}:${c.LocalData1}:${c.LocalData2}`),
        extendedCommunities: value(EXTENDED_COMMUNITIES).map((c) => `rt:${c.value}`),
      };
    });
  }

  /** Why a session ended stands in its log alone. */
  async describe(peer: string): Promise<string> {
    return `${await this.#ask('neighbor', peer)}\n${this.place.output}`;
  }

  async refresh(peer: string): Promise<void> {
    await this.#ask('neighbor', peer, 'softresetin');
  }

  async shutdown(peer: string, text: string): Promise<void> {
    await this.#ask('neighbor', peer, 'shutdown', '--reason', text);
  }

  async #announce({ prefix, ...more }: Announced): Promise<void> {
    const { communities, largeCommunities, extendedCommunities } = more;
    await this.#ask(
      ...['global', 'rib', 'add', prefix, ...family(isIp6(prefix) ? 'ipv6' : 'ipv4')],
      ...(communities ? ['community', communities.join(',')] : []),
      ...(largeCommunities ? ['large-community', largeCommunities.join(',')] : []),
      ...(extendedCommunities ? ['rt', ...extendedCommunities.map((text) => text.replace('rt:', ''))] : []),
    );
  }

  #ask(...command: string[]): Promise<string> {
    return this.place.run(GOBGP, ...command);
  }
}

const family = (name: FamilyName): string[] => ['-a', name];

const configuration = ({ asn, routerId, peerings }: DaemonConfig) => ({
  global: { config: { as: asn, 'router-id': routerId } },
  neighbors: peerings.map((peering) => neighbor(peering, asn)),
});

function neighbor(p: Peering, asn: number) {
  return {
    config: {
      'peer-as': p.peerAsn,
      'neighbor-address': p.peer,
      ...(p.password && { 'auth-password': p.password }),
    },
    transport: { config: { 'passive-mode': p.passive !== false, 'local-address': p.local } },
    timers: { config: { 'connect-retry': 1, 'idle-hold-time-after-reset': 1 } },
    ...(p.client && {
      'route-reflector': {
        config: { 'route-reflector-client': p.peerAsn === asn, 'route-reflector-cluster-id': '9.9.9.9' },
      },
    }),
    ...(p.ttlSecurity && { 'ttl-security': { config: { enabled: true, 'ttl-min': 255 } } }),
    ...(p.addPath && {
      'add-paths': { config: p.addPath === 'send' ? { 'send-max': 4 } : { receive: true } },
    }),
    ...(p.restartTime && {
      'graceful-restart': {
        config: {
          enabled: true,
          'restart-time': p.restartTime,
          'notification-enabled': true,
          ...(p.longLivedTime && { 'long-lived-enabled': true }),
        },
      },
    }),
    'afi-safis': p.families.map((name) => ({
      config: { 'afi-safi-name': `${name}-unicast` },
      ...(p.maxPrefixes && { 'prefix-limit': { config: { 'max-prefixes': p.maxPrefixes } } }),
      ...(p.restartTime && { 'mp-graceful-restart': { config: { enabled: true } } }),
      ...(p.longLivedTime && {
        'long-lived-graceful-restart': { config: { enabled: true, 'restart-time': p.longLivedTime } },
      }),
    })),
  };
}
