import { describe, expect, it } from 'vitest';
import { ipApply } from './iproute.ts';
import { listNamespaces, netnsInode, parseLocks } from './scan.ts';

describe('locks', () => {
  const line = (inode: number, name: string) =>
    `0000000000000000: 00000002 00000000 00010000 0001 01 ${inode} ${name}`;

  it('are read from /proc/net/unix, without the zeros that libuv pads them with', () => {
    const table = [
      'Num       RefCount Protocol Flags    Type St Inode Path',
      line(7, '@tortie-agent:node-1.example@@@@@@@@'),
      line(8, '@tortie-agent:n2'),
      line(9, '/run/tortie/n3/api.sock'),
      line(10, '@other:tortie-agent:n4'),
      '0000000000000000: 00000003 00000000 00000000 0001 03 11',
      '',
    ].join('\n');
    expect(parseLocks(table)).toEqual([
      { node: 'node-1.example', socket: 'socket:[7]' },
      { node: 'n2', socket: 'socket:[8]' },
    ]);
    expect(parseLocks('')).toEqual([]);
  });
});

describe('namespaces', () => {
  it('are listed once each, our own first', () => {
    const found = listNamespaces();
    expect(found[0]).toMatchObject({ netns: null, inode: netnsInode(null), pid: process.pid });
    expect(new Set(found.map(({ inode }) => inode)).size).toBe(found.length);
  });

  it('that do not exist have no inode', () => {
    expect(netnsInode('no-such-namespace')).toBeNull();
    expect(netnsInode('/proc/self/ns/net')).toBe(netnsInode(null));
  });
});

describe('a batch of ip commands', () => {
  it('says of each that fails why, and that stops no other', async () => {
    const failures = await ipApply(null, [
      'addr show dev lo',
      'link show dev no-such-dev',
      'link show dev lo',
      'link show dev nor-this',
    ]);
    expect(failures).toEqual([
      { command: 'link show dev no-such-dev', message: expect.stringContaining('no-such-dev') },
      { command: 'link show dev nor-this', message: expect.stringContaining('nor-this') },
    ]);
  });

  it('says which namespace it cannot enter', async () => {
    await expect(ipApply('no-such-namespace', ['link show'])).rejects.toThrow('no-such-namespace');
    await expect(ipApply('/no/such/file', ['link show'])).rejects.toThrow('/no/such/file');
  });
});
