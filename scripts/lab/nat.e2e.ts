/** Address translation on the host's side, and who sees whom with which address. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import { NAT_TABLE } from '../../control/kernel/nat.ts';
import { noLab } from './in-lab.ts';
import { Site, type SitePod, UNDERLAY, UNDERLAY_ADDRESS } from './site.ts';
import { ping, wire } from './traffic.ts';

const PORT = 80;
const NODE_PORT = 8080;
const OUTSIDE = '198.51.100.1';
const POOL = 'pods';

/** Says who has called, for as long as the lab stands. */
const SERVER = `
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('', ${PORT})); s.listen(16); print('listening', flush=True)
while True:
    c, (host, _) = s.accept()
    c.sendall(host.encode()); c.close()
`;
const CLIENT = `
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
print(c.recv(100).decode())
`;

describe.skipIf(noLab)('translation', () => {
  let site: Site;
  let one: SitePod;
  let beside: SitePod;
  let two: SitePod;
  const setPool = (spec: Record<string, unknown>) =>
    site.apply({ kind: 'IPPool', metadata: { name: POOL }, spec: { cidr: '10.65.0.0/16', ...spec } });
  beforeAll(async () => {
    site = await Site.create({ nodes: 2 });
    await site.lab.ip(UNDERLAY, `addr add ${OUTSIDE}/32 dev lo`);
    await setPool({ vxlanMode: 'Always', natOutgoing: true });
    one = await site.addPod('one', 1);
    beside = await site.addPod('beside', 1);
    two = await site.addPod('two', 2);
    for (const netns of ['one', 'beside', 'two', UNDERLAY]) {
      await site.lab.start(netns, 'python3', ['-c', SERVER]);
    }
    await site.routed(1, two.address, 'vxlan');
    await site.routed(2, one.address, 'vxlan');
  });
  afterAll(() => site?.close());

  /** The address that a server sees of who calls it. */
  const seenBy = async (client: string, address: string, port = PORT) =>
    (await site.lab.run(client, 'python3', ['-c', CLIENT, address, String(port)])).trim();
  /** As somebody's rules for a hostPort or a service have it. */
  const forward = (to: string) =>
    site.lab.run('node1', 'nft', [
      `add table ip ports; delete table ip ports; table ip ports { chain in { type nat hook prerouting priority dstnat; ip daddr 192.0.2.1 tcp dport ${NODE_PORT} dnat to ${to}:${PORT}; }; }`,
    ]);
  const table = () => site.lab.run('node1', 'nft', ['list', 'table', 'inet', NAT_TABLE]);

  it('hides pods from the world behind their node, and not from each other', async () => {
    expect(await seenBy('one', OUTSIDE)).toBe('192.0.2.1');
    expect(await seenBy('two', OUTSIDE)).toBe('192.0.2.2');
    expect(await seenBy('one', two.address)).toBe(one.address);
    expect(await seenBy('one', beside.address)).toBe(one.address);
  });

  it.each([
    ['vxlan', { vxlanMode: 'Always' }],
    ['ipip', { ipipMode: 'Always' }],
    ['direct', {}],
  ])('turns what a pod sends to a port of its node, and lets probes through, by %s', async (via, modes) => {
    await setPool({ ...modes, natOutgoing: true });
    await site.routed(1, two.address, via);
    await site.routed(2, one.address, via);
    // What the node translates goes through its kernel, whose routes follow behind the tables.
    for (const [node, far] of [
      ['node1', two.address],
      ['node2', one.address],
    ] as const) {
      const way = via === 'direct' ? 'via 192.0.2.' : 'dev tortie0';
      await until(`${node} knows the way`, async () =>
        (await site.lab.run(node, 'ip', ['route', 'get', far])).includes(way),
      );
    }
    for (const target of [one, beside, two]) {
      await forward(target.address);
      // Who answers sees somebody of node 1, and the answer finds its way.
      expect(await seenBy('one', '192.0.2.1', NODE_PORT), `to ${target.name}`).not.toBe('');
    }
    await forward(beside.address);
    expect(await seenBy(UNDERLAY, '192.0.2.1', NODE_PORT)).toBe(UNDERLAY_ADDRESS);
    for (const pod of [one, beside, two]) expect(await seenBy('node1', pod.address)).not.toBe('');
    expect(await seenBy('one', two.address)).toBe(one.address);
    expect(await seenBy('one', OUTSIDE)).toBe('192.0.2.1');
  });

  it('ends with the pool’s wish for it', async () => {
    await setPool({ vxlanMode: 'Always', natOutgoing: false });
    await until('the rule is gone', async () => !(await table()).includes('leaving4'));
    const seen = await wire(site.lab, UNDERLAY, 'node1', `icmp and dst ${OUTSIDE}`, () =>
      ping(site.lab, 'one', OUTSIDE, ['-c', '1', '-W', '1']),
    );
    expect(seen).toContain(`${one.address} > ${OUTSIDE}`);
  });

  it('is put right again when somebody spoils it, and goes with a purge', async () => {
    await site.lab.run('node1', 'nft', ['flush', 'table', 'inet', NAT_TABLE]);
    site.agents.get(1)!.signal('SIGHUP');
    await until('the rules are back', async () => (await table()).includes('masquerade'));
    const said = await site.tortie(1, 'purge', '--node', 'node1');
    expect(said).toContain(`removed table inet ${NAT_TABLE}`);
    await expect(table()).rejects.toThrow('No such file or directory');
  });
});
