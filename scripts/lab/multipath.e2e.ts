/** One address behind two nodes: flows are shared among them, and stay where they are when one comes or goes. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { until } from '../../control/bgp/until.ts';
import { expectBalanced } from './account.ts';
import { Cluster, nodeAddress, nodeName, ROOT } from './cluster.ts';
import { noLab } from './in-lab.ts';

const ANYCAST = '10.65.9.5';
const SERVERS = [2, 3, 4];
const FLOWS = 96;
const FLOWS_PY = join(ROOT, 'scripts/lab/flows.py');
/** So many packets of each flow before what happens, and after. */
const ROUNDS = 8;

describe.skipIf(noLab)('one address behind several nodes', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 4, podsPerNode: 1, bgp: 'mesh', mode: 'ipip', folders: true });
    // One cluster has no address twice: each of these nodes believes that it is alone in having it.
    for (const node of SERVERS) {
      await cluster.lab.netns(`any${node}`);
      announce(node);
    }
    await shared(SERVERS);
    for (const node of SERVERS) {
      await cluster.lab.start(`any${node}`, 'python3', [FLOWS_PY, 'serve', ANYCAST, nodeName(node)]);
    }
    await until('all are answered', async () => !(await flowsDuring(async () => {})).flat().includes(null));
  });
  afterAll(() => cluster?.close());

  const file = (node: number) => join(cluster.folder(node), 'any.yaml');
  /** A pod with the address on a node; it is in nobody's block, so the node announces it by itself. */
  function announce(node: number): void {
    const spec = {
      node: nodeName(node),
      pod: `any${node}`,
      interfaceName: `calany${node}`,
      netns: `any${node}`,
      ipNetworks: [`${ANYCAST}/32`],
    };
    const metadata = { name: `any${node}`, namespace: 'default' };
    const head = { apiVersion: 'projectcalico.org/v3', kind: 'WorkloadEndpoint' };
    writeFileSync(file(node), stringify({ ...head, metadata, spec }));
    cluster.agents.get(node)!.signal('SIGHUP');
  }
  function withdraw(node: number): void {
    rmSync(file(node));
    cluster.agents.get(node)!.signal('SIGHUP');
  }
  const hopsOf = async (): Promise<string[]> => {
    const { route } = await cluster.api(1).lookup(ANYCAST);
    return route.members?.map(({ nextHop }) => nextHop).sort() ?? [route.nextHop ?? ''];
  };
  const shared = (nodes: readonly number[]) =>
    until(`node1 shares the route among nodes ${nodes.join()}`, async () => {
      return (await hopsOf()).join() === nodes.map(nodeAddress).join();
    });

  /** Who answered each packet of each flow that was sent meanwhile. */
  async function flowsDuring(action: () => Promise<unknown>): Promise<(string | null)[][]> {
    const sender = await cluster.lab.start('pod1a', 'python3', [FLOWS_PY, 'send', ANYCAST, String(FLOWS)]);
    const rounds = async () => {
      const start = Date.now();
      for (let seen = 0; seen < ROUNDS; ) if (Number(await sender.line()) * 1000 >= start) seen++;
    };
    await rounds();
    await action();
    await rounds();
    const stopped = sender.stop();
    for (;;) {
      const line = await sender.line();
      if (!line.startsWith('[')) continue;
      await stopped;
      return JSON.parse(line) as (string | null)[][];
    }
  }

  it('each flow has one of them, and all have flows', async () => {
    const flows = await flowsDuring(async () => {});
    for (const names of flows) expect(new Set(names).size).toBe(1);
    const servers = flows.map(([name]) => name);
    for (const node of SERVERS) {
      expect(servers.filter((name) => name === nodeName(node)).length).toBeGreaterThan(FLOWS / 8);
    }
    await expectBalanced(cluster, 1);
  });

  it('when one goes, its flows alone go elsewhere, and others lose nothing', async () => {
    const flows = await flowsDuring(async () => {
      withdraw(3);
      await shared([2, 4]);
    });
    const gone = flows.filter(([name]) => name === 'node3');
    expect(gone.length).toBeGreaterThan(0);
    const after = new Set(gone.map((names) => names.at(-1)));
    expect(after).toEqual(new Set(['node2', 'node4']));
    for (const names of flows) if (names[0] !== 'node3') expect(new Set(names).size).toBe(1);
  });

  it('when it comes back, flows move to it and nowhere else, and none loses a packet', async () => {
    const flows = await flowsDuring(async () => {
      announce(3);
      await shared(SERVERS);
    });
    const moved = flows.filter((names) => names.at(-1) !== names[0]);
    expect(moved.length).toBeGreaterThan(0);
    expect(moved.length).toBeLessThan(FLOWS / 2);
    for (const names of moved) expect(names.at(-1)).toBe('node3');
    for (const names of flows) expect(names).not.toContain(null);
  });

  it('stays as it is over a restart', async () => {
    const flows = await flowsDuring(async () => {
      await cluster.agents.get(1)!.stop();
      cluster.startAgent(1);
      await cluster.ready(1);
      await until('all is told anew', async () => (await cluster.api(1).runtime()).restart.staleRoutes === 0);
    });
    // What waited for the agent longer than queues are is lost.
    for (const names of flows) expect(new Set(names.filter((name) => name !== null)).size).toBe(1);
    await shared(SERVERS);
  });

  it('is shown with all next hops, and in a trace with the one that a flow has', async () => {
    const routes = await cluster.tortie(1, 'show', 'routes', '--node', 'node1');
    const members = SERVERS.map((node) => `${nodeAddress(node).replaceAll('.', '\\.')} \\(4[23]\\)`);
    const any = `(${members.join('|')})`;
    expect(routes).toMatch(new RegExp(`^10\\.65\\.9\\.5/32 +${any}, ${any}, ${any} +ipip +ipip +bgp `, 'm'));
    const why = await cluster.tortie(1, 'bgp', 'why', '--node', 'node1', `${ANYCAST}/32`);
    expect(why.match(/may share the load/g)).toHaveLength(2);
    const tracing = cluster.tortie(
      1,
      'trace',
      '--node',
      'node1',
      '--host',
      ANYCAST,
      '--port',
      'calipod1a',
      '--count',
      '1',
    );
    const [trace] = await Promise.all([tracing, flowsDuring(async () => tracing)]);
    expect(trace).toMatch(/several next hops, group \d+: the flow has bucket \d+, of 192\.0\.2\.[234]/);
  });

  it('unencapsulated, it is shared by the host’s kernel', async () => {
    await cluster.lab.sysctl('node1', 'net.ipv4.fib_multipath_hash_policy=1');
    await cluster.switchTo('direct');
    const hops = await until('the kernel has all next hops', async () => {
      const text = await cluster.lab.run('node1', 'ip', ['-j', 'route', 'show', ANYCAST]);
      const [route] = JSON.parse(text) as { protocol: string; nexthops?: { gateway: string }[] }[];
      return route?.nexthops?.length === 3 && route.nexthops.map(({ gateway }) => gateway).sort();
    });
    expect(hops).toEqual(SERVERS.map(nodeAddress));
    const flows = await flowsDuring(async () => {
      withdraw(3);
      await shared([2, 4]);
      await until('the kernel knows', async () => {
        const text = await cluster.lab.run('node1', 'ip', ['route', 'show', ANYCAST]);
        return !text.includes(nodeAddress(3));
      });
    });
    expect(new Set(flows.map(([name]) => name)).size).toBe(3);
    const after = new Set(flows.map((names) => names.at(-1)));
    expect(after).toEqual(new Set(['node2', 'node4']));
  });

  it('when one is left, it has all flows', async () => {
    await cluster.switchTo('ipip');
    withdraw(4);
    await shared([2]);
    const flows = await flowsDuring(async () => {});
    expect(new Set(flows.flat())).toEqual(new Set(['node2']));
  });
});
