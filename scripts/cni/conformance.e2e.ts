import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { ROOT } from '../lab/cluster.ts';
import { noLab } from '../lab/in-lab.ts';
import { type Judgement, judge } from './conformance.ts';
import { POINTS } from './points.ts';

const run = promisify(execFile);
const BROKEN = join(ROOT, 'fixtures/cni/broken');
const noPlugins = existsSync('/usr/lib/cni/ptp') ? null : 'no containernetworking-plugins here';
if (noPlugins) console.log(`skipped: ${noPlugins}`);

const failed = (judgements: readonly Judgement[]) => judgements.filter(({ result }) => result === 'FAIL');
const passed = (judgements: readonly Judgement[]) => judgements.filter(({ result }) => result === 'pass');

describe.skipIf(noLab ?? noPlugins)('the conformance kit', () => {
  const nodes = ['kit0', 'kit1', 'kit2'];
  const on = (node: string) => ['ip', 'netns', 'exec', node];
  beforeAll(async () => {
    for (const node of nodes) await run('ip', ['netns', 'add', node]);
    return () => Promise.all(nodes.map((node) => run('ip', ['netns', 'delete', node])));
  });

  it('passes Debian’s ptp and bridge, and the plugin that is to be broken where they say nothing', async () => {
    const later = POINTS.filter(({ since }) => since === '1.1.0').map(({ name }) => name);
    const [ptp, bridge, whole] = await Promise.all([
      judge({ plugin: 'ptp', enter: on('kit0') }),
      judge({ plugin: 'bridge', enter: on('kit1') }),
      judge({ plugin: BROKEN, enter: on('kit2'), only: ['version-each', ...later] }),
    ]);
    for (const judgements of [ptp, bridge, whole]) expect(failed(judgements)).toEqual([]);
    for (const debian of [ptp, bridge]) expect(passed(debian)).toHaveLength(POINTS.length - later.length);
    expect(passed(whole)).toHaveLength(1 + later.length);
  });

  it('leaves out what a version has not yet', async () => {
    const only = ['add-result', 'check', 'del'];
    const judgements = await judge({ plugin: 'ptp', enter: on('kit0'), version: '0.3.1', only });
    expect(judgements.map(({ result }) => result)).toEqual(['pass', '-', 'pass']);
  });

  it('fails a plugin that is broken at a point, at that point', async () => {
    const left = POINTS.map(({ name }) => name);
    const missed: string[] = [];
    const work = async (node: string) => {
      for (let fault = left.pop(); fault !== undefined; fault = left.pop()) {
        const options = { plugin: BROKEN, env: { CNI_FAULT: fault }, only: [fault], enter: on(node) };
        const [judgement] = await judge(options);
        if (judgement!.result !== 'FAIL' || judgement!.why.startsWith('the kit failed')) {
          missed.push(`${fault}: ${judgement!.result} ${judgement!.why}`);
        }
      }
    };
    await Promise.all(nodes.map(work));
    expect(missed).toEqual([]);
  });

  it('says what it is told to judge, and ends with the verdict', async () => {
    const kit = join(ROOT, 'scripts/cni-conformance');
    const args = ['ptp', '--only', 'version', '--only', 'status'];
    const { stdout } = await run(kit, args);
    expect(stdout).toMatch(
      /^POINT +RESULT\nversion +pass +VERSION prints .*\nstatus +- +came with 1\.1\.0\n1 passed, 0 failed, 1 not/,
    );
    await expect(run(kit, ['no-such-plugin'])).rejects.toMatchObject({ code: 69 });
    const env = { ...process.env, CNI_FAULT: 'env-netns' };
    const broken = run(kit, [BROKEN, '--only', 'env-netns'], { env });
    await expect(broken).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^POINT .*\nenv-netns +FAIL +error 999, not 4/),
    });
  });
});
