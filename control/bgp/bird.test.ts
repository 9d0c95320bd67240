/** Against BIRD itself, over addresses of the loopback device and ports above 1024: no rights are needed. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { formatAddress4, formatPrefix4 } from '../address.ts';
import { type PeerConfig, Speaker, type SpeakerConfig } from './speaker.ts';
import { until } from './until.ts';

const run = promisify(execFile);

const missing = !existsSync('/usr/sbin/bird') || !existsSync('/usr/sbin/birdc');
if (missing) console.log('skipped: BGP against BIRD (bird or birdc is not installed; apt-get install bird2)');

/** Each file of tests has its own /24 of the loopback, so that runs side by side do not meet. */
const net = `127.${100 + (process.pid % 100)}.${(process.pid >> 7) % 250}`;
const OURS = `${net}.1`;
const BIRD = `${net}.2`;
const BIRD_2 = `${net}.3`;

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
    const log: string[] = [];
    const made = new Speaker({
      asn: 64512,
      routerId: OURS,
      originate: ['10.65.0.0/26'],
      timers: { retryMinMs: 100, retryMaxMs: 500 },
      log: (level, message, fields) => log.push(`${level} ${message} ${JSON.stringify(fields)}`),
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
    [...s.rib.best()]
      .filter(({ path }) => !path.source.local)
      .map(
        ({ prefix, length, path }) => `${formatPrefix4(prefix, length)} via ${formatAddress4(path.nextHop)}`,
      )
      .sort();
  const has = (b: Bird, ...words: string[]) =>
    until(`BIRD's routes hold ${words}`, async () => {
      const text = await b.ask('show', 'route', 'all');
      return words.every((word) => text.includes(word));
    });

  it('dials, learns, announces, withdraws and answers a route refresh', async () => {
    const birdPort = await freePort(BIRD);
    const b = bird();
    const config = (routes: string[]) =>
      head(BIRD, routes) +
      peering({
        name: 'ours',
        local: BIRD,
        localPort: birdPort,
        peer: OURS,
        peerPort: 1790,
        options: 'passive;',
      });
    await b.start(config(['10.65.1.0/26', '10.65.2.0/26']));
    const peer: PeerConfig = {
      address: BIRD,
      port: birdPort,
      asn: 64512,
      localAddress: OURS,
      holdTime: 9,
      label: 'global',
    };
    const s = await speaker({ peers: [peer] });
    await established(s, BIRD);
    await until('routes of BIRD', () => learnt(s).length === 2);
    expect(learnt(s)).toEqual([`10.65.1.0/26 via ${BIRD}`, `10.65.2.0/26 via ${BIRD}`]);
    await has(b, '10.65.0.0/26', `BGP.next_hop: ${OURS}`, 'BGP.local_pref: 100', 'BGP.origin: IGP');
    expect(await b.ask('show', 'protocols', 'all', 'ours')).toMatch(/Hold timer:.*\/9\s/);

    const again = s.peers()[0]!.counters.updatesOut;
    await b.ask('reload', 'in', 'ours');
    await until('all is sent again', () => s.peers()[0]!.counters.updatesOut > again);
    await has(b, '10.65.0.0/26');

    await s.reconfigure({
      asn: 64512,
      routerId: OURS,
      originate: ['10.65.7.0/26'],
      timers: { retryMinMs: 100, retryMaxMs: 500 },
      peers: [peer],
    });
    await has(b, '10.65.7.0/26');
    expect(await b.ask('show', 'route')).not.toContain('10.65.0.0/26');
    expect(s.peers()[0]!.state).toBe('Established');
  });
});
