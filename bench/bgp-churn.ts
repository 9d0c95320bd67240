/**
 * Ten thousand changes of routes a second beside traffic: how soon a change is where packets follow it, and what the traffic feels.
 * One prefix moves between two next hops; whoever moves it asks until the answer is another. A pod pings another all the while,
 * a thousand times a second, idle first.
 */
import { execFile } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { parseAddress4 } from '../control/address.ts';
import type { ApiClient } from '../control/api/client.ts';
import { AttributeTable } from '../control/bgp/attribute-table.ts';
import { encodeAttributes, NO_ATTRIBUTES } from '../control/bgp/attributes.ts';
import { ourCapabilities } from '../control/bgp/capabilities.ts';
import { IPV4 } from '../control/bgp/family.ts';
import { encodeOpen, KEEPALIVE, keepalive, MAX_MESSAGE } from '../control/bgp/message.ts';
import { PrefixList } from '../control/bgp/nlri.ts';
import { until } from '../control/bgp/until.ts';
import { encodeAnnouncements } from '../control/bgp/update.ts';
import { ASN, type Receiver, startOurs } from './bgp-daemons.ts';
import type { BenchContext, BenchEntry, Prepared } from './harness.ts';
import { Lab } from './lab.ts';
import { POD_DEVICE } from './paths.ts';

const run = promisify(execFile);
const NODE = 'churn-node';
const NODE_ADDRESS = '198.20.0.1';
const PEER = '198.20.0.2';
/** Both are on the wire; nobody answers there. */
const HOPS = ['198.20.0.3', '198.20.0.4'] as const;
const PODS = ['10.65.1.2', '10.65.1.3'] as const;
const ROUTES = 100_000;
const CHANGES_A_SECOND = 10_000;
const TICK_MS = 10;
const SECONDS = 60;
const QUICK_SECONDS = 8;
/** Between two moves of the prefix that is watched. */
const MOVE_MS = 50;
const PINGS_A_SECOND = 1000;
const PING_SECONDS = 8;
const WATCHED = '203.0.113.0';

interface Figures {
  /** Milliseconds from the write of the change until it is answered, p99. */
  readonly change: number;
  /** Times the idle round trip, p99.9. */
  readonly traffic: number;
}

/** One run gives both figures. */
const figures: Figures[] = [];

class Churn {
  readonly #lab = new Lab();
  readonly #context: BenchContext;
  readonly #table = new AttributeTable();
  #receiver: (Receiver & { readonly api: ApiClient }) | null = null;
  #socket: Socket | null = null;
  #next = 0;

  constructor(context: BenchContext) {
    this.#context = context;
  }

  async build(): Promise<void> {
    const lab = this.#lab;
    await lab.netns(NODE);
    await run('ip', ['link', 'add', 'churn', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', NODE]);
    await run('ip', ['addr', 'add', `${PEER}/24`, 'dev', 'churn']);
    await run('ip', ['link', 'set', 'churn', 'up']);
    await lab.ip(NODE, 'link set eth0 up', `addr add ${NODE_ADDRESS}/24 dev eth0`);
    const pods = PODS.map((address, index) => ({ address, netns: `churn-${index}` }));
    for (const { netns } of pods) await lab.netns(netns);
    this.#receiver = await startOurs(lab, this.#context, NODE, [
      { kind: 'IPPool', name: 'pods', spec: { cidr: '10.65.0.0/16', ipipMode: 'Always' } },
      { kind: 'BGPConfiguration', name: 'default', spec: { asNumber: ASN, nodeToNodeMeshEnabled: false } },
      {
        kind: 'Node',
        name: NODE,
        spec: { bgp: { ipv4Address: `${NODE_ADDRESS}/24` }, blocks: ['10.65.1.0/26'] },
      },
      { kind: 'BGPPeer', name: 'peer', spec: { peerIP: PEER, asNumber: ASN, session: { passive: true } } },
      ...pods.map(({ address, netns }) => ({
        kind: 'WorkloadEndpoint',
        name: netns,
        spec: {
          node: NODE,
          endpoint: POD_DEVICE,
          interfaceName: `cali${netns}`,
          netns,
          ipNetworks: [`${address}/32`],
        },
      })),
    ]);
    await lab.reach('churn-0', PODS[1]);
    await this.#connect();
    for (let first = 0; first < ROUTES; first += CHANGES_A_SECOND) this.#announce(first, CHANGES_A_SECOND, 0);
    await until('all routes are there', async () => (await this.#receiver!.count()) >= ROUTES, 60_000);
  }

  async #connect(): Promise<void> {
    const socket = connect({ host: NODE_ADDRESS, port: 179, localAddress: PEER });
    this.#socket = socket;
    socket.on('error', () => {});
    const offering = {
      asn: ASN,
      families: [IPV4],
      restartTime: 0,
      restarting: false,
      longLivedTime: 0,
      addPathReceive: false,
      addPathSend: false,
      role: null,
    };
    const capabilities = ourCapabilities(offering);
    const open = encodeOpen({ as2: ASN, holdTime: 0, routerId: parseAddress4(PEER), capabilities });
    socket.write(Buffer.concat([open, keepalive]));
    await new Promise<void>((resolve) => {
      socket.on('data', (bytes) => {
        if (bytes.includes(Buffer.from([0, 19, KEEPALIVE]))) resolve();
      });
    });
  }

  /** Routes from a number on, by one of the two next hops. */
  #announce(first: number, count: number, hop: 0 | 1): void {
    const list = new PrefixList(IPV4);
    for (let i = first; i < first + count; i++) list.add([((20 << 24) + (i << 8)) | 0], 24);
    this.#send(list, hop);
  }

  #send(list: PrefixList, hop: 0 | 1): void {
    const nextHop = this.#table.nextHops.at(IPV4, [parseAddress4(HOPS[hop])]);
    const attributes = { ...NO_ATTRIBUTES, localPref: 100, nextHop };
    const encoded = { bytes: encodeAttributes(attributes, { as4: true, nextHop: true }), nextHop: null };
    const form = { family: IPV4, addPath: false, maxMessage: MAX_MESSAGE };
    this.#socket!.write(Buffer.concat([...encodeAnnouncements(encoded, list, form)]));
  }

  async measure(): Promise<Figures> {
    const seconds = this.#context.quick ? QUICK_SECONDS : SECONDS;
    const idle = await this.#ping(Math.min(seconds, 10));
    let isOver = false;
    const churning = this.#churn(() => isOver);
    const watching = this.#watch(() => isOver);
    const pinging = this.#ping(seconds).finally(() => {
      isOver = true;
    });
    const [busy, moves] = await Promise.all([pinging, watching, churning]);
    const times = moves.sort((a, b) => a - b);
    const at = (share: number) => times[Math.ceil(share * times.length) - 1]!;
    this.#context.log(
      `changes: p50 ${at(0.5).toFixed(1)}, p99 ${at(0.99).toFixed(1)}, most ${at(1).toFixed(1)} ms of ${times.length}; ` +
        `pings: idle p99.9 ${idle.p999} ms, ${idle.lost} lost; beside the changes ${busy.p999} ms, ${busy.lost} lost`,
    );
    if (busy.lost > 0) throw new Error(`${busy.lost} pings were lost beside the changes`);
    return { change: at(0.99), traffic: busy.p999 / idle.p999 };
  }

  async #churn(isOver: () => boolean): Promise<void> {
    const begun = performance.now();
    for (let sent = 0; !isOver(); ) {
      const due = ((performance.now() - begun) / 1000) * CHANGES_A_SECOND;
      const count = Math.floor(due - sent);
      // Each time around, to the other next hop.
      const round = Math.floor(this.#next / ROUTES);
      const first = this.#next % ROUTES;
      const fits = Math.min(count, ROUTES - first);
      if (fits > 0) this.#announce(first, fits, ((round + 1) & 1) as 0 | 1);
      this.#next += fits;
      sent += fits;
      await sleep(TICK_MS);
    }
  }

  async #watch(isOver: () => boolean): Promise<number[]> {
    const list = new PrefixList(IPV4);
    list.add([parseAddress4(WATCHED)], 24);
    const times: number[] = [];
    for (let hop: 0 | 1 = 0; !isOver(); hop = hop === 0 ? 1 : 0) {
      const begun = performance.now();
      this.#send(list, hop);
      while ((await this.#receiver!.api.lookup(WATCHED)).route.nextHop !== HOPS[hop]) {
        if (performance.now() - begun > 10_000) throw new Error('a change is not there after 10 s');
      }
      times.push(performance.now() - begun);
      await sleep(MOVE_MS * (0.5 + Math.random()));
    }
    return times;
  }

  /** In runs of a few seconds: what ping says of more is too much at once. */
  async #ping(seconds: number): Promise<{ p999: number; lost: number }> {
    const times: number[] = [];
    let sent = 0;
    for (let left = seconds; left > 0; left -= PING_SECONDS) {
      const count = Math.min(left, PING_SECONDS) * PINGS_A_SECOND;
      const args = ['-i', String(1 / PINGS_A_SECOND), '-c', String(count), '-W', '2', PODS[1]];
      const text = await this.#lab.run('churn-0', 'ping', args);
      times.push(...[...text.matchAll(/time=([\d.]+) ms/g)].map(([, ms]) => Number(ms)));
      sent += count;
    }
    times.sort((x, y) => x - y);
    return { p999: times[Math.ceil(0.999 * times.length) - 1]!, lost: sent - times.length };
  }

  async close(): Promise<void> {
    this.#socket?.destroy();
    await this.#receiver?.stop();
    await run('ip', ['link', 'del', 'churn']).catch(() => {});
    await this.#lab.close();
  }
}

async function prepare(context: BenchContext, figure: keyof Figures): Promise<Prepared> {
  // The entry for the other figure has run it already.
  const churn = figures.length > 0 ? null : new Churn(context);
  try {
    await churn?.build();
  } catch (error) {
    await churn?.close();
    throw error;
  }
  return {
    setting: `${CHANGES_A_SECOND} changes/s among ${ROUTES} routes, ${PINGS_A_SECOND} pings/s between two pods, Node ${process.version}`,
    ours: async () => {
      if (!churn) return figures.shift()![figure];
      const found = await churn.measure();
      figures.push(found);
      return found[figure];
    },
    peers: {},
    close: async () => churn?.close(),
  };
}

const entry = (name: string, unit: string, figure: keyof Figures): BenchEntry => ({
  name,
  unit,
  better: 'lower',
  peers: [],
  prepare: (context) => prepare(context, figure),
});

export const entries: BenchEntry[] = [
  entry('bgp-churn', 'ms p99 until packets follow', 'change'),
  entry('bgp-churn-traffic', 'times the idle p99.9 of a ping', 'traffic'),
];
