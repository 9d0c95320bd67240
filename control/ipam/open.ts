/** IPAM over a store and the resources in it. */
import type { OpenStore } from '../datastore/open.ts';
import { TortieError } from '../error.ts';
import type { IPPool } from '../resources/schema.ts';
import { parseSelector } from '../resources/selector.ts';
import { Ipam, type IpamOptions } from './ipam.ts';
import { reservedCidrs } from './pools.ts';

/** Throws STORE_READ_ONLY where addresses stand in files. */
export function openIpam(
  { resources, keys }: OpenStore,
  options: Pick<IpamOptions, 'cooldownMs'> = {},
): Ipam {
  if (!keys) {
    throw new TortieError(
      'STORE_READ_ONLY',
      `${resources.description} holds addresses as they are written there; IPAM takes datastore.kind embedded or etcd`,
    );
  }
  const pools = async (node: string) => {
    const [stored, found] = await Promise.all([
      resources.list('IPPool'),
      resources.get({ kind: 'Node', name: node }),
    ]);
    const labels = found?.resource.metadata.labels ?? {};
    const all = stored.map(({ resource }) => resource as IPPool);
    return all.filter(({ spec }) => parseSelector(spec.nodeSelector).matches(labels));
  };
  return new Ipam(keys, pools, { ...options, reserved: () => reservedCidrs(resources) });
}
