/** What is told of a running speaker, whose peers are played over the loopback device. */
import { afterEach, describe, expect, it } from 'vitest';
import type { BgpEvent, BgpRouteQuery, BgpRouteView, BgpWatch, BgpWatchQuery } from '../api/types.ts';
import type { PeerConfig, SpeakerConfig } from '../bgp/config.ts';
import { FakePeer, openOf } from '../bgp/fake-peer.ts';
import { keepalive, ROUTE_REFRESH } from '../bgp/message.ts';
import { ACCEPT_ALL, type Policy } from '../bgp/policy.ts';
import { Speaker } from '../bgp/speaker.ts';
import { announcing, attributesOf, listOf, many, withdrawing } from '../bgp/test-routes.ts';
import { until } from '../bgp/until.ts';
import { SpeakerView } from './bgp-view.ts';

const US = '127.78.0.1';
const LEFT = '127.78.0.2';
const RIGHT = '127.78.0.3';
const RIGHT6 = '::1';
const ASN = 64512;

const closers: (() => Promise<void> | void)[] = [];
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

async function start(peers = [external(LEFT, 64501), external(RIGHT, 64502)]) {
  const config: SpeakerConfig = {
    asn: ASN,
    routerId: US,
    listen: { addresses: [US], port: 0 },
    peers,
    originate: [{ prefix: '10.65.0.0/26' }],
  };
  const speaker = new Speaker({ ...config, log: () => {} });
  closers.push(() => speaker.stop());
  await speaker.start();
  const view = new SpeakerView();
  view.use({ speaker, config });
  return { speaker, view };
}

async function establish(speaker: Speaker, from: string, asn: number): Promise<FakePeer> {
  const peer = await FakePeer.dial(from, US, speaker.port!);
  closers.push(() => void peer.socket.destroy());
  peer.send(openOf(asn, from), keepalive);
  await until('Established', () => statusOf(speaker, from).state === 'Established');
  return peer;
}

const statusOf = (speaker: Speaker, address: string) =>
  speaker.peers().find((peer) => peer.address === address)!;

const settled = (speaker: Speaker, paths: number) =>
  until(`${paths} paths`, () => {
    const [four, six] = speaker.ribs;
    return four.isSettled && six.isSettled && four.pathCount + six.pathCount === paths;
  });

const announcement = (asns: number[], nextHop: string, prefixes: string[], more: object = {}) =>
  announcing(
    attributesOf(nextHop, { localPref: null, asPath: [{ set: false, asns }], ...more }),
    listOf(...prefixes),
  );

const rowsOf = (view: SpeakerView, query: BgpRouteQuery): BgpRouteView[] =>
  [...view.routes(query)].filter((row) => row !== null);

/** As short as tests want it: "* 10.0.0.0/8 LEFT reason". */
const short = (rows: readonly BgpRouteView[]) =>
  rows.map(({ state, prefix, peer, reason, detail }) =>
    `${state} ${prefix} ${peer ?? 'us'} ${[reason, ...(detail === null ? [] : [detail])].join(', ')}`.trim(),
  );

async function twoPeers() {
  const both = await start();
  const left = await establish(both.speaker, LEFT, 64501);
  const right = await establish(both.speaker, RIGHT, 64502);
  left.send(...announcement([64501, 64510, 64511], LEFT, ['203.0.113.0/24', '198.18.0.0/15']));
  right.send(
    ...announcement([64502], RIGHT, ['203.0.113.0/24', '203.0.113.128/25']),
    ...announcement([64502], '2001:db8::3', ['2001:db8:1::/48']),
  );
  await settled(both.speaker, 6);
  return { ...both, left, right };
}

describe('routes', () => {
  it('are listed of both families, with the place of each and what gave it', async () => {
    const { view } = await twoPeers();
    expect(short(rowsOf(view, {})).sort()).toEqual([
      `best 10.65.0.0/26 us only path`,
      `best 198.18.0.0/15 ${LEFT} only path`,
      `best 2001:db8:1::/48 ${RIGHT} only path`,
      `best 203.0.113.0/24 ${RIGHT} AS path length`,
      `best 203.0.113.128/25 ${RIGHT} only path`,
      `worse 203.0.113.0/24 ${LEFT} AS path length, 3 against 1`,
    ]);
    expect(rowsOf(view, { family: 'ipv6' })).toMatchObject([
      {
        prefix: '2001:db8:1::/48',
        nextHop: '2001:db8::3',
        peer: RIGHT,
        peerAsn: 64502,
        attributes: { asPath: '64502' },
      },
    ]);
    expect(rowsOf(view, { best: true })).toHaveLength(5);
  });

  it('are found by prefix, by what lies within it, and by the longest that holds an address', async () => {
    const { view } = await twoPeers();
    const prefixes = (query: BgpRouteQuery) => [...new Set(rowsOf(view, query).map(({ prefix }) => prefix))];
    expect(prefixes({ prefix: '203.0.113.0/24' })).toEqual(['203.0.113.0/24']);
    expect(prefixes({ prefix: '203.0.113.0/24', longer: true }).sort()).toEqual([
      '203.0.113.0/24',
      '203.0.113.128/25',
    ]);
    expect(prefixes({ prefix: '203.0.113.200' })).toEqual(['203.0.113.128/25']);
    expect(prefixes({ prefix: '203.0.113.100' })).toEqual(['203.0.113.0/24']);
    expect(prefixes({ prefix: '2001:db8:1::9' })).toEqual(['2001:db8:1::/48']);
    expect(prefixes({ prefix: '192.0.2.1' })).toEqual([]);
    expect(prefixes({ prefix: '203.0.113.0/25' })).toEqual([]);
    // The longest of those that this peer told.
    expect(prefixes({ prefix: '203.0.113.200', in: LEFT })).toEqual(['203.0.113.0/24']);
    expect(() => view.routes({ prefix: '203.0.113.1/24' })).toThrow(/no prefix and no address/);
  });

  it('are shown as a peer told them, and as it was told them', async () => {
    const { view } = await twoPeers();
    expect(short(rowsOf(view, { in: LEFT })).sort()).toEqual([
      `best 198.18.0.0/15 ${LEFT} only path`,
      `worse 203.0.113.0/24 ${LEFT} AS path length, 3 against 1`,
    ]);
    await until('the left peer is told', () => rowsOf(view, { out: LEFT }).length === 3);
    const sent = rowsOf(view, { out: LEFT });
    expect(short(sent).sort()).toEqual([
      `sent 10.65.0.0/26 us`,
      `sent 203.0.113.0/24 ${RIGHT}`,
      `sent 203.0.113.128/25 ${RIGHT}`,
    ]);
    expect(sent.find(({ prefix }) => prefix === '203.0.113.0/24')).toMatchObject({
      nextHop: US,
      attributes: { asPath: `${ASN} 64502` },
    });
    expect(short(rowsOf(view, { out: LEFT, prefix: '203.0.113.200' }))).toEqual([
      `sent 203.0.113.128/25 ${RIGHT}`,
    ]);
  });

  it('that the policy refused are shown where they are kept', async () => {
    const importPolicy: Policy = {
      key: 'no 198.18.0.0/15',
      evaluate: ({ prefix }) => ({ accept: prefix.length !== 15, reason: 'rule 1', operations: [] }),
    };
    const { speaker, view } = await start([external(LEFT, 64501, { importPolicy, keepFiltered: true })]);
    const left = await establish(speaker, LEFT, 64501);
    left.send(
      ...announcement([64501], LEFT, ['198.18.0.0/15', '203.0.113.0/24']),
      ...announcement([64501, ASN], LEFT, ['192.0.2.0/24']),
    );
    await settled(speaker, 4);
    expect(short(rowsOf(view, { in: LEFT })).sort()).toEqual([
      `best 203.0.113.0/24 ${LEFT} only path`,
      `excluded 192.0.2.0/24 ${LEFT} refused: our AS is in AS_PATH`,
      `excluded 198.18.0.0/15 ${LEFT} refused by the import policy: rule 1`,
    ]);
    expect(short(rowsOf(view, { in: LEFT, prefix: '198.18.0.1' }))).toHaveLength(1);
    expect(view.why('198.18.0.0/15')).toMatchObject({ decidedBy: null, covering: null });
  });

  it('are walked with pauses where nothing is found, and while others go', async () => {
    const { speaker, view } = await start();
    const left = await establish(speaker, LEFT, 64501);
    const right = await establish(speaker, RIGHT, 64502);
    const attributes = attributesOf(LEFT, { localPref: null, asPath: [{ set: false, asns: [64501] }] });
    const count = 20_000;
    left.send(...announcing(attributes, many(count)));
    await settled(speaker, count + 1);
    const pauses = [...view.routes({ in: RIGHT })];
    expect(pauses.every((row) => row === null)).toBe(true);
    expect(pauses.length).toBeGreaterThan(100);
    // Half of the table goes while it is read.
    const seen = new Set<string>();
    for (const row of view.routes({ in: LEFT })) {
      if (row) seen.add(row.prefix);
      if (seen.size === 1000) {
        left.send(...withdrawing(many(count / 2, 0x0b000000 + (count / 2) * 256)));
        await settled(speaker, count / 2 + 1);
      }
    }
    expect(seen.size).toBe(count / 2);
    expect(right.closed).toBe(false);
  });
});

describe('why', () => {
  it('tells of all paths in order, and the step between each and the best', async () => {
    const { view } = await twoPeers();
    const why = view.why('203.0.113.9');
    expect(why).toMatchObject({ prefix: '203.0.113.0/24', decidedBy: 'AS path length', covering: null });
    expect(short(why.candidates)).toEqual([
      `best 203.0.113.0/24 ${RIGHT} AS path length`,
      `worse 203.0.113.0/24 ${LEFT} AS path length, 3 against 1`,
    ]);
  });

  it('measures what was compared', async () => {
    const { speaker, view } = await start();
    const left = await establish(speaker, LEFT, 64501);
    const right = await establish(speaker, RIGHT, 64502);
    const both: [string, object, object, string][] = [
      ['10.1.0.0/16', { origin: 0 }, { origin: 2 }, 'origin, incomplete against IGP'],
      ['10.2.0.0/16', { med: 7 }, { med: 4_000_000_000 }, `router id, ${RIGHT} against ${LEFT}`],
    ];
    for (const [prefix, one, other] of both) {
      left.send(...announcement([64501], LEFT, [prefix], one));
      right.send(...announcement([64502], RIGHT, [prefix], other));
    }
    await settled(speaker, 5);
    for (const [prefix, , , expected] of both) {
      expect(short(view.why(prefix).candidates)[1]).toContain(`${prefix} ${RIGHT} ${expected}`);
    }
    expect(view.why('10.2.0.0/16').candidates[1]!.state).toBe('multipath');
  });

  it('names the path that a path lost against when that is not the best', async () => {
    const { speaker, view } = await start([
      external(LEFT, 64501, { enforceFirstAs: false }),
      external(RIGHT, 64502, { enforceFirstAs: false }),
      external('127.78.0.4', 64503, { enforceFirstAs: false }),
    ]);
    // MED is compared between the paths of 64510 alone.
    const told: [string, number, number, number][] = [
      [LEFT, 64501, 64510, 20],
      [RIGHT, 64502, 64511, 0],
      ['127.78.0.4', 64503, 64510, 10],
    ];
    for (const [address, asn, neighbour, med] of told) {
      const peer = await establish(speaker, address, asn);
      peer.send(...announcement([neighbour], address, ['10.1.0.0/16'], { med }));
    }
    await settled(speaker, 4);
    expect(short(view.why('10.1.0.0/16').candidates)).toEqual([
      `best 10.1.0.0/16 ${RIGHT} router id`,
      `multipath 10.1.0.0/16 127.78.0.4 router id, 127.78.0.4 against ${RIGHT}`,
      `worse 10.1.0.0/16 ${LEFT} MED, 20 against 10 of path 2`,
    ]);
  });

  it('says what a peer is told of it, or why nothing', async () => {
    const rule: Policy = {
      key: 'no 10.2.0.0/16',
      evaluate: ({ prefix: { words } }) => ({
        accept: words[0] !== 0x0a020000,
        reason: 'rule 7',
        operations: [],
      }),
    };
    const { speaker, view } = await start([
      external(LEFT, 64501),
      external(RIGHT, 64502, { exportPolicy: rule }),
    ]);
    await settled(speaker, 1);
    expect(view.why('10.65.0.0/26', RIGHT).told).toMatchObject({
      routes: [],
      reason: 'the session is Active',
    });
    const left = await establish(speaker, LEFT, 64501);
    await establish(speaker, RIGHT, 64502);
    left.send(
      ...announcement([64501], LEFT, ['10.1.0.0/16', '10.2.0.0/16']),
      ...announcement([64501], LEFT, ['10.3.0.0/16'], { communities: [0xffffff01] }),
      ...announcement([64501, ASN], LEFT, ['10.4.0.0/16']),
    );
    await settled(speaker, 4);
    await until('the right peer is told', () => rowsOf(view, { out: RIGHT }).length === 2);
    expect(view.why('10.1.2.3', RIGHT).told).toMatchObject({
      peer: RIGHT,
      routes: [{ prefix: '10.1.0.0/16', nextHop: US, attributes: { asPath: `${ASN} 64501` } }],
      reason: null,
    });
    const reasons = [
      ['10.1.0.0/16', LEFT, 'the best path is its own'],
      ['10.2.0.0/16', RIGHT, 'refused by the export policy: rule 7'],
      ['10.3.0.0/16', RIGHT, 'it has the community no-export'],
    ] as const;
    for (const [prefix, to, reason] of reasons) {
      expect(view.why(prefix, to).told).toEqual({ peer: to, routes: [], reason });
    }
    expect(view.why('10.4.0.0/16', RIGHT).told).toBeNull();
    expect(view.why('10.1.0.0/16').told).toBeNull();
    expect(() => view.why('10.1.0.0/16', '192.0.2.9')).toThrow(/no peer/);
  });

  it('points to what holds a prefix that nobody announces', async () => {
    const { view } = await twoPeers();
    expect(view.why('203.0.113.0/26')).toEqual({
      prefix: null,
      covering: '203.0.113.0/24',
      decidedBy: null,
      candidates: [],
      told: null,
    });
    expect(view.why('192.0.2.0/24')).toMatchObject({ prefix: null, covering: null });
    expect(() => view.why('everything')).toThrow(/no prefix and no address/);
  });
});

describe('a watch', () => {
  const watching = (view: SpeakerView, query: BgpWatchQuery) => {
    let wakes = 0;
    const events: BgpEvent[] = [];
    const watch: BgpWatch = view.watch(query, () => {
      wakes++;
    });
    closers.push(() => watch.close());
    const read = () => {
      events.push(...watch.events());
      return events;
    };
    return { watch, read, wakes: () => wakes };
  };
  /** But for KEEPALIVEs and what has the time in it. */
  const texts = (events: readonly BgpEvent[]) =>
    events.flatMap((event) => {
      if (event.event === 'state') return `${event.peer} ${event.state} ${event.lastError}`;
      if (event.event === 'best') return `best ${event.prefix} ${event.route?.peer ?? 'gone'}`;
      if (event.event === 'lost') return `lost ${event.count}`;
      if (event.type === 'KEEPALIVE') return [];
      if (event.type !== 'UPDATE') return `${event.peer} ${event.direction} ${event.type}`;
      const announced = event.announced.map(
        ({ prefixes, attributes }) => `+${prefixes} (${attributes.asPath})`,
      );
      const parts = [...announced, ...event.withdrawn.map((prefix) => `-${prefix}`), event.endOfRib ?? []];
      return `${event.peer} ${event.direction} ${parts.flat().join(' ')}`;
    });

  it('tells of states and messages, decoded', async () => {
    const { speaker, view } = await start();
    const { read } = watching(view, { peer: LEFT });
    const right = await establish(speaker, RIGHT, 64502);
    const left = await establish(speaker, LEFT, 64501);
    left.send(...announcement([64501], LEFT, ['203.0.113.0/24']), ...withdrawing(listOf('203.0.113.0/24')));
    await until('both', () => texts(read()).some((text) => text.includes('-203.0.113.0/24')));
    right.send(keepalive);
    view.reset(LEFT, 'back at noon');
    await until('the end', () => texts(read()).some((text) => text.includes('back at noon')));
    const told = texts(read());
    for (const expected of [
      `${LEFT} out OPEN`,
      `${LEFT} in OPEN`,
      `${LEFT} OpenConfirm null`,
      `${LEFT} Established null`,
      `${LEFT} out +10.65.0.0/26 (${ASN})`,
      `${LEFT} out ipv4`,
      `${LEFT} in +203.0.113.0/24 (64501)`,
      `${LEFT} in -203.0.113.0/24`,
      `${LEFT} out NOTIFICATION`,
    ]) {
      expect(told).toContain(expected);
    }
    expect(told.join()).not.toContain(RIGHT);
  });

  it('tells of best paths where it is asked to, as they are when it is read', async () => {
    const { speaker, view } = await start();
    const left = await establish(speaker, LEFT, 64501);
    const { read, wakes } = watching(view, { best: true });
    left.send(...announcement([64501], LEFT, ['203.0.113.0/24', '203.0.114.0/24']));
    await settled(speaker, 3);
    left.send(...withdrawing(listOf('203.0.113.0/24')));
    await settled(speaker, 2);
    const best = read().filter(({ event }) => event === 'best');
    expect(texts(best).sort()).toEqual([
      'best 203.0.113.0/24 gone',
      'best 203.0.113.0/24 gone',
      `best 203.0.114.0/24 ${LEFT}`,
    ]);
    expect(wakes()).toBe(1);
  });

  it('remembers a bounded number of events and says how many it left out', async () => {
    const { speaker, view } = await start();
    const left = await establish(speaker, LEFT, 64501);
    const { read } = watching(view, { best: true });
    const attributes = attributesOf(LEFT, { localPref: null, asPath: [{ set: false, asns: [64501] }] });
    left.send(...announcing(attributes, many(30_000)));
    await settled(speaker, 30_001);
    const events = read();
    const told = events.filter(({ event }) => event === 'best').length;
    const last = events.at(-1)!;
    expect(last.event).toBe('lost');
    expect(told).toBeLessThan(16_384);
    left.send(...withdrawing(listOf('11.0.0.0/24')));
    await until('the next', () => texts(read()).includes('best 11.0.0.0/24 gone'));
  });

  it('costs the speaker nothing when nobody watches any more', async () => {
    const { speaker, view } = await start();
    const { watch } = watching(view, { best: true });
    expect(speaker.listenerCount('message')).toBe(1);
    watch.close();
    expect(speaker.listenerCount('message')).toBe(0);
    expect(speaker.listenerCount('state')).toBe(0);
    expect(speaker.ribs[0].listenerCount('change')).toBe(0);
  });

  it('goes on with the next speaker', async () => {
    const first = await start();
    const { read } = watching(first.view, {});
    await first.speaker.stop();
    first.view.use(null);
    expect(() => first.view.watch({}, () => {})).toThrow(/speaks no BGP/);
    const second = await start();
    first.view.use({ speaker: second.speaker, config: { asn: ASN, routerId: US, peers: [], originate: [] } });
    read();
    await establish(second.speaker, LEFT, 64501);
    expect(texts(read())).toContain(`${LEFT} Established null`);
  });
});

describe('peers', () => {
  it('are asked for their routes again', async () => {
    const { speaker, view } = await start();
    expect(() => view.refresh(LEFT)).toThrow(/session with 127.78.0.2 is Active/);
    const left = await establish(speaker, LEFT, 64501);
    view.refresh(LEFT);
    await left.hear(ROUTE_REFRESH);
  });

  it('are reset with words', async () => {
    const { speaker, view } = await start();
    const left = await establish(speaker, LEFT, 64501);
    expect(() => view.reset(LEFT, 'é'.repeat(128))).toThrow(/256 bytes, at most 255/);
    view.reset(LEFT, 'back at noon');
    // A hard reset around an administrative one, with the words (RFC 8538, 9003).
    const words = Buffer.from('back at noon').toString('hex');
    expect(await left.notification()).toBe(`6/9 06040c${words}`);
    await until('it has ended', () => statusOf(speaker, LEFT).state !== 'Established');
  });

  it('that there are not are answered with those that there are', async () => {
    const { view } = await start([external(LEFT, 64501), external(RIGHT6, 64502)]);
    for (const ask of [
      () => view.refresh('192.0.2.9'),
      () => view.reset('192.0.2.9', ''),
      () => view.routes({ in: '192.0.2.9' }),
      () => view.watch({ peer: '192.0.2.9' }, () => {}),
    ]) {
      expect(ask).toThrow(`no peer "192.0.2.9"; peers: ${LEFT}, ::1`);
    }
    // Any spelling will do.
    expect(rowsOf(view, { in: '0:0::1' })).toEqual([]);
  });

  it('go by the names of their resources, too', async () => {
    const { speaker, view } = await start([
      external(LEFT, 64501, { resource: { kind: 'BGPPeer', name: 'uplink' } }),
      external(RIGHT, 64502, { resource: { kind: 'Node', name: 'node2' } }),
      external(RIGHT6, 64502, { resource: { kind: 'Node', name: 'node2' } }),
    ]);
    const left = await establish(speaker, LEFT, 64501);
    left.send(...announcement([64501], LEFT, ['203.0.113.0/24']));
    await settled(speaker, 2);
    expect(short(rowsOf(view, { in: 'uplink' }))).toEqual([`best 203.0.113.0/24 ${LEFT} only path`]);
    expect(rowsOf(view, { out: 'uplink' }).map(({ prefix }) => prefix)).toEqual(['10.65.0.0/26']);
    expect(view.why('10.65.0.0/26', 'uplink').told).toMatchObject({ peer: LEFT });
    expect([...view.dump({ in: 'uplink' })].length).toBeGreaterThan(0);
    const events = view.watch({ peer: 'uplink' }, () => {});
    view.refresh('uplink');
    await left.hear(ROUTE_REFRESH);
    view.reset('uplink', '');
    await until('it has ended', () => statusOf(speaker, LEFT).state !== 'Established');
    expect(new Set([...events.events()].map((event) => 'peer' in event && event.peer))).toEqual(
      new Set([LEFT]),
    );
    expect(() => view.refresh('node2')).toThrow(
      `several peers are named "node2": ${RIGHT}, ${RIGHT6}; give the address of one`,
    );
    expect(() => view.refresh('node3')).toThrow(
      `no peer "node3"; peers: ${LEFT} (uplink), ${RIGHT} (node2), ${RIGHT6} (node2)`,
    );
  });

  it('that are left out are answered with the reason, in any spelling and by each of their names', async () => {
    const { view } = await start();
    const text = 'left out: BGPPeer rr, peer 2001:db8::9: AS number 23456';
    view.problems = [
      { text, leftOut: ['2001:db8::9', 'node9', 'rr'] },
      { text: 'BGPPeer tor names BGPFilter gone', leftOut: [] },
    ];
    expect(view.summary().problems).toEqual(view.problems);
    for (const name of ['2001:DB8:0::9', 'node9', 'rr']) {
      expect(() => view.refresh(name)).toThrow(`no peer "${name}"; ${text}`);
    }
    expect(() => view.refresh('tor')).toThrow(`no peer "tor"; peers: ${LEFT}, ${RIGHT}`);
    view.problems = [];
    expect(() => view.refresh('rr')).toThrow(`no peer "rr"; peers: ${LEFT}, ${RIGHT}`);
  });

  it('are none without a speaker, and every question says so', () => {
    const view = new SpeakerView();
    for (const ask of [
      () => view.peers(),
      () => view.summary(),
      () => view.routes({}),
      () => view.why('::'),
    ]) {
      expect(ask).toThrow(/speaks no BGP; see bgp.enabled/);
    }
  });

  it('are summed up with the tables', async () => {
    const { view } = await twoPeers();
    const summary = view.summary();
    expect(summary).toMatchObject({
      asn: ASN,
      routerId: US,
      clusterId: US,
      tables: [
        { family: 'ipv4', prefixes: 4, paths: 5 },
        { family: 'ipv6', prefixes: 1, paths: 1 },
      ],
    });
    expect(summary.attributeSets).toBeGreaterThan(3);
    for (const { bytes } of summary.tables) expect(bytes).toBeGreaterThan(100_000);
  });
});
