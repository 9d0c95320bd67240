import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { balance, place } from './spread.ts';

const loads = (ports: readonly (readonly number[])[], workers: number) =>
  Array.from({ length: workers }, (_, worker) => ports.flat().filter((reader) => reader === worker).length);

/** Ports as they come and go: how many inputs each has (more than workers are possible after a restart). */
const arrivals = fc.record({
  workers: fc.integer({ min: 1, max: 6 }),
  inputs: fc.array(fc.integer({ min: 1, max: 8 }), { maxLength: 30 }),
});

function arrive(inputs: readonly number[], workers: number): number[][] {
  const ports: number[][] = [];
  for (const count of inputs) ports.push(place(new Array(count).fill(-1), ports, workers));
  return ports;
}

describe('placing', () => {
  it('gives the inputs of one port to different workers, as evenly as they are many', () => {
    fc.assert(
      fc.property(arrivals, ({ workers, inputs }) => {
        for (const port of arrive(inputs, workers)) {
          const each = loads([port], workers);
          expect(Math.max(...each) - Math.min(...each)).toBeLessThanOrEqual(1);
        }
      }),
    );
  });

  it('keeps readers that there are, and finds others for those of workers that are no more', () => {
    expect(place([1, -1], [[0], [0]], 2)).toEqual([1, 0]);
    expect(place([5, 1], [], 2)).toEqual([0, 1]);
  });
});

describe('balancing', () => {
  it('leaves no worker two more than another, whoever goes', () => {
    const some = fc.infiniteStream(fc.boolean());
    fc.assert(
      fc.property(arrivals, some, ({ workers, inputs }, stay) => {
        const left = arrive(
          inputs.map((count) => Math.min(count, workers)),
          workers,
        ).filter(() => stay.next().value);
        const after = balance(left, workers);
        const each = loads(after, workers);
        expect(Math.max(...each) - Math.min(...each)).toBeLessThanOrEqual(1);
        for (const port of after) expect(new Set(port).size).toBe(port.length);
        // What is even already stays as it is, and nobody gets what he had.
        expect(balance(after, workers)).toEqual(after);
        const before = loads(left, workers);
        const moved = left.flat().filter((reader, index) => after.flat()[index] !== reader).length;
        const surplus = before.reduce((sum, load, worker) => sum + Math.max(0, load - each[worker]!), 0);
        expect(moved).toBe(surplus);
      }),
    );
  });
});
