import { expect, it } from 'vitest';
import { DROP_REASONS } from './drops.ts';
import { PipelineFuzzer } from './fuzz.ts';
import { Random } from './random.ts';

const FRAMES = 200_000;
/** Each starts anew, so that a failure is found again in a quarter of the time. */
const SEEDS = [1, 2, 3, 4];

/** No port goes while it runs. */
const OUT_OF_REACH = ['port_gone'];
const reached = new Set<string>(OUT_OF_REACH);

it.each(SEEDS)('takes any frames, sends well-formed ones, and accounts for each (seed %i)', (seed) => {
  const fuzzer = new PipelineFuzzer(seed);
  let frames = 0;
  while (frames < FRAMES / SEEDS.length) frames += fuzzer.burst();
  const report = fuzzer.report();
  expect(report.frames).toBe(frames);
  for (const reason of Object.keys(report.drops)) reached.add(reason);
  expect(report.delivered).toBeGreaterThan(frames / 20);
  expect(report.consumed).toBeGreaterThan(0);
  expect(report.originated).toBeGreaterThan(0);
});

// It would be worth little if it stayed at the door.
it('has met every reason to drop a packet', () => {
  expect(DROP_REASONS.filter(({ name }) => !reached.has(name))).toEqual([]);
});

it('does the same again with the same seed', () => {
  const run = (seed: number) => {
    const fuzzer = new PipelineFuzzer(seed);
    for (let i = 0; i < 50; i++) fuzzer.burst();
    return fuzzer.report();
  };
  expect(run(7)).toEqual(run(7));
  expect(new Random(1).below(1000)).not.toBe(new Random(2).below(1000));
});
