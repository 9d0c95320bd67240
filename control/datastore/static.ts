/** A read-only store from a folder or a multi-document file. `reload` reads it anew; a bad file changes nothing. */
import { isDeepStrictEqual } from 'node:util';
import { TortieError } from '../error.ts';
import { loadResources } from '../resources/load.ts';
import type { Kind } from '../resources/schema.ts';
import { type Change, type Datastore, keyOf, keyText, type ResourceKey, type Stored } from './datastore.ts';

export class StaticDatastore implements Datastore {
  readonly description: string;
  readonly #path: string;
  #stored: Map<string, Stored>;
  #revision = 1;
  readonly #listeners = new Set<(changes: readonly Change[]) => void>();

  /** Throws a ConfigError with everything that is wrong with the files. */
  constructor(path: string) {
    this.#path = path;
    this.description = `static ${path}`;
    this.#stored = this.#read();
  }

  async get(key: ResourceKey): Promise<Stored | null> {
    return this.#stored.get(keyText(key)) ?? null;
  }

  async list(kind?: Kind): Promise<Stored[]> {
    return [...this.#stored.values()].filter((item) => kind === undefined || item.resource.kind === kind);
  }

  put(): Promise<Stored> {
    return Promise.reject(this.#readOnly());
  }

  delete(): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  watch(listener: (changes: readonly Change[]) => void): () => void {
    this.#listeners.add(listener);
    const all = [...this.#stored.values()].map((stored) => ({ key: keyOf(stored.resource), stored }));
    if (all.length > 0) setImmediate(() => this.#listeners.has(listener) && listener(all));
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#listeners.clear();
  }

  /** Read the files again, swap if they are sound, and tell the watchers the difference. Throws a ConfigError. */
  reload(): readonly Change[] {
    this.#revision++;
    const before = this.#stored;
    const after = this.#read();
    const changes: Change[] = [];
    for (const [text, stored] of after) {
      const old = before.get(text);
      if (old && isDeepStrictEqual(old.resource, stored.resource)) after.set(text, old);
      else changes.push({ key: keyOf(stored.resource), stored });
    }
    for (const [text, { resource }] of before) {
      if (!after.has(text)) changes.push({ key: keyOf(resource), stored: null });
    }
    this.#stored = after;
    if (changes.length > 0) for (const listener of this.#listeners) listener(changes);
    return changes;
  }

  #read(): Map<string, Stored> {
    const stored = loadResources(this.#path).map((resource) => ({ resource, revision: this.#revision }));
    return new Map(stored.map((item) => [keyText(keyOf(item.resource)), item]));
  }

  #readOnly(): TortieError {
    return new TortieError(
      'STORE_READ_ONLY',
      `the static store at ${this.#path} is read-only: edit the file and send the agent SIGHUP`,
    );
  }
}
