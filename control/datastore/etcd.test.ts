import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../bgp/until.ts';
import { EtcdStore } from './etcd.ts';
import { EtcdServer } from './etcd-server.ts';
import { describeStore } from './kv-suite.ts';

describe('etcd', () => {
  let server: EtcdServer;
  let stores: EtcdStore[] = [];
  beforeAll(async () => {
    server = await EtcdServer.start();
  });
  afterAll(() => server?.close());
  beforeEach(async () => {
    await server.call('kv/deleterange', { key: 'AA==', range_end: 'AA==' });
  });
  afterEach(async () => {
    await Promise.all(stores.map((store) => store.close()));
    stores = [];
  });
  const open = () => {
    const store = new EtcdStore({ endpoints: [server.endpoint] });
    stores.push(store);
    return store;
  };

  describeStore(() => ({
    open,
    compact: async (revision) => {
      await server.call('kv/compaction', { revision, physical: true });
    },
  }));

  it('goes on watching when the server has come back, and says that it was away', async () => {
    const store = open();
    const { revision } = await store.put('/r/a', '1');
    const seen: string[] = [];
    const states: (string | null)[] = [];
    store.watch('/r/', revision + 1, {
      onEvents: (events) => seen.push(...events.map(({ entry }) => entry?.value ?? 'gone')),
      onEnd: (error) => seen.push(error.message),
      onState: (problem) => states.push(problem),
    });
    await until('it watches', () => Promise.resolve(states.length > 0));
    await server.stop();
    await until('it knows', () => Promise.resolve(states.some((state) => state !== null)));
    await expect(store.get('/r/a')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await server.start();
    const writer = open();
    await writer.put('/r/a', '2');
    await writer.put('/r/a', '3');
    await until('all changes', () => Promise.resolve(seen.length === 2));
    expect(seen).toEqual(['2', '3']);
    expect(states.at(-1)).toBeNull();
    expect((await store.get('/r/a'))?.value).toBe('3');
  });
});
