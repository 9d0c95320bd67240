/** The agent as the control socket shows it: tables for people and programs, made on demand. */
import { readPortCounters } from '../../dataplane/counters.ts';
import { HOST, KIND_NAMES } from '../../dataplane/fib/adjacency.ts';
import { STAGE_NAMES } from '../../dataplane/runtime.ts';
import {
  formatAddress4,
  formatAddress6,
  formatMac,
  formatPrefix4,
  formatPrefix6,
  isIp6,
  mask4,
  parseAddress4,
  tryAddress6,
  type Words6,
} from '../address.ts';
import { renderMetrics } from '../api/metrics.ts';
import type {
  AgentApi,
  BgpView,
  DropView,
  ExplainRequest,
  ExplainView,
  LookupView,
  MetricsView,
  NodeStatusView,
  PathMtuView,
  PortView,
  RouteMemberView,
  RouteView,
  RuntimeView,
  TraceRequest,
  TraceView,
  WorkerRuntimeView,
  WorkerView,
} from '../api/types.ts';
import { formatPrefix, IPV4, IPV6 } from '../bgp/family.ts';
import type { DesiredAdjacency, DesiredRoute } from '../desired.ts';
import type { DesiredRoute6 } from '../desired6.ts';
import { readKernelDrops } from '../kernel/snmp.ts';
import { VERSION } from '../version.ts';
import { dropsOf, kernelDrops } from './drops-view.ts';
import type { LearnedRoute, Share } from './feeder.ts';
import type { NodeAgent } from './node.ts';
import { Tracing } from './tracing.ts';

export class AgentView implements AgentApi {
  readonly bgp: BgpView;
  readonly #agent: NodeAgent;
  readonly #startedAt = new Date().toISOString();
  readonly #tracing: Tracing;

  constructor(agent: NodeAgent) {
    this.#agent = agent;
    this.bgp = agent.routing.view;
    this.#tracing = new Tracing(agent, (address) => this.lookup(address));
  }

  nodeStatus(): NodeStatusView {
    const { config, routing } = this.#agent;
    return {
      node: config.nodeName,
      pid: process.pid,
      version: VERSION,
      startedAt: this.#startedAt,
      asNumber: routing.asn,
      peersV4: routing.peers().filter(({ address }) => !isIp6(address)),
      peersV6: routing.peers().filter(({ address }) => isIp6(address)),
    };
  }

  ports(): PortView[] {
    const { ports, tables } = this.#agent;
    const counters = new Float64Array(tables.shared.counters);
    return ports.list().map((port): PortView => {
      const { name, kind, netns, device, mac, addresses, addresses6, mtu } = port.desired;
      const { totals, drops } = readPortCounters(counters, port.id);
      const dropped = drops.reduce((sum, { packets }) => sum + packets, 0);
      return {
        id: port.id,
        name,
        kind,
        netns,
        device,
        mac: mac && formatMac(mac),
        addresses: [...addresses.map(formatAddress4), ...addresses6.map(formatAddress6)],
        mtu,
        ...(port.desired.limits && {
          limits: { fromPod: bits(port.desired.limits.from), toPod: bits(port.desired.limits.to) },
        }),
        workers: [...port.readers],
        state: port.failure === null ? 'up' : 'failed',
        detail: port.failure,
        ...(port.way && { way: port.way.way, wayReason: port.way.reason }),
        counters: { ...totals, dropped },
      };
    });
  }

  *routes(): Generator<RouteView> {
    const { tables, feeder } = this.#agent;
    const near = [...tables.routes().map(routeView), ...tables.routes6().map(routeView6)];
    yield* near;
    const taken = new Set(near.map(({ prefix }) => prefix));
    for (const learned of feeder.routes()) {
      const route = learnedView(learned);
      if (!taken.has(route.prefix)) yield route;
    }
  }

  lookup(address: string): LookupView {
    const { tables, feeder } = this.#agent;
    const words = tryAddress6(address);
    const near = words
      ? tables.matches6(words).map(routeView6)
      : tables.matches(parseAddress4(address)).map(routeView);
    const taken = new Set(near.map(({ prefix }) => prefix));
    const learned = [...feeder.matches(words ? IPV6 : IPV4, words ?? [parseAddress4(address)])].map(
      learnedView,
    );
    const candidates = [...near, ...learned.filter(({ prefix }) => !taken.has(prefix))].sort(
      (a, b) => lengthOf(b.prefix) - lengthOf(a.prefix),
    );
    const prefix = words ? '::/0' : '0.0.0.0/0';
    const none: RouteView = { prefix, nextHop: null, via: 'no-route', port: null, origin: '' };
    return { address, route: candidates[0] ?? none, candidates };
  }

  drops(): DropView[] {
    const { ports, tables } = this.#agent;
    const counted = ports.list().map(({ id, desired: { name, kind } }) => ({ id, name, kind }));
    return [...dropsOf(tables.shared, counted), ...kernelDrops(readKernelDrops())];
  }

  pathMtus(): PathMtuView[] {
    return this.#agent.paths.list().map(({ peer, mtu, from, learned, until }) => ({
      peer,
      mtu,
      from,
      learned: new Date(learned).toISOString(),
      until: new Date(until).toISOString(),
    }));
  }

  async workers(): Promise<WorkerView[]> {
    const { workers, ports } = this.#agent;
    const running = await workers.stats();
    return workers.slots.map(({ index, deaths }): WorkerView => {
      const read = ports.list().filter(({ readers }) => readers.includes(index));
      const worker = running.find(({ handle }) => handle.index === index);
      return {
        index,
        threadId: worker?.handle.threadId ?? null,
        state: worker ? 'running' : 'starting',
        deaths,
        ports: read.map((port) => port.desired.name),
        bursts: worker?.stats.bursts ?? 0,
        frames: worker?.stats.frames ?? 0,
        sleeps: worker?.stats.wakeups ?? 0,
      };
    });
  }

  async runtime(): Promise<RuntimeView> {
    const running = await this.#agent.workers.stats();
    const workers = running.map(({ handle, stats }): WorkerRuntimeView => {
      const { sampledFrames, sampledSeconds, ...rest } = stats;
      const { index, startedAt } = handle;
      const stages = STAGE_NAMES.map((stage, position) => ({
        stage,
        frames: sampledFrames,
        seconds: sampledSeconds[position]!,
      }));
      const { deaths } = this.#agent.workers.slots[index]!;
      return { index, startedAt: startedAt.toISOString(), deaths, ...rest, stages };
    });
    const { store, feeder, staleUntil } = this.#agent;
    return {
      restart: {
        holder: store.problem === null ? store.kind : 'none',
        held: store.size,
        inherited: store.inherited,
        staleRoutes: feeder.standins,
        staleUntil: feeder.standins > 0 ? (staleUntil?.toISOString() ?? null) : null,
      },
      workers,
    };
  }

  async metrics(): Promise<MetricsView> {
    const { routing, tables } = this.#agent;
    const nodes = this.#agent.resources.filter((resource) => resource.kind === 'Node');
    const own = nodes.find(({ metadata }) => metadata.name === this.#agent.config.nodeName);
    return renderMetrics({
      status: this.nodeStatus(),
      ports: this.ports(),
      drops: this.drops(),
      runtime: await this.runtime(),
      routes: tables.count(),
      paths: { limited: this.#agent.paths.list().length, messages: this.#agent.paths.messages },
      problems: this.#agent.problems.length,
      hosts: nodes.length,
      blocks: own?.spec.blocks.length ?? 0,
      inSync: this.#agent.isInSync(),
      bgp: routing.view.isRunning ? { ...this.bgp.summary(), peers: this.bgp.peers() } : null,
      bfd: { sessions: routing.bfd.sessions(), statistics: routing.bfd.statistics },
    });
  }

  configShow(): unknown {
    const { config, resources, problems } = this.#agent;
    return { settings: config, resources, problems };
  }

  trace(request: TraceRequest, emit: (packet: TraceView) => void, signal: AbortSignal): Promise<void> {
    return this.#tracing.trace(request, emit, signal);
  }

  explain(request: ExplainRequest): ExplainView {
    return this.#tracing.explain(request);
  }
}

const lengthOf = (prefix: string): number => Number(prefix.split('/')[1]);

const learnedView = (route: LearnedRoute): RouteView => ({
  prefix: formatPrefix(route),
  ...wayView(route.adjacency),
  nextHop: route.nextHop,
  origin: `bgp ${route.peerLabel}`,
  ...(route.shares.length > 0 && { members: route.shares.map(memberView) }),
});

const memberView = ({ nextHop, adjacency, buckets }: Share): RouteMemberView => ({
  ...(adjacency ? wayView(adjacency) : { via: 'unusable', port: null }),
  nextHop,
  buckets,
});

export const routeView6 = ({ to, adjacency, origin }: DesiredRoute6): RouteView => ({
  prefix: formatPrefix6(to),
  ...wayView(adjacency),
  origin,
});

export const routeView = ({ prefix, length, adjacency, origin }: DesiredRoute): RouteView => ({
  prefix: formatPrefix4(prefix & mask4(length), length),
  ...wayView(adjacency),
  origin,
});

function wayView({
  kind,
  nextHop,
  nextHop6,
  port,
}: DesiredAdjacency): Pick<RouteView, 'nextHop' | 'via' | 'port'> {
  const isDirect = kind === HOST && (nextHop !== 0 || nextHop6 !== undefined);
  return {
    nextHop: nextHop6 ? formatAddress6(nextHop6 as Words6) : nextHop === 0 ? null : formatAddress4(nextHop),
    via: isDirect ? 'direct' : KIND_NAMES[kind]!,
    port,
  };
}

const bits = (limit: { readonly rate: number } | null): number | null => limit && limit.rate * 8;
