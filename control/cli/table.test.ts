import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { box, columns, wrap } from './table.ts';

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
