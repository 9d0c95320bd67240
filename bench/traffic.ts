/**
 * Real packets between pods: `tap-tcp`, `tap-udp64` and the round trips on one node, `vxlan-tcp` on two. The
 * pods, the programs in them and the kernel under them are the same for all; what differs moves the packets.
 */
import { type BenchContext, type BenchEntry, type Prepared, reasonOf, type Unavailable } from './harness.ts';
import { Lab } from './lab.ts';
import { cRelay, kernelRouter, kernelVxlan, oursByVxlan, oursOnOneNode, type Path } from './paths.ts';

const TCP_PORT = '5201';
const UDP_PORT = '7000';

/** A measurement over a path. */
type Measure = (lab: Lab, path: Path, context: BenchContext) => Promise<number>;
/** Ours and its peers, ready for use. */
interface Contestants {
  readonly ours: Path;
  readonly peers: Record<string, Path | Unavailable>;
}

const ONE_NODE_PEERS = ['c-relay', 'kernel-router', 'kernel-router-plain'];
const TWO_NODE_PEERS = ['kernel-vxlan', 'kernel-vxlan-plain'];

async function onOneNode(lab: Lab, context: BenchContext): Promise<Contestants> {
  const ours = await oursOnOneNode(lab, context);
  return {
    ours,
    peers: {
      'c-relay': await attempt(cRelay(lab, context, ours)),
      'kernel-router': await attempt(kernelRouter(lab, false)),
      'kernel-router-plain': await attempt(kernelRouter(lab, true)),
    },
  };
}

async function onTwoNodes(lab: Lab, context: BenchContext): Promise<Contestants> {
  const ours = await oursByVxlan(lab, context);
  return {
    ours,
    peers: {
      'kernel-vxlan': await attempt(kernelVxlan(lab, false)),
      'kernel-vxlan-plain': await attempt(kernelVxlan(lab, true)),
    },
  };
}

const attempt = (path: Promise<Path>): Promise<Path | Unavailable> =>
  path.catch((error) => ({ unavailable: reasonOf(error) }));

/** What we read of iperf3's JSON. */
interface IperfReport {
  readonly end: { readonly sum_received?: { readonly bits_per_second: number } };
  readonly error?: string;
}

/** One TCP stream; Gb/s of payload that arrived. */
const tcp: Measure = async (lab, path, context) => {
  const seconds = context.quick ? '1' : '3';
  // It says that it listens once it does.
  const server = await lab.start(path.server, 'iperf3', ['-s', '-1', '-p', TCP_PORT, '--forceflush']);
  try {
    const args = ['-c', path.address, '-p', TCP_PORT, '-t', seconds, '-J'];
    const { end, error } = JSON.parse(await lab.run(path.client, 'iperf3', args)) as IperfReport;
    if (!end.sum_received) throw new Error(`iperf3: ${error ?? 'no figures'}`);
    return end.sum_received.bits_per_second / 1e9;
  } finally {
    await server.stop();
  }
};

/** 64-byte datagrams, as many as the sender makes; thousands a second that arrived. */
const udp64: Measure = async (lab, path, context) => {
  const seconds = context.quick ? 1 : 2;
  const udp = await context.compile('udp');
  const counter = await lab.start(path.server, udp, ['count', UDP_PORT, String(seconds)]);
  try {
    const blast = ['blast', path.address, UDP_PORT, String(seconds * 1.5)];
    const [line] = await Promise.all([counter.line(), lab.run(path.client, udp, blast)]);
    const [received, measured] = line.split(' ').map(Number);
    return received! / measured! / 1000;
  } finally {
    await counter.stop();
  }
};

/** A run of round trips, as percentiles in microseconds. */
interface RoundTrips {
  readonly 'rtt-p50': number;
  readonly 'rtt-p99': number;
  readonly 'rtt-p999': number;
}

async function roundTrips(lab: Lab, path: Path, context: BenchContext): Promise<RoundTrips> {
  const udp = await context.compile('udp');
  const echo = await lab.start(path.server, udp, ['echo', UDP_PORT]);
  try {
    const count = context.quick ? '4000' : '20000';
    const text = await lab.run(path.client, udp, ['probe', path.address, UDP_PORT, count]);
    const [p50, p99, p999] = text.split(' ').map(Number);
    return { 'rtt-p50': p50!, 'rtt-p99': p99!, 'rtt-p999': p999! };
  } finally {
    await echo.stop();
  }
}

/**
 * The runs of round trips so far, by contestant and round. One run gives all three percentiles: whichever
 * entry comes first measures, the others look its rounds up.
 */
const taken = new Map<string, Promise<RoundTrips>[]>();

function prepareEntry(
  contestants: (lab: Lab, context: BenchContext) => Promise<Contestants>,
  measure: (lab: Lab, path: Path, context: BenchContext, who: string, round: number) => Promise<number>,
): (context: BenchContext) => Promise<Prepared> {
  return async (context) => {
    const lab = new Lab();
    try {
      const { ours, peers } = await contestants(lab, context);
      const runner = (path: Path, who: string) => {
        let round = 0;
        return () => measure(lab, path, context, who, round++);
      };
      context.log(`ours: ${ours.version}`);
      const prepared = Object.entries(peers).map(([name, peer]) => {
        if ('unavailable' in peer) return [name, peer] as const;
        return [name, { version: peer.version, run: runner(peer, name) }] as const;
      });
      const setting = ours.version;
      return {
        setting,
        ours: runner(ours, 'ours'),
        peers: Object.fromEntries(prepared),
        close: () => lab.close(),
      };
    } catch (error) {
      await lab.close();
      throw error;
    }
  };
}

const rttEntry = (name: keyof RoundTrips): BenchEntry => ({
  name,
  unit: 'us',
  better: 'lower',
  peers: ONE_NODE_PEERS,
  prepare: prepareEntry(onOneNode, async (lab, path, context, who, round) => {
    const runs = taken.get(who) ?? [];
    taken.set(who, runs);
    runs[round] ??= roundTrips(lab, path, context);
    return (await runs[round])[name];
  }),
});

export const entries: BenchEntry[] = [
  {
    name: 'tap-tcp',
    unit: 'Gb/s',
    better: 'higher',
    peers: ONE_NODE_PEERS,
    prepare: prepareEntry(onOneNode, tcp),
  },
  {
    name: 'tap-udp64',
    unit: 'k packets/s',
    better: 'higher',
    peers: ONE_NODE_PEERS,
    prepare: prepareEntry(onOneNode, udp64),
  },
  {
    name: 'vxlan-tcp',
    unit: 'Gb/s',
    better: 'higher',
    peers: TWO_NODE_PEERS,
    prepare: prepareEntry(onTwoNodes, tcp),
  },
  rttEntry('rtt-p50'),
  rttEntry('rtt-p99'),
  rttEntry('rtt-p999'),
];
