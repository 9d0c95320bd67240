import { expect, it } from 'vitest';
import { PIPELINE, Runtime, SAMPLE, TRANSMIT } from './runtime.ts';

/** Awake until `from`, asleep until `to`. */
function sleep(runtime: Runtime, from: number, to: number): void {
  runtime.clock.set([from, to]);
  runtime.woke();
}

it('is busy while it is awake, over the last seconds', () => {
  const start = 10_000_000;
  const runtime = new Runtime(start);
  for (let ms = 0; ms < 3000; ms += 100) sleep(runtime, start + ms + 25, start + ms + 100);
  expect(runtime.snapshot(start + 3000)).toMatchObject({ wakeups: 30, busySeconds: 0.75, busyShare: 0.25 });
});

it('forgets what was longer ago, and starts from its start', () => {
  const runtime = new Runtime(500);
  expect(runtime.snapshot(500).busyShare).toBe(0);
  expect(runtime.snapshot(1500).busyShare).toBe(1);
  sleep(runtime, 1500, 100_000);
  expect(runtime.snapshot(100_000).busyShare).toBe(0);
  // Four whole seconds and a half: one second busy.
  const { busyShare, busySeconds } = runtime.snapshot(101_000);
  expect(busyShare).toBeCloseTo(1 / 4);
  expect(busySeconds).toBe(2);
  sleep(runtime, 200_500, 200_500);
  expect(runtime.snapshot(200_500).busyShare).toBe(1);
});

it('times the stages of one burst in many', () => {
  const runtime = new Runtime(0);
  for (let burst = 0; burst < 2 * SAMPLE; burst++) {
    // Nothing there: no burst, and the next one is timed in its place.
    runtime.begin();
    runtime.begin();
    runtime.received(3);
    runtime.end(PIPELINE);
    runtime.end(TRANSMIT);
  }
  const { bursts, frames, sampledFrames, sampledSeconds } = runtime.snapshot(1);
  expect({ bursts, frames, sampledFrames }).toEqual({ bursts: 128, frames: 384, sampledFrames: 6 });
  expect(sampledSeconds).toHaveLength(3);
  for (const seconds of sampledSeconds) expect(seconds).toBeGreaterThanOrEqual(0);
});
