/** What a run says: the machine, a table for the terminal, a table for docs/BENCHMARKS.md. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { format, type Measured, type Result, type Standing } from './harness.ts';
import { markOf, verdict } from './marks.ts';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly mem: string;
  readonly kernel: string;
  readonly node: string;
  readonly tortie: string;
}

export interface Report {
  readonly machine: Machine;
  readonly rounds: number;
  readonly results: readonly Result[];
}

export function describeMachine(root: string): Machine {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    mem: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    kernel: release(),
    node: process.version,
    tortie: `${version} ${commit(root)}`,
  };
}

/** The short commit, with `+` where the checkout differs from it. */
function commit(root: string): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', root, ...args], { encoding: 'utf8' }).trim();
    const changed = git('status', '--porcelain', '--untracked-files=no', '.', ':!docs') !== '';
    return git('rev-parse', '--short', 'HEAD') + (changed ? '+' : '');
  } catch {
    return 'not in git';
  }
}

export function textTable({ machine, rounds, results }: Report): string {
  const lines = Object.entries(machine).map(([key, value]) => `${key}: ${value}`);
  lines.push('', `median (min to max) of ${rounds} rounds in turn; ours/peer: above 1, ours is better`, '');
  const rows = [['entry', 'unit', 'who', 'median', 'min', 'max', 'ours/peer', 'version and offloads']];
  for (const { name, unit, better, ours, peers } of results) {
    rows.push([name, `${unit}, ${better} is better`, 'ours', ...cells(ours), '', describe(ours)]);
    for (const [peer, theirs] of Object.entries(peers)) {
      rows.push(['', '', peer, ...cells(theirs), theirs.ratio?.toFixed(2) ?? '', describe(theirs)]);
    }
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    const padded = row.map((cell, column) => cell.padEnd(widths[column]!));
    lines.push(padded.join('  ').trimEnd());
  }
  const failed = failures(results);
  if (failed.length > 0) lines.push('', 'not measured:');
  for (const [name, error] of failed) lines.push(`  ${name}: ${error}`);
  return lines.join('\n');
}

function cells(measured: Measured): string[] {
  if ('error' in measured) return ['-', '-', '-'];
  return [measured.median, measured.min, measured.max].map(format);
}

function describe({ version, offloads }: Standing): string {
  const devices = Object.entries(offloads ?? {}).map(([device, state]) => `${device} ${state}`);
  return [version, ...devices].filter(Boolean).join('; ');
}

function failures(results: readonly Result[]): [string, string][] {
  const failed: [string, string][] = [];
  for (const { name, ours, peers } of results) {
    if ('error' in ours) failed.push([`${name} ours`, ours.error]);
    for (const [peer, theirs] of Object.entries(peers)) {
      if ('error' in theirs) failed.push([`${name} ${peer}`, theirs.error]);
    }
  }
  return failed;
}

/**
 * One table over runs of the same entries, each under a Node of its own: medians, spread, ratios, what is
 * asked of the ratio, and whether the best of the runs has it.
 */
export function markdownTable(reports: readonly Report[]): string {
  const [first] = reports;
  if (!first) throw new Error('no reports');
  const nodes = reports.map(({ machine }) => `Node ${machine.node.replace('v', '')}`);
  const row = (...cells: string[]) => `| ${cells.join(' | ')} |`;
  const lines = [
    machineLine(reports),
    '',
    row('entry', 'who', ...nodes.flatMap((node) => [node, 'ours/peer']), 'asked'),
    row('---', '---', ...nodes.flatMap(() => ['--:', '--:']), '---'),
  ];
  const footnotes: string[] = [];
  for (const { name, unit } of first.results) {
    const runs = reports.map((report) => report.results.find((result) => result.name === name));
    lines.push(row(`\`${name}\`, ${unit}`, 'ours', ...runs.flatMap((run) => [spread(run?.ours), '']), ''));
    for (const peer of new Set(runs.flatMap((run) => Object.keys(run?.peers ?? {})))) {
      const standings = runs.map((run) => run?.peers[peer]);
      const figures = standings.flatMap((standing) => [spread(standing), standing?.ratio?.toFixed(2) ?? '']);
      const best = Math.max(...standings.map((standing) => standing?.ratio ?? Number.NEGATIVE_INFINITY));
      const mark = markOf(name, peer);
      const judged = mark && best > 0 ? `: ${verdict(mark, best)}` : '';
      lines.push(row('', `\`${peer}\``, ...figures, mark ? mark.text + judged : ''));
    }
  }
  for (const report of reports) {
    for (const [who, error] of failures(report.results)) {
      footnotes.push(`- ${who}, Node ${report.machine.node.replace('v', '')}: ${error}`);
    }
  }
  if (footnotes.length > 0) lines.push('', 'Not measured:', '', ...footnotes);
  lines.push('', 'Versions, and what `ethtool -k` said of the devices:', '', ...versionLines(first));
  return lines.join('\n');
}

function machineLine(reports: readonly Report[]): string {
  const { cpu, cores, mem, kernel } = reports[0]!.machine;
  const built = [...new Set(reports.map(({ machine }) => machine.tortie))].join(', ');
  const { rounds } = reports[0]!;
  return `${cpu}, ${cores} virtual cores, ${mem}; Linux ${kernel}; tortie ${built}. Medians of ${rounds} rounds in turn, least and most in brackets.`;
}

function spread(measured: Measured | undefined): string {
  if (!measured || 'error' in measured) return '-';
  return `${format(measured.median)} (${format(measured.min)} to ${format(measured.max)})`;
}

/** One line for each way a contestant stood: entries in which it stood alike share a line. */
function versionLines(report: Report): string[] {
  const entriesOf = new Map<string, string[]>();
  for (const { name, ours, peers } of report.results) {
    for (const [who, standing] of [['ours', ours] as const, ...Object.entries(peers)]) {
      const described = describe(standing);
      if (!described) continue;
      const line = `${who}: ${described}`;
      entriesOf.set(line, [...(entriesOf.get(line) ?? []), name]);
    }
  }
  return [...entriesOf].map(
    ([line, names]) => `- ${line} (${names.map((name) => `\`${name}\``).join(', ')})`,
  );
}

/** `text` with what stands between `<!-- NAME -->` and `<!-- /NAME -->` replaced. */
export function replaceSection(text: string, name: string, content: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`no ${begin} ... ${end} in the document`);
  return `${text.slice(0, from + begin.length)}\n\n${content}\n\n${text.slice(to)}`;
}
