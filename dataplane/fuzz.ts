/**
 * Frames that nobody would send: recorded shapes of everything the pipeline knows, and seeded mutations of them, in bursts, some of
 * which fail to leave. Whatever comes, nothing throws, what leaves is well formed, and the account balances to the packet.
 */
import { CONSUMED, COUNTER_NAMES, DELIVERED, RX_FRAMES } from './counters.ts';
import type { DropName } from './drops.ts';
import * as adj from './fib/adjacency.ts';
import * as burst from './memory/burst.ts';
import { ADDRESS, LENGTH, OFFSET, PORT, ROW, STATUS, TOS } from './memory/burst.ts';
import { BURST, HEADROOM } from './memory/layout.ts';
import { Random } from './random.ts';
import {
  frame,
  GATEWAY,
  HOST_PORT,
  IPIP_PORT_ID,
  icmpMessage,
  ip6,
  MAC_A,
  MAC_HOST,
  NODE,
  PEER_IPIP,
  PEER_VXLAN,
  PEER_VXLAN6,
  POD_A,
  POD_B,
  packet,
  packet6,
  Scenario,
  SLOT,
  UNDERLAY6,
  VXLAN_PORT_ID,
  VXLAN6_PORT_ID,
  vxlanPayload,
} from './scenario.ts';
import { get16, get32, put16, put32, viewOf } from './wire/bytes.ts';
import { TYPE_ARP, TYPE_IPV4, TYPE_IPV6, TYPE_VLAN } from './wire/ethernet.ts';
import * as ipv4 from './wire/ipv4.ts';
import * as ipv6 from './wire/ipv6.ts';
import { putUdp, putUdpChecksum, UDP_LENGTH } from './wire/udp.ts';

const UNDERLAY_PORT = 9;
const PORTS = [POD_A, POD_B, HOST_PORT, VXLAN_PORT_ID, IPIP_PORT_ID, VXLAN6_PORT_ID, UNDERLAY_PORT] as const;
/** Routes that lead nowhere, or round and round. */
const DEAD = [
  { prefix: '198.51.1.0', to: { kind: adj.NO_ROUTE } },
  { prefix: '198.51.2.0', to: { kind: adj.UNREACHABLE } },
  { prefix: '198.51.3.0', to: { kind: adj.PROHIBIT } },
  {
    prefix: '198.51.4.0',
    to: { kind: adj.IPIP, port: IPIP_PORT_ID, nextHop: NODE, source: NODE, mtu: 1480 },
  },
];
/** Longest frame that is made. */
const LONGEST = SLOT - HEADROOM;
/** Values that fields break at. */
const EDGES = [0, 1, 4, 5, 6, 7, 8, 19, 20, 40, 63, 64, 127, 128, 224, 239, 240, 254, 255];
/** EAGAIN, EMSGSIZE, ENOBUFS, EDQUOT, E2BIG, EIO, ENODEV. */
const ERRNOS = [11, 90, 105, 122, 7, 5, 19];

interface Seed {
  readonly port: number;
  readonly bytes: Uint8Array;
  /** Where its (outermost) IP header begins, or -1. */
  readonly ip: number;
}

const arp = (target: number, sender = 0x0a410002): Uint8Array => {
  const bytes = new Uint8Array(28);
  bytes.set([0, 1, 8, 0, 6, 4, 0, 1]);
  bytes.set(MAC_A, 8);
  put32(viewOf(bytes), 14, sender);
  put32(viewOf(bytes), 24, target);
  return frame(bytes, GATEWAY, MAC_A, TYPE_ARP);
};

const solicitation = (source: string, target: string): Uint8Array => {
  const message = new Uint8Array(32);
  message[0] = 135;
  message.set(ip6(target), 8);
  message.set([1, 1, ...MAC_A], 24);
  const inner = packet6({ source, destination: target, next: 58, hopLimit: 255, payload: message });
  return frame(inner, GATEWAY, MAC_A, TYPE_IPV6);
};

/** An IPv6 packet with these extension headers, each eight bytes, in front of UDP. */
const extended = (...types: number[]): Uint8Array => {
  const payload = new Uint8Array(types.length * 8 + 12);
  types.forEach((_, i) => {
    payload[i * 8] = types[i + 1] ?? 17;
    // Of a routing header: one segment left.
    payload[i * 8 + 3] = 1;
  });
  return packet6({ destination: 'fd65::1:2', next: types[0]!, payload });
};

/** An IPv4 packet whose sender chose its way: eight bytes of options, of which seven are a loose source route. */
const sourceRouted = (): Uint8Array => {
  const bytes = packet({ payload: Uint8Array.of(0x83, 7, 4, 198, 51, 100, 1, 0, 1, 2, 3, 4) });
  bytes[0] = 0x47;
  ipv4.putHeaderChecksum(viewOf(bytes), 0);
  return bytes;
};

/** One of every shape. */
function corpus(): Seed[] {
  const seeds: Seed[] = [];
  const ethernet = (port: number, bytes: Uint8Array) => seeds.push({ port, bytes, ip: 14 });
  ethernet(POD_A, frame(packet(), GATEWAY, MAC_A, TYPE_VLAN));
  const destinations = [
    '255.255.255.255',
    ...DEAD.map(({ prefix }) => prefix),
    '10.65.0.3',
    '10.65.0.9',
    '10.65.1.2',
    '10.65.2.2',
    '10.65.4.2',
    '192.0.2.1',
    '203.0.113.9',
    '224.0.0.251',
  ];
  const large = (size: number) => new Uint8Array(size).fill(0x5a);
  for (const destination of destinations) {
    ethernet(POD_A, frame(packet({ destination })));
    ethernet(POD_A, frame(packet({ destination, ttl: 1 })));
    ethernet(POD_A, frame(packet({ destination, protocol: 1, payload: icmpMessage(8, 0) })));
    ethernet(POD_A, frame(packet({ destination, payload: large(1900), flags: ipv4.DONT_FRAGMENT })));
    ethernet(POD_A, frame(packet({ destination, payload: large(1900) })));
    ethernet(POD_A, frame(packet({ destination, payload: large(64), flags: ipv4.MORE_FRAGMENTS })));
    ethernet(HOST_PORT, frame(packet({ source: '192.0.2.1', destination }), GATEWAY, MAC_HOST));
  }
  ethernet(POD_A, frame(packet({ protocol: 6, payload: large(20), tos: 0xbb })));
  ethernet(
    POD_A,
    frame(packet({ destination: '10.65.1.2', protocol: 1, payload: icmpMessage(3, 4, large(40)) })),
  );
  ethernet(POD_A, frame(sourceRouted()));
  ethernet(POD_A, frame(packet({ source: '127.0.0.1' })));
  ethernet(POD_A, arp(0xa9fe0101 | 0));
  ethernet(POD_A, arp(0x0a410002));
  ethernet(POD_A, arp(0xa9fe0101 | 0, 0));
  const destinations6 = [
    ...['fd65::3', 'fd65::9', 'fd65::1:2', 'fd65::3:2', 'fd65::4:2', 'fd65::1'],
    ...['2001:db8::1', 'ff02::1', 'fe80::1'],
  ];
  for (const destination of destinations6) {
    ethernet(POD_A, frame(packet6({ destination }), GATEWAY, MAC_A, TYPE_IPV6));
    ethernet(POD_A, frame(packet6({ destination, hopLimit: 1 }), GATEWAY, MAC_A, TYPE_IPV6));
    ethernet(POD_A, frame(packet6({ destination, payload: large(1900) }), GATEWAY, MAC_A, TYPE_IPV6));
    ethernet(HOST_PORT, frame(packet6({ source: 'fd65::1', destination }), GATEWAY, MAC_HOST, TYPE_IPV6));
  }
  for (const chain of [[0], [60], [43], [44], [0, 43, 60], [0, 60, 60, 60, 60, 60, 60, 60, 60]]) {
    ethernet(POD_A, frame(extended(...chain), GATEWAY, MAC_A, TYPE_IPV6));
  }
  for (const type of [133, 134, 136, 137, 131, 143, 1, 2, 128]) {
    const message = large(24);
    message[0] = type;
    const inner = packet6({ destination: 'ff02::2', next: 58, hopLimit: 255, payload: message });
    ethernet(POD_A, frame(inner, GATEWAY, MAC_A, TYPE_IPV6));
  }
  ethernet(POD_A, solicitation('fd65::2', 'fe80::ecee:eeff:feee:eeee'));
  ethernet(POD_A, solicitation('::', 'fd65::2'));
  ethernet(POD_A, solicitation('fd65::7', 'fd65::3'));

  for (const tos of [0, 1, 2, 3]) {
    const inner = packet({ source: '10.65.1.2', destination: '10.65.0.2', tos });
    seeds.push({ port: VXLAN_PORT_ID, bytes: vxlanPayload(inner), ip: 22 });
  }
  const inner6 = packet6({ source: 'fd65::1:2', destination: 'fd65::2' });
  seeds.push({ port: VXLAN_PORT_ID, bytes: vxlanPayload(inner6, { type: TYPE_IPV6 }), ip: 22 });
  seeds.push({
    port: VXLAN_PORT_ID,
    bytes: vxlanPayload(packet({ source: '10.65.1.2', destination: '10.65.2.9' })),
    ip: 22,
  });
  const far6 = packet6({ source: 'fd65::3:2', destination: 'fd65::2' });
  seeds.push({ port: VXLAN6_PORT_ID, bytes: vxlanPayload(far6, { type: TYPE_IPV6 }), ip: 22 });
  for (const type of [0x8100, 0x0806]) {
    seeds.push({ port: VXLAN_PORT_ID, bytes: vxlanPayload(packet(), { type }), ip: -1 });
  }
  for (const source of ['10.65.2.2', '10.65.1.2', '10.65.2.9', '10.65.4.2']) {
    const inner = packet({ source, destination: '10.65.0.3' });
    const outer = packet({ source: '192.0.2.3', destination: '192.0.2.1', protocol: 4, payload: inner });
    seeds.push({ port: IPIP_PORT_ID, bytes: outer, ip: 0 });
    seeds.push({ port: UNDERLAY_PORT, bytes: outer, ip: 0 });
    const piece = { source: '192.0.2.3', destination: '192.0.2.1', protocol: 4 };
    const first = packet({ ...piece, flags: ipv4.MORE_FRAGMENTS, payload: inner.slice(0, 24) });
    const last = packet({ ...piece, flags: 3, payload: inner.slice(24) });
    seeds.push({ port: UNDERLAY_PORT, bytes: first, ip: 0 }, { port: UNDERLAY_PORT, bytes: last, ip: 0 });
  }
  const datagram = new Uint8Array(8 + 8 + 14 + 32);
  put32(viewOf(datagram), 0, 0xc00012b5 | 0);
  put16(viewOf(datagram), 4, datagram.length);
  datagram.set(vxlanPayload(packet({ source: '10.65.1.2', destination: '10.65.0.2' })), 8);
  seeds.push({
    port: UNDERLAY_PORT,
    bytes: packet({ source: '192.0.2.2', destination: '192.0.2.1', payload: datagram }),
    ip: 0,
  });
  for (const checksum of [true, false]) {
    const outer = datagram6(vxlanPayload(far6, { type: TYPE_IPV6 }), checksum);
    seeds.push({ port: UNDERLAY_PORT, bytes: outer, ip: 0 });
  }
  return seeds;
}

/** VXLAN over IPv6, outer headers and all. */
function datagram6(payload: Uint8Array, checksum: boolean): Uint8Array {
  const length = UDP_LENGTH + payload.length;
  const datagram = new Uint8Array(length);
  datagram.set(payload, UDP_LENGTH);
  putUdp(viewOf(datagram), 0, 50000, 4789, length);
  const bytes = packet6({ source: PEER_VXLAN6, destination: UNDERLAY6, payload: datagram });
  const view = viewOf(bytes);
  const pseudo = ipv6.pseudoSum6(view, 0, ipv4.PROTOCOL_UDP, length);
  if (checksum) putUdpChecksum(view, ipv6.IPV6_LENGTH, length, pseudo);
  return bytes;
}

export interface FuzzReport {
  frames: number;
  delivered: number;
  consumed: number;
  originated: number;
  drops: Partial<Record<DropName, number>>;
}

export class PipelineFuzzer {
  readonly scenario = new Scenario(BURST);
  readonly #random: Random;
  readonly #seeds = corpus();
  /** How often what is sent is refused by its device. */
  readonly #refusals = 0.05;

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.scenario.attach(UNDERLAY_PORT, 'underlay', null, []);
    for (const { prefix, to } of DEAD) this.scenario.route(prefix, 24, to);
    this.scenario.share('10.65.4.0', 26, ['10.65.1.2', '10.65.2.2', '203.0.113.9']);
    this.scenario.share6('fd65::4:0', 122, ['fd65::1:2', 'fd65::3:2', '2001:db8::1']);
  }

  /** Run a burst, and return how many frames it had. Throws, with what was wrong. */
  burst(): number {
    const random = this.#random;
    const { scenario } = this;
    const { rows, pipeline } = scenario;
    const port = random.of(PORTS);
    // Pod b sends what pod a would: half of it is spoofed.
    const like = port === POD_B ? POD_A : port;
    const seeds = this.#seeds.filter((seed) => seed.port === like);
    const count = 1 + random.below(BURST);
    const peer = port === VXLAN6_PORT_ID ? scenario.peer6 : PEER_VXLAN;
    for (let i = 0; i < count; i++) this.#put(i, random.of(seeds), peer);
    // A trace must not change anything.
    if (random.chance(0.2)) pipeline.setTrace({ count: BURST });
    pipeline.receiveBurst(port, rows, count);
    pipeline.takeTraces();
    pipeline.setTrace(null);
    this.#settle(port);
    // Now and then long enough that nobody waits for fragments any longer.
    scenario.now += random.chance(0.005) ? 60_000 : random.below(20);
    return count;
  }

  /** A frame into slot i: as it is, or mutated, and sometimes with the checksum that it needs to get further. */
  #put(i: number, { bytes, ip }: Seed, peer: number): void {
    const random = this.#random;
    const { arena, rows } = this.scenario;
    const at = i * SLOT + HEADROOM;
    arena.fill(0xa5, at - HEADROOM, at + SLOT - HEADROOM);
    arena.set(bytes, at);
    let length = bytes.length;
    if (random.chance(0.85)) {
      for (let times = 1 + random.below(4); times > 0; times--) length = this.#mutate(at, length);
    }
    if (ip >= 0 && random.chance(0.7)) mendHeader(arena, at + ip, length - ip);
    const row = i * ROW;
    rows.fill(0, row, row + ROW);
    rows[row + OFFSET] = at;
    rows[row + LENGTH] = length;
    rows[row + ADDRESS] = random.chance(0.9) ? peer : random.of([PEER_IPIP, 0, -1, 0x7f000001]);
    rows[row + TOS] = random.below(256);
    if (random.chance(0.15)) this.#describe(row, at, length);
  }

  /** Change the frame in one way; its new length. */
  #mutate(at: number, length: number): number {
    const random = this.#random;
    const { arena } = this.scenario;
    const place = at + random.below(Math.max(1, Math.min(length, random.chance(0.8) ? 80 : LONGEST)));
    switch (random.below(7)) {
      case 0:
        arena[place] ^= 1 << random.below(8);
        return length;
      case 1:
        arena[place] = random.of(EDGES);
        return length;
      case 2:
        put16(viewOf(arena), place, random.chance(0.5) ? random.of(EDGES) : random.below(65536));
        return length;
      case 3:
        return random.below(length + 1);
      case 4:
        return Math.min(LONGEST, length + random.below(200));
      case 5: {
        // The beginning of one, the end of another.
        const other = random.of(this.#seeds).bytes;
        const cut = random.below(Math.min(length, other.length) + 1);
        arena.set(other.subarray(cut), at + cut);
        return Math.max(cut, other.length);
      }
      default: {
        const from = at + random.below(Math.max(1, length));
        arena.copyWithin(place, from, from + random.below(24));
        return length;
      }
    }
  }

  /** What a device says of checksum and segments, true or not. */
  #describe(row: number, at: number, length: number): void {
    const random = this.#random;
    const { rows } = this.scenario;
    const near = () => at + random.below(Math.max(1, Math.min(length + 8, 120)));
    rows[row + burst.OFFLOAD] =
      random.of([0, burst.SUPER_TCP4, burst.SUPER_TCP6, burst.SUPER_UDP, 3, 0xff]) |
      random.of([
        0,
        burst.SUPER_ECN,
        burst.PARTIAL_CHECKSUM,
        burst.CHECKED,
        burst.SEGMENTED,
        burst.TIGHT,
        0x1f00,
      ]);
    rows[row + burst.SEGMENT] = random.of([0, 1, 8, 536, 1400, 65535]);
    rows[row + burst.CHECKSUM_START] = random.chance(0.5) ? at + 34 : near();
    rows[row + burst.CHECKSUM_FIELD] = random.chance(0.5) ? rows[row + burst.CHECKSUM_START] + 16 : near();
    rows[row + burst.HEADERS_END] = random.chance(0.5) ? 0 : near();
  }

  /** Look at all that would leave, and let it leave, or fail. */
  #settle(port: number): void {
    const { pipeline } = this.scenario;
    const { egress } = pipeline;
    for (let i = 0; i < egress.dirtyCount; i++) {
      const to = egress.dirty[i]!;
      const rows = egress.rows(to);
      const count = egress.count(to);
      for (let row = 0; row < count * ROW; row += ROW) {
        const from = rows[row + PORT]!;
        if (from !== port && from !== ~port) throw new Error(`a frame of port ${port} is charged to ${from}`);
        this.#checkSent(to, rows[row + OFFSET]!, rows[row + LENGTH]!);
        rows[row + STATUS] = this.#random.chance(this.#refusals) ? this.#random.of(ERRNOS) : 0;
      }
      pipeline.transmitted(to, rows, count);
    }
    egress.clear();
  }

  #checkSent(to: number, offset: number, length: number): void {
    const { arena } = this.scenario;
    if (offset < 0 || length <= 0 || offset + length > arena.length) {
      throw new Error(`port ${to} was given bytes ${offset} to ${offset + length} of ${arena.length}`);
    }
    const problem = problemOf(viewOf(arena), to, offset, length);
    if (problem) {
      const bytes = Buffer.from(arena.subarray(offset, offset + Math.min(length, 128))).toString('hex');
      throw new Error(`${problem}, sent by port ${to}: ${bytes}`);
    }
  }

  /** Throws unless each frame received is accounted for once. */
  report(): FuzzReport {
    const sum: FuzzReport = { frames: 0, delivered: 0, consumed: 0, originated: 0, drops: {} };
    for (const port of PORTS) {
      const { totals, drops } = this.scenario.counters(port);
      const dropped = drops.reduce((all, { packets }) => all + packets, 0);
      const { rxFrames, delivered, consumed, held, originated } = totals;
      const name = COUNTER_NAMES[RX_FRAMES];
      if (rxFrames !== delivered + consumed + held + dropped) {
        throw new Error(
          `port ${port}: ${name} ${rxFrames}, but ${COUNTER_NAMES[DELIVERED]} ${delivered}, ${COUNTER_NAMES[CONSUMED]} ${consumed}, held ${held}, dropped ${dropped}`,
        );
      }
      sum.frames += rxFrames;
      sum.delivered += delivered;
      sum.consumed += consumed;
      sum.originated += originated;
      for (const { reason, packets } of drops) sum.drops[reason] = (sum.drops[reason] ?? 0) + packets;
    }
    return sum;
  }
}

/** Give an IPv4 header that fits its bytes the right checksum. */
function mendHeader(arena: Uint8Array, at: number, length: number): void {
  const view = viewOf(arena);
  if (length < ipv4.IPV4_LENGTH || view.getUint8(at) >> 4 !== 4) return;
  const header = ipv4.headerLength(view, at);
  if (header >= ipv4.IPV4_LENGTH && header <= length) ipv4.putHeaderChecksum(view, at);
}

/** What is wrong with a frame that is to leave by a port, or null. */
function problemOf(bytes: DataView, to: number, offset: number, length: number): string | null {
  if (to === POD_A || to === POD_B || to === HOST_PORT) return frameProblem(bytes, offset, length);
  const problem = packetProblem(bytes, offset, length);
  if (problem) return `outer ${problem}`;
  const isOver6 = bytes.getUint8(offset) >> 4 === 6;
  const isPiece = !isOver6 && (ipv4.fragment(bytes, offset) & ~ipv4.DONT_FRAGMENT) !== 0;
  if (isPiece) return to === IPIP_PORT_ID ? null : 'a fragment of VXLAN';
  if (to === IPIP_PORT_ID) return packetProblem(bytes, offset + 20, length - 20);
  const header = isOver6 ? ipv6.IPV6_LENGTH : ipv4.IPV4_LENGTH;
  const udp = offset + header;
  const protocol = isOver6 ? ipv6.nextHeader(bytes, offset) : ipv4.protocol(bytes, offset);
  if (protocol !== ipv4.PROTOCOL_UDP) return 'no UDP';
  if (get16(bytes, udp + 2) !== 4789) return `UDP port ${get16(bytes, udp + 2)}`;
  if (get16(bytes, udp + 4) !== length - header) return `UDP length ${get16(bytes, udp + 4)} of ${length}`;
  if (get32(bytes, udp + 8) !== 0x08000000) return 'a VXLAN header of other flags';
  return frameProblem(bytes, udp + 16, length - header - 16);
}

function frameProblem(bytes: DataView, offset: number, length: number): string | null {
  if (length < 14) return `a frame of ${length} bytes`;
  const type = get16(bytes, offset + 12);
  if (type === TYPE_ARP) return length === 42 ? null : `ARP of ${length} bytes`;
  const version = bytes.getUint8(offset + 14) >> 4;
  if (type !== (version === 4 ? TYPE_IPV4 : TYPE_IPV6)) return `EtherType ${type} of IP version ${version}`;
  return packetProblem(bytes, offset + 14, length - 14);
}

function packetProblem(bytes: DataView, offset: number, length: number): string | null {
  if (length < 20) return `a packet of ${length} bytes`;
  if (bytes.getUint8(offset) >> 4 === 6) {
    const problem = ipv6.checkIpv6(bytes, offset, length);
    if (problem !== ipv6.IPV6_OK) return `IPv6 header with problem ${problem}`;
    return ipv6.totalLength(bytes, offset) === length ? null : 'IPv6 packet with bytes behind it';
  }
  const problem = ipv4.checkIpv4(bytes, offset, length);
  if (problem !== ipv4.IPV4_OK) return `IPv4 header with problem ${problem}`;
  return ipv4.totalLength(bytes, offset) === length ? null : 'IPv4 packet with bytes behind it';
}
