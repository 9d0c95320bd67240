import { describe, expect, it } from 'vitest';
import { asCniError, type CniError } from './error.ts';
import { endpointName, handleId, hostInterface } from './names.ts';
import { parseRequest } from './request.ts';
import { formatResult, mergeResults, parseResult } from './result.ts';
import { encodeAnswer, parseHeader } from './wire.ts';

const ID = '1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcdef';
const ENV = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: ID,
  CNI_NETNS: '/run/netns/pod1',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin:/usr/lib/cni',
};
const CONF = { cniVersion: '1.1.0', name: 'k8s-pod-network', type: 'tortie-cni' };

const parse = (env: Record<string, string> = {}, conf: unknown = {}, plugin = 'tortie-cni') =>
  parseRequest(
    { plugin, length: 0, netnsError: undefined, env: { ...ENV, ...env } },
    typeof conf === 'string' ? conf : JSON.stringify({ ...CONF, ...(conf as object) }),
  );
const refused = (env: Record<string, string>, conf: unknown = {}): string => {
  try {
    parse(env, conf);
  } catch (error) {
    const { cni, message } = error as CniError;
    return `${cni} ${message}`;
  }
  throw new Error('it was taken');
};

describe('a request', () => {
  it('names a pod of Kubernetes by CNI_ARGS, and any other container by its id', () => {
    const CNI_ARGS =
      'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-5d;K8S_POD_INFRA_CONTAINER_ID=x';
    const { pod } = parse({ CNI_ARGS });
    expect(pod).toEqual({ orchestrator: 'k8s', namespace: 'shop', name: 'web-5d' });
    expect(endpointName('node-1', pod, ID, 'eth0')).toBe('node--1-k8s-web--5d-eth0');
    // printf shop.web-5d | sha1sum
    expect(hostInterface(pod, ID, 'eth0')).toBe('cali14221fa1743');
    expect(hostInterface(pod, ID, 'net1')).not.toBe('cali14221fa1743');
    const other = parse().pod;
    expect(endpointName('n1', other, ID, 'eth0')).toBe(`n1-cni-${ID}-eth0`);
    expect(hostInterface(other, ID, 'eth0')).toBe('cali1234567890a');
    expect(handleId('net', ID, 'eth0')).toBe(`net.${ID}`);
    expect(handleId('net', ID, 'net1')).toBe(`net.${ID}.net1`);
  });

  it('understands what a conflist of Calico says', () => {
    const request = parse(
      {},
      {
        log_level: 'info',
        log_file_path: '/var/log/calico/cni/cni.log',
        datastore_type: 'etcdv3',
        etcd_endpoints: 'http://127.0.0.1:2379',
        nodename: 'n1',
        mtu: 1440,
        ipam: {
          type: 'calico-ipam',
          assign_ipv4: 'true',
          assign_ipv6: 'false',
          ipv4_pools: ['10.65.0.0/16'],
        },
        container_settings: { allow_ip_forwarding: true },
        policy: { type: 'k8s' },
        kubernetes: { kubeconfig: '/etc/cni/net.d/calico-kubeconfig' },
        runtimeConfig: { bandwidth: { ingressRate: 1000000, ingressBurst: 2000000 } },
      },
    );
    expect(request.config).toMatchObject({
      mtu: 1440,
      ipam: { type: 'calico-ipam', assign_ipv4: true, assign_ipv6: false, ipv4_pools: ['10.65.0.0/16'] },
      container_settings: { allow_ip_forwarding: true },
      runtimeConfig: { bandwidth: { ingressRate: 1000000, ingressBurst: 2000000 } },
    });
    expect(request.path).toEqual(['/opt/cni/bin', '/usr/lib/cni']);
  });

  it('takes an address and a MAC from CNI_ARGS, and rather from the runtime’s own', () => {
    expect(parse({ CNI_ARGS: 'IP=10.65.0.9;MAC=02:AA:00:00:00:01' }).wanted).toEqual({
      addresses: ['10.65.0.9'],
      mac: '02:aa:00:00:00:01',
    });
    const runtimeConfig = { ips: ['10.65.0.7/32', 'fd65::7/128'], mac: '02:00:00:00:00:02' };
    expect(parse({ CNI_ARGS: 'IP=10.65.0.9' }, { runtimeConfig }).wanted).toEqual({
      addresses: ['10.65.0.7', 'fd65::7'],
      mac: '02:00:00:00:00:02',
    });
  });

  it.each([
    [{ CNI_COMMAND: '' }, {}, /^4 CNI_COMMAND is missing/],
    [{ CNI_COMMAND: 'FROBNICATE' }, {}, /^4 CNI_COMMAND FROBNICATE/],
    [{ CNI_CONTAINERID: '', CNI_NETNS: '' }, {}, /^4 ADD needs CNI_CONTAINERID, CNI_NETNS$/],
    [{ CNI_CONTAINERID: '../x' }, {}, /^4 CNI_CONTAINERID/],
    [{ CNI_IFNAME: 'sixteencharacter' }, {}, /^4 CNI_IFNAME/],
    [{ CNI_ARGS: 'FOO=bar' }, {}, /^4 CNI_ARGS: FOO unknown/],
    [{ CNI_ARGS: 'FOO' }, {}, /^4 CNI_ARGS: "FOO"/],
    [{}, '{', /^6 the configuration is not JSON/],
    [{}, '[]', /^6 the configuration is not a JSON object/],
    [{}, { cniVersion: '2.0.0' }, /^1 cniVersion "2.0.0"/],
    [{}, { cniVersion: undefined }, /^1 cniVersion undefined/],
    [{ CNI_COMMAND: 'CHECK' }, { cniVersion: '0.3.1' }, /^1 .*has no CHECK; it came with 0.4.0/],
    [{ CNI_COMMAND: 'GC' }, { cniVersion: '1.0.0' }, /^1 .*has no GC/],
    [{}, { name: undefined }, /^7 configuration: name/],
    [{}, { mtu: 'big' }, /^7 configuration: mtu/],
    [{}, { datastore_type: 'kubernetes' }, /^2 datastore_type "kubernetes" is not supported/],
    [{}, { prevResult: { ips: [{}] } }, /^6 prevResult: ips.0.address/],
  ])('%j with %j is refused as the specification numbers it', (env, conf, wanted) => {
    expect(refused(env as unknown as Record<string, string>, conf)).toMatch(wanted);
  });

  it('needs no namespace to be deleted', () => {
    expect(parse({ CNI_COMMAND: 'DEL', CNI_NETNS: '' })).toMatchObject({ command: 'DEL', netns: '' });
  });
});

describe('a result', () => {
  const result = {
    interfaces: [
      { name: 'cali1' },
      { name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1450, sandbox: '/run/netns/p' },
    ],
    ips: [{ address: '10.65.0.2/32', interface: 1 }],
    routes: [{ dst: '0.0.0.0/0', gw: '169.254.1.1', mtu: 1450 }],
    dns: {},
  };

  it('has the shape of its version', () => {
    expect(JSON.parse(formatResult(result, '1.1.0'))).toEqual({ cniVersion: '1.1.0', ...result });
    const [{ version }] = JSON.parse(formatResult(result, '0.3.1')).ips;
    expect(version).toBe('4');
    const old = JSON.parse(formatResult(result, '1.0.0'));
    expect(old.interfaces[1]).toEqual({ name: 'eth0', mac: '02:00:00:00:00:01', sandbox: '/run/netns/p' });
    expect(old.routes).toEqual([{ dst: '0.0.0.0/0', gw: '169.254.1.1' }]);
    expect(JSON.parse(formatResult(result, '1.1.0', true))).not.toHaveProperty('interfaces');
  });

  it('is read in any version, and stands behind that of the chain before', () => {
    const before = parseResult(JSON.parse(formatResult(result, '0.4.0')), 'prevResult');
    expect(before.ips).toEqual(result.ips);
    expect(mergeResults(before, result).ips[1]).toEqual({ address: '10.65.0.2/32', interface: 3 });
  });
});

it('what the program says is taken apart, and the answer cut into messages', () => {
  const text = ['protocol=1', 'plugin=tortie-ipam', 'length=12', 'CNI_ARGS=a=b;c=d', 'HOME=/root', ''].join(
    '\0',
  );
  expect(parseHeader(Buffer.from(text))).toEqual({
    plugin: 'tortie-ipam',
    length: 12,
    netnsError: undefined,
    env: { CNI_ARGS: 'a=b;c=d' },
  });
  expect(parseHeader(Buffer.from('GET / HTTP/1.1'))).toBeNull();
  const messages = encodeAnswer({ exit: 1, output: 'x'.repeat(100_000) });
  expect(messages.map(({ length }) => length)).toEqual([8, 65536, 34464]);
});

it('an error without a number of its own gets one', () => {
  expect(asCniError(new Error('boom')).cni).toBe(100);
});
