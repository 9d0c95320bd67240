/**
 * The resources of apiVersion projectcalico.org/v3 that tortie acts on: Calico's names and defaults, and three
 * additions of ours while addresses come from a file: Node.spec.blocks, WorkloadEndpoint.spec.netns and spec.queues.
 */
import { z } from 'zod';
import {
  isIp6,
  tryAddress4,
  tryAddress6,
  tryInterface4,
  tryInterface6,
  tryMac,
  tryPrefix4,
  tryPrefix6,
} from '../address.ts';

export const API_VERSION = 'projectcalico.org/v3';

const refined = (accepts: (text: string) => unknown, wanted: string) =>
  z.string().refine((text) => accepts(text) !== null, { error: `must be ${wanted}` });

/** The address of "192.0.2.9" or "192.0.2.9:1179"; null if it is neither. */
function tryPeer(text: string): number | null {
  const [host, port = '179', ...rest] = text.split(':');
  const isPort = /^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65535;
  return rest.length === 0 && isPort ? tryAddress4(host!) : null;
}

const address = refined(tryAddress4, 'an IPv4 address such as 192.0.2.1');
const interfaceAddress = refined(tryInterface4, 'an IPv4 address with a prefix length such as 192.0.2.1/24');
const address6 = refined(tryAddress6, 'an IPv6 address such as 2001:db8::1');
const interfaceAddress6 = refined(
  tryInterface6,
  'an IPv6 address with a prefix length such as 2001:db8::1/64',
);
/** Of either family. */
const anyPrefix = refined(
  (text) => (isIp6(text) ? tryPrefix6(text) : tryPrefix4(text)),
  'an IP prefix without host bits such as 10.65.0.0/16 or fd65::/48',
);
const mac = refined(tryMac, 'a MAC address such as 66:12:34:56:78:9a');
const asNumber = z.int().min(1).max(4294967295);
const deviceName = z
  .string()
  .regex(/^[^\s/:]{1,15}$/, { error: 'must be an interface name: 1 to 15 characters, no space, "/" or ":"' });
const encapMode = z.enum(['Always', 'CrossSubnet', 'Never']);

const metadata = z.strictObject({
  name: z.string().min(1).max(253),
  namespace: z.string().min(1).max(63).optional(),
  labels: z.record(z.string(), z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});

/** A resource of one kind. */
const resource = <K extends string, S extends z.ZodType>(kind: K, spec: S) =>
  z.strictObject({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal(kind),
    metadata,
    spec,
  });

const ipPool = resource(
  'IPPool',
  z.strictObject({
    cidr: anyPrefix.describe('Addresses of the pool, IPv4 or IPv6. Pools do not overlap.'),
    ipipMode: encapMode
      .default('Never')
      .describe('IPIP to other nodes, IPv4 only; CrossSubnet: only to those outside the subnet of the node.'),
    vxlanMode: encapMode.default('Never').describe('VXLAN, likewise. One of both modes is Never.'),
    blockSize: z
      .int()
      .min(20)
      .max(128)
      .optional()
      .describe('Prefix length of the blocks. Default: 26, of IPv6 122.'),
    natOutgoing: z.boolean().default(false).describe('Accepted with a warning: NAT is not built.'),
    disabled: z
      .boolean()
      .default(false)
      .describe(
        'True: opens no tunnel and lowers no MTU by itself; its routes still leave as its mode says.',
      ),
  }),
);

const node = resource(
  'Node',
  z.strictObject({
    bgp: z
      .strictObject({
        ipv4Address: interfaceAddress.describe('Address of the node, with the length of its subnet.'),
        ipv6Address: interfaceAddress6
          .optional()
          .describe('IPv6 address of the node, where unencapsulated IPv6 goes to.'),
        asNumber: asNumber.optional().describe('AS of the node, if it is not that of BGPConfiguration.'),
        ipv4IPIPTunnelAddr: address.optional().describe('Address of the host device, for IPIP pools.'),
        routeReflectorClusterID: address
          .optional()
          .describe('Accepted with a warning: tortie is a client of reflectors, not one.'),
      })
      .optional(),
    ipv4VXLANTunnelAddr: address.optional().describe('Address of the host device, for VXLAN pools.'),
    ipv6VXLANTunnelAddr: address6
      .optional()
      .describe('IPv6 address of the host device, and source of ICMPv6 errors.'),
    vxlanTunnelMACAddr: mac.optional().describe('MAC of the VTEP. Default: made from the name of the node.'),
    blocks: z.array(anyPrefix).default([]).describe('Blocks of the node: an addition of tortie’s.'),
  }),
);

const bgpConfiguration = resource(
  'BGPConfiguration',
  z.strictObject({
    asNumber: asNumber.default(64512).describe('AS of all nodes that name no other.'),
    nodeToNodeMeshEnabled: z.boolean().default(true).describe('Every node peers with every other.'),
    listenPort: z.int().min(1).max(65535).default(179).describe('TCP port of all nodes.'),
  }),
);

const bgpPeer = resource(
  'BGPPeer',
  z.strictObject({
    node: z.string().min(1).optional().describe('The node that peers. Default: all nodes.'),
    peerIP: refined(tryPeer, 'an IPv4 address, with :port if it is not 179').describe(
      'Address of the peer, with :port if it is not 179.',
    ),
    asNumber: asNumber.describe('AS of the peer.'),
  }),
);

const workloadEndpoint = resource(
  'WorkloadEndpoint',
  z.strictObject({
    node: z.string().min(1).describe('The node that the pod runs on.'),
    orchestrator: z.string().min(1).default('k8s').describe('For people.'),
    workload: z.string().min(1).optional().describe('For people.'),
    pod: z.string().min(1).optional().describe('For people.'),
    endpoint: deviceName.default('eth0').describe('Device in the pod.'),
    interfaceName: deviceName.describe(
      'Name of the port: in show ports, traces and replay. One of a kind on its node.',
    ),
    netns: z
      .string()
      .min(1)
      .max(200)
      .describe('Namespace of the pod: a name under /run/netns, or a path. An addition of tortie’s.'),
    ipNetworks: z
      .array(anyPrefix)
      .min(1)
      .max(8)
      .describe('Addresses of the pod, each a /32 or /128 from a pool.'),
    mac: mac.optional().describe('MAC of the device. Default: made from the names of node and port.'),
    allowSpoofedSourcePrefixes: z
      .array(anyPrefix)
      .max(64)
      .default([])
      .describe('What the pod may send from, beside its own addresses.'),
    queues: z
      .int()
      .min(1)
      .max(16)
      .default(1)
      .describe(
        'Queues of the device, each read by another worker; no more than workers. An addition of tortie’s.',
      ),
  }),
);

export const SCHEMAS = {
  IPPool: ipPool,
  Node: node,
  BGPConfiguration: bgpConfiguration,
  BGPPeer: bgpPeer,
  WorkloadEndpoint: workloadEndpoint,
} as const;

export type Kind = keyof typeof SCHEMAS;
export type IPPool = z.infer<typeof ipPool>;
export type Node = z.infer<typeof node>;
export type BGPConfiguration = z.infer<typeof bgpConfiguration>;
export type BGPPeer = z.infer<typeof bgpPeer>;
export type WorkloadEndpoint = z.infer<typeof workloadEndpoint>;

/** Prefix length of a pool's blocks. */
export const blockSizeOf = ({ cidr, blockSize }: IPPool['spec']): number =>
  blockSize ?? (isIp6(cidr) ? 122 : 26);

export type EncapMode = z.infer<typeof encapMode>;
export type Resource = IPPool | Node | BGPConfiguration | BGPPeer | WorkloadEndpoint;
