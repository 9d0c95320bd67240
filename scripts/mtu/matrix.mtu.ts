/** TCP between a tortie node and nodes of Linux's own, over paths of several MTUs, told and untold; by scripts/mtu/run, which tells more. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectBalanced } from '../lab/account.ts';
import { completes, NOTES, type Note, noteOf, PATHS, TREATMENTS, tryTransfer } from './matrix.ts';
import { MtuPath, type Transfer, type Tunnel } from './path.ts';

/** No transfer may stand still for longer before it goes on; seconds. */
const LONGEST_PAUSE = 2;
const TUNNELS: Record<Tunnel, string> = { vxlan: 'kernel VXLAN', ipip: 'user-mode Linux, IPIP' };

/** By row, then by treatment. */
const table = new Map<string, Map<string, { result: Transfer; note: Note }>>();

describe.each(Object.keys(TUNNELS) as Tunnel[])('%s', (tunnel) => {
  let path: MtuPath;
  beforeAll(async () => {
    path = await MtuPath.create(tunnel, process.env.TORTIE_MTU_WAY);
  });
  afterAll(() => path?.close());

  for (const outward of [true, false]) {
    for (const pathCase of PATHS) {
      const row = `${outward ? 'to' : 'from'} ${TUNNELS[tunnel]} | ${pathCase.title}`;
      for (const treatment of TREATMENTS) {
        it(`${row} | ${treatment.title}`, async () => {
          const result = await tryTransfer(path, treatment, pathCase, outward);
          const note = noteOf(tunnel, outward, treatment, pathCase.mtu);
          table.set(row, (table.get(row) ?? new Map()).set(treatment.title, { result, note }));
          if (result.complete) expect(result.pause).toBeLessThan(LONGEST_PAUSE);
        });
      }
    }
  }

  it('keeps its account', () => expectBalanced(path.cluster, 1));
});

afterAll(() => {
  const used: Note[] = [];
  const cell = (text: string, note: Note) => {
    if (NOTES[note] === '') return text;
    if (!used.includes(note)) used.push(note);
    return `${text} [${used.indexOf(note) + 1}]`;
  };
  const rows = [...table].map(([row, cells]) => {
    const texts = TREATMENTS.map(({ title }) => {
      const tried = cells.get(title);
      if (!tried) return '';
      const { result, note } = tried;
      const text = result.complete ? result.pause.toFixed(2) : completes(note) ? 'FAILS' : 'stands still';
      return cell(text, note);
    });
    return `| ${[row, ...texts].join(' | ')} |`;
  });
  const head = `| TCP | MTU | ${TREATMENTS.map(({ title }) => title).join(' | ')} |`;
  const line = `|---|---|${TREATMENTS.map(() => '---|').join('')}`;
  const notes = used.map((note, index) => `${index + 1}. ${NOTES[note]}`);
  const text = [head, line, ...rows, '', ...notes].join('\n');
  console.log(
    `\n8 MiB by TCP, checked byte by byte: the longest time without a new byte, seconds\n\n${text}\n`,
  );
});
