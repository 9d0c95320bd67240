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
const sources = ['control', 'dataplane', 'scripts']
  .flatMap((folder) => [...files(folder)])
  .map((path) => readFileSync(join(ROOT, path), 'utf8').replaceAll("\\'", "'"))
  .join('\n');
const ledgers = readdirSync(FOLDER).filter((name) => /^\d+\.md$/.test(name));

/** As it stands, or as a template with a case in it: "of %s are refused", "text". */
function isThere(title: string): boolean {
  if (sources.includes(title)) return true;
  const words = title.split(' ');
  return words.some((_, from) =>
    words.slice(from).some((__, count) => {
      const inner = words.slice(from, from + count + 1).join(' ');
      const template = [...words.slice(0, from), '%s', ...words.slice(from + count + 1)].join(' ');
      return template !== '%s' && sources.includes(template) && sources.includes(inner);
    }),
  );
}

it.each(ledgers)('docs/rfc/%s names no test that is not there', (name) => {
  const rows = readFileSync(join(FOLDER, name), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('|'));
  const named = rows.flatMap((row) => [...row.matchAll(/“([^”]+)”/g)].map(([, title]) => title!));
  expect(named.length).toBeGreaterThan(0);
  // A title may be cut short.
  const parts = named.flatMap((title) => title.split('…')).map((part) => part.trim());
  expect(parts.filter((part) => !isThere(part))).toEqual([]);
});

it('docs/rfc/README.md lists them all', () => {
  const index = readFileSync(join(FOLDER, 'README.md'), 'utf8');
  expect(ledgers.filter((name) => !index.includes(`(${name})`))).toEqual([]);
});
