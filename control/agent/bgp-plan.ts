/** Who this node speaks BGP with, from the resources. Pure. */
import { isIp6, parseAddress4 } from '../address.ts';
import type { PeerView } from '../api/types.ts';
import type { BfdConfig } from '../bgp/config.ts';
import { secondsOf } from '../resources/fields.ts';
import {
  BGP_PORT,
  type BGPConfiguration,
  type BGPPeer,
  DEFAULT_AS,
  type Node,
  nodeAddress4,
  type Resource,
  tryPeer,
} from '../resources/schema.ts';
import { parseSelector } from '../resources/selector.ts';

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
  readonly bfd?: BfdConfig;
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
  const asOf = (node: Node | undefined) => node?.spec.bgp?.asNumber ?? asNumber;

  const peers = new Map<number, PlannedPeer>();
  const own = self && nodeAddress4(self.spec)?.address;
  // A reflector that is a node itself is told to peer with all, and so with itself.
  const add = (peer: PlannedPeer) => peer.address !== own && peers.set(peer.address, peer);
  const addNode = (node: Node, type: PlannedPeer['type'], more: Pick<PlannedPeer, 'bfd'> = {}) => {
    const at = nodeAddress4(node.spec);
    if (at) add({ address: at.address, port: listenPort, asn: asOf(node), type, ...more });
  };
  if (nodeToNodeMeshEnabled && !(self && isReflector(self))) {
    for (const node of nodes) if (!isReflector(node)) addNode(node, 'node-to-node mesh');
  }
  const ofNodes = new Set(nodes.map((node) => nodeAddress4(node.spec)?.address));
  for (const wanted of ['global', 'node specific'] as const) {
    for (const resource of resources) {
      if (resource.kind !== 'BGPPeer' || typeOf(resource.spec) !== wanted) continue;
      const { spec } = resource;
      const more = bfdOf(spec);
      const isLocal = self !== undefined && isChosen(spec, self);
      if (spec.peerSelector) {
        const remote = parseSelector(spec.peerSelector);
        const isRemote = (node: Node) => remote.matches(node.metadata.labels ?? {});
        // Both ends of such a peering are nodes of ours: the other one peers back.
        const isReversed = self && spec.reversePeering !== 'Manual' && isRemote(self);
        for (const node of nodes) {
          if ((isLocal && isRemote(node)) || (isReversed && isChosen(spec, node)))
            addNode(node, wanted, more);
        }
      } else if (isLocal) {
        const peer = spec.peerIP === undefined ? null : tryPeer(spec.peerIP);
        if (!peer || isIp6(peer.address) || spec.asNumber === undefined) continue;
        const address = parseAddress4(peer.address);
        const usualPort = ofNodes.has(address) ? listenPort : BGP_PORT;
        add({ address, port: peer.port ?? usualPort, asn: spec.asNumber, type: wanted, ...more });
      }
    }
  }
  return { asn: asOf(self), listenPort, peers: [...peers.values()] };
}

function bfdOf({ bfd }: BGPPeer['spec']): Pick<PlannedPeer, 'bfd'> {
  if (!bfd) return {};
  const { minimumSendInterval, minimumRecvInterval, multiplier, multihop } = bfd;
  const msOf = (text: string) => Math.round(secondsOf(text) * 1000);
  return {
    bfd: { minTxMs: msOf(minimumSendInterval), minRxMs: msOf(minimumRecvInterval), multiplier, multihop },
  };
}

/** Reflectors peer with whom BGPPeers say, and are left out of the mesh. */
const isReflector = (node: Node): boolean => Boolean(node.spec.bgp?.routeReflectorClusterID);

const typeOf = ({ node, nodeSelector }: BGPPeer['spec']): PlannedPeer['type'] =>
  node || nodeSelector ? 'node specific' : 'global';

/** Whether a BGPPeer is for a node: by name, by labels, or because it is for all. */
const isChosen = ({ node, nodeSelector }: BGPPeer['spec'], { metadata }: Node): boolean =>
  node ? node === metadata.name : !nodeSelector || parseSelector(nodeSelector).matches(metadata.labels ?? {});

/** The one named "default", as Calico has it. */
function configurationOf(resources: readonly Resource[]): BGPConfiguration['spec'] | undefined {
  return resources.find(
    (resource): resource is BGPConfiguration =>
      resource.kind === 'BGPConfiguration' && resource.metadata.name === 'default',
  )?.spec;
}
