/**
 * YAML with positions: every complaint names file, line, column and path, what is allowed, and the nearest
 * allowed key when one was mistyped.
 */
import { type Document, isMap, isPair, isScalar, LineCounter, parseAllDocuments } from 'yaml';
import type { z } from 'zod';
import { EX_CONFIG, TortieError } from '../error.ts';

/** One complaint about an input file. */
export interface Complaint {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Path inside the document, such as spec.ipipMode; empty for the document itself. */
  readonly path: string;
  readonly message: string;
}

export const formatComplaint = (c: Complaint): string =>
  `${c.file}:${c.line}:${c.column}: ${c.path ? `${c.path}: ` : ''}${c.message}`;

/** Everything that is wrong with the configuration, one line each. Exit code 78. */
export class ConfigError extends TortieError {
  readonly complaints: readonly Complaint[];
  constructor(complaints: readonly Complaint[]) {
    const lines = complaints.slice(0, MAX_LINES).map(formatComplaint);
    if (complaints.length > MAX_LINES) lines.push(`and ${complaints.length - MAX_LINES} more`);
    super('CONFIG_INVALID', lines.join('\n'), EX_CONFIG);
    this.complaints = complaints;
  }
}

/** Complaints that a message spells out. */
const MAX_LINES = 100;

export type Path = readonly (string | number)[];

/** One YAML document of a file, or a part of it, and where its parts stand. */
export class Source {
  readonly file: string;
  readonly value: unknown;
  readonly #document: Document.Parsed;
  readonly #lines: LineCounter;
  /** Where in the document this source begins. */
  readonly #base: Path;

  private constructor(
    file: string,
    value: unknown,
    document: Document.Parsed,
    lines: LineCounter,
    base: Path,
  ) {
    this.file = file;
    this.value = value;
    this.#document = document;
    this.#lines = lines;
    this.#base = base;
  }

  /** Throws a ConfigError if the document's aliases lead nowhere, or multiply without end. */
  static of(file: string, document: Document.Parsed, lines: LineCounter): Source {
    try {
      return new Source(file, document.toJS(), document, lines, []);
    } catch (error) {
      const source = new Source(file, undefined, document, lines, []);
      throw new ConfigError([source.complain([], (error as Error).message)]);
    }
  }

  /** A part of this source as one of its own. */
  part(path: Path): Source {
    const base = [...this.#base, ...path];
    return new Source(this.file, valueAt(this.value, path), this.#document, this.#lines, base);
  }

  /** The same place with other values for some keys of its map. */
  with(values: object): Source {
    const value = { ...(this.value as object), ...values };
    return new Source(this.file, value, this.#document, this.#lines, this.#base);
  }

  complain(path: Path, message: string): Complaint {
    const whole = [...this.#base, ...path];
    const { line, col } = this.#lines.linePos(this.#offset(whole));
    return { file: this.file, line, column: col, path: whole.join('.'), message };
  }

  /** Byte offset of the key at the path, or of the innermost parent that is there. */
  #offset(path: Path): number {
    for (let depth = path.length; depth > 0; depth--) {
      const parent =
        depth === 1 ? this.#document.contents : this.#document.getIn(path.slice(0, depth - 1), true);
      if (isMap(parent)) {
        const pair = parent.items.find(
          (item) => isPair(item) && isScalar(item.key) && item.key.value === path[depth - 1],
        );
        if (isScalar(pair?.key) && pair.key.range) return pair.key.range[0];
      }
      const node = this.#document.getIn(path.slice(0, depth), true) as { range?: [number, number, number] };
      if (node?.range) return node.range[0];
    }
    return this.#document.contents?.range?.[0] ?? this.#document.range[0];
  }
}

/** Parse a file's documents. Empty documents are left out; syntax errors are thrown, all of them. */
export function parseSources(file: string, text: string): Source[] {
  const lines = new LineCounter();
  // An empty stream parses to an object that is no array of documents but has their interface.
  const documents = [
    ...parseAllDocuments(text, { lineCounter: lines, stringKeys: true }),
  ] as Document.Parsed[];
  const complaints = documents.flatMap((document) =>
    document.errors.map((error): Complaint => {
      const { line, col } = lines.linePos(error.pos[0]);
      return {
        file,
        line,
        column: col,
        path: '',
        message: error.message.split('\n')[0]!.replace(/ at line.*/, ''),
      };
    }),
  );
  if (complaints.length > 0) throw new ConfigError(complaints);
  return documents
    .filter(({ contents }) => contents !== null && !(isScalar(contents) && contents.value === null))
    .map((document) => Source.of(file, document, lines));
}

/** Validate a document; what is wrong is added to `complaints` and null returned. */
export function validate<S extends z.ZodType>(
  source: Source,
  schema: S,
  complaints: Complaint[],
): z.infer<S> | null {
  const result = schema.safeParse(source.value);
  if (result.success) return result.data;
  for (const issue of result.error.issues) complaints.push(...describe(source, schema, issue));
  return null;
}

function describe(source: Source, schema: z.ZodType, issue: z.core.$ZodIssue): Complaint[] {
  const path = issue.path as (string | number)[];
  const given = valueAt(source.value, path);
  const isMissing = given === undefined;
  const shown = isMissing || (typeof given === 'object' && given !== null) ? '' : `${JSON.stringify(given)}`;
  const refuse = (what: string) =>
    source.complain(path, isMissing ? `is missing; ${what}` : [shown, what].filter(Boolean).join(': '));
  switch (issue.code) {
    case 'unrecognized_keys': {
      const allowed = Object.keys(schemaAt(schema, path)?.shape ?? {});
      return issue.keys.map((key) => {
        const near = nearest(key, allowed);
        const hint = near ? `did you mean ${near}?` : `allowed: ${allowed.join(', ')}`;
        return source.complain([...path, key], `unknown key; ${hint}`);
      });
    }
    case 'invalid_value': {
      const allowed = `allowed: ${issue.values.join(', ')}`;
      if (isMissing) return [refuse(allowed)];
      const near = nearest(String(given), issue.values.map(String));
      const hint = near ? ` (did you mean ${near}?)` : '';
      return [source.complain(path, `${shown || 'this'} is not allowed; ${allowed}${hint}`)];
    }
    case 'invalid_type':
      return [refuse(`must be ${NOUNS[issue.expected] ?? issue.expected}`)];
    case 'too_small':
    case 'too_big': {
      const { minValue, maxValue } = schemaAt(schema, path) ?? {};
      const isRange = typeof minValue === 'number' && typeof maxValue === 'number';
      return [refuse(isRange ? `must be from ${minValue} to ${maxValue}` : issue.message)];
    }
    default:
      return [refuse(issue.message)];
  }
}

/** What a schema expects, in words. */
const NOUNS: Partial<Record<string, string>> = {
  object: 'a map',
  record: 'a map',
  array: 'a list',
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
};

function valueAt(value: unknown, path: Path): unknown {
  let at = value;
  for (const part of path) at = (at as Record<string | number, unknown> | undefined)?.[part];
  return at;
}

/** What the kinds of schema that we use tell of themselves. */
type AnySchema = z.ZodType & {
  readonly shape?: Record<string, AnySchema>;
  readonly element?: AnySchema;
  readonly minValue?: number | null;
  readonly maxValue?: number | null;
  readonly def: {
    readonly type: string;
    readonly innerType?: AnySchema;
    readonly in?: AnySchema;
    readonly out?: AnySchema;
  };
};

/** A schema without its defaults and conversions. */
function bare(outer: AnySchema | undefined): AnySchema | undefined {
  const { innerType, in: before, out: after } = outer?.def ?? {};
  const inner = innerType ?? (before?.def.type === 'transform' ? after : before);
  return inner ? bare(inner) : outer;
}

/** The fields of a schema of a map. */
export const shapeOf = (schema: z.ZodType): Record<string, z.ZodType> | undefined =>
  bare(schema as AnySchema)?.shape;

/** The schema of the part at a path, without its defaults. */
function schemaAt(schema: z.ZodType, path: Path): AnySchema | undefined {
  let at = bare(schema as AnySchema);
  for (const part of path) at = bare(typeof part === 'number' ? at?.element : at?.shape?.[part]);
  return at;
}

/** The candidate within two edits (three for long words), ignoring case; undefined if there is none. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const limit = word.length > 8 ? 3 : 2;
  let best: { candidate: string; distance: number } | undefined;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance <= limit && distance < (best?.distance ?? Number.POSITIVE_INFINITY))
      best = { candidate, distance };
  }
  return best?.candidate;
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current[j] = Math.min(previous[j]! + 1, current[j - 1]! + 1, substitution);
    }
    previous = current;
  }
  return previous[b.length]!;
}
