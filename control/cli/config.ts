/** `tortie config ...`: settings and resources, checked without an agent. */
import { readFileSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { stringify } from 'yaml';
import { type AgentConfig, loadConfig } from '../config/config.ts';
import { openStore } from '../datastore/open.ts';
import { desiredState } from '../desired.ts';
import { TortieError } from '../error.ts';
import { loadResources } from '../resources/load.ts';
import type { Resource } from '../resources/schema.ts';
import { warningsOf } from '../resources/warnings.ts';
import { ConfigError, parseSources } from '../resources/yaml.ts';
import { asksDaemon, type DaemonOptions, daemon } from './daemon.ts';
import { type Io, printJson } from './io.ts';

interface Report {
  readonly ok: boolean;
  readonly errors: readonly object[];
  /** What the agent would complain about and go on. */
  readonly warnings: readonly string[];
  readonly summary: string;
}

export function addConfig(program: Command, io: Io): void {
  const config = program.command('config').description('settings and resources');
  config
    .command('check')
    .description('check settings and the resources that they point to, or resources alone')
    .argument('<file>', 'settings of an agent; or resources, a folder or a file')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  tortie config check /etc/tortie/agent.yaml')
    .action(async (file: string, { json }: { json?: boolean }) => {
      if (!json) {
        const { summary, warnings } = await check(file);
        for (const warning of warnings) io.err(`warning: ${warning}\n`);
        io.out(`${summary}\n`);
        return;
      }
      const report = await reportOf(file);
      printJson(io, report);
      if (!report.ok) io.exitCode = 78;
    });
  asksDaemon(config.command('show'))
    .description('settings with all defaults: of a file, or what the running agent uses')
    .argument('[file]', 'settings of an agent')
    .addHelpText('after', '\nExample:\n  tortie config show /etc/tortie/agent.yaml')
    .action(async (file: string | undefined, options: DaemonOptions) => {
      const settings = file === undefined ? await daemon(io, options).config() : loadConfig(file);
      if (options.json) printJson(io, settings);
      else io.out(stringify(settings));
    });
}

/** Any MTU serves to find what is wrong with resources. */
const USUAL_MTU = 1500;

async function check(path: string): Promise<Pick<Report, 'warnings' | 'summary'>> {
  if (holdsResources(path)) {
    const resources = loadResources(path);
    return { summary: `${path}: ${countText(resources)}: all good`, warnings: warningsOf(resources) };
  }
  const config = loadConfig(path);
  const { resources, invalid } = await stored(config.datastore);
  const isRegistered = resources.some(
    ({ kind, metadata }) => kind === 'Node' && metadata.name === config.nodeName,
  );
  // With a store of its own a node registers when its agent starts.
  const problems =
    config.datastore.kind === 'static' || isRegistered
      ? desiredState({ ...config, underlayMtu: USUAL_MTU }, resources, []).problems
      : [`node ${config.nodeName} is not registered yet; its agent does that`];
  return {
    summary: `${path}: settings of node ${config.nodeName}, ${countText(resources)}: all good`,
    warnings: [...invalid, ...warningsOf(resources), ...problems],
  };
}

/** What is in the store, and what is wrong with what is left out. */
async function stored(
  settings: AgentConfig['datastore'],
): Promise<{ readonly resources: Resource[]; readonly invalid: readonly string[] }> {
  const store = openStore(settings);
  const invalid: string[] = [];
  try {
    const found = await store.resources.list(undefined, { onInvalid: (problem) => invalid.push(problem) });
    return { resources: found.map(({ resource }) => resource), invalid };
  } finally {
    await store.close();
  }
}

async function reportOf(path: string): Promise<Report> {
  try {
    return { ok: true, errors: [], ...(await check(path)) };
  } catch (error) {
    if (!(error instanceof TortieError)) throw error;
    const errors =
      error instanceof ConfigError
        ? error.complaints
        : [{ file: path, code: error.code, message: error.message }];
    return { ok: false, errors, warnings: [], summary: `${path}: ${errors.length} errors` };
  }
}

/** A folder, or a file whose documents say that they are resources. */
function holdsResources(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found?.isFile()) return found?.isDirectory() ?? false;
  const [first] = parseSources(path, readFileSync(path, 'utf8'));
  const value = first?.value;
  return typeof value === 'object' && value !== null && 'apiVersion' in value;
}

/** "3 resources (1 IPPool, 2 Node)". */
function countText(resources: readonly Resource[]): string {
  const kinds = new Map<string, number>();
  for (const { kind } of resources) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  const counts = [...kinds].map(([kind, count]) => `${count} ${kind}`).join(', ');
  return `${resources.length} resources${counts && ` (${counts})`}`;
}
