/**
 * The life of a packet, top to bottom.
 *
 *   in from a pod:       proxy ARP or ND, or: checks, source, look-up, TTL, (encapsulate), out
 *   in from the host:    the same, but the host's kernel and tortie are one router: no TTL between them
 *   in from a tunnel:    outer checks, known peer, decapsulate, checks, inner source, look-up, TTL, out
 *
 * This file is where frames come in and where their account is settled. The chapters between are in path/:
 * arp.ts, ipv4.ts, icmp4.ts, nd.ts, ipv6.ts, icmp6.ts, tunnel.ts, send.ts, and what they share in path.ts.
 *
 * No I/O happens here. The daemon's workers, `tortie replay`, `tortie trace` and the benchmarks all run this
 * code. Every frame ends in exactly one of: queued for a port, consumed, or dropped for a reason.
 *
 * Per packet nothing is allocated. A frame stays where it was received; headers are written into the free
 * bytes in front of it.
 */

import { setFlagsFromString } from 'node:v8';
import * as counter from './counters.ts';
import { cellsOf, DROPS } from './counters.ts';
import { DROP } from './drops.ts';
import type { Egress } from './egress.ts';
import * as adj from './fib/adjacency.ts';
import { ADDRESS, LENGTH, OFFLOAD, OFFSET, PORT, ROW, STATUS, TOS } from './memory/burst.ts';
import type { NodeSpec, PortSpec, TraceFilter } from './messages.ts';
import { fromArp } from './path/arp.ts';
import { fetchRoutes4, fromInside4 } from './path/ipv4.ts';
import { fromInside6 } from './path/ipv6.ts';
import { HOST, IPIP, Path, type PathOptions, POD, UNDERLAY, VXLAN, VXLAN6 } from './path/path.ts';
import { fromIpip, fromUnderlay, fromVxlan } from './path/tunnel.ts';
import type { TracedPacket } from './trace.ts';
import * as ethernet from './wire/ethernet.ts';
import { ETHERNET_LENGTH } from './wire/ethernet.ts';

const LINUX_EMSGSIZE = 90;
const LINUX_E2BIG = 7;
const LINUX_EAGAIN = 11;
const LINUX_ENOBUFS = 105;
const LINUX_EDQUOT = 122;

/**
 * Let the compiler make one piece of a packet's way, which is a chain of small functions of some 3,000 bytes of
 * bytecode in all. It stops inlining at 460 bytes a function and 920 in all else, and the calls left cost a
 * third of the time. The flags are read at each compilation, so they may be set in a running process.
 */
function inlineDeeply(): void {
  setFlagsFromString('--max-inlined-bytecode-size=1000');
  setFlagsFromString('--max-inlined-bytecode-size-cumulative=4000');
}

export class Pipeline {
  readonly #path: Path;

  constructor(options: PathOptions) {
    inlineDeeply();
    this.#path = new Path(options);
  }

  get egress(): Egress {
    return this.#path.egress;
  }

  attach(spec: PortSpec): void {
    this.#path.attach(spec);
  }

  detach(port: number): void {
    this.#path.detach(port);
  }

  setNode(node: NodeSpec): void {
    this.#path.setNode(node);
  }

  setTrace(filter: TraceFilter | null): void {
    this.#path.setTrace(filter);
  }

  takeTraces(): TracedPacket[] {
    return this.#path.takeTraces();
  }

  get tracesMissed(): number {
    return this.#path.tracesMissed;
  }

  /**
   * Process frames that were received on a port, `count` rows from row `first` on, EGRESS_ROWS at most. What must
   * leave is in `egress` afterwards, and stays where it is in the arena until the next call.
   */
  receiveBurst(port: number, rows: Int32Array, count: number, first = 0): void {
    const path = this.#path;
    const kind = path.kinds[port];
    path.port = port;
    path.portKind = kind;
    path.cells = cellsOf(path.worker, port);
    path.rows = rows;
    path.end = first + count;
    path.freeSpare();
    if (kind === POD || kind === HOST) fetchRoutes4(path, rows, first, count);
    else if (kind === UNDERLAY) path.reassembler.expire(path);
    let bytes = 0;
    for (let i = first; i < first + count; i++) {
      const row = i * ROW;
      const offset = rows[row + OFFSET];
      const length = rows[row + LENGTH];
      path.row = row;
      path.offload = rows[row + OFFLOAD];
      bytes += length;
      if (path.tracing) path.beginTrace(offset, length);
      switch (kind) {
        case POD:
        case HOST:
          fromInside(path, offset, length);
          break;
        case VXLAN:
          fromVxlan(path, adj.VXLAN, offset, length, rows[row + ADDRESS], rows[row + TOS]);
          break;
        case IPIP:
          fromIpip(path, offset, length);
          break;
        case UNDERLAY:
          fromUnderlay(path, offset, length);
          break;
        case VXLAN6:
          fromVxlan(path, adj.VXLAN6, offset, length, rows[row + ADDRESS], rows[row + TOS]);
          break;
        default:
          path.drop(DROP.port_gone);
      }
      if (path.traced) path.endTrace();
    }
    path.count(counter.RX_FRAMES, count);
    path.count(counter.RX_BYTES, bytes);
  }

  /** Settle the account of rows that were handed to a port: each went, or failed with an errno in STATUS. */
  transmitted(port: number, rows: Int32Array, count: number): void {
    const { counters, worker } = this.#path;
    let frames = 0;
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const row = i * ROW;
      const status = rows[row + STATUS];
      // A frame that we made ourselves carries the complement of the port that caused it.
      const from = rows[row + PORT];
      const cells = cellsOf(worker, from < 0 ? ~from : from);
      if (status === 0) {
        frames++;
        bytes += rows[row + LENGTH];
        counters[cells + (from < 0 ? counter.ORIGINATED : counter.DELIVERED)] += 1;
      } else if (from < 0) {
        counters[cells + counter.ORIGINATED_LOST] += 1;
      } else {
        const reason = dropOfErrno(status);
        counters[cells + DROPS + reason] += 1;
        this.#path.keepEvidence(from, reason, rows[row + OFFSET], rows[row + LENGTH]);
      }
    }
    const cells = cellsOf(worker, port);
    counters[cells + counter.TX_FRAMES] += frames;
    counters[cells + counter.TX_BYTES] += bytes;
  }
}

/** An Ethernet frame of a pod or the host. */
function fromInside(path: Path, offset: number, length: number): void {
  if (length < ETHERNET_LENGTH) return path.drop(DROP.frame_short);
  switch (ethernet.etherType(path.bytes, offset)) {
    case ethernet.TYPE_IPV4:
      return fromInside4(path, offset, length);
    case ethernet.TYPE_ARP:
      return fromArp(path, offset, length);
    case ethernet.TYPE_IPV6:
      return fromInside6(path, offset, length);
    case ethernet.TYPE_VLAN:
      return path.drop(DROP.vlan_tag);
    default:
      return path.drop(DROP.not_ip);
  }
}

/** Why a send failed, as a drop reason. */
function dropOfErrno(errno: number): number {
  if (errno === LINUX_EAGAIN || errno === LINUX_ENOBUFS) return DROP.tx_full;
  if (errno === LINUX_EDQUOT) return DROP.bandwidth;
  if (errno === LINUX_E2BIG) return DROP.tx_segments;
  return errno === LINUX_EMSGSIZE ? DROP.tx_too_big : DROP.tx_failed;
}
