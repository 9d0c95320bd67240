/** Removing what is tortie's from this machine, agent or no agent. Nothing need be told: it is found by its marks. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stopBfd } from './bfd/client.ts';
import { agentSchema, apiSocket } from './config/config.ts';
import { EX_UNAVAILABLE, EX_USAGE, TortieError } from './error.ts';
import { forEachSideBySide } from './kernel/each.ts';
import { ipApply, type Netns, netnsText, type Route } from './kernel/iproute.ts';
import { hasNatTable, NAT_TABLE, removeNatTable } from './kernel/nat.ts';
import { deleteRoute, LEARNED_PROTOCOL } from './kernel/plan.ts';
import {
  type FoundAgent,
  type FoundDevice,
  findAgents,
  findDevices,
  findKeepers,
  findRoutes,
  listNamespaces,
  type Namespace,
} from './kernel/scan.ts';

/** An agent ends within five seconds of SIGTERM; some more for a loaded machine. */
const STOP_TIMEOUT_MS = 10_000;
const STOP_POLL_MS = 50;
/** The kernel forgets a million routes in ten seconds. */
const FLUSH_MS = 120_000;

export interface PurgeOptions {
  /** Only what is of this node. */
  readonly nodeName?: string;
  /** What is of any node. */
  readonly all?: boolean;
  /** Only say what would be done. */
  readonly dryRun?: boolean;
  /** Control socket of that node, if it is not where it is by default. */
  readonly apiSocket?: string | undefined;
}

export interface PurgeAction {
  readonly kind: 'agent' | 'keeper' | 'bfd' | 'device' | 'route' | 'table' | 'socket';
  /** What was removed, for people: "device eth0 in pod1 (tortie:node1:4026531833:pod:cali1)". */
  readonly subject: string;
  /** Why it could not be removed, or null. */
  readonly error: string | null;
}

/** Stop agents and keepers, then remove devices, routes and sockets. Failures are in the answer; what can go, goes. */
export async function purge(options: PurgeOptions): Promise<PurgeAction[]> {
  const { nodeName, all = false, dryRun = false } = options;
  if (all === (nodeName !== undefined)) {
    throw new TortieError('PURGE_SCOPE', 'say what to purge: one node by its name, or all', EX_USAGE);
  }
  // The name becomes a part of a path that is removed with all that is in it.
  if (nodeName !== undefined && !agentSchema.shape.nodeName.safeParse(nodeName).success) {
    throw new TortieError('PURGE_SCOPE', `"${nodeName}" is no name of a node`, EX_USAGE);
  }
  const isMeant = (node: string) => all || node === nodeName;
  const actions: PurgeAction[] = [];
  const namespaces = listNamespaces();

  const agents = findAgents(namespaces).filter((agent) => isMeant(agent.node));
  for (const agent of agents) {
    if (!dryRun) await stop(agent);
    actions.push({ kind: 'agent', subject: `agent of node ${agent.node} (pid ${agent.pid})`, error: null });
  }
  // A keeper has its address once for listening and once for each agent that it serves.
  const keepers = new Map(findKeepers(namespaces).map((keeper) => [keeper.pid, keeper]));
  for (const keeper of keepers.values()) {
    if (!isMeant(keeper.node)) continue;
    if (!dryRun) await stop(keeper);
    actions.push({
      kind: 'keeper',
      subject: `keeper of node ${keeper.node} (pid ${keeper.pid})`,
      error: null,
    });
  }

  const inNamespaces = await forEachSideBySide(namespaces, (namespace) =>
    purgeNamespace(namespace, isMeant, dryRun),
  );
  actions.push(...inNamespaces.flat());

  for (const path of socketFolders(options)) {
    if (!existsSync(path)) continue;
    actions.push(...(await purgeBfd(path, dryRun)));
    let error: string | null = null;
    try {
      if (!dryRun) rmSync(path, { recursive: true });
    } catch (caught) {
      error = (caught as Error).message;
    }
    actions.push({ kind: 'socket', subject: path, error });
  }
  return actions;
}

/** The BFD process whose socket is in a folder takes leave of its peers and ends a few seconds later. */
async function purgeBfd(folder: string, dryRun: boolean): Promise<PurgeAction[]> {
  const socket = `${folder}/bfd.sock`;
  if (!existsSync(socket) || (!dryRun && !(await stopBfd(socket)))) return [];
  return [{ kind: 'bfd', subject: `BFD process at ${socket}`, error: null }];
}

/** Devices and routes of one namespace. */
async function purgeNamespace(
  namespace: Namespace,
  isMeant: (node: string) => boolean,
  dryRun: boolean,
): Promise<PurgeAction[]> {
  const { netns } = namespace;
  let devices: FoundDevice[];
  let routes: Route[];
  try {
    devices = findDevices(namespace);
    routes = findRoutes(namespace);
  } catch (error) {
    // Without a look at our own nothing can be said; another's may be closed to us.
    if (netns === null) throw error;
    return [{ kind: 'device', subject: `anything in ${netns}`, error: (error as Error).message }];
  }
  const commands = new Map<string, Omit<PurgeAction, 'error'>>();
  for (const { name, alias, owner } of devices) {
    if (!isMeant(owner.node)) continue;
    const subject = `device ${name} in ${netnsText(netns)} (${alias})`;
    commands.set(`link del dev ${name}`, { kind: 'device', subject });
  }
  // Routes carry no node's name; they belong to the node whose host device or agent is in the namespace.
  const others =
    devices.some(({ owner }) => !isMeant(owner.node)) ||
    (routes.length > 0 && findAgents([namespace]).some(({ node }) => !isMeant(node)));
  const learned: Route[] = [];
  for (const route of others ? [] : routes) {
    // What leads to a device of ours goes with it.
    if (devices.some(({ name }) => name === route.dev)) continue;
    if (route.protocol === String(LEARNED_PROTOCOL)) {
      learned.push(route);
      continue;
    }
    const by = `${route.gateway ? ` via ${route.gateway}` : ''}${route.dev ? ` dev ${route.dev}` : ''}`;
    const subject = `route ${route.dst}${by} in ${netnsText(netns)}`;
    commands.set(deleteRoute(route), { kind: 'route', subject });
  }
  const failures = dryRun ? [] : await ipApply(netns, [...commands.keys()]);
  const actions: PurgeAction[] = [...commands].map(([command, action]) => ({
    ...action,
    error: failures.find((candidate) => candidate.command === command)?.message ?? null,
  }));
  actions.push(...(await purgeLearned(netns, learned, dryRun)));
  // A node's table stands beside its host device.
  const isNode = devices.some(({ owner }) => isMeant(owner.node)) || actions.length > 0;
  if (isNode && !others) actions.push(...(await purgeTable(netns, dryRun)));
  return actions;
}

/** Routes that BGP told: there may be a million, so they are one line for people. */
async function purgeLearned(netns: Netns, routes: readonly Route[], dryRun: boolean): Promise<PurgeAction[]> {
  if (routes.length === 0) return [];
  const [first] = dryRun ? [] : await ipApply(netns, routes.map(deleteRoute), FLUSH_MS);
  const many = routes.length === 1 ? 'route' : 'routes';
  return [
    {
      kind: 'route',
      subject: `${routes.length} ${many} that BGP told, in ${netnsText(netns)}`,
      error: first ? `${first.command}: ${first.message}` : null,
    },
  ];
}

/** The table of nftables. */
async function purgeTable(netns: Netns, dryRun: boolean): Promise<PurgeAction[]> {
  const path = netns === null ? null : netns.includes('/') ? netns : `/run/netns/${netns}`;
  const enter = path === null ? [] : ['nsenter', `--net=${path}`];
  if (!(await hasNatTable(enter))) return [];
  const subject = `table inet ${NAT_TABLE} in ${netnsText(netns)}`;
  try {
    if (!dryRun) await removeNatTable(enter);
    return [{ kind: 'table', subject, error: null }];
  } catch (error) {
    return [{ kind: 'table', subject, error: (error as Error).message }];
  }
}

/** The folders of control sockets by default; a socket elsewhere is removed by itself. */
function socketFolders({ nodeName, apiSocket: configured }: PurgeOptions): string[] {
  const root = dirname(dirname(apiSocket('x')));
  const names = nodeName === undefined ? (existsSync(root) ? readdirSync(root) : []) : [nodeName];
  const folders = names.map((name) => dirname(apiSocket(name)));
  return configured && !folders.includes(dirname(configured)) ? [...folders, configured] : folders;
}

async function stop({ node, pid }: FoundAgent): Promise<void> {
  const isAlive = () => {
    try {
      // A zombie has ended, even if a first process that never waits for its children keeps the number taken.
      return !/\) [ZX] [^)]*$/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    } catch {
      return false;
    }
  };
  try {
    process.kill(pid, 'SIGTERM');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
    throw new TortieError('AGENT_RUNNING', `cannot stop what serves node ${node} (pid ${pid}): ${error}`);
  }
  const deadline = performance.now() + STOP_TIMEOUT_MS;
  while (isAlive()) {
    if (performance.now() > deadline) {
      throw new TortieError(
        'AGENT_RUNNING',
        `what serves node ${node} (pid ${pid}) does not stop; end it by kill -9 ${pid}, then purge again`,
        EX_UNAVAILABLE,
      );
    }
    await sleep(STOP_POLL_MS);
  }
}
