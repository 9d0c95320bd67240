/** Neighbour discovery (RFC 4861 4). Offsets count from the ICMPv6 header. */
import { get16, get32, put16, put32 } from './bytes.ts';
import { ADDRESS_LENGTH, copyAddress } from './ipv6.ts';

export const ROUTER_SOLICITATION = 133;
export const ROUTER_ADVERTISEMENT = 134;
export const SOLICITATION = 135;
export const ADVERTISEMENT = 136;
export const REDIRECT = 137;
/** Every message of neighbour discovery comes from a neighbour: no router has taken one (RFC 4861 3.1). */
export const ND_HOP_LIMIT = 255;
/** An advertisement with the target's link-layer address. */
export const ADVERTISEMENT_LENGTH = 32;
/** Where the target stands in solicitations and advertisements. */
export const TARGET = 8;

const MESSAGE_LENGTH = 24;
const SOURCE_LINK_LAYER = 1;
const TARGET_LINK_LAYER = 2;

export const FLAG_ROUTER = 0x80;
export const FLAG_SOLICITED = 0x40;
export const FLAG_OVERRIDE = 0x20;

export const isNeighbourDiscovery = (type: number): boolean =>
  type >= ROUTER_SOLICITATION && type <= REDIRECT;

/**
 * Whether `length` bytes hold a solicitation (RFC 4861 7.1.1) but for its hop limit and checksum: code 0, a target that is
 * no group, options of which none is empty.
 */
export function checkSolicitation(bytes: DataView, offset: number, length: number): boolean {
  if (length < MESSAGE_LENGTH || bytes.getUint8(offset + 1) !== 0 || bytes.getUint8(offset + TARGET) === 0xff)
    return false;
  let at = MESSAGE_LENGTH;
  while (at < length) {
    if (at + 2 > length) return false;
    const size = bytes.getUint8(offset + at + 1) << 3;
    if (size === 0 || at + size > length) return false;
    at += size;
  }
  return true;
}

/** Position of the sender's link-layer address in a checked solicitation of `length` bytes, or 0 if it has none. */
export function sourceLinkLayer(bytes: DataView, offset: number, length: number): number {
  for (let at = offset + MESSAGE_LENGTH; at < offset + length; at += bytes.getUint8(at + 1) << 3) {
    if (bytes.getUint8(at) === SOURCE_LINK_LAYER) return at + 2;
  }
  return 0;
}

/** Write an advertisement, without its checksum: `target` (at `targetAt`) is at the given MAC. */
export function putAdvertisement(
  bytes: DataView,
  offset: number,
  flags: number,
  target: DataView,
  targetAt: number,
  macHi: number,
  macLo: number,
): void {
  bytes.setUint8(offset, ADVERTISEMENT);
  bytes.setUint8(offset + 1, 0);
  put16(bytes, offset + 2, 0);
  put32(bytes, offset + 4, flags << 24);
  copyAddress(bytes, offset + TARGET, target, targetAt);
  const option = offset + TARGET + ADDRESS_LENGTH;
  bytes.setUint8(option, TARGET_LINK_LAYER);
  bytes.setUint8(option + 1, 1);
  put16(bytes, option + 2, macHi);
  put32(bytes, option + 4, macLo);
}

export const linkLayerHi = (bytes: DataView, at: number): number => get16(bytes, at);
export const linkLayerLo = (bytes: DataView, at: number): number => get32(bytes, at + 2);
