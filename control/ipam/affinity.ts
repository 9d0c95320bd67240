/**
 * Claims of nodes to blocks, in two phases, so that a node that dies between two writes leaves nothing that two nodes
 * believe in: the claim is pending, then the block is made with the node's affinity, then the claim is confirmed.
 */
import { AFFINITIES, affinityKey, affinityPrefix, blockKey } from '../datastore/keys.ts';
import type { KeyValueStore } from '../datastore/kv.ts';
import { type Block, formatBlock, isEmpty, newBlock, parseBlock } from './block.ts';
import { insist, isConflict, update } from './cas.ts';
import { cidrOf, type Range } from './cidr.ts';

export type AffinityState = 'pending' | 'confirmed' | 'pendingDeletion';

export interface Affinity {
  readonly cidr: string;
  readonly state: AffinityState;
}

export const affinityOf = (node: string): string => `host:${node}`;

/** The claims of all nodes. */
export async function allAffinities(keys: KeyValueStore): Promise<(Affinity & { node: string })[]> {
  const { entries } = await keys.list(AFFINITIES);
  return entries.map(({ key, value }) => ({
    node: key.slice(AFFINITIES.length).split('/')[0]!,
    cidr: cidrOfKey(key),
    state: (JSON.parse(value) as { state: AffinityState }).state,
  }));
}

/** The claims of a node. */
export async function affinitiesOf(keys: KeyValueStore, node: string): Promise<Affinity[]> {
  const { entries } = await keys.list(affinityPrefix(node));
  return entries.map(({ key, value }) => ({
    cidr: cidrOfKey(key),
    state: (JSON.parse(value) as { state: AffinityState }).state,
  }));
}

/** ".../block/10.65.0.0-26" names 10.65.0.0/26. */
export const cidrOfKey = (key: string): string => {
  const name = key.slice(key.lastIndexOf('/') + 1);
  const dash = name.lastIndexOf('-');
  return `${name.slice(0, dash)}/${name.slice(dash + 1)}`;
};

/** Mark a claim; answers with the revision that it is at then. */
async function mark(keys: KeyValueStore, node: string, cidr: string, state: AffinityState): Promise<number> {
  const key = affinityKey(node, cidr);
  const value = JSON.stringify({ state, deleted: false });
  return insist(key, async () => {
    const entry = await keys.get(key);
    if (entry?.value === value) return entry.revision;
    return (await keys.put(key, value, { revision: entry?.revision ?? null })).revision;
  });
}

/** Drop a claim as it was marked: one that was made anew meanwhile stays. */
async function drop(keys: KeyValueStore, node: string, cidr: string, revision: number): Promise<void> {
  try {
    await keys.delete(affinityKey(node, cidr), revision);
  } catch (error) {
    if (!isConflict(error)) throw error;
  }
}

/** Claim a block for a node. False: another node has it. */
export async function claimBlock(
  keys: KeyValueStore,
  node: string,
  range: Range,
  now: Date,
): Promise<boolean> {
  const cidr = cidrOf(range);
  const pending = await mark(keys, node, cidr, 'pending');
  try {
    await keys.put(blockKey(cidr), formatBlock(newBlock(range, affinityOf(node), now)), {
      revision: null,
    });
  } catch (error) {
    if (!isConflict(error)) throw error;
    // There already: ours from an attempt that ended half way, or another node's.
    const found = await keys.get(blockKey(cidr));
    if (found && parseBlock(found.value).affinity !== affinityOf(node)) {
      await drop(keys, node, cidr, pending);
      return false;
    }
    if (!found) return claimBlock(keys, node, range, now);
  }
  await mark(keys, node, cidr, 'confirmed');
  return true;
}

/**
 * Give up a block that has no address in use, as `mayGo` finds it, too. A block that somebody else's addresses are in stays, as
 * nobody's. False: it stays with the node.
 */
export async function releaseBlock(
  keys: KeyValueStore,
  node: string,
  cidr: string,
  mayGo: (block: Block) => boolean = isEmpty,
): Promise<boolean> {
  const marked = await mark(keys, node, cidr, 'pendingDeletion');
  const isGone = await update(keys, blockKey(cidr), (entry) => {
    if (!entry) return [undefined, true];
    const block = parseBlock(entry.value);
    if (block.affinity !== affinityOf(node)) return [undefined, true];
    return mayGo(block) && isEmpty(block) ? [null, true] : [undefined, false];
  });
  if (isGone) await drop(keys, node, cidr, marked);
  else await mark(keys, node, cidr, 'confirmed');
  return isGone;
}
