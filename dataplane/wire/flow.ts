/** The hash of a flow: same for every packet of it, spread over flows (RFC 7348 section 5, RFC 6438). */
import { get32 } from './bytes.ts';
import { ICMP_LENGTH, isError } from './icmp.ts';
import { ICMPV6_LENGTH, INFORMATIONAL6 } from './icmpv6.ts';
import {
  destination,
  FRAGMENT_OFFSET,
  fragment,
  headerLength,
  IPV4_LENGTH,
  MORE_FRAGMENTS,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  protocol,
  source,
} from './ipv4.ts';
import {
  CHAIN_BROKEN,
  DESTINATION,
  FRAGMENTED,
  IPV6_LENGTH,
  NEXT_ICMPV6,
  nextHeader,
  SOURCE,
  upperLayer,
  upperOffset,
  upperProtocol,
} from './ipv6.ts';

/** Where in an ICMPv6 error without extension headers the packet begins that it quotes. */
const QUOTED6 = IPV6_LENGTH + ICMPV6_LENGTH;

/**
 * Hash over addresses, protocol and, for unfragmented TCP and UDP, ports. Fragments leave the ports out, so
 * that all fragments of a packet agree. `length` bytes exist from the IPv4 header on.
 */
export function flowHash(bytes: DataView, offset: number, length: number): number {
  const number = protocol(bytes, offset);
  let hash = source(bytes, offset);
  hash = mix(hash, destination(bytes, offset));
  hash = mix(hash, number);
  const header = headerLength(bytes, offset);
  if (
    (number === PROTOCOL_TCP || number === PROTOCOL_UDP) &&
    (fragment(bytes, offset) & (FRAGMENT_OFFSET | MORE_FRAGMENTS)) === 0 &&
    length >= header + 4
  ) {
    hash = mix(hash, get32(bytes, offset + header));
  }
  return finish(hash);
}

/**
 * The same for IPv6, TCP and UDP behind extension headers included. The protocol counts only together with the
 * ports, since a later fragment does not show the one that its packet has. The flow label counts not: not every
 * sender keeps it the same for a flow (RFC 6438 2.2): Linux gives a TCP connection another one after a time-out.
 */
export function flowHash6(bytes: DataView, offset: number, length: number): number {
  let hash = 0;
  for (let at = offset + SOURCE; at < offset + IPV6_LENGTH; at += 4) hash = mix(hash, get32(bytes, at));
  let number = nextHeader(bytes, offset);
  let ports = IPV6_LENGTH;
  if (number !== PROTOCOL_TCP && number !== PROTOCOL_UDP) {
    const upper = upperLayer(bytes, offset, length);
    if (upper === CHAIN_BROKEN || (upper & FRAGMENTED) !== 0) return finish(hash);
    number = upperProtocol(upper);
    ports = upperOffset(upper);
  }
  if ((number === PROTOCOL_TCP || number === PROTOCOL_UDP) && length >= ports + 4) {
    hash = mix(mix(hash, number), get32(bytes, offset + ports));
  }
  return finish(hash);
}

/**
 * What picks a flow's member of a group: the hash above, stirred with a salt of the node's own. So neither nodes one
 * behind another pick alike (polarisation), nor do flows of one member have like source ports of VXLAN. An ICMP error
 * counts to the flow that it quotes, seen from the other side, and so goes where the flow's packets do (RFC 7690).
 */
export function groupHash(bytes: DataView, offset: number, length: number, salt: number): number {
  const quoted = protocol(bytes, offset) === PROTOCOL_ICMP ? quotationOf(bytes, offset, length) : 0;
  const left = length - quoted;
  const hash = quoted > 0 ? backHash(bytes, offset + quoted, left) : flowHash(bytes, offset, length);
  return stir(hash ^ salt);
}

/** The same for IPv6. */
export function groupHash6(bytes: DataView, offset: number, length: number, salt: number): number {
  const isQuoting =
    nextHeader(bytes, offset) === NEXT_ICMPV6 &&
    length >= QUOTED6 + IPV6_LENGTH &&
    bytes.getUint8(offset + IPV6_LENGTH) < INFORMATIONAL6;
  const hash = isQuoting
    ? backHash6(bytes, offset + QUOTED6, length - QUOTED6)
    : flowHash6(bytes, offset, length);
  return stir(hash ^ salt);
}

/** How far into an ICMP packet the IPv4 packet that it quotes begins, with its whole header; 0: it quotes none. */
function quotationOf(bytes: DataView, offset: number, length: number): number {
  if ((fragment(bytes, offset) & (FRAGMENT_OFFSET | MORE_FRAGMENTS)) !== 0) return 0;
  const header = headerLength(bytes, offset);
  const quoted = header + ICMP_LENGTH;
  if (length < quoted + IPV4_LENGTH || !isError(bytes.getUint8(offset + header))) return 0;
  const version = bytes.getUint8(offset + quoted);
  const isWhole = length >= quoted + headerLength(bytes, offset + quoted);
  return version >> 4 === 4 && isWhole ? quoted : 0;
}

/** flowHash of what would answer the packet: the ends are exchanged. */
function backHash(bytes: DataView, offset: number, length: number): number {
  const number = protocol(bytes, offset);
  let hash = destination(bytes, offset);
  hash = mix(hash, source(bytes, offset));
  hash = mix(hash, number);
  const header = headerLength(bytes, offset);
  if (
    (number === PROTOCOL_TCP || number === PROTOCOL_UDP) &&
    (fragment(bytes, offset) & (FRAGMENT_OFFSET | MORE_FRAGMENTS)) === 0 &&
    length >= header + 4
  ) {
    hash = mix(hash, exchanged(get32(bytes, offset + header)));
  }
  return finish(hash);
}

/** flowHash6 of what would answer the packet. */
function backHash6(bytes: DataView, offset: number, length: number): number {
  let hash = 0;
  for (let at = offset + DESTINATION; at < offset + IPV6_LENGTH; at += 4) hash = mix(hash, get32(bytes, at));
  for (let at = offset + SOURCE; at < offset + DESTINATION; at += 4) hash = mix(hash, get32(bytes, at));
  const upper = upperLayer(bytes, offset, length);
  if (upper === CHAIN_BROKEN || (upper & FRAGMENTED) !== 0) return finish(hash);
  const number = upperProtocol(upper);
  const ports = upperOffset(upper);
  if ((number === PROTOCOL_TCP || number === PROTOCOL_UDP) && length >= ports + 4) {
    hash = mix(mix(hash, number), exchanged(get32(bytes, offset + ports)));
  }
  return finish(hash);
}

/** Source and destination port the other way round. */
const exchanged = (ports: number): number => (ports << 16) | (ports >>> 16);

/** The finalizer of MurmurHash3: each bit of the word reaches all others. */
function stir(word: number): number {
  let hash = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x9e3779b1);
  return mixed ^ (mixed >>> 15);
}

const finish = (hash: number): number => Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 8;
