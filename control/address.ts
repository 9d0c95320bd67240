/** Addresses, prefixes and MACs between text and what the tables hold: int32 in host order, six bytes. */
import ipaddr from 'ipaddr.js';
import { maskWord } from '../dataplane/fib/prefix-map6.ts';

export interface Prefix4 {
  /** Network address without host bits, int32 host order. */
  readonly prefix: number;
  readonly length: number;
}

/** int32 of a dotted quad, or null. Only four decimal parts: "10.1" and "012.0.0.1" are no addresses. */
export function tryAddress4(text: string): number | null {
  if (!ipaddr.IPv4.isValidFourPartDecimal(text)) return null;
  const [a, b, c, d] = ipaddr.IPv4.parse(text).octets as [number, number, number, number];
  return (a << 24) | (b << 16) | (c << 8) | d;
}

export function parseAddress4(text: string): number {
  const address = tryAddress4(text);
  if (address === null) throw new Error(`"${text}" is no IPv4 address`);
  return address;
}

export function formatAddress4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** Network mask of a prefix length, int32. */
export const mask4 = (length: number): number => (length === 0 ? 0 : -1 << (32 - length));

/** An address with a length, host bits kept; null if it is none. A bare address counts as /32. */
export function tryInterface4(text: string): { address: number; length: number } | null {
  const [host, size, ...rest] = text.split('/');
  const address = tryAddress4(host ?? '');
  if (address === null || rest.length > 0) return null;
  if (size === undefined) return { address, length: 32 };
  if (!/^\d{1,2}$/.test(size) || Number(size) > 32) return null;
  return { address, length: Number(size) };
}

/** A prefix; null if the text is none or has host bits. */
export function tryPrefix4(text: string): Prefix4 | null {
  const found = tryInterface4(text);
  if (!found || (found.address & mask4(found.length)) !== found.address) return null;
  return { prefix: found.address, length: found.length };
}

export function parsePrefix4(text: string): Prefix4 {
  const prefix = tryPrefix4(text);
  if (!prefix) throw new Error(`"${text}" is no IPv4 prefix, or has host bits`);
  return prefix;
}

export const formatPrefix4 = (prefix: number, length: number): string =>
  `${formatAddress4(prefix)}/${length}`;

export const contains4 = (outer: Prefix4, address: number): boolean =>
  (address & mask4(outer.length)) === outer.prefix;

export const overlap4 = (a: Prefix4, b: Prefix4): boolean => contains4(a, b.prefix) || contains4(b, a.prefix);

/** Six bytes, or null. */
export function tryMac(text: string): Uint8Array | null {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return null;
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

export function parseMac(text: string): Uint8Array {
  const mac = tryMac(text);
  if (!mac) throw new Error(`"${text}" is no MAC address`);
  return mac;
}

export const formatMac = (mac: Uint8Array): string =>
  Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');

/** An IPv6 address: four int32, host order. */
export type Words6 = readonly [number, number, number, number];

export interface Prefix6 {
  /** Network address without host bits. */
  readonly words: Words6;
  readonly length: number;
}

/** Four words of an IPv6 address, or null. Zones and embedded dotted quads are refused. */
export function tryAddress6(text: string): Words6 | null {
  if (/[%.]/.test(text) || !ipaddr.IPv6.isValid(text)) return null;
  const { parts } = ipaddr.IPv6.parse(text);
  const word = (at: number) => (parts[at]! << 16) | parts[at + 1]!;
  return [word(0), word(2), word(4), word(6)];
}

/** As RFC 5952 wants it. */
export function formatAddress6(words: ArrayLike<number>): string {
  const parts = Array.from(words, (word) => [word >>> 16, word & 0xffff]).flat();
  return new ipaddr.IPv6(parts).toRFC5952String();
}

export const mask6 = (length: number): Words6 => [
  maskWord(length, 0),
  maskWord(length, 1),
  maskWord(length, 2),
  maskWord(length, 3),
];

const masked6 = ([a, b, c, d]: Words6, length: number): Words6 => {
  const [ma, mb, mc, md] = mask6(length);
  return [a & ma, b & mb, c & mc, d & md];
};

/** An address with a length, host bits kept; null if it is none. A bare address counts as /128. */
export function tryInterface6(text: string): { words: Words6; length: number } | null {
  const [host, size, ...rest] = text.split('/');
  const words = tryAddress6(host ?? '');
  if (words === null || rest.length > 0) return null;
  if (size === undefined) return { words, length: 128 };
  if (!/^\d{1,3}$/.test(size) || Number(size) > 128) return null;
  return { words, length: Number(size) };
}

/** A prefix; null if the text is none or has host bits. */
export function tryPrefix6(text: string): Prefix6 | null {
  const found = tryInterface6(text);
  return found && contains6({ words: masked6(found.words, found.length), length: 128 }, found.words)
    ? found
    : null;
}

export function parsePrefix6(text: string): Prefix6 {
  const prefix = tryPrefix6(text);
  if (!prefix) throw new Error(`"${text}" is no IPv6 prefix, or has host bits`);
  return prefix;
}

export const formatPrefix6 = ({ words, length }: Prefix6): string => `${formatAddress6(words)}/${length}`;

export const contains6 = (outer: Prefix6, words: Words6): boolean =>
  masked6(words, outer.length).every((word, i) => word === outer.words[i]);

export const isIp6 = (text: string): boolean => text.includes(':');

/** Sixteen bytes of four words. */
export function bytesOf6(words: Words6): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  for (const [i, word] of words.entries()) view.setInt32(i * 4, word);
  return new Uint8Array(view.buffer);
}

/** The first `length` bits of an address as a prefix. */
export const prefixOf6 = (words: Words6, length: number): Prefix6 => ({
  words: masked6(words, length),
  length,
});

/** Whether one prefix, or an address, lies within another of the same family. Both are well-formed. */
export function containsText(outer: string, inner: string): boolean {
  if (isIp6(outer) !== isIp6(inner)) return false;
  if (!isIp6(outer)) {
    const [a, b] = [parsePrefix4(outer), parsePrefix4(inner)];
    return a.length <= b.length && contains4(a, b.prefix);
  }
  const [a, b] = [parsePrefix6(outer), parsePrefix6(inner)];
  return a.length <= b.length && contains6(a, b.words);
}

export const overlapText = (a: string, b: string): boolean => containsText(a, b) || containsText(b, a);
