import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { box, columns, Lines, LongTable, wrap } from './table.ts';

it('sets columns as calicoctl does', () => {
  expect(
    columns(
      ['NAME', 'CIDR', 'X'],
      [
        ['a', '10.65.0.0/16', 'true'],
        ['pool-two', '', ''],
      ],
    ),
  ).toBe('NAME       CIDR           X\na          10.65.0.0/16   true\npool-two\n');
});

it('sets a full Internet table', () => {
  const rows = Array.from({ length: 900_000 }, () => ['10.65.0.0/16', 'x']);
  expect(columns(['PREFIX', 'VIA'], rows)).toHaveLength(19 + 900_000 * 17);
});

describe('a table of any length', () => {
  const table = (write: (text: string) => void) =>
    new LongTable<number>(
      write,
      ['N', 'SQUARE'],
      (row) => [String(row), String(row * row)],
      (a, b) => a - b,
    );

  it('is in order as long as it is short', () => {
    let out = '';
    const short = table((text) => {
      out += text;
    });
    for (const row of [12, 3, 100]) short.add(row);
    expect(short.isEmpty).toBe(false);
    short.end();
    expect(out).toBe('N     SQUARE\n3     9\n12    144\n100   10000\n');
  });

  it('is written as it comes beyond that, and keeps nothing', () => {
    const written: string[] = [];
    const long = table((text) => written.push(text));
    for (let row = 0; row < 100_000; row++) long.add(row);
    expect(written.length).toBeGreaterThan(10);
    expect(Math.max(...written.map((text) => text.length))).toBeLessThan(100_000);
    long.end();
    const lines = written.join('').split('\n');
    expect(lines).toHaveLength(100_002);
    expect(lines.at(-2)).toMatch(/^99999 +9999800001$/);
  });

  it('is empty without rows', () => expect(table(() => {}).isEmpty).toBe(true));
});

it('gathers lines', () => {
  const written: string[] = [];
  const lines = new Lines((text) => written.push(text));
  for (let i = 0; i < 10_000; i++) lines.add('0123456789\n');
  expect(written).toHaveLength(1);
  lines.end();
  lines.end();
  expect(written.join('')).toHaveLength(110_000);
  expect(written).toHaveLength(2);
});

describe('box', () => {
  const header = ['Peer address', 'Peer type', 'State', 'Since', 'Info'];
  it('is the one of calicoctl’s manual', () => {
    const rows = [
      ['172.17.8.102', 'node-to-node mesh', 'up', '23:30:04', 'Established'],
      ['10.20.30.40', 'global', 'start', '16:28:38', 'Connect'],
    ];
    expect(box(header, rows)).toBe(
      `
+--------------+-------------------+-------+----------+-------------+
| PEER ADDRESS |     PEER TYPE     | STATE |  SINCE   |    INFO     |
+--------------+-------------------+-------+----------+-------------+
| 172.17.8.102 | node-to-node mesh | up    | 23:30:04 | Established |
| 10.20.30.40  | global            | start | 16:28:38 | Connect     |
+--------------+-------------------+-------+----------+-------------+
`.trimStart(),
    );
  });

  it('wraps long cells', () => {
    const rows = [['10.0.0.1', 'global', 'start', '16:28:38', 'Active Socket: Connection refused']];
    expect(box(header, rows)).toContain(
      `
| 10.0.0.1     | global    | start | 16:28:38 | Active Socket: Connection |
|              |           |       |          | refused                   |
`,
    );
  });
});

it('wraps without losing a word or leaving the width', () => {
  const word = fc.stringMatching(/^[a-z]{1,12}$/);
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 1, maxLength: 20 }),
      fc.integer({ min: 1, max: 40 }),
      (words, width) => {
        const lines = wrap(words.join(' '), width);
        expect(lines.join(' ')).toBe(words.join(' '));
        const longest = Math.max(...words.map((one) => one.length));
        for (const line of lines) expect(line.length).toBeLessThanOrEqual(Math.max(width, longest));
      },
    ),
  );
});
