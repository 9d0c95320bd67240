/**
 * A site as its users make one: nodes that share a store and find each other, pods that a container runtime attaches by
 * CNI. Made inside scripts/lab/enter.
 *
 *   underlay 192.0.2.0/24, a bridge:  node1 .1, node2 .2, ...; the bridge itself .254, where etcd listens, if there is one
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { Lab } from '../../bench/lab.ts';
import { ApiClient } from '../../control/api/client.ts';
import { until } from '../../control/bgp/until.ts';
import { type Attachment, type Json, Network, Plugins } from '../cni/driver.ts';
import { Daemon, nodeAddress, nodeName, TORTIE } from './cluster.ts';

export const UNDERLAY = 'underlay';
export const UNDERLAY_ADDRESS = '192.0.2.254';
const NAMESPACE = 'default';

export interface SiteOptions {
  readonly nodes: number;
  /** Of all agents. Default: an embedded store that they share, as processes of one machine may. */
  readonly datastore?: Json;
  /** More settings of every agent. */
  readonly settings?: Json;
  /** Called when the underlay is there, before the first agent. */
  readonly prepare?: (site: Site) => Promise<void>;
}

export interface SitePod {
  readonly name: string;
  readonly node: number;
  readonly address: string;
  readonly attachment: Attachment;
  /** What the plugin answered. */
  readonly result: Json;
}

export class Site {
  readonly lab = new Lab();
  readonly agents = new Map<number, Daemon>();
  readonly #options: SiteOptions;
  readonly #networks = new Map<number, Network>();

  private constructor(options: SiteOptions) {
    this.#options = options;
  }

  static async create(options: SiteOptions): Promise<Site> {
    const site = new Site(options);
    try {
      await site.#build();
      return site;
    } catch (error) {
      await site.close();
      throw error;
    }
  }

  get #numbers(): number[] {
    return Array.from({ length: this.#options.nodes }, (_, index) => index + 1);
  }
  /** Where `tortie install cni` puts things. */
  get binDir(): string {
    return join(this.lab.folder, 'bin');
  }
  get confDir(): string {
    return join(this.lab.folder, 'net.d');
  }
  settingsFile(number: number): string {
    return join(this.lab.folder, `${nodeName(number)}.yaml`);
  }
  api(number: number): ApiClient {
    return new ApiClient(`/run/tortie/${nodeName(number)}/api.sock`);
  }

  async #build(): Promise<void> {
    const { lab } = this;
    await lab.netns(UNDERLAY);
    await lab.ip(
      UNDERLAY,
      'link add br0 type bridge',
      'link set br0 up',
      `addr add ${UNDERLAY_ADDRESS}/24 dev br0`,
    );
    for (const number of this.#numbers) {
      const name = await lab.node(nodeName(number));
      await lab.veth(name, 'eth0', UNDERLAY, name);
      await lab.ip(UNDERLAY, `link set ${name} master br0`);
      await lab.ip(
        name,
        `addr add ${nodeAddress(number)}/24 dev eth0`,
        `route add default via ${UNDERLAY_ADDRESS}`,
      );
      // As on any Kubernetes node: the host routes for its pods.
      await lab.sysctl(name, 'net.ipv4.ip_forward=1');
      const { datastore = { kind: 'embedded', path: 'store' }, settings } = this.#options;
      const bgp = { retrySeconds: 0.2 };
      writeFileSync(this.settingsFile(number), stringify({ nodeName: name, datastore, bgp, ...settings }));
    }
    await this.#options.prepare?.(this);
    mkdirSync(this.binDir);
    for (const number of this.#numbers) this.startAgent(number);
    for (const number of this.#numbers) await this.ready(number);
  }

  startAgent(number: number): Daemon {
    const name = nodeName(number);
    const command = [process.execPath, TORTIE, 'agent', '--config', this.settingsFile(number)];
    const agent = new Daemon(name, command, join(this.lab.folder, `${name}.log`));
    this.agents.set(number, agent);
    return agent;
  }

  /** Wait until an agent has its host device up. */
  async ready(number: number): Promise<void> {
    const agent = this.agents.get(number)!;
    await until(`the agent of ${nodeName(number)} is ready`, async () => {
      if (agent.ended) throw new Error(`the agent of ${nodeName(number)} ended:\n${agent.output}`);
      const ports = await this.api(number)
        .ports()
        .catch(() => []);
      return ports.some(({ kind, state }) => kind === 'host' && state === 'up');
    });
  }

  /** The CLI, as a person on that node would use it; its output. */
  tortie(number: number, ...args: string[]): Promise<string> {
    const env = [`TORTIE_CONFIG=${this.settingsFile(number)}`];
    return this.lab.run(nodeName(number), 'env', [...env, process.execPath, TORTIE, ...args]);
  }

  /** Apply resources, as YAML documents from a file. */
  async apply(...resources: Json[]): Promise<string> {
    const file = join(this.lab.folder, 'apply.yaml');
    const documents = resources.map((resource) =>
      stringify({ apiVersion: 'projectcalico.org/v3', ...resource }),
    );
    writeFileSync(file, documents.join('---\n'));
    return this.tortie(1, 'apply', '-f', file);
  }

  /** What the runtime of a node reads: installed at first use. */
  async network(number: number): Promise<Network> {
    const known = this.#networks.get(number);
    if (known) return known;
    const install = [
      'install',
      'cni',
      '--bin-dir',
      this.binDir,
      '--conf-dir',
      this.confDir,
      '--name',
      'k8s-pod-network',
    ];
    await this.tortie(number, ...install);
    const list = JSON.parse(readFileSync(join(this.confDir, '10-tortie.conflist'), 'utf8')) as Json;
    const name = nodeName(number);
    const env = { TORTIE_CNI_SOCKET: `/run/tortie/${name}/cni.sock` };
    const network = new Network(
      list,
      new Plugins([this.binDir], { env, enter: ['ip', 'netns', 'exec', name] }),
    );
    this.#networks.set(number, network);
    return network;
  }

  /** Attach a pod in a namespace of its name. */
  async addPod(name: string, node: number, more: Partial<Attachment> = {}): Promise<SitePod> {
    await this.lab.netns(name);
    const containerId = Buffer.from(name.padEnd(32, '.')).toString('hex');
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${NAMESPACE};K8S_POD_NAME=${name};K8S_POD_INFRA_CONTAINER_ID=${containerId}`;
    const attachment = { containerId, netns: `/run/netns/${name}`, ifname: 'eth0', args, ...more };
    const result = await (await this.network(node)).add(attachment);
    const [ip] = result.ips as { address: string }[];
    return { name, node, address: ip!.address.split('/')[0]!, attachment, result };
  }

  async deletePod({ node, attachment }: SitePod): Promise<void> {
    await (await this.network(node)).del(attachment);
  }

  /** Wait until the routes of a node to an address leave so. */
  async routed(number: number, address: string, via: string): Promise<void> {
    await until(`${nodeName(number)} reaches ${address} by ${via}`, async () => {
      const { route } = await this.api(number).lookup(address);
      return route.via === via;
    });
  }

  async close(): Promise<void> {
    await Promise.all([...this.agents.values()].map((agent) => agent.stop()));
    await this.lab.close();
  }
}
