/** Nodes that are not tortie: the kernel's VXLAN device, and Linux's IPIP device in a user-mode kernel. */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import { expectBalanced } from './account.ts';
import { Cluster } from './cluster.ts';
import { kernelVxlanNode, UmlIpipNode } from './foreign.ts';
import { noLab } from './in-lab.ts';
import { type IperfReport, ping, tcp, tcpTo } from './traffic.ts';

/** Of the twenty that iperf3 sends, what surely has arrived when it stops counting. */
const MEGABYTES = 2 * 1024 * 1024;

describe.skipIf(noLab)('a node whose VXLAN is the kernel’s', () => {
  let cluster: Cluster;
  let far: { pod: string; address: string };
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 1, bgp: 'none', mode: 'vxlan', foreign: [2] });
    far = await kernelVxlanNode(cluster, 2, 1);
    await cluster.routed('vxlan');
  });
  afterAll(() => cluster?.close());

  it('is pinged with TTL 62, and pings', async () => {
    const out = await ping(cluster.lab, 'pod1a', far.address);
    expect(out).toMatchObject({ received: out.sent, ttl: 62 });
    const back = await ping(cluster.lab, far.pod, cluster.pod('pod1a').address);
    expect(back).toMatchObject({ received: back.sent, ttl: 62 });
  });

  it('takes and sends TCP', async () => {
    const pod = cluster.pod('pod1a');
    expect(await tcp(cluster.lab, 'pod1a', far.pod, far.address)).toBeGreaterThan(MEGABYTES);
    expect(await tcp(cluster.lab, far.pod, 'pod1a', pod.address)).toBeGreaterThan(MEGABYTES);
  });

  it('takes packets of exactly the MTU, and no more with DF', async () => {
    const full = await ping(cluster.lab, 'pod1a', far.address, ['-M', 'do', '-s', String(1450 - 28)]);
    expect(full.received).toBe(full.sent);
    const more = await ping(cluster.lab, 'pod1a', far.address, ['-M', 'do', '-s', String(1451 - 28)]);
    expect(more.received).toBe(0);
  });

  it('leaves an account that adds up', () => expectBalanced(cluster, 1));
});

const noUml = existsSync('/usr/bin/linux.uml')
  ? null
  : 'user-mode-linux is not installed (scripts/setup --for test)';
if (!noLab && noUml) console.log(`skipped: IPIP with real Linux (${noUml})`);

describe.skipIf(noLab ?? noUml)('a node whose IPIP is Linux’s', () => {
  let cluster: Cluster;
  let uml: UmlIpipNode;
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 3, podsPerNode: 1, bgp: 'none', mode: 'ipip', foreign: [2, 3] });
    uml = await UmlIpipNode.start(cluster, 3, 1);
  });
  afterAll(async () => {
    await uml?.stop();
    await cluster?.close();
  });

  it('is pinged', async () => {
    // The far end of the tunnel itself answers: its 64 loses one here.
    const out = await ping(cluster.lab, 'pod1a', uml.address);
    expect(out).toMatchObject({ received: out.sent, ttl: 63 });
  });

  it('takes TCP', async () => {
    const server = uml.spawn(`iperf3 -s -1 -B ${uml.address}`);
    expect(await tcpTo(cluster.lab, 'pod1a', uml.address, ['-n', '8M'])).toBeGreaterThan(MEGABYTES);
    await server.all();
  });

  it('sends TCP', async () => {
    const { lab } = cluster;
    const report = lab.run('pod1a', 'iperf3', ['-s', '-1', '-p', '5202', '-J']);
    await until('a server listens', async () =>
      (await lab.run('pod1a', 'ss', ['-Hltn', 'sport = 5202'])).includes('5202'),
    );
    const to = cluster.pod('pod1a').address;
    await uml.run(`iperf3 -c ${to} -p 5202 -B ${uml.address} -n 4M >/dev/null`);
    const { end } = JSON.parse(await report) as IperfReport;
    expect(end.sum_received?.bytes).toBeGreaterThan(MEGABYTES);
  });

  it('leaves an account that adds up', () => expectBalanced(cluster, 1));
});
