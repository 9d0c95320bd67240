import { describe, expect, it } from 'vitest';
import { CHECKSUM_START, LENGTH, OFFSET, ROW, STATUS } from '../memory/burst.ts';
import type { Port } from './port.ts';
import { BUCKET_CELLS, Bucket, OVER_LIMIT, ShapedPort } from './shaper.ts';

const BYTES = 2 * BUCKET_CELLS * 8;

describe('a bucket', () => {
  const bucketOf = (rate: number, burst: number) =>
    new Bucket({ rate, burst }, new Float64Array(new SharedArrayBuffer(BYTES)).subarray(0, BUCKET_CELLS));

  it('is full after a rest, and no fuller', () => {
    const bucket = bucketOf(1000, 500);
    expect(bucket.wait(10_000)).toBe(0);
    bucket.take(500, 10_000);
    // A byte a millisecond.
    expect(bucket.wait(10_000)).toBe(1);
    expect(bucket.wait(10_001)).toBe(0);
  });

  it('lets a frame that is larger than itself pass, and makes the next wait for it', () => {
    const bucket = bucketOf(1000, 500);
    expect(bucket.wait(10_000)).toBe(0);
    bucket.take(1500, 10_000);
    expect(bucket.wait(10_000)).toBe(1001);
    expect(bucket.wait(11_001)).toBe(0);
  });

  it('passes its rate over time', () => {
    const bucket = bucketOf(125_000, 10_000);
    bucket.wait(0);
    let passed = 0;
    for (let now = 1; now <= 10_000; now++) {
      while (bucket.wait(now) === 0) {
        bucket.take(1500, now);
        passed += 1500;
      }
    }
    expect(passed).toBeGreaterThan(1_240_000);
    expect(passed).toBeLessThan(1_265_000);
  });

  it('is not confused by a clock that stands or goes back', () => {
    const bucket = bucketOf(1000, 500);
    bucket.wait(10_000);
    bucket.take(501, 10_000);
    const wait = bucket.wait(10_000);
    expect(bucket.wait(9000)).toBe(wait);
  });
});

describe('a limited port', () => {
  const FRAME = 1000;
  /** A port that keeps what it is sent, a clock by hand, and a limit of a frame each 10 ms. */
  function limited(limits: { from?: boolean; to?: boolean; burst?: number }) {
    const sent: number[][] = [];
    const inner: Port = {
      inputs: [7],
      receive: (_arena, rows) => {
        rows[LENGTH] = FRAME;
        return 1;
      },
      transmit: (arena, rows, count) => {
        for (let i = 0; i < count; i++) {
          const [at, length, checked] = [OFFSET, LENGTH, CHECKSUM_START].map((cell) => rows[i * ROW + cell]!);
          const frame = arena.subarray(at!, at! + length!);
          sent.push([frame.every((byte) => byte === frame[0]) ? frame[0]! : -1, length!, arena[checked!]!]);
          // As a TAP's virtio header is: written in front of the frame.
          arena.fill(0, at! - 24, at!);
        }
        return count;
      },
    };
    const clock = { now: 1_000_000 };
    const limit = { rate: 100_000, burst: limits.burst ?? FRAME };
    const port = new ShapedPort(
      inner,
      { from: limits.from ? limit : null, to: limits.to ? limit : null, state: new SharedArrayBuffer(BYTES) },
      () => clock.now,
    );
    return { port, sent, clock };
  }
  /** Rows of frames whose bytes are all their number; the checksummed part begins ten bytes in. */
  function frames(count: number) {
    const arena = new Uint8Array(count * 2048);
    const rows = new Int32Array(count * ROW);
    for (let i = 0; i < count; i++) {
      arena.fill(i + 1, i * 2048, (i + 1) * 2048);
      rows[i * ROW + OFFSET] = i * 2048 + 64;
      rows[i * ROW + LENGTH] = FRAME;
      rows[i * ROW + CHECKSUM_START] = i * 2048 + 74;
      rows[i * ROW + STATUS] = -1;
    }
    return { arena, rows };
  }

  it('is not read while it owes', () => {
    const { port, clock } = limited({ from: true });
    const rows = new Int32Array(ROW);
    expect(port.receive(new Uint8Array(0), rows, 0, 0)).toBe(1);
    expect(port.restMs()).toBeGreaterThan(0);
    expect(port.receive(new Uint8Array(0), rows, 0, 0)).toBe(0);
    clock.now += 10.1;
    expect(port.receive(new Uint8Array(0), rows, 0, 0)).toBe(1);
  });

  it('keeps what may not go yet, in order, whole, and sends it in time', () => {
    const { port, sent, clock } = limited({ to: true });
    const { arena, rows } = frames(5);
    expect(port.transmit(arena, rows, 5)).toBe(5);
    expect([0, 1, 2, 3, 4].map((i) => rows[i * ROW + STATUS])).toEqual([-1, 0, 0, 0, 0]);
    // What was copied is safe from what becomes of the arena.
    arena.fill(0);
    expect(sent).toEqual([[1, FRAME, 1]]);
    expect(port.drainMs()).toBeGreaterThan(0);
    for (let i = 0; i < 50; i++) {
      clock.now += 1;
      port.drain();
    }
    expect(sent).toEqual([1, 2, 3, 4, 5].map((frame) => [frame, FRAME, frame]));
    expect(port.drainMs()).toBe(-1);
  });

  it('lets nothing overtake what waits', () => {
    const { port, sent, clock } = limited({ to: true });
    const { arena, rows } = frames(3);
    port.transmit(arena, rows, 2);
    clock.now += 100;
    const third = rows.slice(2 * ROW);
    port.transmit(arena, third, 1);
    expect(sent).toHaveLength(1);
    port.drain();
    clock.now += 100;
    port.drain();
    expect(sent.map(([frame]) => frame)).toEqual([1, 2, 3]);
  });

  it('drops what finds its queue full, and says so', () => {
    const { port, clock, sent } = limited({ to: true });
    let dropped = 0;
    let kept = 0;
    const { arena, rows } = frames(64);
    for (let burst = 0; burst < 40; burst++) {
      const went = port.transmit(arena, rows, 64);
      for (let i = 0; i < 64; i++) if (rows[i * ROW + STATUS] === OVER_LIMIT) dropped++;
      kept += went;
    }
    expect(kept + dropped).toBe(40 * 64);
    expect(dropped).toBeGreaterThan(1000);
    clock.now += 1e9;
    for (let i = 0; i < 3000; i++) {
      clock.now += 10;
      port.drain();
    }
    expect(sent).toHaveLength(kept);
  });

  it('goes round in its ring for as long as it lasts', () => {
    const { port, sent, clock } = limited({ to: true });
    let kept = 0;
    for (let turn = 0; turn < 500; turn++) {
      const { arena, rows } = frames(3);
      for (let i = 0; i < 3; i++) rows[i * ROW + LENGTH] = 100 + (((turn * 3 + i) * 131) % 1800);
      kept += port.transmit(arena, rows, 3);
      clock.now += 25;
      port.drain();
    }
    for (let i = 0; i < 2000; i++) {
      clock.now += 100;
      port.drain();
    }
    expect(sent).toHaveLength(kept);
    for (const [first, , checked] of sent) expect(checked).toBe(first);
  });
});
