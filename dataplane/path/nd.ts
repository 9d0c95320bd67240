/**
 * Proxy neighbour discovery: whoever a pod or the host asks for is at ee:ee:ee:ee:ee:ee, first of all the gateway
 * fe80::ecee:eeff:feee:eeee itself. Nothing is advertised unasked, routers are neither, and of what is meant for the
 * link alone nothing goes further.
 */
import * as counter from '../counters.ts';
import { DROP } from '../drops.ts';
import * as step from '../trace.ts';
import * as ethernet from '../wire/ethernet.ts';
import { ETHERNET_LENGTH, GATEWAY_HI, GATEWAY_LO } from '../wire/ethernet.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { GATEWAY6, IPV6_LENGTH } from '../wire/ipv6.ts';
import * as nd from '../wire/nd.ts';
import { type Path, POD, stepAddress } from './path.ts';

/** Where the two addresses wait in the scratch memory. */
const ASKER = 0;
const TARGET = 16;

/**
 * A packet that may be meant for the link: ICMPv6, or to a group or a link-local address. True if it was, and ended
 * here. `offset` is that of its frame.
 */
export function fromLink(path: Path, offset: number, total: number): boolean {
  const { bytes } = path;
  const ip = offset + ETHERNET_LENGTH;
  const upper = ipv6.upperLayer(bytes, ip, total);
  const at = ipv6.upperOffset(upper);
  const isIcmp = upper !== ipv6.CHAIN_BROKEN && ipv6.upperProtocol(upper) === ipv6.NEXT_ICMPV6 && at < total;
  const type = isIcmp ? bytes.getUint8(ip + at) : 0;
  if (nd.isNeighbourDiscovery(type)) fromNeighbour(path, offset, at, total);
  else if (icmpv6.isListener(type)) path.drop(DROP.mld);
  else if (ipv6.isMulticast6(bytes, ip + ipv6.DESTINATION)) path.drop(DROP.multicast);
  else if (ipv6.isLinkLocal6(bytes, ip + ipv6.DESTINATION)) path.drop(DROP.link_local);
  else return false;
  return true;
}

/**
 * Answer a solicitation (RFC 4861 7.2), or say why it gets none. The message is `at` bytes behind the IPv6 header: nothing may stand
 * between them, least of all a fragment header (RFC 6980 section 5).
 */
function fromNeighbour(path: Path, offset: number, at: number, total: number): void {
  const { bytes } = path;
  const ip = offset + ETHERNET_LENGTH;
  const message = ip + at;
  if (ipv6.hopLimit(bytes, ip) !== nd.ND_HOP_LIMIT || at !== IPV6_LENGTH) return path.drop(DROP.nd_malformed);
  if (bytes.getUint8(message) !== nd.SOLICITATION) return path.drop(DROP.nd_silent);
  const length = total - at;
  const pseudo = ipv6.pseudoSum6(bytes, ip, ipv6.NEXT_ICMPV6, length);
  if (
    !nd.checkSolicitation(bytes, message, length) ||
    !icmpv6.icmpv6ChecksumHolds(bytes, message, length, pseudo)
  ) {
    return path.drop(DROP.nd_malformed);
  }
  const target = message + nd.TARGET;
  if (path.traced) stepAddress(path, step.SOLICITATION, bytes, target);
  // Duplicate address detection: the pod's own address would seem taken (RFC 4862 5.4).
  if (ipv6.isUnspecified6(bytes, ip + ipv6.SOURCE)) return path.drop(DROP.nd_silent);
  if (path.portKind === POD) {
    if (path.isOwn6(target)) return path.drop(DROP.nd_silent);
    if (!isFromPod(path, offset, message, length)) return path.drop(DROP.nd_refused);
  } else if (path.isLocal6(target)) {
    return path.drop(DROP.nd_silent);
  }
  advertise(path, offset, ip, target);
}

/** Whether a solicitation's sender is the pod by its addresses of both layers. */
function isFromPod(path: Path, offset: number, message: number, length: number): boolean {
  const { bytes } = path;
  const macHi = path.macHi[path.port];
  const macLo = path.macLo[path.port];
  if (ethernet.sourceHi(bytes, offset) !== macHi || ethernet.sourceLo(bytes, offset) !== macLo) return false;
  const option = nd.sourceLinkLayer(bytes, message, length);
  if (option !== 0 && (nd.linkLayerHi(bytes, option) !== macHi || nd.linkLayerLo(bytes, option) !== macLo)) {
    return false;
  }
  const source = offset + ETHERNET_LENGTH + ipv6.SOURCE;
  return ipv6.isLinkLocal6(bytes, source) || path.maySend6(source);
}

/** Write the advertisement over the solicitation, a little before it: a solicitation may lack the option that it has. */
function advertise(path: Path, offset: number, ip: number, target: number): void {
  const { bytes, scratch } = path;
  ipv6.copyAddress(scratch, ASKER, bytes, ip + ipv6.SOURCE);
  ipv6.copyAddress(scratch, TARGET, bytes, target);
  const macHi = ethernet.sourceHi(bytes, offset);
  const macLo = ethernet.sourceLo(bytes, offset);
  const frame = offset - 8;
  const packet = frame + ETHERNET_LENGTH;
  const message = packet + IPV6_LENGTH;
  ethernet.putEthernet(bytes, frame, macHi, macLo, GATEWAY_HI, GATEWAY_LO, ethernet.TYPE_IPV6);
  ipv6.putIpv6(bytes, packet, 0, nd.ADVERTISEMENT_LENGTH, ipv6.NEXT_ICMPV6, nd.ND_HOP_LIMIT);
  ipv6.putAddress(bytes, packet + ipv6.SOURCE, GATEWAY6);
  ipv6.copyAddress(bytes, packet + ipv6.DESTINATION, scratch, ASKER);
  // What is answered for others overrides nothing (RFC 4861 7.2.8).
  const override = ipv6.isAddress(scratch, TARGET, GATEWAY6) ? nd.FLAG_OVERRIDE : 0;
  const flags = nd.FLAG_ROUTER | nd.FLAG_SOLICITED | override;
  nd.putAdvertisement(bytes, message, flags, scratch, TARGET, GATEWAY_HI, GATEWAY_LO);
  const pseudo = ipv6.pseudoSum6(bytes, packet, ipv6.NEXT_ICMPV6, nd.ADVERTISEMENT_LENGTH);
  icmpv6.putIcmpv6Checksum(bytes, message, nd.ADVERTISEMENT_LENGTH, pseudo);
  path.count(counter.CONSUMED, 1);
  if (path.traced) {
    stepAddress(path, step.ADVERTISEMENT, scratch, TARGET);
    path.step(step.CONSUMED);
  }
  const size = ETHERNET_LENGTH + IPV6_LENGTH + nd.ADVERTISEMENT_LENGTH;
  path.egress.push(path.port, frame, size, ~path.port, 0, 0, 0);
}
