/** The cases made by hand: for each promise about packets on which the kernel has an opinion, the frames that ask for it. */

import type { PortName } from './frames.ts';
import * as f from './frames.ts';
import type { Frames } from './kernel.ts';

export interface Case {
  readonly name: string;
  readonly frames: Frames;
  /** Arguments of scripts/test-oracle that show it again. */
  readonly again: string;
}

const cases: Case[] = [];
let topic = '';
let sources = 0;

function add(name: string, port: PortName, ...frames: Uint8Array[]): void {
  const whole = `${topic}: ${name}`;
  cases.push({
    name: whole,
    frames: frames.map((frame) => [port, frame] as const),
    again: `--case '${whole}'`,
  });
}

/** A source that no case had before. */
const fresh = (): string => {
  sources++;
  return `10.77.0.${sources}`;
};

/** What fits all ways. */
const POD_MTU = 1430;
const data = f.filled(24);
/** A UDP packet that is right but for what is said. */
const datagram = (fields: f.Ip4 = {}, size = 24): Buffer => f.ip4(f.udp(f.filled(size), fields), fields);
const datagram6 = (fields: f.Ip6 = {}, size = 24): Buffer =>
  f.ip6(f.udp(f.filled(size), { src: f.A6, dst: f.B6, ...fields }), fields);
const pod = (name: string, packet: Uint8Array): void => add(name, 'cali-a', f.fromA4(packet));
const pod6 = (name: string, packet: Uint8Array): void => add(name, 'cali-a', f.fromA6(packet));
const host = (name: string, packet: Uint8Array): void =>
  add(name, 'tortie0', packet[0]! >> 4 === 6 ? f.fromHost6(packet) : f.fromHost4(packet));
const wire = (name: string, frame: Uint8Array): void => add(name, 'underlay', frame);
/** From the pod of another node to pod a. */
const inward = (fields: f.Ip4 = {}): Buffer => datagram({ src: f.REMOTE, dst: f.A, ...fields });
const inward6 = (fields: f.Ip6 = {}): Buffer => datagram6({ src: f.REMOTE6, dst: f.A6, ...fields });
const tunnelled = (name: string, packet: Uint8Array, tunnel: f.Tunnel = {}): void =>
  wire(name, f.vxlan(packet, tunnel));

const PLACES4 = [
  ['a pod', f.B],
  ['a pod of another node', f.REMOTE],
  ['the world', f.WORLD],
  ['the node', f.NODE],
] as const;
const PLACES6 = [
  ['a pod', f.B6],
  ['a pod of another node', f.REMOTE6],
  ['a pod by a tunnel over IPv6', f.REMOTE46],
  ['the world', f.WORLD6],
  ['the node', f.NODE_6],
] as const;

function forwarding(): void {
  topic = 'forwarding';
  for (const [what, dst] of PLACES4) {
    pod(`UDP to ${what}`, datagram({ dst }));
    pod(`TCP to ${what}`, f.ip4(f.tcp(data, { dst }), { dst, protocol: 6, fragment: f.DF }));
    pod(`echo to ${what}`, f.ip4(f.icmp(8, 0, 0x70001, data), { dst, protocol: 1 }));
    pod(`an unknown protocol to ${what}`, f.ip4(data, { dst, protocol: 253 }));
    pod(`no payload, to ${what}`, f.ip4(f.u8(), { dst, protocol: 59 }));
    pod(`the longest that all take, to ${what}`, datagram({ dst, fragment: f.DF }, POD_MTU - 28));
  }
  pod('to itself', datagram({ dst: f.A }));
  pod('padded to 60 bytes', f.join(f.ip4(f.udp(f.u8(1)), {}), f.filled(17)));
  pod(
    'padded, into the tunnel',
    f.join(f.ip4(f.udp(f.u8(1), { dst: f.REMOTE }), { dst: f.REMOTE }), f.filled(17)),
  );
  pod('UDP checksum 0', f.ip4(f.udp(data, { sum: 0 })));
  pod('UDP checksum wrong', f.ip4(f.udp(data, { sum: 1 })));
  pod('a link-local destination', datagram({ dst: '169.254.1.1' }));
  host('from the world to a pod', datagram({ src: f.WORLD, dst: f.A }));
  host('from the world to a pod of another node', datagram({ src: f.WORLD, dst: f.REMOTE }));
  host('from the world to the world', datagram({ src: f.WORLD, dst: '198.51.100.2' }));
  host('from the world to nobody', datagram({ src: f.WORLD, dst: f.NOBODY }));
  topic = 'forwarding 6';
  for (const [what, dst] of PLACES6) {
    pod6(`UDP to ${what}`, datagram6({ dst }));
    pod6(`TCP to ${what}`, f.ip6(f.tcp(data, { src: f.A6, dst }), { dst, next: 6 }));
    pod6(`echo to ${what}`, f.ip6(f.icmp6(128, 0, 0x70001, data, { dst }), { dst, next: 58 }));
    pod6(`an unknown protocol to ${what}`, f.ip6(data, { dst, next: 253 }));
    pod6(`no next header, to ${what}`, f.ip6(f.u8(), { dst, next: 59 }));
    pod6(`the longest that all take, to ${what}`, datagram6({ dst }, POD_MTU - 48));
    pod6(`class and flow label, to ${what}`, datagram6({ dst, trafficClass: 0xb8, flow: 0xabcde }));
  }
  pod6('to itself', datagram6({ dst: f.A6 }));
  pod6('a listener query to a pod', f.ip6(f.icmp6(130, 0, 0, f.ip6Bytes('::')), { next: 58 }));
  pod6('padded', f.join(datagram6(), f.filled(9)));
  host('from the world to a pod', datagram6({ src: f.WORLD6, dst: f.A6 }));
  host('from the world to a pod of another node', datagram6({ src: f.WORLD6, dst: f.REMOTE6 }));
}

function malformed(): void {
  topic = 'IPv4 input';
  const of = (name: string, fields: f.Ip4) => pod(name, datagram(fields));
  of('version 5', { version: 5 });
  of('version 6', { version: 6 });
  of('header of 16 bytes', { headerWords: 4 });
  of('header beyond the packet', { headerWords: 15 });
  of('total length below the header', { length: 19 });
  of('total length beyond the frame', { length: 53 });
  of('total length that cuts the payload', { length: 40 });
  of('total length 0', { length: 0 });
  of('checksum wrong', { checksum: 0x1234 });
  of('checksum 0', { checksum: 0 });
  of('reserved flag', { fragment: 0x8000 });
  of('DF and MF', { fragment: f.DF | f.MF });
  for (const size of [1, 19]) pod(`${size} bytes`, datagram().subarray(0, size));
  pod('header only, and a length beyond', datagram().subarray(0, 20));
  topic = 'IPv6 input';
  pod6('version 4', datagram6({ version: 4 }));
  pod6('payload length beyond the frame', datagram6({ length: 100 }));
  pod6('payload length that cuts the payload', datagram6({ length: 20 }));
  pod6('payload length 0', datagram6({ length: 0 }));
  pod6('39 bytes', datagram6().subarray(0, 39));
  topic = 'Ethernet';
  add('to another MAC', 'cali-a', f.fromA4(datagram(), f.MAC_B));
  add('to everybody', 'cali-a', f.fromA4(datagram(), f.BROADCAST_MAC));
  add('to a group', 'cali-a', f.fromA4(datagram(), '01:00:5e:00:00:01'));
  add('IPv6 to another MAC', 'cali-a', f.fromA6(datagram6(), f.MAC_B));
  add('IPv6 to a group', 'cali-a', f.fromA6(datagram6(), '33:33:00:00:00:01'));
  add('an unknown type', 'cali-a', f.ethernet(0x88b5, datagram(), f.GATEWAY_MAC, f.MAC_A));
  add('IPv4 behind the type of IPv6', 'cali-a', f.ethernet('ip6', datagram(), f.GATEWAY_MAC, f.MAC_A));
  add('IPv6 behind the type of IPv4', 'cali-a', f.ethernet('ip4', datagram6(), f.GATEWAY_MAC, f.MAC_A));
  const tagged = f.join(f.u16(5), f.u16(0x0800), datagram());
  add('a VLAN tag', 'cali-a', f.ethernet('vlan', tagged, f.GATEWAY_MAC, f.MAC_A));
}

function timeToLive(): void {
  topic = 'TTL';
  for (const ttl of [0, 1, 2, 255]) {
    for (const [what, dst] of PLACES4) pod(`${ttl}, to ${what}`, datagram({ ttl, dst }));
    tunnelled(`${ttl}, out of the tunnel`, inward({ ttl }));
    tunnelled(`${ttl}, out of the tunnel to the node`, inward({ ttl, dst: '10.66.0.1' }));
    host(`${ttl}, from the host`, datagram({ ttl, src: f.WORLD, dst: f.A }));
    host(`${ttl}, from the host into the tunnel`, datagram({ ttl, src: f.WORLD, dst: f.REMOTE }));
  }
  topic = 'hop limit';
  for (const hops of [0, 1, 2, 255]) {
    for (const [what, dst] of PLACES6) pod6(`${hops}, to ${what}`, datagram6({ hops, dst }));
    tunnelled(`${hops}, out of the tunnel`, inward6({ hops }));
    host(`${hops}, from the host`, datagram6({ hops, src: f.WORLD6, dst: f.A6 }));
  }
}

function options(): void {
  topic = 'options';
  const each: [string, Buffer][] = [
    ['no-operation', f.u8(1, 1, 1, 0)],
    ['router alert', f.u8(0x94, 4, 0, 0)],
    ['router alert that is too short', f.u8(0x94, 2, 0, 0)],
    ['record route with room', f.u8(7, 7, 4, 0, 0, 0, 0, 0)],
    ['record route, full', f.u8(7, 7, 8, 1, 2, 3, 4, 0)],
    ['timestamp with room', f.u8(0x44, 8, 5, 0, 0, 0, 0, 0)],
    ['timestamp, full', f.u8(0x44, 8, 9, 0, 0, 0, 0, 0)],
    ['loose source route', f.join(f.u8(0x83, 7, 4), f.ip4Bytes(f.WORLD), f.u8(0))],
    ['strict source route', f.join(f.u8(0x89, 7, 4), f.ip4Bytes(f.WORLD), f.u8(0))],
    ['loose source route, at its end', f.join(f.u8(0x83, 7, 8), f.ip4Bytes(f.WORLD), f.u8(0))],
    ['source route that cannot be read', f.join(f.u8(0x83, 7, 1), f.ip4Bytes(f.WORLD), f.u8(0))],
    ['security', f.u8(0x82, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
    ['CIPSO', f.u8(0x86, 8, 0, 0, 0, 1, 0, 0)],
    ['an unknown one', f.u8(0x5e, 4, 1, 2)],
    ['a length of 0', f.u8(0x5e, 0, 0, 0)],
    ['a length beyond the header', f.u8(0x5e, 9, 0, 0)],
    ['record route with a pointer below 4', f.u8(7, 7, 1, 0, 0, 0, 0, 0)],
    ['bytes behind the end', f.u8(1, 0, 7, 7)],
    ['40 bytes', f.u8(...Array.from({ length: 40 }, () => 1))],
  ];
  for (const [name, bytes] of each) {
    pod(name, datagram({ options: bytes }));
    pod(`${name}, into the tunnel`, datagram({ options: bytes, dst: f.REMOTE }));
  }
  pod('TTL 1 with options', datagram({ options: f.u8(1, 1, 1, 0), ttl: 1 }));
  tunnelled('out of the tunnel', inward({ options: f.u8(7, 7, 4, 0, 0, 0, 0, 0) }));
  wire(
    'in the outer header',
    f.fromUnderlay(
      f.ip4(f.vxlan(inward()).subarray(34), { src: f.NODE2, dst: f.NODE, options: f.u8(1, 1, 1, 0) }),
    ),
  );
}

function fragments(): void {
  topic = 'fragments';
  const rest = f.filled(40);
  for (const [what, dst] of [PLACES4[0], PLACES4[1]]) {
    pod(`the first, to ${what}`, datagram({ dst, fragment: f.MF }));
    pod(`a later one, to ${what}`, f.ip4(rest, { dst, fragment: f.MF | 5 }));
    pod(`the last, to ${what}`, f.ip4(rest, { dst, fragment: 10 }));
    pod(`offset 1, to ${what}`, f.ip4(rest, { dst, fragment: 1 }));
    pod(`TCP at offset 1, to ${what}`, f.ip4(rest, { dst, fragment: 1, protocol: 6 }));
    pod(`beyond 65,535 bytes, to ${what}`, f.ip4(rest, { dst, fragment: 0x1fff }));
    pod(`TTL 1, a later one, to ${what}`, f.ip4(rest, { dst, fragment: 5, ttl: 1 }));
    pod(`TTL 1, the first, to ${what}`, datagram({ dst, fragment: f.MF, ttl: 1 }));
  }
  tunnelled('a fragment out of the tunnel', inward({ fragment: f.MF }));
  const whole = f.vxlan(inward({ id: 77 })).subarray(34);
  /** Bytes of one packet's payload; each case's has a number of its own. */
  const part = (id: number, from: number, to: number) => {
    const fragment = (to < whole.length ? f.MF : 0) | (from / 8);
    return f.fromUnderlay(f.ip4(whole.subarray(from, to), { src: f.NODE2, dst: f.NODE, id, fragment }));
  };
  const end = whole.length;
  add('a tunnel packet in two', 'underlay', part(1, 0, 48), part(1, 48, end));
  add('a tunnel packet in two, the last first', 'underlay', part(2, 48, end), part(2, 0, 48));
  add('a tunnel packet in two, overlapping', 'underlay', part(3, 0, 56), part(3, 48, end));
  add('a tunnel packet in two, one twice', 'underlay', part(4, 0, 48), part(4, 0, 48), part(4, 48, end));
  add('a tunnel packet in three, mixed', 'underlay', part(5, 48, 64), part(5, 64, end), part(5, 0, 48));
  add('a tunnel packet with a hole', 'underlay', part(6, 0, 40), part(6, 48, end));
  wire('the first half of a tunnel packet', part(7, 0, 40));
}

function pathMtu(): void {
  topic = 'path MTU';
  for (const [what, dst] of [PLACES4[0], PLACES4[1]]) {
    for (const size of [1431, 1451, 1500, 3000]) {
      pod(`${size} bytes with DF, to ${what}`, datagram({ dst, fragment: f.DF }, size - 28));
      pod(`${size} bytes, to ${what}`, datagram({ dst }, size - 28));
    }
    pod(`1500 bytes and the reserved flag, to ${what}`, datagram({ dst, fragment: 0x8000 }, 1472));
    pod(`1451 bytes with DF and TTL 1, to ${what}`, datagram({ dst, fragment: f.DF, ttl: 1 }, 1451 - 28));
    pod(`1451 bytes with DF, a fragment, to ${what}`, f.ip4(f.filled(1431), { dst, fragment: f.DF | 100 }));
    pod(
      `an error too big with DF, to ${what}`,
      f.ip4(f.icmp(3, 3, 0, f.filled(1500)), { dst, fragment: f.DF, protocol: 1 }),
    );
    const padded = f.join(datagram({ dst, fragment: f.DF }, POD_MTU - 28), f.filled(8));
    pod(`${POD_MTU} bytes and padding, to ${what}`, padded);
    pod(
      `1500 bytes with options, to ${what}`,
      f.ip4(f.udp(f.filled(1452), { dst }), { dst, options: f.u8(7, 7, 4, 0, 0, 0, 0, 0x0, 0x94, 4, 0, 0) }),
    );
    pod(
      `1500 bytes, a later fragment itself, with options, to ${what}`,
      f.ip4(f.filled(1472), { dst, fragment: 185, options: f.u8(0x5e, 4, 0, 0, 0x44, 4, 5, 0) }),
    );
    pod(`1500 bytes, a fragment itself, to ${what}`, f.ip4(f.filled(1480), { dst, fragment: f.MF | 185 }));
  }
  tunnelled('1451 bytes with DF out of the tunnel', inwardOf(1451, f.DF));
  tunnelled('1451 bytes out of the tunnel', inwardOf(1451, 0));
  topic = 'path MTU 6';
  for (const [what, dst] of PLACES6.slice(0, 3)) {
    for (const size of [1431, 1451, 1500, 3000])
      pod6(`${size} bytes, to ${what}`, datagram6({ dst }, size - 48));
    pod6(`1451 bytes and hop limit 1, to ${what}`, datagram6({ dst, hops: 1 }, 1451 - 48));
    pod6(`an error too big, to ${what}`, f.ip6(f.icmp6(1, 0, 0, f.filled(1500), { dst }), { dst, next: 58 }));
  }
  tunnelled('1451 bytes out of the tunnel', datagram6({ src: f.REMOTE6, dst: f.A6 }, 1451 - 48));
}

const inwardOf = (size: number, fragment: number): Buffer =>
  datagram({ src: f.REMOTE, dst: f.A, fragment }, size - 28);

function deadRoutes(): void {
  topic = 'dead routes';
  const each = [
    ['prohibit', f.PROHIBITED],
    ['unreachable', f.UNREACHABLE],
    ['blackhole', f.BLACKHOLED],
    ['no route', f.NO_ROUTE],
    ['an own block where no pod lives', f.NOBODY],
  ] as const;
  for (const [what, dst] of each) {
    const of = (name: string, fields: f.Ip4 = {}, size?: number) => {
      const src = fresh();
      pod(`${what}, ${name}`, datagram({ src, dst, ...fields }, size));
    };
    of('UDP');
    of('TTL 1', { ttl: 1 });
    of('TOS 0xff', { tos: 0xff });
    of('a long packet', {}, 1200);
    of('with DF and too long', { fragment: f.DF }, 1600);
    of('a first fragment', { fragment: f.MF });
    of('options', { options: f.u8(7, 7, 4, 0, 0, 0, 0, 0) });
    const src = fresh();
    pod(`${what}, a later fragment`, f.ip4(data, { src, dst, fragment: 8 }));
    pod(`${what}, an echo`, f.ip4(f.icmp(8, 0, 1, data), { src: fresh(), dst, protocol: 1 }));
    pod(`${what}, an error`, f.ip4(f.icmp(3, 1, 0, datagram()), { src: fresh(), dst, protocol: 1 }));
    tunnelled(`${what}, out of the tunnel`, inward({ dst }));
  }
  topic = 'dead routes 6';
  const each6 = [
    ['prohibit', f.PROHIBITED6],
    ['unreachable', f.UNREACHABLE6],
    ['blackhole', f.BLACKHOLED6],
    ['no route', f.NO_ROUTE6],
    ['an own block where no pod lives', f.NOBODY6],
  ] as const;
  for (const [what, dst] of each6) {
    const of = (name: string, fields: f.Ip6 = {}, size?: number) =>
      pod6(`${what}, ${name}`, datagram6({ dst, ...fields }, size));
    of('UDP');
    of('hop limit 1', { hops: 1 });
    of('class 0xff', { trafficClass: 0xff, flow: 0x12345 });
    of('a long packet', {}, 1400);
    of('too long', {}, 1600);
    pod6(`${what}, an echo`, f.ip6(f.icmp6(128, 0, 1, data, { dst }), { dst, next: 58 }));
    pod6(`${what}, an error`, f.ip6(f.icmp6(1, 0, 0, datagram6(), { dst }), { dst, next: 58 }));
    tunnelled(`${what}, out of the tunnel`, inward6({ dst }));
  }
}

function icmpErrors(): void {
  topic = 'ICMP errors';
  const dying = (name: string, packet: (src: string) => Buffer) => pod(name, packet(fresh()));
  for (const [name, type] of [
    ['unreachable', 3],
    ['source quench', 4],
    ['redirect', 5],
    ['time exceeded', 11],
    ['parameter problem', 12],
    ['echo', 8],
    ['echo reply', 0],
    ['router advertisement', 9],
    ['timestamp', 13],
    ['an unknown type', 42],
  ] as const) {
    dying(`TTL 1, about ${name}`, (src) =>
      f.ip4(f.icmp(type, 0, 0, datagram()), { src, protocol: 1, ttl: 1 }),
    );
  }
  dying('TTL 1, an ICMP message of no bytes', (src) => f.ip4(f.u8(), { src, protocol: 1, ttl: 1 }));
  dying('TTL 1, an ICMP message of one byte', (src) => f.ip4(f.u8(8), { src, protocol: 1, ttl: 1 }));
  for (const size of [0, 8, 500, 519, 520, 521, 1300]) {
    dying(`TTL 1, ${size + 28} bytes to quote`, (src) => datagram({ src, ttl: 1 }, size));
  }
  for (const tos of [0x00, 0x01, 0x02, 0x03, 0x10, 0x28, 0xb8, 0xff]) {
    dying(`TTL 1, TOS ${tos}`, (src) => datagram({ src, ttl: 1, tos }));
  }
  dying('TTL 1, padded', (src) => f.join(datagram({ src, ttl: 1 }), f.filled(12)));
  dying('TTL 1, with a wrong UDP checksum', (src) => f.ip4(f.udp(data, { sum: 1 }), { src, ttl: 1 }));
  topic = 'ICMPv6 errors';
  for (const [name, type] of [
    ['unreachable', 1],
    ['too big', 2],
    ['time exceeded', 3],
    ['parameter problem', 4],
    ['an unknown error', 77],
    ['echo', 128],
    ['an unknown message', 200],
    ['redirect', 137],
  ] as const) {
    pod6(`hop limit 1, about ${name}`, f.ip6(f.icmp6(type, 0, 0, datagram6()), { next: 58, hops: 1 }));
  }
  for (const size of [0, 8, 1183, 1184, 1185, 1400]) {
    pod6(`hop limit 1, ${size + 48} bytes to quote`, datagram6({ hops: 1 }, size));
  }
  pod6('hop limit 1, class and flow label', datagram6({ hops: 1, trafficClass: 0xff, flow: 0x12345 }));
  pod6('hop limit 1, padded', f.join(datagram6({ hops: 1 }), f.filled(12)));
}

function sourcesAndMartians(): void {
  topic = 'sources';
  for (const src of [
    '0.0.0.0',
    '0.1.2.3',
    '127.0.0.1',
    '224.0.0.1',
    '240.0.0.1',
    '255.255.255.255',
    f.NODE,
    f.B,
  ]) {
    pod(`${src} from a pod`, datagram({ src }));
    tunnelled(`${src} out of the tunnel`, inward({ src }));
  }
  pod('another’s, from a pod', datagram({ src: f.WORLD }));
  pod('the node’s tunnel address, from a pod', datagram({ src: '10.66.0.1' }));
  pod('another one that is allowed, from a pod', datagram({ src: '10.77.200.1' }));
  tunnelled('a third node’s pod, out of the tunnel', inward({ src: f.REMOTE3 }));
  tunnelled('the world, out of the tunnel', inward({ src: f.WORLD }));
  tunnelled('the peer itself, out of the tunnel', inward({ src: f.NODE2 }));
  tunnelled('the peer’s tunnel address, out of the tunnel', inward({ src: '10.66.1.1' }));
  host('a pod’s own, from the host', datagram({ src: f.A, dst: f.B }));
  pod('another’s, to a dead route', datagram({ src: f.WORLD, dst: f.PROHIBITED }));
  for (const src of ['0.1.2.3', '240.0.0.1', '224.0.0.1'])
    host(`${src} from the host`, datagram({ src, dst: f.B }));
  tunnelled(
    'the peer itself, out of the tunnel to a dead route',
    inward({ src: f.NODE2, dst: f.UNREACHABLE }),
  );
  host(
    'a node’s address from the host, into the tunnel to that node',
    datagram({ src: f.NODE2, dst: f.REMOTE }),
  );
  host('127.0.0.1 from the host', datagram({ src: '127.0.0.1', dst: f.B }));
  topic = 'destinations';
  for (const dst of [
    '0.0.0.0',
    '0.1.2.3',
    '127.0.0.1',
    '224.0.0.1',
    '239.1.2.3',
    '240.0.0.1',
    '255.255.255.255',
    '169.254.9.9',
  ]) {
    pod(`${dst} from a pod`, datagram({ dst }));
    pod(`${dst} with TTL 1 from a pod`, datagram({ dst, ttl: 1 }));
    tunnelled(`${dst} out of the tunnel`, inward({ dst }));
  }
  topic = 'sources 6';
  for (const src of [
    '::',
    '::1',
    '::ffff:a42:2',
    '::a42:2',
    'ff02::1',
    LINK_LOCAL,
    f.GATEWAY6,
    f.B6,
    f.NODE_6,
    f.WORLD6,
  ]) {
    pod6(`${src} from a pod`, datagram6({ src }));
    tunnelled(`${src} out of the tunnel`, inward6({ src }));
  }
  for (const dst of [f.PROHIBITED6, f.BLACKHOLED6, f.REMOTE6, f.NODE_6]) {
    pod6(`${LINK_LOCAL} to ${dst}`, datagram6({ src: LINK_LOCAL, dst }));
    pod6(`${LINK_LOCAL} to ${dst} with hop limit 1`, datagram6({ src: LINK_LOCAL, dst, hops: 1 }));
  }
  pod6(
    `${LINK_LOCAL}, an error`,
    f.ip6(f.icmp6(1, 0, 0, datagram6(), { src: LINK_LOCAL }), { src: LINK_LOCAL, next: 58 }),
  );
  tunnelled('a third node’s pod, out of the tunnel', inward6({ src: f.REMOTE36 }));
  topic = 'destinations 6';
  for (const dst of [
    '::',
    '::1',
    '::ffff:a42:3',
    'ff02::1',
    'ff02::2',
    'ff05::2',
    'ff0e::1',
    f.GATEWAY6,
    'fe80::1234',
  ]) {
    pod6(`${dst} from a pod`, datagram6({ dst }));
    pod6(`echo to ${dst} from a pod`, f.ip6(f.icmp6(128, 0, 1, data, { dst }), { dst, next: 58 }));
    pod6(`${dst} with hop limit 1 from a pod`, datagram6({ dst, hops: 1 }));
    tunnelled(`${dst} out of the tunnel`, inward6({ dst }));
  }
}

const LINK_LOCAL = f.LINK_LOCAL_A;

function codepoints(): void {
  topic = 'ECN';
  const names = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE'];
  for (let inner = 0; inner < 4; inner++) {
    pod(`${names[inner]} into the tunnel`, datagram({ dst: f.REMOTE, tos: inner }));
    pod6(`${names[inner]} into the tunnel, IPv6`, datagram6({ dst: f.REMOTE6, trafficClass: inner }));
    for (let outer = 0; outer < 4; outer++) {
      tunnelled(`${names[inner]} in ${names[outer]}`, inward({ tos: inner }), { tos: outer });
      tunnelled(`${names[inner]} in ${names[outer]}, IPv6`, inward6({ trafficClass: inner }), { tos: outer });
    }
  }
  topic = 'DSCP';
  for (const dscp of [8, 46, 63]) {
    pod(`${dscp} to a pod`, datagram({ tos: dscp << 2 }));
    pod(`${dscp} into the tunnel`, datagram({ dst: f.REMOTE, tos: dscp << 2 }));
    pod6(`${dscp} into the tunnel, IPv6`, datagram6({ dst: f.REMOTE6, trafficClass: dscp << 2 }));
    tunnelled(`${dscp} in 0`, inward({ tos: dscp << 2 }));
    tunnelled(`0 in ${dscp}`, inward(), { tos: dscp << 2 });
    tunnelled(`0 in ${dscp}, IPv6`, inward6(), { tos: dscp << 2 });
  }
}

function tunnels(): void {
  topic = 'VXLAN';
  tunnelled('as it should be', inward());
  tunnelled('IPv6 as it should be', inward6());
  tunnelled('to the node’s tunnel address', inward({ dst: '10.66.0.1' }));
  tunnelled('IPv6 to the node’s tunnel address', inward6({ dst: f.NODE_6 }));
  tunnelled('back into the tunnel', inward({ dst: f.REMOTE3 }));
  tunnelled('back to where it came from', inward({ dst: '10.66.1.3' }));
  tunnelled('to the world', inward({ dst: f.WORLD }));
  tunnelled('without the I flag', inward(), { flags: 0 });
  for (const flags of [0x0c, 0x09, 0x48, 0x88, 0xff]) tunnelled(`flags ${flags}`, inward(), { flags });
  tunnelled('reserved bits in the first word', inward(), { reserved1: 0xff });
  tunnelled('reserved bits in the second word', inward(), { reserved2: 0xff });
  tunnelled('another VNI', inward(), { vni: 4097 });
  tunnelled('VNI 0', inward(), { vni: 0 });
  tunnelled('inner MAC of somebody else', inward(), { innerTo: '66:00:00:00:00:99' });
  tunnelled('inner MAC of everybody', inward(), { innerTo: f.BROADCAST_MAC });
  tunnelled('inner MAC of a group', inward(), { innerTo: '01:00:5e:00:00:01' });
  tunnelled('our own MAC as the source', inward(), { innerFrom: f.VTEP1 });
  tunnelled('a group’s MAC as the source', inward(), { innerFrom: '01:00:5e:00:00:01' });
  tunnelled('an unknown MAC as the source', inward(), { innerFrom: '66:00:00:00:00:77' });
  wire('a VLAN tag inside', f.vxlan(f.join(f.u16(7), f.u16(0x0800), inward()), { type: 'vlan' }));
  wire('a priority tag inside', f.vxlan(f.join(f.u16(0), f.u16(0x0800), inward()), { type: 'vlan' }));
  wire('ARP inside', f.vxlan(f.arp({ target: '10.66.0.1', sender: '10.66.1.1' }), { type: 'arp' }));
  tunnelled('IPv4 behind the type of IPv6', inward(), { type: 'ip6' });
  tunnelled('IPv6 behind the type of IPv4', inward6(), { type: 'ip4' });
  tunnelled('an unknown type inside', inward(), { type: 0x88b5 });
  tunnelled('UDP checksum 0', inward(), { sum: 0 });
  tunnelled('UDP checksum wrong', inward(), { sum: 0x1234 });
  tunnelled('UDP length beyond the packet', inward(), { udpLength: 300, sum: 0 });
  tunnelled('UDP length that cuts', inward(), { udpLength: 60, sum: 0 });
  tunnelled('UDP length 7', inward(), { udpLength: 7, sum: 0 });
  tunnelled('from an unknown address', inward(), { src: '192.0.2.66' });
  tunnelled('from another node than its source', inward(), { src: f.NODE3 });
  tunnelled('to an address that is not ours', inward(), { dst: '192.0.2.9' });
  tunnelled('to another port', inward(), { to: 4790 });
  tunnelled('outer TTL 1', inward(), { ttl: 1 });
  tunnelled('outer TTL 0', inward(), { ttl: 0 });
  tunnelled('source port 0', inward(), { from: 0 });
  for (const size of [0, 7, 8, 13, 21, 22, 41]) {
    const datagramOf = f.vxlan(inward()).subarray(34 + 8, 34 + 8 + size);
    const outer = { src: f.NODE2, dst: f.NODE };
    wire(
      `only ${size} bytes`,
      f.fromUnderlay(f.ip4(f.udp(datagramOf, { ...outer, to: f.VXLAN_PORT, sum: 0 }), outer)),
    );
  }
  tunnelled('inner checksum wrong', inward({ checksum: 1 }));
  tunnelled('inner length beyond', inward({ length: 90 }));
  tunnelled('inner padding', f.join(inward(), f.filled(6)));
  tunnelled('inner UDP checksum wrong', f.ip4(f.udp(data, { sum: 1 }), { src: f.REMOTE, dst: f.A }));
}

function tunnels6(): void {
  topic = 'VXLAN over IPv6';
  const inner = (fields: f.Ip6 = {}) => inward6({ src: f.REMOTE46, ...fields });
  const of = (name: string, packet: Uint8Array, tunnel: f.Tunnel = {}) =>
    tunnelled(name, packet, { src: f.NODE4_U6, ...tunnel });
  of('as it should be', inner());
  of('IPv4 inside', inward());
  of('IPv4 inside, from a pod of nobody', inward({ src: '10.66.4.2' }));
  of('to the node’s tunnel address', inner({ dst: f.NODE_6 }));
  of('to the world', inner({ dst: f.WORLD6 }));
  of('into the tunnel over IPv4', inner({ dst: f.REMOTE6 }));
  tunnelled('out of the tunnel over IPv4 and into this', inward6({ dst: f.REMOTE46 }));
  of('back into the tunnel', inner({ dst: 'fd66::4:3' }));
  for (const hops of [0, 1, 2]) of(`hop limit ${hops}`, inner({ hops }));
  for (const [what, dst] of [
    ['prohibit', f.PROHIBITED6],
    ['no route', f.NO_ROUTE6],
    ['blackhole', f.BLACKHOLED6],
  ] as const) {
    of(what, inner({ dst }));
  }
  for (const src of ['::1', LINK_LOCAL, 'ff02::1', f.B6, f.REMOTE6, f.NODE4_U6, f.WORLD6])
    of(`${src} inside`, inner({ src }));
  for (const flags of [0, 0x0c, 0x88]) of(`flags ${flags}`, inner(), { flags });
  of('another VNI', inner(), { vni: 4097 });
  of('the MAC of the tunnel over IPv4', inner(), { innerTo: f.VTEP1 });
  of('UDP checksum 0', inner(), { sum: 0 });
  of('UDP checksum wrong', inner(), { sum: 0x1234 });
  const mistaken = Buffer.from(f.vxlan(inner(), { src: f.NODE4_U6, udpLength: 0 }));
  // As if the checksum were over a length of the packet's own.
  const addresses = mistaken.subarray(22, 54);
  mistaken.writeUInt16BE(0, 60);
  const length = mistaken.length - 54;
  mistaken.writeUInt16BE(f.checksum(addresses, f.u32(length), f.u32(17), mistaken.subarray(54)), 60);
  wire('UDP length 0', mistaken);
  of('from an unknown address', inner(), { src: '2001:db8:1::66' });
  of('to an address that is not ours', inner(), { dst: '2001:db8:1::9' });
  of('to another port', inner(), { to: 4790 });
  of('outer hop limit 1', inner(), { ttl: 1 });
  of('1431 bytes inside', datagram6({ src: f.REMOTE46, dst: f.A6 }, 1431 - 48));
  const names = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE'];
  for (let inside = 0; inside < 4; inside++) {
    pod6(`${names[inside]} into the tunnel`, datagram6({ dst: f.REMOTE46, trafficClass: inside }));
    for (let outside = 0; outside < 4; outside++) {
      of(`${names[inside]} in ${names[outside]}`, inner({ trafficClass: inside }), { tos: outside });
    }
  }
  pod6('DSCP 46 into the tunnel', datagram6({ dst: f.REMOTE46, trafficClass: 46 << 2 }));
  of('0 in DSCP 46', inner(), { tos: 46 << 2 });
  const outer = f.vxlan(inner(), { src: f.NODE4_U6 }).subarray(54);
  const outerOf = (name: string, next: number, ...headers: Uint8Array[]) =>
    wire(name, f.fromUnderlay(f.ip6(f.join(...headers, outer), { src: f.NODE4_U6, dst: f.NODE_U6, next })));
  outerOf('behind destination options', 60, f.u8(17, 0, 1, 4, 0, 0, 0, 0));
  outerOf(
    'behind destination options of which one is unknown, to drop',
    60,
    f.u8(17, 0, 0x5e, 4, 0, 0, 0, 0),
  );
  outerOf('behind destination options that cannot be read', 60, f.u8(17, 0, 1, 40, 0, 0, 0, 0));
  outerOf('behind an atomic fragment’s header', 44, f.u8(17, 0, 0, 0, 0, 0, 0, 9));
  const part = (id: number, from: number, to: number) => {
    const place = from | (to < outer.length ? 1 : 0);
    const header = f.join(f.u8(17, 0), f.u16(place), f.u32(id));
    const packet = f.ip6(f.join(header, outer.subarray(from, to)), {
      src: f.NODE4_U6,
      dst: f.NODE_U6,
      next: 44,
    });
    return f.fromUnderlay(packet);
  };
  add('a tunnel packet in two', 'underlay', part(1, 0, 48), part(1, 48, outer.length));
  add('a tunnel packet in two, overlapping', 'underlay', part(2, 0, 56), part(2, 48, outer.length));
  wire('the first half of a tunnel packet', part(3, 0, 48));
}

function arps(): void {
  topic = 'ARP';
  const ask = (name: string, fields: Parameters<typeof f.arp>[0], to = f.BROADCAST_MAC, from = f.MAC_A) =>
    add(name, 'cali-a', f.ethernet('arp', f.arp(fields), to, from));
  ask('for the gateway', { target: '169.254.1.1' });
  ask('for another pod', { target: f.B });
  ask('for a pod of another node', { target: f.REMOTE });
  ask('for the node', { target: f.NODE });
  ask('for the world', { target: f.WORLD });
  ask('for an address of the block that nobody has', { target: f.NOBODY });
  ask('for what has no route', { target: f.NO_ROUTE });
  ask('for what is blackholed', { target: f.BLACKHOLED });
  ask('to the gateway alone', { target: '169.254.1.1' }, f.GATEWAY_MAC);
  ask('to another MAC', { target: '169.254.1.1' }, f.MAC_B);
  ask('a probe', { sender: '0.0.0.0', target: f.A });
  ask('a probe for another pod', { sender: '0.0.0.0', target: f.B });
  ask('a probe for the node', { sender: '0.0.0.0', target: f.NODE });
  ask('a probe for the node’s tunnel address', { sender: '0.0.0.0', target: '10.66.0.1' });
  ask('a probe for the gateway', { sender: '0.0.0.0', target: '169.254.1.1' });
  ask('gratuitous', { target: f.A, sender: f.A });
  ask('gratuitous, for another pod', { target: f.B, sender: f.B });
  ask('for its own address, by another of its own', { target: f.A, sender: '10.77.0.1' });
  ask('for another of its own', { target: '10.77.9.9' });
  ask('by a sender that is not the pod', { target: '169.254.1.1', sender: f.WORLD });
  ask('by another pod’s address', { target: '169.254.1.1', sender: f.B });
  ask('by another MAC', { target: '169.254.1.1', senderMac: '02:00:00:00:00:99' });
  ask('an answer', { operation: 2, target: f.NODE, targetMac: f.GATEWAY_MAC }, f.GATEWAY_MAC);
  ask('operation 3', { operation: 3, target: '169.254.1.1' });
  ask('for a group', { target: '224.0.0.1' });
  ask('for loopback', { target: '127.0.0.1' });
  ask('for 0.0.0.0', { target: '0.0.0.0' });
  ask('for everybody', { target: '255.255.255.255' });
  const bytes = f.arp({ target: '169.254.1.1' });
  const frame = (inner: Uint8Array) => f.ethernet('arp', inner, f.BROADCAST_MAC, f.MAC_A);
  add('cut', 'cali-a', frame(bytes.subarray(0, 27)));
  add('padded', 'cali-a', frame(f.join(bytes, f.filled(18))));
  add('of another hardware', 'cali-a', frame(f.join(f.u16(6), bytes.subarray(2))));
  add('of another protocol', 'cali-a', frame(f.join(bytes.subarray(0, 2), f.u16(0x86dd), bytes.subarray(4))));
}

function neighbours(): void {
  topic = 'ND';
  interface Ask {
    src?: string;
    dst?: string;
    hops?: number;
    code?: number;
    type?: number;
    option?: Buffer;
    sum?: number;
    rest?: number;
  }
  const ask = (name: string, target: string, fields: Ask = {}) => {
    const src = fields.src ?? f.LINK_LOCAL_A;
    const dst = fields.dst ?? f.solicitedNode(target);
    const body = f.join(f.ip6Bytes(target), fields.option ?? f.join(f.u8(1, 1), f.macBytes(f.MAC_A)));
    const message = f.icmp6(fields.type ?? 135, fields.code ?? 0, fields.rest ?? 0, body, {
      src,
      dst,
      ...(fields.sum !== undefined && { sum: fields.sum }),
    });
    const group = f.ip6Bytes(dst);
    const to =
      group[0] === 0xff
        ? `33:33:${group.subarray(12).toString('hex').match(/../g)!.join(':')}`
        : f.GATEWAY_MAC;
    const packet = f.ip6(message, { src, dst, next: 58, hops: fields.hops ?? 255 });
    add(name, 'cali-a', f.fromA6(packet, to));
  };
  ask('for the gateway', f.GATEWAY6);
  ask('for the gateway, from a global address', f.GATEWAY6, { src: f.A6 });
  ask('for the gateway, to itself', f.GATEWAY6, { dst: f.GATEWAY6 });
  ask('for the gateway, without its MAC', f.GATEWAY6, { dst: f.GATEWAY6, option: f.u8() });
  ask('for the gateway, to the group without its MAC', f.GATEWAY6, { option: f.u8() });
  ask('for another pod', f.B6);
  ask('for a pod of another node', f.REMOTE6);
  ask('for itself', f.A6);
  ask('for the node', f.NODE_6);
  ask('for the world', f.WORLD6);
  ask('for another link-local address', 'fe80::77');
  ask('hop limit 254', f.GATEWAY6, { hops: 254 });
  ask('hop limit 1', f.GATEWAY6, { hops: 1 });
  ask('code 1', f.GATEWAY6, { code: 1 });
  ask('checksum wrong', f.GATEWAY6, { sum: 1 });
  ask('reserved bits', f.GATEWAY6, { rest: 0xffffffff });
  ask('for a group', 'ff02::1');
  ask('an option of no length', f.GATEWAY6, { option: f.u8(1, 0, 0, 0, 0, 0, 0, 0) });
  ask('an option beyond the packet', f.GATEWAY6, { option: f.u8(1, 2, 0, 0, 0, 0, 0, 0) });
  ask('an unknown option', f.GATEWAY6, { option: f.u8(99, 1, 0, 0, 0, 0, 0, 0) });
  ask('another MAC in the option', f.GATEWAY6, {
    option: f.join(f.u8(1, 1), f.macBytes('02:00:00:00:00:99')),
  });
  ask('DAD for its own address', f.A6, { src: '::', option: f.u8() });
  ask('DAD for its link-local address', f.LINK_LOCAL_A, { src: '::', option: f.u8() });
  ask('DAD for the gateway’s address', f.GATEWAY6, { src: '::', option: f.u8() });
  ask('DAD for another pod’s address', f.B6, { src: '::', option: f.u8() });
  ask('DAD with an option', f.GATEWAY6, { src: '::' });
  ask('DAD to an address', f.GATEWAY6, { src: '::', dst: f.GATEWAY6, option: f.u8() });
  ask('by another pod’s address', f.GATEWAY6, { src: f.B6 });
  ask('an advertisement', f.A6, { type: 136, dst: 'ff02::1' });
  const plain = (name: string, type: number, dst: string, body: Buffer, hops = 255) => {
    const packet = f.ip6(f.icmp6(type, 0, 0, body, { src: LINK_LOCAL, dst }), {
      src: LINK_LOCAL,
      dst,
      next: 58,
      hops,
    });
    add(name, 'cali-a', f.fromA6(packet, '33:33:00:00:00:02'));
  };
  plain('router solicitation', 133, 'ff02::2', f.u8());
  plain('router advertisement', 134, 'ff02::1', f.filled(8));
  plain('multicast listener report', 143, 'ff02::16', f.u8());
  plain('redirect', 137, f.GATEWAY6, f.join(f.ip6Bytes(f.B6), f.ip6Bytes(f.B6)));
}

function extensions(): void {
  topic = 'extension headers';
  const body = (dst: string) => f.udp(data, { src: f.A6, dst });
  for (const [what, dst] of PLACES6.slice(0, 3)) {
    const packet = (name: string, next: number, header: Uint8Array, hops = 64) =>
      pod6(`${name}, to ${what}`, f.ip6(f.join(header, body(dst)), { dst, next, hops }));
    packet('hop-by-hop with padding', 0, f.u8(17, 0, 1, 4, 0, 0, 0, 0));
    packet('hop-by-hop with router alert', 0, f.u8(17, 0, 5, 2, 0, 0, 1, 0));
    packet('hop-by-hop, unknown, to skip', 0, f.u8(17, 0, 0x1e, 4, 0, 0, 0, 0));
    packet('hop-by-hop, unknown, to drop', 0, f.u8(17, 0, 0x5e, 4, 0, 0, 0, 0));
    packet('hop-by-hop, unknown, to report', 0, f.u8(17, 0, 0x9e, 4, 0, 0, 0, 0));
    packet('hop-by-hop, unknown, to report unless a group', 0, f.u8(17, 0, 0xde, 4, 0, 0, 0, 0));
    packet('hop-by-hop with a jumbo payload', 0, f.u8(17, 0, 0xc2, 4, 0, 1, 0, 0));
    packet('hop-by-hop beyond the packet', 0, f.u8(17, 200, 1, 4, 0, 0, 0, 0));
    packet('hop-by-hop and hop limit 1', 0, f.u8(17, 0, 1, 4, 0, 0, 0, 0), 1);
    packet('destination options', 60, f.u8(17, 0, 1, 4, 0, 0, 0, 0));
    packet('destination options, unknown, to report', 60, f.u8(17, 0, 0x9e, 4, 0, 0, 0, 0));
    packet('hop-by-hop not in front', 60, f.u8(0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0));
    packet('routing type 0', 43, f.join(f.u8(17, 2, 0, 1, 0, 0, 0, 0), f.ip6Bytes(f.WORLD6)));
    packet('routing type 0 at its end', 43, f.join(f.u8(17, 2, 0, 0, 0, 0, 0, 0), f.ip6Bytes(f.WORLD6)));
    packet('segment routing', 43, f.join(f.u8(17, 2, 4, 0, 0, 0, 0, 0), f.ip6Bytes(f.WORLD6)));
    packet('a first fragment', 44, f.u8(17, 0, 0, 1, 0, 0, 0, 9));
    packet('a later fragment', 44, f.u8(17, 0, 0, 64, 0, 0, 0, 9));
    packet('an atomic fragment', 44, f.u8(17, 0, 0, 0, 0, 0, 0, 9));
    packet('a later fragment and hop limit 1', 44, f.u8(17, 0, 0, 64, 0, 0, 0, 9), 1);
    packet(
      'authentication',
      51,
      f.u8(17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2),
    );
    packet('a first fragment and hop limit 1', 44, f.u8(17, 0, 0, 1, 0, 0, 0, 9), 1);
  }
  const padding = f.u8(17, 0, 1, 4, 0, 0, 0, 0);
  for (const [what, dst] of PLACES6.slice(0, 3)) {
    pod6(
      `hop-by-hop and payload length 0, to ${what}`,
      f.ip6(f.join(padding, body(dst)), { dst, next: 0, length: 0 }),
    );
  }
  const routed = (type: number) => f.u8(59, 0, type, 1, 0, 0, 0, 0);
  pod6('routing type 0 to the node', f.ip6(routed(0), { dst: f.NODE_6, next: 43 }));
  pod6('routing type 253 to the node', f.ip6(routed(253), { dst: f.NODE_6, next: 43 }));
  const chain = f.join(
    ...Array.from({ length: 12 }, (_, i) => f.u8(i === 11 ? 17 : 60, 0, 1, 4, 0, 0, 0, 0)),
  );
  pod6('twelve of them', f.ip6(f.join(chain, body(f.B6)), { next: 60 }));
  pod6('twelve of them and hop limit 1', f.ip6(f.join(chain, body(f.B6)), { next: 60, hops: 1 }));
}

function redirects(): void {
  topic = 'redirects';
  // To the port that it came from: a router with redirects on would tell the sender.
  pod('back to the pod itself', datagram({ src: '10.77.0.5', dst: f.A }));
  pod6('back to the pod itself', datagram6({ src: f.A6, dst: f.A6 }));
  tunnelled('back into the tunnel that it came from', inward({ dst: '10.66.1.9' }));
  tunnelled('back into the tunnel that it came from, IPv6', inward6({ dst: 'fd66::1:9' }));
}

/** All of them, made once. */
export function corpus(): readonly Case[] {
  if (cases.length > 0) return cases;
  const topics = [
    forwarding,
    malformed,
    timeToLive,
    options,
    fragments,
    pathMtu,
    deadRoutes,
    icmpErrors,
    sourcesAndMartians,
    codepoints,
    tunnels,
    tunnels6,
    arps,
    neighbours,
    extensions,
    redirects,
  ];
  for (const make of topics) make();
  return cases;
}
