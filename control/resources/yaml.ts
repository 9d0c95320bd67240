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
    super('CONFIG_INVALID', complaints.map(formatComplaint).join('\n'), EX_CONFIG);
    this.complaints = complaints;
  }
}

type Path = readonly (string | number)[];

/** One YAML document of a file, and where its parts stand. */
export class Source {
  readonly file: string;
  readonly #document: Document.Parsed;
  readonly #lines: LineCounter;

  constructor(file: string, document: Document.Parsed, lines: LineCounter) {
    this.file = file;
    this.#document = document;
    this.#lines = lines;
  }

  get value(): unknown {
    return this.#document.toJS();
  }

  complain(path: Path, message: string): Complaint {
    const { line, col } = this.#lines.linePos(this.#offset(path));
    return { file: this.file, line, column: col, path: path.join('.'), message };
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
    ...parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true }),
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
    .filter((document) => document.contents !== null)
    .map((document) => new Source(file, document, lines));
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
  if (issue.code === 'unrecognized_keys') {
    const allowed = keysAt(schema, path);
    return issue.keys.map((key) => {
      const near = nearest(key, allowed);
      const hint = near ? `did you mean ${near}?` : `allowed: ${allowed.join(', ')}`;
      return source.complain([...path, key], `unknown key; ${hint}`);
    });
  }
  if (issue.code === 'invalid_value') {
    const given = JSON.stringify(valueAt(source.value, path));
    const near = nearest(String(valueAt(source.value, path)), issue.values.map(String));
    const hint = near ? ` (did you mean ${near}?)` : '';
    return [source.complain(path, `${given} is not allowed; allowed: ${issue.values.join(', ')}${hint}`)];
  }
  if (issue.code === 'invalid_type' && valueAt(source.value, path) === undefined) {
    return [source.complain(path, `is missing; must be ${article(issue.expected)}`)];
  }
  const given = valueAt(source.value, path);
  const shown = typeof given === 'object' || given === undefined ? '' : `${JSON.stringify(given)}: `;
  return [source.complain(path, `${shown}${issue.message}`)];
}

const article = (noun: string): string => `${/^[aeiou]/.test(noun) ? 'an' : 'a'} ${noun}`;

function valueAt(value: unknown, path: Path): unknown {
  let at = value;
  for (const part of path) at = (at as Record<string | number, unknown> | undefined)?.[part];
  return at;
}

/** The keys that the schema's object at a path allows. */
function keysAt(schema: z.ZodType, path: Path): string[] {
  let at = schema as z.ZodType & {
    shape?: Record<string, z.ZodType>;
    element?: z.ZodType;
    def: { innerType?: z.ZodType };
  };
  const unwrap = () => {
    while (!at.shape && at.def.innerType) at = at.def.innerType as typeof at;
  };
  unwrap();
  for (const part of path) {
    const next = typeof part === 'number' ? at.element : at.shape?.[part];
    if (!next) return [];
    at = next as typeof at;
    unwrap();
  }
  return Object.keys(at.shape ?? {});
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
