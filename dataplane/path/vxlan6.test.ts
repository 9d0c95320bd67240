import { describe, expect, it } from 'vitest';
import * as adj from '../fib/adjacency.ts';
import {
  frame,
  GATEWAY,
  HOST_PORT,
  hostFilter6,
  ip6,
  MAC_A,
  MAC_HOST,
  type Packet6Options,
  PEER_VXLAN,
  PEER_VXLAN6,
  POD_A,
  packet,
  packet6,
  Scenario,
  UNDERLAY6,
  VTEP_OWN,
  VTEP_PEER,
  VXLAN_PORT_ID,
  VXLAN6_PORT_ID,
  vxlanPayload,
  words6,
} from '../scenario.ts';
import * as step from '../trace.ts';
import { get16, get32, put16, sum16, viewOf } from '../wire/bytes.ts';
import { TYPE_IPV6 } from '../wire/ethernet.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { putUdp, putUdpChecksum } from '../wire/udp.ts';

const UNDERLAY_PORT = 9;
const OVERHEAD = 70;
const FAR_POD = 'fd65::3:2';

const frame6 = (options: Packet6Options = {}) =>
  frame(packet6({ destination: FAR_POD, ...options }), GATEWAY, MAC_A, TYPE_IPV6);
const inner = (options: Packet6Options = {}) =>
  packet6({ source: FAR_POD, destination: 'fd65::2', ...options });
const payload6 = (options: Packet6Options = {}) => vxlanPayload(inner(options), { type: TYPE_IPV6 });
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** The whole packet on the underlay. */
function outer6(payload: Uint8Array, options: { class?: number; headers?: Uint8Array; next?: number } = {}) {
  const headers = options.headers ?? new Uint8Array(0);
  const bytes = new Uint8Array(40 + headers.length + 8 + payload.length);
  const view = viewOf(bytes);
  const datagram = 40 + headers.length;
  ipv6.putIpv6(view, 0, options.class ?? 0, bytes.length - 40, options.next ?? 17, 64);
  bytes.set(ip6(PEER_VXLAN6), ipv6.SOURCE);
  bytes.set(ip6(UNDERLAY6), ipv6.DESTINATION);
  bytes.set(headers, 40);
  bytes.set(payload, datagram + 8);
  putUdp(view, datagram, 50000, 4789, 8 + payload.length);
  const pseudo = ipv6.pseudoSum6(view, 0, 17, 8 + payload.length);
  putUdpChecksum(view, datagram, 8 + payload.length, pseudo);
  return bytes;
}

function underlay(): Scenario {
  const node = new Scenario();
  node.attach(UNDERLAY_PORT, 'underlay', null, []);
  node.route6('fd65::3:0', 122, {
    kind: adj.VXLAN6,
    port: UNDERLAY_PORT,
    nextHop: node.peer6,
    nextHop6: words6(PEER_VXLAN6),
    mtu: 1430,
    dmac: VTEP_PEER,
    smac: VTEP_OWN,
    vni: 4096,
  });
  return node;
}

describe('into VXLAN over IPv6', () => {
  it('goes with 70 bytes in front, to the byte, and a UDP checksum that holds', () => {
    const node = underlay();
    const [sent] = node.receive(POD_A, frame6({ trafficClass: 0xb9 }));
    expect(sent).toMatchObject({ port: UNDERLAY_PORT, to: node.peer6 });
    const { bytes } = sent!;
    const view = viewOf(bytes);
    const length = bytes.length - 40;
    const label = ipv6.flowLabel(view, 0);
    const port = get16(view, 40);
    expect(label).toBeGreaterThan(0);
    expect(port).toBeGreaterThanOrEqual(49152);
    const checksum = get16(view, 46);
    expect(checksum).not.toBe(0);
    expect(sum16(view, 40, length, ipv6.pseudoSum6(view, 0, 17, length))).toBe(0xffff);
    const four = (value: number) => value.toString(16).padStart(4, '0');
    expect(hex(bytes.subarray(0, OVERHEAD))).toBe(
      [
        // Version, class of the packet inside, label, length, UDP, hop limit 64.
        `6b9${label.toString(16).padStart(5, '0')}`,
        `${four(length)}1140`,
        `20010db8${'0'.repeat(23)}1`,
        `20010db8${'0'.repeat(23)}2`,
        `${four(port)}12b5${four(length)}${four(checksum)}`,
        // The I flag, VNI 4096.
        '0800000000100000',
        '660000000002660000000001',
        '86dd',
      ].join(''),
    );
    expect(bytes.subarray(OVERHEAD)).toEqual(
      packet6({ destination: FAR_POD, trafficClass: 0xb9, hopLimit: 63 }),
    );
  });

  it('has DSCP of the node where it says so, ECN of the packet always', () => {
    const node = underlay();
    const spec = { address: 1, local: [1], vtepMac: VTEP_OWN, vni: 4096, icmpRate: 10 };
    node.pipeline.setNode({ ...spec, underlay6: words6(UNDERLAY6), dscp: 10 });
    const [sent] = node.receive(POD_A, frame6({ trafficClass: 0xb9 }));
    expect(ipv6.trafficClass(viewOf(sent!.bytes), 0)).toBe((10 << 2) | 1);
  });

  it('has one label and source port for a flow, others for another, also behind extension headers', () => {
    const node = underlay();
    const of = (options: Packet6Options) => {
      const [sent] = node.receive(POD_A, frame6(options));
      const view = viewOf(sent!.bytes);
      return `${ipv6.flowLabel(view, 0)} ${get16(view, 40)}`;
    };
    const datagram = (port: number) => Uint8Array.of(3, 232, port >> 8, port & 255, 0, 8, 0, 0);
    const first = of({ payload: datagram(2000) });
    expect(of({ payload: datagram(2000), hopLimit: 9, trafficClass: 4 })).toBe(first);
    expect(of({ payload: datagram(2001) })).not.toBe(first);
    const options = Uint8Array.of(17, 0, 1, 4, 0, 0, 0, 0, ...datagram(2000));
    expect(of({ next: 60, payload: options })).toBe(first);
    // An atomic fragment is a whole packet.
    const atomic = Uint8Array.of(17, 0, 0, 0, 0, 0, 0, 9, ...datagram(2000));
    expect(of({ next: 44, payload: atomic })).toBe(first);
  });

  it('leaves without outer checksum where a socket writes it', () => {
    const node = new Scenario();
    const [sent] = node.receive(POD_A, frame6());
    expect([sent!.port, get16(viewOf(sent!.bytes), 46)]).toEqual([VXLAN6_PORT_ID, 0]);
  });

  it('never ends here, nor leads a packet of the tunnel’s own ends into itself', () => {
    for (const end of [UNDERLAY6, FAR_POD]) {
      const node = new Scenario();
      const vxlan6 = { kind: adj.VXLAN6, port: VXLAN6_PORT_ID, nextHop: 7, nextHop6: words6(end) };
      node.route6('fd65::3:0', 122, vxlan6);
      expect(node.receive(POD_A, frame6())).toEqual([]);
      expect(node.drops(POD_A)).toEqual({ tunnel_loop: 1 });
    }
    const node = new Scenario();
    const nested = frame(
      packet6({ source: PEER_VXLAN6, destination: FAR_POD }),
      GATEWAY,
      MAC_HOST,
      TYPE_IPV6,
    );
    node.receive(HOST_PORT, nested);
    expect(node.drops(HOST_PORT)).toEqual({ tunnel_loop: 1 });
  });

  it('asks for 1430 where 1500 fit outside, and for 1280 where less would', () => {
    const asked = (mtu: number, size: number) => {
      const node = new Scenario();
      const vxlan6 = { kind: adj.VXLAN6, port: VXLAN6_PORT_ID, nextHop: node.peer6, mtu };
      node.route6('fd65::3:0', 122, { ...vxlan6, nextHop6: words6(PEER_VXLAN6) });
      const [sent] = node.receive(POD_A, frame6({ payload: new Uint8Array(size - 40) }));
      if (!sent) return node.drops(POD_A);
      if (sent.port === VXLAN6_PORT_ID) return 'sent';
      expect(hex(sent.bytes.subarray(54, 56))).toBe('0200');
      return get32(viewOf(sent.bytes), 58);
    };
    expect(asked(1430, 1430)).toBe('sent');
    expect(asked(1430, 1431)).toBe(1430);
    expect(asked(1210, 1300)).toBe(1280);
    // Every link must carry so much: nobody could do anything about it.
    expect(asked(1210, 1280)).toEqual({ too_big: 1 });
  });

  it('errors about what came that way go back that way', () => {
    const node = new Scenario();
    const [sent] = node.receive(VXLAN6_PORT_ID, payload6({ hopLimit: 1 }), node.peer6);
    expect(sent!.port).toBe(VXLAN6_PORT_ID);
    expect(hex(sent!.bytes.subarray(OVERHEAD + 40, OVERHEAD + 42))).toBe('0300');
  });
});

describe('out of VXLAN over IPv6', () => {
  it('loses one hop, as any packet that is forwarded, and has ECN merged in', () => {
    const node = underlay();
    const marked = outer6(payload6({ trafficClass: 1 }), { class: 3 });
    const [sent] = node.receive(UNDERLAY_PORT, marked);
    expect(sent!.port).toBe(POD_A);
    expect(sent!.bytes.subarray(14)).toEqual(inner({ hopLimit: 63, trafficClass: 3 }));
    const [socket] = node.receive(VXLAN6_PORT_ID, payload6(), node.peer6);
    expect(socket!.bytes.subarray(14)).toEqual(inner({ hopLimit: 63 }));
  });

  it('is taken behind extension headers, and as an atomic fragment', () => {
    const options = Uint8Array.of(17, 0, 1, 4, 0, 0, 0, 0);
    const atomic = Uint8Array.of(17, 0, 0, 0, 0, 0, 0, 9);
    for (const [next, headers] of [
      [60, options],
      [44, atomic],
    ] as const) {
      const node = underlay();
      expect(node.receive(UNDERLAY_PORT, outer6(payload6(), { next, headers }))).toHaveLength(1);
    }
  });

  const good = outer6(payload6());
  const unchecked = good.slice();
  unchecked.fill(0, 46, 48);
  const stranger = outer6(payload6());
  const short = outer6(payload6());
  put16(viewOf(short), 44, 9999);
  stranger.set(ip6('2001:db8::66'), ipv6.SOURCE);
  // What one word gains another loses: the checksum still holds.
  put16(viewOf(stranger), 40, 50000 - 0x64);
  const elsewhere = good.slice();
  elsewhere.set(ip6('2001:db8::99'), ipv6.DESTINATION);

  it.each<[string, Uint8Array]>([
    ['udp6_unchecked', unchecked],
    ['udp_checksum', good.with(good.length - 1, 0x55)],
    ['udp_length', short],
    ['unknown_peer', stranger],
    ['outer_destination', elsewhere],
    ['outer_fragment', outer6(payload6(), { next: 44, headers: Uint8Array.of(17, 0, 0, 1, 0, 0, 0, 9) })],
    ['outer_fragment', outer6(payload6(), { next: 44, headers: Uint8Array.of(17, 0, 0, 8, 0, 0, 0, 9) })],
    ['not_tunnel', outer6(payload6(), { next: 58 })],
    ['not_tunnel', outer6(payload6(), { next: 60, headers: Uint8Array.of(17, 255, 1, 4, 0, 0, 0, 0) })],
    ['not_tunnel', good.with(43, 0xb6)],
    ['ip6_short', good.subarray(0, 39)],
    ['ip6_payload_length', good.subarray(0, 80)],
    ['vxlan_flags', outer6(vxlanPayload(inner(), { type: TYPE_IPV6, flags: 0 }))],
    ['vxlan_vni', outer6(vxlanPayload(inner(), { type: TYPE_IPV6, vni: 7 }))],
    ['peer_source', outer6(payload6({ source: 'fd65::1:2' }))],
    ['peer_source', outer6(payload6({ source: 'fd65::3' }))],
    ['peer_source', outer6(vxlanPayload(packet({ source: '10.65.1.2', destination: '10.65.0.2' })))],
    ['martian_source', outer6(payload6({ source: '::1' }))],
  ])('is dropped: %s', (reason, bytes) => {
    const node = underlay();
    expect(node.receive(UNDERLAY_PORT, bytes)).toEqual([]);
    expect(node.drops(UNDERLAY_PORT)).toEqual({ [reason]: 1 });
  });

  it('may come from its node’s own address, and from no other node’s', () => {
    const node = underlay();
    expect(node.receive(UNDERLAY_PORT, outer6(payload6({ source: PEER_VXLAN6 })))).toHaveLength(1);
    expect(node.receive(UNDERLAY_PORT, outer6(payload6({ source: '2001:db8::3' })))).toEqual([]);
    // Over IPv4 nobody knows whose address it is.
    expect(node.receive(VXLAN_PORT_ID, payload6({ source: PEER_VXLAN6 }), PEER_VXLAN)).toEqual([]);
    expect(node.drops(UNDERLAY_PORT)).toEqual({ peer_source: 1 });
    expect(node.drops(VXLAN_PORT_ID)).toEqual({ peer_source: 1 });
  });

  it('is for the VTEP’s MAC of IPv6, where it has one of its own', () => {
    const node = new Scenario();
    const spec = { address: 1, local: [1], vtepMac: VTEP_OWN, vtepMac6: VTEP_PEER, vni: 4096, icmpRate: 10 };
    node.pipeline.setNode(spec);
    const other = vxlanPayload(inner(), { type: TYPE_IPV6, destination: VTEP_PEER });
    expect(node.receive(VXLAN6_PORT_ID, other, node.peer6)).toHaveLength(1);
    expect(node.receive(VXLAN6_PORT_ID, payload6(), node.peer6)).toEqual([]);
    expect(node.drops(VXLAN6_PORT_ID)).toEqual({ vxlan_mac: 1 });
  });

  it('a peer’s number is no address, and an address no number', () => {
    const node = new Scenario();
    // From 0.0.x.y over IPv4, with an inner source that is routed via the peer of that number.
    node.receive(VXLAN_PORT_ID, payload6(), node.peer6);
    expect(node.drops(VXLAN_PORT_ID)).toEqual({ unknown_peer: 1 });
    node.receive(VXLAN6_PORT_ID, payload6({ source: 'fd65::1:2' }), node.peer6);
    node.receive(VXLAN6_PORT_ID, payload6(), 0);
    expect(node.drops(VXLAN6_PORT_ID)).toEqual({ peer_source: 1, unknown_peer: 1 });
    // What is routed by IPv6 does not come by IPv4, though its node is known there.
    node.receive(VXLAN_PORT_ID, payload6(), PEER_VXLAN);
    expect(node.drops(VXLAN_PORT_ID)).toEqual({ unknown_peer: 1, peer_source: 1 });
  });
});

it('traces name the far end', () => {
  const node = underlay();
  node.pipeline.setTrace({ program: hostFilter6(FAR_POD), count: 5 });
  node.receive(POD_A, frame6());
  node.receive(VXLAN6_PORT_ID, payload6(), node.peer6);
  const traces = node.pipeline.takeTraces().map(({ steps: cells }) => {
    const steps = Array.from({ length: cells.length / step.STEP_CELLS }, (_, i) =>
      cells.subarray(i * step.STEP_CELLS, (i + 1) * step.STEP_CELLS),
    );
    expect([...steps.find(([code]) => code === step.PEER6)!.subarray(1)]).toEqual(words6(PEER_VXLAN6));
    return steps.map(([code]) => step.STEPS[code!]![0]);
  });
  const header = ['source6', 'destination6', 'header6', 'source-checked6', 'lookup6', 'mtu', 'ttl'];
  expect(traces).toEqual([
    ['received', ...header, 'peer6', 'encapsulated6', 'outer', 'sent'],
    ['received', 'peer6', 'tunnel6', ...header, 'link', 'sent'],
  ]);
});
