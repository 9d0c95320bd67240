/** BIRD 2. */
import { existsSync, writeFileSync } from 'node:fs';
import type { Role } from '../../control/bgp/config.ts';
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

const BIRD = '/usr/sbin/bird';
const BIRDC = '/usr/sbin/birdc';

const ROLES: Record<Role, string> = {
  provider: 'provider',
  customer: 'customer',
  peer: 'peer',
  rs: 'rs_server',
  'rs-client': 'rs_client',
};

export class Bird implements Driver {
  readonly name = 'BIRD';
  readonly package = 'bird2';
  readonly programs = [BIRD, BIRDC];
  readonly reflects = true;
  readonly cannot = {};
  place!: Place;
  #peers: string[] = [];

  async version(): Promise<string> {
    // It says so on standard error.
    return /\d[\d.]*/.exec(await this.place.run('sh', '-c', `${BIRD} --version 2>&1`))![0];
  }

  async start(config: DaemonConfig, { restarting = false } = {}): Promise<void> {
    const { place } = this;
    this.#peers = config.peerings.map(({ peer }) => peer);
    writeFileSync(place.file('bird.conf'), configuration(config, place.file('bird.log')));
    const files = ['-c', place.file('bird.conf'), '-s', place.file('bird.ctl'), '-P', place.file('bird.pid')];
    const bird = place.start('bird', [BIRD, '-f', ...files, ...(restarting ? ['-R'] : [])]);
    await until('BIRD answers', () => {
      if (bird.ended) throw new Error(`BIRD ended: ${bird.output}`);
      return existsSync(place.file('bird.ctl')) ? this.#ask('show', 'status').catch(() => null) : null;
    });
  }

  async stop(): Promise<void> {
    await this.place.clear();
  }

  async crash(): Promise<void> {
    await this.place.clear('SIGKILL');
  }

  async isEstablished(peer: string): Promise<boolean> {
    return /BGP state:\s+Established/.test(await this.describe(peer));
  }

  async routes(prefix: string): Promise<Held[]> {
    // It exits with an error where there is no route.
    const text = await this.#ask('show', 'route', 'all', 'where', `net = ${prefix}`);
    return text
      .split(/^(?=\S+\s+(?:unicast|unreachable)|\s+(?:unicast|unreachable) )/m)
      .filter((entry) => entry.includes('BGP.origin'))
      .map((entry) => {
        const line = (name: string) => new RegExp(`BGP\\.${name}: (.*)`).exec(entry)?.[1] ?? '';
        const tuples = (name: string) =>
          [...line(name).matchAll(/\(([^)]*)\)/g)].map(([, inner]) => inner!.split(/,\s*/).join(':'));
        return {
          nextHop: line('next_hop').split(' ')[0]!,
          origin: line('origin').toLowerCase(),
          asPath: line('as_path').trim(),
          med: Number(line('med')),
          localPref: Number(line('local_pref')),
          communities: tuples('community'),
          ...(line('otc') && { otc: Number(line('otc')) }),
          largeCommunities: tuples('large_community'),
          extendedCommunities: tuples('ext_community'),
        };
      });
  }

  describe(peer: string): Promise<string> {
    return this.#ask('show', 'protocols', 'all', this.#protocol(peer));
  }

  async refresh(peer: string): Promise<void> {
    await this.#ask('reload', 'in', this.#protocol(peer));
  }

  async shutdown(peer: string, text: string): Promise<void> {
    await this.#ask('disable', this.#protocol(peer), `"${text}"`);
  }

  async bfdIsUp(peer: string): Promise<boolean> {
    const text = await this.#ask('show', 'bfd', 'sessions');
    return text.split('\n').some((line) => line.startsWith(`${peer} `) && / Up /.test(line));
  }

  #protocol(peer: string): string {
    return `peer${this.#peers.indexOf(peer)}`;
  }

  #ask(...command: string[]): Promise<string> {
    return this.place.run(BIRDC, '-s', this.place.file('bird.ctl'), ...command);
  }
}

function configuration({ asn, routerId, peerings, routes }: DaemonConfig, log: string): string {
  const statics = ([4, 6] as const).map((family) => {
    const own = routes.filter(({ prefix }) => isIp6(prefix) === (family === 6));
    return `protocol static static${family} { ipv${family}; ${own.map(route).join(' ')} }`;
  });
  return `log "${log}" all;
router id ${routerId};
protocol device {}
protocol bfd { interface "*" { min rx interval 100 ms; min tx interval 100 ms; }; }
${statics.join('\n')}
${peerings.map((peering, index) => protocol(peering, index, asn)).join('\n')}
`;
}

function route({
  prefix,
  communities = [],
  largeCommunities = [],
  extendedCommunities = [],
}: Announced): string {
  const add = (attribute: string, values: readonly string[]) =>
    values.map((value) => `${attribute}.add((${value.split(':').join(',')}));`);
  const actions = [
    ...add('bgp_community', communities),
    ...add('bgp_large_community', largeCommunities),
    ...add('bgp_ext_community', extendedCommunities),
  ];
  return `route ${prefix} blackhole { ${actions.join(' ')} };`;
}

function protocol(p: Peering, index: number, asn: number): string {
  const internal = p.peerAsn === asn;
  const options = [
    `local ${p.local} as ${asn}`,
    `neighbor ${p.peer} as ${p.peerAsn}`,
    'direct',
    'connect delay time 1',
    'connect retry time 1',
    'error wait time 1, 1',
    p.passive !== false && 'passive',
    p.password && `password "${p.password}"`,
    p.ttlSecurity && 'ttl security on',
    p.client && 'rr client',
    p.restartTime ? `graceful restart on; graceful restart time ${p.restartTime}` : 'graceful restart off',
    p.longLivedTime && `long lived graceful restart on; long lived stale time ${p.longLivedTime}`,
    p.role && !internal && `local role ${ROLES[p.role]}`,
    p.extendedMessages && 'enable extended messages on',
    p.as4 === false && 'enable as4 off',
    p.bfd && 'bfd on',
  ];
  const channel = [
    'import all',
    'export all',
    p.addPath === 'receive' && 'add paths rx',
    p.addPath === 'send' && 'add paths tx',
    p.maxPrefixes && `import limit ${p.maxPrefixes} action disable`,
  ];
  const channels = p.families.map((family) => {
    const more = family === 'ipv4' && p.nextHop6 && 'extended next hop on';
    return `${family} { ${[...channel, more].filter(Boolean).join('; ')}; };`;
  });
  return `protocol bgp peer${index} { ${options.filter(Boolean).join('; ')}; ${channels.join(' ')} }`;
}
