/** What kv.ts says of a store, as tests: every store passes the same. */
import { expect, it } from 'vitest';
import { until } from '../bgp/until.ts';
import type { TortieError } from '../error.ts';
import type { KeyEvent, KeyValueStore, KeyWatch } from './kv.ts';

export interface Subject {
  /** Another connection to the same store, as another process has one. */
  open(): KeyValueStore;
  /** Have the store forget the changes up to a revision, or to some later one. */
  compact(revision: number): Promise<void>;
}

/** Keeps what a watch tells. */
class Seen implements KeyWatch {
  readonly events: KeyEvent[] = [];
  ended: Error | null = null;
  readonly onEvents = (events: readonly KeyEvent[]): void => {
    this.events.push(...events);
  };
  readonly onEnd = (error: Error): void => {
    this.ended = error;
  };
  get text(): string[] {
    return this.events.map(({ key, entry }) => `${key}=${entry?.value ?? 'gone'}`);
  }
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'nothing',
    (error: TortieError) => error.code,
  );

/** `subject` is called in each test; stores are closed by who opened them. */
export function describeStore(subject: () => Subject): void {
  const open = () => subject().open();

  it('gives back what was put, and nothing for what was not', async () => {
    const store = open();
    const entry = await store.put('/a/é "x"', 'välue\n');
    expect(await store.get('/a/é "x"')).toEqual(entry);
    expect(await store.get('/a')).toBeNull();
    expect(entry).toMatchObject({ key: '/a/é "x"', value: 'välue\n' });
  });

  it('puts only at the revision that was read', async () => {
    const [store, other] = [open(), open()];
    const first = await store.put('/a', '1', { revision: null });
    expect(await codeOf(other.put('/a', '2', { revision: null }))).toBe('STORE_CONFLICT');
    const second = await other.put('/a', '2', { revision: first.revision });
    expect(second.revision).toBeGreaterThan(first.revision);
    expect(await codeOf(store.put('/a', '3', { revision: first.revision }))).toBe('STORE_CONFLICT');
    expect((await store.get('/a'))?.value).toBe('2');
    expect(await codeOf(store.put('/none', '1', { revision: 1 }))).toBe('STORE_CONFLICT');
  });

  it('deletes once, and only at the revision that was read', async () => {
    const store = open();
    const { revision } = await store.put('/a', '1');
    await store.put('/a', '2');
    expect(await codeOf(store.delete('/a', revision))).toBe('STORE_CONFLICT');
    expect(await store.delete('/a')).toBe(true);
    expect(await store.delete('/a')).toBe(false);
    expect(await store.delete('/a', revision)).toBe(false);
    expect(await store.get('/a')).toBeNull();
  });

  it('lists by prefix, in order, as of one revision', async () => {
    const store = open();
    await Promise.all(Array.from({ length: 2500 }, (_, i) => store.put(`/l/${i}`, String(i))));
    await store.put('/k', 'before');
    await store.put('/m', 'behind');
    const { entries, revision } = await store.list('/l/');
    const keys = entries.map(({ key }) => key);
    expect(keys).toEqual(Array.from({ length: 2500 }, (_, i) => `/l/${i}`).sort());
    expect(entries[0]).toMatchObject({ key: '/l/0', value: '0' });
    expect(revision).toBeGreaterThanOrEqual(Math.max(...entries.map((entry) => entry.revision)));
    const bare = await store.list('/l/', { keysOnly: true });
    expect(bare.entries.map(({ key }) => key)).toEqual(keys);
    expect(bare.entries.every(({ value }) => value === '')).toBe(true);
  });

  it('lets one of many win', async () => {
    const stores = Array.from({ length: 4 }, open);
    await stores[0]!.put('/n', '0');
    const add = async (store: KeyValueStore): Promise<void> => {
      for (;;) {
        const { value, revision } = (await store.get('/n'))!;
        const code = await codeOf(store.put('/n', String(Number(value) + 1), { revision }));
        if (code === 'nothing') return;
        expect(code).toBe('STORE_CONFLICT');
      }
    };
    await Promise.all(stores.flatMap((store) => Array.from({ length: 5 }, () => add(store))));
    expect((await stores[0]!.get('/n'))?.value).toBe('20');
  });

  it('watches from a revision on: what was, what others change, nothing twice', async () => {
    const [store, other] = [open(), open()];
    await store.put('/w/a', '1');
    const { revision } = await store.list('/w/');
    await store.put('/w/b', '2');
    await store.put('/x', 'elsewhere');
    const seen = new Seen();
    const stop = other.watch('/w/', revision + 1, seen);
    await until('the past', () => Promise.resolve(seen.events.length === 1));
    await other.put('/w/a', '3');
    await store.delete('/w/b');
    await until('the present', () => Promise.resolve(seen.events.length === 3));
    expect(seen.text).toEqual(['/w/b=2', '/w/a=3', '/w/b=gone']);
    const revisions = seen.events.map((event) => event.revision);
    expect(revisions).toEqual(revisions.toSorted((a, b) => a - b));
    stop();
    await store.put('/w/c', 'unseen');
    await store.put('/w/d', 'unseen');
    expect(seen.events).toHaveLength(3);
  });

  it('ends a watch from too long ago', async () => {
    const store = open();
    const { revision } = await store.put('/c/0', '0');
    for (let i = 1; i < 30; i++) await store.put(`/c/${i}`, String(i));
    await subject().compact(revision + 20);
    const seen = new Seen();
    store.watch('/c/', revision, seen);
    await until('its end', () => Promise.resolve(seen.ended !== null));
    expect(seen.ended).toMatchObject({ code: 'STORE_COMPACTED' });
    const later = new Seen();
    const stop = store.watch('/c/', (await store.list('/c/')).revision + 1, later);
    await store.put('/c/new', '1');
    await until('a change', () => Promise.resolve(later.events.length === 1));
    stop();
  });

  it('keeps what a lease holds while it lives, and no longer', async () => {
    const [store, other] = [open(), open()];
    const lease = await store.lease(2);
    await store.put('/s/a', 'alive', { lease });
    await new Promise((resolve) => setTimeout(resolve, 3000));
    expect((await other.get('/s/a'))?.value).toBe('alive');
    await lease.revoke();
    expect(await other.get('/s/a')).toBeNull();
    // A holder that dies does not revoke: its keys go when its time is over, and watches tell.
    const dying = open();
    const last = await dying.lease(1);
    const { revision } = await dying.put('/s/b', 'alive', { lease: last });
    const seen = new Seen();
    other.watch('/s/', revision + 1, seen);
    await dying.close();
    await until('it is gone', () => Promise.resolve(seen.text.includes('/s/b=gone')));
    expect(await other.get('/s/b')).toBeNull();
  });
}
