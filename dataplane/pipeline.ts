/**
 * The life of a packet, top to bottom.
 *
 *   in from a pod:       proxy ARP, or: checks, source, look-up, TTL, (encapsulate), out
 *   in from the host:    the same, but the host's kernel and tortie are one router: no TTL between them
 *   in from a tunnel:    outer checks, known peer, decapsulate, checks, inner source, look-up, TTL, out
 *
 * No I/O happens here. The daemon's workers, `tortie replay`, `tortie trace` and the benchmarks all run this
 * code. Every frame ends in exactly one of: queued for a port, consumed, or dropped for a reason.
 *
 * Per packet nothing is allocated. A frame stays where it was received; headers are written into the free
 * bytes in front of it.
 */

import * as counter from './counters.ts';
import { cellsOf, DROPS } from './counters.ts';
import { DROP } from './drops.ts';
import { Egress } from './egress.ts';
import * as adj from './fib/adjacency.ts';
import { ADJ_ROW } from './fib/adjacency.ts';
import { type Fib4, lookup4, openFib4 } from './fib/fib4.ts';
import { hasPeer } from './fib/peers.ts';
import {
  ADDRESS,
  LENGTH,
  OFFLOAD,
  OFFSET,
  PORT,
  ROW,
  SEGMENTED,
  STATUS,
  SUPER_MASK,
  TIGHT,
} from './memory/burst.ts';
import { HEADROOM, MAX_PORTS, type SharedTables } from './memory/layout.ts';
import type { NodeSpec, PortSpec, TraceFilter } from './messages.ts';
import { longestPacket } from './offload/cut.ts';
import { describeUnfinished, isPlausible } from './offload/received.ts';
import * as step from './trace.ts';
import { Tracer } from './trace.ts';
import * as arp from './wire/arp.ts';
import { get32 } from './wire/bytes.ts';
import * as ethernet from './wire/ethernet.ts';
import { ETHERNET_LENGTH, GATEWAY_HI, GATEWAY_LO } from './wire/ethernet.ts';
import { flowHash } from './wire/flow.ts';
import * as icmp from './wire/icmp.ts';
import { ICMP_LENGTH } from './wire/icmp.ts';
import * as ipv4 from './wire/ipv4.ts';
import { IPV4_LENGTH } from './wire/ipv4.ts';
import * as udp from './wire/udp.ts';
import { UDP_LENGTH } from './wire/udp.ts';
import * as vxlan from './wire/vxlan.ts';
import { VXLAN_LENGTH, VXLAN_PORT } from './wire/vxlan.ts';

/** Kinds of port, as numbers for the switch in `receiveBurst`. */
const GONE = 0;
const POD = 1;
const HOST = 2;
const VXLAN = 3;
const IPIP = 4;
const UNDERLAY = 5;
const KINDS: Record<PortSpec['kind'], number> = {
  pod: POD,
  host: HOST,
  vxlan: VXLAN,
  ipip: IPIP,
  underlay: UNDERLAY,
};

/** An ICMP error is at most 576 bytes in all (RFC 1812 4.3.2.3). */
const MAX_QUOTE = 576 - IPV4_LENGTH - ICMP_LENGTH;
const OUTER_TTL = 64;
const LINUX_EMSGSIZE = 90;
const LINUX_E2BIG = 7;
const LINUX_EAGAIN = 11;
const LINUX_ENOBUFS = 105;

/** checkIpv4's answer as a drop reason. */
const IPV4_DROPS = [
  -1,
  DROP.ip4_short,
  DROP.ip4_version,
  DROP.ip4_header_length,
  DROP.ip4_total_length,
  DROP.ip4_checksum,
  DROP.ip4_offset_one,
];

export interface PipelineOptions {
  readonly tables: SharedTables;
  readonly worker: number;
  /** The frames' memory. HEADROOM bytes before every received frame are free. */
  readonly arena: Uint8Array;
  /** Where in the arena frames are copied to that have no free bytes before them; [start, end). */
  readonly spare?: readonly [start: number, end: number];
  /** Milliseconds, for the ICMP rate limit; replay passes the capture's time. */
  readonly clock?: () => number;
}

export class Pipeline {
  readonly egress = new Egress();

  readonly #bytes: Uint8Array;
  readonly #fib: Fib4;
  readonly #adjacencies: Int32Array;
  readonly #peers: Int32Array;
  readonly #counters: Float64Array;
  readonly #worker: number;
  readonly #clock: () => number;

  // What is known of ports, by id.
  readonly #kinds = new Uint8Array(MAX_PORTS);
  readonly #macHi = new Int32Array(MAX_PORTS);
  readonly #macLo = new Int32Array(MAX_PORTS);
  readonly #mtus = new Int32Array(MAX_PORTS);
  /** Pod's first address: the fast path of the source check. */
  readonly #ownAddress = new Int32Array(MAX_PORTS);
  /** Prefix and mask pairs that a pod may send from. */
  readonly #sources: Int32Array[] = [];

  // What is known of the node.
  #address = 0;
  #local = new Int32Array(0);
  #vtepHi = 0;
  #vtepLo = 0;
  #vni = 0;
  #icmpRate = 0;
  #icmpTokens = 0;
  #icmpRefilled = 0;
  #identification = 0;

  // Of the arena's spare part: where it begins, ends, and is free.
  readonly #spareStart: number;
  readonly #spareEnd: number;
  #spareNext = 0;

  // The frame in hand.
  #rows: Int32Array = new Int32Array(0);
  #row = 0;
  #port = 0;
  #portKind = GONE;
  #cells = 0;
  #tracer: Tracer | null = null;
  #traced = false;

  constructor(options: PipelineOptions) {
    this.#bytes = options.arena;
    this.#worker = options.worker;
    this.#clock = options.clock ?? (() => performance.now());
    this.#fib = openFib4(options.tables.fib4);
    this.#adjacencies = new Int32Array(options.tables.adjacencies);
    this.#peers = new Int32Array(options.tables.peers);
    this.#counters = new Float64Array(options.tables.counters);
    [this.#spareStart, this.#spareEnd] = options.spare ?? [0, 0];
  }

  attach(spec: PortSpec): void {
    this.egress.open(spec.id);
    this.#macHi[spec.id] = spec.mac ? (spec.mac[0] << 8) | spec.mac[1] : 0;
    this.#macLo[spec.id] = spec.mac ? get32(spec.mac, 2) : 0;
    this.#sources[spec.id] = Int32Array.from(spec.sources);
    this.#ownAddress[spec.id] = spec.sources[0] ?? 0;
    this.#mtus[spec.id] = spec.mtu;
    this.#kinds[spec.id] = KINDS[spec.kind];
  }

  detach(port: number): void {
    this.#kinds[port] = GONE;
  }

  setNode(node: NodeSpec): void {
    this.#address = node.address;
    this.#local = Int32Array.from(node.local);
    this.#vtepHi = (node.vtepMac[0] << 8) | node.vtepMac[1];
    this.#vtepLo = get32(node.vtepMac, 2);
    this.#vni = node.vni;
    this.#icmpRate = node.icmpRate;
    this.#icmpTokens = node.icmpRate;
    this.#icmpRefilled = this.#clock();
  }

  setTrace(filter: TraceFilter | null): void {
    this.#tracer = filter ? new Tracer(filter) : null;
  }

  takeTraces(): Int32Array[] {
    if (!this.#tracer) return [];
    const traces = this.#tracer.take();
    if (this.#tracer.done) this.#tracer = null;
    return traces;
  }

  /**
   * Process frames that were received on a port, `count` rows from row `first` on, EGRESS_ROWS at most. What must
   * leave is in `egress` afterwards, and stays where it is in the arena until the next call.
   */
  receiveBurst(port: number, rows: Int32Array, count: number, first = 0): void {
    const kind = this.#kinds[port];
    this.#port = port;
    this.#portKind = kind;
    this.#cells = cellsOf(this.#worker, port);
    this.#rows = rows;
    this.#spareNext = this.#spareStart;
    for (let i = first; i < first + count; i++) {
      const row = i * ROW;
      const offset = rows[row + OFFSET];
      const length = rows[row + LENGTH];
      this.#row = row;
      this.#count(counter.RX_FRAMES, 1);
      this.#count(counter.RX_BYTES, length);
      if (this.#tracer) this.#beginTrace(offset, length);
      switch (kind) {
        case POD:
        case HOST:
          this.#fromInside(offset, length);
          break;
        case VXLAN:
          this.#fromVxlan(offset, length, rows[row + ADDRESS]);
          break;
        case IPIP:
          this.#fromIpip(offset, length);
          break;
        case UNDERLAY:
          this.#fromUnderlay(offset, length);
          break;
        default:
          this.#drop(DROP.port_gone);
      }
      if (this.#traced) this.#endTrace();
    }
  }

  /** Settle the account of rows that were handed to a port: each went, or failed with an errno in STATUS. */
  transmitted(port: number, rows: Int32Array, count: number): void {
    const counters = this.#counters;
    const egressCells = cellsOf(this.#worker, port);
    for (let i = 0; i < count; i++) {
      const row = i * ROW;
      const status = rows[row + STATUS];
      // A frame that we made ourselves carries the complement of the port that caused it.
      const from = rows[row + PORT];
      const cells = cellsOf(this.#worker, from < 0 ? ~from : from);
      if (status === 0) {
        counters[egressCells + counter.TX_FRAMES] += 1;
        counters[egressCells + counter.TX_BYTES] += rows[row + LENGTH];
        counters[cells + (from < 0 ? counter.ORIGINATED : counter.DELIVERED)] += 1;
      } else if (from < 0) {
        counters[cells + counter.ORIGINATED_LOST] += 1;
      } else {
        counters[cells + DROPS + dropOfErrno(status)] += 1;
      }
    }
  }

  // ---- In from a pod or the host -------------------------------------------------------------------

  #fromInside(offset: number, length: number): void {
    const bytes = this.#bytes;
    if (length < ETHERNET_LENGTH) return this.#drop(DROP.frame_short);
    const type = ethernet.etherType(bytes, offset);
    if (type !== ethernet.TYPE_IPV4) {
      if (type === ethernet.TYPE_ARP) return this.#fromArp(offset, length);
      if (type === ethernet.TYPE_IPV6) return this.#drop(DROP.ipv6);
      return this.#drop(type === ethernet.TYPE_VLAN ? DROP.vlan_tag : DROP.not_ip);
    }
    const ip = offset + ETHERNET_LENGTH;
    const problem = ipv4.checkIpv4(bytes, ip, length - ETHERNET_LENGTH);
    if (problem !== ipv4.IPV4_OK) return this.#drop(IPV4_DROPS[problem]);
    const total = ipv4.totalLength(bytes, ip);
    const source = ipv4.source(bytes, ip);
    const destination = ipv4.destination(bytes, ip);
    if (this.#traced) this.#traceHeader(ip);
    if (this.#rows[this.#row + OFFLOAD] !== 0 && !isPlausible(bytes, this.#rows, this.#row, ip, total)) {
      return this.#drop(DROP.offload_header);
    }
    if (ipv4.isMulticast(destination)) return this.#drop(DROP.multicast);
    if (ipv4.isBroadcast(destination)) return this.#drop(DROP.broadcast);
    if (
      ethernet.destinationHi(bytes, offset) !== GATEWAY_HI ||
      ethernet.destinationLo(bytes, offset) !== GATEWAY_LO
    ) {
      return this.#drop(DROP.foreign_mac);
    }
    if (ipv4.isMartianSource(source)) return this.#drop(DROP.martian_source);
    if (this.#portKind === POD) {
      if (!this.#maySend(source)) return this.#drop(DROP.pod_source);
      if (this.#traced) this.#step(step.SOURCE_CHECKED, source, step.AGAINST_POD);
    }
    this.#forward(ip, total, destination);
  }

  /**
   * Proxy ARP: whoever the pod asks for is at ee:ee:ee:ee:ee:ee. Probes (RFC 5227), gratuitous ARP and
   * questions for the pod's own address stay unanswered, or its duplicate address detection would fail.
   */
  #fromArp(offset: number, length: number): void {
    const bytes = this.#bytes;
    const packet = offset + ETHERNET_LENGTH;
    if (!arp.checkArp(bytes, packet, length - ETHERNET_LENGTH)) return this.#drop(DROP.arp_malformed);
    const sender = arp.senderAddress(bytes, packet);
    const target = arp.targetAddress(bytes, packet);
    if (this.#traced) this.#step(step.ARP_REQUEST, sender, target);
    if (arp.operation(bytes, packet) !== arp.ARP_REQUEST || sender === 0 || sender === target) {
      return this.#drop(DROP.arp_silent);
    }
    const macHi = arp.senderMacHi(bytes, packet);
    const macLo = arp.senderMacLo(bytes, packet);
    if (this.#portKind === POD) {
      const port = this.#port;
      if (this.#isOwn(target)) return this.#drop(DROP.arp_silent);
      if (!this.#maySend(sender) || macHi !== this.#macHi[port] || macLo !== this.#macLo[port]) {
        return this.#drop(DROP.arp_refused);
      }
    } else if (this.#isLocal(target)) {
      return this.#drop(DROP.arp_silent);
    }
    arp.replyInPlace(bytes, packet, GATEWAY_HI, GATEWAY_LO);
    ethernet.putEthernet(bytes, offset, macHi, macLo, GATEWAY_HI, GATEWAY_LO, ethernet.TYPE_ARP);
    this.#count(counter.CONSUMED, 1);
    if (this.#traced) {
      this.#step(step.ARP_REPLY, target);
      this.#step(step.CONSUMED);
    }
    this.egress.push(this.#port, offset, ETHERNET_LENGTH + arp.ARP_LENGTH, ~this.#port, 0, 0, 0);
  }

  /** Whether the pod in hand may send from this address. */
  #maySend(source: number): boolean {
    if (source === this.#ownAddress[this.#port]) return true;
    const sources = this.#sources[this.#port];
    for (let i = 0; i < sources.length; i += 2) {
      if ((source & sources[i + 1]) === sources[i]) return true;
    }
    return false;
  }

  /** Whether an address is one of the pod's own (a /32 among its sources). */
  #isOwn(address: number): boolean {
    const sources = this.#sources[this.#port];
    for (let i = 0; i < sources.length; i += 2) {
      if (sources[i] === address && sources[i + 1] === -1) return true;
    }
    return false;
  }

  // ---- In from the underlay ------------------------------------------------------------------------

  /**
   * A packet as the underlay carries it, outer headers and all: replay, and uplinks without sockets. What
   * the kernel checks before its sockets see a packet is checked here.
   */
  #fromUnderlay(offset: number, length: number): void {
    const bytes = this.#bytes;
    const problem = ipv4.checkIpv4(bytes, offset, length);
    if (problem !== ipv4.IPV4_OK) return this.#drop(IPV4_DROPS[problem]);
    const header = ipv4.headerLength(bytes, offset);
    const total = ipv4.totalLength(bytes, offset);
    const destination = ipv4.destination(bytes, offset);
    if (!this.#isLocal(destination)) return this.#drop(DROP.outer_destination);
    const protocol = ipv4.protocol(bytes, offset);
    if (protocol !== ipv4.PROTOCOL_IPIP && protocol !== ipv4.PROTOCOL_UDP) return this.#drop(DROP.not_tunnel);
    if ((ipv4.fragment(bytes, offset) & (ipv4.FRAGMENT_OFFSET | ipv4.MORE_FRAGMENTS)) !== 0) {
      return this.#drop(DROP.outer_fragment);
    }
    if (protocol === ipv4.PROTOCOL_IPIP) return this.#fromIpip(offset, total);

    const datagram = offset + header;
    const room = total - header;
    if (room < UDP_LENGTH) return this.#drop(DROP.udp_length);
    if (udp.destinationPort(bytes, datagram) !== VXLAN_PORT) return this.#drop(DROP.not_tunnel);
    const size = udp.udpLength(bytes, datagram);
    if (size < UDP_LENGTH || size > room) return this.#drop(DROP.udp_length);
    const source = ipv4.source(bytes, offset);
    const pseudo = ipv4.pseudoSum(source, destination, ipv4.PROTOCOL_UDP, size);
    if (!udp.udpChecksumHolds(bytes, datagram, size, pseudo)) return this.#drop(DROP.udp_checksum);
    this.#fromVxlan(datagram + UDP_LENGTH, size - UDP_LENGTH, source);
  }

  /** From the VXLAN header on (RFC 7348 section 5). */
  #fromVxlan(offset: number, length: number, peer: number): void {
    const bytes = this.#bytes;
    if (length < VXLAN_LENGTH + ETHERNET_LENGTH) return this.#drop(DROP.vxlan_short);
    if (!vxlan.hasVni(bytes, offset)) return this.#drop(DROP.vxlan_flags);
    const vni = vxlan.vni(bytes, offset);
    if (this.#traced) this.#step(step.TUNNEL, adj.VXLAN, peer, vni);
    if (vni !== this.#vni) return this.#drop(DROP.vxlan_vni);
    if (!hasPeer(this.#peers, peer)) return this.#drop(DROP.unknown_peer);
    const frame = offset + VXLAN_LENGTH;
    const type = ethernet.etherType(bytes, frame);
    if (type === ethernet.TYPE_VLAN) return this.#drop(DROP.vxlan_vlan);
    if (
      ethernet.destinationHi(bytes, frame) !== this.#vtepHi ||
      ethernet.destinationLo(bytes, frame) !== this.#vtepLo
    ) {
      return this.#drop(DROP.vxlan_mac);
    }
    if (type !== ethernet.TYPE_IPV4) return this.#drop(type === ethernet.TYPE_IPV6 ? DROP.ipv6 : DROP.not_ip);
    this.#decapsulated(frame + ETHERNET_LENGTH, length - VXLAN_LENGTH - ETHERNET_LENGTH, peer);
  }

  /** From the outer IPv4 header on (RFC 2003). */
  #fromIpip(offset: number, length: number): void {
    const bytes = this.#bytes;
    const problem = ipv4.checkIpv4(bytes, offset, length);
    if (problem !== ipv4.IPV4_OK) return this.#drop(IPV4_DROPS[problem]);
    const peer = ipv4.source(bytes, offset);
    if (this.#traced) this.#step(step.TUNNEL, adj.IPIP, peer, 0);
    if (!this.#isLocal(ipv4.destination(bytes, offset))) return this.#drop(DROP.outer_destination);
    if (!hasPeer(this.#peers, peer)) return this.#drop(DROP.unknown_peer);
    const header = ipv4.headerLength(bytes, offset);
    this.#decapsulated(offset + header, ipv4.totalLength(bytes, offset) - header, peer);
  }

  /** The inner packet of a tunnel: a peer may only send what is routed via it. */
  #decapsulated(ip: number, length: number, peer: number): void {
    const bytes = this.#bytes;
    const problem = ipv4.checkIpv4(bytes, ip, length);
    if (problem !== ipv4.IPV4_OK) return this.#drop(IPV4_DROPS[problem]);
    const source = ipv4.source(bytes, ip);
    const destination = ipv4.destination(bytes, ip);
    if (this.#traced) this.#traceHeader(ip);
    if (ipv4.isMartianSource(source)) return this.#drop(DROP.martian_source);
    if (ipv4.isMulticast(destination)) return this.#drop(DROP.multicast);
    if (ipv4.isBroadcast(destination)) return this.#drop(DROP.broadcast);
    const total = ipv4.totalLength(bytes, ip);
    // A node's own address needs no route via itself: ICMP errors and its host's traffic come from it.
    const back = lookup4(this.#fib, source) * ADJ_ROW;
    if (source !== peer && this.#adjacencies[back + adj.ADJ_NEXT_HOP] !== peer) {
      return this.#drop(DROP.peer_source);
    }
    if (this.#traced) this.#step(step.SOURCE_CHECKED, source, step.AGAINST_PEER);
    if ((this.#rows[this.#row + OFFLOAD] & SEGMENTED) !== 0) {
      describeUnfinished(bytes, this.#rows, this.#row, ip, total, this.#mtus[this.#port]);
    }
    this.#forward(ip, total, destination);
  }

  // ---- Look-up and out -----------------------------------------------------------------------------

  /** Send the packet at `ip` where the FIB says, or say why not. `length` is its total length. */
  #forward(ip: number, length: number, destination: number): void {
    const bytes = this.#bytes;
    const index = lookup4(this.#fib, destination);
    const row = index * ADJ_ROW;
    const adjacencies = this.#adjacencies;
    const kind = adjacencies[row + adj.ADJ_KIND];
    if (this.#traced) this.#step(step.LOOKUP, destination, index, kind, adjacencies[row + adj.ADJ_NEXT_HOP]);

    switch (kind) {
      case adj.POD:
      case adj.VXLAN:
      case adj.IPIP:
        break;
      case adj.HOST:
        // The host sent it here because nobody nearer has it: neither have we.
        if (this.#portKind === HOST)
          return this.#reject(DROP.host_loop, icmp.UNREACHABLE, icmp.CODE_NET, ip, length);
        break;
      case adj.BLACKHOLE:
        return this.#drop(DROP.blackhole);
      case adj.UNREACHABLE:
        return this.#reject(DROP.unreachable, icmp.UNREACHABLE, icmp.CODE_HOST, ip, length);
      case adj.PROHIBIT:
        return this.#reject(DROP.prohibit, icmp.UNREACHABLE, icmp.CODE_PROHIBITED, ip, length);
      default:
        return this.#reject(DROP.no_route, icmp.UNREACHABLE, icmp.CODE_NET, ip, length);
    }
    if (ipv4.isMartianDestination(destination)) return this.#drop(DROP.martian_destination);
    if (ipv4.isLinkLocal(destination)) return this.#drop(DROP.link_local);
    if (kind === adj.VXLAN || kind === adj.IPIP) {
      if (this.#wouldLoop(row, ip, destination)) return this.#drop(DROP.tunnel_loop);
    }

    // tortie and its host's kernel are one router: what crosses the host port loses its TTL in the kernel.
    const takesTtl = kind !== adj.HOST && this.#portKind !== HOST;
    const ttl = ipv4.ttl(bytes, ip);
    if (takesTtl && ttl <= 1)
      return this.#reject(DROP.ttl_expired, icmp.TIME_EXCEEDED, icmp.CODE_TTL, ip, length);
    const mtu = adjacencies[row + adj.ADJ_MTU];
    if (mtu !== 0 && length > mtu) {
      const packet = this.#longestPacket(ip, length);
      if (packet > mtu) return this.#tooBig(ip, packet, length, mtu);
    }
    if (takesTtl) {
      ipv4.decrementTtl(bytes, ip);
      if (this.#traced) this.#step(step.TTL, ttl, ttl - 1);
    }
    this.#send(row, kind, ip, length, this.#port);
  }

  /** What counts against an MTU: of a super-frame the packets that it stands for. */
  #longestPacket(ip: number, length: number): number {
    const isSuper = (this.#rows[this.#row + OFFLOAD] & SUPER_MASK) !== 0;
    return isSuper ? longestPacket(this.#rows, this.#row, ip) : length;
  }

  /** Larger than the next link takes (RFC 1191 4): an error for who set DF, else it would need fragmenting. */
  #tooBig(ip: number, packet: number, length: number, mtu: number): void {
    if (this.#traced) this.#step(step.TOO_BIG, packet, mtu);
    if ((ipv4.fragment(this.#bytes, ip) & ipv4.DONT_FRAGMENT) === 0) return this.#drop(DROP.too_big);
    this.#reject(DROP.too_big, icmp.UNREACHABLE, icmp.CODE_FRAGMENTATION_NEEDED, ip, length, mtu);
  }

  /**
   * RFC 2003 3.2: never into a tunnel that ends here, and never a packet from or to the tunnel's own far
   * end, which would be tunnelled for ever if the route to that end led into the tunnel.
   */
  #wouldLoop(row: number, ip: number, destination: number): boolean {
    const end = this.#adjacencies[row + adj.ADJ_NEXT_HOP];
    return destination === end || ipv4.source(this.#bytes, ip) === end || this.#isLocal(end);
  }

  /** Write what goes in front of the packet and queue it. `from` is the port to charge, complemented if we made it. */
  #send(row: number, kind: number, ip: number, length: number, from: number): void {
    const bytes = this.#bytes;
    const adjacencies = this.#adjacencies;
    const port = adjacencies[row + adj.ADJ_PORT];
    if ((kind === adj.VXLAN || kind === adj.IPIP) && from >= 0) {
      ip = this.#withRoom(ip, length);
      if (ip === 0) return this.#lost(from, DROP.tx_full);
    }
    let offset: number;
    let size: number;
    let to = 0;
    let udpPort = 0;
    const tos = ipv4.tos(bytes, ip);
    if (kind === adj.VXLAN) {
      to = adjacencies[row + adj.ADJ_NEXT_HOP];
      udpPort = vxlan.VXLAN_SOURCE_BASE | (flowHash(bytes, ip, length) & vxlan.VXLAN_SOURCE_MASK);
      offset = ip - ETHERNET_LENGTH - VXLAN_LENGTH - UDP_LENGTH - IPV4_LENGTH;
      size = ip - offset + length;
      this.#putVxlanHeaders(row, offset, size, tos, udpPort, to, this.#kinds[port] === UNDERLAY);
    } else if (kind === adj.IPIP) {
      to = adjacencies[row + adj.ADJ_NEXT_HOP];
      offset = ip - IPV4_LENGTH;
      size = length + IPV4_LENGTH;
      // RFC 2003 3.1: DF is inherited, so that path MTU discovery goes through the tunnel.
      const flags = ipv4.fragment(bytes, ip) & ipv4.DONT_FRAGMENT;
      const source = adjacencies[row + adj.ADJ_SOURCE];
      ipv4.putIpv4(
        bytes,
        offset,
        tos,
        size,
        this.#nextIdentification(),
        flags,
        OUTER_TTL,
        ipv4.PROTOCOL_IPIP,
        source,
        to,
      );
      if (this.#traced) this.#step(step.ENCAPSULATED, kind, source, to, ipv4.PROTOCOL_IPIP);
    } else {
      offset = ip - ETHERNET_LENGTH;
      size = length + ETHERNET_LENGTH;
      ethernet.putEthernet(
        bytes,
        offset,
        adjacencies[row + adj.ADJ_DMAC_HI],
        adjacencies[row + adj.ADJ_DMAC_LO],
        GATEWAY_HI,
        GATEWAY_LO,
        ethernet.TYPE_IPV4,
      );
    }
    if (this.#kinds[port] === GONE) return this.#lost(from, DROP.port_gone);
    if (this.#traced) this.#step(step.SENT, port, size);
    this.egress.push(port, offset, size, from, to, udpPort, tos);
    if (from >= 0 && this.#rows[this.#row + OFFLOAD] !== 0) {
      this.egress.passOffload(port, this.#rows, this.#row);
    }
  }

  /** Where the packet at `ip` has free bytes before it: there, or copied to the spare room; 0 when that is full. */
  #withRoom(ip: number, length: number): number {
    if ((this.#rows[this.#row + OFFLOAD] & TIGHT) === 0) return ip;
    const at = this.#spareNext + HEADROOM;
    if (at + length > this.#spareEnd) return 0;
    this.#bytes.copyWithin(at, ip, ip + length);
    this.#spareNext = at + length;
    return at;
  }

  /** Outer IPv4, UDP, VXLAN and inner Ethernet: 50 bytes. Outer TOS is the inner's: DSCP uniform (RFC 2983), ECN normal mode (RFC 6040 4.1). */
  #putVxlanHeaders(
    row: number,
    offset: number,
    size: number,
    tos: number,
    udpPort: number,
    to: number,
    checksummed: boolean,
  ): void {
    const bytes = this.#bytes;
    const adjacencies = this.#adjacencies;
    const datagram = offset + IPV4_LENGTH;
    const source = adjacencies[row + adj.ADJ_SOURCE];
    const vni = adjacencies[row + adj.ADJ_VNI];
    // VXLAN packets are never fragmented (RFC 7348 4.3): DF always.
    ipv4.putIpv4(
      bytes,
      offset,
      tos,
      size,
      this.#nextIdentification(),
      ipv4.DONT_FRAGMENT,
      OUTER_TTL,
      ipv4.PROTOCOL_UDP,
      source,
      to,
    );
    udp.putUdp(bytes, datagram, udpPort, VXLAN_PORT, size - IPV4_LENGTH);
    vxlan.putVxlan(bytes, datagram + UDP_LENGTH, vni);
    ethernet.putEthernet(
      bytes,
      datagram + UDP_LENGTH + VXLAN_LENGTH,
      adjacencies[row + adj.ADJ_DMAC_HI],
      adjacencies[row + adj.ADJ_DMAC_LO],
      adjacencies[row + adj.ADJ_SMAC_HI],
      adjacencies[row + adj.ADJ_SMAC_LO],
      ethernet.TYPE_IPV4,
    );
    // A UDP socket's kernel writes the outer checksum; anything else needs it from us.
    if (checksummed) {
      const pseudo = ipv4.pseudoSum(source, to, ipv4.PROTOCOL_UDP, size - IPV4_LENGTH);
      udp.putUdpChecksum(bytes, datagram, size - IPV4_LENGTH, pseudo);
    }
    if (this.#traced) this.#step(step.ENCAPSULATED, adj.VXLAN, source, to, vni);
  }

  // ---- ICMP errors ---------------------------------------------------------------------------------

  /** Drop, and tell the sender why unless RFC 1812 4.3.2.7 forbids it. The packet is still as it was received. */
  #reject(reason: number, type: number, code: number, ip: number, length: number, mtu = 0): void {
    this.#drop(reason);
    if (!this.#mayReport(ip, length)) {
      if (this.#traced) this.#step(step.ICMP_SUPPRESSED, (type << 8) | code, 0);
      return;
    }
    if (!this.#takeIcmpToken()) {
      this.#count(counter.ICMP_LIMITED, 1);
      if (this.#traced) this.#step(step.ICMP_SUPPRESSED, (type << 8) | code, 1);
      return;
    }
    // The offending packet stays where it is and becomes the quotation.
    const bytes = this.#bytes;
    const quoted = Math.min(length, MAX_QUOTE);
    ip = this.#withRoom(ip, quoted);
    if (ip === 0) return this.#lost(~this.#port, reason);
    const to = ipv4.source(bytes, ip);
    // Precedence "internetwork control" (RFC 1812 4.3.2.5) over the offender's own TOS, as Linux does it.
    const tos = (ipv4.tos(bytes, ip) & 0x1e) | 0xc0;
    const start = ip - ICMP_LENGTH - IPV4_LENGTH;
    const total = quoted + ICMP_LENGTH + IPV4_LENGTH;
    icmp.putError(bytes, ip - ICMP_LENGTH, type, code, mtu, quoted);
    ipv4.putIpv4(
      bytes,
      start,
      tos,
      total,
      this.#nextIdentification(),
      0,
      OUTER_TTL,
      ipv4.PROTOCOL_ICMP,
      this.#address,
      to,
    );
    if (this.#traced) this.#step(step.ICMP_ERROR, (type << 8) | code, to, mtu);

    const row = lookup4(this.#fib, to) * ADJ_ROW;
    const kind = this.#adjacencies[row + adj.ADJ_KIND];
    const sendable = kind === adj.POD || kind === adj.HOST || kind === adj.VXLAN || kind === adj.IPIP;
    if (!sendable) return this.#lost(~this.#port, reason);
    this.#send(row, kind, start, total, ~this.#port);
  }

  /** No errors about errors, later fragments, or packets whose source is no single host. */
  #mayReport(ip: number, length: number): boolean {
    const bytes = this.#bytes;
    if ((ipv4.fragment(bytes, ip) & ipv4.FRAGMENT_OFFSET) !== 0) return false;
    if (ipv4.isMartianSource(ipv4.source(bytes, ip))) return false;
    if (ipv4.protocol(bytes, ip) !== ipv4.PROTOCOL_ICMP) return true;
    const header = ipv4.headerLength(bytes, ip);
    // An ICMP packet too short to tell its type may be an error.
    return length > header && !icmp.isError(bytes[ip + header]);
  }

  /** Token bucket: icmpRate errors a second, as many at once. */
  #takeIcmpToken(): boolean {
    const now = this.#clock();
    const refill = ((now - this.#icmpRefilled) * this.#icmpRate) / 1000;
    this.#icmpTokens = Math.min(this.#icmpRate, this.#icmpTokens + refill);
    this.#icmpRefilled = now;
    if (this.#icmpTokens < 1) return false;
    this.#icmpTokens -= 1;
    return true;
  }

  // ---- Small things --------------------------------------------------------------------------------

  #isLocal(address: number): boolean {
    const local = this.#local;
    for (let i = 0; i < local.length; i++) if (local[i] === address) return true;
    return false;
  }

  #nextIdentification(): number {
    this.#identification = (this.#identification + 1) & 0xffff;
    return this.#identification;
  }

  #count(cell: number, by: number): void {
    this.#counters[this.#cells + cell] += by;
  }

  #drop(reason: number): void {
    this.#counters[this.#cells + DROPS + reason] += 1;
    if (this.#traced) this.#step(step.DROPPED, reason);
  }

  /** A frame that cannot leave: ours is lost, another's is dropped for the reason. */
  #lost(from: number, reason: number): void {
    if (from < 0) this.#count(counter.ORIGINATED_LOST, 1);
    else this.#drop(reason);
  }

  #step(code: number, a = 0, b = 0, c = 0, d = 0): void {
    this.#tracer?.step(code, a, b, c, d);
  }

  #traceHeader(ip: number): void {
    const bytes = this.#bytes;
    this.#step(
      step.HEADER,
      ipv4.source(bytes, ip),
      ipv4.destination(bytes, ip),
      (ipv4.ttl(bytes, ip) << 8) | ipv4.protocol(bytes, ip),
      ipv4.totalLength(bytes, ip),
    );
  }

  #beginTrace(offset: number, length: number): void {
    const l2 = this.#portKind === POD || this.#portKind === HOST;
    const at = this.#portKind === VXLAN ? offset + VXLAN_LENGTH : offset;
    const size = this.#portKind === VXLAN ? length - VXLAN_LENGTH : length;
    this.#traced =
      this.#tracer?.begin(this.#bytes, this.#port, at, size, l2 || this.#portKind === VXLAN) ?? false;
    if (this.#traced) this.#step(step.RECEIVED, this.#port, length);
  }

  #endTrace(): void {
    this.#tracer?.end();
    this.#traced = false;
  }
}

/** Why a send failed, as a drop reason. */
function dropOfErrno(errno: number): number {
  if (errno === LINUX_EAGAIN || errno === LINUX_ENOBUFS) return DROP.tx_full;
  if (errno === LINUX_E2BIG) return DROP.tx_segments;
  return errno === LINUX_EMSGSIZE ? DROP.tx_too_big : DROP.tx_failed;
}
