import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { fakeAgent } from '../../api/fake-agent.ts';
import { serveApi } from '../../api/server.ts';
import { runCli } from '../test-io.ts';
import { eachInItsStore, file, good, head, node, pod, pool, say, write } from './test-store.ts';

eachInItsStore();

describe('get', () => {
  beforeEach(async () => {
    const all = [
      pool('two', '10.66.0.0/16', ', vxlanMode: CrossSubnet, disabled: true'),
      pool('one', '10.65.0.0/16', ', ipipMode: Always, natOutgoing: true'),
      node('a', '192.0.2.1'),
      `${head('Node', 'name: b')}spec: {bgp: {ipv4Address: 192.0.2.2/24, ipv6Address: "2001:db8::2/64", asNumber: 64513}}\n`,
      `${head('Node', 'name: c')}spec: {}\n`,
      `${head('BGPPeer', 'name: all')}spec: {peerIP: 192.0.2.9, asNumber: 64512}\n`,
      `${head('BGPPeer', 'name: one')}spec: {node: a, peerIP: "[2001:db8::9]:1179", asNumber: 64512}\n`,
      `${head('BGPPeer', 'name: some')}spec: {nodeSelector: has(rack), peerSelector: has(reflector)}\n`,
      `${head('BGPConfiguration', 'name: default')}spec: {asNumber: 64999, logSeverityScreen: Info}\n`,
      `${head('BGPFilter', 'name: f')}spec: {exportV4: [{action: Reject}], importV6: [{action: Accept}]}\n`,
      `${head('FelixConfiguration', 'name: default')}spec: {}\n`,
      `${head('IPAMConfig', 'name: default')}spec: {strictAffinity: true, maxBlocksPerHost: 4}\n`,
      `${head('IPReservation', 'name: r')}spec: {reservedCIDRs: [10.65.0.0/30, 10.65.7.7]}\n`,
      pod('p', '10.65.0.2'),
      pod('q', '10.65.0.3', ', namespace: other'),
    ];
    write('all.yaml', all.join('---\n'));
    expect(await say('apply -f $all.yaml')).toMatchObject({
      code: 0,
      out: 'Successfully applied 15 resource(s)\n',
    });
  });

  it.each([
    [
      'ippool',
      'NAME   CIDR           SELECTOR   \none    10.65.0.0/16   all()      \ntwo    10.66.0.0/16   all()      \n\n',
    ],
    [
      'pools -o wide',
      `NAME   CIDR           NAT     IPIPMODE   VXLANMODE     DISABLED   DISABLEBGPEXPORT   SELECTOR   ASSIGNMENTMODE   
one    10.65.0.0/16   true    Always     Never         false      false              all()      Automatic        
two    10.66.0.0/16   false   Never      CrossSubnet   true       false              all()      Automatic        

`,
    ],
    ['Nodes', 'NAME   \na      \nb      \nc      \n\n'],
    [
      'no -o wide',
      `NAME   ASN       IPV4           IPV6             
a      (64999)   192.0.2.1/24                    
b      64513     192.0.2.2/24   2001:db8::2/64   
c                                                

`,
    ],
    [
      'bgppeer',
      `NAME   PEERIP               NODE        ASN     
all    192.0.2.9            (global)    64512   
one    [2001:db8::9]:1179   a           64512   
some                        has(rack)   0       

`,
    ],
    [
      'bgpconfig',
      'NAME      LOGSEVERITY   MESHENABLED   ASNUMBER   \ndefault   Info          -             64999      \n\n',
    ],
    ['bf', 'NAME   NUMEXPORT   NUMIMPORT   \nf      1           1           \n\n'],
    ['felixconfig', 'NAME      \ndefault   \n\n'],
    [
      'ipamconfig -o wide',
      'NAME      STRICTAFFINITY   AUTOALLOCATEBLOCKS   MAXBLOCKSPERHOST   \ndefault   true             true                 4                  \n\n',
    ],
    ['reservations -o wide', 'NAME   CIDRS                    \nr      10.65.0.0/30,10.65.7.7   \n\n'],
    [
      'wep',
      'WORKLOAD   NODE   NETWORKS       INTERFACE   \np          a      10.65.0.2/32   calip       \n\n',
    ],
    [
      'wep -A',
      `NAMESPACE   WORKLOAD   NODE   NETWORKS       INTERFACE   
default     p          a      10.65.0.2/32   calip       
other       q          a      10.65.0.3/32   caliq       

`,
    ],
    [
      'wep -n other -o wide',
      `NAMESPACE   NAME   WORKLOAD   NODE   NETWORKS       INTERFACE   PROFILES   NATS   
other       q      q          a      10.65.0.3/32   caliq                         

`,
    ],
    ['ipp one -o custom-columns=NAME,NAT', 'NAME   NAT    \none    true   \n\n'],
    [
      'ippool one two',
      'NAME   CIDR           SELECTOR   \none    10.65.0.0/16   all()      \n\nNAME   CIDR           SELECTOR   \ntwo    10.66.0.0/16   all()      \n\n',
    ],
    ['ippool -o name', 'ippool/one\nippool/two\n'],
  ])('%s', async (words, expected) => {
    expect(await good(`get ${words}`)).toBe(expected);
  });

  it('prints YAML and JSON that say when and as what each was made', async () => {
    const yaml = await good('get ippool one -o yaml');
    const { metadata, ...rest } = parse(yaml);
    expect(
      yaml.startsWith(
        'apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  creationTimestamp: "2026-01-01T12:00:00Z"\n  name: one\n  resourceVersion: "2"\n',
      ),
    ).toBe(true);
    expect(metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect(rest.spec).toEqual({
      allowedUses: ['Workload', 'Tunnel'],
      assignmentMode: 'Automatic',
      blockSize: 26,
      cidr: '10.65.0.0/16',
      ipipMode: 'Always',
      natOutgoing: true,
      nodeSelector: 'all()',
      vxlanMode: 'Never',
    });
    const list = JSON.parse(await good('get ippool -o json'));
    expect(list).toMatchObject({
      kind: 'IPPoolList',
      metadata: { resourceVersion: '2' },
      items: [{ kind: 'IPPool' }, {}],
    });
    expect(list.items[0]).toEqual(JSON.parse(await good('get ippool one -o json')));
    expect(JSON.parse(await good('get ippool one --export -o json')).metadata).toEqual({ name: 'one' });
  });

  it.each([
    ['get ippools nosuch', 1, 'resource does not exist: IPPool(nosuch) (RESOURCE_MISSING)\n'],
    ['get wep q', 1, 'resource does not exist: WorkloadEndpoint(default/q) (RESOURCE_MISSING)\n'],
    [
      'get ipool',
      64,
      "tortie: resource type 'ipool' is not supported; did you mean ippool? (KIND_UNKNOWN)\n",
    ],
    ['get node -n x', 64, 'tortie: Node is not namespaced (NAMESPACE_INVALID)\n'],
    [
      'get wep p -A',
      64,
      'tortie: cannot use --all-namespaces flag for getting a single resource (NAMESPACE_INVALID)\n',
    ],
    [
      'get node -o xml',
      64,
      "tortie: unrecognized output format 'xml'; formats: ps, wide, yaml, json, name, custom-columns=... (OUTPUT_UNKNOWN)\n",
    ],
    [
      'get node -o custom-columns=X',
      64,
      'tortie: Unknown heading X, valid values are: NAME, ASN, IPV4, IPV6 (COLUMN_UNKNOWN)\n',
    ],
    ['get', 64, 'tortie: give a kind, or -f FILE: tortie get ippool (INPUT_MISSING)\n'],
  ])('refuses %s', async (words, code, err) => {
    expect(await say(words)).toMatchObject({ code, err });
  });

  it('prints what is found, and says what is not', async () => {
    const { code, out, err } = await say('get ippool nosuch two -o name');
    expect({ code, out, err }).toEqual({
      code: 1,
      out: 'ippool/two\n',
      err: 'resource does not exist: IPPool(nosuch) (RESOURCE_MISSING)\n',
    });
    expect(await good('get -f $all.yaml -o name')).toContain('ippool/two\nippool/one\n');
  });

  it('goes a round: everything as printed is applied again, and nothing changes', async () => {
    for (const kind of [
      'ippool',
      'node',
      'bgppeer',
      'bgpconfig',
      'bgpfilter',
      'felixconfig',
      'ipamconfig',
      'ipreservation',
      'wep -A',
    ]) {
      const before = await good(`get ${kind} -o yaml`);
      write('again.yaml', before);
      const { out } = await say('apply -f $again.yaml --dry-run');
      expect(out).toMatch(/would stay as it is/);
      expect(out).not.toMatch(/would be/);
      expect(await say('apply -f $again.yaml')).toMatchObject({ code: 0 });
      expect(await good(`get ${kind} -o yaml`)).toBe(before);
    }
  });
});

describe('which datastore', () => {
  it('is that of --config, of TORTIE_CONFIG, of the only agent, or of the usual file', async () => {
    for (const name of ['flag', 'env', 'agent', 'usual']) {
      write(`${name}.yaml`, `nodeName: n\ndatastore: {kind: static, path: ${name}-resources.yaml}\n`);
      write(`${name}-resources.yaml`, node(name, '192.0.2.1'));
    }
    const runFolder = file('run');
    const server = await serveApi(join(runFolder, 'node1', 'api.sock'), {
      ...fakeAgent(),
      configShow: () => ({ settings: { file: file('agent.yaml') } }),
    });
    const get = ['get', 'node', '-o', 'name'];
    const configFile = file('usual.yaml');
    const env = { TORTIE_CONFIG: file('env.yaml') };
    expect(await runCli([...get, '-c', file('flag.yaml')], { env, runFolder, configFile })).toMatchObject({
      out: 'node/flag\n',
    });
    expect(await runCli(get, { env, runFolder, configFile })).toMatchObject({ out: 'node/env\n' });
    expect(await runCli(get, { runFolder, configFile })).toMatchObject({ out: 'node/agent\n' });
    await server.close();
    expect(await runCli(get, { runFolder, configFile })).toMatchObject({ out: 'node/usual\n' });
    expect(await runCli(get)).toMatchObject({
      code: 78,
      err: 'tortie: which datastore? No agent runs here and there is no /nonexistent/agent.yaml; give --config FILE, or set TORTIE_CONFIG (STORE_UNKNOWN)\n',
    });
  });

  it('of files is read, and not written', async () => {
    write('agent.yaml', 'nodeName: a\ndatastore: {kind: static, path: all.yaml}\n');
    write(
      'all.yaml',
      [pool('one', '10.65.0.0/16'), node('a', '192.0.2.1'), pod('p', '10.65.0.2')].join('---\n'),
    );
    write('new.yaml', pool('two', '10.66.0.0/16'));
    expect(await good('get wep p -o name')).toBe('workloadendpoint/p\n');
    expect(await good('get wep -o name')).toBe('workloadendpoint/p\n');
    for (const words of [
      'apply -f $new.yaml',
      'delete ippool one',
      'patch ippool one -p {"spec":{"disabled":true}}',
      'label node a x=y',
    ]) {
      const { code, err } = await say(words);
      expect({ code, err }).toEqual({
        code: 1,
        err: expect.stringContaining('is read-only: edit the file and send the agent SIGHUP'),
      });
    }
  });
});
