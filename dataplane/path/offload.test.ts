/** Super-frames, unfinished packets and frames without room before them on their way through the pipeline. */
import { describe, expect, it } from 'vitest';
import * as adj from '../fib/adjacency.ts';
import {
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  OFFLOAD,
  OFFSET,
  PARTIAL_CHECKSUM,
  PORT,
  ROW,
  SEGMENT,
  SEGMENTED,
  STATUS,
  SUPER_TCP4,
  SUPER_TCP6,
  TIGHT,
} from '../memory/burst.ts';
import { HEADROOM } from '../memory/layout.ts';
import {
  frame,
  GATEWAY,
  ip4,
  MAC_A,
  MAC_B,
  PEER_VXLAN,
  POD_A,
  POD_B,
  packet,
  packet6,
  Scenario,
  VTEP_PEER,
  VXLAN_PORT_ID,
  VXLAN6_PORT_ID,
  vxlanPayload,
} from '../scenario.ts';
import { put16, viewOf } from '../wire/bytes.ts';
import { TYPE_IPV6 } from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { pseudoSum } from '../wire/ipv4.ts';

const ETHERNET = 14;
const TCP = 6;
const DONT_FRAGMENT = 0x4000;

/** A TCP segment of `payload` bytes whose checksum field holds the sum of the pseudo header. */
function unfinished(source: string, destination: string, payload: number, flags = DONT_FRAGMENT): Uint8Array {
  const segment = new Uint8Array(20 + payload);
  segment[12] = 0x50;
  segment[13] = 0x10;
  put16(viewOf(segment), 16, pseudoSum(ip4(source), ip4(destination), TCP, segment.length));
  return packet({ source, destination, protocol: TCP, payload: segment, flags });
}

/** What a device says of such a frame. */
const described = (segment: number, at = HEADROOM + ETHERNET + 20) => ({
  [SEGMENT]: segment,
  [OFFLOAD]: PARTIAL_CHECKSUM | SUPER_TCP4,
  [CHECKSUM_START]: at,
  [CHECKSUM_FIELD]: at + 16,
});

const offloadOf = ({ queued }: Scenario) =>
  [SEGMENT, OFFLOAD, CHECKSUM_START, CHECKSUM_FIELD, HEADERS_END].map((cell) => queued[0]![cell]);

describe('a super-frame', () => {
  it('passes whole between pods of the node, described as it came', () => {
    const scenario = new Scenario();
    const inner = unfinished('10.65.0.2', '10.65.0.3', 9000);
    const sent = scenario.receive(POD_A, frame(inner), 0, described(1400));
    expect(sent.map(({ port, bytes }) => [port, bytes.length])).toEqual([[POD_B, ETHERNET + inner.length]]);
    const start = HEADROOM + ETHERNET + 20;
    expect(offloadOf(scenario)).toEqual([1400, PARTIAL_CHECKSUM | SUPER_TCP4, start, start + 16, start + 20]);
  });

  it('is described by places in the arena, so that a tunnel’s header changes nothing', () => {
    const scenario = new Scenario();
    scenario.receive(POD_A, frame(unfinished('10.65.0.2', '10.65.1.2', 9000)), 0, described(1410));
    const start = HEADROOM + ETHERNET + 20;
    expect(offloadOf(scenario).slice(2, 4)).toEqual([start, start + 16]);
  });

  it('has its own TOS outside, however long it is with its outer header', () => {
    const scenario = new Scenario();
    const whole = unfinished('10.65.0.2', '10.65.2.2', 65_535 - 40);
    ipv4.setTos(viewOf(whole), 0, 2);
    const [sent] = scenario.receive(POD_A, frame(whole), 0, described(1400));
    expect(sent!.bytes).toHaveLength(65_535 + 20);
    expect([...sent!.bytes.subarray(0, 2)]).toEqual([0x45, 2]);
  });

  it('is measured against an MTU by its segments', () => {
    const scenario = new Scenario();
    const inner = frame(unfinished('10.65.0.2', '10.65.1.2', 9000));
    expect(scenario.receive(POD_A, inner, 0, described(1410))).toHaveLength(1);
    expect(scenario.receive(POD_A, inner, 0, described(1411)).map(({ port }) => port)).toEqual([POD_A]);
    expect(scenario.drops(POD_A)).toEqual({ too_big: 1 });
  });

  it('of IPv6 is measured so, too, into VXLAN over either family', () => {
    const start = HEADROOM + ETHERNET + 40;
    const segment = new Uint8Array(20 + 9000);
    segment[12] = 0x50;
    for (const [destination, port, fits] of [
      ['fd65::1:2', VXLAN_PORT_ID, 1450],
      ['fd65::3:2', VXLAN6_PORT_ID, 1430],
    ] as const) {
      const scenario = new Scenario();
      const inner = packet6({ destination, next: TCP, payload: segment });
      const send = (size: number) =>
        scenario.receive(POD_A, frame(inner, GATEWAY, MAC_A, TYPE_IPV6), 0, {
          ...described(size - 60, start),
          [OFFLOAD]: PARTIAL_CHECKSUM | SUPER_TCP6,
        });
      expect(send(fits)).toMatchObject([{ port }]);
      const [tooBig] = send(fits + 1);
      expect(tooBig!.port).toBe(POD_A);
      // Type, code, checksum, MTU.
      const message = viewOf(tooBig!.bytes.subarray(ETHERNET + 40));
      expect([message.getUint16(0), message.getUint32(4)]).toEqual([0x0200, fits]);
      expect(scenario.drops(POD_A)).toEqual({ too_big: 1 });
    }
  });

  it('of which the device lies is dropped and counted', () => {
    const scenario = new Scenario();
    const inner = frame(unfinished('10.65.0.2', '10.65.0.3', 9000));
    for (const lie of [{ [SEGMENT]: 0 }, { [CHECKSUM_START]: 3 }, { [OFFLOAD]: SUPER_TCP4 }]) {
      expect(scenario.receive(POD_A, inner, 0, { ...described(1400), ...lie })).toEqual([]);
    }
    expect(scenario.drops(POD_A)).toEqual({ offload_header: 3 });
  });

  it('nor may a checksum be written into addresses once they have been checked', () => {
    const scenario = new Scenario();
    const inner = frame(packet6({ destination: 'fd65::1:2' }), GATEWAY, MAC_A, TYPE_IPV6);
    const lastOfSource = HEADROOM + ETHERNET + 22;
    const unfinishedFrom = (start: number) => ({
      [OFFLOAD]: PARTIAL_CHECKSUM,
      [CHECKSUM_START]: start,
      [CHECKSUM_FIELD]: start + 6,
    });
    expect(scenario.receive(POD_A, inner, 0, unfinishedFrom(lastOfSource - 6))).toEqual([]);
    expect(scenario.receive(POD_A, inner, 0, unfinishedFrom(HEADROOM + ETHERNET + 40))).toHaveLength(1);
    expect(scenario.drops(POD_A)).toEqual({ offload_header: 1 });
  });

  it('that could not be cut has a reason of its own', () => {
    const scenario = new Scenario();
    const rows = new Int32Array(ROW);
    rows[PORT] = POD_A;
    rows[STATUS] = 7;
    scenario.pipeline.transmitted(VXLAN_PORT_ID, rows, 1);
    expect(scenario.drops(POD_A)).toEqual({ tx_segments: 1 });
  });
});

describe('an ICMP error about a super-frame', () => {
  it('is no super-frame itself', () => {
    const scenario = new Scenario();
    scenario.receive(POD_A, frame(unfinished('10.65.0.2', '10.65.1.2', 9000)), 0, described(1430));
    expect(offloadOf(scenario).slice(0, 2)).toEqual([0, 0]);
  });
});

describe('from a tunnel', () => {
  it('a checksum that was left partial is described to the pod’s device', () => {
    const scenario = new Scenario();
    const inner = unfinished('10.65.1.2', '10.65.0.3', 100);
    scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner), PEER_VXLAN, { [OFFLOAD]: SEGMENTED });
    const start = HEADROOM + 8 + ETHERNET + 20;
    expect(offloadOf(scenario).slice(0, 4)).toEqual([0, PARTIAL_CHECKSUM, start, start + 16]);
  });

  it('a whole super-frame becomes one for the pod', () => {
    const scenario = new Scenario();
    const inner = unfinished('10.65.1.2', '10.65.0.3', 20_000);
    const sent = scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner), PEER_VXLAN, { [OFFLOAD]: SEGMENTED });
    expect(sent).toHaveLength(1);
    expect(offloadOf(scenario).slice(0, 2)).toEqual([1500 - 40, PARTIAL_CHECKSUM | SUPER_TCP4]);
  });

  /** A datagram of a joined run: what is before it in the arena belongs to the one before. */
  const tight = { [OFFLOAD]: SEGMENTED | TIGHT };

  it('a frame without room goes to a pod where it is', () => {
    const scenario = new Scenario();
    const inner = packet({ source: '10.65.1.2', destination: '10.65.0.3' });
    const [sent] = scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner), PEER_VXLAN, tight);
    expect(sent!.bytes.subarray(0, 6)).toEqual(MAC_B);
    expect(scenario.arena.subarray(0, HEADROOM).every((byte) => byte === 0xa5)).toBe(true);
  });

  it('a frame without room is copied when a new tunnel header must go before it', () => {
    const scenario = new Scenario();
    const transit = { kind: adj.VXLAN, port: VXLAN_PORT_ID, nextHop: ip4('192.0.2.9'), mtu: 1450, vni: 4096 };
    scenario.route('10.65.9.0', 24, {
      ...transit,
      source: ip4('192.0.2.1'),
      dmac: VTEP_PEER,
      smac: VTEP_PEER,
    });
    const inner = packet({ source: '10.65.1.2', destination: '10.65.9.9' });
    const [sent] = scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner), PEER_VXLAN, tight);
    expect(sent!.to).toBe(ip4('192.0.2.9'));
    expect(sent!.bytes.subarray(50 + 12)).toEqual(inner.subarray(12));
    expect(scenario.arena.subarray(0, HEADROOM).every((byte) => byte === 0xa5)).toBe(true);
  });

  it('and what was left to do of it is said of the copy', () => {
    const scenario = new Scenario();
    const transit = { kind: adj.VXLAN, port: VXLAN_PORT_ID, nextHop: ip4('192.0.2.9'), mtu: 1450, vni: 4096 };
    scenario.route('10.65.9.0', 24, {
      ...transit,
      source: ip4('192.0.2.1'),
      dmac: VTEP_PEER,
      smac: VTEP_PEER,
    });
    const inner = unfinished('10.65.1.2', '10.65.9.9', 100);
    scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner), PEER_VXLAN, tight);
    const row = scenario.queued[0]!;
    const transport = row[OFFSET]! + 50 + 20;
    expect([row[CHECKSUM_START], row[CHECKSUM_FIELD]]).toEqual([transport, transport + 16]);
    expect(row[OFFLOAD]! & PARTIAL_CHECKSUM).not.toBe(0);
  });

  it('an ICMP error about a frame without room is made elsewhere', () => {
    const scenario = new Scenario();
    const inner = packet({ source: '10.65.1.2', destination: '10.65.0.3', ttl: 1 });
    const [sent] = scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner), PEER_VXLAN, tight);
    expect(sent!.to).toBe(PEER_VXLAN);
    expect(sent!.bytes.subarray(50 + 28)).toEqual(inner);
    expect(scenario.arena.subarray(0, HEADROOM).every((byte) => byte === 0xa5)).toBe(true);
  });

  it('a frame that finds no room left is dropped, and the next burst has room again', () => {
    const scenario = new Scenario();
    const transit = { kind: adj.VXLAN, port: VXLAN_PORT_ID, nextHop: ip4('192.0.2.9'), mtu: 0, vni: 4096 };
    scenario.route('10.65.9.0', 24, {
      ...transit,
      source: ip4('192.0.2.1'),
      dmac: VTEP_PEER,
      smac: VTEP_PEER,
    });
    const large = packet({ source: '10.65.1.2', destination: '10.65.9.9', payload: new Uint8Array(5000) });
    expect(scenario.receive(VXLAN_PORT_ID, vxlanPayload(large), PEER_VXLAN, tight)).toEqual([]);
    expect(scenario.drops(VXLAN_PORT_ID)).toEqual({ tx_full: 1 });
    const small = packet({ source: '10.65.1.2', destination: '10.65.9.9' });
    expect(scenario.receive(VXLAN_PORT_ID, vxlanPayload(small), PEER_VXLAN, tight)).toHaveLength(1);
  });
});
