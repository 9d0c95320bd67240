/**
 * `tortie completion`: scripts for bash and zsh that ask the hidden verb `complete` what may come next. The program's own
 * verbs and options answer, kinds, and names from the datastore.
 */

import { basename, dirname } from 'node:path';
import { Argument, type Command, type Option } from 'commander';
import { SPELLINGS } from '../resources/kinds.ts';
import { KINDS } from '../resources/schema.ts';
import { daemon, socketsIn } from './daemon.ts';
import type { Io } from './io.ts';
import { keysOfNames } from './resources/input.ts';
import { withStore } from './resources/store.ts';

/** What may come next, and what it is; an empty list: whatever the shell thinks, such as names of files. */
export interface Candidate {
  readonly word: string;
  readonly description: string;
}

const SHELLS = ['bash', 'zsh'] as const;

export function addCompletion(program: Command, io: Io): void {
  program
    .command('completion')
    .description('print a script that completes tortie’s command lines')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .addHelpText(
      'after',
      '\nExamples:\n  source <(tortie completion bash)\n  tortie completion zsh > ~/.zsh/completions/_tortie',
    )
    .action((shell: (typeof SHELLS)[number]) => io.out(SCRIPTS[shell]));
  program
    .command('complete', { hidden: true })
    .description('print what may come next, a line each: word, tab, description')
    .argument('[word...]', 'words so far; the last one is to be completed')
    .allowUnknownOption()
    .helpOption(false)
    .action(async (words: string[]) => {
      for (const { word, description } of await candidates(program, words, io)) {
        io.out(`${word}\t${description}\n`);
      }
    });
}

/** What may stand in the place of the last word. */
export async function candidates(program: Command, words: readonly string[], io: Io): Promise<Candidate[]> {
  // bash makes "=" a word of its own.
  const last = words.at(-1) ?? '';
  const current = last === '=' ? '' : last;
  let command = program;
  let expects: Option | null = null;
  const given: string[] = [];
  const seen: string[] = [];
  const options = new Map<string, string>();
  for (const word of words.slice(0, -1)) {
    if (word === '=') continue;
    if (expects) {
      options.set(expects.attributeName(), word);
      expects = null;
    } else if (word.startsWith('-') && word !== '-') {
      const option = optionOf(command, word);
      if (option) seen.push(...namesOf(option));
      if (option && takesValue(option)) expects = option;
    } else {
      const child =
        given.length === 0 ? command.commands.find((candidate) => candidate.name() === word) : undefined;
      if (child) command = child;
      else given.push(word);
    }
  }
  const found = expects
    ? await valuesOf(command, expects, options, io)
    : current.startsWith('-')
      ? optionsOf(command, seen)
      : [...verbsOf(command, given), ...(await argumentsOf(command, given, current, options, io))];
  return found.filter(({ word }) => word.startsWith(current) && !given.includes(word));
}

const namesOf = ({ short, long }: Option): string[] => [short, long].filter((name) => name !== undefined);
const takesValue = (option: Option): boolean => option.required || option.optional;
const optionOf = (command: Command, word: string): Option | undefined =>
  command.options.find((option) => namesOf(option).includes(word));
const firstLine = (text: string): string => text.split('\n')[0]!;

const verbsOf = (command: Command, given: readonly string[]): Candidate[] =>
  given.length > 0
    ? []
    : command
        .createHelp()
        .visibleCommands(command)
        .map((child) => ({ word: child.name(), description: firstLine(child.description()) }));

const optionsOf = (command: Command, seen: readonly string[]): Candidate[] =>
  command
    .createHelp()
    .visibleOptions(command)
    .filter((option) => !namesOf(option).some((name) => seen.includes(name)))
    .map((option) => ({
      word: option.long ?? option.short ?? '',
      description: firstLine(option.description),
    }));

const OUTPUTS = ['ps', 'wide', 'yaml', 'json', 'name', 'custom-columns='];

async function valuesOf(
  command: Command,
  option: Option,
  options: ReadonlyMap<string, string>,
  io: Io,
): Promise<Candidate[]> {
  const name = option.attributeName();
  if (option.argChoices) return plain(option.argChoices, option.description);
  if (option.flags.endsWith('<peer>')) return peersOf(options, io);
  if (name === 'output' && command.name() === 'get') return plain(OUTPUTS, 'format');
  if (name === 'node')
    return plain(
      socketsIn(io.runFolder).map((path) => basename(dirname(path))),
      'node',
    );
  return [];
}

const plain = (words: readonly string[], description: string): Candidate[] =>
  words.map((word) => ({ word, description }));

/** Kinds, names of resources, or the choices that an argument has. */
async function argumentsOf(
  command: Command,
  given: readonly string[],
  current: string,
  options: ReadonlyMap<string, string>,
  io: Io,
): Promise<Candidate[]> {
  const { registeredArguments } = command;
  const last = registeredArguments.at(-1);
  const argument = registeredArguments[given.length] ?? (last?.variadic ? last : undefined);
  if (!argument) return [];
  if (argument.argChoices) return plain(argument.argChoices, argument.description);
  if (argument.name() === 'kind') return kindsOf(current);
  if (argument.name() === 'peer') return given.length === 0 ? peersOf(options, io) : [];
  const [kind] = given;
  return argument.name() === 'name' && kind !== undefined ? namesOfKind(kind, options, io) : [];
}

/** A kind's own name, or another of its spellings where that is how the word begins. */
function kindsOf(current: string): Candidate[] {
  const all = KINDS.flatMap((kind) =>
    SPELLINGS[kind].map((word, index) => ({ word, description: kind, isOwn: index === 0 })),
  );
  const own = all.filter(({ isOwn }) => isOwn);
  return own.some(({ word }) => word.startsWith(current)) ? own : all;
}

/** Addresses of BGP peers, and names that only one has, of the agent that is meant; nothing where none answers. */
async function peersOf(options: ReadonlyMap<string, string>, io: Io): Promise<Candidate[]> {
  try {
    const [socket, node] = [options.get('socket'), options.get('node')];
    const where = { ...(socket !== undefined && { socket }), ...(node !== undefined && { node }) };
    const peers = await daemon(io, where).bgp.peers();
    const names = peers.map(({ resource }) => resource?.name);
    return peers.flatMap(({ address, asn, state }, i) => {
      const name = names[i];
      const isOne = names.indexOf(name) === names.lastIndexOf(name);
      const description = `AS ${asn}, ${state}`;
      return [
        { word: address, description },
        ...(name !== undefined && isOne ? [{ word: name, description: `${address}, ${description}` }] : []),
      ];
    });
  } catch {
    return [];
  }
}

/** Nothing where the datastore is out of reach: a completion does not complain. */
async function namesOfKind(text: string, options: ReadonlyMap<string, string>, io: Io): Promise<Candidate[]> {
  try {
    const namespaceOption = options.get('namespace');
    const [key] = keysOfNames(
      text,
      ['any'],
      namespaceOption === undefined ? {} : { namespace: namespaceOption },
    );
    const { kind, namespace } = key!;
    const config = options.get('config');
    return await withStore(io, config === undefined ? {} : { config }, async ({ resources }) =>
      (await resources.list(kind))
        .filter(
          ({ resource: { metadata } }) =>
            namespace === undefined || (metadata.namespace ?? 'default') === namespace,
        )
        .map(({ resource }) => ({ word: resource.metadata.name, description: kind })),
    );
  } catch {
    return [];
  }
}

const SCRIPTS: Readonly<Record<(typeof SHELLS)[number], string>> = {
  bash: `# Completion of tortie's command lines for bash: source <(tortie completion bash)
_tortie() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <("\${COMP_WORDS[0]}" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
}
complete -o default -F _tortie tortie
`,
  zsh: `#compdef tortie
# Completion of tortie's command lines for zsh: save as _tortie in a folder of $fpath, or source it after compinit.
_tortie() {
  local -a lines found
  lines=("\${(@f)$("\${words[1]}" complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  local line
  for line in $lines; do
    [[ -n $line ]] && found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done
  if (( \${#found} )); then _describe tortie found; else _files; fi
}
if [[ \${funcstack[1]} == _tortie ]]; then _tortie "$@"; else compdef _tortie tortie; fi
`,
};
