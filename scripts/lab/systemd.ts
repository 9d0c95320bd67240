/**
 * A systemd of the lab's own: first process of its process namespace, in a node's network namespace, below a control group of
 * ours. It knows our units alone, so nothing of the machine's starts.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Lab } from '../../bench/lab.ts';
import { until } from '../../control/bgp/until.ts';

const exec = promisify(execFile);
const SYSTEMD = '/lib/systemd/systemd';
/** Empty targets that systemd wants for any unit. */
const TARGETS = ['basic', 'lab', 'local-fs', 'shutdown', 'sysinit'];
const CTL_MS = 60_000;
/** It is killed by then, whatever became of us. */
const LIFETIME_SECONDS = 300;

/** Mount the control groups anew as seen from our own, then become systemd. */
const INIT = `
set -e
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
if [ "$1" = 2 ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
fi
export container=lab SYSTEMD_UNIT_PATH="$2"
exec ${SYSTEMD} --system --unit=lab.target --log-target=console --show-status=no
`;

/** The hierarchy that systemd keeps its services in: its own of version 1, or that of version 2. */
function hierarchy(): { version: 1 | 2; path: string } | null {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const at = (pattern: RegExp) => mounts.find((line) => pattern.test(line))?.split(' ')[4];
  const named = at(/ - cgroup \S+ .*\bname=systemd\b/);
  if (named) return { version: 1, path: named };
  const unified = at(/ - cgroup2 /);
  return unified ? { version: 2, path: unified } : null;
}

/** Why no systemd can be started here, or null. */
export function noSystemd(): string | null {
  if (!existsSync(SYSTEMD)) return `there is no ${SYSTEMD} (Debian package systemd)`;
  const found = hierarchy();
  if (!found) return 'no control groups are mounted for systemd';
  const trial = join(found.path, `tortie-trial-${randomUUID()}`);
  try {
    mkdirSync(trial);
    rmdirSync(trial);
  } catch (error) {
    return `a control group cannot be made: ${(error as Error).message}`;
  }
  const { status, stderr } = spawnSync('unshare', ['--cgroup', 'true'], { encoding: 'utf8' });
  return status === 0 ? null : `no namespace of control groups: ${stderr.trim()}`;
}

export class Systemd {
  readonly #child: ChildProcess;
  readonly #group: string;
  #said = '';

  private constructor(netns: string, units: string) {
    const { version, path } = hierarchy()!;
    this.#group = join(path, `tortie-lab-${randomUUID()}`);
    mkdirSync(this.#group);
    const world = 'unshare --mount --pid --cgroup --fork --mount-proc --kill-child --propagation private';
    const enter = `echo $$ > ${this.#group}/cgroup.procs && exec timeout -s KILL ${LIFETIME_SECONDS} ip netns exec ${netns} ${world} "$@"`;
    const command = ['sh', '-c', INIT, 'init', String(version), units];
    this.#child = spawn('sh', ['-c', enter, 'enter', ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.on('data', (data: Buffer) => {
        this.#said += data.toString();
      });
    }
  }

  /** Boot with these unit files, by name. */
  static async boot(lab: Lab, netns: string, units: Readonly<Record<string, string>>): Promise<Systemd> {
    const folder = join(lab.folder, 'units');
    for (const target of TARGETS) put(folder, `${target}.target`, '[Unit]\nDefaultDependencies=no\n');
    for (const [name, text] of Object.entries(units)) put(folder, name, text);
    const systemd = new Systemd(netns, folder);
    let state = '';
    try {
      await until('systemd runs', async () => {
        if (systemd.#child.exitCode !== null) throw new Error(`systemd ended:\n${systemd.said}`);
        state = await systemd
          .ctl('is-system-running')
          .catch((error: { stdout?: string }) => error.stdout ?? '');
        return /running|degraded/.test(state);
      });
    } catch (error) {
      await systemd.close();
      throw new Error(`${(error as Error).message}: ${state.trim()}\n${systemd.said}`);
    }
    return systemd;
  }

  /** What systemd and its services wrote. */
  get said(): string {
    return this.#said;
  }

  /** `systemctl`; its output. systemd answers only those whom it can see, in its own namespace of processes. */
  ctl(...args: string[]): Promise<string> {
    return this.run('systemctl', ...args);
  }

  /** A program where systemd is; its output. */
  async run(...command: string[]): Promise<string> {
    const pid = pidsIn(this.#group).find(isSystemd);
    if (pid === undefined) throw new Error('systemd is not there');
    const enter = ['-t', String(pid), '--mount', '--pid', '--net', ...command];
    const { stdout } = await exec('nsenter', enter, { timeout: CTL_MS, killSignal: 'SIGKILL' });
    return stdout;
  }

  async property(unit: string, name: string): Promise<string> {
    return (await this.ctl('show', unit, '--value', '-p', name)).trim();
  }

  /** End all of it. */
  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit');
      // The first process of a namespace takes all others with it.
      for (const pid of pidsIn(this.#group)) if (pid !== process.pid) kill(pid);
      await exited;
    }
    await until('the control group is empty', () => Promise.resolve(pidsIn(this.#group).length === 0));
    removeGroup(this.#group);
  }
}

function put(folder: string, name: string, text: string): void {
  const file = join(folder, name);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, text);
}

function pidsIn(group: string): number[] {
  const own = readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  return [...own, ...subgroups(group).flatMap(pidsIn)];
}

const subgroups = (group: string): string[] =>
  readdirSync(group, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(group, name));

/** Whether it is the first process of the namespace, not what it runs. */
function isSystemd(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'systemd';
  } catch {
    return false;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has gone by itself.
  }
}

function removeGroup(group: string): void {
  for (const child of subgroups(group)) removeGroup(child);
  rmdirSync(group);
}
