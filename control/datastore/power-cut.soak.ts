import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { EmbeddedStore } from './embedded.ts';
import { cutPower } from './power-cut.ts';

it('loses nothing that was acknowledged in 200 power cuts, and tears nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tortie-store-'));
  try {
    const { acknowledged, revisions } = await cutPower(folder, 200, () => new EmbeddedStore(folder));
    expect(acknowledged).toBeGreaterThan(1000);
    expect(revisions).toBeGreaterThanOrEqual(acknowledged);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
