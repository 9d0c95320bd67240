import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StaticDatastore } from '../datastore/static.ts';
import { loadResources } from './load.ts';
import { nearest } from './yaml.ts';

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
      { kind: 'IPPool', spec: { blockSize: 26, ipipMode: 'Never', vxlanMode: 'Never', natOutgoing: false } },
      { kind: 'BGPConfiguration', spec: { asNumber: 64512, nodeToNodeMeshEnabled: true, listenPort: 179 } },
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
      'all.yaml:5:3: spec.cidr: "10.65.0.1/16": must be an IPv4 prefix without host bits',
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
