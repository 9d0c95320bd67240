/**
 * Ways between two pods: ours, by the real agent, and its peers. Each is up from `prepare` to `close` and
 * idle while another is measured.
 */
import { writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BenchContext, compilerVersion } from './harness.ts';
import type { Lab, Service } from './lab.ts';

const AGENT_READY_MS = 20_000;
const VNI = 4096;
const VTEP_MACS = ['66:00:00:00:00:01', '66:00:00:00:00:02'] as const;

export interface Path {
  /** Of who moves the packets, and the offloads in force. */
  readonly version: string;
  /** Namespaces of the two pods. */
  readonly client: string;
  readonly server: string;
  /** Of the pod that serves. */
  readonly address: string;
}

/** The offloads of a pod's device, in short. */
const POD_DEVICE = 'eth0';

/** Two pods on one node: packets enter and leave by a TAP each. */
export async function oursOnOneNode(lab: Lab, context: BenchContext): Promise<Path> {
  const [node, wire] = [await lab.netns('ours-node'), await lab.netns('ours-wire')];
  const [client, server] = [await lab.netns('ours-a'), await lab.netns('ours-b')];
  await lab.veth(node, 'eth0', wire, 'eth0');
  await lab.ip(node, 'addr add 192.0.2.1/24 dev eth0');
  const resources = [
    ipPool('Never'),
    nodeResource(1),
    workload('a', 1, client, '10.65.1.2'),
    workload('b', 1, server, '10.65.1.3'),
  ];
  const agent = startAgent(lab, context, node, 1, resources);
  await reach(lab, agent, client, '10.65.1.3');
  return { version: await describe(lab, client, 'tortie'), client, server, address: '10.65.1.3' };
}

/** One pod on each of two nodes, VXLAN between. */
export async function oursByVxlan(lab: Lab, context: BenchContext): Promise<Path> {
  const nodes = [await lab.netns('ours-node1'), await lab.netns('ours-node2')] as const;
  const [client, server] = [await lab.netns('ours-a'), await lab.netns('ours-b')];
  await lab.veth(nodes[0], 'eth0', nodes[1], 'eth0');
  await lab.ip(nodes[0], 'addr add 192.0.2.1/24 dev eth0');
  await lab.ip(nodes[1], 'addr add 192.0.2.2/24 dev eth0');
  const resources = [
    ipPool('Always'),
    nodeResource(1),
    nodeResource(2),
    workload('a', 1, client, '10.65.1.2'),
    workload('b', 2, server, '10.65.2.2'),
  ];
  const agents = [1, 2].map((number) => startAgent(lab, context, nodes[number - 1]!, number, resources));
  await reach(lab, agents[0]!, client, '10.65.2.2');
  const underlay = await lab.offloads(nodes[0], 'eth0');
  const version = `${await describe(lab, client, 'tortie')}; underlay ${underlay}`;
  return { version, client, server, address: '10.65.2.2' };
}

const head = (kind: string, name: string) =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {name: ${name}}\nspec:\n`;

const ipPool = (vxlanMode: 'Always' | 'Never') =>
  `${head('IPPool', 'pods')}  {cidr: 10.65.0.0/16, vxlanMode: ${vxlanMode}, blockSize: 26}\n`;

const nodeResource = (number: number) =>
  `${head('Node', `node${number}`)}  bgp: {ipv4Address: 192.0.2.${number}/24}
  ipv4VXLANTunnelAddr: 10.65.${number}.1
  vxlanTunnelMACAddr: "${VTEP_MACS[number - 1]}"
  blocks: [10.65.${number}.0/26]\n`;

const workload = (name: string, node: number, netns: string, address: string) =>
  `${head('WorkloadEndpoint', name)}  {node: node${node}, endpoint: ${POD_DEVICE}, interfaceName: cali${name}, ` +
  `netns: ${netns}, ipNetworks: [${address}/32]}\n`;

/** `tortie agent` in a node's namespace, without BGP: its routes come from the resources. */
function startAgent(
  lab: Lab,
  context: BenchContext,
  netns: string,
  number: number,
  resources: readonly string[],
): Service {
  writeFileSync(join(lab.folder, 'resources.yaml'), resources.join('---\n'));
  const settings = join(lab.folder, `node${number}.yaml`);
  writeFileSync(
    settings,
    `nodeName: node${number}
datastore: {kind: static, path: resources.yaml}
bgp: {enabled: false}
sockets: {api: ${join(lab.folder, `node${number}.sock`)}}
log: {level: warn}\n`,
  );
  const main = join(context.root, 'dist/control/cli/main.js');
  return lab.spawn(netns, process.execPath, [main, 'agent', '--config', settings]);
}

/** Wait until a pod is answered. */
async function reach(lab: Lab, agent: Service, client: string, address: string): Promise<void> {
  const end = performance.now() + AGENT_READY_MS;
  for (;;) {
    const answered = await lab.run(client, 'ping', ['-c1', '-W1', address]).then(
      () => true,
      () => false,
    );
    if (answered) return;
    if (agent.ended) throw new Error(`the agent ended: ${agent.said || 'without a word'}`);
    if (performance.now() > end) throw new Error(`no answer from ${address}; the agent said: ${agent.said}`);
    await sleep(100);
  }
}

async function describe(lab: Lab, pod: string, who: string): Promise<string> {
  return `${who}; pods ${await lab.offloads(pod, POD_DEVICE)}`;
}

/** The least that C can do between two TAPs, with the offloads that our TAPs have. */
export async function cRelay(lab: Lab, context: BenchContext, ours: Path): Promise<Path> {
  const program = await context.compile('c-relay');
  const [client, server] = [await lab.netns('relay-a'), await lab.netns('relay-b')];
  const flags = (await lab.offloads(ours.client, POD_DEVICE)).includes('tso on') ? ['--offloads'] : [];
  const relay = await lab.netns('relay');
  await lab.start(relay, program, [...flags, client, '10.65.1.2', server, '10.65.1.3']);
  for (const [netns, address] of [
    [client, '10.65.1.2'],
    [server, '10.65.1.3'],
  ] as const) {
    await lab.ip(
      netns,
      `link set ${POD_DEVICE} up`,
      `addr add ${address}/32 dev ${POD_DEVICE}`,
      `route add 169.254.1.1 dev ${POD_DEVICE} scope link`,
      `route add default via 169.254.1.1 dev ${POD_DEVICE}`,
    );
  }
  return {
    version: await describe(lab, client, await compilerVersion()),
    client,
    server,
    address: '10.65.1.3',
  };
}

/** Two veth pods and a namespace that routes between them. `plain` turns the offloads of all veths off. */
export async function kernelRouter(lab: Lab, plain: boolean): Promise<Path> {
  const prefix = plain ? 'plain-router' : 'router';
  const router = await lab.netns(prefix);
  const pods = [await lab.netns(`${prefix}-a`), await lab.netns(`${prefix}-b`)] as const;
  await lab.sysctl(router, 'net.ipv4.ip_forward=1');
  for (const [index, pod] of pods.entries()) {
    await podBehind(lab, router, pod, `pod${index}`, `10.65.${index + 1}`, plain);
  }
  const version = await describe(lab, pods[0], `Linux ${release()}`);
  return { version, client: pods[0], server: pods[1], address: '10.65.2.2' };
}

/** A pod NET.2 behind a node's veth NET.1. */
async function podBehind(lab: Lab, node: string, pod: string, device: string, net: string, plain: boolean) {
  await lab.veth(node, device, pod, POD_DEVICE);
  await lab.ip(node, `addr add ${net}.1/24 dev ${device}`);
  await lab.ip(pod, `addr add ${net}.2/24 dev ${POD_DEVICE}`, `route add default via ${net}.1`);
  if (plain) {
    await lab.offloadsOff(node, device);
    await lab.offloadsOff(pod, POD_DEVICE);
  }
}

/** Two nodes with a VXLAN device each, a pod behind. `plain` turns the offloads of all devices off. */
export async function kernelVxlan(lab: Lab, plain: boolean): Promise<Path> {
  const prefix = plain ? 'plain-vxlan' : 'vxlan';
  const nodes = [await lab.netns(`${prefix}-node1`), await lab.netns(`${prefix}-node2`)] as const;
  const pods = [await lab.netns(`${prefix}-a`), await lab.netns(`${prefix}-b`)] as const;
  await lab.veth(nodes[0], 'eth0', nodes[1], 'eth0');
  for (const [index, node] of nodes.entries()) {
    const [own, other] = [index + 1, 2 - index];
    await lab.ip(node, `addr add 192.0.2.${own}/24 dev eth0`);
    if (plain) await lab.offloadsOff(node, 'eth0');
    await lab.sysctl(node, 'net.ipv4.ip_forward=1');
    await podBehind(lab, node, pods[index]!, 'pod', `10.65.${own}`, plain);
    await lab.ip(
      node,
      `link add vxlan type vxlan id ${VNI} local 192.0.2.${own} dev eth0 dstport 4789 nolearning`,
      `link set vxlan address ${VTEP_MACS[own - 1]} mtu 1450 up`,
      `addr add 10.65.${own}.254/32 dev vxlan`,
      `neigh add 10.65.${other}.254 lladdr ${VTEP_MACS[other - 1]} dev vxlan nud permanent`,
      `route add 10.65.${other}.0/24 via 10.65.${other}.254 dev vxlan onlink`,
    );
    await lab.run(node, 'bridge', [
      'fdb',
      'add',
      VTEP_MACS[other - 1]!,
      'dev',
      'vxlan',
      'dst',
      `192.0.2.${other}`,
    ]);
    if (plain) await lab.offloadsOff(node, 'vxlan');
    await lab.ip(pods[index]!, `link set ${POD_DEVICE} mtu 1450`);
  }
  const underlay = await lab.offloads(nodes[0], 'eth0');
  const version = `${await describe(lab, pods[0], `Linux ${release()}`)}; underlay ${underlay}`;
  return { version, client: pods[0], server: pods[1], address: '10.65.2.2' };
}
