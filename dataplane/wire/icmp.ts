/** ICMP (RFC 792), as far as a router makes it. Offsets count from the ICMP header. */
import { put16, sum16 } from './bytes.ts';

export const ICMP_LENGTH = 8;
export const UNREACHABLE = 3;
export const TIME_EXCEEDED = 11;

export const CODE_NET = 0;
export const CODE_HOST = 1;
export const CODE_FRAGMENTATION_NEEDED = 4;
export const CODE_PROHIBITED = 13;
export const CODE_TTL = 0;

/** Whether a message of this type reports an error, about which no error may be sent (RFC 1122 3.2.2). */
export function isError(type: number): boolean {
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12;
}

/** Write an error header in front of `quoted` bytes of the offending packet; `mtu` is 0 except in 3/4 (RFC 1191 4). */
export function putError(
  bytes: DataView,
  offset: number,
  type: number,
  code: number,
  mtu: number,
  quoted: number,
): void {
  bytes.setUint8(offset, type);
  bytes.setUint8(offset + 1, code);
  put16(bytes, offset + 2, 0);
  put16(bytes, offset + 4, 0);
  put16(bytes, offset + 6, mtu);
  put16(bytes, offset + 2, ~sum16(bytes, offset, ICMP_LENGTH + quoted, 0));
}
