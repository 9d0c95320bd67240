/**
 * Addresses for pods and tunnels, out of blocks that nodes claim (Calico's IPAM). Any number of processes on any number of
 * nodes may use one store at a time: whatever is changed is changed by compare-and-swap, the handle before the block, so
 * that an address in use always has a handle that leads to it.
 */
import { createHash } from 'node:crypto';
import { BLOCKS, blockKey, IPAM_CONFIG } from '../datastore/keys.ts';
import type { KeyValueStore } from '../datastore/kv.ts';
import { TortieError } from '../error.ts';
import { blockSizeOf, type IPPool } from '../resources/schema.ts';
import { affinitiesOf, affinityOf, cidrOfKey, claimBlock, releaseBlock } from './affinity.ts';
import {
  addressIn,
  assign,
  assignAt,
  type Block,
  cooled,
  formatBlock,
  type Owner,
  ordinalOf,
  ordinalsOfHandle,
  ownerOf,
  parseBlock,
  release,
  usedOrdinals,
} from './block.ts';
import { insist, isConflict, update } from './cas.ts';
import { blockAround, blocksFrom, cidrOf, contains, rangeOf } from './cidr.ts';
import { countHandle, readHandle } from './handles.ts';

/** A released address is not used again for so long, unless it is asked for by name. */
const COOLDOWN_MS = 30_000;
/** A block without addresses that was claimed so long ago may be taken by another node. */
const RECLAIM_AFTER_MS = 60_000;
/** Blocks of a pool that are tried for a claim: IPv6 pools have more than there are numbers. */
const MAX_TRIED_BLOCKS = 65_536;

export interface IpamConfig {
  /** True: addresses come from the node's own blocks only. */
  readonly strictAffinity: boolean;
  /** False: blocks are claimed by hand only. */
  readonly autoAllocateBlocks: boolean;
  readonly maxBlocksPerHost: number;
}
export const DEFAULT_CONFIG: IpamConfig = {
  strictAffinity: false,
  autoAllocateBlocks: true,
  maxBlocksPerHost: 20,
};

export interface AssignRequest extends Owner {
  readonly node: string;
  /** How many addresses of each family. */
  readonly ip4?: number;
  readonly ip6?: number;
  /** Names or CIDRs of the pools to take from; left out: all that are for the node. */
  readonly pools?: readonly string[];
  /** What for: "Workload" unless given. */
  readonly use?: 'Workload' | 'Tunnel';
}

export interface Assigned {
  readonly address: string;
  /** CIDR of its block. */
  readonly block: string;
  readonly pool: string;
}

export interface Release {
  readonly address: string;
  /** Release only what this handle has. */
  readonly handle?: string;
  /** Release only what was assigned then: a late release frees nobody else's address. */
  readonly sequence?: bigint;
}

export interface IpamOptions {
  readonly now?: () => Date;
  readonly cooldownMs?: number;
  /** CIDRs that are not handed out unless asked for by name (IPReservation). */
  readonly reserved?: () => Promise<readonly string[]>;
}

export class Ipam {
  readonly #keys: KeyValueStore;
  readonly #pools: (node: string) => Promise<readonly IPPool[]>;
  readonly #now: () => Date;
  readonly #cooldownMs: number;
  readonly #reserved: () => Promise<readonly string[]>;

  /** `pools`: those that a node may take addresses from, enabled or not. */
  constructor(
    keys: KeyValueStore,
    pools: (node: string) => Promise<readonly IPPool[]>,
    { now = () => new Date(), cooldownMs = COOLDOWN_MS, reserved = async () => [] }: IpamOptions = {},
  ) {
    this.#keys = keys;
    this.#pools = pools;
    this.#now = now;
    this.#cooldownMs = cooldownMs;
    this.#reserved = reserved;
  }

  async config(): Promise<IpamConfig> {
    const entry = await this.#keys.get(IPAM_CONFIG);
    if (!entry) return DEFAULT_CONFIG;
    const stored = JSON.parse(entry.value) as Record<string, unknown>;
    return {
      strictAffinity: stored.strict_affinity === true,
      autoAllocateBlocks: stored.auto_allocate_blocks !== false,
      maxBlocksPerHost: Number(stored.maxBlocksPerHost) || DEFAULT_CONFIG.maxBlocksPerHost,
    };
  }

  /**
   * All addresses that were asked for, or none: throws IPAM_NO_POOL or IPAM_EXHAUSTED. A handle that has addresses
   * already is answered with those, and gets what is missing.
   */
  async assign(request: AssignRequest): Promise<Assigned[]> {
    const before = await this.addressesOf(request.handle);
    const has = (is6: boolean) => before.filter(({ address }) => rangeOf(address).isIp6 === is6).length;
    const found: Assigned[] = [];
    try {
      for (const [is6, count] of [
        [false, (request.ip4 ?? 0) - has(false)],
        [true, (request.ip6 ?? 0) - has(true)],
      ] as const) {
        if (count > 0) found.push(...(await this.#assignFamily(request, is6, count)));
      }
    } catch (error) {
      await this.releaseAddresses(found.map(({ address }) => ({ address, handle: request.handle })));
      throw error;
    }
    return [...before, ...found];
  }

  /** One certain address. Throws IPAM_NO_POOL, or IPAM_TAKEN if another handle has it. */
  async assignAddress(request: Owner & { node: string; address: string }): Promise<Assigned> {
    const { address, node, handle } = request;
    const range = rangeOf(address);
    const pools = await this.#pools(node);
    const pool = pools.find(({ spec }) => !spec.disabled && contains(rangeOf(spec.cidr), range));
    if (!pool) throw noPool(`${address} lies in no pool that is enabled for node ${node}`);
    const block = blockAround(range, blockSizeOf(pool.spec));
    const cidr = cidrOf(block);
    const { strictAffinity } = await this.config();
    const mine = (candidate: Block) => candidate.affinity === affinityOf(node);
    const take = (before: Block): [Block, number[]] => {
      const ordinal = ordinalOf(before, address);
      const owner = ownerOf(before, ordinal);
      if (owner && owner.handle_id === handle) return [before, []];
      if (owner) throw taken(address, owner.handle_id);
      if (strictAffinity && !mine(before)) throw taken(address, `a block of ${before.affinity}`);
      return [assignAt(before, ordinal, request), [ordinal]];
    };
    // Another node's block is no obstacle: the address is borrowed from it, unless that is forbidden. One that is not there, or
    // goes meanwhile, is claimed.
    while ((await this.#inBlock(cidr, handle, take)) === null) {
      await claimBlock(this.#keys, node, block, this.#now());
    }
    return { address, block: cidr, pool: pool.metadata.name };
  }

  /** The addresses that a handle has. */
  async addressesOf(handle: string): Promise<Assigned[]> {
    const found = await readHandle(this.#keys, handle);
    const assigned: Assigned[] = [];
    for (const cidr of Object.keys(found?.block ?? {})) {
      const block = await this.#read(cidr);
      for (const ordinal of block ? ordinalsOfHandle(block, handle) : []) {
        assigned.push({ address: addressIn(block!, ordinal), block: cidr, pool: '' });
      }
    }
    return assigned;
  }

  /** All that a handle has; answers with the addresses. Nothing, if it has none. */
  async releaseHandle(handle: string): Promise<string[]> {
    const found = await readHandle(this.#keys, handle);
    const released: string[] = [];
    for (const [cidr, count] of Object.entries(found?.block ?? {})) {
      const addresses = await update(this.#keys, blockKey(cidr), (entry) => {
        const block = entry && parseBlock(entry.value);
        const ordinals = block ? ordinalsOfHandle(block, handle) : [];
        const after = ordinals.length > 0 ? formatBlock(release(block!, ordinals, this.#now())) : undefined;
        return [after, ordinals.map((ordinal) => addressIn(block!, ordinal))];
      });
      released.push(...addresses);
      // A handle that died between two writes counts more than its block has.
      await countHandle(this.#keys, handle, cidr, -Math.max(count, addresses.length));
    }
    return released;
  }

  /** Those that were released; others had nobody, another handle or another sequence number. */
  async releaseAddresses(wanted: readonly Release[]): Promise<string[]> {
    const released: string[] = [];
    for (const { address, handle, sequence } of wanted) {
      const cidr = await this.#blockCidrOf(address);
      if (cidr === null) continue;
      const owner = await update(this.#keys, blockKey(cidr), (entry) => {
        const block = entry && parseBlock(entry.value);
        const ordinal = block ? ordinalOf(block, address) : 0;
        const found = block && ownerOf(block, ordinal);
        const isMeant =
          found &&
          (handle === undefined || found.handle_id === handle) &&
          (sequence === undefined || found.sequence === sequence);
        if (!isMeant) return [undefined, null];
        return [formatBlock(release(block, [ordinal], this.#now())), found];
      });
      if (!owner) continue;
      released.push(address);
      if (owner.handle_id !== null) await countHandle(this.#keys, owner.handle_id, cidr, -1);
    }
    return released;
  }

  /** All blocks there are. */
  async blocks(): Promise<Block[]> {
    return (await this.#keys.list(BLOCKS)).entries.map(({ value }) => parseBlock(value));
  }

  /** Give up the claims of a node that have no address in use; answers with the blocks that went. */
  async releaseNode(node: string): Promise<string[]> {
    const gone: string[] = [];
    for (const { cidr } of await affinitiesOf(this.#keys, node)) {
      if (await releaseBlock(this.#keys, node, cidr)) gone.push(cidr);
    }
    return gone;
  }

  async #assignFamily(request: AssignRequest, is6: boolean, count: number): Promise<Assigned[]> {
    const { node, pools: wanted, use = 'Workload' } = request;
    const pools = (await this.#pools(node)).filter(
      ({ metadata, spec }) =>
        !spec.disabled &&
        rangeOf(spec.cidr).isIp6 === is6 &&
        spec.allowedUses.includes(use) &&
        (wanted
          ? wanted.includes(metadata.name) || wanted.includes(spec.cidr)
          : spec.assignmentMode === 'Automatic'),
    );
    const family = is6 ? 'IPv6' : 'IPv4';
    if (pools.length === 0) {
      const which = wanted ? ` among ${wanted.join(', ')}` : '';
      throw noPool(`no ${family} pool is enabled for node ${node}${which}`);
    }
    const config = await this.config();
    const reserved = (await this.#reserved()).map(rangeOf);
    const mayUse = (address: string) => !reserved.some((range) => contains(range, rangeOf(address)));
    const found: Assigned[] = [];
    const take = async (cidr: string, pool: IPPool, ofNode: boolean) => {
      const missing = count - found.length;
      const addresses = await this.#inBlock(cidr, request.handle, (before) => {
        if (ofNode && before.affinity !== affinityOf(node)) return [before, []];
        const { block, ordinals } = assign(before, missing, request, mayUse);
        return [block, ordinals];
      });
      found.push(...(addresses ?? []).map((address) => ({ address, block: cidr, pool: pool.metadata.name })));
      return found.length === count;
    };
    try {
      if (await this.#fromOwn(node, pools, take)) return found;
      if (config.autoAllocateBlocks && (await this.#fromNew(node, pools, config, take))) return found;
      if (!config.strictAffinity && (await this.#fromOthers(pools, take))) return found;
    } catch (error) {
      await this.releaseAddresses(found.map(({ address }) => ({ address, handle: request.handle })));
      throw error;
    }
    await this.releaseAddresses(found.map(({ address }) => ({ address, handle: request.handle })));
    const names = pools.map(({ metadata, spec }) => `${metadata.name} (${spec.cidr})`).join(', ');
    throw new TortieError(
      'IPAM_EXHAUSTED',
      `no ${family} address is left for node ${node} in ${names}; add a pool, or see "tortie ipam show" and "tortie ipam check"`,
    );
  }

  /** From blocks that the node has. */
  async #fromOwn(node: string, pools: readonly IPPool[], take: Take): Promise<boolean> {
    for (const { cidr, state } of await affinitiesOf(this.#keys, node)) {
      const pool = poolOf(pools, cidr);
      if (!pool || state === 'pendingDeletion') continue;
      // What was begun and not finished is finished first.
      if (state === 'pending' && !(await claimBlock(this.#keys, node, rangeOf(cidr), this.#now()))) continue;
      if (await take(cidr, pool, true)) return true;
    }
    return false;
  }

  /** From blocks that nobody has, then from those that others have and do not use. */
  async #fromNew(node: string, pools: readonly IPPool[], config: IpamConfig, take: Take): Promise<boolean> {
    let room = config.maxBlocksPerHost - (await affinitiesOf(this.#keys, node)).length;
    for (const pool of pools) {
      const range = rangeOf(pool.spec.cidr);
      const existing = new Set(
        (await this.#keys.list(BLOCKS, { keysOnly: true })).entries.map(({ key }) => key),
      );
      for (const block of blocksFrom(range, blockSizeOf(pool.spec), startOf(node), MAX_TRIED_BLOCKS)) {
        if (room <= 0) return false;
        const cidr = cidrOf(block);
        if (existing.has(blockKey(cidr))) continue;
        if (!(await claimBlock(this.#keys, node, block, this.#now()))) continue;
        room--;
        if (await take(cidr, pool, true)) return true;
      }
    }
    for (const { cidr, affinity, pool } of await this.#idle(pools)) {
      if (room <= 0) return false;
      const before = this.#reclaimable();
      if (!(await releaseBlock(this.#keys, affinity.slice('host:'.length), cidr, before))) continue;
      if (!(await claimBlock(this.#keys, node, rangeOf(cidr), this.#now()))) continue;
      room--;
      if (await take(cidr, pool, true)) return true;
    }
    return false;
  }

  /** Borrow. */
  async #fromOthers(pools: readonly IPPool[], take: Take): Promise<boolean> {
    for (const block of await this.blocks()) {
      const pool = poolOf(pools, block.cidr);
      if (!pool || usedOrdinals(block).length === block.allocations.length) continue;
      if (await take(block.cidr, pool, false)) return true;
    }
    return false;
  }

  /** Blocks with an owner and without an address in use. */
  async #idle(pools: readonly IPPool[]): Promise<{ cidr: string; affinity: string; pool: IPPool }[]> {
    const mayGo = this.#reclaimable();
    return (await this.blocks()).flatMap((block) => {
      const pool = poolOf(pools, block.cidr);
      const { cidr, affinity } = block;
      return pool && affinity?.startsWith('host:') && mayGo(block) ? [{ cidr, affinity, pool }] : [];
    });
  }

  #reclaimable(): (block: Block) => boolean {
    const now = this.#now();
    const before = now.getTime() - RECLAIM_AFTER_MS;
    const since = new Date(now.getTime() - this.#cooldownMs);
    // Neither in use nor cooling: nobody is to get an address sooner because its block changed hands.
    const isIdle = (block: Block) => cooled(block, since, now).attributes.length === 0;
    return (block) => isIdle(block) && Date.parse(block.affinityClaimTime ?? '1970-01-01') < before;
  }

  /** Assign in a block by `choose`, the handle counted first; answers with the addresses; null: the block is gone. */
  async #inBlock(
    cidr: string,
    handle: string,
    choose: (block: Block) => [Block, number[]],
  ): Promise<string[] | null> {
    return insist(cidr, async () => {
      const entry = await this.#keys.get(blockKey(cidr));
      if (!entry) return null;
      const now = this.#now();
      const since = new Date(now.getTime() - this.#cooldownMs);
      const [after, ordinals] = choose(cooled(parseBlock(entry.value), since, now));
      if (ordinals.length === 0) return [];
      await countHandle(this.#keys, handle, cidr, ordinals.length);
      try {
        await this.#keys.put(entry.key, formatBlock(after), { revision: entry.revision });
      } catch (error) {
        // Of a write whose fate is not known the handle must lead to the addresses.
        if (isConflict(error)) await countHandle(this.#keys, handle, cidr, -ordinals.length);
        throw error;
      }
      // Somebody may have released the handle between the two writes: it is to lead to the address all the same.
      const counted = await readHandle(this.#keys, handle);
      if (!counted?.block[cidr]) await countHandle(this.#keys, handle, cidr, ordinals.length);
      return ordinals.map((ordinal) => addressIn(after, ordinal));
    });
  }

  async #read(cidr: string): Promise<Block | null> {
    const entry = await this.#keys.get(blockKey(cidr));
    return entry && parseBlock(entry.value);
  }

  /** The block that an address lies in, as far as one is there. */
  async #blockCidrOf(address: string): Promise<string | null> {
    const range = rangeOf(address);
    const { entries } = await this.#keys.list(BLOCKS, { keysOnly: true });
    return entries.map(({ key }) => cidrOfKey(key)).find((cidr) => contains(rangeOf(cidr), range)) ?? null;
  }
}

type Take = (cidr: string, pool: IPPool, ofNode: boolean) => Promise<boolean>;

const poolOf = (pools: readonly IPPool[], cidr: string): IPPool | undefined =>
  pools.find(({ spec }) => contains(rangeOf(spec.cidr), rangeOf(cidr)));

/** Nodes begin at different blocks, so that they seldom want the same one at a time. */
const startOf = (node: string): bigint => createHash('sha1').update(node).digest().readBigUInt64BE();

const noPool = (what: string) =>
  new TortieError('IPAM_NO_POOL', `${what}; see "tortie get ippool -o wide", and apply an IPPool`);

const taken = (address: string, by: string | null) =>
  new TortieError(
    'IPAM_TAKEN',
    `${address} is taken by ${by ?? 'somebody without a handle'}; ask for another`,
  );
