/**
 * A packet without DF that is larger than its next link (RFC 791 3.2). Into IPIP the outer packet is fragmented, so that the far end
 * of the tunnel gets the inner one whole; into VXLAN, which is never fragmented (RFC 7348 4.3), and to devices, the packet itself.
 *
 * A rare case, done with copies: each piece goes to the arena's spare room. In the account the first one is the frame that
 * was received; the others count as made here.
 */
import { DROP } from '../drops.ts';
import * as adj from '../fib/adjacency.ts';
import {
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  PARTIAL_CHECKSUM,
  SEGMENT,
  SUPER_MASK,
  SUPER_TCP4,
} from '../memory/burst.ts';
import * as step from '../trace.ts';
import { get16, put16, sum16 } from '../wire/bytes.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { IPV4_LENGTH } from '../wire/ipv4.ts';
import * as udp from '../wire/udp.ts';
import { type Path, SPARE_HEADROOM } from './path.ts';
import { OUTER_TTL, queue, send } from './send.ts';

/** Fragments begin at multiples of this; bytes. */
const UNIT = 8;
/** Options with this bit are in all fragments (RFC 791 3.1). */
const COPIED = 0x80;
const OPTION_END = 0;
const OPTION_NOP = 1;

/** Send the packet at `ip` as pieces of at most `mtu` bytes, by the adjacency in `row`. */
export function sendPieces4(
  path: Path,
  row: number,
  kind: number,
  ip: number,
  length: number,
  mtu: number,
): void {
  const type = path.offload & SUPER_MASK;
  if (type === SUPER_TCP4) return sendSmaller(path, row, kind, ip, length, mtu);
  // Of a super-frame of UDP each datagram is a packet of its own.
  const { rows } = path;
  const headers = type === 0 ? length : rows[path.row + HEADERS_END] - ip;
  const segment = type === 0 ? 0 : rows[path.row + SEGMENT];
  const datagrams = type === 0 ? 1 : Math.ceil((length - headers) / segment);
  const longest = headers + segment;
  const room = roomIn(path, kind, ip, mtu);
  if (room <= 0) return path.drop(DROP.too_big);
  const pieces = datagrams * Math.ceil(longest / room);
  const bytes = datagrams * (longest + SPARE_HEADROOM) + pieces * (mtu + IPV4_LENGTH + SPARE_HEADROOM);
  if (!path.hasRoom(path.adjacencies[row + adj.ADJ_PORT], pieces, bytes)) return path.drop(DROP.tx_full);
  if (type === 0) {
    finishChecksum(path, ip + length);
    path.offload = 0;
    return fragment(path, row, kind, ip, length, mtu, path.port);
  }
  path.offload = 0;
  for (let i = 0; i < datagrams; i++) {
    const body = Math.min(segment, length - headers - i * segment);
    const at = datagramOf(path, ip, headers, i, ip + headers + i * segment, body);
    fragment(path, row, kind, at, headers + body, mtu, i === 0 ? path.port : ~path.port);
  }
}

/** Payload bytes of a piece. */
function roomIn(path: Path, kind: number, ip: number, mtu: number): number {
  const header = ipv4.headerLength(path.bytes, ip);
  return (kind === adj.IPIP ? mtu : mtu - header) & -UNIT;
}

/**
 * A super-frame of TCP is a stretch of a stream: whole segments that fit arrive sooner than pieces of larger ones, and a lost one
 * costs no more than itself.
 */
function sendSmaller(path: Path, row: number, kind: number, ip: number, length: number, mtu: number): void {
  const { rows } = path;
  const segment = mtu - (rows[path.row + HEADERS_END] - ip);
  if (segment <= 0) return path.drop(DROP.too_big);
  const payload = length - (mtu - segment);
  if (path.traced) path.step(step.FRAGMENTED, Math.ceil(payload / segment), mtu);
  rows[path.row + SEGMENT] = segment;
  send(path, row, kind, ip, length, path.port);
}

/** What a device left of a checksum for another to do is done, as no piece has all that it covers. */
function finishChecksum(path: Path, end: number): void {
  if ((path.offload & PARTIAL_CHECKSUM) === 0) return;
  const { bytes, rows } = path;
  const start = rows[path.row + CHECKSUM_START];
  const field = rows[path.row + CHECKSUM_FIELD];
  // The field holds the folded sum of the pseudo header.
  const checksum = ~sum16(bytes, start, end - start, 0) & 0xffff;
  put16(bytes, field, checksum === 0 ? 0xffff : checksum);
}

/** Datagram `i` of a super-frame of UDP, with its headers, in the spare room. */
function datagramOf(
  path: Path,
  ip: number,
  headers: number,
  i: number,
  body: number,
  bodyLength: number,
): number {
  const { bytes } = path;
  const at = path.takeSpare(headers + bodyLength);
  path.copy(ip, at, headers);
  path.copy(body, at + headers, bodyLength);
  put16(bytes, at + 2, headers + bodyLength);
  put16(bytes, at + 4, get16(bytes, at + 4) + i);
  ipv4.putHeaderChecksum(bytes, at);
  const upper = at + ipv4.headerLength(bytes, at);
  const size = at + headers + bodyLength - upper;
  put16(bytes, upper + 4, size);
  const pseudo = ipv4.pseudoSum(ipv4.source(bytes, at), ipv4.destination(bytes, at), ipv4.PROTOCOL_UDP, size);
  udp.putUdpChecksum(bytes, upper, size, pseudo);
  return at;
}

/** Cut one packet; `from` is charged with the first piece. */
function fragment(
  path: Path,
  row: number,
  kind: number,
  ip: number,
  length: number,
  mtu: number,
  from: number,
): void {
  const room = roomIn(path, kind, ip, mtu);
  if (kind === adj.IPIP) return fragmentOuter(path, row, ip, length, room, from);
  const { bytes } = path;
  const header = ipv4.headerLength(bytes, ip);
  const whole = ipv4.fragment(bytes, ip) & (ipv4.MORE_FRAGMENTS | ipv4.FRAGMENT_OFFSET);
  const count = Math.ceil((length - header) / room);
  if (path.traced) path.step(step.FRAGMENTED, count, mtu);
  for (let i = 0; i < count; i++) {
    const size = Math.min(room, length - header - i * room);
    const at = path.takeSpare(header + size);
    path.copy(ip, at, header);
    path.copy(ip + header + i * room, at + header, size);
    if (i > 0) leaveOptions(bytes, at, header);
    const more = i < count - 1 ? ipv4.MORE_FRAGMENTS : 0;
    put16(bytes, at + 2, header + size);
    put16(bytes, at + 6, (whole + (i * room) / UNIT) | more);
    ipv4.putHeaderChecksum(bytes, at);
    send(path, row, kind, at, header + size, i === 0 ? from : ~path.port);
  }
}

/** What is not to be in all fragments becomes NOPs: the header keeps its length, as with Linux. */
function leaveOptions(bytes: DataView, ip: number, header: number): void {
  for (let at = ip + IPV4_LENGTH; at < ip + header; ) {
    const type = bytes.getUint8(at);
    if (type === OPTION_END) return;
    const length = type === OPTION_NOP || at + 1 >= ip + header ? 1 : Math.max(1, bytes.getUint8(at + 1));
    const end = Math.min(at + length, ip + header);
    if ((type & COPIED) === 0) for (let i = at; i < end; i++) bytes.setUint8(i, OPTION_NOP);
    at = end;
  }
}

/** Fragments of the outer packet: each has an outer header and some of the inner packet's bytes. */
function fragmentOuter(
  path: Path,
  row: number,
  ip: number,
  length: number,
  room: number,
  from: number,
): void {
  const { bytes, adjacencies } = path;
  const source = adjacencies[row + adj.ADJ_SOURCE];
  const to = adjacencies[row + adj.ADJ_NEXT_HOP];
  const port = adjacencies[row + adj.ADJ_PORT];
  const tos = (ipv4.tos(bytes, ip) & path.tosKept) | path.tosSet;
  const identification = path.nextIdentification();
  const count = Math.ceil(length / room);
  if (path.traced) {
    path.step(step.ENCAPSULATED, adj.IPIP, source, to, ipv4.PROTOCOL_IPIP);
    path.step(step.FRAGMENTED, count, room + IPV4_LENGTH);
  }
  for (let i = 0; i < count; i++) {
    const size = Math.min(room, length - i * room);
    const at = path.takeSpare(IPV4_LENGTH + size);
    path.copy(ip + i * room, at + IPV4_LENGTH, size);
    const flags = (i < count - 1 ? ipv4.MORE_FRAGMENTS : 0) | ((i * room) / UNIT);
    ipv4.putIpv4(
      bytes,
      at,
      tos,
      IPV4_LENGTH + size,
      identification,
      flags,
      OUTER_TTL,
      ipv4.PROTOCOL_IPIP,
      source,
      to,
    );
    queue(path, port, at, IPV4_LENGTH + size, i === 0 ? from : ~path.port, to, 0, tos);
  }
}
