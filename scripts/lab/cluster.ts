/**
 * A cluster in network namespaces: a bridge as underlay, nodes on it, pods behind them, a route reflector.
 * Made inside scripts/lab/enter, so names may be plain and nothing outlives the run.
 *
 *   underlay 192.0.2.0/24, MTU 1500:  node1 .1, node2 .2, ...   rr .254 (BIRD)
 *   With IPv6 (option ip6; `only`: without all of the IPv4): node N fd00::N, block fd65:0:0:N::/122, tunnel address fd65:0:0:N::1, pods fd65:0:0:N::2, ...
 *   node N: block 10.65.N.0/26, tunnel address 10.65.N.1, pods podNa 10.65.N.2, podNb 10.65.N.3, ...
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, cpSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { Lab } from '../../bench/lab.ts';
import { ApiClient } from '../../control/api/client.ts';
import { until } from '../../control/bgp/until.ts';

export type Mode = 'ipip' | 'direct' | 'vxlan';
export type Bgp = 'bird' | 'mesh' | 'none';

/** From scripts/lab and from dist/scripts/lab alike. */
export const ROOT = fileURLToPath(import.meta.url).replace(/(\/dist)?\/scripts\/lab\/[^/]*$/, '');
export const TORTIE = join(ROOT, 'dist/control/cli/main.js');
const AS_NUMBER = 64512;
const REFLECTOR = '192.0.2.254';
const STOP_MS = 8000;

export interface Pod {
  /** Its namespace. */
  readonly name: string;
  readonly address: string;
  readonly address6: string;
  readonly node: number;
}

export interface ClusterOptions {
  readonly nodes: number;
  readonly podsPerNode: number;
  readonly bgp: Bgp;
  readonly mode: Mode;
  /** Nodes that run something else than tortie: the test sets them up. */
  readonly foreign?: readonly number[];
  /** Nodes and pods have IPv6 addresses, too, or no others. */
  readonly ip6?: boolean | 'only';
  /** Each agent has resources in a folder of its own, where the test may tell it other things than the rest. */
  readonly folders?: boolean;
  /** More settings of every agent. */
  readonly settings?: Record<string, unknown>;
}

export const nodeName = (number: number): string => `node${number}`;
export const nodeAddress = (number: number): string => `192.0.2.${number}`;
export const tunnelAddress = (number: number): string => `10.65.${number}.1`;
export const block = (number: number): string => `10.65.${number}.0/26`;
export const nodeAddress6 = (number: number): string => `fd00::${number}`;
export const tunnelAddress6 = (number: number): string => `fd65:0:0:${number}::1`;
export const block6 = (number: number): string => `fd65:0:0:${number}::/122`;
export const vtepMac6 = (number: number): string => `66:00:00:00:06:0${number}`;
export const vtepMac = (number: number): string => `66:00:00:00:00:0${number}`;

/** Calico's two modes that together say one of ours. */
const POOL_MODES: Record<Mode, { ipipMode: string; vxlanMode: string }> = {
  ipip: { ipipMode: 'Always', vxlanMode: 'Never' },
  direct: { ipipMode: 'Never', vxlanMode: 'Never' },
  vxlan: { ipipMode: 'Never', vxlanMode: 'Always' },
};

/** A program in a namespace, its output in a file, so that it can stay when we go. */
export class Daemon {
  readonly log: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  constructor(netns: string, command: readonly string[], log: string) {
    this.log = log;
    const output = openSync(log, 'a');
    this.#child = spawn('ip', ['netns', 'exec', netns, ...command], { stdio: ['ignore', output, output] });
    closeSync(output);
    this.#child.unref();
    this.#exited = once(this.#child, 'exit');
  }

  get pid(): number {
    return this.#child.pid!;
  }
  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
  get output(): string {
    return readFileSync(this.log, 'utf8');
  }
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
  /** Ask it to end, and kill it if it does not; its exit status, null after a signal. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.ended) return this.#child.exitCode;
    this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS);
    await this.#exited;
    clearTimeout(timer);
    return this.#child.exitCode;
  }
}

export class Cluster {
  readonly lab = new Lab();
  readonly pods: Pod[] = [];
  readonly agents = new Map<number, Daemon>();
  readonly #options: ClusterOptions;
  #bird: Daemon | null = null;

  private constructor(options: ClusterOptions) {
    this.#options = options;
  }

  /** Build it all; when it resolves, agents run, BGP is established and routes are there. Cleans up after itself when it fails. */
  static async create(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(options);
    try {
      await cluster.#build();
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  get #numbers(): number[] {
    return Array.from({ length: this.#options.nodes }, (_, index) => index + 1);
  }
  isForeign(number: number): boolean {
    return this.#options.foreign?.includes(number) ?? false;
  }
  pod(name: string): Pod {
    const pod = this.pods.find((candidate) => candidate.name === name);
    if (!pod) throw new Error(`no pod ${name} in this cluster`);
    return pod;
  }
  get resources(): string {
    return join(this.lab.folder, 'resources');
  }
  /** What an agent reads. */
  folder(number: number): string {
    return this.#options.folders ? `${this.resources}-${nodeName(number)}` : this.resources;
  }
  settingsFile(number: number): string {
    return join(this.lab.folder, `${nodeName(number)}.yaml`);
  }
  api(number: number): ApiClient {
    return new ApiClient(`/run/tortie/${nodeName(number)}/api.sock`);
  }

  async #build(): Promise<void> {
    const { lab } = this;
    await lab.netns('underlay');
    await lab.ip('underlay', 'link add br0 type bridge', 'link set br0 up');
    for (const number of this.#numbers) {
      if (this.isForeign(number)) continue;
      const name = await lab.node(nodeName(number));
      await this.plugNode(number);
      // As on any Kubernetes node: the host routes for its pods.
      await lab.sysctl(name, 'net.ipv4.ip_forward=1');
      for (let index = 0; index < this.#options.podsPerNode; index++) {
        const pod = `pod${number}${String.fromCharCode(97 + index)}`;
        await lab.netns(pod);
        const address6 = `fd65:0:0:${number}::${(2 + index).toString(16)}`;
        this.pods.push({ name: pod, address: `10.65.${number}.${2 + index}`, address6, node: number });
      }
    }
    this.#writeResources();
    this.setMode(this.#options.mode);
    if (this.#options.bgp === 'bird') await this.#startBird();
    for (const number of this.#numbers) if (!this.isForeign(number)) this.startAgent(number);
    for (const number of this.agents.keys()) await this.ready(number);
    // What foreign nodes announce, they announce once the test has set them up.
    if (!this.#options.foreign) await this.routed(this.#options.mode);
  }

  /** A node's namespace on the underlay, with the addresses that it has there. */
  async plugNode(number: number): Promise<void> {
    const name = nodeName(number);
    const { ip6 } = this.#options;
    await this.plug(name, ip6 === 'only' ? null : nodeAddress(number));
    if (ip6) await this.lab.ip(name, `addr add ${nodeAddress6(number)}/64 dev eth0 nodad`);
  }

  /** A device eth0 in the namespace, joined to the underlay's bridge. */
  async plug(netns: string, address: string | null): Promise<void> {
    await this.lab.veth(netns, 'eth0', 'underlay', netns);
    await this.lab.ip('underlay', `link set ${netns} master br0`);
    if (address !== null) await this.lab.ip(netns, `addr add ${address}/24 dev eth0`);
    // A wire between machines carries whole checksums and no super-frames; a veth that may offload carries neither.
    const off = ['tx', 'off', 'tx-udp_tnl-segmentation', 'off', 'tx-udp_tnl-csum-segmentation', 'off'];
    await this.lab.run(netns, 'ethtool', ['-K', 'eth0', ...off]);
    await this.lab.run('underlay', 'ethtool', ['-K', netns, ...off]);
  }

  #write(name: string, kind: string, spec: unknown, metadata: Record<string, string> = {}): void {
    const resource = {
      apiVersion: 'projectcalico.org/v3',
      kind,
      metadata: { name, ...metadata },
      spec,
    };
    writeFileSync(join(this.resources, `${kind.toLowerCase()}-${name}.yaml`), stringify(resource));
  }

  #writeResources(): void {
    mkdirSync(this.resources);
    const { bgp, ip6 } = this.#options;
    const has4 = ip6 !== 'only';
    this.#write('default', 'BGPConfiguration', {
      asNumber: AS_NUMBER,
      nodeToNodeMeshEnabled: bgp === 'mesh',
    });
    if (bgp === 'bird') this.#write('reflector', 'BGPPeer', { peerIP: REFLECTOR, asNumber: AS_NUMBER });
    for (const number of this.#numbers) {
      this.#write(nodeName(number), 'Node', {
        bgp: {
          ...(has4 && {
            ipv4Address: `${nodeAddress(number)}/24`,
            ipv4IPIPTunnelAddr: tunnelAddress(number),
          }),
          ...(ip6 && { ipv6Address: `${nodeAddress6(number)}/64` }),
        },
        ...(ip6 && {
          ipv6VXLANTunnelAddr: tunnelAddress6(number),
          vxlanTunnelMACAddrV6: vtepMac6(number),
        }),
        ...(has4 && { ipv4VXLANTunnelAddr: tunnelAddress(number) }),
        vxlanTunnelMACAddr: vtepMac(number),
        blocks: [...(has4 ? [block(number)] : []), ...(ip6 ? [block6(number)] : [])],
      });
      writeFileSync(
        this.settingsFile(number),
        stringify({
          nodeName: nodeName(number),
          datastore: { kind: 'static', path: this.folder(number) },
          bgp: { enabled: bgp !== 'none', retrySeconds: 0.2 },
          ...this.#options.settings,
        }),
      );
    }
    for (const { name, address, address6, node } of this.pods) {
      const spec = {
        node: nodeName(node),
        pod: name,
        interfaceName: `cali${name}`,
        netns: name,
        ipNetworks: [...(has4 ? [`${address}/32`] : []), ...(ip6 ? [`${address6}/128`] : [])],
      };
      this.#write(name, 'WorkloadEndpoint', spec, { namespace: 'default' });
    }
  }

  /** Rewrite the pool; `reload` makes the agents read it. */
  setMode(mode: Mode): void {
    const { ip6, folders } = this.#options;
    if (ip6 !== 'only') this.#write('pods', 'IPPool', { cidr: '10.65.0.0/16', ...POOL_MODES[mode] });
    if (ip6) {
      // There is no IPIP of IPv6.
      const vxlanMode = mode === 'direct' ? 'Never' : 'Always';
      this.#write('pods6', 'IPPool', { cidr: 'fd65::/48', vxlanMode });
    }
    if (!folders) return;
    for (const number of this.#numbers) cpSync(this.resources, this.folder(number), { recursive: true });
  }

  /** Switch the running cluster over, and wait until routes leave the new way. */
  async switchTo(mode: Mode): Promise<void> {
    this.setMode(mode);
    this.reload();
    await this.routed(mode);
  }

  reload(): void {
    for (const agent of this.agents.values()) agent.signal('SIGHUP');
  }

  /** Wait until every agent's routes to the other nodes' blocks leave in this mode. */
  async routed(mode: Mode): Promise<void> {
    const only6 = this.#options.ip6 === 'only';
    const way = only6 && mode === 'vxlan' ? 'vxlan6' : mode;
    for (const number of this.agents.keys()) {
      const others = this.#numbers.filter((other) => other !== number).map(only6 ? block6 : block);
      await until(`${nodeName(number)} routes ${others.join(' ')} by ${way}`, async () => {
        const routes = await this.api(number).routes();
        return others.every((prefix) => routes.find((route) => route.prefix === prefix)?.via === way);
      });
    }
  }

  startAgent(number: number): Daemon {
    const agent = new Daemon(
      nodeName(number),
      [process.execPath, TORTIE, 'agent', '--config', this.settingsFile(number)],
      join(this.lab.folder, `${nodeName(number)}.log`),
    );
    this.agents.set(number, agent);
    return agent;
  }

  /** Wait until an agent answers, has its pods, and is established with all its BGP peers. */
  async ready(number: number): Promise<void> {
    const agent = this.agents.get(number)!;
    const pods = this.pods.filter((pod) => pod.node === number).length;
    await until(`the agent of ${nodeName(number)} is ready`, async () => {
      if (agent.ended) throw new Error(`the agent of ${nodeName(number)} ended:\n${agent.output}`);
      try {
        const [status, ports] = [await this.api(number).nodeStatus(), await this.api(number).ports()];
        const up = ports.filter((port) => port.kind === 'pod' && port.state === 'up').length;
        return up === pods && status.peersV4.every((peer) => peer.info === 'Established');
      } catch {
        return false; // its socket is not there yet
      }
    });
  }

  async #startBird(): Promise<void> {
    await this.lab.netns('rr');
    await this.plug('rr', REFLECTOR);
    const clients = this.#numbers
      .filter((number) => !this.isForeign(number))
      .map(
        (number) => `protocol bgp ${nodeName(number)} {
  local ${REFLECTOR} as ${AS_NUMBER};
  neighbor ${nodeAddress(number)} as ${AS_NUMBER};
  rr client; passive on; # two that dial at once may each keep another connection (RFC 4271 6.8), and begin again
  error wait time 1, 2;
  ipv4 { import all; export all; };
}`,
      );
    const config = join(this.lab.folder, 'bird.conf');
    writeFileSync(config, `router id ${REFLECTOR};\nprotocol device { }\n${clients.join('\n')}\n`);
    const command = ['bird', '-f', '-c', config, '-s', this.#birdSocket, '-P', `${config}.pid`];
    this.#bird = new Daemon('rr', command, join(this.lab.folder, 'bird.log'));
    await until('BIRD answers', () => this.birdc('show', 'status').catch(() => null));
  }

  get #birdSocket(): string {
    return join(this.lab.folder, 'bird.ctl');
  }
  birdc(...command: string[]): Promise<string> {
    return this.lab.run('rr', 'birdc', ['-s', this.#birdSocket, ...command], 5000);
  }

  /** The CLI, as a person on that node would use it; its output, errors included. */
  tortie(number: number, ...args: string[]): Promise<string> {
    return this.lab.run(nodeName(number), process.execPath, [TORTIE, ...args]);
  }

  async close(): Promise<void> {
    await Promise.all([...this.agents.values(), this.#bird].map((daemon) => daemon?.stop()));
    await this.lab.close();
  }
}
