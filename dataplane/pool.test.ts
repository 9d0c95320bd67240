/** Workers come, go and pass inputs on while packets flow. Needs root and the build; without root it says so and skips. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { cellsOf, RX_FRAMES } from './counters.ts';
import * as adj from './fib/adjacency.ts';
import { GracePeriods } from './memory/grace.ts';
import { BURST } from './memory/layout.ts';
import type { PortSpec } from './messages.ts';
import type { Tap } from './native/index.ts';
import { MAX_DEATHS, WorkerPool } from './pool.ts';
import { ip4, mac } from './scenario.ts';
import { isRoot, MAC_A, namespace, openPod, ping, removeNamespaces, TestNode } from './test-node.ts';

if (!isRoot) console.log('pool.test.ts: skipped, making TAPs and namespaces needs root');

const run = promisify(execFile);
const [A, B] = [1, 2];
const PINGS = 1500;
/** Let the event loop turn once. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

afterAll(removeNamespaces);

describe.skipIf(!isRoot)('a pool of workers', () => {
  const node = new TestNode();
  const logs: string[] = [];
  let gaveUp: Error | null = null;
  let pool: WorkerPool;
  let names: string[];
  let taps: Tap[];

  beforeAll(() => {
    names = ['a', 'b'].map(namespace);
    taps = names.map((name, index) => openPod(name, `10.65.0.${2 + index}`, MAC_A, 1 - index + 1));
    for (const [index, port] of [A, B].entries()) {
      node.route(`10.65.0.${2 + index}`, 32, { kind: adj.POD, port, dmac: MAC_A, mtu: 1450 });
    }
  });
  afterEach(() => pool.stop());

  /** Port A has two queues, port B one. */
  const spec = (id: number, readers: number[]): PortSpec =>
    node.spec(id, 'pod', taps[id - A].fds, MAC_A, `10.65.0.${id + 1}`, readers);

  async function start(): Promise<void> {
    gaveUp = null;
    logs.length = 0;
    pool = new WorkerPool({
      size: 2,
      tables: node.tables,
      onLog: (_, message) => logs.push(message),
      onGiveUp: (error) => {
        gaveUp = error;
      },
    });
    await pool.start();
    await pool.setNode({
      address: ip4('192.0.2.1'),
      local: [],
      vtepMac: mac('66:00:00:00:00:01'),
      vni: 1,
      icmpRate: 100,
    });
    await pool.attach(spec(A, [0, 1]));
    await pool.attach(spec(B, [1]));
  }

  /** A thousand pings a second, and what was done meanwhile, again and again. */
  async function pingWhile(action: () => Promise<void>): Promise<number[]> {
    let done = false;
    const pinging = ping(names[0], '10.65.0.3', `-c${PINGS}`, '-i0.001', '-W5').finally(() => {
      done = true;
    });
    while (!done) await action();
    return [...(await pinging).matchAll(/icmp_seq=(\d+)/g)].map(([, sequence]) => Number(sequence));
  }

  it('passes inputs from one worker to another, and no packet is lost or overtaken', async () => {
    await start();
    let moves = 0;
    const sequence = await pingWhile(async () => {
      moves++;
      await pool.attach(spec(A, moves % 2 ? [1, 0] : [0, 1]));
      await pool.attach(spec(B, moves % 2 ? [0] : [1]));
    });
    expect(sequence).toEqual(Array.from({ length: PINGS }, (_, index) => index + 1));
    expect(moves).toBeGreaterThan(10);
  });

  it('lets each worker read a queue of its own', async () => {
    await start();
    const counters = new Float64Array(node.tables.counters);
    const received = () => [0, 1].map((worker) => counters[cellsOf(worker, A) + RX_FRAMES]);
    const before = received();
    const flows = 'for i in $(seq 64); do echo x >/dev/udp/10.65.0.3/$((9000 + i)); done';
    await run('ip', ['netns', 'exec', names[0], 'bash', '-c', flows]);
    // A ping behind them: the queues have been read when it returns, but for what came in between.
    await ping(names[0], '10.65.0.3', '-c3', '-i0.01', '-W5');
    const after = received();
    for (const worker of [0, 1]) expect(after[worker] - before[worker]).toBeGreaterThan(8);
  });

  it('replaces a worker that dies, and its ports carry on', async () => {
    await start();
    const grace = new GracePeriods(node.tables.epochs);
    let killed = 0;
    const sequence = await pingWhile(async () => {
      const { handle, index } = pool.slots[killed % 2];
      if (!handle || killed === MAX_DEATHS - 1) return turn();
      killed++;
      await handle.terminate();
      // Whatever it was in the middle of: nobody waits for its quiet point.
      expect(pool.slots[index].handle).not.toBe(handle);
      let freed = false;
      grace.retire(() => {
        freed = true;
      });
      while (!freed) {
        await turn();
        grace.poll();
      }
    });
    expect(killed).toBe(MAX_DEATHS - 1);
    expect(PINGS - sequence.length).toBeLessThanOrEqual(killed * BURST);
    expect(await ping(names[0], '10.65.0.3', '-c3', '-i0.01', '-W5')).toContain('3 received');
    expect(pool.slots.map(({ deaths }) => deaths)).toEqual([2, 2]);
    expect(logs).toHaveLength(killed);
    expect(logs[0]).toBe('worker 0 ended; another takes its place');
    expect((await pool.stats()).map(({ stats }) => stats.ports)).toEqual([1, 2]);
    expect(gaveUp).toBeNull();
  });

  it('carries out commands while a worker is being replaced, and gives up when they die like flies', async () => {
    await start();
    for (let deaths = 1; deaths < MAX_DEATHS; deaths++) {
      const death = pool.slots[0].handle?.terminate();
      // Told to what is left, and to the next one when it comes.
      await pool.attach(spec(B, [deaths % 2]));
      await death;
      while (!pool.slots[0].handle) await turn();
    }
    expect(await ping(names[0], '10.65.0.3', '-c3', '-i0.01', '-W5')).toContain('3 received');
    expect(gaveUp).toBeNull();
    await pool.slots[1].handle?.terminate();
    expect(gaveUp).toEqual(new Error('worker 1 ended'));
    expect(pool.slots[1].handle).toBeNull();
  });
});
