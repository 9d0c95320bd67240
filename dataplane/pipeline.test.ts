import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DROP_REASONS } from './drops.ts';
import * as adj from './fib/adjacency.ts';
import { PORT, ROW, STATUS } from './memory/burst.ts';
import {
  frame,
  GATEWAY,
  HOST_PORT,
  hostFilter4,
  IPIP_PORT_ID,
  icmpMessage,
  ip4,
  MAC_A,
  MAC_B,
  MAC_HOST,
  mac,
  NODE,
  PEER_IPIP,
  PEER_VXLAN,
  POD_A,
  POD_B,
  packet,
  Scenario,
  TUNNEL,
  VNI,
  VTEP_OWN,
  VTEP_PEER,
  VXLAN_PORT_ID,
  vxlanPayload,
} from './scenario.ts';
import * as step from './trace.ts';
import { get16, put16, put32, sum16, viewOf } from './wire/bytes.ts';
import * as ethernet from './wire/ethernet.ts';
import * as ipv4 from './wire/ipv4.ts';
import { putUdp } from './wire/udp.ts';

/** An IPv4 packet wrapped in an outer header, as a raw socket hands it over. */
function ipip(inner: Uint8Array, source = '192.0.2.3', destination = '192.0.2.1'): Uint8Array {
  return packet({ source, destination, protocol: 4, payload: inner });
}

function arpRequest(sender: string, target: string, hardware = MAC_A, operation = 1): Uint8Array {
  const bytes = new Uint8Array(28);
  bytes.set([0, 1, 8, 0, 6, 4, 0, operation]);
  bytes.set(hardware, 8);
  put32(viewOf(bytes), 14, ip4(sender));
  put32(viewOf(bytes), 24, ip4(target));
  return frame(bytes, mac('ff:ff:ff:ff:ff:ff'), hardware, ethernet.TYPE_ARP);
}

/** What an ICMP error says: { type, code, mtu, to, quoted }. */
function icmpError(bytes: Uint8Array) {
  expect(ipv4.checkIpv4(viewOf(bytes), 0, bytes.length)).toBe(ipv4.IPV4_OK);
  expect(ipv4.protocol(viewOf(bytes), 0)).toBe(1);
  expect(sum16(viewOf(bytes), 20, bytes.length - 20, 0)).toBe(0xffff);
  return {
    type: bytes[20]!,
    code: bytes[21]!,
    mtu: get16(viewOf(bytes), 26),
    from: ipv4.source(viewOf(bytes), 0),
    to: ipv4.destination(viewOf(bytes), 0),
    quoted: bytes.slice(28),
  };
}

const minusTtl = (bytes: Uint8Array): Uint8Array => {
  const copy = bytes.slice();
  ipv4.decrementTtl(viewOf(copy), 0);
  return copy;
};

/** The account of every port balances. */
function expectBalanced(scenario: Scenario): void {
  for (const port of [POD_A, POD_B, HOST_PORT, VXLAN_PORT_ID, IPIP_PORT_ID]) {
    const { totals, drops } = scenario.counters(port);
    const dropped = drops.reduce((sum, drop) => sum + drop.packets, 0);
    expect(totals.rxFrames).toBe(totals.delivered + totals.consumed + dropped);
  }
}

describe('from a pod', () => {
  it('reaches the pod next door, one TTL less, with MACs of its own', () => {
    const scenario = new Scenario();
    const sent = scenario.receive(POD_A, frame(packet()));
    expect(sent).toEqual([{ port: POD_B, bytes: frame(minusTtl(packet()), MAC_B, GATEWAY), to: 0 }]);
    expect(scenario.counters(POD_A).totals).toMatchObject({ rxFrames: 1, delivered: 1, consumed: 0 });
    expect(scenario.counters(POD_B).totals).toMatchObject({ txFrames: 1, rxFrames: 0 });
    expectBalanced(scenario);
  });

  it('trims Ethernet padding and routes options', () => {
    const scenario = new Scenario();
    const padded = new Uint8Array(60);
    padded.set(frame(packet()));
    expect(scenario.receive(POD_A, padded)[0]!.bytes).toHaveLength(14 + 32);

    const options = packet({ payload: new Uint8Array(16) });
    options[0] = 0x46;
    options.set([1, 1, 1, 0], 20);
    put16(viewOf(options), 10, 0);
    put16(viewOf(options), 10, ~sum16(viewOf(options), 0, 24, 0));
    expect(scenario.receive(POD_A, frame(options))).toHaveLength(1);
  });

  it('goes into VXLAN: outer addresses, VNI, inner MACs, a source port of the flow', () => {
    const scenario = new Scenario();
    const inner = packet({ destination: '10.65.1.5', tos: 0xb9 });
    const [sent] = scenario.receive(POD_A, frame(inner));
    expect(sent).toMatchObject({ port: VXLAN_PORT_ID, to: PEER_VXLAN });
    const outer = sent!.bytes;
    expect(ipv4.checkIpv4(viewOf(outer), 0, outer.length)).toBe(ipv4.IPV4_OK);
    expect(ipv4.source(viewOf(outer), 0)).toBe(NODE);
    expect(ipv4.destination(viewOf(outer), 0)).toBe(PEER_VXLAN);
    expect(ipv4.tos(viewOf(outer), 0)).toBe(0xb9);
    expect(ipv4.fragment(viewOf(outer), 0)).toBe(ipv4.DONT_FRAGMENT);
    expect(get16(viewOf(outer), 20)).toBeGreaterThanOrEqual(49152);
    expect(get16(viewOf(outer), 22)).toBe(4789);
    expect(get16(viewOf(outer), 24)).toBe(outer.length - 20);
    expect(outer.slice(28)).toEqual(
      vxlanPayload(minusTtl(inner), { destination: VTEP_PEER }).map((byte, i) =>
        i >= 14 && i < 20 ? VTEP_OWN[i - 14]! : byte,
      ),
    );
    const again = scenario.receive(POD_A, frame(inner))[0]!.bytes;
    expect(get16(viewOf(again), 20)).toBe(get16(viewOf(outer), 20));
  });

  it('goes into IPIP, DF and TOS inherited', () => {
    const scenario = new Scenario();
    for (const flags of [0, ipv4.DONT_FRAGMENT]) {
      const inner = packet({ destination: '10.65.2.5', flags, tos: 0x28 });
      const [sent] = scenario.receive(POD_A, frame(inner));
      expect(sent).toMatchObject({ port: IPIP_PORT_ID, to: PEER_IPIP });
      const outer = sent!.bytes;
      expect(ipv4.checkIpv4(viewOf(outer), 0, outer.length)).toBe(ipv4.IPV4_OK);
      expect(ipv4.protocol(viewOf(outer), 0)).toBe(4);
      expect(ipv4.fragment(viewOf(outer), 0)).toBe(flags);
      expect(ipv4.tos(viewOf(outer), 0)).toBe(0x28);
      expect(outer.slice(20)).toEqual(minusTtl(inner));
    }
  });

  it('goes to the host without losing TTL', () => {
    const scenario = new Scenario();
    const inner = packet({ destination: '198.51.100.1', ttl: 1 });
    expect(scenario.receive(POD_A, frame(inner))).toEqual([
      { port: HOST_PORT, bytes: frame(inner, MAC_HOST, GATEWAY), to: 0 },
    ]);
  });

  it.each([
    ['pod_source', packet({ source: '10.65.0.3' })],
    ['pod_source', packet({ source: '192.0.2.1' })],
    ['martian_source', packet({ source: '127.0.0.1' })],
    ['martian_source', packet({ source: '0.0.0.0' })],
    ['martian_source', packet({ source: '224.0.0.1' })],
    ['martian_source', packet({ source: '255.255.255.255' })],
    ['multicast', packet({ destination: '224.0.0.251' })],
    ['broadcast', packet({ destination: '255.255.255.255' })],
    ['martian_destination', packet({ destination: '127.0.0.1' })],
    ['martian_destination', packet({ destination: '0.0.0.0' })],
    ['link_local', packet({ destination: '169.254.1.1' })],
    ['blackhole', packet({ destination: '10.65.0.9' })],
  ])('drops in silence: %s', (reason, bytes) => {
    const scenario = new Scenario();
    expect(scenario.receive(POD_A, frame(bytes))).toEqual([]);
    expect(scenario.drops(POD_A)).toEqual({ [reason]: 1 });
    expectBalanced(scenario);
  });

  it.each([
    ['frame_short', frame(packet()).slice(0, 13)],
    ['ip4_short', frame(packet()).slice(0, 20)],
    ['ip4_total_length', frame(packet()).slice(0, 40)],
    ['foreign_mac', frame(packet(), MAC_B)],
    ['vlan_tag', frame(packet(), GATEWAY, MAC_A, 0x8100)],
    ['not_ip', frame(packet(), GATEWAY, MAC_A, 0x88cc)],
    ['arp_malformed', frame(packet(), GATEWAY, MAC_A, 0x0806)],
  ])('drops a frame that is %s', (reason, bytes) => {
    const scenario = new Scenario();
    expect(scenario.receive(POD_A, bytes)).toEqual([]);
    expect(scenario.drops(POD_A)).toEqual({ [reason]: 1 });
  });

  it('may send from an allowed prefix', () => {
    const scenario = new Scenario();
    scenario.pipeline.attach({
      id: POD_A,
      kind: 'pod',
      name: 'a',
      fds: [],
      readers: [0],
      mac: MAC_A,
      mtu: 1500,
      sources: [ip4('10.65.0.2'), -1, ip4('198.51.100.0'), ip4('255.255.255.0')],
    });
    expect(scenario.receive(POD_A, frame(packet({ source: '198.51.100.77' })))).toHaveLength(1);
    expect(scenario.receive(POD_A, frame(packet({ source: '198.51.101.77' })))).toHaveLength(0);
  });
});

const fromB = { source: '10.65.0.3', destination: '10.65.0.2' };

describe('ICMP errors', () => {
  it.each([
    ['no_route', adj.NO_ROUTE, 0],
    ['unreachable', adj.UNREACHABLE, 1],
    ['prohibit', adj.PROHIBIT, 13],
  ])('%s tells the pod, and quotes the packet as it came', (reason, kind, code) => {
    const scenario = new Scenario();
    scenario.route('203.0.113.0', 24, { kind });
    const inner = packet({
      destination: '203.0.113.9',
      payload: new Uint8Array(1000),
      protocol: 6,
      tos: 0x30,
    });
    const [sent] = scenario.receive(POD_A, frame(inner));
    expect(sent!.port).toBe(POD_A);
    expect(sent!.bytes.slice(0, 12)).toEqual(Uint8Array.from([...MAC_A, ...GATEWAY]));
    const error = icmpError(sent!.bytes.slice(14));
    expect(error).toMatchObject({ type: 3, code, from: NODE, to: ip4('10.65.0.2') });
    expect(error.quoted).toEqual(inner.slice(0, 548));
    // Precedence "internetwork control" (RFC 1812 4.3.2.5), and the rest of the offender's TOS.
    expect(ipv4.tos(viewOf(sent!.bytes), 14)).toBe(0xd0);
    expect(ipv4.ttl(viewOf(sent!.bytes), 14)).toBe(64);
    expect(scenario.drops(POD_A)).toEqual({ [reason]: 1 });
    expect(scenario.counters(POD_A).totals).toMatchObject({ originated: 1, delivered: 0 });
    expectBalanced(scenario);
  });

  it('TTL 1 and 0 end here, 11/0', () => {
    const scenario = new Scenario();
    for (const ttl of [0, 1]) {
      const inner = packet({ ttl, destination: '10.65.1.1' });
      const error = icmpError(scenario.receive(POD_A, frame(inner))[0]!.bytes.slice(14));
      expect(error).toMatchObject({ type: 11, code: 0 });
      expect(error.quoted).toEqual(inner);
    }
    expect(scenario.drops(POD_A)).toEqual({ ttl_expired: 2 });
  });

  it('too big with DF: 3/4 with what fits', () => {
    const scenario = new Scenario();
    const big = (flags: number, size: number) =>
      frame(packet({ destination: '10.65.1.5', flags, payload: new Uint8Array(size - 20) }));
    expect(scenario.receive(POD_A, big(ipv4.DONT_FRAGMENT, 1450))[0]!.port).toBe(VXLAN_PORT_ID);
    const error = icmpError(scenario.receive(POD_A, big(ipv4.DONT_FRAGMENT, 1451))[0]!.bytes.slice(14));
    expect(error).toMatchObject({ type: 3, code: 4, mtu: 1450 });
    expect(scenario.drops(POD_A)).toEqual({ too_big: 1 });
  });

  it('goes back through the tunnel that the packet came by, from the node’s address there', () => {
    const scenario = new Scenario();
    scenario.route('203.0.113.0', 24, { kind: adj.PROHIBIT });
    const inner = packet({ source: '10.65.2.7', destination: '203.0.113.9' });
    const [sent] = scenario.receive(IPIP_PORT_ID, ipip(inner), PEER_IPIP);
    expect(sent).toMatchObject({ port: IPIP_PORT_ID, to: PEER_IPIP });
    const error = icmpError(sent!.bytes.slice(20));
    expect(error).toMatchObject({ type: 3, code: 13, from: TUNNEL, to: ip4('10.65.2.7') });
    const byVxlan = vxlanPayload(packet({ source: '10.65.1.7', destination: '203.0.113.9' }));
    const [other] = scenario.receive(VXLAN_PORT_ID, byVxlan, PEER_VXLAN);
    expect(other).toMatchObject({ port: VXLAN_PORT_ID, to: PEER_VXLAN });
    expect(icmpError(other!.bytes.slice(50))).toMatchObject({ from: TUNNEL, to: ip4('10.65.1.7') });
  });

  it('is never sent about an ICMP error, a later fragment, or a headless ICMP', () => {
    const scenario = new Scenario();
    scenario.route('203.0.113.0', 24, { kind: adj.PROHIBIT });
    const to = { destination: '203.0.113.9' };
    expect(
      scenario.receive(POD_A, frame(packet({ ...to, protocol: 1, payload: icmpMessage(3, 0) }))),
    ).toEqual([]);
    expect(
      scenario.receive(POD_A, frame(packet({ ...to, protocol: 1, payload: new Uint8Array(0) }))),
    ).toEqual([]);
    expect(scenario.receive(POD_A, frame(packet({ ...to, flags: 100 })))).toEqual([]);
    expect(
      scenario.receive(POD_A, frame(packet({ ...to, protocol: 1, payload: icmpMessage(8, 0) }))),
    ).toHaveLength(1);
    expect(scenario.drops(POD_A)).toEqual({ prohibit: 4 });
  });

  it('is limited in rate, counted, and flows again later', () => {
    const scenario = new Scenario();
    scenario.route('203.0.113.0', 24, { kind: adj.PROHIBIT });
    const send = () => scenario.receive(POD_A, frame(packet({ destination: '203.0.113.9' }))).length;
    let sent = 0;
    for (let i = 0; i < 150; i++) sent += send();
    expect(sent).toBe(100);
    expect(scenario.counters(POD_A).totals.icmpLimited).toBe(50);
    scenario.now += 30;
    expect(send() + send() + send() + send()).toBe(3);
  });

  it('about path MTU has a rate of its own, which no flood of others uses up', () => {
    const scenario = new Scenario();
    scenario.route('203.0.113.0', 24, { kind: adj.PROHIBIT });
    const big = { flags: ipv4.DONT_FRAGMENT, payload: new Uint8Array(1432), destination: '10.65.1.5' };
    const tooBig = () => scenario.receive(POD_A, frame(packet(big))).length;
    for (let i = 0; i < 150; i++)
      scenario.receive(POD_B, frame(packet({ ...fromB, ttl: 1 }), GATEWAY, MAC_B));
    expect(scenario.counters(POD_B).totals.icmpLimited).toBe(50);
    let sent = 0;
    for (let i = 0; i < 150; i++) sent += tooBig();
    expect(sent).toBe(100);
    expect(scenario.counters(POD_A).totals.icmpLimited).toBe(50);
  });
});

describe('proxy ARP', () => {
  it('answers for every target with ee:ee:ee:ee:ee:ee', () => {
    const scenario = new Scenario();
    for (const target of ['169.254.1.1', '10.65.0.3', '8.8.8.8']) {
      const [sent] = scenario.receive(POD_A, arpRequest('10.65.0.2', target));
      expect(sent!.port).toBe(POD_A);
      const reply = sent!.bytes;
      expect(reply.slice(0, 14)).toEqual(Uint8Array.from([...MAC_A, ...GATEWAY, 8, 6]));
      expect(get16(viewOf(reply), 20)).toBe(2);
      expect(reply.slice(22, 28)).toEqual(GATEWAY);
      expect(reply.slice(28, 32)).toEqual(Uint8Array.from(target.split('.').map(Number)));
      expect(reply.slice(32, 38)).toEqual(MAC_A);
    }
    expect(scenario.counters(POD_A).totals).toMatchObject({ consumed: 3, originated: 3, delivered: 0 });
    expectBalanced(scenario);
  });

  it.each([
    ['arp_silent', arpRequest('0.0.0.0', '10.65.0.2')],
    ['arp_silent', arpRequest('10.65.0.2', '10.65.0.2')],
    ['arp_silent', arpRequest('10.65.0.2', '169.254.1.1', MAC_A, 2)],
    ['arp_refused', arpRequest('10.65.0.3', '169.254.1.1')],
    ['arp_refused', arpRequest('10.65.0.2', '169.254.1.1', MAC_B)],
  ])('keeps silent: %s', (reason, bytes) => {
    const scenario = new Scenario();
    expect(scenario.receive(POD_A, bytes)).toEqual([]);
    expect(scenario.drops(POD_A)).toEqual({ [reason]: 1 });
  });

  it('keeps silent about each of the pod’s addresses, whichever of them asks', () => {
    const scenario = new Scenario();
    scenario.attach(POD_A, 'pod', MAC_A, ['10.65.0.2', '10.65.0.7']);
    expect(scenario.receive(POD_A, arpRequest('10.65.0.2', '10.65.0.7'))).toEqual([]);
    expect(scenario.receive(POD_A, arpRequest('10.65.0.7', '10.65.0.3'))).toHaveLength(1);
    expect(scenario.drops(POD_A)).toEqual({ arp_silent: 1 });
  });

  it('answers the host for pods, but not for the node’s own addresses', () => {
    const scenario = new Scenario();
    expect(scenario.receive(HOST_PORT, arpRequest('192.0.2.1', '10.65.0.2', MAC_HOST))).toHaveLength(1);
    expect(scenario.receive(HOST_PORT, arpRequest('10.65.0.1', '192.0.2.1', MAC_HOST))).toHaveLength(0);
  });
});

describe('from the host', () => {
  const from = { source: '192.0.2.1' };

  it('reaches a pod, here or through a tunnel, without losing TTL', () => {
    const scenario = new Scenario();
    const local = packet({ ...from, destination: '10.65.0.2' });
    expect(scenario.receive(HOST_PORT, frame(local, GATEWAY, MAC_HOST))).toEqual([
      { port: POD_A, bytes: frame(local, MAC_A, GATEWAY), to: 0 },
    ]);
    const remote = packet({ ...from, destination: '10.65.2.2', ttl: 1 });
    const [sent] = scenario.receive(HOST_PORT, frame(remote, GATEWAY, MAC_HOST));
    expect(sent!.bytes.slice(20)).toEqual(remote);
  });

  it('does not go back to the host: 3/0', () => {
    const scenario = new Scenario();
    const [sent] = scenario.receive(
      HOST_PORT,
      frame(packet({ ...from, destination: '10.99.0.1' }), GATEWAY, MAC_HOST),
    );
    expect(icmpError(sent!.bytes.slice(14))).toMatchObject({ type: 3, code: 0, to: NODE });
    expect(scenario.drops(HOST_PORT)).toEqual({ host_loop: 1 });
  });
});

describe('from a tunnel', () => {
  const inner = packet({ source: '10.65.1.5', destination: '10.65.0.2' });

  it('VXLAN is decapsulated, one TTL less', () => {
    const scenario = new Scenario();
    expect(scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner), PEER_VXLAN)).toEqual([
      { port: POD_A, bytes: frame(minusTtl(inner), MAC_A, GATEWAY), to: 0 },
    ]);
    expectBalanced(scenario);
  });

  it('takes what a peer sends from its own address', () => {
    const scenario = new Scenario();
    const own = packet({ source: '192.0.2.2', destination: '10.65.0.2' });
    expect(scenario.receive(VXLAN_PORT_ID, vxlanPayload(own), PEER_VXLAN)).toHaveLength(1);
    const other = packet({ source: '192.0.2.3', destination: '10.65.0.2' });
    expect(scenario.receive(VXLAN_PORT_ID, vxlanPayload(other), PEER_VXLAN)).toHaveLength(0);
  });

  it('VXLAN ignores reserved bits', () => {
    const scenario = new Scenario();
    const bytes = vxlanPayload(inner, { flags: 0xff });
    bytes.set([1, 2, 3], 1);
    bytes[7] = 9;
    expect(scenario.receive(VXLAN_PORT_ID, bytes, PEER_VXLAN)).toHaveLength(1);
  });

  it.each<[string, Uint8Array, number]>([
    ['vxlan_short', vxlanPayload(inner).slice(0, 21), PEER_VXLAN],
    ['vxlan_flags', vxlanPayload(inner, { flags: 0xf7 }), PEER_VXLAN],
    ['vxlan_vni', vxlanPayload(inner, { vni: VNI + 1 }), PEER_VXLAN],
    ['vxlan_vlan', vxlanPayload(inner, { type: 0x8100 }), PEER_VXLAN],
    ['vxlan_mac', vxlanPayload(inner, { destination: VTEP_PEER }), PEER_VXLAN],
    ['not_ip', vxlanPayload(inner, { type: 0x88cc }), PEER_VXLAN],
    ['unknown_peer', vxlanPayload(inner), ip4('192.0.2.66')],
    ['peer_source', vxlanPayload(packet({ source: '10.65.2.5', destination: '10.65.0.2' })), PEER_VXLAN],
    ['peer_source', vxlanPayload(packet({ source: '10.65.0.3', destination: '10.65.0.2' })), PEER_VXLAN],
    ['martian_source', vxlanPayload(packet({ source: '127.0.0.1', destination: '10.65.0.2' })), PEER_VXLAN],
    ['multicast', vxlanPayload(packet({ source: '10.65.1.5', destination: '224.0.0.1' })), PEER_VXLAN],
    ['broadcast', vxlanPayload(packet({ source: '10.65.1.5', destination: '255.255.255.255' })), PEER_VXLAN],
    ['ip4_total_length', vxlanPayload(inner).slice(0, 50), PEER_VXLAN],
  ])('VXLAN drop: %s', (reason, bytes, from) => {
    const scenario = new Scenario();
    expect(scenario.receive(VXLAN_PORT_ID, bytes, from)).toEqual([]);
    expect(scenario.drops(VXLAN_PORT_ID)).toEqual({ [reason]: 1 });
    expectBalanced(scenario);
  });

  it('IPIP is decapsulated, one TTL less', () => {
    const scenario = new Scenario();
    const fromThere = packet({ source: '10.65.2.5', destination: '10.65.0.3' });
    expect(scenario.receive(IPIP_PORT_ID, ipip(fromThere))).toEqual([
      { port: POD_B, bytes: frame(minusTtl(fromThere), MAC_B, GATEWAY), to: 0 },
    ]);
  });

  it.each<[string, Uint8Array]>([
    ['outer_destination', ipip(packet({ source: '10.65.2.5' }), '192.0.2.3', '192.0.2.9')],
    ['unknown_peer', ipip(packet({ source: '10.65.2.5' }), '192.0.2.66')],
    ['peer_source', ipip(packet({ source: '10.65.1.5' }))],
    ['ip4_short', ipip(packet({ source: '10.65.2.5' }).slice(0, 12))],
    ['ip4_version', ipip(new Uint8Array(40).fill(0x60))],
  ])('IPIP drop: %s', (reason, bytes) => {
    const scenario = new Scenario();
    expect(scenario.receive(IPIP_PORT_ID, bytes)).toEqual([]);
    expect(scenario.drops(IPIP_PORT_ID)).toEqual({ [reason]: 1 });
  });
});

describe('an underlay port takes whole packets', () => {
  const UNDERLAY_PORT = 9;
  const scenario = () => {
    const made = new Scenario();
    made.attach(UNDERLAY_PORT, 'underlay', null, []);
    return made;
  };
  const inner = packet({ source: '10.65.1.5', destination: '10.65.0.2' });
  const datagram = (payload: Uint8Array, port = 4789) => {
    const bytes = new Uint8Array(8 + payload.length);
    putUdp(viewOf(bytes), 0, 50000, port, bytes.length);
    bytes.set(payload, 8);
    return packet({ source: '192.0.2.2', destination: '192.0.2.1', payload: bytes });
  };

  it('takes VXLAN with checksum 0, with the right one, and refuses a wrong one', () => {
    const made = scenario();
    expect(made.receive(UNDERLAY_PORT, datagram(vxlanPayload(inner)))).toHaveLength(1);
    const right = datagram(vxlanPayload(inner));
    const pseudo = ipv4.pseudoSum(PEER_VXLAN, NODE, 17, right.length - 20);
    put16(viewOf(right), 26, ~sum16(viewOf(right), 20, right.length - 20, pseudo));
    expect(made.receive(UNDERLAY_PORT, right)).toHaveLength(1);
    put16(viewOf(right), 26, get16(viewOf(right), 26) ^ 0x0101);
    expect(made.receive(UNDERLAY_PORT, right)).toHaveLength(0);
    expect(made.drops(UNDERLAY_PORT)).toEqual({ udp_checksum: 1 });
  });

  it('takes IPIP', () => {
    const made = scenario();
    expect(made.receive(UNDERLAY_PORT, ipip(packet({ source: '10.65.2.5' })))).toHaveLength(1);
  });

  it('sends VXLAN with a real UDP checksum', () => {
    const made = scenario();
    made.route('10.65.3.0', 26, {
      kind: adj.VXLAN,
      port: UNDERLAY_PORT,
      nextHop: PEER_VXLAN,
      mtu: 1450,
      source: NODE,
      dmac: VTEP_PEER,
      smac: VTEP_OWN,
      vni: VNI,
    });
    const [sent] = made.receive(POD_A, frame(packet({ destination: '10.65.3.3' })));
    const bytes = sent!.bytes;
    const pseudo = ipv4.pseudoSum(NODE, PEER_VXLAN, 17, bytes.length - 20);
    expect(get16(viewOf(bytes), 26)).not.toBe(0);
    expect(sum16(viewOf(bytes), 20, bytes.length - 20, pseudo)).toBe(0xffff);
  });

  it.each<[string, Uint8Array]>([
    ['not_tunnel', datagram(vxlanPayload(inner), 4790)],
    ['not_tunnel', packet({ source: '192.0.2.2', destination: '192.0.2.1', protocol: 6 })],
    ['outer_destination', packet({ source: '192.0.2.2', destination: '192.0.2.7' })],
    ['outer_fragment', packet({ source: '192.0.2.2', destination: '192.0.2.1', flags: 0x2000 })],
    ['udp_length', packet({ source: '192.0.2.2', destination: '192.0.2.1', payload: new Uint8Array(7) })],
    ['ip4_short', new Uint8Array(3)],
    ['not_ip', new Uint8Array(0)],
  ])('drops %s', (reason, bytes) => {
    const made = scenario();
    expect(made.receive(UNDERLAY_PORT, bytes)).toEqual([]);
    expect(made.drops(UNDERLAY_PORT)).toEqual({ [reason]: 1 });
  });
});

describe('loops', () => {
  it('never tunnels to ourselves, nor a tunnel’s end into the tunnel', () => {
    const scenario = new Scenario();
    const tunnel = { kind: adj.IPIP, port: IPIP_PORT_ID, mtu: 1480, source: NODE };
    scenario.route('10.66.0.0', 24, { ...tunnel, nextHop: NODE });
    scenario.route('192.0.2.3', 32, { ...tunnel, nextHop: PEER_IPIP });
    for (const destination of ['10.66.0.1', '192.0.2.3']) {
      expect(scenario.receive(POD_A, frame(packet({ destination })))).toEqual([]);
    }
    expect(scenario.drops(POD_A)).toEqual({ tunnel_loop: 2 });
  });

  it('nor what comes from a tunnel’s end into the tunnel', () => {
    const scenario = new Scenario();
    for (const [source, destination] of [
      ['192.0.2.2', '10.65.1.5'],
      ['192.0.2.3', '10.65.2.5'],
    ]) {
      const looping = frame(packet({ source, destination }), GATEWAY, MAC_HOST);
      expect(scenario.receive(HOST_PORT, looping)).toEqual([]);
    }
    expect(scenario.drops(HOST_PORT)).toEqual({ tunnel_loop: 2 });
  });
});

describe('trace', () => {
  it('tells each step of the packets that match, and stops at the count', () => {
    const scenario = new Scenario();
    scenario.pipeline.setTrace({ program: hostFilter4('10.65.1.5'), count: 1 });
    scenario.receive(POD_A, frame(packet()));
    scenario.receive(POD_A, frame(packet({ destination: '10.65.1.5' })));
    scenario.receive(POD_A, frame(packet({ destination: '10.65.1.5' })));
    const traces = scenario.pipeline.takeTraces();
    expect(traces).toHaveLength(1);
    const codes = [...traces[0]!.steps].filter((_, i) => i % step.STEP_CELLS === 0);
    expect(codes).toEqual([
      step.RECEIVED,
      step.HEADER,
      step.SOURCE_CHECKED,
      step.LOOKUP,
      step.MTU,
      step.TTL,
      step.ENCAPSULATED,
      step.OUTER,
      step.SENT,
    ]);
    scenario.receive(POD_A, frame(packet({ destination: '10.65.1.5' })));
    expect(scenario.pipeline.takeTraces()).toEqual([]);
  });

  it('finds a host inside either tunnel', () => {
    const scenario = new Scenario();
    scenario.pipeline.setTrace({ program: hostFilter4('10.65.0.2'), count: 10 });
    scenario.receive(
      VXLAN_PORT_ID,
      vxlanPayload(packet({ source: '10.65.1.5', destination: '10.65.0.2' })),
      PEER_VXLAN,
    );
    scenario.receive(IPIP_PORT_ID, ipip(packet({ source: '10.65.2.5', destination: '10.65.0.2' })));
    expect(scenario.pipeline.takeTraces()).toHaveLength(2);
  });
});

describe('bad input', () => {
  it('is always counted and never crashes: mutated and truncated frames on every port', () => {
    const corpus: [number, Uint8Array, number][] = [
      [POD_A, frame(packet()), 0],
      [POD_A, frame(packet({ destination: '10.65.1.5' })), 0],
      [POD_A, frame(packet({ destination: '10.65.2.5', protocol: 1, payload: icmpMessage(8, 0) })), 0],
      [POD_A, arpRequest('10.65.0.2', '169.254.1.1'), 0],
      [HOST_PORT, frame(packet({ source: '192.0.2.1', destination: '10.65.1.2' }), GATEWAY, MAC_HOST), 0],
      [VXLAN_PORT_ID, vxlanPayload(packet({ source: '10.65.1.5', destination: '10.65.0.2' })), PEER_VXLAN],
      [IPIP_PORT_ID, ipip(packet({ source: '10.65.2.5', destination: '10.65.0.3' })), PEER_IPIP],
    ];
    const scenario = new Scenario();
    let received = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...corpus),
        fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 }),
        fc.option(fc.nat(120), { nil: undefined }),
        ([port, bytes, from], mutations, cut) => {
          const mutated = bytes.slice(0, cut ?? bytes.length);
          for (const [at, value] of mutations) if (at < mutated.length) mutated[at] = value;
          scenario.receive(port, mutated, from);
          received++;
          expectBalanced(scenario);
        },
      ),
      { numRuns: 3000, verbose: 1 },
    );
    const total = [POD_A, HOST_PORT, VXLAN_PORT_ID, IPIP_PORT_ID].reduce(
      (sum, port) => sum + scenario.counters(port).totals.rxFrames,
      0,
    );
    expect(total).toBe(received);
  });

  it('charges a failed send to the port that it came from', () => {
    const scenario = new Scenario();
    const rows = new Int32Array(ROW * 4);
    for (const [i, [from, errno]] of [
      [POD_A, 11],
      [POD_A, 105],
      [POD_A, 90],
      [~POD_A, 5],
    ].entries()) {
      rows[i * ROW + PORT] = from!;
      rows[i * ROW + STATUS] = errno!;
    }
    scenario.pipeline.transmitted(POD_B, rows, 4);
    expect(scenario.drops(POD_A)).toEqual({ tx_full: 2, tx_too_big: 1 });
    expect(scenario.counters(POD_A).totals.originatedLost).toBe(1);
    expect(scenario.counters(POD_B).totals.txFrames).toBe(0);
  });

  it('counts what is for a port that is gone', () => {
    const scenario = new Scenario();
    scenario.pipeline.detach(POD_B);
    expect(scenario.receive(POD_A, frame(packet()))).toEqual([]);
    expect(scenario.drops(POD_A)).toEqual({ port_gone: 1 });
  });
});

it('has a name, a line and a cure for every drop reason', () => {
  expect(new Set(DROP_REASONS.map((reason) => reason.name)).size).toBe(DROP_REASONS.length);
  for (const reason of DROP_REASONS) expect(reason.description && reason.cure).toBeTruthy();
});
