import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../bgp/until.ts';
import { type IPPool, SCHEMAS, type WorkloadEndpoint } from '../resources/schema.ts';
import { type Change, keyOf, keyText } from './datastore.ts';
import { EmbeddedStore } from './embedded.ts';
import { blockKey, resourceKey, resourceKeyOf } from './keys.ts';
import { ResourceStore } from './resource-store.ts';

const pool = (name: string, cidr: string): IPPool =>
  SCHEMAS.IPPool.parse({
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPPool',
    metadata: { name },
    spec: { cidr, vxlanMode: 'Always' },
  });

const workload = (name: string, node: string): WorkloadEndpoint => ({
  apiVersion: 'projectcalico.org/v3',
  kind: 'WorkloadEndpoint',
  metadata: { name, namespace: 'default' },
  spec: {
    node,
    orchestrator: 'k8s',
    endpoint: 'eth0',
    interfaceName: 'cali1',
    netns: 'pod',
    ipNetworks: ['10.65.0.2/32'],
    allowSpoofedSourcePrefixes: [],
    queues: 1,
  },
});

let folder: string;
let keys: EmbeddedStore;
let store: ResourceStore;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-store-'));
  keys = new EmbeddedStore(folder);
  store = new ResourceStore(keys);
});
afterEach(async () => {
  await store.close();
  await keys.close();
  rmSync(folder, { recursive: true });
});

describe('keys', () => {
  it('are those of Calico’s etcd', () => {
    const key = { kind: 'WorkloadEndpoint', namespace: 'default', name: 'n-k8s-p-eth0' } as const;
    const text = '/calico/resources/v3/projectcalico.org/workloadendpoints/default/n-k8s-p-eth0';
    expect(resourceKey(key)).toBe(text);
    expect(resourceKeyOf(text)).toEqual(key);
    expect(resourceKeyOf('/calico/resources/v3/projectcalico.org/ippools/a')).toEqual({
      kind: 'IPPool',
      name: 'a',
    });
    expect(resourceKeyOf('/calico/resources/v3/projectcalico.org/profiles/a')).toBeNull();
    expect(blockKey('10.65.0.64/26')).toBe('/calico/ipam/v2/assignment/ipv4/block/10.65.0.64-26');
  });
});

describe('resources', () => {
  it('are found again as they were put', async () => {
    const { revision } = await store.put(pool('a', '10.65.0.0/16'), null);
    expect(await store.get({ kind: 'IPPool', name: 'a' })).toEqual({
      resource: pool('a', '10.65.0.0/16'),
      revision,
    });
    expect((await store.list()).map(({ resource }) => keyText(keyOf(resource)))).toEqual(['IPPool a']);
  });

  it('are changed by who knows their revision only', async () => {
    const { revision } = await store.put(pool('a', '10.65.0.0/16'), null);
    await expect(store.put(pool('a', '10.66.0.0/16'), null)).rejects.toMatchObject({
      code: 'STORE_CONFLICT',
    });
    await store.put(pool('a', '10.66.0.0/16'), revision);
    await expect(store.delete({ kind: 'IPPool', name: 'a' }, revision)).rejects.toMatchObject({
      code: 'STORE_CONFLICT',
    });
  });

  it('of one node are told apart without reading all', async () => {
    for (const [name, node] of [
      ['a-k8s-p-eth0', 'a'],
      ['a--b-k8s-p-eth0', 'a-b'],
      ['by-hand', 'a'],
      ['other', 'b'],
    ] as const) {
      await store.put(workload(name, node), null);
    }
    const names = (await store.list('WorkloadEndpoint', { node: 'a' })).map(
      ({ resource }) => resource.metadata.name,
    );
    expect(names).toEqual(['a-k8s-p-eth0', 'by-hand']);
  });
});

describe('a watch', () => {
  it('tells what is there, then what changes, and leaves out what it cannot read', async () => {
    await store.put(pool('a', '10.65.0.0/16'), null);
    const seen: string[] = [];
    const invalid: string[] = [];
    const stop = store.watch(
      (changes: readonly Change[]) => {
        for (const { key, stored } of changes) seen.push(`${stored ? '+' : '-'} ${keyText(key)}`);
      },
      { node: 'a', onInvalid: (problem) => invalid.push(problem) },
    );
    await until('the first', () => Promise.resolve(seen.length === 1));
    const { revision } = await store.put(pool('b', '10.66.0.0/16'), null);
    await keys.put('/calico/resources/v3/projectcalico.org/ippools/c', '{"kind":');
    await store.put(workload('b-k8s-p-eth0', 'b'), null);
    await store.put(workload('a-k8s-p-eth0', 'a'), null);
    await store.delete({ kind: 'IPPool', name: 'b' }, revision);
    await until('the last', () => Promise.resolve(seen.length === 4));
    expect(seen).toEqual([
      '+ IPPool a',
      '+ IPPool b',
      '+ WorkloadEndpoint default/a-k8s-p-eth0',
      '- IPPool b',
    ]);
    expect(invalid).toHaveLength(1);
    expect(invalid[0]).toMatch(/^IPPool c in the store: .*JSON/);
    stop();
  });
});
