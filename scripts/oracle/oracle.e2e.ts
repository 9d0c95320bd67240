import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROOT } from '../lab/cluster.ts';
import { noLab } from '../lab/in-lab.ts';
import { corpus } from './corpus.ts';
import { document, LISTED } from './differences.ts';
import { kernelFault } from './kernel.ts';
import { mutations } from './mutate.ts';
import * as words from './oracle.ts';
import { Oracle } from './oracle.ts';

const fault = noLab ?? (await kernelFault());
if (fault !== noLab) console.log(`skipped: ${fault}`);

/** The long form is scripts/test-oracle. */
const MUTATIONS = 2000;
const SEED = 1;

describe.skipIf(fault)('the kernel and tortie, asked the same', () => {
  let oracle: Oracle;
  beforeAll(async () => {
    oracle = await Oracle.create();
  });
  afterAll(() => oracle?.close());

  it('differ over the cases made by hand only where docs/DIFFERENCES.md says so, and in each of its rows', async () => {
    const { unlisted, needed } = await oracle.judge(corpus());
    expect(unlisted.map(words.describe)).toEqual([]);
    expect(LISTED.filter((row) => !needed.has(row)).map(({ title }) => title)).toEqual([]);
  });

  it('differ over mutations of them nowhere else', async () => {
    const { unlisted } = await oracle.judge(mutations(corpus(), MUTATIONS, SEED));
    expect(unlisted.map(words.describe)).toEqual([]);
  });
});

describe('docs/DIFFERENCES.md', () => {
  it('is as the table that it is made of', () => {
    expect(readFileSync(`${ROOT}/docs/DIFFERENCES.md`, 'utf8')).toBe(document());
  });
});
