import { expect, it } from 'vitest';
import { forEachSideBySide } from './each.ts';

it('acts on all, no more than eight at a time, and answers in order', async () => {
  let running = 0;
  let most = 0;
  const items = Array.from({ length: 100 }, (_, index) => index);
  const answers = await forEachSideBySide(items, async (item) => {
    most = Math.max(most, ++running);
    await new Promise(setImmediate);
    running--;
    return item * 2;
  });
  expect(answers).toEqual(items.map((item) => item * 2));
  expect(most).toBe(8);
});

it('rejects with the failure of any', async () => {
  const action = (item: number) => (item === 3 ? Promise.reject(new Error('three')) : Promise.resolve(item));
  await expect(forEachSideBySide([1, 2, 3, 4], action)).rejects.toThrow('three');
  expect(await forEachSideBySide([], action)).toEqual([]);
});
