/** Waiting in tests: until something holds, or loudly not at all. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Ask `probe` again and again until it answers something other than false, null or undefined. */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  deadlineMs = 20_000,
): Promise<NonNullable<Exclude<T, false>>> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    const answer = await probe();
    if (answer !== false && answer !== null && answer !== undefined) {
      return answer as NonNullable<Exclude<T, false>>;
    }
    if (performance.now() > end) throw new Error(`waited ${deadlineMs / 1000} s in vain: ${what}`);
    await sleep(20);
  }
}
