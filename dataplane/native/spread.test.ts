/** Sockets that share what comes: raw sockets by their filters, UDP sockets by the kernel's own hash. */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADDRESS, LENGTH, OFFSET, ROW, UDP_PORT } from '../memory/burst.ts';
import { BURST, HEADROOM, MAX_FRAME } from '../memory/layout.ts';
import { put16, put32, viewOf } from '../wire/bytes.ts';
import { MORE_FRAGMENTS, PROTOCOL_IPIP, PROTOCOL_TCP, PROTOCOL_UDP, putIpv4 } from '../wire/ipv4.ts';
import { native as load } from './index.ts';

const native = load();
const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log('spread.test.ts: skipped: raw sockets and namespaces need root');
const LOOPBACK = 0x7f000001;

const arena = new Uint8Array(BURST * (HEADROOM + MAX_FRAME + 128));
const rows = new Int32Array(BURST * ROW);

describe.skipIf(!isRoot)('sockets that share a tunnel', () => {
  const netns = `tts${process.pid}`;
  const COUNT = 5;
  let sender: number;
  let sockets: number[];

  beforeAll(() => {
    execFileSync('ip', ['netns', 'add', netns]);
    execFileSync('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
    const address = LOOPBACK;
    sender = native.rawOpen({ netns, address, protocol: 255, headerIncluded: true });
    sockets = Array.from({ length: COUNT }, () =>
      native.rawOpen({ netns, address, protocol: PROTOCOL_IPIP, bufferBytes: 8 << 20 }),
    );
    sockets.forEach((fd, index) => {
      native.socketSpread(fd, { index, count: COUNT });
    });
  });
  afterAll(() => {
    for (const fd of [sender, ...sockets]) native.close(fd);
    execFileSync('ip', ['netns', 'del', netns]);
  });

  /** Send each in IPIP, some with outer options; the sockets that got each. Delivery over loopback ends before the call does. */
  function send(packets: Uint8Array[]): number[][] {
    const got: number[][] = packets.map(() => []);
    for (let first = 0; first < packets.length; first += BURST) {
      const some = packets.slice(first, first + BURST);
      some.forEach((inner, i) => {
        const at = i * 256;
        const header = i % 3 === 2 ? 24 : 20;
        rows[i * ROW + OFFSET] = at;
        rows[i * ROW + LENGTH] = header + inner.length;
        rows[i * ROW + ADDRESS] = LOOPBACK;
        putIpv4(viewOf(arena), at, 0, header + inner.length, i + 1, 0, 64, PROTOCOL_IPIP, LOOPBACK, LOOPBACK);
        if (header === 24) arena.set([0x46], at);
        arena.set([1, 1, 1, 0], at + 20);
        arena.set(inner, at + header);
      });
      expect(native.rawSend(sender, arena, rows, some.length)).toBe(some.length);
      sockets.forEach((fd, index) => {
        for (let n = BURST; n === BURST; ) {
          n = native.rawReceive(fd, arena, rows, BURST, 0, HEADROOM);
          for (let i = 0; i < n; i++) {
            const at = rows[i * ROW + OFFSET];
            const id = (arena[at + 4] << 8) | arena[at + 5];
            got[first + id - 1].push(index);
          }
        }
      });
    }
    return got;
  }

  interface Flow {
    readonly version: 4 | 6;
    readonly source: number;
    readonly destination: number;
    readonly protocol: number;
    readonly ports: number;
  }
  const flow = fc.record<Flow>({
    version: fc.constantFrom(4, 6),
    source: fc.integer(),
    destination: fc.integer(),
    protocol: fc.constantFrom(PROTOCOL_TCP, PROTOCOL_UDP, 1, 58, 132),
    ports: fc.integer(),
  });

  /** A packet of the flow: `varied` is whatever else may differ among packets of one. */
  function packet(of: Flow, varied: number, fragment = 0): Uint8Array {
    const bytes = new Uint8Array(100);
    const view = viewOf(bytes);
    const options = of.version === 4 && varied & 1 ? 4 : 0;
    const transport = of.version === 4 ? 20 + options : 40;
    if (of.version === 4) {
      putIpv4(
        view,
        0,
        varied & 0xff,
        100,
        varied & 0xffff,
        fragment,
        64,
        of.protocol,
        of.source,
        of.destination,
      );
      bytes[0] += options >> 2;
    } else {
      put32(view, 0, 0x60000000 | (varied & 0xfffff));
      bytes[6] = of.protocol;
      bytes[7] = varied;
      for (let i = 8; i < 40; i += 4) put32(view, i, i < 24 ? of.source : of.destination);
    }
    const hasPorts = of.protocol === PROTOCOL_TCP || of.protocol === PROTOCOL_UDP;
    put32(view, transport, hasPorts ? of.ports : varied);
    put32(view, transport + 4, varied);
    return bytes;
  }

  it('gives every packet to one of them, and a flow always to the same', () => {
    fc.assert(
      fc.property(fc.array(flow, { minLength: 1, maxLength: 20 }), (flows) => {
        const got = send(flows.flatMap((of) => [0, 1, -1].map((varied) => packet(of, varied))));
        for (let i = 0; i < got.length; i += 3) {
          expect(got[i]).toHaveLength(1);
          expect(got[i + 1]).toEqual(got[i]);
          expect(got[i + 2]).toEqual(got[i]);
        }
      }),
    );
  });

  it('gives all fragments of a packet to one', () => {
    fc.assert(
      fc.property(fc.array(flow, { minLength: 1, maxLength: 20 }), (flows) => {
        const got = send(
          flows.flatMap((of) => [
            packet({ ...of, version: 4 }, 2, MORE_FRAGMENTS),
            packet({ ...of, version: 4, ports: of.ports ^ 0x5555 }, 4, MORE_FRAGMENTS | 10),
            packet({ ...of, version: 4, ports: of.ports ^ 0xaaaa }, 6, 20),
          ]),
        );
        for (let i = 0; i < got.length; i += 3) {
          expect(got[i]).toHaveLength(1);
          expect(got[i + 1]).toEqual(got[i]);
          expect(got[i + 2]).toEqual(got[i]);
        }
      }),
    );
  });

  it('loses nothing that is cut short or makes no sense', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 20 }), flow, (bytes, of) => {
        const whole = packet(of, 1);
        const short = Array.from({ length: whole.length }, (_, length) => whole.subarray(0, length));
        for (const got of send([...bytes, ...short])) expect(got).toHaveLength(1);
      }),
    );
  });

  it('spreads flows evenly, whichever part of them differs', () => {
    const flows = (differ: (i: number) => Partial<Flow>) =>
      Array.from({ length: 1000 }, (_, i) =>
        packet(
          {
            version: 4,
            source: 0x0a640001,
            destination: 0x0a640102,
            protocol: PROTOCOL_TCP,
            ports: 0x9c401389,
            ...differ(i),
          },
          0,
        ),
      );
    for (const version of [4, 6] as const)
      for (const differ of [
        (i: number) => ({ version, ports: (40_000 + i) * 65_536 + 5201 }),
        (i: number) => ({ version, ports: (5201 << 16) | (40_000 + i) }),
        (i: number) => ({ version, source: 0x0a640001 + i }),
        (i: number) => ({ version, destination: 0x0a640001 + i * 64, protocol: 1 }),
      ]) {
        const shares = sockets.map(() => 0);
        for (const [index] of send(flows(differ))) shares[index]++;
        for (const share of shares) {
          expect(share).toBeGreaterThan((0.75 * 1000) / COUNT);
          expect(share).toBeLessThan((1.25 * 1000) / COUNT);
        }
      }
  });

  it('can be told of other shares later', () => {
    const fd = sockets[0];
    const packets = Array.from({ length: 50 }, (_, i) =>
      packet({ version: 4, source: i, destination: i, protocol: 1, ports: 0 }, 0),
    );
    const before = send(packets);
    native.socketSpread(fd, { index: 0, count: 1 });
    expect(send(packets).every((got) => got[0] === 0)).toBe(true);
    native.socketSpread(fd, { index: 0, count: COUNT });
    expect(send(packets)).toEqual(before);
  });

  it('on UDP: every datagram to one, a source port always to the same, none left out', () => {
    const receivers = Array.from({ length: 4 }, () =>
      native.udpOpen({ netns, address: LOOPBACK, port: 4789, reusePort: true, bufferBytes: 8 << 20 }),
    );
    const senders = Array.from({ length: 256 }, () => native.udpOpen({ netns, address: LOOPBACK, port: 0 }));
    const bytes = new Uint8Array(64);
    for (const [i, fd] of senders.entries())
      for (let k = 0; k < 3; k++) {
        put16(viewOf(bytes), 0, i);
        rows.set([0, 64, 0, LOOPBACK], 0);
        expect(native.udpSend(Int32Array.of(fd), bytes, rows, 1, 4789, 0)).toBe(1);
      }
    const seen = new Map<number, number[]>();
    const shares = receivers.map((fd, index) => {
      let share = 0;
      for (let n = BURST; n === BURST; share += n) {
        n = native.udpReceive(fd, arena, rows, BURST, 0, HEADROOM);
        for (let i = 0; i < n; i++) {
          const port = rows[i * ROW + UDP_PORT];
          seen.set(port, [...(seen.get(port) ?? []), index]);
        }
      }
      return share;
    });
    for (const fd of [...receivers, ...senders]) native.close(fd);
    expect(seen.size).toBe(256);
    for (const [first, ...rest] of seen.values()) expect(rest).toEqual([first, first]);
    // 64 flows each on average; six standard deviations below.
    for (const share of shares) expect(share).toBeGreaterThan(3 * 22);
  });

  it('refuses shares that are none', () => {
    expect(() => native.socketSpread(sockets[0], { index: 3, count: 3 })).toThrow(RangeError);
    expect(() => native.socketSpread(sockets[0], { index: 0, count: 65 })).toThrow(RangeError);
    expect(() => native.socketSpread(1_000_000, { index: 0, count: 2 })).toThrow(
      'setsockopt SO_ATTACH_FILTER descriptor 1000000: EBADF, the descriptor is not open',
    );
  });
});
