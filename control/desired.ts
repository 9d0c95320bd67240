/**
 * What should be: a pure function of the resources and of the routes that BGP found best. The agent compares
 * its answer with what is, and applies the difference.
 *
 * Of two claims to one prefix the nearer wins: this node's own addresses, its pods, its blocks, the blocks and
 * tunnel addresses that the datastore names, then BGP.
 */
import { createHash } from 'node:crypto';
import * as adj from '../dataplane/fib/adjacency.ts';
import type { Limit, Limits, NodeSpec, PortKind } from '../dataplane/messages.ts';
import {
  contains4,
  contains6,
  formatAddress4,
  formatAddress6,
  formatPrefix4,
  formatPrefix6,
  isIp6,
  mask4,
  mask6,
  type Prefix4,
  type Prefix6,
  parseAddress4,
  parseMac,
  parsePrefix4,
  parsePrefix6,
  tryAddress6,
  type Words6,
} from './address.ts';
import { type Desired6, desired6, type Node6, type Pod6 } from './desired6.ts';
import { EX_CONFIG, TortieError } from './error.ts';
import {
  type EncapMode,
  type FelixConfiguration,
  felixSettings,
  type IPPool,
  type Node,
  nodeAddress4,
  nodeAddress6,
  type Resource,
  type WorkloadEndpoint,
} from './resources/schema.ts';

/** Bytes that a tunnel puts in front of an inner packet. */
const OVERHEAD = { ipip: 20, vxlan: 50, vxlan6: 70, none: 0 } as const;
/** Source of ICMP errors of a node that has no IPv4 address (RFC 7600 4.8). */
const NO_ADDRESS = parseAddress4('192.0.0.8');
const GATEWAY_MAC = parseMac('ee:ee:ee:ee:ee:ee');
export const VXLAN_PORT_NAME = 'vxlan';
export const VXLAN6_PORT_NAME = 'vxlan6';
export const IPIP_PORT_NAME = 'ipip';

export interface DesiredSettings {
  readonly nodeName: string;
  /** Name of the TAP into the node's own namespace. */
  readonly hostDevice: string;
  /** Largest IP packet that the network between nodes carries, bytes. */
  readonly underlayMtu: number;
  readonly vni: number;
  /** ICMP errors a second and worker. */
  readonly icmpRate: number;
  /** The largest outer packet that goes through to a peer (its address as text), where that is less than underlayMtu. */
  readonly pathMtu?: (peer: string) => number | undefined;
  /** DSCP of tunnel packets; else that of the packet inside. */
  readonly dscp?: number | 'inherit';
}

/** A route that stands for one of BGP's where no speaker runs. Addresses are int32, host order. */
export interface BgpRoute {
  readonly prefix: number;
  readonly length: number;
  readonly nextHop: number;
  /** Who announced it, for people: "10.0.0.3 (AS 64512)". */
  readonly peerLabel: string;
}

export interface DesiredPort {
  readonly name: string;
  readonly kind: PortKind;
  /** Namespace of the device (name or path), or null for the node's own. */
  readonly netns: string | null;
  /** Device name; empty for tunnels, which are sockets. */
  readonly device: string;
  readonly mac: Uint8Array | null;
  /** Addresses on the device, int32. */
  readonly addresses: readonly number[];
  /** What a pod may send from: [prefix, mask, ...]. */
  readonly sources: readonly number[];
  readonly addresses6: readonly Words6[];
  /** The same of IPv6, eight int32 each. */
  readonly sources6: readonly number[];
  readonly mtu: number;
  /** Limits of a pod's bandwidth: from it and to it. */
  readonly limits?: Pick<Limits, 'from' | 'to'>;
  /** Queues that the device should have, if there are as many workers. */
  readonly queues: number;
}

/** An adjacency with its port by name: ids are given when ports are opened. */
export interface DesiredAdjacency extends Omit<adj.Adjacency, 'port'> {
  readonly port: string | null;
}

export interface DesiredRoute {
  readonly prefix: number;
  readonly length: number;
  readonly adjacency: DesiredAdjacency;
  readonly origin: string;
}

/** A route of the node's kernel: to the host device, or by way of another node. */
export interface KernelRoute {
  readonly prefix: number;
  readonly length: number;
  /** Next hop, or null: the host device. */
  readonly via: number | null;
  /** Preferred source address, or null. */
  readonly source: number | null;
}

export interface Desired {
  readonly node: NodeSpec;
  readonly ports: readonly DesiredPort[];
  /** What people call a pod, by its port's name: its workload and its pod, with their namespace and without. */
  readonly podNames: ReadonlyMap<string, readonly string[]>;
  /** The FIB, by `routeKey`. */
  readonly routes: ReadonlyMap<number, DesiredRoute>;
  /** Addresses that may send us tunnel packets. */
  readonly peers: ReadonlySet<number>;
  readonly kernelRoutes: ReadonlyMap<number, KernelRoute>;
  /** The same of IPv6. */
  readonly six: Desired6;
  /** BGP Identifier of this node. */
  readonly routerId: number;
  /** What this node announces by BGP: prefixes of both families. */
  readonly originate: readonly string[];
  readonly learning: Learning;
  /** What could not be had as the resources want it, for people. */
  readonly problems: readonly string[];
}

/** How packets to a prefix that BGP told travel, besides what the FIB says. */
export interface Reach {
  readonly adjacency: DesiredAdjacency;
  /** The kernel forwards there itself (address, text), or is to hand packets to the host device (null). */
  readonly via: string | null;
  /** Preferred source of the kernel's route, text, or null. */
  readonly source: string | null;
  /** Where a tunnel ends, so that packets may come from there: int32, or null. */
  readonly peer: number | null;
}

/** What the resources say of routes that BGP tells, route by route. Pools are known by number; -1: outside of all. */
export interface Learning {
  /** Other text, other pools: what was asked is to be asked again. */
  readonly pools: string;
  pool4(prefix: number, length: number): number;
  pool6(words: ArrayLike<number>, length: number): number;
  /** Null: such a route is left out. Next hops are one int32 or four. */
  reach4(pool: number, nextHop: readonly number[]): Reach | null;
  reach6(pool: number, nextHop: readonly number[]): Reach | null;
  /** Why a route is left out that somebody might miss, or null. */
  fault(prefix: string, nextHop: string, peerLabel: string): string | null;
}

/** One number for a prefix. */
export const routeKey = (prefix: number, length: number): number => (prefix >>> 0) * 64 + length;

/** The MAC of a node's VTEP where its Node does not name one: "f" and five bytes of SHA-1, as Felix derives it. */
export function vtepMac(nodeName: string): Uint8Array {
  const known = vtepMacs.get(nodeName);
  if (known) return known;
  const mac = Uint8Array.from([0x66, ...digest(nodeName).subarray(0, 5)]);
  vtepMacs.set(nodeName, mac);
  return mac;
}

/** Made once a node: each reconcile asks for each route. */
const vtepMacs = new Map<string, Uint8Array>();

/** Its MAC over IPv6, as Felix derives that. */
export const vtepMac6 = (nodeName: string): Uint8Array => vtepMac(`${nodeName}-v6`);

/** A stable, locally administered MAC for a device of this node. */
export function deviceMac(nodeName: string, device: string): Uint8Array {
  const mac = Uint8Array.from(digest(`${nodeName}/${device}`).subarray(0, 6));
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}

const digest = (text: string): Buffer => createHash('sha1').update(text).digest();

/**
 * `bgpRoutes`: what BGP would tell where no speaker runs; a running one's routes are taken one by one, by `learning`.
 * Throws a TortieError if the resources have no address for this node; all lesser faults are `problems`.
 */
export function desiredState(
  settings: DesiredSettings,
  resources: readonly Resource[],
  bgpRoutes: Iterable<BgpRoute> = [],
): Desired {
  return new Builder(settings, resources).build(bgpRoutes);
}

/** Seconds of its rate that a pod may burst where nothing is said, and the least of it, bytes. */
const BURST_SECONDS = 0.1;
const LEAST_BURST = 65536;

/** From bits, as resources have them, to bytes. "Egress" is the pod's: from it. */
function limitsOf(controls: WorkloadEndpoint['spec']['qosControls']): {
  limits?: NonNullable<DesiredPort['limits']>;
} {
  const limit = (bits = 0, burst = 0): Limit | null => {
    if (bits === 0) return null;
    const rate = bits / 8;
    return { rate, burst: Math.max(LEAST_BURST, burst > 0 ? burst / 8 : rate * BURST_SECONDS) };
  };
  const from = limit(controls?.egressBandwidth, controls?.egressBurst);
  const to = limit(controls?.ingressBandwidth, controls?.ingressBurst);
  return from || to ? { limits: { from, to } } : {};
}

interface Pool extends Prefix4 {
  readonly spec: IPPool['spec'];
}
interface Remote {
  readonly name: string;
  /** 0: it has none of IPv4. */
  readonly address: number;
  readonly spec: Node['spec'];
}
type Encapsulation = 'ipip' | 'vxlan' | 'none';
type Tunnel = 'ipip' | 'vxlan' | 'vxlan6';

class Builder {
  readonly #settings: DesiredSettings;
  readonly #felix: FelixConfiguration['spec'];
  readonly #self: Node;
  readonly #self6: Node6;
  readonly #pools6: { readonly spec: IPPool['spec']; readonly prefix: Prefix6 }[];
  /** 0: it has none of IPv4. */
  readonly #address: number;
  readonly #subnet: Prefix4;
  /** Tunnel addresses of this node, int32, or null. */
  readonly #ipipAddress: number | null;
  readonly #vxlanAddress: number | null;
  readonly #vtepMac: Uint8Array;
  readonly #blocks: Prefix4[];
  /** Longest first: the first that contains an address is its pool. */
  readonly #pools: Pool[];
  readonly #remotes: Remote[];
  readonly #remoteByAddress: Map<number, Remote>;
  readonly #remoteByName: Map<string, Remote>;
  readonly #workloads: WorkloadEndpoint[];
  readonly #podMtu: number;
  readonly #hostMac: Uint8Array;
  /** The node's address and its tunnels'. */
  readonly #own: ReadonlySet<number>;

  readonly #routes = new Map<number, DesiredRoute>();
  readonly #kernelRoutes = new Map<number, KernelRoute>();
  readonly #ports: DesiredPort[] = [];
  readonly #podNames = new Map<string, readonly string[]>();
  readonly #peers = new Set<number>();
  readonly #problems: string[] = [];
  readonly #originate: string[] = [];
  readonly #pods6: Pod6[] = [];
  /** Adjacencies by what they say, so that routes of one next hop share one. */
  readonly #adjacencies = new Map<string, DesiredAdjacency>();
  readonly #tunnels = new Set<Encapsulation | Tunnel>();

  constructor(settings: DesiredSettings, resources: readonly Resource[]) {
    this.#felix = felixSettings(settings.nodeName, resources);
    this.#settings = { ...settings, vni: this.#felix.vxlanVNI ?? settings.vni };
    const nodes = resources.filter((resource) => resource.kind === 'Node');
    const self = nodes.find((node) => node.metadata.name === settings.nodeName);
    const own = (self && nodeAddress4(self.spec)) ?? { address: 0, length: 32 };
    if (!self || (own.address === 0 && !nodeAddress6(self.spec))) {
      throw new TortieError(
        'NODE_UNKNOWN',
        `no Node "${settings.nodeName}" with spec.bgp.ipv4Address or spec.bgp.ipv6Address in the resources; add it, or set nodeName`,
        EX_CONFIG,
      );
    }
    this.#self = self;
    this.#self6 = node6(self.metadata.name, own.address, self.spec);
    this.#address = own.address;
    this.#subnet = { prefix: own.address & mask4(own.length), length: own.length };
    this.#ipipAddress = optionalAddress(self.spec.bgp?.ipv4IPIPTunnelAddr);
    this.#vxlanAddress = optionalAddress(self.spec.ipv4VXLANTunnelAddr);
    this.#vtepMac = macOf(self);
    this.#blocks = self.spec.blocks.filter(is4).map(parsePrefix4);
    const pools = resources.filter((resource) => resource.kind === 'IPPool');
    this.#pools6 = pools
      .filter(({ spec }) => isIp6(spec.cidr))
      .map(({ spec }) => ({ spec, prefix: parsePrefix6(spec.cidr) }))
      .sort((a, b) => b.prefix.length - a.prefix.length);
    this.#pools = pools
      .filter(({ spec }) => is4(spec.cidr))
      .map((pool) => ({ ...parsePrefix4(pool.spec.cidr), spec: pool.spec }))
      .sort((a, b) => b.length - a.length);
    this.#remotes = nodes.flatMap((node) => {
      const at = nodeAddress4(node.spec);
      if (node === self || !(at ?? nodeAddress6(node.spec))) return [];
      return [{ name: node.metadata.name, address: at?.address ?? 0, spec: node.spec }];
    });
    const known4 = this.#remotes.filter(({ address }) => address !== 0);
    this.#remoteByAddress = new Map(known4.map((remote) => [remote.address, remote]));
    this.#remoteByName = new Map(this.#remotes.map((remote) => [remote.name, remote]));
    this.#workloads = resources.filter(
      (resource) => resource.kind === 'WorkloadEndpoint' && resource.spec.node === settings.nodeName,
    ) as WorkloadEndpoint[];
    this.#podMtu = this.#smallestMtu();
    this.#hostMac = deviceMac(settings.nodeName, settings.hostDevice);
    this.#own = new Set([this.#address, ...this.#tunnelAddresses()].filter((address) => address !== 0));
  }

  build(bgpRoutes: Iterable<BgpRoute>): Desired {
    const { dscp } = this.#settings;
    this.#addHost();
    for (const workload of this.#workloads) this.#addPod(workload);
    this.#addOwnBlocks();
    for (const remote of this.#remotes) this.#addRemote(remote);
    for (const route of bgpRoutes) this.#addBgp(route);
    this.#route(0, 0, this.#hostAdjacency(0), 'default');
    const six = this.#build6();
    this.#addTunnelPorts();
    const { address, tunnelAddress } = this.#self6;
    const underlay6 = address?.words;
    const address6 = tunnelAddress ?? underlay6;
    return {
      node: {
        address: this.#address || NO_ADDRESS,
        ...(this.#vxlanAddress !== null && { vxlanAddress: this.#vxlanAddress }),
        ...(this.#ipipAddress !== null && { ipipAddress: this.#ipipAddress }),
        local: [...this.#own],
        ...(address6 && { address6 }),
        local6: [underlay6, tunnelAddress].flatMap((words) => words ?? []),
        ...(underlay6 && { underlay6, vtepMac6: macOf6(this.#self) }),
        vtepMac: this.#vtepMac,
        vni: this.#settings.vni,
        icmpRate: this.#settings.icmpRate,
        ...(typeof dscp === 'number' && { dscp }),
      },
      ports: this.#ports,
      podNames: this.#podNames,
      routes: this.#routes,
      peers: this.#peers,
      kernelRoutes: this.#kernelRoutes,
      six,
      routerId: this.#address || identifierOf(this.#self.metadata.name),
      originate: [...this.#originate, ...this.#announced6()],
      learning: this.#learning(),
      problems: [...this.#problems, ...six.problems],
    };
  }

  /** The largest packet that fits whatever way a pod's packets may leave by. */
  #smallestMtu(): number {
    const mtus = [...this.#pools, ...this.#pools6]
      .filter((pool) => !pool.spec.disabled)
      .map(({ spec }) => this.#mtuOf(this.#tunnelOf(spec)));
    return Math.min(this.#mtuOf('none'), ...mtus);
  }

  /** The largest packet that leaves so: what the underlay has room for, or less if FelixConfiguration says less. */
  #mtuOf(way: Encapsulation | Tunnel): number {
    const room = this.#settings.underlayMtu - OVERHEAD[way];
    const { vxlanMTU: vxlan, vxlanMTUV6: vxlan6, ipipMTU: ipip } = this.#felix;
    const wanted = { vxlan, vxlan6, ipip, none: undefined }[way];
    return Math.min(room, wanted || room);
  }

  /** What a pool's packets travel in, as far as both nodes can. */
  #tunnelOf(spec: IPPool['spec']): Encapsulation | Tunnel {
    const way = encapsulationOf(spec);
    return way === 'vxlan' && isIp6(spec.cidr) && this.#self6.address ? 'vxlan6' : way;
  }

  /** The same to a peer, whose path may take less. */
  #mtuTo(peer: string, way: Tunnel): number {
    const path = this.#settings.pathMtu?.(peer);
    const mtu = this.#mtuOf(way);
    return path === undefined ? mtu : Math.min(mtu, path - OVERHEAD[way]);
  }

  #tunnelAddresses(): number[] {
    return [...new Set([this.#ipipAddress, this.#vxlanAddress])].filter((address) => address !== null);
  }

  // ---- This node -----------------------------------------------------------------------------------

  #addHost(): void {
    const { hostDevice } = this.#settings;
    this.#ports.push({
      name: hostDevice,
      kind: 'host',
      netns: null,
      device: hostDevice,
      mac: this.#hostMac,
      addresses: this.#tunnelAddresses(),
      sources: [],
      addresses6: this.#self6.tunnelAddress ? [this.#self6.tunnelAddress] : [],
      sources6: [],
      mtu: this.#podMtu,
      queues: 1,
    });
    for (const address of this.#own) {
      this.#route(address, 32, this.#hostAdjacency(0), 'this node');
    }
  }

  #addPod(workload: WorkloadEndpoint): void {
    const { spec, metadata } = workload;
    const name = spec.interfaceName;
    const origin = `workload ${metadata.namespace ? `${metadata.namespace}/` : ''}${metadata.name}`;
    if (this.#ports.some((port) => port.name === name)) {
      this.#problems.push(`${origin}: another port is named ${name}; give it an interfaceName of its own`);
      return;
    }
    if (spec.netns === undefined) {
      this.#problems.push(`${origin}: names no namespace, so it has no port; set netns`);
      return;
    }
    const networks = spec.ipNetworks.filter(is4).map(parsePrefix4);
    const allowed = spec.allowSpoofedSourcePrefixes.filter(is4).map(parsePrefix4);
    const networks6 = spec.ipNetworks.filter(isIp6).map(parsePrefix6);
    const allowed6 = spec.allowSpoofedSourcePrefixes.filter(isIp6).map(parsePrefix6);
    const mac = spec.mac ? parseMac(spec.mac) : deviceMac(this.#settings.nodeName, name);
    const mtu = Math.min(spec.mtu ?? this.#podMtu, this.#podMtu);
    this.#ports.push({
      name,
      kind: 'pod',
      netns: spec.netns,
      device: spec.endpoint,
      mac,
      addresses: networks.map((network) => network.prefix),
      sources: [...networks, ...allowed].flatMap((network) => [network.prefix, mask4(network.length)]),
      addresses6: networks6.map(({ words }) => words),
      sources6: [...networks6, ...allowed6].flatMap(({ words, length }) => [...words, ...mask6(length)]),
      mtu,
      queues: spec.queues,
      ...limitsOf(spec.qosControls),
    });
    const called = [metadata.name, spec.pod].filter((text) => text !== undefined);
    const within = metadata.namespace ? called.map((text) => `${metadata.namespace}/${text}`) : [];
    this.#podNames.set(name, [...called, ...within]);
    const leave = { ...none, kind: adj.POD, port: name, mtu, dmac: mac, smac: GATEWAY_MAC };
    const adjacency = this.#share(leave);
    this.#pods6.push({ origin, addresses: networks6, adjacency });
    for (const { prefix, length } of networks) {
      this.#route(prefix, length, adjacency, origin);
      if (this.#blocks.some((block) => contains4(block, prefix))) continue;
      // Borrowed from another node's block: nothing else says that it is here.
      this.#kernelRoute(prefix, length, null);
      this.#announce({ prefix, length });
    }
  }

  /** A node's own blocks are blackholed where no pod lives; the kernel sends all of a block to us. */
  #addOwnBlocks(): void {
    for (const block of this.#blocks) {
      this.#route(block.prefix, block.length, this.#share({ ...none, kind: adj.BLACKHOLE }), 'block');
      this.#kernelRoute(block.prefix, block.length, null);
      this.#announce(block);
    }
  }

  #announce(own: Prefix4): void {
    if (this.#poolOf(own.prefix, own.length)?.spec.disableBGPExport) return;
    this.#originate.push(formatPrefix4(own.prefix, own.length));
  }

  /** Blocks, and addresses that were borrowed from blocks of other nodes. */
  #announced6(): string[] {
    const { blocks } = this.#self6;
    const borrowed = this.#pods6
      .flatMap(({ addresses }) => addresses)
      .filter(({ words }) => !blocks.some((block) => contains6(block, words)));
    const isExported = ({ words }: Prefix6) =>
      !this.#pools6.find(({ prefix }) => contains6(prefix, words))?.spec.disableBGPExport;
    return [...borrowed, ...blocks].filter(isExported).map(formatPrefix6);
  }

  // ---- Other nodes ---------------------------------------------------------------------------------

  /** What the datastore knows of a node: it is a peer, owns its blocks of VXLAN pools, and has tunnel addresses. */
  #addRemote(remote: Remote): void {
    if (remote.address === 0 || this.#address === 0) return;
    if (remote.address === this.#address) {
      this.#problems.push(`node ${remote.name} has the address of this node; give each node its own`);
      return;
    }
    this.#peers.add(remote.address);
    for (const block of remote.spec.blocks.filter(is4).map(parsePrefix4)) {
      const pool = this.#poolOf(block.prefix, block.length);
      if (pool && encapsulationOf(pool.spec) === 'vxlan') {
        this.#reach(
          block,
          remote.address,
          this.#wayTo(pool, remote.address),
          `datastore node ${remote.name}`,
        );
      }
    }
    const tunnels = [
      ['ipip', remote.spec.bgp?.ipv4IPIPTunnelAddr],
      ['vxlan', remote.spec.ipv4VXLANTunnelAddr],
    ] as const;
    for (const [encapsulation, text] of tunnels) {
      if (text === undefined) continue;
      const prefix = parseAddress4(text);
      const pool = this.#poolOf(prefix, 32);
      const way = pool ? this.#wayTo(pool, remote.address) : encapsulation;
      this.#reach({ prefix, length: 32 }, remote.address, way, `tunnel address of node ${remote.name}`);
    }
  }

  #addBgp({ prefix, length, nextHop, peerLabel }: BgpRoute): void {
    const fault = this.#bgpFault({ prefix, length }, nextHop, peerLabel);
    if (fault !== null) this.#problems.push(fault);
    const reach = this.#reach4(this.#poolOf(prefix, length), nextHop);
    if (!reach || length === 0 || this.#routes.has(routeKey(prefix, length))) return;
    this.#route(prefix, length, reach.adjacency, `bgp ${peerLabel}`);
    if (reach.peer !== null) this.#peers.add(reach.peer);
    const source = reach.source === null ? null : parseAddress4(reach.source);
    const via = reach.via === null ? null : nextHop;
    this.#kernelRoutes.set(routeKey(prefix, length), { prefix, length, via, source });
  }

  /**
   * What BGP announces of a VXLAN pool is left out: the datastore is the one owner of such a pool's routes. A node that
   * announces what is its there does no harm.
   */
  #bgpFault(to: Prefix4, nextHop: number, peerLabel: string): string | null {
    const pool = this.#poolOf(to.prefix, to.length);
    if (!pool || encapsulationOf(pool.spec) !== 'vxlan') return null;
    const known = this.#routes.get(routeKey(to.prefix, to.length));
    if (known?.adjacency.nextHop === nextHop || this.#own.has(nextHop)) return null;
    return `${formatPrefix4(to.prefix, to.length)} of VXLAN pool ${formatPrefix4(pool.prefix, pool.length)} is announced by ${peerLabel} with next hop ${formatAddress4(nextHop)}, which the datastore does not say; the announcement is left out`;
  }

  /** How packets to an address of a pool, or of none, travel to a BGP next hop. Null: that route is left out. */
  #reach4(pool: Pool | undefined, nextHop: number): Reach | null {
    // Announced by ourselves and reflected.
    if (this.#own.has(nextHop)) return null;
    const way = pool ? this.#wayTo(pool, nextHop) : 'none';
    if (pool && encapsulationOf(pool.spec) === 'vxlan') return null;
    if (way === 'none') return this.#direct(nextHop, formatAddress4(nextHop));
    const adjacency = this.#ipip(nextHop);
    const source = this.#ipipAddress ?? this.#vxlanAddress;
    return {
      adjacency,
      via: null,
      source: source === null ? null : formatAddress4(source),
      peer: nextHop,
    };
  }

  /** By the host's kernel to a next hop. `identity`: its node's IPv4 address, 0 where that is not known. */
  #direct(identity: number, via: string, nextHop6?: Words6): Reach {
    return { adjacency: this.#hostAdjacency(identity, nextHop6), via, source: null, peer: null };
  }

  #learning(): Learning {
    const pools6 = this.#pools6;
    const byAddress6 = new Map(
      this.#remotes.flatMap(({ name, address, spec }) => {
        const own = node6(name, address, spec).address;
        return own ? [[own.words.join(), address] as const] : [];
      }),
    );
    const { address, tunnelAddress } = this.#self6;
    const own6 = new Set([address?.words, tunnelAddress].map((words) => words?.join()));
    const reach6 = (nextHop: readonly number[], isSix: boolean): Reach | null => {
      if (own6.has(nextHop.join())) return null;
      const words = nextHop as Words6;
      const identity = byAddress6.get(nextHop.join());
      const isPeer = isSix && address !== null && identity !== undefined;
      return this.#direct(identity ?? 0, formatAddress6(words), isPeer ? words : undefined);
    };
    return {
      pools: JSON.stringify([this.#pools.map(({ spec }) => spec), pools6.map(({ spec }) => spec)]),
      pool4: (prefix, length) => this.#poolIndex(prefix, length),
      pool6: (words, length) =>
        pools6.findIndex(({ prefix }) => prefix.length <= length && contains6(prefix, words as Words6)),
      reach4: (pool, nextHop) =>
        nextHop.length > 1
          ? this.#pools[pool] && encapsulationOf(this.#pools[pool].spec) !== 'none'
            ? null
            : reach6(nextHop, false)
          : this.#reach4(this.#pools[pool], nextHop[0]!),
      reach6: (pool, nextHop) => {
        const inVxlan = pool >= 0 && pools6[pool]!.spec.vxlanMode !== 'Never';
        if (inVxlan) return null;
        return nextHop.length > 1
          ? reach6(nextHop, true)
          : this.#direct(nextHop[0]!, formatAddress4(nextHop[0]!));
      },
      fault: (prefix, nextHop, peerLabel) =>
        isIp6(prefix) || isIp6(nextHop)
          ? null
          : this.#bgpFault(parsePrefix4(prefix), parseAddress4(nextHop), peerLabel),
    };
  }

  #poolOf(prefix: number, length: number): Pool | undefined {
    return this.#pools[this.#poolIndex(prefix, length)];
  }

  #poolIndex(prefix: number, length: number): number {
    return this.#pools.findIndex((pool) => pool.length <= length && contains4(pool, prefix));
  }

  /** How packets to a pool's address travel to a node. */
  #wayTo(pool: Pool, nextHop: number): Encapsulation {
    const encapsulation = encapsulationOf(pool.spec);
    const mode: EncapMode = encapsulation === 'ipip' ? pool.spec.ipipMode : pool.spec.vxlanMode;
    return mode === 'CrossSubnet' && contains4(this.#subnet, nextHop) ? 'none' : encapsulation;
  }

  #reach(to: Prefix4, nextHop: number, way: Encapsulation, origin: string): void {
    if (this.#routes.has(routeKey(to.prefix, to.length))) return;
    if (way === 'none') {
      this.#route(to.prefix, to.length, this.#hostAdjacency(nextHop), origin);
      this.#kernelRoute(to.prefix, to.length, nextHop);
      return;
    }
    const adjacency = way === 'ipip' ? this.#ipip(nextHop) : this.#vxlan(nextHop);
    if (!adjacency) {
      const what = formatPrefix4(to.prefix, to.length);
      const whom = formatAddress4(nextHop);
      this.#problems.push(
        `${what} is in a VXLAN pool but no Node has its next hop ${whom}: its VTEP is unknown; add the Node`,
      );
      this.#route(to.prefix, to.length, this.#share({ ...none, kind: adj.UNREACHABLE }), origin);
      return;
    }
    this.#tunnels.add(way);
    this.#peers.add(nextHop);
    this.#route(to.prefix, to.length, adjacency, origin);
    this.#kernelRoute(to.prefix, to.length, null, way);
  }

  #build6(): Desired6 {
    const pools = this.#pools6.map(
      ({ spec, prefix }) =>
        ({
          ...prefix,
          wayTo: (node: Node6) => {
            const isNear = spec.vxlanMode === 'CrossSubnet' && this.#isNear6(node);
            return spec.vxlanMode === 'Never' || isNear ? 'none' : 'vxlan';
          },
        }) as const,
    );
    const remotes = this.#remotes
      .filter((remote) => remote.address === 0 || remote.address !== this.#address)
      .map(({ name, address, spec }) => node6(name, address, spec))
      .filter(({ name, address }) => {
        const isTwin = address !== null && address.words.join() === this.#self6.address?.words.join();
        if (isTwin)
          this.#problems.push(`node ${name} has the IPv6 address of this node; give each node its own`);
        return !isTwin;
      });
    return desired6(this.#self6, remotes, pools, this.#pods6, {
      host: (nextHop, nextHop6) => this.#hostAdjacency(nextHop, nextHop6),
      vxlan: (nextHop) => {
        this.#tunnels.add('vxlan');
        return this.#vxlan(nextHop);
      },
      vxlan6: (name, nextHop6) => {
        this.#tunnels.add('vxlan6');
        return this.#vxlan6(name, nextHop6);
      },
      dead: (kind) => this.#share({ ...none, kind }),
    });
  }

  /** Whether a node is in this node's subnet: that of IPv6, or where one has none, of IPv4. */
  #isNear6({ identity, address }: Node6): boolean {
    const own = this.#self6.address;
    if (own && address) {
      const mask = mask6(own.length);
      return own.words.every((word, i) => ((word ^ address.words[i]!) & mask[i]!) === 0);
    }
    return identity !== 0 && contains4(this.#subnet, identity);
  }

  // ---- Adjacencies ---------------------------------------------------------------------------------

  #ipip(nextHop: number): DesiredAdjacency {
    const mtu = this.#mtuTo(formatAddress4(nextHop), 'ipip');
    return this.#share({
      ...none,
      kind: adj.IPIP,
      port: IPIP_PORT_NAME,
      nextHop,
      mtu,
      source: this.#address,
    });
  }

  /** Null if nobody knows the VTEP at that address. */
  #vxlan(nextHop: number): DesiredAdjacency | null {
    const remote = this.#remoteByAddress.get(nextHop);
    if (!remote) return null;
    return this.#share({
      kind: adj.VXLAN,
      port: VXLAN_PORT_NAME,
      nextHop,
      mtu: this.#mtuTo(formatAddress4(nextHop), 'vxlan'),
      source: this.#address,
      dmac: macOf({ metadata: { name: remote.name }, spec: remote.spec }),
      smac: this.#vtepMac,
      vni: this.#settings.vni,
    });
  }

  /** The peer's number is given when the tables are written. */
  #vxlan6(name: string, nextHop6: Words6): DesiredAdjacency {
    return this.#share({
      ...none,
      kind: adj.VXLAN6,
      port: VXLAN6_PORT_NAME,
      nextHop6,
      mtu: this.#mtuTo(formatAddress6(nextHop6), 'vxlan6'),
      dmac: macOf6({ metadata: { name }, spec: this.#remoteByName.get(name)!.spec }),
      smac: macOf6(this.#self),
      vni: this.#settings.vni,
    });
  }

  /** The host's kernel; with a next hop it is to forward there, unencapsulated. */
  #hostAdjacency(nextHop: number, nextHop6?: Words6): DesiredAdjacency {
    const { hostDevice } = this.#settings;
    return this.#share({
      ...none,
      kind: adj.HOST,
      port: hostDevice,
      nextHop,
      ...(nextHop6 && { nextHop6 }),
      dmac: this.#hostMac,
      smac: GATEWAY_MAC,
    });
  }

  #share(adjacency: DesiredAdjacency): DesiredAdjacency {
    // Kind, port and next hop decide the rest.
    const key = `${adjacency.kind} ${adjacency.port} ${adjacency.nextHop6?.join() ?? adjacency.nextHop}`;
    const known = this.#adjacencies.get(key);
    if (known) return known;
    this.#adjacencies.set(key, adjacency);
    return adjacency;
  }

  #route(prefix: number, length: number, adjacency: DesiredAdjacency, origin: string): void {
    const key = routeKey(prefix, length);
    if (!this.#routes.has(key)) this.#routes.set(key, { prefix, length, adjacency, origin });
  }

  #kernelRoute(prefix: number, length: number, via: number | null, way?: Encapsulation): void {
    const preferred = way === 'vxlan' ? this.#vxlanAddress : this.#ipipAddress;
    const source = via === null ? (preferred ?? this.#ipipAddress ?? this.#vxlanAddress) : null;
    this.#kernelRoutes.set(routeKey(prefix, length), { prefix, length, via, source });
  }

  /** Tunnels that a pool asks for, or a route uses. A disabled pool gives no new addresses; those it gave live on. */
  #addTunnelPorts(): void {
    for (const { spec } of [...this.#pools, ...this.#pools6]) this.#tunnels.add(this.#tunnelOf(spec));
    const base = {
      netns: null,
      device: '',
      mac: null,
      addresses: [this.#address],
      sources: [],
      addresses6: [],
      sources6: [],
      queues: 1,
    };
    const { address: address6 } = this.#self6;
    if (this.#tunnels.has('vxlan6') && address6) {
      const six = { ...base, addresses: [], addresses6: [address6.words] };
      this.#ports.push({ ...six, name: VXLAN6_PORT_NAME, kind: 'vxlan6', mtu: this.#mtuOf('vxlan6') });
    }
    if (this.#address === 0) {
      if (this.#pools.length > 0) this.#problems.push(withoutAddress4(this.#self.metadata.name));
      return;
    }
    if (this.#tunnels.has('vxlan')) {
      this.#ports.push({ ...base, name: VXLAN_PORT_NAME, kind: 'vxlan', mtu: this.#mtuOf('vxlan') });
    }
    if (this.#tunnels.has('ipip')) {
      this.#ports.push({ ...base, name: IPIP_PORT_NAME, kind: 'ipip', mtu: this.#mtuOf('ipip') });
    }
    const tunnelled = this.#tunnels.has('vxlan') || this.#tunnels.has('ipip');
    if (tunnelled && this.#tunnelAddresses().length === 0) {
      const { name } = this.#self.metadata;
      this.#problems.push(
        `node ${name} has no tunnel address, so its host cannot reach pods of other nodes through a tunnel; ` +
          'set ipv4IPIPTunnelAddr or ipv4VXLANTunnelAddr',
      );
    }
  }
}

const none: DesiredAdjacency = {
  kind: adj.NO_ROUTE,
  port: null,
  nextHop: 0,
  mtu: 0,
  source: 0,
  dmac: null,
  smac: null,
  vni: 0,
};

const encapsulationOf = (spec: IPPool['spec']): Encapsulation =>
  spec.ipipMode !== 'Never' ? 'ipip' : spec.vxlanMode !== 'Never' ? 'vxlan' : 'none';

const is4 = (text: string): boolean => !isIp6(text);

const node6 = (name: string, identity: number, spec: Node['spec']): Node6 => ({
  name,
  identity,
  address: nodeAddress6(spec),
  tunnelAddress: spec.ipv6VXLANTunnelAddr ? tryAddress6(spec.ipv6VXLANTunnelAddr) : null,
  blocks: spec.blocks.filter(isIp6).map(parsePrefix6),
});

const withoutAddress4 = (node: string): string =>
  `node ${node} has no spec.bgp.ipv4Address, so pods of IPv4 pools on other nodes cannot be reached from it`;

/** Of a node without an IPv4 address: any number that is its own (RFC 6286). */
const identifierOf = (nodeName: string): number => digest(nodeName).readInt32BE() || 1;

const optionalAddress = (text: string | undefined): number | null =>
  text === undefined ? null : parseAddress4(text);

const macOf = (node: Pick<Node, 'spec'> & { metadata: { name: string } }): Uint8Array =>
  node.spec.vxlanTunnelMACAddr ? parseMac(node.spec.vxlanTunnelMACAddr) : vtepMac(node.metadata.name);

const macOf6 = (node: Pick<Node, 'spec'> & { metadata: { name: string } }): Uint8Array =>
  node.spec.vxlanTunnelMACAddrV6 ? parseMac(node.spec.vxlanTunnelMACAddrV6) : vtepMac6(node.metadata.name);
