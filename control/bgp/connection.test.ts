/** One connection over a socket of memory: what no real network does on demand. */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { parseAddress4 } from '../address.ts';
import { Rib } from '../rib/rib.ts';
import { NO_ATTRIBUTES } from './attributes.ts';
import { openOf } from './fake-peer.ts';
import { encodeNotification, encodeRouteRefresh, frame, keepalive, UPDATE } from './message.ts';
import { Session, type SessionConfig } from './session.ts';
import { until } from './until.ts';
import { encodeAnnouncements, encodeWithdrawals } from './update.ts';

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

const CONFIG: SessionConfig = {
  asn: 64512,
  routerId: parseAddress4('10.0.0.1'),
  peerAsn: 64512,
  enforceFirstAs: true,
  address: parseAddress4('10.0.0.2'),
  port: 179,
  localAddress: null,
  passive: true,
  holdTime: 90,
  openMs: 60_000,
  connectMs: 60_000,
  sendHoldMs: 60_000,
  retryMinMs: 60_000,
  retryMaxMs: 60_000,
  maxPrefixes: 1000,
  maxOutputBytes: 1 << 20,
  ownAddresses: [],
};

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

function session(more: Partial<SessionConfig> = {}, rib = new Rib(), takes = true) {
  const logs: string[] = [];
  const log = (level: string, message: string, fields: object) => {
    logs.push(`${level}: ${message} ${JSON.stringify(fields)}`);
  };
  const made = new Session({ ...CONFIG, ...more }, 'global', rib, log, () => {});
  made.start();
  const socket = new MemorySocket();
  socket.takes = takes;
  made.accept(socket as unknown as Socket);
  closers.push(async () => {
    socket.destroy();
    await made.stop(2);
  });
  return { session: made, socket, rib, logs };
}

const OPEN = openOf(64512, '10.0.0.2');
const flat = (count: number) =>
  Array.from({ length: count }, (_, i) => [(0x0b000000 + i * 256) | 0, 24]).flat();

describe('a peer that does not read', () => {
  it('is left when what waits for it is beyond the limit', async () => {
    // Room for our OPEN, and none for a KEEPALIVE behind it.
    const { session: s, socket } = session({ maxOutputBytes: 60 }, new Rib(), false);
    socket.push(OPEN);
    socket.push(keepalive);
    await until('the end', () => s.status.lastError);
    expect(s.status.lastError).toMatch(/out of resources \(6\/8\): the peer does not read: \d+ bytes wait/);
  });

  it('is left when it takes nothing for long (RFC 9687)', async () => {
    const { session: s, socket } = session({ sendHoldMs: 20 });
    socket.takes = false;
    socket.push(OPEN);
    expect(await until('the end', () => s.status.lastError)).toMatch(/send hold timer expired \(8\/0\)/);
  });

  it('is sent no more UPDATEs than the mark, and the rest when it reads again', async () => {
    const rib = new Rib();
    const local = { address: 0, id: 0, asn: 0, internal: false, local: true };
    const prefixes = flat(200_000);
    for (let i = 0; i < prefixes.length; i += 2) {
      // A set of attributes each makes an UPDATE each: 10 MB in all.
      if (i % 20 === 0) rib.announce(local, { ...NO_ATTRIBUTES, med: i }, prefixes.slice(i, i + 20));
    }
    await until('settled', () => rib.get(prefixes.at(-2)!, 24));
    const { session: s, socket } = session({ maxOutputBytes: 1 << 20 }, rib);
    socket.push(OPEN);
    socket.push(keepalive);
    await until('Established', () => s.status.state === 'Established');
    socket.takes = false;
    // Stuck: two thousand prefixes at a time are made, until the mark is passed.
    const sent = await until('it is stuck', async () => {
      const before = s.status.prefixesSent;
      await new Promise((resolve) => setImmediate(resolve));
      await new Promise((resolve) => setImmediate(resolve));
      return before > 0 && before === s.status.prefixesSent ? before : null;
    });
    expect(sent).toBeLessThan(200_000);
    expect(socket.writableLength).toBeLessThan(1 << 20);
    socket.takes = true;
    await until('all is told', () => s.status.prefixesSent === 200_000);
  });
});

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
  const attributes = {
    ...NO_ATTRIBUTES,
    asPath: [{ set: false, asns: [65001, 70000] }],
    nextHop: parseAddress4('10.0.0.9'),
    localPref: 100,
    communities: [1, 2],
    clusterList: [9],
    originatorId: 8,
    unknown: [{ type: 99, value: Uint8Array.of(1, 2, 3) }],
  };
  const recorded = [
    OPEN,
    keepalive,
    ...encodeAnnouncements({ attributes, prefixes: flat(20) }, { as4: true }),
    ...encodeWithdrawals(flat(3)),
    frame(UPDATE, Uint8Array.from([0, 0, 0, 7, 0x90, 15, 0, 3, 0, 1, 1])),
    encodeRouteRefresh({ afi: 1, subtype: 0, safi: 1 }),
    keepalive,
    encodeNotification({ code: 6, subcode: 2, data: Uint8Array.of(2, 104, 105) }),
  ];

  it.each([1, 2, 3, 4, 5])('end at most the session (seed %i)', async (seed) => {
    const next = random(seed);
    const pick = (below: number) => Math.floor(next() * below);
    const rib = new Rib();
    for (let round = 0; round < 2000; round++) {
      const { session: s, socket, logs } = session({}, rib);
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
      expect(['Active', 'OpenSent', 'OpenConfirm', 'Established']).toContain(s.status.state);
      socket.destroy();
      await s.stop(2);
      closers.length = 0;
    }
    await until('all is forgotten', () => [...rib.best()].length === 0);
  });
});
