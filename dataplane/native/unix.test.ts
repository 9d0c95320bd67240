/** Descriptors on their way between processes, and to and from a service manager. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { ADDRESS, LENGTH, OFFSET, ROW } from '../memory/burst.ts';
import { BURST, HEADROOM, MAX_FRAME } from '../memory/layout.ts';
import { native as load } from './index.ts';
import { forgetDescriptors, sdNotify, storeDescriptors, takeInheritedDescriptors } from './systemd.ts';

const native = load();
const ADDON = JSON.stringify(createRequire(import.meta.url).resolve('../../build/Release/tortie.node'));
const SYSTEMD = fileURLToPath(new URL('../../dist/dataplane/native/systemd.js', import.meta.url));
const MAX_FDS = 253;
const LOOPBACK = 0x7f000001;
const NONE = new Int32Array(0);
const directory = mkdtempSync(join(tmpdir(), 'tortie-unix-'));
const bytes = (string: string): Uint8Array => new TextEncoder().encode(string);

const open: number[] = [];
const keep = (fd: number): number => {
  open.push(fd);
  return fd;
};
afterEach(() => {
  for (const fd of open.splice(0)) native.close(fd);
});
afterAll(() => rmSync(directory, { recursive: true }));

let paths = 0;
const nextPath = (): string => join(directory, `s${paths++}`);

/** Two ends of a connection. */
function pair(): [number, number] {
  const path = nextPath();
  const listener = keep(native.unixListen(path));
  const near = keep(native.unixConnect(path));
  return [near, keep(native.unixAccept(listener)!.fd)];
}

/** Wait until `fd` has input. */
function ready(fd: number): void {
  const epoll = native.epollCreate();
  native.epollAdd(epoll, fd, 1);
  expect(native.epollWait(epoll, new Int32Array(1), 10_000)).toBe(1);
  native.close(epoll);
}

/** A program in a Node process of its own; `native` is the addon there. */
function child(program: string, shell = '', stdio: ('pipe' | 'inherit' | 'ignore')[] = []) {
  const code = `const native = require(${ADDON}); (async () => { ${program} })();`;
  return spawn('bash', ['-c', `${shell} exec "$0" -e "$1"`, process.execPath, code], {
    stdio: ['pipe', 'pipe', 'inherit', ...stdio],
  });
}

describe('descriptors over Unix sockets', () => {
  it('arrive with their message, close-on-exec, and are the same open file', () => {
    const [near, far] = pair();
    const event = keep(native.eventfdCreate());
    expect(native.receiveFds(far, new Uint8Array(8))).toBeUndefined();
    expect(native.sendFds(near, Int32Array.of(event), bytes('one'))).toBe(3);
    expect(native.sendFds(near, NONE, bytes('two'))).toBe(3);
    const buffer = new Uint8Array(8);
    const { fds, bytes: length } = native.receiveFds(far, buffer)!;
    fds.forEach(keep);
    expect(Buffer.from(buffer.subarray(0, length)).toString()).toBe('one');
    expect(fds).toHaveLength(1);
    expect(fds[0]).not.toBe(event);
    expect(readFileSync(`/proc/self/fdinfo/${fds[0]}`, 'latin1')).toMatch(/^flags:\s+02\d{6}$/m);
    native.eventfdSignal(event);
    ready(fds[0]);
    expect(native.receiveFds(far, buffer)).toEqual({ fds: [], bytes: 3 });
    native.close(near);
    open.splice(open.indexOf(near), 1);
    expect(native.receiveFds(far, buffer)).toEqual({ fds: [], bytes: 0 });
    expect(() => native.sendFds(far, NONE, buffer)).toThrow('EPIPE, the other end is closed');
  });

  it('go up to 253 a message, in order', () => {
    const [near, far] = pair();
    const events = Int32Array.from({ length: MAX_FDS }, () => keep(native.eventfdCreate()));
    native.sendFds(near, events, bytes('all'));
    const { fds } = native.receiveFds(far, new Uint8Array(3))!;
    fds.forEach(keep);
    expect(fds).toHaveLength(MAX_FDS);
    native.eventfdSignal(events[200]);
    ready(fds[200]);
    expect(() => native.sendFds(near, new Int32Array(MAX_FDS + 1), bytes('x'))).toThrow(
      'a message carries at most 253 descriptors, not 254',
    );
    expect(() => native.sendFds(near, NONE, new Uint8Array(0))).toThrow(RangeError);
    expect(() => native.sendFds(near, Int32Array.of(1_000_000), bytes('x'))).toThrow('EBADF');
  });

  it('are not left open when their message is too long', () => {
    const [near, far] = pair();
    native.sendFds(near, Int32Array.of(keep(native.eventfdCreate())), bytes('longer'));
    const before = readdirSync('/proc/self/fd').length;
    expect(() => native.receiveFds(far, new Uint8Array(3))).toThrow(
      `recvmsg descriptor ${far}, payload cut short: EMSGSIZE`,
    );
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  it('are not left open when they are more than the receiver may have', async () => {
    const path = nextPath();
    const listener = keep(native.unixListen(path));
    const receiver = child(
      `const fd = native.unixConnect(${JSON.stringify(path)});
       const epoll = native.epollCreate();
       native.epollAdd(epoll, fd, 1);
       native.epollWait(epoll, new Int32Array(1), 10000);
       const held = () => require('fs').readdirSync('/proc/self/fd').length;
       const before = held();
       try { native.receiveFds(fd, new Uint8Array(8)); } catch (e) { console.log(e.message, held() - before); }`,
      'ulimit -n 100;',
    );
    ready(listener);
    const { fd, pid, uid } = native.unixAccept(listener)!;
    keep(fd);
    expect([pid, uid]).toEqual([receiver.pid, process.getuid!()]);
    native.sendFds(
      fd,
      Int32Array.from({ length: 200 }, () => keep(native.eventfdCreate())),
      bytes('x'),
    );
    expect(await text(receiver.stdout!)).toMatch(
      /^recvmsg descriptor \d+, descriptors cut short: EMFILE, too many open files: .* 0\n$/,
    );
  });

  it('outlive the process that opened them', async () => {
    const path = nextPath();
    const listener = keep(native.unixListen(path));
    const opener = child(
      `const udp = native.udpOpen({ address: ${LOOPBACK}, port: 0, bufferBytes: 100000 });
       const row = new Int32Array(${ROW});
       native.sendFds(native.unixConnect(${JSON.stringify(path)}), Int32Array.of(udp), new Uint8Array(1));`,
    );
    await once(opener, 'exit');
    const connection = keep(native.unixAccept(listener)!.fd);
    const [udp] = native.receiveFds(connection, new Uint8Array(1))!.fds;
    keep(udp);
    // The port is not for asking here: let it send to one that is.
    const arena = new Uint8Array(HEADROOM + MAX_FRAME + 128);
    const rows = new Int32Array(BURST * ROW);
    const [receiver, port] = boundUdp();
    rows[OFFSET] = 0;
    rows[LENGTH] = 5;
    rows[ADDRESS] = LOOPBACK;
    expect(native.udpSend(Int32Array.of(udp), bytes('hello'), rows, 1, port, 0)).toBe(1);
    expect(native.udpReceive(receiver, arena, rows, BURST, 0, HEADROOM)).toBe(1);
    expect(rows[LENGTH]).toBe(5);
  });

  /** A UDP socket on a free port. */
  function boundUdp(): [number, number] {
    for (let port = 30_000 + (process.pid % 1000) * 10; ; port++) {
      try {
        return [keep(native.udpOpen({ address: LOOPBACK, port })), port];
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      }
    }
  }

  it('come over sockets of our own user alone, or of the abstract namespace', () => {
    const path = nextPath();
    keep(native.unixListen(path));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(() => native.unixListen(path)).toThrow(
      `bind AF_UNIX ${path}: EADDRINUSE, a socket is there already: remove it if nobody listens`,
    );
    const abstract = `@tortie-test-${process.pid}`;
    expect(() => native.unixConnect(abstract)).toThrow(
      `connect ${abstract}: ECONNREFUSED, nobody listens there`,
    );
    const listener = keep(native.unixListen(abstract));
    expect(native.unixAccept(listener)).toBeUndefined();
    keep(native.unixConnect(abstract));
    expect(native.unixAccept(listener)).toMatchObject({ fd: expect.any(Number), pid: process.pid });
    expect(() => native.unixConnect('relative')).toThrow(RangeError);
    expect(() => native.unixConnect(`/${'x'.repeat(200)}`)).toThrow(
      'path has 201 bytes, at most 107 are possible',
    );
  });

  it('refuses what is no socket', () => {
    const event = keep(native.eventfdCreate());
    expect(() => native.sendFds(event, NONE, bytes('x'))).toThrow(
      "ENOTSOCK, the descriptor is not a socket's",
    );
    expect(() => native.receiveFds(event, new Uint8Array(1))).toThrow('ENOTSOCK');
    expect(() => native.unixAccept(event)).toThrow('ENOTSOCK');
    expect(() => native.adopt(1_000_000)).toThrow('EBADF');
  });
});

describe('a service manager', () => {
  afterEach(() => {
    delete process.env.NOTIFY_SOCKET;
  });

  /** One that takes `count` messages at `path`, and writes "stored" through each descriptor that came. */
  async function manager(path: string, count: number): Promise<{ messages: Promise<[string, number][]> }> {
    const program = `
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
p = sys.argv[1]
s.bind('\\0' + p[1:] if p[0] == '@' else p)
print('ready', flush=True)
got = []
for _ in range(int(sys.argv[2])):
    data, fds, _, _ = socket.recv_fds(s, 4096, 253)
    got.append([data.decode(), len(fds)])
    for fd in fds: os.write(fd, (1).to_bytes(8, 'little'))
print(json.dumps(got))`;
    const python = spawn('python3', ['-c', program, path, String(count)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(python.stdout, 'data');
    return { messages: text(python.stdout).then((output) => JSON.parse(output)) };
  }

  it('is told states, and given descriptors to keep', async () => {
    for (const path of [nextPath(), `@tortie-notify-${process.pid}`]) {
      process.env.NOTIFY_SOCKET = path;
      const { messages } = await manager(path, 3);
      const event = keep(native.eventfdCreate());
      expect(sdNotify('READY=1\nSTATUS=forwarding')).toBe(true);
      expect(storeDescriptors('tap eth0', Int32Array.of(event, event))).toBe(true);
      expect(forgetDescriptors('tap eth0')).toBe(true);
      expect(await messages).toEqual([
        ['READY=1\nSTATUS=forwarding', 0],
        ['FDSTORE=1\nFDPOLL=0\nFDNAME=tap eth0', 2],
        ['FDSTOREREMOVE=1\nFDNAME=tap eth0', 0],
      ]);
      ready(event);
    }
    expect(() => storeDescriptors('a:b', NONE)).toThrow(RangeError);
    expect(() => sdNotify('READY=1')).toThrow(
      `sendmsg @tortie-notify-${process.pid} with 0 descriptors: ECONNREFUSED, nobody listens there`,
    );
  });

  it('that is not there is told nothing, and handed nothing over', () => {
    delete process.env.NOTIFY_SOCKET;
    expect(sdNotify('READY=1')).toBe(false);
    expect(takeInheritedDescriptors()).toEqual([]);
  });

  it('hands over descriptors with their names, once', async () => {
    const successor = child(
      `const { takeInheritedDescriptors } = await import(${JSON.stringify(SYSTEMD)});
       const taken = takeInheritedDescriptors();
       const flags = taken.map(({ fd }) => /flags:\\s+(\\d+)/.exec(require('fs').readFileSync('/proc/self/fdinfo/' + fd, 'latin1'))[1]);
       const left = Object.keys(process.env).filter((name) => name.startsWith('LISTEN_'));
       console.log(JSON.stringify({ taken, cloexec: flags.map((octal) => (parseInt(octal, 8) & 0o2000000) !== 0), left, again: takeInheritedDescriptors() }));`,
      'export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=tap:host;',
      ['pipe', 'pipe'],
    );
    expect(JSON.parse(await text(successor.stdout!))).toEqual({
      taken: [
        { fd: 3, name: 'tap' },
        { fd: 4, name: 'host' },
      ],
      cloexec: [true, true],
      left: [],
      again: [],
    });
  });

  it('that handed them to another process is not ours', () => {
    Object.assign(process.env, { LISTEN_PID: '1', LISTEN_FDS: '1' });
    expect(takeInheritedDescriptors()).toEqual([]);
    expect(() => fstatSync(0)).not.toThrow();
    for (const name of ['LISTEN_PID', 'LISTEN_FDS']) delete process.env[name];
  });
});
