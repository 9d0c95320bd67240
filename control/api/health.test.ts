import { afterEach, describe, expect, it } from 'vitest';
import { Health, type HealthServer, serveHealth } from './health.ts';

describe('health', () => {
  it('is what the parts say, as Felix’s table has it', () => {
    const health = new Health(() => 0);
    health.report('datastore', 0, { ready: false, detail: 'etcd is away' });
    health.report('workers', 20_000, { live: true, ready: true });
    expect([health.isLive(), health.isReady()]).toEqual([true, false]);
    expect(health.text()).toBe(
      [
        '+-----------+---------+----------------+---------------------+--------------+',
        '| COMPONENT | TIMEOUT | LIVENESS       | READINESS           | DETAIL       |',
        '+-----------+---------+----------------+---------------------+--------------+',
        '| datastore | -       | -              | reporting non-ready | etcd is away |',
        '| workers   | 20s     | reporting live | reporting ready     |              |',
        '+-----------+---------+----------------+---------------------+--------------+',
        '',
      ].join('\n'),
    );
    health.report('datastore', 0, { ready: true });
    expect(health.isReady()).toBe(true);
    health.report('workers', 20_000, { live: false, ready: true });
    expect(health.isLive()).toBe(false);
  });

  it('takes a report that was not renewed for a bad one', () => {
    let now = 0;
    const health = new Health(() => now);
    health.report('workers', 20_000, { live: true, ready: true });
    now = 20_001;
    expect([health.isLive(), health.isReady()]).toEqual([false, false]);
    expect(health.text()).toContain('timed out');
  });

  it('is not ready while nobody has reported', () => {
    expect(new Health().isReady()).toBe(false);
  });
});

describe('the server', () => {
  let server: HealthServer | undefined;
  afterEach(() => server?.close());

  it('answers 200 or 503 with the table, and nothing else', async () => {
    const health = new Health();
    server = await serveHealth({ address: '127.0.0.1', port: 0 }, health);
    const get = (path: string, init = {}) => fetch(`http://127.0.0.1:${server!.port}${path}`, init);
    expect((await get('/readiness')).status).toBe(503);
    health.report('datastore', 0, { ready: true });
    const ready = await get('/readiness');
    expect(ready.status).toBe(200);
    expect(await ready.text()).toContain('| datastore |');
    expect((await get('/liveness')).status).toBe(200);
    expect((await get('/metrics')).status).toBe(404);
    expect((await get('/liveness', { method: 'POST' })).status).toBe(405);
  });

  it('says what is in its way', async () => {
    server = await serveHealth({ address: '127.0.0.1', port: 0 }, new Health());
    const again = serveHealth({ address: '127.0.0.1', port: server.port }, new Health());
    await expect(again).rejects.toMatchObject({ code: 'HEALTH_ADDRESS' });
  });
});
