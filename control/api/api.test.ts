import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TortieError } from '../error.ts';
import { ApiClient } from './client.ts';
import { fakeAgent, tracedPing } from './fake-agent.ts';
import { type ApiServer, serveApi } from './server.ts';
import type { AgentApi, TraceView } from './types.ts';

let folder: string;
let path: string;
let server: ApiServer | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-api-'));
  path = join(folder, 'run', 'api.sock');
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

const serve = async (api: Partial<AgentApi> = {}, onError?: (error: unknown) => void) => {
  server = await serveApi(path, { ...fakeAgent(), ...api }, onError);
  return new ApiClient(path);
};

async function collect(packets: AsyncIterable<TraceView>): Promise<TraceView[]> {
  const all: TraceView[] = [];
  for await (const packet of packets) all.push(packet);
  return all;
}

/** Status and body of a raw request. */
async function raw(options: { method?: string; path: string; body?: string }): Promise<[number, string]> {
  const sent = request({
    socketPath: path,
    method: options.method ?? 'GET',
    path: options.path,
    headers: options.body ? { 'content-length': options.body.length } : {},
  });
  sent.end(options.body);
  const [response] = await once(sent, 'response');
  let text = '';
  for await (const part of response) text += part;
  return [response.statusCode, text];
}

describe('requests', () => {
  it('answers every question with what the agent says', async () => {
    const client = await serve();
    const agent = fakeAgent();
    expect(await client.nodeStatus()).toEqual(agent.nodeStatus());
    expect(await client.ports()).toEqual(agent.ports());
    expect(await client.routes()).toEqual(agent.routes());
    expect(await client.lookup('10.65.1.2')).toEqual(agent.lookup('10.65.1.2'));
    expect(await client.drops()).toEqual(agent.drops());
    expect(await client.workers()).toEqual(await agent.workers());
    expect(await client.runtime()).toEqual(await agent.runtime());
    expect(await client.config()).toEqual(agent.configShow());
  });

  it('serves metrics to a scraper', async () => {
    await serve();
    expect(await raw({ path: '/metrics' })).toEqual([200, (await fakeAgent().metrics()).text]);
  });

  it('refuses what it does not serve', async () => {
    const client = await serve();
    await expect(client.lookup('10.65.1')).rejects.toMatchObject({ code: 'ADDRESS' });
    expect((await raw({ path: '/v2' }))[0]).toBe(404);
    expect((await raw({ path: '/v1/ports', method: 'DELETE' }))[0]).toBe(405);
    expect((await raw({ path: '/v1/ports', body: 'x' }))[0]).toBe(413);
    expect((await raw({ path: `/v1/lookup?address=${'1'.repeat(10_000)}` }))[0]).toBe(431);
    expect((await raw({ path: '/v1/trace?count=0' }))[0]).toBe(400);
    expect(await client.workers()).toHaveLength(1);
  });

  it('passes on errors with a code and reports all others', async () => {
    const reported: unknown[] = [];
    const client = await serve(
      {
        ports: () => {
          throw new TortieError('PORTS_LOST', 'no ports; look under the sofa');
        },
        routes: () => {
          throw new Error('a bug');
        },
      },
      (error) => reported.push(error),
    );
    await expect(client.ports()).rejects.toMatchObject({
      code: 'PORTS_LOST',
      message: 'no ports; look under the sofa',
    });
    await expect(client.routes()).rejects.toMatchObject({
      code: 'INTERNAL',
      message: 'the agent failed: a bug',
    });
    expect(reported).toHaveLength(1);
  });
});

describe('trace', () => {
  it('streams packets until the count', async () => {
    const client = await serve();
    const packets = await collect(client.trace({ count: 3 }, new AbortController().signal));
    expect(packets).toEqual([1, 2, 3].map((packet) => ({ ...tracedPing, packet })));
  });

  it('tells that it has begun, and stops the agent when the client goes', async () => {
    let wanted: unknown;
    let ended: Promise<void> | undefined;
    const client = await serve({
      trace: (request, emit, signal) => {
        wanted = request;
        emit(tracedPing);
        ended = new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
        return ended;
      },
    });
    const abort = new AbortController();
    let begun = 0;
    const wish = { count: 5, port: 'pod1', filter: 'host 10.65.0.2 and not arp', sample: 3, snap: 100 };
    for await (const packet of client.trace(wish, abort.signal, () => begun++)) {
      expect(packet).toEqual(tracedPing);
      abort.abort();
    }
    await ended;
    expect(begun).toBe(1);
    expect(wanted).toEqual(wish);
  });

  it('refuses a bad wish before it begins, and tells of an error in the middle', async () => {
    const client = await serve({
      trace: async (request, emit) => {
        if (request.port) throw new TortieError('PORT_UNKNOWN', `no port ${request.port}`);
        emit(tracedPing);
        await new Promise(setImmediate);
        throw new TortieError('WORKER_DEAD', 'the worker died');
      },
    });
    const { signal } = new AbortController();
    let begun = 0;
    const refused = client.trace({ count: 1, port: 'x' }, signal, () => begun++);
    await expect(collect(refused)).rejects.toMatchObject({ code: 'PORT_UNKNOWN' });
    expect(begun).toBe(0);
    const seen: TraceView[] = [];
    const broken = async () => {
      for await (const packet of client.trace({ count: 2 }, signal)) seen.push(packet);
    };
    await expect(broken()).rejects.toMatchObject({ code: 'WORKER_DEAD' });
    expect(seen).toEqual([tracedPing]);
  });

  it('cuts off a client that does not read, and minds no packet after that', async () => {
    const long = { ...tracedPing, verdict: 'x'.repeat(100_000) };
    let emitted = 0;
    let ended: (() => void) | undefined;
    const end = new Promise<void>((resolve) => {
      ended = resolve;
    });
    await serve({
      trace: async (_request, emit, signal) => {
        // What emits in one go does not see the signal between its packets.
        while (!signal.aborted) {
          for (let i = 0; i < 20; i++) emit(long);
          emitted += 20;
          await new Promise(setImmediate);
        }
        emit(long);
        ended!();
      },
    });
    const socket = connect(path);
    socket.on('error', () => {});
    socket.pause();
    socket.write('GET /v1/trace?count=10000 HTTP/1.1\r\nhost: x\r\n\r\n');
    await end;
    expect(emitted).toBeLessThan(1000);
    socket.destroy();
    expect(await new ApiClient(path).workers()).toHaveLength(1);
  });

  it('ends when the agent ends', async () => {
    const client = await serve({
      trace: (_request, _emit, signal) =>
        new Promise((resolve) => signal.addEventListener('abort', () => resolve())),
    });
    const tracing = collect(client.trace({ count: 1 }, new AbortController().signal, () => server!.close()));
    await expect(tracing).rejects.toMatchObject({ code: 'AGENT_GONE', exitCode: 69 });
  });
});

describe('the socket', () => {
  it('is for its owner only, and gone after close', async () => {
    await serve();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await server!.close();
    expect(existsSync(path)).toBe(false);
  });

  it('is not taken from a running agent, but from a dead one', async () => {
    const client = await serve();
    await expect(serveApi(path, fakeAgent())).rejects.toMatchObject({ code: 'AGENT_RUNNING' });
    expect(await client.workers()).toHaveLength(1);
    await server!.close();
    // A process that was killed leaves its socket file: bind without anybody listening any more.
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', script]);
    expect(existsSync(path)).toBe(true);
    await expect(new ApiClient(path).ports()).rejects.toMatchObject({ code: 'AGENT_NOT_RUNNING' });
    expect(await (await serve()).workers()).toHaveLength(1);
  });

  it('refuses a path that cannot hold it', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    await expect(serveApi(file, fakeAgent())).rejects.toMatchObject({ code: 'SOCKET_PATH' });
    await expect(serveApi(join(file, 'api.sock'), fakeAgent())).rejects.toMatchObject({
      code: 'SOCKET_PATH',
    });
    await expect(serveApi(join(folder, 'x'.repeat(120)), fakeAgent())).rejects.toThrow(/at most 107/);
  });

  it('answers nobody: one error with what to do', async () => {
    await expect(new ApiClient(join(folder, 'none.sock')).ports()).rejects.toMatchObject({
      code: 'AGENT_NOT_RUNNING',
      exitCode: 69,
      message: expect.stringContaining('tortie agent --config FILE'),
    });
    const mute = createServer((socket) => socket.destroy()).listen(join(folder, 'mute.sock'));
    await once(mute, 'listening');
    await expect(new ApiClient(join(folder, 'mute.sock')).ports()).rejects.toBeInstanceOf(TortieError);
    await new Promise((resolve) => mute.close(resolve));
  });
});
