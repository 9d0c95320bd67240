import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as adj from '../fib/adjacency.ts';
import {
  frame,
  GATEWAY,
  HOST_PORT,
  hostFilter6,
  ip6,
  MAC_A,
  MAC_B,
  MAC_HOST,
  NODE,
  NODE6,
  type Packet6Options,
  PEER_VXLAN,
  POD_A,
  POD_B,
  packet6,
  Scenario,
  type Sent,
  VTEP_OWN,
  VTEP_PEER,
  VXLAN_PORT_ID,
  vxlanPayload,
} from '../scenario.ts';
import * as step from '../trace.ts';
import { get16, get32, sum16, viewOf } from '../wire/bytes.ts';
import { TYPE_IPV6 } from '../wire/ethernet.ts';
import * as ipv6 from '../wire/ipv6.ts';

const GATEWAY6 = 'fe80::ecee:eeff:feee:eeee';

const frame6 = (options: Packet6Options = {}, destination = GATEWAY, source = MAC_A) =>
  frame(packet6(options), destination, source, TYPE_IPV6);
const vxlan6 = (options: Packet6Options = {}) =>
  vxlanPayload(packet6({ source: 'fd65::1:2', destination: 'fd65::2', ...options }), { type: TYPE_IPV6 });
const icmp6 = (type: number, code: number, rest = new Uint8Array(4)) =>
  Uint8Array.from([type, code, 0, 0, ...rest]);

interface Solicitation extends Packet6Options {
  target?: string;
  /** The source link-layer address option, or none. */
  option?: Uint8Array | null;
}
function solicitation(options: Solicitation = {}, hardware = MAC_A, type = 135): Uint8Array {
  const target = ip6(options.target ?? GATEWAY6);
  const option = options.option === null ? [] : [1, 1, ...(options.option ?? hardware)];
  const group = `ff02::1:ff${Buffer.from(target)
    .toString('hex')
    .slice(26)
    .replace(/(....)$/, ':$1')}`;
  const payload = icmp6(type, 0, Uint8Array.from([0, 0, 0, 0, ...target, ...option]));
  const multicast = Uint8Array.from([0x33, 0x33, 0xff, ...target.subarray(13)]);
  return frame6({ destination: group, hopLimit: 255, next: 58, payload, ...options }, multicast, hardware);
}

/** A solicitation with an extension header in front of it. */
function behind(next: number, header: number[]): Uint8Array {
  const plain = solicitation();
  const bytes = Uint8Array.from([...plain.subarray(0, 14 + 40), ...header, ...plain.subarray(14 + 40)]);
  bytes[14 + 6] = next;
  viewOf(bytes).setUint16(14 + 4, bytes.length - 14 - 40);
  return bytes;
}

/** The one packet that left, taken apart behind `skip` bytes. */
function only(sent: Sent[], port: number, skip = 14) {
  expect(sent.map((one) => one.port)).toEqual([port]);
  const bytes = sent[0]!.bytes.subarray(skip);
  const view = viewOf(bytes);
  expect(ipv6.checkIpv6(view, 0, bytes.length)).toBe(ipv6.IPV6_OK);
  return { bytes, view, to: sent[0]!.to, frame: sent[0]!.bytes };
}

/** What an ICMPv6 error says. */
function error6(bytes: Uint8Array) {
  const view = viewOf(bytes);
  const length = bytes.length - 40;
  expect(sum16(view, 40, length, ipv6.pseudoSum6(view, 0, 58, length))).toBe(0xffff);
  expect(bytes.length).toBeLessThanOrEqual(1280);
  return {
    error: `${bytes[40]}/${bytes[41]}`,
    mtu: get32(view, 44),
    from: Buffer.from(bytes.subarray(8, 24)).equals(ip6(NODE6)) ? 'node' : 'other',
    to: Buffer.from(bytes.subarray(24, 40)),
    quoted: bytes.subarray(48),
  };
}

describe('IPv6 from a pod', () => {
  it('reaches the pod next door, one hop less, with MACs of its own', () => {
    const node = new Scenario();
    const { bytes, frame: whole } = only(node.receive(POD_A, frame6()), POD_B);
    expect([...whole.subarray(0, 14)]).toEqual([...MAC_B, ...GATEWAY, 0x86, 0xdd]);
    expect(bytes).toEqual(packet6({ hopLimit: 63 }));
    expect(node.counters(POD_A).totals.delivered).toBe(1);
  });

  it('goes into VXLAN over IPv4: type, inner MACs, traffic class, a source port of the flow', () => {
    const node = new Scenario();
    const sent = node.receive(POD_A, frame6({ destination: 'fd65::1:2', trafficClass: 0xb8 }));
    const { bytes, frame: whole, to } = only(sent, VXLAN_PORT_ID, 50);
    expect(to).toBe(PEER_VXLAN);
    expect(whole[1]).toBe(0xb8);
    expect([...whole.subarray(36, 50)]).toEqual([...VTEP_PEER, ...VTEP_OWN, 0x86, 0xdd]);
    expect(get16(viewOf(whole), 20)).toBeGreaterThanOrEqual(49152);
    expect(bytes).toEqual(packet6({ destination: 'fd65::1:2', hopLimit: 63, trafficClass: 0xb8 }));
  });

  it('never goes into VXLAN over IPv4 that ends here', () => {
    const node = new Scenario();
    const tunnel = { kind: adj.VXLAN, port: VXLAN_PORT_ID, mtu: 1450, dmac: VTEP_PEER, smac: VTEP_OWN };
    node.route6('fd65::5:0', 122, { ...tunnel, source: NODE, nextHop: NODE, vni: 4096 });
    expect(node.receive(POD_A, frame6({ destination: 'fd65::5:2' }))).toEqual([]);
    expect(node.drops(POD_A)).toEqual({ tunnel_loop: 1 });
  });

  it('trims padding, and goes to the host without losing a hop', () => {
    const node = new Scenario();
    const padded = Uint8Array.from([...frame6({ destination: '2001:db8::1' }), 0, 0, 0, 0]);
    const { bytes } = only(node.receive(POD_A, padded), HOST_PORT);
    expect(bytes).toEqual(packet6({ destination: '2001:db8::1' }));
  });

  it.each<[string, Uint8Array]>([
    ['ip6_short', frame6().subarray(0, 14 + 39)],
    ['ip6_version', frame6().with(14, 0x45)],
    ['ip6_payload_length', frame6().subarray(0, 14 + 51)],
    ['foreign_mac', frame6({}, MAC_B)],
    ['pod_source', frame6({ source: 'fd65::3' })],
    ['pod_source', frame6({ source: '2001:db8::1' })],
    ['martian_source', frame6({ source: GATEWAY6 })],
    ['martian_source', frame6({ source: '::1' })],
    ['martian_source', frame6({ source: 'ff02::1' })],
    ['martian_destination', frame6({ destination: '::ffff:192.0.2.1' })],
    ['link_local', frame6({ destination: 'fe80::1' })],
    ['multicast', frame6({ destination: 'ff02::fb' })],
    ['multicast', frame6({ destination: 'ff02::1', next: 58, payload: icmp6(128, 0) })],
    ['blackhole', frame6({ destination: 'fd65::20' })],
    [
      'mld',
      frame6({
        destination: 'ff02::16',
        next: 0,
        payload: Uint8Array.of(58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0),
      }),
    ],
  ])('is dropped: %s', (reason, bytes) => {
    const node = new Scenario();
    expect(node.receive(POD_A, bytes)).toEqual([]);
    expect(node.drops(POD_A)).toEqual({ [reason]: 1 });
  });
});

describe('extension headers', () => {
  const options = (next: number) => [next, 0, 1, 4, 0, 0, 0, 0];
  const datagram = [3, 232, 7, 208, 0, 8, 0, 0];
  const many = Array.from({ length: ipv6.MAX_EXTENSIONS + 2 }, () => options(60)).flat();

  it.each<[string, number, number[]]>([
    ['hop-by-hop options, which routers need not look at', 0, [...options(17), ...datagram]],
    ['more than are walked', 60, [...many, ...options(17), ...datagram]],
    ['one that is longer than the packet', 60, [17, 99, 1, 4, 0, 0, 0, 0]],
    ['a kind that nobody knows', 253, [17, 0, 0, 0, 0, 0, 0, 0]],
    ['an atomic fragment', 44, [17, 0, 0, 0, 0, 0, 0, 9, ...datagram]],
    ['a later fragment', 44, [17, 0, 0, 8, 0, 0, 0, 9, ...datagram]],
    ['a routing header that is used up', 43, [17, 2, 0, 0, ...new Array(20).fill(0), ...datagram]],
    ['a routing header of segment routing', 43, [17, 2, 4, 1, 0, 0, 0, 0, ...ip6('fd65::9'), ...datagram]],
    ['no next header', 59, []],
  ])('are forwarded as they are: %s', (_, next, payload) => {
    const node = new Scenario();
    const packetOf = (hopLimit: number) => packet6({ next, payload: Uint8Array.from(payload), hopLimit });
    const { bytes } = only(node.receive(POD_A, frame(packetOf(64), GATEWAY, MAC_A, TYPE_IPV6)), POD_B);
    expect(bytes).toEqual(packetOf(63));
    const tunnelled = node.receive(
      POD_A,
      frame6({ destination: 'fd65::1:2', next, payload: Uint8Array.from(payload) }),
    );
    expect(tunnelled.map(({ port }) => port)).toEqual([VXLAN_PORT_ID]);
  });

  it('a routing header of type 0 is refused, by its type, from a pod and out of a tunnel', () => {
    const routing = Uint8Array.from([17, 2, 0, 1, 0, 0, 0, 0, ...ip6('fd65::9'), ...datagram]);
    const behind = Uint8Array.from([...options(43), ...routing]);
    for (const [next, payload, pointer] of [
      [43, routing, 42],
      [0, behind, 50],
    ] as const) {
      const node = new Scenario();
      const { bytes } = only(node.receive(POD_A, frame6({ next, payload })), POD_A);
      // The word of the message is a pointer.
      expect(error6(bytes)).toMatchObject({ error: '4/0', mtu: pointer, from: 'node' });
      expect(node.drops(POD_A)).toEqual({ ip6_routing_header: 1 });
    }
    const node = new Scenario();
    node.receive(VXLAN_PORT_ID, vxlan6({ next: 43, payload: routing }), PEER_VXLAN);
    expect(node.drops(VXLAN_PORT_ID)).toEqual({ ip6_routing_header: 1 });
    // An error inside it gets none in return.
    const error = Uint8Array.from([58, 2, 0, 1, 0, 0, 0, 0, ...ip6('fd65::9'), ...icmp6(1, 0)]);
    expect(new Scenario().receive(POD_A, frame6({ next: 43, payload: error }))).toEqual([]);
  });

  it('a jumbogram is refused', () => {
    const node = new Scenario();
    const jumbo = Uint8Array.of(17, 0, 0xc2, 4, 0, 1, 0, 0, ...datagram);
    const bytes = frame6({ next: 0, payload: jumbo });
    bytes.fill(0, 18, 20);
    expect(node.receive(POD_A, bytes)).toEqual([]);
    expect(node.drops(POD_A)).toEqual({ ip6_payload_length: 1 });
  });
});

describe('ICMPv6 errors', () => {
  const reject = (options: Packet6Options, route?: Partial<adj.Adjacency> & { kind: number }) => {
    const node = new Scenario();
    if (route) node.route6('2001:db8::', 32, route);
    const sent = node.receive(POD_A, frame6({ destination: '2001:db8::1', ...options }));
    return { node, sent };
  };

  it('hop limit, unreachable, prohibited, no route: to the sender, quoting the packet', () => {
    const cases: [Packet6Options, (Partial<adj.Adjacency> & { kind: number }) | undefined, string, string][] =
      [
        [{ destination: 'fd65::3', hopLimit: 1 }, undefined, '3/0', 'ttl_expired'],
        [{}, { kind: adj.UNREACHABLE }, '1/3', 'unreachable'],
        [{}, { kind: adj.PROHIBIT }, '1/1', 'prohibit'],
      ];
    for (const [options, route, error, reason] of cases) {
      const { node, sent } = reject(options, route);
      const found = error6(only(sent, POD_A).bytes);
      expect(found).toMatchObject({ error, from: 'node', mtu: 0, to: Buffer.from(ip6('fd65::2')) });
      expect(found.quoted).toEqual(packet6({ destination: '2001:db8::1', ...options }));
      expect(node.drops(POD_A)).toEqual({ [reason]: 1 });
    }
    const none = new Scenario();
    none.fib6.delete(ip6('::'), 0);
    expect(error6(only(none.receive(POD_A, frame6({ destination: '2001:db8::1' })), POD_A).bytes).error).toBe(
      '1/0',
    );
  });

  it('a link-local source beyond its link: from the gateway, to the pod on its link', () => {
    const options = { source: 'fe80::2', destination: 'fd65::3' };
    const { node, sent } = reject(options);
    const found = error6(only(sent, POD_A).bytes);
    expect(found).toMatchObject({ error: '1/2', to: Buffer.from(ip6('fe80::2')) });
    expect(found.quoted).toEqual(packet6(options));
    expect(sent[0]!.bytes.slice(0, 14)).toEqual(Uint8Array.from([...MAC_A, ...GATEWAY, 0x86, 0xdd]));
    expect(sent[0]!.bytes.slice(22, 38)).toEqual(ip6(GATEWAY6));
    expect(node.drops(POD_A)).toEqual({ martian_source: 1 });
    expect(node.counters(POD_A).totals).toMatchObject({ originated: 1, delivered: 0 });
  });

  it('too big: what fits, never less than 1280', () => {
    const payload = new Uint8Array(1420);
    const tooBig = (mtu: number, length = 1420) =>
      reject(
        { payload: payload.subarray(0, length) },
        { kind: adj.VXLAN, nextHop: PEER_VXLAN, port: VXLAN_PORT_ID, mtu },
      );
    expect(error6(only(tooBig(1450).sent, POD_A).bytes)).toMatchObject({ error: '2/0', mtu: 1450 });
    expect(error6(only(tooBig(1000).sent, POD_A).bytes)).toMatchObject({ error: '2/0', mtu: 1280 });
    const { node, sent } = tooBig(1000, 1200);
    expect([sent, node.drops(POD_A)]).toEqual([[], { too_big: 1 }]);
  });

  it('never about errors, redirects, broken chains and fragments of ICMPv6; about echoes, and through a tunnel', () => {
    const payloads: [number, Uint8Array][] = [
      [58, icmp6(1, 0)],
      [58, icmp6(100, 0)],
      [58, new Uint8Array(0)],
      [60, Uint8Array.of(58, 9, 0, 0, 0, 0, 0, 0)],
      [60, Uint8Array.of(58, 0, 1, 4, 0, 0, 0, 0, 3, 0, 0, 0)],
      [44, Uint8Array.of(58, 0, 0, 8, 0, 0, 0, 1, 128, 0, 0, 0)],
    ];
    for (const [next, payload] of payloads) {
      const { node, sent } = reject({ next, payload, destination: 'fd65::3', hopLimit: 1 });
      expect([sent, node.drops(POD_A)]).toEqual([[], { ttl_expired: 1 }]);
    }
    const { sent } = reject({ next: 58, payload: icmp6(128, 0), destination: 'fd65::3', hopLimit: 1 });
    expect(error6(only(sent, POD_A).bytes).error).toBe('3/0');
    const back = new Scenario().receive(VXLAN_PORT_ID, vxlan6({ hopLimit: 1 }), PEER_VXLAN);
    expect(error6(only(back, VXLAN_PORT_ID, 50).bytes).error).toBe('3/0');
  });

  it('are limited in rate and counted', () => {
    const node = new Scenario();
    for (let i = 0; i < 150; i++) node.receive(POD_A, frame6({ hopLimit: 0 }));
    expect(node.counters(POD_A).totals).toMatchObject({ originated: 100, icmpLimited: 50 });
    // Those about path MTU have a rate of their own.
    const big = frame6({ destination: 'fd65::1:2', payload: new Uint8Array(1420) });
    for (let i = 0; i < 150; i++) node.receive(POD_A, big);
    expect(node.counters(POD_A).totals).toMatchObject({ originated: 200, icmpLimited: 100 });
  });

  it('come from the gateway, and to pods only, while the node has no address', () => {
    const node = new Scenario();
    const spec = { address: 1, local: [1], vtepMac: VTEP_OWN, vni: 4096, icmpRate: 10 };
    node.pipeline.setNode(spec);
    const { bytes } = only(node.receive(POD_A, frame6({ hopLimit: 1 })), POD_A);
    expect(bytes.subarray(8, 24)).toEqual(ip6(GATEWAY6));
    expect(node.receive(VXLAN_PORT_ID, vxlan6({ hopLimit: 1 }), PEER_VXLAN)).toEqual([]);
    expect(node.counters(VXLAN_PORT_ID).totals.originatedLost).toBe(1);
  });
});

describe('proxy neighbour discovery', () => {
  it('answers for the gateway and for everybody else, with or without the sender’s option', () => {
    const asks: [string, Solicitation, number][] = [
      ['the gateway from its link-local address', { source: 'fe80::2' }, 0xe0],
      ['a pod elsewhere', { target: 'fd65::1:2' }, 0xc0],
      ['unicast, to see whether the gateway is there', { destination: GATEWAY6, option: null }, 0xe0],
    ];
    for (const [name, ask, flags] of asks) {
      const node = new Scenario();
      const { bytes, frame: whole } = only(node.receive(POD_A, solicitation(ask)), POD_A);
      expect([...whole.subarray(0, 14)], name).toEqual([...MAC_A, ...GATEWAY, 0x86, 0xdd]);
      expect(bytes[7]).toBe(255);
      expect(bytes.subarray(8, 24)).toEqual(ip6(GATEWAY6));
      expect(bytes.subarray(24, 40)).toEqual(ip6(ask.source ?? 'fd65::2'));
      const view = viewOf(bytes);
      expect(sum16(view, 40, 32, ipv6.pseudoSum6(view, 0, 58, 32))).toBe(0xffff);
      const target = ip6(ask.target ?? GATEWAY6);
      expect([...bytes.subarray(40, 42), ...bytes.subarray(44)]).toEqual([
        136,
        0,
        flags,
        0,
        0,
        0,
        ...target,
        2,
        1,
        ...GATEWAY,
      ]);
      expect(node.counters(POD_A).totals).toMatchObject({ consumed: 1, originated: 1 });
    }
  });

  it.each<[string, Uint8Array]>([
    ['nd_silent', solicitation({ source: '::', target: 'fd65::2', option: null })],
    ['nd_silent', solicitation({ source: '::', target: 'fd65::99', option: null })],
    ['nd_silent', solicitation({ target: 'fd65::2' })],
    [
      'nd_silent',
      frame6({ source: 'fe80::2', destination: 'ff02::2', hopLimit: 255, next: 58, payload: icmp6(133, 0) }),
    ],
    ['nd_silent', solicitation({ destination: 'ff02::1' }, MAC_A, 136)],
    ['nd_malformed', solicitation({ hopLimit: 254 })],
    ['nd_malformed', behind(44, [58, 0, 0, 0, 0, 0, 0, 9])],
    ['nd_malformed', behind(44, [58, 0, 0, 1, 0, 0, 0, 9])],
    ['nd_malformed', behind(60, [58, 0, 1, 4, 0, 0, 0, 0])],
    ['nd_malformed', solicitation({ option: Uint8Array.of(1) })],
    ['nd_malformed', solicitation({ target: 'ff02::1' })],
    ['nd_malformed', solicitation().with(14 + 43, 0)],
    ['nd_refused', solicitation({ source: 'fd65::3' })],
    ['nd_refused', solicitation({}, MAC_B)],
    ['nd_refused', solicitation({ option: MAC_B })],
  ])('is silent: %s', (reason, bytes) => {
    const node = new Scenario();
    expect(node.receive(POD_A, bytes)).toEqual([]);
    expect(node.drops(POD_A)).toEqual({ [reason]: 1 });
  });

  it('answers the host for pods, but not for the node’s own address', () => {
    const node = new Scenario();
    const ask = (target: string) =>
      node.receive(HOST_PORT, solicitation({ source: 'fe80::9', target }, MAC_HOST));
    expect([...only(ask('fd65::2'), HOST_PORT).frame.subarray(0, 6)]).toEqual([...MAC_HOST]);
    expect(ask(NODE6)).toEqual([]);
  });
});

describe('IPv6 from the host and from a tunnel', () => {
  it('crosses the host port without losing a hop, and does not go back', () => {
    const node = new Scenario();
    const fromHost = (destination: string) =>
      node.receive(HOST_PORT, frame6({ source: '2001:db8::9', destination }, GATEWAY, MAC_HOST));
    expect(only(fromHost('fd65::2'), POD_A).bytes[7]).toBe(64);
    expect(only(fromHost('fd65::1:2'), VXLAN_PORT_ID, 50).bytes[7]).toBe(64);
    expect(error6(only(fromHost('2001:db8:1::1'), HOST_PORT).bytes).error).toBe('1/0');
  });

  it('VXLAN is decapsulated, one hop less', () => {
    const { bytes } = only(new Scenario().receive(VXLAN_PORT_ID, vxlan6(), PEER_VXLAN), POD_A);
    expect(bytes).toEqual(packet6({ source: 'fd65::1:2', destination: 'fd65::2', hopLimit: 63 }));
  });

  it.each<[string, Packet6Options]>([
    ['peer_source', { source: 'fd65::3' }],
    ['peer_source', { source: '2001:db8::1' }],
    ['martian_source', { source: 'fe80::1' }],
    ['multicast', { destination: 'ff02::1' }],
    ['link_local', { destination: 'fe80::1' }],
  ])('a tunnel’s packet is dropped: %s', (reason, options) => {
    const node = new Scenario();
    if (reason === 'link_local') node.route6('fe80::', 10, { kind: adj.HOST, port: HOST_PORT });
    expect(node.receive(VXLAN_PORT_ID, vxlan6(options), PEER_VXLAN)).toEqual([]);
    expect(node.drops(VXLAN_PORT_ID)).toEqual({ [reason]: 1 });
  });
});

it('traces IPv6 by its host, inside VXLAN too', () => {
  const node = new Scenario();
  node.pipeline.setTrace({ program: hostFilter6('fd65::1:2'), count: 5 });
  node.receive(POD_A, frame6());
  node.receive(POD_A, frame6({ destination: 'fd65::1:2' }));
  node.receive(VXLAN_PORT_ID, vxlan6(), PEER_VXLAN);
  const traces = node.pipeline.takeTraces().map(({ steps: cells }) => {
    const codes = [...cells].filter((_, i) => i % step.STEP_CELLS === 0);
    return codes.map((code) => step.STEPS[code]![0]);
  });
  const header = ['source6', 'destination6', 'header6', 'source-checked6', 'lookup6', 'mtu', 'ttl'];
  expect(traces).toEqual([
    ['received', ...header, 'encapsulated', 'outer', 'sent'],
    ['received', 'tunnel', ...header, 'link', 'sent'],
  ]);
});

it('mutated frames of IPv6 are always counted and never crash', () => {
  const node = new Scenario();
  const seeds: [number, Uint8Array][] = [
    [POD_A, frame6()],
    [
      POD_A,
      frame6({ next: 60, payload: Uint8Array.of(17, 0, 1, 4, 0, 0, 0, 0, 3, 232, 7, 208, 0, 8, 0, 0) }),
    ],
    [POD_A, solicitation()],
    [HOST_PORT, solicitation({ source: 'fe80::9', target: 'fd65::2' }, MAC_HOST)],
    [VXLAN_PORT_ID, vxlan6()],
  ];
  fc.assert(
    fc.property(
      fc.constantFrom(...seeds),
      fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 }),
      fc.nat(120),
      ([port, seed], changes, length) => {
        const bytes = seed.slice(0, Math.min(seed.length, length + 8));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        const before = node.counters(port);
        node.receive(port, bytes, PEER_VXLAN);
        const { totals, drops } = node.counters(port);
        const dropped = drops.reduce((sum, drop) => sum + drop.packets, 0);
        expect(totals.rxFrames - before.totals.rxFrames).toBe(1);
        expect(totals.rxFrames).toBe(totals.delivered + totals.consumed + dropped);
      },
    ),
    { numRuns: 3000, verbose: 1 },
  );
});
