/**
 * What lies between two pods: what all paths share, and the two that need no program of somebody else's,
 * a relay in C and the kernel itself.
 */
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { type BenchContext, compilerVersion } from './harness.ts';
import type { Lab } from './lab.ts';

export interface Path {
  /** Of who moves the packets. */
  readonly version: string;
  /** What `ethtool -k` says of the devices on the way. */
  readonly offloads: Record<string, string>;
  /** Namespaces of the two pods. */
  readonly client: string;
  readonly server: string;
  /** Of the pod that serves. */
  readonly address: string;
}

/**
 * The underlay between two nodes. `super`: a veth as Linux makes it, which passes super-frames and partial
 * checksums. `wire`: its tx offloads off, as a plain wire; GRO joins what arrives.
 */
export type Link = 'super' | 'wire';

export const VNI = 4096;
export const VTEP_MACS = ['66:00:00:00:00:01', '66:00:00:00:00:02'] as const;
export const POD_DEVICE = 'eth0';

/** Both ends of a device pair or of a pod, by name. */
export async function offloadsOf(
  lab: Lab,
  devices: Record<string, readonly [netns: string, device: string]>,
): Promise<Record<string, string>> {
  const named = Object.entries(devices).map(
    async ([name, [netns, device]]) => [name, await lab.offloads(netns, device)] as const,
  );
  return Object.fromEntries(await Promise.all(named));
}

/** Throws, with what installs it, where a program of a peer is missing. */
export function needs(program: string, debianPackage: string): string {
  if (!existsSync(program))
    throw new Error(`no ${program} here: scripts/bench-peers installs ${debianPackage}`);
  return program;
}

/** Two namespaces PREFIX-node1 192.0.2.1 and PREFIX-node2 192.0.2.2 that forward, joined by eth0. */
export async function twoNodes(lab: Lab, prefix: string, link: Link): Promise<readonly [string, string]> {
  const nodes = [await lab.netns(`${prefix}-node1`), await lab.netns(`${prefix}-node2`)] as const;
  await lab.veth(nodes[0], 'eth0', nodes[1], 'eth0');
  for (const [index, node] of nodes.entries()) {
    await lab.ip(node, `addr add 192.0.2.${index + 1}/24 dev eth0`);
    if (link === 'wire') await lab.plainWire(node, 'eth0');
    await lab.sysctl(node, 'net.ipv4.ip_forward=1');
  }
  return nodes;
}

/** A pod NET.2 behind a node's veth NET.1. */
export async function podBehind(
  lab: Lab,
  node: string,
  pod: string,
  device: string,
  net: string,
  mtu = 1500,
) {
  await lab.veth(node, device, pod, POD_DEVICE);
  await lab.ip(node, `addr add ${net}.1/24 dev ${device}`);
  await lab.ip(
    pod,
    `addr add ${net}.2/24 dev ${POD_DEVICE}`,
    `route add default via ${net}.1`,
    `link set ${POD_DEVICE} mtu ${mtu}`,
  );
}

/** The least that C can do between two TAPs, with the offloads that our TAPs have. */
export async function cRelay(lab: Lab, context: BenchContext, ours: Path, mtu = 1500): Promise<Path> {
  const program = await context.compile('c-relay');
  const [client, server] = [await lab.netns('relay-a'), await lab.netns('relay-b')];
  const flags = ours.offloads.pods?.includes('tso on') ? ['--offloads'] : [];
  const relay = await lab.netns('relay');
  await lab.start(relay, program, [...flags, '--mtu', String(mtu), client, '10.65.1.2', server, '10.65.1.3']);
  for (const [netns, address] of [
    [client, '10.65.1.2'],
    [server, '10.65.1.3'],
  ] as const) {
    await lab.ip(
      netns,
      `link set ${POD_DEVICE} mtu ${mtu} up`,
      `addr add ${address}/32 dev ${POD_DEVICE}`,
      `route add 169.254.1.1 dev ${POD_DEVICE} scope link`,
      `route add default via 169.254.1.1 dev ${POD_DEVICE}`,
    );
  }
  return {
    version: await compilerVersion(),
    offloads: await offloadsOf(lab, { pods: [client, POD_DEVICE] }),
    client,
    server,
    address: '10.65.1.3',
  };
}

/** Two veth pods and a namespace that routes between them. */
export async function kernelRouter(lab: Lab, mtu = 1500): Promise<Path> {
  const router = await lab.netns('router');
  const [client, server] = [await lab.netns('router-a'), await lab.netns('router-b')];
  await lab.sysctl(router, 'net.ipv4.ip_forward=1');
  await podBehind(lab, router, client, 'pod1', '10.65.1', mtu);
  await podBehind(lab, router, server, 'pod2', '10.65.2', mtu);
  await lab.ip(router, `link set pod1 mtu ${mtu}`, `link set pod2 mtu ${mtu}`);
  return {
    version: `Linux ${release()}`,
    offloads: await offloadsOf(lab, { pods: [client, POD_DEVICE], router: [router, 'pod1'] }),
    client,
    server,
    address: '10.65.2.2',
  };
}

/** Two nodes with a VXLAN device each, a veth pod behind. */
export async function kernelVxlan(lab: Lab, link: Link): Promise<Path> {
  const nodes = await twoNodes(lab, 'vxlan', link);
  const [client, server] = [await lab.netns('vxlan-a'), await lab.netns('vxlan-b')];
  for (const [index, node] of nodes.entries()) {
    const [own, other] = [index + 1, 2 - index];
    await podBehind(lab, node, [client, server][index]!, 'pod', `10.65.${own}`, 1450);
    await lab.ip(
      node,
      `link add vxlan type vxlan id ${VNI} local 192.0.2.${own} dev eth0 dstport 4789 nolearning`,
      `link set vxlan address ${VTEP_MACS[own - 1]} mtu 1450 up`,
      `addr add 10.65.${own}.254/32 dev vxlan`,
      `neigh add 10.65.${other}.254 lladdr ${VTEP_MACS[other - 1]} dev vxlan nud permanent`,
      `route add 10.65.${other}.0/24 via 10.65.${other}.254 dev vxlan onlink`,
    );
    const entry = `fdb add ${VTEP_MACS[other - 1]} dev vxlan dst 192.0.2.${other}`;
    await lab.run(node, 'bridge', entry.split(' '));
  }
  return {
    version: `Linux ${release()}`,
    offloads: await offloadsOf(lab, {
      pods: [client, POD_DEVICE],
      vxlan: [nodes[0], 'vxlan'],
      underlay: [nodes[0], 'eth0'],
    }),
    client,
    server,
    address: '10.65.2.2',
  };
}
