import { expect, it } from 'vitest';
import { DROP_REASONS } from './drops.ts';
import { PipelineFuzzer, Random } from './fuzz.ts';

const FRAMES = 200_000;
/** Each starts anew, so that a failure is found again in a quarter of the time. */
const SEEDS = [1, 2, 3, 4];

/** No port goes while it runs. */
const OUT_OF_REACH = ['port_gone'];

it.each(SEEDS)('takes any frames, sends well-formed ones, and accounts for each (seed %i)', (seed) => {
  const fuzzer = new PipelineFuzzer(seed);
  let frames = 0;
  while (frames < FRAMES / SEEDS.length) frames += fuzzer.burst();
  const report = fuzzer.report();
  expect(report.frames).toBe(frames);
  // It would be worth little if it stayed at the door.
  const missed = DROP_REASONS.map(({ name }) => name).filter((name) => !(name in report.drops));
  expect(missed.filter((name) => !OUT_OF_REACH.includes(name))).toEqual([]);
  expect(report.delivered).toBeGreaterThan(frames / 20);
  expect(report.consumed).toBeGreaterThan(0);
  expect(report.originated).toBeGreaterThan(0);
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
