/** The mark of IPIP super-frames, seen from where the kernel has cut them. */
import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  LENGTH,
  OFFLOAD,
  OFFSET,
  PARTIAL_CHECKSUM,
  ROW,
  SEGMENT,
  SUPER_TCP4,
} from '../memory/burst.ts';
import { BURST, HEADROOM, MAX_FRAME } from '../memory/layout.ts';
import { put16, put32, viewOf } from '../wire/bytes.ts';
import { DONT_FRAGMENT, PROTOCOL_IPIP, PROTOCOL_TCP, pseudoSum, putIpv4 } from '../wire/ipv4.ts';
import { native as load } from './index.ts';

const native = load();
const isRoot = process.getuid?.() === 0;
const supported = isRoot && native.ipipMarkSupported();
if (!supported)
  console.log(
    `bpf.test.ts: skipped: ${isRoot ? 'the kernel takes no BPF program from us' : 'namespaces and BPF need root'}`,
  );

const MTU = 1500;
const SEGMENT_BYTES = MTU - 60;
const ETHERNET = 14;
const NODE = 0x0a050001;
const REMOTE = 0x0a060002;

describe.skipIf(!supported)('IPIP mark', () => {
  const netns = `ttb${process.pid}`;
  const where = ` in /run/netns/${netns}`;
  const run = (command: string): string =>
    execFileSync('ip', ['netns', 'exec', netns, ...command.split(' ')], { stdio: 'pipe' }).toString();
  const filters = () => run('tc filter show dev up0 ingress');
  let up: { fd: number; mac: Uint8Array; vnetHeader: number };
  let out = -1;

  beforeAll(() => {
    execFileSync('ip', ['netns', 'add', netns]);
    run('sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv4.ip_forward=1');
    run('sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0');
    const { fds, mac, vnetHeader } = native.tapOpen({ netns, name: 'up0', offloads: true, up: true });
    up = { fd: fds[0], mac, vnetHeader };
    // A device without offloads: whatever leaves by it was cut by the kernel before.
    out = native.tapOpen({ netns, name: 'out0', up: true, mtu: MTU }).fds[0];
    run('ip address add 10.6.0.1/24 dev out0');
    run('ip neigh add 10.6.0.2 lladdr 02:00:00:00:00:02 dev out0');
  });
  afterEach(() => native.ipipMarkDetach({ netns, name: 'up0' }));
  afterAll(() => {
    native.close(up.fd);
    native.close(out);
    execFileSync('ip', ['netns', 'del', netns]);
  });

  /** Write a frame of TCP with `payload` in `outer` IPIP headers (0 or 1) to up0; a super-frame when it is beyond a segment. */
  function write(payload: Uint8Array, outer: number): void {
    const ip = HEADROOM + ETHERNET;
    const inner = ip + outer * 20;
    const tcp = inner + 20;
    const end = tcp + 20 + payload.length;
    const arena = new Uint8Array(end);
    const view = viewOf(arena);
    const [source, destination] = outer ? [0x0a640001, 0x0a640102] : [NODE, REMOTE];
    arena.set(up.mac, HEADROOM);
    arena.set([2, 0, 0, 0, 0, 9, 8, 0], HEADROOM + 6);
    if (outer) putIpv4(view, ip, 0, end - ip, 7, DONT_FRAGMENT, 64, PROTOCOL_IPIP, NODE, REMOTE);
    putIpv4(view, inner, 0, end - inner, 100, DONT_FRAGMENT, 63, PROTOCOL_TCP, source, destination);
    put16(view, tcp, 4000);
    put16(view, tcp + 2, 5000);
    put32(view, tcp + 4, 1_000_000);
    arena.set([0x50, 0x10, 1, 0], tcp + 12);
    put16(view, tcp + 16, pseudoSum(source, destination, PROTOCOL_TCP, end - tcp));
    arena.set(payload, tcp + 20);
    const rows = new Int32Array(ROW);
    rows[OFFSET] = HEADROOM;
    rows[LENGTH] = end - HEADROOM;
    rows[OFFLOAD] = PARTIAL_CHECKSUM;
    rows[CHECKSUM_START] = tcp;
    rows[CHECKSUM_FIELD] = tcp + 16;
    rows[HEADERS_END] = tcp + 20;
    if (payload.length > SEGMENT_BYTES) {
      rows[SEGMENT] = SEGMENT_BYTES;
      rows[OFFLOAD] |= SUPER_TCP4;
    }
    expect(native.tapWrite(up.fd, arena, rows, 1, up.vnetHeader)).toBe(1);
  }

  /** IP packets that left by out0. Forwarding is done when tapWrite returns, so that all are there. */
  function packets(): Uint8Array[] {
    const arena = new Uint8Array(BURST * (HEADROOM + MAX_FRAME + 128));
    const rows = new Int32Array(BURST * ROW);
    const count = native.tapRead(out, arena, rows, BURST, 0, HEADROOM, 0);
    return Array.from({ length: count }, (_, i) => {
      const start = rows[i * ROW + OFFSET];
      return arena.slice(start + ETHERNET, start + rows[i * ROW + LENGTH]);
    });
  }

  /** The TCP packet in `outer` headers: every checksum holds, and what it carries. */
  function parse(packet: Uint8Array, outer: number): { sequence: number; id: number; payload: Uint8Array } {
    const view = new DataView(packet.buffer);
    const inner = outer * 20;
    for (let ip = 0; ip <= inner; ip += 20) {
      expect(native.checksum(packet, ip, 20, 0)).toBe(0xffff);
      expect(view.getUint16(ip + 2)).toBe(packet.length - ip);
      expect(packet[ip + 9]).toBe(ip < inner ? PROTOCOL_IPIP : PROTOCOL_TCP);
    }
    const tcp = inner + 20;
    const pseudo = pseudoSum(
      view.getInt32(inner + 12),
      view.getInt32(inner + 16),
      PROTOCOL_TCP,
      packet.length - tcp,
    );
    expect(native.checksum(packet, tcp, packet.length - tcp, pseudo)).toBe(0xffff);
    return {
      sequence: view.getUint32(tcp + 4),
      id: view.getUint16(inner + 4),
      payload: packet.subarray(tcp + 20),
    };
  }

  const payload = Uint8Array.from({ length: 5 * SEGMENT_BYTES + 100 }, (_, i) => i * 7 + (i >> 8));
  function expectCut(outer: number): void {
    const got = packets().map((packet) => parse(packet, outer));
    expect(got.map((segment) => segment.payload.length)).toEqual([...Array(5).fill(SEGMENT_BYTES), 100]);
    expect(got.map((segment) => segment.sequence)).toEqual(got.map((_, i) => 1_000_000 + i * SEGMENT_BYTES));
    expect(got.map((segment) => segment.id)).toEqual(got.map((_, i) => 100 + i));
    expect(Buffer.concat(got.map((segment) => segment.payload))).toEqual(Buffer.from(payload));
  }

  it('has the kernel cut IPIP super-frames right, which it drops without', () => {
    write(payload, 1);
    expect(packets()).toEqual([]);
    native.ipipMarkAttach({ netns, name: 'up0' });
    write(payload, 1);
    expectCut(1);
  });

  it('lets every other frame pass', () => {
    native.ipipMarkAttach({ netns, name: 'up0' });
    write(payload, 0);
    expectCut(0);
    write(payload.subarray(0, 100), 1);
    const [single, none] = packets();
    expect(Buffer.from(parse(single, 1).payload)).toEqual(Buffer.from(payload.subarray(0, 100)));
    expect(none).toBeUndefined();
  });

  it('is there once however often it is attached, under a name that a purge can look for', () => {
    expect(filters()).toBe('');
    native.ipipMarkDetach({ netns, name: 'up0' });
    for (let i = 0; i < 3; i++) {
      native.ipipMarkAttach({ netns, name: 'up0' });
      expect(filters().match(/handle 0x1 tortie_ipip direct-action/g)).toHaveLength(1);
    }
    native.ipipMarkDetach({ netns, name: 'up0' });
    native.ipipMarkDetach({ netns, name: 'up0' });
    expect(filters()).toBe('');
  });

  it('leaves filters of others alone, and says so when one has its place', () => {
    const other = (...place: string[]) =>
      execFileSync('tc', [
        ...['-n', netns, 'filter', 'add', 'dev', 'up0', 'ingress', 'protocol', 'all', ...place],
        ...['bpf', 'bytecode', '1,6 0 0 0', 'classid', '1:1'],
      ]);
    run('tc qdisc replace dev up0 clsact');
    other();
    native.ipipMarkAttach({ netns, name: 'up0' });
    native.ipipMarkDetach({ netns, name: 'up0' });
    expect(filters()).toMatch(/bytecode '1,6 0 0 0'/);
    run('tc filter del dev up0 ingress');
    other('pref', '49374', 'handle', '1');
    expect(() => native.ipipMarkAttach({ netns, name: 'up0' })).toThrow(
      `RTM_NEWTFILTER tortie_ipip on up0${where}: EEXIST, another filter has our priority`,
    );
    native.ipipMarkDetach({ netns, name: 'up0' });
    expect(filters()).toMatch(/bytecode '1,6 0 0 0'/);
    run('tc filter del dev up0 ingress');
  });

  it('names the device that is not there', () => {
    expect(() => native.ipipMarkAttach({ netns, name: 'none' })).toThrow(
      `SIOCGIFINDEX none${where}: ENODEV, no such device`,
    );
  });
});
