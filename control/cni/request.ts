/** What a runtime asks, checked: the CNI_ variables and the configuration. Every fault is the error that the specification has for it. */
import { z } from 'zod';
import { CniError, CODE } from './error.ts';
import { isAtLeast, parseResult, type Result, VERSIONS, type Version } from './result.ts';
import type { Header } from './wire.ts';

export type Command = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC';

/** The workload that a container is. */
export interface Pod {
  readonly orchestrator: 'k8s' | 'cni';
  readonly namespace: string;
  /** Outside Kubernetes a container has none. */
  readonly name: string | undefined;
}

export interface Request {
  readonly command: Command;
  /** Started as the delegated plugin. */
  readonly isIpam: boolean;
  readonly version: Version;
  readonly containerId: string;
  readonly ifname: string;
  /** CNI_NETNS; empty if the runtime gave none, which DEL takes. */
  readonly netns: string;
  readonly path: readonly string[];
  readonly pod: Pod;
  /** Of CNI_ARGS: an address and a MAC that are asked for. */
  readonly wanted: { readonly addresses: readonly string[]; readonly mac: string | undefined };
  readonly config: Config;
  readonly prevResult: Result | null;
  /** The environment and the configuration as they came, for delegated plugins. */
  readonly env: Readonly<Record<string, string>>;
  readonly text: string;
}

/** Calico writes truth as text. */
const truth = z.union([z.boolean(), z.enum(['true', 'false']).transform((text) => text === 'true')]);
const rate = z.number().min(0).optional();
/** Of a network or a container. */
export const NETWORK_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i;

const configSchema = z.looseObject({
  name: z
    .string()
    .regex(NETWORK_NAME, { error: 'must be letters, digits, "_", "." and "-", a letter or digit first' }),
  type: z.string().optional(),
  /** Of the pod's device, bytes; 0: as the pools' tunnels allow. */
  mtu: z.union([z.literal(0), z.int().min(576).max(65535)]).optional(),
  nodename: z.string().optional(),
  log_level: z.string().optional(),
  datastore_type: z.string().optional(),
  policy: z.looseObject({}).optional(),
  container_settings: z.looseObject({ allow_ip_forwarding: truth.optional() }).optional(),
  ipam: z
    .looseObject({
      type: z.string().optional(),
      ipv4_pools: z.array(z.string()).optional(),
      ipv6_pools: z.array(z.string()).optional(),
      assign_ipv4: truth.optional(),
      assign_ipv6: truth.optional(),
    })
    .optional(),
  dns: z.looseObject({}).optional(),
  runtimeConfig: z
    .looseObject({
      bandwidth: z
        .looseObject({ ingressRate: rate, ingressBurst: rate, egressRate: rate, egressBurst: rate })
        .optional(),
      ips: z.array(z.string()).optional(),
      mac: z.string().regex(MAC).optional(),
    })
    .optional(),
  'cni.dev/valid-attachments': z
    .array(z.looseObject({ containerID: z.string(), ifname: z.string() }))
    .nullish(),
});
export type Config = z.infer<typeof configSchema>;

/** The version that each command came with. */
const SINCE: Record<Command, Version> = {
  ADD: '0.3.1',
  DEL: '0.3.1',
  CHECK: '0.4.0',
  STATUS: '1.1.0',
  GC: '1.1.0',
};
const NEEDS: Record<Command, readonly string[]> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  STATUS: [],
  GC: [],
};

/** The version to answer an error in, as far as it can be told. */
export function versionAsked(text: string): string {
  try {
    const { cniVersion } = JSON.parse(text) as { cniVersion?: unknown };
    if (typeof cniVersion === 'string') return cniVersion;
  } catch {
    // What is wrong with it, parseRequest says.
  }
  return VERSIONS.at(-1)!;
}

/** Throws a CniError. */
export function parseRequest({ plugin, env }: Header, text: string): Request {
  const command = commandOf(env);
  const value = decode(text);
  const version = versionOf(value, command);
  const config = configOf(value);
  const args = argsOf(env.CNI_ARGS ?? '');
  return {
    command,
    isIpam: plugin === 'tortie-ipam',
    version,
    containerId: env.CNI_CONTAINERID ?? '',
    ifname: env.CNI_IFNAME ?? '',
    netns: env.CNI_NETNS ?? '',
    path: (env.CNI_PATH ?? '').split(':').filter((folder) => folder.startsWith('/')),
    pod: podOf(args),
    wanted: wantedOf(args, config),
    config,
    prevResult: value.prevResult == null ? null : parseResult(value.prevResult, 'prevResult'),
    env,
    text,
  };
}

function commandOf(env: Header['env']): Command {
  const command = env.CNI_COMMAND ?? '';
  if (!Object.hasOwn(NEEDS, command)) {
    throw new CniError(
      CODE.environment,
      command === ''
        ? 'CNI_COMMAND is missing'
        : `CNI_COMMAND ${command} is none of ADD, DEL, CHECK, STATUS, GC, VERSION`,
    );
  }
  const missing = NEEDS[command as Command].filter((name) => !env[name]);
  if (missing.length > 0) throw new CniError(CODE.environment, `${command} needs ${missing.join(', ')}`);
  const { CNI_CONTAINERID: id = '', CNI_IFNAME: ifname = '' } = env;
  if (id !== '' && !NETWORK_NAME.test(id))
    throw new CniError(CODE.environment, `CNI_CONTAINERID ${id} is no container id`);
  if (ifname !== '' && (!/^[^\s/:]{1,15}$/.test(ifname) || ifname === '.' || ifname === '..')) {
    throw new CniError(
      CODE.environment,
      `CNI_IFNAME ${ifname} is no interface name: 1 to 15 characters, no space, "/" or ":"`,
    );
  }
  return command as Command;
}

function decode(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
  } catch (error) {
    throw new CniError(CODE.decode, `the configuration is not JSON: ${(error as Error).message}`);
  }
  throw new CniError(CODE.decode, 'the configuration is not a JSON object');
}

function versionOf({ cniVersion }: Record<string, unknown>, command: Command): Version {
  const version = VERSIONS.find((known) => known === cniVersion);
  if (!version) {
    throw new CniError(
      CODE.version,
      `cniVersion ${JSON.stringify(cniVersion)} is not spoken here`,
      `supported are ${VERSIONS.join(', ')}`,
    );
  }
  if (!isAtLeast(version, SINCE[command])) {
    throw new CniError(
      CODE.version,
      `cniVersion ${version} has no ${command}; it came with ${SINCE[command]}`,
    );
  }
  return version;
}

function configOf(value: Record<string, unknown>): Config {
  const { success, data, error } = configSchema.safeParse(value);
  if (!success) {
    const [issue] = error.issues;
    throw new CniError(CODE.config, `configuration: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  if (data.datastore_type === 'kubernetes') {
    throw new CniError(
      CODE.unsupportedField,
      'datastore_type "kubernetes" is not supported',
      'the agent has a datastore of its own, embedded or etcd (docs/CONFIG.md, "datastore"): remove datastore_type',
    );
  }
  return data;
}

type Args = ReadonlyMap<string, string>;
const KNOWN_ARGS = new Set(['IP', 'MAC', 'IgnoreUnknown']);

/** "K8S_POD_NAMESPACE=default;K8S_POD_NAME=nginx". Others than ours are an error unless IgnoreUnknown says not, as in libcni. */
function argsOf(text: string): Args {
  const args = new Map<string, string>();
  for (const pair of text.split(';').filter((part) => part !== '')) {
    const at = pair.indexOf('=');
    if (at < 1) throw new CniError(CODE.environment, `CNI_ARGS: "${pair}" is no NAME=VALUE`);
    args.set(pair.slice(0, at), pair.slice(at + 1));
  }
  const ignores = /^(1|true)$/i.test(args.get('IgnoreUnknown') ?? '');
  const unknown = [...args.keys()].filter((name) => !KNOWN_ARGS.has(name) && !name.startsWith('K8S_POD_'));
  if (unknown.length > 0 && !ignores) {
    throw new CniError(
      CODE.environment,
      `CNI_ARGS: ${unknown.join(', ')} unknown`,
      'IgnoreUnknown=1 has them ignored',
    );
  }
  return args;
}

function podOf(args: Args): Pod {
  const name = args.get('K8S_POD_NAME');
  if (!name) return { orchestrator: 'cni', namespace: 'default', name: undefined };
  return { orchestrator: 'k8s', namespace: args.get('K8S_POD_NAMESPACE') || 'default', name };
}

function wantedOf(args: Args, { runtimeConfig }: Config): Request['wanted'] {
  const ip = args.get('IP');
  const mac = runtimeConfig?.mac ?? args.get('MAC');
  if (mac !== undefined && !MAC.test(mac)) {
    throw new CniError(CODE.environment, `CNI_ARGS: MAC ${mac} is no MAC address`);
  }
  const addresses = runtimeConfig?.ips ?? (ip ? ip.split(',') : []);
  return { addresses: addresses.map((address) => address.split('/')[0]!), mac: mac?.toLowerCase() };
}
