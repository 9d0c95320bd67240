/** Cutting and joining against the kernel's own segmentation: the same bytes, whatever the super-frame. */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  BODY_LENGTH,
  BODY_OFFSET,
  CHECKED,
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  LENGTH,
  OFFLOAD,
  OFFSET,
  PARTIAL_CHECKSUM,
  PIECE,
  PIECES,
  ROW,
  SEGMENT,
  SEGMENTED,
  STATUS,
  SUPER_ECN,
  SUPER_MASK,
  SUPER_TCP4,
  SUPER_TCP6,
  SUPER_UDP,
} from '../memory/burst.ts';
import { BURST, HEADROOM, MAX_FRAME } from '../memory/layout.ts';
import { native as load } from '../native/index.ts';
import { put16, put32, sum16, viewOf } from '../wire/bytes.ts';
import { decrementTtl, putHeaderChecksum } from '../wire/ipv4.ts';
import { CUT_ROOM, Cutter, MAX_SEGMENTS, PREFIX_FIXED, PREFIX_IPV4 } from './cut.ts';
import { Joiner } from './join.ts';
import { describeUnfinished, isPlausible, splitJoined } from './received.ts';
import { transportPseudoSum } from './transport.ts';

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log('skipped: comparing with the kernel needs root, for TAP devices');

const native = load();
const ETHERNET = 14;
const IN_MAC = [2, 0, 0, 0, 1, 1];
const OUT_MAC = [2, 0, 0, 0, 2, 1];
const NEIGHBOUR = [2, 0, 0, 0, 2, 2];

interface SuperFrame {
  readonly family: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  readonly payload: number;
  readonly segment: number;
  readonly flags?: number;
  /** TCP options, a multiple of four bytes. */
  readonly options?: readonly number[];
  readonly ipOptions?: readonly number[];
  readonly id?: number;
  readonly sequence?: number;
  readonly tos?: number;
  /** Fills the payload. */
  readonly seed?: number;
}

const TIMESTAMPS = [1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7];
const SACK = [1, 1, 5, 10, 9, 9, 9, 9, 8, 8, 8, 8];
const FIN = 1;
const PSH = 8;
const ACK = 16;
const CWR = 128;

/** Write a super-frame at `offset` of an arena and describe it in a row. */
function build(frame: SuperFrame, arena: Uint8Array, rows: Int32Array, row: number, offset: number): void {
  const { family, protocol, payload, options = [], ipOptions = [], seed = 1 } = frame;
  const isTcp = protocol === 'tcp';
  const ip = offset + ETHERNET;
  const ipHeader = family === 4 ? 20 + ipOptions.length : 40;
  const transport = ip + ipHeader;
  const header = isTcp ? 20 + options.length : 8;
  const upper = header + payload;
  arena.fill(0, offset, transport + header);
  arena.set([...IN_MAC, 2, 0, 0, 0, 1, 2, ...(family === 4 ? [8, 0] : [0x86, 0xdd])], offset);
  if (family === 4) {
    arena.set([0x40 | (ipHeader / 4), frame.tos ?? 0], ip);
    put16(viewOf(arena), ip + 2, ipHeader + upper);
    put16(viewOf(arena), ip + 4, frame.id ?? 7);
    put16(viewOf(arena), ip + 6, 0x4000);
    arena.set([64, isTcp ? 6 : 17, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2, ...ipOptions], ip + 8);
    putHeaderChecksum(viewOf(arena), ip);
  } else {
    put32(viewOf(arena), ip, 0x60012345 | ((frame.tos ?? 0) << 20));
    put16(viewOf(arena), ip + 4, upper);
    arena.set([isTcp ? 6 : 17, 64], ip + 6);
    arena.set([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], ip + 8);
    arena.set([0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], ip + 24);
  }
  put16(viewOf(arena), transport, 40_000);
  put16(viewOf(arena), transport + 2, 5201);
  if (isTcp) {
    put32(viewOf(arena), transport + 4, frame.sequence ?? 1000);
    put32(viewOf(arena), transport + 8, 77);
    arena.set([(header / 4) << 4, frame.flags ?? ACK, 1, 0], transport + 12);
    arena.set(options, transport + 20);
  } else {
    put16(viewOf(arena), transport + 4, upper);
  }
  let state = seed;
  for (let i = 0; i < payload; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    arena[transport + header + i] = state >>> 16;
  }
  const field = transport + (isTcp ? 16 : 6);
  put16(viewOf(arena), field, transportPseudoSum(viewOf(arena), ip, isTcp ? 6 : 17, upper));
  rows.fill(0, row, row + ROW);
  rows[row + OFFSET] = offset;
  rows[row + LENGTH] = ETHERNET + ipHeader + upper;
  rows[row + SEGMENT] = frame.segment;
  rows[row + OFFLOAD] =
    PARTIAL_CHECKSUM |
    (isTcp ? (family === 4 ? SUPER_TCP4 : SUPER_TCP6) : SUPER_UDP) |
    (isTcp && (frame.flags ?? 0) & CWR ? SUPER_ECN : 0);
  rows[row + CHECKSUM_START] = transport;
  rows[row + CHECKSUM_FIELD] = field;
  rows[row + HEADERS_END] = transport + header;
}

const name = (frame: SuperFrame) => JSON.stringify(frame);

const corpus: SuperFrame[] = (['tcp', 'udp'] as const).flatMap((protocol) =>
  ([4, 6] as const).flatMap((family): SuperFrame[] => {
    const frame = { protocol, family };
    const sizes: SuperFrame[] = [
      { ...frame, payload: 2800, segment: 1400 },
      { ...frame, payload: 2801, segment: 1400 },
      { ...frame, payload: 65_000, segment: 1399 },
      { ...frame, payload: 5000, segment: 333, tos: 0xba },
      { ...frame, payload: 1401, segment: 1400, id: 0xffff },
    ];
    if (protocol === 'udp') return sizes;
    return [
      ...sizes,
      { ...frame, payload: 4000, segment: 1388, flags: ACK | PSH, options: TIMESTAMPS },
      { ...frame, payload: 4000, segment: 1388, flags: ACK | FIN | PSH, options: SACK },
      { ...frame, payload: 4000, segment: 1400, flags: ACK | CWR | PSH, tos: 2 },
      { ...frame, payload: 4001, segment: 1399, flags: ACK | CWR, sequence: 0xfffffff0 },
      ...(family === 4 ? [{ ...frame, payload: 3000, segment: 1000, ipOptions: [1, 1, 1, 0] }] : []),
    ];
  }),
);

describe.skipIf(!isRoot)('beside the kernel', () => {
  const netns = `tto${process.pid}`;
  const ip = (...args: string[]) => execFileSync('ip', ['-n', netns, ...args], { stdio: 'pipe' });
  const arena = new Uint8Array(BURST * (HEADROOM + MAX_FRAME + 128) + CUT_ROOM);
  const rows = new Int32Array((BURST + 2 * MAX_SEGMENTS) * ROW);
  let input: ReturnType<typeof native.tapOpen>;
  let output: ReturnType<typeof native.tapOpen>;
  let sender: number;
  let receiver: number;
  const port = 21_000 + (process.pid % 4000);
  const epoll = native.epollCreate();

  beforeAll(() => {
    execFileSync('ip', ['netns', 'add', netns]);
    const sysctl = (...values: string[]) =>
      execFileSync('ip', ['netns', 'exec', netns, 'sysctl', '-qw', ...values]);
    sysctl('net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1', 'net.ipv6.conf.default.accept_dad=0');
    sysctl(
      'net.ipv6.conf.default.router_solicitations=0',
      'net.ipv6.conf.default.mldv1_unsolicited_report_interval=0',
    );
    input = native.tapOpen({ netns, name: 'in0', mac: Uint8Array.from(IN_MAC), up: true, offloads: true });
    output = native.tapOpen({ netns, name: 'out0', mac: Uint8Array.from(OUT_MAC), up: true });
    ip('link', 'set', 'lo', 'up');
    ip('addr', 'add', '10.1.0.1/24', 'dev', 'in0');
    ip('addr', 'add', '10.2.0.1/24', 'dev', 'out0');
    ip('-6', 'addr', 'add', 'fd00:1::1/64', 'dev', 'in0', 'nodad');
    ip('-6', 'addr', 'add', 'fd00:2::1/64', 'dev', 'out0', 'nodad');
    for (const address of ['10.2.0.2', 'fd00:2::2']) {
      ip(
        'neigh',
        'add',
        address,
        'lladdr',
        NEIGHBOUR.map((byte) => byte.toString(16)).join(':'),
        'dev',
        'out0',
      );
    }
    // Any bytes travel through these, up to 64 KiB.
    receiver = native.udpOpen({ netns, address: 0x7f000001, port, bufferBytes: 8 << 20 });
    sender = native.udpOpen({ netns, address: 0x7f000001, port: 0 });
    native.epollAdd(epoll, output.fds[0]!, 1);
    native.epollAdd(epoll, receiver, 2);
  });
  afterAll(() => {
    for (const fd of [...(input?.fds ?? []), ...(output?.fds ?? []), sender, receiver, epoll]) {
      if (fd !== undefined) native.close(fd);
    }
    execFileSync('ip', ['netns', 'del', netns]);
  });

  /** The packets that the kernel makes of a super-frame, from their Ethernet header on. */
  function kernelSegments(frame: SuperFrame): Buffer[] {
    const head = new Int32Array(ROW);
    build(frame, arena, head, 0, HEADROOM);
    head[HEADERS_END] = 0;
    expect(native.tapWrite(input.fds[0]!, arena, head, 1, input.vnetHeader)).toBe(1);
    const total = Math.ceil(frame.payload / frame.segment);
    const segments: Buffer[] = [];
    const into = new Uint8Array(arena.length);
    while (segments.length < total) {
      if (native.epollWait(epoll, new Int32Array(1), 5000) === 0) break;
      const count = native.tapRead(output.fds[0]!, into, rows, BURST, 0, HEADROOM, 0);
      for (let row = 0; row < count * ROW; row += ROW) {
        const packet = Buffer.from(into.slice(rows[row + OFFSET], rows[row + OFFSET]! + rows[row + LENGTH]!));
        // The kernel says things of its own on a device: those have other addresses.
        if (packet.subarray(0, 6).equals(Buffer.from(NEIGHBOUR))) segments.push(packet);
      }
    }
    return segments;
  }

  /** The same packets by ours, sent and received as datagrams so that the addon completes them. */
  function ourSegments(frame: SuperFrame, runs: boolean): Buffer[] {
    const head = new Int32Array((1 + MAX_SEGMENTS) * ROW);
    build(frame, arena, head, 0, HEADROOM);
    arena.set([...NEIGHBOUR, ...OUT_MAC], HEADROOM);
    if (frame.family === 4) decrementTtl(viewOf(arena), HEADROOM + ETHERNET);
    else arena[HEADROOM + ETHERNET + 7]! -= 1;
    const cutter = new Cutter(arena, arena.length - CUT_ROOM);
    cutter.begin(1);
    const size = head[HEADERS_END]! - head[OFFSET]! + frame.segment;
    expect(cutter.cut(head, 0, HEADROOM + ETHERNET, PREFIX_FIXED)).toBe(true);
    head[SEGMENT] = runs ? size : 0;
    head[3] = 0x7f000001;
    expect(native.udpSend(Int32Array.of(sender), arena, head, 1, port, 0)).toBe(1);
    const segments: Buffer[] = [];
    const into = new Uint8Array(arena.length);
    while (segments.length < head[PIECES]!) {
      expect(native.epollWait(epoll, new Int32Array(1), 5000)).toBe(1);
      const count = native.udpReceive(receiver, into, rows, BURST, 0, HEADROOM);
      for (let row = 0; row < count * ROW; row += ROW) {
        segments.push(Buffer.from(into.slice(rows[row + OFFSET], rows[row + OFFSET]! + rows[row + LENGTH]!)));
      }
    }
    return segments;
  }

  it.each(corpus.map((frame) => [name(frame), frame] as const))(
    'cuts as the kernel does: %s',
    (_name, frame) => {
      const kernel = kernelSegments(frame);
      expect(kernel.length).toBe(Math.ceil(frame.payload / frame.segment));
      for (const runs of [false, true]) {
        const ours = ourSegments(frame, runs);
        expect(ours.length).toBe(kernel.length);
        for (const [i, segment] of kernel.entries())
          expect(ours[i]!.toString('hex')).toBe(segment.toString('hex'));
      }
    },
  );

  it('cuts as the kernel does, whatever the sizes and flags', () => {
    const frames = fc.record({
      family: fc.constantFrom(4 as const, 6 as const),
      protocol: fc.constantFrom('tcp' as const, 'udp' as const),
      payload: fc.integer({ min: 600, max: 20_000 }),
      segment: fc.integer({ min: 300, max: 1400 }),
      flags: fc.integer({ min: 0, max: 255 }).map((bits) => (bits & (FIN | PSH | CWR | 0x40)) | ACK),
      options: fc.constantFrom([], TIMESTAMPS, SACK),
      id: fc.integer({ min: 0, max: 65535 }),
      sequence: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      seed: fc.integer(),
    });
    fc.assert(
      fc.property(frames, (frame) => {
        fc.pre(frame.payload > frame.segment && frame.payload / frame.segment < 60);
        expect(ourSegments(frame, true).map((bytes) => bytes.toString('hex'))).toEqual(
          kernelSegments(frame).map((bytes) => bytes.toString('hex')),
        );
      }),
      { numRuns: 60 },
    );
  });

  it.each(
    corpus
      .filter(({ protocol, ipOptions }) => protocol === 'tcp' && !ipOptions)
      .map((frame) => [name(frame), frame] as const),
  )('joins what the kernel cut, and cuts it to the same again: %s', (_name, frame) => {
    const segments = kernelSegments(frame);
    const burst = new Int32Array(segments.length * ROW);
    lay(segments, arena, burst);
    const joiner = new Joiner(native, arena);
    expect(joiner.join(burst, segments.length)).toBe(1);
    const head = joiner.rows;
    expect(head[SEGMENT]).toBe(frame.segment);
    expect(head[PIECES]).toBe(segments.length - 1);
    expect(!!(head[OFFLOAD]! & SUPER_ECN)).toBe(!!((frame.flags ?? 0) & CWR));
    // One behind the other, as a TAP gets it.
    const whole = flatten(arena, joiner.rows, 0);
    const offset = BURST * 1024 * 32;
    arena.set(whole, offset);
    const again = new Int32Array((1 + MAX_SEGMENTS) * ROW);
    again.set(head.subarray(0, ROW));
    const moved = offset - head[OFFSET]!;
    again[OFFSET] = offset;
    again[LENGTH] = whole.length;
    for (const cell of [CHECKSUM_START, CHECKSUM_FIELD, HEADERS_END]) again[cell]! += moved;
    again[PIECES] = 0;
    expect(isPlausible(viewOf(arena), again, 0, offset + ETHERNET, whole.length - ETHERNET)).toBe(true);
    const cutter = new Cutter(arena, arena.length - CUT_ROOM);
    cutter.begin(1);
    expect(cutter.cut(again, 0, offset + ETHERNET, PREFIX_FIXED)).toBe(true);
    expect(again[PIECES]).toBe(segments.length);
    for (const [i, segment] of segments.entries()) {
      expect(completed(arena, again, (again[PIECE]! + i) * ROW).toString('hex')).toBe(
        segment.toString('hex'),
      );
    }
  });
});

/** Put packets into an arena as if received from a tunnel's wire. */
function lay(packets: readonly Uint8Array[], arena: Uint8Array, burst: Int32Array): void {
  let offset = HEADROOM;
  for (const [i, packet] of packets.entries()) {
    arena.set(packet, offset);
    burst.fill(0, i * ROW, (i + 1) * ROW);
    burst[i * ROW + OFFSET] = offset;
    burst[i * ROW + LENGTH] = packet.length;
    burst[i * ROW + OFFLOAD] = SEGMENTED;
    offset += packet.length;
  }
}

function flatten(arena: Uint8Array, rows: Int32Array, row: number): Buffer {
  const parts = [arena.slice(rows[row + OFFSET], rows[row + OFFSET]! + rows[row + LENGTH]!)];
  for (let i = 0; i < rows[row + PIECES]!; i++) {
    const piece = (rows[row + PIECE]! + i) * ROW;
    parts.push(arena.slice(rows[piece + OFFSET], rows[piece + OFFSET]! + rows[piece + LENGTH]!));
  }
  return Buffer.concat(parts);
}

/** A cut packet with its checksum completed, by the plain definition. */
function completed(arena: Uint8Array, rows: Int32Array, piece: number): Buffer {
  const packet = Buffer.concat([
    arena.slice(rows[piece + OFFSET], rows[piece + OFFSET]! + rows[piece + LENGTH]!),
    arena.slice(rows[piece + BODY_OFFSET], rows[piece + BODY_OFFSET]! + rows[piece + BODY_LENGTH]!),
  ]);
  const start = rows[piece + CHECKSUM_START]! - rows[piece + OFFSET]!;
  const field = rows[piece + CHECKSUM_FIELD]! - rows[piece + OFFSET]!;
  packet.writeUInt16BE(~sum16(viewOf(packet), start, packet.length - start, 0) & 0xffff, field);
  return packet;
}

/** The segments of a TCP super-frame by ours, complete. */
function segmentsOf(frame: SuperFrame): Buffer[] {
  const arena = new Uint8Array(80_000 + CUT_ROOM);
  const rows = new Int32Array((1 + MAX_SEGMENTS) * ROW);
  build(frame, arena, rows, 0, HEADROOM);
  const cutter = new Cutter(arena, 80_000);
  cutter.begin(1);
  expect(cutter.cut(rows, 0, HEADROOM + ETHERNET, PREFIX_FIXED)).toBe(true);
  return Array.from({ length: rows[PIECES]! }, (_, i) => completed(arena, rows, (1 + i) * ROW));
}

describe('joining', () => {
  const frame: SuperFrame = { family: 4, protocol: 'tcp', payload: 5000, segment: 1000, options: TIMESTAMPS };
  const arena = new Uint8Array(1 << 20);
  const join = (packets: readonly Buffer[]) => {
    const burst = new Int32Array(packets.length * ROW);
    lay(packets, arena, burst);
    const joiner = new Joiner(native, arena);
    const count = joiner.join(burst, packets.length);
    const segments = Array.from({ length: count }, (_, i) => 1 + joiner.rows[i * ROW + PIECES]!);
    return { joiner, burst, segments };
  };
  const changed = (index: number, change: (packet: Buffer) => void, fix = true) => {
    const packets = segmentsOf(frame);
    change(packets[index]!);
    if (fix) {
      const packet = packets[index]!;
      packet.writeUInt16BE(0, 50);
      const length = packet.length - 34;
      const pseudo = transportPseudoSum(viewOf(packet), ETHERNET, 6, length);
      packet.writeUInt16BE(~sum16(viewOf(packet), 34, length, pseudo) & 0xffff, 50);
      putHeaderChecksum(viewOf(packet), ETHERNET);
    }
    return packets;
  };

  it.each<[string, number[], Buffer[]]>([
    ['all of a flow', [5], segmentsOf(frame)],
    [
      'two flows, one behind the other',
      [5, 4],
      [...segmentsOf(frame), ...segmentsOf({ ...frame, payload: 4000, sequence: 9 })],
    ],
    ['nothing behind PSH', [2, 3], changed(1, (packet) => (packet[47]! |= PSH))],
    ['nothing behind FIN', [2, 3], changed(1, (packet) => (packet[47]! |= FIN))],
    ['no CWR but on the first', [2, 3], changed(2, (packet) => (packet[47]! |= CWR))],
    ['no SYN', [2, 1, 2], changed(2, (packet) => (packet[47]! |= 2))],
    ['no URG', [2, 1, 2], changed(2, (packet) => (packet[47]! |= 32))],
    ['no other ACK number', [2, 1, 2], changed(2, (packet) => packet.writeUInt32BE(78, 42))],
    ['no other window', [2, 1, 2], changed(2, (packet) => packet.writeUInt16BE(9, 48))],
    ['no other options', [2, 1, 2], changed(2, (packet) => (packet[60] = 99))],
    ['no other TOS', [2, 1, 2], changed(2, (packet) => (packet[15] = 4))],
    ['no other TTL', [2, 1, 2], changed(2, (packet) => (packet[22] = 63))],
    ['no other fragment flags', [2, 1, 2], changed(2, (packet) => packet.writeUInt16BE(0, 20))],
    [
      'no jump of the identification',
      [2, 3],
      changed(2, (packet) => packet, true).map((packet, i) => {
        if (i >= 2) {
          packet.writeUInt16BE(500 + i, 18);
          putHeaderChecksum(viewOf(packet), ETHERNET);
        }
        return packet;
      }),
    ],
    ['no gap in the sequence', [2, 2], segmentsOf(frame).filter((_, i) => i !== 2)],
    ['nothing out of order', [1, 1, 3], (([a, b, ...rest]) => [b!, a!, ...rest])(segmentsOf(frame))],
    ['no wrong checksum', [2, 1, 2], changed(2, (packet) => (packet[200]! ^= 1), false)],
    ['nothing from another flow', [2, 1, 2], changed(2, (packet) => packet.writeUInt16BE(1, 34))],
  ])('takes %s', (_name, expected, packets) => {
    expect(join(packets).segments).toEqual(expected);
  });

  it('marks a lone segment whose checksum held, and no other', () => {
    const packets = changed(2, (packet) => (packet[200]! ^= 1), false);
    const { joiner } = join([packets[0]!, packets[2]!]);
    expect(joiner.rows[OFFLOAD]! & CHECKED).toBe(CHECKED);
    expect(joiner.rows[ROW + OFFLOAD]! & CHECKED).toBe(0);
  });

  it('never makes a packet of more than 65,535 bytes, and loses none', () => {
    const one = segmentsOf({ ...frame, payload: 60_000, segment: 1400 });
    const next = segmentsOf({
      ...frame,
      payload: 60_000,
      segment: 1400,
      sequence: 61_000,
      id: 7 + one.length,
    });
    // The last of the first is shorter, so cut it off: the rest goes on seamlessly.
    const { segments, joiner } = join([...one.slice(0, -1), ...next]);
    expect(segments.reduce((sum, count) => sum + count)).toBe(one.length - 1 + next.length);
    for (let i = 0; i < segments.length; i++) {
      expect(flatten(arena, joiner.rows, i * ROW).length - ETHERNET).toBeLessThanOrEqual(65_535);
    }
  });

  it('tells each row what became of its frame', () => {
    const { joiner, burst } = join(changed(2, (packet) => (packet[200]! ^= 1), false));
    joiner.rows[ROW + STATUS] = 11;
    joiner.settle(burst, 5);
    expect(Array.from({ length: 5 }, (_, i) => burst[i * ROW + STATUS])).toEqual([0, 0, 11, 0, 0]);
  });
});

describe('an outer header', () => {
  it('is made to fit each packet', () => {
    const arena = new Uint8Array(80_000 + CUT_ROOM);
    const rows = new Int32Array((1 + MAX_SEGMENTS) * ROW);
    build({ family: 4, protocol: 'tcp', payload: 3000, segment: 1400 }, arena, rows, 0, HEADROOM);
    const ip = HEADROOM + ETHERNET;
    const outer = ip - 20;
    arena.set([0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, 4, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2], outer);
    rows[LENGTH]! += 20 - ETHERNET;
    rows[OFFSET] = outer;
    const cutter = new Cutter(arena, 80_000);
    cutter.begin(1);
    expect(cutter.cut(rows, 0, ip, PREFIX_IPV4)).toBe(true);
    const packets = [1, 2, 3].map((i) => completed(arena, rows, i * ROW));
    expect(packets.map((packet) => packet.readUInt16BE(2))).toEqual([1460, 1460, 260]);
    expect(packets.map((packet) => packet.readUInt16BE(4))).toEqual([0xffff, 0, 1]);
    for (const packet of packets) {
      expect(packet.readUInt16BE(2)).toBe(packet.length);
      expect(sum16(viewOf(packet), 0, 20, 0)).toBe(0xffff);
      expect(sum16(viewOf(packet), 20, 20, 0)).toBe(0xffff);
    }
  });
});

describe('limits', () => {
  it('refuses more segments than there is room for, and changes nothing', () => {
    const arena = new Uint8Array(80_000 + CUT_ROOM);
    const rows = new Int32Array((1 + MAX_SEGMENTS) * ROW);
    build({ family: 4, protocol: 'tcp', payload: 60_000, segment: 40 }, arena, rows, 0, HEADROOM);
    const before = rows.slice();
    const cutter = new Cutter(arena, 80_000);
    cutter.begin(1);
    expect(cutter.cut(rows, 0, HEADROOM + ETHERNET, PREFIX_FIXED)).toBe(false);
    expect(rows).toEqual(before);
  });

  it.each<[string, Partial<Record<number, number>>]>([
    ['a checksum that begins before the packet', { [CHECKSUM_START]: HEADROOM }],
    ['a checksum field behind the packet', { [CHECKSUM_FIELD]: 70_000 }],
    ['a checksum field before its start', { [CHECKSUM_FIELD]: HEADROOM }],
    [
      'a checksum that begins elsewhere',
      { [CHECKSUM_START]: HEADROOM + 14 + 22, [CHECKSUM_FIELD]: HEADROOM + 14 + 38 },
    ],
    ['no segment size', { [SEGMENT]: 0 }],
    ['the other family', { [OFFLOAD]: PARTIAL_CHECKSUM | SUPER_TCP6 }],
    ['the other protocol', { [OFFLOAD]: PARTIAL_CHECKSUM | SUPER_UDP }],
    ['no partial checksum', { [OFFLOAD]: SUPER_TCP4 }],
    ['ECN of UDP', { [OFFLOAD]: PARTIAL_CHECKSUM | SUPER_UDP | SUPER_ECN }],
    ['an unknown kind', { [OFFLOAD]: PARTIAL_CHECKSUM | 3 }],
  ])('sees a lie: %s', (_name, lie) => {
    const arena = new Uint8Array(80_000);
    const rows = new Int32Array(ROW);
    const frame: SuperFrame = { family: 4, protocol: 'tcp', payload: 3000, segment: 1400 };
    build(frame, arena, rows, 0, HEADROOM);
    const ip = HEADROOM + ETHERNET;
    expect(isPlausible(viewOf(arena), rows, 0, ip, 3040)).toBe(true);
    for (const [cell, value] of Object.entries(lie)) rows[Number(cell)] = value!;
    expect(isPlausible(viewOf(arena), rows, 0, ip, 3040)).toBe(false);
  });

  it('judges any description without reading beyond the packet', () => {
    const arena = new Uint8Array(80_000);
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -10, max: 90_000 }), { minLength: ROW, maxLength: ROW }),
        (cells) => {
          const rows = Int32Array.from(cells);
          build(
            { family: 4, protocol: 'tcp', payload: 100, segment: 50 },
            arena,
            new Int32Array(ROW),
            0,
            HEADROOM,
          );
          const good = isPlausible(viewOf(arena), rows, 0, HEADROOM + ETHERNET, 140);
          if (good && rows[OFFLOAD]! & SUPER_MASK) {
            expect(rows[CHECKSUM_START]).toBe(HEADROOM + 34);
            expect(rows[HEADERS_END]).toBe(HEADROOM + 54);
          }
        },
      ),
    );
  });
});

describe('what was received', () => {
  const inner = 22;
  const datagrams = (sizes: readonly number[], segment: number, arena: Uint8Array) => {
    const rows = new Int32Array(ROW);
    let offset = HEADROOM;
    for (const size of sizes) {
      arena.fill(0, offset, offset + size);
      arena[offset + inner] = 0x45;
      put16(viewOf(arena), offset + inner + 2, size - inner);
      offset += size;
    }
    rows[OFFSET] = HEADROOM;
    rows[LENGTH] = offset - HEADROOM;
    rows[SEGMENT] = segment;
    return rows;
  };

  it('is split into the datagrams that the kernel joined', () => {
    const arena = new Uint8Array(8192);
    const to = new Int32Array(64 * ROW);
    const count = splitJoined(viewOf(arena), datagrams([100, 100, 60], 100, arena), 1, to, inner);
    const seen = Array.from({ length: count }, (_, i) => [
      to[i * ROW + OFFSET],
      to[i * ROW + LENGTH],
      to[i * ROW + SEGMENT],
    ]);
    expect(seen).toEqual([
      [HEADROOM, 100, 0],
      [HEADROOM + 100, 100, 0],
      [HEADROOM + 200, 60, 0],
    ]);
  });

  it('stays whole if it is one super-frame of UDP, which brings its segment size', () => {
    const arena = new Uint8Array(8192);
    const to = new Int32Array(64 * ROW);
    expect(splitJoined(viewOf(arena), datagrams([3000], 1000, arena), 1, to, inner)).toBe(1);
    expect([to[LENGTH], to[SEGMENT]]).toEqual([3000, 1000]);
  });

  it('keeps an empty datagram, which is a frame too short', () => {
    const arena = new Uint8Array(8192);
    const to = new Int32Array(64 * ROW);
    expect(splitJoined(viewOf(arena), datagrams([0], 0, arena), 1, to, inner)).toBe(1);
  });

  it.each([4, 6] as const)('whole and unfinished is described: IPv%i', (family) => {
    const arena = new Uint8Array(80_000);
    const rows = new Int32Array(ROW);
    build(
      { family, protocol: 'tcp', payload: 9000, segment: 1, options: TIMESTAMPS },
      arena,
      rows,
      0,
      HEADROOM,
    );
    const ip = HEADROOM + ETHERNET;
    const total = rows[LENGTH]! - ETHERNET;
    rows[OFFLOAD] = SEGMENTED;
    rows[SEGMENT] = 0;
    describeUnfinished(viewOf(arena), rows, 0, ip, total, 1450);
    const header = family === 4 ? 20 : 40;
    expect(rows[SEGMENT]).toBe(1450 - header - 32);
    expect(rows[CHECKSUM_START]).toBe(ip + header);
    expect(isPlausible(viewOf(arena), rows, 0, ip, total)).toBe(true);
  });

  it('complete but larger than any wire carries is made partial, only if its checksum holds', () => {
    const arena = new Uint8Array(80_000);
    const rows = new Int32Array(ROW);
    for (const corrupt of [false, true]) {
      build({ family: 4, protocol: 'tcp', payload: 9000, segment: 1 }, arena, rows, 0, HEADROOM);
      const [ip, transport, total] = [HEADROOM + 14, HEADROOM + 34, rows[LENGTH]! - ETHERNET];
      put16(viewOf(arena), transport + 16, ~sum16(viewOf(arena), transport, total - 20, 0) & 0xffff);
      if (corrupt) arena[transport + 30]! ^= 1;
      rows[OFFLOAD] = SEGMENTED;
      rows[SEGMENT] = 0;
      describeUnfinished(viewOf(arena), rows, 0, ip, total, 1450);
      expect((rows[OFFLOAD]! & SUPER_TCP4) !== 0).toBe(!corrupt);
    }
  });
});
