/**
 * A packet that nobody sends, through the pipeline that forwards: the node's own tables, with counters, limits and
 * queues of its own, so that nothing of it is seen elsewhere.
 */
import { createCounters } from '../../dataplane/counters.ts';
import { createEvidence } from '../../dataplane/evidence.ts';
import { LENGTH, OFFSET, ROW } from '../../dataplane/memory/burst.ts';
import { HEADROOM, MAX_FRAME, type SharedTables } from '../../dataplane/memory/layout.ts';
import type { NodeSpec } from '../../dataplane/messages.ts';
import { Pipeline } from '../../dataplane/pipeline.ts';
import type { TracedPacket } from '../../dataplane/trace.ts';
import { get16, get32, put16, sum16, viewOf } from '../../dataplane/wire/bytes.ts';
import {
  ETHERNET_LENGTH,
  GATEWAY_HI,
  GATEWAY_LO,
  putEthernet,
  TYPE_IPV4,
  TYPE_IPV6,
} from '../../dataplane/wire/ethernet.ts';
import * as ipv4 from '../../dataplane/wire/ipv4.ts';
import * as ipv6 from '../../dataplane/wire/ipv6.ts';
import * as udp from '../../dataplane/wire/udp.ts';
import { parseAddress4, tryAddress6 } from '../address.ts';
import type { ExplainRequest } from '../api/types.ts';
import { TortieError } from '../error.ts';
import { frameText } from '../frame-text.ts';
import { portSpec } from '../replay.ts';
import type { OpenPort } from './ports.ts';

/** Room for the pieces of a packet. */
const SPARE = 4 * MAX_FRAME;
const TTL = 64;
const PROTOCOLS = { icmp: 1, tcp: 6, udp: 17 } as const;
const ICMPV6 = 58;
/** Bytes of each protocol's header. */
const HEADERS = { icmp: 8, tcp: 20, udp: 8 } as const;
/** Where nothing else is said: as a client of a service would send. */
const CLIENT_PORT = 40000;
const SERVICE_PORT = 80;
const ECHO4 = 8;
const ECHO6 = 128;
const SYN = 0x5002;

export interface NodeTables {
  readonly node: NodeSpec;
  readonly ports: readonly OpenPort[];
  readonly tables: SharedTables;
}

/** Run it. Throws FAMILY if the port has no address of the packet's family, and SIZE. */
export function tryOut(
  request: ExplainRequest,
  from: OpenPort,
  { node, ports, tables }: NodeTables,
): { frame: Uint8Array; packet: TracedPacket; text: string } {
  const frame = frameOf(request, from, node);
  const spare = HEADROOM + MAX_FRAME;
  const arena = new Uint8Array(spare + SPARE);
  const pipeline = new Pipeline({
    tables: { ...tables, counters: createCounters(), evidence: createEvidence() },
    worker: 0,
    arena,
    spare: [spare, arena.length],
  });
  pipeline.setNode(node);
  for (const { desired, id } of ports) pipeline.attach(portSpec(desired, id));
  pipeline.setTrace({ count: 1 });
  arena.set(frame, HEADROOM);
  const rows = new Int32Array(ROW);
  rows[OFFSET] = HEADROOM;
  rows[LENGTH] = frame.length;
  pipeline.receiveBurst(from.id, rows, 1);
  const [packet] = pipeline.takeTraces();
  return { frame, packet: packet!, text: frameText(frame, 'ethernet') };
}

function frameOf(request: ExplainRequest, from: OpenPort, node: NodeSpec): Uint8Array {
  const { to, proto = 'icmp', size } = request;
  const words = tryAddress6(to);
  const header = words ? ipv6.IPV6_LENGTH : ipv4.IPV4_LENGTH;
  const least = header + HEADERS[proto];
  const total = size ?? least;
  if (total < least || total > 65_535) {
    throw new TortieError(
      'SIZE',
      `a packet of ${total} bytes: IP and ${proto} take ${least}, and 65535 is the most`,
    );
  }
  const bytes = new Uint8Array(ETHERNET_LENGTH + total);
  const view = viewOf(bytes);
  const { mac } = from.desired;
  const [hi, lo] = mac ? [get16(viewOf(mac), 0), get32(viewOf(mac), 2)] : [0, 0];
  putEthernet(view, 0, GATEWAY_HI, GATEWAY_LO, hi, lo, words ? TYPE_IPV6 : TYPE_IPV4);
  const ip = ETHERNET_LENGTH;
  const length = total - header;
  if (words) {
    const source = source6(from, node);
    const next = proto === 'icmp' ? ICMPV6 : PROTOCOLS[proto];
    ipv6.putIpv6(view, ip, 0, length, next, request.ttl ?? TTL);
    ipv6.putAddress(view, ip + ipv6.SOURCE, source);
    ipv6.putAddress(view, ip + ipv6.DESTINATION, words);
    putUpper(view, ip + header, length, request, ECHO6, ipv6.pseudoSum6(view, ip, next, length));
  } else {
    const source = source4(from, node);
    const destination = parseAddress4(to);
    const flags = request.df === false ? 0 : ipv4.DONT_FRAGMENT;
    const number = PROTOCOLS[proto];
    ipv4.putIpv4(view, ip, 0, total, 1, flags, request.ttl ?? TTL, number, source, destination);
    const pseudo = proto === 'icmp' ? 0 : ipv4.pseudoSum(source, destination, number, length);
    putUpper(view, ip + header, length, request, ECHO4, pseudo);
  }
  return bytes;
}

function putUpper(
  view: DataView,
  at: number,
  length: number,
  { proto = 'icmp', sport = CLIENT_PORT, dport = SERVICE_PORT }: ExplainRequest,
  echo: number,
  pseudo: number,
): void {
  if (proto === 'udp') {
    udp.putUdp(view, at, sport, dport, length);
    return udp.putUdpChecksum(view, at, length, pseudo);
  }
  const field = proto === 'tcp' ? at + 16 : at + 2;
  if (proto === 'tcp') {
    put16(view, at, sport);
    put16(view, at + 2, dport);
    put16(view, at + 12, SYN);
  } else {
    view.setUint8(at, echo);
  }
  put16(view, field, ~sum16(view, at, length, pseudo));
}

/** What the port speaks from: a pod by its first address, the host by that of its device, as its routes to pods say, or the node's. */
function source4({ desired }: OpenPort, node: NodeSpec): number {
  const source = desired.addresses[0] ?? (desired.kind === 'host' ? node.address : undefined);
  if (source) return source;
  throw new TortieError('FAMILY', `${desired.name} has no IPv4 address; ask for an IPv6 destination`);
}

function source6({ desired }: OpenPort, node: NodeSpec): readonly number[] {
  const source = desired.kind === 'host' ? node.address6 : desired.addresses6[0];
  if (source) return source;
  throw new TortieError('FAMILY', `${desired.name} has no IPv6 address; ask for an IPv4 destination`);
}
