import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addressIn,
  assign,
  assignAt,
  type Block,
  cooled,
  formatBlock,
  isEmpty,
  newBlock,
  ordinalOf,
  ownerOf,
  parseBlock,
  release,
  usedOrdinals,
} from './block.ts';
import { rangeOf } from './cidr.ts';

const START = Date.parse('2026-01-01T00:00:00Z');
const COOLDOWN = 30_000;
const made = (cidr = '10.65.0.0/29') => newBlock(rangeOf(cidr), 'host:a', new Date(START));

type Step =
  | { readonly kind: 'assign'; readonly count: number }
  | { readonly kind: 'release'; readonly pick: number }
  | { readonly kind: 'wait'; readonly seconds: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('assign' as const), count: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constant('release' as const), pick: fc.nat(7) }),
  fc.record({ kind: fc.constant('wait' as const), seconds: fc.integer({ min: 1, max: 40 }) }),
);

describe('a block', () => {
  it('does after any steps what a naive one does: owners, order of reuse, cooling, places', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let block: Block = made();
        let now = START;
        // What it should be: the free in their order, the cooling with their time, and who has what.
        let free = [0, 1, 2, 3, 4, 5, 6, 7];
        let cooling: { ordinal: number; at: number }[] = [];
        const owners = new Map<number, string>();
        for (const [index, { kind, ...rest }] of steps.entries()) {
          if (kind === 'wait') now += (rest as { seconds: number }).seconds * 1000;
          else if (kind === 'assign') {
            const { count } = rest as { count: number };
            const over = cooling.filter(({ at }) => at <= now - COOLDOWN).sort((a, b) => a.at - b.at);
            cooling = cooling.filter((entry) => !over.includes(entry));
            free = [...free, ...over.map(({ ordinal }) => ordinal)];
            const wanted = free.slice(0, count);
            free = free.slice(count);
            for (const ordinal of wanted) owners.set(ordinal, `h${index}`);
            block = cooled(block, new Date(now - COOLDOWN), new Date(now));
            const result = assign(block, count, { handle: `h${index}`, attributes: { node: 'a' } });
            expect(result.ordinals).toEqual(wanted);
            ({ block } = result);
          } else {
            const { pick } = rest as { pick: number };
            block = release(block, [pick], new Date(now));
            if (owners.delete(pick)) cooling.push({ ordinal: pick, at: now });
            // Of one millisecond the lower ordinal comes first.
            cooling.sort((a, b) => a.at - b.at || a.ordinal - b.ordinal);
          }
          block = parseBlock(formatBlock(block));
          expect(new Map(usedOrdinals(block).map((o) => [o, ownerOf(block, o)!.handle_id]))).toEqual(
            new Map([...owners].sort((a, b) => a[0] - b[0])),
          );
          expect(block.unallocated).toEqual(free);
        }
      }),
    );
  });

  it('counts assignments, and does not begin at the same number when it is made anew', () => {
    const { block } = assign(made(), 2, { handle: 'h', attributes: {} });
    const [first, second] = [ownerOf(block, 0)!.sequence, ownerOf(block, 1)!.sequence];
    expect(second).toBe(first + 1n);
    const later = newBlock(rangeOf('10.65.0.0/29'), 'host:b', new Date(START + 1));
    expect(later.sequenceNumber).toBeGreaterThan(block.sequenceNumber);
  });

  it('keeps all digits of sequence numbers, as Calico counts them', () => {
    const text = formatBlock(made()).replace(/"sequenceNumber":\d+/, '"sequenceNumber":1763883500000000123');
    const block = assignAt(parseBlock(text), 3, { handle: 'h', attributes: {} });
    expect(ownerOf(block, 3)!.sequence).toBe(1763883500000000123n);
    const stored = formatBlock(block);
    expect(stored).toContain('"sequenceNumber":1763883500000000124');
    expect(stored).toContain('"sequenceNumberForAllocation":{"3":1763883500000000123}');
    expect(parseBlock(stored)).toEqual(block);
  });

  it.each(['10.65.0.0/32', '10.65.0.0/20', 'fd65::/122', 'fd65::ffff:0/116'])(
    'finds addresses of %s again',
    (cidr) => {
      const block = made(cidr);
      const last = block.allocations.length - 1;
      for (const ordinal of [0, last]) expect(ordinalOf(block, addressIn(block, ordinal))).toBe(ordinal);
      expect(isEmpty(block)).toBe(true);
    },
  );
});
