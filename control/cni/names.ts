/** Names that Calico gives to what a pod has, so that its tools and habits find them. */
import { createHash } from 'node:crypto';
import type { Pod } from './request.ts';

const HOST_PREFIX = 'cali';
/** Of what follows the prefix: an interface's name has 15 characters. */
const HOST_DIGITS = 11;
export const DEFAULT_IFNAME = 'eth0';

/** The port's name: in Kubernetes made from namespace and pod, elsewhere from the container. Other interfaces than eth0 get their own. */
export function hostInterface({ namespace, name }: Pod, containerId: string, ifname: string): string {
  const suffix = ifname === DEFAULT_IFNAME ? '' : `.${ifname}`;
  if (name !== undefined) return HOST_PREFIX + sha1(`${namespace}.${name}${suffix}`);
  return HOST_PREFIX + (suffix === '' ? containerId.slice(0, HOST_DIGITS) : sha1(containerId + suffix));
}

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex').slice(0, HOST_DIGITS);

const doubled = (text: string): string => text.replaceAll('-', '--');

/** NODE-ORCHESTRATOR-WORKLOAD-INTERFACE, each with its dashes doubled. */
export function endpointName(node: string, pod: Pod, containerId: string, ifname: string): string {
  const workload = pod.name ?? containerId;
  return [node, pod.orchestrator, workload, ifname].map(doubled).join('-');
}

/** Of the addresses of an attachment: NETWORK.CONTAINERID, as Calico's. Other interfaces than eth0 get their own. */
export const handleId = (network: string, containerId: string, ifname: string): string =>
  `${network}.${containerId}${ifname === DEFAULT_IFNAME ? '' : `.${ifname}`}`;

/** Where the container's id begins like another's: as unlike as can be. */
export const sharedHostInterface = (containerId: string, ifname: string): string =>
  HOST_PREFIX + sha1(`${containerId}.${ifname}`);
