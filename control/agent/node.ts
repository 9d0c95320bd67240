/**
 * The node agent's heart: one reconcile at a time takes what should be (desired.ts), what is (the kernel, the
 * open ports, the tables), and applies the difference. A change of anything only marks dirty.
 */
import { type FSWatcher, readFileSync, watch } from 'node:fs';
import { dirname, join, resolve as resolvePath } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { cellsOf, DROPS } from '../../dataplane/counters.ts';
import { DROP } from '../../dataplane/drops.ts';
import type { FaultSpec, NodeSpec } from '../../dataplane/messages.ts';
import { native as loadNative } from '../../dataplane/native/index.ts';
import { WorkerPool } from '../../dataplane/pool.ts';
import type { TracedPacket } from '../../dataplane/trace.ts';
import { formatAddress4, formatAddress6 } from '../address.ts';
import { type AgentConfig, stateFolder } from '../config/config.ts';
import { type Desired, desiredState } from '../desired.ts';
import { forwardObstacle } from '../kernel/firewall.ts';
import { type Failure, ipApply, type Link, type Route } from '../kernel/iproute.ts';
import { LinkMonitor } from '../kernel/monitor.ts';
import { Nat } from '../kernel/nat.ts';
import { reach, readNamespace, readRoutes6 } from '../kernel/netlink.ts';
import {
  aliasOf,
  linkWithAddress,
  type Owner,
  planHost,
  type Resolved,
  ROUTE_PROTOCOL,
} from '../kernel/plan.ts';
import { planRoutes6 } from '../kernel/plan6.ts';
import { netnsInode, RUN_NETNS } from '../kernel/scan.ts';
import { applySysctls, hostSysctls, hostSysctls6 } from '../kernel/sysctl.ts';
import { addressTexts, type Resource } from '../resources/schema.ts';
import { NewWarnings } from '../resources/warnings.ts';
import { TableWriter } from '../tables.ts';
import { bgpPlan } from './bgp-plan.ts';
import { BgpRouting } from './bgp-routing.ts';
import { Feeder } from './feeder.ts';
import { KernelRoutes, type Resolution } from './kernel-routes.ts';
import { LearnedRoutes, MAX_KEPT_ROUTES } from './learned.ts';
import { Paths } from './paths.ts';
import { type PortSettings, Ports, type Refresh } from './ports.ts';
import { DescriptorStore, type HolderKind, openHolder } from './store.ts';
import { chooseWay, type WayFacts } from './ways.ts';

/** Least pause before a reconcile, or half as long as the last one took: many changes at once cost one. */
const THROTTLE_MS = 20;
/** How often the kernel is looked at without a cause. */
const REFRESH_MS = 90_000;
/** What the firewall's policies were is good for so long. */
const FIREWALL_MS = 10_000;
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 60_000;
const DEFAULT_MTU = 1500;
/** Settings that a reload can change; the others are what descriptors and threads were made with. */
const LIVE = ['interface', 'dscp', 'icmpRate', 'vni', 'bgp', 'log'] as const;
/** While BGP comes up after a start, how often to ask whether it is settled. */
const SETTLE_POLL_MS = 500;
/** Least pause between two times that learned routes are written down for the next agent, or so many times as long as it took. */
const KEEP_PAUSE_MS = 200;
const KEEP_PAUSES = 10;

export interface NodeAgentOptions {
  readonly config: AgentConfig;
  readonly resources: () => Promise<Resource[]>;
  /** Why the store is out of reach, or null. */
  readonly storeProblem?: () => string | null;
  /** What else keeps the node from being as it should be. */
  readonly problems?: () => readonly string[];
  readonly log: Logger;
  /** Workers die one after another: this process can no longer do its work. */
  readonly onGiveUp: (error: Error) => void;
}

export class NodeAgent {
  config: AgentConfig;
  readonly routing: BgpRouting;
  readonly tables = new TableWriter();
  readonly workers: WorkerPool;
  readonly ports: Ports;
  readonly store: DescriptorStore;
  readonly feeder: Feeder;
  readonly kernelRoutes: KernelRoutes;
  readonly paths: Paths;
  /** What the workers know of the node; null before the first reconcile. */
  node: NodeSpec | null = null;
  podNames: Desired['podNames'] = new Map();
  /** Until when routes of the agent before stand in, or null. */
  staleUntil: Date | null = null;
  resources: readonly Resource[] = [];
  problems: readonly string[] = [];
  onTrace: ((packets: TracedPacket[], missed: number) => void) | null = null;

  readonly #options: NodeAgentOptions;
  readonly #log: Logger;
  readonly #warnings = new NewWarnings();
  readonly #nat = new Nat();
  readonly #learned: LearnedRoutes;
  /** Next hops may be reached otherwise, or no more. */
  readonly #links = new LinkMonitor(() => this.changed());
  #dirty = false;
  /** Somebody waits: the next reconcile comes at once. */
  #urgent = false;
  #waiting: (() => void)[] = [];
  #refresh: Refresh = 'all';
  #running: Promise<void> | null = null;
  #started = false;
  #stopped = false;
  #swept = false;
  #remembers = true;
  #keeping: Promise<void> | null = null;
  #keepAgain = false;
  #timer: NodeJS.Timeout | null = null;
  #retryMs = FIRST_RETRY_MS;
  #nextRefresh = 0;
  #lastStart = 0;
  #lastEnd = 0;
  #watcher: FSWatcher | null = null;
  #firewall: string | null = null;
  #firewallAsked = 0;

  constructor(options: NodeAgentOptions) {
    this.#options = options;
    this.config = options.config;
    this.#log = options.log;
    const { log, onGiveUp } = options;
    this.workers = new WorkerPool({
      size: this.config.workers,
      tables: this.tables.shared,
      onTrace: (packets, missed) => this.onTrace?.(packets, missed),
      onLog: (level, message) => {
        log[level](message);
        // A device that went: look at once.
        if (level !== 'error') return;
        this.ports.distrust();
        this.changed(true);
      },
      onGiveUp,
    });
    const { nodeName } = this.config;
    const kind = holderKind(this.config.restart.keeper);
    this.store = new DescriptorStore(
      kind,
      () => openHolder(kind, nodeName),
      (fd) => loadNative().close(fd),
    );
    this.#learned = new LearnedRoutes(join(stateFolder(nodeName), 'learned.json'));
    this.ports = new Ports(loadNative(), this.workers, this.tables.shared, this.store);
    this.feeder = new Feeder(this.tables, (name) => this.ports.idOf(name));
    this.feeder.onChange = () => this.#keepSoon();
    this.kernelRoutes = new KernelRoutes(this.feeder, (hops) =>
      resolve(hops, this.ports.list().find(({ desired }) => desired.kind === 'host')?.desired.device ?? ''),
    );
    this.paths = new Paths(
      {
        peers: () => this.tables.peers(),
        hasPeer: (address) => this.tables.hasPeer(address),
        refused: () => this.#refused(),
      },
      () => this.changed(),
      options.log,
    );
    this.routing = new BgpRouting(() => this.config, this.feeder, this.kernelRoutes, options.log);
  }

  /** Start the workers and reconcile once; what fails then is tried again later. */
  async start(): Promise<void> {
    await Promise.all([this.workers.start(), this.store.start()]);
    const stale = this.#learned.load();
    const { staleTime } = this.config.restart;
    if (stale && staleTime > 0) {
      this.feeder.restore(stale);
      this.staleUntil = new Date(Date.now() + staleTime * 1000);
    }
    this.routing.isRestart = stale !== null;
    if (this.#stopped) return;
    this.#started = true;
    // Nothing is written before the first full picture: this throws if there is none.
    const first = this.#reconcile();
    this.#running = first.catch(() => {});
    await first;
    this.#running = null;
    if (this.#stopped) return;
    this.#lastEnd = performance.now();
    this.#watcher = this.#watchNamespaces();
    this.#links.start();
    this.#schedule();
  }

  /** Take new settings as far as that goes without a restart; answers with the names of those that were not. */
  reconfigure(config: AgentConfig): string[] {
    const old = this.config;
    this.config = { ...old, ...Object.fromEntries(LIVE.map((name) => [name, config[name]])) };
    const names = Object.keys(config) as (keyof AgentConfig)[];
    return names.filter(
      (name) => !LIVE.some((live) => live === name) && !isDeepStrictEqual(old[name], config[name]),
    );
  }

  /** Something changed: reconcile soon. `refresh`: look at the kernel, too. */
  changed(refresh = false): void {
    this.#dirty = true;
    if (refresh) this.#refresh = 'all';
    this.#schedule();
  }

  /** Reconcile soon; resolves when a reconcile that begins from now on has ended, well or not. */
  reconciled(): Promise<void> {
    const ended = new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
    });
    this.#urgent = true;
    this.changed();
    return ended;
  }

  /** For how long the reconcile that runs has run, ms; and whether one has ended well enough to forward by. */
  reconciling(): { forMs: number; isDone: boolean } {
    const forMs = this.#running ? performance.now() - this.#lastStart : 0;
    return { forMs, isDone: this.#started && this.#lastEnd > 0 };
  }

  /** Whether what the store says is in the tables, as far as one can tell. */
  isInSync(): boolean {
    return this.reconciling().isDone && (this.#options.storeProblem?.() ?? null) === null;
  }

  /** Stop touching anything, and let go of descriptors: TAPs, addresses and routes stay. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#watcher?.close();
    this.#links.stop();
    this.paths.stop();
    if (this.#timer) clearTimeout(this.#timer);
    await this.#running;
    // Sessions end, and with them their routes; what is forwarded is not to notice.
    this.feeder.stop();
    this.kernelRoutes.stop();
    if (this.#started) await this.#keep();
    await this.routing.stop();
    await this.workers.stop();
    this.ports.shutdown();
  }

  #refused(): number {
    const counters = new Float64Array(this.tables.shared.counters);
    const cell = DROPS + DROP.tx_too_big;
    let sum = 0;
    for (const { id } of this.ports.list())
      for (let worker = 0; worker < this.config.workers; worker++)
        sum += counters[cellsOf(worker, id) + cell]!;
    return sum;
  }

  /** Named namespaces come and go with pods: look at once. Null where there are none to watch yet. */
  #watchNamespaces(): FSWatcher | null {
    try {
      return watch(RUN_NETNS, () => this.changed()).on('error', (error) =>
        this.#log.debug({ err: error }, 'namespaces are not watched'),
      );
    } catch (error) {
      this.#log.debug({ err: error }, 'namespaces are not watched');
      return null;
    }
  }

  /** Arm the one timer for whatever is due next. */
  #schedule(): void {
    if (!this.#started || this.#stopped || this.#running) return;
    const now = performance.now();
    let due = this.#nextRefresh;
    const pause = this.#urgent ? 0 : Math.max(THROTTLE_MS, (this.#lastEnd - this.#lastStart) / 2);
    if (this.#dirty) due = this.#lastEnd + pause;
    else if (!this.#swept || this.feeder.standins > 0) due = Math.min(due, now + SETTLE_POLL_MS);
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), Math.max(0, due - now));
  }

  #run(): void {
    if (this.#isStaleOver()) {
      this.feeder.endRestore();
      this.staleUntil = null;
    }
    const isDue =
      this.#dirty || performance.now() >= this.#nextRefresh || (!this.#swept && this.routing.isSettled());
    if (!isDue) return this.#schedule();
    // Without a cause a few pods at a time, so that a full node rests; while something is wrong, all.
    if (performance.now() >= this.#nextRefresh && this.#refresh === 'none') {
      this.#refresh = this.problems.length > 0 ? 'all' : 'some';
    }
    this.#urgent = false;
    const waiting = this.#waiting.splice(0);
    this.#running = this.#reconcile()
      .catch((error: unknown) => this.#log.error({ err: error }, 'reconcile failed; it is tried again'))
      .finally(() => {
        this.#running = null;
        this.#lastEnd = performance.now();
        for (const resolve of waiting) resolve();
        this.#schedule();
      });
  }

  async #reconcile(): Promise<void> {
    this.#lastStart = performance.now();
    const refresh = this.#refresh;
    this.#dirty = false;
    this.#refresh = 'none';
    // Unless all goes well, it is tried again after ever longer pauses.
    this.#nextRefresh = this.#lastStart + this.#retryMs;
    this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);

    const { config } = this;
    const { nodeName } = config;
    const resources = await this.#options.resources();
    const { links, routes } = readNamespace(null, ROUTE_PROTOCOL);
    const problems: string[] = [];
    const underlayMtu = this.#underlayMtu(resources, links, problems);
    const pathMtu = (peer: string) => this.paths.of(peer);
    const desired = desiredState({ ...config, underlayMtu, pathMtu }, resources);
    problems.push(...desired.problems);
    this.resources = resources;
    for (const { port } of config.faults)
      problems.push(`faults are injected at port ${port}: "faults" in the settings`);
    for (const warning of this.#warnings.of(resources)) this.#log.warn(warning);

    const host = desired.ports.find((port) => port.kind === 'host')!;
    this.ports.faults = faultsOf(config.faults);
    await this.ports.setNode(desired.node);
    this.node = desired.node;
    this.podNames = desired.podNames;
    const { address, local } = desired.node;
    this.paths.listen(local.includes(address) ? address : null, problems);
    // Make before break: ports, then the kernel's ways to other nodes, our routes to both, the kernel's routes to
    // us, and last goes what is no more. So no packet is sent to where nobody forwards it yet.
    const owner = this.#owner();
    const made = await this.ports.openHost(host, owner, links);
    const ways = await this.#chooseWays(host.device, problems, refresh);
    const portSettings: PortSettings = { owner, ...config.sockets, ways };
    await this.ports.open(desired.ports, portSettings, refresh);
    const known = made ? links.filter((link) => link.ifname !== host.device) : links;
    const sweep = !this.#swept && this.routing.isSettled();
    const { commands, failures } = await this.#planHost(desired, known, routes, sweep || this.#swept);
    const routes6 = readRoutes6(null, ROUTE_PROTOCOL);
    await this.#planHost6(desired, routes6, sweep || this.#swept, commands, failures);
    const leadsAway = (command: string) => / via /.test(command) && !command.startsWith('route del');
    failures.push(...(await ipApply(null, commands.filter(leadsAway))));
    this.kernelRoutes.hold();
    try {
      problems.push(...this.tables.apply(desired, (name) => this.ports.idOf(name)));
      this.feeder.learn(desired.learning, config.bgp.maximumPaths);
      await this.ports.release();
      // Where BGP tells a route for a prefix that is near no more, it takes the place of the one that would be removed.
      const isInherited = (command: string) => {
        const dst = /^route del ([\da-f.:/]+) /.exec(command)?.[1];
        return dst !== undefined && this.kernelRoutes.inherit(dst);
      };
      const others = commands.filter((command) => !leadsAway(command) && !isInherited(command));
      failures.push(...(await ipApply(null, others)));
    } finally {
      this.kernelRoutes.release();
    }
    problems.push(...failures.map(({ command, message }) => `${command}: ${message}`));
    this.#followInKernel(host.device, links, made, refresh, sweep);
    problems.push(...this.feeder.problems(), ...this.kernelRoutes.problems());
    const facts = { nodeName, hostDevice: host.device, resources };
    problems.push(...(await this.#nat.apply(facts, refresh !== 'none')));
    const { originate } = desired;
    const secret = (name: string, key: string) => readSecret(config.bgp.secrets, name, key);
    const plan = bgpPlan({ nodeName, resources, originate, secret });
    problems.push(...plan.problems.map(({ text }) => text));
    await this.routing
      .configure(plan, desired.routerId)
      .catch((error: Error) => problems.push(`BGP: ${error.message}`));
    if (this.routing.bfd.problem !== null) problems.push(this.routing.bfd.problem);
    await this.ports.close(desired.ports, portSettings, refresh !== 'none' && !this.#swept);
    this.#swept ||= sweep;
    await this.store.check();
    if (this.store.problem !== null) problems.push(this.store.problem);
    problems.push(...(this.#options.problems?.() ?? []));
    this.#settle(problems);
  }

  /** The ways of the tunnels, by what the host's device and kernel allow now. */
  async #chooseWays(device: string, problems: string[], refresh: Refresh): Promise<PortSettings['ways']> {
    const { offload, sockets } = this.config;
    // A question to another process, so not at every pod that comes or goes.
    const isStale = refresh !== 'none' || Date.now() > this.#firewallAsked + FIREWALL_MS;
    if (isStale && Object.values(offload).includes('auto')) {
      this.#firewall = await forwardObstacle();
      this.#firewallAsked = Date.now();
    }
    const facts: WayFacts = {
      hostObstacle: this.ports.hostObstacles(device),
      forwardObstacle: this.#firewall,
      udpChecksum: sockets.udpChecksum,
    };
    const ways = {
      vxlan: chooseWay('vxlan', offload.vxlan, facts),
      ipip: chooseWay('ipip', offload.ipip, facts),
      // Who wants the host for VXLAN has it over IPv4; over IPv6 that is no fault.
      vxlan6: chooseWay('vxlan6', offload.vxlan === 'host' ? 'auto' : offload.vxlan, facts),
    };
    for (const { problem } of Object.values(ways)) if (problem !== null) problems.push(problem);
    return ways;
  }

  /** Learned routes in the kernel, by the links that are there now. */
  #followInKernel(
    device: string,
    links: readonly Link[],
    made: boolean,
    refresh: Refresh,
    sweep: boolean,
  ): void {
    const known = made ? readNamespace(null, ROUTE_PROTOCOL).links : links;
    this.kernelRoutes.refresh(device, known, refresh !== 'none');
    if (sweep) this.kernelRoutes.sweep();
  }

  #isStaleOver(): boolean {
    if (this.feeder.standins === 0) return false;
    return this.routing.isSynchronised() || Date.now() >= (this.staleUntil?.getTime() ?? 0);
  }

  /** For the agent after this one: what is learned, at once, but not all the time. */
  #keepSoon(): void {
    this.#keepAgain = true;
    if (this.#keeping || this.#stopped || !this.#started) return;
    this.#keeping = (async () => {
      while (this.#keepAgain && !this.#stopped) {
        this.#keepAgain = false;
        const begun = performance.now();
        await this.#keep();
        const pause = Math.max(KEEP_PAUSE_MS, KEEP_PAUSES * (performance.now() - begun));
        await sleep(pause, undefined, { ref: false });
      }
      this.#keeping = null;
    })();
  }

  async #keep(): Promise<void> {
    try {
      const isKept = await this.#learned.save(this.feeder);
      if (!isKept && this.#remembers) {
        const others =
          'a restart learns those anew that go into no tunnel, and leaves them to the kernel meanwhile';
        this.#log.info(`more than ${MAX_KEPT_ROUTES} BGP routes: ${others}`);
      }
      this.#remembers = isKept;
    } catch (error) {
      this.#log.warn({ err: error }, 'BGP routes are not kept for a restart');
    }
  }

  #owner(): Owner {
    return { node: this.config.nodeName, scope: netnsInode(null) ?? 0 };
  }

  /** MTU of the underlay device: the configured one, or the one that has the node's address. */
  #underlayMtu(resources: readonly Resource[], links: readonly Link[], problems: string[]): number {
    const { nodeName } = this.config;
    const name = this.config.interface;
    const node = resources.find(
      (resource) => resource.kind === 'Node' && resource.metadata.name === nodeName,
    );
    const texts = node?.kind === 'Node' ? addressTexts(node) : [];
    const owners = texts.map((text) => linkWithAddress(links, text));
    const owner = owners.find((candidate) => candidate !== undefined);
    const link = name === undefined ? owner : links.find((candidate) => candidate.ifname === name);
    for (const [i, text] of texts.entries()) {
      if (owners[i]) continue;
      problems.push(
        `no device here has ${text}, the address of Node ${nodeName}; add it, or correct the Node`,
      );
    }
    if (!link && name !== undefined)
      problems.push(`no device ${name} here; correct "interface" in the settings`);
    return link?.mtu ?? DEFAULT_MTU;
  }

  /**
   * The node's namespace: sets parameters, and answers with what to do about the host device and routes.
   * `mayDelete`: routes of ours that nobody wants go.
   */
  async #planHost(
    desired: Desired,
    links: readonly Link[],
    routes: readonly Route[],
    mayDelete: boolean,
  ): Promise<{ commands: string[]; failures: Failure[] }> {
    const host = desired.ports.find((port) => port.kind === 'host')!;
    if (this.ports.idOf(host.name) === null) return { commands: [], failures: [] };
    const failures = applySysctls(hostSysctls(host.device));
    const hops = new Set(
      [...desired.kernelRoutes.values()].flatMap(({ via }) => (via === null ? [] : [formatAddress4(via)])),
    );
    const { resolved, failures: unresolved } = resolve([...hops], host.device);
    const commands = planHost(
      host,
      aliasOf(this.#owner(), host),
      desired.kernelRoutes.values(),
      resolved,
      links,
      routes,
      (dst) => this.kernelRoutes.has(dst),
    );
    const allowed = mayDelete ? commands : commands.filter((command) => !command.startsWith('route del'));
    return { commands: allowed, failures: [...failures, ...unresolved] };
  }

  /** The same for IPv6: adds to the commands and failures. Nodes without it are left as they are. */
  async #planHost6(
    { ports, six }: Desired,
    routes: readonly Route[],
    mayDelete: boolean,
    commands: string[],
    failures: Failure[],
  ): Promise<void> {
    const { name, device } = ports.find((port) => port.kind === 'host')!;
    if (this.ports.idOf(name) === null) return;
    if (six.routes.size > 0) failures.push(...applySysctls(hostSysctls6(device)));
    const hops = [...six.kernelRoutes.values()].flatMap(({ via }) => (via ? [formatAddress6(via)] : []));
    const { resolved, failures: unresolved } = resolve([...new Set(hops)], device);
    failures.push(...unresolved);
    const isLearned = (dst: string) => this.kernelRoutes.has(dst);
    const planned = planRoutes6(device, six.kernelRoutes.values(), resolved, routes, isLearned);
    commands.push(...planned.filter((command) => mayDelete || !command.startsWith('route del')));
  }

  /** Say what is new, and decide when to look again. */
  #settle(problems: readonly string[]): void {
    const all = [...problems, ...this.ports.problems()];
    for (const problem of all) if (!this.problems.includes(problem)) this.#log.warn(problem);
    for (const problem of this.problems) if (!all.includes(problem)) this.#log.info(`settled: ${problem}`);
    this.problems = all;
    if (all.length > 0) return;
    this.#retryMs = FIRST_RETRY_MS;
    this.#nextRefresh = performance.now() + REFRESH_MS;
  }
}

/** A password, without the newline that editors end files with. Null if it is not there. */
function readSecret(folder: string, name: string, key: string): string | null {
  const path = join(folder, name, key);
  // A name is no path.
  if (dirname(dirname(path)) !== resolvePath(folder)) return null;
  try {
    return readFileSync(path, 'utf8').replace(/\r?\n$/, '');
  } catch {
    return null;
  }
}

/** `auto`: systemd if it runs us, else a process of our own. */
function holderKind(wanted: AgentConfig['restart']['keeper']): HolderKind {
  if (wanted === 'auto') return process.env.NOTIFY_SOCKET ? 'systemd' : 'keeper';
  return wanted === 'process' ? 'keeper' : wanted;
}

/** Which neighbour and device packets to these next hops take, as the kernel would send them. */
function resolve(hops: readonly string[], hostDevice: string): Resolution {
  const resolved = new Map<string, Resolved>();
  const failures: Failure[] = [];
  for (const [index, route] of reach(null, hops).entries()) {
    const hop = hops[index]!;
    const fail = (message: string) => failures.push({ command: `route get ${hop}`, message });
    if ('refused' in route) fail(`the kernel does not reach it (${route.refused})`);
    else if (route.dev === hostDevice) fail('the next hop lies behind tortie itself');
    else resolved.set(hop, route);
  }
  return { resolved, failures };
}

/** Settings of faults as the workers take them. */
const faultsOf = (faults: AgentConfig['faults']): ReadonlyMap<string, FaultSpec> =>
  new Map(
    faults.map(({ port, seed, from, to }) => [
      port,
      JSON.parse(JSON.stringify({ seed, from, to })) as FaultSpec,
    ]),
  );
