/** Whether this machine can run the agent: what it needs, looked at, not assumed. */
import { execFile } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { promisify } from 'node:util';

export interface SystemCheck {
  readonly name: string;
  /** warning: the agent runs, without what `detail` says. */
  readonly state: 'ok' | 'warning' | 'failed';
  readonly detail: string;
}

/** What was looked at. A string that begins with "!" is what went wrong. */
export interface SystemFacts {
  readonly node: string;
  readonly kernel: string;
  /** Effective capabilities, a mask. */
  readonly capabilities: bigint;
  readonly tun: string;
  readonly namespaces: string;
  readonly sysctl: string;
  readonly runFolder: string;
  readonly addon: string;
  readonly ip: string;
  readonly nft: string;
}

const run = promisify(execFile);
const TIMEOUT_MS = 5000;

const LEAST_NODE = [20, 19];
/** UDP_GRO and UDP_SEGMENT: sockets of VXLAN. */
const LEAST_KERNEL = [5, 0];
/** Super-frames through VXLAN whole. */
const WHOLE_KERNEL = [6, 17];
/** capabilities(7): number and name of what the agent uses. */
const CAPABILITIES: readonly (readonly [bit: number, name: string, use: string])[] = [
  [10, 'CAP_NET_BIND_SERVICE', 'port 179 of BGP'],
  [12, 'CAP_NET_ADMIN', 'devices, addresses and routes'],
  [13, 'CAP_NET_RAW', 'IPIP'],
  [21, 'CAP_SYS_ADMIN', 'namespaces of pods'],
];

export const checkSystem = async (): Promise<SystemCheck[]> => judge(await lookAround());

export function judge(facts: SystemFacts): SystemCheck[] {
  const checks: SystemCheck[] = [
    versionCheck('Node.js', facts.node, LEAST_NODE),
    versionCheck('kernel', facts.kernel, LEAST_KERNEL),
    check('addon', facts.addon, 'build it: npm run build:addon'),
    check('/dev/net/tun', facts.tun, 'load the module tun, or give the container the device'),
    check('network namespaces', facts.namespaces, 'the kernel needs CONFIG_NET_NS'),
    check('kernel parameters', facts.sysctl, '/proc/sys must be writable: run in the host’s namespaces'),
    check('/run/tortie', facts.runFolder, 'the agent keeps its sockets there'),
    check('iproute2', facts.ip, 'install the package iproute2'),
  ];
  for (const [bit, name, use] of CAPABILITIES) {
    const has = (facts.capabilities >> BigInt(bit)) & 1n;
    checks.push(has ? ok(name, use) : { name, state: 'failed', detail: `missing, for ${use}: run as root` });
  }
  const nft = check('nftables', facts.nft, 'install the package nftables; natOutgoing needs it');
  checks.push(nft.state === 'failed' ? { ...nft, state: 'warning' } : nft);
  const isWhole = atLeast(facts.kernel, WHOLE_KERNEL);
  checks.push({
    name: 'VXLAN super-frames',
    state: isWhole ? 'ok' : 'warning',
    detail: isWhole ? 'sent whole' : `cut for sockets: Linux ${WHOLE_KERNEL.join('.')} takes them whole`,
  });
  return checks;
}

const ok = (name: string, detail: string): SystemCheck => ({ name, state: 'ok', detail });

const check = (name: string, fact: string, advice: string): SystemCheck =>
  fact.startsWith('!') ? { name, state: 'failed', detail: `${fact.slice(1)}; ${advice}` } : ok(name, fact);

function versionCheck(name: string, version: string, least: readonly number[]): SystemCheck {
  if (atLeast(version, least)) return ok(name, version);
  return { name, state: 'failed', detail: `${version} is too old: ${least.join('.')} is the least` };
}

function atLeast(version: string, [major = 0, minor = 0]: readonly number[]): boolean {
  const [, first = '0', second = '0'] = /^v?(\d+)\.(\d+)/.exec(version) ?? [];
  return Number(first) > major || (Number(first) === major && Number(second) >= minor);
}

async function lookAround(): Promise<SystemFacts> {
  return {
    node: process.version,
    kernel: release(),
    capabilities: capabilities(),
    tun: attempt('opens', () => closeSync(openSync('/dev/net/tun', constants.O_RDWR))),
    namespaces: attempt('there', () => accessSync('/proc/self/ns/net', constants.R_OK)),
    sysctl: attempt('writable', () => accessSync('/proc/sys/net/ipv4/ip_forward', constants.W_OK)),
    runFolder: attempt('/run is writable', () => accessSync('/run', constants.W_OK)),
    addon: await attemptAsync(async () => {
      const { native } = await import('../../dataplane/native/index.ts');
      native();
      return 'loads';
    }),
    ip: await versionOf('ip', ['-V']),
    nft: await versionOf('nft', ['--version']),
  };
}

function capabilities(): bigint {
  const [, mask = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return BigInt(`0x${mask}`);
}

const failure = (error: unknown): string => `!${(error as Error).message.split('\n')[0]}`;

function attempt(good: string, act: () => void): string {
  try {
    act();
    return good;
  } catch (error) {
    return failure(error);
  }
}

const attemptAsync = (act: () => Promise<string>): Promise<string> => act().catch(failure);

const versionOf = (command: string, args: readonly string[]): Promise<string> =>
  attemptAsync(async () => (await run(command, args, { timeout: TIMEOUT_MS })).stdout.trim());
