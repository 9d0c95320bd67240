/** The other node as Linux itself: its VXLAN device, and its IPIP device in a user-mode kernel where ours has none. */
import { chmodSync, copyFileSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../control/bgp/until.ts';
import {
  block,
  block6,
  type Cluster,
  Daemon,
  nodeAddress,
  nodeAddress6,
  nodeName,
  tunnelAddress,
  tunnelAddress6,
  vtepMac,
  vtepMac6,
} from './cluster.ts';

const GATEWAY = '169.254.1.1';
const VXLAN_DEVICE = 'vxlan.calico';
const GATEWAY6 = 'fe80::ecee:eeff:feee:eeee';
const VXLAN6_DEVICE = 'vxlan-v6.calico';
const BOOT_MS = 30_000;
/** A program in a user-mode kernel that says nothing for longer hangs. */
const PROGRAM_MS = 60_000;

/**
 * A node as Calico makes it, all in the kernel: VXLAN device with static neighbours and forwarding entries,
 * and a pod behind a veth with proxy ARP. Returns the pod's namespace and address.
 */
export async function kernelVxlanNode(
  cluster: Cluster,
  number: number,
  peer: number,
): Promise<{ pod: string; address: string }> {
  const { lab } = cluster;
  const node = await lab.netns(nodeName(number));
  await cluster.plug(node, nodeAddress(number));
  const pod = await lab.netns(`pod${number}a`);
  const address = `10.65.${number}.2`;
  await lab.ip(
    node,
    `link add ${VXLAN_DEVICE} address ${vtepMac(number)} mtu 1450 type vxlan id 4096 dstport 4789 local ${nodeAddress(number)} dev eth0 nolearning`,
    `addr add ${tunnelAddress(number)}/32 dev ${VXLAN_DEVICE}`,
    `link set ${VXLAN_DEVICE} up`,
    `neigh add ${tunnelAddress(peer)} lladdr ${vtepMac(peer)} dev ${VXLAN_DEVICE} nud permanent`,
    `route add ${block(peer)} via ${tunnelAddress(peer)} dev ${VXLAN_DEVICE} onlink`,
  );
  await lab.run(node, 'bridge', [
    ...['fdb', 'append', vtepMac(peer), 'dev', VXLAN_DEVICE, 'dst', nodeAddress(peer)],
  ]);
  await lab.veth(node, `cali${pod}`, pod, 'eth0');
  // Proxy ARP answers only for what is routed elsewhere, as 169.254.1.1 is by the default route of any real node.
  await lab.ip(node, `route add ${address}/32 dev cali${pod}`, 'route add default dev eth0');
  await lab.sysctl(node, 'net.ipv4.ip_forward=1', `net.ipv4.conf.cali${pod}.proxy_arp=1`);
  await lab.ip(
    pod,
    'link set eth0 mtu 1450',
    `addr add ${address}/32 dev eth0`,
    `route add ${GATEWAY} dev eth0 scope link`,
    `route add default via ${GATEWAY} dev eth0`,
  );
  return { pod, address };
}

/** The same over IPv6 and without IPv4, with ways to several peers; Calico's gateway address is the node's end of the veth. */
export async function kernelVxlan6Node(
  cluster: Cluster,
  number: number,
  peers: readonly number[],
): Promise<{ pod: string; address: string }> {
  const { lab } = cluster;
  const node = await lab.netns(nodeName(number));
  await cluster.plugNode(number);
  const pod = await lab.netns(`pod${number}a`);
  const address = `fd65:0:0:${number}::2`;
  await lab.ip(
    node,
    `link add ${VXLAN6_DEVICE} address ${vtepMac6(number)} mtu 1430 type vxlan id 4096 dstport 4789 local ${nodeAddress6(number)} dev eth0 nolearning`,
    `addr add ${tunnelAddress6(number)}/128 dev ${VXLAN6_DEVICE} nodad`,
    `link set ${VXLAN6_DEVICE} up`,
  );
  for (const peer of peers) {
    const end = tunnelAddress6(peer);
    await lab.ip(
      node,
      `neigh add ${end} lladdr ${vtepMac6(peer)} dev ${VXLAN6_DEVICE} nud permanent`,
      `route add ${block6(peer)} via ${end} dev ${VXLAN6_DEVICE} onlink`,
    );
    await lab.run(node, 'bridge', [
      ...['fdb', 'append', vtepMac6(peer), 'dev', VXLAN6_DEVICE, 'dst', nodeAddress6(peer)],
    ]);
  }
  await lab.veth(node, `cali${pod}`, pod, 'eth0');
  await lab.ip(
    node,
    `addr add ${GATEWAY6}/64 dev cali${pod} nodad`,
    `route add ${address}/128 dev cali${pod}`,
  );
  await lab.sysctl(node, 'net.ipv6.conf.all.forwarding=1');
  await lab.ip(
    pod,
    'link set eth0 mtu 1430',
    `addr add ${address}/128 dev eth0 nodad`,
    `route add default via ${GATEWAY6} dev eth0`,
  );
  return { pod, address };
}

/** A Linux of its own as a node: IPIP device towards `peer`, and programs on its tunnel address. */
export class UmlIpipNode {
  readonly address: string;
  readonly #daemon: Daemon;
  readonly #folder: string;
  #programs = 0;

  private constructor(address: string, daemon: Daemon, folder: string) {
    this.address = address;
    this.#daemon = daemon;
    this.#folder = folder;
  }

  /** Boot it, on a bridge of the underlay. */
  static async start(cluster: Cluster, number: number, peer: number, bridge = 'br0'): Promise<UmlIpipNode> {
    const { lab } = cluster;
    const tap = nodeName(number);
    await lab.ip(
      'underlay',
      `tuntap add ${tap} mode tap`,
      `link set ${tap} up`,
      `link set ${tap} master ${bridge}`,
    );
    const address = tunnelAddress(number);
    const folder = join(lab.folder, 'uml');
    mkdirSync(folder);
    const init = join(folder, 'init');
    // The machine's own is set-user-id, and in a user namespace its owner is nobody.
    const mount = join(folder, 'mount');
    copyFileSync('/bin/mount', mount);
    chmodSync(mount, 0o755);
    // Calico's IPIP device, too, takes DF from the packet inside.
    writeFileSync(
      init,
      `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
${mount} -t proc proc /proc; ${mount} -t sysfs sysfs /sys
mkdir -m 1777 /dev/shm; export TMPDIR=/dev/shm
for module in tunnel4 ip_tunnel ipip; do insmod $(find /usr/lib/uml/modules -name $module.ko); done
ip link set lo up
ip addr add ${nodeAddress(number)}/24 dev vec0; ip link set vec0 up
ip link add tunl1 type ipip local ${nodeAddress(number)} remote ${nodeAddress(peer)} nopmtudisc
ip addr add ${address}/32 dev tunl1; ip link set tunl1 up mtu 1480
ip route add ${block(peer)} dev tunl1 src ${address}
echo READY
number=1
while :; do
  if [ -e ${folder}/$number ]; then
    (sh ${folder}/$number 2>&1; echo "ended $?") | sed -u "s/^/$number: /" &
    number=$((number + 1))
  else
    sleep 0.05
  fi
done
`,
    );
    chmodSync(init, 0o755);
    // TERM makes the user-mode kernel halt at once; it leaves no children.
    const daemon = new Daemon(
      'underlay',
      [
        ...['timeout', '1800', 'linux.uml', 'rootfstype=hostfs', 'rootflags=/', 'ro', 'mem=256M'],
        ...[`init=${init}`, 'con=null', 'con0=null,fd:1', `vec0:transport=tap,ifname=${tap},gro=0`],
      ],
      join(lab.folder, 'uml.log'),
    );
    const node = new UmlIpipNode(address, daemon, folder);
    await until('user-mode Linux is up', () => node.console.includes('READY'), BOOT_MS);
    if (/Unknown device type|Cannot find device/.test(daemon.output)) {
      throw new Error(`user-mode Linux has no IPIP device:\n${daemon.output}`);
    }
    return node;
  }

  get console(): string {
    const { output, ended } = this.#daemon;
    if (ended) throw new Error(`user-mode Linux ended:\n${output}`);
    return output;
  }

  /** Start a command of its shell. */
  spawn(command: string): UmlProgram {
    const number = ++this.#programs;
    const file = join(this.#folder, String(number));
    writeFileSync(`${file}.part`, `${command}\n`);
    renameSync(`${file}.part`, file);
    return new UmlProgram(this, number);
  }

  /** What a command says, once it ended. Throws unless it ended well. */
  async run(command: string): Promise<string> {
    return (await this.spawn(command).all()).join('\n');
  }

  async stop(): Promise<void> {
    await this.#daemon.stop();
  }
}

/** A command that runs in user-mode Linux; its lines are on the console, each behind its number. */
export class UmlProgram {
  readonly #node: UmlIpipNode;
  readonly #prefix: string;
  #read = 0;

  constructor(node: UmlIpipNode, number: number) {
    this.#node = node;
    this.#prefix = `${number}: `;
  }

  #lines(): string[] {
    const whole = this.#node.console.split(/\r?\n/).slice(0, -1);
    return whole
      .filter((line) => line.startsWith(this.#prefix))
      .map((line) => line.slice(this.#prefix.length));
  }

  /** The next line of its output. */
  async line(timeout = PROGRAM_MS): Promise<string> {
    const line = await until(
      'a program in user-mode Linux says more',
      () => this.#lines()[this.#read],
      timeout,
    );
    if (line.startsWith('ended ')) throw new Error(`in user-mode Linux: ${this.#lines().join('\n')}`);
    this.#read++;
    return line;
  }

  /** All lines, once it ended. */
  async all(timeout = PROGRAM_MS): Promise<string[]> {
    const ended = (line: string | undefined) => line?.startsWith('ended ');
    const lines = await until(
      'a program in user-mode Linux ended',
      () => (ended(this.#lines().at(-1)) ? this.#lines() : null),
      timeout,
    );
    const last = lines.pop();
    if (last !== 'ended 0') throw new Error(`in user-mode Linux: ${[...lines, last].join('\n')}`);
    return lines;
  }
}
