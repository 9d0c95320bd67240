/** Fragments of tunnel packets on an uplink without sockets. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HEADROOM, MAX_FRAME } from '../memory/layout.ts';
import { NODE, PEER_IPIP, POD_A, packet, Scenario } from '../scenario.ts';
import { viewOf } from '../wire/bytes.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { MAX_PENDING, TIMEOUT_MS } from './reassembly.ts';

const UPLINK = 6;
const { MORE_FRAGMENTS } = ipv4;

function node(): Scenario {
  const scenario = new Scenario(32);
  scenario.attach(UPLINK, 'underlay', null, []);
  return scenario;
}

const innerOf = (size: number): Uint8Array => {
  const payload = new Uint8Array(size - 20).map((_, i) => i * 11);
  return packet({ source: '10.65.2.2', destination: '10.65.0.2', protocol: 99, payload });
};

/** Bytes [start, end) of an inner packet as a fragment of its IPIP packet. */
function piece(
  inner: Uint8Array,
  start: number,
  end: number,
  id = 1,
  last = end === inner.length,
  tos = 0,
): Uint8Array {
  const bytes = new Uint8Array(20 + end - start);
  const flags = (last ? 0 : MORE_FRAGMENTS) | (start / 8);
  ipv4.putIpv4(viewOf(bytes), 0, tos, bytes.length, id, flags, 64, ipv4.PROTOCOL_IPIP, PEER_IPIP, NODE);
  bytes.set(inner.subarray(start, end), 20);
  return bytes;
}

/** Cut at these places (multiples of eight). */
function pieces(inner: Uint8Array, cuts: readonly number[], id = 1): Uint8Array[] {
  const places = [0, ...new Set(cuts.filter((at) => at > 0 && at < inner.length)), inner.length].sort(
    (a, b) => a - b,
  );
  return places.slice(1).map((end, i) => piece(inner, places[i]!, end, id));
}

function account(scenario: Scenario) {
  const { totals, drops } = scenario.counters(UPLINK);
  const dropped = drops.reduce((sum, { packets }) => sum + packets, 0);
  expect(totals.rxFrames).toBe(totals.delivered + totals.consumed + totals.held + dropped);
  const { delivered, consumed, held } = totals;
  return { delivered, consumed, held, drops: scenario.drops(UPLINK) };
}

/** What pod a is to get. */
function arrival(inner: Uint8Array): Uint8Array {
  const expected = inner.slice();
  ipv4.decrementTtl(viewOf(expected), 0);
  return expected;
}

it('makes a packet of its fragments, in whatever order they come, once each', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 40, max: 1500 }),
      fc.array(
        fc.integer({ min: 2, max: 185 }).map((units) => units * 8),
        { maxLength: 8 },
      ),
      fc.infiniteStream(fc.nat()),
      (size, cuts, order) => {
        const scenario = node();
        const inner = innerOf(size);
        const all = pieces(inner, cuts);
        const shuffled = all
          .map((bytes) => ({ bytes, key: order.next().value as number }))
          .sort((a, b) => a.key - b.key);
        const sent = shuffled.flatMap(({ bytes }) => scenario.receive(UPLINK, bytes));
        expect(sent.map(({ port, bytes }) => [port, bytes.slice(14)])).toEqual([[POD_A, arrival(inner)]]);
        expect(account(scenario)).toEqual({ delivered: 1, consumed: all.length - 1, held: 0, drops: {} });
      },
    ),
    { numRuns: 60 },
  );
});

it('makes packets of different identifications apart', () => {
  const scenario = node();
  const [a, b] = [innerOf(400), innerOf(600)];
  const [a1, a2] = pieces(a, [200], 1);
  const [b1, b2] = pieces(b, [200], 2);
  const sent = [a1, b1, b2, a2].flatMap((bytes) => scenario.receive(UPLINK, bytes!));
  expect(sent.map(({ bytes }) => bytes.slice(14))).toEqual([arrival(b), arrival(a)]);
});

it('keeps fragments apart by all that names their packet (RFC 791 3.2)', () => {
  const scenario = node();
  const inner = innerOf(400);
  const [first, last] = pieces(inner, [200]) as [Uint8Array, Uint8Array];
  const other = (change: (bytes: Uint8Array) => void): Uint8Array => {
    const bytes = first.slice();
    change(bytes);
    ipv4.putHeaderChecksum(viewOf(bytes), 0);
    return bytes;
  };
  const strangers = [
    other((bytes) => bytes.set([17], 9)),
    other((bytes) => bytes.set([192, 0, 2, 2], 12)),
    other((bytes) => bytes.set([0, 2], 4)),
  ];
  for (const bytes of strangers) expect(scenario.receive(UPLINK, bytes)).toEqual([]);
  expect(scenario.receive(UPLINK, last)).toEqual([]);
  expect(account(scenario)).toMatchObject({ held: 4, drops: {} });
  expect(scenario.receive(UPLINK, first)).toHaveLength(1);
  expect(account(scenario)).toMatchObject({ held: 3, drops: {} });
});

it('makes the largest packet there can be', () => {
  const scenario = new Scenario(64);
  scenario.attach(UPLINK, 'underlay', null, []);
  const inner = innerOf(65515);
  const all = pieces(
    inner,
    Array.from({ length: 44 }, (_, i) => (i + 1) * 1480),
  );
  const sent = all.flatMap((bytes) => scenario.receive(UPLINK, bytes));
  // The pod's link takes 1,500 bytes, and the packet has no DF.
  expect(sent.length).toBeGreaterThan(40);
  expect(account(scenario)).toMatchObject({ delivered: 1, held: 0, drops: {} });
  expect(HEADROOM + MAX_FRAME).toBeGreaterThan(65535);
});

describe('of fragments that routers marked', () => {
  const [NOT_ECT, ECT_1, ECT_0, CE] = [0, 1, 2, 3] as const;
  const inner = innerOf(800);
  ipv4.setTos(viewOf(inner), 0, ECT_0);
  const marked = (...tos: number[]) => {
    const scenario = node();
    const cuts = [0, 160, 320, 800];
    const sent = tos.flatMap((each, i) =>
      scenario.receive(UPLINK, piece(inner, cuts[i]!, cuts[i + 1]!, 1, i === 2, each)),
    );
    return { scenario, sent };
  };

  it.each([
    [[ECT_0, CE, ECT_0], CE],
    [[ECT_0, ECT_0, CE], CE],
    [[CE, ECT_1, ECT_0], CE],
    [[ECT_0, ECT_0, ECT_0], ECT_0],
    [[ECT_1, ECT_1, ECT_1], ECT_1],
    [[NOT_ECT, NOT_ECT, NOT_ECT], ECT_0],
  ])('one that is marked marks the packet (RFC 3168 5.3): %j', (tos, expected) => {
    const { sent } = marked(...tos);
    expect(ipv4.checkIpv4(viewOf(sent[0]!.bytes), 14, 800)).toBe(ipv4.IPV4_OK);
    expect(ipv4.tos(viewOf(sent[0]!.bytes), 14)).toBe(expected);
  });

  it.each([[[NOT_ECT, CE, CE]], [[ECT_0, NOT_ECT, ECT_0]], [[NOT_ECT, NOT_ECT, ECT_1]]])(
    'those that do not agree on ECN are of no one packet: %j',
    (tos) => {
      const { scenario, sent } = marked(...tos);
      expect(sent).toEqual([]);
      expect(account(scenario)).toMatchObject({ held: 0, drops: { fragment_overlap: 3 } });
    },
  );
});

describe('is wary of fragments that', () => {
  const inner = innerOf(800);

  it('come twice: they count once', () => {
    const scenario = node();
    const [first, last] = pieces(inner, [400]) as [Uint8Array, Uint8Array];
    scenario.receive(UPLINK, first);
    scenario.receive(UPLINK, first);
    expect(scenario.receive(UPLINK, last)).toHaveLength(1);
    expect(account(scenario)).toEqual({
      delivered: 1,
      consumed: 1,
      held: 0,
      drops: { fragment_duplicate: 1 },
    });
  });

  it.each([
    ['overlap', [piece(inner, 0, 400), piece(inner, 392, 800)]],
    ['overlap inside', [piece(inner, 0, 160), piece(inner, 320, 800), piece(inner, 80, 400)]],
    ['end before what is there', [piece(inner, 400, 640), piece(inner, 160, 320, 1, true)]],
    ['end twice, elsewhere', [piece(inner, 400, 800), piece(inner, 160, 320, 1, true)]],
    ['go on behind the end', [piece(inner, 160, 320, 1, true), piece(inner, 320, 640)]],
  ])('%s: the whole packet is lost', (_, fragments) => {
    const scenario = node();
    const sent = fragments.flatMap((bytes) => scenario.receive(UPLINK, bytes));
    expect(sent).toEqual([]);
    expect(account(scenario)).toMatchObject({ held: 0, drops: { fragment_overlap: fragments.length } });
  });

  it.each([
    ['are empty', piece(inner, 400, 400, 1, false)],
    ['are no multiple of eight', piece(inner, 0, 401, 1, false)],
    [
      'reach beyond the largest packet',
      (() => {
        const bytes = piece(inner, 0, 800, 1, true);
        viewOf(bytes).setUint16(6, 0x1fff);
        ipv4.putHeaderChecksum(viewOf(bytes), 0);
        return bytes;
      })(),
    ],
  ])('%s', (_, bytes) => {
    const scenario = node();
    expect(scenario.receive(UPLINK, bytes)).toEqual([]);
    expect(account(scenario)).toMatchObject({ held: 0, drops: { outer_fragment: 1 } });
  });
});

describe('waits', () => {
  const inner = innerOf(800);

  it('for thirty seconds, and no longer', () => {
    const scenario = node();
    const [first, last] = pieces(inner, [400]) as [Uint8Array, Uint8Array];
    scenario.now = 1000;
    scenario.receive(UPLINK, first);
    scenario.now += TIMEOUT_MS;
    expect(account(scenario)).toMatchObject({ held: 1 });
    expect(scenario.receive(UPLINK, last)).toHaveLength(1);
    scenario.receive(UPLINK, first);
    scenario.now += TIMEOUT_MS + 1;
    expect(scenario.receive(UPLINK, last)).toEqual([]);
    expect(account(scenario)).toEqual({
      delivered: 1,
      consumed: 1,
      held: 1,
      drops: { reassembly_timeout: 1 },
    });
  });

  it('with a bounded number of packets, of which the oldest goes first', () => {
    const scenario = node();
    for (let id = 1; id <= MAX_PENDING + 5; id++) {
      scenario.now += 1;
      scenario.receive(UPLINK, piece(inner, 0, 400, id));
    }
    expect(account(scenario)).toMatchObject({ held: MAX_PENDING, drops: { reassembly_full: 5 } });
    expect(scenario.receive(UPLINK, piece(inner, 400, 800, 6))).toHaveLength(1);
    expect(scenario.receive(UPLINK, piece(inner, 400, 800, 5))).toEqual([]);
  });
});
