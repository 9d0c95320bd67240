/** Our own paths: `tortie agent` in the namespace of each node, its resources in a file. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import type { BenchContext } from './harness.ts';
import type { Lab, Service } from './lab.ts';
import { type Link, offloadsOf, type Path, POD_DEVICE, twoNodes, VTEP_MACS } from './paths.ts';

const AGENT_READY_MS = 20_000;
const HOST_DEVICE = 'tortie0';
export const ONE_NODE = 'ours-node';

export type Mode = 'vxlan' | 'ipip' | 'direct';

/** Calico's two modes that together say one of ours. */
const POOL_MODES: Record<Mode, { ipipMode: string; vxlanMode: string }> = {
  ipip: { ipipMode: 'Always', vxlanMode: 'Never' },
  direct: { ipipMode: 'Never', vxlanMode: 'Never' },
  vxlan: { ipipMode: 'Never', vxlanMode: 'Always' },
};

export interface PodPlace {
  readonly name: string;
  /** Of its node: names of nodes and of their namespaces are the same. */
  readonly node: string;
  readonly netns: string;
  readonly address: string;
}

/** Pods on one node: packets enter and leave by a TAP each. */
export async function oursOnOneNode(
  lab: Lab,
  context: BenchContext,
  pods: readonly PodPlace[],
  mtu = 1500,
): Promise<Path> {
  const [node, wire] = [await lab.netns(ONE_NODE), await lab.netns('ours-wire')];
  await lab.veth(node, 'eth0', wire, 'eth0');
  await lab.ip(node, 'addr add 192.0.2.1/24 dev eth0', `link set eth0 mtu ${mtu}`);
  writeResources(lab, 'direct', [node], pods);
  const agent = startAgent(lab, context, node, {});
  const [client, server] = pods as readonly [PodPlace, PodPlace];
  await reach(lab, [agent], client.netns, pods.at(-1)!.address);
  return {
    version: `tortie, Node ${process.version}`,
    offloads: await offloadsOf(lab, { pods: [client.netns, POD_DEVICE] }),
    client: client.netns,
    server: server.netns,
    address: server.address,
  };
}

/** The two pods of most entries, in namespaces that are made here. */
export async function twoPods(lab: Lab): Promise<PodPlace[]> {
  return [
    { name: 'a', node: ONE_NODE, netns: await lab.netns('ours-a'), address: '10.65.1.2' },
    { name: 'b', node: ONE_NODE, netns: await lab.netns('ours-b'), address: '10.65.1.3' },
  ];
}

/** One pod on each of two nodes. `settings` are more of the agents', as `offload`. `prefix` keeps two such paths apart. */
export async function oursOnTwoNodes(
  lab: Lab,
  context: BenchContext,
  mode: Mode,
  link: Link,
  settings: Record<string, unknown>,
  prefix = 'ours',
): Promise<Path> {
  const nodes = await twoNodes(lab, prefix, link);
  const [client, server] = [await lab.netns(`${prefix}-a`), await lab.netns(`${prefix}-b`)];
  writeResources(lab, mode, nodes, [
    { name: 'a', node: nodes[0], netns: client, address: '10.65.1.2' },
    { name: 'b', node: nodes[1], netns: server, address: '10.65.2.2' },
  ]);
  // Blocks of a VXLAN pool come from the resources, all others by BGP.
  const more = { bgp: { enabled: mode !== 'vxlan', retrySeconds: 0.2 }, ...settings };
  const agents = nodes.map((node) => startAgent(lab, context, node, more));
  await reach(lab, agents, client, '10.65.2.2');
  return {
    version: `tortie, Node ${process.version}`,
    offloads: await offloadsOf(lab, {
      pods: [client, POD_DEVICE],
      host: [nodes[0], HOST_DEVICE],
      underlay: [nodes[0], 'eth0'],
    }),
    client,
    server,
    address: '10.65.2.2',
  };
}

const resource = (kind: string, name: string, spec: unknown): string =>
  stringify({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec });

/** Into one file, which all agents that are started from now on read. */
export function writeResources(
  lab: Lab,
  mode: Mode,
  nodes: readonly string[],
  pods: readonly PodPlace[],
): void {
  const documents = [
    resource('IPPool', 'pods', { cidr: '10.65.0.0/16', blockSize: 24, ...POOL_MODES[mode] }),
    resource('BGPConfiguration', 'default', { asNumber: 64512, nodeToNodeMeshEnabled: true }),
  ];
  for (const [index, node] of nodes.entries()) {
    const number = index + 1;
    documents.push(
      resource('Node', node, {
        bgp: { ipv4Address: `192.0.2.${number}/24`, ipv4IPIPTunnelAddr: `10.65.${number}.1` },
        ipv4VXLANTunnelAddr: `10.65.${number}.1`,
        vxlanTunnelMACAddr: VTEP_MACS[index],
        blocks: [`10.65.${number}.0/24`],
      }),
    );
  }
  for (const { name, node, netns, address } of pods) {
    const spec = { node, endpoint: POD_DEVICE, interfaceName: `cali${name}`, netns };
    documents.push(resource('WorkloadEndpoint', name, { ...spec, ipNetworks: [`${address}/32`] }));
  }
  writeFileSync(join(lab.folder, 'resources.yaml'), documents.join('---\n'));
}

/** The control socket of an agent that `startAgent` started. */
export const apiOf = (lab: Lab, node: string): string => join(lab.folder, `${node}.sock`);

/** `tortie agent` in its node's namespace. */
export function startAgent(
  lab: Lab,
  context: BenchContext,
  node: string,
  settings: Record<string, unknown>,
): Service {
  const file = join(lab.folder, `${node}.yaml`);
  writeFileSync(
    file,
    stringify({
      nodeName: node,
      datastore: { kind: 'static', path: 'resources.yaml' },
      bgp: { enabled: false },
      // The next entry's agent is to start from nothing.
      restart: { keeper: 'none' },
      sockets: { api: apiOf(lab, node) },
      log: { level: 'warn' },
      ...settings,
    }),
  );
  const main = join(context.root, 'dist/control/cli/main.js');
  return lab.spawn(node, process.execPath, [main, 'agent', '--config', file]);
}

/** Wait until a pod is answered. */
async function reach(lab: Lab, agents: readonly Service[], client: string, address: string): Promise<void> {
  const end = performance.now() + AGENT_READY_MS;
  for (;;) {
    if (await lab.answers(client, address)) return;
    const gone = agents.find((agent) => agent.ended);
    if (gone) throw new Error(`the agent ended: ${gone.said || 'without a word'}`);
    if (performance.now() > end) {
      throw new Error(`no answer from ${address}; the agents said: ${agents.map((a) => a.said).join('; ')}`);
    }
    await sleep(100);
  }
}
