/**
 * What tunnels' sockets hand over, made into frames: datagrams that the kernel joined are split again, and
 * packets that crossed the underlay unfinished (whole super-frames, checksums left partial, as between
 * namespaces of one machine) get the description that their pod's device needs.
 */
import {
  ADDRESS,
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  LENGTH,
  OFFLOAD,
  OFFSET,
  PARTIAL_CHECKSUM,
  ROW,
  SEGMENT,
  SEGMENTED,
  SUPER_ECN,
  SUPER_MASK,
  SUPER_TCP4,
  SUPER_TCP6,
  SUPER_UDP,
  TIGHT,
  TOS,
  UDP_PORT,
} from '../memory/burst.ts';
import { get16, put16, sum16 } from '../wire/bytes.ts';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../wire/ipv4.ts';
import { CWR, TCP_CHECKSUM, TCP_LENGTH, tcpHeaderLength } from '../wire/tcp.ts';
import { UDP_LENGTH } from '../wire/udp.ts';
import {
  isFragment,
  isIpv4,
  packetLength,
  protocolOf,
  transportOf,
  transportPseudoSum,
} from './transport.ts';

/** Datagrams that the kernel joins at most (UDP_GRO_CNT_MAX); RECEIVE_ROWS has room for as many. */
const MAX_JOINED = 64;

/**
 * Describe `count` rows of `from` in `to`, each datagram that the kernel joined (UDP_GRO, SEGMENT is the size) by
 * a row a part. `inner`: where a datagram's inner IP header is. Returns the number of rows.
 *
 * A whole super-frame of UDP that crossed uncut reports the inner segment size as if it had been joined; its
 * inner length, which covers the whole of it, tells.
 */
export function splitJoined(
  bytes: DataView,
  from: Int32Array,
  count: number,
  to: Int32Array,
  inner: number,
): number {
  let out = 0;
  for (let i = 0; i < count; i++) {
    const row = i * ROW;
    const offset = from[row + OFFSET];
    const length = from[row + LENGTH];
    const segment = from[row + SEGMENT];
    const isWhole =
      segment === 0 ||
      segment >= length ||
      length > segment * MAX_JOINED ||
      (length > inner + 40 && packetLength(bytes, offset + inner) === length - inner);
    const size = isWhole ? length : segment;
    let at = 0;
    // An empty datagram is a frame as well, too short as it is.
    do {
      const target = out++ * ROW;
      to[target + OFFSET] = offset + at;
      to[target + LENGTH] = Math.min(size, length - at);
      to[target + ADDRESS] = from[row + ADDRESS];
      to[target + UDP_PORT] = from[row + UDP_PORT];
      to[target + TOS] = from[row + TOS];
      to[target + SEGMENT] = isWhole && segment < length ? segment : 0;
      to[target + OFFLOAD] = at > 0 ? SEGMENTED | TIGHT : SEGMENTED;
      at += size;
    } while (at < length);
  }
  return out;
}

/**
 * Describe an inner packet of `total` bytes at `ip` that was not finished by its sender. A transport checksum
 * that is just the sum of the pseudo header was left partial. A packet larger than `mtu`, which no wire
 * carries, is a super-frame, of which the kernel does not tell the segment size: the largest that fits.
 * A UDP super-frame is one only if its row has the segment size.
 */
export function describeUnfinished(
  bytes: DataView,
  rows: Int32Array,
  row: number,
  ip: number,
  total: number,
  mtu: number,
): void {
  const protocol = protocolOf(bytes, ip);
  const isTcp = protocol === PROTOCOL_TCP;
  if ((!isTcp && protocol !== PROTOCOL_UDP) || isFragment(bytes, ip)) return;
  const transport = transportOf(bytes, ip);
  const least = isTcp ? TCP_LENGTH : UDP_LENGTH;
  const length = ip + total - transport;
  if (length < least) return;
  const field = transport + (isTcp ? TCP_CHECKSUM : UDP_LENGTH - 2);
  const pseudo = transportPseudoSum(bytes, ip, protocol, length);
  const isPartial = get16(bytes, field) === pseudo;
  if (!isPartial && total <= mtu) return;
  if (!isPartial) {
    // Joined below us and complete: the device that cuts it again wants it partial. Only if it is right.
    if (!isTcp || sum16(bytes, transport, length, pseudo) !== 0xffff) return;
    put16(bytes, field, pseudo);
  }
  rows[row + OFFLOAD] = (rows[row + OFFLOAD] & TIGHT) | PARTIAL_CHECKSUM;
  rows[row + CHECKSUM_START] = transport;
  rows[row + CHECKSUM_FIELD] = field;
  if (total <= mtu) return;
  const headersEnd = transport + (isTcp ? tcpHeaderLength(bytes, transport) : UDP_LENGTH);
  if (isTcp && (headersEnd < transport + TCP_LENGTH || headersEnd >= ip + total)) return;
  const segment = isTcp ? mtu - (headersEnd - ip) : rows[row + SEGMENT];
  if (segment <= 0) return;
  rows[row + SEGMENT] = segment;
  rows[row + HEADERS_END] = headersEnd;
  rows[row + OFFLOAD] |= isTcp ? (isIpv4(bytes, ip) ? SUPER_TCP4 : SUPER_TCP6) : SUPER_UDP;
  if (isTcp && (bytes.getUint8(transport + 13) & CWR) !== 0) rows[row + OFFLOAD] |= SUPER_ECN;
}

/**
 * Whether what a device says of a packet at `ip`, `total` bytes long, can be true: a partial checksum behind
 * its IP header, and of a super-frame a transport header of the kind named, segments that are smaller than the whole.
 * Notes where its headers end. Anything else is a lie that a later device would stumble over, or a pod's (PACKET_VNET_HDR)
 * that would have its source written anew once that has been checked.
 */
export function isPlausible(
  bytes: DataView,
  rows: Int32Array,
  row: number,
  ip: number,
  total: number,
): boolean {
  const offload = rows[row + OFFLOAD];
  const start = rows[row + CHECKSUM_START];
  const end = ip + total;
  const transport = transportOf(bytes, ip);
  if ((offload & PARTIAL_CHECKSUM) !== 0) {
    if (start < transport || rows[row + CHECKSUM_FIELD] < start || rows[row + CHECKSUM_FIELD] + 2 > end)
      return false;
  }
  const kind = offload & SUPER_MASK;
  if (kind === 0) return true;
  if ((offload & PARTIAL_CHECKSUM) === 0 || rows[row + SEGMENT] === 0 || isFragment(bytes, ip)) return false;
  const ipv4 = isIpv4(bytes, ip);
  if (ipv4 && start !== transport) return false;
  const field = rows[row + CHECKSUM_FIELD] - start;
  let header = UDP_LENGTH;
  if (kind === SUPER_UDP) {
    if (field !== UDP_LENGTH - 2 || (ipv4 && protocolOf(bytes, ip) !== PROTOCOL_UDP)) return false;
  } else {
    if (kind !== (ipv4 ? SUPER_TCP4 : SUPER_TCP6) || start + TCP_LENGTH > end) return false;
    if (field !== TCP_CHECKSUM || (ipv4 && protocolOf(bytes, ip) !== PROTOCOL_TCP)) return false;
    header = tcpHeaderLength(bytes, start);
    if (header < TCP_LENGTH) return false;
  }
  rows[row + HEADERS_END] = start + header;
  return start + header < end;
}
