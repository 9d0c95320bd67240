/**
 * The node's own place in the store: its Node resource with its address, a tunnel address for each kind of tunnel that
 * pools want, and a lease that says that its agent lives. What others wrote into the Node stays.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { formatMac } from '../address.ts';
import type { AgentConfig } from '../config/config.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { statusKey } from '../datastore/keys.ts';
import type { KeyValueStore, Lease } from '../datastore/kv.ts';
import { vtepMac, vtepMac6 } from '../desired.ts';
import { EX_CONFIG, EX_UNAVAILABLE, TortieError } from '../error.ts';
import { insist, isConflict } from '../ipam/cas.ts';
import { contains, rangeOf } from '../ipam/cidr.ts';
import { TUNNEL_HANDLES } from '../ipam/handles.ts';
import type { Ipam } from '../ipam/ipam.ts';
import type { Link, Route } from '../kernel/iproute.ts';
import { readNamespace } from '../kernel/netlink.ts';
import { netnsInode } from '../kernel/scan.ts';
import {
  API_VERSION,
  addressTexts,
  type IPPool,
  type Node,
  type Resource,
  SCHEMAS,
} from '../resources/schema.ts';

/** The status key goes so long after the agent, seconds. */
const LEASE_SECONDS = 15;
const RETRY_MS = 1000;
/** rtnetlink's scope of addresses that others may use. */
const SCOPE_UNIVERSE = '0';

type Tunnel = keyof typeof TUNNEL_HANDLES;

/** Handles and types as Calico names them. */
const TUNNELS: Readonly<Record<Tunnel, { handle: string; type: string }>> = {
  ipip: { handle: TUNNEL_HANDLES.ipip, type: 'ipipTunnelAddress' },
  vxlan: { handle: TUNNEL_HANDLES.vxlan, type: 'vxlanTunnelAddress' },
  vxlan6: { handle: TUNNEL_HANDLES.vxlan6, type: 'vxlanV6TunnelAddress' },
};

export class Registration {
  readonly #keys: KeyValueStore;
  readonly #resources: Datastore;
  readonly #ipam: Ipam;
  readonly #config: AgentConfig;
  readonly #log: Logger;
  #lease: Lease | null = null;
  #stopped = false;
  #running: Promise<string[]> | null = null;
  /** What is to be settled next. */
  #wanted: readonly Resource[] | null = null;

  constructor(
    store: { keys: KeyValueStore; resources: Datastore },
    ipam: Ipam,
    config: AgentConfig,
    log: Logger,
  ) {
    this.#keys = store.keys;
    this.#resources = store.resources;
    this.#ipam = ipam;
    this.#config = config;
    this.#log = log;
  }

  /**
   * Be in the store. Waits for a store that is away. Throws NODE_ADDRESS_UNKNOWN, NODE_ADDRESS_TAKEN by another node, or
   * NODE_NAME_TAKEN by the agent of another machine.
   */
  async begin(): Promise<void> {
    await this.#patiently(() => this.#hold());
    await this.#patiently(() => this.#writeAddress());
  }

  /** Have the tunnel addresses that the pools want, and no others. Resolves with what could not be had. */
  tunnels(resources: readonly Resource[]): Promise<string[]> {
    this.#wanted = resources;
    this.#running ??= this.#settle().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#lease?.revoke().catch(() => {});
  }

  async #settle(): Promise<string[]> {
    let problems: string[] = [];
    while (this.#wanted && !this.#stopped) {
      const resources = this.#wanted;
      this.#wanted = null;
      problems = [];
      const pools = resources.filter((resource) => resource.kind === 'IPPool') as IPPool[];
      const own = resources.find(
        ({ kind, metadata }) => kind === 'Node' && metadata.name === this.#config.nodeName,
      ) as Node | undefined;
      for (const tunnel of ['ipip', 'vxlan', 'vxlan6'] as const) {
        await this.#tunnel(tunnel, pools, own).catch((error: Error) => problems.push(error.message));
      }
    }
    return problems;
  }

  async #tunnel(tunnel: Tunnel, all: readonly IPPool[], own: Node | undefined): Promise<void> {
    const { nodeName } = this.#config;
    const pools = all.filter(({ spec }) => !spec.disabled && wants(tunnel, spec));
    const handle = `${TUNNELS[tunnel].handle}-${nodeName}`;
    const current = own && tunnelAddress(own, tunnel);
    const isGood = current && pools.some(({ spec }) => contains(rangeOf(spec.cidr), rangeOf(current)));
    if (pools.length === 0 ? !current : isGood) return;
    if (current) {
      await this.#write((node) => withTunnelAddress(node, tunnel, undefined));
      await this.#ipam.releaseHandle(handle);
    }
    if (pools.length === 0) return;
    const [assigned] = await this.#ipam
      .assign({
        node: nodeName,
        handle,
        attributes: { node: nodeName, type: TUNNELS[tunnel].type },
        use: 'Tunnel',
        pools: pools.map(({ metadata }) => metadata.name),
        ...(tunnel === 'vxlan6' ? { ip6: 1 } : { ip4: 1 }),
      })
      .catch((error: unknown) => {
        // No pool is for this node: it needs no tunnel address.
        if (error instanceof TortieError && error.code === 'IPAM_NO_POOL') return [];
        throw error;
      });
    if (assigned) await this.#write((node) => withTunnelAddress(node, tunnel, assigned.address));
  }

  /** Change our Node; it is made if it is not there. */
  async #write(change: (node: Node) => Node): Promise<void> {
    const { nodeName } = this.#config;
    await insist(`Node ${nodeName}`, async () => {
      const stored = await this.#resources.get({ kind: 'Node', name: nodeName });
      const before = (stored?.resource ?? emptyNode(nodeName)) as Node;
      const after = change(before);
      if (stored && JSON.stringify(before) === JSON.stringify(after)) return;
      await this.#resources.put(after, stored?.revision ?? null);
    });
  }

  async #writeAddress(): Promise<void> {
    const { nodeName, nodeAddress, nodeAddress6 } = this.#config;
    const { links, routes } = readNamespace(null);
    const stored = await this.#resources.list('Node');
    const nodes = stored.map(({ resource }) => resource as Node);
    const own = nodes.find(({ metadata }) => metadata.name === nodeName);
    const address = nodeAddress ?? this.#detect(links, routes, own);
    if (address === null && nodeAddress6 === undefined) {
      throw new TortieError(
        'NODE_ADDRESS_UNKNOWN',
        `no device with a default route has an IPv4 address here; set nodeAddress (such as 192.0.2.1/24), nodeAddress6 for a node of IPv6 alone, or interface in ${this.#config.file}`,
        EX_CONFIG,
      );
    }
    const bgp = {
      ...(address !== null && { ipv4Address: address }),
      ...(nodeAddress6 && { ipv6Address: nodeAddress6 }),
    };
    const hosts = addressTexts({ spec: { bgp, blocks: [] } });
    for (const twin of nodes) {
      const host = addressTexts(twin).find((text) => hosts.includes(text));
      if (host === undefined || twin.metadata.name === nodeName) continue;
      throw new TortieError(
        'NODE_ADDRESS_TAKEN',
        `${host} is the address of node ${twin.metadata.name}, too; give each node its own, or delete that node: tortie delete node ${twin.metadata.name}`,
        EX_CONFIG,
      );
    }
    await this.#write((node) => ({
      ...node,
      spec: {
        ...node.spec,
        vxlanTunnelMACAddr: node.spec.vxlanTunnelMACAddr ?? formatMac(vtepMac(nodeName)),
        ...(nodeAddress6 && {
          vxlanTunnelMACAddrV6: node.spec.vxlanTunnelMACAddrV6 ?? formatMac(vtepMac6(nodeName)),
        }),
        bgp: { ...node.spec.bgp, ...bgp },
      },
    }));
  }

  /** The address that the Node has, if it is on a device here; else that of the interface, or of the default route's device. */
  #detect(links: readonly Link[], routes: readonly Route[], own: Node | undefined): string | null {
    const { interface: wanted, hostDevice } = this.#config;
    const stored = own?.spec.bgp?.ipv4Address;
    const addressesOf = ({ addr_info }: Link) =>
      addr_info
        .filter(({ family, scope }) => family === 'inet' && scope === SCOPE_UNIVERSE)
        .map(({ local, prefixlen }) => `${local}/${prefixlen}`);
    const others = links.filter(({ ifname }) => ifname !== hostDevice && ifname !== 'lo');
    if (stored && others.some((link) => addressesOf(link).includes(stored))) return stored;
    const first = routes.find(({ dst, dev }) => dst === 'default' && dev !== hostDevice)?.dev;
    const names = wanted === undefined ? [first] : [wanted];
    const chosen = others.filter(({ ifname }) => names.includes(ifname));
    // Without a default route: a single device with an address leaves no doubt.
    const candidates = chosen.length > 0 ? chosen : others;
    const found = candidates.flatMap(addressesOf);
    return chosen.length > 0 || found.length === 1 ? (found[0] ?? null) : null;
  }

  /** Say that our agent lives, for as long as it does. */
  async #hold(): Promise<void> {
    const { nodeName } = this.#config;
    const key = statusKey(nodeName);
    const identity = { host: hostname(), machine: machineId(), scope: netnsInode(null) };
    const value = JSON.stringify({ ...identity, pid: process.pid, startedAt: new Date().toISOString() });
    this.#lease ??= await this.#newLease();
    for (let waited = 0; ; waited++) {
      const found = await this.#keys.get(key);
      const other = found && (JSON.parse(found.value) as typeof identity);
      const isOurs = other?.machine === identity.machine && other.scope === identity.scope;
      if (other && !isOurs) {
        if (waited > LEASE_SECONDS) throw nameTaken(nodeName, other.host);
        if (waited === 0)
          this.#log.warn(`an agent on ${other.host} says it is node ${nodeName}; waiting for it to go`);
        await sleep(RETRY_MS);
        continue;
      }
      try {
        await this.#keys.put(key, value, { revision: found?.revision ?? null, lease: this.#lease });
        return;
      } catch (error) {
        if (!isConflict(error)) throw error;
        this.#lease = await this.#newLease();
      }
    }
  }

  async #newLease(): Promise<Lease> {
    const lease = await this.#keys.lease(LEASE_SECONDS);
    lease.onLost(() => {
      if (this.#stopped) return;
      this.#log.warn('the lease of this node was lost while the store was away; taking it anew');
      this.#lease = null;
      void this.#patiently(() => this.#hold()).catch((error) => this.#log.error({ err: error }, 'no lease'));
    });
    return lease;
  }

  /** Until the store is there. */
  async #patiently(action: () => Promise<void>): Promise<void> {
    for (let said = ''; ; ) {
      try {
        return await action();
      } catch (error) {
        const isAway = error instanceof TortieError && error.code === 'STORE_UNAVAILABLE';
        if (!isAway || this.#stopped) throw error;
        if (error.message !== said) this.#log.warn(`${error.message}; waiting for it`);
        said = error.message;
      }
      await sleep(RETRY_MS);
    }
  }
}

const emptyNode = (name: string): Node =>
  SCHEMAS.Node.parse({ apiVersion: API_VERSION, kind: 'Node', metadata: { name }, spec: {} });

const isIp6 = (cidr: string): boolean => cidr.includes(':');

function wants(tunnel: Tunnel, { cidr, ipipMode, vxlanMode }: IPPool['spec']): boolean {
  if (isIp6(cidr)) return tunnel === 'vxlan6' && vxlanMode !== 'Never';
  return tunnel === 'ipip' ? ipipMode !== 'Never' : tunnel === 'vxlan' && vxlanMode !== 'Never';
}

function tunnelAddress({ spec }: Node, tunnel: Tunnel): string | undefined {
  if (tunnel === 'ipip') return spec.bgp?.ipv4IPIPTunnelAddr;
  return tunnel === 'vxlan' ? spec.ipv4VXLANTunnelAddr : spec.ipv6VXLANTunnelAddr;
}

/** The Node with another tunnel address, or none. */
function withTunnelAddress(node: Node, tunnel: Tunnel, address: string | undefined): Node {
  const { ipv4IPIPTunnelAddr: ipip, ...bgp } = node.spec.bgp ?? {};
  const { ipv4VXLANTunnelAddr: vxlan, ipv6VXLANTunnelAddr: vxlan6, bgp: _, ...spec } = node.spec;
  const addresses = { ipip, vxlan, vxlan6, [tunnel]: address };
  return {
    ...node,
    spec: {
      ...spec,
      bgp: { ...bgp, ...(addresses.ipip && { ipv4IPIPTunnelAddr: addresses.ipip }) },
      ...(addresses.vxlan && { ipv4VXLANTunnelAddr: addresses.vxlan }),
      ...(addresses.vxlan6 && { ipv6VXLANTunnelAddr: addresses.vxlan6 }),
    },
  };
}

/** Which machine this is; by its name where it has no id. */
function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim() || hostname();
  } catch {
    return hostname();
  }
}

const nameTaken = (node: string, host: string) =>
  new TortieError(
    'NODE_NAME_TAKEN',
    `an agent on ${host} is node ${node} already; give this one another nodeName`,
    EX_UNAVAILABLE,
  );
