/**
 * A store for one machine, by LMDB: nothing to set up, several processes (agent, command line) at once. Every change is on
 * the disk before it is acknowledged, in one transaction with the log of changes that watches read. What is asked for at one
 * time shares a transaction. Commits are synchronous: of those that run in the background the library does not let us catch
 * every failure, and a full disk would end the process.
 *
 *   entries    key -> value, revision, lease
 *   log        revision -> what changed; the last LOG_LENGTH of them
 *   leases     id -> when it ends
 *   meta       the store's revision, and up to which one the log has been cut off
 */
import {
  chmodSync,
  existsSync,
  type FSWatcher,
  mkdirSync,
  statSync,
  utimesSync,
  watch as watchFile,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { TortieError } from '../error.ts';
import { conflict, corrupt, explained, full, hasLittleRoom } from './embedded-errors.ts';
import { EmbeddedLease, endOf, isOver, type LeaseRow, leaseLost } from './embedded-lease.ts';
import type {
  Entry,
  KeyEvent,
  KeyValueStore,
  KeyWatch,
  Lease,
  Listing,
  ListOptions,
  PutOptions,
} from './kv.ts';
import { faultOf } from './lmdb-check.ts';

/** Revisions that a watch may be behind. */
const LOG_LENGTH = 10_000;
/** How often to look for other processes' changes, should their signal be missed, and for leases that are over. */
const POLL_MS = 1000;
const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
const DATA_FILE = 'data.mdb';
/** Whoever changes the store touches this file, which all others watch. */
const SIGNAL_FILE = 'changed';

interface Row {
  readonly value: string;
  readonly revision: number;
  readonly lease?: string;
}
interface Watcher {
  readonly prefix: string;
  readonly watch: KeyWatch;
  /** The next revision to tell. */
  next: number;
}

/** What one change writes, all of it at one revision. */
interface Change {
  readonly revision: number;
  readonly events: KeyEvent[];
}
interface Request {
  /** Throws a TortieError before it changes anything. */
  readonly action: (change: Change) => unknown;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: TortieError) => void;
}

export interface EmbeddedOptions {
  readonly logLength?: number;
}

export class EmbeddedStore implements KeyValueStore {
  readonly description: string;
  readonly #path: string;
  readonly #logLength: number;
  readonly #root: RootDatabase;
  readonly #entries: Database<Row, string>;
  readonly #log: Database<KeyEvent[], number>;
  readonly #leases: Database<LeaseRow, string>;
  readonly #meta: Database<number, string>;
  readonly #watchers = new Set<Watcher>();
  readonly #held = new Set<EmbeddedLease>();
  /** Of the data file: another one in its place is not what we have open. */
  readonly #inode: number;
  #requests: Request[] = [];
  readonly #signal: FSWatcher | null;
  readonly #timer: NodeJS.Timeout;
  #closed = false;

  /** Opens or makes the store in a folder. Throws STORE_DENIED, STORE_CORRUPT, STORE_FULL or STORE_UNAVAILABLE. */
  constructor(path: string, { logLength = LOG_LENGTH }: EmbeddedOptions = {}) {
    this.description = `embedded ${path}`;
    this.#path = path;
    this.#logLength = logLength;
    try {
      mkdirSync(path, { recursive: true, mode: FOLDER_MODE });
      const file = join(path, DATA_FILE);
      // A file of its own that LMDB maps and cannot grow ends the process.
      const isNew = !existsSync(file) || !existsSync(`${file}-lock`);
      if (isNew && hasLittleRoom(path)) throw full(path, 'no space left');
      const fault = faultOf(file);
      if (fault !== null) throw corrupt(path, `${DATA_FILE} ${fault}`);
      // Without `overlappingSync: false` a change is acknowledged before it is on the disk.
      this.#root = open({ path: file, maxDbs: 4, overlappingSync: false });
      chmodSync(file, FILE_MODE);
      chmodSync(`${file}-lock`, FILE_MODE);
      this.#inode = statSync(file).ino;
      this.#entries = this.#root.openDB('entries', { encoding: 'json' });
      this.#log = this.#root.openDB('log', { encoding: 'json', keyEncoding: 'uint32' });
      this.#leases = this.#root.openDB('leases', { encoding: 'json' });
      this.#meta = this.#root.openDB('meta', { encoding: 'json' });
      writeFileSync(join(path, SIGNAL_FILE), '', { flag: 'a', mode: FILE_MODE });
      this.#signal = watched(join(path, SIGNAL_FILE), () => this.#notify());
    } catch (error) {
      throw explained(this.#path, error);
    }
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
    this.#timer.unref();
    this.#signal?.unref();
  }

  async get(key: string): Promise<Entry | null> {
    return this.#read(() => {
      const row = this.#entries.get(key);
      return row ? { key, value: row.value, revision: row.revision } : null;
    });
  }

  async list(prefix: string, { keysOnly = false, wants }: ListOptions = {}): Promise<Listing> {
    return this.#read(() => {
      const entries: Entry[] = [];
      for (const { key, value } of this.#entries.getRange({ start: prefix })) {
        if (!key.startsWith(prefix)) break;
        if (wants && !wants(key)) continue;
        entries.push({ key, value: keysOnly ? '' : value.value, revision: value.revision });
      }
      return { entries, revision: this.#revision };
    });
  }

  async put(key: string, value: string, { revision, lease }: PutOptions = {}): Promise<Entry> {
    return this.#write((change) => {
      const found = this.#entries.get(key)?.revision ?? null;
      if (revision !== undefined && revision !== found) throw conflict(key, revision, found);
      if (lease && !this.#leases.get(lease.id)) throw leaseLost(lease.id);
      const entry = { key, value, revision: change.revision };
      this.#entries.putSync(key, { value, revision: entry.revision, ...(lease && { lease: lease.id }) });
      change.events.push({ key, entry, revision: entry.revision });
      return entry;
    });
  }

  async delete(key: string, revision?: number): Promise<boolean> {
    return this.#write((change) => {
      const row = this.#entries.get(key);
      if (!row) return false;
      if (revision !== undefined && revision !== row.revision) throw conflict(key, revision, row.revision);
      this.#remove(key, change);
      return true;
    });
  }

  watch(prefix: string, fromRevision: number, watch: KeyWatch): () => void {
    const watcher: Watcher = { prefix, watch, next: fromRevision };
    this.#watchers.add(watcher);
    setImmediate(() => this.#notify());
    return () => void this.#watchers.delete(watcher);
  }

  async lease(ttl: number): Promise<Lease> {
    const lease = new EmbeddedLease(ttl, {
      renew: () =>
        this.#write(() => {
          if (!this.#leases.get(lease.id)) return false;
          this.#leases.putSync(lease.id, endOf(ttl));
          return true;
        }),
      revoke: () => {
        this.#held.delete(lease);
        return this.#write((change) => this.#endLease(lease.id, change));
      },
      lost: () => this.#held.delete(lease),
    });
    await this.#write(() => this.#leases.putSync(lease.id, endOf(ttl)));
    this.#held.add(lease);
    lease.keep();
    return lease;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#commit();
    this.#closed = true;
    clearInterval(this.#timer);
    this.#signal?.close();
    this.#watchers.clear();
    for (const lease of this.#held) lease.stop();
    await this.#root.close();
  }

  get #revision(): number {
    return this.#meta.get('revision') ?? 0;
  }

  #read<T>(action: () => T): T {
    try {
      // What other processes committed meanwhile is to be seen.
      this.#root.resetReadTxn();
      return action();
    } catch (error) {
      throw explained(this.#path, error);
    }
  }

  /** Do it in the next transaction; what `action` changes has one revision. */
  #write<T>(action: (change: Change) => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed) {
        reject(new TortieError('STORE_UNAVAILABLE', `${this.description} is closed`));
        return;
      }
      this.#requests.push({ action, resolve: resolve as (answer: unknown) => void, reject });
      if (this.#requests.length === 1) setImmediate(() => this.#commit());
    });
  }

  /** Write what was asked for, all or nothing, and then say so. */
  #commit(): void {
    const requests = this.#requests;
    if (requests.length === 0) return;
    this.#requests = [];
    let answers: (() => void)[] = [];
    let isChanged = false;
    try {
      this.#inPlace();
      this.#root.transactionSync(() => {
        for (const { action, resolve, reject } of requests) {
          const change: Change = { revision: this.#revision + 1, events: [] };
          try {
            const answer = action(change);
            answers.push(() => resolve(answer));
          } catch (error) {
            if (!(error instanceof TortieError)) throw error;
            answers.push(() => reject(error));
          }
          if (change.events.length === 0) continue;
          this.#append(change);
          isChanged = true;
        }
      });
      if (isChanged) this.#tellOthers();
    } catch (error) {
      const failure = explained(this.#path, error);
      answers = requests.map(
        ({ reject }) =>
          () =>
            reject(failure),
      );
    }
    for (const answer of answers) answer();
    if (isChanged) setImmediate(() => this.#notify());
  }

  /** Throws STORE_UNAVAILABLE if what we have open is no longer where it was: nobody would find what is written to it. */
  #inPlace(): void {
    const found = statSync(join(this.#path, DATA_FILE), { throwIfNoEntry: false });
    if (found?.ino === this.#inode) return;
    const what = found ? 'was replaced' : 'was moved away or removed';
    throw new TortieError(
      'STORE_UNAVAILABLE',
      `${this.#path}: ${DATA_FILE} ${what} while it was in use; start again whatever uses it`,
    );
  }

  #tellOthers(): void {
    const now = new Date();
    try {
      utimesSync(join(this.#path, SIGNAL_FILE), now, now);
    } catch {
      // They look every now and then.
    }
  }

  #append({ revision, events }: Change): void {
    this.#log.putSync(revision, events);
    this.#meta.putSync('revision', revision);
    const compacted = revision - this.#logLength;
    if (compacted < 1) return;
    this.#log.removeSync(compacted);
    this.#meta.putSync('compacted', compacted);
  }

  #remove(key: string, { revision, events }: Change): void {
    this.#entries.removeSync(key);
    events.push({ key, entry: null, revision });
  }

  #endLease(id: string, change: Change): void {
    if (!this.#leases.removeSync(id)) return;
    const keys = [...this.#entries.getRange()].filter(({ value }) => value.lease === id);
    for (const { key } of keys) this.#remove(key, change);
  }

  /** Tell watches what is new. */
  #notify(): void {
    if (this.#closed || this.#watchers.size === 0) return;
    try {
      const { revision, compacted } = this.#read(() => ({
        revision: this.#revision,
        compacted: this.#meta.get('compacted') ?? 0,
      }));
      for (const watcher of [...this.#watchers]) {
        if (watcher.next > revision) continue;
        if (watcher.next <= compacted) {
          this.#watchers.delete(watcher);
          const message = `${this.description}: changes before revision ${compacted + 1} are no longer known`;
          watcher.watch.onEnd(new TortieError('STORE_COMPACTED', message));
          continue;
        }
        const events = this.#since(watcher.next, revision, watcher.prefix);
        watcher.next = revision + 1;
        if (events.length > 0) watcher.watch.onEvents(events);
      }
    } catch (error) {
      for (const { watch } of this.#watchers) watch.onEnd(explained(this.#path, error));
      this.#watchers.clear();
    }
  }

  #since(first: number, last: number, prefix: string): KeyEvent[] {
    const events: KeyEvent[] = [];
    for (const { value } of this.#log.getRange({ start: first, end: last + 1 })) {
      for (const event of value) if (event.key.startsWith(prefix)) events.push(event);
    }
    return events;
  }

  /** Others' changes whose signal was missed, and leases that nobody renewed. */
  #poll(): void {
    this.#notify();
    let over: { readonly key: string }[];
    try {
      over = this.#read(() => [...this.#leases.getRange()].filter(({ value }) => isOver(value)));
    } catch {
      // Whoever asks for something is told.
      return;
    }
    if (over.length === 0) return;
    void this.#write((change) => {
      for (const { key } of over) {
        const row = this.#leases.get(key);
        if (row && isOver(row)) this.#endLease(key, change);
      }
    }).catch(() => {});
  }
}

/** Null: the user has no watches of files left, and polls. */
function watched(file: string, onChange: () => void): FSWatcher | null {
  try {
    return watchFile(file, onChange).on('error', () => {});
  } catch {
    return null;
  }
}
