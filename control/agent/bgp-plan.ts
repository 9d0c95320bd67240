/** Who this node speaks BGP with, from the resources. Pure. */
import { parseAddress4, tryInterface4 } from '../address.ts';
import type { PeerView } from '../api/types.ts';
import type { BGPConfiguration, Resource } from '../resources/schema.ts';

const DEFAULT_AS = 64512;
const BGP_PORT = 179;

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
  const own = self?.spec.bgp && tryInterface4(self.spec.bgp.ipv4Address);
  const asn = self?.spec.bgp?.asNumber ?? asNumber;

  const peers = new Map<number, PlannedPeer>();
  for (const node of nodeToNodeMeshEnabled ? nodes : []) {
    const at = node.spec.bgp && tryInterface4(node.spec.bgp.ipv4Address);
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
      const [host, port] = resource.spec.peerIP.split(':');
      const address = parseAddress4(host!);
      // A reflector that is a node itself is told to peer with all, and so with itself.
      if (address === own?.address) continue;
      peers.set(address, { address, port: Number(port ?? BGP_PORT), asn: resource.spec.asNumber, type });
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
