/**
 * The IPv6 half of what should be: routes, the kernel's routes, peers, and what is amiss. Between two nodes that have IPv6
 * addresses, IPv6 travels over IPv6; else VXLAN takes it over IPv4.
 * Routes come from the datastore's blocks: BGP carries IPv4 only.
 */
import * as adj from '../dataplane/fib/adjacency.ts';
import { contains6, formatPrefix6, type Prefix6, type Words6 } from './address.ts';
import type { DesiredAdjacency } from './desired.ts';

export interface DesiredRoute6 {
  readonly to: Prefix6;
  readonly adjacency: DesiredAdjacency;
  readonly origin: string;
}

/** A route of the node's kernel: to the host device, or by way of another node. */
export interface KernelRoute6 {
  readonly to: Prefix6;
  /** Next hop, or null: the host device. */
  readonly via: Words6 | null;
  /** Preferred source address, or null. */
  readonly source: Words6 | null;
}

/** A node as IPv6 sees it. */
export interface Node6 {
  readonly name: string;
  /** The IPv4 address, by which tunnels over IPv4 and tables know it; 0: it has none. */
  readonly identity: number;
  /** With the length of its subnet. */
  readonly address: Prefix6 | null;
  readonly tunnelAddress: Words6 | null;
  readonly blocks: readonly Prefix6[];
}

export interface Pool6 extends Prefix6 {
  /** How packets to its addresses travel to a node. */
  wayTo(node: Node6): 'vxlan' | 'none';
}

export interface Pod6 {
  readonly origin: string;
  readonly addresses: readonly Prefix6[];
  readonly adjacency: DesiredAdjacency;
}

/** How packets leave, made and shared by whoever knows the ports. */
export interface Ways {
  /** `nextHop6`: who may send tunnel packets over IPv6 from there, too. */
  host(nextHop: number, nextHop6?: Words6): DesiredAdjacency;
  /** Over IPv4. Null if the VTEP is unknown. */
  vxlan(nextHop: number): DesiredAdjacency | null;
  vxlan6(name: string, nextHop: Words6): DesiredAdjacency | null;
  dead(kind: number): DesiredAdjacency;
}

export interface Desired6 {
  /** By prefix. */
  readonly routes: ReadonlyMap<string, DesiredRoute6>;
  readonly kernelRoutes: ReadonlyMap<string, KernelRoute6>;
  /** Addresses that may send us tunnel packets over IPv6, by their words joined. */
  readonly peers: ReadonlyMap<string, Words6>;
  readonly problems: readonly string[];
}

export function desired6(
  self: Node6,
  remotes: readonly Node6[],
  pools: readonly Pool6[],
  pods: readonly Pod6[],
  ways: Ways,
): Desired6 {
  const routes = new Map<string, DesiredRoute6>();
  const kernelRoutes = new Map<string, KernelRoute6>();
  const peers = new Map<string, Words6>();
  const problems: string[] = [];
  const route = (to: Prefix6, adjacency: DesiredAdjacency, origin: string) => {
    const key = formatPrefix6(to);
    if (!routes.has(key)) routes.set(key, { to, adjacency, origin });
  };
  const kernelRoute = (to: Prefix6, via: Words6 | null) => {
    const source = via === null ? self.tunnelAddress : null;
    kernelRoutes.set(formatPrefix6(to), { to, via, source });
  };
  const tunnelTo = (node: Node6): DesiredAdjacency | null => {
    if (self.address && node.address) return ways.vxlan6(node.name, node.address.words);
    return self.identity !== 0 && node.identity !== 0 ? ways.vxlan(node.identity) : null;
  };
  /** A remote node's prefix, by the way that its pool asks for. */
  const reach = (to: Prefix6, node: Node6, way: 'vxlan' | 'none', origin: string) => {
    if (routes.has(formatPrefix6(to))) return;
    if (way === 'none' && node.address) {
      route(to, ways.host(node.identity, self.address ? node.address.words : undefined), origin);
      kernelRoute(to, node.address.words);
      return;
    }
    const adjacency = way === 'vxlan' ? tunnelTo(node) : null;
    if (!adjacency) {
      const fault =
        way === 'vxlan'
          ? 'it and this node have no addresses of one family'
          : 'it has no spec.bgp.ipv6Address';
      problems.push(`${formatPrefix6(to)} of node ${node.name} cannot be reached: ${fault}`);
    }
    route(to, adjacency ?? ways.dead(adj.UNREACHABLE), origin);
    kernelRoute(to, null);
  };

  for (const words of [self.address?.words, self.tunnelAddress]) {
    if (words) route({ words, length: 128 }, ways.host(0), 'this node');
  }
  for (const { origin, addresses, adjacency } of pods) {
    for (const to of addresses) {
      route(to, adjacency, origin);
      // Borrowed from another node's block: nothing else says that it is here.
      if (!self.blocks.some((block) => contains6(block, to.words))) kernelRoute(to, null);
    }
  }
  for (const block of self.blocks) {
    route(block, ways.dead(adj.BLACKHOLE), 'block');
    kernelRoute(block, null);
  }
  for (const node of remotes) {
    if (self.address && node.address) peers.set(node.address.words.join(), node.address.words);
    for (const block of node.blocks) {
      const pool = pools.find((candidate) => contains6(candidate, block.words));
      if (pool) reach(block, node, pool.wayTo(node), `datastore node ${node.name}`);
    }
    if (!node.tunnelAddress) continue;
    const pool = pools.find((candidate) => contains6(candidate, node.tunnelAddress!));
    const to = { words: node.tunnelAddress, length: 128 };
    reach(to, node, pool?.wayTo(node) ?? 'vxlan', `tunnel address of node ${node.name}`);
  }
  if (pools.length > 0 || pods.length > 0) route({ words: [0, 0, 0, 0], length: 0 }, ways.host(0), 'default');
  if (remotes.length > 0 && pools.length > 0 && !self.tunnelAddress && !self.address) {
    problems.push(
      `node ${self.name} has no IPv6 address, so its host cannot reach IPv6 pods of other nodes; set ipv6VXLANTunnelAddr`,
    );
  }
  return { routes, kernelRoutes, peers, problems };
}
