import { expect, it } from 'vitest';
import { runCli } from '../cli/test-io.ts';
import { checkSystem, judge, type SystemFacts } from './check-system.ts';

const ALL = (1n << 10n) | (1n << 12n) | (1n << 13n) | (1n << 21n);
const good: SystemFacts = {
  node: 'v22.1.0',
  kernel: '6.18.5-amd64',
  capabilities: ALL,
  tun: 'opens',
  namespaces: 'there',
  sysctl: 'writable',
  runFolder: '/run is writable',
  addon: 'loads',
  ip: 'ip utility, iproute2-6.15.0',
  nft: 'nftables v1.1.3',
};
const others = (facts: Partial<SystemFacts>) =>
  judge({ ...good, ...facts })
    .filter(({ state }) => state !== 'ok')
    .map(({ name, state, detail }) => `${name}: ${state}: ${detail}`);

it.each<[string, Partial<SystemFacts>, string[]]>([
  ['all there', {}, []],
  ['old Node.js', { node: 'v18.20.0' }, ['Node.js: failed: v18.20.0 is too old: 20.19 is the least']],
  ['least Node.js', { node: 'v20.19.0' }, []],
  [
    'old kernel',
    { kernel: '4.19.0' },
    [
      'kernel: failed: 4.19.0 is too old: 5.0 is the least',
      'VXLAN super-frames: warning: cut for sockets: Linux 6.17 takes them whole',
    ],
  ],
  [
    'usual kernel',
    { kernel: '6.1.0-18' },
    ['VXLAN super-frames: warning: cut for sockets: Linux 6.17 takes them whole'],
  ],
  [
    'no root',
    { capabilities: ALL & ~(1n << 21n) },
    ['CAP_SYS_ADMIN: failed: missing, for namespaces of pods: run as root'],
  ],
  [
    'no TUN',
    { tun: "!ENOENT: no such file or directory, open '/dev/net/tun'" },
    [
      "/dev/net/tun: failed: ENOENT: no such file or directory, open '/dev/net/tun'; load the module tun, or give the container the device",
    ],
  ],
  [
    'no nft',
    { nft: '!spawn nft ENOENT' },
    ['nftables: warning: spawn nft ENOENT; install the package nftables; natOutgoing needs it'],
  ],
])('%s', (_name, facts, expected) => {
  expect(others(facts)).toEqual(expected);
});

it('looks at this machine', async () => {
  const checks = await checkSystem();
  const stateOf = (wanted: string) => checks.find(({ name }) => name === wanted)?.state;
  expect([stateOf('Node.js'), stateOf('kernel'), stateOf('addon')]).toEqual(['ok', 'ok', 'ok']);
  for (const { detail } of checks) expect(detail).not.toBe('');
});

it('prints a table, or JSON, and fails where something needed is missing', async () => {
  const checkOf = (facts: Partial<SystemFacts>) => ({
    actions: { checkSystem: async () => judge({ ...good, ...facts }) },
  });
  const { code, out } = await runCli(['node', 'checksystem'], checkOf({}));
  expect(code).toBe(0);
  expect(out).toMatch(/^CHECK {2,}STATE {2,}DETAIL\nNode.js {2,}OK {2,}v22.1.0\n/);
  expect(out).toMatch(/\n\nSystem meets the requirements to run tortie.\n$/);
  const bad = await runCli(['node', 'checksystem', '--json'], checkOf({ kernel: '4.4' }));
  expect(bad.code).toBe(1);
  const report = JSON.parse(bad.out) as { ok: boolean; checks: { name: string; state: string }[] };
  expect(report.ok).toBe(false);
  expect(report.checks.filter(({ state }) => state === 'failed').map(({ name }) => name)).toEqual(['kernel']);
  expect(await runCli(['node', 'checksystem'], checkOf({ nft: '!none' }))).toMatchObject({ code: 0 });
});
