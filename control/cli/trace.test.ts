/** What the command makes of its options, and what it writes. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { readPcap } from '../../dataplane/port/pcap.ts';
import { traceReplay } from '../trace-replay.ts';
import { runCli } from './test-io.ts';

const LAB = fileURLToPath(new URL('../../fixtures/two-nodes/lab.yaml', import.meta.url));
const CAPTURE = fileURLToPath(new URL('../../fixtures/two-nodes/in/cali-a.pcap', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'tortie-trace-'));
afterAll(() => rmSync(folder, { recursive: true }));

const trace = (...args: string[]) =>
  runCli(['trace', '--lab', LAB, '--in', `cali-a=${CAPTURE}`, ...args], { actions: { traceReplay } });
const verdicts = (out: string) => [...out.matchAll(/^ {2}=> (.*)$/gm)].map(([, verdict]) => verdict);

describe('tortie trace of a capture', () => {
  it('tells why a packet was dropped, and of nothing else', async () => {
    const { code, out } = await trace('reason too_big');
    expect(code).toBe(0);
    expect(verdicts(out)).toEqual(['dropped: too_big']);
    expect(out).toContain('  1451 bytes where 1450 fit\n');
    expect(out).toContain(
      '  look-up 10.66.1.2: 10.66.1.0/26 vxlan, from datastore node node3, next hop 192.0.2.3\n',
    );
  });

  it('joins options and the expression', async () => {
    const all = await trace('--dst', '10.65.1.2', '--proto', 'udp', '--verdict', 'sent');
    const some = await trace('udp', 'and', 'verdict', 'sent', '--dst', '10.65.1.2');
    expect(all.out).toBe(some.out);
    expect(verdicts(all.out).length).toBeGreaterThan(0);
    expect(new Set(verdicts(all.out))).toEqual(new Set(['sent on underlay']));
    const one = await trace('--reason', 'ttl_expired', '--json');
    expect(
      one.out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).verdict),
    ).toEqual(['dropped: ttl_expired']);
  });

  it('takes one in so many', async () => {
    const count = async (...args: string[]) => verdicts((await trace('--count', '100', ...args)).out).length;
    const all = await count();
    expect(all).toBeGreaterThan(20);
    expect(await count('--sample', '3')).toBe(Math.ceil(all / 3));
  });

  it('writes packets with what was done as their comments', async () => {
    const file = join(folder, 'drops.pcapng');
    const { code, out, err } = await trace('--verdict', 'drop', '--count', '4', '--write', file);
    expect({ code, out, err }).toEqual({ code: 0, out: '', err: `4 packets in ${file}\n` });
    expect([...readPcap(readFileSync(file))]).toHaveLength(4);
    expect(readFileSync(file).toString()).toContain('=> dropped: arp_silent');
  });

  it.each([
    [['tcp and'], /filter, character 8: ends where/],
    [['--reason', 'nothing'], /It is no drop reason/],
    [['--port', 'nobody'], /no port "nobody" in .*; ports: .*cali-a/],
    [['--write', '/nonexistent/file.pcapng'], /cannot write \/nonexistent\/file.pcapng: ENOENT/],
    [['--write', '/dev/full'], /cannot write \/dev\/full: ENOSPC/],
    [['--snap', '5000'], /It is no number from 1 to 2048/],
  ])('refuses %s', async (args, what) => {
    const { code, err } = await trace(...args);
    expect(code).not.toBe(0);
    expect(err).toMatch(what);
  });

  it('needs a capture, and a node for it', async () => {
    expect((await runCli(['trace', '--lab', LAB])).err).toMatch(/--lab needs --in PORT=FILE/);
    expect((await runCli(['trace', '--in', `cali-a=${CAPTURE}`])).err).toMatch(/--in needs --lab/);
  });
});
