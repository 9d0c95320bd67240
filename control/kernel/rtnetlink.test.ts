/** Against iproute2: the same commands in two namespaces. Needs root for them; without root it says so and skips. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native as load } from '../../dataplane/native/index.ts';
import { IPV4, IPV6, parsePrefix } from '../bgp/family.ts';
import { ipApply } from './iproute.ts';
import { readNamespace, readRoutes6 } from './netlink.ts';
import { aimRoute, applyInPod, encodeRoute, type FormHop, type RouteAction } from './rtnetlink.ts';

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

  it.each([
    [IPV4, '10.66.0.0/26', '10.1.2.2', '10.1.2.3'],
    [IPV6, 'fd66::/64', 'fd00:1::2', 'fd00:1::3'],
  ] as const)(
    'has routes of %s with several next hops, and loses them whole',
    async (family, to, near, far) => {
      expect(
        await ipApply(ours, [
          'link add v0 type veth peer name v1',
          'link set v0 up',
          'link set v1 up',
          'addr add 10.1.2.1/24 dev v0',
          'addr add fd00:1::1/64 dev v0 nodad',
        ]),
      ).toEqual([]);
      const [index, tap] = ['v0', 't0'].map((device) => indexOf(ours)(device)!) as [number, number];
      const tell = (action: RouteAction, ...hops: FormHop[]) => {
        const request = encodeRoute(action, family, { hops, source: null }, 85);
        aimRoute(new DataView(request.buffer, request.byteOffset), 0, parsePrefix(to));
        const errors = new Int32Array(1);
        load().netlinkChange(ours, request, errors);
        expect(errors[0]).toBe(0);
      };
      const told = () => {
        const all = family === IPV4 ? readNamespace(ours, 85).routes : readRoutes6(ours, 85);
        return all.map(({ dst, gateway, dev, nexthops }) => ({ dst, gateway, dev, nexthops }));
      };
      const one = { gateway: near, index, weight: 1 };
      const two = { gateway: far, index, weight: 2 };
      const three = { gateway: null, index: tap, weight: 1 };
      tell('add', one, two);
      expect(told()).toEqual([
        {
          dst: to,
          nexthops: [
            { gateway: near, dev: 'v0', weight: 1 },
            { gateway: far, dev: 'v0', weight: 2 },
          ],
        },
      ]);
      // Of IPv6 the kernel takes no device among several.
      if (family === IPV4) {
        tell('replace', three, one);
        const hops = told()[0]!.nexthops!.map(({ gateway, dev }) => `${gateway} ${dev}`);
        expect(hops.sort()).toEqual([`${near} v0`, 'undefined t0'].sort());
      }
      tell('replace', two);
      expect(told()).toEqual([{ dst: to, gateway: far, dev: 'v0' }]);
      tell('replace', one, two);
      expect(told()[0]!.nexthops).toHaveLength(2);
      tell('del', three, two);
      expect(told()).toEqual([]);
      await ipApply(ours, ['link del v0']);
    },
  );
});
