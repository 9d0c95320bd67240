/**
 * What this node knows of the cluster: the resources in the store, and with them the blocks that IPAM gave to nodes. Kept by
 * watching; while the store is away it stays as it was, and says so.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type Change, keyText } from '../datastore/datastore.ts';
import { BLOCKS } from '../datastore/keys.ts';
import type { KeyEvent, KeyValueStore } from '../datastore/kv.ts';
import type { OpenStore } from '../datastore/open.ts';
import { TortieError } from '../error.ts';
import { addressIn, type Block, ownerOf, parseBlock, usedOrdinals } from '../ipam/block.ts';
import type { Resource } from '../resources/schema.ts';

const RETRY_MS = 1000;

/** Whose addresses a block has: its node's, and of each address that another node borrowed. */
interface Holding {
  readonly node: string | null;
  readonly cidr: string;
  /** Node by address. */
  readonly borrowed: ReadonlyMap<string, string>;
}

export class Picture {
  /** Why the store is out of reach, or null. */
  problem: string | null = 'the store was not read yet';
  readonly #store: OpenStore;
  readonly #node: string;
  readonly #onChange: () => void;
  readonly #log: Logger;
  readonly #resources = new Map<string, Resource>();
  /** By key of the block; text, to see whether it is another. */
  readonly #holdings = new Map<string, { text: string; holding: Holding }>();
  readonly #stops: (() => void)[] = [];
  #stopped = false;

  constructor(store: OpenStore, node: string, onChange: () => void, log: Logger) {
    this.#store = store;
    this.#node = node;
    this.#onChange = onChange;
    this.#log = log;
  }

  /** Resolves with the first whole picture, however long the store is away; the log says what it waits for. */
  async start(): Promise<void> {
    const { resources, keys } = this.#store;
    const scope = { node: this.#node };
    for (;;) {
      try {
        const stored = await resources.list(undefined, scope);
        this.#take(
          stored.map((item) => ({
            key: { ...item.resource.metadata, kind: item.resource.kind },
            stored: item,
          })),
        );
        if (keys) await this.#listBlocks(keys);
        break;
      } catch (error) {
        this.#state((error as Error).message);
        if (this.#stopped) throw error;
        await sleep(RETRY_MS);
      }
    }
    this.#state(null);
    const watching = {
      ...scope,
      onState: (problem: string | null) => this.#state(problem),
      onInvalid: (problem: string) => this.#log.warn(`left out: ${problem}`),
    };
    this.#stops.push(
      resources.watch((changes) => {
        if (this.#take(changes)) this.#onChange();
      }, watching),
    );
  }

  /** The resource of this key (`keyText`) as it is known here. */
  get(key: string): Resource | undefined {
    return this.#resources.get(key);
  }

  stop(): void {
    this.#stopped = true;
    for (const stop of this.#stops) stop();
  }

  /** All resources, each node with the blocks that are its. */
  resources(): Resource[] {
    const blocks = new Map<string, string[]>();
    const give = (node: string, cidr: string) => {
      const list = blocks.get(node);
      if (list) list.push(cidr);
      else blocks.set(node, [cidr]);
    };
    for (const { holding } of this.#holdings.values()) {
      if (holding.node !== null) give(holding.node, holding.cidr);
      // What this node borrowed, its pods say themselves.
      for (const [address, node] of holding.borrowed) if (node !== this.#node) give(node, address);
    }
    return [...this.#resources.values()].map((resource) => {
      const more = resource.kind === 'Node' ? blocks.get(resource.metadata.name) : undefined;
      if (resource.kind !== 'Node' || !more) return resource;
      return { ...resource, spec: { ...resource.spec, blocks: [...resource.spec.blocks, ...more] } };
    });
  }

  #state(problem: string | null): void {
    if (problem === this.problem) return;
    if (problem !== null) this.#log.warn(`${problem}; going on with what is known`);
    else if (this.problem !== null) this.#log.info(`${this.#store.resources.description} is read`);
    this.problem = problem;
    this.#onChange();
  }

  /** True if that makes a difference. */
  #take(changes: readonly Change[]): boolean {
    let differs = false;
    for (const { key, stored } of changes) {
      const name = keyText(key);
      const before = this.#resources.get(name);
      if (stored) this.#resources.set(name, stored.resource);
      else this.#resources.delete(name);
      differs ||= JSON.stringify(before) !== JSON.stringify(stored?.resource);
    }
    return differs;
  }

  async #listBlocks(keys: KeyValueStore): Promise<void> {
    const { entries, revision } = await keys.list(BLOCKS);
    const there = new Set(entries.map(({ key }) => key));
    let differs = false;
    for (const key of [...this.#holdings.keys()]) {
      if (!there.has(key)) differs = this.#holdings.delete(key) || differs;
    }
    for (const { key, value } of entries) differs = this.#hold(key, value) || differs;
    if (differs) this.#onChange();
    const stop = keys.watch(BLOCKS, revision + 1, {
      onEvents: (events) => {
        if (this.#blockEvents(events)) this.#onChange();
      },
      onEnd: (error) => {
        if (this.#stopped) return;
        const isCompacted = error instanceof TortieError && error.code === 'STORE_COMPACTED';
        if (!isCompacted) this.#state(error.message);
        void this.#relist(keys);
      },
    });
    this.#stops.push(stop);
  }

  async #relist(keys: KeyValueStore): Promise<void> {
    while (!this.#stopped) {
      try {
        await this.#listBlocks(keys);
        return;
      } catch (error) {
        this.#state((error as Error).message);
        await sleep(RETRY_MS, undefined, { ref: false });
      }
    }
  }

  #blockEvents(events: readonly KeyEvent[]): boolean {
    let differs = false;
    for (const { key, entry } of events) {
      const changed = entry ? this.#hold(key, entry.value) : this.#holdings.delete(key);
      differs ||= changed;
    }
    return differs;
  }

  /** True if who holds what is another. */
  #hold(key: string, value: string): boolean {
    let block: Block;
    try {
      block = parseBlock(value);
    } catch (error) {
      this.#log.warn(`left out: ${key}: ${(error as Error).message}`);
      return this.#holdings.delete(key);
    }
    const holding = holdingOf(block);
    const text = JSON.stringify([holding.node, holding.cidr, ...holding.borrowed]);
    if (this.#holdings.get(key)?.text === text) return false;
    this.#holdings.set(key, { text, holding });
    return true;
  }
}

function holdingOf(block: Block): Holding {
  const node = block.affinity?.startsWith('host:') ? block.affinity.slice('host:'.length) : null;
  const borrowed = new Map<string, string>();
  const length = block.cidr.includes(':') ? 128 : 32;
  // Of most blocks all attributes name one node: no need to look at each address.
  if (block.attributes.some(({ secondary }) => secondary.node !== undefined && secondary.node !== node)) {
    for (const ordinal of usedOrdinals(block)) {
      const user = ownerOf(block, ordinal)!.secondary.node;
      if (user !== undefined && user !== node) borrowed.set(`${addressIn(block, ordinal)}/${length}`, user);
    }
  }
  return { node, cidr: block.cidr, borrowed };
}
