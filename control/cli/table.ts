/** The two kinds of table that Calico's tools print. */

const MIN_WIDTH = 5;
const PADDING = 3;

/** Columns laid out as calicoctl's (`getTable`), without spaces at the ends of lines. Ends with a newline. */
export const columns = (header: readonly string[], rows: readonly (readonly string[])[]): string =>
  padded(header, rows)
    .map((line) => `${line.trimEnd()}\n`)
    .join('');

/** Characters that are written at once. */
const CHUNK = 64 * 1024;

/** Many lines, written some at a time. */
export class Lines {
  readonly #write: (text: string) => void;
  #text = '';

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  add(line: string): void {
    this.#text += line;
    if (this.#text.length >= CHUNK) this.end();
  }

  end(): void {
    if (this.#text !== '') this.#write(this.#text);
    this.#text = '';
  }
}

/** Rows that are looked at before the first is written. */
const SAMPLE = 2048;

/**
 * Columns of a list that may be of any length: the first rows are sorted and set the widths, and are all that is
 * kept; those that follow are written as they come, and make a column wider from there on if they must.
 */
export class LongTable<Row> {
  readonly #lines: Lines;
  readonly #header: readonly string[];
  readonly #cells: (row: Row) => readonly string[];
  readonly #order: (a: Row, b: Row) => number;
  #first: Row[] | null = [];
  #widths: number[] = [];

  constructor(
    write: (text: string) => void,
    header: readonly string[],
    cells: (row: Row) => readonly string[],
    order: (a: Row, b: Row) => number,
  ) {
    this.#lines = new Lines(write);
    this.#header = header;
    this.#cells = cells;
    this.#order = order;
  }

  get isEmpty(): boolean {
    return this.#first?.length === 0;
  }

  add(row: Row): void {
    if (!this.#first) this.#lines.add(this.#line(this.#cells(row)));
    else {
      this.#first.push(row);
      if (this.#first.length === SAMPLE) this.#begin();
    }
  }

  /** All rows are there. */
  end(): void {
    if (this.#first) this.#begin();
    this.#lines.end();
  }

  #begin(): void {
    const rows = [this.#header, ...this.#first!.sort(this.#order).map(this.#cells)];
    this.#first = null;
    for (const row of rows) this.#widen(row);
    for (const row of rows) this.#lines.add(this.#line(row));
  }

  #widen(row: readonly string[]): void {
    this.#widths = row.map((cell, i) => Math.max(this.#widths[i] ?? MIN_WIDTH, cell.length + PADDING));
  }

  #line(row: readonly string[]): string {
    this.#widen(row);
    return `${row
      .map((cell, i) => cell.padEnd(this.#widths[i]!))
      .join('')
      .trimEnd()}\n`;
  }
}

/** A table to the letter as calicoctl's `get` prints it: each cell is filled up, and an empty line follows. */
export const getTable = (header: readonly string[], rows: readonly (readonly string[])[]): string =>
  `${padded(header, rows).join('\n')}\n\n`;

/** Go's text/tabwriter with least width 5 and padding 3: lines. */
function padded(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [header, ...rows];
  // A full Internet table is more than a call takes as arguments: no Math.max(...rows).
  const widths = header.map((_, column) =>
    all.reduce((width, row) => Math.max(width, row[column]!.length + PADDING), MIN_WIDTH),
  );
  return all.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join(''));
}

/** Longest line of a cell in a box; a longer word makes its column wider. */
const WRAP_WIDTH = 30;

/**
 * A box as calicoctl's `node status` prints it (olekukonko/tablewriter with its defaults): header in capitals
 * and centred, numbers to the right, other cells to the left and wrapped. Ends with a newline.
 */
export function box(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const titles = header.map((title) => title.toUpperCase());
  const wrapped = rows.map((row) => row.map((cell) => wrap(cell, WRAP_WIDTH)));
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...wrapped.flatMap((row) => row[column]!.map((line) => line.length))),
  );
  const rule = `+${widths.map((width) => '-'.repeat(width + 2)).join('+')}+`;
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const body = wrapped.flatMap((row) => {
    const height = Math.max(...row.map((lines) => lines.length));
    return Array.from({ length: height }, (_, i) =>
      line(row.map((lines, column) => aligned(lines[i] ?? '', widths[column]!))),
    );
  });
  return `${[rule, line(titles.map((title, column) => centre(title, widths[column]!))), rule, ...body, rule].join('\n')}\n`;
}

const aligned = (cell: string, width: number): string =>
  /^-?\d+(\.\d+)?%?$/.test(cell) ? cell.padStart(width) : cell.padEnd(width);

function centre(text: string, width: number): string {
  const left = Math.floor((width - text.length) / 2);
  return `${' '.repeat(left)}${text}`.padEnd(width);
}

/**
 * Break text at spaces into lines of at most `width` characters, or its longest word, with the least sum of
 * squared slack over all lines but the last.
 */
export function wrap(text: string, width: number): string[] {
  const words = text.split(' ');
  const limit = Math.max(width, ...words.map((word) => word.length));
  // From the last word back: best[i] is the cheapest way to set words i and after.
  const best: { cost: number; lines: string[] }[] = new Array(words.length);
  for (let from = words.length - 1; from >= 0; from--) {
    const whole = words.slice(from).join(' ');
    let choice = { cost: whole.length <= limit ? 0 : Number.POSITIVE_INFINITY, lines: [whole] };
    for (let to = from + 1; to < words.length && choice.cost > 0; to++) {
      const line = words.slice(from, to).join(' ');
      if (line.length > limit) break;
      const cost = (limit - line.length) ** 2 + best[to]!.cost;
      if (cost < choice.cost) choice = { cost, lines: [line, ...best[to]!.lines] };
    }
    best[from] = choice;
  }
  return best[0]!.lines;
}
