/** The plugin's program and the agent's socket, without an agent behind. */
import { spawn } from 'node:child_process';
import { existsSync, fstatSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { native as load } from '../../dataplane/native/index.ts';
import { type CniServer, type Handler, serveCni } from './server.ts';
import { Turns } from './turns.ts';

const PROGRAM = join(
  createRequire(import.meta.url).resolve('../../package.json'),
  '../build/Release/tortie-cni',
);
const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log('server.test.ts: in part skipped, the socket answers root alone');

const folder = mkdtempSync(join(tmpdir(), 'tortie-cni-'));
const path = join(folder, 'cni.sock');
let server: CniServer | undefined;
const errors: unknown[] = [];
afterEach(() => {
  server?.close();
  server = undefined;
  errors.length = 0;
});
afterAll(() => rmSync(folder, { recursive: true }));

const serve = (handler: Handler) => {
  server = serveCni(path, handler, (error) => errors.push(error));
};

async function run(input: string, env: Record<string, string> = {}, argv0 = 'tortie-cni') {
  const child = spawn(PROGRAM, { argv0, env: { TORTIE_CNI_SOCKET: path, CNI_COMMAND: 'ADD', ...env } });
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [stdout, exit] = await Promise.all([
    text(child.stdout),
    new Promise<number | null>((resolve) => child.once('close', resolve)),
  ]);
  return { exit, stdout };
}
const failure = async (...args: Parameters<typeof run>) => {
  const { exit, stdout } = await run(...args);
  expect(exit).toBe(1);
  return JSON.parse(stdout) as { cniVersion: string; code: number; msg: string };
};

describe('the program alone', () => {
  it('tells its versions without an agent, in the version that was asked', async () => {
    const { exit, stdout } = await run('{ "cniVersion" : "0.4.0" }', { CNI_COMMAND: 'VERSION' });
    expect(exit).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      cniVersion: '0.4.0',
      supportedVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
    });
  });

  it('says that nobody answers', async () => {
    const told = await failure('{"cniVersion":"1.0.0"}');
    expect(told).toMatchObject({ cniVersion: '1.0.0', code: 11, msg: expect.stringContaining(path) });
    expect(await failure('{}', { CNI_COMMAND: 'STATUS' })).toMatchObject({ code: 51 });
    // The configuration's socket comes first, whatever its path looks like in JSON.
    const conf = String.raw`{"args":{"x":"\"tortie_socket\""}, "tortie_socket": "\/nowhere\/a\"b.sock"}`;
    expect((await failure(conf)).msg).toContain('/nowhere/a"b.sock');
    expect(await failure(`{"tortie_socket":"/${'x'.repeat(120)}"}`)).toMatchObject({ code: 7 });
  });

  it('refuses more than a configuration can be', async () => {
    expect(await failure(' '.repeat(5_000_000))).toMatchObject({ code: 6 });
  });
});

describe.skipIf(!isRoot)('the program and the socket', () => {
  it('hand over what the runtime said and the namespace, and carry the answer back', async () => {
    let heard: unknown;
    serve(async ({ plugin, env, length }, config, netns) => {
      heard = { plugin, env, length, config, inode: fstatSync(netns!).ino };
      return { exit: 3, output: 'x'.repeat(200_000) };
    });
    const input = JSON.stringify({ name: 'a'.repeat(300_000) });
    const env = { CNI_NETNS: '/proc/self/ns/net', CNI_ARGS: 'A=b;C=d' };
    const { exit, stdout } = await run(input, env, '/opt/cni/bin/tortie-ipam');
    expect({ exit, length: stdout.length }).toEqual({ exit: 3, length: 200_000 });
    expect(heard).toEqual({
      plugin: 'tortie-ipam',
      length: input.length,
      env: { CNI_COMMAND: 'ADD', ...env },
      config: input,
      inode: statSync('/proc/self/ns/net').ino,
    });
  });

  it('say why there is no namespace', async () => {
    serve(async ({ netnsError }, config, netns) => ({ exit: 0, output: `${netnsError} ${netns} ${config}` }));
    const { stdout } = await run('', { CNI_NETNS: '/nowhere' });
    expect(stdout).toBe('No such file or directory null ');
  });

  it('end in time when no answer comes, or half of one', async () => {
    serve(() => new Promise(() => {}));
    const late = await failure('{}', { TORTIE_CNI_TIMEOUT: '1' });
    expect(late).toMatchObject({ code: 11, msg: expect.stringMatching(/not answered for 1 seconds/) });
    const pending = failure('{}');
    await new Promise((resolve) => setTimeout(resolve, 100));
    server!.close();
    server = undefined;
    expect(await pending).toMatchObject({ code: 11, msg: expect.stringMatching(/ended before it answered/) });
    expect(existsSync(path)).toBe(false);
  });

  it('serve many at once, and leave no descriptor behind', async () => {
    serve(async (_, config) => ({ exit: 0, output: config }));
    const asked = Array.from({ length: 40 }, (_, index) => String(index));
    const answers = await Promise.all(asked.map((input) => run(input, { CNI_NETNS: '/proc/self/ns/net' })));
    expect(answers.map(({ stdout }) => stdout)).toEqual(asked);
    expect(errors).toEqual([]);
  });

  it('let a stranger go that speaks another language, or too much', async () => {
    serve(async () => ({ exit: 0, output: '' }));
    const native = load();
    for (const said of [
      'GET / HTTP/1.1',
      'protocol=1\0length=99999999\0',
      `protocol=1\0x=${'y'.repeat(70_000)}`,
    ]) {
      const fd = native.unixConnect(path);
      native.sendFds(fd, new Int32Array(0), Buffer.from(said));
      await new Promise<void>((resolve) => {
        const watch = native.fdWatch(fd, () => {
          native.fdUnwatch(watch);
          resolve();
        });
      });
      expect(native.receiveFds(fd, new Uint8Array(64))).toMatchObject({ bytes: 0 });
      native.close(fd);
    }
    expect(errors).toHaveLength(3);
  });
});

it('gives one endpoint one turn after another, and a collection a turn of its own', async () => {
  const turns = new Turns();
  const order: string[] = [];
  const work = (name: string, ms: number) => async () => {
    order.push(`${name} begins`);
    await new Promise((resolve) => setTimeout(resolve, ms));
    order.push(`${name} ends`);
  };
  await Promise.all([
    turns.run('a', work('a1', 20)),
    turns.run('a', work('a2', 1)),
    turns.run('b', work('b1', 1)),
    turns
      .runAlone(async () => {
        await work('gc', 5)();
        throw new Error('in vain');
      })
      .catch(() => undefined),
    turns.run('a', work('a3', 1)),
  ]);
  expect(order).toEqual([
    ...['a1 begins', 'b1 begins', 'b1 ends', 'a1 ends', 'a2 begins', 'a2 ends'],
    ...['gc begins', 'gc ends', 'a3 begins', 'a3 ends'],
  ]);
});
