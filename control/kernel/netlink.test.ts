/** Against iproute2, which asks the same kernel. Needs root for a namespace; without root it says so and skips. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ipApply, type Link, type Route } from './iproute.ts';
import { reach, readNamespace, readRoutes6 } from './netlink.ts';

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log('netlink.test.ts: skipped, making namespaces needs root');
const netns = `ttn${process.pid}`;
/** What iproute2 says of it. */
const told = (...command: string[]): unknown =>
  JSON.parse(
    execFileSync('ip', ['-n', netns, '-json', '-details', '-Numeric', ...command], { encoding: 'utf8' }),
  );

describe.skipIf(!isRoot)('a namespace', () => {
  beforeAll(async () => {
    execFileSync('ip', ['netns', 'add', netns]);
    const failures = await ipApply(netns, [
      'link set lo up',
      'tuntap add t0 mode tap',
      'tuntap add t1 mode tap multi_queue',
      'link set t0 alias tortie:n1:1:pod:calia mtu 1450 txqueuelen 8192 address 02:00:00:00:00:0a up',
      'link add v0 type veth peer name v1',
      'link set v0 up',
      'link set v1 up',
      'addr add 10.65.0.2/32 dev t0',
      'addr add 10.1.2.3 peer 10.1.2.4/30 dev v0',
      'addr add fd00:0:0:1::5/64 dev v0 nodad',
      'route add 169.254.1.1 dev t0 scope link',
      'route add default via 169.254.1.1 dev t0',
      'route add 10.66.0.0/16 dev v0 src 10.1.2.3 proto 84 metric 5',
      'route add 10.66.1.1 dev v0 proto 84',
      'route add blackhole 10.67.0.0/26 proto 84',
      'route add 10.68.0.0/16 dev v0 table 300',
      'route add fd00:0:0:2::/64 via fd00:0:0:1::6 dev v0 proto 84',
      'route add fd00:0:0:3::7 dev v0 proto 84 metric 5',
      'route add default via fd00:0:0:1::6 dev v0',
      'route add blackhole fd00:0:0:4::/64 proto 84',
      'route add unreachable 10.69.0.0/16',
      'route add prohibit fd00:0:0:5::/64',
      'route add 10.70.0.0/16 via 10.1.2.4 dev v0 mtu 1300',
    ]);
    expect(failures).toEqual([]);
  });
  afterAll(() => execFileSync('ip', ['netns', 'del', netns]));

  it('is as iproute2 tells it', () => {
    const { links, routes } = readNamespace(netns);
    const pick = ({ ifindex, ifname, mtu, txqlen, address, ifalias, flags, addr_info, linkinfo }: Link) => ({
      ...{ ifindex, ifname, mtu, txqlen, address, ifalias },
      isUp: flags.includes('UP'),
      isLoopback: flags.includes('LOOPBACK'),
      addresses: addr_info.map(({ family, local, prefixlen, scope }) => ({
        ...{ family, local, prefixlen, scope },
      })),
      multiQueue: linkinfo?.info_data?.multi_queue,
    });
    expect(links).toHaveLength(5);
    expect(links.map(pick)).toEqual((told('addr', 'show') as Link[]).map(pick));
    const pickRoute = ({ type, dst, gateway, dev, protocol, prefsrc, metric }: Route) => ({
      ...{ type, dst, gateway, dev, protocol, prefsrc, metric },
    });
    const main = ['route', 'show', 'table', 'main'];
    expect(routes.map(pickRoute)).toEqual((told(...main) as Route[]).map(pickRoute));
    expect(routes).toHaveLength(8);
    const byText = (all: readonly Route[]) => all.map((route) => JSON.stringify(pickRoute(route))).sort();
    expect(byText(readRoutes6(netns))).toEqual(byText(told('-6', ...main) as Route[]));
  });

  it.each([
    ['10.1.2.4', '10.66.0.9', '10.66.1.1', '10.70.3.4', '198.51.100.1', '10.1.2.3', '127.0.0.1'],
    ['fd00:0:0:1::6', 'fd00:0:0:2::1', 'fd00:0:0:3::7', '2001:db8::1', 'fd00:0:0:1::5', '::1'],
  ])('reaches addresses as iproute2 says that it does: %s and others', (...addresses) => {
    const asTold = addresses.map((address) => {
      const [{ gateway = address, dev, metrics }] = told('route', 'get', address) as [
        Route & { metrics?: { mtu?: number }[] },
      ];
      const mtu = metrics?.find((metric) => metric.mtu !== undefined)?.mtu;
      return { gateway, dev, ...(mtu && { mtu }) };
    });
    expect(reach(netns, addresses)).toEqual(asTold);
    expect(reach(netns, ['10.70.3.4'])).toEqual([{ gateway: '10.1.2.4', dev: 'v0', mtu: 1300 }]);
  });

  it('says by its errno what it does not reach', () => {
    const dead = ['10.67.0.1', '10.69.0.1', 'fd00:0:0:4::1', 'fd00:0:0:5::1'];
    const refused = reach(netns, dead).map((route) => 'refused' in route && route.refused);
    expect(refused).toEqual(['EINVAL', 'EHOSTUNREACH', 'EINVAL', 'EACCES']);
  });

  it('that is not there is an error that names it', () => {
    expect(() => readNamespace('nowhere-at-all')).toThrow('/run/netns/nowhere-at-all');
  });
});
