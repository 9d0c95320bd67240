/** BGPFilter: rules for routes that sessions import and export. */
import { z } from 'zod';
import { asNumber, community, inert, prefix4, prefix6, resource } from './fields.ts';

const priority = z.int().min(1).max(2147483646);

const operation = z
  .strictObject({
    addCommunity: z.strictObject({ value: community }).optional(),
    prependASPath: z.strictObject({ prefix: z.array(asNumber).min(1) }).optional(),
    setPriority: z.strictObject({ value: priority }).optional(),
  })
  .refine((operation) => Object.keys(operation).length === 1, { error: 'must have exactly one operation' });

const rules = (prefix: z.ZodType<string>, bits: 32 | 128) => {
  const length = z.int().min(0).max(bits).optional();
  return z
    .array(
      z
        .strictObject({
          action: z.enum(['Accept', 'Reject']),
          cidr: prefix.optional(),
          matchOperator: z.enum(['Equal', 'NotEqual', 'In', 'NotIn']).optional(),
          prefixLength: z
            .strictObject({ min: length, max: length })
            .refine(({ min = 0, max = bits }) => min <= max, { error: 'min is more than max' })
            .optional(),
          source: z.enum(['RemotePeers']).optional(),
          interface: inert(z.string(), 'routes here have no interface, so no route is meant'),
          peerType: z.enum(['eBGP', 'iBGP']).optional(),
          communities: z.strictObject({ values: z.array(community).length(1) }).optional(),
          asPathPrefix: z.array(asNumber).min(1).optional(),
          priority: priority.optional(),
          operations: z.array(operation).min(1).max(10).optional(),
        })
        .refine((rule) => (rule.cidr === undefined) === (rule.matchOperator === undefined), {
          error: 'cidr and matchOperator go together',
        })
        .refine((rule) => rule.prefixLength === undefined || rule.cidr !== undefined, {
          error: 'prefixLength needs a cidr',
        })
        .refine((rule) => rule.operations === undefined || rule.action === 'Accept', {
          error: 'operations go with action Accept',
        }),
    )
    .default([]);
};

const ORDER = 'the first that matches decides; none: accepted.';

export const bgpFilter = resource(
  'BGPFilter',
  z.strictObject({
    exportV4: rules(prefix4, 32).describe(`Rules for IPv4 routes that leave: ${ORDER}`),
    importV4: rules(prefix4, 32).describe('The same for those that come.'),
    exportV6: rules(prefix6, 128).describe('The same for IPv6.'),
    importV6: rules(prefix6, 128).describe('The same for IPv6.'),
  }),
);

export type BGPFilter = z.infer<typeof bgpFilter>;
