/** What the writing verbs do with one resource: checks, compare-and-swap, and calicoctl's errors. */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { type Datastore, keyOf, type ResourceKey, type Stored } from '../../datastore/datastore.ts';
import { TortieError } from '../../error.ts';
import { checkWrite, HELD_AGAINST } from '../../resources/checks.ts';
import type { Resource } from '../../resources/schema.ts';

export type Outcome = 'created' | 'updated' | 'unchanged' | 'deleted' | 'skipped';

export interface WriteOptions {
  readonly store: Datastore;
  /** Do everything but write. */
  readonly dryRun: boolean;
  readonly now: Date;
}

/** Tries of an update that does not say which revision it is of. */
const MAX_TRIES = 5;

/** "IPPool(one)", "WorkloadEndpoint(default/web)". */
export const nameOf = ({ kind, namespace, name }: ResourceKey): string =>
  `${kind}(${namespace === undefined ? '' : `${namespace}/`}${name})`;

export const missing = (key: ResourceKey): TortieError =>
  new TortieError('RESOURCE_MISSING', `resource does not exist: ${nameOf(key)}`);

/** Create a resource that is not there yet. Throws RESOURCE_EXISTS. */
export async function create(given: Resource, { store, dryRun, now }: WriteOptions): Promise<Outcome> {
  const key = keyOf(given);
  const exists = () => new TortieError('RESOURCE_EXISTS', `resource already exists: ${nameOf(key)}`);
  if (await store.get(key)) throw exists();
  const { name, namespace, labels, annotations } = given.metadata;
  const metadata = {
    name,
    namespace,
    labels,
    annotations,
    uid: randomUUID(),
    creationTimestamp: timeText(now),
  };
  const resource = withMetadata(given, metadata);
  await check(store, resource, null);
  if (dryRun) return 'created';
  await store.put(resource, null).catch((error: unknown) => {
    throw isConflict(error) ? exists() : error;
  });
  return 'created';
}

/**
 * Replace a resource that is there. If it names its resourceVersion, only that one is replaced, labels and annotations
 * included; else the latest, whose labels and annotations stay where no others are given. Throws RESOURCE_MISSING, RESOURCE_CONFLICT.
 */
export async function replace(given: Resource, options: WriteOptions): Promise<Outcome> {
  const { resourceVersion } = given.metadata;
  return change(keyOf(given), options, (stored) => {
    if (!resourceVersion) {
      const { labels, annotations } = stored.resource.metadata;
      return withMetadata(given, {
        ...given.metadata,
        labels: { ...labels, ...given.metadata.labels },
        annotations: { ...annotations, ...given.metadata.annotations },
      });
    }
    if (resourceVersion === String(stored.revision)) return given;
    throw outOfDate(keyOf(given), resourceVersion, stored.revision);
  });
}

/** Create, or replace what is there. */
export async function apply(given: Resource, options: WriteOptions): Promise<Outcome> {
  try {
    return await create(given, options);
  } catch (error) {
    if (!(error instanceof TortieError) || error.code !== 'RESOURCE_EXISTS') throw error;
    return replace(given, options);
  }
}

/** Replace a resource by what `edit` makes of it. */
export async function change(
  key: ResourceKey,
  { store, dryRun }: WriteOptions,
  edit: (stored: Stored) => Resource,
): Promise<Outcome> {
  for (let tries = 1; ; tries++) {
    const stored = await store.get(key);
    if (!stored) throw missing(key);
    const edited = edit(stored);
    const { labels, annotations, resourceVersion } = edited.metadata;
    // Its identity is the store's to say.
    const resource = withMetadata(edited, { ...stored.resource.metadata, labels, annotations });
    await check(store, resource, stored.resource);
    if (isDeepStrictEqual(resource, stored.resource)) return 'unchanged';
    if (dryRun) return 'updated';
    try {
      await store.put(resource, stored.revision);
      return 'updated';
    } catch (error) {
      if (!isConflict(error)) throw error;
      if (resourceVersion || tries === MAX_TRIES) throw outOfDate(key, String(stored.revision), null);
    }
  }
}

/** Throws RESOURCE_MISSING. */
export async function remove(key: ResourceKey, { store, dryRun }: WriteOptions): Promise<Outcome> {
  for (let tries = 1; ; tries++) {
    const stored = await store.get(key);
    if (!stored) throw missing(key);
    if (dryRun) return 'deleted';
    try {
      await store.delete(key, stored.revision);
      return 'deleted';
    } catch (error) {
      if (!isConflict(error) || tries === MAX_TRIES) throw error;
    }
  }
}

async function check(store: Datastore, resource: Resource, previous: Resource | null): Promise<void> {
  const lists = await Promise.all(HELD_AGAINST[resource.kind].map((kind) => store.list(kind)));
  checkWrite(
    resource,
    previous,
    lists.flat().map((stored) => stored.resource),
  );
}

/** What is undefined, or an empty map, is left out. */
const withMetadata = (resource: Resource, metadata: object): Resource => {
  const isSaid = (part: unknown) =>
    part !== undefined && !(typeof part === 'object' && part !== null && Object.keys(part).length === 0);
  return {
    ...resource,
    metadata: Object.fromEntries(Object.entries(metadata).filter(([, part]) => isSaid(part))),
  } as Resource;
};

const isConflict = (error: unknown): boolean =>
  error instanceof TortieError && error.code === 'STORE_CONFLICT';

function outOfDate(key: ResourceKey, given: string, latest: number | null): TortieError {
  const versions =
    latest === null ? `'${given}' is out of date` : `'${given}' is out of date (latest: ${latest})`;
  return new TortieError(
    'RESOURCE_CONFLICT',
    `update conflict: ${nameOf(key)}: Resource version ${versions}. Update the resource YAML/JSON in order to make changes: get it anew, or leave out resourceVersion`,
  );
}

/** As Kubernetes has it: whole seconds. */
const timeText = (time: Date): string => time.toISOString().replace(/\.\d+Z$/, 'Z');
