/** The hash of a flow: same for every packet of it, spread over flows (RFC 7348 section 5, RFC 6438). */
import { get32 } from './bytes.ts';
import {
  destination,
  FRAGMENT_OFFSET,
  fragment,
  headerLength,
  MORE_FRAGMENTS,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  protocol,
  source,
} from './ipv4.ts';
import {
  CHAIN_BROKEN,
  FRAGMENTED,
  IPV6_LENGTH,
  nextHeader,
  SOURCE,
  upperLayer,
  upperOffset,
  upperProtocol,
} from './ipv6.ts';

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
 * sender keeps it the same for a flow (RFC 6438 2.2).
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

function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x9e3779b1);
  return mixed ^ (mixed >>> 15);
}

const finish = (hash: number): number => Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 8;
