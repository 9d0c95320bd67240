/** Who this node speaks BGP with and how, and what it announces, from the resources. Pure. */
import { isIp6 } from '../address.ts';
import type { BgpProblemView } from '../api/types.ts';
import { checkPeer } from '../bgp/check.ts';
import type { BfdConfig, Origination, PeerConfig, PeerResource } from '../bgp/config.ts';
import { canonicalAddress, parsePrefix } from '../bgp/family.ts';
import { secondsOf } from '../resources/fields.ts';
import {
  addressTexts,
  BGP_PORT,
  type BGPConfiguration,
  type BGPFilter,
  type BGPPeer,
  DEFAULT_AS,
  type Node,
  type Resource,
  tryPeer,
} from '../resources/schema.ts';
import { parseSelector } from '../resources/selector.ts';
import { communityOf, contains, exportPolicy, importPolicy, localPrefOf } from './bgp-filter.ts';

/** The node's routes have this metric where nothing else is said. */
const NORMAL_PRIORITY = 1024;
type SecretRef = NonNullable<NonNullable<BGPPeer['spec']['password']>['secretKeyRef']>;

export interface PlanContext {
  readonly nodeName: string;
  readonly resources: readonly Resource[];
  /** Prefixes of the node: blocks, and addresses outside of these. */
  readonly originate: readonly string[];
  /** A password, or null if it is not there. */
  readonly secret: (name: string, key: string) => string | null;
}

export interface BgpPlan {
  readonly asn: number;
  /** BGP listens on all addresses, else on those of the node. */
  readonly bindAll: boolean;
  readonly listenPort: number;
  /** Addresses of the node, IPv4 first. */
  readonly addresses: readonly string[];
  /** The node reflects for this cluster, or null. */
  readonly clusterId: string | null;
  readonly peers: readonly PeerConfig[];
  readonly originate: readonly Origination[];
  /** For people. */
  readonly problems: readonly BgpProblemView[];
}

/**
 * The mesh with all other nodes if it is on, and the BGPPeers for this node, over IPv4 and over IPv6. Of several for one
 * address the most specific counts: a BGPPeer for this node, then a global one, then the mesh.
 */
export function bgpPlan(context: PlanContext): BgpPlan {
  return new Planner(context).plan();
}

class Planner {
  readonly #context: PlanContext;
  readonly #configuration: BGPConfiguration['spec'];
  readonly #nodes: readonly Node[];
  readonly #self: Node | undefined;
  readonly #filters: ReadonlyMap<string, BGPFilter>;
  readonly #own: ReadonlySet<string>;
  readonly #ofNodes: ReadonlySet<string>;
  readonly #peers = new Map<string, PeerConfig>();
  readonly #problems: string[] = [];
  /** By address of the peer. */
  readonly #leftOut = new Map<string, BgpProblemView>();
  readonly #asn: number;
  readonly #clusterId: string | null;

  constructor(context: PlanContext) {
    this.#context = context;
    const { resources, nodeName } = context;
    this.#configuration = configurationOf(resources);
    this.#nodes = resources.filter((resource) => resource.kind === 'Node');
    this.#self = this.#nodes.find((node) => node.metadata.name === nodeName);
    const filters = resources.filter((resource) => resource.kind === 'BGPFilter');
    this.#filters = new Map(filters.map((filter) => [filter.metadata.name, filter]));
    this.#own = new Set(this.#self ? addressTexts(this.#self) : []);
    this.#ofNodes = new Set(this.#nodes.flatMap(addressTexts));
    this.#asn = this.#asOf(this.#self);
    this.#clusterId = this.#self?.spec.bgp?.routeReflectorClusterID ?? null;
  }

  plan(): BgpPlan {
    const { bindMode = 'NodeIP', listenPort = BGP_PORT, nodeToNodeMeshEnabled = true } = this.#configuration;
    if (nodeToNodeMeshEnabled && this.#clusterId === null) {
      for (const node of this.#nodes) if (!isReflector(node)) this.#addNode(node, 'node-to-node mesh');
    }
    for (const wanted of ['global', 'node specific'] as const) {
      for (const resource of this.#context.resources) {
        if (resource.kind === 'BGPPeer' && labelOf(resource.spec) === wanted) this.#addPeer(resource, wanted);
      }
    }
    return {
      asn: this.#asn,
      bindAll: bindMode === 'None',
      listenPort,
      addresses: [...this.#own],
      clusterId: this.#clusterId,
      peers: [...this.#peers.values()],
      originate: this.#originations(),
      problems: [
        ...this.#leftOut.values(),
        ...this.#problems.map((text): BgpProblemView => ({ text, leftOut: [] })),
      ],
    };
  }

  // ---- Peers -----------------------------------------------------------------------------------------

  #addPeer(resource: BGPPeer, label: PeerConfig['label']): void {
    const { spec } = resource;
    const self = this.#self;
    const isLocal = self !== undefined && isChosen(spec, self);
    if (spec.peerSelector) {
      const remote = parseSelector(spec.peerSelector);
      const isRemote = (node: Node) => remote.matches(node.metadata.labels ?? {});
      // Both ends of such a peering are nodes of ours: the other one peers back.
      const isReversed = self && spec.reversePeering !== 'Manual' && isRemote(self);
      for (const node of this.#nodes) {
        if ((isLocal && isRemote(node)) || (isReversed && isChosen(spec, node)))
          this.#addNode(node, label, resource);
      }
    } else if (isLocal) {
      const peer = spec.peerIP === undefined ? null : tryPeer(spec.peerIP);
      if (!peer || spec.asNumber === undefined) return;
      const address = canonicalAddress(peer.address);
      const { listenPort = BGP_PORT } = this.#configuration;
      const port = peer.port ?? (this.#ofNodes.has(address) ? listenPort : BGP_PORT);
      const node = this.#nodes.find((candidate) => addressTexts(candidate).includes(address));
      this.#add({ address, port, asn: spec.asNumber, label }, resource, node);
    }
  }

  /** A session over each family that both nodes have. */
  #addNode(node: Node, label: PeerConfig['label'], resource?: BGPPeer): void {
    const { listenPort: port = BGP_PORT } = this.#configuration;
    const families = new Set([...this.#own].map(isIp6));
    for (const address of addressTexts(node)) {
      if (!families.has(isIp6(address))) continue;
      this.#add({ address, port, asn: this.#asOf(node), label }, resource, node);
    }
  }

  #add(
    peer: Pick<PeerConfig, 'address' | 'asn' | 'label'> & { port: number },
    resource: BGPPeer | undefined,
    node: Node | undefined,
  ): void {
    // A reflector that is a node itself is told to peer with all, and so with itself.
    if (this.#own.has(peer.address)) return;
    const { nodeMeshPassword, nodeMeshMaxRestartTime } = this.#configuration;
    const spec: BGPPeer['spec'] = resource?.spec ?? {
      ...(nodeMeshPassword && { password: nodeMeshPassword }),
      ...(nodeMeshMaxRestartTime && { maxRestartTime: nodeMeshMaxRestartTime }),
    };
    const whom = resource ? `BGPPeer ${resource.metadata.name}` : 'the mesh';
    const names = [node, resource].flatMap((named) => named?.metadata.name ?? []);
    const leaveOut = (reason: string) => {
      this.#peers.delete(peer.address);
      const text = `left out: ${whom}, peer ${peer.address}: ${reason}`;
      this.#leftOut.set(peer.address, { text, leftOut: [peer.address, ...names] });
    };
    const ref = spec.password?.secretKeyRef;
    const password = this.#password(ref);
    if (password === null) {
      const where = `${ref?.name}/${ref?.key} is not in bgp.secrets of the settings`;
      return leaveOut(`the password ${where}, so there is no session; put it there`);
    }
    const internal = peer.asn === (spec.localASNumber ?? this.#asn);
    const found = (spec.filters ?? []).map((name) => ({ name, filter: this.#filters.get(name) }));
    const missing = found.flatMap(({ name, filter }) => (filter ? [] : [name]));
    for (const name of missing) {
      this.#noteOnce(
        `${whom} names BGPFilter ${name}, which does not exist: no route passes; create it, or leave it out of "filters"`,
      );
    }
    const routes = {
      internal,
      filters: found.flatMap(({ filter }) => filter ?? []),
      missing,
      pools: this.#pools(),
    };
    const isClient =
      internal && this.#clusterId !== null && node?.spec.bgp?.routeReflectorClusterID !== this.#clusterId;
    const config: PeerConfig = {
      ...peer,
      ...resourceOf(node ?? resource),
      ...(isClient && { reflectorClient: true }),
      ...sessionOf(spec, internal),
      ...this.#nextHop6(peer.address, spec.session?.families, whom),
      ...(password !== undefined && { password }),
      importPolicy: importPolicy(routes),
      exportPolicy: exportPolicy(routes),
    };
    try {
      // One that cannot be is not to cost the others their sessions.
      checkPeer(config, this.#asn);
      this.#peers.set(peer.address, config);
      this.#leftOut.delete(peer.address);
    } catch (error) {
      leaveOut((error as Error).message.replace(`BGP: peer ${peer.address}: `, ''));
    }
  }

  /** Over an IPv4 session, IPv6 routes need a next hop of their own. */
  #nextHop6(address: string, families: readonly string[] | undefined, whom: string): Partial<PeerConfig> {
    if (isIp6(address) || !families?.includes('IPv6')) return {};
    const own = [...this.#own].find(isIp6);
    if (own !== undefined) return { nextHop6: own };
    this.#problems.push(
      `${whom} carries IPv6, and the node has no ipv6Address to be its next hop: own routes of IPv6 are not sent to ${address}`,
    );
    return {};
  }

  /** Undefined: none is wanted. Null: it is not there, and without it there is no session. */
  #password(ref: SecretRef | undefined): string | null | undefined {
    if (!ref) return undefined;
    const text = this.#context.secret(ref.name, ref.key);
    return text === null && ref.optional ? undefined : text;
  }

  #pools() {
    return this.#context.resources.flatMap(({ kind, spec }) =>
      kind === 'IPPool' ? [{ cidr: spec.cidr, disableBGPExport: spec.disableBGPExport }] : [],
    );
  }

  #asOf(node: Node | undefined): number {
    return node?.spec.bgp?.asNumber ?? this.#configuration.asNumber ?? DEFAULT_AS;
  }

  // ---- What the node announces -----------------------------------------------------------------------

  #originations(): Origination[] {
    const {
      serviceClusterIPs = [],
      serviceExternalIPs = [],
      serviceLoadBalancerIPs = [],
    } = this.#configuration;
    const services = [...serviceClusterIPs, ...serviceExternalIPs, ...serviceLoadBalancerIPs];
    const prefixes = new Set([...this.#context.originate, ...services.map(({ cidr }) => cidr)]);
    return [...prefixes].map((prefix) => ({
      prefix,
      localPref: localPrefOf(this.#priority(prefix)),
      ...this.#communitiesOf(prefix),
    }));
  }

  #priority(prefix: string): number {
    const { ipv4NormalRoutePriority, ipv6NormalRoutePriority } = this.#configuration;
    return (isIp6(prefix) ? ipv6NormalRoutePriority : ipv4NormalRoutePriority) ?? NORMAL_PRIORITY;
  }

  #communitiesOf(text: string): Pick<Origination, 'communities' | 'largeCommunities'> {
    const { prefixAdvertisements = [], communities: named = [] } = this.#configuration;
    const values = new Map(named.map(({ name, value }) => [name, value]));
    const prefix = parsePrefix(text);
    const communities = new Set<number>();
    const large: number[] = [];
    for (const advertisement of prefixAdvertisements) {
      if (!contains(parsePrefix(advertisement.cidr), prefix)) continue;
      for (const name of advertisement.communities) {
        const value = values.get(name) ?? (name.includes(':') ? name : undefined);
        if (value === undefined) {
          this.#noteOnce(
            `prefixAdvertisements names the community "${name}", which "communities" does not have`,
          );
          continue;
        }
        const community = communityOf(value);
        if (typeof community === 'number') communities.add(community);
        else large.push(...community);
      }
    }
    return {
      ...(communities.size > 0 && { communities: [...communities] }),
      ...(large.length > 0 && { largeCommunities: large }),
    };
  }

  #noteOnce(problem: string): void {
    if (!this.#problems.includes(problem)) this.#problems.push(problem);
  }
}

const resourceOf = (named: Node | BGPPeer | undefined): { resource?: PeerResource } =>
  named ? { resource: { kind: named.kind, name: named.metadata.name } } : {};

/** What a BGPPeer says of its sessions. */
function sessionOf(spec: BGPPeer['spec'], internal: boolean): Partial<PeerConfig> {
  const { session, nextHopMode, keepOriginalNextHop } = spec;
  const mode = nextHopMode ?? (keepOriginalNextHop ? 'Keep' : 'Auto');
  const own: Partial<PeerConfig> = {
    localAsn: spec.localASNumber,
    nextHop: mode.toLowerCase() as NonNullable<PeerConfig['nextHop']>,
    localAddress: spec.sourceAddress === 'None' ? null : undefined,
    restartTime: wholeSeconds(spec.maxRestartTime),
    keepaliveTime: wholeSeconds(spec.keepaliveTime),
    allowOwnAs: spec.numAllowedLocalASNumbers,
    ttlSecurity: spec.ttlSecurity || undefined,
    bfd: spec.bfd && bfdOf(spec.bfd),
    families: session?.families?.map((name) => (name === 'IPv4' ? 'ipv4' : 'ipv6')),
    passive: session?.passive,
    holdTime: wholeSeconds(session?.holdTime),
    addPath: session?.addPath,
    maxPrefixes: session?.maxPrefixes,
    maxPrefixesRestart: wholeSeconds(session?.maxPrefixesRestart),
    longLivedTime: wholeSeconds(session?.longLivedTime),
    // Roles are for external peers; a BGPPeer may be for peers of both kinds.
    role: internal ? undefined : session?.role,
    strictRole: session?.strictRole,
    enforceFirstAs: session?.enforceFirstAs,
    keepFiltered: session?.keepFiltered,
    gracefulShutdown: session?.gracefulShutdown,
    shutdown: session?.shutdown,
  } as Partial<PeerConfig>;
  return Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
}

const wholeSeconds = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Math.round(secondsOf(text));

function bfdOf(bfd: NonNullable<BGPPeer['spec']['bfd']>): BfdConfig {
  const { minimumSendInterval, minimumRecvInterval, multiplier, multihop } = bfd;
  const msOf = (text: string) => Math.round(secondsOf(text) * 1000);
  return { minTxMs: msOf(minimumSendInterval), minRxMs: msOf(minimumRecvInterval), multiplier, multihop };
}

/** Reflectors peer with whom BGPPeers say, and are left out of the mesh. */
const isReflector = (node: Node): boolean => Boolean(node.spec.bgp?.routeReflectorClusterID);

const labelOf = ({ node, nodeSelector }: BGPPeer['spec']): PeerConfig['label'] =>
  node || nodeSelector ? 'node specific' : 'global';

/** Whether a BGPPeer is for a node: by name, by labels, or because it is for all. */
const isChosen = ({ node, nodeSelector }: BGPPeer['spec'], { metadata }: Node): boolean =>
  node ? node === metadata.name : !nodeSelector || parseSelector(nodeSelector).matches(metadata.labels ?? {});

/** The one named "default", as Calico has it. */
function configurationOf(resources: readonly Resource[]): BGPConfiguration['spec'] {
  const found = resources.find(
    (resource): resource is BGPConfiguration =>
      resource.kind === 'BGPConfiguration' && resource.metadata.name === 'default',
  );
  return found?.spec ?? {};
}
