/** `tortie replay`: the production pipeline over capture files, with the account of each port. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import type { PortSpec } from '../dataplane/messages.ts';
import { PcapError, readPcap } from '../dataplane/port/pcap.ts';
import { type ReplayResult, replay } from '../dataplane/replay.ts';
import { parseAddress4, parsePrefix4, tryAddress4, tryPrefix4 } from './address.ts';
import { dscpSchema } from './config/config.ts';
import { type Desired, type DesiredPort, desiredState } from './desired.ts';
import { EX_CONFIG, EX_DATAERR, EX_NOINPUT, TortieError } from './error.ts';
import { loadResources } from './resources/load.ts';
import { type Complaint, ConfigError, parseSources, validate } from './resources/yaml.ts';
import { TableWriter } from './tables.ts';

/** The port of a replay that stands for the network between nodes, both tunnels in one. */
export const UNDERLAY = 'underlay';

const labSchema = z.strictObject({
  nodeName: z.string().min(1).describe('The node whose pipeline runs.'),
  resources: z.string().min(1).describe('Folder or multi-document file of resources, relative to this file.'),
  hostDevice: z.string().min(1).default('tortie0'),
  underlayMtu: z.int().min(576).max(65535).default(1500),
  vni: z.int().min(1).max(16777215).default(4096),
  icmpRate: z.int().min(1).max(100000).default(100),
  dscp: dscpSchema,
  bgpRoutes: z
    .array(
      z.strictObject({
        prefix: z.string().refine((text) => tryPrefix4(text) !== null, { error: 'must be an IPv4 prefix' }),
        nextHop: z
          .string()
          .refine((text) => tryAddress4(text) !== null, { error: 'must be an IPv4 address' }),
      }),
    )
    .default([])
    .describe('Stands for what BGP would tell.'),
});

export interface Lab {
  readonly desired: Desired;
  readonly ports: PortSpec[];
  readonly tables: TableWriter;
}

/** Read a lab file and fill tables from it: a node without devices. Throws a ConfigError or TortieError. */
export function loadLab(file: string): Lab {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new TortieError(
      'CONFIG_UNREADABLE',
      `cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`,
      EX_CONFIG,
    );
  }
  const [source] = parseSources(file, text);
  const complaints: Complaint[] = [];
  const lab = source ? validate(source, labSchema, complaints) : null;
  if (!lab) {
    if (!source) complaints.push({ file, line: 1, column: 1, path: '', message: 'is empty' });
    throw new ConfigError(complaints);
  }
  const resources = loadResources(resolve(dirname(file), lab.resources));
  const routes = lab.bgpRoutes.map(({ prefix, nextHop }) => ({
    ...parsePrefix4(prefix),
    nextHop: parseAddress4(nextHop),
    peerLabel: 'lab file',
  }));
  const desired = desiredState(lab, resources, routes);
  // All tunnels meet the network at one place, as they would in a capture of it.
  const kept = desired.ports.filter((port) => port.kind === 'pod' || port.kind === 'host');
  const ports = [...kept.map(portSpec), underlaySpec(kept.length)];
  const ids = new Map(ports.map((port) => [port.name, port.id]));
  const underlay = ids.get(UNDERLAY)!;
  const tables = new TableWriter();
  const tunnels = new Set(desired.ports.filter((port) => !kept.includes(port)).map(({ name }) => name));
  tables.apply(desired, (name) => (tunnels.has(name) ? underlay : (ids.get(name) ?? null)));
  return { desired, ports, tables };
}

/** A port without its device. */
export const portSpec = ({ name, kind, mac, sources, sources6, mtu }: DesiredPort, id: number): PortSpec => ({
  id,
  kind,
  name,
  fds: [],
  readers: [0],
  mac,
  sources,
  sources6,
  mtu,
});

const underlaySpec = (id: number): PortSpec => ({
  id,
  kind: 'underlay',
  name: UNDERLAY,
  fds: [],
  readers: [0],
  mac: null,
  sources: [],
  mtu: 65535,
});

export interface ReplayOptions {
  readonly config: string;
  /** Capture file by port name. */
  readonly inputs: ReadonlyMap<string, string>;
  readonly out: string;
  readonly json: boolean;
}

export interface PortAccount {
  readonly received: number;
  readonly delivered: number;
  readonly consumed: number;
  /** Fragments that still waited for others at the end. */
  readonly held: number;
  /** Frames by reason. */
  readonly dropped: Record<string, number>;
  readonly sent: number;
  readonly originated: number;
}

type Inputs = Parameters<typeof replay>[0]['inputs'];

/** Hand captures, by the names of their ports, to `use`. Throws PORT_UNKNOWN, INPUT_UNREADABLE, PCAP_FORMAT and PCAP_TRUNCATED. */
export function readCaptures<T>(
  lab: Lab,
  config: string,
  files: ReadonlyMap<string, string>,
  use: (inputs: Inputs) => T,
): T {
  const byName = new Map(lab.ports.map((port) => [port.name, port]));
  const inputs = [...files].map(([name, file]) => {
    const port = byName.get(name);
    if (!port) {
      throw new TortieError(
        'PORT_UNKNOWN',
        `no port "${name}" in ${config}; ports: ${[...byName.keys()].join(', ')}`,
        EX_CONFIG,
      );
    }
    return { port: port.id, records: readPcap(readInput(file)), file };
  });
  try {
    return use(inputs);
  } catch (error) {
    if (!(error instanceof PcapError)) throw error;
    throw new TortieError(error.code, `a capture cannot be read: ${error.message}`, EX_DATAERR);
  }
}

/** Run it: one capture a port and account.json in `out`, the account on standard output. Exit code. */
export async function runReplay(options: ReplayOptions): Promise<number> {
  const lab = loadLab(options.config);
  const result = readCaptures(lab, options.config, options.inputs, (inputs) =>
    replay({ tables: lab.tables.shared, node: lab.desired.node, ports: lab.ports, inputs }),
  );
  const accounts = Object.fromEntries(lab.ports.map((port) => [port.name, accountOf(result, port.id)]));
  mkdirSync(options.out, { recursive: true });
  for (const port of lab.ports)
    writeFileSync(join(options.out, `${port.name}.pcap`), result.captures.get(port.id)!);
  const text = `${JSON.stringify({ ports: accounts }, null, 2)}\n`;
  writeFileSync(join(options.out, 'account.json'), text);
  process.stdout.write(options.json ? text : tableOf(accounts));
  for (const [id, count] of result.cut) {
    process.stderr.write(
      `note: ${count} frames of ${lab.ports[id]!.name} were captured shorter than they were\n`,
    );
  }
  return 0;
}

function readInput(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new TortieError(
      'INPUT_UNREADABLE',
      `cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`,
      EX_NOINPUT,
    );
  }
}

function accountOf(result: ReplayResult, port: number): PortAccount {
  const { totals, drops } = result.accounts.get(port)!;
  return {
    received: totals.rxFrames,
    delivered: totals.delivered,
    consumed: totals.consumed,
    held: totals.held,
    dropped: Object.fromEntries(drops.map((drop) => [drop.reason, drop.packets])),
    sent: totals.txFrames,
    originated: totals.originated,
  };
}

function tableOf(accounts: Record<string, PortAccount>): string {
  const lines = Object.entries(accounts).map(([name, account]) => {
    const drops = Object.entries(account.dropped).map(([reason, count]) => `${reason} ${count}`);
    const held = account.held > 0 ? `held ${account.held}, ` : '';
    return `${name}: received ${account.received}, delivered ${account.delivered}, consumed ${account.consumed}, ${held}dropped ${drops.join(', ') || '0'}; sent ${account.sent}`;
  });
  return `${lines.join('\n')}\n`;
}
