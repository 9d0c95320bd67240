/** Values that several change at a time: read, change, write only if nobody was faster. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Entry, KeyValueStore } from '../datastore/kv.ts';
import { TortieError } from '../error.ts';

/** As Calico has it. */
const TRIES = 100;
/** After a lost race, up to so long, ms. */
const PAUSE_MS = 20;

export const isConflict = (error: unknown): boolean =>
  error instanceof TortieError && error.code === 'STORE_CONFLICT';

/** Run an action until it does not end in a conflict. */
export async function insist<T>(what: string, action: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      return await action();
    } catch (error) {
      if (!isConflict(error)) throw error;
      if (tried === TRIES) {
        const message = `${what}: others changed it ${TRIES} times meanwhile; try again`;
        throw new TortieError('IPAM_CONTENDED', message);
      }
    }
    await sleep(Math.random() * PAUSE_MS);
  }
}

/** What is to become of a value: another, none (null), or nothing (undefined). */
export type Change = string | null | undefined;

/** Change the value of a key, which may not be there. Resolves with what `change` answered beside it. */
export function update<T>(
  keys: KeyValueStore,
  key: string,
  change: (entry: Entry | null) => [Change, T],
): Promise<T> {
  return insist(key, async () => {
    const entry = await keys.get(key);
    const [value, answer] = change(entry);
    if (value === undefined || (value === null && !entry)) return answer;
    if (value === null) await keys.delete(key, entry!.revision);
    else await keys.put(key, value, { revision: entry?.revision ?? null });
    return answer;
  });
}
