/** Addresses of our own IPAM, for attachments: each has a handle that is called as Calico calls it. */
import { isIp6 } from '../address.ts';
import type { Datastore } from '../datastore/datastore.ts';
import type { KeyValueStore } from '../datastore/kv.ts';
import { ownerOf, usedOrdinals } from '../ipam/block.ts';
import { Ipam } from '../ipam/ipam.ts';
import { poolsFor, reservedCidrs } from '../ipam/pools.ts';
import type { Addresses, Attachment } from './addresses.ts';
import { CniError, CODE } from './error.ts';
import { handleId } from './names.ts';
import type { Request } from './request.ts';
import type { Result } from './result.ts';

/** Attribute of an address that CNI took: for which network. */
const NETWORK = 'cni-network';

export class OwnAddresses implements Addresses {
  readonly #node: string;
  readonly #store: Datastore;
  readonly #keys: KeyValueStore;

  constructor(node: string, store: Datastore, keys: KeyValueStore) {
    this.#node = node;
    this.#store = store;
    this.#keys = keys;
  }

  async add(request: Request): Promise<Result> {
    const ipam = this.#ipam(request);
    const owner = {
      node: this.#node,
      handle: handleOf(request),
      attributes: {
        node: this.#node,
        [NETWORK]: request.config.name,
        namespace: request.pod.namespace,
        ...(request.pod.name !== undefined && { pod: request.pod.name }),
        timestamp: new Date().toISOString(),
      },
    };
    const { addresses } = request.wanted;
    if (addresses.length === 0) {
      const { ip4, ip6 } = familiesOf(request);
      if (ip4 + ip6 === 0) {
        throw new CniError(
          CODE.config,
          'ipam: assign_ipv4 and assign_ipv6 are both false: no address is left',
        );
      }
      const pools = await this.#named(request);
      return resultOf(await ipam.assign({ ...owner, ip4, ip6, ...(pools && { pools }) }));
    }
    try {
      const given = [];
      for (const address of addresses) given.push(await ipam.assignAddress({ ...owner, address }));
      return resultOf(given);
    } catch (error) {
      await ipam.releaseHandle(owner.handle);
      throw error;
    }
  }

  async check(request: Request, addresses: readonly string[]): Promise<void> {
    const handle = handleOf(request);
    const has = (await this.#ipam(request).addressesOf(handle)).map(({ address }) => address);
    const missing = addresses.find((address) => !has.includes(address));
    if (missing === undefined) return;
    throw new CniError(
      CODE.check,
      `${missing} is not assigned to ${handle}, which has ${has.join(', ') || 'none'}`,
    );
  }

  async del(request: Request): Promise<void> {
    const ipam = this.#ipam(request);
    await ipam.releaseHandle(handleOf(request));
    // How Calico called them long ago.
    const { namespace, name } = request.pod;
    if (name !== undefined) await ipam.releaseHandle(`${namespace}.${name}`);
  }

  async status(request: Request): Promise<void> {
    const pools = (await this.#pools(request)).filter(({ spec }) => !spec.disabled);
    const wanted = familiesOf(request);
    for (const [is6, count] of [
      [false, wanted.ip4],
      [true, wanted.ip6],
    ] as const) {
      if (count === 0 || pools.some(({ spec }) => isIp6(spec.cidr) === is6)) continue;
      throw new CniError(
        CODE.unavailable,
        `no ${is6 ? 'IPv6' : 'IPv4'} pool is enabled for node ${this.#node}`,
        'apply an IPPool, or correct the pools that "ipam" names',
      );
    }
  }

  /** Goes on past failures, and throws the first at the end. */
  async gc(request: Request, valid: readonly Attachment[]): Promise<void> {
    const network = request.config.name;
    const kept = new Set(valid.map(({ containerId, ifname }) => handleId(network, containerId, ifname)));
    const ipam = this.#ipam(request);
    const stale = new Set<string>();
    for (const block of await ipam.blocks()) {
      for (const ordinal of usedOrdinals(block)) {
        const owner = ownerOf(block, ordinal);
        const isOurs = owner?.secondary.node === this.#node && owner.secondary[NETWORK] === network;
        if (isOurs && owner.handle_id !== null && !kept.has(owner.handle_id)) stale.add(owner.handle_id);
      }
    }
    const failures: unknown[] = [];
    for (const handle of stale) await ipam.releaseHandle(handle).catch((error) => failures.push(error));
    if (failures.length > 0) throw failures[0];
  }

  #ipam(request: Request): Ipam {
    return new Ipam(this.#keys, () => this.#pools(request), { reserved: () => reservedCidrs(this.#store) });
  }

  /** If the configuration names pools, of one family or both: the names of all that it leaves. */
  async #named(request: Request): Promise<string[] | null> {
    const { ipv4_pools: named4, ipv6_pools: named6 } = request.config.ipam ?? {};
    if (!named4 && !named6) return null;
    return (await this.#pools(request)).map(({ metadata }) => metadata.name);
  }

  /** Of each family those that the configuration names, or all that are for the node. */
  async #pools({ config }: Request) {
    const { ipv4_pools: named4, ipv6_pools: named6 } = config.ipam ?? {};
    const wish = { node: this.#node, use: 'Workload' } as const;
    const pools4 = await poolsFor(this.#store, { ...wish, ...(named4 && { named: named4 }) });
    const pools6 = await poolsFor(this.#store, { ...wish, ...(named6 && { named: named6 }) });
    return [
      ...pools4.filter(({ spec }) => !isIp6(spec.cidr)),
      ...pools6.filter(({ spec }) => isIp6(spec.cidr)),
    ];
  }
}

const handleOf = ({ config, containerId, ifname }: Request): string =>
  handleId(config.name, containerId, ifname);

/** Addresses of each family; Calico's defaults. */
const familiesOf = ({ config }: Request): { ip4: number; ip6: number } => ({
  ip4: (config.ipam?.assign_ipv4 ?? true) ? 1 : 0,
  ip6: (config.ipam?.assign_ipv6 ?? false) ? 1 : 0,
});

const resultOf = (given: readonly { readonly address: string }[]): Result => ({
  interfaces: [],
  ips: given.map(({ address }) => ({ address: `${address}/${isIp6(address) ? 128 : 32}` })),
  routes: [],
  dns: {},
});
