/** The agent's own settings: a YAML file, checked against a schema that is published as docs/agent.schema.json. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { MAX_MEMBERS } from '../../dataplane/fib/groups.ts';
import { tryInterface4, tryInterface6 } from '../address.ts';
import { EX_CONFIG, TortieError } from '../error.ts';
import { type Complaint, ConfigError, parseSources, validate } from '../resources/yaml.ts';

const deviceName = z
  .string()
  .regex(/^[^\s/:]{1,15}$/, { error: 'must be an interface name: 1 to 15 characters, no space, "/" or ":"' });

/** Which settings each kind of store takes. */
const STORE_FIELDS: Readonly<Record<string, readonly string[]>> = {
  static: ['path'],
  embedded: ['path'],
  etcd: ['endpoints', 'caFile', 'certFile', 'keyFile', 'username', 'password'],
};
const DEFAULT_STORE = '/var/lib/tortie';

const datastore = z
  .strictObject({
    kind: z
      .enum(['static', 'embedded', 'etcd'])
      .default('embedded')
      .describe(
        'static: files, read-only. embedded: a store of this machine. etcd: one that many nodes share.',
      ),
    path: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Relative to this file. static: folder or multi-document file. embedded: folder, default /var/lib/tortie.',
      ),
    endpoints: z.array(z.url()).min(1).optional().describe('etcd: URLs such as http://192.0.2.9:2379.'),
    caFile: z.string().min(1).optional().describe('etcd: certificates of the authorities to trust, PEM.'),
    certFile: z.string().min(1).optional().describe('etcd: our certificate, PEM.'),
    keyFile: z.string().min(1).optional().describe('etcd: its key, PEM.'),
    username: z.string().min(1).optional().describe('etcd: user.'),
    password: z.string().min(1).optional().describe('etcd: password of the user.'),
  })
  .superRefine((store, context) => {
    const taken = STORE_FIELDS[store.kind]!;
    const strange = Object.keys(store).filter((name) => name !== 'kind' && !taken.includes(name));
    for (const name of strange) {
      context.addIssue({ code: 'custom', path: [name], message: `is not for kind ${store.kind}` });
    }
    const needed = { static: 'path', etcd: 'endpoints', embedded: null }[store.kind];
    if (needed && !(needed in store)) {
      context.addIssue({ code: 'custom', path: [needed], message: `kind ${store.kind} needs it` });
    }
  })
  .prefault({})
  .describe('Where the resources are.');

const bmpCollector = z.strictObject({
  address: z
    .string()
    .refine((text) => isIP(text) !== 0, { error: 'must be an IP address such as 192.0.2.9' })
    .describe('Address of the collector.'),
  port: z.int().min(1).max(65535).describe('Its port.'),
  modes: z
    .array(z.enum(['adj-in', 'adj-out', 'loc-rib']))
    .min(1)
    .max(3)
    .refine((modes) => new Set(modes).size === modes.length, { error: 'must name each mode once' })
    .default(['adj-in'])
    .describe(
      'adj-in: routes as peers tell them; what was told before the collector came, as the import policy left it. adj-out: routes as peers are told (RFC 8671). loc-rib: the best routes (RFC 9069).',
    ),
  statisticsSeconds: z
    .int()
    .min(1)
    .max(86400)
    .default(60)
    .describe('Time between reports of statistics, seconds.'),
});

const chance = z.number().min(0).max(1).optional();
const faults = z.strictObject({
  loss: chance.describe('Chance that a frame is lost, 0 to 1.'),
  corrupt: chance.describe('Chance that a bit of it is turned over.'),
  truncate: chance.describe('Chance that it is cut short.'),
  reorder: chance.describe('Chance that it changes places with the next one.'),
  duplicate: chance.describe('Chance that it is sent twice; of "to" only.'),
  delay: chance.describe('Chance that it waits; of "to" only.'),
  delayMs: z
    .int()
    .min(1)
    .max(10000)
    .optional()
    .describe('How long it waits at most, milliseconds. Default: 10.'),
});

export const dscpSchema = z
  .union([z.literal('inherit'), z.int().min(0).max(63)])
  .default('inherit')
  .describe('DSCP of tunnel packets (RFC 2983). inherit: that of the packet inside. ECN always is.');

export const agentSchema = z.strictObject({
  nodeName: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/, {
      error: 'must be a host name: lower-case letters, digits, "-" and ".", at most 63',
    })
    .describe('Name of this node: its Node resource and its WorkloadEndpoints carry it.'),
  datastore,
  nodeAddress: z
    .string()
    .refine((text) => tryInterface4(text) !== null && text.includes('/'), {
      error: 'must be an IPv4 address with a prefix length such as 192.0.2.1/24',
    })
    .optional()
    .describe(
      'Address that this node registers, unless the store is static. Default: that of its Node if a device has it, else of interface, else of the device with the default route. A node that has none needs nodeAddress6.',
    ),
  nodeAddress6: z
    .string()
    .refine((text) => tryInterface6(text) !== null && text.includes('/'), {
      error: 'must be an IPv6 address with a prefix length such as 2001:db8::1/64',
    })
    .optional()
    .describe('IPv6 address that this node registers, over which IPv6 travels between nodes. Default: none.'),
  interface: deviceName
    .optional()
    .describe('Underlay device. Default: the one that has the address of this node.'),
  hostDevice: deviceName.default('tortie0').describe('Name of the TAP that joins tortie with the host.'),
  workers: z.int().min(1).max(16).default(1).describe('Packet threads.'),
  icmpRate: z
    .int()
    .min(1)
    .max(100000)
    .default(100)
    .describe('ICMP errors a second and worker, and as many that tell of path MTUs.'),
  dscp: dscpSchema,
  vni: z.int().min(1).max(16777215).default(4096).describe('VXLAN network identifier.'),
  sockets: z
    .strictObject({
      api: z
        .string()
        .min(1)
        .max(100)
        .optional()
        .describe('Control socket. Default: /run/tortie/NODENAME/api.sock.'),
      cni: z
        .string()
        .min(1)
        .max(100)
        .optional()
        .describe('Socket of the CNI plugin. Default: /run/tortie/NODENAME/cni.sock, where it is found.'),
      bufferBytes: z
        .int()
        .min(65536)
        .max(268435456)
        .default(7340032)
        .describe('Socket buffers of the tunnels, bytes.'),
      udpChecksum: z
        .boolean()
        .default(true)
        .describe('False: VXLAN is sent with UDP checksum 0, but over IPv6, where there is none without.'),
      vxlanSenders: z
        .literal([1, 2, 4, 8, 16, 32, 64])
        .default(16)
        .describe('Sockets that VXLAN is sent from: as many source ports.'),
    })
    .prefault({})
    .describe('Sockets of the agent.'),
  offload: z
    .strictObject({
      vxlan: z
        .enum(['auto', 'host', 'sockets', 'plain'])
        .default('auto')
        .describe(
          'How VXLAN leaves: through the host device with super-frames whole (not over IPv6), cut for UDP sockets, or packet by packet.',
        ),
      ipip: z
        .enum(['auto', 'host', 'sockets', 'plain'])
        .default('auto')
        .describe('How IPIP leaves: the same.'),
    })
    .prefault({})
    .describe('Ways of the tunnels. auto: the fastest that kernel and host allow, see "tortie show ports".'),
  faults: z
    .array(
      z.strictObject({
        port: z.string().min(1).describe('A port by its name: vxlan, ipip, tortie0, cali...'),
        seed: z
          .int()
          .min(0)
          .max(2147483647)
          .default(1)
          .describe('Of the chances: the same again with the same seed.'),
        from: faults.prefault({}).describe('What befalls frames that are received from its device.'),
        to: faults.prefault({}).describe('What befalls frames that are sent to its device.'),
      }),
    )
    .max(1024)
    .default([])
    .describe('For labs and tests: what goes wrong at ports. Never on a node that somebody needs.'),
  metrics: z
    .strictObject({
      enabled: z
        .boolean()
        .default(false)
        .describe('True: serve GET /metrics over TCP, too; the control socket always does.'),
      address: z
        .ipv4()
        .default('127.0.0.1')
        .describe('Address to serve on. Whoever can connect may read: think before it is not loopback.'),
      port: z.int().min(1).max(65535).default(9091).describe('Port to serve on.'),
    })
    .prefault({})
    .describe('Metrics for Prometheus.'),
  health: z
    .strictObject({
      enabled: z.boolean().default(true).describe('True: serve GET /liveness and /readiness.'),
      address: z.ipv4().default('127.0.0.1').describe('Address to serve them on.'),
      port: z.int().min(1).max(65535).default(9099).describe('Port to serve them on.'),
    })
    .prefault({})
    .describe('Probes for whoever looks after the agent.'),
  restart: z
    .strictObject({
      keeper: z
        .enum(['auto', 'systemd', 'process', 'none'])
        .default('auto')
        .describe('Who holds devices and sockets while no agent runs. auto: systemd if it runs the agent.'),
      staleTime: z
        .int()
        .min(0)
        .max(3600)
        .default(120)
        .describe('How long after a start routes of the run before are kept until BGP tells them, seconds.'),
    })
    .prefault({})
    .describe('What outlives the agent.'),
  bgp: z
    .strictObject({
      enabled: z
        .boolean()
        .default(true)
        .describe('False: no BGP at all, routes come from the datastore only.'),
      holdTime: z.int().min(3).max(65535).default(90).describe('Hold time that is offered, seconds.'),
      retrySeconds: z
        .number()
        .min(0.1)
        .max(3600)
        .default(2)
        .describe('First pause before a failed session is tried again; doubles up to 30 times itself.'),
      maximumPaths: z
        .int()
        .min(1)
        .max(MAX_MEMBERS)
        .default(16)
        .describe(
          'Most next hops that share a route whose best paths are equal but for the tie-breaks. 1: the best one alone.',
        ),
      bmp: z
        .array(bmpCollector)
        .max(4)
        .refine(
          (list) => new Set(list.map(({ address, port }) => `${address} ${port}`)).size === list.length,
          {
            error: 'must name each collector once',
          },
        )
        .default([])
        .describe('Collectors that are told of sessions and routes by BMP (RFC 7854). They are dialled.'),
      secrets: z
        .string()
        .min(1)
        .default('/etc/tortie/secrets')
        .describe(
          'Folder of passwords, as Kubernetes mounts secrets: NAME/KEY is the file of a secretKeyRef.',
        ),
    })
    .prefault({})
    .describe('The BGP speaker.'),
  log: z
    .strictObject({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error'])
        .default('info')
        .describe('Least level that is logged.'),
      format: z
        .enum(['auto', 'json', 'text'])
        .default('auto')
        .describe('json: an object a line. text: for people. auto: text on a terminal, else json.'),
    })
    .prefault({})
    .describe('Log on standard error.'),
});

type Settings = z.infer<typeof agentSchema>;

/** What `kind` says is there; paths are absolute. */
export type DatastoreSettings =
  | { readonly kind: 'static' | 'embedded'; readonly path: string }
  | EtcdSettings;
export interface EtcdSettings {
  readonly kind: 'etcd';
  readonly endpoints: readonly string[];
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly username?: string;
  readonly password?: string;
}

/** Settings with all defaults and absolute paths. */
export interface AgentConfig extends Omit<Settings, 'datastore'> {
  /** The file that they came from. */
  readonly file: string;
  readonly datastore: DatastoreSettings;
  readonly sockets: Settings['sockets'] & { readonly api: string; readonly cni: string };
}

/** Read, check and complete the settings; paths become absolute. Throws a ConfigError or TortieError, exit code 78. */
export function loadConfig(file: string): AgentConfig {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new TortieError(
      'CONFIG_UNREADABLE',
      `cannot read ${file}: ${code}; give the path of the agent’s YAML file`,
      EX_CONFIG,
    );
  }
  const sources = parseSources(file, text);
  const [source] = sources;
  if (!source || sources.length > 1) {
    const message = source
      ? 'has several documents; settings are one'
      : 'is empty; see docs/CONFIG.md for an example';
    throw new ConfigError([{ file, line: 1, column: 1, path: '', message }]);
  }
  const complaints: Complaint[] = [];
  const settings = validate(source, agentSchema, complaints);
  if (!settings) throw new ConfigError(complaints);
  const base = dirname(resolve(file));
  return {
    ...settings,
    file: resolve(file),
    datastore: datastoreOf(settings.datastore, base),
    bgp: { ...settings.bgp, secrets: resolve(base, settings.bgp.secrets) },
    sockets: {
      ...settings.sockets,
      api: resolve(base, apiSocket(settings.nodeName, settings.sockets.api)),
      cni: resolve(base, settings.sockets.cni ?? join(stateFolder(settings.nodeName), 'cni.sock')),
    },
  };
}

function datastoreOf(settings: Settings['datastore'], base: string): DatastoreSettings {
  const { kind, path = DEFAULT_STORE, endpoints = [], username, password } = settings;
  if (kind !== 'etcd') return { kind, path: resolve(base, path) };
  const { caFile, certFile, keyFile } = settings;
  return {
    kind,
    endpoints,
    ...(caFile && { caFile: resolve(base, caFile) }),
    ...(certFile && { certFile: resolve(base, certFile) }),
    ...(keyFile && { keyFile: resolve(base, keyFile) }),
    ...(username && { username }),
    ...(password && { password }),
  };
}

/** Where a node has what is to outlive its agent, but not the system. */
export const stateFolder = (nodeName: string): string => `/run/tortie/${nodeName}`;

export const apiSocket = (nodeName: string, configured?: string): string =>
  configured ?? `${stateFolder(nodeName)}/api.sock`;

/** The published schema. */
export function agentJsonSchema(): unknown {
  return { title: 'Settings of the tortie agent', ...z.toJSONSchema(agentSchema, { io: 'input' }) };
}
