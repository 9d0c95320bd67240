/** What collectors are told, over the loopback device: heard by a listener of the test, by tshark and by pmbmpd of pmacct. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import type { BmpMode, CollectorConfig } from './bmp-collector.ts';
import { BmpExporter } from './bmp-exporter.ts';
import { get16, get32 } from './bytes.ts';
import type { PeerConfig, SpeakerConfig } from './config.ts';
import { CEASE, CEASE_SHUTDOWN } from './error.ts';
import { FakePeer, openOf } from './fake-peer.ts';
import { IPV4 } from './family.ts';
import { encodeNotification, encodeOpen, keepalive } from './message.ts';
import { ACCEPT_ALL, DENY_ALL } from './policy.ts';
import { Speaker } from './speaker.ts';
import { announcing, attributesOf, IBGP, listOf, many, toldBy, withdrawing } from './test-routes.ts';
import { until } from './until.ts';
import { endOfRib } from './update.ts';

const TSHARK = ['/usr/bin/tshark', '/usr/bin/text2pcap'];
const noTshark = TSHARK.some((path) => !existsSync(path));
if (noTshark) console.log('skipped: tshark on BMP (tshark or text2pcap is missing; apt-get install tshark)');
const PMBMPD = '/usr/sbin/pmbmpd';
const noPmacct = !existsSync(PMBMPD);
if (noPmacct) console.log('skipped: BMP to pmbmpd (it is not installed; apt-get install pmacct)');

const US = '127.81.0.1';
const LEFT = '127.81.0.2';
const RIGHT = '127.81.0.3';
const COLLECTOR = '127.81.0.9';
const ASN = 64512;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const external = (address: string, asn: number, more: Partial<PeerConfig> = {}): PeerConfig => ({
  address,
  asn,
  passive: true,
  label: 'global',
  families: ['ipv4', 'ipv6'],
  importPolicy: ACCEPT_ALL,
  exportPolicy: ACCEPT_ALL,
  ...more,
});

async function start(collectors: readonly CollectorConfig[], more: Partial<PeerConfig> = {}) {
  const config: SpeakerConfig = {
    asn: ASN,
    routerId: US,
    listen: { addresses: [US], port: 0 },
    peers: [external(LEFT, 64501, more), external(RIGHT, 4200000001)],
    originate: [{ prefix: '10.65.0.0/26' }],
  };
  const speaker = new Speaker({ ...config, log: () => {} });
  const exporter = new BmpExporter({ sysName: 'node1', sysDescr: 'tortie test', log: () => {} });
  closers.push(async () => {
    await speaker.stop();
    await exporter.use(null);
  });
  exporter.configure(collectors);
  await exporter.use(speaker);
  await speaker.start();
  return { speaker, exporter, config };
}

async function establish(speaker: Speaker, from: string, asn: number, restarting = false): Promise<FakePeer> {
  const peer = await FakePeer.dial(from, US, speaker.port!);
  closers.push(() => void peer.socket.destroy());
  peer.send(openOf(asn, from, 90, { restartTime: 60, restarting }), keepalive);
  await until('Established', () =>
    speaker.peers().some(({ address, state }) => address === from && state === 'Established'),
  );
  return peer;
}

const routes = (asn: number, nextHop: string, ...prefixes: string[]) =>
  announcing(
    attributesOf(nextHop, { localPref: null, asPath: [{ set: false, asns: [asn] }] }),
    listOf(...prefixes),
  );

const settled = (speaker: Speaker, paths: number) =>
  until(`${paths} paths`, () => {
    const [four, six] = speaker.ribs;
    return four.isSettled && six.isSettled && four.pathCount + six.pathCount === paths;
  });

/** A collector that the test plays. */
class Ear {
  readonly server: Server = createServer((socket) => this.#take(socket));
  readonly sockets: Socket[] = [];
  /** All that came, a connection each. */
  readonly heard: Buffer[] = [];
  isDeaf = false;

  async listen(): Promise<number> {
    this.server.listen(0, COLLECTOR);
    await once(this.server, 'listening');
    closers.push(() => {
      for (const socket of this.sockets) socket.destroy();
      this.server.close();
    });
    return (this.server.address() as { port: number }).port;
  }

  #take(socket: Socket): void {
    const index = this.sockets.push(socket) - 1;
    this.heard.push(Buffer.alloc(0));
    socket.on('error', () => {});
    if (this.isDeaf) return void socket.pause();
    socket.on('data', (chunk) => {
      this.heard[index] = Buffer.concat([this.heard[index]!, chunk]);
    });
  }

  /** Whole messages of a connection, as text. */
  lines(connection = 0): string[] {
    const lines: string[] = [];
    const bytes = this.heard[connection] ?? Buffer.alloc(0);
    for (let at = 0; at + 6 <= bytes.length; at += get32(bytes, at + 1)) {
      if (at + get32(bytes, at + 1) > bytes.length) break;
      expect(bytes[at]).toBe(3);
      lines.push(...textsOf(bytes.subarray(at, at + get32(bytes, at + 1))));
    }
    return lines;
  }
}

function textsOf(message: Buffer): string[] {
  const type = message[5]!;
  if (type === 4 || type === 5) {
    const tlvs: string[] = [];
    for (let at = 6; at < message.length; at += 4 + get16(message, at + 2)) {
      const value = message.subarray(at + 4, at + 4 + get16(message, at + 2));
      const isCode = type === 5 && get16(message, at) === 1;
      tlvs.push(`${get16(message, at)} ${isCode ? get16(value, 0) : value.toString()}`);
    }
    return [`${type === 4 ? 'initiation' : 'termination'} ${tlvs.join(', ')}`];
  }
  const peer = [...message.subarray(28, 32)].join('.');
  const flags = message[7]!.toString(16);
  const body = message.subarray(48);
  if (type === 0) {
    const as4 = (message[7]! & 0x20) === 0;
    return toldBy([body], { ...IBGP, as4 }).map((line) => `${peer} ${flags} ${line}`);
  }
  if (type === 1) return [`${peer} statistics ${get32(body, 0)}`];
  if (type === 2) return [`${peer} down ${body[0]} ${body.subarray(1).toString('hex')}`];
  return [`${peer} up from ${[...body.subarray(12, 16)].join('.')} AS ${get32(message, 32) >>> 0}`];
}

const collector = (port: number, modes: readonly BmpMode[] = ['adj-in'], more = {}): CollectorConfig => ({
  address: COLLECTOR,
  port,
  modes,
  statisticsSeconds: 3600,
  retryMinMs: 20,
  retryMaxMs: 100,
  ...more,
});

const hello = 'initiation 1 tortie test, 2 node1';
const leftUp = `${LEFT} up from ${US} AS 64501`;
const rightUp = `${RIGHT} up from ${US} AS 4200000001`;

describe('a collector', () => {
  it('hears sessions come and go, and what peers say as they say it, refused or not', async () => {
    const ear = new Ear();
    const { speaker } = await start([collector(await ear.listen())], { importPolicy: DENY_ALL });
    await until('initiation', () => ear.lines().length === 1);
    const left = await establish(speaker, LEFT, 64501);
    left.send(
      ...routes(64501, LEFT, '203.0.113.0/24', '198.51.100.0/24'),
      ...withdrawing(listOf('198.51.100.0/24')),
      ...routes(64501, '2001:db8::2', '2001:db8:1::/48'),
    );
    await until('routes', () => ear.lines().length === 6);
    left.send(encodeNotification({ code: CEASE, subcode: CEASE_SHUTDOWN, data: new Uint8Array(0) }));
    await until('the end', () => ear.lines().length === 7);
    expect(ear.lines()).toEqual([
      hello,
      leftUp,
      `${LEFT} 0 203.0.113.0/24 via ${LEFT}`,
      `${LEFT} 0 198.51.100.0/24 via ${LEFT}`,
      `${LEFT} 0 -198.51.100.0/24`,
      `${LEFT} 0 2001:db8:1::/48 via 2001:db8::2`,
      `${LEFT} down 3 ${'ff'.repeat(16)}0015030602`,
    ]);
  });

  it.each<[string, (peer: FakePeer, speaker: Speaker, config: SpeakerConfig) => unknown, RegExp]>([
    ['the peer closes', ({ socket }) => socket.end(), /down 4 $/],
    ['we end it', (_, speaker) => speaker.reset(LEFT), /down 1 (ff){16}00..0306/],
    [
      'we forget the peer',
      (_, speaker, config) => speaker.reconfigure({ ...config, peers: [] }),
      /down 1 (ff){16}00..0306/,
    ],
  ])('hears why a session ended: %s', async (_, how, expected) => {
    const ear = new Ear();
    const { speaker, config } = await start([collector(await ear.listen())]);
    const left = await establish(speaker, LEFT, 64501);
    await until('up', () => ear.lines().length === 2);
    await how(left, speaker, config);
    await until('down', () => ear.lines().length === 3);
    expect(ear.lines()[2]).toMatch(expected);
  });

  it('that comes late hears all that is known, then End-of-RIB, then what is new', async () => {
    const { speaker, exporter } = await start([]);
    const left = await establish(speaker, LEFT, 64501);
    const right = await establish(speaker, RIGHT, 4200000001);
    left.send(...routes(64501, LEFT, '203.0.113.0/24', '198.51.100.0/24'));
    right.send(
      ...routes(4200000001, RIGHT, '203.0.113.0/24'),
      ...routes(4200000001, '2001:db8::3', '2001:db8:1::/48'),
    );
    await settled(speaker, 5);
    const ear = new Ear();
    exporter.configure([collector(await ear.listen(), ['adj-in', 'adj-out'])]);
    await until('all', () => ear.lines().filter((line) => line.includes('end of')).length === 8);
    left.send(...withdrawing(listOf('198.51.100.0/24')));
    await until('news', () => ear.lines().includes(`${LEFT} 0 -198.51.100.0/24`));
    for (const peer of [LEFT, RIGHT]) {
      await until('news', () => ear.lines().includes(`${peer} 50 -198.51.100.0/24`));
    }
    const lines = ear.lines();
    expect(lines.filter((line) => !line.includes(' 50 ') && !line.includes('::'))).toEqual([
      hello,
      leftUp,
      rightUp,
      `${LEFT} 0 203.0.113.0/24 via ${LEFT}`,
      `${LEFT} 0 198.51.100.0/24 via ${LEFT}`,
      `${LEFT} 0 end of ipv4`,
      `${LEFT} 0 end of ipv6`,
      `${RIGHT} 0 203.0.113.0/24 via ${RIGHT}`,
      `${RIGHT} 0 end of ipv4`,
      `${RIGHT} 0 end of ipv6`,
      `${LEFT} 0 -198.51.100.0/24`,
    ]);
    expect(lines).toContain(`${RIGHT} 0 2001:db8:1::/48 via 2001:db8::3`);
    // What each was told, by RFC 8671: O and L. The two are of one group, which is sent one withdrawal.
    expect(lines.filter((line) => line.includes(' 50 ')).sort()).toEqual(
      [
        `${LEFT} 50 -198.51.100.0/24`,
        `${LEFT} 50 10.65.0.0/26 via ${US}`,
        `${LEFT} 50 end of ipv4`,
        `${LEFT} 50 end of ipv6`,
        `${RIGHT} 50 -198.51.100.0/24`,
        `${RIGHT} 50 10.65.0.0/26 via ${US}`,
        `${RIGHT} 50 198.51.100.0/24 via ${US}`,
        `${RIGHT} 50 203.0.113.0/24 via ${US}`,
        `${RIGHT} 50 end of ipv4`,
        `${RIGHT} 50 end of ipv6`,
      ].sort(),
    );
  });

  it('is not told what a peer told in the session before, and would take back without a word', async () => {
    const { speaker, exporter } = await start([]);
    const before = await establish(speaker, LEFT, 64501, true);
    before.send(...routes(64501, LEFT, '203.0.113.0/24', '198.51.100.0/24'));
    await settled(speaker, 3);
    before.socket.destroy();
    await until('the end', () => speaker.peers()[0]!.state !== 'Established');
    const left = await establish(speaker, LEFT, 64501, true);
    left.send(...routes(64501, LEFT, '203.0.113.0/24'));
    await until('told anew', () => speaker.peers()[0]!.families[0]!.stale === 1);
    const ear = new Ear();
    exporter.configure([collector(await ear.listen())]);
    await until('all', () => ear.lines().includes(`${LEFT} 0 end of ipv6`));
    left.send(endOfRib(IPV4));
    await settled(speaker, 2);
    await until('its End-of-RIB', () => ear.lines().length === 6);
    expect(ear.lines()).toEqual([
      hello,
      leftUp,
      `${LEFT} 0 203.0.113.0/24 via ${LEFT}`,
      `${LEFT} 0 end of ipv4`,
      `${LEFT} 0 end of ipv6`,
      `${LEFT} 0 end of ipv4`,
    ]);
  });

  it('is told that AS paths have two octets an AS where the session has no more', async () => {
    const ear = new Ear();
    const { speaker, exporter } = await start([collector(await ear.listen())]);
    await until('initiation', () => ear.lines().length === 1);
    const left = await FakePeer.dial(LEFT, US, speaker.port!);
    closers.push(() => left.socket.destroy());
    left.send(encodeOpen({ as2: 64501, holdTime: 90, routerId: 0x01020304, capabilities: [] }), keepalive);
    const attributes = attributesOf(LEFT, { localPref: null, asPath: [{ set: false, asns: [64501, 7] }] });
    left.send(...announcing(attributes, listOf('203.0.113.0/24'), { as4: false }));
    await until('the route', () => ear.lines().length === 3);
    expect(ear.lines()[2]).toBe(`${LEFT} 20 203.0.113.0/24 via ${LEFT}`);
    // What is kept has four.
    exporter.configure([]);
    exporter.configure([collector((ear.server.address() as { port: number }).port)]);
    await until('all anew', () => ear.lines(1).length === 4);
    expect(ear.lines(1)[2]).toBe(`${LEFT} 0 203.0.113.0/24 via ${LEFT}`);
  });

  it('hears of the best routes, as they are and as they change', async () => {
    const { speaker, exporter } = await start([]);
    const left = await establish(speaker, LEFT, 64501);
    const right = await establish(speaker, RIGHT, 4200000001);
    left.send(...routes(64501, LEFT, '203.0.113.0/24', '198.51.100.0/24'));
    await settled(speaker, 3);
    const ear = new Ear();
    exporter.configure([collector(await ear.listen(), ['loc-rib'])]);
    await until('all', () => ear.lines().filter((line) => line.includes('end of')).length === 2);
    expect(ear.lines()).toEqual([
      hello,
      leftUp,
      rightUp,
      '0.0.0.0 up from 0.0.0.0 AS 64512',
      `0.0.0.0 0 10.65.0.0/26 via ${US}`,
      `0.0.0.0 0 203.0.113.0/24 via ${LEFT}`,
      `0.0.0.0 0 198.51.100.0/24 via ${LEFT}`,
      '0.0.0.0 0 end of ipv4',
      '0.0.0.0 0 end of ipv6',
    ]);
    // A path that is no better is no news.
    right.send(
      ...routes(4200000001, RIGHT, '203.0.113.0/24'),
      ...routes(4200000001, '2001:db8::3', '2001:db8:1::/48'),
    );
    await until('IPv6', () => ear.lines().length === 10);
    left.send(...withdrawing(listOf('203.0.113.0/24')));
    await until('the other path', () => ear.lines().length === 11);
    right.send(...withdrawing(listOf('203.0.113.0/24')), ...withdrawing(listOf('2001:db8:1::/48')));
    await until('the loss', () => ear.lines().length === 13);
    expect(ear.lines().slice(9, 11)).toEqual([
      '0.0.0.0 0 2001:db8:1::/48 via 2001:db8::3',
      `0.0.0.0 0 203.0.113.0/24 via ${RIGHT}`,
    ]);
    expect(ear.lines().slice(11).sort()).toEqual(['0.0.0.0 0 -2001:db8:1::/48', '0.0.0.0 0 -203.0.113.0/24']);
  });

  it('is dialled again when it has gone, and told all anew; at the end it is told so', async () => {
    const ear = new Ear();
    const port = await ear.listen();
    const { speaker, exporter } = await start([collector(port)]);
    const left = await establish(speaker, LEFT, 64501);
    left.send(...routes(64501, LEFT, '203.0.113.0/24'));
    await until('routes', () => ear.lines().length === 3);
    ear.sockets[0]!.destroy();
    await until('all anew', () => ear.lines(1).length === 5);
    expect(ear.lines(1)).toEqual([
      hello,
      leftUp,
      `${LEFT} 0 203.0.113.0/24 via ${LEFT}`,
      `${LEFT} 0 end of ipv4`,
      `${LEFT} 0 end of ipv6`,
    ]);
    expect(exporter.status()).toMatchObject([{ up: true, sessions: 2, lastError: null }]);
    exporter.configure([]);
    await until('termination', () => ear.lines(1).length === 6);
    expect(ear.lines(1).at(-1)).toBe('termination 1 0, 0 configured otherwise');
  });

  it('that is not there is named, and keeps nobody waiting', async () => {
    const ear = new Ear();
    const port = await ear.listen();
    ear.server.close();
    const { speaker, exporter } = await start([collector(port)]);
    await establish(speaker, LEFT, 64501);
    await until('the reason', () => exporter.status()[0]!.lastError === 'ECONNREFUSED');
  });

  it('that does not read loses its connection; the walk waits for it, sessions do not', async () => {
    const ear = new Ear();
    ear.isDeaf = true;
    const limit = 1_000_000;
    const { speaker, exporter } = await start([]);
    const left = await establish(speaker, LEFT, 64501);
    const paths = (count: number, first: number) =>
      announcing(
        attributesOf(LEFT, { localPref: null, asPath: [{ set: false, asns: [64501] }] }),
        many(count, first),
      );
    left.send(...paths(1000, 0x0b000000));
    await settled(speaker, 1001);
    exporter.configure([
      collector(await ear.listen(), ['adj-in'], { maxQueueBytes: limit, retryMinMs: 60_000 }),
    ]);
    await until('a connection', () => exporter.status()[0]!.up);
    let most = 0;
    for (let round = 0; round < 200 && exporter.status()[0]!.up; round++) {
      left.send(...paths(20_000, 0x14000000));
      await until('told', () => speaker.ribs[0].pathCount === 21_001);
      left.send(...withdrawing(many(20_000, 0x14000000)));
      await until('withdrawn', () => speaker.ribs[0].pathCount === 1001);
      most = Math.max(most, exporter.status()[0]!.queuedBytes);
    }
    expect(exporter.status()).toMatchObject([
      { up: false, lastError: 'it does not read: more than 1000000 bytes wait', queuedBytes: 0 },
    ]);
    expect(most).toBeLessThanOrEqual(limit);
    expect(speaker.peers()[0]!.state).toBe('Established');
  });

  it('gets statistics', async () => {
    const ear = new Ear();
    const port = await ear.listen();
    const { speaker } = await start([collector(port, ['adj-in'], { statisticsSeconds: 0.05 })]);
    await establish(speaker, LEFT, 64501);
    await until('statistics', () => ear.lines().includes(`${LEFT} statistics 8`));
  });
});

/** Play a session with all kinds of messages to whoever listens. */
async function play(port: number, done: () => boolean | Promise<boolean>, modes: readonly BmpMode[]) {
  const { speaker, exporter } = await start([collector(port, modes, { statisticsSeconds: 0.5 })]);
  // A daemon that has just been started may take its time.
  await until('the collector', () => exporter.status()[0]!.up);
  const left = await establish(speaker, LEFT, 64501);
  const right = await establish(speaker, RIGHT, 4200000001);
  left.send(...routes(64501, LEFT, '203.0.113.0/24', '198.51.100.0/24'));
  right.send(...routes(4200000001, '2001:db8::3', '2001:db8:1::/48'));
  await settled(speaker, 4);
  left.socket.end();
  await until('all is heard', done);
  await exporter.use(null);
}

describe.skipIf(noTshark)('tshark', () => {
  it('finds nothing wrong with any message, and sees what is meant', async () => {
    const ear = new Ear();
    const port = await ear.listen();
    const isHeard = () => {
      const text = ear.lines().join('\n');
      return ['statistics', 'down', ' 50 '].every((part) => text.includes(part));
    };
    await play(port, isHeard, ['adj-in', 'adj-out', 'loc-rib']);
    await until('the end', () => ear.lines().at(-1)!.startsWith('termination'));
    const folder = mkdtempSync(join(tmpdir(), 'tortie-bmp-'));
    closers.push(() => rmSync(folder, { recursive: true }));
    const [text, pcap] = [join(folder, 'bmp.txt'), join(folder, 'bmp.pcap')];
    const hex = ear.heard[0]!.toString('hex').replace(/../g, '$& ');
    writeFileSync(text, `000000 ${hex}\n`);
    const run = promisify(execFile);
    await run(TSHARK[1]!, ['-q', '-T', '40000,11019', text, pcap]);
    const fields = ['bmp.type', 'bmp.peer.flags', 'bgp.type', '_ws.expert.message', '_ws.malformed'];
    const args = ['-r', pcap, '-d', 'tcp.port==11019,bmp', '-T', 'json', '--no-duplicate-keys'];
    const { stdout } = await run(TSHARK[0]!, [...args, ...fields.flatMap((field) => ['-e', field])]);
    const [packet] = JSON.parse(stdout) as [{ _source: { layers: Record<string, string[]> } }];
    const { layers } = packet._source;
    const types = layers['bmp.type']!;
    expect(types).toHaveLength(new Set(types).size === 6 ? types.length : -1);
    expect(types[0]).toBe('4');
    expect(types.at(-1)).toBe('5');
    expect(layers['_ws.malformed']).toBeUndefined();
    expect(layers['_ws.expert.message'] ?? []).toEqual([]);
  });
});

describe.skipIf(noPmacct)('pmbmpd', () => {
  it('logs what it was told', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tortie-pmbmpd-'));
    const ear = new Ear();
    const port = await ear.listen();
    await new Promise((resolve) => ear.server.close(resolve));
    const log = join(folder, 'bmp.log');
    const options = ['-L', COLLECTOR, '-l', String(port), '-o', log];
    const child: ChildProcess = spawn(PMBMPD, options, { stdio: 'ignore', cwd: folder });
    closers.push(async () => {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
      rmSync(folder, { recursive: true });
    });
    const events = (): Record<string, unknown>[] =>
      (existsSync(log) ? readFileSync(log, 'utf8').split('\n') : [])
        .filter((line) => line.endsWith('}'))
        .map((line) => JSON.parse(line));
    const typesOf = () => new Set(events().map((event) => event.bmp_msg_type ?? event.event_type));
    await play(
      port,
      () => ['init', 'peer_up', 'peer_down', 'stats', 'route_monitor'].every((type) => typesOf().has(type)),
      ['adj-in'],
    );
    await until('the end', () => typesOf().has('term'));
    const told = events()
      .filter(({ bmp_msg_type: type }) => type !== 'stats')
      .map((event) => {
        const {
          bmp_msg_type: type,
          peer_ip: peer,
          peer_asn: asn,
          ip_prefix: prefix,
          bgp_nexthop: hop,
        } = event;
        const { as_path: path, reason_type: reason } = event;
        return [type, peer, asn, prefix, hop, path, reason].filter((part) => part !== undefined).join(' ');
      });
    expect(told.filter((line) => line !== '').sort()).toEqual([
      'init',
      `peer_down ${LEFT} 64501 4`,
      `peer_up ${LEFT} 64501`,
      `peer_up ${RIGHT} 4200000001`,
      `route_monitor ${LEFT} 198.51.100.0/24 ${LEFT} 64501`,
      `route_monitor ${LEFT} 203.0.113.0/24 ${LEFT} 64501`,
      `route_monitor ${RIGHT} 2001:db8:1::/48 2001:db8::3 4200000001`,
      'term',
    ]);
  });
});
