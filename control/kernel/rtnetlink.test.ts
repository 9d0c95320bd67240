/** Against iproute2: the same commands in two namespaces. Needs root for them; without root it says so and skips. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ipApply } from './iproute.ts';
import { readNamespace, readRoutes6 } from './netlink.ts';
import { applyInPod } from './rtnetlink.ts';

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log('rtnetlink.test.ts: skipped, making namespaces needs root');
const [ours, theirs] = [`ttr${process.pid}a`, `ttr${process.pid}b`];

const COMMANDS = [
  'link set dev lo up',
  'link set dev t0 alias tortie:n1:1:pod:calia',
  'link set dev t0 mtu 1450',
  'link set dev t0 txqueuelen 8192',
  'link set dev t0 address 02:00:00:00:00:0a',
  'link set dev t0 addrgenmode eui64',
  'link set dev t0 up',
  'link set dev t1 addrgenmode none',
  'link set dev t1 up',
  'addr add 10.65.0.2/32 dev t0',
  'addr add 10.65.0.3/32 dev t0',
  'addr del 10.65.0.3/32 dev t0',
  'addr add fd65::2/128 dev t0 nodad',
  'addr add fd65::3/128 dev t0 nodad',
  'addr del fd65::3/128 dev t0',
  'route add 169.254.1.1 dev t0 scope link',
  'route add default via 169.254.1.1 dev t0',
  'route add default via fe80::ecee:eeff:feee:eeee dev t0',
  'route add 169.254.1.1 dev t1 scope link metric 2055',
  'route add default via 169.254.1.1 dev t1 metric 2055',
];

describe.skipIf(!isRoot)('a pod’s namespace', () => {
  beforeAll(async () => {
    for (const netns of [ours, theirs]) {
      execFileSync('ip', ['netns', 'add', netns]);
      await ipApply(netns, ['tuntap add t0 mode tap', 'tuntap add t1 mode tap']);
    }
  });
  afterAll(() => {
    for (const netns of [ours, theirs]) execFileSync('ip', ['netns', 'del', netns]);
  });

  const indexOf = (netns: string) => (device: string) =>
    readNamespace(netns).links.find(({ ifname }) => ifname === device)?.ifindex;
  const stateOf = (netns: string) => {
    const { links, routes } = readNamespace(netns);
    // The kernel tells of a carrier that is missing when it comes to it.
    const settled = links.map((link) => ({
      ...link,
      flags: link.flags.filter((flag) => flag !== 'RUNNING'),
    }));
    return JSON.stringify({ links: settled, routes, six: readRoutes6(netns) });
  };

  it('becomes what iproute2 makes of the same commands', async () => {
    expect(await applyInPod(ours, COMMANDS, indexOf(ours))).toEqual([]);
    expect(await ipApply(theirs, COMMANDS)).toEqual([]);
    const { links } = readNamespace(theirs);
    // A device's first MAC is chance.
    const mac = links.find(({ ifname }) => ifname === 't1')!.address!;
    await ipApply(ours, [`link set dev t1 address ${mac}`]);
    expect(stateOf(ours)).toBe(stateOf(theirs));
    expect(JSON.parse(stateOf(ours)).routes).toHaveLength(4);
  });

  it('goes on past what fails, and says which', async () => {
    const commands = ['addr add 10.65.0.2/32 dev t0', 'addr add 10.65.0.9/32 dev t0'];
    expect(await applyInPod(ours, commands, indexOf(ours))).toEqual([
      { command: commands[0], message: 'RTNETLINK answers: EEXIST' },
    ]);
    expect(stateOf(ours)).toContain('10.65.0.9');
  });

  it('leaves to iproute2 what it does not understand', async () => {
    const commands = ['addr add 10.65.0.10/32 dev t0', 'route add blackhole 10.67.0.0/26'];
    expect(await applyInPod(ours, commands, indexOf(ours))).toEqual([]);
    expect(stateOf(ours)).toContain('10.67.0.0/26');
    await expect(applyInPod('nowhere-at-all', [COMMANDS[0]!], () => 1)).rejects.toThrow('nowhere-at-all');
  });
});
