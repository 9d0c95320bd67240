import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { fakeAgent } from '../../api/fake-agent.ts';
import { serveApi } from '../../api/server.ts';
import { loadConfig } from '../../config/config.ts';
import { IPAM_CONFIG } from '../../datastore/keys.ts';
import { type OpenStore, openStore } from '../../datastore/open.ts';
import { openIpam } from '../../ipam/open.ts';
import { runCli } from '../test-io.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-verbs-'));
  write('agent.yaml', 'nodeName: node1\ndatastore: {kind: embedded, path: store}\n');
});
afterEach(() => rmSync(folder, { recursive: true }));

const file = (name: string) => join(folder, name);
const write = (name: string, text: string) => writeFileSync(file(name), text);
const tortie = (args: string[], world = {}) =>
  runCli(args, { env: { TORTIE_CONFIG: file('agent.yaml') }, ...world });
/** Words, with $name for a file here. */
const say = (words: string, world = {}) =>
  tortie(
    words.split(' ').map((word) => (word.startsWith('$') ? file(word.slice(1)) : word)),
    world,
  );
async function good(words: string): Promise<string> {
  const { code, out, err } = await say(words);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return out;
}

const head = (kind: string, metadata: string) =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {${metadata}}\n`;
const pool = (name: string, cidr: string, more = '') =>
  `${head('IPPool', `name: ${name}`)}spec: {cidr: ${cidr}${more}}\n`;
const node = (name: string, address: string) =>
  `${head('Node', `name: ${name}`)}spec: {bgp: {ipv4Address: ${address}/24}}\n`;
const pod = (name: string, address: string, metadata = '') =>
  `${head('WorkloadEndpoint', `name: ${name}${metadata}`)}spec: {node: a, pod: ${name}, interfaceName: cali${name}, ipNetworks: [${address}/32]}\n`;

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

describe('create, apply, replace, delete', () => {
  it('speaks as calicoctl does', async () => {
    write('one.yaml', pool('one', '10.65.0.0/16'));
    write('two.yaml', `${pool('one', '10.65.0.0/16')}---\n${pool('two', '10.66.0.0/16')}`);
    expect(await say('replace -f $one.yaml')).toMatchObject({
      code: 1,
      out: '',
      err: "Failed to replace 'IPPool' resource: [resource does not exist: IPPool(one) (RESOURCE_MISSING)]\n",
    });
    expect(await good('create -f $one.yaml --allow-version-mismatch')).toBe(
      "Successfully created 1 'IPPool' resource(s)\n",
    );
    expect(await say('create -f $one.yaml')).toMatchObject({
      code: 1,
      err: "Failed to create 'IPPool' resource: [resource already exists: IPPool(one) (RESOURCE_EXISTS)]\n",
    });
    expect(await say('create -f $two.yaml')).toMatchObject({
      code: 1,
      out: "Partial success: created the first 1 out of 2 'IPPool' resources:\n",
      err: 'Hit error(s): [resource already exists: IPPool(one) (RESOURCE_EXISTS)]\n',
    });
    expect(await good('create --skip-exists -f $two.yaml')).toBe(
      "Successfully created 2 'IPPool' resource(s)\n",
    );
    expect(await good('replace -f $two.yaml')).toBe("Successfully replaced 2 'IPPool' resource(s)\n");
    expect(await say('delete ippool one nosuch')).toMatchObject({
      code: 1,
      out: "Successfully deleted 1 'IPPool' resource(s)\n",
      err: "Failed to delete 'IPPool' resource: resource does not exist: IPPool(nosuch) (RESOURCE_MISSING)\n",
    });
    expect(await good('delete -f $two.yaml --skip-not-exists')).toBe(
      "Successfully deleted 2 'IPPool' resource(s)\n",
    );
    expect(await say('delete ippool')).toMatchObject({ code: 64 });
  });

  it('reads standard input, folders, and folders in folders', async () => {
    mkdirSync(file('d/e'), { recursive: true });
    write('d/one.yaml', pool('one', '10.65.0.0/16'));
    write('d/e/two.json', JSON.stringify(parse(pool('two', '10.66.0.0/16'))));
    expect(await good('apply -f $d')).toBe("Successfully applied 1 'IPPool' resource(s)\n");
    expect(await good('apply -R -f $d')).toBe("Successfully applied 2 'IPPool' resource(s)\n");
    const input = () => node('a', '192.0.2.1');
    expect(await say('apply -f -', { input })).toMatchObject({
      out: "Successfully applied 1 'Node' resource(s)\n",
    });
    expect(await say('apply -f -', { input: () => 'kind: x\n' })).toMatchObject({
      code: 78,
      err: expect.stringContaining('standard input:1:1: apiVersion: is missing'),
    });
    write('empty.yaml', '# nothing\n');
    expect(await say('apply -f $empty.yaml')).toMatchObject({
      code: 1,
      err: `tortie: No resources specified in file ${file('empty.yaml')}; see --skip-empty (INPUT_EMPTY)\n`,
    });
    expect(await good('apply --skip-empty -f $empty.yaml')).toBe('No resources specified\n');
    rmSync(file('d'), { recursive: true });
    mkdirSync(file('d'));
    expect(await say('apply -f $d')).toMatchObject({ code: 1, err: expect.stringContaining('in directory') });
  });

  it('writes nothing of a file that is wrong', async () => {
    write(
      'bad.yaml',
      `${pool('one', '10.65.0.0/16')}---\n${pool('two', '10.66.0.0/16', ', ippMode: Always')}`,
    );
    expect(await say('apply -f $bad.yaml')).toMatchObject({
      code: 78,
      err: `${file('bad.yaml')}:9:28: spec.ippMode: unknown key; did you mean ipipMode?\n`,
    });
    expect(await good('get ippool -o name')).toBe('');
  });

  it('refuses what would not fit, and says of each why', async () => {
    write(
      'pools.yaml',
      [pool('one', '10.65.0.0/16'), pool('two', '10.65.1.0/24'), pool('three', '10.67.0.0/16')].join('---\n'),
    );
    expect(await say('apply -f $pools.yaml')).toMatchObject({
      code: 1,
      out: "Partial success: applied the first 2 out of 3 'IPPool' resources:\n",
      err: 'Hit error(s): [spec.cidr: 10.65.1.0/24 overlaps pool one (10.65.0.0/16) (POOL_OVERLAP)]\n',
    });
    write('pool.yaml', pool('one', '10.65.0.0/16', ', blockSize: 28'));
    expect(await say('apply -f $pool.yaml')).toMatchObject({
      code: 1,
      err: "Failed to apply 'IPPool' resource: [spec.blockSize: 26 cannot become 28: make a new pool instead (POOL_IMMUTABLE)]\n",
    });
  });

  it('gets, edits, applies; and tells who edited what has changed since', async () => {
    write('one.yaml', pool('one', '10.65.0.0/16', ', ipipMode: Always'));
    await good('apply -f $one.yaml');
    const mine = (await good('get ippool -o yaml')).replace('ipipMode: Always', 'ipipMode: Never');
    const theirs = await good('get ippool one -o yaml');
    write('mine.yaml', mine);
    write('theirs.yaml', theirs.replace('cidr:', 'disabled: true\n  cidr:'));
    expect(await good('apply -f $mine.yaml')).toBe("Successfully applied 1 'IPPool' resource(s)\n");
    expect(await good('get ippool -o yaml')).toContain('ipipMode: Never');
    for (const verb of ['apply', 'replace']) {
      expect(await say(`${verb} -f $theirs.yaml`)).toMatchObject({
        code: 1,
        err: `Failed to ${verb} 'IPPool' resource: [update conflict: IPPool(one): Resource version '1' is out of date (latest: 2). Update the resource YAML/JSON in order to make changes: get it anew, or leave out resourceVersion (RESOURCE_CONFLICT)]\n`,
      });
    }
    expect(await good('get ippool -o yaml')).not.toContain('disabled');
    write('theirs.yaml', theirs.replace(/ {2}resourceVersion: .*\n/, ''));
    await good('apply -f $theirs.yaml');
    expect(await good('get ippool -o yaml')).toContain('ipipMode: Always');
  });

  it('keeps labels that a file does not speak of, unless it was got from here', async () => {
    write('a.yaml', node('a', '192.0.2.1'));
    await good('apply -f $a.yaml');
    await good('label node a rack=1');
    await good('apply -f $a.yaml');
    const got = await good('get node a -o yaml');
    expect(got).toContain('rack: "1"');
    write('got.yaml', got.replace(/ {2}labels:\n {4}rack: "1"\n/, ''));
    await good('apply -f $got.yaml');
    expect(await good('get node a -o yaml')).not.toContain('rack');
  });

  it('with --dry-run says what would be done, and does nothing', async () => {
    write('one.yaml', pool('one', '10.65.0.0/16'));
    write(
      'both.yaml',
      `${pool('one', '10.65.0.0/16', ', disabled: true')}---\n${pool('two', '10.65.0.0/16')}`,
    );
    await good('apply -f $one.yaml');
    const before = await good('get ippool -o yaml');
    expect(await say('apply --dry-run -f $both.yaml')).toEqual({
      code: 1,
      out: "IPPool(one): would be changed\nPartial success: applied the first 1 out of 2 'IPPool' resources: (dry run: nothing was written)\n",
      err: 'Hit error(s): [spec.cidr: 10.65.0.0/16 overlaps pool one (10.65.0.0/16) (POOL_OVERLAP)]\n',
    });
    for (const words of [
      'replace -f $one.yaml',
      'delete ippool one',
      'create -f $one.yaml --skip-exists',
      'patch ippool one -p {"spec":{"disabled":true}}',
      'label ippool one a=b',
    ]) {
      expect(await good(`${words} --dry-run`)).toContain('(dry run: nothing was written)\n');
    }
    expect(await good('get ippool -o yaml')).toBe(before);
  });

  it('warns of what does nothing', async () => {
    write('felix.yaml', `${head('FelixConfiguration', 'name: default')}spec: {bpfEnabled: true}\n`);
    expect(await say('apply -f $felix.yaml')).toEqual({
      code: 0,
      out: "Successfully applied 1 'FelixConfiguration' resource(s)\n",
      err: 'warning: FelixConfiguration default: bpfEnabled does nothing: it is about what tortie does not have\n',
    });
  });

  it('speaks of IPAMConfig with IPAM', async () => {
    write(
      'ipam.yaml',
      `${head('IPAMConfiguration', 'name: default')}spec: {strictAffinity: true, maxBlocksPerHost: 3}\n`,
    );
    await good('apply -f $ipam.yaml');
    const store = openStore(loadConfig(file('agent.yaml')).datastore);
    try {
      const ipam = openIpam(store);
      expect(await ipam.config()).toEqual({
        strictAffinity: true,
        autoAllocateBlocks: true,
        maxBlocksPerHost: 3,
      });
      // As Calico writes it.
      const value = { strict_affinity: false, auto_allocate_blocks: false, maxBlocksPerHost: 5 };
      await store.keys!.put(IPAM_CONFIG, JSON.stringify(value));
    } finally {
      await store.close();
    }
    expect(
      await good('get ipamconfig -o custom-columns=STRICTAFFINITY,AUTOALLOCATEBLOCKS,MAXBLOCKSPERHOST'),
    ).toMatch(/\nfalse +false +5 *\n/);
    write('ipam.yaml', `${head('IPAMConfig', 'name: mine')}spec: {}\n`);
    expect(await say('apply -f $ipam.yaml')).toMatchObject({
      code: 1,
      err: expect.stringContaining('(NAME_NOT_DEFAULT)'),
    });
  });

  it('knows the namespace of a pod from the file, from -n, or as "default"', async () => {
    write('p.yaml', pod('p', '10.65.0.2'));
    write('q.yaml', pod('q', '10.65.0.3', ', namespace: other'));
    await good('apply -f $p.yaml');
    await good('apply -f $p.yaml -n mine');
    await good('apply -f $q.yaml');
    expect((await good('get wep -A -o custom-columns=NAME')).split('\n').map((line) => line.trim())).toEqual([
      'NAMESPACE   NAME',
      'default     p',
      'mine        p',
      'other       q',
      '',
      '',
    ]);
    expect(await say('apply -f $q.yaml -n mine')).toMatchObject({
      code: 64,
      err: 'tortie: resource namespace does not match client namespace. other != mine (NAMESPACE_INVALID)\n',
    });
  });
});

describe('delete takes along', () => {
  const inStore = async (work: (store: OpenStore) => Promise<void>) => {
    const store = openStore(loadConfig(file('agent.yaml')).datastore);
    try {
      await work(store);
    } finally {
      await store.close();
    }
  };
  const assigned = (store: OpenStore, nodeName: string, handle: string) =>
    openIpam(store).assign({ node: nodeName, handle, attributes: {}, ip4: 1, ip6: 0 });

  it('with a node its pods, their addresses, those of its tunnels, and its blocks', async () => {
    write(
      'all.yaml',
      [pool('one', '10.65.0.0/16'), node('a', '192.0.2.1'), node('b', '192.0.2.2')].join('---\n'),
    );
    await good('apply -f $all.yaml');
    await inStore(async (store) => {
      const [own] = await assigned(store, 'a', 'net.c1');
      await assigned(store, 'a', 'vxlan-tunnel-addr-a');
      await assigned(store, 'b', 'vxlan-tunnel-addr-b');
      write('p.yaml', pod('p', own!.address));
    });
    await good('apply -f $p.yaml');
    expect(await good('delete node a --dry-run')).toContain('Node(a): would be deleted');
    expect(await good('get wep -o name')).toBe('workloadendpoint/p\n');
    expect(await good('delete node a')).toBe("Successfully deleted 1 'Node' resource(s)\n");
    expect(await good('get wep -o name')).toBe('');
    await inStore(async (store) => {
      const ipam = openIpam(store);
      expect((await ipam.blocks()).map(({ affinity }) => affinity)).toEqual(['host:b']);
      expect(await ipam.addressesOf('net.c1')).toEqual([]);
      expect(await ipam.addressesOf('vxlan-tunnel-addr-b')).toHaveLength(1);
    });
  });

  it('with a pool its blocks without an address in use', async () => {
    write(
      'all.yaml',
      [pool('one', '10.65.0.0/16'), node('a', '192.0.2.1'), node('b', '192.0.2.2')].join('---\n'),
    );
    await good('apply -f $all.yaml');
    await inStore(async (store) => {
      await assigned(store, 'a', 'one');
      await assigned(store, 'b', 'two');
      await openIpam(store).releaseHandle('one');
    });
    await good('delete ippool one');
    await inStore(async (store) => {
      expect((await openIpam(store).blocks()).map(({ affinity }) => affinity)).toEqual(['host:b']);
    });
  });
});

describe('patch', () => {
  const spec = async () => JSON.parse(await good('get node a -o json'));
  beforeEach(async () => {
    write(
      'a.yaml',
      `${head('Node', 'name: a, labels: {x: y}')}spec: {bgp: {ipv4Address: 192.0.2.1/24, asNumber: 64513}}\n`,
    );
    await good('apply -f $a.yaml');
  });
  const patch = (text: string, type?: string) =>
    tortie(['patch', 'node', 'a', '-p', text, ...(type ? ['-t', type] : [])]);

  it.each([
    [
      undefined,
      '{"spec":{"bgp":{"ipv4IPIPTunnelAddr":"10.65.0.1"}}}',
      { ipv4Address: '192.0.2.1/24', asNumber: 64513, ipv4IPIPTunnelAddr: '10.65.0.1' },
    ],
    ['strategic', '{"spec":{"bgp":{"asNumber":null}}}', { ipv4Address: '192.0.2.1/24' }],
    [
      'strategic',
      '{"spec":{"bgp":{"$patch":"replace","ipv4Address":"192.0.2.3/24"}}}',
      { ipv4Address: '192.0.2.3/24' },
    ],
    [
      'merge',
      '{"spec":{"bgp":{"asNumber":null,"ipv4Address":"192.0.2.4/24"}}}',
      { ipv4Address: '192.0.2.4/24' },
    ],
    [
      'json',
      '[{"op":"remove","path":"/spec/bgp/asNumber"},{"op":"replace","path":"/spec/bgp/ipv4Address","value":"192.0.2.5/24"}]',
      { ipv4Address: '192.0.2.5/24' },
    ],
  ])('%s %s', async (type, text, bgp) => {
    expect(await patch(text, type)).toEqual({
      code: 0,
      out: "Successfully patched 1 'Node' resource\n",
      err: '',
    });
    expect(await spec()).toMatchObject({ metadata: { labels: { x: 'y' } }, spec: { bgp } });
    expect((await spec()).spec.bgp).toEqual(bgp);
  });

  it.each([
    ['strategic', '{"spec":{"bpg":{}}}', 78, 'spec.bpg: unknown key; did you mean bgp?'],
    ['strategic', '[]', 64, '--patch: must be a map'],
    ['strategic', '{"spec":{"$patch":"erase"}}', 64, 'allowed: merge, replace, delete'],
    ['json', '{}', 64, 'type json takes a list'],
    ['json', '[{"op":"test","path":"/spec/bgp/asNumber","value":1}]', 64, '--patch: operation 0: '],
    ['merge', '{"metadata":{"name":"b"}}', 64, 'a patch cannot rename Node(a)'],
    ['merge', '{"spec"', 78, '--patch:1:8: '],
    ['other', '{}', 64, "argument 'other' is invalid"],
  ])('refuses %s %s', async (type, text, code, message) => {
    const before = await spec();
    const { code: given, err } = await patch(text, type);
    expect({ given, err }).toEqual({ given: code, err: expect.stringContaining(message) });
    expect(await spec()).toEqual(before);
  });
});

it('labels', async () => {
  write('a.yaml', node('a', '192.0.2.1'));
  await good('apply -f $a.yaml');
  expect(await good('label nodes a cluster=front')).toBe('Successfully set label cluster on nodes a\n');
  expect(await good('label nodes a cluster=front')).toBe('Successfully updated label cluster on nodes a\n');
  expect(await say('label nodes a cluster=back')).toMatchObject({
    code: 1,
    err: expect.stringContaining(
      "failed to update label of nodes a, key cluster is already present. please use '--overwrite' to set a new value.",
    ),
  });
  expect(await good('label nodes a cluster=back --overwrite')).toBe(
    'Successfully updated label cluster on nodes a\n',
  );
  expect(await good('label nodes a cluster --remove')).toBe(
    'Successfully removed label cluster from nodes a\n',
  );
  expect(await say('label nodes a cluster --remove')).toMatchObject({
    code: 1,
    err: expect.stringContaining('cannot remove label of nodes a, key cluster does not exist'),
  });
  expect(await say('label nodes a x')).toMatchObject({
    code: 64,
    err: expect.stringContaining('invalid label x'),
  });
  expect(await say('label nodes b x=y')).toMatchObject({
    code: 1,
    err: expect.stringContaining('resource does not exist: Node(b)'),
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
