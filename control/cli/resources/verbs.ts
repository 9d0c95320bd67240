/** The writing verbs, with calicoctl's messages: `tortie create|apply|replace|delete|patch|label`. */
import { type Command, Option } from 'commander';
import { stringify } from 'yaml';
import { keyOf, type ResourceKey } from '../../datastore/datastore.ts';
import type { OpenStore } from '../../datastore/open.ts';
import { EX_USAGE, TortieError } from '../../error.ts';
import { loadEach } from '../../resources/load.ts';
import type { Resource } from '../../resources/schema.ts';
import { warningsOf } from '../../resources/warnings.ts';
import { parseSources } from '../../resources/yaml.ts';
import type { Io } from '../io.ts';
import {
  type FileOptions,
  keysOfNames,
  type NamespaceOptions,
  resourcesOfFiles,
  takesFiles,
  takesNamespace,
} from './input.ts';
import { PATCH_TYPES, type PatchType, patched } from './patch.ts';
import { type StoreOptions, usesStore, withStore } from './store.ts';
import { apply, change, create, nameOf, type Outcome, remove, replace, type WriteOptions } from './write.ts';

interface WriteFlags extends StoreOptions, NamespaceOptions {
  readonly dryRun?: boolean;
}
interface FileFlags extends WriteFlags, FileOptions {
  readonly skipExists?: boolean;
  readonly skipNotExists?: boolean;
}

const writes = (command: Command): Command =>
  usesStore(takesNamespace(command)).option(
    '--dry-run',
    'check everything and say what would be done, but write nothing',
  );

export function addWriters(program: Command, io: Io): void {
  const fromFiles = (
    verb: string,
    done: string,
    description: string,
    work: (resource: Resource, options: WriteOptions) => Promise<Outcome>,
  ): Command =>
    writes(takesFiles(program.command(verb).description(description), `resources to ${verb}`))
      .addHelpText('after', `\nExample:\n  tortie ${verb} -f pool.yaml`)
      .action(async (options: FileFlags) => {
        const resources = resourcesOfFiles(io, options);
        for (const warning of warningsOf(resources)) io.err(`warning: ${warning}\n`);
        const items = resources.map((resource) => ({
          key: keyOf(resource),
          work: (to: WriteOptions) => work(resource, to),
        }));
        await each(io, verb, done, items, options);
      });

  fromFiles('create', 'created', 'make resources that are not there yet', create).option(
    '--skip-exists',
    'what is there already counts as created',
  );
  fromFiles('apply', 'applied', 'make resources, or replace those that are there', apply);
  fromFiles('replace', 'replaced', 'replace resources that are there', replace);
  addDelete(program, io);
  addPatch(program, io);
  addLabel(program, io);
}

interface Item {
  readonly key: ResourceKey;
  readonly work: (options: WriteOptions, store: OpenStore) => Promise<Outcome>;
}

/** Do it to one after the other, whatever becomes of them, and tell as calicoctl does. */
async function each(
  io: Io,
  verb: string,
  done: string,
  items: readonly Item[],
  flags: FileFlags,
): Promise<void> {
  if (items.length === 0) {
    io.out('No resources specified\n');
    return;
  }
  const kinds = new Set(items.map(({ key }) => key.kind));
  const what = kinds.size === 1 ? `'${items[0]!.key.kind}' resource` : 'resource';
  const errors: string[] = [];
  await withStore(io, flags, async (store) => {
    const options: WriteOptions = { store: store.resources, dryRun: flags.dryRun === true, now: io.now() };
    for (const { key, work } of items) {
      try {
        const outcome = await skipping(flags, () => work(options, store));
        if (flags.dryRun) io.out(`${nameOf(key)}: ${DRY[outcome]}\n`);
      } catch (error) {
        errors.push(textOf(error));
      }
    }
  });
  const handled = items.length - errors.length;
  const dry = flags.dryRun ? ' (dry run: nothing was written)' : '';
  if (errors.length === 0) {
    io.out(`Successfully ${done} ${handled} ${what}(s)${dry}\n`);
    return;
  }
  io.exitCode = 1;
  if (verb === 'delete') {
    if (handled > 0) io.out(`Successfully ${done} ${handled} ${what}(s)${dry}\n`);
    for (const error of errors) io.err(`Failed to delete ${what}: ${error}\n`);
    return;
  }
  const list = `[${errors.join('; ')}]`;
  if (handled > 0) {
    io.out(`Partial success: ${done} the first ${handled} out of ${items.length} ${what}s:${dry}\n`);
    io.err(`Hit error(s): ${list}\n`);
  } else {
    const any = items.length === 1 ? what : `any ${what}s`;
    io.err(`Failed to ${verb} ${any}: ${list}\n`);
  }
}

const DRY: Readonly<Record<Outcome, string>> = {
  created: 'would be created',
  updated: 'would be changed',
  unchanged: 'would stay as it is',
  deleted: 'would be deleted',
  skipped: 'would be skipped',
};

async function skipping(flags: FileFlags, work: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await work();
  } catch (error) {
    const code = error instanceof TortieError ? error.code : '';
    const isSkipped =
      (code === 'RESOURCE_EXISTS' && flags.skipExists) ||
      (code === 'RESOURCE_MISSING' && flags.skipNotExists);
    if (isSkipped) return 'skipped';
    throw error;
  }
}

/** Anything but a TortieError is a fault of ours, and goes on its way. */
function textOf(error: unknown): string {
  if (!(error instanceof TortieError)) throw error;
  return `${error.message} (${error.code})`;
}

function addDelete(program: Command, io: Io): void {
  const command = program
    .command('delete')
    .description('delete resources: some of a kind by name, or those that files name')
    .argument('[kind]', 'kind of resource')
    .argument('[name...]', 'names')
    .option('-s, --skip-not-exists', 'what is not there counts as deleted');
  writes(takesFiles(command, 'delete what these name'))
    .addHelpText('after', '\nExamples:\n  tortie delete bgppeer reflector\n  tortie delete -f pool.yaml')
    .action(async (kind: string | undefined, names: string[], options: FileFlags) => {
      const keys = keysToDelete(io, kind, names, options);
      const items = keys.map(
        (key): Item => ({
          key,
          work: async (to, store) => {
            if (!to.dryRun) await (await import('./cleanup.ts')).cleanUp(store, key);
            return remove(key, to);
          },
        }),
      );
      await each(io, 'delete', 'deleted', items, options);
    });
}

function keysToDelete(
  io: Io,
  kind: string | undefined,
  names: readonly string[],
  options: FileFlags,
): ResourceKey[] {
  if (options.filename !== undefined) {
    if (kind !== undefined)
      throw new TortieError('INPUT_TWICE', 'give a kind and names, or -f, not both', EX_USAGE);
    return resourcesOfFiles(io, options).map(keyOf);
  }
  if (kind === undefined || names.length === 0) {
    throw new TortieError(
      'INPUT_MISSING',
      'give a kind and names, or -f FILE: tortie delete bgppeer NAME',
      EX_USAGE,
    );
  }
  return keysOfNames(kind, names, options);
}

interface PatchFlags extends WriteFlags {
  readonly patch: string;
  readonly type: PatchType;
}

function addPatch(program: Command, io: Io): void {
  const command = program
    .command('patch')
    .description('change a part of a resource')
    .argument('<kind>', 'kind of resource')
    .argument('<name>', 'name')
    .requiredOption('-p, --patch <patch>', 'what to change, as JSON')
    .addOption(
      new Option(
        '-t, --type <type>',
        'strategic or merge (RFC 7386): a part of the resource; json: operations of RFC 6902',
      )
        .choices(PATCH_TYPES)
        .default('strategic'),
    );
  writes(command)
    .addHelpText('after', `\nExample:\n  tortie patch ippool pods -p '{"spec":{"ipipMode":"Never"}}'`)
    .action(async (kind: string, name: string, options: PatchFlags) => {
      const [key] = keysOfNames(kind, [name], options) as [ResourceKey];
      const patch = parseSources('--patch', options.patch)[0]?.value;
      const work = (to: WriteOptions) =>
        change(key, to, ({ resource }) => checked(key, patched(resource, patch, options.type)));
      await one(io, options, key, work, () => `Successfully patched 1 '${key.kind}' resource`);
    });
}

/** A resource that was put together, checked as one that was written. Throws a ConfigError. */
function checked(key: ResourceKey, value: unknown): Resource {
  const [loaded] = loadEach([{ file: `patched ${nameOf(key)}`, text: stringify(value) }]);
  const { resource } = loaded!;
  const { kind, name, namespace } = keyOf(resource);
  if (kind === key.kind && name === key.name && namespace === key.namespace) return resource;
  throw new TortieError(
    'PATCH_INVALID',
    `a patch cannot rename ${nameOf(key)}; create another resource`,
    EX_USAGE,
  );
}

interface LabelFlags extends WriteFlags {
  readonly overwrite?: boolean;
  readonly remove?: boolean;
}

function addLabel(program: Command, io: Io): void {
  const command = program
    .command('label')
    .description('set a label of a resource, or take it away')
    .argument('<kind>', 'kind of resource')
    .argument('<name>', 'name')
    .argument('<label>', 'key=value; with --remove the key')
    .option('--overwrite', 'where the label has another value, too')
    .addOption(new Option('--remove', 'take the label away').conflicts('overwrite'));
  writes(command)
    .addHelpText(
      'after',
      '\nExamples:\n  tortie label node node1 rack=a\n  tortie label node node1 rack --remove',
    )
    .action(async (kind: string, name: string, label: string, options: LabelFlags) => {
      const [key] = keysOfNames(kind, [name], options) as [ResourceKey];
      const [, labelKey, value] = (options.remove ? /^([^=]+)()$/ : /^([^=]+)=([^=]*)$/).exec(label) ?? [];
      if (labelKey === undefined) {
        const form = options.remove ? 'KEY with --remove' : 'KEY=VALUE';
        throw new TortieError('LABEL_INVALID', `invalid label ${label}: must be ${form}`, EX_USAGE);
      }
      let message = '';
      const work = (to: WriteOptions) =>
        change(key, to, ({ resource }) => {
          const labels = { ...resource.metadata.labels };
          message = relabel(
            labels,
            labelKey,
            options.remove ? null : value!,
            options.overwrite === true,
            `${kind} ${name}`,
          );
          return { ...resource, metadata: { ...resource.metadata, labels } };
        });
      await one(io, options, key, work, () => message);
    });
}

/** Change labels in place; answers what to say of it. */
function relabel(
  labels: Record<string, string>,
  key: string,
  value: string | null,
  mayOverwrite: boolean,
  whom: string,
): string {
  const before = labels[key];
  if (value === null) {
    if (before === undefined) {
      throw new TortieError('LABEL_MISSING', `cannot remove label of ${whom}, key ${key} does not exist`);
    }
    delete labels[key];
    return `Successfully removed label ${key} from ${whom}`;
  }
  if (before !== undefined && before !== value && !mayOverwrite) {
    throw new TortieError(
      'LABEL_EXISTS',
      `failed to update label of ${whom}, key ${key} is already present. please use '--overwrite' to set a new value.`,
    );
  }
  labels[key] = value;
  return `Successfully ${before === undefined ? 'set' : 'updated'} label ${key} on ${whom}`;
}

/** A change of one resource. */
async function one(
  io: Io,
  flags: WriteFlags,
  key: ResourceKey,
  work: (options: WriteOptions) => Promise<Outcome>,
  message: () => string,
): Promise<void> {
  await withStore(io, flags, async ({ resources: store }) => {
    const outcome = await work({ store, dryRun: flags.dryRun === true, now: io.now() });
    if (flags.dryRun) io.out(`${nameOf(key)}: ${DRY[outcome]}\n`);
  });
  io.out(`${message()}${flags.dryRun ? ' (dry run: nothing was written)' : ''}\n`);
}
