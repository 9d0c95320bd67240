/** CHECK: what ADD made is there, as it was made; what others of the chain added is theirs. And STATUS. */
import { formatMac, isIp6, parseMac } from '../address.ts';
import type { Link, Route } from '../kernel/iproute.ts';
import { readNamespace, readRoutes6 } from '../kernel/netlink.ts';
import { ownerOfAlias } from '../kernel/plan.ts';
import { addressesOf, type CniContext, findOwn } from './context.ts';
import { addressesIn, GATEWAY, GATEWAY6 } from './endpoint.ts';
import { asCniError, CniError, CODE } from './error.ts';
import type { PodNamespace } from './namespaces.ts';
import type { Request } from './request.ts';
import type { Result, ResultInterface } from './result.ts';

function demand(condition: unknown, message: string): asserts condition {
  if (!condition) throw new CniError(CODE.check, message);
}

export async function check(context: CniContext, request: Request, namespace: PodNamespace): Promise<void> {
  const { prevResult, containerId, ifname, netns } = request;
  if (!prevResult) throw new CniError(CODE.config, 'CHECK needs prevResult, the result of ADD');
  const stored = await findOwn(context, request);
  demand(stored, `container ${containerId} has no WorkloadEndpoint for ${ifname}`);
  const { resource: endpoint } = stored;
  const { links, routes } = readNamespace(namespace.path);
  const link = links.find((candidate) => candidate.ifname === ifname);
  demand(link, `${netns} has no ${ifname}`);
  demand(ownerOfAlias(link.ifalias)?.node === context.nodeName, `${ifname} in ${netns} is not tortie’s`);
  demand(link.flags.includes('UP'), `${ifname} in ${netns} is down`);
  const index = prevResult.interfaces.findIndex(({ name, sandbox }) => name === ifname && sandbox);
  demand(index >= 0, `prevResult has no interface ${ifname} of the container`);
  demandSameLink(link, prevResult.interfaces[index]!);
  const ips = prevResult.ips.filter((ip) => ip.interface === index);
  demandAddresses(link, ips);
  demandRoutes(prevResult, [...routes, ...readRoutes6(namespace.path)]);
  const problem = context.ports.problem(endpoint, namespace.inode);
  demand(problem === null, `port ${endpoint.spec.interfaceName}: ${problem}`);
  const own = endpoint.spec.ipNetworks.map((network) => network.split('/')[0]!);
  const strange = addressesIn({ ips }).find((address) => !own.includes(address));
  demand(
    strange === undefined,
    `${strange} is not of ${endpoint.metadata.name}, which has ${own.join(', ')}`,
  );
  await addressesOf(context, request).check(request, own);
}

function demandSameLink({ ifname, address, mtu }: Link, wanted: ResultInterface): void {
  const mac = wanted.mac === undefined ? address : formatMac(parseMac(wanted.mac));
  demand(mac === address, `${ifname} has MAC ${address}, prevResult ${mac}`);
  const isSame = wanted.mtu === undefined || wanted.mtu === mtu;
  demand(isSame, `${ifname} has MTU ${mtu}, prevResult ${wanted.mtu}`);
}

function demandAddresses({ ifname, addr_info }: Link, ips: Result['ips']): void {
  const have = addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  const missing = ips.find(({ address }) => !have.includes(address));
  demand(!missing, `${ifname} has no ${missing?.address}, but ${have.join(', ') || 'no address'}`);
}

/** Ours are those by our gateways. */
function demandRoutes({ routes }: Result, have: readonly Route[]): void {
  for (const { dst, gw } of routes) {
    if (gw !== GATEWAY && gw !== GATEWAY6) continue;
    const printed = dst === '0.0.0.0/0' || dst === '::/0' ? 'default' : dst;
    const isThere = have.some((route) => route.dst === printed && route.gateway === gw);
    demand(isThere, `the container has no route to ${dst} via ${gw}`);
    const isNear = isIp6(gw) || have.some((route) => route.dst === gw);
    demand(isNear, `the container has no route to ${gw}`);
  }
}

/** Whether ADD could be served. */
export async function status(context: CniContext, request: Request): Promise<void> {
  const reason = context.unready();
  if (reason !== null) throw new CniError(CODE.unavailable, reason);
  try {
    const node = await context.store.get({ kind: 'Node', name: context.nodeName });
    if (!node) throw new CniError(CODE.unavailable, `the datastore has no Node ${context.nodeName}`);
    await addressesOf(context, request).status(request);
  } catch (error) {
    const { cni, message, details } = asCniError(error);
    const isOfStatus = cni === CODE.unavailable || cni === CODE.limited;
    throw new CniError(isOfStatus ? cni : CODE.unavailable, message, details);
  }
}
