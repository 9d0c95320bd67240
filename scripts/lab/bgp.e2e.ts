/** `tortie bgp` beside a real agent, which speaks with two BIRDs of their own ASes. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import type { BgpEvent, BgpPeerView, BgpRouteView, BgpWhyView } from '../../control/api/types.ts';
import { until } from '../../control/bgp/until.ts';
import { Cluster, Daemon, nodeAddress, TORTIE } from './cluster.ts';
import { noLab } from './in-lab.ts';

const noCollector = !existsSync('/usr/sbin/pmbmpd');
if (noCollector) console.log('skipped: BMP to pmbmpd (it is not installed; apt-get install pmacct)');

const US = nodeAddress(1);
const LEFT = '192.0.2.253';
const RIGHT = '192.0.2.254';
const UPLINKS = { left: [LEFT, 64601], right: [RIGHT, 64602] } as const;
type Uplink = keyof typeof UPLINKS;

/** Both tell 203.0.113.0/24, the left one by a longer path; each has a route of its own. */
const ROUTES: Readonly<Record<Uplink, string>> = {
  left: `
    route 203.0.113.0/24 blackhole { bgp_path.prepend(64700); bgp_community.add((64601, 7)); };
    route 198.18.0.0/16 blackhole;`,
  right: `
    route 203.0.113.0/24 blackhole;
    route 198.19.0.0/16 blackhole;`,
};

const birdConfig = (uplink: Uplink): string => {
  const [address, asn] = UPLINKS[uplink];
  return `
router id ${address};
protocol device {}
protocol static { ipv4; ${ROUTES[uplink]} }
protocol bgp node1 {
  local ${address} as ${asn};
  neighbor ${US} as 64512;
  connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 { import all; export where source = RTS_STATIC; };
}
`;
};

describe.skipIf(noLab)('tortie bgp', () => {
  let cluster: Cluster;
  const birds = new Map<Uplink, Daemon>();
  const file = (name: string) => join(cluster.lab.folder, name);
  const birdc = (uplink: Uplink, ...command: string[]) =>
    cluster.lab.run(uplink, 'birdc', ['-s', file(`${uplink}.ctl`), ...command], 5000);

  const write = (kind: string, name: string, spec: unknown) =>
    writeFileSync(
      join(cluster.resources, `${name}.yaml`),
      stringify({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec }),
    );

  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 1, podsPerNode: 1, bgp: 'mesh', mode: 'ipip' });
    for (const uplink of ['left', 'right'] as const) {
      const [peerIP, asNumber] = UPLINKS[uplink];
      await cluster.lab.netns(uplink);
      await cluster.plug(uplink, peerIP);
      const config = file(`${uplink}.conf`);
      writeFileSync(config, birdConfig(uplink));
      const command = ['bird', '-d', '-c', config, '-s', file(`${uplink}.ctl`), '-P', file(`${uplink}.pid`)];
      birds.set(uplink, new Daemon(uplink, command, file(`${uplink}.log`)));
      await until('BIRD answers', () => birdc(uplink, 'show', 'status').catch(() => null));
      write('BGPPeer', uplink, { peerIP, asNumber, filters: ['transit'] });
    }
    // Without a word only what is the cluster's is passed on.
    write('BGPFilter', 'transit', { exportV4: [{ action: 'Accept' }] });
    cluster.reload();
    await up();
  });
  afterAll(async () => {
    for (const bird of birds.values()) await bird.stop();
    await cluster?.close();
  });

  const tortie = (...args: string[]) => cluster.tortie(1, 'bgp', ...args);
  const json = async <T>(...args: string[]): Promise<T> => JSON.parse(await tortie(...args, '--json')) as T;
  const rows = async (...args: string[]): Promise<BgpRouteView[]> =>
    (await tortie('routes', ...args, '--json'))
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  const prefixes = async (...args: string[]) => (await rows(...args)).map(({ prefix }) => prefix).sort();
  /** Both sessions are up, all is told, and told on. */
  const up = () =>
    until('both peers have told all, and were told all', async () => {
      const peers = await cluster.api(1).bgp.peers();
      return (
        peers.length === 2 &&
        peers.every(
          ({ address, state, families: [ip4] }) =>
            state === 'Established' &&
            ip4?.received === 2 &&
            ip4.endOfRibReceived &&
            ip4.sent === (address === LEFT ? 3 : 2),
        )
      );
    });
  /** What a command that is to fail says. */
  const complaint = (...args: string[]) =>
    tortie(...args).then(
      (out) => expect.fail(`it did not fail, and said ${out}`),
      (error: { stderr: string }) => error.stderr,
    );

  it('peers and summary list both', async () => {
    const peers = await tortie('peers');
    expect(peers).toMatch(/^PEER +AS +TYPE +STATE +FOR +RECEIVED +SENT +BFD +LAST ERROR\n/);
    expect(peers).toMatch(/^192\.0\.2\.253 +64601 +global +Established +00:00:\d\d +2 +\d +- +-$/m);
    const summary = await tortie('summary');
    expect(summary).toMatch(/^AS 64512, router id 192\.0\.2\.1\nIPv4: 5 paths to 4 prefixes\n/);
    expect(summary).toMatch(/^192\.0\.2\.254 +64602 +\d+ +\d+ +0 +0 +Established +\S+ +2 +0 +0 +\d$/m);
    expect(await cluster.tortie(1, 'node', 'status')).toMatch(
      /IPv4 BGP status\n[\s\S]*\| 192\.0\.2\.253 +\| global +\| up +\| \S+ \| Established +\|[\s\S]*IPv6 BGP status/,
    );
  });

  it('peer shows both sides, timers and counters', async () => {
    const text = await tortie('peer', LEFT);
    expect(text).toMatch(
      /^Peer +192\.0\.2\.253 port 179, global, BGPPeer left\nAS +64601 \(external, ours 64512\)\n/,
    );
    expect(text).toMatch(/^Timers +hold 90 s, keepalive 30 s$/m);
    expect(text).toMatch(/^AS +64512 +64601$/m);
    expect(text).toMatch(/^hold time +90 s +240 s$/m);
    expect(text).toMatch(/^IPv4 unicast +yes +yes$/m);
    expect(text).toMatch(/^route refresh +yes +yes$/m);
    expect(text).toMatch(/^IPv4 +2 +0 +0 +\d +received, sent +-$/m);
    const { counters } = await json<BgpPeerView>('peer', LEFT);
    expect(counters.updatesIn).toBeGreaterThanOrEqual(3);
    expect(counters).toMatchObject({ established: 1, flaps: 0, updatesMalformed: 0 });
  });

  it('routes shows what came, what went, and what is best', async () => {
    const text = await tortie('routes', '203.0.113.0/24');
    expect(text).toMatch(
      /^\* +203\.0\.113\.0\/24 +192\.0\.2\.254 +- +- +64602 +IGP +192\.0\.2\.254 \(AS 64602\) +\S+ +AS path length$/m,
    );
    expect(text).toMatch(
      /^ +203\.0\.113\.0\/24 +192\.0\.2\.253 +- +- +64601 64700 .*worse by AS path length, 2 against 1$/m,
    );
    const ours = '10.65.1.0/26';
    expect(await prefixes('--best')).toEqual([ours, '198.18.0.0/16', '198.19.0.0/16', '203.0.113.0/24']);
    expect(await prefixes('--in', LEFT)).toEqual(['198.18.0.0/16', '203.0.113.0/24']);
    expect(await prefixes('--out', LEFT)).toEqual([ours, '198.19.0.0/16', '203.0.113.0/24']);
    expect(await prefixes('--out', RIGHT)).toEqual([ours, '198.18.0.0/16']);
    expect(await prefixes('198.18.7.7')).toEqual(['198.18.0.0/16']);
    expect(await prefixes('198.16.0.0/14', '--longer')).toEqual(['198.18.0.0/16', '198.19.0.0/16']);
    expect(await prefixes('--family', 'ipv6')).toEqual([]);
    // BIRD has what --out says that it has.
    const known = await until('BIRD has all', async () => {
      const text = await birdc('right', 'show', 'route', 'protocol', 'node1');
      return text.includes(ours) && text.includes('198.18.0.0/16') && text;
    });
    expect(known).not.toContain('203.0.113.0/24');
  });

  it('why tells the step that decided', async () => {
    const text = await tortie('why', '203.0.113.9');
    expect(text).toMatch(
      /^203\.0\.113\.0\/24: the first of 2 paths is best, by AS path length\.\n\n1\. best by AS path length\n {3}from 192\.0\.2\.254/,
    );
    expect(text).toContain('\n2. worse by AS path length, 2 against 1\n   from 192.0.2.253 (AS 64601)');
    expect(text).toContain('\n   communities 64601:7\n');
    const why = await json<BgpWhyView>('why', '203.0.113.0/24');
    expect(why.candidates.map(({ peer, state }) => [peer, state])).toEqual([
      [RIGHT, 'best'],
      [LEFT, 'worse'],
    ]);
    expect(await tortie('why', '203.0.113.0/24', '--to', LEFT)).toMatch(
      /\nTold to 192\.0\.2\.253:\n {3}via 192\.0\.2\.1, AS path 64512 64602\n$/,
    );
    expect(await tortie('why', '203.0.113.0/24', '--to', RIGHT)).toMatch(
      /\nNot told to 192\.0\.2\.254: the best path is its own\.\n$/,
    );
    expect(await tortie('why', '203.0.113.0/25')).toBe(
      'Nobody announces 203.0.113.0/25; BGP’s route to it is 203.0.113.0/24.\n',
    );
  });

  /** A monitor that runs until the test has what it waits for. */
  async function monitored(args: readonly string[], act: () => Promise<unknown>, awaited: readonly RegExp[]) {
    const log = join(cluster.lab.folder, `monitor-${Math.random()}.log`);
    const command = [process.execPath, TORTIE, 'bgp', 'monitor', ...args];
    const monitor = new Daemon('node1', command, log);
    try {
      await until('it watches', () => monitor.output.includes('Watching'));
      await act();
      for (const line of awaited) await until(`it tells ${line}`, () => line.test(monitor.output));
    } finally {
      expect(await monitor.stop('SIGINT')).toBe(0);
    }
    return monitor.output;
  }

  it('monitor tells what comes and goes, and of one peer alone', async () => {
    await monitored(['--best'], () => birdc('right', 'disable', 'node1'), [
      / from 192\.0\.2\.254: NOTIFICATION Cease: administrative shutdown \(6\/2\)/,
      / 192\.0\.2\.254 \(AS 64602\) is Active: the peer sent Cease/,
      / best: nothing for 198\.19\.0\.0\/16/,
      / best: 203\.0\.113\.0\/24 via 192\.0\.2\.253 from 192\.0\.2\.253 \(AS 64601\), only path/,
    ]);
    expect(await tortie('peers')).toMatch(/^192\.0\.2\.254 .* the peer sent Cease: administrative shutdown/m);
    const back = await monitored([RIGHT, '--json'], async () => {
      await birdc('right', 'enable', 'node1');
      await up();
    }, [/"direction":"in".*"endOfRib":"ipv4"/, /"state":"Established"/]);
    const events = back
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as BgpEvent);
    expect(events.every((event) => 'peer' in event && event.peer === RIGHT)).toBe(true);
    expect(events).toContainEqual(expect.objectContaining({ type: 'OPEN', direction: 'in', asn: 64602 }));
    expect(events).toContainEqual(expect.objectContaining({ event: 'state', state: 'Established' }));
    const announced = events.flatMap((event) =>
      event.event === 'message' && event.type === 'UPDATE' && event.direction === 'in'
        ? event.announced.flatMap((announcement) => announcement.prefixes)
        : [],
    );
    expect(announced.sort()).toEqual(['198.19.0.0/16', '203.0.113.0/24']);
  });

  it('refresh has both sides tell all again', async () => {
    await monitored([LEFT], () => tortie('refresh', LEFT), [
      / to 192\.0\.2\.253: ROUTE-REFRESH ipv4 request\n/,
      / from 192\.0\.2\.253: UPDATE 198\.18\.0\.0\/16 /,
      / to 192\.0\.2\.253: UPDATE 10\.65\.1\.0\/26 via 192\.0\.2\.1, AS path 64512/,
    ]);
    expect(await json<BgpPeerView>('peer', LEFT)).toMatchObject({ counters: { established: 1 } });
  });

  it('reset begins anew, and BIRD’s operator reads why', async () => {
    expect(await tortie('reset', LEFT, '--message', 'new line card')).toBe(
      `The session with ${LEFT} is reset\n`,
    );
    await until('BIRD was told', () => birds.get('left')!.output.includes('new line card'));
    await up();
    expect(await json<BgpPeerView>('peer', LEFT)).toMatchObject({ counters: { established: 2, flaps: 1 } });
  });

  it('takes peers by name, and says which are left out for as long as they are', async () => {
    const resource = { kind: 'BGPPeer', name: 'right' };
    expect(await json<BgpPeerView>('peer', 'right')).toMatchObject({ address: RIGHT, resource });
    const problems = async () => (await cluster.api(1).bgp.summary()).problems;
    const secretKeyRef = { name: 'bgp', key: 'third' };
    write('BGPPeer', 'third', { peerIP: '192.0.2.252', asNumber: 64603, password: { secretKeyRef } });
    cluster.reload();
    await until('it is left out', async () => (await problems()).length === 1);
    const reason = 'left out: BGPPeer third, peer 192.0.2.252: the password bgp/third is not in bgp.secrets';
    expect(await tortie('peers')).toContain(`\n\n${reason}`);
    expect(await complaint('reset', 'third')).toContain(`no peer "third"; ${reason}`);
    rmSync(join(cluster.resources, 'third.yaml'));
    cluster.reload();
    await until('it is not wanted any more', async () => (await problems()).length === 0);
    expect(await complaint('peer', 'third')).toContain(`peers: ${LEFT} (left), ${RIGHT} (right)`);
  });

  it('metrics have the same', async () => {
    const socket = '/run/tortie/node1/api.sock';
    const text = await cluster.lab.run('node1', 'curl', ['-s', '--unix-socket', socket, 'http://x/metrics']);
    for (const line of [
      `bgp_peer_up{peer="${LEFT}",asn="64601",type="global"} 1`,
      `bgp_routes_received{peer="${LEFT}",route_family="ipv4-unicast"} 2`,
      `bgp_session_flaps_total{peer="${LEFT}"} 1`,
      'bgp_rib_paths{route_family="ipv4-unicast"} 5',
    ]) {
      expect(text).toContain(`${line}\n`);
    }
  });

  it('dump is a file, and load answers about it as the agent does', async () => {
    const table = file('table.mrt.gz');
    expect(await tortie('dump', table)).toMatch(/table.mrt.gz has the table: \d+ bytes of MRT\n$/);
    const load = async <T>(...args: string[]): Promise<T> =>
      JSON.parse(
        await cluster.lab.run('node1', process.execPath, [TORTIE, 'bgp', 'load', table, ...args, '--json']),
      );
    expect(await load('--why', '203.0.113.9')).toEqual(await json<BgpWhyView>('why', '203.0.113.9'));
    await tortie('dump', table, '--in', LEFT);
    expect(await load('--routes', '198.18.0.0/16')).toMatchObject({ peer: LEFT, state: 'best' });
    expect(await complaint('dump', table, '--in', '192.0.2.9')).toContain('PEER_UNKNOWN');
  });

  it.each(['SIGTERM', 'SIGHUP', 'SIGINT'] as const)(
    'dump ended by %s leaves nothing behind',
    async (signal) => {
      const agent = cluster.agents.get(1)!;
      const left = () => readdirSync(cluster.lab.folder).filter((name) => name.includes('ended.mrt'));
      const command = [process.execPath, TORTIE, 'bgp', 'dump', file('ended.mrt')];
      // An agent that does not answer keeps it waiting.
      agent.signal('SIGSTOP');
      const dump = new Daemon('node1', command, file(`${signal}.log`));
      try {
        await until('it has begun', () => left().length > 0);
        expect(await dump.stop(signal)).toBe(1);
      } finally {
        agent.signal('SIGCONT');
      }
      expect(left()).toEqual([]);
      expect(dump.output).toContain('is as it was: interrupted (DUMP_INTERRUPTED)');
    },
  );

  it('says so in one line when its output has no room', async () => {
    const command = `${process.execPath} ${TORTIE} bgp routes > /dev/full`;
    await expect(cluster.lab.run('node1', 'sh', ['-c', command])).rejects.toMatchObject({
      code: 74,
      stderr: expect.stringMatching(/^tortie: what was asked for cannot be written: ENOSPC.*\n$/),
    });
  });

  it.skipIf(noCollector)(
    'a BMP collector that settings name hears of both sessions and their routes',
    async () => {
      const heard = file('bmp.jsonl');
      const command = ['pmbmpd', '-L', US, '-l', '1790', '-o', heard];
      const collector = new Daemon('node1', command, file('pmbmpd.log'));
      try {
        // Who comes too early is not tried again before long.
        await until('the collector listens', async () =>
          (await cluster.lab.run('node1', 'ss', ['-Hltn', 'sport = :1790'])).includes('1790'),
        );
        const settings = parse(readFileSync(cluster.settingsFile(1), 'utf8'));
        settings.bgp.bmp = [{ address: US, port: 1790 }];
        writeFileSync(cluster.settingsFile(1), stringify(settings));
        cluster.reload();
        await until('the routes of both', () => {
          const text = existsSync(heard) ? readFileSync(heard, 'utf8') : '';
          const lines = text.split('\n').filter((line) => line.endsWith('}'));
          const told = lines.map((line) => JSON.parse(line) as Record<string, string>);
          return [
            '203.0.113.0/24 192.0.2.253',
            '203.0.113.0/24 192.0.2.254',
            '198.19.0.0/16 192.0.2.254',
          ].every((route) =>
            told.some(
              (event) => `${event.ip_prefix} ${event.peer_ip}` === route && event.log_type === 'update',
            ),
          );
        });
        expect(await tortie('summary')).toContain(`BMP collector ${US}:1790: up for `);
      } finally {
        await collector.stop('SIGKILL');
      }
      await until('the loss', async () => {
        const { bmp } = await cluster.api(1).bgp.summary();
        return bmp[0]?.up === false && bmp[0].lastError !== null;
      });
    },
  );

  it('complains in one line', async () => {
    expect(await complaint('peer', '192.0.2.9')).toBe(
      `tortie: no peer "192.0.2.9"; peers: ${LEFT} (left), ${RIGHT} (right) (PEER_UNKNOWN)\n`,
    );
    expect(await complaint('why', '10.0.0.1/8')).toContain('It has bits behind its length.');
    await cluster.agents.get(1)!.stop();
    expect(await complaint('peers', '--node', 'node1')).toMatch(/^tortie: no agent answers on .*\n$/);
  });
});
