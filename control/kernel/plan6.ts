/**
 * The IPv6 half of plan.ts: addresses, the pod's way out, the node's routes. Devices carry a link-local address only where
 * they have IPv6 addresses at all, since neighbour discovery speaks from one.
 */
import { formatAddress6, formatPrefix6, tryAddress6 } from '../address.ts';
import type { DesiredPort } from '../desired.ts';
import type { KernelRoute6 } from '../desired6.ts';
import type { Link, Route } from './iproute.ts';
import { deleteRoute, metricBehind, type Resolved, ROUTE_PROTOCOL } from './plan.ts';

/** RT_SCOPE_LINK (rtnetlink(7)), as iproute2 prints it in numbers. */
const SCOPE_LINK = '253';
/** The address that pods have as their gateway; proxy neighbour discovery answers for it. */
const GATEWAY6 = 'fe80::ecee:eeff:feee:eeee';

/**
 * Addresses of a port with a TAP. They are unique by where they come from: no duplicate address detection. Others go,
 * but for what the pod may send from; a pod that has no IPv6 of ours is left with what it has.
 */
export function planAddresses6(port: DesiredPort, link: Link | undefined): string[] {
  const { kind, device, addresses6 } = port;
  const wanted = addresses6.map((words) => formatAddress6(words));
  const present = (link?.addr_info ?? []).filter(
    ({ family, scope }) => family === 'inet6' && scope !== SCOPE_LINK,
  );
  const have = present.map(({ local }) => local);
  const isOurs = kind === 'host' || wanted.length > 0;
  const stale = present.filter(({ local }) => isOurs && !wanted.includes(local) && !maySend6(port, local));
  return [
    ...wanted
      .filter((address) => !have.includes(address))
      .map((address) => `addr add ${address}/128 dev ${device} nodad`),
    ...stale.map(({ local, prefixlen }) => `addr del ${local}/${prefixlen} dev ${device}`),
  ];
}

function maySend6({ sources6 }: DesiredPort, text: string): boolean {
  const words = tryAddress6(text);
  if (words === null) return true;
  const from = (at: number) => words.every((word, i) => (word & sources6[at + 4 + i]!) === sources6[at + i]);
  return sources6.some((_, at) => at % 8 === 0 && from(at));
}

/** A pod's default route, by the gateway's link-local address. */
export function planPod6(
  { device, addresses6 }: DesiredPort,
  links: readonly Link[],
  routes: readonly Route[],
): string[] {
  if (addresses6.length === 0) return [];
  const isThere = routes.some(
    ({ dst, gateway, dev }) => dst === 'default' && gateway === GATEWAY6 && dev === device,
  );
  const metric = metricBehind(device, links, routes);
  return isThere ? [] : [`route add default via ${GATEWAY6} dev ${device}${metric}`];
}

/** Our routes of the node's namespace, as planHost has them. A route whose next hop is not resolved is left as it is. */
export function planRoutes6(
  device: string,
  wanted: Iterable<KernelRoute6>,
  resolved: ReadonlyMap<string, Resolved>,
  routes: readonly Route[],
  isLearned: (dst: string) => boolean = () => false,
): string[] {
  const present = new Map<string, Route>();
  for (const route of routes) if (route.protocol === String(ROUTE_PROTOCOL)) present.set(route.dst, route);
  const commands: string[] = [];
  for (const { to, via, source } of wanted) {
    const dst = to.length === 128 ? formatAddress6(to.words) : formatPrefix6(to);
    const old = present.get(dst);
    present.delete(dst);
    const hop = via === null ? null : resolved.get(formatAddress6(via));
    if (hop === undefined) continue;
    const dev = hop?.dev ?? device;
    const prefsrc = source === null ? undefined : formatAddress6(source);
    if (old && old.dev === dev && old.gateway === hop?.gateway && old.prefsrc === prefsrc) continue;
    const way = hop ? `via ${hop.gateway} dev ${dev}` : `dev ${dev}`;
    const src = prefsrc ? ` src ${prefsrc}` : '';
    const action = old || isLearned(dst) ? 'replace' : 'add';
    commands.push(`route ${action} ${dst} ${way}${src} proto ${ROUTE_PROTOCOL}`);
  }
  return [...commands, ...[...present.values()].map(deleteRoute)];
}
