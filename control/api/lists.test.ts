/** Long lists and what is followed, over the control socket. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../bgp/until.ts';
import { ApiClient } from './client.ts';
import { fakeAgent } from './fake-agent.ts';
import { fakeBgp, fakePeers, fakeRoutes } from './fake-bgp.ts';
import { type ApiServer, serveApi } from './server.ts';
import type { BgpEvent, BgpRouteView, BgpView } from './types.ts';

let folder: string;
let path: string;
let server: ApiServer | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-lists-'));
  path = join(folder, 'api.sock');
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

const serve = async (bgp: Partial<BgpView> = {}, onError?: (error: unknown) => void) => {
  server = await serveApi(path, { ...fakeAgent(), bgp: { ...fakeBgp(), ...bgp } }, onError);
  return new ApiClient(path);
};
const { signal } = new AbortController();
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

async function collect<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const row of rows) all.push(row);
  return all;
}

it('carries what the speaker says', async () => {
  const asked: string[][] = [];
  const { refresh, reset } = fakeBgp(asked);
  const { bgp } = await serve({ refresh, reset });
  expect(await bgp.summary()).toEqual(fakeBgp().summary());
  expect(await bgp.peers()).toEqual(plain(fakePeers()));
  expect(await collect(bgp.routes({}, signal))).toEqual(fakeRoutes());
  expect(await bgp.why('203.0.113.0/24')).toEqual(fakeBgp().why('203.0.113.0/24'));
  await bgp.refresh('192.0.2.2');
  await bgp.reset('192.0.2.2', 'back at "noon", ça va?');
  expect(asked).toEqual([
    ['refresh', '192.0.2.2'],
    ['reset', '192.0.2.2', 'back at "noon", ça va?'],
  ]);
});

it('passes every wish on, and refuses what cannot be meant', async () => {
  const wishes: unknown[] = [];
  const { bgp } = await serve({
    routes: (query) => {
      wishes.push(query);
      return [];
    },
  });
  const wish = { prefix: '10.0.0.0/8', longer: true, in: '192.0.2.2', best: true, family: 'ipv4' } as const;
  expect(await collect(bgp.routes(wish, signal))).toEqual([]);
  expect(wishes).toEqual([wish]);
  await expect(collect(bgp.routes({ in: 'a', out: 'b' }, signal))).rejects.toMatchObject({ code: 'QUERY' });
  const family = 'ipx' as 'ipv4';
  await expect(collect(bgp.routes({ family }, signal))).rejects.toMatchObject({ code: 'FAMILY' });
});

it('tells of an error before the first row, and in the middle', async () => {
  const reported: unknown[] = [];
  const { bgp } = await serve(
    {
      routes: function* rows(): Generator<BgpRouteView> {
        yield fakeRoutes()[0]!;
        throw new Error('a bug');
      },
    },
    (error) => reported.push(error),
  );
  await expect(bgp.refresh('192.0.2.9')).rejects.toMatchObject({
    code: 'PEER_UNKNOWN',
    message: 'no peer "192.0.2.9"; peers: 192.0.2.2 (node2), 198.51.100.1 (uplink)',
  });
  const seen: BgpRouteView[] = [];
  const broken = async () => {
    for await (const row of bgp.routes({}, signal)) seen.push(row);
  };
  await expect(broken()).rejects.toMatchObject({ code: 'INTERNAL' });
  expect(reported).toHaveLength(1);
});

describe('a long list', () => {
  /** Rows without an end, and how many were made. */
  function endless() {
    const made = { rows: 0, isOver: false };
    const rows = function* rows(): Generator<BgpRouteView | null> {
      try {
        for (;;) {
          made.rows++;
          yield made.rows % 2 === 0 ? null : fakeRoutes()[0]!;
        }
      } finally {
        made.isOver = true;
      }
    };
    return { made, rows };
  }

  it('lets others have their turn, and ends when its reader goes', async () => {
    const { made, rows } = endless();
    const client = await serve({ routes: rows });
    const reading = new AbortController();
    const all = collect(client.bgp.routes({}, reading.signal)).catch(() => {});
    for (let i = 0; i < 20; i++) expect(await client.workers()).toHaveLength(1);
    reading.abort();
    await all;
    await until('the list is over', () => made.isOver);
  });

  it('is not taken for whole by its reader when the agent goes', async () => {
    const { rows } = endless();
    const client = await serve({ routes: rows });
    let seen = 0;
    const reading = (async () => {
      for await (const _ of client.bgp.routes({}, signal)) seen++;
    })();
    const ended = expect(reading).rejects.toMatchObject({ code: 'AGENT_GONE' });
    await until('rows come', () => seen > 0);
    await server!.close();
    await ended;
  });

  it('is made no faster than it is read', async () => {
    const { made, rows } = endless();
    await serve({ routes: rows });
    const socket = connect(path);
    socket.pause();
    socket.write('GET /v1/bgp/routes HTTP/1.1\r\nhost: x\r\n\r\n');
    let before = -1;
    await until('it waits for its reader', async () => {
      const isStill = made.rows > 0 && made.rows === before;
      before = made.rows;
      // A row takes microseconds.
      for (let i = 0; i < 20; i++) await new Promise(setImmediate);
      return isStill;
    });
    expect(made.rows).toBeLessThan(100_000);
    socket.destroy();
    await until('the list is over', () => made.isOver);
  });

  it('is one of sixteen at most', async () => {
    const { rows } = endless();
    const client = await serve({ routes: rows });
    const sockets = Array.from({ length: 16 }, () => connect(path));
    for (const socket of sockets) {
      socket.pause();
      socket.on('error', () => {});
      socket.write('GET /v1/bgp/routes HTTP/1.1\r\nhost: x\r\n\r\n');
    }
    const first = async () => {
      try {
        for await (const row of client.bgp.routes({}, signal)) return row.prefix;
        return 'none';
      } catch (error) {
        return (error as { code?: string }).code;
      }
    };
    await until('no more are read', async () => (await first()) === 'BUSY');
    sockets[0]!.destroy();
    await until('one more is read', async () => (await first()) === fakeRoutes()[0]!.prefix);
    for (const socket of sockets) socket.destroy();
  });
});

describe('what is followed', () => {
  it('begins before anything is missed, and goes on until the reader goes', async () => {
    let wake = () => {};
    let isClosed = false;
    const waiting: BgpEvent[] = [];
    const client = await serve({
      watch: (query, onEvents) => {
        expect(query).toEqual({ peer: '192.0.2.2', best: true });
        wake = onEvents;
        return {
          events: () => waiting.splice(0),
          close: () => {
            isClosed = true;
          },
        };
      },
    });
    const tell = (count: number) => {
      waiting.push({ at: '2026-01-01T12:00:00.000Z', event: 'lost', count });
      wake();
    };
    const reading = new AbortController();
    const counts: number[] = [];
    const query = { peer: '192.0.2.2', best: true };
    for await (const event of client.bgp.monitor(query, reading.signal, () => tell(1))) {
      if (event.event === 'lost') counts.push(event.count);
      if (counts.length < 3) tell(counts.length + 1);
      else reading.abort();
    }
    expect(counts).toEqual([1, 2, 3]);
    await until('the watch is closed', () => isClosed);
  });

  it('may be a message that cannot be read', async () => {
    const malformed: BgpEvent = {
      at: '2026-01-01T12:00:00.000Z',
      event: 'message',
      peer: '192.0.2.2',
      direction: 'in',
      length: 19,
      type: 'malformed',
      reason: 'type 9',
    };
    const waiting: BgpEvent[] = [malformed];
    const { bgp } = await serve({
      watch: (_, wake) => {
        setImmediate(wake);
        return { events: () => waiting.splice(0), close: () => {} };
      },
    });
    for await (const event of bgp.monitor({}, signal)) {
      expect(event).toEqual(malformed);
      break;
    }
  });

  it('ends with the agent', async () => {
    const { bgp } = await serve();
    const following = collect(bgp.monitor({}, signal, () => void server!.close()));
    await expect(following).rejects.toMatchObject({ code: 'AGENT_GONE' });
  });
});
