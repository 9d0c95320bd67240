/** Resources in a store of keys and values, as Calico keeps them in etcd: JSON, under the keys of keys.ts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { TortieError } from '../error.ts';
import { type Kind, type Resource, SCHEMAS } from '../resources/schema.ts';
import {
  type Change,
  type Datastore,
  keyOf,
  keyText,
  type ResourceKey,
  type Scope,
  type Stored,
  type Watching,
} from './datastore.ts';
import { decodeIpamConfig, encodeIpamConfig } from './ipam-config.ts';
import { RESOURCES, resourceKey, resourceKeyOf, resourcePrefix } from './keys.ts';
import type { Entry, KeyValueStore } from './kv.ts';

/** Values that are asked for at a time. */
const FETCHES = 64;
/** Pause before what failed is tried again. */
const RETRY_MS = 1000;
const KINDS = Object.keys(SCHEMAS) as Kind[];

export class ResourceStore implements Datastore {
  readonly description: string;
  readonly #keys: KeyValueStore;
  readonly #endings = new Set<() => void>();

  constructor(keys: KeyValueStore) {
    this.#keys = keys;
    this.description = keys.description;
  }

  async get(key: ResourceKey): Promise<Stored | null> {
    const entry = await this.#keys.get(resourceKey(key));
    return entry && this.#parse(entry);
  }

  async list(kind?: Kind, { node, onInvalid }: Scope = {}): Promise<Stored[]> {
    const kinds = kind === undefined ? KINDS : [kind];
    const listings = await Promise.all(
      kinds.map((one) =>
        one === 'WorkloadEndpoint' && node !== undefined
          ? this.#listOfNode(node)
          : this.#keys.list(resourcePrefix(one)).then(({ entries }) => entries),
      ),
    );
    const all = listings.flat().flatMap((entry) => this.#tryParse(entry, onInvalid) ?? []);
    return all.filter(({ resource }) => isOf(resource, node));
  }

  async put(resource: Resource, revision: number | null): Promise<Stored> {
    const entry = await this.#keys.put(resourceKey(keyOf(resource)), JSON.stringify(encoded(resource)), {
      revision,
    });
    return { resource, revision: entry.revision };
  }

  async delete(key: ResourceKey, revision: number): Promise<void> {
    await this.#keys.delete(resourceKey(key), revision);
  }

  watch(listener: (changes: readonly Change[]) => void, watching: Watching = {}): () => void {
    const watch = new ResourceWatch(this.#keys, listener, watching, (entry) =>
      this.#tryParse(entry, watching.onInvalid),
    );
    this.#endings.add(watch.end);
    return () => {
      this.#endings.delete(watch.end);
      watch.end();
    };
  }

  async close(): Promise<void> {
    for (const end of this.#endings) end();
    this.#endings.clear();
  }

  /** A cluster has a quarter of a million of them: only those whose name may be of the node are fetched. */
  async #listOfNode(node: string): Promise<Entry[]> {
    const wants = (key: string) => mayBeOf(key, node);
    const { entries } = await this.#keys.list(WORKLOADS, { keysOnly: true, wants });
    return fetchOf(
      this.#keys,
      entries.map(({ key }) => key),
    );
  }

  #tryParse(entry: Entry, onInvalid?: (problem: string) => void): Stored | null {
    try {
      return this.#parse(entry);
    } catch (error) {
      onInvalid?.((error as Error).message);
      return null;
    }
  }

  /** Throws STORE_INVALID if the value is not what its key says. */
  #parse({ key, value, revision }: Entry): Stored {
    const place = resourceKeyOf(key);
    if (!place)
      throw new TortieError('STORE_INVALID', `${this.description}: ${key} is no resource of tortie’s`);
    let stored: unknown;
    try {
      stored = JSON.parse(value);
    } catch (error) {
      throw new TortieError('STORE_INVALID', `${keyText(place)} in the store: ${(error as Error).message}`);
    }
    const parsed = SCHEMAS[place.kind].safeParse(decoded(place, stored));
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      const text = `${issue!.path.join('.')}: ${issue!.message}`;
      throw new TortieError('STORE_INVALID', `${keyText(place)} in the store: ${text}; apply it anew`);
    }
    return { resource: parsed.data as Resource, revision };
  }
}

/** Lists, then watches, and begins anew when the store cannot go on from where it was. */
class ResourceWatch {
  readonly #keys: KeyValueStore;
  readonly #listener: (changes: readonly Change[]) => void;
  readonly #watching: Watching;
  readonly #parse: (entry: Entry) => Stored | null;
  /** What the listener knows: revisions by key. */
  readonly #known = new Map<string, number>();
  #stop: (() => void) | null = null;
  #ended = false;

  constructor(
    keys: KeyValueStore,
    listener: (changes: readonly Change[]) => void,
    watching: Watching,
    parse: (entry: Entry) => Stored | null,
  ) {
    this.#keys = keys;
    this.#listener = listener;
    this.#watching = watching;
    this.#parse = parse;
    void this.#run();
  }

  readonly end = (): void => {
    this.#ended = true;
    this.#stop?.();
  };

  async #run(): Promise<void> {
    while (!this.#ended) {
      try {
        const revision = await this.#list();
        if (this.#ended) return;
        this.#watching.onState?.(null);
        this.#watch(revision + 1);
        return;
      } catch (error) {
        if (this.#ended) return;
        this.#watching.onState?.((error as Error).message);
        await sleep(RETRY_MS, undefined, { ref: false });
      }
    }
  }

  /** Tell the difference between what is there and what is known. Resolves with the revision of the list. */
  async #list(): Promise<number> {
    const wants = (key: string) => this.#isWanted(key);
    const { entries, revision } = await this.#keys.list(RESOURCES, { keysOnly: true, wants });
    const gone = new Set(this.#known.keys());
    const changed: string[] = [];
    for (const entry of entries) {
      gone.delete(entry.key);
      if (this.#known.get(entry.key) !== entry.revision) changed.push(entry.key);
    }
    const found = await fetchOf(this.#keys, changed);
    const changes = found.flatMap((entry) => this.#change(entry.key, entry) ?? []);
    for (const key of gone) changes.push(...(this.#change(key, null) ?? []));
    if (changes.length > 0) this.#listener(changes);
    return revision;
  }

  #watch(from: number): void {
    this.#stop = this.#keys.watch(RESOURCES, from, {
      onEvents: (events) => {
        const changes = events
          .filter(({ key, revision }) => this.#isWanted(key) && (this.#known.get(key) ?? 0) < revision)
          .flatMap(({ key, entry }) => this.#change(key, entry) ?? []);
        if (changes.length > 0 && !this.#ended) this.#listener(changes);
      },
      onEnd: (error) => {
        if (this.#ended) return;
        const isCompacted = error instanceof TortieError && error.code === 'STORE_COMPACTED';
        if (!isCompacted) this.#watching.onState?.(error.message);
        void this.#run();
      },
      ...(this.#watching.onState && { onState: this.#watching.onState }),
    });
  }

  #isWanted(key: string): boolean {
    const { node } = this.#watching;
    return node === undefined || !key.startsWith(WORKLOADS) || mayBeOf(key, node);
  }

  /** Note a change; what the listener is to know of it, if anything. */
  #change(key: string, entry: Entry | null): Change[] | null {
    const place = resourceKeyOf(key);
    if (!place) return null;
    let stored = entry && this.#parse(entry);
    if (stored && !isOf(stored.resource, this.#watching.node)) stored = null;
    const wasKnown = this.#known.has(key);
    if (entry) this.#known.set(key, entry.revision);
    else this.#known.delete(key);
    // What is not ours to see, or cannot be read, is as if it were not there.
    return stored || wasKnown ? [{ key: place, stored }] : null;
  }
}

/** Whether a resource is in the scope of a node. */
const isOf = (resource: Resource, node: string | undefined): boolean =>
  node === undefined || resource.kind !== 'WorkloadEndpoint' || resource.spec.node === node;

const WORKLOADS = resourcePrefix('WorkloadEndpoint');

/**
 * Whether a WorkloadEndpoint may be of the node. Calico names them NODE-ORCHESTRATOR-POD-ENDPOINT, dashes within a part
 * doubled; of one with another name only its value tells.
 */
function mayBeOf(key: string, node: string): boolean {
  const parts = key.slice(key.lastIndexOf('/') + 1).split(/(?<!-)-(?!-)/);
  return parts.length < 4 || parts[0]!.replaceAll('--', '-') === node;
}

/** The entries of keys, those that are gone left out. */
async function fetchOf(keys: KeyValueStore, wanted: readonly string[]): Promise<Entry[]> {
  const found: Entry[] = [];
  for (let at = 0; at < wanted.length; at += FETCHES) {
    const entries = await Promise.all(wanted.slice(at, at + FETCHES).map((key) => keys.get(key)));
    for (const entry of entries) if (entry) found.push(entry);
  }
  return found;
}

/** What stands in the store for a resource. */
const encoded = (resource: Resource): unknown =>
  resource.kind === 'IPAMConfig' ? encodeIpamConfig(resource) : resource;

/** The resource, to be checked, that a stored value stands for. */
const decoded = ({ kind }: ResourceKey, stored: unknown): unknown =>
  kind === 'IPAMConfig' ? decodeIpamConfig(stored) : stored;
