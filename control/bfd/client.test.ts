/** The agent and the BFD process, over loopback: no rights are needed. The process runs from the build. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { until } from '../bgp/until.ts';
import { BfdClient, type BfdState, stopBfd } from './client.ts';
import {
  type FromProcess,
  Lines,
  line,
  PROTOCOL,
  type SessionSpec,
  type Statistics,
  type ToProcess,
} from './protocol.ts';
import { upReport } from './test-report.ts';

const net = `127.${96 + (process.pid % 16)}.${(process.pid >> 4) % 250}`;
const spec: SessionSpec = {
  local: `${net}.1`,
  peer: `${net}.2`,
  multihop: false,
  minTxMs: 50,
  minRxMs: 50,
  multiplier: 3,
};

let folder: string;
let path: string;
const pids = new Set<number>();
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-bfd-'));
  path = join(folder, 'run', 'bfd.sock');
});
afterEach(async () => {
  for (const pid of pids) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  await until('no process is left', () => ![...pids].some(isAlive));
  pids.clear();
  rmSync(folder, { recursive: true });
});

/** A zombie is not: who waits for it is the event loop. */
const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}/exe`);

function client() {
  const said: BfdState[] = [];
  const logged: string[] = [];
  const bfd = new BfdClient({
    socket: path,
    onState: (state) => said.push(state),
    log: (_, message, fields) => logged.push(`${message}: ${fields.reason}`),
  });
  return { bfd, said, logged };
}

async function started(bfd: BfdClient): Promise<number> {
  const pid = await until('there is a process', () => bfd.pid);
  pids.add(pid);
  await until('it reports', () => bfd.statistics);
  return pid;
}

it('starts no process without a session, and ends it with the last one', async () => {
  const { bfd } = client();
  bfd.configure([]);
  expect(existsSync(path)).toBe(false);
  bfd.configure([spec]);
  const pid = await started(bfd);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  await until('the session is there', () => bfd.session(spec.peer));
  expect(bfd.statistics).toMatchObject({ refused: 0, priority: expect.any(Number) });
  bfd.configure([]);
  expect(bfd.sessions()).toEqual([]);
  await until('it has ended', () => !isAlive(pid));
  expect(existsSync(path)).toBe(false);
  bfd.stop();
});

it('ends a process that an agent has left and nobody needs', async () => {
  const first = client();
  first.bfd.configure([spec]);
  const pid = await started(first.bfd);
  first.bfd.stop({ keep: true });
  expect(isAlive(pid)).toBe(true);
  const second = client();
  second.bfd.configure([]);
  await until('it has ended', () => !isAlive(pid));
  second.bfd.stop();
  expect(await stopBfd(path)).toBe(false);
});

it('starts it again when it dies, and says meanwhile that nothing is known', async () => {
  const { bfd, said, logged } = client();
  bfd.configure([spec]);
  const pid = await started(bfd);
  await until('the session is there', () => said.length > 0);
  process.kill(pid, 'SIGKILL');
  await until('it is told', () => said.some(({ text }) => text === 'unknown: its process has gone'));
  expect(bfd.problem).toBe('no BFD: its process has gone; it is tried again');
  expect(logged).toEqual(['no BFD; it is started again: its process has gone']);
  const next = await started(bfd);
  expect(next).not.toBe(pid);
  await until('the session is there again', () => bfd.session(spec.peer));
  expect(bfd.problem).toBeNull();
  expect(said.some(({ failed }) => failed)).toBe(false);
  bfd.stop();
  await until('it has ended', () => !isAlive(next));
});

it('says again what it knows when it is told the same', async () => {
  const { bfd, said } = client();
  bfd.configure([spec]);
  await started(bfd);
  await until('the session is there', () => said.length > 0);
  said.length = 0;
  bfd.configure([{ ...spec }]);
  expect(said).toEqual([{ peer: spec.peer, text: 'Down', failed: false, independent: false }]);
  bfd.stop();
});

it('has a process of another version end, and starts its own', async () => {
  const heard: ToProcess[] = [];
  const { bfd, logged } = client();
  path = join(folder, 'old.sock');
  const other = client();
  const old = createServer((socket) => {
    socket.on('error', () => {});
    const hello: FromProcess = { op: 'hello', protocol: PROTOCOL + 1, netns: 0, pid: 1 };
    socket.write(line(hello));
    const lines = new Lines<ToProcess>();
    socket.setEncoding('utf8').on('data', (text: string) => {
      for (const message of lines.push(text)) heard.push(message);
      old.close();
    });
  });
  await new Promise<void>((resolve) => old.listen(path, resolve));
  other.bfd.configure([spec]);
  await started(other.bfd);
  expect(heard).toEqual([{ op: 'stop' }]);
  expect(other.logged[0]).toContain('another version or network namespace');
  other.bfd.stop();
  bfd.stop();
  expect(logged).toEqual([]);
});

it('learns of a failure even if it was not there to hear of it', async () => {
  const report = { ...upReport, spec };
  const statistics = { discards: {} as Statistics['discards'], refused: 0, priority: 0 };
  const netns = statSync('/proc/self/ns/net').ino;
  const { bfd, said } = client();
  mkdirSync(join(folder, 'run'));
  // A process that is asked again and again, and lets go of who asks.
  const answers = [report, { ...report, failures: 5 }, { ...report, failures: 6, state: 1, diagnostic: 1 }];
  answers.push({ ...report, discriminator: 9, failures: 7 });
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(line({ op: 'hello', protocol: PROTOCOL, netns, pid: 1 }));
    const session = answers.shift() ?? report;
    socket.end(line({ op: 'report', sessions: [session], statistics }));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  bfd.configure([spec]);
  const up = 'Up, sending every 50 ms, detection 150 ms';
  await until('it has heard all', () => said.filter(({ text }) => text === up).length >= 3);
  bfd.stop();
  server.close();
  const told = said.filter(({ text }) => !text.startsWith('unknown'));
  expect(told.slice(0, 5).map(({ text, failed }) => [text, failed])).toEqual([
    [up, false],
    ['Down for a moment while nobody listened', true],
    [up, false],
    ['Down: control detection time expired', true],
    // Of another process: it has not failed since.
    [up, false],
  ]);
});

it('lives on when an agent talks nonsense, and serves the newest agent', async () => {
  const { bfd } = client();
  bfd.configure([spec]);
  const pid = await started(bfd);
  const bad = connect(path);
  let heard = '';
  bad.setEncoding('utf8').on('data', (text: string) => {
    heard += text;
  });
  bad.on('error', () => {});
  const closed = new Promise((resolve) => bad.once('close', resolve));
  bad.write('{"op": "configure", "sessions": [}\n');
  await closed;
  expect(heard).toContain('"op":"fatal"');
  // The first was let go for the second, and comes back to the same process.
  await until('it is back', () => bfd.pid === pid && bfd.session(spec.peer));
  bfd.stop();
});
