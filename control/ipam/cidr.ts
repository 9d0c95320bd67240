/** Addresses of both families as numbers, for arithmetic within pools and blocks. */
import {
  formatAddress4,
  formatAddress6,
  isIp6,
  parseAddress4,
  tryAddress6,
  type Words6,
} from '../address.ts';

export interface Range {
  readonly first: bigint;
  readonly length: number;
  readonly isIp6: boolean;
}

const bitsOf = (is6: boolean): number => (is6 ? 128 : 32);

/** An address as a number. It is well-formed. */
export function numberOf(address: string): bigint {
  if (!isIp6(address)) return BigInt(parseAddress4(address) >>> 0);
  return tryAddress6(address)!.reduce((sum, word) => (sum << 32n) | BigInt(word >>> 0), 0n);
}

export function addressOf(number: bigint, is6: boolean): string {
  if (!is6) return formatAddress4(Number(number) | 0);
  const word = (at: number) => Number((number >> BigInt(96 - 32 * at)) & 0xffffffffn) | 0;
  return formatAddress6([word(0), word(1), word(2), word(3)] satisfies Words6);
}

/** A prefix, or an address as one of full length. */
export function rangeOf(cidr: string): Range {
  const [address = '', length] = cidr.split('/');
  const is6 = isIp6(address);
  return { first: numberOf(address), length: Number(length ?? bitsOf(is6)), isIp6: is6 };
}

export const cidrOf = ({ first, length, isIp6: is6 }: Range): string => `${addressOf(first, is6)}/${length}`;

/** How many addresses it has. */
export const sizeOf = ({ length, isIp6: is6 }: Range): bigint => 1n << BigInt(bitsOf(is6) - length);

export function contains(outer: Range, inner: Range): boolean {
  if (outer.isIp6 !== inner.isIp6 || outer.length > inner.length) return false;
  const shift = BigInt(bitsOf(outer.isIp6) - outer.length);
  return outer.first >> shift === inner.first >> shift;
}

/** The block of this prefix length that an address lies in. */
export function blockAround(address: Range, length: number): Range {
  const shift = BigInt(bitsOf(address.isIp6) - length);
  return { first: (address.first >> shift) << shift, length, isIp6: address.isIp6 };
}

/** The blocks of a pool, each once, beginning at one of them and going round; `limit` of them at most. */
export function* blocksFrom(pool: Range, length: number, start: bigint, limit: number): Generator<Range> {
  const count = 1n << BigInt(length - pool.length);
  const size = 1n << BigInt(bitsOf(pool.isIp6) - length);
  const most = count < BigInt(limit) ? count : BigInt(limit);
  for (let i = 0n; i < most; i++) {
    yield { first: pool.first + ((start + i) % count) * size, length, isIp6: pool.isIp6 };
  }
}
