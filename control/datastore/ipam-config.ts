/** IPAMConfig as Calico keeps it: not a resource's JSON, but an object of its own beside the blocks. */
import { API_VERSION, type IPAMConfig } from '../resources/schema.ts';

export const encodeIpamConfig = ({ metadata, spec }: IPAMConfig): object => ({
  strict_affinity: spec.strictAffinity,
  auto_allocate_blocks: spec.autoAllocateBlocks,
  maxBlocksPerHost: spec.maxBlocksPerHost,
  // Not Calico's, which passes over it.
  metadata,
});

/** The resource, to be checked, that a stored object stands for. */
export function decodeIpamConfig(stored: unknown): unknown {
  const { strict_affinity, auto_allocate_blocks, maxBlocksPerHost, metadata } = (stored ?? {}) as Record<
    string,
    unknown
  >;
  const spec = {
    strictAffinity: strict_affinity,
    autoAllocateBlocks: auto_allocate_blocks,
    maxBlocksPerHost,
  };
  return { apiVersion: API_VERSION, kind: 'IPAMConfig', metadata: metadata ?? { name: 'default' }, spec };
}
