/** One connection over a socket of memory: what no real network does on demand. */
import type { Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { PeerConfig, SpeakerConfig } from './config.ts';
import { openOf } from './fake-peer.ts';
import { FAMILIES, formatPrefix, IPV4 } from './family.ts';
import { Framer } from './framing.ts';
import { MemorySocket } from './memory-socket.ts';
import { encodeRouteRefresh, frame, keepalive } from './message.ts';
import { Speaker } from './speaker.ts';
import { announcing, attributesOf, IBGP, listOf, many, toldBy, withdrawing } from './test-routes.ts';
import { until } from './until.ts';
import { endOfRib } from './update.ts';

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
  const connect = (takes = true, address = PEER.address) => {
    const socket = new MemorySocket();
    socket.takes = takes;
    s.session(address)!.accept(socket as unknown as Socket);
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

  it.each(['as it comes up', 'as news'])(
    'has little waiting for it of long attributes, told %s',
    async (when) => {
      const { s, connect, status } = await speaker();
      const communities = Array.from({ length: 950 }, (_, i) => i);
      /** Eight megabytes in all. */
      const announce = () => {
        for (let i = 0; i < 2000; i++) {
          const { id } = s.table.acquire(attributesOf('10.0.0.9', { med: i, communities }));
          s.ribs[0].announce(s.local, s.table.get(id), many(1, 0x0b000000 + i * 256));
          s.table.release(id);
        }
        return until('settled', () => s.ribs[0].isSettled);
      };
      if (when === 'as it comes up') await announce();
      const socket = connect();
      socket.push(OPEN);
      socket.push(keepalive);
      await until('Established', () => status().state === 'Established');
      socket.takes = false;
      if (when === 'as news') await announce();
      await until('it is stuck', () => status().queuedBytes > 256 * 1024);
      // The answer is to have room, or the session ends.
      socket.push(encodeRouteRefresh({ afi: 1, subtype: 0, safi: 1 }));
      await until('it has asked', () => status().counters.refreshesIn === 1);
      expect(status().state).toBe('Established');
      expect(status().queuedBytes).toBeLessThan(1 << 20);
      socket.takes = true;
      await until('all is told', () => status().families[0]!.endOfRibSent && status().queuedBytes === 0);
      expect(status().families[0]!.sent).toBe(2000);
    },
  );

  it('may take nothing for eight minutes, or twice the hold time (RFC 9687 3.1)', async () => {
    const peers = [90, 600].map((holdTime, i) => ({ ...PEER, address: `10.0.0.${2 + i}`, holdTime }));
    const { s } = await speaker({ peers });
    expect(peers.map(({ address }) => s.session(address)!.config.sendHoldMs)).toEqual([480_000, 1_200_000]);
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

describe('a path that comes again under another identifier', () => {
  it('keeps its attributes, and is told under its new number', async () => {
    const addPath = { receive: true, send: 2 };
    const peers = [
      { ...PEER, addPath, reflectorClient: true },
      { ...PEER, address: '10.0.0.3', addPath, reflectorClient: true },
    ];
    const { s, connect } = await speaker({ peers });
    const both = { addPathSend: true, addPathReceive: true };
    const [from, to] = [connect(), connect(true, '10.0.0.3')];
    from.push(openOf(64512, '10.0.0.2', 90, both));
    to.push(openOf(64512, '10.0.0.3', 90, both));
    for (const socket of [from, to]) socket.push(keepalive);
    const context = { ...IBGP, addPath: [true, true] as const };
    const told = () => toldBy(split(to.written), context).filter((line) => !line.startsWith('end'));
    const attributes = attributesOf('10.0.0.9');
    for (const message of announcing(attributes, listOf('10.1.0.0/16#1'), { addPath: true }))
      from.push(message);
    await until('the first is told', () => told().length === 1);
    // The new one before the old one goes, and both before anybody is told.
    for (const message of announcing(attributes, listOf('10.1.0.0/16#2'), { addPath: true }))
      from.push(message);
    for (const message of withdrawing(listOf('10.1.0.0/16#1'), { addPath: true })) from.push(message);
    await until('the second is told', () => told().length === 3);
    const [first, second, gone] = told() as [string, string, string];
    expect(second).not.toBe(first);
    expect(second).toMatch(/^10\.1\.0\.0\/16#\d+ via 10\.0\.0\.9$/);
    expect(gone).toBe(`-${first.replace(/ via.*/, '')}`);
    expect([...s.adjOut('10.0.0.3', IPV4)].map(({ attributes: a }) => a.nextHop?.text)).toEqual(['10.0.0.9']);
    for (const message of withdrawing(listOf('10.1.0.0/16#2'), { addPath: true })) from.push(message);
    await until('all is forgotten', () => s.table.size === 0 && told().length === 4);
  });
});

describe('a stream torn anywhere', () => {
  const addPath = { receive: true, send: 1 };
  const peers = [{ ...PEER, addPath, families: ['ipv4', 'ipv6'] as const }];
  const both = { addPath: true };
  const six = listOf('2001:db8::/32#1', '2001:db8:1::/48#2');
  const stream = Buffer.concat([
    openOf(64512, '10.0.0.2', 90, { addPathSend: true }),
    keepalive,
    ...announcing(
      attributesOf('10.0.0.9', { communities: [1, 2] }),
      listOf('10.1.0.0/16#1', '10.2.0.0/16#1'),
      both,
    ),
    ...announcing(attributesOf('fd00::9'), six, both),
    ...withdrawing(listOf('10.1.0.0/16#1'), both),
    ...FAMILIES.map(endOfRib),
    keepalive,
  ]);
  const paths = (s: Speaker) =>
    s.ribs.flatMap((rib) =>
      [...rib.best()].map(({ prefix, path }) => `${formatPrefix(prefix)}#${path.pathId}`),
    );
  const EXPECTED = ['10.2.0.0/16#1', '2001:db8:1::/48#2', '2001:db8::/32#1'];

  const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
  const soon = async (probe: () => boolean) => {
    for (let turns = 0; turns < 100 && !probe(); turns++) await turn();
    expect(probe()).toBe(true);
  };

  it('means the same: in two at every byte, and byte by byte', async () => {
    const { s, connect, status } = await speaker({ peers });
    const tears = Array.from({ length: stream.length }, (_, at) => [
      stream.subarray(0, at),
      stream.subarray(at),
    ]);
    const bytes = Array.from(stream, (byte) => Uint8Array.of(byte));
    for (const parts of [...tears, bytes]) {
      const socket = connect();
      for (const part of parts) {
        socket.push(part);
        await turn();
      }
      await soon(() => status().families.every((family) => family.endOfRibReceived));
      expect(paths(s).sort(), `torn at ${parts[0]!.length}`).toEqual([...EXPECTED].sort());
      expect(status().state).toBe('Established');
      socket.destroy();
      await soon(() => status().state !== 'Established');
    }
    expect(status().counters.updatesIn).toBe(5 * (stream.length + 1));
  });

  it('keeps no more than a message of what has not come yet', async () => {
    const { s, connect, status } = await speaker({ peers });
    for (let at = 0; at < stream.length; at++) {
      const socket = connect();
      socket.push(stream.subarray(0, at));
      socket.push(null);
      await soon(() => status().state === 'Active');
      await soon(() => s.ribs.every((rib) => rib.isSettled && rib.size === 0));
    }
    expect(s.table.size).toBe(0);
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
