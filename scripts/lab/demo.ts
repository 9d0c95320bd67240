/**
 * The demonstration: a pod's view, then ping across nodes in each routing mode with the packet on the wire as
 * proof, then what the agent says of itself. Every figure at the end was read off the tools' own output.
 */
import { spawnSync } from 'node:child_process';
import { Cluster, type Mode, TORTIE } from './cluster.ts';
import { type PingResult, ping, wire } from './traffic.ts';

type Encapsulation = 'ipip' | 'none' | 'vxlan';

/** What each mode should look like on the wire, and how tcpdump finds it. */
const WALK: readonly { mode: Mode; title: string; expected: Encapsulation; filter: string }[] = [
  { mode: 'ipip', title: 'IP in IP', expected: 'ipip', filter: 'ip proto 4' },
  { mode: 'direct', title: 'direct, no encapsulation', expected: 'none', filter: 'icmp' },
  { mode: 'vxlan', title: 'VXLAN', expected: 'vxlan', filter: 'udp port 4789' },
];
/** Two routers stand between the pods of two nodes, one between those of one node. */
const TTL_ACROSS = 62;
const TTL_WITHIN = 63;

interface ModeReport {
  readonly mode: Mode;
  readonly sent: number;
  readonly received: number;
  readonly ttl: number | null;
  readonly wire: Encapsulation | null;
}

const bold = (text: string) => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text);
const heading = (text: string) => console.log(`\n${bold(`== ${text}`)}`);

function show(where: string, command: string, output: string): void {
  console.log(`\n${bold(`${where}$ ${command}`)}\n${output.trimEnd()}`);
}

/** What tcpdump's decoding proves. */
function encapsulationIn(decoded: string): Encapsulation | null {
  if (/\bVXLAN\b/.test(decoded)) return 'vxlan';
  if (/\bproto IPIP \(4\)/.test(decoded)) return 'ipip';
  return /\bproto ICMP \(1\)/.test(decoded) ? 'none' : null;
}

async function inPod(cluster: Cluster, pod: string, command: string): Promise<void> {
  const [program, ...args] = command.split(' ');
  show(pod, command, await cluster.lab.run(pod, program!, args));
}

/** A verb of the CLI. All nodes of the lab share one /run, so it takes the name of the node that is meant. */
async function sayOfNode1(cluster: Cluster, verb: string): Promise<void> {
  show(
    'node1',
    `tortie ${verb} --node node1`,
    await cluster.tortie(1, ...verb.split(' '), '--node', 'node1'),
  );
}

async function walkMode(
  cluster: Cluster,
  { mode, title, filter }: (typeof WALK)[number],
): Promise<ModeReport> {
  heading(`Pod to pod across nodes: ${title}`);
  const { address } = cluster.pod('pod2a');
  let result: PingResult | undefined;
  const decoded = await wire(cluster.lab, 'underlay', 'node1', filter, async () => {
    result = await ping(cluster.lab, 'pod1a', address);
  });
  show('pod1a', `ping -c 3 ${address}`, result!.output);
  show('underlay', `tcpdump -nv -c 1 -i node1 ${filter}`, decoded ?? '(no such packet)');
  return {
    mode,
    sent: result!.sent,
    received: result!.received,
    ttl: result!.ttl,
    wire: decoded === null ? null : encapsulationIn(decoded),
  };
}

/** Trace one ping on the first node: the request that goes and the answer that comes. */
async function trace(cluster: Cluster): Promise<boolean> {
  const { address } = cluster.pod('pod2a');
  const args = ['trace', '--node', 'node1', '--host', address, '--count', '2'];
  const tracing = cluster.tortie(1, ...args);
  let over = false;
  const finished = tracing.finally(() => {
    over = true;
  });
  // The trace has begun when it sees a packet; ping until it has seen its two.
  while (!over) await Promise.race([finished, ping(cluster.lab, 'pod1a', address, ['-c', '1'])]);
  const output = await finished;
  show('node1', `tortie ${args.join(' ')}`, output);
  return output.includes(address);
}

/** Sessions that BIRD, or the nodes where there is no BIRD, say are established. */
async function establishedSessions(cluster: Cluster, bgp: 'bird' | 'mesh'): Promise<number> {
  if (bgp === 'mesh') {
    const { peersV4 } = await cluster.api(1).nodeStatus();
    return peersV4.filter((peer) => peer.info === 'Established').length;
  }
  const output = await cluster.birdc('show', 'protocols');
  show('rr', 'birdc show protocols', output);
  return output.match(/ BGP .* Established/g)?.length ?? 0;
}

interface Outcome {
  readonly ok: boolean;
  readonly modes: readonly ModeReport[];
}

async function walk(cluster: Cluster, bgp: 'bird' | 'mesh'): Promise<Outcome> {
  heading('What a pod sees');
  await inPod(cluster, 'pod1a', 'ip route');
  const neighbour = cluster.pod('pod1b').address;
  const within = await ping(cluster.lab, 'pod1a', neighbour);
  show('pod1a', `ping -c 3 ${neighbour}    # a pod of the same node`, within.output);
  await inPod(cluster, 'pod1a', 'arp -n');

  const modes: ModeReport[] = [];
  for (const step of WALK) {
    if (step.mode !== 'ipip') await cluster.switchTo(step.mode);
    modes.push(await walkMode(cluster, step));
    show('node1', 'ip route', await cluster.lab.run('node1', 'ip', ['route']));
    await sayOfNode1(cluster, 'show routes');
  }

  heading('What the node says');
  const sessions = await establishedSessions(cluster, bgp);
  for (const verb of ['node status', 'show ports', 'show drops']) await sayOfNode1(cluster, verb);
  const traced = await trace(cluster);

  const ok =
    sessions === (bgp === 'bird' ? 2 : 1) &&
    traced &&
    within.received === within.sent &&
    within.ttl === TTL_WITHIN &&
    modes.every(
      (report, index) =>
        report.received === report.sent && report.ttl === TTL_ACROSS && report.wire === WALK[index]!.expected,
    );
  return { ok, modes };
}

/** Exit status: 0 if all was as it should be. */
async function main(args: readonly string[]): Promise<number> {
  const keep = args.includes('--keep');
  const started = performance.now();
  const hasBird = spawnSync('bird', ['--version']).error === undefined;
  const bgp = hasBird && !args.includes('--mesh') ? 'bird' : 'mesh';
  const peering = bgp === 'bird' ? 'BIRD as route reflector' : 'a full mesh of the nodes';
  console.log(`Two nodes, two pods each, one network between them; BGP by ${peering}.`);

  let cluster: Cluster | undefined;
  let outcome: Outcome = { ok: false, modes: [] };
  try {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 2, bgp, mode: 'ipip' });
    outcome = await walk(cluster, bgp);
  } catch (error) {
    console.error(error);
  } finally {
    if (!keep || !outcome.ok) await cluster?.close();
  }
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  const { ok, modes } = outcome;
  console.log(ok ? `\nAll as it should be, in ${seconds} s.` : '\nNot all was as it should be: see above.');
  if (ok && keep && cluster) {
    console.log(`
Once inside the lab, for instance:
  ip netns exec pod1a ping 10.65.2.2
  ip netns exec underlay tcpdump -ni node1
  node ${TORTIE} show routes --node node1
Its files: ${cluster.lab.folder}`);
  }
  if (args.includes('--json')) console.log(JSON.stringify({ ok, bgp, modes, seconds }));
  return ok ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
