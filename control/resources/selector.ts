/**
 * Calico's label selectors: `role == "db" && has(zone)`. The grammar, loosest first:
 *
 *   or     = and { "||" and }
 *   and    = not { "&&" not }
 *   not    = { "!" } ( "(" or ")" | "all()" | "global()" | "has(" label ")" | label operator )
 *   operator = ("==" | "!=" | "contains" | "starts with" | "ends with") string | ["not"] "in" "{" [string {"," string}] "}"
 *
 * Labels are of letters, digits and "_./-"; strings stand in " or ', without escapes. An empty selector is all().
 * As there, "!=" and "not in" also match where the label is missing, and global() matches everything.
 */
import { TortieError } from '../error.ts';

export type Labels = Readonly<Record<string, string>>;

export interface Selector {
  matches(labels: Labels): boolean;
  /** The selector in canonical form: equal for selectors that differ in spaces, quotes or the order of a set. */
  toString(): string;
}

/** Where and what: `offset` counts UTF-16 units of the text. */
export class SelectorError extends TortieError {
  readonly offset: number;
  /** What is wrong and where, without the selector. */
  readonly problem: string;
  constructor(text: string, offset: number, what: string) {
    const problem = `${what}, at character ${offset + 1}`;
    super('SELECTOR_INVALID', `selector ${JSON.stringify(text)}: ${problem}`);
    this.offset = offset;
    this.problem = problem;
  }
}

/** Throws a SelectorError. */
export function parseSelector(text: string): Selector {
  const parser = new Parser(text);
  return parser.selector();
}

/** What is wrong with a selector, or null. */
export function selectorProblem(text: string): string | null {
  try {
    parseSelector(text);
    return null;
  } catch (error) {
    if (error instanceof SelectorError) return error.problem;
    throw error;
  }
}

const LABEL = /[a-zA-Z0-9_./-]{1,512}/y;
/** Nesting that a selector may have: beyond it no sense, only a stack to exhaust. */
const MAX_DEPTH = 200;

/** A string in the quotes that it does not contain; it came in one of them. */
const quoted = (value: string): string => (value.includes('"') ? `'${value}'` : `"${value}"`);

/** Own properties only: a label may be called "constructor". */
const labelOf = (labels: Labels, key: string): string | undefined =>
  Object.hasOwn(labels, key) ? labels[key] : undefined;

const COMPARISONS: readonly [
  word: RegExp,
  name: string,
  holds: (value: string | undefined, wanted: string) => boolean,
][] = [
  [/==/y, '==', (value, wanted) => value === wanted],
  [/!=/y, '!=', (value, wanted) => value !== wanted],
  [/contains/y, 'contains', (value, wanted) => value?.includes(wanted) ?? false],
  [/starts[ \t]*with/y, 'starts with', (value, wanted) => value?.startsWith(wanted) ?? false],
  [/ends[ \t]*with/y, 'ends with', (value, wanted) => value?.endsWith(wanted) ?? false],
];

class Parser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
    this.#skip();
  }

  selector(): Selector {
    if (this.#at === this.#text.length) return ALL;
    const parsed = this.#or();
    if (this.#at < this.#text.length) throw this.#error('expected && or ||');
    return parsed;
  }

  #or(): Selector {
    return this.#chain(
      /\|\|/y,
      ' || ',
      () => this.#and(),
      (parts, labels) => parts.some((part) => part.matches(labels)),
    );
  }

  #and(): Selector {
    return this.#chain(
      /&&/y,
      ' && ',
      () => this.#not(),
      (parts, labels) => parts.every((part) => part.matches(labels)),
    );
  }

  #chain(
    separator: RegExp,
    joint: string,
    part: () => Selector,
    holds: (parts: readonly Selector[], labels: Labels) => boolean,
  ): Selector {
    const parts = [part()];
    while (this.#take(separator)) parts.push(part());
    if (parts.length === 1) return parts[0]!;
    return make(`(${parts.join(joint)})`, (labels) => holds(parts, labels));
  }

  #not(): Selector {
    let isNegated = false;
    while (this.#take(/!(?!=)/y)) isNegated = !isNegated;
    const inner = this.#operation();
    if (!isNegated) return inner;
    return inner instanceof Negation ? inner.of : new Negation(inner);
  }

  #operation(): Selector {
    if (this.#take(/\(/y)) {
      if (++this.#depth > MAX_DEPTH) throw this.#error(`more than ${MAX_DEPTH} parentheses in one another`);
      const inner = this.#or();
      this.#expect(/\)/y, 'expected )');
      this.#depth--;
      return inner;
    }
    if (this.#take(/all\(/y)) return this.#closed(ALL);
    if (this.#take(/global\(/y)) return this.#closed(GLOBAL);
    if (this.#take(/has\(/y)) {
      const key = this.#label();
      return this.#closed(make(`has(${key})`, (labels) => Object.hasOwn(labels, key)));
    }
    const key = this.#label();
    for (const [word, name, holds] of COMPARISONS) {
      if (!this.#take(word)) continue;
      const wanted = this.#string();
      return make(`${key} ${name} ${quoted(wanted)}`, (labels) => holds(labelOf(labels, key), wanted));
    }
    const isIn = this.#take(/in/y) !== null;
    if (!isIn && this.#take(/not[ \t]*in/y) === null) {
      throw this.#error('expected ==, !=, in, not in, contains, starts with or ends with');
    }
    const values = this.#set();
    const shown = `{${[...values].sort().map(quoted).join(', ')}}`;
    return make(`${key} ${isIn ? 'in' : 'not in'} ${shown}`, (labels) => {
      const value = labelOf(labels, key);
      return (value !== undefined && values.has(value)) === isIn;
    });
  }

  #closed(selector: Selector): Selector {
    this.#expect(/\)/y, 'expected )');
    return selector;
  }

  #set(): Set<string> {
    this.#expect(/\{/y, 'expected {');
    const values = new Set<string>();
    while (!this.#take(/\}/y)) {
      values.add(this.#string());
      if (this.#take(/,/y)) continue;
      this.#expect(/\}/y, 'expected , or }');
      break;
    }
    return values;
  }

  #label(): string {
    return this.#expect(LABEL, 'expected a label, has(label), all(), global() or (');
  }

  #string(): string {
    const start = this.#at;
    const literal = this.#take(/"[^"]*"|'[^']*'/y);
    if (literal !== null) return literal.slice(1, -1);
    throw this.#error(
      /["']/.test(this.#text[start] ?? '') ? 'a string that does not end' : 'expected a string in quotes',
    );
  }

  /** The text that the pattern matches here, and beyond it and the spaces after it; null if it does not match. */
  #take(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const [found] = pattern.exec(this.#text) ?? [null];
    if (found === null) return null;
    this.#at += found.length;
    this.#skip();
    return found;
  }

  #expect(pattern: RegExp, problem: string): string {
    const found = this.#take(pattern);
    if (found === null) throw this.#error(problem);
    return found;
  }

  #skip(): void {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#at++;
  }

  #error(problem: string): SelectorError {
    const isEnd = this.#at === this.#text.length;
    return new SelectorError(this.#text, this.#at, isEnd ? `${problem}, found the end` : problem);
  }
}

class Negation implements Selector {
  readonly of: Selector;
  constructor(of: Selector) {
    this.of = of;
  }
  matches(labels: Labels): boolean {
    return !this.of.matches(labels);
  }
  toString(): string {
    return `!${this.of}`;
  }
}

const make = (canonical: string, matches: (labels: Labels) => boolean): Selector => ({
  matches,
  toString: () => canonical,
});

const ALL = make('all()', () => true);
const GLOBAL = make('global()', () => true);
