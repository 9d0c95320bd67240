/**
 * Open vSwitch with its user-space datapath, each switch with a database and a run directory of its own. Pods
 * are its internal ports, which in this datapath are TAPs. `ovs` is Debian's usual build; `ovs-dpdk` is the
 * build with DPDK, which alone has userspace-tso-enable: super-frames and partial checksums pass between its
 * ports. It needs neither huge pages nor DPDK's devices for that, so dpdk-init stays off.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import { needs, offloadsOf, type Path, twoNodes, VNI } from './paths.ts';

export type Build = 'ovs' | 'ovs-dpdk';

const DAEMONS: Record<Build, readonly [path: string, debianPackage: string]> = {
  ovs: ['/usr/lib/openvswitch-switch/ovs-vswitchd', 'openvswitch-switch'],
  'ovs-dpdk': ['/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk', 'openvswitch-switch-dpdk'],
};
const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
const READY_SECONDS = 20;

class Switch {
  readonly #lab: Lab;
  readonly #netns: string;
  readonly #folder: string;
  readonly #socket: string;
  version = '';

  private constructor(lab: Lab, netns: string) {
    this.#lab = lab;
    this.#netns = netns;
    this.#folder = join(lab.folder, `ovs-${netns}`);
    this.#socket = `unix:${join(this.#folder, 'db.sock')}`;
  }

  static async start(lab: Lab, netns: string, build: Build): Promise<Switch> {
    const daemon = needs(...DAEMONS[build]);
    const started = new Switch(lab, netns);
    mkdirSync(started.#folder);
    const at = (name: string) => join(started.#folder, name);
    const environment = ['RUN', 'LOG', 'DB', 'SYSCONF'].map((name) => `OVS_${name}DIR=${started.#folder}`);
    const run = (...command: string[]) => lab.run(netns, 'env', [...environment, ...command]);
    const spawn = (...command: string[]) => lab.spawn(netns, 'env', [...environment, ...command]);
    const quiet = ['-vconsole:off', '--no-chdir'];
    started.version = (await run(daemon, '--version')).split('\n')[0]!;
    await run('ovsdb-tool', 'create', at('conf.db'), SCHEMA);
    const remote = `--remote=p${started.#socket}`;
    spawn('ovsdb-server', at('conf.db'), remote, `--unixctl=${at('db.ctl')}`, ...quiet);
    await started.configure(['--no-wait', 'init']);
    if (build === 'ovs-dpdk') {
      const setting = 'other_config:userspace-tso-enable=true';
      await started.configure(['--no-wait', 'set', 'Open_vSwitch', '.', setting]);
      started.version += ', userspace-tso-enable';
    }
    spawn(daemon, started.#socket, `--unixctl=${at('switch.ctl')}`, ...quiet);
    return started;
  }

  /** One command of ovs-vsctl; resolves once the switch has done it. */
  async configure(command: readonly string[]): Promise<void> {
    const how = [`--db=${this.#socket}`, '--retry', `--timeout=${READY_SECONDS}`];
    await this.#lab.run(this.#netns, 'ovs-vsctl', [...how, ...command]);
  }

  async bridge(name: string): Promise<void> {
    await this.configure(['add-br', name, '--', 'set', 'bridge', name, 'datapath_type=netdev']);
  }

  async port(bridge: string, name: string, ...settings: string[]): Promise<void> {
    const set = settings.length > 0 ? ['--', 'set', 'interface', name, ...settings] : [];
    await this.configure(['add-port', bridge, name, ...set]);
  }

  /** An internal port, moved into the pod's namespace with an address. */
  async pod(bridge: string, name: string, pod: string, address: string, mtu: number): Promise<void> {
    await this.port(bridge, name, 'type=internal', `mtu_request=${mtu}`);
    await this.#lab.ip(this.#netns, `link set ${name} netns ${pod}`);
    await this.#lab.ip(pod, `addr add ${address} dev ${name}`, `link set ${name} mtu ${mtu} up`);
  }
}

/** Two pods on one switch. */
export async function ovsOnOneNode(lab: Lab, build: Build, mtu = 1500): Promise<Path> {
  needs(...DAEMONS[build]);
  const node = await lab.netns(build);
  const [client, server] = [await lab.netns(`${build}-a`), await lab.netns(`${build}-b`)];
  const ovs = await Switch.start(lab, node, build);
  await ovs.bridge('br0');
  await ovs.pod('br0', 'pod1', client, '10.65.1.2/24', mtu);
  await ovs.pod('br0', 'pod2', server, '10.65.1.3/24', mtu);
  await lab.reach(client, '10.65.1.3');
  return {
    version: ovs.version,
    offloads: await offloadsOf(lab, { pods: [client, 'pod1'] }),
    client,
    server,
    address: '10.65.1.3',
  };
}

/** A switch on each of two nodes, a VXLAN port between; the underlay's device is a port as well. */
export async function ovsByVxlan(lab: Lab): Promise<Path> {
  needs(...DAEMONS.ovs);
  const nodes = await twoNodes(lab, 'ovs', 'super');
  const [client, server] = [await lab.netns('ovs-a'), await lab.netns('ovs-b')];
  let version = '';
  for (const [index, node] of nodes.entries()) {
    const [own, other] = [index + 1, 2 - index];
    const ovs = await Switch.start(lab, node, 'ovs');
    version = ovs.version;
    // The node's address moves to the bridge, whose route tells the switch where outer packets leave.
    await ovs.bridge('br-phy');
    await ovs.port('br-phy', 'eth0');
    await lab.ip(node, 'addr flush dev eth0', `addr add 192.0.2.${own}/24 dev br-phy`, 'link set br-phy up');
    await ovs.bridge('br-int');
    const remote = [`options:remote_ip=192.0.2.${other}`, `options:key=${VNI}`];
    await ovs.port('br-int', 'vxlan0', 'type=vxlan', ...remote);
    await ovs.pod('br-int', `pod${own}`, [client, server][index]!, `10.65.0.${own}/24`, 1450);
  }
  await lab.reach(client, '10.65.0.2');
  return {
    version,
    offloads: await offloadsOf(lab, { pods: [client, 'pod1'], underlay: [nodes[0], 'eth0'] }),
    client,
    server,
    address: '10.65.0.2',
  };
}
