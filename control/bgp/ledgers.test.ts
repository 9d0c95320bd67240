/** The ledgers of docs/rfc name tests in quotes: whatever they name must be there, or they would rot. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const FOLDER = join(ROOT, 'docs/rfc');
const TESTS = /\.(test|e2e|soak)\.ts$|\/interop\/cells\.ts$/;

function* files(folder: string): Generator<string> {
  for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) yield* files(path);
    else if (TESTS.test(path)) yield path;
  }
}
const sources = new Map(
  ['control', 'dataplane', 'scripts']
    .flatMap((folder) => [...files(folder)])
    .map((path) => [path, readFileSync(join(ROOT, path), 'utf8').replaceAll("\\'", "'")]),
);
const ledgers = readdirSync(FOLDER).filter((name) => /^\d+\.md$/.test(name));

/** As it stands, or as a template with a case in it: "of %s are refused", "text". */
function isThere(source: string, title: string): boolean {
  if (source.includes(title)) return true;
  const words = title.split(' ');
  return words.some((_, from) =>
    words.slice(from).some((__, count) => {
      const inner = words.slice(from, from + count + 1).join(' ');
      const template = [...words.slice(0, from), '%s', ...words.slice(from + count + 1)].join(' ');
      return template !== '%s' && source.includes(template) && source.includes(inner);
    }),
  );
}

const textOf = (name: string) => readFileSync(join(FOLDER, name), 'utf8');

/** Files by the short names that a ledger's head gives them: "**x** is `path`", "`x` is `path`, `y` `path`", "`path` (**x**". */
function shortNames(text: string): Map<string, string> {
  const head = text.slice(0, text.indexOf('\n|'));
  const linked = [...head.matchAll(/\[\d+\.md\]\((\d+\.md)\)/g)].flatMap(([, name]) => [
    ...shortNames(textOf(name!)),
  ]);
  const before = head.matchAll(/(?:\*\*|`)(\w+)(?:\*\*|`)(?: is)?\s`([\w./-]+)`/g);
  const behind = head.matchAll(/`([\w./-]+)`\s\(\*\*(\w+)\*\*/g);
  return new Map([
    ...linked,
    ...[...before].map(([, short, path]): [string, string] => [short!, path!]),
    ...[...behind].map(([, path, short]): [string, string] => [short!, path!]),
  ]);
}

/** Each title with the file that is named before it: "speaker “a”, “b”; bird “c”". */
function* namedIn(text: string): Generator<{ file: string | undefined; title: string }> {
  const files = shortNames(text);
  for (const cell of text.split('\n').flatMap((line) => (line.startsWith('|') ? line.split('|') : []))) {
    let file: string | undefined;
    for (const [, before, title] of cell.matchAll(/([^“”]*)“([^”]+)”/g)) {
      const name = before!.match(/[\w./-]+/g)?.findLast((word) => files.has(word) || sources.has(word));
      if (name) file = files.get(name) ?? name;
      yield { file, title: title! };
    }
  }
}

it.each(ledgers)('docs/rfc/%s names no test that is not in the file that it names', (name) => {
  const named = [...namedIn(textOf(name))];
  expect(named.length).toBeGreaterThan(0);
  const missing = named.filter(({ file, title }) => {
    const source = sources.get(file ?? '');
    // A title may be cut short.
    return !source || !title.split('…').every((part) => isThere(source, part.trim()));
  });
  expect(missing).toEqual([]);
});

it('docs/rfc/README.md lists them all', () => {
  const index = readFileSync(join(FOLDER, 'README.md'), 'utf8');
  expect(ledgers.filter((name) => !index.includes(`(${name})`))).toEqual([]);
});
