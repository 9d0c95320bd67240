/** The port over IPv6, on the loopback device of a namespace of its own. Needs root. */
import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createPeers6, Peer6Writer } from '../fib/peers6.ts';
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
  SUPER_TCP6,
  TOS,
  UDP_PORT,
} from '../memory/burst.ts';
import { createEpochs, GracePeriods } from '../memory/grace.ts';
import { BURST, HEADROOM, MAX_FRAME, RECEIVE_ROWS } from '../memory/layout.ts';
import type { PortSpec, TunnelWay } from '../messages.ts';
import { native as load } from '../native/index.ts';
import { CUT_ROOM } from '../offload/cut.ts';
import { ip6, words6 } from '../scenario.ts';
import { sum16, viewOf } from '../wire/bytes.ts';
import { pseudoSum6, putIpv6, setFlowLabel } from '../wire/ipv6.ts';
import { openPort, Workspace } from './port.ts';
import { openVxlanSockets } from './vxlan.ts';

const LEFT = 'fd06::1';
const RIGHT = 'fd06::2';
/** Outer IPv6 and UDP, VXLAN, inner Ethernet. */
const OUTER = 48;
const OVERHEAD = 70;
const isRoot = process.getuid?.() === 0;
const netns = `ttv${process.pid}`;

if (!isRoot) console.warn('vxlan6.test.ts: not root, so no namespace: skipped');
describe.skipIf(!isRoot)('VXLAN over IPv6', () => {
  const native = load();
  const open: number[] = [];
  const shared = createPeers6();
  const peers = new Peer6Writer(shared, new GracePeriods(createEpochs()));
  const left = peers.add(words6(LEFT));
  const right = peers.add(words6(RIGHT));
  /** Frames to send, headers of cut ones, and what is received. */
  const CUT = BURST * 2048;
  const RECEIVED = CUT + CUT_ROOM;
  const arena = new Uint8Array(RECEIVED + BURST * (HEADROOM + MAX_FRAME + 128));

  beforeAll(() => {
    execFileSync('ip', ['netns', 'add', netns]);
    const ip = (...args: string[]) => execFileSync('ip', ['-n', netns, ...args]);
    ip('link', 'set', 'lo', 'mtu', '9000', 'up');
    for (const address of [LEFT, RIGHT]) ip('addr', 'add', `${address}/128`, 'dev', 'lo', 'nodad');
  });
  afterEach(() => {
    for (const fd of open.splice(0)) native.close(fd);
  });
  afterAll(() => {
    execFileSync('ip', ['netns', 'del', netns]);
  });

  const portAt = (address: string, way: TunnelWay) => {
    const join = way === 'sockets';
    const fds = openVxlanSockets(native, { netns, address, senders: 4, bufferBytes: 8 << 20, join });
    open.push(...fds);
    const common = { id: 1, name: 'vxlan6', readers: [0], mac: null, sources: [], mtu: 1430 };
    const spec: PortSpec = { ...common, kind: 'vxlan6', fds, way };
    const room = new Workspace(native, arena, BURST * 2048, () => performance.now(), new Int32Array(shared));
    return openPort(room, spec, 0);
  };
  /** Outer headers as the pipeline writes them, as far as a socket needs them. */
  const putOuter = (at: number, label: number) => {
    putIpv6(viewOf(arena), at, 0, 0, 17, 64);
    setFlowLabel(viewOf(arena), at, label);
    arena.set(ip6(LEFT), at + 8);
    arena.set(ip6(RIGHT), at + 24);
  };
  /** Receive until `count` rows came: length, number of the peer, TOS, source port, first and last byte. */
  const receive = (port: ReturnType<typeof openPort>, count: number) => {
    const epoll = native.epollCreate();
    open.push(epoll);
    native.epollAdd(epoll, port.inputs[0]!, 0);
    const rows = new Int32Array(RECEIVE_ROWS * ROW);
    const got: Record<'length' | 'peer' | 'tos' | 'port' | 'first', number>[] = [];
    const frames: Uint8Array[] = [];
    while (got.length < count) {
      native.epollWait(epoll, new Int32Array(1), 5000);
      const received = port.receive(arena, rows, RECEIVED, HEADROOM);
      if (received === 0) break;
      for (let row = 0; row < received * ROW; row += ROW) {
        const offset = rows[row + OFFSET]!;
        frames.push(arena.slice(offset, offset + rows[row + LENGTH]!));
        got.push({
          length: rows[row + LENGTH]!,
          peer: rows[row + ADDRESS]!,
          tos: rows[row + TOS]!,
          port: rows[row + UDP_PORT]!,
          first: arena[offset]!,
        });
      }
    }
    return { got, frames };
  };

  it.each(['plain', 'sockets'] as const)(
    'carries datagrams with class, source port and peer, way %s',
    (way) => {
      const [a, b] = [portAt(LEFT, way), portAt(RIGHT, way)];
      const rows = new Int32Array(8 * ROW);
      for (let i = 0; i < 8; i++) {
        const at = i * 2048 + 64;
        putOuter(at, 1 + (i >> 2));
        arena.fill(i, at + OUTER, at + OUTER + 100);
        const row = i * ROW;
        rows[row + OFFSET] = at;
        rows[row + LENGTH] = OUTER + 100;
        rows[row + ADDRESS] = right;
        rows[row + UDP_PORT] = 49152 + 7;
        rows[row + TOS] = 0xb8 | (i >> 1 === 3 ? 1 : 0);
      }
      expect(a.transmit(arena, rows, 8)).toBe(8);
      expect([rows[OFFSET], rows[LENGTH], rows[STATUS]]).toEqual([64, OUTER + 100, 0]);
      const { got } = receive(b, 8);
      expect(got.map(({ first }) => first)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
      expect(got.map(({ tos }) => tos)).toEqual([184, 184, 184, 184, 184, 184, 185, 185]);
      for (const one of got) expect([one.length, one.peer, one.port % 4]).toEqual([100, left, 3]);
    },
  );

  it.each(['plain', 'sockets'] as const)(
    'cuts a super-frame, and each segment’s checksum holds, way %s',
    (way) => {
      const [a, b] = [portAt(LEFT, way), portAt(RIGHT, way)];
      const row = new Int32Array(ROW);
      const total = 40 + 20 + 9_000;
      const ip = 64 + OVERHEAD;
      putOuter(64, 5);
      arena.fill(0x5a, ip, ip + total);
      const view = viewOf(arena);
      putIpv6(view, ip, 0, total - 40, 6, 63);
      arena.set(ip6('fd65::2'), ip + 8);
      arena.set(ip6('fd65::3:2'), ip + 24);
      arena.fill(0, ip + 40, ip + 60);
      arena.set([0x50, 0x10], ip + 40 + 12);
      row[OFFSET] = 64;
      row[LENGTH] = OVERHEAD + total;
      row[ADDRESS] = right;
      row[SEGMENT] = 1370;
      row[OFFLOAD] = PARTIAL_CHECKSUM | SUPER_TCP6;
      row[CHECKSUM_START] = ip + 40;
      row[CHECKSUM_FIELD] = ip + 56;
      row[HEADERS_END] = ip + 60;
      expect(a.transmit(arena, row, 1)).toBe(1);
      const { frames } = receive(b, 7);
      // VXLAN and Ethernet, IPv6, TCP, payload.
      expect(frames.map((bytes) => bytes.length - 22 - 60)).toEqual([...new Array(6).fill(1370), 780]);
      for (const bytes of frames) {
        const length = bytes.length - 22 - 40;
        const pseudo = pseudoSum6(viewOf(bytes), 22, 6, length);
        expect(sum16(viewOf(bytes), 22 + 40, length, pseudo)).toBe(0xffff);
      }
    },
  );

  it('knows no stranger, and refuses what is too long for the path', () => {
    const [a, b] = [portAt(LEFT, 'sockets'), portAt(RIGHT, 'sockets')];
    peers.delete(words6(LEFT));
    const rows = new Int32Array(2 * ROW);
    putOuter(64, 9);
    for (const [i, length] of [100, 9000].entries()) {
      rows[i * ROW + OFFSET] = 64;
      rows[i * ROW + LENGTH] = OUTER + length;
      rows[i * ROW + ADDRESS] = right;
    }
    expect(a.transmit(arena, rows, 2)).toBe(1);
    // EMSGSIZE: nothing is fragmented.
    expect([rows[STATUS], rows[ROW + STATUS]]).toEqual([0, 90]);
    expect(receive(b, 1).got).toMatchObject([{ length: 100, peer: 0 }]);
  });

  it('says what is wrong', () => {
    const options = { netns, senders: 1, bufferBytes: 1 << 16 };
    expect(() => openVxlanSockets(native, { ...options, address: 'fd06::9' })).toThrow(
      `bind udp [fd06::9]:4789 in /run/netns/${netns}: EADDRNOTAVAIL`,
    );
    expect(() => native.udpOpen({ address6: '10.0.0.1', port: 1 })).toThrow(
      'address6 "10.0.0.1" is not IPv6',
    );
    const row = new Int32Array(ROW);
    row.set([47, 10]);
    expect(() => native.udp6Send(Int32Array.of(1), arena, row, 1, 4789, 0)).toThrow(
      'udp6Send: row 0 at 47 has no outer headers before it',
    );
  });
});
