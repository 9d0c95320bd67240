/**
 * A tortie node and a node of Linux's own, with two routers and a link of any MTU between them:
 *
 *   pod1a - node1 (tortie) -- br0 -- router1 ==== router2 -- br1 -- node2 (its VXLAN is the kernel's, or its IPIP a user-mode kernel's)
 *
 * Both nodes' devices take 1500 bytes, so that only the routers' messages can tell them of a smaller link.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../control/bgp/until.ts';
import { Cluster, nodeAddress, nodeName, ROOT } from '../lab/cluster.ts';
import { kernelVxlanNode, UmlIpipNode } from '../lab/foreign.ts';

export type Tunnel = 'vxlan' | 'ipip';

const TRANSFER = join(ROOT, 'scripts/mtu/transfer.py');
const PORT = 7001;
const WIDEST = 1500;
/** Bytes that have arrived when a connection is well under way. */
const UNDER_WAY = 1 << 20;
const ROUTERS = ['router1', 'router2'] as const;
/** Of the routers, towards their nodes. */
const ROUTER_ADDRESS = ['192.0.2.251', '192.0.2.252'] as const;
const MIDDLE_ADDRESS = ['198.51.100.1', '198.51.100.2'] as const;

/** What too cautious an administrator has in a router. */
const SILENCE =
  'table ip silence { chain out { type filter hook output priority 0; icmp type destination-unreachable icmp code frag-needed counter drop; }; }';

/** Where TCP begins or ends. */
interface End {
  readonly address: string;
  run(command: string): Promise<string>;
  /** Its output, line by line. */
  start(command: string): { line(timeout?: number): Promise<string> };
}

export interface TransferOptions {
  readonly bytes: number;
  /** When it is given up. */
  readonly seconds: number;
  /** Done while the connection has data under way: it ends `bytes` later. */
  readonly meanwhile?: () => Promise<unknown>;
}

export interface Transfer {
  /** Everything arrived, and it is what was sent. */
  readonly complete: boolean;
  /** Bytes that arrived. */
  readonly bytes: number;
  /** The longest time without a new byte, from the connection's first moment to its last; seconds. */
  readonly pause: number;
}

export class MtuPath {
  readonly cluster: Cluster;
  readonly tunnel: Tunnel;
  readonly near: End;
  readonly far: End;
  readonly #uml: UmlIpipNode | null;
  #transfers = 0;

  private constructor(cluster: Cluster, tunnel: Tunnel, far: End, uml: UmlIpipNode | null) {
    this.cluster = cluster;
    this.tunnel = tunnel;
    this.near = endIn(cluster, 'pod1a', cluster.pod('pod1a').address);
    this.far = far;
    this.#uml = uml;
  }

  /** Build it; `way` is how the tortie node's tunnel packets leave, which it chooses itself unless told. */
  static async create(tunnel: Tunnel, way?: string): Promise<MtuPath> {
    const cluster = await Cluster.create({
      ...{ nodes: 2, podsPerNode: 1, bgp: 'none', mode: tunnel, foreign: [2] },
      ...(way && { settings: { offload: { vxlan: way, ipip: way } } }),
    });
    try {
      await layRouters(cluster);
      await cluster.lab.ip(nodeName(1), `route add ${nodeAddress(2)}/32 via ${ROUTER_ADDRESS[0]}`);
      const back = `${nodeAddress(1)}/32 via ${ROUTER_ADDRESS[1]}`;
      if (tunnel === 'vxlan') {
        const { pod, address } = await kernelVxlanNode(cluster, 2, 1);
        await cluster.lab.ip('underlay', `link set ${nodeName(2)} master br1`);
        await cluster.lab.ip(nodeName(2), `route add ${back}`);
        return await MtuPath.#over(cluster, tunnel, endIn(cluster, pod, address), null);
      }
      const uml = await UmlIpipNode.start(cluster, 2, 1, 'br1');
      await uml.run(`ip route add ${back}`);
      const far = {
        address: uml.address,
        run: (command: string) => uml.run(command),
        start: (command: string) => uml.spawn(command),
      };
      return await MtuPath.#over(cluster, tunnel, far, uml);
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  static async #over(cluster: Cluster, tunnel: Tunnel, far: End, uml: UmlIpipNode | null): Promise<MtuPath> {
    const path = new MtuPath(cluster, tunnel, far, uml);
    await path.#routed();
    return path;
  }

  /** Wait until packets to the far end leave by the tunnel. */
  async #routed(): Promise<void> {
    await until(`packets to ${this.far.address} leave by ${this.tunnel}`, async () => {
      const { route } = await this.cluster.api(1).lookup(this.far.address);
      return route?.via === this.tunnel;
    });
  }

  async close(): Promise<void> {
    await this.#uml?.stop();
    await this.cluster.close();
  }

  /** What the link between the routers takes from now on; bytes. */
  async narrow(mtu: number): Promise<void> {
    await Promise.all(ROUTERS.map((router) => this.cluster.lab.ip(router, `link set middle mtu ${mtu}`)));
  }

  /** Whether the routers' messages about packets that are too big get through. */
  async setTold(told: boolean): Promise<void> {
    const rules = `flush ruleset${told ? '' : `; ${SILENCE}`}`;
    for (const router of ROUTERS) await this.cluster.lab.run(router, 'nft', [rules]);
  }

  /** Messages that routers were kept from sending. */
  async untold(): Promise<number> {
    const texts = ROUTERS.map((router) => this.cluster.lab.run(router, 'nft', ['list', 'ruleset']));
    const counts = (await Promise.all(texts)).map((text) => Number(text.match(/packets (\d+)/)?.[1] ?? 0));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** How the ends' TCP finds out what a path takes, by Linux' settings of it. */
  async setTcp(settings: readonly string[]): Promise<void> {
    for (const end of [this.near, this.far]) {
      await end.run(`sysctl -qw net.ipv4.tcp_no_metrics_save=1 ${settings.join(' ')}`);
    }
  }

  /** Begin anew: a wide path that nobody has learned anything about. */
  async forget(): Promise<void> {
    const { cluster } = this;
    await this.narrow(WIDEST);
    await this.setTold(true);
    const known = await cluster.api(1).pathMtus();
    if (known.length > 0) {
      await cluster.agents.get(1)!.stop();
      cluster.startAgent(1);
      await cluster.ready(1);
      await this.#routed();
    }
    const flush = 'ip route flush cache';
    await this.near.run(flush);
    await this.far.run(flush);
    for (const node of this.tunnel === 'vxlan' ? [1, 2] : [1]) {
      await cluster.lab.run(nodeName(node), 'sh', ['-c', flush]);
    }
    await cluster.lab.reach('pod1a', this.far.address);
  }

  /** Send bytes by TCP from one end to the other. */
  async transfer(from: End, to: End, { bytes, seconds, meanwhile }: TransferOptions): Promise<Transfer> {
    const limit = (seconds + 10) * 1000;
    const place = `${to.address} ${PORT} ${seconds}`;
    const receiver = to.start(`python3 ${TRANSFER} receive ${place}`);
    await receiver.line(limit);
    const gate = join(this.cluster.lab.folder, `gate-${this.#transfers++}`);
    const sender = from.start(`python3 ${TRANSFER} send ${place} ${bytes} ${meanwhile ? gate : ''}`);
    let waiting = meanwhile;
    let line = await receiver.line(limit);
    for (; !line.startsWith('{'); line = await receiver.line(limit)) {
      if (!waiting || Number(line) < UNDER_WAY) continue;
      await waiting();
      writeFileSync(gate, '');
      waiting = undefined;
    }
    const got = JSON.parse(line) as { bytes: number; sha256: string; whole: boolean; pause: number };
    const sent = JSON.parse(await sender.line(limit)) as { bytes: number; sha256: string };
    const complete = got.whole && got.bytes === sent.bytes && got.sha256 === sent.sha256;
    return { complete, bytes: got.bytes, pause: got.pause };
  }
}

function endIn({ lab }: Cluster, netns: string, address: string): End {
  return {
    address,
    run: (command) => lab.run(netns, 'sh', ['-c', command]),
    start: (command) => lab.spawn(netns, 'sh', ['-c', command]),
  };
}

/** Two routers, a second bridge behind them, and the link whose MTU changes. */
async function layRouters({ lab }: Cluster): Promise<void> {
  await lab.ip('underlay', 'link add br1 type bridge', 'link set br1 up');
  for (const router of ROUTERS) await lab.netns(router);
  await lab.veth(ROUTERS[0], 'middle', ROUTERS[1], 'middle');
  for (const [index, router] of ROUTERS.entries()) {
    await lab.veth(router, 'eth0', 'underlay', router);
    await lab.ip('underlay', `link set ${router} master br${index}`);
    await lab.sysctl(
      router,
      'net.ipv4.ip_forward=1',
      'net.ipv4.conf.all.send_redirects=0',
      'net.ipv4.conf.eth0.send_redirects=0',
    );
    await lab.ip(
      router,
      `addr add ${ROUTER_ADDRESS[index]}/24 dev eth0`,
      `addr add ${MIDDLE_ADDRESS[index]}/30 dev middle`,
      `route add ${nodeAddress(2 - index)}/32 via ${MIDDLE_ADDRESS[1 - index]}`,
    );
  }
}
