/** IPPool: addresses for pods and tunnels, and how packets to them travel. */
import { z } from 'zod';
import { isIp6 } from '../address.ts';
import { anyPrefix, inert, resource, selector } from './fields.ts';

const encapMode = z.enum(['Always', 'CrossSubnet', 'Never']);
const use = z.enum(['Workload', 'Tunnel', 'LoadBalancer']);

const DEFAULT_USES: z.infer<typeof use>[] = ['Workload', 'Tunnel'];

export const ipPool = resource(
  'IPPool',
  z.strictObject({
    cidr: anyPrefix.describe('Addresses of the pool, IPv4 or IPv6. Pools do not overlap.'),
    ipipMode: encapMode
      .default('Never')
      .describe('IPIP to other nodes, IPv4 only; CrossSubnet: only to those outside the subnet of the node.'),
    vxlanMode: encapMode.default('Never').describe('VXLAN, likewise. One of both modes is Never.'),
    natOutgoing: z
      .boolean()
      .default(false)
      .describe('True: packets to addresses outside all pools leave with the address of the node.'),
    blockSize: z
      .int()
      .min(0)
      .max(128)
      .optional()
      .describe('Prefix length of the blocks, never to change. Default: 26, of IPv6 122.'),
    disabled: z
      .boolean()
      .default(false)
      .describe(
        'True: no address is handed out; what has one keeps it, and its routes leave as the mode says.',
      ),
    disableBGPExport: z.boolean().default(false).describe('True: its blocks are not announced by BGP.'),
    nodeSelector: selector.default('all()').describe('Nodes that take blocks of it, by their labels.'),
    namespaceSelector: inert(selector, 'labels of namespaces are not known here', '', 'all()'),
    allowedUses: z
      .array(use)
      .default(DEFAULT_USES)
      .transform((uses) => (uses.length === 0 ? DEFAULT_USES : uses))
      .describe('What addresses of it are for.'),
    assignmentMode: z
      .enum(['Automatic', 'Manual'])
      .default('Automatic')
      .describe('Manual: only for who asks for this pool by name.'),
  }),
);

export type IPPool = z.infer<typeof ipPool>;
export type EncapMode = z.infer<typeof encapMode>;

/** Prefix length of a pool's blocks. */
export const blockSizeOf = ({ cidr, blockSize }: Pick<IPPool['spec'], 'cidr' | 'blockSize'>): number =>
  blockSize || (isIp6(cidr) ? 122 : 26);
