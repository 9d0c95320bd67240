/** BGP messages between bytes and values (RFC 4271 section 4), UPDATE apart. Errors as section 6 wants them. */
import { BgpError, HEADER_ERROR, OPEN_ERROR } from './error.ts';

export const HEADER_LENGTH = 19;
export const MAX_LENGTH = 4096;

export const OPEN = 1;
export const UPDATE = 2;
export const NOTIFICATION = 3;
export const KEEPALIVE = 4;
export const ROUTE_REFRESH = 5;

/** Stands for an AS above 65535 where only two octets fit (RFC 6793). */
export const AS_TRANS = 23456;

const MIN_LENGTHS: Record<number, number> = {
  [OPEN]: 29,
  [UPDATE]: 23,
  [NOTIFICATION]: 21,
  [KEEPALIVE]: 19,
  [ROUTE_REFRESH]: 23,
};

export interface Open {
  readonly asn: number;
  readonly holdTime: number;
  /** BGP identifier, int32. */
  readonly id: number;
  /** Four-octet AS capability (RFC 6793). */
  readonly fourOctet: boolean;
  readonly routeRefresh: boolean;
  /** Multiprotocol capability for IPv4 unicast (RFC 4760), or no multiprotocol capability at all. */
  readonly ipv4: boolean;
}

export interface Notification {
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
}

/**
 * Check a header; returns the message's whole length. `bytes` holds at least HEADER_LENGTH from `offset` on.
 */
export function checkHeader(bytes: Uint8Array, offset: number): number {
  for (let i = 0; i < 16; i++) {
    if (bytes[offset + i] !== 0xff) throw new BgpError(HEADER_ERROR, 1, 'marker is not all ones');
  }
  const length = (bytes[offset + 16]! << 8) | bytes[offset + 17]!;
  const type = bytes[offset + 18]!;
  const lengthBytes = bytes.slice(offset + 16, offset + 18);
  if (length < HEADER_LENGTH || length > MAX_LENGTH) {
    throw new BgpError(HEADER_ERROR, 2, `message of ${length} bytes`, lengthBytes);
  }
  const least = MIN_LENGTHS[type];
  if (least === undefined) throw new BgpError(HEADER_ERROR, 3, `message type ${type}`, Uint8Array.of(type));
  const exact = type === KEEPALIVE || type === ROUTE_REFRESH;
  if (length < least || (exact && length !== least)) {
    throw new BgpError(HEADER_ERROR, 2, `message of type ${type} and ${length} bytes`, lengthBytes);
  }
  return length;
}

/** A whole message around a body. */
export function frame(type: number, body: Uint8Array): Buffer {
  const message = Buffer.alloc(HEADER_LENGTH + body.length, 0xff);
  message.writeUInt16BE(message.length, 16);
  message[18] = type;
  message.set(body, HEADER_LENGTH);
  return message;
}

export const encodeKeepalive = (): Buffer => frame(KEEPALIVE, new Uint8Array(0));

export function encodeNotification(code: number, subcode: number, data: Uint8Array): Buffer {
  const body = new Uint8Array(2 + Math.min(data.length, MAX_LENGTH - HEADER_LENGTH - 2));
  body[0] = code;
  body[1] = subcode;
  body.set(data.subarray(0, body.length - 2), 2);
  return frame(NOTIFICATION, body);
}

/** `body` has at least two bytes: checkHeader saw to it. */
export const decodeNotification = (body: Uint8Array): Notification => ({
  code: body[0]!,
  subcode: body[1]!,
  data: body.slice(2),
});

/** Address family and subsequent family of a ROUTE-REFRESH (RFC 2918). */
export function decodeRouteRefresh(body: Uint8Array): { afi: number; safi: number } {
  return { afi: (body[0]! << 8) | body[1]!, safi: body[3]! };
}

const CAPABILITY_MULTIPROTOCOL = 1;
const CAPABILITY_ROUTE_REFRESH = 2;
const CAPABILITY_FOUR_OCTET = 65;

export function encodeOpen(open: { asn: number; holdTime: number; id: number }): Buffer {
  const { asn } = open;
  const capabilities = Buffer.from([
    ...[CAPABILITY_MULTIPROTOCOL, 4, 0, 1, 0, 1],
    ...[CAPABILITY_ROUTE_REFRESH, 0],
    ...[CAPABILITY_FOUR_OCTET, 4, asn >>> 24, (asn >>> 16) & 255, (asn >>> 8) & 255, asn & 255],
  ]);
  const body = Buffer.alloc(12 + capabilities.length);
  body[0] = 4;
  body.writeUInt16BE(asn > 0xffff ? AS_TRANS : asn, 1);
  body.writeUInt16BE(open.holdTime, 3);
  body.writeInt32BE(open.id, 5);
  body[9] = 2 + capabilities.length;
  body[10] = 2;
  body[11] = capabilities.length;
  capabilities.copy(body, 12);
  return frame(OPEN, body);
}

/** Decode an OPEN's body (RFC 4271 section 4.2 and 6.2, capabilities RFC 5492). */
export function decodeOpen(body: Uint8Array): Open {
  const view = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (view[0] !== 4) throw new BgpError(OPEN_ERROR, 1, `version ${view[0]}`, Uint8Array.of(0, 4));
  const holdTime = view.readUInt16BE(3);
  if (holdTime === 1 || holdTime === 2) throw new BgpError(OPEN_ERROR, 6, `hold time ${holdTime} s`);
  const id = view.readInt32BE(5);
  // RFC 6286: any four octets but zero.
  if (id === 0) throw new BgpError(OPEN_ERROR, 3, 'BGP identifier 0.0.0.0');
  let asn = view.readUInt16BE(1);
  let fourOctet = false;
  let routeRefresh = false;
  let multiprotocol = false;
  let ipv4 = false;
  for (const { code, value } of capabilitiesOf(view)) {
    if (code === CAPABILITY_FOUR_OCTET && value.length === 4) {
      fourOctet = true;
      asn = value.readUInt32BE(0);
    } else if (code === CAPABILITY_ROUTE_REFRESH) {
      routeRefresh = true;
    } else if (code === CAPABILITY_MULTIPROTOCOL && value.length === 4) {
      multiprotocol = true;
      ipv4 ||= value.readUInt16BE(0) === 1 && value[3] === 1;
    }
  }
  if (asn === 0) throw new BgpError(OPEN_ERROR, 2, 'AS 0');
  return { asn, holdTime, id, fourOctet, routeRefresh, ipv4: ipv4 || !multiprotocol };
}

function* capabilitiesOf(view: Buffer): Generator<{ code: number; value: Buffer }> {
  const malformed = () => new BgpError(OPEN_ERROR, 0, 'malformed optional parameters');
  let end = 10 + view[9]!;
  let at = 10;
  let lengthBytes = 1;
  // RFC 9072: 255 and a first parameter of type 255 mean that lengths have two octets.
  if (view[9] === 255 && view[10] === 255 && view.length >= 13) {
    end = 13 + view.readUInt16BE(11);
    at = 13;
    lengthBytes = 2;
  }
  if (end !== view.length) throw malformed();
  while (at < end) {
    if (at + 1 + lengthBytes > end) throw malformed();
    const type = view[at]!;
    const length = lengthBytes === 1 ? view[at + 1]! : view.readUInt16BE(at + 1);
    at += 1 + lengthBytes;
    if (at + length > end) throw malformed();
    if (type !== 2) throw new BgpError(OPEN_ERROR, 4, `optional parameter ${type}`);
    const last = at + length;
    while (at < last) {
      if (at + 2 > last || at + 2 + view[at + 1]! > last) throw malformed();
      yield { code: view[at]!, value: view.subarray(at + 2, at + 2 + view[at + 1]!) };
      at += 2 + view[at + 1]!;
    }
  }
}
