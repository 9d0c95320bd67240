import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StaticDatastore } from '../datastore/static.ts';
import { loadResources } from './load.ts';
import { NewWarnings, warningsOf } from './warnings.ts';
import { ConfigError, nearest } from './yaml.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-resources-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const head = (kind: string, name: string) =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {name: ${name}}\n`;
const pool = (name = 'pool', cidr = '10.65.0.0/16', more = '') =>
  `${head('IPPool', name)}spec:\n  cidr: ${cidr}\n${more}`;
const node = (name: string, address: string, more = '') =>
  `${head('Node', name)}spec:\n  bgp: {ipv4Address: ${address}/24}\n${more}`;
const endpoint = (name: string, address: string, nodeName = 'node1', port = name) =>
  `${head('WorkloadEndpoint', name)}spec:\n  node: ${nodeName}\n  interfaceName: ${port}\n  netns: pod1\n  ipNetworks: [${address}]\n`;

function load(...documents: string[]) {
  const file = join(folder, 'all.yaml');
  writeFileSync(file, documents.join('---\n'));
  return loadResources(file);
}

function complaints(...documents: string[]): string {
  try {
    load(...documents);
  } catch (error) {
    return (error as Error).message.replaceAll(`${folder}/`, '');
  }
  throw new Error('was accepted');
}

describe('loadResources', () => {
  it('reads a folder and gives Calico’s defaults', () => {
    mkdirSync(join(folder, 'd'));
    writeFileSync(join(folder, 'd', 'a.yaml'), pool());
    writeFileSync(join(folder, 'd', 'b.yml'), `${head('BGPConfiguration', 'default')}spec: {}\n`);
    writeFileSync(join(folder, 'd', 'notes.txt'), 'not a resource');
    expect(loadResources(join(folder, 'd'))).toMatchObject([
      {
        kind: 'IPPool',
        spec: {
          blockSize: 26,
          ipipMode: 'Never',
          vxlanMode: 'Never',
          natOutgoing: false,
          nodeSelector: 'all()',
          allowedUses: ['Workload', 'Tunnel'],
          assignmentMode: 'Automatic',
        },
      },
      { kind: 'BGPConfiguration', spec: {} },
    ]);
  });

  it.each([
    [
      'near miss',
      [pool('pool', '10.65.0.0/16', '  ippMode: Always\n')],
      'all.yaml:6:3: spec.ippMode: unknown key; did you mean ipipMode?',
    ],
    [
      'bad enum',
      [pool('pool', '10.65.0.0/16', '  ipipMode: always\n')],
      'spec.ipipMode: "always" is not allowed; allowed: Always, CrossSubnet, Never (did you mean Always?)',
    ],
    [
      'host bits',
      [pool('pool', '10.65.0.1/16')],
      'all.yaml:5:3: spec.cidr: "10.65.0.1/16": must be an IP prefix without host bits',
    ],
    [
      'unknown kind',
      [`${head('IPool', 'x')}spec: {}\n`],
      'kind: "IPool" is not allowed; allowed: IPPool, Node',
    ],
    ['wrong version', [pool().replace('v3', 'v1')], 'apiVersion: "projectcalico.org/v1" is not allowed'],
    [
      'both tunnels',
      [pool('pool', '10.65.0.0/16', '  ipipMode: Always\n  vxlanMode: Always\n')],
      'ipipMode or vxlanMode, not both',
    ],
    [
      'overlapping pools',
      [pool(), pool('two', '10.65.128.0/17')],
      '10.65.128.0/17 overlaps pool pool (10.65.0.0/16)',
    ],
    ['the same name', [pool(), pool('pool', '10.66.0.0/16')], 'IPPool pool is there twice'],
    [
      'the same node address',
      [node('a', '192.0.2.1'), node('b', '192.0.2.1')],
      '192.0.2.1 is taken by node a',
    ],
    [
      'a block outside',
      [pool(), node('a', '192.0.2.1', '  blocks: [10.66.0.0/26]\n')],
      '10.66.0.0/26 lies in no IPPool',
    ],
    [
      'a block of the wrong size',
      [pool(), node('a', '192.0.2.1', '  blocks: [10.65.0.0/25]\n')],
      'blocks of pool pool are /26',
    ],
    [
      'a block of two nodes',
      [
        pool(),
        node('a', '192.0.2.1', '  blocks: [10.65.0.0/26]\n'),
        node('b', '192.0.2.2', '  blocks: [10.65.0.0/26]\n'),
      ],
      '10.65.0.0/26 overlaps 10.65.0.0/26 of node a',
    ],
    ['a pod of no node', [pool(), endpoint('p', '10.65.0.2/32')], 'there is no Node node1'],
    [
      'an address of two pods',
      [pool(), node('node1', '192.0.2.1'), endpoint('p', '10.65.0.2/32'), endpoint('q', '10.65.0.2/32')],
      '10.65.0.2/32 is taken by WorkloadEndpoint p',
    ],
    [
      'a port of two pods',
      [
        pool(),
        node('node1', '192.0.2.1'),
        endpoint('p', '10.65.0.2/32'),
        endpoint('q', '10.65.0.3/32', 'node1', 'p'),
      ],
      'p is taken by WorkloadEndpoint p on node1',
    ],
    [
      'a pod with a subnet',
      [pool(), node('node1', '192.0.2.1'), endpoint('p', '10.65.0.0/26')],
      'a pod has /32 addresses',
    ],
    [
      'a pod outside the pools',
      [pool(), node('node1', '192.0.2.1'), endpoint('p', '10.9.0.1/32')],
      '10.9.0.1/32 lies in no IPPool',
    ],
    [
      'an AS out of range',
      [`${head('BGPPeer', 'p')}spec: {peerIP: 192.0.2.9, asNumber: 4294967296}\n`],
      'spec.asNumber: 4294967296',
    ],
  ])('refuses %s', (_name, documents, expected) => {
    expect(complaints(...documents)).toContain(expected);
  });

  it.each([
    ['no map', 'just text\n', 'all.yaml:1:1: "just text": must be a map'],
    ['nothing that it needs', '{}\n', 'all.yaml:1:1: kind: is missing; allowed: IPPool, Node'],
    ['null for a map', `${head('IPPool', 'x')}spec:\n`, 'all.yaml:4:1: spec: null: must be a map'],
    ['a list for a string', pool('pool', '[10.65.0.0/16]'), 'all.yaml:5:3: spec.cidr: must be a string'],
    ['a key twice', `${pool()}kind: Node\n`, 'all.yaml:6:1: Map keys must be unique'],
    ['a prototype', `${pool()}__proto__: {}\n`, 'all.yaml:6:1: __proto__: unknown key'],
    ['an alias of nothing', 'a: *b\n', 'all.yaml:1:1: Unresolved alias'],
    [
      'aliases that explode',
      `a: &a [x, x, x, x, x, x, x, x, x]\n${[...'bcdefghi'].map((key) => `${key}: &${key} [${`*${String.fromCharCode(key.charCodeAt(0) - 1)}, `.repeat(9)}]\n`).join('')}`,
      'all.yaml:1:1: Excessive alias count',
    ],
    ['a map as key', '? {a: 1}\n: b\n', 'all.yaml:1:3: With stringKeys, all keys must be strings'],
    [
      'a selector',
      pool('pool', '10.65.0.0/16', '  nodeSelector: role = "x"\n'),
      'all.yaml:6:3: spec.nodeSelector: "role = \\"x\\"": expected ==, !=, in, not in, contains, starts with or ends with, at character 6',
    ],
    [
      'a bad entry of a list',
      node('n', '192.0.2.1', '  blocks:\n    - 10.65.0.0/26\n    - nonsense\n'),
      'all.yaml:8:7: spec.blocks.1: "nonsense": must be an IP prefix',
    ],
    [
      'IPIP of IPv6',
      pool('pool', 'fd65::/48', '  ipipMode: Always\n'),
      'an IPv6 pool has no IPIP: set vxlanMode',
    ],
    ['an IPv6 block too large', pool('pool', 'fd65::/48', '  blockSize: 64\n'), '64 is not in 116..128'],
    [
      'an IPv6 block of another size',
      `${pool('pool', 'fd65::/48')}---\n${node('n', '192.0.2.1', '  blocks: ["fd65::/120"]\n')}`,
      'fd65::/120: blocks of pool pool are /122',
    ],
    [
      'a pod with half an address',
      `${pool('pool', 'fd65::/48')}---\n${node('node1', '192.0.2.1')}---\n${endpoint('a', '"fd65::/127"')}`,
      'fd65::/127: a pod has /128 addresses',
    ],
    ['a block too large', pool('pool', '10.65.0.0/16', '  blockSize: 33\n'), '33 is not in 20..32'],
    [
      'a port out of range',
      `${head('BGPPeer', 'p')}spec: {peerIP: "192.0.2.9:65536", asNumber: 64512}\n`,
      'all.yaml:4:8: spec.peerIP: "192.0.2.9:65536": must be an IP address',
    ],
  ])('says what is wrong with %s, and where', (_name, text, expected) => {
    expect(complaints(text)).toContain(expected);
  });

  it('takes what Calico’s tools print', () => {
    const printed = `apiVersion: projectcalico.org/v3
items:
- apiVersion: projectcalico.org/v3
  kind: IPPool
  metadata:
    creationTimestamp: "2026-01-01T12:00:00Z"
    generation: 1
    name: default-ipv4-ippool
    resourceVersion: "1193"
    uid: 9b7b2e4c-0c5c-4d5c-8a57-0a1d9b3a5d2f
  spec:
    allowedUses:
    - Workload
    - Tunnel
    blockSize: 26
    cidr: 10.66.0.0/16
    ipipMode: Always
    natOutgoing: true
    nodeSelector: all()
    vxlanMode: Never
kind: IPPoolList
metadata:
  resourceVersion: "33366"
`;
    const several = `- ${head('BGPPeer', 'p').trim().replaceAll('\n', '\n  ')}
  spec: {peerIP: "[2001:db8::9]:1179", asNumber: "1.10", nodeSelector: has(rack)}
- ${head('IPAMConfiguration', 'default').trim().replaceAll('\n', '\n  ')}
  spec: {strictAffinity: true}
`;
    expect(load(printed, several)).toMatchObject([
      { kind: 'IPPool', metadata: { name: 'default-ipv4-ippool', resourceVersion: '1193' } },
      { kind: 'BGPPeer', spec: { asNumber: 65546, nodeSelector: 'has(rack)' } },
      { kind: 'IPAMConfig', spec: { strictAffinity: true, autoAllocateBlocks: true } },
    ]);
    expect(complaints(printed.replace('ipipMode', 'ippMode'))).toBe(
      'all.yaml:17:5: items.0.spec.ippMode: unknown key; did you mean ipipMode?',
    );
  });

  it('passes over empty documents', () => {
    expect(load('---\n', '\n', `${pool()}`, '# end\n')).toHaveLength(1);
  });

  it('names a file that cannot be read', () => {
    mkdirSync(join(folder, 'd', 'x.yaml'), { recursive: true });
    expect(() => loadResources(join(folder, 'd'))).toThrow(/x\.yaml: EISDIR; check the path$/);
    expect(() => loadResources(join(folder, 'none'))).toThrow(/none: ENOENT; check the path$/);
  });

  it('meets any damage with errors that have a place', () => {
    const good = [pool(), node('node1', '192.0.2.1'), endpoint('p', '10.65.0.2/32')].join('---\n');
    const damage = fc.tuple(fc.nat(good.length), fc.nat(8), fc.string({ unit: 'binary', maxLength: 6 }));
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (cuts) => {
        let text = good;
        for (const [at, length, insert] of cuts) text = text.slice(0, at) + insert + text.slice(at + length);
        try {
          load(text);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
          for (const line of (error as Error).message.split('\n'))
            expect(line).toMatch(/all\.yaml:\d+:\d+: /);
        }
      }),
    );
  });

  it('warns of what it accepts and does not do, once for a resource and reason', () => {
    const all = load(
      pool('pool', '10.65.0.0/16', '  namespaceSelector: has(x)\n'),
      `${head('BGPConfiguration', 'mine')}spec: {}\n`,
      `${head('Node', 'n')}spec:\n  bgp: {ipv4Address: 192.0.2.1/24, routeReflectorClusterID: 1.0.0.1}\n`,
      `${head('FelixConfiguration', 'default')}spec: {bpfEnabled: true, wireguardEnabled: true, vxlanVNI: 5000}\n`,
    );
    expect(warningsOf(all)).toEqual([
      'IPPool pool: namespaceSelector does nothing: labels of namespaces are not known here',
      'BGPConfiguration mine: does nothing; only the one named "default" counts',
      'FelixConfiguration default: bpfEnabled, wireguardEnabled do nothing: it is about what tortie does not have',
    ]);
  });

  it('warns once, however often the same comes', () => {
    const text = `${head('FelixConfiguration', 'default')}spec: {bpfEnabled: true}\n`;
    const warnings = new NewWarnings();
    const all = load(text);
    expect(warnings.of(all)).toHaveLength(1);
    expect(warnings.of(all)).toEqual([]);
    expect(warnings.of(load(text))).toEqual([]);
    expect(warnings.of(load(text.replace('bpfEnabled', 'xdpEnabled')))).toEqual([
      expect.stringContaining('xdpEnabled does nothing'),
    ]);
  });

  it('is silent where a value asks for what is done anyway', () => {
    const all = load(
      pool('pool', '10.65.0.0/16', '  namespaceSelector: all()\n'),
      `${head('BGPConfiguration', 'default')}spec: {logSeverityScreen: Info, bindMode: NodeIP}\n`,
      `${head('FelixConfiguration', 'default')}spec: {bpfLogLevel: "", floatingIPs: Disabled, reportingInterval: 0s}\n`,
    );
    expect(warningsOf(all)).toEqual([]);
  });

  it('finds near misses only near', () => {
    expect(nearest('vxlanMod', ['vxlanMode', 'ipipMode'])).toBe('vxlanMode');
    expect(nearest('colour', ['cidr', 'blockSize'])).toBeUndefined();
  });
});

describe('StaticDatastore', () => {
  it('tells watchers the difference, and keeps everything when a file turns bad', async () => {
    const file = join(folder, 'all.yaml');
    writeFileSync(file, [pool(), node('a', '192.0.2.1'), node('b', '192.0.2.2')].join('---\n'));
    const store = new StaticDatastore(file);
    const seen: string[] = [];
    store.watch((changes) => {
      seen.push(
        ...changes.map((change) => `${change.key.kind} ${change.key.name} ${change.stored ? 'set' : 'gone'}`),
      );
    });
    expect(store.reload()).toEqual([]);

    writeFileSync(
      file,
      [pool('pool', '10.65.0.0/16', '  ipipMode: Always\n'), node('a', '192.0.2.1')].join('---\n'),
    );
    store.reload();
    expect(seen).toEqual(['IPPool pool set', 'Node b gone']);
    expect(await store.get({ kind: 'IPPool', name: 'pool' })).toMatchObject({
      resource: { spec: { ipipMode: 'Always' } },
    });

    writeFileSync(file, 'kind: nonsense\n');
    expect(() => store.reload()).toThrow(/not allowed/);
    expect(await store.list()).toHaveLength(2);
    await expect(store.put()).rejects.toMatchObject({ code: 'STORE_READ_ONLY' });
  });
});
