/** What carrying out a request needs of the agent. */
import type { Logger } from 'pino';
import type { Datastore, ResourceKey, Stored } from '../datastore/datastore.ts';
import { TortieError } from '../error.ts';
import type { Resource, WorkloadEndpoint } from '../resources/schema.ts';
import { type Addresses, DelegatedAddresses, isOwnIpam } from './addresses.ts';
import { endpointName } from './names.ts';
import type { PodNamespaces } from './namespaces.ts';
import type { Request } from './request.ts';

/** A pod's port, up. */
export interface PodPort {
  /** Bytes. */
  readonly mtu: number;
}

export interface PodPorts {
  /** Wait until the endpoint's port is up in the namespace that has this inode. Throws a CniError that says why it is not. */
  up(endpoint: WorkloadEndpoint, inode: number): Promise<PodPort>;
  /** Whether it is up there now, or why not. */
  problem(endpoint: WorkloadEndpoint, inode: number): string | null;
  /** Wait until nothing of an endpoint is left that was deleted; no longer than that is worth. */
  gone(name: string): Promise<void>;
}

export interface CniContext {
  readonly nodeName: string;
  readonly store: Datastore;
  readonly ports: PodPorts;
  readonly namespaces: PodNamespaces;
  /** Null: resources are files, and addresses stand in them. */
  readonly ipam: Addresses | null;
  /** What the agent knows of resources, without asking the store. */
  known(): readonly Resource[];
  /** Names of ports that endpoints have or are about to have, before `known` tells of them: by port, the endpoint's name. */
  readonly claims: Map<string, string>;
  /** Why no pod can be served now, or null. */
  unready(): string | null;
  readonly log: Logger;
}

/** Annotation of a WorkloadEndpoint that CNI made: the network that it is attached to. */
export const NETWORK = 'tortie/cni-network';

export const addressesOf = ({ ipam }: CniContext, { config }: Request): Addresses => {
  const type = config.ipam?.type;
  if (!isOwnIpam(type)) return new DelegatedAddresses(type!);
  if (ipam) return ipam;
  throw new TortieError(
    'STORE_READ_ONLY',
    'the datastore is static: pods stand in its files; take "embedded" or "etcd" for CNI',
  );
};

export const keyOfRequest = ({ nodeName }: CniContext, request: Request): ResourceKey => ({
  kind: 'WorkloadEndpoint',
  namespace: request.pod.namespace,
  name: endpointName(nodeName, request.pod, request.containerId, request.ifname),
});

export interface StoredEndpoint extends Stored {
  readonly resource: WorkloadEndpoint;
}

export const isOf = ({ spec }: WorkloadEndpoint, { containerId, ifname }: Request): boolean =>
  spec.containerID === containerId && spec.endpoint === ifname;

/** The endpoint by the name that it should have, whosever it is. */
export async function findByName(context: CniContext, request: Request): Promise<StoredEndpoint | null> {
  return (await context.store.get(keyOfRequest(context, request))) as StoredEndpoint | null;
}

/** The endpoint of this very attachment: by name, or, where the runtime does not say of which pod it is, by container. */
export async function findOwn(context: CniContext, request: Request): Promise<StoredEndpoint | null> {
  const named = await findByName(context, request);
  if (named && isOf(named.resource, request)) return named;
  const known = context.known().find((resource) => {
    if (resource.kind !== 'WorkloadEndpoint' || resource.spec.node !== context.nodeName) return false;
    return isOf(resource, request);
  });
  if (!known) return null;
  const { name, namespace } = known.metadata;
  const stored = await context.store.get({ kind: 'WorkloadEndpoint', name, namespace });
  return stored && isOf(stored.resource as WorkloadEndpoint, request) ? (stored as StoredEndpoint) : null;
}

const TRIES = 10;

/** Delete an endpoint unless it has become another's. True if it is gone by us. */
export async function deleteEndpoint(
  { store }: CniContext,
  { resource }: StoredEndpoint,
  mayDelete: (endpoint: WorkloadEndpoint) => boolean,
): Promise<boolean> {
  const { name, namespace } = resource.metadata;
  const key = { kind: 'WorkloadEndpoint', name, namespace } as const;
  for (let attempt = 1; ; attempt++) {
    const stored = await store.get(key);
    if (!stored || !mayDelete(stored.resource as WorkloadEndpoint)) return false;
    try {
      await store.delete(key, stored.revision);
      return true;
    } catch (error) {
      if (attempt === TRIES || !(error instanceof TortieError) || error.code !== 'STORE_CONFLICT')
        throw error;
    }
  }
}
