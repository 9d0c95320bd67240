import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const PROGRAM = fileURLToPath(new URL('../dist/bench/allocation.js', import.meta.url));
const PACKETS = 10_000_000;
/** Less than an object of 16 bytes for every burst of 64 would take. */
const LIMIT_BYTES = 1 << 20;

/** Heap growth of the pipeline, in a process whose young generation holds more than any failure would make. */
function measure(...more: string[]): { packets: number; forwarded: number; bytes: number } {
  const heap = ['--min-semi-space-size=256', '--max-semi-space-size=256'];
  return JSON.parse(
    execFileSync(process.execPath, [...heap, PROGRAM, String(PACKETS), ...more], { encoding: 'utf8' }),
  );
}

describe('the heap under ten million packets', () => {
  it('does not grow by packet or burst, so that no collection delays any', () => {
    const { packets, forwarded, bytes } = measure();
    expect(packets).toBeGreaterThanOrEqual(PACKETS);
    // One way of eleven ends in a blackhole.
    expect(forwarded / packets).toBeCloseTo(10 / 11, 4);
    // Less than before would be a collection in between, and prove nothing.
    expect(bytes).toBeGreaterThanOrEqual(0);
    expect(bytes).toBeLessThan(LIMIT_BYTES);
  });

  it('would be seen to grow by a single object a burst', () => {
    expect(measure('spoil').bytes).toBeGreaterThan(2 * LIMIT_BYTES);
  });
});
