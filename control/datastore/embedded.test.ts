import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe } from 'vitest';
import { EmbeddedStore } from './embedded.ts';
import { describeStore } from './kv-suite.ts';

describe('the embedded store', () => {
  let folder: string;
  let stores: EmbeddedStore[];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tortie-store-'));
    stores = [];
  });
  afterEach(async () => {
    await Promise.all(stores.map((store) => store.close()));
    rmSync(folder, { recursive: true });
  });
  const open = (logLength = 10_000) => {
    const store = new EmbeddedStore(folder, { logLength });
    stores.push(store);
    return store;
  };

  describeStore(() => ({
    open,
    compact: async () => {
      // The log is cut off by who writes.
      await open(1).put('/compact', '1');
    },
  }));
});
