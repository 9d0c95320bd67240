/** ADD: addresses, a WorkloadEndpoint, and the wait for its port. What fails half way is taken back. */
import { native as loadNative } from '../../dataplane/native/index.ts';
import { isIp6, tryAddress4, tryAddress6 } from '../address.ts';
import { TortieError } from '../error.ts';
import { readNamespace } from '../kernel/netlink.ts';
import { ownerOfAlias } from '../kernel/plan.ts';
import type { WorkloadEndpoint } from '../resources/schema.ts';
import {
  addressesOf,
  type CniContext,
  deleteEndpoint,
  findByName,
  isOf,
  keyOfRequest,
  NETWORK,
  type StoredEndpoint,
} from './context.ts';
import { addressesIn, buildEndpoint, resultOf } from './endpoint.ts';
import { asCniError, CniError, CODE } from './error.ts';
import { hostInterface, sharedHostInterface } from './names.ts';
import type { PodNamespace } from './namespaces.ts';
import type { Request } from './request.ts';
import { mergeResults, type Result } from './result.ts';

const TRIES = 10;

export async function add(context: CniContext, request: Request, namespace: PodNamespace): Promise<Result> {
  const { log, ports, namespaces } = context;
  if (request.config.policy) {
    log.warn({ network: request.config.name }, '"policy" is accepted and not enforced yet');
  }
  const before = await findByName(context, request);
  const again = before !== null && isSame(before.resource, request) ? before : null;
  demandFree(context, request, namespace, again !== null);
  const undo: (() => Promise<unknown>)[] = [];
  try {
    const given = again ? givenBefore(again.resource) : await addressesOf(context, request).add(request);
    if (!again) undo.push(() => addressesOf(context, request).del(request));
    const addresses = checkedAddresses(given);
    const { name } = keyOfRequest(context, request);
    const interfaceName = again?.resource.spec.interfaceName ?? claimInterface(context, request, name);
    undo.push(async () => context.claims.delete(interfaceName));
    const endpoint = buildEndpoint(request, { node: context.nodeName, name, interfaceName, addresses });
    namespaces.hold(interfaceName, request.netns, namespace);
    undo.push(async () => namespaces.release(interfaceName));
    const stored = await putEndpoint(context, endpoint);
    undo.push(async () => {
      await deleteEndpoint(context, stored, (found) => isOf(found, request));
      await ports.gone(interfaceName);
    });
    const port = await ports.up(stored.resource, namespace.inode);
    setForwarding(request, namespace, addresses);
    const dns = { ...given.dns, ...request.config.dns };
    return mergeResults(request.prevResult, resultOf(endpoint, request, port.mtu, dns));
  } catch (error) {
    for (const step of undo.reverse()) {
      await step().catch((failure: unknown) =>
        log.error(
          { err: failure, container: request.containerId },
          'ADD failed, and cannot be taken back whole',
        ),
      );
    }
    throw asCniError(error);
  }
}

const isSame = (endpoint: WorkloadEndpoint, request: Request): boolean =>
  isOf(endpoint, request) && endpoint.metadata.annotations?.[NETWORK] === request.config.name;

/** The name that the runtime wants must be free in the pod, or that of what we made for this very attachment. */
function demandFree(
  { nodeName }: CniContext,
  { ifname, netns }: Request,
  namespace: PodNamespace,
  isKnown: boolean,
): void {
  const link = readNamespace(namespace.path).links.find((candidate) => candidate.ifname === ifname);
  if (!link || (isKnown && ownerOfAlias(link.ifalias)?.node === nodeName)) return;
  throw new CniError(
    CODE.interfaceInUse,
    `CNI_IFNAME ${ifname} is in use in ${netns}`,
    'the container has such an interface already: choose another name, or DEL the attachment that it is of',
  );
}

function checkedAddresses(given: Result): string[] {
  const addresses = addressesIn(given);
  for (const address of addresses) {
    if ((isIp6(address) ? tryAddress6(address) : tryAddress4(address)) !== null) continue;
    throw new CniError(CODE.decode, `IPAM gives ${JSON.stringify(address)}, which is no IP address`);
  }
  return addresses;
}

/** What an attachment that is there has. */
const givenBefore = ({ spec }: WorkloadEndpoint): Result => ({
  interfaces: [],
  ips: spec.ipNetworks.map((address) => ({ address })),
  routes: [],
  dns: {},
});

/** Calico's name for the port, unless another endpoint of this node has it: container ids may begin alike. */
function claimInterface({ nodeName, known, claims }: CniContext, request: Request, endpoint: string): string {
  const { pod, containerId, ifname } = request;
  const usual = hostInterface(pod, containerId, ifname);
  const isKnown = known().some(
    (resource) =>
      resource.kind === 'WorkloadEndpoint' &&
      resource.spec.node === nodeName &&
      resource.spec.interfaceName === usual &&
      resource.metadata.name !== endpoint,
  );
  const isTaken = isKnown || (claims.get(usual) ?? endpoint) !== endpoint;
  const name = isTaken ? sharedHostInterface(containerId, ifname) : usual;
  claims.set(name, endpoint);
  return name;
}

/** Create or replace: a pod whose sandbox was made anew keeps its name, and has the endpoint of its last one. */
async function putEndpoint({ store }: CniContext, endpoint: WorkloadEndpoint): Promise<StoredEndpoint> {
  const { kind, metadata } = endpoint;
  const key = { kind, name: metadata.name, namespace: metadata.namespace };
  for (let attempt = 1; ; attempt++) {
    const found = await store.get(key);
    try {
      return (await store.put(endpoint, found?.revision ?? null)) as StoredEndpoint;
    } catch (error) {
      if (attempt === TRIES || !(error instanceof TortieError) || error.code !== 'STORE_CONFLICT')
        throw error;
    }
  }
}

/** A pod is no router unless it is to be one; its namespace may have begun as a copy of the node's parameters. */
function setForwarding({ config }: Request, { path }: PodNamespace, addresses: readonly string[]): void {
  const { sysctlSet } = loadNative();
  const value = config.container_settings?.allow_ip_forwarding ? '1' : '0';
  sysctlSet(path, 'net/ipv4/ip_forward', value);
  if (addresses.some(isIp6)) sysctlSet(path, 'net/ipv6/conf/all/forwarding', value);
}
