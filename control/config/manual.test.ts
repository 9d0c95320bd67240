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
    /(<!-- fields: (\w+) -->\n\n)(?:\|.*\n)*/g,
    (_, mark: string, name: string) => `${mark}${tableOf(name)}`,
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
}

/** A Markdown table of all fields, nested ones with their path, as the formatter would leave it. */
function tableOf(name: string): string {
  const schema = name === 'agent' ? agentSchema : SCHEMAS[name as Kind].shape.spec;
  const rows: string[][] = [];
  const walk = (object: Field, path: string) => {
    for (const [key, field] of Object.entries(object.properties ?? {})) {
      if (field.properties) walk(field, `${path}${key}.`);
      else rows.push(rowOf(`${path}${key}`, field, object.required?.includes(key) ?? false));
    }
  };
  walk(z.toJSONSchema(schema, { io: 'input' }) as Field, '');
  const all = [['field', 'values', 'default', 'meaning'], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const line = (cells: string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |\n`;
  const rule = line(widths.map((width) => '-'.repeat(width)));
  return line(all[0]!) + rule + all.slice(1).map(line).join('');
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
  if (field.minimum !== undefined) return `${field.minimum} to ${field.maximum}`;
  return field.type ?? '';
}
