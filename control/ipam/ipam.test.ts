import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedStore } from '../datastore/embedded.ts';
import { affinityKey, blockKey, IPAM_CONFIG } from '../datastore/keys.ts';
import { type IPPool, SCHEMAS } from '../resources/schema.ts';
import { usedOrdinals } from './block.ts';
import { listHandles } from './handles.ts';
import { type AssignRequest, Ipam, type IpamOptions } from './ipam.ts';

const pool = (name: string, cidr: string, blockSize: number): IPPool =>
  SCHEMAS.IPPool.parse({
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPPool',
    metadata: { name },
    spec: { cidr, blockSize, vxlanMode: 'Always' },
  });

let folder: string;
let keys: EmbeddedStore;
let pools: IPPool[];
let clock: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-ipam-'));
  keys = new EmbeddedStore(folder);
  pools = [pool('four', '10.65.0.0/24', 29), pool('six', 'fd65::/64', 125)];
  clock = Date.parse('2026-01-01T00:00:00Z');
});
afterEach(async () => {
  await keys.close();
  rmSync(folder, { recursive: true });
});

const ipamWith = (options: IpamOptions = {}) =>
  new Ipam(keys, async () => pools, { now: () => new Date(clock), ...options });
/** As Calico's own tools write it. */
const setStrict = (strict: boolean) => keys.put(IPAM_CONFIG, JSON.stringify({ strict_affinity: strict }));
const request = (node: string, handle: string, more: Partial<AssignRequest> = {}): AssignRequest => ({
  node,
  handle,
  attributes: { node, pod: handle },
  ip4: 1,
  ...more,
});
const addresses = async (assigned: Promise<{ address: string }[]>) =>
  (await assigned).map(({ address }) => address);

/** What must hold of a store at rest: an address in use has a handle that counts it, and nothing else is counted. */
async function expectSound(ipam: Ipam): Promise<void> {
  const counted: Record<string, Record<string, number>> = {};
  for (const block of await ipam.blocks()) {
    for (const ordinal of usedOrdinals(block)) {
      const handle = block.attributes[block.allocations[ordinal]!]!.handle_id!;
      counted[handle] ??= {};
      counted[handle][block.cidr] = (counted[handle][block.cidr] ?? 0) + 1;
    }
    const places = [
      ...block.unallocated,
      ...block.allocations.flatMap((at, ordinal) => (at === null ? [] : [ordinal])),
    ];
    expect(places.sort((a, b) => a - b)).toEqual(block.allocations.map((_, ordinal) => ordinal));
  }
  const handles = await listHandles(keys);
  expect(Object.fromEntries(handles.map(({ handleID, block }) => [handleID, block]))).toEqual(counted);
}

describe('assigning', () => {
  it('fills the node’s own block, then claims the next, and keeps nodes apart', async () => {
    const ipam = ipamWith();
    const first = await addresses(ipam.assign(request('a', 'h1')));
    const second = await addresses(ipam.assign(request('b', 'h2')));
    const block = (address: string) => Number(address.split('.')[3]) >> 3;
    expect(block(first[0]!)).not.toBe(block(second[0]!));
    for (let i = 0; i < 7; i++) {
      expect(block((await addresses(ipam.assign(request('a', `a${i}`))))[0]!)).toBe(block(first[0]!));
    }
    const [next] = await addresses(ipam.assign(request('a', 'next')));
    expect(block(next!)).not.toBe(block(first[0]!));
    await expectSound(ipam);
  });

  it('answers a handle that has addresses with those', async () => {
    const ipam = ipamWith();
    const first = await addresses(ipam.assign(request('a', 'h1', { ip6: 1 })));
    expect(first[0]).toMatch(/^10\.65\.0\.\d+$/);
    expect(first[1]).toMatch(/^fd65:/);
    expect((await addresses(ipam.assign(request('a', 'h1', { ip6: 1 })))).sort()).toEqual(first.sort());
    await expectSound(ipam);
  });

  it('gives a handle what it lacks still', async () => {
    const ipam = ipamWith();
    const [four] = await addresses(ipam.assign(request('a', 'h1')));
    const both = await addresses(ipam.assign(request('a', 'h1', { ip6: 1 })));
    expect(both).toEqual([four, expect.stringMatching(/^fd65:/)]);
    await expectSound(ipam);
  });

  it('gives back what it took when the other family has none', async () => {
    pools = [pool('four', '10.65.0.0/24', 29)];
    const ipam = ipamWith();
    await expect(ipam.assign(request('a', 'h1', { ip6: 1 }))).rejects.toMatchObject({ code: 'IPAM_NO_POOL' });
    expect(await ipam.addressesOf('h1')).toEqual([]);
    await expectSound(ipam);
  });

  it('borrows when no block is left, unless that is forbidden; then it says which pools are full', async () => {
    pools = [pool('small', '10.65.0.0/29', 30)];
    const ipam = ipamWith();
    for (let i = 0; i < 5; i++) await ipam.assign(request(i < 1 ? 'b' : 'a', `h${i}`));
    // Block of b: one used, three free. Block of a: full.
    await setStrict(true);
    await expect(ipam.assign(request('a', 'strict'))).rejects.toMatchObject({ code: 'IPAM_EXHAUSTED' });
    await setStrict(false);
    for (let i = 0; i < 3; i++) await ipam.assign(request('a', `borrowed${i}`));
    await expect(ipam.assign(request('a', 'full'))).rejects.toThrow('small (10.65.0.0/29)');
    await expectSound(ipam);
  });

  it('leaves reserved addresses, but gives one that is asked for', async () => {
    pools = [pool('small', '10.65.0.0/30', 30)];
    const ipam = ipamWith({ reserved: async () => ['10.65.0.0/31'] });
    expect((await addresses(ipam.assign(request('a', 'h1', { ip4: 2 })))).sort()).toEqual([
      '10.65.0.2',
      '10.65.0.3',
    ]);
    await expect(ipam.assign(request('a', 'h2'))).rejects.toMatchObject({ code: 'IPAM_EXHAUSTED' });
    const certain = { ...request('a', 'h3'), address: '10.65.0.1' };
    expect((await ipam.assignAddress(certain)).address).toBe('10.65.0.1');
    expect((await ipam.assignAddress(certain)).address).toBe('10.65.0.1');
    await expect(ipam.assignAddress({ ...certain, handle: 'h4' })).rejects.toThrow(
      '10.65.0.1 is taken by h3',
    );
    await expectSound(ipam);
  });

  it('takes a block over that its node has not used for a minute', async () => {
    pools = [pool('small', '10.65.0.0/30', 30)];
    const ipam = ipamWith({ cooldownMs: 0 });
    await setStrict(true);
    await ipam.assign(request('a', 'h1'));
    await ipam.releaseHandle('h1');
    await expect(ipam.assign(request('b', 'h2'))).rejects.toMatchObject({ code: 'IPAM_EXHAUSTED' });
    clock += 61_000;
    await ipam.assign(request('b', 'h2'));
    expect((await ipam.blocks()).map(({ affinity }) => affinity)).toEqual(['host:b']);
    expect(await keys.get(affinityKey('a', '10.65.0.0/30'))).toBeNull();
    await expectSound(ipam);
  });
});

describe('releasing', () => {
  it('cools an address before another gets it, the longest free first', async () => {
    pools = [pool('small', '10.65.0.0/30', 30)];
    const ipam = ipamWith({ cooldownMs: 30_000 });
    const all = await addresses(ipam.assign(request('a', 'h1', { ip4: 4 })));
    await ipam.releaseAddresses([{ address: all[2]! }]);
    clock += 1000;
    await ipam.releaseAddresses([{ address: all[1]! }]);
    await expect(ipam.assign(request('a', 'h2'))).rejects.toMatchObject({ code: 'IPAM_EXHAUSTED' });
    clock += 30_000;
    expect(await addresses(ipam.assign(request('a', 'h2', { ip4: 2 })))).toEqual([all[2], all[1]]);
    await expectSound(ipam);
  });

  it('keeps cooling also where the block changes hands', async () => {
    pools = [pool('small', '10.65.0.0/30', 30)];
    const ipam = ipamWith();
    await setStrict(true);
    await ipam.assign(request('a', 'h1'));
    clock += 120_000;
    await ipam.releaseHandle('h1');
    await expect(ipam.assign(request('b', 'h2'))).rejects.toMatchObject({ code: 'IPAM_EXHAUSTED' });
    clock += 31_000;
    await ipam.assign(request('b', 'h2'));
    await expectSound(ipam);
  });

  it('frees nobody else’s address also when the block was made anew', async () => {
    pools = [pool('one', '10.65.0.0/32', 32)];
    const ipam = ipamWith({ cooldownMs: 0 });
    await ipam.assign(request('a', 'old'));
    const sequence = (await ipam.blocks())[0]!.sequenceNumberForAllocation[0]!;
    await ipam.releaseHandle('old');
    clock += 1;
    await ipam.releaseNode('a');
    await ipam.assign(request('a', 'new'));
    expect(await ipam.releaseAddresses([{ address: '10.65.0.0', sequence }])).toEqual([]);
    await expectSound(ipam);
  });

  it('is not put off by a clock that goes back, or far ahead', async () => {
    pools = [pool('one', '10.65.0.0/32', 32)];
    const ipam = ipamWith({ cooldownMs: 30_000 });
    for (const jump of [-3_600_000, 86_400_000, -86_400_000]) {
      await ipam.assign(request('a', 'h1'));
      await ipam.releaseHandle('h1');
      clock += jump;
    }
    await ipam.assign(request('a', 'h1'));
    await expectSound(ipam);
  });

  it('frees nothing for a late release', async () => {
    const ipam = ipamWith({ cooldownMs: 0 });
    pools = [pool('one', '10.65.0.0/32', 32)];
    await ipam.assign(request('a', 'old'));
    const [block] = await ipam.blocks();
    const sequence = block!.sequenceNumberForAllocation[0]!;
    await ipam.releaseHandle('old');
    clock += 1;
    await ipam.assign(request('a', 'new'));
    expect(await ipam.releaseAddresses([{ address: '10.65.0.0', handle: 'old' }])).toEqual([]);
    expect(await ipam.releaseAddresses([{ address: '10.65.0.0', sequence }])).toEqual([]);
    expect(await ipam.releaseHandle('old')).toEqual([]);
    expect(await addresses(ipam.addressesOf('new'))).toEqual(['10.65.0.0']);
    await expectSound(ipam);
  });

  it('of a node leaves blocks that are in use', async () => {
    const ipam = ipamWith({ cooldownMs: 0 });
    await ipam.assign(request('a', 'h1', { ip4: 9 }));
    const [first, last] = [(await ipam.addressesOf('h1'))[0]!, (await ipam.addressesOf('h1'))[8]!];
    await ipam.releaseAddresses([{ address: last.address }]);
    expect(await ipam.releaseNode('a')).toEqual([last.block]);
    expect(await keys.get(blockKey(first.block))).not.toBeNull();
    await expectSound(ipam);
  });
});

describe('several at a time', () => {
  it('never have one address twice, and leave nothing behind', async () => {
    pools = [pool('four', '10.65.0.0/25', 29)];
    const stores = Array.from({ length: 3 }, () => new EmbeddedStore(folder));
    const ipams = stores.map((store) => new Ipam(store, async () => pools, { cooldownMs: 0 }));
    const held = new Map<string, string>();
    await Promise.all(
      ipams.flatMap((ipam, who) =>
        Array.from({ length: 3 }, async (_, lane) => {
          for (let turn = 0; turn < 12; turn++) {
            const handle = `${who}.${lane}.${turn}`;
            const found = await ipam.assign(request(`node${who}`, handle, { ip4: 1 + (turn % 3) }));
            for (const { address } of found) {
              expect(held.get(address), address).toBeUndefined();
              held.set(address, handle);
            }
            if (turn % 2 === 1) continue;
            for (const { address } of found) held.delete(address);
            expect(await ipam.releaseHandle(handle)).toHaveLength(found.length);
          }
        }),
      ),
    );
    const used = (await ipamWith().blocks()).flatMap((block) => usedOrdinals(block));
    expect(used).toHaveLength(held.size);
    await expectSound(ipamWith());
    await Promise.all(stores.map((store) => store.close()));
  });
});
