/** BGPConfiguration: what all BGP sessions have in common. */
import { z } from 'zod';
import {
  address4,
  address6,
  anyPrefix,
  asNumber,
  duration,
  inert,
  password,
  port,
  resource,
} from './fields.ts';

/** Where no BGPConfiguration says otherwise. */
export const DEFAULT_AS = 64512;
export const BGP_PORT = 179;

const community = z.string().regex(/^\d{1,10}:\d{1,10}(:\d{1,10})?$/, {
  error: 'must be a community such as 64512:100, or a large one such as 64512:100:7',
});
const services = z.array(z.strictObject({ cidr: anyPrefix }));
const NO_SERVICES = 'service addresses are not announced';

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
    bindMode: inert(z.enum(['None', 'NodeIP']), 'BGP listens on the address of the node', 'NodeIP'),
    nodeMeshPassword: inert(password, 'sessions have no passwords here'),
    nodeMeshMaxRestartTime: inert(duration, 'restart.staleTime of the settings says how long'),
    communities: inert(
      z.array(z.strictObject({ name: z.string(), value: community })),
      'communities are not added',
    ),
    prefixAdvertisements: inert(
      z.array(z.strictObject({ cidr: anyPrefix, communities: z.array(z.string()) })),
      'communities are not added',
    ),
    serviceClusterIPs: inert(services, NO_SERVICES),
    serviceExternalIPs: inert(services, NO_SERVICES),
    serviceLoadBalancerIPs: inert(services, NO_SERVICES),
    serviceLoadBalancerAggregation: inert(z.enum(['Enabled', 'Disabled']), NO_SERVICES, 'Enabled'),
    ignoredInterfaces: inert(z.array(z.string()), 'routes of interfaces are not announced'),
    localWorkloadPeeringIPV4: inert(address4, 'pods do not peer'),
    localWorkloadPeeringIPV6: inert(address6, 'pods do not peer'),
    programClusterRoutes: inert(z.enum(['Enabled', 'Disabled']), 'each pool’s mode says whose routes count'),
    ipv4NormalRoutePriority: inert(z.int().min(1).max(2147483646), 'routes have one priority'),
    ipv6NormalRoutePriority: inert(z.int().min(1).max(2147483646), 'routes have one priority'),
  }),
);

export type BGPConfiguration = z.infer<typeof bgpConfiguration>;
