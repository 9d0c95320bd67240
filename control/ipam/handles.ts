/** Handles: in which blocks a container, or a tunnel, has how many addresses. What a block says of a handle is the truth. */
import { HANDLES, handleKey } from '../datastore/keys.ts';
import type { KeyValueStore } from '../datastore/kv.ts';
import { update } from './cas.ts';

/** Handles of a node's own addresses, named as Calico names them, with "-NODE" behind. */
export const TUNNEL_HANDLES = {
  ipip: 'ipip-tunnel-addr',
  vxlan: 'vxlan-tunnel-addr',
  vxlan6: 'vxlan-v6-tunnel-addr',
} as const;

export interface Handle {
  readonly handleID: string;
  /** Addresses by block. */
  readonly block: Readonly<Record<string, number>>;
  readonly deleted: boolean;
}

const parse = (value: string): Handle => JSON.parse(value) as Handle;

export async function readHandle(keys: KeyValueStore, id: string): Promise<Handle | null> {
  const entry = await keys.get(handleKey(id));
  return entry && parse(entry.value);
}

export async function listHandles(keys: KeyValueStore): Promise<Handle[]> {
  return (await keys.list(HANDLES)).entries.map(({ value }) => parse(value));
}

/** Add to a handle's count in a block, or take from it; a handle without a block goes. */
export function countHandle(keys: KeyValueStore, id: string, block: string, by: number): Promise<void> {
  return update(keys, handleKey(id), (entry) => {
    const before = entry ? parse(entry.value).block : {};
    const count = Math.max(0, (before[block] ?? 0) + by);
    const others = Object.entries(before).filter(([cidr]) => cidr !== block);
    const after = Object.fromEntries(count > 0 ? [...others, [block, count]] : others);
    const handle: Handle = { handleID: id, block: after, deleted: false };
    return [Object.keys(after).length > 0 ? JSON.stringify(handle) : null, undefined];
  });
}
