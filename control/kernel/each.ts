/** Actions that wait for other processes, some side by side. */

/** Most processes at a time: enough for the cores that a node has, few enough to bear. */
const CONCURRENCY = 8;

/** Act on each item, in no order; answers in the order of the items. Rejects with the first failure. */
export async function forEachSideBySide<T, R>(
  items: readonly T[],
  action: (item: T) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const work = async () => {
    for (let index = next++; index < items.length; index = next++) {
      results[index] = await action(items[index]!);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  return results;
}
