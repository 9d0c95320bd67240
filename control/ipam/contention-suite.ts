/** What must be true of a store that several processes allocate from, as tests: a short run and a long one. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DatastoreSettings } from '../config/config.ts';
import { EtcdServer } from '../datastore/etcd-server.ts';
import { openStore } from '../datastore/open.ts';
import { SCHEMAS } from '../resources/schema.ts';
import { contend, inspect } from './contention.ts';
import { openIpam } from './open.ts';

const PROCESSES = 4;

/** `operations`: of each process. */
export const describeContention = (operations: number): void =>
  describe.each(['embedded', 'etcd'] as const)('several processes over %s', (kind) => {
    let folder: string;
    let server: EtcdServer | undefined;
    let settings: DatastoreSettings;
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'tortie-contention-'));
      server = kind === 'etcd' ? await EtcdServer.start() : undefined;
      settings = server
        ? { kind: 'etcd', endpoints: [server.endpoint] }
        : { kind: 'embedded', path: join(folder, 'store') };
      const store = openStore(settings);
      const spec = { cidr: '10.65.0.0/24', blockSize: 29 };
      const pool = { apiVersion: 'projectcalico.org/v3', kind: 'IPPool', metadata: { name: 'pods' }, spec };
      await store.resources.put(SCHEMAS.IPPool.parse(pool), null);
      await store.close();
    });
    afterAll(async () => {
      await server?.close();
      rmSync(folder, { recursive: true, force: true });
    });

    it('never have an address twice, and leave no address behind', async () => {
      const { held, twice, finished } = await contend(settings, PROCESSES, operations, 1);
      expect({ twice, finished }).toEqual({ twice: [], finished: PROCESSES });
      const { allocations, deadHandles, missingHandles, badClaims } = await inspect(settings);
      expect(allocations.map(({ address }) => address).sort()).toEqual([...held.values()].flat().sort());
      expect({ deadHandles, missingHandles, badClaims }).toEqual({
        deadHandles: [],
        missingHandles: [],
        badClaims: [],
      });
      const store = openStore(settings);
      for (const handle of held.keys()) await openIpam(store).releaseHandle(handle);
      await store.close();
      expect((await inspect(settings)).allocations).toEqual([]);
    });

    it('that are killed at any point leave nothing that the next cannot put right', async () => {
      const { twice } = await contend(settings, PROCESSES, operations, 7, (index) => 5 + 3 * index);
      expect(twice).toEqual([]);
      const { allocations, missingHandles } = await inspect(settings);
      // Every address in use has a handle that leads to it: that is what release needs.
      expect(missingHandles).toEqual([]);
      const store = openStore(settings);
      const ipam = openIpam(store);
      for (const handle of new Set(allocations.map(({ handle }) => handle!)))
        await ipam.releaseHandle(handle);
      for (const handle of (await inspect(settings)).deadHandles) await ipam.releaseHandle(handle);
      // What was claimed half way is claimed by who comes next.
      for (let index = 0; index < PROCESSES; index++) {
        await ipam.assign({ node: `node${index}`, handle: `last${index}`, attributes: {}, ip4: 1 });
        await ipam.releaseHandle(`last${index}`);
      }
      await store.close();
      const { problems, badClaims, ...rest } = await inspect(settings);
      expect({ problems, badClaims, allocations: rest.allocations }).toEqual({
        problems: 0,
        badClaims: [],
        allocations: [],
      });
    });
  });
