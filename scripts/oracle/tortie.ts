/** The node of lab.yaml as tortie is it: the production pipeline by replay, one case at a time. */
import { parseAddress4, parsePrefix4, parsePrefix6 } from '../../control/address.ts';
import type { DesiredAdjacency } from '../../control/desired.ts';
import { type Lab, loadLab } from '../../control/replay.ts';
import * as adj from '../../dataplane/fib/adjacency.ts';
import { LINK_ETHERNET, readPcap } from '../../dataplane/port/pcap.ts';
import { replay } from '../../dataplane/replay.ts';
import { ROOT } from '../lab/cluster.ts';
import { A, MANY, MANY_REMOTE, PORTS, type PortName } from './frames.ts';
import type { Frames } from './kernel.ts';

/** Between the frames of a case, nanoseconds. */
const STEP = 1_000_000n;
/** Routed as all that is node2's. */
const REMOTE_TUNNEL = '10.66.1.1';
const START = 1_000_000_000_000n;

const NOTHING: Omit<DesiredAdjacency, 'kind'> = {
  port: null,
  nextHop: 0,
  mtu: 0,
  source: 0,
  dmac: null,
  smac: null,
  vni: 0,
};

/** Routes that no resource makes; the kernel has the same. */
const DEAD = [
  [adj.PROHIBIT, '10.99.1.0/24', 'fd99:1::/64'],
  [adj.UNREACHABLE, '10.99.2.0/24', 'fd99:2::/64'],
  [adj.BLACKHOLE, '10.99.3.0/24', 'fd99:3::/64'],
  [adj.NO_ROUTE, '10.99.4.0/24', 'fd99:4::/64'],
] as const;

export interface Outcome {
  /** What left, in the order in which each port saw it. */
  readonly frames: Frames;
  /** Names of the drop reasons that counted. */
  readonly drops: readonly string[];
}

export class Tortie {
  readonly #lab: Lab;
  readonly #ids: ReadonlyMap<string, number>;
  #counted = new Map<string, number>();

  constructor() {
    this.#lab = loadLab(`${ROOT}/scripts/oracle/lab.yaml`);
    this.#ids = new Map(this.#lab.ports.map(({ name, id }) => [name, id]));
    const { tables, desired } = this.#lab;
    const row = (adjacency: DesiredAdjacency) =>
      tables.acquire(adjacency, (name) => this.#ids.get(name) ?? null)!;
    for (const [kind, four, six] of DEAD) {
      const dead = { ...NOTHING, kind };
      const [to, to6] = [parsePrefix4(four), parsePrefix6(six)];
      tables.learn4(to.prefix, to.length, row(dead));
      tables.learn6(to6.words, to6.length, row(dead));
    }
    for (const [prefix, like] of [
      [MANY, A],
      [MANY_REMOTE, REMOTE_TUNNEL],
    ] as const) {
      const address = parseAddress4(like);
      const route = [...desired.routes.values()].find((one) => one.prefix === address && one.length === 32)!;
      const many = parsePrefix4(prefix);
      tables.learn4(many.prefix, many.length, row(route.adjacency));
    }
  }

  /** MAC of the host's device. */
  get hostMac(): string {
    const { mac } = this.#lab.ports.find(({ kind }) => kind === 'host')!;
    return Buffer.from(mac!).toString('hex').match(/../g)!.join(':');
  }

  /** Run one case through a pipeline of its own. */
  outcome(frames: Frames): Outcome {
    const { tables, desired, ports } = this.#lab;
    const inputs = frames.map(([port, data], index) => ({
      port: this.#ids.get(port)!,
      records: [{ time: START + BigInt(index) * STEP, link: LINK_ETHERNET, data, wireLength: data.length }],
    }));
    const { captures, accounts } = replay({ tables: tables.shared, node: desired.node, ports, inputs });
    const left: [PortName, Uint8Array][] = [];
    const drops: string[] = [];
    for (const name of PORTS) {
      const id = this.#ids.get(name)!;
      for (const { data } of readPcap(captures.get(id)!)) left.push([name, data]);
      for (const { reason, packets } of accounts.get(id)!.drops) {
        const key = `${id} ${reason}`;
        if (packets > (this.#counted.get(key) ?? 0)) drops.push(reason);
        this.#counted.set(key, packets);
      }
    }
    return { frames: left, drops };
  }
}
