import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Chart, drawChart, logScale, logTicks, niceBounds, shortNumber } from './svg.ts';

describe('logScale', () => {
  it('puts equal ratios at equal distances', () => {
    const scale = logScale(1, 10_000);
    expect([1, 10, 100, 1000, 10_000].map((value) => scale.at(value))).toEqual(
      [0, 0.25, 0.5, 0.75, 1].map((at) => expect.closeTo(at, 9)),
    );
  });

  it('refuses what has no logarithm', () => {
    expect(() => logScale(0, 10)).toThrow('from 0 to 10');
    expect(() => logScale(5, 5)).toThrow();
  });
});

it('bounds hold all values, within a step of 1, 2, 5', () => {
  expect(niceBounds([3, 70])).toEqual([2, 100]);
  expect(niceBounds([10])).toEqual([10, 20]);
  fc.assert(
    fc.property(fc.array(fc.double({ min: 1e-3, max: 1e9, noNaN: true }), { minLength: 1 }), (values) => {
      const [low, high] = niceBounds(values);
      expect(low).toBeLessThanOrEqual(Math.min(...values) * 1.001);
      expect(high).toBeGreaterThanOrEqual(Math.max(...values) * 0.999);
      expect(low).toBeGreaterThan(Math.min(...values) / 3);
    }),
  );
});

it('ticks are few', () => {
  expect(logTicks(2, 100)).toEqual([2, 5, 10, 20, 50, 100]);
  expect(logTicks(1, 1e6)).toEqual([1, 10, 100, 1000, 1e4, 1e5, 1e6]);
});

it('numbers are short', () => {
  expect([0.5, 20, 4096, 65_536, 1e6].map(shortNumber)).toEqual(['0.5', '20', '4096', '65.5k', '1M']);
});

describe('drawChart', () => {
  const chart: Chart = {
    title: 'Speed & size',
    x: 'routes',
    ticks: [100, 1000],
    tickNames: { 1000: 'many' },
    panels: [
      {
        title: 'Speed',
        unit: 'M/s',
        series: [
          {
            name: 'ours',
            points: [
              [100, 10],
              [1000, 100],
            ],
          },
          { name: 'peer <1>', points: [] },
        ],
      },
    ],
    notes: ['some machine'],
  };

  it('draws points at both ends of the axes', () => {
    const svg = drawChart(chart);
    expect(svg).toContain('<polyline points="56,224 416,54"');
    expect(svg).toContain('>many<');
    expect(svg).toContain('>some machine<');
  });

  it('leaves a gap where a figure is missing', () => {
    const series = { name: 'ours', points: [1, 2, 8, 16].map((x) => [x, x] as const) };
    const panels = [{ title: 'Speed', unit: 'M/s', series: [series] }];
    const svg = drawChart({ ...chart, ticks: [1, 2, 4, 8, 16], panels });
    expect(svg.match(/<polyline points="\S+ \S+"/g)).toHaveLength(2);
    expect(svg.match(/<circle/g)).toHaveLength(4 + 1);
  });

  it('escapes text', () => {
    const svg = drawChart(chart);
    expect(svg).toContain('Speed &amp; size');
    expect(svg).toContain('peer &lt;1&gt;');
    expect(svg).not.toMatch(/NaN|undefined/);
  });
});
