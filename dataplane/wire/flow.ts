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

/**
 * Hash over addresses, protocol and, for unfragmented TCP and UDP, ports. Fragments leave the ports out, so
 * that all fragments of a packet agree. `length` bytes exist from the IP header on.
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
  hash ^= hash >>> 16;
  return Math.imul(hash, 0x85ebca6b) >>> 8;
}

function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x9e3779b1);
  return mixed ^ (mixed >>> 15);
}
