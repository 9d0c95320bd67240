import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Io } from './io.ts';
import { manPages } from './man.ts';
import { buildProgram } from './program.ts';

const pages = manPages(buildProgram({ out() {}, err() {} } as unknown as Io), '2026-01-01');

let folder: string;
let files: string[];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-man-'));
  files = [...pages].map(([name, text]) => {
    const file = join(folder, name);
    writeFileSync(file, text);
    return file;
  });
});
afterAll(() => rmSync(folder, { recursive: true }));

const rendered = (name: string) =>
  execFileSync('man', ['-l', join(folder, name)], {
    encoding: 'utf8',
    env: { ...process.env, MANWIDTH: '100', LC_ALL: 'C.UTF-8' },
  });

it('is there for the program and every verb', () => {
  const names = [...pages.keys()];
  for (const name of ['tortie.1', 'tortie-get.1', 'tortie-node.1', 'tortie-node-status.1'])
    expect(names).toContain(name);
  expect(names).not.toContain('tortie-complete.1');
  expect(names).not.toContain('tortie-help.1');
});

it('pleases mandoc and groff', () => {
  expect(spawnSync('mandoc', ['-T', 'lint', '-W', 'warning', ...files], { encoding: 'utf8' }).stdout).toBe(
    '',
  );
  const { status, stderr } = spawnSync('man', ['--warnings', '-l', ...files], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
    maxBuffer: 1 << 24,
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});

it('says what --help says', () => {
  const get = rendered('tortie-get.1').replaceAll(/\s+/g, ' ');
  expect(get).toContain('SYNOPSIS tortie get [options] [kind] [name...] DESCRIPTION');
  expect(get).toContain('-A, --all-namespaces Of all namespaces.');
  expect(get).toContain('tortie get ippool default-ipv4-ippool -o yaml > pool.yaml SEE ALSO tortie(1)');
  const patch = rendered('tortie-patch.1');
  expect(patch).toContain(`\n       tortie patch ippool pods -p '{"spec":{"ipipMode":"Never"}}'\n`);
  expect(patch.replaceAll(/\s+/g, ' ')).toContain('One of strategic, json, merge. Default: "strategic".');
  const trace = rendered('tortie-trace.1').replaceAll(/\s+/g, ' ');
  expect(trace).toContain('With --json: one JSON object a line. With --write:');
  const all = rendered('tortie.1').replaceAll(/\s+/g, ' ');
  expect(all).toContain('tortie-get(1) Print resources of the datastore');
  expect(all).toContain('TORTIE_CONFIG');
});
