/** One connection over a socket of memory: what no real network does on demand. */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import type { PeerConfig, SpeakerConfig } from './config.ts';
import { openOf } from './fake-peer.ts';
import { FAMILIES, IPV4, IPV6 } from './family.ts';
import { Framer } from './framing.ts';
import { encodeNotification, encodeRouteRefresh, frame, keepalive } from './message.ts';
import { Speaker } from './speaker.ts';
import { announcing, attributesOf, listOf, many, toldBy, withdrawing } from './test-routes.ts';
import { until } from './until.ts';
import { endOfRib } from './update.ts';

/** What is written is kept, and taken (or not) as told. */
class MemorySocket extends Duplex {
  readonly localAddress = '10.0.0.1';
  readonly written: Uint8Array[] = [];
  #held: (() => void) | null = null;
  #takes = true;
  set takes(takes: boolean) {
    this.#takes = takes;
    if (takes) this.#held?.();
    this.#held = null;
  }
  setNoDelay(): void {}
  override _read(): void {}
  override _write(chunk: Uint8Array, _: string, done: () => void): void {
    this.written.push(chunk);
    if (this.#takes) done();
    else this.#held = done;
  }
}

const PEER: PeerConfig = { address: '10.0.0.2', asn: 64512, passive: true, label: 'global' };
const CONFIG: SpeakerConfig = {
  asn: 64512,
  routerId: '10.0.0.1',
  peers: [PEER],
  originate: [],
  maxOutputBytes: 1 << 20,
};

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** A speaker whose one peer is a socket of memory. */
async function speaker(more: Partial<SpeakerConfig> = {}) {
  const logs: string[] = [];
  const log = (level: string, message: string, fields: object) => {
    logs.push(`${level}: ${message} ${JSON.stringify(fields)}`);
  };
  const s = new Speaker({ ...CONFIG, ...more, log });
  await s.start();
  closers.push(() => s.stop());
  const connect = (takes = true) => {
    const socket = new MemorySocket();
    socket.takes = takes;
    s.session(PEER.address)!.accept(socket as unknown as Socket);
    return socket;
  };
  return { s, logs, connect, status: () => s.peers()[0]! };
}

const OPEN = openOf(64512, '10.0.0.2');

describe('a peer that does not read', () => {
  it('is left when what waits for it is beyond the limit', async () => {
    // Room for our OPEN, and none for a KEEPALIVE behind it.
    const { connect, status } = await speaker({ maxOutputBytes: 60 });
    const socket = connect(false);
    socket.push(OPEN);
    socket.push(keepalive);
    await until('the end', () => status().lastError);
    expect(status().lastError).toMatch(/out of resources \(6\/8\): the peer does not read: \d+ bytes wait/);
  });

  it('is left when it takes nothing for long (RFC 9687)', async () => {
    const { connect, status } = await speaker({ timers: { sendHoldMs: 20 } });
    const socket = connect();
    socket.takes = false;
    socket.push(OPEN);
    expect(await until('the end', () => status().lastError)).toMatch(/send hold timer expired \(8\/0\)/);
  });

  it('is sent no more UPDATEs than the mark, and the rest when it reads again', async () => {
    const { s, connect, status } = await speaker();
    for (let i = 0; i < 20_000; i++) {
      // A set of attributes each makes an UPDATE each: a megabyte and more in all.
      const { id } = s.table.acquire(attributesOf('10.0.0.9', { med: i }));
      s.ribs[0].announce(s.local, s.table.get(id), many(10, 0x0b000000 + i * 10 * 256));
      s.table.release(id);
    }
    await until('settled', () => s.ribs[0].isSettled);
    const socket = connect();
    socket.push(OPEN);
    socket.push(keepalive);
    await until('Established', () => status().state === 'Established');
    socket.takes = false;
    await until('it is stuck', () => status().queuedBytes > 256 * 1024);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(status().queuedBytes).toBeLessThan(1 << 20);
    expect(status().families[0]!.endOfRibSent).toBe(false);
    // What goes away while it does not read, it never hears of.
    s.ribs[0].withdraw(s.local, many(10, 0x0b000000 + 19_999 * 10 * 256));
    socket.takes = true;
    await until('all is told', () => status().families[0]!.endOfRibSent);
    const heard = new Map<string, boolean>();
    for (const line of toldBy(split(socket.written))) {
      if (line.startsWith('end')) continue;
      heard.set(line.replace(/^-| via.*/g, ''), !line.startsWith('-'));
    }
    expect([...heard.values()].filter(Boolean)).toHaveLength(199_990);
    expect(status().families[0]!.sent).toBe(199_990);
  });
});

/** Whole messages out of what was written. */
function split(written: readonly Uint8Array[]): Uint8Array[] {
  const framer = new Framer();
  const messages: Uint8Array[] = [];
  for (const chunk of written) {
    framer.push(chunk);
    for (let next = framer.next(); next; next = framer.next()) {
      messages.push(frame(next.type, next.bytes.slice(next.offset, next.end)));
    }
  }
  return messages;
}

/** mulberry32: the same mutations in every run. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('ten thousand mutations of a session', () => {
  const attributes = attributesOf('10.0.0.9', {
    asPath: [{ set: false, asns: [65001, 70000] }],
    communities: [1, 2],
    largeCommunities: [1, 2, 3],
    extendedCommunities: [4, 5],
    clusterList: [9],
    originatorId: 8,
    otc: 65001,
    unknown: [{ type: 99, value: Uint8Array.of(1, 2, 3) }],
  });
  const six = { ...attributes, nextHop: attributesOf('fd00::9').nextHop };
  const everything = { restartTime: 120, longLivedTime: 60, addPathReceive: true, addPathSend: true };
  const addPath = true;
  const recorded = [
    openOf(64512, '10.0.0.2', 90, everything),
    keepalive,
    ...announcing(attributes, many(20), { addPath }),
    ...announcing(six, listOf('2001:db8::/32#1', '2001:db8:1::/48#2'), { addPath }),
    ...withdrawing(many(3), { addPath }),
    ...withdrawing(listOf('2001:db8::/32#1'), { addPath }),
    endOfRib(IPV6),
    ...FAMILIES.map(({ afi, safi }) => encodeRouteRefresh({ afi, subtype: 0, safi })),
    encodeRouteRefresh({ afi: 1, subtype: 1, safi: 1 }),
    encodeRouteRefresh({ afi: 1, subtype: 2, safi: 1 }),
    endOfRib(IPV4),
    keepalive,
    encodeNotification({ code: 6, subcode: 2, data: Uint8Array.of(2, 104, 105) }),
  ];

  it.each([1, 2, 3, 4, 5])('end at most the session (seed %i)', async (seed) => {
    const next = random(seed);
    const pick = (below: number) => Math.floor(next() * below);
    const peers: PeerConfig[] = [
      {
        ...PEER,
        families: ['ipv4', 'ipv6'],
        addPath: { receive: true, send: 2 },
        longLivedTime: 60,
        keepFiltered: true,
      },
    ];
    const { s, logs, connect, status } = await speaker({ peers });
    for (let round = 0; round < 2000; round++) {
      const socket = connect();
      const messages = recorded.map((message) => message.slice());
      for (let changes = 1 + pick(3); changes > 0; changes--) {
        const at = pick(messages.length);
        const message = messages[at]!;
        const kind = pick(10);
        if (kind === 0) messages[at] = message.subarray(0, pick(message.length));
        else if (kind === 1) messages.splice(at, 1, message, message);
        else if (kind === 2) messages.splice(at, 1, messages[pick(messages.length)]!);
        // Rarely the marker: what is behind it is where the mistakes would be.
        else
          message[kind === 3 ? pick(message.length) : Math.min(16 + pick(200), message.length - 1)] =
            pick(256);
      }
      const bytes = Buffer.concat(messages);
      for (let at = 0; at < bytes.length; ) {
        const size = 1 + pick(200);
        socket.emit('data', bytes.subarray(at, at + size));
        at += size;
      }
      expect(
        logs.filter((line) => line.startsWith('error')),
        `round ${round}`,
      ).toEqual([]);
      logs.length = 0;
      expect(['Active', 'OpenSent', 'OpenConfirm', 'Established']).toContain(status().state);
      socket.destroy();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await s.reconfigure({ ...CONFIG, peers: [] });
    await until('all is forgotten', () => s.ribs.every((rib) => rib.size === 0 && rib.pathCount === 0));
    expect(s.table.size).toBe(0);
  });
});
