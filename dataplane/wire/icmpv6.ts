/** ICMPv6 (RFC 4443), as far as a router makes it. Offsets count from the ICMPv6 header. */
import { get16, put16, put32, sum16 } from './bytes.ts';

export const ICMPV6_LENGTH = 8;
export const UNREACHABLE6 = 1;
export const TOO_BIG6 = 2;
export const TIME_EXCEEDED6 = 3;
export const PARAMETER_PROBLEM6 = 4;

export const CODE_NO_ROUTE = 0;
export const CODE_PROHIBITED6 = 1;
/** Beyond the scope of the source address. */
export const CODE_SCOPE = 2;
export const CODE_ADDRESS = 3;
export const CODE_HOP_LIMIT = 0;
export const CODE_FIELD = 0;

/** Types below are errors, and quote (RFC 4443 2.1). */
export const INFORMATIONAL6 = 128;
const REDIRECT = 137;
/** Multicast listener messages (RFC 2710 3, RFC 3810 5.2). */
const LISTENER_QUERY = 130;
const LISTENER_DONE = 132;
const LISTENER_REPORT2 = 143;

/** Whether no error may be sent about a message of this type (RFC 4443 2.4 (e.1), (e.2)). */
export const isError6 = (type: number): boolean => type < INFORMATIONAL6 || type === REDIRECT;

export const isListener = (type: number): boolean =>
  (type >= LISTENER_QUERY && type <= LISTENER_DONE) || type === LISTENER_REPORT2;

/** Whether the checksum of a message of `length` bytes is right; `pseudo` is the pseudo header's sum. */
export const icmpv6ChecksumHolds = (
  bytes: DataView,
  offset: number,
  length: number,
  pseudo: number,
): boolean => sum16(bytes, offset, length, pseudo) === 0xffff;

export const icmpv6Checksum = (bytes: DataView, offset: number): number => get16(bytes, offset + 2);

/** Store the checksum of a message of `length` bytes that stands but for it. */
export function putIcmpv6Checksum(bytes: DataView, offset: number, length: number, pseudo: number): void {
  put16(bytes, offset + 2, 0);
  put16(bytes, offset + 2, ~sum16(bytes, offset, length, pseudo));
}

/** Write an error header in front of the quotation, without its checksum. `word`: MTU, pointer to the bad byte, or 0. */
export function putError6(bytes: DataView, offset: number, type: number, code: number, word: number): void {
  bytes.setUint8(offset, type);
  bytes.setUint8(offset + 1, code);
  put16(bytes, offset + 2, 0);
  put32(bytes, offset + 4, word);
}
