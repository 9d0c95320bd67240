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

  it.each(['ptp', 'bridge'])('passes Debian’s %s', async (plugin) => {
    const judgements = await judge({ plugin, enter: on('kit0') });
    expect(failed(judgements)).toEqual([]);
    // All but STATUS and GC, which came with 1.1.0.
    expect(passed(judgements).length).toBe(POINTS.length - 4);
  });

  it('passes the plugin that is to be broken, where Debian’s say nothing', async () => {
    const only = POINTS.filter(({ since }) => since === '1.1.0').map(({ name }) => name);
    const judgements = await judge({ plugin: BROKEN, enter: on('kit0'), only: ['version-each', ...only] });
    expect(failed(judgements)).toEqual([]);
    expect(passed(judgements).length).toBe(5);
    const old = { plugin: BROKEN, enter: on('kit0'), version: '0.3.1', only: ['add-result', 'check', 'del'] };
    expect((await judge(old)).map(({ result }) => result)).toEqual(['pass', '-', 'pass']);
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
  });
});
