/** UDP sockets that look at the TTL, against the kernel, over loopback: no rights are needed. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { native as load } from './index.ts';

const native = load();
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});

async function take(fd: number, isIp6: boolean): Promise<Socket> {
  const socket = createSocket(isIp6 ? 'udp6' : 'udp4');
  sockets.push(socket);
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  return socket;
}

describe.each(['127.0.0.1', '::1'])('on %s', (address) => {
  const isIp6 = address.includes(':');

  it('receives what has travelled with a TTL of 255, counts and drops what has less', async () => {
    const fd = native.datagramOpen({ address, port: 0, leastTtl: 255, bufferBytes: 65_536 });
    const receiver = await take(fd, isIp6);
    const heard: string[] = [];
    const last = new Promise<void>((resolve) => {
      receiver.on('message', (message) => {
        heard.push(String(message));
        if (String(message) === 'last') resolve();
      });
    });
    const { port } = receiver.address();
    const send = async (ttl: number, text: string) => {
      const sender = await take(native.datagramOpen({ address, port: 0, ttl }), isIp6);
      await new Promise((resolve) => sender.send(text, port, address, resolve));
    };
    for (const ttl of [254, 255, 64, 1]) await send(ttl, `with ${ttl}`);
    await send(255, 'last');
    await last;
    expect(heard).toEqual(['with 255', 'last']);
    expect(native.socketDrops(fd)).toBe(3);
  });

  it('takes any TTL where none is asked for, and nothing where it only sends', async () => {
    const all = await take(native.datagramOpen({ address, port: 0 }), isIp6);
    const deafFd = native.datagramOpen({ address, port: 0, sendOnly: true });
    const deaf = await take(deafFd, isIp6);
    const sender = await take(native.datagramOpen({ address, port: 0, ttl: 1 }), isIp6);
    const heard = once(all, 'message');
    await new Promise((resolve) => sender.send('x', deaf.address().port, address, resolve));
    await new Promise((resolve) => sender.send('x', all.address().port, address, resolve));
    await heard;
    expect(native.socketDrops(deafFd)).toBe(1);
  });

  it('says which port another has', async () => {
    const first = await take(native.datagramOpen({ address, port: 0 }), isIp6);
    const { port } = first.address();
    expect(() => native.datagramOpen({ address, port })).toThrow(
      `bind udp ${address} port ${port}: EADDRINUSE`,
    );
  });
});

it('refuses what is no address, and values that no packet can carry', () => {
  expect(() => native.datagramOpen({ address: 'here', port: 0 })).toThrow('neither IPv4 nor IPv6');
  expect(() => native.datagramOpen({ address: '::1', port: 0, ttl: 256 })).toThrow(RangeError);
  expect(() => native.datagramOpen({ port: 0 } as never)).toThrow('address is missing');
});
