/** Who this node speaks BGP with, from the resources. Pure. */
import { isIp6, parseAddress4 } from '../address.ts';
import type { PeerView } from '../api/types.ts';
import {
  BGP_PORT,
  type BGPConfiguration,
  DEFAULT_AS,
  nodeAddress4,
  type Resource,
  tryPeer,
} from '../resources/schema.ts';

export interface BgpPlan {
  readonly asn: number;
  readonly listenPort: number;
  readonly peers: readonly PlannedPeer[];
}
export interface PlannedPeer {
  /** int32, host order. */
  readonly address: number;
  readonly port: number;
  readonly asn: number;
  readonly type: PeerView['type'];
}

/**
 * The mesh with all other nodes if it is on, and the BGPPeers for this node. Of several for one address the
 * most specific counts: a BGPPeer for this node, then a global one, then the mesh.
 */
export function bgpPlan(nodeName: string, resources: readonly Resource[]): BgpPlan {
  const configuration = configurationOf(resources);
  const { asNumber = DEFAULT_AS, listenPort = BGP_PORT, nodeToNodeMeshEnabled = true } = configuration ?? {};
  const nodes = resources.filter((resource) => resource.kind === 'Node');
  const self = nodes.find((node) => node.metadata.name === nodeName);
  const own = self && nodeAddress4(self.spec);
  const asn = self?.spec.bgp?.asNumber ?? asNumber;

  const peers = new Map<number, PlannedPeer>();
  for (const node of nodeToNodeMeshEnabled ? nodes : []) {
    const at = nodeAddress4(node.spec);
    if (node === self || !at) continue;
    const peerAsn = node.spec.bgp?.asNumber ?? asNumber;
    peers.set(at.address, {
      address: at.address,
      port: listenPort,
      asn: peerAsn,
      type: 'node-to-node mesh',
    });
  }
  for (const type of ['global', 'node specific'] as const) {
    for (const resource of resources) {
      if (resource.kind !== 'BGPPeer') continue;
      if (resource.spec.node !== (type === 'global' ? undefined : nodeName)) continue;
      const peer = resource.spec.peerIP === undefined ? null : tryPeer(resource.spec.peerIP);
      const peerAsn = resource.spec.asNumber;
      if (!peer || isIp6(peer.address) || peerAsn === undefined) continue;
      const address = parseAddress4(peer.address);
      // A reflector that is a node itself is told to peer with all, and so with itself.
      if (address === own?.address) continue;
      peers.set(address, { address, port: peer.port ?? BGP_PORT, asn: peerAsn, type });
    }
  }
  return { asn, listenPort, peers: [...peers.values()] };
}

/** The one named "default", as Calico has it. */
function configurationOf(resources: readonly Resource[]): BGPConfiguration['spec'] | undefined {
  return resources.find(
    (resource): resource is BGPConfiguration =>
      resource.kind === 'BGPConfiguration' && resource.metadata.name === 'default',
  )?.spec;
}
