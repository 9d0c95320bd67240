/** Resources from a multi-document file or a folder of files, checked each by itself and all together. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { EX_CONFIG, TortieError } from '../error.ts';
import { faultsOf } from './checks.ts';
import { API_VERSION, blockSizeOf, KINDS, type Resource, SCHEMAS } from './schema.ts';
import { type Complaint, ConfigError, parseSources, type Source, validate } from './yaml.ts';

/** A resource, and where it stands. */
export interface Loaded {
  readonly source: Source;
  readonly resource: Resource;
}

/** Read all resources under a path. Throws a ConfigError with everything that is wrong. */
export function loadResources(path: string): Resource[] {
  const loaded = loadEach(filesOf(path).map((file) => ({ file, text: textOf(file) })));
  const sources = new Map(loaded.map(({ source, resource }) => [resource, source]));
  const resources = [...sources.keys()];
  const faults = faultsOf(resources);
  if (faults.length > 0) {
    throw new ConfigError(
      faults.map(({ resource, path, message }) => sources.get(resource)!.complain(path, message)),
    );
  }
  return resources;
}

/** Resources of texts, each checked by itself. Throws a ConfigError with everything that is wrong. */
export function loadEach(texts: readonly { readonly file: string; readonly text: string }[]): Loaded[] {
  const complaints: Complaint[] = [];
  const loaded: Loaded[] = [];
  for (const { file, text } of texts) {
    let sources: Source[];
    try {
      sources = parseSources(file, text);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      complaints.push(...error.complaints);
      continue;
    }
    for (const source of sources.flatMap(itemsOf)) {
      const resource = parseResource(source, complaints);
      if (resource) loaded.push({ source, resource });
    }
  }
  if (complaints.length > 0) throw new ConfigError(complaints);
  return loaded;
}

export function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw unreadable(file, error);
  }
}

/** The file itself, or those of a folder that can hold resources, by name. `recursive`: of folders in it, too. */
export function filesOf(path: string, recursive = false): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    return readdirSync(path, { withFileTypes: true })
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap((entry) => {
        const child = join(path, entry.name);
        if (recursive && entry.isDirectory()) return filesOf(child, true);
        return /\.(ya?ml|json)$/.test(entry.name) ? [child] : [];
      });
  } catch (error) {
    throw unreadable(path, error);
  }
}

const unreadable = (path: string, error: unknown) =>
  error instanceof TortieError
    ? error
    : new TortieError(
        'RESOURCES_UNREADABLE',
        `cannot read resources at ${path}: ${(error as NodeJS.ErrnoException).code}; check the path`,
        EX_CONFIG,
      );

/** A list as tools print it (IPPoolList, List, or a bare YAML list) as its items, anything else as itself. */
function itemsOf(source: Source): Source[] {
  const { value } = source;
  if (Array.isArray(value)) return value.map((_, index) => source.part([index]));
  const { kind, items } = (value ?? {}) as { kind?: unknown; items?: unknown };
  if (typeof kind !== 'string' || !kind.endsWith('List') || !Array.isArray(items)) return [source];
  return items.map((_, index) => source.part(['items', index]));
}

/** Other names that kinds have had. */
const FORMER: Partial<Record<string, string>> = { IPAMConfiguration: 'IPAMConfig' };

const envelope = z.looseObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.enum(KINDS),
});

/** A resource with its defaults; null if it is wrong, and `complaints` say how. */
export function parseResource(source: Source, complaints: Complaint[]): Resource | null {
  const { kind } = (source.value ?? {}) as { kind?: unknown };
  const current = typeof kind === 'string' ? FORMER[kind] : undefined;
  const renamed = current === undefined ? source : source.with({ kind: current });
  const head = validate(renamed, envelope, complaints);
  return head ? complete(validate(renamed, SCHEMAS[head.kind], complaints) as Resource | null) : null;
}

/** Defaults that depend on other fields. */
function complete<R extends Resource | null>(resource: R): R {
  if (resource?.kind === 'IPPool') {
    return { ...resource, spec: { ...resource.spec, blockSize: blockSizeOf(resource.spec) } };
  }
  return resource;
}
