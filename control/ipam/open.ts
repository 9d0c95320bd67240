/** IPAM over a store and the resources in it. */
import type { Datastore } from '../datastore/datastore.ts';
import type { OpenStore } from '../datastore/open.ts';
import { TortieError } from '../error.ts';
import { type Kind, MAX_BLOCKS_PER_HOST, type ResourceOf } from '../resources/schema.ts';
import { parseSelector } from '../resources/selector.ts';
import { Ipam, type IpamOptions } from './ipam.ts';

/** The one IPAMConfig that counts. */
export const IPAM_CONFIG_NAME = 'default';

async function all<K extends Kind>(resources: Datastore, kind: K): Promise<ResourceOf<K>[]> {
  return (await resources.list(kind)).map(({ resource }) => resource as ResourceOf<K>);
}

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
      all(resources, 'IPPool'),
      resources.get({ kind: 'Node', name: node }),
    ]);
    const labels = found?.resource.metadata.labels ?? {};
    return stored.filter(({ spec }) => parseSelector(spec.nodeSelector).matches(labels));
  };
  const reserved = async () =>
    (await all(resources, 'IPReservation')).flatMap(({ spec }) => spec.reservedCIDRs);
  const config = async () => {
    const stored = await resources.get({ kind: 'IPAMConfig', name: IPAM_CONFIG_NAME });
    if (stored?.resource.kind !== 'IPAMConfig') return null;
    const { spec } = stored.resource;
    return { ...spec, maxBlocksPerHost: spec.maxBlocksPerHost || MAX_BLOCKS_PER_HOST };
  };
  return new Ipam(keys, pools, { ...options, reserved, config });
}
