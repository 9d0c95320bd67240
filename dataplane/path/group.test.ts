import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import * as adj from '../fib/adjacency.ts';
import { deal } from '../fib/deal.ts';
import { BUCKETS } from '../fib/groups.ts';
import {
  frame,
  GATEWAY,
  HOST_PORT,
  IPIP_PORT_ID,
  icmpMessage,
  ip4,
  ip6,
  MAC_A,
  MAC_HOST,
  NODE,
  POD_A,
  packet,
  packet6,
  Scenario,
  VNI,
  VTEP_OWN,
  VTEP_PEER,
  VXLAN_PORT_ID,
  vxlanPayload,
} from '../scenario.ts';
import * as step from '../trace.ts';
import { put16, put32, viewOf } from '../wire/bytes.ts';
import { TYPE_IPV4, TYPE_IPV6 } from '../wire/ethernet.ts';
import { FRAGMENT_OFFSET, MORE_FRAGMENTS } from '../wire/ipv4.ts';
import { NEXT_FRAGMENT, NEXT_ICMPV6 } from '../wire/ipv6.ts';

const HOPS = ['192.0.2.21', '192.0.2.22', '192.0.2.23'];
const INSIDE = '10.65.9.0';
const INSIDE6 = 'fd65::9:0';
const blank = { port: 0, nextHop: 0, mtu: 0, source: 0, dmac: null, smac: null, vni: 0 };

let scenario: Scenario;

const ipip = (hop: string): adj.Adjacency => ({
  ...blank,
  kind: adj.IPIP,
  port: IPIP_PORT_ID,
  nextHop: ip4(hop),
  mtu: 1480,
  source: NODE,
});
const vxlan = (hop: string): adj.Adjacency => ({
  kind: adj.VXLAN,
  port: VXLAN_PORT_ID,
  nextHop: ip4(hop),
  mtu: 1450,
  source: NODE,
  dmac: VTEP_PEER,
  smac: VTEP_OWN,
  vni: VNI,
});
const direct = (hop: string): adj.Adjacency => ({
  ...blank,
  kind: adj.HOST,
  port: HOST_PORT,
  nextHop: ip4(hop),
  dmac: MAC_HOST,
});

let layout: Uint16Array;
let group: number;
let row: Map<string, number>;

/** Routes of both families by these. */
function share(members: readonly adj.Adjacency[]): void {
  const indices = members.map((member) => scenario.adjacencies.acquire(member));
  row = new Map(HOPS.map((hop, i) => [hop, indices[i]!]));
  layout = deal(indices, null);
  group = scenario.groups.acquire(layout);
  scenario.fib.set(ip4(INSIDE), 26, group);
  scenario.fib6.set(ip6(INSIDE6), 122, group);
  for (const hop of HOPS) scenario.peers.add(ip4(hop));
}

function update(hops: readonly string[]): void {
  layout = deal(
    hops.map((hop) => row.get(hop)!),
    layout,
  );
  scenario.groups.update(group, layout);
}

function ports(source: number, destination: number): Uint8Array {
  const bytes = new Uint8Array(12);
  put16(viewOf(bytes), 0, source);
  put16(viewOf(bytes), 2, destination);
  put16(viewOf(bytes), 4, bytes.length);
  return bytes;
}

/** Where a packet of pod a goes: the index of its next hop; -1: nowhere. */
const hopOf = (inner: Uint8Array): number => {
  const type = inner[0]! >> 4 === 4 ? TYPE_IPV4 : TYPE_IPV6;
  const [sent] = scenario.receive(POD_A, frame(inner, GATEWAY, MAC_A, type));
  return sent ? HOPS.indexOf(HOPS.find((hop) => ip4(hop) === sent.to) ?? '') : -1;
};
/** UDP of pod a's, one flow a number. */
const flow = (number: number, to = '10.65.9.5') => packet({ destination: to, payload: ports(number, 80) });
const flow6 = (number: number, to = 'fd65::9:5') => packet6({ destination: to, payload: ports(number, 80) });
const FLOWS = Array.from({ length: 1200 }, (_, i) => 1024 + i);

beforeEach(() => {
  scenario = new Scenario();
});

describe.each([
  ['IPv4', flow, ipip],
  ['IPv4', flow, vxlan],
  ['IPv6', flow6, vxlan],
] as const)('flows of %s by a group', (_family, make, member) => {
  beforeEach(() => share(HOPS.map(member)));

  it('spread over its members, and each stays with its own', () => {
    const counts = [0, 0, 0];
    for (const number of FLOWS) {
      const hop = hopOf(make(number));
      counts[hop]! += 1;
      expect(hopOf(make(number))).toBe(hop);
    }
    for (const count of counts) expect(count).toBeGreaterThan(300);
  });

  it('stay where they are when a member of others goes, and come back with it', () => {
    const before = FLOWS.map((number) => hopOf(make(number)));
    update([HOPS[0]!, HOPS[2]!]);
    const without = FLOWS.map((number) => hopOf(make(number)));
    for (const [i, hop] of before.entries()) {
      if (hop === 1) expect([0, 2]).toContain(without[i]);
      else expect(without[i]).toBe(hop);
    }
    expect([0, 2].map((hop) => before.some((was, i) => was === 1 && without[i] === hop))).toEqual([
      true,
      true,
    ]);
    update(HOPS);
    const moved = FLOWS.filter((number, i) => hopOf(make(number)) !== without[i]);
    expect(moved.length).toBeLessThan(FLOWS.length * 0.42);
    for (const number of moved) expect(hopOf(make(number))).toBe(1);
  });

  it('take other members on another node, so that nodes in a row do not pick alike', () => {
    const here = FLOWS.map((number) => hopOf(make(number)));
    scenario.pipeline.setNode({
      address: ip4('192.0.2.99'),
      local: [NODE],
      vtepMac: VTEP_OWN,
      vni: VNI,
      icmpRate: 1,
    });
    const same = FLOWS.filter((number, i) => hopOf(make(number)) === here[i]).length;
    expect(same / FLOWS.length).toBeGreaterThan(0.25);
    expect(same / FLOWS.length).toBeLessThan(0.42);
  });
});

it('members and source ports of VXLAN are independent of each other', () => {
  share([vxlan(HOPS[0]!), vxlan(HOPS[1]!)]);
  const halves = [
    [0, 0],
    [0, 0],
  ];
  for (let number = 1; number <= 2000; number++) {
    const [sent] = scenario.receive(POD_A, frame(flow(number)));
    const port = viewOf(sent!.bytes).getUint16(20);
    halves[sent!.to === ip4(HOPS[0]!) ? 0 : 1]![port & 1]! += 1;
  }
  for (const count of halves.flat()) expect(Math.abs(count - 500)).toBeLessThan(100);
});

describe('a datagram’s fragments', () => {
  beforeEach(() => share(HOPS.map(vxlan)));

  it('of IPv4 all go by one member, the first one too', () => {
    for (let host = 1; host < 60; host++) {
      const destination = `10.65.9.${host}`;
      const hops = [MORE_FRAGMENTS, MORE_FRAGMENTS | 2, 4 & FRAGMENT_OFFSET].map((flags, i) =>
        hopOf(
          packet({ destination, flags, payload: i === 0 ? ports(host, 80) : new Uint8Array(16).fill(i) }),
        ),
      );
      expect(new Set(hops).size).toBe(1);
    }
  });

  it('of IPv6 all go by one member, the first one too', () => {
    for (let host = 1; host < 60; host++) {
      const destination = `fd65::9:${host.toString(16)}`;
      const piece = (place: number, rest: Uint8Array) => {
        const payload = new Uint8Array(8 + rest.length);
        payload[0] = 17;
        put16(viewOf(payload), 2, place);
        payload.set(rest, 8);
        return packet6({ destination, next: NEXT_FRAGMENT, payload });
      };
      const hops = [piece(1, ports(host, 80)), piece(17, new Uint8Array(16).fill(3)), piece(32, ports(9, 9))];
      expect(new Set(hops.map(hopOf)).size).toBe(1);
    }
  });
});

describe('ICMP errors', () => {
  beforeEach(() => share(HOPS.map(vxlan)));

  it('about a flow go where the flow goes (RFC 7690)', () => {
    for (const number of FLOWS.slice(0, 100)) {
      const back = packet({ source: '10.65.9.5', destination: '10.65.0.2', payload: ports(80, number) });
      const rest = new Uint8Array(4 + back.length);
      rest.set(back, 4);
      const error = packet({ destination: '10.65.9.5', protocol: 1, payload: icmpMessage(3, 4, rest) });
      expect(hopOf(error)).toBe(hopOf(flow(number)));
    }
  });

  it('about a flow of IPv6 go where the flow goes (RFC 7690)', () => {
    for (const number of FLOWS.slice(0, 100)) {
      const back = packet6({ source: 'fd65::9:5', destination: 'fd65::2', payload: ports(80, number) });
      const payload = new Uint8Array(8 + back.length);
      payload[0] = 2;
      put32(viewOf(payload), 4, 1400);
      payload.set(back, 8);
      expect(hopOf(packet6({ destination: 'fd65::9:5', next: NEXT_ICMPV6, payload }))).toBe(
        hopOf(flow6(number)),
      );
    }
  });

  it('that quote nothing sensible, or are cut anywhere, go somewhere', () => {
    const anything = fc.uint8Array({ maxLength: 80 });
    fc.assert(
      fc.property(anything, fc.constantFrom(3, 11, 12), (rest, type) => {
        const payload = icmpMessage(type, 0, rest);
        expect(hopOf(packet({ destination: '10.65.9.5', protocol: 1, payload }))).toBeGreaterThanOrEqual(0);
        const six = Uint8Array.of(type & 3 || 1, 0, 0, 0, ...rest);
        const error = packet6({ destination: 'fd65::9:5', next: NEXT_ICMPV6, payload: six });
        expect(hopOf(error)).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  it('of ours reach a sender behind a group, where its flow is answered', () => {
    for (const number of FLOWS.slice(0, 20)) {
      const late = packet({
        source: '10.65.9.5',
        destination: '10.65.0.2',
        ttl: 1,
        payload: ports(80, number),
      });
      const peer = ip4(HOPS[number % 3]!);
      const [error] = scenario.receive(VXLAN_PORT_ID, vxlanPayload(late), peer);
      expect(error!.port).toBe(VXLAN_PORT_ID);
      expect(HOPS.findIndex((hop) => ip4(hop) === error!.to)).toBe(hopOf(flow(number)));
      const late6 = packet6({
        source: 'fd65::9:5',
        destination: 'fd65::2',
        hopLimit: 1,
        payload: ports(80, number),
      });
      const [error6] = scenario.receive(VXLAN_PORT_ID, vxlanPayload(late6, { type: TYPE_IPV6 }), peer);
      expect(HOPS.findIndex((hop) => ip4(hop) === error6!.to)).toBe(hopOf(flow6(number)));
    }
    expect(scenario.drops(VXLAN_PORT_ID)).toEqual({ ttl_expired: 40 });
  });
});

it('what is routed by a group may come from each of its members, and from nobody else', () => {
  share(HOPS.map(vxlan));
  const from = (peer: string) => {
    const inner = packet({ source: '10.65.9.5', destination: '10.65.0.2' });
    const inner6 = packet6({ source: 'fd65::9:5', destination: 'fd65::2' });
    return [
      scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner), ip4(peer)).length,
      scenario.receive(VXLAN_PORT_ID, vxlanPayload(inner6, { type: TYPE_IPV6 }), ip4(peer)).length,
    ];
  };
  expect(HOPS.map(from)).toEqual([
    [1, 1],
    [1, 1],
    [1, 1],
  ]);
  // A known peer, but of other routes.
  expect(from('192.0.2.2')).toEqual([0, 0]);
  update([HOPS[0]!, HOPS[1]!]);
  expect(from(HOPS[2]!)).toEqual([0, 0]);
  expect(scenario.drops(VXLAN_PORT_ID)).toEqual({ peer_source: 4 });
});

describe('a group with ways that the host has itself', () => {
  const fromHost = (number: number) =>
    scenario.receive(
      HOST_PORT,
      frame(packet({ source: '192.0.2.1', destination: '10.65.9.5', payload: ports(number, 80) })),
    );

  it('leads pods by any, and the host by tunnels alone', () => {
    share([ipip(HOPS[0]!), direct(HOPS[1]!), direct(HOPS[2]!)]);
    const sentOn = new Set(FLOWS.map((number) => scenario.receive(POD_A, frame(flow(number)))[0]!.port));
    expect(sentOn).toEqual(new Set([IPIP_PORT_ID, HOST_PORT]));
    for (const number of FLOWS) expect(fromHost(number)[0]!.port).toBe(IPIP_PORT_ID);
  });

  it('leads the host nowhere without a tunnel', () => {
    share(HOPS.map(direct));
    expect(fromHost(1).length).toBe(1);
    expect(scenario.drops(HOST_PORT)).toEqual({ host_loop: 1 });
  });
});

it('a trace tells the bucket and the member', () => {
  share(HOPS.map(vxlan));
  scenario.pipeline.setTrace({ count: 1 });
  const [sent] = scenario.receive(POD_A, frame(flow(7)));
  const [trace] = scenario.pipeline.takeTraces();
  const at = trace!.steps.findIndex((code, i) => i % step.STEP_CELLS === 0 && code === step.GROUP);
  const [, number, bucket, index, hop] = trace!.steps.subarray(at);
  expect([number, hop]).toEqual([0, sent!.to]);
  expect(bucket).toBeLessThan(BUCKETS);
  expect(layout[bucket!]).toBe(index);
});
