/** iproute2, a batch at a time: commands that change a network namespace. Questions are netlink.ts's. */
import { spawn } from 'node:child_process';
import { TortieError } from '../error.ts';

const TIMEOUT_MS = 10_000;

/** A namespace: a name under /run/netns, a path to a namespace file, or null for our own. */
export type Netns = string | null;

export const netnsText = (netns: Netns): string => (netns === null ? 'the node’s namespace' : netns);

export interface Address {
  readonly family: string;
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
}
export interface Link {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly txqlen?: number;
  /** MAC, for links that have one. */
  readonly address?: string;
  readonly ifalias?: string;
  readonly addr_info: readonly Address[];
  readonly linkinfo?: { readonly info_data?: { readonly multi_queue?: boolean } };
}
/** As `ip -j -N route` prints it: numbers for names. */
export interface Route {
  readonly type?: string;
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly protocol?: string;
  readonly prefsrc?: string;
  readonly metric?: number;
  /** Where there are several; gateway and dev are theirs then. */
  readonly nexthops?: readonly RouteHop[];
}
export interface RouteHop {
  readonly gateway?: string;
  readonly dev?: string;
  readonly weight: number;
}
export interface Failure {
  readonly command: string;
  readonly message: string;
}

/** Carry out commands ("link set dev eth0 up"); one that fails does not stop the rest. */
export async function ipApply(
  netns: Netns,
  commands: readonly string[],
  timeoutMs = TIMEOUT_MS,
): Promise<readonly Failure[]> {
  if (commands.length === 0) return [];
  const batch = ['-force', '-batch', '-'];
  // `ip -n` of Debian 12 takes names only.
  const argv =
    netns === null
      ? ['ip', ...batch]
      : netns.includes('/')
        ? ['nsenter', `--net=${netns}`, 'ip', ...batch]
        : ['ip', '-n', netns, ...batch];
  const { stderr, status } = await run(argv, `${commands.join('\n')}\n`, timeoutMs);
  const failures: Failure[] = [];
  let message: string[] = [];
  for (const line of stderr.split('\n')) {
    const index = /^Command failed -:(\d+)$/.exec(line)?.[1];
    if (index === undefined) {
      if (line !== '') message.push(line);
      continue;
    }
    failures.push({ command: commands[Number(index) - 1] ?? '', message: message.join('; ') });
    message = [];
  }
  if (status !== 0 && failures.length === 0) {
    const why = message.join('; ') || `exit status ${status}`;
    throw new TortieError('IPROUTE2', `${argv[0]} in ${netnsText(netns)}: ${why}`);
  }
  return failures;
}

function run(argv: readonly string[], input: string, timeoutMs: number) {
  return new Promise<{ stderr: string; status: number }>((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      stdio: ['pipe', 'ignore', 'pipe'],
      timeout: timeoutMs,
      // Ordinary users have no sbin on their path.
      env: { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` },
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', (error) =>
      reject(new TortieError('IPROUTE2', `cannot run ${argv[0]}: ${error.message}; install iproute2`)),
    );
    child.on('close', (status, signal) => {
      if (signal) reject(new TortieError('IPROUTE2', `${argv.join(' ')} ended by ${signal}`));
      else resolve({ stderr, status: status ?? 1 });
    });
    // A child that ends early closes its end: its exit status says so.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}
