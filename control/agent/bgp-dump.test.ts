/** Dumps of a running speaker, read again by ourselves and by bgpdump; its peers are played over the loopback device. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { BgpDumpQuery, BgpRouteView } from '../api/types.ts';
import type { PeerConfig, SpeakerConfig } from '../bgp/config.ts';
import { FakePeer, openOf } from '../bgp/fake-peer.ts';
import { keepalive } from '../bgp/message.ts';
import { ACCEPT_ALL } from '../bgp/policy.ts';
import { Speaker } from '../bgp/speaker.ts';
import { announcing, attributesOf, listOf, many } from '../bgp/test-routes.ts';
import { until } from '../bgp/until.ts';
import { loadMrt } from '../load-mrt.ts';
import { SpeakerView } from './bgp-view.ts';

const BGPDUMP = '/usr/bin/bgpdump';
const missing = !existsSync(BGPDUMP);
if (missing) console.log('skipped: our dumps read by bgpdump (it is not installed; apt-get install bgpdump)');

const US = '127.79.0.1';
const LEFT = '127.79.0.2';
const RIGHT = '127.79.0.3';
const INNER = '127.79.0.4';
const ASN = 64512;

let folder: string;
let file: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-dump-'));
  file = join(folder, 'table.mrt');
});
afterAll(() => rmSync(folder, { recursive: true }));

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const peerOf = (address: string, asn: number, more: Partial<PeerConfig> = {}): PeerConfig => ({
  address,
  asn,
  passive: true,
  label: 'global',
  families: ['ipv4', 'ipv6'],
  importPolicy: ACCEPT_ALL,
  exportPolicy: ACCEPT_ALL,
  ...more,
});

async function start() {
  const config: SpeakerConfig = {
    asn: ASN,
    routerId: US,
    listen: { addresses: [US], port: 0 },
    peers: [
      peerOf(LEFT, 64501, { keepFiltered: true }),
      peerOf(RIGHT, 4200000001),
      peerOf(INNER, ASN, { addPath: { receive: true } }),
    ],
    originate: [{ prefix: '10.65.0.0/26', communities: [0xfde80001] }],
  };
  const speaker = new Speaker({ ...config, log: () => {} });
  closers.push(() => speaker.stop());
  await speaker.start();
  const view = new SpeakerView();
  view.use({ speaker, config });
  return { speaker, view };
}

async function establish(speaker: Speaker, from: string, asn: number, addPathSend = false) {
  const peer = await FakePeer.dial(from, US, speaker.port!);
  closers.push(() => void peer.socket.destroy());
  peer.send(openOf(asn, from, 90, { addPathSend }), keepalive);
  await until('Established', () =>
    speaker.peers().some(({ address, state }) => address === from && state === 'Established'),
  );
  return peer;
}

const announced = (asns: number[], nextHop: string, prefixes: string[], more: object = {}, addPath = false) =>
  announcing(
    attributesOf(nextHop, { localPref: null, asPath: [{ set: false, asns }], ...more }),
    listOf(...prefixes),
    { addPath },
  );

/** Three peers; routes that are decided by several steps, with identifiers, of both families, and a loop. */
async function told() {
  const { speaker, view } = await start();
  const left = await establish(speaker, LEFT, 64501);
  const right = await establish(speaker, RIGHT, 4200000001);
  const inner = await establish(speaker, INNER, ASN, true);
  left.send(
    ...announced([64501, 64510], LEFT, ['203.0.113.0/24', '198.18.0.0/15', '0.0.0.0/0'], { med: 7 }),
    ...announced([64501, ASN], LEFT, ['192.0.2.0/24']),
  );
  right.send(
    ...announced([4200000001, 64510], RIGHT, ['203.0.113.0/24', '203.0.113.129/32'], {
      communities: [0xfde80001],
      largeCommunities: [1, 2, 3],
    }),
    ...announced([4200000001], '2001:db8::3', ['2001:db8:1::/48', '::/0']),
  );
  inner.send(
    ...announced([64599], INNER, ['203.0.113.0/24#1', '10.9.0.0/16#2'], { localPref: 50 }, true),
    ...announced([64598], INNER, ['203.0.113.0/24#2', '10.9.0.0/16#7'], { localPref: 50 }, true),
  );
  await until('all paths', () => {
    const [four, six] = speaker.ribs;
    return four.isSettled && six.isSettled && four.pathCount === 11 && six.pathCount === 2;
  });
  return { speaker, view };
}

function dumped(view: SpeakerView, query: BgpDumpQuery = {}): Buffer {
  const bytes = Buffer.concat([...view.dump(query)].filter((piece) => piece !== null));
  writeFileSync(file, bytes);
  return bytes;
}

const rowsOf = (rows: Iterable<BgpRouteView | null>): BgpRouteView[] =>
  [...rows].filter((row) => row !== null);

const PREFIXES = [
  '203.0.113.0/24',
  '203.0.113.129/32',
  '203.0.113.130',
  '198.18.0.0/15',
  '0.0.0.0/0',
  '10.9.0.0/16',
  '10.65.0.0/26',
  '2001:db8:1::/48',
  '2001:db8:2::1',
];

describe('a dump', () => {
  it('answers why as the speaker does', async () => {
    const { view } = await told();
    dumped(view);
    const loaded = await loadMrt(file);
    expect(loaded.summary.malformed).toEqual([]);
    expect(loaded.summary.skipped).toEqual([]);
    expect(loaded.summary.peers).toBe(4);
    for (const prefix of PREFIXES) expect(loaded.why(prefix)).toEqual(view.why(prefix));
    expect(loaded.why('203.0.113.0/24')).toMatchObject({
      decidedBy: 'router id',
      candidates: [{ peer: LEFT }, { peer: RIGHT }, { peer: INNER, pathId: 1 }, { peer: INNER, pathId: 2 }],
    });
  });

  it('leaves out what was refused, unless it is asked what a peer told', async () => {
    const { view } = await told();
    dumped(view);
    const whole = await loadMrt(file);
    expect(whole.summary.tables).toMatchObject([
      { prefixes: 6, paths: 10 },
      { prefixes: 2, paths: 2 },
    ]);
    expect(whole.why('192.0.2.0/24').prefix).toBeNull();
    dumped(view, { in: LEFT, family: 'ipv4' });
    const left = await loadMrt(file);
    expect(
      rowsOf(left.routes({}))
        .map(({ prefix, peer }) => `${prefix} ${peer}`)
        .sort(),
    ).toEqual(['0.0.0.0/0', '192.0.2.0/24', '198.18.0.0/15', '203.0.113.0/24'].map((p) => `${p} ${LEFT}`));
    dumped(view, { family: 'ipv6' });
    expect(
      rowsOf((await loadMrt(file)).routes({}))
        .map(({ prefix }) => prefix)
        .sort(),
    ).toEqual(['2001:db8:1::/48', '::/0']);
  });

  it('comes in pieces, with a pause every 64 prefixes', async () => {
    const { speaker, view } = await start();
    const left = await establish(speaker, LEFT, 64501);
    left.send(
      ...announcing(
        attributesOf(LEFT, { localPref: null, asPath: [{ set: false, asns: [64501] }] }),
        many(10_000),
      ),
    );
    await until('all paths', () => speaker.ribs[0].isSettled && speaker.ribs[0].pathCount === 10_001);
    let most = 0;
    let count = 0;
    for (const piece of view.dump({})) {
      count++;
      most = Math.max(most, piece?.length ?? 0);
    }
    expect(count).toBeGreaterThan(10_000 / 64);
    expect(most).toBeLessThan(64 * 1024 + 200);
    dumped(view);
    expect((await loadMrt(file)).summary.tables[0]).toMatchObject({ prefixes: 10_001, paths: 10_001 });
  });

  it('is of a peer that is known', async () => {
    const { view } = await start();
    expect(() => view.dump({ in: '192.0.2.99' })).toThrow('no peer "192.0.2.99"');
  });
});

describe.skipIf(missing)('bgpdump', () => {
  it('reads a dump as it is meant: both families, own routes, and identifiers of paths ahead of the AS path', async () => {
    const { view } = await told();
    dumped(view);
    const out = execFileSync(BGPDUMP, ['-m', file], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    const lines = out
      .trim()
      .split('\n')
      .map((line) => {
        const [, , , peer, asn, prefix, path, origin, nextHop, localPref, med, communities] = line.split('|');
        return [peer, asn, prefix, path, origin, nextHop, localPref, med, communities].join(' ').trim();
      });
    expect(lines.sort()).toMatchInlineSnapshot(`
      [
        "0.0.0.0 64512 10.65.0.0/26  IGP 0.0.0.0 0 0 65000:1",
        "127.79.0.2 64501 0.0.0.0/0 64501 64510 IGP 127.79.0.2 0 7",
        "127.79.0.2 64501 198.18.0.0/15 64501 64510 IGP 127.79.0.2 0 7",
        "127.79.0.2 64501 203.0.113.0/24 64501 64510 IGP 127.79.0.2 0 7",
        "127.79.0.3 4200000001 2001:db8:1::/48 4200000001 IGP 2001:db8::3 0 0",
        "127.79.0.3 4200000001 203.0.113.0/24 4200000001 64510 IGP 127.79.0.3 0 0 65000:1",
        "127.79.0.3 4200000001 203.0.113.129/32 4200000001 64510 IGP 127.79.0.3 0 0 65000:1",
        "127.79.0.3 4200000001 ::/0 4200000001 IGP 2001:db8::3 0 0",
        "127.79.0.4 64512 10.9.0.0/16 2 64599 IGP 127.79.0.4 50 0",
        "127.79.0.4 64512 10.9.0.0/16 7 64598 IGP 127.79.0.4 50 0",
        "127.79.0.4 64512 203.0.113.0/24 1 64599 IGP 127.79.0.4 50 0",
        "127.79.0.4 64512 203.0.113.0/24 2 64598 IGP 127.79.0.4 50 0",
      ]
    `);
  });
});
