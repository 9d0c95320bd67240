/** What the conformance points share: the plugin that is judged, and containers that are namespaces. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { type Call, type Json, type Outcome, type Plugins, parse } from './driver.ts';

const run = promisify(execFile);

export const IFNAME = 'eth0';

/** Containers of this process so far: each has a name of its own. */
let containers = 0;

/** Why a plugin does not pass a point. */
export class Verdict extends Error {}

export function demand(condition: unknown, why: string): asserts condition {
  if (!condition) throw new Verdict(why);
}

export interface IpAddress {
  readonly family: string;
  readonly local: string;
  readonly prefixlen: number;
}
export interface IpLink {
  readonly ifname: string;
  readonly address?: string;
  readonly flags: readonly string[];
  readonly addr_info: readonly IpAddress[];
}
export interface IpRoute {
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
}

/** A network namespace that stands for a container. */
export class Container {
  readonly id: string;
  readonly name: string;
  constructor(name: string) {
    this.name = name;
    // As runtimes make them.
    this.id = createHash('sha256').update(name).digest('hex');
  }
  get netns(): string {
    return `/run/netns/${this.name}`;
  }
  async ip(...args: string[]): Promise<string> {
    return (await run('ip', ['-n', this.name, ...args])).stdout;
  }
  async links(): Promise<IpLink[]> {
    return JSON.parse(await this.ip('-j', 'addr')) as IpLink[];
  }
  async link(name = IFNAME): Promise<IpLink | undefined> {
    return (await this.links()).find(({ ifname }) => ifname.split('@')[0] === name);
  }
  async routes(): Promise<IpRoute[]> {
    const all = [await this.ip('-j', '-4', 'route'), await this.ip('-j', '-6', 'route')];
    return all.flatMap((text) => JSON.parse(text || '[]') as IpRoute[]);
  }
  async remove(): Promise<void> {
    await run('ip', ['netns', 'delete', this.name]).catch(() => undefined);
  }
}

/** An attachment that was made: what it is called by, and the result. */
export interface Attached {
  readonly container: Container;
  readonly call: Omit<Call, 'command'>;
  readonly result: Json;
}

export class Subject {
  readonly type: string;
  readonly plugins: Plugins;
  readonly version: string;
  readonly supported: readonly string[];
  readonly #confs: readonly Json[];
  readonly #containers: Container[] = [];
  readonly #attached: Attached[] = [];

  /** `confs`: of the plugin for two networks, without name and version. */
  constructor(
    type: string,
    plugins: Plugins,
    confs: readonly Json[],
    version: string,
    supported: readonly string[],
  ) {
    this.type = type;
    this.plugins = plugins;
    this.#confs = confs;
    this.version = version;
    this.supported = supported;
  }

  conf(more: Json = {}): Json {
    return { name: 'conformance', ...this.#confs[0], cniVersion: this.version, ...more };
  }

  /** What makes it another network's. */
  get other(): Json {
    return { ...this.#confs[1], name: 'conformance2' };
  }

  exec(call: Call, conf: Json | string = this.conf()): Promise<Outcome> {
    return this.plugins.exec(this.type, call, conf);
  }

  async container(): Promise<Container> {
    const container = new Container(`cnikit-${process.pid}-${containers++}`);
    await run('ip', ['netns', 'add', container.name]);
    this.#containers.push(container);
    return container;
  }

  call(container: Container, ifname = IFNAME): Omit<Call, 'command'> {
    return { containerId: container.id, netns: container.netns, ifname };
  }

  /** ADD that must go well. */
  async add(container: Container, ifname = IFNAME, more: Json = {}): Promise<Attached> {
    const call = this.call(container, ifname);
    const outcome = await this.exec({ command: 'ADD', ...call }, this.conf(more));
    demand(outcome.exit === 0, `ADD fails: ${outcome.stdout}${outcome.stderr}`);
    const result = parse(outcome.stdout);
    demand(result, `ADD prints something else than one JSON object: ${JSON.stringify(outcome.stdout)}`);
    const attached = { container, call, result };
    this.#attached.push(attached);
    return attached;
  }

  /** The same, in a new container. */
  async attach(more: Json = {}): Promise<Attached> {
    return this.add(await this.container(), IFNAME, more);
  }

  check({ call, result }: Attached, more: Json = {}): Promise<Outcome> {
    return this.exec({ command: 'CHECK', ...call }, this.conf({ prevResult: result, ...more }));
  }

  del({ call, result }: Attached, more: Json = {}): Promise<Outcome> {
    return this.exec({ command: 'DEL', ...call }, this.conf({ prevResult: result, ...more }));
  }

  /** Links of the node, by name: what a plugin may leave behind. */
  async hostLinks(): Promise<string[]> {
    const { stdout } = await run(this.plugins.enter[0] ?? 'ip', [
      ...(this.plugins.enter.length > 0 ? [...this.plugins.enter.slice(1), 'ip'] : []),
      '-j',
      'link',
    ]);
    return (JSON.parse(stdout) as { ifname: string }[]).map(({ ifname }) => ifname).sort();
  }

  /** Take back all that a point made, whatever came of it. */
  async clean(): Promise<void> {
    for (const attached of this.#attached.splice(0)) {
      await this.exec({ command: 'DEL', ...attached.call });
    }
    for (const container of this.#containers.splice(0)) await container.remove();
  }
}

/** An error as the specification has it; its code. */
export function errorCode({ exit, stdout }: Outcome): number {
  demand(exit !== 0, 'exit status is 0');
  demand(exit !== null, 'ended by a signal, or not at all');
  const error = parse(stdout);
  demand(error, `standard output is no JSON object: ${JSON.stringify(stdout)}`);
  demand(typeof error.code === 'number' && error.code > 0, `no code in ${stdout}`);
  demand(typeof error.msg === 'string' && error.msg !== '', `no msg in ${stdout}`);
  return error.code;
}

/** Nothing but success. */
export function demandSilence(command: string, { exit, stdout, stderr }: Outcome): void {
  demand(exit === 0, `${command} fails: ${stdout}${stderr}`);
  demand(stdout.trim() === '', `${command} prints ${JSON.stringify(stdout)}`);
}
