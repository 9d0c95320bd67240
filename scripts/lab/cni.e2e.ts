import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import { judge } from '../cni/conformance.ts';
import { type Json, type PluginError, Plugins, parse } from '../cni/driver.ts';
import { addressIn, CniNode, NODE, NODE_ADDRESS } from '../cni/node.ts';
import { POINTS } from '../cni/points.ts';
import { noLab } from './in-lab.ts';

describe.skipIf(noLab)('tortie as a CNI plugin', () => {
  let node: CniNode;
  beforeAll(async () => {
    node = await CniNode.create();
  });
  afterAll(() => node?.close());

  const own = { type: 'tortie-cni', ipam: { type: 'tortie-ipam' } };
  const exec = (call: Json & { command: string }, more: Json = {}, plugins = node.plugins) =>
    plugins.exec('tortie-cni', call, node.conf(more));
  /** The error that a call is refused with. */
  const refused = async (call: Json & { command: string }, more: Json = {}, plugins = node.plugins) => {
    const { exit, stdout } = await exec(call, more, plugins);
    expect(exit).toBe(1);
    return parse(stdout)!;
  };

  it('passes the conformance kit', async () => {
    const plugin = join(node.binDir, 'tortie-cni');
    const judgements = await judge({ plugin, enter: node.plugins.enter });
    expect(judgements.filter(({ result }) => result !== 'pass')).toEqual([]);
    expect(judgements).toHaveLength(POINTS.length);
    const only = ['add-result', 'add-routes', 'check', 'del'];
    const old = await judge({ plugin, enter: node.plugins.enter, version: '0.4.0', only });
    expect(old.map(({ result }) => result)).toEqual(['pass', 'pass', 'pass', 'pass']);
    expect(await node.endpoints()).toEqual([]);
    expect(await node.handles()).toEqual([]);
  });

  it('attaches a pod of Kubernetes as Calico does', async () => {
    const args = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-5d;K8S_POD_INFRA_CONTAINER_ID=x';
    const bandwidth = { ingressRate: 8e6, ingressBurst: 1e6, egressRate: 4e6, egressBurst: 5e5 };
    const at = await node.container('web', { args, capabilities: { bandwidth } });
    const conf = { ...own, mtu: 1400, capabilities: { bandwidth: true }, policy: { type: 'k8s' } };
    const network = node.network([conf], { cniVersion: '1.1.0' });
    const result = await network.add(at);
    expect(result).toMatchObject({
      interfaces: [
        { name: 'cali14221fa1743', mac: 'ee:ee:ee:ee:ee:ee' },
        { name: 'eth0', mtu: 1400, sandbox: at.netns },
      ],
      ips: [{ address: expect.stringMatching(/^10\.65\.\d+\.\d+\/32$/), interface: 1 }],
      routes: [{ dst: '0.0.0.0/0', gw: '169.254.1.1' }],
    });
    const [endpoint] = await node.endpoints();
    expect(endpoint).toMatchObject({
      metadata: {
        name: 'node1-k8s-web--5d-eth0',
        namespace: 'shop',
        labels: { 'projectcalico.org/orchestrator': 'k8s' },
      },
      spec: {
        pod: 'web-5d',
        containerID: at.containerId,
        interfaceName: 'cali14221fa1743',
        profiles: ['kns.shop'],
        qosControls: {
          ingressBandwidth: 8e6,
          ingressBurst: 1e6,
          egressBandwidth: 4e6,
          egressBurst: 5e5,
        },
      },
    });
    await node.lab.reach(NODE, addressIn(result));
    expect(node.agent.output).toMatch(/"policy\\" is accepted and not enforced yet/);
    // A sandbox made anew: the pod's new container is there before the old one is deleted.
    const next = await node.container('web2', { args });
    const second = await network.add(next);
    expect(addressIn(second)).not.toBe(addressIn(result));
    await network.del(at);
    await network.check(next);
    expect((await node.endpoints()).map(({ spec }) => spec.containerID)).toEqual([next.containerId]);
    await network.del(next);
    expect(await node.endpoints()).toEqual([]);
  });

  it('keeps pods apart whose container ids begin alike, and gives an address and a MAC that are asked for', async () => {
    const network = node.network([own]);
    const one = await node.container('same', { containerId: 'container-id-1' });
    const mac = '02:00:00:00:00:aa';
    const more = { containerId: 'container-id-2', args: `IP=10.65.7.7;MAC=${mac}` };
    const other = await node.container('same2', more);
    const [first, second] = await Promise.all([network.add(one), network.add(other)]);
    expect(addressIn(second)).toBe('10.65.7.7');
    expect(second.interfaces).toMatchObject([{}, { mac }]);
    await node.lab.reach(NODE, addressIn(first));
    await node.lab.reach('same', '10.65.7.7');
    const third = await node.container('same3', { args: 'IP=10.65.7.7' });
    const error = (await network.add(third).catch((reason) => reason)) as PluginError;
    expect(error).toMatchObject({ code: 102, message: expect.stringMatching(/10\.65\.7\.7/) });
    for (const at of [one, other, third]) await network.del(at);
  });

  describe('with a pool of IPv6', () => {
    beforeAll(() => node.put('IPPool', 'pods6', { cidr: 'fd65::/48', vxlanMode: 'Always' }));

    it('gives addresses of both families', async () => {
      const ipam = { type: 'calico-ipam', assign_ipv4: 'true', assign_ipv6: 'true', ipv6_pools: ['pods6'] };
      const network = node.network([{ ...own, ipam }]);
      const [one, other] = [await node.container('dual'), await node.container('dual2')];
      const results = [await network.add(one), await network.add(other)];
      expect(results[0]).toMatchObject({
        ips: [
          { address: expect.stringMatching(/^10\.65\..*\/32$/), gateway: '169.254.1.1' },
          { address: expect.stringMatching(/^fd65:.*\/128$/), gateway: 'fe80::ecee:eeff:feee:eeee' },
        ],
        routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
      });
      const [, { address }] = results[1]!.ips as [unknown, { address: string }];
      await node.lab.reach('dual', address.split('/')[0]!);
      await network.check(one);
      await node.lab.ip('dual', '-6 route del default');
      const error = await network.check(one).catch((reason: PluginError) => reason);
      expect(error).toMatchObject({ code: 103, message: expect.stringMatching(/no route to ::\/0/) });
      await network.del(one);
      await network.del(other);
      expect(await node.handles()).toEqual([]);
    });

    it('gives an address of IPv6 alone, and no way out by IPv4', async () => {
      const ipam = { type: 'calico-ipam', assign_ipv4: 'false', assign_ipv6: 'true' };
      const network = node.network([{ ...own, ipam }]);
      const [one, other] = [await node.container('six'), await node.container('six2')];
      const results = [await network.add(one), await network.add(other)];
      expect(results[0]).toMatchObject({
        ips: [{ address: expect.stringMatching(/^fd65:.*\/128$/), gateway: 'fe80::ecee:eeff:feee:eeee' }],
        routes: [{ dst: '::/0', gw: 'fe80::ecee:eeff:feee:eeee' }],
      });
      expect([results[0]!.ips, results[0]!.routes]).toMatchObject([{ length: 1 }, { length: 1 }]);
      const routes = await node.lab.run('six', 'ip', ['-4', 'route']);
      expect(routes).toBe('');
      const [{ address }] = results[1]!.ips as [{ address: string }];
      await node.lab.reach('six', address.split('/')[0]!);
      await network.check(one);
      await network.del(one);
      await network.del(other);
      expect(await node.handles()).toEqual([]);
    });
  });

  it('takes everything back when the port does not come up', async () => {
    const at = await node.container('group', { args: 'MAC=01:00:5e:00:00:01' });
    const error = await refused({ command: 'ADD', ...at }, own);
    expect(error).toMatchObject({
      code: 105,
      msg: expect.stringMatching(/^port cali\w+ does not come up: /),
    });
    expect(await node.endpoints()).toEqual([]);
    expect(await node.handles()).toEqual([]);
    expect(await node.lab.run('group', 'ip', ['-o', 'link'])).not.toMatch(/eth0/);
  });

  it('refuses what it cannot do, and says what to do', async () => {
    const at = await node.container('refused');
    const add = { command: 'ADD', ...at };
    expect(await refused(add, { datastore_type: 'kubernetes' })).toMatchObject({
      code: 2,
      msg: 'datastore_type "kubernetes" is not supported',
      details: expect.stringMatching(/etcd/),
    });
    expect(await refused(add, { nodename: 'node9' })).toMatchObject({ code: 7 });
    expect(await refused(add, { ipam: { type: 'no-such-ipam' } })).toMatchObject({ code: 7 });
    expect(await refused(add, { ipam: { type: 'tortie-ipam', ipv4_pools: ['none'] } })).toMatchObject({
      code: 102,
    });
    expect(await refused({ ...add, netns: '/etc/passwd' })).toMatchObject({
      code: 4,
      msg: expect.stringMatching(/CNI_NETNS/),
    });
    expect(await refused({ ...add, netns: `/run/netns/${NODE}` })).toMatchObject({ code: 4 });
    const ipam = { type: 'tortie-ipam', ipv4_pools: ['none'] };
    expect(await refused({ command: 'STATUS' }, { ipam })).toMatchObject({ code: 50 });
    expect(await node.endpoints()).toEqual([]);
  });

  it('reaches a namespace that has no path here, by its descriptor, and the next agent does', async () => {
    const at = { ...(await node.container('hidden')), netns: '/run/private' };
    const script = 'touch /run/private; mount --bind /run/netns/hidden /run/private; exec "$0" "$@"';
    const enter = [...node.plugins.enter, 'unshare', '--mount', 'sh', '-c', script];
    const plugins = new Plugins(node.plugins.folders, { enter });
    const { exit, stdout } = await exec({ command: 'ADD', ...at }, own, plugins);
    expect({ exit, stdout }).toMatchObject({ exit: 0 });
    const result = parse(stdout)!;
    await node.lab.reach(NODE, addressIn(result));
    await node.agent.stop('SIGKILL');
    await node.start();
    await node.lab.reach(NODE, addressIn(result));
    const check = { command: 'CHECK', ...at };
    expect(await exec(check, { ...own, prevResult: result }, plugins)).toMatchObject({ exit: 0 });
    expect(await exec({ command: 'DEL', ...at }, own, plugins)).toMatchObject({ exit: 0 });
    expect(await node.lab.run('hidden', 'ip', ['-o', 'link'])).not.toMatch(/eth0/);
  });

  it('says when no address is left, and leaves nothing behind', async () => {
    await node.put('IPPool', 'small', { cidr: '10.99.0.0/30', blockSize: 30, assignmentMode: 'Manual' });
    const network = node.network([{ ...own, ipam: { type: 'tortie-ipam', ipv4_pools: ['small'] } }]);
    const all = await Promise.all(['s1', 's2', 's3', 's4'].map((name) => node.container(name)));
    const results = await Promise.all(all.map((at) => network.add(at)));
    expect(new Set(results.map(addressIn)).size).toBe(4);
    const late = await node.container('s5');
    const error = (await network.add(late).catch((reason) => reason)) as PluginError;
    expect(error).toMatchObject({ code: 102, message: expect.stringMatching(/no IPv4 address is left/) });
    expect(await node.endpoints()).toHaveLength(4);
    await Promise.all([...all, late].map((at) => network.del(at)));
    expect(await node.endpoints()).toEqual([]);
    expect(await node.handles()).toEqual([]);
  });

  it('delegates to another IPAM, and serves another plugin as one', async () => {
    const ipam = { type: 'host-local', subnet: '10.65.9.0/24', dataDir: join(node.lab.folder, 'ipam') };
    const network = node.network([{ type: 'tortie-cni', ipam }]);
    const at = await node.container('local');
    expect(addressIn(await network.add(at))).toBe('10.65.9.2');
    await network.check(at);
    await network.del(at);
    const bridge = node.network([{ type: 'bridge', ipam: { type: 'tortie-ipam' } }], { name: 'bridge' });
    const other = await node.container('veth');
    const prevResult = await bridge.add(other);
    expect(addressIn(prevResult)).toMatch(/^10\.65\./);
    // By itself: the CHECK of Debian's bridge wants a gateway.
    const checked = await node.plugins.exec(
      'tortie-ipam',
      { command: 'CHECK', ...other },
      node.conf({ name: 'bridge', ipam: { type: 'tortie-ipam' }, prevResult }),
    );
    expect(checked).toMatchObject({ exit: 0, stdout: '' });
    await bridge.del(other);
    expect(await node.handles()).toEqual([]);
  });

  it('takes a list of attachments that no datagram holds', async () => {
    const list = Array.from({ length: 5000 }, (_, index) => ({
      containerID: index.toString(16).padStart(64, '0'),
      ifname: 'eth0',
    }));
    const more = { 'cni.dev/valid-attachments': list };
    expect(await exec({ command: 'GC' }, more)).toMatchObject({ exit: 0, stdout: '' });
  });

  it('answers nobody but root', async () => {
    const enter = [...node.plugins.enter, 'setpriv', '--reuid=65534', '--clear-groups'];
    const plugins = new Plugins(node.plugins.folders, { enter });
    expect(await refused({ command: 'STATUS' }, {}, plugins)).toMatchObject({
      code: 51,
      msg: expect.stringMatching(/Permission denied/),
    });
  });

  it('has its ports mapped by Debian’s portmap behind it', async () => {
    const portMappings = [{ hostPort: 8081, containerPort: 80, protocol: 'tcp' }];
    const portmap = { type: 'portmap', snat: true, capabilities: { portMappings: true } };
    const network = node.network([own, portmap]);
    const at = await node.container('mapped', { capabilities: { portMappings } });
    const client = await node.container('client');
    await network.add(at);
    await network.add(client);
    const program =
      'import http.server as h; print("ready", flush=True); h.test(h.SimpleHTTPRequestHandler, port=80)';
    await node.lab.start('mapped', '/usr/bin/python3', ['-c', program]);
    const url = `http://${NODE_ADDRESS}:8081/`;
    for (const netns of ['outside', NODE, 'client', 'mapped']) {
      const get = () =>
        node.lab.run(netns, 'curl', ['-sS', '-m', '2', '-o', '/dev/null', '-w', '%{http_code}', url]);
      expect(await until(`${netns} reads`, () => get().catch(() => null))).toBe('200');
    }
    await network.del(at);
    await network.del(client);
  });

  it('installs a conflist without the bandwidth plugin, and works with one that still has it', async () => {
    const list = JSON.parse(readFileSync(join(node.confDir, '10-tortie.conflist'), 'utf8')) as Json;
    expect((list.plugins as Json[]).map(({ type }) => type)).toEqual(['tortie-cni', 'portmap']);
    const network = node.network([own, { type: 'bandwidth', capabilities: { bandwidth: true } }]);
    const at = await node.container('limited');
    await network.add(at);
    await network.del(at);
  });

  it('error 11 from an agent that is stuck or gone, and all is well once it is back', async () => {
    const network = node.network([own]);
    const at = await node.container('patient');
    await network.add(at);
    const hurried = new Plugins(node.plugins.folders, {
      enter: node.plugins.enter,
      env: { TORTIE_CNI_TIMEOUT: '1' },
    });
    node.agent.signal('SIGSTOP');
    expect(await refused({ command: 'ADD', ...at }, own, hurried)).toMatchObject({ code: 11 });
    node.agent.signal('SIGCONT');
    await network.check(at);
    await node.agent.stop('SIGKILL');
    for (const command of ['ADD', 'CHECK', 'DEL', 'GC']) {
      expect(await refused({ command, ...at }, own)).toMatchObject({ code: 11 });
    }
    expect(await refused({ command: 'STATUS' })).toMatchObject({ code: 51 });
    expect(await exec({ command: 'VERSION' })).toMatchObject({ exit: 0 });
    await node.start();
    await network.check(at);
    await network.del(at);
    expect(await node.endpoints()).toEqual([]);
  });
});
