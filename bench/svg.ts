/**
 * Line charts as plain SVG: panels side by side that share their series and their x axis. Logarithmic axes,
 * since what is drawn spans decades. Colours hold on white, which is drawn behind; each series has its own marker
 * as well, for those who see no colours.
 */

export interface Series {
  readonly name: string;
  /** x, y; both above 0. Missing points are left out. */
  readonly points: readonly (readonly [number, number])[];
}

export interface Panel {
  readonly title: string;
  readonly series: readonly Series[];
  /** Of y: `M/s`, `MB`. */
  readonly unit: string;
}

export interface Chart {
  readonly title: string;
  /** What x is. */
  readonly x: string;
  /** Labelled places on x, such as the sizes that were measured. */
  readonly ticks: readonly number[];
  /** Labels of ticks that say more than their number. */
  readonly tickNames?: Readonly<Record<number, string>>;
  readonly panels: readonly Panel[];
  /** Small print: machine, versions. */
  readonly notes: readonly string[];
}

const PANEL = { width: 430, height: 270, left: 56, right: 14, top: 54, bottom: 46 };
const COLOURS = ['#0b6e99', '#d9730d', '#4d7c0f', '#9333a0', '#64748b'];
const NOTE_HEIGHT = 16;
const LEGEND_HEIGHT = 24;

export interface LogScale {
  readonly low: number;
  readonly high: number;
  /** 0 at `low`, 1 at `high`. */
  at(value: number): number;
}

export function logScale(low: number, high: number): LogScale {
  if (!(low > 0 && high > low)) throw new Error(`no logarithmic scale from ${low} to ${high}`);
  const [from, span] = [Math.log(low), Math.log(high) - Math.log(low)];
  return { low, high, at: (value) => (Math.log(value) - from) / span };
}

/** 1, 2, 5 times powers of ten around the values, as few as hold them. */
export function niceBounds(values: readonly number[]): [number, number] {
  if (values.length === 0) return [1, 10];
  const steps = stepsBetween(Math.min(...values) / 10, Math.max(...values) * 10);
  const low = steps.filter((step) => step <= Math.min(...values) * 1.0001).at(-1)!;
  const high = steps.find((step) => step >= Math.max(...values) * 0.9999 && step > low)!;
  return [low, high];
}

function stepsBetween(low: number, high: number): number[] {
  const steps: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of [1, 2, 5]) steps.push(Number(`${digit}e${power}`));
  }
  return steps;
}

/** Labels between bounds: every 1, 2, 5 on short scales, powers of ten on long ones. */
export function logTicks(low: number, high: number): number[] {
  const steps = stepsBetween(low, high).filter((step) => step >= low && step <= high);
  const powers = steps.filter((step) => Number.isInteger(Math.round(Math.log10(step) * 1e9) / 1e9));
  return steps.length <= 7 || powers.length < 2 ? steps : powers;
}

/** 0.5, 1500, 20k, 1M */
export function shortNumber(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (value >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(4)));
}

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const round = (value: number): number => Math.round(value * 10) / 10;

const label = (x: number, y: number, text: string, more = ''): string =>
  `<text x="${round(x)}" y="${round(y)}"${more}>${escaped(text)}</text>`;

/** A filled marker: round, square, triangle, diamond, cross. */
function marker(shape: number, x: number, y: number): string {
  const path = ['', 'M-3-3h6v6h-6z', 'M0-4l4 7h-8z', 'M0-4l4 4-4 4-4-4z', 'M-3-3l6 6m0-6l-6 6'][shape % 5];
  const colour = COLOURS[shape % COLOURS.length];
  if (!path) return `<circle cx="${round(x)}" cy="${round(y)}" r="3.2" fill="${colour}"/>`;
  return `<path transform="translate(${round(x)} ${round(y)})" d="${path}" fill="${colour}" stroke="${colour}"/>`;
}

export function drawChart(chart: Chart): string {
  const names = [...new Set(chart.panels.flatMap((panel) => panel.series.map((series) => series.name)))];
  const width = PANEL.width * chart.panels.length;
  const height = PANEL.height + LEGEND_HEIGHT + NOTE_HEIGHT * chart.notes.length + 8;
  const x = logScale(Math.min(...chart.ticks), Math.max(...chart.ticks));
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="11" fill="#1f2937">`,
    `<title>${escaped(chart.title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    label(PANEL.left, 20, chart.title, ' font-size="14" font-weight="bold"'),
  ];
  for (const [index, panel] of chart.panels.entries()) {
    parts.push(`<g transform="translate(${index * PANEL.width} 0)">${drawPanel(chart, panel, names, x)}</g>`);
  }
  for (const [index, name] of names.entries()) {
    const at = PANEL.left + index * 130;
    const y = PANEL.height + 10;
    parts.push(marker(index, at, y), label(at + 10, y + 4, name));
  }
  for (const [index, note] of chart.notes.entries()) {
    const y = PANEL.height + LEGEND_HEIGHT + NOTE_HEIGHT * (index + 1) - 4;
    parts.push(label(PANEL.left, y, note, ' font-size="10" fill="#6b7280"'));
  }
  return `${parts.join('\n')}\n</svg>\n`;
}

function drawPanel(chart: Chart, panel: Panel, names: readonly string[], x: LogScale): string {
  const [low, high] = niceBounds(panel.series.flatMap(({ points }) => points.map(([, value]) => value)));
  const y = logScale(low, high);
  const [right, bottom] = [PANEL.width - PANEL.right, PANEL.height - PANEL.bottom];
  const toX = (value: number) => PANEL.left + x.at(value) * (right - PANEL.left);
  const toY = (value: number) => bottom - y.at(value) * (bottom - PANEL.top);
  const parts = [label(PANEL.left, PANEL.top - 12, `${panel.title}, ${panel.unit}`)];
  for (const tick of logTicks(low, high)) {
    const at = round(toY(tick));
    parts.push(`<path d="M${PANEL.left} ${at}H${right}" stroke="#e5e7eb"/>`);
    parts.push(label(PANEL.left - 6, at + 4, shortNumber(tick), ' text-anchor="end"'));
  }
  for (const tick of chart.ticks) {
    const at = round(toX(tick));
    parts.push(`<path d="M${at} ${bottom}v4" stroke="#6b7280"/>`);
    const name = chart.tickNames?.[tick] ?? shortNumber(tick);
    parts.push(label(at, bottom + 16, name, ' text-anchor="middle" font-size="10"'));
  }
  parts.push(`<path d="M${PANEL.left} ${PANEL.top}V${bottom}H${right}" fill="none" stroke="#6b7280"/>`);
  parts.push(label((PANEL.left + right) / 2, bottom + 34, chart.x, ' text-anchor="middle"'));
  // The first series, ours, is drawn last and lies on top.
  for (const { name, points } of panel.series.toReversed()) {
    const shape = names.indexOf(name);
    const colour = COLOURS[shape % COLOURS.length];
    for (const run of runsOf(points, chart.ticks)) {
      const line = run.map(([px, py]) => `${round(toX(px))},${round(toY(py))}`).join(' ');
      parts.push(`<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="1.8"/>`);
    }
    for (const [px, py] of points) parts.push(marker(shape, toX(px), toY(py)));
  }
  return parts.join('\n');
}

type Points = Series['points'];

/** Points without a gap: a line never passes a tick that has no figure. */
function runsOf(points: Points, ticks: readonly number[]): Points[] {
  const runs: Points[] = [];
  for (const tick of ticks) {
    const point = points.find(([x]) => x === tick);
    if (!point) runs.push([]);
    else runs.push([...(runs.pop() ?? []), point]);
  }
  return runs.filter((run) => run.length > 1);
}
