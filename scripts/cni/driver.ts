/**
 * CNI as a container runtime does it: plugins executed with CNI_* and a configuration, alone or as a network's chain, where each
 * gets the result of the one before. What libcni does and podman never calls (CHECK, STATUS, GC) is here, too.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const TIMEOUT_MS = 60_000;

export type Json = Record<string, unknown>;

/** What a plugin is told beside its configuration. */
export interface Call {
  readonly command: string;
  readonly containerId?: string;
  /** Path of the namespace. */
  readonly netns?: string;
  readonly ifname?: string;
  readonly args?: string;
}

export interface Outcome {
  /** Null: ended by a signal, or not in time. */
  readonly exit: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class PluginError extends Error {
  readonly code: number | undefined;
  constructor(what: string, { exit, stdout, stderr }: Outcome) {
    const said = parse(stdout);
    const code = typeof said?.code === 'number' ? said.code : undefined;
    const text = said ? `${said.msg}${said.details ? `; ${said.details}` : ''}` : stdout + stderr;
    super(`${what}: exit ${exit}, code ${code}: ${text.trim() || 'without a word'}`);
    this.code = code;
  }
}

export function parse(text: string): Json | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null;
  } catch {
    return null;
  }
}

const PARAMETERS = new Set(
  ['COMMAND', 'CONTAINERID', 'NETNS', 'IFNAME', 'ARGS', 'PATH'].map((name) => `CNI_${name}`),
);

/** Plugins get the runtime's environment, but for what is said anew with each call. */
const surroundings = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !PARAMETERS.has(name)));

/** Where plugins are looked for, by their type. */
export class Plugins {
  readonly folders: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** `env`: more variables for every plugin. `enter`: a command that puts plugins where the node is. */
  readonly enter: readonly string[];

  constructor(
    folders: readonly string[],
    options: { env?: Record<string, string>; enter?: readonly string[] } = {},
  ) {
    this.folders = folders;
    this.env = options.env ?? {};
    this.enter = options.enter ?? [];
  }

  find(type: string): string {
    if (type.includes('/')) return type;
    const folder = this.folders.find((candidate) => existsSync(join(candidate, type)));
    if (folder === undefined) throw new Error(`no plugin ${type} in ${this.folders.join(':')}`);
    return join(folder, type);
  }

  /** Run a plugin once. `input` as it is if it is a text. */
  exec(type: string, call: Call, input: Json | string): Promise<Outcome> {
    const env = {
      ...surroundings(),
      ...this.env,
      CNI_PATH: this.folders.join(':'),
      ...(call.command !== '' && { CNI_COMMAND: call.command }),
      ...(call.containerId !== undefined && { CNI_CONTAINERID: call.containerId }),
      ...(call.netns !== undefined && { CNI_NETNS: call.netns }),
      ...(call.ifname !== undefined && { CNI_IFNAME: call.ifname }),
      ...(call.args !== undefined && { CNI_ARGS: call.args }),
    };
    const [program, ...args] = [...this.enter, this.find(type)];
    return new Promise((resolve, reject) => {
      const child = spawn(program!, args, { env, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' });
      let stdout = '';
      let stderr = '';
      child.stdout.on('data', (data: Buffer) => {
        stdout += data;
      });
      child.stderr.on('data', (data: Buffer) => {
        stderr += data;
      });
      child.stdin.on('error', () => undefined);
      child.on('error', reject);
      child.on('close', (exit) => resolve({ exit, stdout, stderr }));
      child.stdin.end(typeof input === 'string' ? input : JSON.stringify(input));
    });
  }
}

/** A container's interface on a network. */
export interface Attachment {
  readonly containerId: string;
  readonly netns: string;
  readonly ifname: string;
  readonly args?: string;
  /** By capability what is handed to the plugins that declare it. */
  readonly capabilities?: Json;
}

/** A conflist and the plugins that carry it out. */
export class Network {
  readonly list: Json;
  readonly #plugins: Plugins;
  readonly #results = new Map<string, Json>();

  constructor(list: Json, plugins: Plugins) {
    this.list = list;
    this.#plugins = plugins;
  }

  get #chain(): Json[] {
    return this.list.plugins as Json[];
  }

  /** The result of the last plugin. Throws the PluginError of the first that fails. */
  async add(attachment: Attachment): Promise<Json> {
    let result: Json | undefined;
    for (const plugin of this.#chain) {
      const outcome = await this.#exec('ADD', plugin, attachment, result);
      result = parse(outcome.stdout) ?? undefined;
      if (outcome.exit !== 0 || !result) throw new PluginError(`${plugin.type} ADD`, outcome);
    }
    this.#results.set(keyOf(attachment), result!);
    return result!;
  }

  async check(attachment: Attachment): Promise<void> {
    const result = this.#results.get(keyOf(attachment));
    for (const plugin of this.#chain) await this.#silent('CHECK', plugin, attachment, result);
  }

  async del(attachment: Attachment): Promise<void> {
    const result = this.#results.get(keyOf(attachment));
    for (const plugin of [...this.#chain].reverse()) await this.#silent('DEL', plugin, attachment, result);
    this.#results.delete(keyOf(attachment));
  }

  async status(): Promise<void> {
    for (const plugin of this.#chain) await this.#silent('STATUS', plugin);
  }

  /** Attachments that are not listed go. */
  async gc(valid: readonly Attachment[]): Promise<void> {
    const list = valid.map(({ containerId: containerID, ifname }) => ({ containerID, ifname }));
    const more = { 'cni.dev/valid-attachments': list };
    for (const plugin of this.#chain) await this.#silent('GC', { ...plugin, ...more });
  }

  async #silent(command: string, plugin: Json, attachment?: Attachment, result?: Json): Promise<void> {
    const outcome = await this.#exec(command, plugin, attachment, result);
    if (outcome.exit !== 0) throw new PluginError(`${plugin.type} ${command}`, outcome);
  }

  #exec(command: string, plugin: Json, attachment?: Attachment, prevResult?: Json): Promise<Outcome> {
    const { name, cniVersion } = this.list;
    const declared = Object.entries((plugin.capabilities as Json | undefined) ?? {});
    const granted = declared.flatMap(([capability, isOn]) => {
      const value = attachment?.capabilities?.[capability];
      return isOn === true && value !== undefined ? [[capability, value] as const] : [];
    });
    const { capabilities: _, ...own } = plugin;
    const input = {
      ...own,
      name,
      cniVersion,
      ...(granted.length > 0 && { runtimeConfig: Object.fromEntries(granted) }),
      ...(prevResult && { prevResult }),
    };
    const { capabilities: __, ...call } = attachment ?? {};
    return this.#plugins.exec(plugin.type as string, { command, ...call }, input);
  }
}

const keyOf = ({ containerId, ifname }: Attachment): string => `${containerId}/${ifname}`;
