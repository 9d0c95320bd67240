import { spawn } from 'node:child_process';
import { afterEach, expect, it } from 'vitest';
import { native as load } from '../../dataplane/native/index.ts';
import { DescriptorStore, type Holder } from '../agent/store.ts';
import { until } from '../bgp/until.ts';
import { findKeepers, listNamespaces, locksSeenBy } from '../kernel/scan.ts';
import { KeeperClient, startKeeper } from './client.ts';
import { KEEPER_PREFIX } from './protocol.ts';

const native = load();
const node = `test${process.pid}`;
const pidOf = () => findKeepers(listNamespaces().slice(0, 1)).find((keeper) => keeper.node === node)?.pid;
const hasAddress = () => locksSeenBy(process.pid, KEEPER_PREFIX).some((keeper) => keeper.node === node);

afterEach(async () => {
  const pid = pidOf();
  if (pid !== undefined) process.kill(pid, 'SIGKILL');
  // Its address outlives its process by a moment, in which the next would still find it.
  await until('the keeper is gone', async () => !hasAddress());
});

/** Whether two descriptors are of one eventfd: what one signals the other sees. */
function isSame(one: number, other: number): boolean {
  const epoll = native.epollCreate();
  native.epollAdd(epoll, other, 1);
  native.eventfdDrain(other);
  native.eventfdSignal(one);
  const seen = native.epollWait(epoll, new Int32Array(1), 0) === 1;
  native.close(epoll);
  return seen;
}

it('keeps descriptors by name for whoever comes next, until it is told to forget them', async () => {
  const first = await startKeeper(node);
  const events = [native.eventfdCreate(), native.eventfdCreate()];
  first.keep('a/x/0/1', events[0]!);
  first.keep('b/x/0/1', events[0]!);
  first.keep('b/x/0/1', events[1]!);
  first.keep('c/x/0/1', events[1]!);
  first.forget('c/x/0/1');
  first.forget('never there');
  first.close();
  const second = await startKeeper(node);
  const taken = second.take();
  expect(taken.map(({ name }) => name)).toEqual(['a/x/0/1', 'b/x/0/1']);
  expect(taken.map(({ fd }, index) => isSame(events[index]!, fd))).toEqual([true, true]);
  expect(isSame(events[0]!, taken[1]!.fd)).toBe(false);
  // Taken is not gone: the next may die as well.
  expect(second.take()).toHaveLength(2);
  second.close();
});

it('outlives who started it, and lets go of one that ends without a word', async () => {
  const script = `(async () => {
    const { startKeeper } = await import(${JSON.stringify(new URL('../../dist/control/keeper/client.js', import.meta.url).href)});
    const { native } = await import(${JSON.stringify(new URL('../../dist/dataplane/native/index.js', import.meta.url).href)});
    (await startKeeper(${JSON.stringify(node)})).keep('a/x/0/1', native().eventfdCreate());
    process.kill(process.pid, 'SIGKILL');
  })()`;
  const child = spawn(process.execPath, ['-e', script], { stdio: 'inherit' });
  await new Promise((resolve) => child.once('exit', resolve));
  const client = new KeeperClient(node);
  expect(client.take().map(({ name }) => name)).toEqual(['a/x/0/1']);
  client.close();
});

it('says what is wrong when the keeper goes, and a store finds another and gives it all', async () => {
  const fd = native.eventfdCreate();
  const store = new DescriptorStore('keeper', () => startKeeper(node), native.close);
  await store.start();
  store.keep('calia', 'tap.1', [fd]);
  process.kill(pidOf()!, 'SIGKILL');
  await until('the keeper is gone', async () => !hasAddress());
  store.keep('calib', 'tap.2', [fd]);
  expect(store.problem).toMatch(/^no descriptor would outlive this agent: /);
  expect(store.size).toBe(0);
  await store.check();
  expect(store).toMatchObject({ problem: null, size: 2 });
  const next = new KeeperClient(node);
  expect(next.take().map(({ name }) => name)).toEqual(['calia/tap.1/0/1', 'calib/tap.2/0/1']);
  next.close();
});

it('hands over what was opened alike, whole, and gives up the rest', async () => {
  const held = new Map<string, number>();
  const closed: number[] = [];
  const holder: Holder = {
    take: () => [...held].map(([name, fd]) => ({ name, fd })),
    keep: (name, fd) => void held.set(name, fd),
    forget: (name) => void held.delete(name),
  };
  const open = () =>
    new DescriptorStore(
      'keeper',
      async () => holder,
      (fd) => closed.push(fd),
    );
  const before = open();
  await before.start();
  before.keep('cali a', 'tap.7', [10, 11]);
  before.keep('vxlan', 'vxlan.1', [12, 13]);
  before.keep('gone', 'tap.8', [14]);
  held.set('half/tap.9/1/2', 15);
  held.set('nonsense', 16);
  const after = open();
  await after.start();
  expect(closed.splice(0).sort()).toEqual([15, 16]);
  expect(after.claim('cali a', (key, count) => key === 'tap.7' && count === 2)).toEqual({
    key: 'tap.7',
    fds: [10, 11],
  });
  expect(after.claim('cali a', () => true)).toBeNull();
  // Sockets of another address would be in the way of those that take their place.
  expect(after.claim('vxlan', (key) => key === 'vxlan.2')).toBeNull();
  expect(closed.splice(0)).toEqual([12, 13]);
  after.discard();
  expect(closed).toEqual([14]);
  expect([...held.keys()]).toEqual(['cali%20a/tap.7/0/2', 'cali%20a/tap.7/1/2']);
  expect(after).toMatchObject({ inherited: 2, size: 2 });
});
