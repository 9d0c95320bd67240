/** The ports over real sockets on loopback: no privileges needed. TAPs and raw sockets: see worker.test.ts. */
import { constants } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import {
  ADDRESS,
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  LENGTH,
  OFFLOAD,
  OFFSET,
  PARTIAL_CHECKSUM,
  ROW,
  SEGMENT,
  STATUS,
  SUPER_TCP4,
  SUPER_UDP,
  TOS,
  UDP_PORT,
} from '../memory/burst.ts';
import { BURST, HEADROOM, MAX_FRAME, RECEIVE_ROWS } from '../memory/layout.ts';
import type { PortKind, PortSpec } from '../messages.ts';
import { native as load } from '../native/index.ts';
import { CUT_ROOM } from '../offload/cut.ts';
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

  it('sends what faults cut short, whatever is left', () => {
    const faults = { seed: 1, from: {}, to: { truncate: 1 } };
    const arena = new Uint8Array(4096);
    const room = new Workspace(native, arena, 0);
    const port = openPort(room, { ...spec('vxlan', sockets(LEFT)), faults }, 0);
    const rows = new Int32Array(ROW);
    for (let i = 0; i < 100; i++) {
      rows.set([0, 60]);
      rows[ADDRESS] = RIGHT;
      expect(port.transmit(arena, rows, 1)).toBe(1);
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

/** An IPv4 TCP super-frame of `total` bytes with room for its outer headers before it, and its row. */
const superFrame = (total: number) => {
  const arena = new Uint8Array(HEADROOM + MAX_FRAME + CUT_ROOM);
  const row = new Int32Array(ROW);
  const ip = HEADROOM + 50;
  arena.set([0x45, 0, total >> 8, total, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 65, 0, 2, 10, 65, 1, 2], ip);
  arena.set([0x50, 0x10], ip + 20 + 12);
  row[OFFSET] = HEADROOM;
  row[LENGTH] = 50 + total;
  row[ADDRESS] = RIGHT;
  row[SEGMENT] = 1400;
  row[OFFLOAD] = PARTIAL_CHECKSUM | SUPER_TCP4;
  row[CHECKSUM_START] = ip + 20;
  row[CHECKSUM_FIELD] = ip + 36;
  row[HEADERS_END] = ip + 40;
  return { arena, row };
};

describe('way host', () => {
  const overGone = (arena: Uint8Array) => {
    const fds = sockets(LEFT);
    const gone = native.eventfdCreate();
    native.close(gone);
    const uplink = { fds: [gone], vnetHeader: 24, mac: new Uint8Array(6) };
    const room = new Workspace(native, arena, HEADROOM + MAX_FRAME);
    return new VxlanPort(room, { ...spec('vxlan', fds), way: 'host', uplink }, 0);
  };

  it('hands super-frames to the uplink', () => {
    const { arena, row } = superFrame(60_000);
    expect(overGone(arena).transmit(arena, row, 1)).toBe(0);
    expect([row[STATUS], row[OFFSET], row[LENGTH]]).toEqual([9, HEADROOM, 60_050]);
  });

  it('sends several packets without a super-frame among them by its sockets, in one run', () => {
    const right = new VxlanPort(workspace(), spec('vxlan', sockets(RIGHT)), 0);
    const { arena, row } = superFrame(100);
    row[OFFLOAD] = 0;
    const few = new Int32Array(3 * ROW);
    const many = new Int32Array(4 * ROW);
    for (let i = 0; i < 4; i++) many.set(row.subarray(0, ROW), i * ROW);
    few.set(many.subarray(0, 3 * ROW));
    const left = overGone(arena);
    expect(left.transmit(arena, few, 3)).toBe(0);
    expect(left.transmit(arena, many, 4)).toBe(4);
    const epoll = native.epollCreate();
    open.push(epoll);
    native.epollAdd(epoll, right.inputs[0]!, 0);
    const got = new Int32Array(RECEIVE_ROWS * ROW);
    native.epollWait(epoll, new Int32Array(1), -1);
    // One datagram of the socket's, four rows.
    expect(right.receive(new Uint8Array(BURST * (HEADROOM + MAX_FRAME + 128)), got, 0, HEADROOM)).toBe(4);
  });

  it('cuts for its sockets what would be longer than an IP packet with its outer header', () => {
    const { arena, row } = superFrame(65_500);
    const right = new VxlanPort(workspace(), spec('vxlan', sockets(RIGHT)), 0);
    expect(overGone(arena).transmit(arena, row, 1)).toBe(1);
    expect([row[STATUS], row[OFFSET], row[LENGTH]]).toEqual([0, HEADROOM, 65_550]);
    const epoll = native.epollCreate();
    open.push(epoll);
    native.epollAdd(epoll, right.inputs[0]!, 0);
    const into = new Uint8Array(BURST * (HEADROOM + MAX_FRAME + 128));
    const got = new Int32Array(RECEIVE_ROWS * ROW);
    let payload = 0;
    while (payload < 65_460) {
      native.epollWait(epoll, new Int32Array(1), -1);
      const count = right.receive(into, got, 0, HEADROOM);
      for (let i = 0; i < count; i++) payload += got[i * ROW + LENGTH]! - 62;
    }
    expect(payload).toBe(65_460);
  });
});

describe('way host of IPIP', () => {
  it.each([
    ['whole, of TCP', SUPER_TCP4, true],
    [
      'cut for its socket, of UDP: a raw socket that receives one is not told where its datagrams end',
      SUPER_UDP,
      false,
    ],
  ])('sends a super-frame %s', (_name, kind, isWhole) => {
    const { arena, row } = superFrame(9_000);
    // From an outer IPv4 header on.
    row[OFFSET]! += 30;
    row[LENGTH]! -= 30;
    row[OFFLOAD] = PARTIAL_CHECKSUM | kind;
    // No raw socket, which needs privileges: that it is asked at all is told by another error than the uplink's.
    const fd = native.udpOpen({ address: LEFT, port: 0 });
    open.push(fd);
    const gone = native.eventfdCreate();
    native.close(gone);
    const uplink = { fds: [gone], vnetHeader: 24, mac: new Uint8Array(6) };
    const room = new Workspace(native, arena, HEADROOM + MAX_FRAME);
    const port = openPort(room, { ...spec('ipip', [fd]), way: 'host', uplink }, 0);
    expect(port.transmit(arena, row, 1)).toBe(0);
    expect(row[STATUS] === constants.errno.EBADF).toBe(isWhole);
  });
});

describe('way sockets', () => {
  it('sends packet by packet once the kernel has refused a run', () => {
    const { arena, row } = superFrame(9_000);
    // Without checksums the kernel refuses to segment.
    const fds = openVxlanSockets(native, {
      address: LEFT,
      senders: 1,
      bufferBytes: 1 << 20,
      checksum: false,
    });
    open.push(...fds);
    const room = new Workspace(native, arena, HEADROOM + MAX_FRAME);
    const port = new VxlanPort(room, { ...spec('vxlan', fds), way: 'sockets' }, 0);
    expect(port.transmit(arena, row, 1)).toBe(0);
    expect(row[STATUS]).toBe(22);
    expect(port.transmit(arena, row, 1)).toBe(1);
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
