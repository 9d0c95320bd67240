/** The ports over real sockets on loopback: no privileges needed. TAPs and raw sockets: see worker.test.ts. */
import { afterEach, describe, expect, it } from 'vitest';
import { ADDRESS, LENGTH, OFFSET, ROW, STATUS, TOS, UDP_PORT } from '../memory/burst.ts';
import { BURST, HEADROOM, MAX_FRAME, RECEIVE_ROWS } from '../memory/layout.ts';
import type { PortKind, PortSpec } from '../messages.ts';
import { native as load } from '../native/index.ts';
import { openPort, Workspace } from './port.ts';
import { openVxlanSockets, VxlanPort } from './vxlan.ts';

const native = load();
const open: number[] = [];
afterEach(() => {
  for (const fd of open.splice(0)) native.close(fd);
});

/** Addresses of this process's own within 127/8. */
const LEFT = (0x7f400000 | ((process.pid & 0x3fff) << 8) | 1) >>> 0;
const RIGHT = LEFT + 1;
const sockets = (address: number, senders = 4) => {
  const fds = openVxlanSockets(native, { address, senders, bufferBytes: 1 << 20 });
  open.push(...fds);
  return fds;
};
const spec = (kind: PortKind, fds: number[]): PortSpec => ({
  id: 1,
  kind,
  name: 'p1',
  fds,
  readers: [0],
  mac: null,
  sources: [],
  mtu: 1500,
});

/** For ports that cut nothing. */
const workspace = () => new Workspace(native, new Uint8Array(0), 0);

it('spreads what it receives over its sockets, a flow to one', () => {
  const common = { bufferBytes: 1 << 20, senders: 64 };
  const receivers = 2;
  const right = openVxlanSockets(native, { ...common, address: RIGHT, senders: 1, receivers });
  const left = openVxlanSockets(native, { ...common, address: LEFT });
  open.push(...right, ...left);
  const arena = new Uint8Array(BURST * 256);
  const space = new Uint8Array(BURST * (HEADROOM + MAX_FRAME + 64));
  const rows = new Int32Array(BURST * ROW);
  const ports = [0, 1].map((worker) =>
    openPort(workspace(), { ...spec('vxlan', right), readers: [0, 1] }, worker),
  );
  const sender = openPort(workspace(), spec('vxlan', left), 0);
  const flowsOf = ports.map(() => new Set<number>());
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < BURST; i++) {
      rows.set([i * 256 + 64, 100], i * ROW);
      rows[i * ROW + ADDRESS] = RIGHT;
      rows[i * ROW + UDP_PORT] = i;
    }
    expect(sender.transmit(arena, rows, BURST)).toBe(BURST);
    for (const [worker, port] of ports.entries()) {
      const got = new Int32Array(RECEIVE_ROWS * ROW);
      for (let count = -1; count !== 0; ) {
        count = port.receive(space, got, 0, HEADROOM);
        for (let i = 0; i < count; i++) flowsOf[worker].add(got[i * ROW + UDP_PORT]);
      }
    }
  }
  expect(flowsOf[0].size + flowsOf[1].size).toBe(BURST);
  expect(Math.min(flowsOf[0].size, flowsOf[1].size)).toBeGreaterThan(8);
});

describe('a VXLAN port', () => {
  it('sends from the VXLAN header on, leaves the rows as they were, and receives with the outer source', () => {
    const left = new VxlanPort(workspace(), spec('vxlan', sockets(LEFT)), 0);
    const right = new VxlanPort(workspace(), spec('vxlan', sockets(RIGHT)), 0);
    const arena = new Uint8Array(4096);
    const rows = new Int32Array(8 * ROW);
    for (let i = 0; i < 8; i++) {
      arena.fill(0xee, i * 256, i * 256 + 28);
      arena.fill(i, i * 256 + 28, (i + 1) * 256);
      rows[i * ROW + OFFSET] = i * 256;
      rows[i * ROW + LENGTH] = 28 + 50 + i;
      rows[i * ROW + ADDRESS] = RIGHT;
      rows[i * ROW + UDP_PORT] = 49152 + i;
      rows[i * ROW + TOS] = 4 * i;
    }
    const before = rows.slice();
    expect(left.transmit(arena, rows, 8)).toBe(8);
    expect(rows).toEqual(before);

    const into = new Uint8Array(BURST * (HEADROOM + MAX_FRAME + 128));
    const got = new Int32Array(BURST * ROW);
    const epoll = native.epollCreate();
    open.push(epoll);
    native.epollAdd(epoll, right.inputs[0], 0);
    const seen = new Set<number>();
    while (seen.size < 8) {
      native.epollWait(epoll, new Int32Array(1), -1);
      const count = right.receive(into, got, 0, HEADROOM);
      for (let row = 0; row < count * ROW; row += ROW) {
        const i = into[got[row + OFFSET]];
        seen.add(i);
        expect(got[row + LENGTH]).toBe(50 + i);
        expect(got[row + ADDRESS]).toBe(LEFT);
        expect(got[row + TOS]).toBe(4 * i);
        expect(got[row + UDP_PORT] % 4).toBe(i % 4);
        expect(got[row + UDP_PORT]).toBeGreaterThanOrEqual(49152);
      }
    }
  });

  it('reports failures row by row, and restores the rows all the same', () => {
    const port = new VxlanPort(workspace(), spec('vxlan', sockets(LEFT)), 0);
    const rows = new Int32Array(2 * ROW);
    rows[LENGTH] = 70_000;
    rows[ROW + LENGTH] = 100;
    rows[ADDRESS] = rows[ROW + ADDRESS] = RIGHT;
    expect(port.transmit(new Uint8Array(70_000), rows, 2)).toBe(1);
    expect([rows[STATUS], rows[ROW + STATUS]]).toEqual([90, 0]);
    expect([rows[OFFSET], rows[LENGTH], rows[ROW + LENGTH]]).toEqual([0, 70_000, 100]);
  });

  it('takes the next suitable source port when one is in use', () => {
    open.push(native.udpOpen({ address: LEFT, port: 49153 }));
    expect(sockets(LEFT).length).toBe(5);
  });

  it('leaves nothing open when the port is in use', () => {
    sockets(LEFT);
    const probe = native.eventfdCreate();
    native.close(probe);
    expect(() => openVxlanSockets(native, { address: LEFT, senders: 1, bufferBytes: 1 << 16 })).toThrow(
      /^bind udp 127\.[\d.]+:4789: EADDRINUSE, another process has it/,
    );
    const again = native.eventfdCreate();
    open.push(again);
    expect(again).toBe(probe);
  });
});

describe('opening a port', () => {
  it.each([
    ['pod', [], 'a TAP port needs a descriptor'],
    ['vxlan', [1], 'a VXLAN port needs a power of two of senders, not 0'],
    ['vxlan', [1, 2, 3, 4], 'a VXLAN port needs a power of two of senders, not 3'],
    ['ipip', [], 'an IPIP port needs a descriptor'],
    ['underlay', [1], 'port p1: an underlay port is for replay, no worker can open one'],
  ] as const)('of kind %s over %j says what is wrong', (kind, fds, message) => {
    expect(() => openPort(workspace(), spec(kind, [...fds]), 0)).toThrow(message);
  });
});
