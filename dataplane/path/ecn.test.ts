/** What a tunnel does with the TOS byte: ECN by RFC 6040, DSCP by RFC 2983. */
import { describe, expect, it } from 'vitest';
import { TOS } from '../memory/burst.ts';
import {
  frame,
  IPIP_PORT_ID,
  ip4,
  NODE,
  PEER_IPIP,
  PEER_VXLAN,
  PEER_VXLAN6,
  POD_A,
  packet,
  packet6,
  Scenario,
  UNDERLAY6,
  VNI,
  VTEP_OWN,
  VXLAN_PORT_ID,
  VXLAN6_PORT_ID,
  vxlanPayload,
} from '../scenario.ts';
import { viewOf } from '../wire/bytes.ts';
import { TYPE_IPV6 } from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { putUdp, putUdpChecksum } from '../wire/udp.ts';
import { VXLAN_PORT } from '../wire/vxlan.ts';

const NAMES = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE'];
/** RFC 6040, figure 4, in its own order of columns: Not-ECT, ECT(0), ECT(1), CE. */
const FIGURE_4: Record<string, string[]> = {
  'Not-ECT': ['Not-ECT', 'Not-ECT', 'Not-ECT', 'drop'],
  'ECT(0)': ['ECT(0)', 'ECT(0)', 'ECT(1)', 'CE'],
  'ECT(1)': ['ECT(1)', 'ECT(1)', 'ECT(1)', 'CE'],
  CE: ['CE', 'CE', 'CE', 'CE'],
};
const cells = Object.entries(FIGURE_4).flatMap(([inner, row]) =>
  ['Not-ECT', 'ECT(0)', 'ECT(1)', 'CE'].map((outer, column) => [inner, outer, row[column]!] as const),
);
const UPLINK = 9;
/** A DSCP beside the codepoint, which must stay. */
const DSCP = 46 << 2;

/** What pod a gets of a packet from far away; null: nothing. */
type Arrival = (inner: number, outer: number) => { tos: number; bytes: Uint8Array } | null;

const inner4 = (source: string, tos: number) => packet({ source, destination: '10.65.0.2', tos });
const inner6 = (tos: number, source = 'fd65::1:2') =>
  packet6({ source, destination: 'fd65::2', trafficClass: tos });

function byVxlan(inner: Uint8Array, type: number | undefined, outer: number) {
  const scenario = new Scenario();
  const sent = scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner, type ? { type } : {}), PEER_VXLAN, {
    [TOS]: outer,
  });
  return { scenario, port: VXLAN_PORT_ID, sent };
}

function byVxlan6(inner: Uint8Array, type: number, outer: number) {
  const scenario = new Scenario();
  const sent = scenario.receive(VXLAN6_PORT_ID, vxlanPayload(inner, { type }), scenario.peer6, {
    [TOS]: outer,
  });
  return { scenario, port: VXLAN6_PORT_ID, sent };
}

/** A whole packet, as the underlay carries it. */
function byUplink(bytes: Uint8Array) {
  const scenario = new Scenario();
  scenario.attach(UPLINK, 'underlay', null, []);
  return { scenario, port: UPLINK, sent: scenario.receive(UPLINK, bytes) };
}

const toVxlan = (payload: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(8 + payload.length);
  putUdp(viewOf(bytes), 0, 50000, VXLAN_PORT, bytes.length);
  bytes.set(payload, 8);
  return bytes;
};

const datagram4 = (inner: Uint8Array, tos: number) =>
  packet({ source: '192.0.2.2', destination: '192.0.2.1', tos, payload: toVxlan(vxlanPayload(inner)) });

function datagram6(inner: Uint8Array, trafficClass: number) {
  const payload = toVxlan(vxlanPayload(inner, { type: TYPE_IPV6 }));
  const bytes = packet6({ source: PEER_VXLAN6, destination: UNDERLAY6, trafficClass, payload });
  const view = viewOf(bytes);
  const pseudo = ipv6.pseudoSum6(view, 0, ipv4.PROTOCOL_UDP, payload.length);
  putUdpChecksum(view, ipv6.IPV6_LENGTH, payload.length, pseudo);
  return bytes;
}

function ipip(inner: Uint8Array, outer: number) {
  const bytes = new Uint8Array(20 + inner.length);
  ipv4.putIpv4(viewOf(bytes), 0, outer, bytes.length, 1, 0, 64, ipv4.PROTOCOL_IPIP, PEER_IPIP, NODE);
  bytes.set(inner, 20);
  return bytes;
}

function byIpip(inner: Uint8Array, outer: number) {
  const scenario = new Scenario();
  return { scenario, port: IPIP_PORT_ID, sent: scenario.receive(IPIP_PORT_ID, ipip(inner, outer)) };
}

function arrived({ scenario, port, sent }: ReturnType<typeof byIpip>, is6: boolean) {
  if (sent.length === 0) {
    expect(scenario.drops(port)).toEqual({ ecn_ce: 1 });
    return null;
  }
  const { bytes } = sent[0]!;
  const view = viewOf(bytes);
  if (!is6) expect(ipv4.checkIpv4(view, 14, bytes.length - 14)).toBe(ipv4.IPV4_OK);
  return { tos: is6 ? ipv6.trafficClass(view, 14) : ipv4.tos(view, 14), bytes };
}

const WAYS: Record<string, Arrival> = {
  'IPv4 in VXLAN': (inner, outer) => arrived(byVxlan(inner4('10.65.1.2', inner), undefined, outer), false),
  'IPv6 in VXLAN': (inner, outer) => arrived(byVxlan(inner6(inner), TYPE_IPV6, outer), true),
  'IPv4 in IPIP': (inner, outer) => arrived(byIpip(inner4('10.65.2.2', inner), outer), false),
  'IPv6 in VXLAN over IPv6': (inner, outer) =>
    arrived(byVxlan6(inner6(inner, 'fd65::3:2'), TYPE_IPV6, outer), true),
  // Where no socket tells of the outer header, it is read.
  'IPv4 in VXLAN, on an uplink': (inner, outer) =>
    arrived(byUplink(datagram4(inner4('10.65.1.2', inner), outer)), false),
  'IPv6 in VXLAN over IPv6, on an uplink': (inner, outer) =>
    arrived(byUplink(datagram6(inner6(inner, 'fd65::3:2'), outer)), true),
  'IPv4 in IPIP, on an uplink': (inner, outer) =>
    arrived(byUplink(ipip(inner4('10.65.2.2', inner), outer)), false),
};

describe.each(Object.entries(WAYS))('%s out of the tunnel', (_, arrival) => {
  it.each(cells)('%s inside, %s outside: %s', (inner, outer, merged) => {
    const found = arrival(DSCP | NAMES.indexOf(inner), (10 << 2) | NAMES.indexOf(outer));
    if (merged === 'drop') return expect(found).toBeNull();
    expect(found?.tos).toBe(DSCP | NAMES.indexOf(merged));
  });

  it('changes nothing else', () => {
    const plain = arrival(DSCP | 2, 0)!.bytes;
    const marked = arrival(DSCP | 2, 3)!.bytes;
    const differing = [...plain.keys()].filter((at) => plain[at] !== marked[at]);
    // IPv4: TOS and the header's checksum. IPv6: the codepoint alone.
    expect(differing.every((at) => [15, 24, 25].includes(at))).toBe(true);
    expect(differing).toContain(15);
  });
});

describe('into the tunnel', () => {
  const TO_VXLAN = '10.65.1.2';
  const TO_IPIP = '10.65.2.2';

  function nodeWith(dscp?: number): Scenario {
    const scenario = new Scenario();
    scenario.pipeline.setNode({
      address: NODE,
      local: [NODE],
      vtepMac: VTEP_OWN,
      vni: VNI,
      icmpRate: 100,
      ...(dscp !== undefined && { dscp }),
    });
    return scenario;
  }

  function outer(scenario: Scenario, destination: string, tos: number) {
    const [sent] = scenario.receive(POD_A, frame(packet({ destination, tos })));
    const view = viewOf(sent!.bytes);
    expect(ipv4.checkIpv4(view, 0, sent!.bytes.length)).toBe(ipv4.IPV4_OK);
    expect(ipv4.destination(view, 0)).toBe(destination === TO_VXLAN ? PEER_VXLAN : PEER_IPIP);
    // What the kernel is asked to write where it writes the header itself.
    expect(scenario.queued[0]![TOS]).toBe(ipv4.tos(view, 0));
    const inner = destination === TO_VXLAN ? 50 : 20;
    expect(ipv4.destination(view, inner)).toBe(ip4(destination));
    expect(ipv4.tos(view, inner)).toBe(tos);
    return ipv4.tos(view, 0);
  }

  it.each([TO_VXLAN, TO_IPIP])(
    'to %s: the outer header has the whole byte, in normal mode',
    (destination) => {
      const node = nodeWith();
      for (let tos = 0; tos < 256; tos++) expect(outer(node, destination, tos)).toBe(tos);
    },
  );

  it.each([TO_VXLAN, TO_IPIP])(
    'to %s: one DSCP for all where the node says so, ECN as ever',
    (destination) => {
      const [zero, ten] = [nodeWith(0), nodeWith(10)];
      for (let ecn = 0; ecn < 4; ecn++) {
        expect(outer(zero, destination, DSCP | ecn)).toBe(ecn);
        expect(outer(ten, destination, DSCP | ecn)).toBe((10 << 2) | ecn);
      }
    },
  );
});
