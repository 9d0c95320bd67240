/**
 * What no single field can tell: a resource against itself, against all others, and against what it was before. The
 * same checks serve resources from files and writes to a store.
 */
import { containsText, isIp6, overlapText } from '../address.ts';
import { EX_CONFIG, TortieError } from '../error.ts';
import { blockSizeOf, type IPPool, type Kind, type Node, type Resource, type ResourceOf } from './schema.ts';
import type { Path } from './yaml.ts';

export type FaultCode =
  | 'NAME_TAKEN'
  | 'POOL_TWO_TUNNELS'
  | 'POOL_IPIP6'
  | 'POOL_BLOCK_SIZE'
  | 'POOL_OVERLAP'
  | 'POOL_IMMUTABLE'
  | 'ADDRESS_TAKEN'
  | 'BLOCK_OUTSIDE'
  | 'BLOCK_SIZE'
  | 'BLOCK_TAKEN'
  | 'NODE_MISSING'
  | 'PEER_UNCLEAR'
  | 'PORT_TAKEN'
  | 'PREFIX_NOT_HOST'
  | 'ADDRESS_OUTSIDE'
  | 'NAME_NOT_DEFAULT';

export interface Fault {
  readonly code: FaultCode;
  /** The resource at fault: of two that claim the same, the later one. */
  readonly resource: Resource;
  readonly path: Path;
  readonly message: string;
}

/** A write that would leave the store with these faults. */
export class FaultError extends TortieError {
  readonly faults: readonly Fault[];
  constructor(faults: readonly Fault[]) {
    const lines = faults.map(({ path, message }) => `${path.join('.')}: ${message}`);
    super(faults[0]!.code, lines.join('; '), EX_CONFIG);
    this.faults = faults;
  }
}

/** Resources that are all there is, as in files. */
export function faultsOf(resources: readonly Resource[]): Fault[] {
  const check = new Check(resources);
  return [
    ...check.names(),
    ...resources.flatMap(faultsAlone),
    ...check.pools(),
    ...check.nodes(true),
    ...check.endpoints(),
  ];
}

/**
 * Kinds that a write of a kind is held against. In a store nodes, pools and pods come and go in any order, and IPAM
 * sees to it that no address and no block has two owners, so less is refused than in files.
 */
export const HELD_AGAINST: Readonly<Record<Kind, readonly Kind[]>> = {
  IPPool: ['IPPool'],
  Node: ['Node'],
  BGPConfiguration: [],
  BGPPeer: [],
  BGPFilter: [],
  WorkloadEndpoint: [],
  FelixConfiguration: [],
  IPAMConfig: [],
  IPReservation: [],
};

/** A write to a store. `previous`: what it replaces. `others`: at least those of kinds HELD_AGAINST. */
export function faultsOfWrite(
  resource: Resource,
  previous: Resource | null,
  others: readonly Resource[],
): Fault[] {
  const { kind, metadata } = resource;
  const isOther = (other: Resource) =>
    other.kind !== kind ||
    other.metadata.name !== metadata.name ||
    other.metadata.namespace !== metadata.namespace;
  const check = new Check([...others.filter(isOther), resource]);
  const found = [...faultsAlone(resource), ...faultsOfChange(resource, previous)];
  if (kind === 'IPPool') found.push(...check.pools());
  if (kind === 'Node') found.push(...check.nodes(false));
  return found.filter((fault) => fault.resource === resource);
}

/** Throws a FaultError if the write would leave faults. */
export function checkWrite(resource: Resource, previous: Resource | null, others: readonly Resource[]): void {
  const faults = faultsOfWrite(resource, previous, others);
  if (faults.length > 0) throw new FaultError(faults);
}

/** Prefix length of a checked prefix. */
const lengthOf = (text: string): number => Number(text.split('/')[1] ?? (isIp6(text) ? 128 : 32));

function faultsAlone(resource: Resource): Fault[] {
  const fault = (code: FaultCode, path: Path, message: string): Fault => ({ code, resource, path, message });
  switch (resource.kind) {
    case 'IPPool':
      return poolAlone(resource, fault);
    case 'BGPPeer': {
      const { node, nodeSelector, peerIP, asNumber, peerSelector } = resource.spec;
      const found: Fault[] = [];
      if (node && nodeSelector)
        found.push(fault('PEER_UNCLEAR', ['spec', 'nodeSelector'], 'set node or nodeSelector, not both'));
      if (peerSelector && (peerIP || asNumber)) {
        found.push(
          fault(
            'PEER_UNCLEAR',
            ['spec', 'peerSelector'],
            'set peerSelector, or peerIP and asNumber, not both',
          ),
        );
      } else if (!peerSelector && (!peerIP || !asNumber)) {
        const missing = peerIP ? 'asNumber' : 'peerIP';
        found.push(
          fault(
            'PEER_UNCLEAR',
            ['spec', missing],
            'is missing; a peer has peerIP and asNumber, or a peerSelector',
          ),
        );
      }
      return found;
    }
    case 'WorkloadEndpoint':
      return resource.spec.ipNetworks.flatMap((text, index) => {
        const host = isIp6(text) ? 128 : 32;
        const path = ['spec', 'ipNetworks', index];
        return lengthOf(text) === host
          ? []
          : [fault('PREFIX_NOT_HOST', path, `${text}: a pod has /${host} addresses`)];
      });
    case 'IPAMConfig':
      return resource.metadata.name === 'default'
        ? []
        : [fault('NAME_NOT_DEFAULT', ['metadata', 'name'], 'the one IPAMConfig is named "default"')];
    default:
      return [];
  }
}

function poolAlone(
  { spec }: IPPool,
  fault: (code: FaultCode, path: Path, message: string) => Fault,
): Fault[] {
  const found: Fault[] = [];
  const { cidr, ipipMode, vxlanMode } = spec;
  if (ipipMode !== 'Never' && vxlanMode !== 'Never') {
    const message = 'a pool has ipipMode or vxlanMode, not both: set one to Never';
    found.push(fault('POOL_TWO_TUNNELS', ['spec', 'vxlanMode'], message));
  }
  if (isIp6(cidr) && ipipMode !== 'Never') {
    found.push(fault('POOL_IPIP6', ['spec', 'ipipMode'], 'an IPv6 pool has no IPIP: set vxlanMode'));
  }
  const [least, most] = isIp6(cidr) ? [116, 128] : [20, 32];
  const size = blockSizeOf(spec);
  const path = ['spec', 'blockSize'];
  if (size < least || size > most)
    found.push(fault('POOL_BLOCK_SIZE', path, `${size} is not in ${least}..${most}`));
  if (lengthOf(cidr) > size)
    found.push(fault('POOL_BLOCK_SIZE', path, `${size} is larger than the pool ${cidr}`));
  return found;
}

/** What never changes once it is there. */
function faultsOfChange(resource: Resource, previous: Resource | null): Fault[] {
  if (resource.kind !== 'IPPool' || previous?.kind !== 'IPPool') return [];
  const fault = (key: string, message: string): Fault => ({
    code: 'POOL_IMMUTABLE',
    resource,
    path: ['spec', key],
    message: `${message}: make a new pool instead`,
  });
  const found: Fault[] = [];
  if (resource.spec.cidr !== previous.spec.cidr) {
    found.push(fault('cidr', `${previous.spec.cidr} cannot become ${resource.spec.cidr}`));
  }
  const [before, after] = [blockSizeOf(previous.spec), blockSizeOf(resource.spec)];
  if (before !== after) found.push(fault('blockSize', `${before} cannot become ${after}`));
  return found;
}

/** Resources against each other: of two that claim the same, the later one is at fault. */
class Check {
  readonly #all: readonly Resource[];
  readonly #pools: readonly IPPool[];
  readonly #nodes: readonly Node[];
  readonly #addresses = new Claims();

  constructor(resources: readonly Resource[]) {
    this.#all = resources;
    this.#pools = this.#ofKind('IPPool');
    this.#nodes = this.#ofKind('Node');
  }

  names(): Fault[] {
    const names = new Claims();
    return this.#all.flatMap((resource): Fault[] => {
      const { kind, metadata } = resource;
      const taken = names.claim(`${kind} ${metadata.namespace ?? ''}/${metadata.name}`, '');
      const message = `${kind} ${metadata.name} is there twice`;
      return taken === undefined
        ? []
        : [{ code: 'NAME_TAKEN', resource, path: ['metadata', 'name'], message }];
    });
  }

  pools(): Fault[] {
    return this.#pools.flatMap((resource, index) =>
      this.#pools
        .slice(0, index)
        .filter((other) => overlapText(resource.spec.cidr, other.spec.cidr))
        .map((other): Fault => {
          const message = `${resource.spec.cidr} overlaps pool ${other.metadata.name} (${other.spec.cidr})`;
          return { code: 'POOL_OVERLAP', resource, path: ['spec', 'cidr'], message };
        }),
    );
  }

  /** `withBlocks`: blocks of nodes, too, which lie in pools. */
  nodes(withBlocks: boolean): Fault[] {
    const found = this.#nodes.flatMap((resource) => this.#addressesOf(resource));
    if (!withBlocks) return found;
    const blocks: { text: string; node: string }[] = [];
    for (const resource of this.#nodes) {
      for (const [index, text] of resource.spec.blocks.entries()) {
        const fault = (code: FaultCode, message: string) =>
          found.push({ code, resource, path: ['spec', 'blocks', index], message });
        const pool = this.#pools.find((candidate) => containsText(candidate.spec.cidr, text));
        if (!pool) fault('BLOCK_OUTSIDE', `${text} lies in no IPPool`);
        else if (blockSizeOf(pool.spec) !== lengthOf(text)) {
          fault('BLOCK_SIZE', `${text}: blocks of pool ${pool.metadata.name} are /${blockSizeOf(pool.spec)}`);
        }
        const owner = blocks.find((other) => overlapText(other.text, text));
        if (owner) fault('BLOCK_TAKEN', `${text} overlaps ${owner.text} of node ${owner.node}`);
        blocks.push({ text, node: resource.metadata.name });
      }
    }
    return found;
  }

  #addressesOf(resource: Node): Fault[] {
    const { name } = resource.metadata;
    const { bgp, ipv4VXLANTunnelAddr, ipv6VXLANTunnelAddr, vxlanTunnelMACAddr, vxlanTunnelMACAddrV6 } =
      resource.spec;
    const claims: [Path, string | undefined][] = [
      [['spec', 'bgp', 'ipv4Address'], bgp?.ipv4Address?.split('/')[0]],
      [['spec', 'vxlanTunnelMACAddr'], vxlanTunnelMACAddr?.toLowerCase()],
      [['spec', 'vxlanTunnelMACAddrV6'], vxlanTunnelMACAddrV6?.toLowerCase()],
      [['spec', 'bgp', 'ipv6Address'], bgp?.ipv6Address?.split('/')[0]],
      [['spec', 'ipv6VXLANTunnelAddr'], ipv6VXLANTunnelAddr],
    ];
    // One node may use one tunnel address for both tunnels.
    for (const tunnel of new Set([bgp?.ipv4IPIPTunnelAddr, ipv4VXLANTunnelAddr])) {
      const path = tunnel === ipv4VXLANTunnelAddr ? ['ipv4VXLANTunnelAddr'] : ['bgp', 'ipv4IPIPTunnelAddr'];
      claims.push([['spec', ...path], tunnel]);
    }
    return claims.flatMap(([path, address]): Fault[] => {
      const taken = address && this.#addresses.claim(address, `node ${name}`);
      return taken
        ? [{ code: 'ADDRESS_TAKEN', resource, path, message: `${address} is taken by ${taken}` }]
        : [];
    });
  }

  /** Peers and pods, whose nodes are there; pods' ports, and addresses in pools. */
  endpoints(): Fault[] {
    const found: Fault[] = [];
    const nodes = new Set(this.#nodes.map(({ metadata }) => metadata.name));
    const missing = (resource: Resource, node: string | undefined) => {
      if (node === undefined || nodes.has(node)) return;
      found.push({
        code: 'NODE_MISSING',
        resource,
        path: ['spec', 'node'],
        message: `there is no Node ${node}`,
      });
    };
    for (const resource of this.#ofKind('BGPPeer')) missing(resource, resource.spec.node);
    const ports = new Claims();
    for (const resource of this.#ofKind('WorkloadEndpoint')) {
      const { node, ipNetworks, interfaceName } = resource.spec;
      const whom = `WorkloadEndpoint ${resource.metadata.name}`;
      missing(resource, node);
      const taken = ports.claim(`${node} ${interfaceName}`, whom);
      if (taken) {
        const message = `${interfaceName} is taken by ${taken} on ${node}`;
        found.push({ code: 'PORT_TAKEN', resource, path: ['spec', 'interfaceName'], message });
      }
      for (const [index, text] of ipNetworks.entries()) {
        const path = ['spec', 'ipNetworks', index];
        const owner = this.#addresses.claim(text.split('/')[0]!, whom);
        if (owner)
          found.push({ code: 'ADDRESS_TAKEN', resource, path, message: `${text} is taken by ${owner}` });
        if (!this.#pools.some((pool) => containsText(pool.spec.cidr, text))) {
          found.push({ code: 'ADDRESS_OUTSIDE', resource, path, message: `${text} lies in no IPPool` });
        }
      }
    }
    return found;
  }

  #ofKind<K extends Kind>(kind: K): ResourceOf<K>[] {
    return this.#all.filter((resource): resource is ResourceOf<K> => resource.kind === kind);
  }
}

/** Who has what: `claim` answers with the earlier claimant, if there is one. */
class Claims {
  readonly #owners = new Map<string, string>();
  claim(what: string, owner: string): string | undefined {
    const before = this.#owners.get(what);
    if (before === undefined) this.#owners.set(what, owner);
    return before;
  }
}
