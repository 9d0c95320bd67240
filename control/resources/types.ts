/**
 * The resources of apiVersion projectcalico.org/v3 that tortie acts on, as they are after validation and
 * defaulting (schemas beside this file). Addresses stay text here; only desired.ts turns them into numbers.
 */
export interface Metadata {
  name: string;
  namespace?: string | undefined;
  labels?: Record<string, string> | undefined;
  annotations?: Record<string, string> | undefined;
}
export type EncapMode = 'Always' | 'CrossSubnet' | 'Never';

export interface IPPool {
  kind: 'IPPool';
  metadata: Metadata;
  spec: {
    cidr: string;
    ipipMode: EncapMode;
    vxlanMode: EncapMode;
    blockSize: number;
    natOutgoing: boolean;
    disabled: boolean;
  };
}
export interface Node {
  kind: 'Node';
  metadata: Metadata;
  spec: {
    bgp?:
      | {
          ipv4Address: string;
          asNumber?: number | undefined;
          ipv4IPIPTunnelAddr?: string | undefined;
          routeReflectorClusterID?: string | undefined;
        }
      | undefined;
    ipv4VXLANTunnelAddr?: string | undefined;
    vxlanTunnelMACAddr?: string | undefined;
    /** tortie's addition while blocks come from a file: the blocks that this node owns. */
    blocks: string[];
  };
}
export interface BGPConfiguration {
  kind: 'BGPConfiguration';
  metadata: Metadata;
  spec: { asNumber: number; nodeToNodeMeshEnabled: boolean; listenPort: number };
}
export interface BGPPeer {
  kind: 'BGPPeer';
  metadata: Metadata;
  /** node: only that node has this peer; absent: every node (global). */
  spec: { node?: string | undefined; peerIP: string; asNumber: number; keepaliveTime?: string | undefined };
}
export interface WorkloadEndpoint {
  kind: 'WorkloadEndpoint';
  metadata: Metadata;
  spec: {
    node: string;
    orchestrator: string;
    workload?: string | undefined;
    pod?: string | undefined;
    endpoint: string;
    /** Interface inside the pod. */
    endpointInterface: string;
    /** Calico's host-side interface name; the name of the port in tortie. */
    interfaceName: string;
    /** Network namespace of the pod: a name under /run/netns or a path. tortie's addition. */
    netns: string;
    ipNetworks: string[];
    mac?: string | undefined;
    /** Further prefixes that the pod may send from. */
    allowSpoofedSourcePrefixes: string[];
  };
}
export type Resource = IPPool | Node | BGPConfiguration | BGPPeer | WorkloadEndpoint;
