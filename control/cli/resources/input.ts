/** Which resources a verb is about: those of -f, or those that are named. */
import { statSync } from 'node:fs';
import type { Command } from 'commander';
import type { ResourceKey } from '../../datastore/datastore.ts';
import { EX_USAGE, TortieError } from '../../error.ts';
import { kindOf } from '../../resources/kinds.ts';
import { filesOf, loadEach, textOf } from '../../resources/load.ts';
import { isNamespaced, type Kind, type Resource } from '../../resources/schema.ts';
import type { Io } from '../io.ts';

export interface FileOptions {
  readonly filename?: string;
  readonly recursive?: boolean;
  readonly skipEmpty?: boolean;
}
export interface NamespaceOptions {
  readonly namespace?: string;
  readonly allNamespaces?: boolean;
}

export const DEFAULT_NAMESPACE = 'default';

/** Add -f and what belongs to it. */
export const takesFiles = (command: Command, use: string): Command =>
  command
    .option(
      '-f, --filename <file>',
      `${use}: a file, "-" for standard input, or a folder of .yaml, .yml and .json files`,
    )
    .option('-R, --recursive', 'files of folders in the folder, too')
    .option('--skip-empty', 'no error if there is nothing in a file or folder');

export const takesNamespace = (command: Command): Command =>
  command.option('-n, --namespace <ns>', 'namespace of WorkloadEndpoints; "default" where none is given');

/** Resources of -f, with namespaces. Throws a ConfigError with everything that is wrong with the files. */
export function resourcesOfFiles(io: Io, options: FileOptions & NamespaceOptions): Resource[] {
  const { filename, recursive, skipEmpty } = options;
  if (filename === undefined) {
    throw new TortieError(
      'INPUT_MISSING',
      'give the resources with -f FILE, or -f - for standard input',
      EX_USAGE,
    );
  }
  const files = filename === '-' ? ['-'] : filesOf(filename, recursive);
  const resources = files.flatMap((file) => {
    const text = file === '-' ? { file: 'standard input', text: io.input() } : { file, text: textOf(file) };
    const loaded = loadEach([text]);
    if (loaded.length === 0 && !skipEmpty) {
      throw new TortieError('INPUT_EMPTY', `No resources specified in file ${file}; see --skip-empty`);
    }
    return loaded.map(({ resource }) => resource);
  });
  if (resources.length === 0 && !skipEmpty && statSync(filename, { throwIfNoEntry: false })?.isDirectory()) {
    throw new TortieError('INPUT_EMPTY', `No resources specified in directory ${filename}; see --skip-empty`);
  }
  return resources.map((resource) => {
    const namespace = namespaceOf(resource.kind, resource.metadata.namespace, options);
    return namespace === undefined ? resource : withNamespace(resource, namespace);
  });
}

const withNamespace = <R extends Resource>(resource: R, namespace: string): R => ({
  ...resource,
  metadata: { ...resource.metadata, namespace },
});

/** Keys of KIND NAME... */
export function keysOfNames(
  kind: string,
  names: readonly string[],
  options: NamespaceOptions,
): ResourceKey[] {
  const known = kindOf(kind);
  const namespace = namespaceOf(known, undefined, options);
  return names.map((name) => {
    if (name === '') throw new TortieError('NAME_EMPTY', 'resource name may not be empty', EX_USAGE);
    return { kind: known, name, namespace };
  });
}

/** The namespace of a resource, as calicoctl finds it; undefined for kinds without. */
export function namespaceOf(
  kind: Kind,
  given: string | undefined,
  { namespace, allNamespaces }: NamespaceOptions,
): string | undefined {
  const refuse = (message: string) => new TortieError('NAMESPACE_INVALID', message, EX_USAGE);
  if (!isNamespaced(kind)) {
    if (given !== undefined) {
      throw refuse(
        `namespace should not be specified for a non-namespaced resource. ${kind} is not a namespaced resource`,
      );
    }
    if (namespace !== undefined || allNamespaces) throw refuse(`${kind} is not namespaced`);
    return undefined;
  }
  if (allNamespaces && namespace !== undefined) {
    throw refuse('cannot use both --namespace and --all-namespaces flags at the same time');
  }
  if (given !== undefined && namespace !== undefined && given !== namespace) {
    throw refuse(`resource namespace does not match client namespace. ${given} != ${namespace}`);
  }
  return given ?? namespace ?? DEFAULT_NAMESPACE;
}
