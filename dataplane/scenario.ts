/**
 * A node in memory, for tests and benchmarks of the pipeline: two pods, a host port, tunnels to two peers,
 * and frames made from few words.
 *
 *   pod a 10.65.0.2 (port 1), pod b 10.65.0.3 (port 2), own block 10.65.0.0/26
 *   10.65.1.0/26 by VXLAN via 192.0.2.2, 10.65.2.0/26 by IPIP via 192.0.2.3, everything else to the host
 *   IPv6: pod a fd65::2, pod b fd65::3, own block fd65::/122, fd65::1:0/122 by VXLAN via 192.0.2.2, fd65::3:0/122 by VXLAN
 *   over IPv6 via 2001:db8::2, the rest to the host
 */
import ipaddr from 'ipaddr.js';
import { createCounters, type PortCounters, readPortCounters } from './counters.ts';
import { createEvidence } from './evidence.ts';
import * as adj from './fib/adjacency.ts';
import { createAdjacencies } from './fib/adjacency.ts';
import { AdjacencyWriter } from './fib/adjacency-writer.ts';
import { deal } from './fib/deal.ts';
import { createFib4, lookup4, openFib4 } from './fib/fib4.ts';
import { Fib4Writer } from './fib/fib4-writer.ts';
import { createFib6, lookup6, openFib6 } from './fib/fib6.ts';
import { Fib6Writer } from './fib/fib6-writer.ts';
import { createGroups } from './fib/groups.ts';
import { GroupWriter } from './fib/groups-writer.ts';
import { createPeers, PeerWriter } from './fib/peers.ts';
import { createPeers6, Peer6Writer } from './fib/peers6.ts';
import * as filter from './filter.ts';
import { ADDRESS, LENGTH, OFFSET, ROW } from './memory/burst.ts';
import { createEpochs, GracePeriods } from './memory/grace.ts';
import { BURST, HEADROOM, MAX_FRAME, type SharedTables } from './memory/layout.ts';
import type { PortKind, PortSpec } from './messages.ts';
import { Pipeline } from './pipeline.ts';
import { put16, sum16, viewOf } from './wire/bytes.ts';
import { TYPE_IPV4 } from './wire/ethernet.ts';
import { putIcmpv6Checksum } from './wire/icmpv6.ts';
import { pseudoSum, putIpv4 } from './wire/ipv4.ts';
import { DESTINATION, IPV6_LENGTH, NEXT_ICMPV6, pseudoSum6, putIpv6, SOURCE } from './wire/ipv6.ts';
import { putUdp, putUdpChecksum } from './wire/udp.ts';

/** Bytes for copies of frames that have no room before them, a frame. */
const SPARE = 4096;
/** Bytes of a frame's slot in a burst of several, headroom included. */
export const SLOT = 4096;

export const POD_A = 1;
export const POD_B = 2;
export const HOST_PORT = 3;
export const VXLAN_PORT_ID = 4;
export const IPIP_PORT_ID = 5;
export const VXLAN6_PORT_ID = 6;

export const ip4 = (text: string): number =>
  text.split('.').reduce((sum, part) => (sum << 8) | Number(part), 0);
export const ip6 = (text: string): Uint8Array => Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray());
export const words6 = (text: string): number[] => {
  const view = viewOf(ip6(text));
  return [0, 4, 8, 12].map((at) => view.getInt32(at));
};
export const mac = (text: string): Uint8Array =>
  Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16));

export const GATEWAY = mac('ee:ee:ee:ee:ee:ee');
export const MAC_A = mac('02:00:00:00:00:0a');
export const MAC_B = mac('02:00:00:00:00:0b');
export const MAC_HOST = mac('02:00:00:00:00:01');
export const VTEP_OWN = mac('66:00:00:00:00:01');
export const VTEP_PEER = mac('66:00:00:00:00:02');
export const NODE = ip4('192.0.2.1');
/** Its address inside tunnels, in its own block. */
export const TUNNEL = ip4('10.65.0.1');
/** The node's IPv6 address, in its own block. */
export const NODE6 = 'fd65::1';
export const PEER_VXLAN = ip4('192.0.2.2');
export const PEER_IPIP = ip4('192.0.2.3');
/** Ends of VXLAN over IPv6. */
export const UNDERLAY6 = '2001:db8::1';
export const PEER_VXLAN6 = '2001:db8::2';
export const VNI = 4096;

export interface PacketOptions {
  source?: string;
  destination?: string;
  ttl?: number;
  flags?: number;
  tos?: number;
  protocol?: number;
  payload?: Uint8Array;
}

/** An IPv4 packet; by default pod a to pod b, UDP 1000 > 2000 with four bytes. */
export function packet(options: PacketOptions = {}): Uint8Array {
  const source = ip4(options.source ?? '10.65.0.2');
  const destination = ip4(options.destination ?? '10.65.0.3');
  const protocol = options.protocol ?? 17;
  let payload = options.payload;
  if (!payload) {
    payload = new Uint8Array(12);
    putUdp(viewOf(payload), 0, 1000, 2000, 12);
    payload.set([1, 2, 3, 4], 8);
    putUdpChecksum(viewOf(payload), 0, 12, pseudoSum(source, destination, 17, 12));
  }
  const bytes = new Uint8Array(20 + payload.length);
  putIpv4(
    viewOf(bytes),
    0,
    options.tos ?? 0,
    bytes.length,
    7,
    options.flags ?? 0,
    options.ttl ?? 64,
    protocol,
    source,
    destination,
  );
  bytes.set(payload, 20);
  return bytes;
}

export interface Packet6Options {
  source?: string;
  destination?: string;
  hopLimit?: number;
  trafficClass?: number;
  next?: number;
  payload?: Uint8Array;
}

/** An IPv6 packet; by default pod a to pod b, UDP 1000 > 2000 with four bytes. */
export function packet6(options: Packet6Options = {}): Uint8Array {
  const next = options.next ?? 17;
  const payload = options.payload ?? Uint8Array.of(3, 232, 7, 208, 0, 12, 0, 0, 1, 2, 3, 4);
  const bytes = new Uint8Array(IPV6_LENGTH + payload.length);
  const view = viewOf(bytes);
  putIpv6(view, 0, options.trafficClass ?? 0, payload.length, next, options.hopLimit ?? 64);
  bytes.set(ip6(options.source ?? 'fd65::2'), SOURCE);
  bytes.set(ip6(options.destination ?? 'fd65::3'), DESTINATION);
  bytes.set(payload, IPV6_LENGTH);
  if (!options.payload) putUdpChecksum(view, IPV6_LENGTH, 12, pseudoSum6(view, 0, 17, 12));
  if (next === NEXT_ICMPV6 && payload.length >= 4) {
    const pseudo = pseudoSum6(view, 0, NEXT_ICMPV6, payload.length);
    putIcmpv6Checksum(view, IPV6_LENGTH, payload.length, pseudo);
  }
  return bytes;
}

/** Ethernet in front of a packet; by default from pod a to the gateway. */
export function frame(
  inner: Uint8Array,
  destination = GATEWAY,
  source = MAC_A,
  type = TYPE_IPV4,
): Uint8Array {
  const bytes = new Uint8Array(14 + inner.length);
  bytes.set(destination, 0);
  bytes.set(source, 6);
  put16(viewOf(bytes), 12, type);
  bytes.set(inner, 14);
  return bytes;
}

/** VXLAN header and inner Ethernet in front of a packet, as a UDP socket hands it over. */
export function vxlanPayload(
  inner: Uint8Array,
  options: { flags?: number; vni?: number; destination?: Uint8Array; type?: number } = {},
): Uint8Array {
  const bytes = new Uint8Array(8 + 14 + inner.length);
  bytes[0] = options.flags ?? 0x08;
  const vni = options.vni ?? VNI;
  bytes.set([vni >> 16, vni >> 8, vni], 4);
  bytes.set(frame(inner, options.destination ?? VTEP_OWN, VTEP_PEER, options.type ?? TYPE_IPV4), 8);
  return bytes;
}

/** An ICMP message with its checksum. */
export function icmpMessage(type: number, code: number, rest = new Uint8Array(4)): Uint8Array {
  const bytes = new Uint8Array(4 + rest.length);
  bytes[0] = type;
  bytes[1] = code;
  bytes.set(rest, 4);
  put16(viewOf(bytes), 2, ~sum16(viewOf(bytes), 0, bytes.length, 0));
  return bytes;
}

/** A trace's filter: packets from or to a host. */
export const hostFilter4 = (host: string): Int32Array =>
  Int32Array.of(filter.ADDRESS4, filter.SOURCE | filter.DESTINATION, ip4(host), -1);
export const hostFilter6 = (host: string): Int32Array =>
  Int32Array.of(filter.ADDRESS6, filter.SOURCE | filter.DESTINATION, ...words6(host), -1, -1, -1, -1);

export interface Sent {
  readonly port: number;
  readonly bytes: Uint8Array;
  /** Outer destination, host order. */
  readonly to: number;
}

export class Scenario {
  readonly tables: SharedTables;
  readonly pipeline: Pipeline;
  readonly fib: Fib4Writer;
  readonly fib6: Fib6Writer;
  readonly adjacencies: AdjacencyWriter;
  readonly groups: GroupWriter;
  readonly peers: PeerWriter;
  readonly peers6: Peer6Writer;
  readonly arena: Uint8Array;
  readonly rows = new Int32Array(BURST * ROW);
  now = 0;
  /** Number of the peer of VXLAN over IPv6. */
  readonly peer6: number;
  /** The rows of what left last, as they were queued (memory/burst.ts). */
  queued: Int32Array[] = [];

  /** `frames`: how many frames of SLOT bytes a burst may have, else one of any size. */
  constructor(frames = 0) {
    const spare = Math.max(HEADROOM + MAX_FRAME, frames * SLOT);
    this.arena = new Uint8Array(spare + (frames + 1) * SPARE);
    this.tables = {
      fib4: createFib4(),
      fib6: createFib6(),
      adjacencies: createAdjacencies(),
      groups: createGroups(),
      peers: createPeers(),
      peers6: createPeers6(),
      counters: createCounters(),
      evidence: createEvidence(),
      epochs: createEpochs(),
    };
    const grace = new GracePeriods(this.tables.epochs);
    this.fib = new Fib4Writer(this.tables.fib4, grace);
    this.fib6 = new Fib6Writer(this.tables.fib6, grace);
    this.adjacencies = new AdjacencyWriter(this.tables.adjacencies, grace);
    this.groups = new GroupWriter(this.tables.groups, this.adjacencies, grace);
    this.peers = new PeerWriter(this.tables.peers);
    this.peers6 = new Peer6Writer(this.tables.peers6, grace);
    this.pipeline = new Pipeline({
      tables: this.tables,
      worker: 0,
      arena: this.arena,
      spare: [spare, this.arena.length],
      clock: () => this.now,
    });
    this.pipeline.setNode({
      address: NODE,
      vxlanAddress: TUNNEL,
      ipipAddress: TUNNEL,
      local: [NODE],
      address6: words6(NODE6),
      local6: [...words6(NODE6), ...words6(UNDERLAY6)],
      underlay6: words6(UNDERLAY6),
      vtepMac: VTEP_OWN,
      vni: VNI,
      icmpRate: 100,
    });
    this.attach(POD_A, 'pod', MAC_A, ['10.65.0.2'], ['fd65::2']);
    this.attach(POD_B, 'pod', MAC_B, ['10.65.0.3'], ['fd65::3']);
    this.attach(HOST_PORT, 'host', MAC_HOST, []);
    this.attach(VXLAN_PORT_ID, 'vxlan', null, []);
    this.attach(IPIP_PORT_ID, 'ipip', null, []);
    this.attach(VXLAN6_PORT_ID, 'vxlan6', null, []);
    this.peers.add(PEER_VXLAN);
    this.peers.add(PEER_IPIP);
    this.route('0.0.0.0', 0, { kind: adj.HOST, port: HOST_PORT, dmac: MAC_HOST });
    this.route('10.65.0.0', 26, { kind: adj.BLACKHOLE });
    this.route('10.65.0.2', 32, { kind: adj.POD, port: POD_A, dmac: MAC_A, mtu: 1500 });
    this.route('10.65.0.3', 32, { kind: adj.POD, port: POD_B, dmac: MAC_B, mtu: 1500 });
    this.route('10.65.1.0', 26, {
      kind: adj.VXLAN,
      port: VXLAN_PORT_ID,
      nextHop: PEER_VXLAN,
      mtu: 1450,
      source: NODE,
      dmac: VTEP_PEER,
      smac: VTEP_OWN,
      vni: VNI,
    });
    this.route('10.65.2.0', 26, {
      kind: adj.IPIP,
      port: IPIP_PORT_ID,
      nextHop: PEER_IPIP,
      mtu: 1480,
      source: NODE,
    });
    this.route6('::', 0, { kind: adj.HOST, port: HOST_PORT, dmac: MAC_HOST });
    this.route6('fd65::', 122, { kind: adj.BLACKHOLE });
    this.route6('fd65::2', 128, { kind: adj.POD, port: POD_A, dmac: MAC_A, mtu: 1500 });
    this.route6('fd65::3', 128, { kind: adj.POD, port: POD_B, dmac: MAC_B, mtu: 1500 });
    this.route6('fd65::1:0', 122, {
      kind: adj.VXLAN,
      port: VXLAN_PORT_ID,
      nextHop: PEER_VXLAN,
      mtu: 1450,
      source: NODE,
      dmac: VTEP_PEER,
      smac: VTEP_OWN,
      vni: VNI,
    });
    this.peer6 = this.peers6.add(words6(PEER_VXLAN6));
    this.route6('fd65::3:0', 122, {
      kind: adj.VXLAN6,
      port: VXLAN6_PORT_ID,
      nextHop: this.peer6,
      nextHop6: words6(PEER_VXLAN6),
      mtu: 1430,
      dmac: VTEP_PEER,
      smac: VTEP_OWN,
      vni: VNI,
    });
  }

  attach(
    id: number,
    kind: PortKind,
    address: Uint8Array | null,
    sources: string[],
    sources6: string[] = [],
  ): void {
    const spec: PortSpec = {
      id,
      kind,
      name: `port${id}`,
      fds: [],
      readers: [0],
      mac: address,
      sources: sources.flatMap((source) => [ip4(source), -1]),
      sources6: sources6.flatMap((source) => [...words6(source), -1, -1, -1, -1]),
      mtu: 1500,
    };
    this.pipeline.attach(spec);
  }

  route(prefix: string, length: number, to: Partial<adj.Adjacency> & { kind: number }): void {
    this.fib.set(ip4(prefix), length, this.#acquire(to));
  }

  route6(prefix: string, length: number, to: Partial<adj.Adjacency> & { kind: number }): void {
    this.fib6.set(ip6(prefix), length, this.#acquire(to));
  }

  /** A route by a group of the rows that these addresses have, whatever becomes of their routes. */
  share(prefix: string, length: number, addresses: readonly string[]): void {
    const fib = openFib4(this.tables.fib4);
    const rows = addresses.map((address) => lookup4(fib, ip4(address)));
    this.fib.set(ip4(prefix), length, this.groups.acquire(deal(rows, null)));
  }

  share6(prefix: string, length: number, addresses: readonly string[]): void {
    const fib = openFib6(this.tables.fib6);
    const rows = addresses.map((address) => lookup6(fib, viewOf(ip6(address)), 0));
    this.fib6.set(ip6(prefix), length, this.groups.acquire(deal(rows, null)));
  }

  #acquire(to: Partial<adj.Adjacency> & { kind: number }): number {
    return this.adjacencies.acquire({
      port: 0,
      nextHop: 0,
      mtu: 0,
      source: 0,
      dmac: null,
      smac: null,
      vni: 0,
      ...to,
    });
  }

  /** Receive one frame on a port, with these cells of its row, and return all that left. */
  receive(port: number, bytes: Uint8Array, from = 0, cells: Readonly<Record<number, number>> = {}): Sent[] {
    this.arena.fill(0xa5, 0, HEADROOM);
    this.arena.set(bytes, HEADROOM);
    // Whatever is read beyond the frame must not look like a frame.
    this.arena.fill(0xa5, HEADROOM + bytes.length, HEADROOM + bytes.length + 64);
    this.rows.fill(0, 0, ROW);
    for (const [cell, value] of Object.entries(cells)) this.rows[Number(cell)] = value;
    this.rows[OFFSET] = HEADROOM;
    this.rows[LENGTH] = bytes.length;
    this.rows[ADDRESS] = from;
    this.pipeline.receiveBurst(port, this.rows, 1);
    this.queued = [];
    const sent: Sent[] = [];
    const { egress } = this.pipeline;
    for (let i = 0; i < egress.dirtyCount; i++) {
      const to = egress.dirty[i]!;
      const rows = egress.rows(to);
      for (let row = 0; row < egress.count(to) * ROW; row += ROW) {
        const offset = rows[row + OFFSET]!;
        const length = rows[row + LENGTH]!;
        this.queued.push(rows.slice(row, row + ROW));
        sent.push({
          port: to,
          bytes: this.arena.slice(offset, offset + length),
          to: rows[row + ADDRESS]!,
        });
      }
      this.pipeline.transmitted(to, rows, egress.count(to));
    }
    egress.clear();
    return sent;
  }

  counters(port: number): PortCounters {
    return readPortCounters(new Float64Array(this.tables.counters), port);
  }

  /** Names of the drop reasons counted on a port. */
  drops(port: number): Record<string, number> {
    return Object.fromEntries(this.counters(port).drops.map((drop) => [drop.reason, drop.packets]));
  }
}
