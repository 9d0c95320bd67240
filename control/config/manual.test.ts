import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { desiredState } from '../desired.ts';
import { loadLab } from '../replay.ts';
import { loadResources } from '../resources/load.ts';
import { type Kind, SCHEMAS } from '../resources/schema.ts';
import { warningsOf } from '../resources/warnings.ts';
import { agentSchema, loadConfig } from './config.ts';

const MANUAL = '../../docs/CONFIG.md';
const manual = readFileSync(new URL(MANUAL, import.meta.url), 'utf8');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-manual-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

it('lists what the schemas allow; "npx vitest run control/config -u" writes it anew', async () => {
  const text = manual.replace(
    /(<!-- fields: (\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, mark: string, name: string, end: string) => `${mark}\n${tableOf(name)}\n${end}`,
  );
  await expect(text).toMatchFileSnapshot(MANUAL);
  for (const kind of Object.keys(SCHEMAS)) expect(manual).toContain(`<!-- fields: ${kind} -->`);
});

it('has examples that work', () => {
  const examples = [...manual.matchAll(/^```yaml\n# (\S+)\n([\s\S]*?)^```$/gm)];
  for (const [, name, text] of examples) writeFileSync(join(folder, name!), text!);
  expect(examples.map(([, name]) => name)).toEqual(['agent.yaml', 'resources.yaml', 'lab.yaml']);
  const config = loadConfig(join(folder, 'agent.yaml'));
  const path = join(folder, 'resources.yaml');
  expect(config.datastore).toEqual({ kind: 'static', path });
  const resources = loadResources(path);
  expect(warningsOf(resources)).toEqual([]);
  expect(desiredState({ ...config, underlayMtu: 1500 }, resources, []).problems).toEqual([]);
  expect(loadLab(join(folder, 'lab.yaml')).desired.problems).toEqual([]);
});

interface Field {
  readonly type?: string;
  readonly properties?: Record<string, Field>;
  readonly required?: readonly string[];
  readonly items?: Field;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly default?: unknown;
  readonly description?: string;
  readonly inert?: { readonly why: string };
}

/** A Markdown table of all fields that do something, nested ones with their path, as the formatter would leave it; and the others. */
function tableOf(name: string): string {
  const schema = name === 'agent' ? agentSchema : SCHEMAS[name as Kind].shape.spec;
  const rows: string[][] = [];
  const inert = new Map<string, string[]>();
  const walk = (object: Field, path: string) => {
    for (const [key, field] of Object.entries(object.properties ?? {})) {
      const here = `${path}${key}`;
      if (field.inert) inert.set(field.inert.why, [...(inert.get(field.inert.why) ?? []), `\`${here}\``]);
      else if (field.properties) walk(field, `${here}.`);
      else rows.push(rowOf(here, field, object.required?.includes(key) ?? false));
      if (!field.inert && field.items && !/^(The same|For people)/.test(field.description ?? ''))
        walk(field.items, `${here}[].`);
    }
  };
  walk(z.toJSONSchema(schema, { io: 'input' }) as Field, '');
  const all = [['field', 'values', 'default', 'meaning'], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const line = (cells: string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |\n`;
  const rule = line(widths.map((width) => '-'.repeat(width)));
  const table = line(all[0]!) + rule + all.slice(1).map(line).join('');
  if (inert.size === 0) return table;
  const reasons = [...inert].map(([why, fields]) => `- ${fields.join(', ')}: ${why}.\n`);
  return `${table}\nAccepted, with a warning if the value asks for something, and without effect:\n\n${reasons.join('')}`;
}

function rowOf(path: string, field: Field, required: boolean): string[] {
  const fallback =
    field.default === undefined ? '' : `\`${JSON.stringify(field.default).replaceAll('"', '')}\``;
  return [`\`${path}\``, valuesOf(field), required ? 'needed' : fallback, field.description ?? ''];
}

function valuesOf(field: Field): string {
  if (field.const !== undefined) return `\`${field.const}\``;
  if (field.enum) return field.enum.map((value) => `\`${value}\``).join(', ');
  if (field.type === 'boolean') return '`true`, `false`';
  if (field.type === 'array') return 'list';
  if (field.minimum !== undefined) {
    return field.maximum === Number.MAX_SAFE_INTEGER
      ? `${field.minimum} or more`
      : `${field.minimum} to ${field.maximum}`;
  }
  return field.type ?? '';
}
