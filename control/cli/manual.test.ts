import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fakeAgent } from '../api/fake-agent.ts';
import { type ApiServer, serveApi } from '../api/server.ts';
import { buildProgram } from './program.ts';
import { runCli } from './test-io.ts';

const MANUAL = '../../docs/CLI.md';
const manual = readFileSync(new URL(MANUAL, import.meta.url), 'utf8');

let runFolder: string;
let server: ApiServer;
let zone: string | undefined;
beforeAll(async () => {
  zone = process.env.TZ;
  process.env.TZ = 'UTC';
  runFolder = mkdtempSync(join(tmpdir(), 'tortie-manual-'));
  server = await serveApi(join(runFolder, 'node1', 'api.sock'), fakeAgent());
});
afterAll(async () => {
  if (zone === undefined) delete process.env.TZ;
  else process.env.TZ = zone;
  await server.close();
  rmSync(runFolder, { recursive: true });
});

it('quotes what the commands print; "npx vitest run control/cli -u" writes it anew', async () => {
  const parts = manual.split(/^```text\n\$ tortie (.*)\n[\s\S]*?^```$/m);
  let text = parts[0]!;
  for (let i = 1; i < parts.length; i += 2) {
    const { out, err } = await runCli(parts[i]!.split(' '), { runFolder });
    text += `\`\`\`text\n$ tortie ${parts[i]}\n${out}${err}\`\`\`${parts[i + 1]}`;
  }
  await expect(text).toMatchFileSnapshot(MANUAL);
});

it('tells of every verb', () => {
  const visible = (command: Command) =>
    command.commands.filter((child) => command.createHelp().visibleCommands(command).includes(child));
  const leaves = (command: Command, path: string): string[] =>
    command.commands.length === 0
      ? [path]
      : visible(command).flatMap((child) => leaves(child, `${path} ${child.name()}`.trim()));
  const io = { out() {}, err() {} } as unknown as Parameters<typeof buildProgram>[0];
  for (const verb of leaves(buildProgram(io), '')) expect(manual).toContain(`$ tortie ${verb} --help\n`);
});
