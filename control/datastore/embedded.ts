/**
 * A store for one machine, by LMDB: nothing to set up, several processes (agent, command line) at once. Every change is on
 * the disk before it is acknowledged, in one transaction with the log of changes that watches read.
 *
 *   entries    key -> value, revision, lease
 *   log        revision -> what changed; the last LOG_LENGTH of them
 *   leases     id -> when it ends
 *   meta       the store's revision, and up to which one the log has been cut off
 */
import { randomUUID } from 'node:crypto';
import {
  type FSWatcher,
  mkdirSync,
  readFileSync,
  utimesSync,
  watch as watchFile,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { TortieError } from '../error.ts';
import type { Entry, KeyEvent, KeyValueStore, KeyWatch, Lease, Listing, PutOptions } from './kv.ts';

/** Revisions that a watch may be behind. */
const LOG_LENGTH = 10_000;
/** How often to look for other processes' changes, should their signal be missed, and for leases that are over. */
const POLL_MS = 1000;
/** A lease is renewed so many times while it lives. */
const RENEWALS = 3;
const OWNER_ONLY = 0o700;
/** Whoever changes the store touches this file, which all others watch. */
const SIGNAL_FILE = 'changed';

interface Row {
  readonly value: string;
  readonly revision: number;
  readonly lease?: string;
}
interface LeaseRow {
  /** By a clock that nobody sets, and which boot's: its leases end with it. */
  readonly ends: number;
  readonly boot: string;
}
interface Watcher {
  readonly prefix: string;
  readonly watch: KeyWatch;
  /** The next revision to tell. */
  next: number;
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
  readonly #signal: FSWatcher;
  readonly #timer: NodeJS.Timeout;
  #closed = false;

  /** Opens or makes the store in a folder. Throws STORE_DENIED, STORE_CORRUPT, STORE_FULL or STORE_UNAVAILABLE. */
  constructor(path: string, { logLength = LOG_LENGTH }: EmbeddedOptions = {}) {
    this.description = `embedded ${path}`;
    this.#path = path;
    this.#logLength = logLength;
    try {
      mkdirSync(path, { recursive: true, mode: OWNER_ONLY });
      // Without `overlappingSync: false` a change is acknowledged before it is on the disk.
      this.#root = open({ path: join(path, 'data.mdb'), maxDbs: 4, overlappingSync: false });
      this.#entries = this.#root.openDB('entries', { encoding: 'json' });
      this.#log = this.#root.openDB('log', { encoding: 'json', keyEncoding: 'uint32' });
      this.#leases = this.#root.openDB('leases', { encoding: 'json' });
      this.#meta = this.#root.openDB('meta', { encoding: 'json' });
      writeFileSync(join(path, SIGNAL_FILE), '', { flag: 'a', mode: 0o600 });
      this.#signal = watchFile(join(path, SIGNAL_FILE), () => this.#notify());
    } catch (error) {
      throw this.#explain(error);
    }
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
    this.#timer.unref();
    this.#signal.unref();
  }

  async get(key: string): Promise<Entry | null> {
    return this.#read(() => {
      const row = this.#entries.get(key);
      return row ? { key, value: row.value, revision: row.revision } : null;
    });
  }

  async list(prefix: string, { keysOnly = false } = {}): Promise<Listing> {
    return this.#read(() => {
      const entries: Entry[] = [];
      for (const { key, value } of this.#entries.getRange({ start: prefix })) {
        if (!key.startsWith(prefix)) break;
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
    this.#closed = true;
    clearInterval(this.#timer);
    this.#signal.close();
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
      throw this.#explain(error);
    }
  }

  /**
   * One transaction: what `action` changes has one revision. It throws before it changes anything, or not at all. What is
   * written at one time shares a commit.
   */
  async #write<T>(action: (change: { revision: number; events: KeyEvent[] }) => T): Promise<T> {
    if (this.#closed) throw new TortieError('STORE_UNAVAILABLE', `${this.description} is closed`);
    const change = { revision: 0, events: [] as KeyEvent[] };
    let result: T;
    try {
      result = await this.#root.transaction(() => {
        change.revision = this.#revision + 1;
        const answer = action(change);
        if (change.events.length > 0) this.#append(change);
        return answer;
      });
    } catch (error) {
      throw this.#explain(error);
    }
    if (change.events.length > 0) {
      const now = new Date();
      utimesSync(join(this.#path, SIGNAL_FILE), now, now);
      setImmediate(() => this.#notify());
    }
    return result;
  }

  #append({ revision, events }: { revision: number; events: KeyEvent[] }): void {
    this.#log.putSync(revision, events);
    this.#meta.putSync('revision', revision);
    const compacted = revision - this.#logLength;
    if (compacted < 1) return;
    this.#log.removeSync(compacted);
    this.#meta.putSync('compacted', compacted);
  }

  #remove(key: string, { revision, events }: { revision: number; events: KeyEvent[] }): void {
    this.#entries.removeSync(key);
    events.push({ key, entry: null, revision });
  }

  #endLease(id: string, change: { revision: number; events: KeyEvent[] }): void {
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
      for (const { watch } of this.#watchers) watch.onEnd(this.#explain(error));
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
    const over = this.#read(() => [...this.#leases.getRange()].filter(({ value }) => isOver(value)));
    if (over.length === 0) return;
    void this.#write((change) => {
      for (const { key } of over) {
        const row = this.#leases.get(key);
        if (row && isOver(row)) this.#endLease(key, change);
      }
    }).catch(() => {});
  }

  /** What went wrong, in the words of kv.ts. */
  #explain(error: unknown): TortieError {
    if (error instanceof TortieError) return error;
    const { message, code } = error as { message: string; code?: string | number };
    const text = `${this.#path}: ${message}`;
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 13) {
      return new TortieError('STORE_DENIED', `${text}; run as the user that owns it, which is root`);
    }
    if (code === 'ENOSPC' || code === 28 || /MDB_MAP_FULL|No space left/.test(message)) {
      return new TortieError(
        'STORE_FULL',
        `${text}; make room on its file system, nothing that was stored is lost`,
      );
    }
    if (/MDB_(CORRUPTED|INVALID|PAGE_NOTFOUND|PANIC|VERSION_MISMATCH)|not an LMDB file/.test(message)) {
      return new TortieError(
        'STORE_CORRUPT',
        `${text}; move the folder away, and bring back a copy or begin anew`,
      );
    }
    return new TortieError('STORE_UNAVAILABLE', text, 1, { cause: error });
  }
}

class EmbeddedLease implements Lease {
  readonly id = randomUUID();
  readonly #ttl: number;
  readonly #store: { renew(): Promise<boolean>; revoke(): Promise<void>; lost(): void };
  readonly #callbacks: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(ttl: number, store: { renew(): Promise<boolean>; revoke(): Promise<void>; lost(): void }) {
    this.#ttl = ttl;
    this.#store = store;
  }

  onLost(callback: () => void): void {
    this.#callbacks.push(callback);
  }

  keep(): void {
    this.#timer = setInterval(() => void this.#renew(), (this.#ttl * 1000) / RENEWALS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  revoke(): Promise<void> {
    this.stop();
    return this.#store.revoke();
  }

  async #renew(): Promise<void> {
    // A write that fails is tried again at the next turn; the store says when it was too late.
    if (await this.#store.renew().catch(() => true)) return;
    this.stop();
    this.#store.lost();
    for (const callback of this.#callbacks) callback();
  }
}

const BOOT = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
/** Seconds of CLOCK_MONOTONIC, which all processes of a boot share. */
const now = (): number => Number(process.hrtime.bigint()) / 1e9;
const endOf = (ttl: number): LeaseRow => ({ ends: now() + ttl, boot: BOOT });
const isOver = ({ ends, boot }: LeaseRow): boolean => boot !== BOOT || ends < now();

const leaseLost = (id: string) =>
  new TortieError('STORE_CONFLICT', `lease ${id} is over; its holder was away for too long`);

const conflict = (key: string, wanted: number | null, found: number | null) =>
  new TortieError(
    'STORE_CONFLICT',
    `${key} is ${found === null ? 'not there' : `at revision ${found}`}, not ${wanted === null ? 'new' : `at ${wanted}`}; read it again`,
  );
