/** TCP sockets that the addon opens and Node takes over, over the loopback: what they demand of whom they speak with. */
import { once } from 'node:events';
import { createServer, type Server, Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { native as load } from './index.ts';

const native = load();
/** Whether something cannot be tried here; if so, it says why. */
function lacking(what: string, attempt: (fd: number) => void, address = '127.0.0.1'): boolean {
  try {
    const fd = native.tcpOpen({ address, port: 0 });
    try {
      attempt(fd);
    } finally {
      native.close(fd);
    }
    return false;
  } catch (error) {
    console.log(`tcp.test.ts: ${what} skipped: ${error instanceof Error ? error.message : error}`);
    return true;
  }
}
const noMd5 = lacking('passwords', (fd) => native.tcpPassword(fd, '127.0.0.1', 'x'));
const noIp6 = lacking('IPv6', () => {}, '::1');
const addresses = noIp6 ? ['127.0.0.1'] : ['127.0.0.1', '::1'];

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

interface Listening {
  port: number;
  /** The descriptor, which is Node's. */
  fd: number;
  server: Server;
}

/** Listen on a loopback address; `prepare` sets options first. */
async function listen(address: string, prepare: (fd: number) => void = () => {}): Promise<Listening> {
  const fd = native.tcpOpen({ address, port: 0 });
  prepare(fd);
  native.release(fd);
  const server = createServer((socket) => {
    closers.push(() => socket.destroy());
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  closers.push(() => server.close());
  server.listen({ fd });
  await once(server, 'listening');
  return { port: (server.address() as { port: number }).port, fd, server };
}

/** Connect and have a word echoed. */
async function echo(
  to: string,
  port: number,
  prepare: (fd: number) => void = () => {},
  from = to.includes(':') ? '::' : '0.0.0.0',
): Promise<Socket> {
  const socket = begin(to, port, prepare, from);
  await once(socket, 'connect');
  socket.write('a word');
  const [answer] = await once(socket, 'data');
  expect(String(answer)).toBe('a word');
  return socket;
}

function begin(to: string, port: number, prepare: (fd: number) => void, from: string): Socket {
  const fd = native.tcpOpen({ address: from, port: 0 });
  prepare(fd);
  native.release(fd);
  const socket = new Socket({ fd });
  closers.push(() => socket.destroy());
  socket.on('error', () => {});
  socket.connect({ host: to, port });
  return socket;
}

/** Once a connection with this one is tried, whether it was there before the next good one was. */
async function isRefused(
  to: string,
  port: number,
  prepare: (fd: number) => void,
  good: () => Promise<unknown>,
) {
  let connected = false;
  const socket = begin(to, port, prepare, to.includes(':') ? '::' : '0.0.0.0');
  socket.once('connect', () => {
    connected = true;
  });
  // On the loopback a SYN is answered, or not, before the next is sent.
  await good();
  return !connected && socket.connecting;
}

describe.each(addresses)('to %s', (address) => {
  it('serves Node as its own do', async () => {
    const { port } = await listen(address);
    const socket = await echo(address, port);
    expect(socket.remotePort).toBe(port);
    expect(socket.remoteAddress).toBe(address);
  });

  it('connects from the address it is bound to', async () => {
    const { port } = await listen(address);
    const from = address === '::1' ? '::1' : '127.0.0.77';
    expect((await echo(address, port, () => {}, from)).localAddress).toBe(from);
  });

  it.skipIf(noMd5)(
    'takes from an address only what is signed with its password, and what is not signed once there is none',
    async () => {
      const { port, fd } = await listen(address, (opened) => native.tcpPassword(opened, address, 'secret'));
      const signed = (password: string) => (own: number) => native.tcpPassword(own, address, password);
      const good = () => echo(address, port, signed('secret'));
      expect(await isRefused(address, port, signed('another'), good)).toBe(true);
      expect(await isRefused(address, port, () => {}, good)).toBe(true);

      native.tcpPassword(fd, address, 'x'.repeat(80));
      const other = () => echo(address, port, signed('x'.repeat(80)));
      expect(await isRefused(address, port, signed('secret'), other)).toBe(true);

      native.tcpPassword(fd, address, '');
      native.tcpPassword(fd, address, '');
      await echo(address, port);
      expect(await isRefused(address, port, signed('secret'), () => echo(address, port))).toBe(true);
    },
  );

  it('sends with a TTL and takes no less than one', async () => {
    const { port, fd } = await listen(address, (opened) => native.tcpTtl(opened, 255, 255));
    const good = () => echo(address, port, (own) => native.tcpTtl(own, 255, 255));
    expect(await isRefused(address, port, (own) => native.tcpTtl(own, 254, 0), good)).toBe(true);
    expect(await isRefused(address, port, () => {}, good)).toBe(true);
    native.tcpTtl(fd, -1, 0);
    await echo(address, port);
    // The listening socket answers with the system's TTL now.
    expect(
      await isRefused(
        address,
        port,
        (own) => native.tcpTtl(own, 255, 255),
        () => echo(address, port),
      ),
    ).toBe(true);
  });

  it('filters, and connections inherit the filter', async () => {
    const nothing = Int32Array.of(0x06, 0, 0, 0);
    const { port, fd } = await listen(address, (opened) => native.socketFilter(opened, nothing));
    const socket = begin(address, port, () => {}, address.includes(':') ? '::' : '0.0.0.0');
    while (native.socketDrops(fd) === 0) await turn();
    expect(socket.connecting).toBe(true);
    native.socketFilter(fd, new Int32Array(0));
    native.socketFilter(fd, new Int32Array(0));
    await echo(address, port);
  });
});

it('says what cannot be', () => {
  const fd = native.tcpOpen({ address: '127.0.0.1', port: 0 });
  try {
    expect(() => native.tcpOpen({ address: 'here', port: 0 })).toThrow(/address must be an IPv4 or IPv6/);
    expect(() => native.tcpOpen({ address: '127.0.0.1', port: 65_536 })).toThrow(/port must be/);
    expect(() => native.tcpOpen({ address: '192.0.2.77', port: 0 })).toThrow(
      /bind TCP 192.0.2.77 port 0: EADDRNOTAVAIL, no interface here has that address/,
    );
    expect(() => native.tcpPassword(fd, '127.0.0.1', 'x'.repeat(81))).toThrow(/password has 81 bytes/);
    expect(() => native.tcpPassword(fd, '127.0.0.1', 'a\0b')).toThrow(/contains a NUL/);
    if (!noMd5) {
      expect(() => native.tcpPassword(fd, '::1', 'x')).toThrow(/setsockopt TCP_MD5SIG for ::1: EINVAL/);
    }
    expect(() => native.tcpTtl(fd, 0, 0)).toThrow(/ttl must be 1 to 255, or -1/);
    expect(() => native.tcpTtl(fd, 255, 256)).toThrow(/least must be an integer from 0 to 255/);
    expect(() => native.tcpTtl(0x7fff, 1, 1)).toThrow(/EBADF/);
    expect(() => native.socketDrops(0x7fff)).toThrow(/getsockopt SO_MEMINFO .*EBADF/);
    expect(() => native.socketFilter(fd, new Int32Array(3))).toThrow(/four numbers an instruction/);
    expect(() => native.socketFilter(fd, new Int32Array(4 * 4097))).toThrow(/at most 4096/);
    // No program ends without a return.
    expect(() => native.socketFilter(fd, Int32Array.of(0x20, 0, 0, 0))).toThrow(/SO_ATTACH_FILTER .*EINVAL/);
  } finally {
    native.close(fd);
  }
  expect(() => native.release(fd)).toThrow(/release descriptor .*: EBADF/);
});
