/** Packets without DF that are larger than the next link: what comes of their pieces is the packet again. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as adj from '../fib/adjacency.ts';
import * as burst from '../memory/burst.ts';
import { BURST, EGRESS_ROWS, HEADROOM } from '../memory/layout.ts';
import {
  frame,
  IPIP_PORT_ID,
  ip4,
  MAC_B,
  NODE,
  PEER_IPIP,
  PEER_VXLAN,
  POD_A,
  POD_B,
  packet,
  Scenario,
  type Sent,
  VNI,
  VTEP_OWN,
  VTEP_PEER,
  VXLAN_PORT_ID,
} from '../scenario.ts';
import type { TracedPacket } from '../trace.ts';
import * as step from '../trace.ts';
import { put16, sum16, viewOf } from '../wire/bytes.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { putUdp } from '../wire/udp.ts';

const { DONT_FRAGMENT, FRAGMENT_OFFSET, MORE_FRAGMENTS } = ipv4;
/** Ways out, with how many bytes are in front of what was fragmented. */
const WAYS = {
  vxlan: { destination: '10.65.1.2', front: 50 },
  ipip: { destination: '10.65.2.2', front: 0 },
  pod: { destination: '10.65.0.3', front: 14 },
} as const;
type Way = keyof typeof WAYS;

function nodeOf(mtu: number): Scenario {
  const scenario = new Scenario(BURST);
  const source = NODE;
  scenario.route('10.65.0.3', 32, { kind: adj.POD, port: POD_B, dmac: MAC_B, mtu });
  const vtep = { dmac: VTEP_PEER, smac: VTEP_OWN, vni: VNI };
  scenario.route('10.65.1.0', 26, {
    kind: adj.VXLAN,
    port: VXLAN_PORT_ID,
    nextHop: PEER_VXLAN,
    mtu,
    source,
    ...vtep,
  });
  scenario.route('10.65.2.0', 26, { kind: adj.IPIP, port: IPIP_PORT_ID, nextHop: PEER_IPIP, mtu, source });
  return scenario;
}

/** A packet with these options, padded to words, and flags. */
function withOptions(options: Uint8Array, payload: Uint8Array, destination: string, flags = 0): Uint8Array {
  const padded = new Uint8Array((options.length + 3) & ~3);
  padded.set(options);
  const plain = packet({ destination, payload, flags });
  const bytes = new Uint8Array(plain.length + padded.length);
  bytes.set(plain.subarray(0, 20));
  bytes.set(padded, 20);
  bytes.set(payload, 20 + padded.length);
  const view = viewOf(bytes);
  bytes[0] = 0x40 | (5 + padded.length / 4);
  put16(view, 2, bytes.length);
  ipv4.putHeaderChecksum(view, 0);
  return bytes;
}

/** As the receiver does it (RFC 791 3.2), naively: pieces in any order to the header of the first, and the payload. */
function joined(
  pieces: Uint8Array[],
  mtu: number,
): { header: Uint8Array; payload: Uint8Array; more: boolean } {
  const parts = new Map<number, Uint8Array>();
  let header = new Uint8Array(0);
  let end = -1;
  let last = 0;
  for (const piece of pieces) {
    const view = viewOf(piece);
    expect(ipv4.checkIpv4(view, 0, piece.length)).toBe(ipv4.IPV4_OK);
    expect(ipv4.totalLength(view, 0)).toBe(piece.length);
    expect(piece.length).toBeLessThanOrEqual(mtu);
    const own = ipv4.headerLength(view, 0);
    const flags = ipv4.fragment(view, 0);
    const at = (flags & FRAGMENT_OFFSET) * 8;
    parts.set(at, piece.slice(own));
    if (at === Math.min(...parts.keys())) header = piece.slice(0, own);
    if (at + piece.length - own > end) {
      end = at + piece.length - own;
      last = flags;
    }
    if ((flags & MORE_FRAGMENTS) !== 0) expect((piece.length - own) % 8).toBe(0);
  }
  const first = Math.min(...parts.keys());
  const payload = new Uint8Array(end - first);
  let got = 0;
  for (const [at, part] of parts) {
    payload.set(part, at - first);
    got += part.length;
  }
  expect(got).toBe(payload.length);
  return { header, payload, more: (last & MORE_FRAGMENTS) !== 0 };
}

const piecesOf = (sent: Sent[], way: Way): Uint8Array[] =>
  sent.map(({ bytes }) => bytes.slice(WAYS[way].front));

describe('a packet without DF', () => {
  it('keeps its reserved flag to itself, as with Linux', () => {
    const RESERVED = 0x8000;
    const scenario = nodeOf(1000);
    const whole = packet({ payload: new Uint8Array(2000), flags: RESERVED });
    const flags = piecesOf(scenario.receive(POD_A, frame(whole)), 'pod').map(
      (piece) => ipv4.fragment(viewOf(piece), 0) & ~FRAGMENT_OFFSET,
    );
    expect(flags).toEqual([MORE_FRAGMENTS, MORE_FRAGMENTS, 0]);
  });

  it.each(Object.keys(WAYS) as Way[])('is whole again behind its pieces: %s', (way) => {
    fc.assert(
      fc.property(
        fc.integer({ min: 68, max: 1500 }),
        fc.uint8Array({ minLength: 0, maxLength: 3800 }),
        fc.constantFrom([], [7, 4, 0, 0], [0x94, 4, 0, 0], [1, 1, 0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0]),
        fc.constantFrom(0, MORE_FRAGMENTS, 100, MORE_FRAGMENTS | 50),
        (mtu, bytes, options, flags) => {
          // What is followed by more is as long as that wants it.
          const payload = flags & MORE_FRAGMENTS ? bytes.slice(0, bytes.length & ~7) : bytes;
          const whole = withOptions(Uint8Array.from(options), payload, WAYS[way].destination, flags);
          const scenario = nodeOf(mtu);
          const sent = scenario.receive(POD_A, frame(whole));
          const expected = whole.slice();
          ipv4.decrementTtl(viewOf(expected), 0);
          if (way === 'ipip') {
            // Pieces of the outer packet. What fits is one packet, of which DF says what the inner one's says.
            const { header, payload: inner } = joined(piecesOf(sent, way), mtu + 20);
            expect(ipv4.protocol(viewOf(header), 0)).toBe(ipv4.PROTOCOL_IPIP);
            expect(inner).toEqual(expected);
          } else {
            const found = joined(piecesOf(sent, way), mtu);
            expect(found.payload).toEqual(payload);
            expect(found.more).toBe((flags & MORE_FRAGMENTS) !== 0);
            const header = found.header;
            const first = viewOf(header);
            expect(ipv4.fragment(first, 0) & FRAGMENT_OFFSET).toBe(flags & FRAGMENT_OFFSET);
            // All but length, flags and checksum.
            for (const at of [...header.keys()].filter((i) => ![2, 3, 6, 7, 10, 11].includes(i)))
              expect(header[at]).toBe(expected[at]);
          }
          const { delivered, originated, rxFrames } = scenario.counters(POD_A).totals;
          expect({ rxFrames, delivered, originated }).toEqual({
            rxFrames: 1,
            delivered: 1,
            originated: sent.length - 1,
          });
        },
      ),
      { numRuns: 60 },
    );
  });

  it('has only the options in later pieces that are for all of them (RFC 791 3.1)', () => {
    // Record route (7) and router alert (148, which has the copy bit).
    const options = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0);
    const whole = withOptions(options, new Uint8Array(400), WAYS.pod.destination);
    const pieces = piecesOf(nodeOf(200).receive(POD_A, frame(whole)), 'pod');
    expect(pieces[0]!.slice(20, 32)).toEqual(options);
    for (const piece of pieces.slice(1)) {
      expect(piece.slice(20, 32)).toEqual(Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0));
    }
  });

  it('gives all its pieces one identification, and the next packet another', () => {
    const scenario = nodeOf(500);
    const big = frame(packet({ destination: WAYS.ipip.destination, payload: new Uint8Array(1200) }));
    const idsOf = (sent: Sent[]) => new Set(sent.map(({ bytes }) => (bytes[4]! << 8) | bytes[5]!));
    const [first, second] = [idsOf(scenario.receive(POD_A, big)), idsOf(scenario.receive(POD_A, big))];
    expect([first.size, second.size]).toEqual([1, 1]);
    expect([...first]).not.toEqual([...second]);
  });

  it('is dropped whole, and counted, where the queue has no room for all pieces', () => {
    const scenario = nodeOf(68);
    const { rows, arena, pipeline } = scenario;
    // 3,000 bytes are 63 pieces each.
    const big = frame(packet({ destination: WAYS.vxlan.destination, payload: new Uint8Array(3000) }));
    const slot = 4096;
    for (let i = 0; i < 8; i++) {
      arena.set(big, i * slot + HEADROOM);
      rows.fill(0, i * burst.ROW, (i + 1) * burst.ROW);
      rows[i * burst.ROW + burst.OFFSET] = i * slot + HEADROOM;
      rows[i * burst.ROW + burst.LENGTH] = big.length;
    }
    pipeline.receiveBurst(POD_A, rows, 8);
    const { egress } = pipeline;
    expect(egress.count(VXLAN_PORT_ID)).toBeLessThanOrEqual(EGRESS_ROWS);
    expect(egress.count(VXLAN_PORT_ID) % 63).toBe(0);
    const sent = egress.count(VXLAN_PORT_ID) / 63;
    pipeline.transmitted(VXLAN_PORT_ID, egress.rows(VXLAN_PORT_ID), egress.count(VXLAN_PORT_ID));
    expect(sent).toBeGreaterThan(0);
    expect(scenario.drops(POD_A)).toEqual({ tx_full: 8 - sent });
  });

  it('has its checksum finished where its device left that to us', () => {
    const payload = new Uint8Array(1500).map((_, i) => i);
    const whole = packet({ destination: WAYS.vxlan.destination, payload });
    const view = viewOf(whole);
    putUdp(view, 20, 1000, 2000, payload.length);
    const pseudo = ipv4.pseudoSum(ip4('10.65.0.2'), ip4(WAYS.vxlan.destination), 17, payload.length);
    put16(view, 26, pseudo);
    const sent = nodeOf(1000).receive(POD_A, frame(whole), 0, {
      [burst.OFFLOAD]: burst.PARTIAL_CHECKSUM,
      [burst.CHECKSUM_START]: HEADROOM + 34,
      [burst.CHECKSUM_FIELD]: HEADROOM + 40,
    });
    const { payload: datagram } = joined(piecesOf(sent, 'vxlan'), 1000);
    expect(sum16(viewOf(datagram), 0, datagram.length, pseudo)).toBe(0xffff);
  });
});

describe('a super-frame without DF', () => {
  const describedAs = (kind: number, segment: number, headers: number, field: number) => ({
    [burst.OFFLOAD]: kind | burst.PARTIAL_CHECKSUM,
    [burst.SEGMENT]: segment,
    [burst.CHECKSUM_START]: HEADROOM + 34,
    [burst.CHECKSUM_FIELD]: HEADROOM + field,
    [burst.HEADERS_END]: HEADROOM + headers,
  });

  it('of TCP leaves as smaller segments', () => {
    // Each has headers of its own: 1,980 bytes are three of 1,000.
    const payload = new Uint8Array(20 + 1940);
    payload[12] = 0x50;
    const scenario = nodeOf(1000);
    const whole = packet({ destination: WAYS.vxlan.destination, protocol: 6, payload });
    scenario.pipeline.setTrace({ count: 1 });
    const sent = scenario.receive(POD_A, frame(whole), 0, describedAs(burst.SUPER_TCP4, 1400, 54, 50));
    expect(sent).toHaveLength(1);
    expect(scenario.queued[0]![burst.SEGMENT]).toBe(1000 - 40);
    const [{ steps }] = scenario.pipeline.takeTraces() as [TracedPacket];
    const told = steps.findIndex((code, i) => i % step.STEP_CELLS === 0 && code === step.FRAGMENTED);
    expect([...steps.subarray(told + 1, told + 3)]).toEqual([3, 1000]);
  });

  it('of UDP is cut into datagrams, each in pieces of its own', () => {
    const body = new Uint8Array(2500).map((_, i) => i * 7);
    const payload = new Uint8Array(8 + body.length);
    putUdp(viewOf(payload), 0, 1000, 2000, payload.length);
    payload.set(body, 8);
    const whole = packet({ destination: WAYS.vxlan.destination, payload });
    const scenario = nodeOf(800);
    const cells = describedAs(burst.SUPER_UDP, 1200, 42, 40);
    const sent = piecesOf(scenario.receive(POD_A, frame(whole), 0, cells), 'vxlan');
    const idOf = (bytes: Uint8Array) => (bytes[4]! << 8) | bytes[5]!;
    const ids = [...new Set(sent.map(idOf))];
    expect(ids).toEqual([7, 8, 9]);
    const datagrams = ids.map(
      (id) =>
        joined(
          sent.filter((bytes) => idOf(bytes) === id),
          800,
        ).payload,
    );
    expect(datagrams.map(({ length }) => length)).toEqual([1208, 1208, 108]);
    for (const datagram of datagrams) {
      const pseudo = ipv4.pseudoSum(ip4('10.65.0.2'), ip4(WAYS.vxlan.destination), 17, datagram.length);
      expect(sum16(viewOf(datagram), 0, datagram.length, pseudo)).toBe(0xffff);
    }
    expect(Buffer.concat(datagrams.map((datagram) => datagram.slice(8)))).toEqual(Buffer.from(body));
    expect(scenario.counters(POD_A).totals).toMatchObject({ delivered: 1, originated: sent.length - 1 });
  });
});

it('leaves what says DF to the sender', () => {
  const scenario = nodeOf(500);
  for (const { destination } of Object.values(WAYS)) {
    const big = packet({ destination, payload: new Uint8Array(600), flags: DONT_FRAGMENT });
    const [error] = scenario.receive(POD_A, frame(big));
    expect(error).toMatchObject({ port: POD_A });
    expect([...error!.bytes.slice(34, 36)]).toEqual([3, 4]);
  }
  expect(scenario.drops(POD_A)).toEqual({ too_big: 3 });
});
