/**
 * What iproute2 must do for the devices, addresses and routes that should be, given those that are. Pure.
 *
 * Ours are: devices whose alias begins with "tortie:NODE:SCOPE:", and routes with our protocol number. A device of
 * ours is ours with its addresses, but for what its pod may send from: someone in the pod may have put it there.
 */
import { formatAddress4, formatMac, formatPrefix4, tryAddress4 } from '../address.ts';
import type { DesiredPort, KernelRoute } from '../desired.ts';
import type { Link, Route } from './iproute.ts';
import { planAddresses6 } from './plan6.ts';

/** Routing protocol number of the routes that tortie makes (rtnetlink's free range; BIRD's is 12). */
export const ROUTE_PROTOCOL = 84;
/** The same for routes that others told by BGP: there may be a million, so they are looked after apart. */
export const LEARNED_PROTOCOL = 85;
/** The address that pods have as their gateway; proxy ARP answers for it. */
const GATEWAY = '169.254.1.1';

/** Beyond the metrics that Linux itself gives (IPv6: 1024). */
const LATER_METRIC = 2048;

/**
 * Packets that wait in a TAP's queue while nobody reads: at 1,000 packets/s a restart may take eight seconds. TCP
 * does not fill it, its windows are smaller.
 */
export const QUEUE_LENGTH = 8192;
/** Before a port that is read at a limited rate there stand no more than so many seconds of it, or so many packets. */
const LIMITED_SECONDS = 0.5;
const LEAST_LIMITED = 128;

function queueLength({ limits, mtu }: DesiredPort): number {
  if (!limits?.from) return QUEUE_LENGTH;
  const wanted = Math.round((limits.from.rate * LIMITED_SECONDS) / mtu);
  return Math.min(QUEUE_LENGTH, Math.max(LEAST_LIMITED, wanted));
}

/** Whose a device is: a node, and the inode of the namespace that it lives in, since two labs on one machine may name their nodes alike. */
export interface Owner {
  readonly node: string;
  readonly scope: number;
}
export const aliasOf = ({ node, scope }: Owner, port: DesiredPort): string =>
  `tortie:${node}:${scope}:${port.kind}:${port.name}`;
/** The owner that an alias names, or null if the device is none of ours. */
export function ownerOfAlias(alias: string | undefined): Owner | null {
  const [, node, scope] = /^tortie:([^:]+):(\d+):/.exec(alias ?? '') ?? [];
  return node === undefined ? null : { node, scope: Number(scope) };
}

/** Device and addresses of a port with a TAP. `link`: the device as it is, undefined if it was just made. */
function planDevice(port: DesiredPort, alias: string, link: Link | undefined): string[] {
  const { device, mtu, mac } = port;
  const commands: string[] = [];
  const set = (what: string) => commands.push(`link set dev ${device} ${what}`);
  if (link?.ifalias !== alias) set(`alias ${alias}`);
  if (link?.mtu !== mtu) set(`mtu ${mtu}`);
  const queue = queueLength(port);
  if (link?.txqlen !== queue) set(`txqueuelen ${queue}`);
  if (mac && link?.address !== formatMac(mac)) set(`address ${formatMac(mac)}`);
  // Without IPv6 no link-local address, so no solicitations that only count as drops.
  if (!link) set(`addrgenmode ${port.addresses6.length > 0 ? 'eui64' : 'none'}`);
  if (!link?.flags.includes('UP')) set('up');
  const wanted = port.addresses.map((address) => `${formatAddress4(address)}/32`);
  const present = (link?.addr_info ?? []).filter(({ family }) => family === 'inet');
  const have = present.map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  for (const address of wanted) {
    if (!have.includes(address)) commands.push(`addr add ${address} dev ${device}`);
  }
  for (const [index, address] of have.entries()) {
    if (wanted.includes(address) || maySend(port, present[index]!.local)) continue;
    commands.push(`addr del ${address} dev ${device}`);
  }
  return [...commands, ...planAddresses6(port, link)];
}

function maySend({ sources }: DesiredPort, text: string): boolean {
  const address = tryAddress4(text);
  if (address === null) return true;
  return sources.some((_, i) => i % 2 === 0 && (address & sources[i + 1]!) === sources[i]);
}

/** A pod's namespace: lo, the device, and the way out by the gateway. */
export function planPod(
  port: DesiredPort,
  alias: string,
  links: readonly Link[],
  routes: readonly Route[],
): string[] {
  const { device } = port;
  const commands: string[] = [];
  const lo = links.find((link) => link.ifname === 'lo');
  if (lo && !lo.flags.includes('UP')) commands.push('link set dev lo up');
  const link = links.find(({ ifname }) => ifname === device);
  commands.push(...planDevice(port, alias, link));
  const ours = link?.flags.includes('UP') ? routes.filter((route) => route.dev === device) : [];
  // A pod of IPv6 alone (plan6.ts).
  if (port.addresses.length === 0 && port.addresses6.length > 0) return commands;
  const metric = metricBehind(device, links, routes);
  if (!ours.some(({ dst, gateway }) => dst === GATEWAY && !gateway)) {
    commands.push(`route add ${GATEWAY} dev ${device} scope link${metric}`);
  }
  if (!ours.some(({ dst, gateway }) => dst === 'default' && gateway === GATEWAY)) {
    commands.push(`route add default via ${GATEWAY} dev ${device}${metric}`);
  }
  return commands;
}

/** Where another device has a way out already, a second one of ours stands behind it: no two routes of one metric. */
export function metricBehind(device: string, links: readonly Link[], routes: readonly Route[]): string {
  const isTaken = routes.some(
    ({ dst, dev }) => (dst === 'default' || dst === GATEWAY) && dev !== undefined && dev !== device,
  );
  return isTaken ? ` metric ${LATER_METRIC + Math.max(...links.map(({ ifindex }) => ifindex))}` : '';
}

/** A next hop resolved: the neighbour that packets to it go to, and the device. */
export interface Resolved {
  readonly gateway: string;
  readonly dev: string;
}

/**
 * The node's namespace: the host device, and our routes. A route whose next hop is not resolved is left as it
 * is. Make before break: additions and changes come before deletions. `isLearned`: whether the kernel has a route that
 * BGP told us for a destination, whose place one that is wanted here takes.
 */
export function planHost(
  port: DesiredPort,
  alias: string,
  wanted: Iterable<KernelRoute>,
  resolved: ReadonlyMap<string, Resolved>,
  links: readonly Link[],
  routes: readonly Route[],
  isLearned: (dst: string) => boolean = () => false,
): string[] {
  const link = links.find((candidate) => candidate.ifname === port.device);
  const commands = planDevice(port, alias, link);
  const present = new Map<string, Route>();
  const surplus: string[] = [];
  for (const route of routes) {
    if (route.protocol !== String(ROUTE_PROTOCOL)) continue;
    if (!route.metric && !present.has(route.dst)) present.set(route.dst, route);
    else surplus.push(deleteRoute(route));
  }
  for (const { prefix, length, via, source } of wanted) {
    const dst = length === 32 ? formatAddress4(prefix) : formatPrefix4(prefix, length);
    const old = present.get(dst);
    present.delete(dst);
    const hop = via === null ? null : resolved.get(formatAddress4(via));
    if (hop === undefined) continue;
    const dev = hop?.dev ?? port.device;
    const prefsrc = source === null ? undefined : formatAddress4(source);
    if (old && old.dev === dev && old.gateway === hop?.gateway && old.prefsrc === prefsrc) continue;
    const way = hop ? `via ${hop.gateway} dev ${dev}` : `dev ${dev} scope link`;
    const src = prefsrc ? ` src ${prefsrc}` : '';
    // "replace" only what is ours: a stranger's route for the same prefix makes "add" fail, and stays.
    const action = old || isLearned(dst) ? 'replace' : 'add';
    commands.push(`route ${action} ${dst} ${way}${src} proto ${ROUTE_PROTOCOL}`);
  }
  return [...commands, ...[...present.values()].map(deleteRoute), ...surplus];
}

/** Route types that a command must name, by rtnetlink's number. */
const ROUTE_TYPES: Record<string, string> = {
  6: 'blackhole ',
  7: 'unreachable ',
  8: 'prohibit ',
  9: 'throw ',
};

/** The command that removes exactly this route. */
export function deleteRoute({ type, dst, gateway, dev, metric, protocol }: Route): string {
  const kind = ROUTE_TYPES[type ?? ''] ?? '';
  const way = `${gateway ? ` via ${gateway}` : ''}${dev ? ` dev ${dev}` : ''}`;
  return `route del ${kind}${dst}${way} proto ${protocol}${metric ? ` metric ${metric}` : ''}`;
}

/** The link that has this address: the underlay device. */
export function linkWithAddress(links: readonly Link[], address: string): Link | undefined {
  return links.find((link) => link.addr_info.some(({ local }) => local === address));
}
