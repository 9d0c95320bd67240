/** Manual pages from the program itself: what `--help` says, in man(7)'s macros. */
import type { Command, Option } from 'commander';
import { VERSION } from '../version.ts';

const SECTION = 1;

/** File names and texts of all pages: one for the program, one for each verb. `date`: of the pages, YYYY-MM-DD. */
export function manPages(program: Command, date: string): Map<string, string> {
  const pages = new Map<string, string>();
  const add = (command: Command, path: readonly string[]) => {
    pages.set(`${path.join('-')}.${SECTION}`, page(command, path, date));
    for (const child of verbsOf(command)) add(child, [...path, child.name()]);
  };
  add(program, [program.name()]);
  return pages;
}

/** Without hidden ones, and without `help`, which is no page of its own. */
const verbsOf = (command: Command): readonly Command[] =>
  command
    .createHelp()
    .visibleCommands(command)
    .filter((child) => command.commands.includes(child));

function page(command: Command, path: readonly string[], date: string): string {
  const { notes, examples } = afterHelp(command);
  const verbs = verbsOf(command);
  const isProgram = path.length === 1;
  const lines = [
    `.TH ${quoted(path.join('-').toUpperCase())} ${SECTION} "${date}" ${quoted(`tortie ${VERSION}`)} ${quoted('tortie')}`,
    '.SH NAME',
    `${escaped(path.join('-'))} \\- ${escaped(command.description())}`,
    '.SH SYNOPSIS',
    `.B ${escaped(path.join(' '))}`,
    escaped(synopsisOf(command)),
    '.SH DESCRIPTION',
    `${text(sentence(command.description()))}`,
    ...notes.flatMap((note) => ['.PP', text(note)]),
    ...list(
      'ARGUMENTS',
      command.registeredArguments.map((argument) => [
        `.I ${escaped(argument.name())}`,
        withChoices(argument.description, argument.argChoices),
      ]),
    ),
    ...list(
      'OPTIONS',
      optionsOf(command).map((option) => [`.B ${escaped(option.flags)}`, optionText(option)]),
    ),
    ...list(
      'COMMANDS',
      verbs.map((verb) => [
        `.BR ${escaped([...path, verb.name()].join('-'))} (${SECTION})`,
        sentence(verb.description()),
      ]),
    ),
    ...(isProgram
      ? [...list('ENVIRONMENT', ENVIRONMENT), ...list('FILES', FILES), ...list('EXIT STATUS', EXIT_STATUS)]
      : []),
    ...(examples.length > 0 ? ['.SH EXAMPLES', '.nf', ...examples.map(escaped), '.fi'] : []),
    ...(isProgram ? [] : ['.SH SEE ALSO', `.BR ${escaped(path.slice(0, -1).join('-'))} (${SECTION})`]),
  ];
  return `${lines.join('\n')}\n`;
}

const optionsOf = (command: Command): readonly Option[] => [...command.createHelp().visibleOptions(command)];

function optionText({ description, argChoices, defaultValue, mandatory }: Option): string {
  const isTold = defaultValue !== undefined && typeof defaultValue !== 'boolean';
  const fallback = isTold ? ` Default: ${JSON.stringify(defaultValue)}.` : '';
  return `${withChoices(description, argChoices)}${fallback}${mandatory ? ' Needed.' : ''}`;
}

const withChoices = (description: string, choices: readonly string[] | undefined): string =>
  `${sentence(description)}${choices ? ` One of ${choices.join(', ')}.` : ''}`;

const sentence = (words: string): string =>
  `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? '' : '.'}`;

/** The usage without the program's and the verb's name. */
function synopsisOf(command: Command): string {
  const usage = command.createHelp().commandUsage(command);
  return usage.slice(usage.indexOf(command.name()) + command.name().length).trim();
}

/** What stands below the help: notes, and examples. */
function afterHelp(command: Command): { notes: string[]; examples: string[] } {
  let printed = '';
  const { writeOut } = command.configureOutput();
  command.configureOutput({ writeOut: (part) => (printed += part) });
  command.outputHelp();
  command.configureOutput({ writeOut: writeOut! });
  const paragraphs = printed.slice(command.helpInformation().length).trim().split(/\n\n+/);
  const isExample = (paragraph: string) => /^Examples?:\n/.test(paragraph);
  return {
    notes: paragraphs.filter((paragraph) => paragraph !== '' && !isExample(paragraph)),
    examples: paragraphs.filter(isExample).flatMap((paragraph) =>
      paragraph
        .split('\n')
        .slice(1)
        .map((line) => line.trim()),
    ),
  };
}

const list = (title: string, items: readonly (readonly [head: string, body: string])[]): string[] =>
  items.length === 0 ? [] : [`.SH ${title}`, ...items.flatMap(([head, body]) => ['.TP', head, text(body)])];

const ENVIRONMENT: readonly (readonly [string, string])[] = [
  ['.B TORTIE_CONFIG', 'Settings that name the datastore, for verbs that work on it.'],
  ['.B TORTIE_SOCKET', 'Control socket of the agent, for verbs that ask it.'],
  ['.B TORTIE_DEBUG', 'If set, stack traces of errors.'],
];
const FILES: readonly (readonly [string, string])[] = [
  ['.I /etc/tortie/agent.yaml', 'Settings of the agent, where no others are named.'],
  ['.I /run/tortie/NODE/api.sock', 'Control socket of the agent of a node.'],
  ['.I /var/lib/tortie', 'The embedded datastore.'],
];
const EXIT_STATUS: readonly (readonly [string, string])[] = [
  ['.B 0', 'Done.'],
  ['.B 1', 'Failed; standard error says why.'],
  ['.B 64', 'Wrong usage.'],
  ['.B 69', 'No agent answers; or another runs here.'],
  ['.B 77', 'The control socket is not yours to open.'],
  ['.B 78', 'Settings or resources are wrong.'],
];

const NAMED: Readonly<Record<string, string>> = {
  '’': '\\(cq',
  '‘': '\\(oq',
  '–': '\\(en',
  '“': '\\(lq',
  '”': '\\(rq',
};

/** As roff prints it again: nothing of it is taken for a request, an escape or a hyphen. */
function escaped(words: string): string {
  const safe = words
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replaceAll(/[^ -~\n]/gu, (character) => {
      const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
      return NAMED[character] ?? `\\[u${code}]`;
    });
  return safe.replaceAll(/^\./gm, '\\&.');
}

/** Running text, a line each. */
const text = (words: string): string => escaped(words.replaceAll(/\n\s*/g, '\n'));

/** An argument of a request. */
const quoted = (words: string): string => `"${escaped(words).replaceAll('"', '\\(dq')}"`;
