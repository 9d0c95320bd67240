/**
 * IPv4 addresses and prefixes as numbers: an address is an int32 in host order, a prefix an address whose
 * host bits are 0 and a length of 0 to 32.
 */
import { isIPv4 } from 'node:net';

export interface Prefix {
  /** int32, host order, host bits 0. */
  prefix: number;
  /** 0 to 32. */
  length: number;
}

/** Network mask of a length as int32: 26 -> 0xffffffc0 | 0. */
export function mask(length: number): number {
  return length === 0 ? 0 : -1 << (32 - length);
}

/** "10.0.0.1" -> int32. RangeError on anything but dotted decimal. */
export function parseAddress(text: string): number {
  if (!isIPv4(text)) throw new RangeError(`not an IPv4 address: ${JSON.stringify(text)}`);
  return text.split('.').reduce((sum, part) => (sum << 8) | Number(part), 0);
}

export function formatAddress(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** "10.65.0.0/26" -> Prefix. RangeError on a bad address, a bad length, or host bits that are set. */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf('/');
  const prefix = parseAddress(slash < 0 ? text : text.slice(0, slash));
  const digits = slash < 0 ? '32' : text.slice(slash + 1);
  const length = /^\d{1,2}$/.test(digits) ? Number(digits) : 33;
  if (length > 32) throw new RangeError(`not a prefix length of 0 to 32: ${JSON.stringify(text)}`);
  if ((prefix & ~mask(length)) !== 0) throw new RangeError(`host bits are set: ${JSON.stringify(text)}`);
  return { prefix, length };
}

export function formatPrefix(prefix: number, length: number): string {
  return `${formatAddress(prefix)}/${length}`;
}
