/** A little of what scripts/test-fuzz does for long. */
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Campaign } from './campaign.ts';
import { recordedUpdates } from './corpus.ts';

const FILE = join(import.meta.dirname, '../../../../shared/data/bgp-session-2015.mrt.gz');
const MESSAGES = 2_000;

const recorded = recordedUpdates(FILE, 500);
if (recorded.length === 0) console.log(`the fuzzer does without recorded UPDATEs: ${FILE} is missing`);

let campaign: Campaign;
afterEach(() => campaign.end());

describe('ten thousand messages with mistakes', () => {
  it.each([1, 2, 3, 4, 5])('end at most their session (seed %i)', async (seed) => {
    campaign = new Campaign(seed, recorded);
    await campaign.start();
    while (campaign.progress.messages < MESSAGES) await campaign.session();
    expect(campaign.progress.sessions).toBeGreaterThan(10);
    expect(campaign.progress.ended.size).toBeGreaterThan(5);
  });
});
