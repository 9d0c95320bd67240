/**
 * BFD against BIRD and FRR, over one hop and over several:
 *
 *   here (10.9.0.1, fd00:9::1) -- near (10.9.0.2, fd00:9::2; forwards; 10.9.1.1) -- far (10.9.1.2)
 *                                                      fd00:91::1         (fd00:91::2)
 */
import { execFile } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Lab } from '../../bench/lab.ts';
import { BfdClient, type BfdState } from '../../control/bfd/client.ts';
import { DIAG_TIMEOUT, DOWN, STATE_NAMES, UP } from '../../control/bfd/packet.ts';
import type { SessionReport, SessionSpec } from '../../control/bfd/protocol.ts';
import { ACCEPT_ALL } from '../../control/bgp/policy.ts';
import { Speaker } from '../../control/bgp/speaker.ts';
import { until } from '../../control/bgp/until.ts';
import { Daemon } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { Site, UNDERLAY, UNDERLAY_ADDRESS } from './site.ts';

const run = promisify(execFile);
const BFDD = '/usr/lib/frr/bfdd';
const noBird = !existsSync('/usr/sbin/bird');
/** FRR becomes a user of its own, whom a lab of an ordinary user does not have. */
const hasUsers = /^\s*0\s+0\s+4294967295$/m.test(readFileSync('/proc/self/uid_map', 'utf8'));
const noFrr = !existsSync(BFDD) || !hasUsers;
if (noBird) console.log('skipped: BFD with BIRD (apt-get install bird2)');
if (noFrr) console.log('skipped: BFD with FRR (apt-get install frr; as root)');

const HERE = '10.9.0.1';
const HERE6 = 'fd00:9::1';
const NEAR = '10.9.0.2';
const NEAR6 = 'fd00:9::2';
const FAR = '10.9.1.2';
const FAR6 = 'fd00:91::2';
const FAST = { minTxMs: 100, minRxMs: 100, multiplier: 3 };
const near: SessionSpec = { peer: NEAR, local: HERE, multihop: false, ...FAST };
const near6: SessionSpec = { peer: NEAR6, local: HERE6, multihop: false, ...FAST };
const far: SessionSpec = { peer: FAR, local: HERE, multihop: true, ...FAST };
const far6: SessionSpec = { peer: FAR6, local: HERE6, multihop: true, ...FAST };

describe.skipIf(noLab)('BFD', () => {
  let lab: Lab;
  const daemons: Daemon[] = [];
  const closers: (() => unknown)[] = [];

  beforeAll(async () => {
    lab = new Lab();
    chmodSync(lab.folder, 0o755);
    const here = async (...commands: string[]) => {
      for (const command of commands) await run('ip', command.split(' '));
    };
    await lab.netns('near');
    await lab.netns('far');
    await here(
      'link add here type veth peer name eth0 netns near',
      'link set here up',
      `addr add ${HERE}/24 dev here`,
      `addr add ${HERE6}/64 dev here nodad`,
      `route add 10.9.1.0/24 via ${NEAR}`,
      `route add fd00:91::/64 via ${NEAR6}`,
    );
    await lab.ip(
      'near',
      'link set eth0 up',
      `addr add ${NEAR}/24 dev eth0`,
      `addr add ${NEAR6}/64 dev eth0 nodad`,
    );
    await lab.veth('near', 'eth1', 'far', 'eth0');
    await lab.ip('near', 'addr add 10.9.1.1/24 dev eth1', 'addr add fd00:91::1/64 dev eth1 nodad');
    await lab.ip(
      'far',
      `addr add ${FAR}/24 dev eth0`,
      'route add default via 10.9.1.1',
      `addr add ${FAR6}/64 dev eth0 nodad`,
      'route add default via fd00:91::1',
    );
    await lab.sysctl('near', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
  });

  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
    for (const daemon of daemons.splice(0).reverse()) {
      daemon.signal('SIGCONT');
      await daemon.stop();
    }
  });

  afterAll(async () => {
    await run('ip', ['link', 'delete', 'here']);
    await lab.close();
  });

  function daemon(netns: string, command: string[]): Daemon {
    const one = new Daemon(netns, command, join(lab.folder, `${files++}.log`));
    daemons.push(one);
    return one;
  }

  let files = 0;
  /** A client with a process of its own, and all that it has been told. */
  function client(sessions: readonly SessionSpec[], socket = join(lab.folder, `bfd${files++}.sock`)) {
    const said: BfdState[] = [];
    const bfd = new BfdClient({ socket, onState: (state) => said.push(state), log: () => {} });
    bfd.configure(sessions);
    closers.push(() => ended(bfd));
    return { bfd, said, socket };
  }

  /** Let go of a process and wait until it is gone: the next one needs its ports. */
  async function ended(bfd: BfdClient): Promise<void> {
    const { pid } = bfd;
    bfd.stop();
    await until('the BFD process has ended', () => pid === null || !existsSync(`/proc/${pid}`));
  }

  const inState = (bfd: BfdClient, peer: string, state: number): Promise<SessionReport> =>
    until(`${peer} is ${STATE_NAMES[state]}`, () => {
      const report = bfd.session(peer);
      return report?.state === state && report;
    });
  /** Up, and with the intervals that were agreed on. */
  const fast = (bfd: BfdClient, peer: string): Promise<SessionReport> =>
    until(`${peer} is Up at full speed`, () => {
      const report = bfd.session(peer);
      return report?.state === UP && report.txMs === 100 && report.detectionMs === 300 && report;
    });
  const packets = async (bfd: BfdClient, peer: string, count: number): Promise<SessionReport> => {
    const before = bfd.session(peer)!.packetsIn;
    return until(`${count} packets of ${peer} have come`, () => {
      const report = bfd.session(peer)!;
      return report.packetsIn >= before + count && report;
    });
  };

  /** BIRD in a namespace; asks it by birdc. */
  async function bird(netns: string, config: string) {
    const folder = join(lab.folder, `bird${files++}`);
    mkdirSync(folder);
    writeFileSync(
      join(folder, 'conf'),
      `log "${folder}/messages" all;\nrouter id ${NEAR};\nprotocol device {}\n${config}`,
    );
    const socket = join(folder, 'ctl');
    const process = daemon(netns, [
      '/usr/sbin/bird',
      '-f',
      '-c',
      join(folder, 'conf'),
      '-s',
      socket,
      '-P',
      join(folder, 'pid'),
    ]);
    const ask = (...words: string[]) =>
      run('/usr/sbin/birdc', ['-s', socket, ...words]).then(({ stdout }) => stdout);
    await until('BIRD answers', () => ask('show', 'status').catch(() => null));
    return { process, ask, flaps: () => flapsIn(join(folder, 'messages')) };
  }

  const BIRD_BFD = `
    debug { events };
    interface "*" { interval 100 ms; multiplier 3; };
    multihop { interval 100 ms; multiplier 3; };`;

  /** FRR's zebra and bfdd in a namespace; asks bfdd by vtysh. */
  async function frr(netns: string, config: string) {
    const folder = join(lab.folder, `frr${files++}`);
    mkdirSync(folder);
    writeFileSync(join(folder, 'bfdd.conf'), config);
    await run('chown', ['-R', 'frr:frr', folder]);
    const common = ['-A', '127.0.0.1', '-P', '0', '-z', join(folder, 'zserv'), '--vty_socket', folder];
    daemon(netns, ['/usr/lib/frr/zebra', ...common, '-i', join(folder, 'zebra.pid'), '-f', '/dev/null']);
    await until('zebra listens', () => existsSync(join(folder, 'zserv')));
    const control = ['--bfdctl', join(folder, 'bfdd.sock'), '-f', join(folder, 'bfdd.conf')];
    const process = daemon(netns, [BFDD, ...common, '-i', join(folder, 'bfdd.pid'), ...control]);
    const ask = (...commands: string[]) =>
      run('vtysh', ['--vty_socket', folder, ...commands.flatMap((command) => ['-c', command])]).then(
        ({ stdout }) => stdout,
      );
    await until('bfdd answers', () => ask('show bfd peers').catch(() => null));
    return { process, ask };
  }

  const FRR_PEERS = `bfd
 peer ${HERE} interface eth0
  receive-interval 100
  transmit-interval 100
 exit
 peer ${HERE6} local-address ${NEAR6} interface eth0
  receive-interval 100
  transmit-interval 100
 exit
exit
`;

  it.skipIf(noFrr)('comes up with FRR, v4 and v6, notices that it stands still, and comes back', async () => {
    const { process, ask } = await frr('near', FRR_PEERS);
    const { bfd, said } = client([near, near6]);
    for (const peer of [NEAR, NEAR6]) await fast(bfd, peer);
    const peers = JSON.parse(await ask('show bfd peers json')) as Record<string, unknown>[];
    expect(peers.map(({ status }) => status)).toEqual(['up', 'up']);
    expect(peers.find((one) => one.peer === HERE)).toMatchObject({
      'remote-receive-interval': 100,
      'remote-detect-multiplier': 3,
    });
    expect(said.some(({ failed }) => failed)).toBe(false);
    process.signal('SIGSTOP');
    for (const peer of [NEAR, NEAR6]) {
      const report = await inState(bfd, peer, DOWN);
      expect(report).toMatchObject({ diagnostic: DIAG_TIMEOUT, failures: 1 });
    }
    expect(
      said
        .filter(({ failed }) => failed)
        .map(({ peer, text }) => `${peer} ${text}`)
        .sort(),
    ).toEqual([
      `${NEAR} Down: control detection time expired`,
      `${NEAR6} Down: control detection time expired`,
    ]);
    process.signal('SIGCONT');
    for (const peer of [NEAR, NEAR6]) await fast(bfd, peer);
  });

  it.skipIf(noFrr)(
    "takes FRR's AdminDown for no failure, and tells of its own when a session is not wanted",
    async () => {
      const { ask } = await frr('near', FRR_PEERS);
      const { bfd, said } = client([near, near6]);
      for (const peer of [NEAR, NEAR6]) await fast(bfd, peer);
      await ask('configure', 'bfd', `peer ${HERE} interface eth0`, 'shutdown');
      const report = await inState(bfd, NEAR, DOWN);
      expect(report).toMatchObject({ failures: 0, remoteState: 0 });
      bfd.configure([near]);
      const text = await until('FRR hears it', async () => {
        const peers = await ask('show bfd peers');
        return peers.includes('Remote diagnostics: administratively down') && peers;
      });
      expect(text).toContain('Diagnostics: neighbor signaled session down');
      expect(said.some(({ failed }) => failed)).toBe(false);
      await ask('configure', 'bfd', `peer ${HERE} interface eth0`, 'no shutdown');
      bfd.configure([near, near6]);
      for (const peer of [NEAR, NEAR6]) await fast(bfd, peer);
    },
  );

  it.skipIf(noFrr)('takes other timers without going down, and FRR learns them', async () => {
    const { ask } = await frr('near', FRR_PEERS);
    const { bfd } = client([near]);
    const { discriminator, since } = await fast(bfd, NEAR);
    bfd.configure([{ ...near, minTxMs: 250, minRxMs: 50, multiplier: 5 }]);
    await until('FRR has them', async () => {
      const peers = JSON.parse(await ask('show bfd peers json')) as Record<string, unknown>[];
      const peer = peers.find((one) => one.peer === HERE);
      return (
        peer!['remote-transmit-interval'] === 250 &&
        peer!['remote-receive-interval'] === 50 &&
        peer!['remote-detect-multiplier'] === 5
      );
    });
    await until('the interval is in use', () => bfd.session(NEAR)!.txMs === 250);
    expect(bfd.session(NEAR)).toMatchObject({ discriminator, since, state: UP, detectionMs: 300 });
  });

  it.skipIf(noBird)('comes up with BIRD over one hop and over two, v4 and v6', async () => {
    const direct = await bird(
      'near',
      `protocol bfd { ${BIRD_BFD} neighbor ${HERE} dev "eth0"; neighbor ${HERE6} dev "eth0"; }`,
    );
    const distant = await bird(
      'far',
      `protocol bfd { ${BIRD_BFD} neighbor ${HERE} local ${FAR} multihop yes; neighbor ${HERE6} local ${FAR6} multihop yes; }`,
    );
    const { bfd } = client([near, near6, far, far6]);
    for (const peer of [NEAR, NEAR6, FAR, FAR6]) await fast(bfd, peer);
    const sessions = `${await direct.ask('show', 'bfd', 'sessions')}${await distant.ask('show', 'bfd', 'sessions')}`;
    expect(sessions.match(/\bUp\b/g)).toHaveLength(4);
    distant.process.signal('SIGSTOP');
    expect(await inState(bfd, FAR, DOWN)).toMatchObject({ diagnostic: DIAG_TIMEOUT });
    expect(bfd.session(NEAR)).toMatchObject({ state: UP, failures: 0 });
  });

  it.skipIf(noBird)(
    'does not come up over two hops where one is meant, and counts what came from too far',
    async () => {
      await bird('far', `protocol bfd { ${BIRD_BFD} neighbor ${HERE} local ${FAR} multihop yes; }`);
      const { bfd } = client([{ ...far, multihop: false }]);
      await until('the session is there', () => bfd.session(FAR));
      const send = (ttl: number) =>
        lab.run('far', process.execPath, [
          '-e',
          `const s = require('dgram').createSocket('udp4');
         const packet = Buffer.from('2040031800000009000000000001869f0001869f00000000', 'hex');
         s.bind(0, () => { s.setTTL(${ttl}); s.send(packet, 3784, '${HERE}', () => s.close()); });`,
        ]);
      await send(255);
      await until('it was refused', () => bfd.statistics!.refused === 1);
      expect(bfd.session(FAR)).toMatchObject({ state: DOWN, packetsIn: 0 });
    },
  );

  it.skipIf(noBird)(
    'stays up at 3 x 100 ms while the event loop of the agent stands still for two seconds',
    async () => {
      const { flaps } = await bird('near', `protocol bfd { ${BIRD_BFD} neighbor ${HERE} dev "eth0"; }`);
      const { bfd } = client([near]);
      const before = await fast(bfd, NEAR);
      for (let round = 0; round < 2; round++)
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000);
      const after = await packets(bfd, NEAR, 20);
      expect(after).toMatchObject({ state: UP, failures: 0, since: before.since });
      expect(flaps()).toBe(0);
    },
  );

  it.skipIf(noBird)('outlives the agent: the next one finds its sessions as they were', async () => {
    await bird('near', `protocol bfd { ${BIRD_BFD} neighbor ${HERE} dev "eth0"; }`);
    const socket = join(lab.folder, 'kept.sock');
    const first = new BfdClient({ socket, onState: () => {}, log: () => {} });
    first.configure([near]);
    const before = await fast(first, NEAR);
    const { pid } = first;
    first.stop({ keep: true });
    const { bfd } = client([near], socket);
    const after = await fast(bfd, NEAR);
    expect(after).toMatchObject({ discriminator: before.discriminator, since: before.since, failures: 0 });
    expect(bfd.pid).toBe(pid);
  });

  it.skipIf(noBird)(
    'starts a process that was killed again, and calls that no failure of the path',
    async () => {
      await bird('near', `protocol bfd { ${BIRD_BFD} neighbor ${HERE} dev "eth0"; }`);
      const { bfd, said } = client([near]);
      const before = await fast(bfd, NEAR);
      process.kill(bfd.pid!, 'SIGKILL');
      await until('it is unknown', () => said.some(({ text }) => text.startsWith('unknown: ')));
      const after = await fast(bfd, NEAR);
      expect(after.discriminator).not.toBe(before.discriminator);
      expect(said.some(({ failed }) => failed)).toBe(false);
    },
  );

  it.skipIf(noBird)(
    'sends what RFC 5881 asks for: TTL 255, a source port that stays, nothing that tshark minds',
    async () => {
      await bird(
        'near',
        `protocol bfd { ${BIRD_BFD} neighbor ${HERE} dev "eth0"; neighbor ${HERE6} dev "eth0"; }`,
      );
      const { bfd } = client([near, near6]);
      for (const peer of [NEAR, NEAR6]) await fast(bfd, peer);
      const fields = [
        'ip.src',
        'ip.ttl',
        'ip.dsfield.dscp',
        'ipv6.hlim',
        'udp.srcport',
        'bfd.sta',
        '_ws.expert',
        '_ws.malformed',
      ];
      const filter = `udp dst port 3784 and (src ${HERE} or src ${HERE6})`;
      const text = await lab.run('near', 'tshark', [
        ...['-n', '-q', '-i', 'eth0', '-c', '20', '-f', filter, '-T', 'fields', '-E', 'separator=|'],
        ...fields.flatMap((field) => ['-e', field]),
      ]);
      const rows = text
        .trimEnd()
        .split('\n')
        .map((row) => row.split('|'));
      const four = rows.filter(([src]) => src === HERE);
      const six = rows.filter(([src]) => src === '');
      expect(
        new Set(four.map(([, ttl, dscp, , , , expert, malformed]) => `${ttl} ${dscp} ${expert}${malformed}`)),
      ).toEqual(new Set(['255 48 ']));
      expect(
        new Set(six.map(([, , , hops, , , expert, malformed]) => `${hops} ${expert}${malformed}`)),
      ).toEqual(new Set(['255 ']));
      for (const of of [four, six]) {
        const ports = [...new Set(of.map(([, , , , port]) => Number(port)))];
        expect(ports).toHaveLength(1);
        expect(ports[0]).toBeGreaterThanOrEqual(49_152);
      }
    },
  );

  it.skipIf(noBird)(
    'ends the BGP session of a peer that stands still, and holds while the agent loads 500,000 prefixes',
    async () => {
      const routes = Array.from(
        { length: 500_000 },
        (_, i) => `route ${(i >> 16) + 20}.${(i >> 8) & 255}.${i & 255}.0/24 blackhole;`,
      );
      const { process, ask, flaps } = await bird(
        'near',
        `protocol bfd { ${BIRD_BFD} }
      protocol static lots { disabled; ipv4; ${routes.join('\n')} }
      protocol bgp here { local ${NEAR} as 64512; neighbor ${HERE} as 64512; direct; bfd graceful; ipv4 { import all; export all; }; }`,
      );
      const { bfd, said } = client([near]);
      const speaker = new Speaker({
        asn: 64512,
        routerId: HERE,
        listen: { addresses: [HERE], port: 179 },
        originate: [],
        peers: [
          {
            address: NEAR,
            asn: 64512,
            bfd: FAST,
            label: 'global',
            importPolicy: ACCEPT_ALL,
            exportPolicy: ACCEPT_ALL,
          },
        ],
        timers: { retryMinMs: 200, retryMaxMs: 200 },
        log: () => {},
      });
      closers.push(() => speaker.stop());
      await speaker.start();
      const isEstablished = () => speaker.peers()[0]!.state === 'Established';
      await until('BGP is up', isEstablished);
      const before = await fast(bfd, NEAR);
      await ask('enable', 'lots');
      await until(
        'all is learned',
        () => speaker.peers()[0]!.families[0]!.received === routes.length,
        60_000,
      );
      const after = await packets(bfd, NEAR, 5);
      expect(after).toMatchObject({ state: UP, failures: 0, since: before.since });
      expect(flaps()).toBe(0);

      // As the agent does.
      const tell = () => {
        for (const { peer, text, failed, independent } of said.splice(0))
          speaker.bfdChanged(peer, text, failed, independent);
      };
      tell();
      expect(speaker.peers()[0]!.bfd).toMatch(/^Up, sending every 100 ms, detection \d+ ms$/);
      process.signal('SIGSTOP');
      await inState(bfd, NEAR, DOWN);
      tell();
      await until('BGP has ended', () => !isEstablished());
      const [peer] = speaker.peers();
      expect(peer).toMatchObject({ bfd: 'Down: control detection time expired' });
      expect(peer!.lastError).toContain('BFD: Down: control detection time expired');
    },
  );
});

describe.skipIf(noLab || noBird)('BFD of an agent', () => {
  it('lasts while the agent is killed and comes back, so that its peer keeps all routes; ends BGP, and goes by purge', async () => {
    const site = await Site.create({ nodes: 1 });
    const { lab } = site;
    try {
      const socket = join(lab.folder, 'bird.ctl');
      const file = join(lab.folder, 'bird.conf');
      writeFileSync(
        file,
        `log "${file}.messages" all;
        router id ${UNDERLAY_ADDRESS};
        protocol device {}
        protocol bfd { debug { events }; interface "*" { interval 100 ms; multiplier 3; }; }
        protocol bgp node { local ${UNDERLAY_ADDRESS} as 64512; neighbor 192.0.2.1 as 64512; direct; bfd on;
          ipv4 { import all; export all; }; }`,
      );
      const bird = new Daemon(
        UNDERLAY,
        ['/usr/sbin/bird', '-f', '-c', file, '-s', socket, '-P', `${file}.pid`],
        `${file}.log`,
      );
      const ask = (...words: string[]) =>
        run('/usr/sbin/birdc', ['-s', socket, ...words]).then(({ stdout }) => stdout);
      try {
        await until('BIRD answers', () => ask('show', 'status').catch(() => null));
        await site.apply(
          { kind: 'IPPool', metadata: { name: 'pods' }, spec: { cidr: '10.65.0.0/16', blockSize: 26 } },
          {
            kind: 'BGPPeer',
            metadata: { name: 'bird' },
            spec: {
              peerIP: UNDERLAY_ADDRESS,
              asNumber: 64512,
              bfd: { minimumSendInterval: '100ms', minimumRecvInterval: '100ms' },
            },
          },
        );
        const pod = await site.addPod('pod-a', 1);
        const table = () => site.tortie(1, 'bgp', 'peer', UNDERLAY_ADDRESS);
        await until('BFD is up', async () =>
          /BFD\s+Up, sending every 100 ms, detection 300 ms/.test(await table()),
        );
        const [prefix] = /^10\.65\.\S+/m.exec(
          await until('BIRD has a route', async () => {
            const text = await ask('show', 'route');
            return text.includes('10.65.') && text;
          }),
        )!;

        site.agents.get(1)!.signal('SIGKILL');
        await until('BIRD waits for it', async () =>
          (await ask('show', 'protocols', 'all', 'node')).includes('graceful restart'),
        );
        site.startAgent(1);
        await site.ready(1);
        await until('BGP is up again', async () => /State\s+Established/.test(await table().catch(() => '')));
        expect(flapsIn(`${file}.messages`)).toBe(0);
        expect(await ask('show', 'route', prefix)).toContain('192.0.2.1');
        expect(pod.address.startsWith('10.65.')).toBe(true);

        const api = '/run/tortie/node1/api.sock';
        const metrics = await lab.run('node1', 'curl', [
          '-sS',
          '--unix-socket',
          api,
          'http://tortie/metrics',
        ]);
        expect(metrics).toContain(`tortie_bfd_failures_total{peer="${UNDERLAY_ADDRESS}"} 0`);

        bird.signal('SIGSTOP');
        await until('BGP has ended', async () =>
          /BFD: Down: control detection time expired/.test(await table()),
        );
        await site.agents.get(1)!.stop();
        expect(await site.tortie(1, 'purge', '--node', 'node1')).toContain(
          'BFD process at /run/tortie/node1/bfd.sock',
        );
        await until(
          'its process has ended',
          async () => !(await lab.run('node1', 'ss', ['-lun'])).includes(':3784'),
        );
      } finally {
        bird.signal('SIGCONT');
        await bird.stop();
      }
    } finally {
      await site.close();
    }
  });
});

/** How many sessions that were up BIRD has told of as down. Throws if none ever was up. */
function flapsIn(log: string): number {
  const text = readFileSync(log, 'utf8');
  expect(text).toMatch(/changed state from \w+ to Up/);
  return text.match(/changed state from Up/g)?.length ?? 0;
}
