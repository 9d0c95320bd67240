/**
 * ExaBGP: no router but a speaker for programs. The program here is a shell that writes down all that it is told, line
 * by line, and passes on what is appended to a file; what ExaBGP holds is worked out from its lines.
 */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { until } from '../../control/bgp/until.ts';
import { type Announced, type DaemonConfig, type Driver, type Held, isIp6, type Place } from './driver.ts';

const EXABGP = '/usr/sbin/exabgp';

interface Told {
  type: string;
  neighbor?: {
    address: { peer: string };
    state?: string;
    message?: { update?: Update };
  };
}

interface Update {
  attribute?: {
    origin?: string;
    med?: number;
    'local-preference'?: number;
    'as-path'?: number[];
    community?: number[][];
    'large-community'?: number[][];
    'extended-community'?: { string: string }[];
  };
  announce?: Record<string, Record<string, Nlri[]>>;
  withdraw?: Record<string, Nlri[]>;
}

type Nlri = { nlri: string; 'path-information'?: string };

export class Exabgp implements Driver {
  readonly name = 'ExaBGP';
  readonly package = 'exabgp';
  readonly programs = [EXABGP];
  readonly reflects = false;
  readonly cannot = {
    client: 'ExaBGP passes no routes on',
    'as-trans': 'ExaBGP passes no routes on',
    restart: 'ExaBGP keeps no routes: the program behind it would',
    'refresh-marks': 'ExaBGP 4.2 says that it marks them, and sends no marks',
    'long-lived-helper': 'ExaBGP 4.2 does not speak RFC 9494',
    'long-lived': 'ExaBGP 4.2 does not speak RFC 9494',
    'limit-theirs': 'ExaBGP has no prefix limit',
    'shutdown-send': 'ExaBGP 4.2 fails to decode any text: it mixes text and bytes',
    'shutdown-receive': 'ExaBGP 4.2 sends the code of a shutdown, never words',
    roles: 'ExaBGP 4.2 does not speak RFC 9234',
    'only-to-customer': 'ExaBGP 4.2 does not speak RFC 9234',
    bfd: 'ExaBGP has no BFD',
  };
  place!: Place;

  async version(): Promise<string> {
    return /ExaBGP : (\d[\d.]*)/.exec(await this.place.run(EXABGP, '--version'))![1]!;
  }

  async start(config: DaemonConfig): Promise<void> {
    const { place } = this;
    for (const name of ['told', 'orders']) writeFileSync(place.file(name), '');
    const script = `tail -n +1 -s 0.05 -F ${place.file('orders')} & cat >>${place.file('told')}; kill $!`;
    writeFileSync(place.file('program'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    writeFileSync(place.file('exabgp.conf'), configuration(config, place.file('program')));
    const daemon = place.start('exabgp', [EXABGP, place.file('exabgp.conf')], {
      'exabgp.daemon.drop': 'false',
      'exabgp.daemon.user': 'root',
      'exabgp.log.destination': 'stdout',
      'exabgp.log.level': 'INFO',
      'exabgp.api.cli': 'false',
      'exabgp.api.ack': 'false',
      'exabgp.tcp.bind': config.peerings.map(({ local }) => local).join(' '),
      'exabgp.tcp.port': '179',
      'exabgp.cache.attributes': 'false',
    });
    await until('ExaBGP runs', () => {
      if (daemon.ended) throw new Error(`ExaBGP ended: ${daemon.output}`);
      return /loaded new configuration/i.test(daemon.output);
    });
  }

  async stop(): Promise<void> {
    await this.place.clear();
  }

  async crash(): Promise<void> {
    await this.place.clear('SIGKILL');
  }

  async isEstablished(peer: string): Promise<boolean> {
    return this.#told(peer).findLast(({ type }) => type === 'state')?.neighbor?.state === 'up';
  }

  async routes(prefix: string): Promise<Held[]> {
    const held = new Map<string, Held>();
    const key = (peer: string, nlri: Nlri) => `${peer} ${nlri['path-information'] ?? ''}`;
    for (const { type, neighbor } of this.#told()) {
      if (!neighbor) continue;
      const { peer } = neighbor.address;
      if (type === 'state' && neighbor.state !== 'up') {
        for (const name of held.keys()) if (name.startsWith(`${peer} `)) held.delete(name);
      }
      const { attribute = {}, announce = {}, withdraw = {} } = neighbor.message?.update ?? {};
      for (const nlri of Object.values(withdraw).flat()) {
        if (nlri.nlri === prefix) held.delete(key(peer, nlri));
      }
      for (const [nextHop, list] of Object.values(announce).flatMap((of) => Object.entries(of))) {
        for (const nlri of list) {
          if (nlri.nlri !== prefix) continue;
          held.set(key(peer, nlri), {
            nextHop,
            origin: attribute.origin ?? '',
            med: attribute.med ?? 0,
            localPref: attribute['local-preference'] ?? 0,
            asPath: (attribute['as-path'] ?? []).join(' '),
            communities: (attribute.community ?? []).map((words) => words.join(':')),
            largeCommunities: (attribute['large-community'] ?? []).map((words) => words.join(':')),
            extendedCommunities: (attribute['extended-community'] ?? []).map(({ string }) =>
              string.replace('target:', 'rt:'),
            ),
          });
        }
      }
    }
    return [...held.values()];
  }

  async describe(peer: string): Promise<string> {
    return `${JSON.stringify(this.#told(peer).slice(-8))}\n${readFileSync(this.place.file('told'), 'utf8').slice(-2000)}`;
  }

  async refresh(peer: string): Promise<void> {
    appendFileSync(this.place.file('orders'), `neighbor ${peer} announce route-refresh ipv4 unicast\n`);
  }

  async shutdown(): Promise<void> {
    throw new Error('ExaBGP has no words for it');
  }

  /** All that it has said, of one peer or of all. */
  #told(peer?: string): Told[] {
    // The last line may be half written.
    const lines = readFileSync(this.place.file('told'), 'utf8').split('\n').slice(0, -1);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: it quotes what the other side said as it came
    const all = lines.map((line) => JSON.parse(line.replace(/[\u0000-\u001f]/g, ' ')) as Told);
    return peer ? all.filter(({ neighbor }) => neighbor?.address.peer === peer) : all;
  }
}

const configuration = (
  { asn, routerId, address6, peerings, routes }: DaemonConfig,
  program: string,
): string => `
process program { run ${program}; encoder json; }
${peerings
  .map(
    (p) => `neighbor ${p.peer} {
  router-id ${routerId};
  local-address ${p.local};
  local-as ${asn};
  peer-as ${p.peerAsn};
  passive ${p.passive !== false};
  ${p.passive !== false ? 'listen 179;' : ''}
  adj-rib-out true;
  ${p.password ? `md5-password "${p.password}"; md5-ip ${p.local};` : ''}
  ${p.ttlSecurity ? 'outgoing-ttl 255; incoming-ttl 255;' : ''}
  family { ${p.families.map((family) => `${family} unicast;`).join(' ')} }
  capability {
    route-refresh enable;
    asn4 ${p.as4 === false ? 'disable' : 'enable'};
    multi-session disable;
    operational disable;
    extended-message ${p.extendedMessages ? 'enable' : 'disable'};
    ${p.restartTime ? `graceful-restart ${p.restartTime};` : ''}
    ${p.addPath ? `add-path ${p.addPath};` : ''}
    ${p.nextHop6 ? 'nexthop enable;' : 'nexthop disable;'}
  }
  ${p.nextHop6 ? 'nexthop { ipv4 unicast ipv6; }' : ''}
  ${p.addPath ? `add-path { ${p.families.map((family) => `${family} unicast;`).join(' ')} }` : ''}
  static { ${routes.map((route) => announcement(route, isIp6(route.prefix) ? address6 : p.local)).join(' ')} }
  api { processes [ program ]; neighbor-changes; receive { parsed; update; open; } }
}`,
  )
  .join('\n')}
`;

function announcement(
  { prefix, pathId, communities, largeCommunities, extendedCommunities }: Announced,
  nextHop: string,
): string {
  // Several paths are told from each other by their next hops.
  const parts = [
    `route ${prefix} next-hop ${pathId ? nextHop.replace(/\d+$/, `${10 + pathId}`) : nextHop}`,
    pathId && `path-information ${pathId}`,
    communities && `community [ ${communities.join(' ')} ]`,
    largeCommunities && `large-community [ ${largeCommunities.join(' ')} ]`,
    extendedCommunities &&
      `extended-community [ ${extendedCommunities.map((text) => text.replace('rt:', 'target:')).join(' ')} ]`,
  ];
  return `${parts.filter(Boolean).join(' ')};`;
}
