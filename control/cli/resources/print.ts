/** Stored resources as `get` prints them. */
import { stringify } from 'yaml';
import { EX_USAGE, TortieError } from '../../error.ts';
import { SPELLINGS } from '../../resources/kinds.ts';
import { API_VERSION, type Kind, type Resource } from '../../resources/schema.ts';
import { getTable } from '../table.ts';
import { COLUMNS, type Surroundings } from './columns.ts';

export interface Shown {
  readonly resource: Resource;
  /** Null: not to be told. */
  readonly revision: number | null;
}

/** Resources that were listed by kind, or one that was asked for by name. */
export type Found =
  | { readonly kind: Kind; readonly list: readonly Shown[] }
  | { readonly kind: Kind; readonly one: Shown };

export interface PrintOptions {
  readonly around: Surroundings;
  /** A column for the namespace, where the kind has one. */
  readonly withNamespace: boolean;
}

export type Printer = (found: readonly Found[], options: PrintOptions) => string;

/** The printer for -o. Throws OUTPUT_UNKNOWN. */
export function printerOf(output: string): Printer {
  const [format, ...rest] = output.split('=');
  const columns = rest.join('=').split(',').filter(Boolean);
  if (format === 'custom-columns') {
    if (columns.length > 0) return tables(() => columns);
    throw new TortieError(
      'OUTPUT_UNKNOWN',
      'need to specify at least one column: -o custom-columns=NAME,CIDR',
      EX_USAGE,
    );
  }
  const printer = PRINTERS[output];
  if (printer) return printer;
  throw new TortieError(
    'OUTPUT_UNKNOWN',
    `unrecognized output format '${output}'; formats: ${Object.keys(PRINTERS).join(', ')}, custom-columns=...`,
    EX_USAGE,
  );
}

/** A table for what was listed, or for each that was named, as calicoctl has it. */
const tables =
  (headings: (kind: Kind) => readonly string[]): Printer =>
  (found, { around, withNamespace }) =>
    found
      .map((item) => {
        const stored = 'one' in item ? [item.one] : item.list;
        const cells = COLUMNS[item.kind].cells as Readonly<
          Record<string, (resource: Resource, around: Surroundings) => string>
        >;
        const hasNamespace = withNamespace && 'NAMESPACE' in cells;
        const header = [...(hasNamespace ? ['NAMESPACE'] : []), ...headings(item.kind)];
        const unknown = header.find((heading) => !Object.hasOwn(cells, heading));
        if (unknown !== undefined) {
          throw new TortieError(
            'COLUMN_UNKNOWN',
            `Unknown heading ${unknown}, valid values are: ${Object.keys(cells).join(', ')}`,
            EX_USAGE,
          );
        }
        const rows = stored.map(({ resource }) => header.map((heading) => cells[heading]!(resource, around)));
        return getTable(header, rows);
      })
      .join('');

const yaml: Printer = (found) =>
  found.length === 0
    ? ''
    : // Quoted is also what YAML 1.1 would take for something else: a time, "yes".
      stringify(documentOf(found), {
        sortMapEntries: true,
        indentSeq: false,
        lineWidth: 0,
        compat: 'yaml-1.1',
      });

const json: Printer = (found) =>
  found.length === 0 ? '' : `${JSON.stringify(documentOf(found), null, 2)}\n`;

const names: Printer = (found) =>
  found
    .flatMap((item) => ('one' in item ? [item.one] : item.list))
    .map(({ resource: { kind, metadata } }) => `${SPELLINGS[kind][0]}/${metadata.name}\n`)
    .join('');

const PRINTERS: Readonly<Partial<Record<string, Printer>>> = {
  ps: tables((kind) => COLUMNS[kind].narrow),
  wide: tables((kind) => COLUMNS[kind].wide),
  yaml,
  json,
  name: names,
};

/** What can be applied again: one resource, or a list of a kind, or several of them. */
function documentOf(found: readonly Found[]): unknown {
  const documents = found.map((item) => ('one' in item ? printed(item.one) : listOf(item.kind, item.list)));
  return documents.length === 1 ? documents[0] : documents;
}

function listOf(kind: Kind, list: readonly Shown[]): object {
  const revision = list.reduce((latest, shown) => Math.max(latest, shown.revision ?? 0), 0);
  return {
    kind: `${kind}List`,
    apiVersion: API_VERSION,
    metadata: revision > 0 ? { resourceVersion: String(revision) } : {},
    items: list.map(printed),
  };
}

/** A resource with its revision, and without what it says by being silent. */
function printed({ resource, revision }: Shown): object {
  const { kind, apiVersion, metadata, ...rest } = resource;
  return {
    kind,
    apiVersion,
    metadata: revision === null ? metadata : { ...metadata, resourceVersion: String(revision) },
    ...Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, terse(value as object)])),
  };
}

/** Go's omitempty for the fields of a spec: false, "", and empty lists where they mean nothing else. */
const terse = (spec: object): object =>
  Object.fromEntries(
    Object.entries(spec).filter(
      ([key, value]) =>
        MEANINGFUL.has(key) ||
        !(value === false || value === '' || (Array.isArray(value) && value.length === 0)),
    ),
  );

/** Their false is not their default, or is told by calicoctl. */
const MEANINGFUL = new Set(['nodeToNodeMeshEnabled', 'autoAllocateBlocks', 'strictAffinity']);
