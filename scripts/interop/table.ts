/** Reporter of the matrix: the results as a table, into docs/INTEROP.md when TORTIE_INTEROP_UPDATE is set. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import { CELLS } from './cells.ts';

const FILE = join(import.meta.dirname, '../../docs/INTEROP.md');
const ORDER = ['BIRD', 'FRR', 'GoBGP', 'OpenBGPD', 'ExaBGP'];
const MAX_REASON = 200;

interface Result {
  symbol: 'yes' | 'no' | 'fails';
  /** Of what does not work. */
  reason: string;
}

/** By daemon, then by cell. */
type Results = Map<string, Map<string, Result>>;

export default class TableReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const results = resultsOf(modules);
    const text = render(results);
    console.log(`\n${text}`);
    if (!process.env.TORTIE_INTEROP_UPDATE) return;
    const missing = ORDER.filter(
      (name) => ![...results.keys()].some((daemon) => daemon.startsWith(`${name} `)),
    );
    if (missing.length > 0) {
      console.error(`docs/INTEROP.md stays as it is: there are no results of ${missing.join(', ')}`);
      process.exitCode = 1;
      return;
    }
    writeFileSync(FILE, page(text));
  }
}

function resultsOf(modules: readonly TestModule[]): Results {
  const results: Results = new Map();
  for (const module of modules) {
    for (const test of module.children.allTests()) {
      const { cell, daemon } = test.meta();
      if (!cell || !daemon) continue;
      const cells = results.get(daemon) ?? new Map<string, Result>();
      results.set(daemon, cells.set(cell.id, resultOf(test)));
    }
  }
  const rank = (daemon: string) => ORDER.findIndex((name) => daemon.startsWith(`${name} `));
  return new Map([...results].sort(([a], [b]) => rank(a) - rank(b)));
}

function resultOf(test: TestCase): Result {
  const { state, errors } = test.result();
  const { reason } = test.meta();
  if (reason) return { symbol: 'no', reason };
  if (state === 'passed') return { symbol: 'yes', reason: '' };
  const text = (errors?.[0]?.message ?? 'not run').replace(/\s+/g, ' ').trim();
  return { symbol: 'fails', reason: text.length > MAX_REASON ? `${text.slice(0, MAX_REASON)}…` : text };
}

function render(results: Results): string {
  const daemons = [...results.keys()];
  const notes: string[] = [];
  const numberOf = (note: string) => {
    if (!notes.includes(note)) notes.push(note);
    return notes.indexOf(note) + 1;
  };
  const rows = CELLS.map(({ id, title }) => {
    const cells = daemons.map((daemon) => {
      const result = results.get(daemon)!.get(id);
      if (!result) return '';
      const { symbol, reason } = result;
      return reason ? `${symbol} [${numberOf(reason)}]` : symbol;
    });
    return `| ${[title, ...cells].join(' | ')} |`;
  });
  const head = [`| | ${daemons.join(' | ')} |`, `|---|${daemons.map(() => '---|').join('')}`];
  const list = notes.map((note, index) => `${index + 1}. ${note}`);
  return `${[...head, ...rows].join('\n')}\n\n${list.join('\n')}\n`;
}

const page = (table: string): string => `# Interoperability

tortie's BGP speaker against other daemons, as Debian packages them. Written by \`npm run test:interop -- --update\`, which
[HACKING.md](HACKING.md) tells about: each daemon runs in a network namespace of its own, joined by a veth to the speaker's, and
each cell is a daemon started anew. What must be seen on both sides stands in \`scripts/interop/cells.ts\`.

\`yes\`: seen on both sides. \`no\`: the daemon cannot do it. \`fails\`: it should work and does not. The numbers tell why.

${table}`;
