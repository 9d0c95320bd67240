/** Node: a machine, its addresses and its tunnels'. */
import { z } from 'zod';
import { formatAddress4, formatAddress6, type Prefix6, tryInterface4, tryInterface6 } from '../address.ts';
import {
  address4,
  address6,
  anyPrefix,
  asNumber,
  inert,
  interfaceAddress4,
  interfaceAddress6,
  mac,
  resource,
} from './fields.ts';

const bgp = z.strictObject({
  ipv4Address: interfaceAddress4.optional().describe('Address of the node, with the length of its subnet.'),
  ipv6Address: interfaceAddress6
    .optional()
    .describe('IPv6 address of the node, with the length of its subnet: where IPv6 between nodes goes to.'),
  asNumber: asNumber.optional().describe('AS of the node, if it is not that of BGPConfiguration.'),
  ipv4IPIPTunnelAddr: address4.optional().describe('Address of the host device, for IPIP pools.'),
  routeReflectorClusterID: address4
    .optional()
    .describe('The node reflects routes for this cluster (RFC 4456), and is left out of the mesh.'),
});

export const node = resource(
  'Node',
  z.strictObject({
    bgp: bgp.optional(),
    ipv4VXLANTunnelAddr: address4.optional().describe('Address of the host device, for VXLAN pools.'),
    ipv6VXLANTunnelAddr: address6
      .optional()
      .describe('IPv6 address of the host device, and source of ICMPv6 errors.'),
    vxlanTunnelMACAddr: mac.optional().describe('MAC of the VTEP. Default: made from the name of the node.'),
    blocks: z
      .array(anyPrefix)
      .default([])
      .describe('Blocks of the node, where no IPAM tells them: an addition of tortie’s.'),
    vxlanTunnelMACAddrV6: mac
      .optional()
      .describe('MAC of the VTEP over IPv6. Default: made from the name of the node.'),
    orchRefs: z
      .array(z.strictObject({ nodeName: z.string().optional(), orchestrator: z.string() }))
      .optional()
      .describe('For people.'),
    addresses: z
      .array(z.strictObject({ address: z.string(), type: z.string().optional() }))
      .optional()
      .describe('For people: bgp.ipv4Address counts.'),
    interfaces: z
      .array(z.strictObject({ name: z.string().optional(), addresses: z.array(z.string()).optional() }))
      .optional()
      .describe('For people.'),
    wireguard: inert(
      z.strictObject({
        interfaceIPv4Address: address4.optional(),
        interfaceIPv6Address: address6.optional(),
      }),
      'there is no WireGuard here',
    ),
  }),
).extend({
  status: z
    .strictObject({
      podCIDRs: z.array(z.string()).optional(),
      wireguardPublicKey: z.string().optional(),
      wireguardPublicKeyV6: z.string().optional(),
    })
    .optional(),
});

export type Node = z.infer<typeof node>;

/** The node's IPv4 address (int32) and its subnet's length; null if it names none. */
export function nodeAddress4({ bgp }: Node['spec']): { address: number; length: number } | null {
  return bgp?.ipv4Address === undefined ? null : tryInterface4(bgp.ipv4Address);
}

/** The same of IPv6. */
export function nodeAddress6({ bgp }: Node['spec']): Prefix6 | null {
  return bgp?.ipv6Address === undefined ? null : tryInterface6(bgp.ipv6Address);
}

/** The node's addresses as text, IPv4 first. */
export function addressTexts({ spec }: Pick<Node, 'spec'>): string[] {
  const six = nodeAddress6(spec);
  const four = nodeAddress4(spec);
  return [...(four ? [formatAddress4(four.address)] : []), ...(six ? [formatAddress6(six.words)] : [])];
}
