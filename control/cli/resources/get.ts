/** `tortie get`: stored resources as calicoctl prints them. */
import type { Command } from 'commander';
import { type Datastore, keyOf, type ResourceKey, type Stored } from '../../datastore/datastore.ts';
import { EX_USAGE, TortieError } from '../../error.ts';
import { kindOf } from '../../resources/kinds.ts';
import { isNamespaced } from '../../resources/schema.ts';
import type { Io } from '../io.ts';
import { defaultAsOf } from './columns.ts';
import {
  DEFAULT_NAMESPACE,
  type FileOptions,
  keysOfNames,
  type NamespaceOptions,
  namespaceOf,
  resourcesOfFiles,
  takesFiles,
  takesNamespace,
} from './input.ts';
import { type Found, printerOf } from './print.ts';
import { type StoreOptions, usesStore, withStore } from './store.ts';
import { missing } from './write.ts';

interface GetOptions extends StoreOptions, FileOptions, NamespaceOptions {
  readonly output: string;
  readonly export?: boolean;
}

export function addGet(program: Command, io: Io): void {
  const command = program
    .command('get')
    .description('print resources of the datastore: all of a kind, some by name, or those that files name')
    .argument('[kind]', 'kind of resource, such as ippool, node, wep, bgppeer')
    .argument('[name...]', 'names; without, all of the kind')
    .option('-o, --output <format>', 'format: ps, wide, yaml, json, name, or custom-columns=NAME,...', 'ps');
  takesNamespace(takesFiles(command, 'print what these name'))
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('--export', 'with names: without what only this datastore knows of them');
  usesStore(command)
    .addHelpText(
      'after',
      '\nExamples:\n  tortie get ippool -o wide\n  tortie get ippool default-ipv4-ippool -o yaml > pool.yaml',
    )
    .action(async (kind: string | undefined, names: string[], options: GetOptions) => {
      const print = printerOf(options.output);
      await withStore(io, options, async ({ resources }) => {
        const { found, errors } = await find(io, resources, kind, names, options);
        const defaultAs = defaultAsOf(
          (await resources.list('BGPConfiguration')).map(({ resource }) => resource),
        );
        const withNamespace = Boolean(options.allNamespaces) || options.namespace !== undefined;
        const shown = options.export ? found.map(exported) : found;
        io.out(print(shown, { around: { defaultAs }, withNamespace }));
        for (const { message, code } of errors) io.err(`${message} (${code})\n`);
        if (errors.length > 0) io.exitCode = 1;
      });
    });
}

async function find(
  io: Io,
  store: Datastore,
  kind: string | undefined,
  names: readonly string[],
  options: GetOptions,
): Promise<{ found: Found[]; errors: TortieError[] }> {
  if (options.filename !== undefined) {
    if (kind !== undefined) throw new TortieError('INPUT_TWICE', 'give a kind or -f, not both', EX_USAGE);
    return byName(store, resourcesOfFiles(io, options).map(keyOf));
  }
  if (kind === undefined)
    throw new TortieError('INPUT_MISSING', 'give a kind, or -f FILE: tortie get ippool', EX_USAGE);
  if (names.length === 0) return { found: [await listOf(store, kind, options)], errors: [] };
  if (options.allNamespaces) {
    throw new TortieError(
      'NAMESPACE_INVALID',
      'cannot use --all-namespaces flag for getting a single resource',
      EX_USAGE,
    );
  }
  return byName(store, keysOfNames(kind, names, options));
}

async function listOf(store: Datastore, text: string, options: GetOptions): Promise<Found> {
  const kind = kindOf(text);
  const namespace = namespaceOf(kind, undefined, options);
  const isWanted = ({ resource: { metadata } }: Stored) =>
    !isNamespaced(kind) || options.allNamespaces || (metadata.namespace ?? DEFAULT_NAMESPACE) === namespace;
  const list = (await store.list(kind)).filter(isWanted);
  const order = ({ resource: { metadata } }: Stored) => `${metadata.namespace ?? ''}/${metadata.name}`;
  return { kind, list: list.sort((a, b) => (order(a) < order(b) ? -1 : 1)) };
}

async function byName(
  store: Datastore,
  keys: readonly ResourceKey[],
): Promise<{ found: Found[]; errors: TortieError[] }> {
  const found: Found[] = [];
  const errors: TortieError[] = [];
  for (const key of keys) {
    // In files a pod need not say that its namespace is "default".
    const bare = key.namespace === DEFAULT_NAMESPACE ? { ...key, namespace: undefined } : null;
    const one = (await store.get(key)) ?? (bare && (await store.get(bare)));
    if (one) found.push({ kind: key.kind, one });
    else errors.push(missing(key));
  }
  return { found, errors };
}

/** Without what the datastore wrote. Lists stay as they are, as calicoctl has it. */
function exported(found: Found): Found {
  if (!('one' in found)) return found;
  const { resource } = found.one;
  const { name, labels, annotations } = resource.metadata;
  const metadata = { name, ...(labels && { labels }), ...(annotations && { annotations }) };
  return {
    kind: found.kind,
    one: { revision: null, resource: { ...resource, metadata } as typeof resource },
  };
}
