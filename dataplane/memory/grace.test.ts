import { expect, it } from 'vitest';
import { createEpochs, GracePeriods, Readers } from './grace.ts';

function setUp() {
  const epochs = createEpochs();
  const freed: string[] = [];
  return { readers: new Readers(epochs), grace: new GracePeriods(epochs), freed };
}

it('frees at once while no worker runs', () => {
  const { grace, freed } = setUp();
  grace.retire(() => freed.push('a'));
  expect(freed).toEqual([]);
  grace.poll();
  expect(freed).toEqual(['a']);
});

it('waits for every worker that was there, and for none that came later or sleeps', () => {
  const { readers, grace, freed } = setUp();
  readers.enter(0);
  readers.enter(1);
  grace.retire(() => freed.push('a'));
  grace.poll();
  readers.enter(0);
  grace.poll();
  expect(freed).toEqual([]);
  readers.enter(2);
  readers.leave(1);
  grace.poll();
  expect(freed).toEqual(['a']);
});

it('keeps apart what was retired before and after a quiet point', () => {
  const { readers, grace, freed } = setUp();
  readers.enter(0);
  grace.retire(() => freed.push('a'));
  readers.enter(0);
  grace.retire(() => freed.push('b'));
  grace.poll();
  expect(freed).toEqual(['a']);
  expect(grace.pending).toBe(1);
});
