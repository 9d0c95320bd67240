/**
 * What a router on the way says of a tunnel packet of ours that was too large for its next link: ICMP 3/4 (RFC 1191, RFC 2003 5.1).
 * Whoever can send packets can send such a message, so it counts only if it quotes a packet that we may have sent.
 */
import { get16, sum16 } from '../wire/bytes.ts';
import * as icmp from '../wire/icmp.ts';
import { ICMP_LENGTH } from '../wire/icmp.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { IPV4_LENGTH } from '../wire/ipv4.ts';
import * as udp from '../wire/udp.ts';
import { VXLAN_PORT, VXLAN_SOURCE_BASE } from '../wire/vxlan.ts';

/** No path is believed to take less; Linux' min_pmtu. */
export const LEAST_PATH_MTU = 552;
/** MTUs that there are, for routers that do not tell theirs (RFC 1191 section 7). */
const PLATEAUS = [32000, 17914, 8166, 4352, 2002, 1492, 1006, LEAST_PATH_MTU];

export interface PathMtuNews {
  /** Outer source and destination of the packet that was too large, host order. */
  readonly source: number;
  readonly peer: number;
  /** The largest outer packet that goes through, bytes. */
  readonly mtu: number;
}

/** Read the ICMP message in an IPv4 packet of `length` bytes; null if it says nothing of a tunnel packet's path. */
export function pathMtuNews(bytes: DataView, offset: number, length: number): PathMtuNews | null {
  if (ipv4.checkIpv4(bytes, offset, length) !== ipv4.IPV4_OK) return null;
  const message = offset + ipv4.headerLength(bytes, offset);
  const end = offset + ipv4.totalLength(bytes, offset);
  const quoted = message + ICMP_LENGTH;
  const isFragment = (ipv4.fragment(bytes, offset) & ~ipv4.DONT_FRAGMENT) !== 0;
  if (ipv4.protocol(bytes, offset) !== ipv4.PROTOCOL_ICMP || isFragment) return null;
  if (quoted + IPV4_LENGTH > end) return null;
  if (bytes.getUint8(message) !== icmp.UNREACHABLE) return null;
  if (bytes.getUint8(message + 1) !== icmp.CODE_FRAGMENTATION_NEEDED) return null;
  if (sum16(bytes, message, end - message, 0) !== 0xffff) return null;
  // The quotation is cut short, so that it has no checkIpv4 to pass.
  if (bytes.getUint8(quoted) >> 4 !== 4 || !isTunnel(bytes, quoted, end)) return null;
  const size = ipv4.totalLength(bytes, quoted);
  const told = get16(bytes, message + 6);
  const mtu = Math.max(told || (PLATEAUS.find((plateau) => plateau < size) ?? 0), LEAST_PATH_MTU);
  // Nobody's link was too small for that.
  if (mtu >= size) return null;
  return { source: ipv4.source(bytes, quoted), peer: ipv4.destination(bytes, quoted), mtu };
}

function isTunnel(bytes: DataView, ip: number, end: number): boolean {
  const protocol = ipv4.protocol(bytes, ip);
  if (protocol === ipv4.PROTOCOL_IPIP) return true;
  const datagram = ip + ipv4.headerLength(bytes, ip);
  return (
    protocol === ipv4.PROTOCOL_UDP &&
    datagram + 4 <= end &&
    udp.destinationPort(bytes, datagram) === VXLAN_PORT &&
    udp.sourcePort(bytes, datagram) >= VXLAN_SOURCE_BASE
  );
}
