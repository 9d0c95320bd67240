/** BGPConfiguration: what all BGP sessions have in common. */
import { z } from 'zod';
import {
  address4,
  address6,
  anyPrefix,
  asNumber,
  community,
  communityOrName,
  durationWithin,
  inert,
  password,
  port,
  resource,
} from './fields.ts';

/** Where no BGPConfiguration says otherwise. */
export const DEFAULT_AS = 64512;
export const BGP_PORT = 179;

const priority = z.int().min(1).max(2147483646);
const services = z.array(z.strictObject({ cidr: anyPrefix }));

export const bgpConfiguration = resource(
  'BGPConfiguration',
  z.strictObject({
    asNumber: asNumber.optional().describe(`AS of all nodes that name no other. Default: ${DEFAULT_AS}.`),
    nodeToNodeMeshEnabled: z
      .boolean()
      .optional()
      .meta({ description: 'Every node peers with every other.', default: true }),
    listenPort: port.optional().meta({ description: 'TCP port of all nodes.', default: BGP_PORT }),
    logSeverityScreen: inert(z.string(), 'the level of the log is a setting of the agent', 'Info', ''),
    bindMode: z.enum(['None', 'NodeIP']).optional().meta({
      description: 'NodeIP: BGP listens on the addresses of the node; None: on all.',
      default: 'NodeIP',
    }),
    nodeMeshPassword: password.optional().describe('Password (TCP MD5) of the sessions of the mesh.'),
    nodeMeshMaxRestartTime: durationWithin(0, 4095, 'at most 4095s').optional().meta({
      description: 'How long peers of the mesh keep routes of a node that restarts.',
      default: '120s',
    }),
    communities: z
      .array(z.strictObject({ name: z.string(), value: community }))
      .optional()
      .describe('Names for communities, for prefixAdvertisements.'),
    prefixAdvertisements: z
      .array(z.strictObject({ cidr: anyPrefix, communities: z.array(communityOrName) }))
      .optional()
      .describe('Communities, by name or value, of what nodes announce of their own within a CIDR.'),
    serviceClusterIPs: services
      .optional()
      .describe('CIDRs of services that every node announces as a whole.'),
    serviceExternalIPs: services.optional().describe('The same, of external addresses.'),
    serviceLoadBalancerIPs: services.optional().describe('The same, of load balancers.'),
    serviceLoadBalancerAggregation: inert(
      z.enum(['Enabled', 'Disabled']),
      'addresses of services are announced by whole CIDRs only',
      'Enabled',
    ),
    ignoredInterfaces: inert(z.array(z.string()), 'routes of interfaces are not announced'),
    localWorkloadPeeringIPV4: inert(address4, 'pods do not peer'),
    localWorkloadPeeringIPV6: inert(address6, 'pods do not peer'),
    programClusterRoutes: inert(z.enum(['Enabled', 'Disabled']), 'each pool’s mode says whose routes count'),
    ipv4NormalRoutePriority: priority.optional().meta({
      description: 'Metric of routes; what is left of 2147483647 is their LOCAL_PREF.',
      default: 1024,
    }),
    ipv6NormalRoutePriority: priority.optional().meta({ description: 'The same for IPv6.', default: 1024 }),
  }),
);

export type BGPConfiguration = z.infer<typeof bgpConfiguration>;
