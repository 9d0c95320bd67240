/**
 * A node with an agent over a store of its own, and what a container runtime needs to attach containers to it. Made inside
 * scripts/lab/enter.
 *
 *   outside 192.0.2.254 --- eth0 node 192.0.2.1      pool 10.65.0.0/16
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { Lab } from '../../bench/lab.ts';
import { until } from '../../control/bgp/until.ts';
import { EmbeddedStore } from '../../control/datastore/embedded.ts';
import { HANDLES } from '../../control/datastore/keys.ts';
import { ResourceStore } from '../../control/datastore/resource-store.ts';
import { SCHEMAS, type WorkloadEndpoint } from '../../control/resources/schema.ts';
import { Daemon, TORTIE } from '../lab/cluster.ts';
import { type Attachment, type Json, Network, Plugins } from './driver.ts';

export const NODE = 'node1';
export const NODE_ADDRESS = '192.0.2.1';

export class CniNode {
  readonly lab = new Lab();
  readonly keys: EmbeddedStore;
  readonly store: ResourceStore;
  readonly plugins: Plugins;
  agent!: Daemon;

  private constructor() {
    this.keys = new EmbeddedStore(join(this.lab.folder, 'store'));
    this.store = new ResourceStore(this.keys);
    const enter = ['ip', 'netns', 'exec', NODE];
    this.plugins = new Plugins([this.binDir, '/usr/lib/cni'], { enter });
  }

  static async create(): Promise<CniNode> {
    const node = new CniNode();
    try {
      await node.#build();
      return node;
    } catch (error) {
      await node.close();
      throw error;
    }
  }

  get binDir(): string {
    return join(this.lab.folder, 'bin');
  }
  get confDir(): string {
    return join(this.lab.folder, 'net.d');
  }
  get socket(): string {
    return `/run/tortie/${NODE}/cni.sock`;
  }

  async #build(): Promise<void> {
    const { lab } = this;
    await lab.netns(NODE);
    await lab.netns('outside');
    await lab.veth(NODE, 'eth0', 'outside', 'node');
    await lab.ip(NODE, `addr add ${NODE_ADDRESS}/24 dev eth0`);
    await lab.ip('outside', 'addr add 192.0.2.254/24 dev node');
    await this.put('Node', NODE, {
      bgp: { ipv4Address: `${NODE_ADDRESS}/24` },
      ipv4VXLANTunnelAddr: '10.65.255.1',
    });
    await this.put('IPPool', 'pods', { cidr: '10.65.0.0/16', vxlanMode: 'Always' });
    mkdirSync(this.binDir);
    symlinkSync('/usr/lib/cni/portmap', join(this.binDir, 'portmap'));
    const install = ['install', 'cni', '--bin-dir', this.binDir, '--conf-dir', this.confDir];
    await lab.run(NODE, process.execPath, [TORTIE, ...install]);
    await this.start();
  }

  async start(): Promise<void> {
    const file = join(this.lab.folder, 'agent.yaml');
    const datastore = { kind: 'embedded', path: 'store' };
    writeFileSync(file, stringify({ nodeName: NODE, datastore, bgp: { enabled: false } }));
    const command = [process.execPath, TORTIE, 'agent', '--config', file];
    this.agent = new Daemon(NODE, command, join(this.lab.folder, `agent.log`));
    await until('the agent serves CNI', async () => {
      if (this.agent.ended) throw new Error(`the agent ended:\n${this.agent.output}`);
      const status = await this.plugins.exec('tortie-cni', { command: 'STATUS' }, this.conf());
      return status.exit === 0;
    });
  }

  /** A resource with all its defaults. */
  async put(kind: keyof typeof SCHEMAS, name: string, spec: Json): Promise<void> {
    const text = { apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec };
    await this.store.put(SCHEMAS[kind].parse(text), null);
  }

  /** Configuration of the plugin alone, as a runtime hands it over. */
  conf(more: Json = {}): Json {
    return { cniVersion: '1.1.0', name: 'pods', type: 'tortie-cni', ...more };
  }

  network(plugins: readonly Json[], more: Json = {}): Network {
    return new Network({ cniVersion: '1.0.0', name: 'pods', plugins, ...more }, this.plugins);
  }

  /** A container in a namespace of that name; its id is made from the name. */
  async container(name: string, more: Partial<Attachment> = {}): Promise<Attachment> {
    await this.lab.netns(name);
    const containerId = Buffer.from(name.padEnd(32, '.')).toString('hex');
    return { containerId, netns: `/run/netns/${name}`, ifname: 'eth0', ...more };
  }

  async endpoints(): Promise<WorkloadEndpoint[]> {
    return (await this.store.list('WorkloadEndpoint')).map(({ resource }) => resource as WorkloadEndpoint);
  }

  /** Handles of addresses that attachments have; nodes have some for their tunnels. */
  async handles(): Promise<string[]> {
    const { entries } = await this.keys.list(HANDLES, { keysOnly: true });
    return entries.map(({ key }) => key.slice(HANDLES.length)).filter((id) => !id.includes('-tunnel-addr-'));
  }

  async close(): Promise<void> {
    await this.agent?.stop();
    await this.store.close();
    await this.keys.close();
    await this.lab.close();
  }
}

/** The first address of a result, without its length. */
export const addressIn = (result: Json): string =>
  (result.ips as { address: string }[])[0]!.address.split('/')[0]!;
