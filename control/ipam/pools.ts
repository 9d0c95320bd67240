/** Which pools a node takes addresses from: by their selectors, uses and modes, as resources say. */
import type { Datastore } from '../datastore/datastore.ts';
import type { IPPool, ResourceOf } from '../resources/schema.ts';
import { parseSelector } from '../resources/selector.ts';

export interface Wish {
  readonly node: string;
  readonly use: IPPool['spec']['allowedUses'][number];
  /** Names or CIDRs: then these alone, also those that are given by name only, whatever their selectors say. */
  readonly named?: readonly string[];
}

/** In the order in which they are to be tried. Those that are disabled stay among them: IPAM says so. */
export async function poolsFor(store: Datastore, { node, use, named }: Wish): Promise<IPPool[]> {
  const [all, self] = await Promise.all([listOf(store, 'IPPool'), store.get({ kind: 'Node', name: node })]);
  const labels = self?.resource.metadata.labels ?? {};
  return all.filter(({ metadata, spec }) => {
    if (!spec.allowedUses.includes(use)) return false;
    if (named) return named.includes(metadata.name) || named.includes(spec.cidr);
    return spec.assignmentMode === 'Automatic' && parseSelector(spec.nodeSelector).matches(labels);
  });
}

/** CIDRs that are not to be handed out. */
export async function reservedCidrs(store: Datastore): Promise<string[]> {
  return (await listOf(store, 'IPReservation')).flatMap(({ spec }) => spec.reservedCIDRs);
}

async function listOf<K extends 'IPPool' | 'IPReservation'>(
  store: Datastore,
  kind: K,
): Promise<ResourceOf<K>[]> {
  return (await store.list(kind)).map(({ resource }) => resource as ResourceOf<K>);
}
