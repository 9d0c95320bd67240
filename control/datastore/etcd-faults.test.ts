import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../bgp/until.ts';
import { SCHEMAS } from '../resources/schema.ts';
import { type Change, keyText } from './datastore.ts';
import { EtcdStore } from './etcd.ts';
import { CuttableWay, EtcdServer, type EtcdTls } from './etcd-server.ts';
import type { KeyEvent } from './kv.ts';
import { ResourceStore } from './resource-store.ts';

type Settings = ConstructorParameters<typeof EtcdStore>[0];

let stores: EtcdStore[] = [];
afterEach(async () => {
  await Promise.all(stores.map((store) => store.close()));
  stores = [];
});
const open = (settings: Settings) => {
  const store = new EtcdStore(settings);
  stores.push(store);
  return store;
};

/** Keeps what a watch tells, and the states of its connection. */
class Seen {
  readonly values: string[] = [];
  readonly states: (string | null)[] = [];
  readonly onEvents = (events: readonly KeyEvent[]): void => {
    this.values.push(...events.map(({ entry }) => entry?.value ?? 'gone'));
  };
  readonly onEnd = (error: Error): void => void this.values.push(error.message);
  readonly onState = (problem: string | null): void => void this.states.push(problem);
}

const pool = (name: string, cidr: string) =>
  SCHEMAS.IPPool.parse({
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPPool',
    metadata: { name },
    spec: { cidr },
  });

describe('an etcd', () => {
  let server: EtcdServer;
  beforeAll(async () => {
    server = await EtcdServer.start();
  });
  afterAll(() => server?.close());

  it('that stands still is away, and goes on later; a lease that it let pass is lost', async () => {
    const store = open({ endpoints: [server.endpoint] });
    const lease = await store.lease(2);
    let lost = false;
    lease.onLost(() => {
      lost = true;
    });
    const { revision } = await store.put('/slow/a', '1');
    await store.put('/slow/leased', '1', { lease });
    const seen = new Seen();
    store.watch('/slow/a', revision + 1, seen);
    await until('it watches', () => seen.states.length > 0);
    await server.pause();
    const asked = await Promise.allSettled([
      store.get('/slow/a'),
      store.list('/slow/'),
      store.put('/slow/b', '1'),
    ]);
    server.resume();
    for (const answer of asked) {
      expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'STORE_UNAVAILABLE' } });
    }
    await store.put('/slow/a', '2');
    await until('the watch goes on', () => seen.values.length > 0);
    expect(seen.values).toEqual(['2']);
    await until('the lease is lost', () => lost);
    expect(await store.get('/slow/leased')).toBeNull();
  });

  it('may take a lease away', async () => {
    const store = open({ endpoints: [server.endpoint] });
    const lease = await store.lease(3);
    let lost = 0;
    lease.onLost(() => {
      lost += 1;
    });
    await store.put('/leased', '1', { lease });
    await server.call('lease/revoke', { ID: lease.id });
    await until('the holder knows', () => lost > 0);
    expect(await store.get('/leased')).toBeNull();
    await expect(store.put('/leased', '2', { lease })).rejects.toMatchObject({ code: 'STORE_CONFLICT' });
    await lease.revoke();
    expect(lost).toBe(1);
  });

  it('is found among endpoints of which some do not answer', async () => {
    const dead = await CuttableWay.to(server.endpoint);
    dead.close();
    const store = open({ endpoints: [dead.endpoint, server.endpoint] });
    for (let i = 0; i < 10; i++) await store.put('/many', String(i));
    expect((await store.get('/many'))?.value).toBe('9');
  });

  it('whose changes were missed while the way was cut is listed anew, and the difference told', async () => {
    const way = await CuttableWay.to(server.endpoint);
    const [far, near] = [open({ endpoints: [way.endpoint] }), open({ endpoints: [server.endpoint] })];
    const [resources, others] = [new ResourceStore(far), new ResourceStore(near)];
    const kept = await others.put(pool('kept', '10.1.0.0/16'), null);
    const changed = await others.put(pool('changed', '10.2.0.0/16'), null);
    const gone = await others.put(pool('gone', '10.3.0.0/16'), null);
    const seen: string[] = [];
    const states: (string | null)[] = [];
    const stop = resources.watch(
      (changes: readonly Change[]) => {
        for (const { key, stored } of changes) seen.push(`${stored ? '+' : '-'} ${keyText(key)}`);
      },
      { onState: (problem) => states.push(problem) },
    );
    await until('the first list', () => seen.length === 3 && states.length > 1);
    seen.length = 0;
    way.cut();
    await until('it is told', () => states.at(-1) !== null);
    await expect(far.get('/a')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await others.delete({ kind: 'IPPool', name: 'gone' }, gone.revision);
    await others.put(pool('new', '10.4.0.0/16'), null);
    const { revision } = await others.put(pool('changed', '10.2.0.0/17'), changed.revision);
    await server.call('kv/compaction', { revision, physical: true });
    way.mend();
    await until('the difference', () => seen.length >= 3);
    expect(seen.toSorted()).toEqual(['+ IPPool changed', '+ IPPool new', '- IPPool gone']);
    await others.delete({ kind: 'IPPool', name: 'kept' }, kept.revision);
    await until('what came after', () => seen.length === 4);
    expect(states.at(-1)).toBeNull();
    stop();
    way.close();
  });
});

describe('an etcd that asks who is there', () => {
  let server: EtcdServer;
  const user = { username: 'root', password: 'secret' };
  beforeAll(async () => {
    server = await EtcdServer.start();
    await server.call('auth/user/add', { name: user.username, password: user.password });
    await server.call('auth/role/add', { name: 'root' });
    await server.call('auth/user/grant', { user: 'root', role: 'root' });
    await server.call('auth/enable', {});
  });
  afterAll(() => server?.close());

  it('lets nobody in without the right password, and says so', async () => {
    const { endpoint } = server;
    for (const settings of [
      { endpoints: [endpoint] },
      { endpoints: [endpoint], ...user, password: 'wrong' },
    ]) {
      await expect(open(settings).get('/a')).rejects.toMatchObject({
        code: 'STORE_DENIED',
        message: expect.stringMatching(/see username, password and certificates in the settings$/),
      });
    }
    const store = open({ endpoints: [endpoint], ...user });
    await store.put('/a', '1');
    expect((await store.get('/a'))?.value).toBe('1');
  });

  it('forgets its tokens when it starts anew: calls and watches go on', async () => {
    const store = open({ endpoints: [server.endpoint], ...user });
    const { revision } = await store.put('/token', '1');
    const seen = new Seen();
    store.watch('/token', revision + 1, seen);
    await until('it watches', () => seen.states.length > 0);
    await server.stop();
    await until('it knows', () => seen.states.at(-1) !== null);
    await server.start();
    await open({ endpoints: [server.endpoint], ...user }).put('/token', '2');
    await until('the watch goes on', () => seen.values.length > 0);
    expect(seen.values).toEqual(['2']);
    expect((await store.get('/token'))?.value).toBe('2');
  });
});

describe('an etcd behind TLS', () => {
  let server: EtcdServer;
  let folder: string;
  let tls: EtcdTls;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tortie-tls-'));
    tls = certificates(folder);
    server = await EtcdServer.start(tls);
  });
  afterAll(async () => {
    await server?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('is reached with certificates of its authority only', async () => {
    const endpoints = [server.endpoint];
    const store = open({ endpoints, ...tls });
    await store.put('/tls', '1');
    expect((await store.get('/tls'))?.value).toBe('1');
    for (const settings of [{ endpoints }, { endpoints, caFile: tls.caFile }]) {
      await expect(open(settings).get('/tls')).rejects.toMatchObject({
        code: expect.stringMatching(/^STORE_(DENIED|UNAVAILABLE)$/),
        message: expect.stringContaining(server.endpoint),
      });
    }
    const none = join(folder, 'none.pem');
    expect(() => open({ endpoints, caFile: none })).toThrow(
      `cannot read ${none}: ENOENT; see datastore in the settings`,
    );
    const wrong = join(folder, 'wrong.pem');
    writeFileSync(wrong, 'no certificate');
    expect(() => open({ endpoints, ...tls, certFile: wrong })).toThrow(
      expect.objectContaining({ code: 'STORE_DENIED' }),
    );
  });
});

/** An authority, and one certificate of it that serves server and clients. */
function certificates(folder: string): EtcdTls {
  const at = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...key, '-subj', '/CN=tortie-ca', '-keyout', at('ca.key'), '-out', at('ca.pem'));
  const authority = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-addext', 'subjectAltName=IP:127.0.0.1'];
  const uses = [
    '-addext',
    'extendedKeyUsage=serverAuth,clientAuth',
    '-addext',
    'basicConstraints=critical,CA:FALSE',
  ];
  openssl(
    'req',
    '-x509',
    ...key,
    ...authority,
    ...uses,
    '-subj',
    '/CN=tortie',
    '-keyout',
    at('key.pem'),
    '-out',
    at('cert.pem'),
  );
  return { caFile: at('ca.pem'), certFile: at('cert.pem'), keyFile: at('key.pem') };
}
