/** Against BIRD itself, over addresses of the loopback device and ports above 1024: no rights are needed. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { formatAddress4 } from '../address.ts';
import type { PeerConfig, SpeakerConfig } from './config.ts';
import { formatPrefix } from './family.ts';
import { ACCEPT_ALL } from './policy.ts';
import { Speaker } from './speaker.ts';
import { until } from './until.ts';

const run = promisify(execFile);

const missing = !existsSync('/usr/sbin/bird') || !existsSync('/usr/sbin/birdc');
if (missing) console.log('skipped: BGP against BIRD (bird or birdc is not installed; apt-get install bird2)');

/** Each file of tests has its own /24 of the loopback, so that runs side by side do not meet. */
const net = `127.${100 + (process.pid % 100)}.${(process.pid >> 7) % 250}`;
const OURS = `${net}.1`;
const BIRD = `${net}.2`;
const OTHER = `${net}.3`;

async function freePort(address: string): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

class Bird {
  readonly #dir = mkdtempSync(join(tmpdir(), 'tt3-bird-'));
  #process: ChildProcess | null = null;

  async start(config: string): Promise<void> {
    writeFileSync(join(this.#dir, 'bird.conf'), config);
    const file = (name: string) => join(this.#dir, name);
    const args = [
      '60',
      '/usr/sbin/bird',
      '-f',
      '-c',
      file('bird.conf'),
      '-s',
      file('ctl'),
      '-P',
      file('pid'),
    ];
    this.#process = spawn('timeout', args, { stdio: 'ignore' });
    await until('BIRD answers', () => this.ask('show', 'status').catch(() => null));
  }

  async configure(config: string): Promise<void> {
    writeFileSync(join(this.#dir, 'bird.conf'), config);
    await this.ask('configure');
  }

  async ask(...command: string[]): Promise<string> {
    return (await run('/usr/sbin/birdc', ['-s', join(this.#dir, 'ctl'), ...command])).stdout;
  }

  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await gone;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

interface Peering {
  name: string;
  local: string;
  localPort: number;
  peer: string;
  peerPort: number;
  localAsn?: number;
  peerAsn?: number;
  options?: string;
  channel?: string;
}

const peering = (p: Peering) => `
protocol bgp ${p.name} {
  local ${p.local} port ${p.localPort} as ${p.localAsn ?? 64512};
  neighbor ${p.peer} port ${p.peerPort} as ${p.peerAsn ?? 64512};
  strict bind yes;
  multihop;
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
  ${p.options ?? ''}
  ipv4 { import all; export all; ${p.channel ?? ''} };
}`;

const head = (id: string, routes: string[]) => `
router id ${id};
protocol device {}
protocol static {
  ipv4;
  ${routes.map((route) => `route ${route} blackhole;`).join('\n  ')}
}`;

describe.skipIf(missing)('with BIRD', () => {
  const closers: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  function bird(): Bird {
    const made = new Bird();
    closers.push(() => made.remove());
    return made;
  }

  async function speaker(config: Partial<SpeakerConfig> & { peers: PeerConfig[] }): Promise<Speaker> {
    const made = new Speaker({
      asn: 64512,
      routerId: OURS,
      originate: [{ prefix: '10.65.0.0/26' }],
      timers: TIMERS,
      log: () => {},
      ...config,
    });
    closers.push(() => made.stop());
    await made.start();
    return made;
  }

  const established = (s: Speaker, address: string) =>
    until(`session with ${address}: ${JSON.stringify(s.peers())}`, () =>
      s.peers().some((peer) => peer.address === address && peer.state === 'Established'),
    );
  /** What was learnt, as "prefix via next hop". */
  const learnt = (s: Speaker) =>
    [...s.ribs[0].best()]
      .filter(({ path }) => !path.source.local)
      .map(({ prefix, path }) => `${formatPrefix(prefix)} via ${path.nextHop!.text}`)
      .sort();
  const has = (b: Bird, ...words: string[]) =>
    until(`BIRD's routes hold ${words}`, async () => {
      const text = await b.ask('show', 'route', 'all');
      return words.every((word) => text.includes(word));
    });

  const TIMERS = { retryMinMs: 100, retryMaxMs: 500 };
  const toBird = (port: number, more: Partial<PeerConfig> = {}): PeerConfig => ({
    address: BIRD,
    port,
    asn: 64512,
    localAddress: OURS,
    label: 'global',
    importPolicy: ACCEPT_ALL,
    exportPolicy: ACCEPT_ALL,
    ...more,
  });

  it('dials, learns, announces, withdraws and answers a route refresh', async () => {
    const port = await freePort(BIRD);
    const b = bird();
    const session = { name: 'ours', local: BIRD, localPort: port, peer: OURS, peerPort: 1790 };
    const config = (routes: string[]) => head(BIRD, routes) + peering({ ...session, options: 'passive;' });
    await b.start(config(['10.65.1.0/26', '10.65.2.0/26']));
    const peer = toBird(port, { holdTime: 9 });
    const s = await speaker({ peers: [peer] });
    await established(s, BIRD);
    await until('routes of BIRD', () => learnt(s).length === 2);
    expect(learnt(s)).toEqual([`10.65.1.0/26 via ${BIRD}`, `10.65.2.0/26 via ${BIRD}`]);
    await has(b, '10.65.0.0/26', `BGP.next_hop: ${OURS}`, 'BGP.local_pref: 100', 'BGP.origin: IGP');
    expect(await b.ask('show', 'protocols', 'all', 'ours')).toMatch(/Hold timer:.*\/9\s/);

    const before = s.peers()[0]!.counters.updatesOut;
    await b.ask('reload', 'in', 'ours');
    await until('all is sent again', () => s.peers()[0]!.counters.updatesOut > before);
    await has(b, '10.65.0.0/26');

    await b.configure(config(['10.65.2.0/26', '10.65.3.0/26']));
    await until('one route gone, one come', () => learnt(s).join().includes('10.65.3.0/26'));
    await until('one route gone', () => learnt(s).length === 2);
    expect(learnt(s)).toEqual([`10.65.2.0/26 via ${BIRD}`, `10.65.3.0/26 via ${BIRD}`]);

    const originate = [{ prefix: '10.65.7.0/26' }];
    await s.reconfigure({ asn: 64512, routerId: OURS, originate, timers: TIMERS, peers: [peer] });
    await has(b, '10.65.7.0/26');
    await until(
      'the old block is withdrawn',
      async () => !(await b.ask('show', 'route')).includes('10.65.0.'),
    );
    expect(s.peers()[0]).toMatchObject({ state: 'Established', families: [{ sent: 1 }], lastError: null });
  });

  it('is dialled, and finds BIRD again after it restarts', async () => {
    const s = await speaker({
      listen: { addresses: [OURS], port: 0 },
      peers: [toBird(1, { passive: true })],
    });
    expect(s.peers()[0]!.state).toBe('Active');
    const b = bird();
    const session = { name: 'ours', local: BIRD, localPort: await freePort(BIRD), peer: OURS };
    const config = head(BIRD, ['10.65.1.0/26']) + peering({ ...session, peerPort: s.port! });
    await b.start(config);
    await established(s, BIRD);
    await until('a route', () => learnt(s).length === 1);
    await has(b, '10.65.0.0/26');

    await b.stop();
    await until('the session is down', () => s.peers()[0]!.state === 'Active');
    expect(s.peers()[0]!.lastError).toMatch(/Cease/);
    await until('its routes are gone', () => learnt(s).length === 0);
    await b.start(config);
    await established(s, BIRD);
    await until('the route is back', () => learnt(s).length === 1);
    await has(b, '10.65.0.0/26');

    await s.stop();
    await until('BIRD was told why', async () =>
      /Administrative shutdown/.test(await b.ask('show', 'protocols', 'all', 'ours')),
    );
  });

  it('keeps one session when both sides dial, whoever has the higher identifier', async () => {
    for (const routerId of ['0.0.0.1', '250.0.0.1']) {
      const b = bird();
      const port = await freePort(BIRD);
      const s = await speaker({ routerId, listen: { addresses: [OURS], port: 0 }, peers: [toBird(port)] });
      const session = { name: 'ours', local: BIRD, localPort: port, peer: OURS, peerPort: s.port! };
      await b.start(head(BIRD, ['10.65.1.0/26']) + peering(session));
      await established(s, BIRD);
      await until('a route', () => learnt(s).length === 1);
      await has(b, '10.65.0.0/26');
      expect(await b.ask('show', 'protocols', 'ours')).toContain('Established');
      await s.stop();
      await b.stop();
    }
  });

  it('is a client of BIRD as route reflector', async () => {
    const b = bird();
    const port = await freePort(BIRD);
    const client = { local: BIRD, localPort: port, peerPort: 1790, options: 'passive; rr client;' };
    await b.start(
      head(BIRD, []) +
        peering({ ...client, name: 'one', peer: OURS }) +
        peering({ ...client, name: 'two', peer: OTHER }),
    );
    const one = await speaker({ peers: [toBird(port)] });
    const peers = [toBird(port, { localAddress: OTHER })];
    const two = await speaker({ routerId: OTHER, originate: [{ prefix: '10.65.9.0/26' }], peers });
    await until('one learns', () => learnt(one).length === 1);
    await until('two learns', () => learnt(two).length === 1);
    // The reflector is not the next hop: the node that has the block is.
    expect(learnt(one)).toEqual([`10.65.9.0/26 via ${OTHER}`]);
    expect(learnt(two)).toEqual([`10.65.0.0/26 via ${OURS}`]);
    const [route] = [...two.ribs[0].best()].filter(({ path }) => !path.source.local);
    expect(formatAddress4(route!.path.attributes.originatorId!)).toBe(OURS);
    expect(route!.path.attributes.clusterList.map(formatAddress4)).toEqual([BIRD]);

    await one.stop();
    await until('the block is withdrawn', () => learnt(two).length === 0);
  });

  it('speaks to another AS, with numbers above 65535', async () => {
    const b = bird();
    const port = await freePort(BIRD);
    const session = { name: 'ours', local: BIRD, localPort: port, peer: OURS, peerPort: 1790 };
    await b.start(
      head(BIRD, ['10.65.1.0/26']) +
        peering({ ...session, options: 'passive;', localAsn: 4_200_000_001, peerAsn: 4_200_000_002 }),
    );
    const s = await speaker({ asn: 4_200_000_002, peers: [toBird(port, { asn: 4_200_000_001 })] });
    await established(s, BIRD);
    await until('a route', () => learnt(s).length === 1);
    const [route] = [...s.ribs[0].best()].filter(({ path }) => !path.source.local);
    expect(route!.path.attributes.asPath).toEqual([{ set: false, asns: [4_200_000_001] }]);
    await has(b, '10.65.0.0/26', 'BGP.as_path: 4200000002', `BGP.next_hop: ${OURS}`);
  });

  it('says what is wrong when the AS is', async () => {
    const b = bird();
    const port = await freePort(BIRD);
    const session = { name: 'ours', local: BIRD, localPort: port, peer: OURS, peerPort: 1790 };
    await b.start(head(BIRD, []) + peering({ ...session, options: 'passive;', peerAsn: 64999 }));
    const s = await speaker({ peers: [toBird(port)] });
    const reason = await until('a reason', () => s.peers()[0]!.lastError);
    expect(reason).toMatch(/bad peer AS \(2\/2\)/);
    expect(s.peers()[0]!.state).not.toBe('Established');
  });
});
