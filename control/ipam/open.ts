/** IPAM over a store and the resources in it. */
import type { Datastore } from '../datastore/datastore.ts';
import type { OpenStore } from '../datastore/open.ts';
import { TortieError } from '../error.ts';
import type { Kind, ResourceOf } from '../resources/schema.ts';
import { parseSelector } from '../resources/selector.ts';
import { Ipam } from './ipam.ts';

async function all<K extends Kind>(resources: Datastore, kind: K): Promise<ResourceOf<K>[]> {
  return (await resources.list(kind)).map(({ resource }) => resource as ResourceOf<K>);
}

/** Throws STORE_READ_ONLY where addresses stand in files. */
export function openIpam({ resources, keys }: OpenStore): Ipam {
  if (!keys) {
    throw new TortieError(
      'STORE_READ_ONLY',
      `${resources.description} holds addresses as they are written there; IPAM takes datastore.kind embedded or etcd`,
    );
  }
  const pools = async (node: string) => {
    const [stored, found] = await Promise.all([
      all(resources, 'IPPool'),
      resources.get({ kind: 'Node', name: node }),
    ]);
    const labels = found?.resource.metadata.labels ?? {};
    return stored.filter(({ spec }) => parseSelector(spec.nodeSelector).matches(labels));
  };
  const reserved = async () =>
    (await all(resources, 'IPReservation')).flatMap(({ spec }) => spec.reservedCIDRs);
  return new Ipam(keys, pools, { reserved });
}
