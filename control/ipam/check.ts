/** Whether what IPAM says and what is there agree. Pure: it looks at what was read, and changes nothing. */
import type { Resource } from '../resources/schema.ts';
import { addressIn, type Block, ownerOf, usedOrdinals } from './block.ts';
import { contains, rangeOf } from './cidr.ts';
import type { Handle } from './handles.ts';

export interface Allocation {
  readonly address: string;
  readonly block: string;
  readonly handle: string | null;
  /** Of its assignment: a release by it frees nothing that was assigned later. */
  readonly sequence: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** What uses it: "WorkloadEndpoint default/web", "Node node1". */
  readonly users: readonly string[];
}

export interface Claim {
  readonly node: string;
  readonly cidr: string;
  readonly state: string;
}

export interface CheckInput {
  readonly blocks: readonly Block[];
  readonly handles: readonly Handle[];
  readonly claims: readonly Claim[];
  readonly resources: readonly Resource[];
}

export interface CheckReport {
  readonly pools: readonly string[];
  readonly nodes: number;
  readonly tunnelAddresses: number;
  readonly workloadAddresses: number;
  readonly allocations: readonly Allocation[];
  /** Allocated, and used by nothing: leaked. */
  readonly leaked: readonly Allocation[];
  /** Used, and in no pool, or in a pool and not allocated. */
  readonly outsidePools: readonly string[];
  readonly notAllocated: readonly string[];
  /** More than one uses it. */
  readonly shared: readonly Allocation[];
  /** Handles that lead to no address, and addresses whose handle does not lead to them. */
  readonly deadHandles: readonly string[];
  readonly missingHandles: readonly Allocation[];
  /** Claims whose block is another node's or not there, and blocks whose node does not claim them. */
  readonly badClaims: readonly string[];
  readonly problems: number;
}

export function check({ blocks, handles, claims, resources }: CheckInput): CheckReport {
  const pools = resources.flatMap((resource) => (resource.kind === 'IPPool' ? [resource.spec.cidr] : []));
  const nodes = resources.filter((resource) => resource.kind === 'Node');
  const users = new Map<string, string[]>();
  const use = (address: string | undefined, user: string): number => {
    if (address === undefined) return 0;
    const known = users.get(address);
    if (!known) users.set(address, [user]);
    else if (!known.includes(user)) known.push(user);
    return 1;
  };
  let tunnelAddresses = 0;
  for (const { metadata, spec } of nodes) {
    const user = `Node ${metadata.name}`;
    for (const address of [
      spec.bgp?.ipv4IPIPTunnelAddr,
      spec.ipv4VXLANTunnelAddr,
      spec.ipv6VXLANTunnelAddr,
    ]) {
      tunnelAddresses += use(address, user);
    }
  }
  let workloadAddresses = 0;
  for (const resource of resources) {
    if (resource.kind !== 'WorkloadEndpoint') continue;
    const { namespace, name } = resource.metadata;
    for (const network of resource.spec.ipNetworks) {
      workloadAddresses += use(network.split('/')[0], `WorkloadEndpoint ${namespace ?? 'default'}/${name}`);
    }
  }

  const allocations = blocks.flatMap((block) => allocationsOf(block, users));
  const allocated = new Set(allocations.map(({ address }) => address));
  const inPool = (address: string) => pools.some((cidr) => contains(rangeOf(cidr), rangeOf(address)));
  const unallocated = [...users.keys()].filter((address) => !allocated.has(address));
  const counts = new Map(handles.map(({ handleID, block }) => [handleID, block]));
  const held = new Set(allocations.map(({ handle, block }) => `${handle} ${block}`));
  const byCidr = new Map(blocks.map((block) => [block.cidr, block]));
  const claimed = new Set(claims.map(({ node, cidr }) => `host:${node} ${cidr}`));

  const found = {
    leaked: allocations.filter(({ users: by }) => by.length === 0),
    outsidePools: unallocated.filter((address) => !inPool(address)),
    notAllocated: unallocated.filter(inPool),
    shared: allocations.filter(({ users: by }) => by.length > 1),
    deadHandles: handles.flatMap(({ handleID, block }) =>
      Object.keys(block).some((cidr) => held.has(`${handleID} ${cidr}`)) ? [] : [handleID],
    ),
    missingHandles: allocations.filter(
      ({ handle, block }) => handle === null || !counts.get(handle)?.[block],
    ),
    badClaims: [
      ...claims.flatMap(({ node, cidr, state }) => {
        const block = byCidr.get(cidr);
        if (block?.affinity === `host:${node}`) return [];
        return [
          `${cidr}: node ${node} claims it (${state}), the block ${block ? `is ${block.affinity}'s` : 'is not there'}`,
        ];
      }),
      ...blocks.flatMap(({ cidr, affinity }) =>
        affinity === null || claimed.has(`${affinity} ${cidr}`)
          ? []
          : [`${cidr}: is ${affinity}'s, which does not claim it`],
      ),
    ],
  };
  const problems = Object.values(found).reduce((sum, list) => sum + list.length, 0);
  return {
    pools,
    nodes: nodes.length,
    tunnelAddresses,
    workloadAddresses,
    allocations,
    ...found,
    problems,
  };
}

function allocationsOf(block: Block, users: ReadonlyMap<string, string[]>): Allocation[] {
  return usedOrdinals(block).map((ordinal) => {
    const owner = ownerOf(block, ordinal)!;
    const address = addressIn(block, ordinal);
    return {
      address,
      block: block.cidr,
      handle: owner.handle_id,
      sequence: String(owner.sequence),
      attributes: owner.secondary,
      users: users.get(address) ?? [],
    };
  });
}
