/** The speaker over real sockets of the loopback device, against peers that keep to the rules and that do not. */
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { parseAddress4 } from '../address.ts';
import type { PeerConfig, SpeakerConfig } from './config.ts';
import { FakeListener, FakePeer, openOf } from './fake-peer.ts';
import { formatPrefix, IPV4, parseWords } from './family.ts';
import {
  encodeNotification,
  encodeOpen,
  encodeRouteRefresh,
  frame,
  HEADER,
  KEEPALIVE,
  keepalive,
  MAX_EXTENDED_MESSAGE,
  NOTIFICATION,
  OPEN,
  ROUTE_REFRESH,
  UPDATE,
} from './message.ts';
import { ACCEPT_ALL } from './policy.ts';
import { Speaker } from './speaker.ts';
import { announcing, attributesOf, listOf, many, prefixOf, toldBy, withdrawing } from './test-routes.ts';
import { until } from './until.ts';
import { endOfRib } from './update.ts';

const US = '127.77.0.1';
const PEER = '127.77.0.2';
const OTHER = '127.77.0.3';
const ASN = 64512;
/** Attributes that nearly fill a message. */
const LONG_LIST = Array.from({ length: 950 }, (_, i) => i);
const hex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const logs: string[] = [];
function config(more: Partial<SpeakerConfig> = {}): SpeakerConfig {
  return {
    asn: ASN,
    routerId: US,
    listen: { addresses: [US], port: 0 },
    peers: [passive(PEER)],
    originate: [],
    timers: { retryMinMs: 50, retryMaxMs: 200 },
    ...more,
  };
}
const passive = (address: string, more: Partial<PeerConfig> = {}): PeerConfig => ({
  address,
  asn: ASN,
  passive: true,
  label: 'global',
  ...more,
});

async function speaker(more: Partial<SpeakerConfig> = {}): Promise<Speaker> {
  logs.length = 0;
  const log = (level: string, message: string, fields: Record<string, unknown>) => {
    logs.push(`${level} ${message} ${JSON.stringify(fields)}`);
  };
  const made = new Speaker({ ...config(more), log });
  closers.push(() => made.stop());
  await made.start();
  return made;
}

async function dial(s: Speaker, from = PEER): Promise<FakePeer> {
  const peer = await FakePeer.dial(from, US, s.port!);
  closers.push(() => void peer.socket.destroy());
  return peer;
}

async function establish(s: Speaker, from = PEER, open = openOf(ASN, from)): Promise<FakePeer> {
  const peer = await dial(s, from);
  peer.send(open, keepalive);
  await until('Established', () => state(s, from) === 'Established');
  return peer;
}

const status = (s: Speaker, address = PEER) => s.peers().find((peer) => peer.address === address)!;
const state = (s: Speaker, address = PEER) => status(s, address).state;
const routes = (s: Speaker) =>
  s.ribs.flatMap((rib) =>
    [...rib.best()].map(({ prefix, path }) => `${formatPrefix(prefix)} via ${path.nextHop?.text}`),
  );
const isWithdrawal = (message: Uint8Array) =>
  message[HEADER - 1] === UPDATE && (message[HEADER]! | message[HEADER + 1]!) > 0;
const announcement = (nextHop: string, prefixes: string[], more: object = {}) =>
  announcing(attributesOf(nextHop, more), listOf(...prefixes));
/** What a peer was told: prefixes announced with their next hop, and withdrawn, but for End-of-RIB. */
const told = (peer: FakePeer) => toldBy(peer.heard).filter((line) => !line.startsWith('end'));

describe('a peer that does not keep to the rules gets the right NOTIFICATION', () => {
  const open = openOf(ASN, PEER);
  const changed = (at: number, ...bytes: number[]) => {
    const copy = open.slice();
    copy.set(bytes, at);
    return copy;
  };
  const update = (text: string) => frame(UPDATE, hex(text));

  it.each<[string, Uint8Array[], string]>([
    ['a bad marker', [changed(3, 0)], '1/1'],
    ['text', [Buffer.from('GET / HTTP/1.1\r\nHost: example\r\n\r\n')], '1/1'],
    ['a bad length', [changed(16, 0, 18)], '1/2 0012'],
    ['an unknown type', [changed(18, 9)], '1/3 09'],
    ['version 3', [changed(19, 3)], '2/1 0004'],
    ['another AS', [openOf(64999, PEER)], '2/2'],
    ['identifier 0.0.0.0', [openOf(ASN, '0.0.0.0')], '2/3'],
    ['our own identifier', [openOf(ASN, US)], '2/3'],
    ['hold time 2', [openOf(ASN, PEER, 2)], '2/6'],
    ['KEEPALIVE before OPEN', [keepalive], '5/1 04'],
    ['UPDATE before KEEPALIVE', [open, update('0000 0000')], '5/2 02'],
    ['OPEN twice', [open, open], '5/2 01'],
    ['OPEN when established', [open, keepalive, open], '5/3 01'],
    ['withdrawn routes beyond the message', [open, keepalive, update('0009 0000')], '3/1'],
    ['an unknown well-known attribute', [open, keepalive, update('0000 0004 406301aa')], '3/2 406301aa'],
    ['a prefix of 33 bits', [open, keepalive, update('0006 21 0a00000000 0000')], '3/10'],
    ['a second type of garbage later', [open, keepalive, keepalive, changed(0, 1)], '1/1'],
  ])('%s', async (_, messages, expected) => {
    const s = await speaker();
    const peer = await dial(s);
    peer.send(...messages);
    expect(await peer.notification()).toBe(expected);
    await until('the connection ends', () => peer.closed);
    expect(state(s)).toBe('Active');
    expect(status(s).lastError).toContain(`(${expected.split(' ')[0]})`);
    await establish(s);
  });

  it('that expects another AS of us shows which one it was told', async () => {
    const s = await speaker();
    const peer = await dial(s);
    peer.send(encodeNotification({ code: 2, subcode: 2, data: new Uint8Array(0) }));
    await until('the end', () => status(s).lastError);
    expect(status(s).lastError).toBe(
      'the peer sent OPEN message error: bad peer AS (2/2): it expects another AS than ours, 64512',
    );
  });

  it('takes and gives nothing where an external peer has no policy', async () => {
    const external = { asn: 65001, passive: true };
    const s = await speaker({
      peers: [passive(PEER, external), passive(OTHER)],
      originate: [{ prefix: '10.65.0.0/26' }],
    });
    const stranger = await establish(s, PEER, openOf(65001, PEER));
    const inner = await establish(s, OTHER);
    const path = { asPath: [{ set: false, asns: [65001] }], localPref: null };
    stranger.send(...announcement(PEER, ['10.66.0.0/24'], path));
    inner.send(...announcement(OTHER, ['10.67.0.0/24']));
    await until('the internal route is there', () => routes(s).length === 2);
    await until('the internal peer is told', () => told(inner).length === 1);
    expect(routes(s)).not.toContain(`10.66.0.0/24 via ${PEER}`);
    expect(told(stranger)).toEqual([]);
    expect(status(s, PEER).counters.routesFiltered).toBe(1);
  });

  it('costs nothing but its own session', async () => {
    const s = await speaker({ peers: [passive(PEER), passive(OTHER)] });
    const good = await establish(s);
    good.send(...announcement(PEER, ['10.65.1.0/26']));
    for (let i = 0; i < 20; i++) {
      const bad = await establish(s, OTHER);
      bad.send(...announcement(OTHER, ['10.65.1.0/26', '10.65.2.0/26']), hex('00'.repeat(4096)));
      expect(await bad.notification()).toBe('1/1');
      await until('the bad session is gone', () => state(s, OTHER) === 'Active');
    }
    await until('its routes are gone', () => routes(s).length === 1);
    expect(routes(s)).toEqual([`10.65.1.0/26 via ${PEER}`]);
    expect(state(s)).toBe('Established');
  });

  it('is refused where it is no peer', async () => {
    const s = await speaker();
    const peer = await dial(s, OTHER);
    expect(await peer.notification()).toBe('6/5');
    await until('the connection ends', () => peer.closed);
    expect(peer.opened()).toBe(false);
    expect(logs.join()).toContain(OTHER);
  });

  it('is left when it never sends OPEN', async () => {
    const s = await speaker({ timers: { openMs: 100, retryMinMs: 50, retryMaxMs: 200 } });
    expect(await (await dial(s)).notification()).toBe('4/0');
  });

  it('is left when it agrees on no hold time and never confirms', async () => {
    const s = await speaker({ timers: { openMs: 300, retryMinMs: 50, retryMaxMs: 200 } });
    const peer = await dial(s);
    peer.send(openOf(ASN, PEER, 0));
    await peer.hear(KEEPALIVE);
    expect(await peer.notification()).toBe('4/0');
    // Confirmed, it may be silent for ever: another that is dialled later has gone by then.
    const quiet = await establish(s, PEER, openOf(ASN, PEER, 0));
    const stuck = await dial(s);
    expect(await stuck.notification()).toBe('4/0');
    expect(quiet.closed).toBe(false);
    expect(status(s)).toMatchObject({ state: 'Established', holdTime: 0 });
  });

  it('is refused with a role that there is not (RFC 9234 4.2)', async () => {
    const role = { asn: 65001, role: 'customer' } as const;
    const s = await speaker({ peers: [passive(PEER, role)] });
    const unknown = openOf(65001, PEER, 90, { role: 'provider' });
    unknown.set([77], Buffer.from(unknown).indexOf(hex('09 01 00')) + 2);
    const peer = await dial(s);
    peer.send(unknown);
    expect(await peer.notification()).toBe('2/11');
    const clash = await dial(s);
    clash.send(openOf(65001, PEER, 90, { role: 'customer' }));
    expect(await clash.notification()).toBe('2/11');
    await establish(s, PEER, openOf(65001, PEER, 90, { role: 'provider' }));
  });

  it('is refused without a role where one is wanted, and with two that differ (RFC 9234 4.2)', async () => {
    const role = { asn: 65001, role: 'customer', strictRole: true } as const;
    const s = await speaker({ peers: [passive(PEER, role), passive(OTHER, { asn: 65001 })] });
    const silent = await dial(s);
    silent.send(openOf(65001, PEER));
    expect(await silent.notification()).toBe('2/11');
    const twice = (first: string, second: string) => {
      const open = Buffer.from(openOf(65001, OTHER, 90, { role: 'provider' }));
      const size = 3;
      const at = open.indexOf(hex('09 01 00')) + size;
      const out = Buffer.concat([open.subarray(0, at), hex(second), open.subarray(at)]);
      out.set(hex(first), at - size);
      out.writeUInt16BE(out.length, 16);
      out[28] = out[28]! + size;
      out[30] = out[30]! + size;
      return out;
    };
    const torn = await dial(s, OTHER);
    torn.send(twice('09 01 00', '09 01 03'));
    expect(await torn.notification()).toBe('2/11');
    await establish(s, OTHER, twice('09 01 00', '09 01 00'));
  });

  it('is refused where it carries no family of ours, which it is told (RFC 5492 5)', async () => {
    const s = await speaker({ peers: [passive(PEER, { families: ['ipv6'] })] });
    const peer = await dial(s);
    peer.send(openOf(ASN, PEER, 90, { families: [IPV4] }));
    expect(await peer.notification()).toBe('2/7 010400020001');
  });

  it('is left when it falls silent', async () => {
    const s = await speaker({ peers: [passive(PEER, { holdTime: 3 })] });
    const peer = await establish(s);
    const counted = peer.heard.length;
    expect(await peer.notification()).toBe('4/0');
    // The hold time of 3 s is kept alive from our side twice or more before the peer's silence ends it.
    const alive = peer.heard.slice(counted).filter((message) => message[18] === KEEPALIVE);
    expect(alive.length).toBeGreaterThanOrEqual(2);
    expect(status(s).lastError).toMatch(/hold timer expired/);
  });

  it('is not left when the silence was ours: what waits in the kernel is read first', async () => {
    const s = await speaker({ peers: [passive(PEER, { holdTime: 3 })] });
    const peer = await establish(s);
    // It goes to the kernel at once, and nobody reads it for longer than the hold time.
    peer.send(keepalive, ...announcement(PEER, ['10.65.1.0/26']));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3_200);
    await until('the route is there', () => routes(s).length === 1);
    expect(status(s)).toMatchObject({ state: 'Established', counters: { flaps: 0 } });
    expect(await peer.notification()).toBe('4/0');
  });

  it('that never reads is left with a reason, and what waits for it was bounded', async () => {
    const most = 1 << 20;
    const s = await speaker({
      peers: [passive(PEER), passive(OTHER)],
      maxOutputBytes: most,
      timers: { retryMinMs: 50, retryMaxMs: 200, sendHoldMs: 1_000 },
    });
    const deaf = await establish(s);
    deaf.socket.pause();
    // Attributes of their own for each make messages of their own: more than two kernels' buffers hold.
    let queued = 0;
    for (let i = 0; i < 400_000 && status(s).state === 'Established'; i++) {
      const { id } = s.table.acquire(attributesOf('10.0.0.9', { med: i, communities: LONG_LIST }));
      s.ribs[0].announce(s.local, s.table.get(id), many(1, 0x0b000000 + i * 256));
      s.table.release(id);
      if (i % 100 !== 0) continue;
      await new Promise((resolve) => setImmediate(resolve));
      queued = Math.max(queued, status(s).queuedBytes);
      // It is stuck: there is nothing to wait for but the end.
      if (queued > 256 * 1024) break;
    }
    const reason = await until('the end', () => status(s).lastError);
    expect(reason).toBe('send hold timer expired (8/0): the peer took nothing for 1 s');
    expect(queued).toBeGreaterThan(0);
    expect(queued).toBeLessThan(most);
    // Another is told all.
    const good = await establish(s, OTHER);
    // End-of-RIB is the only UPDATE without anything in it.
    await until('End-of-RIB', () => good.heard.some((m) => m[18] === UPDATE && m.length === HEADER + 4));
    expect(told(good)).toHaveLength(s.ribs[0].size);
  });

  it('is left when it announces too many prefixes', async () => {
    const s = await speaker({ peers: [passive(PEER, { maxPrefixes: 2 })] });
    const peer = await establish(s);
    peer.send(...announcement(PEER, ['10.0.0.0/24', '10.0.1.0/24']));
    await until('two routes', () => routes(s).length === 2);
    peer.send(...announcement(PEER, ['10.0.2.0/24']));
    expect(await peer.notification()).toBe('6/9 060100010100000002');
    expect(status(s).lastError).toBe(
      'Cease: maximum number of prefixes reached (6/1): more than 2 ipv4 prefixes; tried again in 300 s, or after a change or a reset',
    );
    await until('its routes are gone', () => routes(s).length === 0);
    // Also in a hard reset, it may not come back at once.
    expect(state(s)).toBe('Idle');
    const again = await dial(s);
    expect(await again.notification()).toBe('6/5');
    s.reset(PEER);
    await until('it is waited for', () => state(s) === 'Active');
    await establish(s);
  });

  it('is left when the limit becomes less than what it has announced', async () => {
    const s = await speaker();
    const peer = await establish(s);
    peer.send(...announcement('10.0.0.9', ['10.0.0.0/24', '10.0.1.0/24']));
    await until('two routes', () => routes(s).length === 2);
    const listen = { addresses: [US], port: s.port! };
    await s.reconfigure(config({ listen, peers: [passive(PEER, { maxPrefixes: 1 })] }));
    expect(await peer.notification()).toBe('6/9 060100010100000001');
  });

  it('may come back when its rest after too many prefixes is over', async () => {
    const s = await speaker({ peers: [passive(PEER, { maxPrefixes: 1, maxPrefixesRestart: 1 })] });
    const peer = await establish(s);
    peer.send(...announcement('10.0.0.9', ['10.0.0.0/24', '10.0.1.0/24']));
    await peer.notification();
    expect(state(s)).toBe('Idle');
    await until('it is waited for', () => state(s) === 'Active');
    await establish(s);
  });

  it('comes back after too many prefixes once its configuration is another, however long it was to rest', async () => {
    const limited = (maxPrefixes: number) =>
      config({ peers: [passive(PEER, { maxPrefixes, maxPrefixesRestart: 0 })] });
    const s = await speaker(limited(2));
    const listen = { addresses: [US], port: s.port! };
    const three = announcement(PEER, ['10.0.0.0/24', '10.0.1.0/24', '10.0.2.0/24']);
    (await establish(s)).send(...three);
    await until('it rests', () => state(s) === 'Idle');
    expect(status(s).lastError).toMatch(/; tried again not before a change or a reset$/);
    await s.reconfigure({ ...limited(2), listen });
    expect(state(s)).toBe('Idle');
    await s.reconfigure({ ...limited(3), listen });
    expect(state(s)).toBe('Active');
    const peer = await establish(s);
    peer.send(...three);
    await until('three routes', () => routes(s).length === 3);
    // A lower limit holds at once.
    await s.reconfigure({ ...limited(2), listen });
    expect(await peer.notification()).toBe('6/9 060100010100000002');
    expect(state(s)).toBe('Idle');
  });
});

describe('routes', () => {
  it('that are kept though they may not be used count towards the limit of prefixes', async () => {
    const keeps = { asn: 65001, keepFiltered: true, maxPrefixes: 2 };
    const s = await speaker({ peers: [passive(PEER, keeps)] });
    const peer = await establish(s, PEER, openOf(65001, PEER));
    const path = { asPath: [{ set: false, asns: [65001] }], localPref: null };
    peer.send(...announcement('10.0.0.9', ['10.0.0.0/24', '10.0.1.0/24'], path));
    await until('two are kept', () => status(s).families[0]!.filtered === 2);
    peer.send(...announcement('10.0.0.9', ['10.0.2.0/24'], path));
    expect(await peer.notification()).toBe('6/9 060100010100000002');
    await until('nothing is kept', () => s.ribs[0].pathCount === 0);
  });

  it('come, are replaced, go, and go with the session', async () => {
    const s = await speaker();
    const changes: string[] = [];
    const [rib] = s.ribs;
    rib.on('change', (ids, count) => {
      for (const id of ids.subarray(0, count)) {
        changes.push(`${rib.hasBest(id) ? '' : '-'}${formatPrefix(rib.prefixOf(id))}`);
      }
    });
    const peer = await establish(s);
    peer.send(...announcement('10.0.0.9', ['10.65.1.0/26', '10.65.2.0/26']));
    await until('two routes', () => routes(s).length === 2);
    peer.send(...announcement('10.0.0.8', ['10.65.1.0/26']), ...withdrawing(listOf('10.65.2.0/26')));
    await until('one replaced, one gone', () => routes(s).join() === '10.65.1.0/26 via 10.0.0.8');
    expect(rib.lookup(parseWords('10.65.1.5'))).toMatchObject({
      prefix: { length: 26 },
      reason: 'only path',
    });
    expect(status(s)).toMatchObject({ families: [{ received: 1 }], counters: { updatesIn: 3 } });
    peer.socket.resetAndDestroy();
    await until('all gone', () => routes(s).length === 0);
    expect(status(s).lastError).toMatch(/ECONNRESET/);
    expect(changes).toEqual([
      '10.65.1.0/26',
      '10.65.2.0/26',
      '10.65.1.0/26',
      '-10.65.2.0/26',
      '-10.65.1.0/26',
    ]);
  });

  it('are refused where they loop or lead to ourselves, and replace what was good before', async () => {
    const s = await speaker();
    const peer = await establish(s);
    const prefix = ['10.65.1.0/26'];
    const { nextHop } = attributesOf(US);
    for (const more of [
      { asPath: [{ set: false, asns: [64999, ASN] }] },
      { originatorId: parseAddress4(US) },
      { clusterList: [1, parseAddress4(US)] },
      { nextHop },
    ]) {
      peer.send(...announcement('10.0.0.9', prefix));
      await until('a route', () => routes(s).length === 1);
      peer.send(...announcement('10.0.0.9', prefix, more));
      await until('it is refused', () => routes(s).length === 0);
    }
    expect(status(s)).toMatchObject({ state: 'Established', counters: { routesRefused: 4 } });
  });

  it('that lead to ourselves are refused where we listen on all addresses, too', async () => {
    const s = await speaker({ listen: { addresses: ['0.0.0.0'], port: 0 } });
    const peer = await establish(s);
    peer.send(...announcement(US, ['10.65.1.0/26']), ...announcement('10.0.0.9', ['10.65.2.0/26']));
    await until('the other is there', () => routes(s).length > 0);
    expect(routes(s)).toEqual(['10.65.2.0/26 via 10.0.0.9']);
    expect(status(s).counters.routesRefused).toBe(1);
  });

  it('of IPv6 are refused in the same way, and the session goes on', async () => {
    const s = await speaker({ peers: [passive(PEER, { families: ['ipv4', 'ipv6'] })] });
    const peer = await establish(s);
    const ours = { asPath: [{ set: false, asns: [ASN] }] };
    peer.send(...announcement('fd00::2', ['2001:db8:1::/48', '2001:db8:2::/48'], ours));
    peer.send(...announcement('fd00::2', ['2001:db8:3::/48']));
    await until('the good route is there', () => routes(s).length === 1);
    expect(routes(s)).toEqual(['2001:db8:3::/48 via fd00::2']);
    expect(status(s).counters.routesRefused).toBe(2);
    expect(status(s).counters.flaps).toBe(0);
    expect(logs.filter((line) => line.includes('refused'))).toEqual([
      expect.stringContaining('"first":"2001:db8:1::/48","count":2'),
    ]);
  });

  it('to multicast prefixes are ignored, those beside them are not (RFC 4271 6.3)', async () => {
    const s = await speaker({ peers: [passive(PEER, { families: ['ipv4', 'ipv6'], keepFiltered: true })] });
    const peer = await establish(s);
    const four = ['224.0.0.0/4', '10.65.1.0/26', '239.1.1.1/32', '224.0.0.0/3', '240.0.0.0/4'];
    peer.send(...announcement('10.0.0.9', four));
    peer.send(...announcement('fd00::2', ['ff00::/8', 'ff02::1/128', '2001:db8::/32', 'fe00::/7']));
    await until('the others are there', () => routes(s).length === 5);
    expect(routes(s).map((route) => route.split(' ')[0])).toEqual([
      '10.65.1.0/26',
      '224.0.0.0/3',
      '240.0.0.0/4',
      '2001:db8::/32',
      'fe00::/7',
    ]);
    expect(status(s).counters.routesRefused).toBe(4);
    expect(logs.join()).toContain('"reason":"the prefix is multicast","first":"224.0.0.0/4","count":2');
    const [multicast] = s.ribs[0].candidates(prefixOf('224.0.0.0/4'));
    expect(s.refusalOf(PEER, prefixOf('224.0.0.0/4'), multicast!.path.attributes)).toBe(
      'the prefix is multicast',
    );
  });

  it('that leave by GRACEFUL_SHUTDOWN are the last choice, whatever the import policy prefers (RFC 8326 4.2)', async () => {
    const priority = { kind: 'set local preference', value: 2_147_482_623 } as const;
    const verdict = { accept: true, reason: '', operations: [priority] };
    const external = { asn: 65001, importPolicy: { key: 'prefer', evaluate: () => verdict } };
    const s = await speaker({ peers: [passive(PEER, external)] });
    const peer = await establish(s, PEER, openOf(65001, PEER));
    const path = { asPath: [{ set: false, asns: [65001] }], localPref: null };
    peer.send(...announcement('10.0.0.9', ['10.65.1.0/26'], path));
    peer.send(...announcement('10.0.0.9', ['10.65.2.0/26'], { ...path, communities: [0xffff0000] }));
    await until('two routes', () => routes(s).length === 2);
    const localPref = (text: string) => s.ribs[0].get(prefixOf(text))!.path.attributes.localPref;
    expect([localPref('10.65.1.0/26'), localPref('10.65.2.0/26')]).toEqual([priority.value, 0]);
  });

  it('of malformed attributes are treated as withdrawn, the session goes on', async () => {
    const s = await speaker();
    const peer = await establish(s);
    peer.send(...announcement('10.0.0.9', ['10.65.1.0/26']));
    await until('a route', () => routes(s).length === 1);
    peer.send(frame(UPDATE, hex('0000 000d 40 01 01 07 40 02 00 40 03 03 010203 1a 0a410100')));
    await until('it is withdrawn', () => routes(s).length === 0);
    expect(status(s)).toMatchObject({ state: 'Established', counters: { updatesMalformed: 1 } });
    // The bytes are told, too (RFC 7606 8).
    expect(logs.find((line) => line.includes('treated as withdrawn'))).toContain(
      '"update":"0000000d400101074002004003030102031a0a410100"',
    );
  });

  it('by the hundred thousand do not hold up the event loop', async () => {
    const s = await speaker();
    const peer = await establish(s);
    const prefixes = many(100_000);
    let largest = 0;
    s.ribs[0].on('change', (_, count) => {
      largest = Math.max(largest, count);
    });
    peer.send(...announcing(attributesOf('10.0.0.9'), prefixes));
    await until('all routes', () => status(s).families[0]!.received === 100_000);
    await until('all settled', () => routes(s).length === 100_000);
    expect(largest).toBeLessThanOrEqual(4096);
    peer.socket.destroy();
    await until('all gone', () => routes(s).length === 0);
  });

  it('of our own go to every peer, and again when it asks', async () => {
    const s = await speaker({ originate: [{ prefix: '10.65.0.0/26' }, { prefix: '10.65.0.64/26' }] });
    const peer = await establish(s);
    const all = [`10.65.0.0/26 via ${US}`, `10.65.0.64/26 via ${US}`];
    await until('both blocks', () => told(peer).length === 2);
    expect(told(peer)).toEqual(all);
    peer.send(encodeRouteRefresh({ afi: 1, subtype: 0, safi: 1 }));
    await until('both again', () => told(peer).length === 4);
    expect(told(peer)).toEqual([...all, ...all]);
    // Another family and an unknown subtype are ignored.
    peer.send(frame(ROUTE_REFRESH, hex('0002 00 01')), frame(ROUTE_REFRESH, hex('0001 07 01')), keepalive);
    await s.reconfigure(
      config({ originate: [{ prefix: '10.65.0.64/26' }], listen: { addresses: [US], port: 0 } }),
    );
    await until('one is withdrawn', () => told(peer).length === 5);
    expect(told(peer)[4]).toBe('-10.65.0.0/26');
  });

  it('that are not told again between the marks of a refresh go at its end (RFC 7313)', async () => {
    const s = await speaker();
    const peer = await establish(s);
    const mark = (subtype: number) => encodeRouteRefresh({ afi: 1, subtype, safi: 1 });
    const marked = (count: number) => until(`${count} marked`, () => status(s).families[0]!.stale === count);
    const all = ['10.65.1.0/26', '10.65.2.0/26', '10.65.3.0/26'];
    peer.send(...announcement('10.0.0.9', all), endOfRib(IPV4));
    await until('three routes', () => routes(s).length === 3);
    // An end without a beginning ends nothing.
    peer.send(mark(2), mark(1));
    await marked(3);
    peer.send(...announcement('10.0.0.9', all.slice(0, 1)));
    await marked(2);
    // Another beginning is none: nothing goes before its time.
    peer.send(mark(1), ...announcement('10.0.0.9', all.slice(1, 2)));
    await marked(1);
    expect(routes(s)).toHaveLength(3);
    peer.send(mark(2));
    await until('one is gone', () => routes(s).length === 2);
  });

  it('stay where a refresh begins before all was told for the first time (RFC 7313 4)', async () => {
    const s = await speaker();
    const open = openOf(ASN, PEER, 90, { restartTime: 120, restarting: true });
    const first = await establish(s, PEER, open);
    first.send(...announcement('10.0.0.9', ['10.65.1.0/26', '10.65.2.0/26']), endOfRib(IPV4));
    await until('two routes', () => routes(s).length === 2);
    first.socket.resetAndDestroy();
    await until('they are stale', () => status(s).families[0]!.stale === 2);
    const second = await establish(s, PEER, open);
    const mark = (subtype: number) => encodeRouteRefresh({ afi: 1, subtype, safi: 1 });
    second.send(mark(1), mark(2), ...announcement('10.0.0.9', ['10.65.1.0/26']));
    await until('one is told again', () => status(s).families[0]!.stale === 1);
    await until('all is settled', () => s.ribs[0].isSettled);
    expect(routes(s)).toHaveLength(2);
    second.send(endOfRib(IPV4), mark(1), mark(2));
    await until('none is left', () => routes(s).length === 0);
  });

  it('are told again to a peer without RFC 7313, whatever its reserved byte holds (RFC 2918 3)', async () => {
    const s = await speaker({ originate: [{ prefix: '10.65.0.0/26' }] });
    const open = openOf(ASN, PEER);
    // Capability 70 becomes one that nobody knows.
    open[Buffer.from(open).indexOf(hex('46 00 06 00'))] = 250;
    const peer = await establish(s, PEER, open);
    await until('told', () => told(peer).length === 1);
    peer.send(encodeRouteRefresh({ afi: 1, subtype: 1, safi: 1 }));
    await until('told again', () => told(peer).length === 2);
  });

  it('whose attributes have no room in a message are withdrawn from who was told them shorter (RFC 4271 9.2)', async () => {
    const s = await speaker({
      originate: [{ prefix: '10.65.0.0/26' }],
      peers: [PEER, OTHER].map((address) => passive(address, { reflectorClient: true })),
    });
    const short = openOf(ASN, PEER);
    // Extended messages become a capability that nobody knows.
    short[Buffer.from(short).indexOf(hex('06 00 41 04'))] = 250;
    const peer = await establish(s, PEER, short);
    const other = await establish(s, OTHER);
    const route = (count: number) =>
      announcing(
        attributesOf('10.0.0.9', { communities: Array.from({ length: count }, (_, i) => i) }),
        listOf('10.1.0.0/16'),
        { maxMessage: MAX_EXTENDED_MESSAGE },
      );
    other.send(...route(3));
    await until('it is told', () => told(peer).includes('10.1.0.0/16 via 10.0.0.9'));
    other.send(...route(2000));
    await until('it is withdrawn', () => told(peer).at(-1) === '-10.1.0.0/16');
    const id = s.ribs[0].find(prefixOf('10.1.0.0/16'));
    expect(s.withheld(PEER, IPV4, id)).toBe('its attributes leave no room for a prefix in 4096 bytes');
    expect([...s.adjOut(PEER, IPV4)].map(({ prefix }) => formatPrefix(prefix))).toEqual(['10.65.0.0/26']);
    other.send(...route(4));
    await until('it is told again', () => told(peer).at(-1) === '10.1.0.0/16 via 10.0.0.9');
  });

  it('are not told to the peer that they lead to, which loses what it had (RFC 4271 5.1.3)', async () => {
    const third = '127.77.0.4';
    const peers = [PEER, OTHER, third].map((address) => passive(address, { reflectorClient: true }));
    const s = await speaker({ peers });
    const from = await establish(s);
    const target = await establish(s, OTHER);
    const bystander = await establish(s, third);
    from.send(...announcement(OTHER, ['10.1.0.0/16']));
    await until('others are told', () => told(bystander).length === 1);
    const id = s.ribs[0].find(prefixOf('10.1.0.0/16'));
    expect(s.withheld(OTHER, IPV4, id)).toBe('its next hop is the peer itself (RFC 4271 5.1.3)');
    expect(s.withheld(third, IPV4, id)).toBeNull();
    expect(status(s, OTHER).families[0]!.sent).toBe(0);
    expect(status(s, third).families[0]!.sent).toBe(1);
    from.send(...announcement('10.0.0.9', ['10.1.0.0/16']));
    await until('it is told', () => told(target).includes('10.1.0.0/16 via 10.0.0.9'));
    expect(status(s, OTHER).families[0]!.sent).toBe(1);
    from.send(...announcement(OTHER, ['10.1.0.0/16']));
    await until('it loses that', () => told(target).at(-1) === '-10.1.0.0/16');
    expect(told(bystander).at(-1)).toBe(`10.1.0.0/16 via ${OTHER}`);
    expect(told(target)).not.toContain(`10.1.0.0/16 via ${OTHER}`);
  });

  it('of an internal peer are not passed to another, those of an external one are', async () => {
    const s = await speaker({
      originate: [{ prefix: '10.65.0.0/26' }],
      peers: [
        passive(PEER),
        passive(OTHER),
        passive('127.77.0.4', { asn: 65001, importPolicy: ACCEPT_ALL, exportPolicy: ACCEPT_ALL }),
      ],
    });
    const internal = await establish(s);
    const other = await establish(s, OTHER);
    const external = await establish(s, '127.77.0.4', openOf(65001, '127.77.0.4'));
    internal.send(...announcement('10.0.0.9', ['10.1.0.0/16']));
    external.send(
      ...announcement('10.0.0.7', ['10.2.0.0/16'], {
        asPath: [{ set: false, asns: [65001] }],
        localPref: null,
      }),
    );
    await until('the external peer hears', () => told(external).length === 2);
    await until('the internal peer hears', () => told(other).length === 2);
    expect(told(other).sort()).toEqual([`10.2.0.0/16 via 10.0.0.7`, `10.65.0.0/26 via ${US}`]);
    expect(told(external).sort()).toEqual([`10.1.0.0/16 via ${US}`, `10.65.0.0/26 via ${US}`]);
    await until('and the first', () => told(internal).length === 2);
  });
});

describe('connections', () => {
  it('are one after a collision: the one that the higher identifier dialled (RFC 4271 6.8)', async () => {
    for (const [peerId, outgoingStays] of [
      ['1.0.0.1', true],
      ['250.0.0.1', false],
    ] as const) {
      const listener = new FakeListener();
      const port = await listener.listen(PEER);
      closers.push(() => listener.close());
      const s = await speaker({ peers: [passive(PEER, { passive: false, port })] });
      const dialled = await until('we are dialled', () => listener.peers[0]);
      const dialling = await dial(s);
      const open = openOf(ASN, peerId);
      await dialled.hear(OPEN);
      await dialling.hear(OPEN);
      dialled.send(open);
      await dialled.hear(KEEPALIVE);
      expect(state(s)).toBe('OpenConfirm');
      dialling.send(open);
      const [kept, lost] = outgoingStays ? [dialled, dialling] : [dialling, dialled];
      expect(await lost.notification()).toBe('6/7');
      await kept.hear(KEEPALIVE);
      kept.send(keepalive);
      await until('Established', () => state(s) === 'Established');
      expect(kept.heard.some((message) => message[18] === NOTIFICATION)).toBe(false);
    }
  });

  it('that collide are one by the same rule if one is up before the OPEN of the other comes', async () => {
    const restarts = { restartTime: 120 };
    for (const [peerId, outgoingStays, offering] of [
      ['1.0.0.1', true, {}],
      ['1.0.0.1', true, restarts],
      ['250.0.0.1', false, {}],
      ['250.0.0.1', false, restarts],
    ] as const) {
      const listener = new FakeListener();
      const port = await listener.listen(PEER);
      closers.push(() => listener.close());
      const s = await speaker({ peers: [passive(PEER, { passive: false, port })] });
      const dialled = await until('we are dialled', () => listener.peers[0]);
      const dialling = await dial(s);
      await dialling.hear(OPEN);
      const open = openOf(ASN, peerId, 90, offering);
      dialled.send(open, keepalive);
      await until('Established', () => state(s) === 'Established');
      dialling.send(open, keepalive);
      const [kept, lost] = outgoingStays ? [dialled, dialling] : [dialling, dialled];
      expect(await lost.notification()).toBe('6/7');
      await until('one is up', () => state(s) === 'Established');
      expect(kept.heard.some((message) => message[18] === NOTIFICATION)).toBe(false);
      expect(kept.closed).toBe(false);
    }
  });

  it('that the peer gives up for another one are no fault', async () => {
    const listener = new FakeListener();
    const port = await listener.listen(PEER);
    closers.push(() => listener.close());
    const s = await speaker({ peers: [passive(PEER, { passive: false, port })] });
    const collision = encodeNotification({ code: 6, subcode: 7, data: new Uint8Array(0) });
    const kept = await until('we are dialled', () => listener.peers[0]);
    const lost = await dial(s);
    kept.send(openOf(ASN, PEER), keepalive);
    await until('Established', () => state(s) === 'Established');
    lost.send(collision);
    await until('it is heard', () => status(s).counters.notificationsIn === 1);
    expect(status(s)).toMatchObject({ state: 'Established', lastError: null });
    expect(logs.filter((line) => line.startsWith('warn'))).toEqual([]);
    // Where there is no other one, it is.
    kept.send(collision);
    await until('the end', () => status(s).lastError);
    expect(status(s).lastError).toBe('the peer sent Cease: connection collision resolution (6/7)');
  });

  it('at equal identifiers are decided by the higher AS (RFC 6286 2.3)', async () => {
    for (const [asn, outgoingStays] of [
      [64000, true],
      [65001, false],
    ] as const) {
      const listener = new FakeListener();
      const port = await listener.listen(PEER);
      closers.push(() => listener.close());
      const s = await speaker({ peers: [passive(PEER, { passive: false, port, asn })] });
      const dialled = await until('we are dialled', () => listener.peers[0]);
      const dialling = await dial(s);
      dialled.send(openOf(asn, US));
      await dialled.hear(KEEPALIVE);
      dialling.send(openOf(asn, US));
      expect(await (outgoingStays ? dialling : dialled).notification()).toBe('6/7');
    }
  });

  it('beside an established one are refused', async () => {
    const s = await speaker();
    const first = await establish(s);
    const second = await dial(s);
    second.send(openOf(ASN, PEER));
    expect(await second.notification()).toBe('6/7');
    expect(state(s)).toBe('Established');
    expect(first.closed).toBe(false);
    expect(status(s).lastError).toBeNull();
  });

  it('of a peer that has restarted take the place of the old one, and its routes stay (RFC 4724 5)', async () => {
    const s = await speaker();
    const gone: string[] = [];
    const [rib] = s.ribs;
    rib.on('change', (ids, count) => {
      for (const id of ids.subarray(0, count)) {
        if (!rib.hasBest(id)) gone.push(formatPrefix(rib.prefixOf(id)));
      }
    });
    const opens = [false, true].map((restarting) => {
      const open = openOf(ASN, PEER, 90, { restartTime: 120, restarting });
      // A peer without RFC 8538: no N bit, so that a NOTIFICATION would cost its routes.
      const at = Buffer.from(open).indexOf(hex(restarting ? '40 0a c0' : '40 0a 40'));
      open[at + 2] = open[at + 2]! & 0x8f;
      return open;
    });
    const first = await establish(s, PEER, opens[0]);
    first.send(...announcement('10.0.0.9', ['10.65.1.0/26', '10.65.2.0/26']));
    await until('two routes', () => routes(s).length === 2);
    const second = await dial(s);
    second.send(opens[1]!, keepalive);
    await until('the old connection ends', () => first.closed);
    await until('Established', () => state(s) === 'Established' && status(s).families[0]!.stale === 2);
    expect(first.heard.some((message) => message[18] === NOTIFICATION)).toBe(false);
    second.send(...announcement('10.0.0.9', ['10.65.1.0/26']), endOfRib(IPV4));
    await until('what it has not told again is gone', () => routes(s).length === 1);
    expect(gone).toEqual(['10.65.2.0/26']);
  });

  it('that the peer gave up for a new one are closed', async () => {
    const s = await speaker();
    const first = await dial(s);
    await first.hear(OPEN);
    const second = await dial(s);
    expect(await first.notification()).toBe('6/7');
    second.send(openOf(ASN, PEER), keepalive);
    await until('Established', () => state(s) === 'Established');
  });

  it('of a session that is reset end before the next begins', async () => {
    const listener = new FakeListener();
    const port = await listener.listen(PEER);
    closers.push(() => listener.close());
    const s = await speaker({ peers: [passive(PEER, { passive: false, port })] });
    const first = await until('dialled', () => listener.peers[0]);
    first.send(openOf(ASN, PEER), keepalive);
    await until('Established', () => state(s) === 'Established');
    // It takes its time to read.
    first.socket.pause();
    s.reset(PEER, 'back at noon');
    setTimeout(() => first.socket.resume(), 400);
    await until('dialled again', () => listener.peers[1]);
    expect(first.heard.some((message) => message[18] === NOTIFICATION)).toBe(true);
    expect(status(s)).toMatchObject({ endReason: expect.stringContaining('back at noon') });
  });

  it('are tried again until there is someone, and after he is gone', async () => {
    const listener = new FakeListener();
    const port = await listener.listen(PEER);
    await listener.close();
    const s = await speaker({ peers: [passive(PEER, { passive: false, port })] });
    await until(
      'refused',
      () => status(s).lastError === 'cannot connect: ECONNREFUSED, nothing listens on that port there',
    );
    const again = new FakeListener();
    again.server.listen(port, PEER);
    closers.push(() => again.close());
    for (let round = 0; round < 3; round++) {
      const peer = await until('dialled', () => again.peers[round]);
      peer.send(openOf(ASN, PEER), keepalive);
      await until('Established', () => state(s) === 'Established');
      peer.socket.destroy();
    }
  });
});

describe('a peer that restarts', () => {
  const held = { restartTime: 120 };
  const N = 0x40;
  /** An OPEN whose capability for graceful restart is changed: its flags and time, and the flags of its families. */
  const restartOf = (flags: number, time: number, forwarding: number) => {
    const open = openOf(ASN, PEER, 90, { restartTime: 120 });
    const at = Buffer.from(open).indexOf(hex('40 0a 40 78'));
    open.set([flags | (time >> 8), time & 255], at + 2);
    open.set([forwarding], at + 7);
    return open;
  };
  const R = 0x80;
  const F = 0x80;

  /** A session of one route, that ends as told; then whether the route is kept. */
  async function ended(open: Uint8Array, end: (peer: FakePeer) => void): Promise<[Speaker, boolean]> {
    const s = await speaker();
    const peer = await establish(s, PEER, open);
    peer.send(...announcement('10.0.0.9', ['10.65.1.0/26']));
    await until('a route', () => routes(s).length === 1);
    end(peer);
    await until('the session is over', () => state(s) !== 'Established');
    const { stale } = status(s).families[0]!;
    if (stale === 0) await until('it is gone', () => routes(s).length === 0);
    return [s, stale === 1];
  }
  const cut = (peer: FakePeer) => void peer.socket.resetAndDestroy();
  const notify = (subcode: number) => (peer: FakePeer) =>
    peer.send(encodeNotification({ code: 6, subcode, data: new Uint8Array(0) }));

  it.each<[string, Uint8Array, (peer: FakePeer) => void, boolean]>([
    ['whose connection is lost', restartOf(N, 120, 0), cut, true],
    ['that does not offer it', openOf(ASN, PEER), cut, false],
    ['that gives itself no time', restartOf(N, 0, 0), cut, false],
    ['that says so, where both let it (RFC 8538 4)', restartOf(N, 120, 0), notify(4), true],
    ['that says so, where it may not', restartOf(0, 120, 0), notify(4), false],
    ['that asks for a hard reset (RFC 8538 3.1)', restartOf(N, 120, 0), notify(9), false],
  ])('keeps its routes, or not: one %s', async (_, open, end, isKept) => {
    const [, kept] = await ended(open, end);
    expect(kept).toBe(isKept);
  });

  it('loses them when it does not come back in time', async () => {
    const [s, kept] = await ended(restartOf(N, 1, 0), cut);
    expect(kept).toBe(true);
    await until('they are gone', () => routes(s).length === 0);
  });

  it.each<[string, Uint8Array, boolean]>([
    ['forwarding goes on', restartOf(R | N, 120, F), true],
    ['forwarding has stopped', restartOf(R | N, 120, 0), false],
    ['restarts are offered no more', openOf(ASN, PEER), false],
  ])('finds them again where its %s (RFC 4724 4.2)', async (_, open, isKept) => {
    const [s] = await ended(openOf(ASN, PEER, 90, held), cut);
    await establish(s, PEER, open);
    expect(status(s).families[0]!.stale).toBe(isKept ? 1 : 0);
  });

  it.each<[string, string, string, boolean]>([
    ['forwarding goes on', '00', '80', true],
    ['forwarding has stopped', '80', '00', false],
  ])(
    'finds long-lived stale routes again where its %s (RFC 9494 4.2)',
    async (_, restart, longLived, isKept) => {
      const s = await speaker({ peers: [passive(PEER, { longLivedTime: 600 })] });
      const offer = { restartTime: 1, longLivedTime: 600 };
      const first = await establish(s, PEER, openOf(ASN, PEER, 90, offer));
      first.send(...announcement('10.0.0.9', ['10.65.1.0/26', '10.65.2.0/26']));
      await until('two routes', () => routes(s).length === 2);
      cut(first);
      await until('the restart time is over', () => logs.join().includes('stale routes live on'));
      const open = Buffer.from(openOf(ASN, PEER, 90, { ...offer, restarting: true }));
      open.set(hex(restart), open.indexOf(hex('0001 01 80 0002 01 80')) + 3);
      open.set(hex(longLived), open.indexOf(hex('0001 01 80 000258')) + 3);
      const second = await establish(s, PEER, open);
      expect(status(s).families[0]!.stale).toBe(isKept ? 2 : 0);
      second.send(...announcement('10.0.0.9', ['10.65.1.0/26']), endOfRib(IPV4));
      await until('what it has not told again is gone', () => routes(s).length === 1);
    },
  );

  it('long-lived routes that it does not tell again in their time go, though it is back (RFC 9494 4.2)', async () => {
    const s = await speaker({ peers: [passive(PEER, { longLivedTime: 600 })] });
    const offer = { restartTime: 1, longLivedTime: 2 };
    const first = await establish(s, PEER, openOf(ASN, PEER, 90, offer));
    first.send(...announcement('10.0.0.9', ['10.65.1.0/26']));
    await until('a route', () => routes(s).length === 1);
    cut(first);
    await until('the restart time is over', () => logs.join().includes('stale routes live on'));
    await establish(s, PEER, openOf(ASN, PEER, 90, { ...offer, restarting: true }));
    expect(status(s).families[0]!.stale).toBe(1);
    await until('it is gone', () => routes(s).length === 0);
  });

  it('is told in a later session that forwarding went on here, so that it keeps our routes', async () => {
    const s = await speaker();
    const forwarding = async (peer: FakePeer) => {
      const open = await peer.hear(OPEN);
      return open[Buffer.from(open).indexOf(hex('40 06')) + 7];
    };
    const first = await establish(s);
    expect(await forwarding(first)).toBe(0);
    cut(first);
    await until('the session is over', () => state(s) !== 'Established');
    expect(await forwarding(await establish(s))).toBe(0x80);
  });
});

describe('the speaker', () => {
  it('knows of peers that have told all, those that restart included, and of those that never say', async () => {
    const s = await speaker({ restarting: true, peers: [passive(PEER), passive(OTHER, { shutdown: '' })] });
    expect([s.isSynchronised, s.hasToldAll]).toEqual([false, false]);
    const peer = await establish(s, PEER, openOf(ASN, PEER, 90, { restartTime: 60, restarting: true }));
    // It is not waited for, or two that restart would wait for each other.
    expect([s.isSynchronised, s.isRestarting, s.hasToldAll]).toEqual([true, false, false]);
    peer.send(endOfRib(IPV4));
    await until('all is told', () => s.hasToldAll);
    peer.socket.destroy();
    await until('the end', () => state(s) !== 'Established');
    expect(s.hasToldAll).toBe(false);
    const routerId = parseAddress4(PEER);
    await establish(s, PEER, encodeOpen({ as2: ASN, holdTime: 90, routerId, capabilities: [] }));
    expect([s.isSynchronised, s.hasToldAll]).toEqual([true, null]);
  });

  it('asks for routes again only who can tell them', async () => {
    const s = await speaker();
    const open = openOf(ASN, PEER);
    // Route refresh becomes a capability that nobody knows.
    open[Buffer.from(open).indexOf(hex('02 00 46 00'))] = 250;
    const peer = await establish(s, PEER, open);
    expect(s.refresh(PEER)).toBe(false);
    await s.stop();
    await until('the connection ends', () => peer.closed);
    expect(peer.heard.some((message) => message[18] === ROUTE_REFRESH)).toBe(false);
  });

  it('stops with Cease, even if a peer does not listen', async () => {
    const s = await speaker({ peers: [passive(PEER), passive(OTHER)] });
    const peer = await establish(s);
    const deaf = connect({ host: US, port: s.port!, localAddress: OTHER, allowHalfOpen: true });
    deaf.on('error', () => {});
    closers.push(() => void deaf.destroy());
    await until('it is there', () => state(s, OTHER) === 'OpenSent');
    await s.stop();
    // In a hard reset, for the peer lets restarts go on through NOTIFICATIONs (RFC 8538).
    expect(await peer.notification()).toBe('6/9 0602');
    expect(s.peers()).toEqual([]);
    await s.stop();
  });

  it('leaves for a restart without a NOTIFICATION, which most peers take for the end of all routes', async () => {
    const s = await speaker();
    const open = openOf(ASN, PEER);
    // A peer without RFC 8538: no N bit in its capability for graceful restart.
    const at = Buffer.from(open).indexOf(hex('40 02 40 00'));
    open.set([0], at + 2);
    const peer = await establish(s, PEER, open);
    await s.stop({ restarting: true });
    await until('it is gone', () => peer.closed);
    expect(peer.heard.some((message) => message[18] === NOTIFICATION)).toBe(false);
  });

  it('cuts words for the operator at 255 bytes, between characters (RFC 9003 2)', async () => {
    const s = await speaker();
    const peer = await establish(s);
    s.reset(PEER, '😀'.repeat(70));
    const words = Buffer.from('😀'.repeat(63));
    expect(words).toHaveLength(252);
    expect(await peer.notification()).toBe(`6/9 0604fc${words.toString('hex')}`);
  });

  it('tells the reason of its restart where restarts go on through NOTIFICATIONs (RFC 8538)', async () => {
    const s = await speaker();
    const peer = await establish(s);
    await s.stop({ restarting: true });
    expect(await peer.notification()).toBe('6/2');
  });

  it('changes only what differs', async () => {
    const s = await speaker({ peers: [passive(PEER), passive(OTHER)] });
    const listen = { addresses: [US], port: s.port! };
    await s.reconfigure(config({ listen, peers: [passive(PEER), passive(OTHER)] }));
    const kept = await establish(s);
    const gone = await establish(s, OTHER);
    const { since } = status(s);
    await s.reconfigure(
      config({
        listen,
        peers: [
          passive(PEER, { label: 'node specific', resource: { kind: 'Node', name: 'node2' } }),
          passive('127.77.0.9'),
        ],
      }),
    );
    expect(await gone.notification()).toBe('6/9 0603');
    expect(s.peers().map(({ address }) => address)).toEqual([PEER, '127.77.0.9']);
    const resource = { kind: 'Node', name: 'node2' };
    expect(status(s)).toMatchObject({ state: 'Established', since, label: 'node specific', resource });
    // What is said aloud and was so before, and pauses between attempts, are nothing to the session either.
    const same = passive(PEER, {
      ...{ holdTime: 90, families: ['ipv4'], localAddress: US, port: 179, addPath: {} },
      ...{
        restartTime: 120,
        longLivedTime: 0,
        strictRole: false,
        enforceFirstAs: true,
        reflectorClient: false,
      },
    });
    await s.reconfigure(config({ listen, peers: [same], timers: { retryMinMs: 70, retryMaxMs: 300 } }));
    expect(status(s)).toMatchObject({ state: 'Established', since });
    await s.reconfigure(config({ listen, peers: [passive(PEER, { holdTime: 30 })] }));
    expect(await kept.notification()).toBe('6/9 0606');
    await establish(s);
  });

  it('tells another number of paths without another session', async () => {
    const sending = (send: number) =>
      config({ peers: [passive(PEER, { addPath: { send } }), passive(OTHER), passive('127.77.0.4')] });
    const s = await speaker({
      ...sending(2),
      peers: sending(2).peers.map((peer) => ({ ...peer, reflectorClient: true })),
    });
    const listen = { addresses: [US], port: s.port! };
    const peer = await establish(s, PEER, openOf(ASN, PEER, 90, { addPathReceive: true }));
    for (const from of [OTHER, '127.77.0.4'])
      (await establish(s, from)).send(...announcement(from, ['10.65.1.0/26']));
    const outs = () => [...s.adjOut(PEER, IPV4)].map(({ set }) => set.nextHop?.text).sort();
    await until('both paths', () => outs().length === 2);
    const { since } = status(s);
    const clients = (send: number) => ({
      ...config({ listen }),
      peers: sending(send).peers.map((one) => ({ ...one, reflectorClient: true })),
    });
    await s.reconfigure(clients(1));
    await until('the best one alone', () => outs().join() === OTHER);
    await until('the other one is withdrawn', () => peer.heard.some(isWithdrawal));
    await s.reconfigure(clients(3));
    await until('both again', () => outs().length === 2);
    expect(status(s)).toMatchObject({ state: 'Established', since });
  });

  it('dials, or waits to be dialled, as it is told last', async () => {
    const listener = new FakeListener();
    const port = await listener.listen(PEER);
    closers.push(() => listener.close());
    const s = await speaker({ peers: [passive(PEER, { port })] });
    const listen = { addresses: [US], port: s.port! };
    await s.reconfigure(config({ listen, peers: [passive(PEER, { port, passive: false })] }));
    const dialled = await until('we are dialled', () => listener.peers[0]);
    dialled.send(openOf(ASN, PEER), keepalive);
    await until('Established', () => state(s) === 'Established');
    const { since } = status(s);
    await s.reconfigure(config({ listen, peers: [passive(PEER, { port })] }));
    expect(status(s)).toMatchObject({ state: 'Established', since });
    dialled.socket.destroy();
    await until('the end', () => state(s) === 'Active');
    await establish(s);
    expect(listener.peers).toHaveLength(1);
  });

  it('shuts a session down with words or without', async () => {
    const s = await speaker({ peers: [passive(PEER), passive(OTHER)] });
    const listen = { addresses: [US], port: s.port! };
    const [one, other] = [await establish(s), await establish(s, OTHER)];
    const peers = [passive(PEER, { shutdown: '' }), passive(OTHER, { shutdown: 'to the cellar' })];
    await s.reconfigure(config({ listen, peers }));
    expect(await one.notification()).toBe('6/9 0602');
    expect(await other.notification()).toBe(`6/9 06020d${Buffer.from('to the cellar').toString('hex')}`);
    expect(s.peers().map(({ state, lastError }) => [state, lastError])).toEqual([
      ['Idle', 'shut down here'],
      ['Idle', 'shut down here: to the cellar'],
    ]);
    const again = await dial(s);
    expect(await again.notification()).toBe('6/5');
  });

  it('refuses a configuration that cannot be meant, and goes on', async () => {
    const s = await speaker();
    await establish(s);
    for (const bad of [
      { asn: 0 },
      { routerId: '10.0.0' },
      { routerId: '0.0.0.0' },
      { originate: [{ prefix: '10.0.0.1/24' }] },
      { peers: [passive(PEER), passive(PEER)] },
      { peers: [passive(PEER, { holdTime: 2 })] },
      { peers: [passive(PEER, { asn: 2 ** 32 })] },
      { peers: [passive('2001:DB8::1')] },
      { peers: [passive(PEER, { password: '' })] },
      { peers: [passive(PEER, { password: 'ä'.repeat(41) })] },
      { peers: [passive(PEER, { password: 'a\0b' })] },
      { peers: [passive(PEER, { ttlSecurity: 256 })] },
      { peers: [passive(PEER, { localAddress: '::1' })] },
    ]) {
      await expect(s.reconfigure(config(bad))).rejects.toMatchObject({ code: 'BGP_CONFIG' });
    }
    expect(state(s)).toBe('Established');
  });

  it('says so when it cannot listen', async () => {
    const s = await speaker();
    const second = new Speaker({ ...config({ listen: { addresses: [US], port: s.port! } }), log: () => {} });
    await expect(second.start()).rejects.toMatchObject({ code: 'BGP_LISTEN' });
    await second.stop();
  });
});
