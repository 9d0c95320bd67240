/**
 * A full table from a BIRD: how long until the receiver has it. Once with one set of attributes, once with a set for every six
 * prefixes; until 99 of 100 routes are there, and the last. Ours has them where packets follow them, in the tables of its
 * workers; BIRD and GoBGP in their own.
 */

import {
  ASN,
  Bird,
  type Receiver,
  type Session,
  startBird,
  startGobgp,
  startOurs,
  timeUntil,
  version,
} from './bgp-daemons.ts';
import { loadRoutes, type Routes } from './fib-shapes/routes.ts';
import { type BenchContext, type BenchEntry, type Prepared, reasonOf } from './harness.ts';
import { Lab } from './lab.ts';

const LIMIT_MS = 120_000;
const PREFIXES_A_SET = 6;
export const QUICK_ROUTES = 100_000;
const SENDER = 'sender';

type Contender = 'ours' | 'bird' | 'gobgp';
const CONTENDERS: readonly Contender[] = ['ours', 'bird', 'gobgp'];
const addressesOf = (index: number) => ({ address: `198.18.${index}.1`, peer: `198.18.${index}.2` });

/** One run gives both figures: who asks for the other takes it from here. */
const figures = new Map<string, { most: number; all: number }[]>();

class Load {
  readonly #lab = new Lab();
  readonly #context: BenchContext;
  readonly routes: Routes;
  #bird: Bird | null = null;

  private constructor(context: BenchContext) {
    this.#context = context;
    this.routes = loadRoutes(context.quick ? QUICK_ROUTES : undefined);
  }

  static async build(context: BenchContext, diverse: boolean): Promise<Load> {
    const load = new Load(context);
    try {
      await load.#build(diverse);
      return load;
    } catch (error) {
      await load.close();
      throw error;
    }
  }

  async #build(diverse: boolean): Promise<void> {
    const lab = this.#lab;
    await lab.netns(SENDER);
    const sessions: string[] = [];
    for (const [index, name] of CONTENDERS.entries()) {
      const { address, peer } = addressesOf(index);
      await lab.netns(name);
      await lab.veth(name, 'eth0', SENDER, name);
      await lab.ip(name, `addr add ${address}/24 dev eth0`);
      await lab.ip(SENDER, `addr add ${peer}/24 dev ${name}`);
      sessions.push(
        `protocol bgp to_${name} { disabled; local ${peer} as ${ASN}; neighbor ${address} as ${ASN}; ` +
          'connect delay time 1; connect retry time 1; error wait time 1, 2; ' +
          'ipv4 { import none; export all; next hop self; }; }',
      );
    }
    this.#context.log(`BIRD reads ${this.routes.prefixes.length} routes`);
    this.#bird = await Bird.start(
      lab,
      SENDER,
      `router id 198.18.0.2;
protocol device { }
protocol static { ipv4;
${[...linesOf(this.routes, diverse)].join('\n')}
}
${sessions.join('\n')}
`,
    );
  }

  /** Start a receiver, give it the table, and end it. */
  async run(name: Contender): Promise<{ most: number; all: number }> {
    const session = addressesOf(CONTENDERS.indexOf(name));
    const receiver = await this.#start(name, session);
    const bird = this.#bird!;
    try {
      await bird.ask('enable', `to_${name}`);
      const end = performance.now() + LIMIT_MS;
      while (!(await bird.isEstablished(`to_${name}`))) {
        if (performance.now() > end) throw new Error('the session does not come up');
      }
      return await timeUntil(receiver, this.routes.prefixes.length, performance.now(), LIMIT_MS);
    } finally {
      await bird.ask('disable', `to_${name}`);
      await receiver.stop();
    }
  }

  #start(name: Contender, session: { address: string; peer: string }): Promise<Receiver> {
    if (name === 'bird') return startBird(this.#lab, name, session);
    if (name === 'gobgp') return startGobgp(this.#lab, name, session);
    return startOurs(this.#lab, this.#context, name, nodeThatLearns(name, session));
  }

  async close(): Promise<void> {
    await this.#bird?.stop();
    await this.#lab.close();
  }
}

/** Resources of a node that waits for one peer. */
export function nodeThatLearns(
  name: string,
  session: Session,
): { kind: string; name: string; spec: unknown }[] {
  return [
    { kind: 'IPPool', name: 'pods', spec: { cidr: '10.65.0.0/16', ipipMode: 'Always' } },
    { kind: 'BGPConfiguration', name: 'default', spec: { asNumber: ASN, nodeToNodeMeshEnabled: false } },
    {
      kind: 'Node',
      name,
      spec: { bgp: { ipv4Address: `${session.address}/24` }, blocks: ['10.65.1.0/26'] },
    },
    {
      kind: 'BGPPeer',
      name: 'sender',
      spec: { peerIP: session.peer, asNumber: ASN, session: { passive: true } },
    },
  ];
}

/** Static routes of BIRD; `diverse`: a community of its own for every six. */
export function* linesOf({ prefixes, lengths }: Routes, diverse: boolean): Generator<string> {
  for (const [i, prefix] of prefixes.entries()) {
    const address = [24, 16, 8, 0].map((shift) => (prefix >>> shift) & 255).join('.');
    const set = Math.floor(i / PREFIXES_A_SET);
    const attributes = diverse ? ` { bgp_community.add((${1 + (set >> 16)}, ${set & 0xffff})); }` : '';
    yield `route ${address}/${lengths[i]} blackhole${attributes};`;
  }
}

async function prepare(
  context: BenchContext,
  name: string,
  diverse: boolean,
  figure: 'most' | 'all',
): Promise<Prepared> {
  // The entry for the other figure has run it already.
  const before = CONTENDERS.map((contender) => figures.get(`${name} ${contender}`));
  const routes = loadRoutes(context.quick ? QUICK_ROUTES : undefined);
  const load = before.every((known) => known && known.length > 0) ? null : await Load.build(context, diverse);
  const measure = async (contender: Contender): Promise<number> => {
    const key = `${name} ${contender}`;
    if (!load) return figures.get(key)!.shift()![figure];
    const both = await load.run(contender);
    figures.set(key, [...(figures.get(key) ?? []), both]);
    return both[figure];
  };
  const peer = async (contender: Contender, program: string, ...args: string[]) => {
    try {
      return { version: await version(program, ...args), run: () => measure(contender) };
    } catch (error) {
      return { unavailable: `${program}: ${reasonOf(error)}` };
    }
  };
  return {
    setting: `${routes.description}, Node ${process.version}`,
    ours: () => measure('ours'),
    peers: {
      bird: await peer('bird', 'bird', '--version'),
      gobgp: await peer('gobgp', 'gobgpd', '--version'),
    },
    close: async () => load?.close(),
  };
}

const pair = (name: string, diverse: boolean): BenchEntry[] =>
  (['all', 'most'] as const).map((figure) => ({
    name: figure === 'all' ? name : `${name}-99`,
    unit: figure === 'all' ? 's until the last' : 's until 99 %',
    better: 'lower',
    peers: ['bird', 'gobgp'],
    prepare: (context) => prepare(context, name, diverse, figure),
  }));

export const entries: BenchEntry[] = [...pair('bgp-load', false), ...pair('bgp-load-diverse', true)];
