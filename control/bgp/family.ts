/** The address families that this speaker carries (RFC 4760): unicast of IPv4 and of IPv6. */
import {
  formatAddress4,
  formatAddress6,
  parseAddress4,
  tryAddress6,
  tryPrefix4,
  tryPrefix6,
} from '../address.ts';

export interface Family {
  readonly name: 'ipv4' | 'ipv6';
  readonly afi: number;
  readonly safi: number;
  /** int32 words of an address. */
  readonly words: 1 | 4;
  readonly bits: 32 | 128;
  /** Index into arrays that hold something for each family. */
  readonly index: 0 | 1;
}

export type FamilyName = Family['name'];

export const SAFI_UNICAST = 1;

export const IPV4: Family = { name: 'ipv4', afi: 1, safi: SAFI_UNICAST, words: 1, bits: 32, index: 0 };
export const IPV6: Family = { name: 'ipv6', afi: 2, safi: SAFI_UNICAST, words: 4, bits: 128, index: 1 };
export const FAMILIES: readonly Family[] = [IPV4, IPV6];

export const familyOf = (afi: number, safi: number): Family | null =>
  FAMILIES.find((family) => family.afi === afi && family.safi === safi) ?? null;

export const familyNamed = (name: FamilyName): Family => (name === 'ipv4' ? IPV4 : IPV6);

/** A prefix of either family: one or four int32 words in host order, without host bits. */
export interface Prefix {
  readonly family: Family;
  readonly words: ArrayLike<number>;
  readonly length: number;
}

export const formatWords = (family: Family, words: ArrayLike<number>): string =>
  family === IPV4 ? formatAddress4(words[0]!) : formatAddress6(words);

export const formatPrefix = ({ family, words, length }: Prefix): string =>
  `${formatWords(family, words)}/${length}`;

/** The words of an address of either family. Throws if it is none. */
export function parseWords(text: string): number[] {
  if (!text.includes(':')) return [parseAddress4(text)];
  const words = tryAddress6(text);
  if (!words) throw new Error(`"${text}" is no IPv6 address`);
  return [...words];
}

/** A prefix of either family; null if the text is none, or has host bits. */
export function tryPrefix(text: string): Prefix | null {
  const four = tryPrefix4(text);
  if (four) return { family: IPV4, words: [four.prefix], length: four.length };
  const six = tryPrefix6(text);
  return six && { family: IPV6, words: six.words, length: six.length };
}

/** The same of text that was checked. */
export function parsePrefix(text: string): Prefix {
  const prefix = tryPrefix(text);
  if (!prefix) throw new Error(`"${text}" is no prefix`);
  return prefix;
}

/** An address as it is usually written. */
export const canonicalAddress = (text: string): string =>
  formatWords(text.includes(':') ? IPV6 : IPV4, parseWords(text));

/** An address without what lies beyond so many bits. */
export const maskWords = (words: ArrayLike<number>, length: number): number[] =>
  Array.from(words, (word, i) => {
    const bits = length - 32 * i;
    return bits >= 32 ? word : bits <= 0 ? 0 : word & (-1 << (32 - bits));
  });
