/**
 * The resources of apiVersion projectcalico.org/v3 that tortie acts on: Calico's names and defaults, and two
 * additions of ours while addresses come from a file: Node.spec.blocks and WorkloadEndpoint.spec.netns.
 */
import { z } from 'zod';
import { tryAddress4, tryInterface4, tryMac, tryPrefix4 } from '../address.ts';

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
const prefix = refined(tryPrefix4, 'an IPv4 prefix without host bits such as 10.65.0.0/16');
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
    cidr: prefix,
    ipipMode: encapMode.default('Never'),
    vxlanMode: encapMode.default('Never'),
    blockSize: z.int().min(20).max(32).default(26),
    natOutgoing: z.boolean().default(false),
    disabled: z.boolean().default(false),
  }),
);

const node = resource(
  'Node',
  z.strictObject({
    bgp: z
      .strictObject({
        ipv4Address: interfaceAddress,
        asNumber: asNumber.optional(),
        ipv4IPIPTunnelAddr: address.optional(),
        routeReflectorClusterID: address.optional(),
      })
      .optional(),
    ipv4VXLANTunnelAddr: address.optional(),
    vxlanTunnelMACAddr: mac.optional(),
    blocks: z.array(prefix).default([]),
  }),
);

const bgpConfiguration = resource(
  'BGPConfiguration',
  z.strictObject({
    asNumber: asNumber.default(64512),
    nodeToNodeMeshEnabled: z.boolean().default(true),
    listenPort: z.int().min(1).max(65535).default(179),
  }),
);

const bgpPeer = resource(
  'BGPPeer',
  z.strictObject({
    node: z.string().min(1).optional(),
    peerIP: refined(tryPeer, 'an IPv4 address, with :port if it is not 179'),
    asNumber,
  }),
);

const workloadEndpoint = resource(
  'WorkloadEndpoint',
  z.strictObject({
    node: z.string().min(1),
    orchestrator: z.string().min(1).default('k8s'),
    workload: z.string().min(1).optional(),
    pod: z.string().min(1).optional(),
    endpoint: deviceName.default('eth0'),
    interfaceName: deviceName,
    netns: z.string().min(1).max(200),
    ipNetworks: z.array(prefix).min(1).max(8),
    mac: mac.optional(),
    allowSpoofedSourcePrefixes: z.array(prefix).max(64).default([]),
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
export type EncapMode = z.infer<typeof encapMode>;
export type Resource = IPPool | Node | BGPConfiguration | BGPPeer | WorkloadEndpoint;
