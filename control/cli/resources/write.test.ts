import { mkdirSync, rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../config/config.ts';
import { IPAM_CONFIG } from '../../datastore/keys.ts';
import { type OpenStore, openStore } from '../../datastore/open.ts';
import { openIpam } from '../../ipam/open.ts';
import { eachInItsStore, file, good, head, node, pod, pool, say, write } from './test-store.ts';

eachInItsStore();

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
