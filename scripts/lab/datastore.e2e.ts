/** Nodes that share an etcd: VXLAN without BGP, a pool that is edited under a running transfer, and an etcd that goes and comes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { until } from '../../control/bgp/until.ts';
import { Daemon, nodeName, TORTIE } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { Site, type SitePod, UNDERLAY, UNDERLAY_ADDRESS } from './site.ts';
import { ping, tcp } from './traffic.ts';

const ENDPOINT = `http://${UNDERLAY_ADDRESS}:2379`;
const NODES = [1, 2, 3];
const LIFETIME = '300';

describe.skipIf(noLab)('nodes over etcd', () => {
  let site: Site;
  let etcd: ChildProcess | null = null;
  const pods: SitePod[] = [];

  async function startEtcd(): Promise<void> {
    const urls = ['--listen-client-urls', ENDPOINT, '--advertise-client-urls', ENDPOINT];
    const server = ['etcd', ...urls, '--data-dir', join(site.lab.folder, 'etcd'), '--log-level', 'error'];
    const command = ['timeout', '-s', 'KILL', LIFETIME, ...server];
    etcd = spawn('ip', ['netns', 'exec', UNDERLAY, ...command], { stdio: 'ignore' });
    const probe = `const r = await fetch('${ENDPOINT}/health'); process.exit(r.ok ? 0 : 1)`;
    const args = ['--input-type=module', '-e', probe];
    await until('etcd answers', () =>
      site.lab.run(UNDERLAY, process.execPath, args).then(
        () => true,
        () => false,
      ),
    );
  }
  async function stopEtcd(): Promise<void> {
    if (!etcd) return;
    const exited = once(etcd, 'exit');
    // `ip` has become `timeout`, which passes it on.
    etcd.kill('SIGTERM');
    await exited;
    etcd = null;
  }
  const setPool = (spec: Record<string, unknown>) =>
    site.apply({ kind: 'IPPool', metadata: { name: 'pods' }, spec: { cidr: '10.65.0.0/16', ...spec } });
  const readiness = async (number: number) => {
    const probe = `const r = await fetch('http://127.0.0.1:9099/readiness'); console.log(r.status, await r.text())`;
    return site.lab.run(nodeName(number), process.execPath, ['--input-type=module', '-e', probe]);
  };
  const allRouted = async (via: string) => {
    for (const from of pods) {
      for (const to of pods) if (from.node !== to.node) await site.routed(from.node, to.address, via);
    }
  };

  beforeAll(async () => {
    site = await Site.create({
      nodes: NODES.length,
      datastore: { kind: 'etcd', endpoints: [ENDPOINT] },
      prepare: async (made) => {
        site = made;
        await startEtcd();
      },
    });
    const mesh = {
      kind: 'BGPConfiguration',
      metadata: { name: 'default' },
      spec: { nodeToNodeMeshEnabled: false },
    };
    await site.apply(mesh);
    await setPool({ vxlanMode: 'Always' });
    for (const number of NODES) pods.push(await site.addPod(`pod${number}`, number));
  });
  afterAll(async () => {
    await site?.close();
    await stopEtcd();
  });

  it('find each other without BGP: blocks, tunnel addresses and MACs from the datastore', async () => {
    await allRouted('vxlan');
    for (const from of pods) {
      for (const to of pods) {
        const { received } = await ping(site.lab, from.name, to.address);
        expect(received, `${from.name} to ${to.name}`).toBe(3);
      }
    }
    const nodes = await site.tortie(1, 'get', 'node', '-o', 'wide');
    for (const number of NODES) expect(nodes).toContain(`192.0.2.${number}/24`);
    expect(await site.tortie(1, 'ipam', 'check')).toContain('found 0 problems.');
  });

  it('follow an edited pool while a transfer runs through it', async () => {
    const [one, two] = pods as [SitePod, SitePod];
    await site.apply({
      kind: 'BGPConfiguration',
      metadata: { name: 'default' },
      spec: { nodeToNodeMeshEnabled: true },
    });
    const transfer = tcp(site.lab, one.name, two.name, two.address, ['-t', '8']);
    await sleep(1000);
    for (const [via, spec] of [
      ['ipip', { ipipMode: 'Always' }],
      ['direct', {}],
      ['vxlan', { vxlanMode: 'Always' }],
    ] as const) {
      await setPool(spec);
      await allRouted(via);
      await sleep(1000);
    }
    // It would not have ended at all, had it stalled.
    expect(await transfer).toBeGreaterThan(10_000_000);
  });

  it('go on without etcd, say so, and catch up when it is back', async () => {
    const [one, two] = pods as [SitePod, SitePod];
    expect(await readiness(1)).toMatch(/^200 /);
    await stopEtcd();
    await until('node 1 says so', async () =>
      /^503 [\s\S]*datastore .*reporting non-ready/.test(await readiness(1)),
    );
    expect((await ping(site.lab, one.name, two.address)).received).toBe(3);
    await expect(site.tortie(1, 'get', 'node')).rejects.toThrow('STORE_UNAVAILABLE');
    await startEtcd();
    await until('node 1 is ready again', async () => /^200 /.test(await readiness(1)));
    const late = await site.addPod('late', 3);
    await site.routed(1, late.address, 'vxlan');
    expect((await ping(site.lab, one.name, late.address)).received).toBe(3);
    await site.deletePod(late);
  });

  it('an agent that starts without etcd waits for it', async () => {
    await site.agents.get(2)!.stop();
    await stopEtcd();
    const agent = site.startAgent(2);
    await until('it says what it waits for', () => Promise.resolve(agent.output.includes('waiting for it')));
    await startEtcd();
    await site.ready(2);
    const [one, two] = pods as [SitePod, SitePod];
    await until(
      'its pod is there again',
      async () => (await ping(site.lab, one.name, two.address)).received === 3,
    );
  });

  it('refuse a node with the address of another, and say which', async () => {
    const settings = {
      nodeName: 'twin',
      nodeAddress: '192.0.2.1/24',
      datastore: { kind: 'etcd', endpoints: [ENDPOINT] },
    };
    const file = join(site.lab.folder, 'twin.yaml');
    writeFileSync(file, stringify({ ...settings, health: { enabled: false } }));
    await site.lab.netns('twin');
    await site.lab.veth('twin', 'eth0', UNDERLAY, 'twin');
    await site.lab.ip(UNDERLAY, 'link set twin master br0');
    await site.lab.ip('twin', 'addr add 192.0.2.77/24 dev eth0');
    const twin = new Daemon('twin', [process.execPath, TORTIE, 'agent', '--config', file], `${file}.log`);
    await until('it has ended', () => Promise.resolve(twin.ended));
    expect(await twin.stop()).toBe(78);
    expect(twin.output).toContain('192.0.2.1 is the address of node node1, too');
    expect(twin.output).toContain('NODE_ADDRESS_TAKEN');
    expect(await site.tortie(1, 'get', 'node')).not.toContain('twin');
  });

  it('forget a node that is deleted', async () => {
    const three = pods[2]!;
    await site.deletePod(three);
    await site.agents.get(3)!.stop();
    await site.tortie(3, 'purge', '--node', 'node3');
    await site.tortie(1, 'delete', 'node', 'node3');
    await until('its routes are gone', async () => {
      const routes = await site.api(1).routes();
      return routes.every(({ nextHop }) => nextHop !== '192.0.2.3');
    });
    expect(await site.tortie(1, 'ipam', 'check')).toContain('found 0 problems.');
  });
});
