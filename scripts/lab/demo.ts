/**
 * The demonstration: two nodes that share a store, from an empty list of workloads to pods that reach each other by IPIP, plain
 * and by VXLAN without BGP, each step by the command that a user would type. Every figure at the end was read off the tools'
 * own output.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TORTIE } from './cluster.ts';
import { Site, type SitePod, UNDERLAY } from './site.ts';
import { type PingResult, ping, wire } from './traffic.ts';

type Encapsulation = 'ipip' | 'none' | 'vxlan';

const POOL = 'default-ipv4-ippool';
/** Two routers stand between the pods of two nodes. */
const TTL_ACROSS = 62;
/** How tcpdump finds a way of travel. */
const FILTERS: Record<Encapsulation, string> = { ipip: 'ip proto 4', none: 'icmp', vxlan: 'udp port 4789' };

interface ModeReport {
  readonly mode: Encapsulation;
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

class Walk {
  readonly site: Site;
  readonly modes: ModeReport[] = [];
  readonly #folder: string;

  constructor(site: Site) {
    this.site = site;
    this.#folder = site.lab.folder;
  }

  async run(where: string, command: string): Promise<string> {
    const [program, ...args] = command.split(' ');
    const output = await this.site.lab.run(where, program!, args);
    show(where, command, output);
    return output;
  }

  /** A verb of the CLI on the first node. What asks the agent takes the node's name: all nodes of the lab share one /run. */
  async tortie(command: string, ...asked: string[]): Promise<string> {
    const output = await this.site.tortie(1, ...command.split(' '), ...asked);
    show('node1', `tortie ${command}`, output);
    return output;
  }

  /** Attach a pod as a runtime does. */
  async deploy(name: string, node: number): Promise<SitePod> {
    const pod = await this.site.addPod(name, node);
    show(
      `node${node}`,
      `CNI_COMMAND=ADD CNI_NETNS=/run/netns/${name} CNI_ARGS=...K8S_POD_NAME=${name} tortie-cni < 10-tortie.conflist`,
      JSON.stringify(pod.result),
    );
    return pod;
  }

  /** Change a field of the pool as the article does: get, edit, apply. */
  async editPool(...edits: readonly [field: string, value: string][]): Promise<void> {
    const file = join(this.#folder, 'ippool.yaml');
    const text = await this.site.tortie(1, 'get', 'ippool', POOL, '-o', 'yaml');
    show('node1', `tortie get ippool ${POOL} -o yaml > ippool.yaml; cat ippool.yaml`, text);
    let edited = text;
    for (const [field, value] of edits) {
      edited = edited.replace(new RegExp(`${field}: .*`), `${field}: ${value}`);
      show('node1', `sed -i 's/${field}: .*/${field}: ${value}/' ippool.yaml`, '');
    }
    writeFileSync(file, edited);
    show('node1', 'tortie apply -f ippool.yaml', await this.site.tortie(1, 'apply', '-f', file));
  }

  /** Ping from one pod to the other, a packet of it from the wire. */
  async ping(from: SitePod, to: SitePod, mode: Encapsulation): Promise<void> {
    const { lab } = this.site;
    const filter = FILTERS[mode];
    let result: PingResult | undefined;
    const decoded = await wire(lab, UNDERLAY, 'node1', filter, async () => {
      result = await ping(lab, from.name, to.address);
    });
    show(from.name, `ping -c 3 ${to.address}`, result!.output);
    show(UNDERLAY, `tcpdump -nv -c 1 -i node1 ${filter}`, decoded ?? '(no such packet)');
    const { sent, received, ttl } = result!;
    this.modes.push({ mode, sent, received, ttl, wire: decoded === null ? null : encapsulationIn(decoded) });
  }

  /** Trace one ping on the first node: the request that goes and the answer that comes. */
  async trace(from: SitePod, to: SitePod): Promise<boolean> {
    const args = ['trace', '--node', 'node1', '--host', to.address, '--count', '2'];
    const tracing = this.site.tortie(1, ...args);
    let over = false;
    const finished = tracing.finally(() => {
      over = true;
    });
    // The trace has begun when it sees a packet; ping until it has seen its two.
    while (!over) await Promise.race([finished, ping(this.site.lab, from.name, to.address, ['-c', '1'])]);
    const output = await finished;
    show('node1', `tortie ${args.join(' ')}`, output);
    return output.includes(to.address);
  }
}

async function walk(site: Site): Promise<{ ok: boolean; modes: readonly ModeReport[] }> {
  const step = new Walk(site);

  heading('An empty cluster');
  const empty = await step.tortie('get wep');
  await step.tortie('get node -o wide');
  const pool = join(site.lab.folder, 'pool.yaml');
  writeFileSync(
    pool,
    `apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: ${POOL}\nspec:\n  cidr: 10.65.0.0/16\n  ipipMode: Always\n  natOutgoing: true\n`,
  );
  show('node1', 'cat pool.yaml', readFileSync(pool, 'utf8'));
  show('node1', 'tortie apply -f pool.yaml', await site.tortie(1, 'apply', '-f', pool));

  heading('A deployment of two pods, by CNI');
  const [one, two] = [await step.deploy('web-1', 1), await step.deploy('web-2', 2)];
  const listed = await step.tortie('get wep');
  await step.run(one.name, 'ip -br addr show eth0');
  await step.run(one.name, 'ip route');

  heading('Pod to pod across nodes: IP in IP, routes by BGP');
  const status = await (async () => {
    await site.routed(1, two.address, 'ipip');
    await site.routed(2, one.address, 'ipip');
    return step.tortie('node status', '--node', 'node1');
  })();
  await step.run('node1', 'ip route');
  await step.ping(one, two, 'ipip');
  await step.run(one.name, 'arp -n');

  heading('The same without encapsulation: edit the pool');
  await step.editPool(['ipipMode', 'Never']);
  await site.routed(1, two.address, 'direct');
  await site.routed(2, one.address, 'direct');
  await step.run('node1', 'ip route');
  await step.ping(one, two, 'none');

  heading('VXLAN, without BGP');
  const mesh = {
    kind: 'BGPConfiguration',
    metadata: { name: 'default' },
    spec: { nodeToNodeMeshEnabled: false },
  };
  show(
    'node1',
    'tortie apply -f bgpconfiguration.yaml    # nodeToNodeMeshEnabled: false',
    await site.apply(mesh),
  );
  await step.editPool(['vxlanMode', 'Always']);
  await site.routed(1, two.address, 'vxlan');
  await site.routed(2, one.address, 'vxlan');
  const withoutBgp = await step.tortie('node status', '--node', 'node1');
  await step.run('node1', 'ip route');
  await step.tortie('show routes', '--node', 'node1');
  await step.ping(one, two, 'vxlan');

  heading('What the node says');
  for (const verb of ['show ports', 'show drops']) await step.tortie(verb, '--node', 'node1');
  const traced = await step.trace(one, two);

  heading('The deployment goes');
  for (const pod of [one, two]) await site.deletePod(pod);
  const left = await step.tortie('get wep');

  const ok =
    !empty.includes('web-') &&
    [one, two].every(({ name, address }) => listed.includes(name) && listed.includes(address)) &&
    /192\.0\.2\.2 .*Established/.test(status) &&
    !withoutBgp.includes('Established') &&
    traced &&
    !left.includes('web-') &&
    step.modes.every(
      ({ mode, sent, received, ttl, wire: seen }) => received === sent && ttl === TTL_ACROSS && seen === mode,
    );
  return { ok, modes: step.modes };
}

/** Exit status: 0 if all was as it should be. */
async function main(args: readonly string[]): Promise<number> {
  const keep = args.includes('--keep');
  const started = performance.now();
  console.log(
    'Two nodes that share a store, one network between them, and pods as a container runtime makes them.',
  );

  let site: Site | undefined;
  let outcome: Awaited<ReturnType<typeof walk>> = { ok: false, modes: [] };
  try {
    site = await Site.create({ nodes: 2 });
    outcome = await walk(site);
  } catch (error) {
    console.error(error);
  } finally {
    if (!keep || !outcome.ok) await site?.close();
  }
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  const { ok, modes } = outcome;
  console.log(ok ? `\nAll as it should be, in ${seconds} s.` : '\nNot all was as it should be: see above.');
  if (ok && keep && site) {
    console.log(`
Once inside the lab, for instance:
  export TORTIE_CONFIG=${site.settingsFile(1)}
  node ${TORTIE} get node -o wide
  node ${TORTIE} show routes --node node1
  ip netns exec ${UNDERLAY} tcpdump -ni node1
Its files: ${site.lab.folder}`);
  }
  if (args.includes('--json')) console.log(JSON.stringify({ ok, modes, seconds }));
  return ok ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
