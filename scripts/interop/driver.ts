/** What the matrix asks of a BGP daemon: to be told its peers and routes, to run in a namespace, to say what it holds. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, closeSync, constants, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Role } from '../../control/bgp/config.ts';
import type { FamilyName } from '../../control/bgp/family.ts';

const execute = promisify(execFile);

/** Nothing that is started here lives longer, whatever becomes of us. */
const LIFE_S = 300;
const ASK_MS = 10_000;
const STOP_MS = 5000;

/** A route that a daemon announces. Communities are written "64512:1", "64512:1:2" and "rt:64512:1". */
export interface Announced {
  prefix: string;
  communities?: readonly string[];
  largeCommunities?: readonly string[];
  extendedCommunities?: readonly string[];
  /** Several paths of one prefix, for daemons that announce such of themselves. */
  pathId?: number;
}

/** A path that a daemon holds, communities as above. */
export interface Held {
  nextHop: string;
  /** "igp", "egp" or "incomplete". */
  origin: string;
  asPath: string;
  med: number;
  localPref: number;
  communities: readonly string[];
  largeCommunities: readonly string[];
  extendedCommunities: readonly string[];
  /** Only to Customer (RFC 9234), from daemons that show it. */
  otc?: number;
}

/** A session as the daemon is told of it. */
export interface Peering {
  /** The other side's address and AS number. */
  peer: string;
  peerAsn: number;
  /** The daemon's address. */
  local: string;
  families: readonly FamilyName[];
  /** Wait for the other side to dial. Default true, so that sessions come up without a collision. */
  passive?: boolean;
  password?: string;
  ttlSecurity?: boolean;
  /** The other side is a client of the daemon's as reflector. */
  client?: boolean;
  /** Seconds; absent: no graceful restart. */
  restartTime?: number;
  longLivedTime?: number;
  addPath?: 'receive' | 'send';
  maxPrefixes?: number;
  /** IPv4 routes with IPv6 next hops. */
  nextHop6?: boolean;
  role?: Role;
  /** False: without the capability for 4-octet AS numbers. */
  as4?: boolean;
  extendedMessages?: boolean;
  bfd?: boolean;
}

export interface DaemonConfig {
  asn: number;
  routerId: string;
  /** Its IPv6 address: the next hop of IPv6 routes over IPv4 sessions. */
  address6: string;
  peerings: readonly Peering[];
  routes: readonly Announced[];
}

export interface Driver {
  /** As it is written in the table. */
  readonly name: string;
  /** Debian's package. */
  readonly package: string;
  /** What must be executable for it to run here. */
  readonly programs: readonly string[];
  /** Its user is its own, so that only the machine's root can start it. */
  readonly needsRoot?: boolean;
  /** Cells that it cannot do, by the cell's id: why. */
  readonly cannot: Readonly<Record<string, string>>;
  /** It passes routes between its peers; without, several paths of a prefix are its own. */
  readonly reflects: boolean;
  /** Where it runs and keeps its files; set before anything else is called. */
  place: Place;
  version(): Promise<string>;
  /** Begin, or begin again; settles when it answers. `restarting`: after `crash`, with its forwarding state kept. */
  start(config: DaemonConfig, options?: { restarting?: boolean }): Promise<void>;
  /** End in good order. */
  stop(): Promise<void>;
  /** Die without a word to anybody. */
  crash(): Promise<void>;
  isEstablished(peer: string): Promise<boolean>;
  /** All paths of a prefix. */
  routes(prefix: string): Promise<Held[]>;
  /** All that it says of a session, with what the other side told when it ended. */
  describe(peer: string): Promise<string>;
  /** Ask the peer for its routes again. */
  refresh(peer: string): Promise<void>;
  /** End a session and tell why (RFC 9003). */
  shutdown(peer: string, text: string): Promise<void>;
  /** What BFD says of the peer: up or not. */
  bfdIsUp?(peer: string): Promise<boolean>;
}

/** A namespace, a folder for files, and the programs that run there. */
export class Place {
  readonly netns: string;
  readonly folder: string;
  readonly #processes = new Set<Process>();

  constructor(netns: string, folder: string) {
    this.netns = netns;
    this.folder = folder;
  }

  file(name: string): string {
    return join(this.folder, name);
  }

  /** Start a program; what it prints goes to a file named after it. */
  start(name: string, command: readonly string[], env: Record<string, string> = {}): Process {
    const started = new Process(this.netns, command, this.file(`${name}.out`), env);
    this.#processes.add(started);
    return started;
  }

  /** Run a program to its end; what it printed. */
  async run(program: string, ...args: string[]): Promise<string> {
    const options = { timeout: ASK_MS, killSignal: 'SIGKILL', maxBuffer: 16 * 1024 * 1024 } as const;
    return (await execute('ip', ['netns', 'exec', this.netns, program, ...args], options)).stdout;
  }

  /** Have nothing come from here to an address on the link, or all again. What is sent to here still arrives. */
  async silence(address: string, isSilent: boolean): Promise<void> {
    // Frames to a station that is not there: a route without a way would not bind sockets that are bound to the device.
    const entry = isSilent
      ? ['replace', address, 'lladdr', '02:00:00:00:00:01', 'nud', 'permanent']
      : ['del', address];
    await execute('ip', ['-n', this.netns, 'neigh', ...entry, 'dev', 'eth0']);
  }

  /** End every program that still runs. */
  async clear(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await Promise.all([...this.#processes].map((process) => process.stop(signal)));
    this.#processes.clear();
  }

  /** What the programs have said, for the one who has to find out why. */
  get output(): string {
    return [...this.#processes].map((process) => process.output).join('\n');
  }
}

/** A program and all that it starts. */
export class Process {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #log: string;

  constructor(netns: string, command: readonly string[], log: string, env: Record<string, string>) {
    this.#log = log;
    const output = openSync(log, 'a');
    const args = ['netns', 'exec', netns, 'timeout', '-s', 'KILL', `${LIFE_S}`, ...command];
    // A group of its own, so that what it forks ends with it.
    this.#child = spawn('ip', args, {
      stdio: ['ignore', output, output],
      detached: true,
      env: { ...process.env, ...env },
    });
    closeSync(output);
    this.#exited = once(this.#child, 'exit').catch(() => {});
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined;
  }

  get output(): string {
    return readFileSync(this.#log, 'utf8').slice(-4000);
  }

  #signal(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.#child.pid!, signal);
    } catch {
      // The group is gone.
    }
  }

  /** Signal it and all that it started, and wait; kill what does not listen. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.ended) return;
    this.#signal(signal);
    const timer = setTimeout(() => this.#signal('SIGKILL'), STOP_MS);
    await this.#exited;
    clearTimeout(timer);
    this.#signal('SIGKILL');
  }
}

/** Why a daemon cannot run here, or null. */
export function missing({ name, programs, package: source, needsRoot }: Driver): string | null {
  const absent = programs.filter((program) => {
    try {
      accessSync(program, constants.X_OK);
      return false;
    } catch {
      return true;
    }
  });
  if (absent.length > 0) {
    return `${name}: ${absent.join(', ')} not installed (scripts/setup --for interop installs ${source})`;
  }
  const whole = /^\s*0\s+0\s+4294967295\s*$/;
  if (needsRoot && !whole.test(readFileSync('/proc/self/uid_map', 'utf8').trim())) {
    return `${name} runs as a user of its own, which only the machine's root can become`;
  }
  return null;
}

export const isIp6 = (text: string): boolean => text.includes(':');
/** The words that `text` has after `label`, or none. */
export const listAfter = (text: string, label: RegExp): string[] =>
  (label.exec(text)?.[1] ?? '').split(/[\s,]+/).filter((word) => word !== '');
