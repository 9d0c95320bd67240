/**
 * BGP messages but UPDATE: header, OPEN with capabilities, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH
 * (RFC 4271 section 4, 5492, 6793, 2918). Encoding and decoding are pure; what the RFC calls an error is
 * thrown as the BgpError whose NOTIFICATION section 6 asks for.
 *
 *   0        16      18     19
 *   | marker | length | type | body ...
 *   | 16 x ff|  16 bit| 8 bit|
 */
import { get16, get32, put16, put32 } from './bytes.ts';
import type { Capability } from './capabilities.ts';
import { BgpError, HEADER_ERROR, OPEN_ERROR, REFRESH_ERROR } from './error.ts';

export const HEADER = 19;
/** Largest message without the extended-message capability, and with it (RFC 8654). */
export const MAX_MESSAGE = 4096;
export const MAX_EXTENDED_MESSAGE = 65535;

export const OPEN = 1;
export const UPDATE = 2;
export const NOTIFICATION = 3;
export const KEEPALIVE = 4;
export const ROUTE_REFRESH = 5;

const MIN_LENGTH = [0, 29, 23, 21, 19, 23];
const VERSION = 4;
const PARAMETER_CAPABILITIES = 2;
/** As a length and as a type: an OPEN with long parameters. */
const EXTENDED = 255;

const word = (value: number) => Uint8Array.of(value >> 8, value);

/**
 * Check the header at `offset` (19 bytes are there) and answer the length of the whole message, 19 to `limit`.
 * Throws 1/1, 1/2 or 1/3 (RFC 4271 6.1, RFC 8654 section 4: OPEN and KEEPALIVE never grow).
 */
export function checkHeader(bytes: Uint8Array, offset: number, limit: number): number {
  for (let i = 0; i < 16; i++) {
    if (bytes[offset + i] !== 0xff) throw new BgpError(HEADER_ERROR, 1, `marker byte ${i} is not 0xff`);
  }
  const length = get16(bytes, offset + 16);
  const type = bytes[offset + 18]!;
  if (length < HEADER || length > (type === OPEN ? MAX_MESSAGE : limit)) {
    throw new BgpError(HEADER_ERROR, 2, `length ${length} is not within 19 to ${limit}`, word(length));
  }
  if (type < OPEN || type > ROUTE_REFRESH) {
    throw new BgpError(HEADER_ERROR, 3, `unknown type ${type}`, Uint8Array.of(type));
  }
  const least = MIN_LENGTH[type]!;
  if (length < least || (type === KEEPALIVE && length > least)) {
    throw new BgpError(HEADER_ERROR, 2, `length ${length} does not fit type ${type}`, word(length));
  }
  return length;
}

/** A message of `type` around a body. */
export function frame(type: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER + body.length).fill(0xff, 0, 16);
  put16(bytes, 16, bytes.length);
  bytes[18] = type;
  bytes.set(body, HEADER);
  return bytes;
}

export const keepalive: Uint8Array = frame(KEEPALIVE, new Uint8Array(0));

export interface Open {
  /** "My Autonomous System": two octets, AS_TRANS for a larger one. */
  as2: number;
  /** Seconds; 0 or at least 3. */
  holdTime: number;
  /** BGP identifier, int32, not 0. */
  routerId: number;
  capabilities: Capability[];
}

/** All capabilities go into one optional parameter. RangeError if they do not fit its 255 bytes. */
export function encodeOpen(open: Open): Uint8Array {
  const size = open.capabilities.reduce((sum, c) => sum + 2 + c.value.length, 0);
  if (size > 253) throw new RangeError(`capabilities take ${size} bytes; 253 fit`);
  const body = new Uint8Array(size === 0 ? 10 : 12 + size);
  body[0] = VERSION;
  put16(body, 1, open.as2);
  put16(body, 3, open.holdTime);
  put32(body, 5, open.routerId);
  if (size > 0) {
    body[9] = size + 2;
    body[10] = PARAMETER_CAPABILITIES;
    body[11] = size;
    let at = 12;
    for (const { code, value } of open.capabilities) {
      body[at] = code;
      body[at + 1] = value.length;
      body.set(value, at + 2);
      at += 2 + value.length;
    }
  }
  return frame(OPEN, body);
}

/**
 * Decode the body of an OPEN: `end - offset` >= 10 (checked with the header). Throws 2/x (RFC 4271 6.2); whether
 * AS and identifier suit the peer is for the session to say.
 */
export function decodeOpen(bytes: Uint8Array, offset: number, end: number): Open {
  const version = bytes[offset]!;
  if (version !== VERSION) throw new BgpError(OPEN_ERROR, 1, `version ${version}`, word(VERSION));
  const as2 = get16(bytes, offset + 1);
  const holdTime = get16(bytes, offset + 3);
  const routerId = get32(bytes, offset + 5);
  if (as2 === 0) throw new BgpError(OPEN_ERROR, 2, 'AS 0 (RFC 7607)');
  if (holdTime === 1 || holdTime === 2) throw new BgpError(OPEN_ERROR, 6, `hold time ${holdTime} s`);
  if (routerId === 0) throw new BgpError(OPEN_ERROR, 3, 'BGP identifier 0.0.0.0');
  let at = offset + 10;
  let declared = bytes[offset + 9]!;
  // RFC 9072: a first parameter of type 255 says that lengths have two octets, and the one-octet length nothing.
  const isExtended = declared !== 0 && bytes[at] === EXTENDED && at + 3 <= end;
  if (isExtended) {
    declared = get16(bytes, at + 1);
    at += 3;
  }
  if (at + declared !== end) {
    throw new BgpError(OPEN_ERROR, 0, 'optional parameters do not end with the message');
  }
  const header = isExtended ? 3 : 2;
  const capabilities: Capability[] = [];
  while (at < end) {
    const size = at + header > end ? end : isExtended ? get16(bytes, at + 1) : bytes[at + 1]!;
    const stop = at + header + size;
    if (stop > end) throw new BgpError(OPEN_ERROR, 0, 'an optional parameter is cut short');
    const type = bytes[at]!;
    if (type !== PARAMETER_CAPABILITIES) {
      throw new BgpError(OPEN_ERROR, 4, `optional parameter of type ${type}`);
    }
    at += header;
    while (at < stop) {
      if (at + 2 > stop || at + 2 + bytes[at + 1]! > stop) {
        throw new BgpError(OPEN_ERROR, 0, 'a capability is cut short');
      }
      const next = at + 2 + bytes[at + 1]!;
      capabilities.push({ code: bytes[at]!, value: bytes.slice(at + 2, next) });
      at = next;
    }
  }
  return { as2, holdTime, routerId, capabilities };
}

export interface Notification {
  code: number;
  subcode: number;
  data: Uint8Array;
}

/** Data beyond the largest message is cut. */
export function encodeNotification({ code, subcode, data }: Notification): Uint8Array {
  const kept = data.subarray(0, MAX_MESSAGE - HEADER - 2);
  const body = new Uint8Array(2 + kept.length);
  body[0] = code;
  body[1] = subcode;
  body.set(kept, 2);
  return frame(NOTIFICATION, body);
}

export function decodeNotification(bytes: Uint8Array, offset: number, end: number): Notification {
  return { code: bytes[offset]!, subcode: bytes[offset + 1]!, data: bytes.slice(offset + 2, end) };
}

/** A plain request (RFC 2918), and the marks around an answer (RFC 7313 section 3.2). */
export const REFRESH_REQUEST = 0;
export const REFRESH_BEGIN = 1;
export const REFRESH_END = 2;

export interface RouteRefresh {
  afi: number;
  subtype: number;
  safi: number;
}

export function encodeRouteRefresh({ afi, subtype, safi }: RouteRefresh): Uint8Array {
  return frame(ROUTE_REFRESH, Uint8Array.of(afi >> 8, afi, subtype, safi));
}

/** Decode the body: at least 4 bytes. Throws 7/1 for a mark of another length (RFC 7313 section 5), else 1/2. */
export function decodeRouteRefresh(bytes: Uint8Array, offset: number, end: number): RouteRefresh {
  const message = { afi: get16(bytes, offset), subtype: bytes[offset + 2]!, safi: bytes[offset + 3]! };
  if (end - offset === 4) return message;
  const { subtype } = message;
  if (subtype === REFRESH_BEGIN || subtype === REFRESH_END) {
    const whole = bytes.slice(offset - HEADER, end);
    throw new BgpError(REFRESH_ERROR, 1, `ROUTE-REFRESH of ${end - offset} bytes`, whole);
  }
  throw new BgpError(HEADER_ERROR, 2, `ROUTE-REFRESH of ${end - offset} bytes`, word(end - offset + HEADER));
}
