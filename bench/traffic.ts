/**
 * Real packets between pods. The pods, the programs in them and the kernel under them are the same for all;
 * what differs moves the packets.
 */
import {
  type BenchContext,
  type BenchEntry,
  type Peer,
  type Prepared,
  reasonOf,
  type Unavailable,
} from './harness.ts';
import { Lab } from './lab.ts';
import { type Mode, oursOnOneNode, oursOnTwoNodes, twoPods } from './ours.ts';
import { type Build, ovsByVxlan, ovsOnOneNode } from './ovs.ts';
import { cRelay, kernelRouter, kernelVxlan, type Link, type Path } from './paths.ts';
import { fastd, vtun } from './tunnels.ts';

const TCP_PORT = '5201';
const UDP_PORT = '7000';
const PACED_RATE = 10_000;

/** A measurement over a path. */
type Measure = (lab: Lab, path: Path, context: BenchContext) => Promise<number>;
/** What we read of iperf3's JSON. */
interface IperfReport {
  readonly end: { readonly sum_received?: { readonly bits_per_second: number } };
  readonly error?: string;
}

/** One TCP stream, as fast as it goes or at most at `rate` ("2G" is 2 Gb/s); Gb/s of payload that arrived. */
export async function tcpStream(
  lab: Lab,
  path: Pick<Path, 'client' | 'server' | 'address'>,
  seconds: number,
  rate = '0',
): Promise<number> {
  // It says that it listens once it does.
  const server = await lab.start(path.server, 'iperf3', ['-s', '-1', '-p', TCP_PORT, '--forceflush']);
  try {
    const args = ['-c', path.address, '-p', TCP_PORT, '-t', String(seconds), '-b', rate, '-J'];
    const { end, error } = JSON.parse(await lab.run(path.client, 'iperf3', args)) as IperfReport;
    if (!end.sum_received) throw new Error(`iperf3: ${error ?? 'no figures'}`);
    return end.sum_received.bits_per_second / 1e9;
  } finally {
    await server.stop();
  }
}

const tcp: Measure = (lab, path, context) => tcpStream(lab, path, context.quick ? 1 : 3);

/**
 * Datagrams of `size` payload bytes, as many as the sender makes; thousands a second that arrived. With a segment
 * the sender hands the kernel `size` at once to be cut, and what is counted is one `size` each.
 */
export async function datagrams(
  lab: Lab,
  path: Path,
  context: BenchContext,
  seconds: number,
  size: number,
  segment = 0,
): Promise<number> {
  const udp = await context.compile('udp');
  const counter = await lab.start(path.server, udp, ['count', UDP_PORT, String(seconds)]);
  try {
    const blast = ['blast', path.address, UDP_PORT, seconds * 1.5, size, segment].map(String);
    const [line] = await Promise.all([counter.line(), lab.run(path.client, udp, blast)]);
    const [, bytes, measured] = line.split(' ').map(Number);
    return bytes! / size / measured! / 1000;
  } finally {
    await counter.stop();
  }
}

const udp64: Measure = (lab, path, context) => datagrams(lab, path, context, context.quick ? 1 : 2, 64);

/** Percentiles of a run of round trips, in microseconds. */
async function roundTrips(lab: Lab, path: Path, context: BenchContext, how: readonly string[]) {
  const udp = await context.compile('udp');
  const echo = await lab.start(path.server, udp, ['echo', UDP_PORT]);
  try {
    const [kind, ...numbers] = how as readonly [string, ...string[]];
    const text = await lab.run(path.client, udp, [kind, path.address, UDP_PORT, ...numbers]);
    const [p50, p99, p999] = text.split(' ').map(Number);
    return { p50: p50!, p99: p99!, p999: p999! };
  } finally {
    await echo.stop();
  }
}

const idle: Measure = async (lab, path, context) =>
  (await roundTrips(lab, path, context, ['probe', context.quick ? '4000' : '20000'])).p50;

/** The bulk transfer begins before the round trips and ends after them. */
const besideBulk: Measure = async (lab, path, context) => {
  const seconds = context.quick ? 1 : 3;
  const bulk = tcpStream(lab, path, seconds + 2);
  const pace = ['pace', String(seconds * PACED_RATE), String(PACED_RATE)];
  try {
    return (await roundTrips(lab, path, context, pace)).p999;
  } finally {
    await bulk;
  }
};

/** Build our path, or a peer's when ours is there already. */
type Ours = (lab: Lab, context: BenchContext) => Promise<Path>;
type Theirs = (lab: Lab, context: BenchContext, ours: Path) => Promise<Path>;

const oneNode: Ours = async (lab, context) => oursOnOneNode(lab, context, await twoPods(lab));
const twoNodes =
  (mode: Mode, link: Link, settings: Record<string, unknown> = {}, prefix = 'ours'): Ours =>
  (lab, context) =>
    oursOnTwoNodes(lab, context, mode, link, settings, prefix);
const vxlanDevice =
  (link: Link): Theirs =>
  (lab) =>
    kernelVxlan(lab, link);
const oneSwitch =
  (build: Build): Theirs =>
  (lab) =>
    ovsOnOneNode(lab, build);
const relay: Theirs = (lab, context, ours) => cRelay(lab, context, ours);

/** Settings that force the way of both tunnels. */
const through = (way: 'host' | 'sockets') => ({ offload: { vxlan: way, ipip: way } });

function traffic(
  name: string,
  [unit, better]: readonly [string, BenchEntry['better']],
  measure: Measure,
  ours: Ours,
  peers: Readonly<Record<string, Theirs>>,
): BenchEntry {
  const prepare = async (context: BenchContext): Promise<Prepared> => {
    const lab = new Lab();
    try {
      const path = await ours(lab, context);
      const ready: Record<string, Peer | Unavailable> = {};
      for (const [peer, theirs] of Object.entries(peers)) {
        ready[peer] = await theirs(lab, context, path).then(
          (built) => ({ ...built, run: () => measure(lab, built, context) }),
          (error) => ({ unavailable: reasonOf(error) }),
        );
      }
      return {
        setting: path.version,
        offloads: path.offloads,
        ours: () => measure(lab, path, context),
        peers: ready,
        close: () => lab.close(),
      };
    } catch (error) {
      await lab.close();
      throw error;
    }
  };
  return { name, unit, better, peers: Object.keys(peers), prepare };
}

const GBITS = ['Gb/s', 'higher'] as const;
const PACKETS = ['k packets/s', 'higher'] as const;
const MICROSECONDS = ['us', 'lower'] as const;

export const entries: BenchEntry[] = [
  traffic('tap-tcp', GBITS, tcp, oneNode, {
    'c-relay': relay,
    'ovs-dpdk': oneSwitch('ovs-dpdk'),
    ovs: oneSwitch('ovs'),
    'kernel-router': (lab) => kernelRouter(lab),
  }),
  traffic('tap-udp64', PACKETS, udp64, oneNode, { 'c-relay': relay, ovs: oneSwitch('ovs') }),
  traffic('vxlan-tcp', GBITS, tcp, twoNodes('vxlan', 'super', through('host')), {
    'kernel-vxlan': vxlanDevice('super'),
    ovs: ovsByVxlan,
    fastd,
    vtun,
  }),
  traffic('ipip-tcp', GBITS, tcp, twoNodes('ipip', 'super', through('host')), {
    'kernel-vxlan': vxlanDevice('super'),
  }),
  traffic('vxlan-sockets-tcp', GBITS, tcp, twoNodes('vxlan', 'super', through('sockets')), {
    'kernel-vxlan': vxlanDevice('super'),
  }),
  traffic('vxlan-wire-tcp', GBITS, tcp, twoNodes('vxlan', 'wire', through('host')), {
    'kernel-vxlan': vxlanDevice('wire'),
  }),
  traffic('ipip-wire-tcp', GBITS, tcp, twoNodes('ipip', 'wire', through('host')), {
    'kernel-vxlan': vxlanDevice('wire'),
  }),
  traffic('ipip-sockets-wire-tcp', GBITS, tcp, twoNodes('ipip', 'wire', through('sockets')), {
    'kernel-vxlan': vxlanDevice('wire'),
  }),
  traffic('direct-wire-tcp', GBITS, tcp, twoNodes('direct', 'wire'), {
    'vxlan-wire-tcp': twoNodes('vxlan', 'wire', through('host'), 'tunnel'),
  }),
  traffic('vxlan-udp64', PACKETS, udp64, twoNodes('vxlan', 'super'), {
    'kernel-vxlan': vxlanDevice('super'),
    ovs: ovsByVxlan,
  }),
  traffic('rtt-p50', MICROSECONDS, idle, oneNode, { 'c-relay': relay, ovs: oneSwitch('ovs') }),
  traffic('rtt-p999', MICROSECONDS, besideBulk, oneNode, { 'c-relay': relay, ovs: oneSwitch('ovs') }),
];
