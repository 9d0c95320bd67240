/** IPAMConfig and IPReservation: how addresses are handed out. */
import { z } from 'zod';
import { anyPrefix, resource } from './fields.ts';

export const MAX_BLOCKS_PER_HOST = 20;

export const ipamConfig = resource(
  'IPAMConfig',
  z.strictObject({
    strictAffinity: z.boolean().default(false).describe('True: no node borrows from another’s blocks.'),
    autoAllocateBlocks: z.boolean().default(true).describe('False: a node takes no block by itself.'),
    maxBlocksPerHost: z
      .int()
      .min(0)
      .max(1_000_000)
      .default(0)
      .describe(`Most blocks of a node; 0: ${MAX_BLOCKS_PER_HOST}.`),
  }),
);

export const ipReservation = resource(
  'IPReservation',
  z.strictObject({
    reservedCIDRs: z
      .array(anyPrefix)
      .default([])
      .describe('Addresses and prefixes that are not handed out; what is in use stays so.'),
  }),
);

export type IPAMConfig = z.infer<typeof ipamConfig>;
export type IPReservation = z.infer<typeof ipReservation>;
