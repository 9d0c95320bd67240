import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatAddress4, formatAddress6 } from '../address.ts';
import { parseWords } from './family.ts';
import { MAX_INSTRUCTIONS, type TtlLimit, ttlFilter } from './ttl-filter.ts';

/** Run a program of the instructions that we use on an IP header, as the kernel does; what it returns. */
function evaluate(program: Int32Array, header: DataView): number {
  const NETWORK = -0x100000;
  let a = 0;
  const memory = new Int32Array(16);
  for (let at = 0; ; at++) {
    const [code, jt, jf, k] = program.subarray(4 * at) as unknown as [number, number, number, number];
    if (code === 0x20) a = header.getInt32(k - NETWORK);
    else if (code === 0x30) a = header.getUint8(k - NETWORK);
    else if (code === 0x60) a = memory[k]!;
    else if (code === 0x02) memory[k] = a;
    else if (code === 0x05) at += k;
    else if (code === 0x15) at += a === k ? jt : jf;
    else if (code === 0x35) at += a >>> 0 >= k >>> 0 ? jt : jf;
    else if (code === 0x06) return k;
    else throw new Error(`instruction ${at} is none that is meant: ${code}`);
  }
}

function header(from: string, ttl: number): DataView {
  const words = parseWords(from);
  const view = new DataView(new ArrayBuffer(40));
  view.setUint8(words.length === 1 ? 8 : 7, ttl);
  for (const [i, word] of words.entries()) view.setInt32((words.length === 1 ? 12 : 8) + 4 * i, word);
  return view;
}

const passes = (program: Int32Array, from: string, ttl: number) => evaluate(program, header(from, ttl)) !== 0;

const four = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map(formatAddress4);
// Few values a word: addresses that differ in the last one alone are what could be mixed up.
const six = fc
  .array(fc.constantFrom(0x20010db8, 0, 1, -1), { minLength: 4, maxLength: 4 })
  .map(formatAddress6);

describe.each([
  ['IPv4', four],
  ['IPv6', six],
])('the filter of %s', (_name, address) => {
  it('holds each peer to its own limit, and nobody else to any', () => {
    const limit = fc.record({ address, least: fc.integer({ min: 1, max: 255 }) });
    const limits = fc.uniqueArray(limit, { minLength: 1, maxLength: 30, selector: (l) => l.address });
    fc.assert(
      fc.property(limits, address, fc.integer({ min: 0, max: 255 }), (peers: TtlLimit[], stranger, ttl) => {
        const program = ttlFilter(peers);
        for (const { address: from, least } of peers) {
          expect(passes(program, from, ttl)).toBe(ttl >= least);
        }
        const known = peers.find((peer) => peer.address === stranger);
        expect(passes(program, stranger, ttl)).toBe(ttl >= (known?.least ?? 0));
      }),
    );
  });
});

it('is none without limits, and refuses to be too long', () => {
  expect(ttlFilter([])).toHaveLength(0);
  const peers = (count: number, of: (i: number) => string) =>
    Array.from({ length: count }, (_, i) => ({ address: of(i), least: 255 }));
  const longest = ttlFilter(peers(1300, (i) => formatAddress4(i + 1)));
  expect(longest.length / 4).toBeLessThanOrEqual(MAX_INSTRUCTIONS);
  expect(passes(longest, '0.0.5.20', 254)).toBe(false);
  expect(() => ttlFilter(peers(1400, (i) => formatAddress4(i + 1)))).toThrow(/1400 peers of one family/);
  expect(() => ttlFilter(peers(500, (i) => `2001:db8::${i + 1}`))).toThrow(/500 peers of one family/);
});
