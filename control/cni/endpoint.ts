/** The WorkloadEndpoint of an attachment, and the result that tells of it. */
import { formatMac, isIp6 } from '../address.ts';
import { deviceMac } from '../desired.ts';
import { API_VERSION, type WorkloadEndpoint } from '../resources/schema.ts';
import { NETWORK } from './context.ts';
import type { Config, Request } from './request.ts';
import type { Result } from './result.ts';

/** What pods have as their gateways; the agent answers for them. */
export const GATEWAY = '169.254.1.1';
export const GATEWAY6 = 'fe80::ecee:eeff:feee:eeee';
/** The agent's MAC, whatever the pod. */
const HOST_MAC = 'ee:ee:ee:ee:ee:ee';

/** Addresses of a result without their prefix lengths. */
export const addressesIn = ({ ips }: Pick<Result, 'ips'>): string[] =>
  ips.map(({ address }) => address.split('/')[0]!);

export interface EndpointParts {
  readonly node: string;
  readonly name: string;
  readonly interfaceName: string;
  readonly addresses: readonly string[];
}

export function buildEndpoint(request: Request, parts: EndpointParts): WorkloadEndpoint {
  const { pod, config, containerId, ifname } = request;
  const { node, name, interfaceName, addresses } = parts;
  const mac = request.wanted.mac ?? formatMac(deviceMac(node, interfaceName));
  const isKubernetes = pod.name !== undefined;
  const qosControls = qosOf(config);
  return {
    apiVersion: API_VERSION,
    kind: 'WorkloadEndpoint',
    metadata: {
      name,
      namespace: pod.namespace,
      labels: {
        'projectcalico.org/namespace': pod.namespace,
        'projectcalico.org/orchestrator': pod.orchestrator,
      },
      annotations: { [NETWORK]: config.name },
    },
    spec: {
      node,
      orchestrator: pod.orchestrator,
      ...(isKubernetes ? { pod: pod.name } : { workload: containerId }),
      containerID: containerId,
      endpoint: ifname,
      interfaceName,
      netns: request.netns,
      ipNetworks: addresses.map((address) => `${address}/${isIp6(address) ? 128 : 32}`),
      mac,
      allowSpoofedSourcePrefixes: [],
      queues: 1,
      // As Calico names what it would enforce.
      profiles: isKubernetes ? [`kns.${pod.namespace}`] : [config.name],
      ...(config.mtu && { mtu: config.mtu }),
      ...(qosControls && { qosControls }),
    },
  } as WorkloadEndpoint;
}

/** Limits of the capability "bandwidth", which the dataplane keeps: bits a second and bits, as they come. */
function qosOf({ runtimeConfig }: Config): WorkloadEndpoint['spec']['qosControls'] {
  const { ingressRate, ingressBurst, egressRate, egressBurst } = runtimeConfig?.bandwidth ?? {};
  const limits = {
    ingressBandwidth: ingressRate,
    ingressBurst: ingressRate && ingressBurst,
    egressBandwidth: egressRate,
    egressBurst: egressRate && egressBurst,
  };
  const given = Object.entries(limits).flatMap(([name, value]) => (value ? [[name, Math.round(value)]] : []));
  return given.length > 0 ? Object.fromEntries(given) : undefined;
}

/** What ADD tells of an endpoint that is up. `mtu`: bytes. */
export function resultOf(
  { spec }: WorkloadEndpoint,
  request: Request,
  mtu: number,
  dns: Result['dns'],
): Result {
  const addresses = spec.ipNetworks;
  const gateways = [
    ...(addresses.some((address) => !isIp6(address)) ? [{ dst: '0.0.0.0/0', gw: GATEWAY }] : []),
    ...(addresses.some(isIp6) ? [{ dst: '::/0', gw: GATEWAY6 }] : []),
  ];
  return {
    interfaces: [
      { name: spec.interfaceName, mac: HOST_MAC },
      { name: spec.endpoint, mac: spec.mac, mtu, sandbox: request.netns },
    ],
    ips: addresses.map((address) => ({
      address,
      gateway: isIp6(address) ? GATEWAY6 : GATEWAY,
      interface: 1,
    })),
    routes: gateways,
    dns,
  };
}
