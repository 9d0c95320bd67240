/** BGPPeer: which nodes speak BGP with whom. */
import { z } from 'zod';
import { tryAddress4, tryAddress6 } from '../address.ts';
import {
  anyAddress,
  asNumber,
  duration,
  durationWithin,
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
    localASNumber: asNumber.optional().describe('AS that the peer knows the node by, if it is another.'),
    nextHopMode: z.enum(['Auto', 'Self', 'Keep']).optional().meta({
      description: 'Auto: the node for external peers and own routes, else as it came.',
      default: 'Auto',
    }),
    keepOriginalNextHop: z
      .boolean()
      .optional()
      .meta({ description: 'True: as nextHopMode Keep, where that is not set.', default: false }),
    password: password
      .optional()
      .describe(
        'Password of the session (TCP MD5, RFC 2385): a file NAME/KEY in bgp.secrets of the settings.',
      ),
    sourceAddress: z.enum(['UseNodeIP', 'None']).optional().meta({
      description: 'UseNodeIP: sessions are from the address of the node; None: as the kernel chooses.',
      default: 'UseNodeIP',
    }),
    maxRestartTime: durationWithin(0, 4095, 'at most 4095s')
      .optional()
      .meta({ description: 'How long the peer keeps routes while the node restarts.', default: '120s' }),
    keepaliveTime: durationWithin(1, 65535, 'from 1s to 65535s')
      .optional()
      .describe('Between KEEPALIVEs. Default: a third of the hold time.'),
    numAllowedLocalASNumbers: z
      .int()
      .min(0)
      .max(255)
      .optional()
      .meta({ description: 'Times that the own AS may be in the path of a route.', default: 0 }),
    ttlSecurity: z.int().min(0).max(255).optional().meta({
      description: 'The peer is at most so many hops away (RFC 5082); 0: not looked at.',
      default: 0,
    }),
    reachableBy: inert(anyAddress, 'the host’s routes lead to the peer'),
    filters: z
      .array(name)
      .optional()
      .describe('BGPFilters, asked in this order; one that is not there lets nothing pass.'),
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
    session: z
      .strictObject({
        families: z
          .array(z.enum(['IPv4', 'IPv6']))
          .min(1)
          .optional()
          .describe('Routes that are carried. Default: of the family of the peer’s address.'),
        passive: z.boolean().optional().describe('Wait for the peer to connect.'),
        holdTime: durationWithin(3, 65535, 'from 3s to 65535s')
          .optional()
          .describe('Offered, instead of bgp.holdTime of the settings.'),
        addPath: z
          .strictObject({
            receive: z.boolean().default(false).describe('Take several paths to a prefix.'),
            send: z.int().min(0).max(64).default(0).describe('Send so many; 0: the best, and no more.'),
          })
          .optional()
          .describe('Several paths to a prefix (RFC 7911).'),
        maxPrefixes: z
          .int()
          .min(1)
          .max(2147483647)
          .optional()
          .describe('More of a family, with those that keepFiltered keeps, end the session.'),
        maxPrefixesRestart: durationWithin(0, 86_400, 'at most 24h')
          .optional()
          .meta({ description: 'Until it is tried again; 0: not before a change.', default: '5m' }),
        longLivedTime: durationWithin(0, 16_777_215, 'at most 4660h')
          .optional()
          .describe('Stale routes live on so long after the restart time (RFC 9494). Default: not at all.'),
        role: z
          .enum(['provider', 'customer', 'peer', 'rs', 'rs-client'])
          .optional()
          .describe('What the node is to an external peer (RFC 9234).'),
        strictRole: z.boolean().optional().describe('Refuse a peer that does not say its role.'),
        enforceFirstAs: z
          .boolean()
          .optional()
          .meta({ description: 'False for a route server.', default: true }),
        keepFiltered: z.boolean().optional().describe('Remember routes that filters refuse, to show them.'),
        gracefulShutdown: z
          .boolean()
          .optional()
          .describe('Ask the peer to move its traffic away (RFC 8326).'),
        shutdown: z
          .string()
          .max(255)
          .optional()
          .describe('The session is down; the text is for the peer’s operator (RFC 9003).'),
      })
      .refine(({ role, strictRole }) => !strictRole || role !== undefined, {
        error: 'strictRole needs a role',
      })
      .optional()
      .describe('More about the session: an addition of tortie’s.'),
    reversePeering: z
      .enum(['Auto', 'Manual'])
      .optional()
      .meta({ description: 'Auto: nodes of peerSelector peer back.', default: 'Auto' }),
  }),
);

export type BGPPeer = z.infer<typeof bgpPeer>;
