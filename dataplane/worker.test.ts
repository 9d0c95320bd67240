/**
 * A worker between real devices: pods in namespaces of their own, a tunnel to a second node. Needs root and
 * the build (scripts/build); without root it says so and skips.
 */
import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as adj from './fib/adjacency.ts';
import { native, type Tap } from './native/index.ts';
import { openIpipSockets } from './port/ipip.ts';
import { openVxlanSockets } from './port/vxlan.ts';
import { hostFilter4, ip4, mac } from './scenario.ts';
import { spawnWorker, type WorkerHandle } from './spawn.ts';
import { ip, isRoot, MAC_A, namespace, openPod, ping, removeNamespaces, TestNode } from './test-node.ts';

const run = promisify(execFile);
if (!isRoot) console.log('worker.test.ts: skipped, making TAPs and namespaces needs root');

const POD_A = 1;
const POD_B = 2;
const VXLAN = 4;
const IPIP = 5;
const MAC_B = mac('02:00:00:00:00:0b');

/**
 * A question wakes a worker once, or twice if it is fetched before its signal; one that spins would wake many
 * times more. The pods' kernels talk at times (IPv6): only questions without frames between them count.
 */
async function expectSleep(worker: WorkerHandle): Promise<void> {
  const questions = 50;
  for (;;) {
    const before = await worker.stats();
    for (let i = 1; i < questions; i++) await worker.stats();
    const after = await worker.stats();
    if (after.bursts !== before.bursts) continue;
    expect(after.wakeups - before.wakeups).toBeLessThanOrEqual(2 * questions);
    return;
  }
}

afterAll(removeNamespaces);

describe.skipIf(!isRoot)('two pods on one node', () => {
  const node = new TestNode();
  let a: string;
  let b: string;
  let tapA: Tap;
  let tapB: Tap;

  beforeAll(async () => {
    a = namespace('a');
    b = namespace('b');
    tapA = openPod(a, '10.65.0.2', MAC_A);
    tapB = openPod(b, '10.65.0.3', MAC_B);
    await node.start(ip4('192.0.2.1'), mac('66:00:00:00:00:01'));
    await node.attach(POD_A, 'pod', tapA.fds, MAC_A, '10.65.0.2');
    await node.attach(POD_B, 'pod', tapB.fds, MAC_B, '10.65.0.3');
    node.route('10.65.0.2', 32, { kind: adj.POD, port: POD_A, dmac: MAC_A, mtu: 1450 });
    node.route('10.65.0.3', 32, { kind: adj.POD, port: POD_B, dmac: MAC_B, mtu: 1450 });
  });
  afterAll(() => node.worker?.stop());

  it('carries a ping with one TTL taken, and answers ARP with the gateway’s MAC', async () => {
    const out = await ping(a, '10.65.0.3', '-c3', '-i0.01', '-W5');
    expect(out).toContain('3 received');
    expect(out).toContain('ttl=63');
    const neighbours = ip(a, 'neigh', 'show', '169.254.1.1').toString();
    expect(neighbours).toContain('ee:ee:ee:ee:ee:ee');
    expect(node.logs).toEqual([]);
  });

  it('keeps the account', async () => {
    await ping(a, '10.65.0.3', '-c20', '-i0.002', '-W5');
    await ping(a, '10.65.9.9', '-c1', '-W5').catch(() => undefined);
    // A command is carried out between bursts: behind it, all that was received is accounted for.
    await node.worker.send({ type: 'trace', filter: null });
    for (const port of [POD_A, POD_B]) {
      const { totals, drops } = node.counters(port);
      const dropped = drops.reduce((sum, drop) => sum + drop.packets, 0);
      expect(totals.rxFrames).toBe(totals.delivered + totals.consumed + dropped);
      expect(totals.txFrames).toBeGreaterThan(20);
    }
    expect(node.counters(POD_A).drops.map((drop) => drop.reason)).toContain('no_route');
  });

  it('hands traces over', async () => {
    await node.worker.send({ type: 'trace', filter: { program: hostFilter4('10.65.0.3'), count: 2 } });
    await ping(a, '10.65.0.3', '-c2', '-i0.01', '-W5');
    await node.worker.send({ type: 'trace', filter: null });
    expect(node.traces.length).toBe(2);
  });

  it('does not forward to a port that was detached', async () => {
    await node.worker.send({ type: 'detach', port: POD_B });
    const before = node.counters(POD_A).totals.delivered;
    await ping(a, '10.65.0.3', '-c1', '-W1').catch(() => undefined);
    expect(node.counters(POD_A).totals.delivered).toBe(before);
    await node.attach(POD_B, 'pod', tapB.fds, MAC_B, '10.65.0.3');
    expect(await ping(a, '10.65.0.3', '-c1', '-W5')).toContain('1 received');
  });

  it('sleeps when there is nothing to do', () => expectSleep(node.worker));

  it('refuses a port that it cannot watch, and says which', async () => {
    await expect(node.attach(9, 'pod', [9999], MAC_A, '10.65.0.9')).rejects.toThrow(
      'worker 0: epoll_ctl descriptor 9999: EBADF, the descriptor is not open',
    );
    await expect(node.attach(9, 'vxlan', [1, 2, 3, 4])).rejects.toThrow('power of two of senders, not 3');
  });

  it('logs a device that vanished, gives up its port and serves the others', async () => {
    const c = namespace('c');
    const tapC = openPod(c, '10.65.0.4', mac('02:00:00:00:00:0c'));
    await node.attach(3, 'pod', tapC.fds, mac('02:00:00:00:00:0c'), '10.65.0.4');
    const logged = node.logs.length;
    ip(c, 'link', 'del', 'eth0');
    while (node.logs.length === logged) await node.worker.send({ type: 'trace', filter: null });
    expect(node.logs.slice(logged)).toEqual([
      expect.stringContaining('worker 0, port pod3: no longer receiving: read descriptor'),
    ]);
    expect(await ping(a, '10.65.0.3', '-c1', '-W5')).toContain('1 received');
    expect((await node.worker.stats()).ports).toBe(2);
    await expectSleep(node.worker);
    await node.worker.send({ type: 'detach', port: 3 });
    native().close(tapC.fds[0]);
  });
});

describe.skipIf(!isRoot)('two workers', () => {
  it('each receive from their own ports and transmit to all', async () => {
    const node = new TestNode();
    const hosts = ['10.65.0.2', '10.65.0.3'];
    const names = hosts.map((_, index) => namespace(`w${index}`));
    const taps = names.map((name, index) => openPod(name, hosts[index], MAC_A));
    await node.start(ip4('192.0.2.1'), MAC_B);
    const second = await spawnWorker({ index: 1, tables: node.tables });
    for (const [index, tap] of taps.entries()) {
      node.route(hosts[index], 32, { kind: adj.POD, port: index + 1, dmac: MAC_A, mtu: 1450 });
      const port = node.spec(index + 1, 'pod', tap.fds, MAC_A, hosts[index], [index]);
      await Promise.all([node.worker, second].map((worker) => worker.send({ type: 'attach', port })));
    }
    expect(await ping(names[0], hosts[1], '-c5', '-i0.01', '-W5')).toContain('5 received');
    const frames = await Promise.all(
      [node.worker, second].map(async (worker) => (await worker.stats()).frames),
    );
    expect(Math.min(...frames)).toBeGreaterThanOrEqual(5);
    await Promise.all([node.worker.stop(), second.stop()]);
  });
});

describe.skipIf(!isRoot)('two nodes', () => {
  const nodes = [new TestNode(), new TestNode()];
  const pods: string[] = [];
  const underlays: string[] = [];
  const addresses = ['192.0.2.1', '192.0.2.2'];
  const podAddresses = ['10.65.0.2', '10.65.1.2'];
  const vteps = [mac('66:00:00:00:00:01'), mac('66:00:00:00:00:02')];

  beforeAll(async () => {
    for (const index of [0, 1]) underlays.push(namespace(`n${index}`));
    ip(underlays[0], 'link', 'add', 'u0', 'type', 'veth', 'peer', 'name', 'u0', 'netns', underlays[1]);
    for (const [index, node] of nodes.entries()) {
      const netns = underlays[index];
      ip(netns, 'addr', 'add', `${addresses[index]}/24`, 'dev', 'u0');
      ip(netns, 'link', 'set', 'u0', 'up');
      const pod = namespace(`p${index}`);
      pods.push(pod);
      const tap = openPod(pod, podAddresses[index], MAC_A);
      const address = ip4(addresses[index]);
      const common = { netns, address, bufferBytes: 1 << 20 };
      await node.start(address, vteps[index]);
      await node.attach(POD_A, 'pod', tap.fds, MAC_A, podAddresses[index]);
      await node.attach(VXLAN, 'vxlan', openVxlanSockets(native(), { ...common, senders: 4 }));
      await node.attach(IPIP, 'ipip', openIpipSockets(native(), common));
      node.peers.add(ip4(addresses[1 - index]));
      node.route(podAddresses[index], 32, { kind: adj.POD, port: POD_A, dmac: MAC_A, mtu: 1450 });
    }
  });
  // A carrier that has just come is noticed when the kernel comes to it.
  beforeAll(async () => {
    let answer = '';
    while (!answer.includes('1 received'))
      answer = await ping(underlays[0], addresses[1], '-c1', '-W1').catch(() => '');
  });
  afterAll(() => Promise.all(nodes.map((node) => node.worker?.stop())));

  const routeBy = (kind: number, port: number, mtu: number) => {
    for (const [index, node] of nodes.entries()) {
      node.route(podAddresses[1 - index], 32, {
        kind,
        port,
        mtu,
        nextHop: ip4(addresses[1 - index]),
        source: ip4(addresses[index]),
        dmac: vteps[1 - index],
        smac: vteps[index],
        vni: 4096,
      });
    }
  };

  it.each([
    ['VXLAN', adj.VXLAN, VXLAN, 1450],
    ['IPIP', adj.IPIP, IPIP, 1480],
  ])('carry pings over %s, small and as large as the MTU', async (_, kind, port, mtu) => {
    routeBy(kind, port, mtu);
    for (const size of [56, 1450 - 28]) {
      const out = await ping(pods[0], podAddresses[1], '-c3', '-i0.01', '-W5', '-Mdo', `-s${size}`);
      expect(out).toContain('3 received');
      expect(out).toContain('ttl=62');
    }
    for (const node of nodes) {
      await node.worker.stats();
      const { totals, drops } = node.counters(port);
      expect(totals.txFrames).toBe(6);
      expect(totals.rxFrames).toBe(6);
      expect(totals.delivered).toBe(6);
      expect(drops).toEqual([]);
      expect(node.logs).toEqual([]);
    }
  });

  it('copy DSCP and ECN to the outer header and hand the outer TOS over', async () => {
    routeBy(adj.VXLAN, VXLAN, 1450);
    const seen = run('ip', [
      ...['netns', 'exec', underlays[1], 'timeout', '20'],
      // Not tcpdump: it insists on leaving root, which a user namespace forbids.
      ...['tshark', '-ni', 'u0', '-c1', '-f', 'udp dst port 4789 and ip[1] = 0xb9'],
      ...['-T', 'fields', '-E', 'occurrence=f', '-e', 'ip.dsfield'],
    ]);
    // Until it listens and has seen one.
    let done = false;
    const finished = seen.finally(() => {
      done = true;
    });
    while (!done) await ping(pods[0], podAddresses[1], '-c1', '-W5', '-Q0xb9');
    expect((await finished).stdout).toContain('0xb9');
  });

  it('count what the underlay refuses', async () => {
    routeBy(adj.VXLAN, VXLAN, 1450);
    ip(underlays[0], 'route', 'add', 'unreachable', '192.0.2.2/32');
    await ping(pods[0], podAddresses[1], '-c1', '-W1').catch(() => undefined);
    await nodes[0].worker.stats();
    const failed = nodes[0].counters(POD_A).drops.find((drop) => drop.reason === 'tx_failed');
    expect(failed?.packets).toBe(1);
    expect(nodes[0].logs).toEqual(['worker 0, port vxlan4: sending fails: EHOSTUNREACH']);
  });
});

describe('the bundled packet path', () => {
  it('leads back to its sources in a stack', () => {
    const built = new URL('../dist/dataplane/pipeline.js', import.meta.url).href;
    const script = `import(${JSON.stringify(built)}).then(({ Pipeline }) => new Pipeline({}))`;
    const { stderr } = spawnSync(process.execPath, ['--enable-source-maps', '-e', script], {
      encoding: 'utf8',
    });
    expect(stderr).toMatch(/at new Pipeline \(.*dataplane\/pipeline\.ts:\d+:\d+\)/);
    expect(stderr).not.toContain('pipeline.js:');
  });
});

describe('a worker’s end', () => {
  it('comes out of its sleep, on stop as on terminate', async () => {
    for (const end of ['stop', 'terminate'] as const) {
      const node = new TestNode();
      await node.start(1, MAC_A);
      await node.worker[end]();
      await expect(node.worker.send({ type: 'trace', filter: null })).rejects.toThrow('has ended');
      await node.worker[end]();
    }
  });

  it.each([
    ['process.exit(3)', 3],
    ['throw new Error("meant")', 1],
  ])('does not keep the process from ending by %s', async (end, status) => {
    const built = (file: string) => new URL(`../dist/dataplane/${file}`, import.meta.url).href;
    const script = `(async () => {
      const { spawnWorker } = await import(${JSON.stringify(built('spawn.js'))});
      const { Scenario } = await import(${JSON.stringify(built('scenario.js'))});
      const { tables } = new Scenario();
      for (const index of [0, 1]) await (await spawnWorker({ index, tables })).stats();
      console.log('both asleep');
      ${end};
    })()`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    expect(String((await once(child.stdout, 'data'))[0])).toBe('both asleep\n');
    expect((await once(child, 'exit'))[0]).toBe(status);
  });
});
