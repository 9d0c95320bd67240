/** Finding what is tortie's on this machine without having been told: namespaces, devices, routes, agents. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { KEEPER_PREFIX } from '../keeper/protocol.ts';
import type { Netns, Route } from './iproute.ts';
import { readLinks, readRoutes } from './netlink.ts';
import { LEARNED_PROTOCOL, type Owner, ownerOfAlias, ROUTE_PROTOCOL } from './plan.ts';

export const RUN_NETNS = '/run/netns';
/** Abstract socket that an agent holds in its namespace while it lives; `@` is how /proc/net/unix shows it. */
export const LOCK_PREFIX = 'tortie-agent:';

export interface Namespace {
  readonly netns: Netns;
  /** Identity: a namespace has several paths but one inode. */
  readonly inode: number;
  /** A process that lives in it, if any: its /proc shows what iproute2 cannot. */
  readonly pid: number | null;
}

export interface FoundDevice {
  readonly netns: Netns;
  readonly name: string;
  readonly alias: string;
  readonly owner: Owner;
}

export interface FoundAgent {
  readonly node: string;
  readonly pid: number;
  /** Inode of the namespace that it serves. */
  readonly inode: number;
}

const pids = (): number[] => readdirSync('/proc').map(Number).filter(Number.isInteger);

/** Inode of a namespace, or null if it is not there. */
export function netnsInode(netns: Netns): number | null {
  const path = netns === null ? '/proc/self/ns/net' : netns.includes('/') ? netns : `${RUN_NETNS}/${netns}`;
  return optional(() => statSync(path).ino) ?? null;
}

/** All network namespaces that have a name or a process: our own first. */
export function listNamespaces(): Namespace[] {
  const found = new Map<number, Namespace>();
  const own = netnsInode(null);
  if (own !== null) found.set(own, { netns: null, inode: own, pid: process.pid });
  for (const name of optional(() => readdirSync(RUN_NETNS)) ?? []) {
    const inode = netnsInode(name);
    // An unmounted leftover is a plain file of the file system around it.
    if (inode !== null && isNamespace(`${RUN_NETNS}/${name}`) && !found.has(inode)) {
      found.set(inode, { netns: name, inode, pid: null });
    }
  }
  for (const pid of pids()) {
    const netns = `/proc/${pid}/ns/net`;
    const inode = netnsInode(netns);
    if (inode === null) continue;
    const known = found.get(inode);
    if (!known) found.set(inode, { netns, inode, pid });
    else if (known.pid === null) found.set(inode, { ...known, pid });
  }
  return [...found.values()];
}

/** Namespace files live on nsfs, a device of its own. */
function isNamespace(path: string): boolean {
  return optional(() => statSync(path).dev === statSync('/proc/self/ns/net').dev) ?? false;
}

/** Devices of ours in a namespace. Nothing if it is gone. */
export const findDevices = (namespace: Namespace): FoundDevice[] =>
  lookInto(namespace, ({ netns }) =>
    readLinks(netns).flatMap(({ ifname, ifalias = '' }) => {
      const owner = ownerOfAlias(ifalias);
      return owner === null ? [] : [{ netns, name: ifname, alias: ifalias, owner }];
    }),
  );

/** Routes with a protocol number of ours in a namespace. Nothing if it is gone. */
export const findRoutes = (namespace: Namespace): Route[] =>
  lookInto(namespace, ({ netns }) =>
    [ROUTE_PROTOCOL, LEARNED_PROTOCOL].flatMap((protocol) => readRoutes(netns, protocol)),
  );

function lookInto<T>(namespace: Namespace, look: (namespace: Namespace) => T[]): T[] {
  try {
    return look(namespace);
  } catch (error) {
    if (netnsInode(namespace.netns) === namespace.inode) throw error;
    // It went between the listing and the look.
    return [];
  }
}

/** Agents that are alive, wherever: by the lock that each holds in its namespace. */
export const findAgents = (namespaces: readonly Namespace[]): FoundAgent[] =>
  findHolders(namespaces, LOCK_PREFIX);

/** Keepers that are alive, likewise. */
export const findKeepers = (namespaces: readonly Namespace[]): FoundAgent[] =>
  findHolders(namespaces, KEEPER_PREFIX);

/** Processes that listen at an abstract address of this prefix and a node's name. */
function findHolders(namespaces: readonly Namespace[], prefix: string): FoundAgent[] {
  const locks = new Map<string, { node: string; inode: number }>();
  for (const { pid, inode } of namespaces) {
    for (const { node, socket } of pid === null ? [] : locksSeenBy(pid, prefix))
      locks.set(socket, { node, inode });
  }
  if (locks.size === 0) return [];
  const agents: FoundAgent[] = [];
  for (const pid of pids()) {
    const folder = `/proc/${pid}/fd`;
    for (const fd of optional(() => readdirSync(folder)) ?? []) {
      const socket = optional(() => readlinkSync(`${folder}/${fd}`)) ?? '';
      const lock = locks.get(socket);
      if (lock) agents.push({ ...lock, pid });
    }
  }
  return agents;
}

/** Names and sockets ("socket:[INODE]") of the agents' locks in the namespace of a process. */
export function locksSeenBy(pid: number, prefix = LOCK_PREFIX): { node: string; socket: string }[] {
  return parseLocks(optional(() => readFileSync(`/proc/${pid}/net/unix`, 'utf8')) ?? '', prefix);
}

/** The locks in a table as /proc/net/unix shows it. */
export function parseLocks(table: string, prefix = LOCK_PREFIX): { node: string; socket: string }[] {
  return table.split('\n').flatMap((line) => {
    // Num RefCount Protocol Flags Type St Inode Path
    const [, , , , , , inode, path] = line.trim().split(/\s+/);
    if (!path?.startsWith(`@${prefix}`)) return [];
    // libuv pads abstract names with zeros, shown as "@" like the first.
    const node = path.slice(prefix.length + 1).replace(/@+$/, '');
    return [{ node, socket: `socket:[${inode}]` }];
  });
}

/** What a look at something that may go at any moment says, or undefined. */
function optional<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
