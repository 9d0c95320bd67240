import { describe, expect, it } from 'vitest';
import { type BenchContext, type BenchEntry, format, measure, ratio, summarize } from './harness.ts';

const context: BenchContext = {
  quick: true,
  root: '.',
  log: () => {},
  compile: async (name) => name,
};

/** An entry whose contestants answer from lists, and note the order in which they are asked. */
function entryOf(figures: Record<string, (number | Error)[]>, asked: string[]): BenchEntry {
  const runner = (who: string) => async () => {
    asked.push(who);
    const figure = figures[who]!.shift()!;
    if (figure instanceof Error) throw figure;
    return figure;
  };
  const names = Object.keys(figures).filter((name) => name !== 'ours');
  return {
    name: 'entry',
    unit: 'things/s',
    better: 'higher',
    peers: [...names, 'absent'],
    prepare: async () => ({
      setting: 'indoors',
      offloads: { pods: 'tso on' },
      ours: runner('ours'),
      peers: {
        ...Object.fromEntries(names.map((name) => [name, { version: '1', run: runner(name) }])),
        absent: { unavailable: 'not here' },
      },
      close: async () => {
        asked.push('close');
      },
    }),
  };
}

describe('measure', () => {
  it('asks in turn, and gives median, least and most', async () => {
    const asked: string[] = [];
    const entry = entryOf({ ours: [3, 1, 2], twin: [10, 30, 20] }, asked);
    const result = await measure(entry, context, 3);
    expect(asked).toEqual(['ours', 'twin', 'ours', 'twin', 'ours', 'twin', 'close']);
    expect(result).toEqual({
      name: 'entry',
      unit: 'things/s',
      better: 'higher',
      ours: { version: 'indoors', offloads: { pods: 'tso on' }, median: 2, min: 1, max: 3 },
      peers: {
        twin: { version: '1', median: 20, min: 10, max: 30, ratio: 0.1 },
        absent: { version: '', error: 'not here' },
      },
    });
  });

  it('reports who fails with the reason, and goes on with the others', async () => {
    const asked: string[] = [];
    const entry = entryOf({ ours: [1, 1], twin: [5, new Error('broke\ndown')], nought: [0] }, asked);
    const result = await measure(entry, context, 2);
    expect(result.ours).toMatchObject({ median: 1, min: 1, max: 1 });
    expect(result.peers.twin).toEqual({ version: '1', error: 'broke; down' });
    expect(result.peers.nought).toEqual({ version: '1', error: 'measured 0' });
    expect(asked).toEqual(['ours', 'twin', 'nought', 'ours', 'twin', 'close']);
  });

  it('reports an entry that cannot be prepared', async () => {
    const entry: BenchEntry = {
      name: 'entry',
      unit: 'us',
      better: 'lower',
      peers: ['twin'],
      prepare: () => Promise.reject(new Error('no TAP')),
    };
    const result = await measure(entry, context, 1);
    expect(result.ours).toEqual({ version: '', error: 'no TAP' });
    expect(result.peers.twin).toMatchObject({ error: 'not run: ours failed' });
  });
});

it('summarizes an even number of figures by the mean of the middle two', () => {
  expect(summarize([4, 1, 2, 3])).toEqual({ median: 2.5, min: 1, max: 4 });
});

it('gives ratios above 1 when ours is better', () => {
  const [ours, peer] = [summarize([10]), summarize([5])];
  expect(ratio({ better: 'higher' }, ours, peer)).toBe(2);
  expect(ratio({ better: 'lower' }, ours, peer)).toBe(0.5);
});

it('prints three significant digits, and whole numbers from 1000 on', () => {
  expect([0.01234, 1.234, 123.4, 1234.5].map(format)).toEqual(['0.0123', '1.23', '123', '1235']);
});
