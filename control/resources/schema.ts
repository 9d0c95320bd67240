/**
 * The resources of apiVersion projectcalico.org/v3: Calico's names and defaults, one file a kind, and additions of
 * ours: Node.spec.blocks, BGPPeer.spec.bfd and spec.session, WorkloadEndpoint.spec.netns and spec.queues.
 */
import { type BGPConfiguration, bgpConfiguration } from './bgp-configuration.ts';
import { type BGPFilter, bgpFilter } from './bgp-filter.ts';
import { type BGPPeer, bgpPeer } from './bgp-peer.ts';
import { type FelixConfiguration, felixConfiguration } from './felix-configuration.ts';
import { type IPPool, ipPool } from './ip-pool.ts';
import { type IPAMConfig, type IPReservation, ipamConfig, ipReservation } from './ipam.ts';
import { type Node, node } from './node.ts';
import { type WorkloadEndpoint, workloadEndpoint } from './workload-endpoint.ts';

export const SCHEMAS = {
  IPPool: ipPool,
  Node: node,
  BGPConfiguration: bgpConfiguration,
  BGPPeer: bgpPeer,
  BGPFilter: bgpFilter,
  WorkloadEndpoint: workloadEndpoint,
  FelixConfiguration: felixConfiguration,
  IPAMConfig: ipamConfig,
  IPReservation: ipReservation,
} as const;

export type Kind = keyof typeof SCHEMAS;
export const KINDS = Object.keys(SCHEMAS) as [Kind, ...Kind[]];

export type Resource =
  | IPPool
  | Node
  | BGPConfiguration
  | BGPPeer
  | BGPFilter
  | WorkloadEndpoint
  | FelixConfiguration
  | IPAMConfig
  | IPReservation;
export type ResourceOf<K extends Kind> = Extract<Resource, { kind: K }>;

/** Of these names may be one in each namespace. */
export const isNamespaced = (kind: Kind): boolean => kind === 'WorkloadEndpoint';

export { BGP_PORT, type BGPConfiguration, DEFAULT_AS } from './bgp-configuration.ts';
export type { BGPFilter } from './bgp-filter.ts';
export { type BGPPeer, tryPeer } from './bgp-peer.ts';
export { type FelixConfiguration, felixSettings } from './felix-configuration.ts';
export { API_VERSION, secondsOf } from './fields.ts';
export { blockSizeOf, type EncapMode, type IPPool } from './ip-pool.ts';
export { type IPAMConfig, type IPReservation, MAX_BLOCKS_PER_HOST } from './ipam.ts';
export { addressTexts, type Node, nodeAddress4, nodeAddress6 } from './node.ts';
export type { WorkloadEndpoint } from './workload-endpoint.ts';
