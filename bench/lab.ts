/**
 * Network namespaces for the entries that move real packets. The whole bench runs in a world of its own
 * (scripts/lab/enter), so names need not be unique on the machine and nothing outlives the run.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TIMEOUT_MS = 60_000;
const READY_MS = 20_000;
const KILL_MS = 5000;

export class Lab {
  readonly #namespaces: string[] = [];
  readonly #services: Service[] = [];
  /** For files of the lab: the world has a /run of its own. */
  readonly folder: string;

  /** Throws where the bench has no world of its own to build in. */
  constructor() {
    if (process.env.TORTIE_LAB !== '1')
      throw new Error(process.env.TORTIE_NO_LAB ?? 'not inside scripts/lab/enter');
    this.folder = mkdtempSync('/run/bench-');
  }

  /** Make a namespace with its loopback up. */
  async netns(name: string): Promise<string> {
    await run('ip', ['netns', 'add', name]);
    this.#namespaces.push(name);
    await this.ip(name, 'link set lo up');
    return name;
  }

  /**
   * The namespace of a node that runs an agent. One of that name in a lab before has left what the next agent on a real node
   * takes up: routes that BGP had told, and a BFD process that waits for it.
   */
  async node(name: string): Promise<string> {
    rmSync(join('/run/tortie', name), { recursive: true, force: true });
    return this.netns(name);
  }

  /** Run `ip` in a namespace; arguments are split at spaces. */
  async ip(netns: string, ...commands: string[]): Promise<void> {
    for (const command of commands) await run('ip', ['-n', netns, ...command.split(' ')]);
  }

  /** Join two namespaces by a veth pair, both ends up. */
  async veth(netns: string, name: string, peerNetns: string, peerName: string): Promise<void> {
    await this.ip(netns, `link add ${name} type veth peer name ${peerName} netns ${peerNetns}`);
    await this.ip(netns, `link set ${name} up`);
    await this.ip(peerNetns, `link set ${peerName} up`);
  }

  async sysctl(netns: string, ...settings: string[]): Promise<void> {
    await this.run(netns, 'sysctl', ['-qw', ...settings]);
  }

  /** Run a program in a namespace; its standard output. */
  async run(netns: string, program: string, args: readonly string[], timeout = TIMEOUT_MS): Promise<string> {
    const { stdout } = await run('ip', ['netns', 'exec', netns, program, ...args], {
      timeout,
      killSignal: 'SIGKILL',
    });
    return stdout;
  }

  /** Whether an address answers a ping within a second. */
  async answers(netns: string, address: string): Promise<boolean> {
    return this.run(netns, 'ping', ['-c1', '-W1', address]).then(
      () => true,
      () => false,
    );
  }

  /** Wait until an address answers. */
  async reach(netns: string, address: string, timeout = READY_MS): Promise<void> {
    const end = performance.now() + timeout;
    while (!(await this.answers(netns, address))) {
      if (performance.now() > end) throw new Error(`no answer from ${address} for ${timeout} ms`);
    }
  }

  /** Start a program in a namespace; resolves once it has printed a line. */
  async start(netns: string, program: string, args: readonly string[]): Promise<Service> {
    const service = new Service(netns, program, args);
    this.#services.push(service);
    await service.line();
    return service;
  }

  /** Start a program that need not say anything. */
  spawn(netns: string, program: string, args: readonly string[]): Service {
    const service = new Service(netns, program, args);
    this.#services.push(service);
    return service;
  }

  /** What `ethtool -k` says of the offloads that matter, e.g. `tx on, tso on, gso on, gro off`. */
  async offloads(netns: string, device: string): Promise<string> {
    const text = await this.run(netns, 'ethtool', ['-k', device]);
    const state = (feature: string) => text.match(new RegExp(`^\\s*${feature}: (on|off)`, 'm'))?.[1] ?? '?';
    const tso = state('tcp-segmentation-offload');
    const [gso, gro] = [state('generic-segmentation-offload'), state('generic-receive-offload')];
    return `tx ${state('tx-checksumming')}, tso ${tso}, gso ${gso}, gro ${gro}`;
  }

  /** Make a device send as a plain wire does: whole checksums, no super-frames. What arrives is still joined by GRO. */
  async plainWire(netns: string, device: string): Promise<void> {
    await this.run(netns, 'ethtool', ['-K', device, ...'tx off tso off gso off gro on'.split(' ')]);
  }

  /** End all programs and remove all namespaces, newest first. */
  async close(): Promise<void> {
    await Promise.all(this.#services.map((service) => service.stop()));
    for (const name of this.#namespaces.reverse()) await run('ip', ['netns', 'delete', name]);
    this.#namespaces.length = 0;
    this.#services.length = 0;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A program that runs beside us. */
export class Service {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #exited: Promise<unknown>;
  readonly #program: string;
  #said = '';

  constructor(netns: string, program: string, args: readonly string[]) {
    this.#program = program;
    this.#child = spawn('ip', ['netns', 'exec', netns, program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own, so that what it forks ends with it.
      detached: true,
    });
    this.#exited = once(this.#child, 'close').catch(() => {});
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    this.#child.stderr!.on('data', (data: Buffer) => {
      this.#said = (this.#said + data.toString()).slice(-2000);
    });
  }

  /** The next line of its output. */
  async line(timeout = READY_MS): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${this.#program} said nothing for ${timeout} ms`)), timeout);
    });
    try {
      const { value, done } = await Promise.race([this.#lines.next(), late]);
      if (done) throw new Error(`${this.#program} ended: ${this.#said.trim() || 'without a word'}`);
      return value;
    } finally {
      clearTimeout(timer);
    }
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** The end of what it wrote to standard error. */
  get said(): string {
    return this.#said.trim();
  }

  #signal(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.#child.pid!, signal);
    } catch {
      // The group is gone.
    }
  }

  async stop(): Promise<void> {
    if (this.ended) return;
    this.#signal('SIGTERM');
    const timer = setTimeout(() => this.#signal('SIGKILL'), KILL_MS);
    await this.#exited;
    clearTimeout(timer);
  }
}
