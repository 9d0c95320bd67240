/** BGPPeer: which nodes speak BGP with whom. */
import { z } from 'zod';
import { tryAddress4, tryAddress6 } from '../address.ts';
import {
  anyAddress,
  asNumber,
  duration,
  inert,
  name,
  password,
  refined,
  resource,
  secondsOf,
  selector,
} from './fields.ts';

/** Address and port of "192.0.2.9", "192.0.2.9:1179", "2001:db8::9" or "[2001:db8::9]:1179"; null if it is none. */
export function tryPeer(text: string): { address: string; port: number | null } | null {
  const [, bracketed, bare, digits] = /^(?:\[([^\]]+)\]|([^[\]]+?))(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (tryAddress6(text)) return { address: text, port: null };
  const address = bracketed ?? bare;
  if (address === undefined || (bracketed ? tryAddress6(address) : tryAddress4(address)) === null)
    return null;
  const port = digits === undefined ? null : Number(digits);
  return port !== null && (port < 1 || port > 65535) ? null : { address, port };
}

/** Milliseconds. */
const MIN_BFD_MS = 10;
const MAX_BFD_MS = 60_000;
const bfdInterval = duration.refine(
  (text) => {
    const ms = secondsOf(text) * 1000;
    return ms >= MIN_BFD_MS && ms <= MAX_BFD_MS;
  },
  { error: 'must be from 10ms to 60s' },
);

export const bgpPeer = resource(
  'BGPPeer',
  z.strictObject({
    node: name.optional().describe('The node that peers. Default: all nodes, or those of nodeSelector.'),
    nodeSelector: selector.optional().describe('Nodes that peer, by their labels; instead of node.'),
    peerIP: refined(tryPeer, 'an IP address, with :port if it is not the usual one')
      .optional()
      .describe('Address of the peer, with :port if it is not 179.'),
    asNumber: asNumber.optional().describe('AS of the peer.'),
    peerSelector: selector
      .optional()
      .describe('Nodes to peer with, by their labels; instead of peerIP and asNumber.'),
    localASNumber: inert(asNumber, 'a node has one AS'),
    nextHopMode: inert(
      z.enum(['Auto', 'Self', 'Keep']),
      'own routes leave with the node as next hop',
      'Auto',
      'Self',
    ),
    keepOriginalNextHop: inert(z.boolean(), 'own routes leave with the node as next hop', false),
    password: inert(password, 'sessions have no passwords here'),
    sourceAddress: inert(z.enum(['UseNodeIP', 'None']), 'the source is the address of the node', 'UseNodeIP'),
    maxRestartTime: inert(duration, 'restart.staleTime of the settings says how long'),
    keepaliveTime: inert(duration, 'bgp.holdTime of the settings says how long'),
    numAllowedLocalASNumbers: inert(
      z.int().min(0).max(255),
      'routes with the own AS in their path are refused',
      0,
    ),
    ttlSecurity: inert(z.int().min(0).max(255), 'hops are not counted', 0),
    reachableBy: inert(anyAddress, 'the host’s routes lead to the peer'),
    filters: inert(z.array(name), 'BGPFilters are not applied'),
    localWorkloadSelector: inert(selector, 'pods do not peer', ''),
    bfd: z
      .strictObject({
        minimumSendInterval: bfdInterval
          .default('300ms')
          .describe('Between packets that the node sends, at least.'),
        minimumRecvInterval: bfdInterval
          .default('300ms')
          .describe('Between packets that it is able to receive, at least.'),
        multiplier: z
          .int()
          .min(1)
          .max(255)
          .default(3)
          .describe('So many packets in a row may be lost until the peer takes the node for gone.'),
        multihop: z.boolean().default(false).describe('The peer is more than a hop away (RFC 5883).'),
      })
      .optional()
      .describe('See within a second that the peer is gone, by BFD (RFC 5880). {} for the defaults.'),
    reversePeering: z
      .enum(['Auto', 'Manual'])
      .optional()
      .meta({ description: 'Auto: nodes of peerSelector peer back.', default: 'Auto' }),
  }),
);

export type BGPPeer = z.infer<typeof bgpPeer>;
