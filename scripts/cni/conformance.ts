/**
 * Judge a CNI plugin by the specification: a table of points, exit status 0 if all hold. See scripts/cni-conformance.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { columns } from '../../control/cli/table.ts';
import { type Json, Plugins, parse } from './driver.ts';
import { POINTS, type Point } from './points.ts';
import { Subject, Verdict } from './subject.ts';

/** Versions that the points know, oldest first. */
const KNOWN = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];
const FOLDERS = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'];

export interface Judgement {
  readonly point: Point;
  readonly result: 'pass' | 'FAIL' | '-';
  readonly why: string;
}

export interface Options {
  /** A name, or a path. */
  readonly plugin: string;
  /** A plugin's configuration, or a conflist that has one. */
  readonly conf?: Json;
  readonly version?: string;
  readonly only?: readonly string[];
  /** A command that puts the plugin where it is to work: `ip netns exec NODE`. */
  readonly enter?: readonly string[];
  /** More variables for the plugin. */
  readonly env?: Record<string, string>;
}

/** Eight containers one after another need DEL to free: six addresses, of which the plugin may take one. */
const hostLocal = (dataDir: string, subnet: string, routes: Json[]): Json => ({
  type: 'host-local',
  ranges: [[{ subnet }]],
  routes,
  dataDir,
});

/** Configurations of two networks, for plugins that we know and for others that want an IPAM and nothing more. */
function defaultConfs(type: string, dataDir: string): readonly [Json, Json] {
  if (type.startsWith('tortie-')) {
    const ipam = { type: 'tortie-ipam' };
    return [{ ipam }, { ipam }];
  }
  const ipam = hostLocal(dataDir, '10.213.7.0/29', [{ dst: '0.0.0.0/0' }]);
  const ipam2 = hostLocal(dataDir, '10.213.8.0/29', []);
  const bridge = type === 'bridge';
  return [
    { ipam, ...(bridge && { bridge: 'cnikit0', isGateway: true }) },
    { ipam: ipam2, ...(bridge && { bridge: 'cnikit1', isGateway: true }) },
  ];
}

/** Throws if the plugin cannot be judged at all: not there, or no version that we know. */
export async function judge(options: Options): Promise<Judgement[]> {
  const type = basename(options.plugin);
  const folders = options.plugin.includes('/') ? [dirname(options.plugin), ...FOLDERS] : FOLDERS;
  const { enter = [], env = {} } = options;
  const plugins = new Plugins(folders, { enter, env });
  const asked = await plugins.exec(type, { command: 'VERSION' }, { cniVersion: '1.0.0' });
  const told = parse(asked.stdout)?.supportedVersions;
  const supported = KNOWN.filter((version) => Array.isArray(told) && told.includes(version));
  const version = options.version ?? supported.at(-1);
  if (version === undefined || !supported.includes(version)) {
    throw new Error(
      `${options.plugin} says that it speaks ${JSON.stringify(told)}; the kit knows ${KNOWN.join(', ')}`,
    );
  }
  const dataDir = mkdtempSync(join(tmpdir(), 'cnikit-'));
  try {
    const confs = defaultConfs(type, dataDir).map((conf) => ({ type, ...conf, ...options.conf }));
    const judgements: Judgement[] = [];
    for (const point of POINTS) {
      if (options.only && !options.only.includes(point.name)) continue;
      judgements.push(await judgeOne(point, new Subject(type, plugins, confs, version, supported)));
    }
    return judgements;
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

async function judgeOne(point: Point, subject: Subject): Promise<Judgement> {
  if (point.since !== undefined && KNOWN.indexOf(subject.version) < KNOWN.indexOf(point.since)) {
    return { point, result: '-', why: `came with ${point.since}` };
  }
  try {
    await point.try(subject);
    return { point, result: 'pass', why: '' };
  } catch (error) {
    // What the kit itself could not do is no verdict, and no pass either.
    const why = error instanceof Verdict ? error.message : `the kit failed: ${(error as Error).message}`;
    return { point, result: 'FAIL', why };
  } finally {
    await subject.clean();
  }
}

/** The plugin's own part of a configuration file. */
function readConf(file: string, type: string): Json {
  const { name: _, cniVersion: __, ...whole } = JSON.parse(readFileSync(file, 'utf8')) as Json;
  if (!Array.isArray(whole.plugins)) return whole;
  const own = (whole.plugins as Json[]).find((plugin) => plugin.type === type);
  if (!own) throw new Error(`${file} has no plugin of type ${type}`);
  return own;
}

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      conf: { type: 'string' },
      version: { type: 'string' },
      only: { type: 'string', multiple: true },
      json: { type: 'boolean' },
    },
  });
  const [plugin] = positionals;
  if (plugin === undefined || positionals.length > 1) {
    console.error('cni-conformance: name one plugin; see --help');
    return 64;
  }
  const judgements = await judge({
    plugin,
    ...(values.conf !== undefined && { conf: readConf(values.conf, basename(plugin)) }),
    ...(values.version !== undefined && { version: values.version }),
    ...(values.only && { only: values.only }),
  });
  const failed = judgements.filter(({ result }) => result === 'FAIL');
  if (values.json) {
    const plain = judgements.map(({ point, result, why }) => ({
      point: point.name,
      rule: point.rule,
      result,
      why,
    }));
    console.log(JSON.stringify(plain, null, 2));
  } else {
    const rows = judgements.map(({ point, result, why }) => [point.name, result, why || point.rule]);
    console.log(columns(['POINT', 'RESULT', ''], rows).trimEnd());
    const passed = judgements.filter(({ result }) => result === 'pass').length;
    console.log(
      `${passed} passed, ${failed.length} failed, ${judgements.length - passed - failed.length} not in this version`,
    );
  }
  return failed.length === 0 ? 0 : 1;
}

if (process.argv[1]?.endsWith('scripts/cni/conformance.js')) {
  process.exitCode = await main(process.argv.slice(2)).catch((error: Error) => {
    console.error(`cni-conformance: ${error.message}`);
    return 69;
  });
}
