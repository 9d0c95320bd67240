/** The one door to where resources are kept: files (static.ts), or a store of keys and values (resource-store.ts). */
import type { Kind, Resource } from '../resources/schema.ts';

export interface ResourceKey {
  readonly kind: Kind;
  readonly name: string;
  readonly namespace?: string | undefined;
}

export interface Stored {
  readonly resource: Resource;
  /** Grows with every change of the resource; compare-and-swap compares it. */
  readonly revision: number;
}

/** What changed: `stored` is null when the resource is gone. */
export interface Change {
  readonly key: ResourceKey;
  readonly stored: Stored | null;
}

export interface Scope {
  /** WorkloadEndpoints of this node only, all of other kinds. */
  readonly node?: string;
  /** A stored value is no resource that we know; it is left out. */
  readonly onInvalid?: (problem: string) => void;
}

export interface Watching extends Scope {
  /** What the store has is out of reach (why), or no longer (null). */
  readonly onState?: (problem: string | null) => void;
}

export interface Datastore {
  /** What this store is, for people: "static /etc/tortie/resources". */
  readonly description: string;
  get(key: ResourceKey): Promise<Stored | null>;
  list(kind?: Kind, scope?: Scope): Promise<Stored[]>;
  /** Create (revision null) or replace a resource whose revision is still the given one. */
  put(resource: Resource, revision: number | null): Promise<Stored>;
  delete(key: ResourceKey, revision: number): Promise<void>;
  /** Calls back with all there is, unless that is nothing, and after every change, until the returned function is called. */
  watch(listener: (changes: readonly Change[]) => void, watching?: Watching): () => void;
  close(): Promise<void>;
}

export const keyOf = (resource: Resource): ResourceKey => ({
  kind: resource.kind,
  name: resource.metadata.name,
  namespace: resource.metadata.namespace,
});

export const keyText = (key: ResourceKey): string =>
  `${key.kind} ${key.namespace ? `${key.namespace}/` : ''}${key.name}`;
