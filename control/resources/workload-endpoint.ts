/** WorkloadEndpoint: a pod's interface. */
import { z } from 'zod';
import {
  address4,
  address6,
  anyAddress,
  anyPrefix,
  deviceName,
  inert,
  mac,
  port,
  resource,
} from './fields.ts';

const text = z.string().min(1);
const rate = (most: number) => z.int().min(0).max(most).optional();
const BANDWIDTH = 1e15;
const BURST = 34359738360;

const qosControls = z.strictObject({
  ingressBandwidth: rate(BANDWIDTH).describe('Rate to the pod, bits a second; 0: no limit.'),
  ingressBurst: rate(BURST).describe('Burst to the pod, bits; 0: a tenth of a second of its rate.'),
  egressBandwidth: rate(BANDWIDTH).describe('Rate from the pod, bits a second; 0: no limit.'),
  egressBurst: rate(BURST).describe('Burst from the pod, bits; 0: a tenth of a second of its rate.'),
  ingressPeakrate: inert(z.int().min(0), 'bursts pass at the rate of the device', 0),
  ingressMinburst: inert(z.int().min(0), 'bursts pass at the rate of the device', 0),
  egressPeakrate: inert(z.int().min(0), 'bursts pass at the rate of the device', 0),
  egressMinburst: inert(z.int().min(0), 'bursts pass at the rate of the device', 0),
  ingressPacketRate: inert(z.int().min(0).max(10_000), 'packets are not limited', 0),
  ingressPacketBurst: inert(z.int().min(0).max(10_000), 'packets are not limited', 0),
  egressPacketRate: inert(z.int().min(0).max(10_000), 'packets are not limited', 0),
  egressPacketBurst: inert(z.int().min(0).max(10_000), 'packets are not limited', 0),
  ingressMaxConnections: inert(z.int().min(0), 'connections are not limited', 0),
  egressMaxConnections: inert(z.int().min(0), 'connections are not limited', 0),
  dscp: inert(z.union([z.int().min(0).max(63), z.string()]), 'packets keep theirs'),
});

const namedPort = z.strictObject({
  name: z.string().optional(),
  protocol: z.union([z.string(), z.int().min(1).max(255)]),
  port,
  hostPort: z.int().min(0).max(65535).optional(),
  hostIP: z.string().optional(),
});

export const workloadEndpoint = resource(
  'WorkloadEndpoint',
  z.strictObject({
    node: text.describe('The node that the pod runs on.'),
    orchestrator: text.default('k8s').describe('For people.'),
    workload: text.optional().describe('For people.'),
    pod: text.optional().describe('For people.'),
    containerID: text.optional().describe('The container that the pod’s namespace belongs to.'),
    endpoint: deviceName.default('eth0').describe('Device in the pod.'),
    interfaceName: deviceName.describe(
      'Name of the port: in show ports, traces and replay. One of a kind on its node.',
    ),
    netns: text
      .max(200)
      .optional()
      .describe(
        'Namespace of the pod: a name under /run/netns, or a path; without it the pod has no port. An addition of tortie’s.',
      ),
    ipNetworks: z
      .array(anyPrefix)
      .min(1)
      .max(8)
      .describe('Addresses of the pod, each a /32 or /128 from a pool.'),
    mtu: z
      .int()
      .min(576)
      .max(65535)
      .optional()
      .describe(
        'Largest packet of the device, bytes, if it is less than the pools’ tunnels take. An addition of tortie’s.',
      ),
    mac: mac.optional().describe('MAC of the device. Default: made from the names of node and port.'),
    allowSpoofedSourcePrefixes: z
      .array(anyPrefix)
      .max(64)
      .default([])
      .describe('What the pod may send from, beside its own addresses.'),
    queues: z
      .int()
      .min(1)
      .max(16)
      .default(1)
      .describe(
        'Queues of the device, each read by another worker; no more than workers. An addition of tortie’s.',
      ),
    qosControls: qosControls.optional(),
    profiles: z.array(text).optional().describe('For people: policy is not enforced.'),
    ports: z.array(namedPort).optional().describe('For people: policy is not enforced.'),
    serviceAccountName: text.optional().describe('For people.'),
    ipNATs: inert(
      z.array(z.strictObject({ internalIP: anyAddress, externalIP: anyAddress })),
      'addresses of pods are not translated one to one',
    ),
    ipv4Gateway: inert(address4, 'the gateway of every pod is 169.254.1.1', '169.254.1.1'),
    ipv6Gateway: inert(address6, 'the gateway of every pod is fe80::ecee:eeff:feee:eeee'),
  }),
);

export type WorkloadEndpoint = z.infer<typeof workloadEndpoint>;
