import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fakeAgent } from '../api/fake-agent.ts';
import { fakeBgp, fakePeers } from '../api/fake-bgp.ts';
import { type ApiServer, serveApi } from '../api/server.ts';
import { runCli } from './test-io.ts';

const MAIN = fileURLToPath(new URL('../../dist/control/cli/main.js', import.meta.url));

let folder: string;
let server: ApiServer;
let dualServer: ApiServer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-complete-'));
  const pool = (name: string, cidr: string) =>
    `apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: ${name}}\nspec: {cidr: ${cidr}}\n`;
  writeFileSync(
    join(folder, 'resources.yaml'),
    `${pool('pods', '10.65.0.0/16')}---\n${pool('guests', '10.66.0.0/16')}`,
  );
  writeFileSync(join(folder, 'agent.yaml'), 'nodeName: a\ndatastore: {kind: static, path: resources.yaml}\n');
  mkdirSync(join(folder, 'run', 'node7'), { recursive: true });
  writeFileSync(join(folder, 'run', 'node7', 'api.sock'), '');
  server = await serveApi(join(folder, 'run', 'node8', 'api.sock'), fakeAgent());
  const [mesh] = fakePeers();
  const dual = { ...fakeBgp(), peers: () => [mesh!, { ...mesh!, address: '2001:db8::2' }] };
  dualServer = await serveApi(join(folder, 'run', 'node9', 'api.sock'), { ...fakeAgent(), bgp: dual });
  mkdirSync(join(folder, 'bin'));
  symlinkSync(MAIN, join(folder, 'bin', 'tortie'));
});
afterAll(async () => {
  await server.close();
  await dualServer.close();
  rmSync(folder, { recursive: true });
});

async function complete(...words: string[]): Promise<string[]> {
  const { out } = await runCli(['complete', '--', ...words], {
    runFolder: join(folder, 'run'),
    configFile: join(folder, 'agent.yaml'),
  });
  return out.split('\n').flatMap((line) => line.split('\t')[0] || []);
}

describe('what may come next', () => {
  it.each<[string[], string[]]>([
    [['c'], ['create', 'config', 'completion']],
    [
      ['node', ''],
      ['status', 'checksystem', 'diags'],
    ],
    [['node', 'st'], ['status']],
    [
      ['get', 'ip'],
      ['ippool', 'ipamconfig', 'ipreservation'],
    ],
    [
      ['get', 'we'],
      ['wep', 'weps'],
    ],
    [
      ['get', 'pools', ''],
      ['guests', 'pods'],
    ],
    [['get', 'ippool', 'pods', ''], ['guests']],
    [['get', 'ippool', 'p'], ['pods']],
    [['get', '-o', 'wide', 'ippool', 'p'], ['pods']],
    [['get', '-o', 'y'], ['yaml']],
    [['get', '--output', '=', 'j'], ['json']],
    [
      ['get', '--output', '='],
      ['ps', 'wide', 'yaml', 'json', 'name', 'custom-columns='],
    ],
    [['get', '-o', 'yaml', '--out'], []],
    [['get', '--all'], ['--all-namespaces']],
    [['get', 'nonsense', ''], []],
    [
      ['patch', 'node', 'a', '-t', ''],
      ['strategic', 'json', 'merge'],
    ],
    [['apply', '-f', ''], []],
    [
      ['show', 'ports', '--node', ''],
      ['node7', 'node8', 'node9'],
    ],
    [
      ['completion', ''],
      ['bash', 'zsh'],
    ],
    [['show', 'lookup', ''], []],
    [
      ['bgp', 're'],
      ['refresh', 'reset'],
    ],
    [
      ['bgp', 'peer', '--node', 'node8', ''],
      ['192.0.2.2', '198.51.100.1', 'node2', 'uplink'],
    ],
    [['bgp', 'reset', '--node', 'node8', '19', ''], []],
    [['bgp', 'routes', '--node', 'node8', '--in', '192'], ['192.0.2.2']],
    [['bgp', 'monitor', '--node', 'node8', '198'], ['198.51.100.1']],
    [['bgp', 'why', '10.65.1.0/26', '--node', 'node8', '--to', 'u'], ['uplink']],
    // Both families of one node: its name is no answer.
    [['bgp', 'peer', '--node', 'node9', 'n'], []],
    // Nobody answers there.
    [['bgp', 'peer', '--node', 'node7', ''], []],
    [
      ['bgp', 'routes', '--family', ''],
      ['ipv4', 'ipv6'],
    ],
  ])('%j', async (words, expected) => {
    expect((await complete(...words)).filter((word) => word !== 'help').sort()).toEqual([...expected].sort());
  });

  it('is nothing, and no complaint, where no datastore answers', async () => {
    expect(await runCli(['complete', '--', 'get', 'ippool', ''])).toEqual({ code: 0, out: '', err: '' });
  });
});

/** Keys pressed in a shell on a terminal; what the terminal shows of it, without control sequences. */
function typed(shell: string, keys: string): string {
  const shown = execFileSync('script', ['-qec', shell, '/dev/null'], {
    encoding: 'utf8',
    input: keys,
    cwd: folder,
    env: {
      ...process.env,
      PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
      TORTIE_CONFIG: join(folder, 'agent.yaml'),
      TERM: 'dumb',
      PS1: '> ',
      HOME: folder,
      ZDOTDIR: folder,
      HISTFILE: '/dev/null',
    },
  });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what a terminal gets
  return shown.replaceAll(/\x1b\[[0-9;?]*[a-zA-Z]|[\x07\r]/g, '');
}

describe('in a real shell', () => {
  const line = 'tortie get ippo\t po\t -o y\t';

  it('bash completes verbs, kinds, names and values', () => {
    const keys = `source <(tortie completion bash)\n${line}\ntortie node ch\t --he\t\nexit 0\n`;
    const shown = typed('bash --norc --noprofile -i', keys);
    expect(shown).toMatch(/tortie get ippool +pods +-o yaml/);
    expect(shown).toContain('cidr: 10.65.0.0/16');
    expect(shown).toContain('whether this machine has what the agent needs');
  });

  it('zsh does, and shows what each is', () => {
    writeFileSync(
      join(folder, 'setup.zsh'),
      'autoload -Uz compinit && compinit -D -u\nsource <(tortie completion zsh)\n',
    );
    const keys = `source setup.zsh\n${line}\ntortie show \t\nexit 0\n`;
    const shown = typed('zsh -f -i', keys);
    expect(shown).toContain('cidr: 10.65.0.0/16');
    expect(shown).toMatch(/lookup +-- the route that a packet to an address takes/);
  });
});
