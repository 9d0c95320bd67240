/** What goes with a resource that is deleted, as calicoctl has it: a node's pods and addresses, and the blocks of a pool. */
import { containsText } from '../../address.ts';
import { keyOf, type ResourceKey } from '../../datastore/datastore.ts';
import type { OpenStore } from '../../datastore/open.ts';
import { releaseBlock } from '../../ipam/affinity.ts';
import { isEmpty } from '../../ipam/block.ts';
import { TUNNEL_HANDLES } from '../../ipam/handles.ts';
import { openIpam } from '../../ipam/open.ts';

/** Before a resource is deleted. Nothing is done in stores without IPAM. */
export async function cleanUp(store: OpenStore, key: ResourceKey): Promise<void> {
  if (store.keys === null) return;
  if (key.kind === 'Node') await cleanUpNode(store, key.name);
  if (key.kind === 'IPPool') await cleanUpPool(store, key);
}

/** Its pods, the addresses of these and of its tunnels, and its claims to blocks. */
async function cleanUpNode(store: OpenStore, node: string): Promise<void> {
  const ipam = openIpam(store);
  for (const { resource, revision } of await store.resources.list('WorkloadEndpoint', { node })) {
    if (resource.kind !== 'WorkloadEndpoint') continue;
    const addresses = resource.spec.ipNetworks.map((network) => ({ address: network.split('/')[0]! }));
    await ipam.releaseAddresses(addresses);
    await store.resources.delete(keyOf(resource), revision);
  }
  for (const handle of Object.values(TUNNEL_HANDLES)) await ipam.releaseHandle(`${handle}-${node}`);
  await ipam.releaseNode(node);
}

const NODE_AFFINITY = 'host:';

/** Blocks without an address in use go; first nobody gets another address of the pool. Pods keep theirs. */
async function cleanUpPool(store: OpenStore, key: ResourceKey): Promise<void> {
  const stored = await store.resources.get(key);
  if (stored?.resource.kind !== 'IPPool') return;
  const { resource, revision } = stored;
  if (!resource.spec.disabled) {
    await store.resources.put({ ...resource, spec: { ...resource.spec, disabled: true } }, revision);
  }
  for (const block of await openIpam(store).blocks()) {
    const { cidr, affinity } = block;
    if (!containsText(resource.spec.cidr, cidr) || !isEmpty(block) || !affinity?.startsWith(NODE_AFFINITY))
      continue;
    await releaseBlock(store.keys!, affinity.slice(NODE_AFFINITY.length), cidr);
  }
}
