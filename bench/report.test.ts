import { describe, expect, it } from 'vitest';
import { markOf, verdict } from './marks.ts';
import { markdownTable, type Report, replaceSection, textTable } from './report.ts';

const machine = {
  cpu: 'CPU',
  cores: 2,
  mem: '4.0 GiB',
  kernel: '6.18',
  node: 'v20.19.0',
  tortie: '0.1.0 abcdef',
};
const summary = (median: number) => ({ median, min: median / 2, max: median * 2 });

const report: Report = {
  machine,
  rounds: 5,
  results: [
    {
      name: 'tap-tcp',
      unit: 'Gb/s',
      better: 'higher',
      ours: { version: 'tortie', offloads: { pods: 'tso on' }, ...summary(9) },
      peers: {
        'c-relay': { version: 'cc 12', ...summary(10), ratio: 0.9 },
        'ovs-dpdk': { version: '', error: 'not installed' },
      },
    },
  ],
};
const faster: Report = {
  ...report,
  machine: { ...machine, node: 'v24.1.0' },
  results: [
    {
      ...report.results[0]!,
      ours: { version: 'tortie', ...summary(11) },
      peers: { 'c-relay': { version: 'cc 12', ...summary(10), ratio: 1.1 } },
    },
  ],
};

describe('markdownTable', () => {
  it('puts runs side by side, and judges the better of them', () => {
    const lines = markdownTable([report, faster]).split('\n');
    expect(lines).toContain('| entry | who | Node 20.19.0 | ours/peer | Node 24.1.0 | ours/peer | asked |');
    expect(lines).toContain(
      '| `tap-tcp`, Gb/s | ours | 9.00 (4.50 to 18.0) |  | 11.0 (5.50 to 22.0) |  |  |',
    );
    expect(lines).toContain(
      '|  | `c-relay` | 10.0 (5.00 to 20.0) | 0.90 | 10.0 (5.00 to 20.0) | 1.10 | 1 x: met |',
    );
  });

  it('names who was not measured, and how everybody stood', () => {
    const text = markdownTable([report]);
    expect(text).toContain('|  | `ovs-dpdk` | - |  | 1 x / 1.3 x |');
    expect(text).toContain('- tap-tcp ovs-dpdk, Node 20.19.0: not installed');
    expect(text).toContain('- ours: tortie; pods tso on (`tap-tcp`)');
  });
});

it('prints the same for a terminal', () => {
  const text = textTable(report);
  expect(text).toMatch(/^tap-tcp +Gb\/s, higher is better +ours +9\.00 +4\.50 +18\.0 +tortie; pods tso on$/m);
  expect(text).toMatch(/c-relay +10\.0 +5\.00 +20\.0 +0\.90/);
  expect(text).toContain('  tap-tcp ovs-dpdk: not installed');
});

describe('a mark', () => {
  const mark = markOf('tap-tcp', 'ovs-dpdk')!;
  it.each([
    [0.94, 'missed'],
    [0.96, 'met'],
    [1.2, 'met'],
    [1.24, 'reached'],
  ])('of 1 and 1.3 says of %f: %s', (ratio, said) => {
    expect(verdict(mark, ratio)).toBe(said);
  });

  it('is there for some peers only', () => {
    expect(markOf('tap-udp64', 'ovs')).toBeUndefined();
    expect(markOf('no such entry', 'ovs')).toBeUndefined();
  });
});

it('replaces what stands between markers, and only that', () => {
  const text = 'before\n<!-- a -->\nold\n<!-- /a -->\nafter\n';
  const once = replaceSection(text, 'a', 'new');
  expect(once).toBe('before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nafter\n');
  expect(replaceSection(once, 'a', 'new')).toBe(once);
  expect(() => replaceSection(text, 'b', 'new')).toThrow('no <!-- b -->');
});
