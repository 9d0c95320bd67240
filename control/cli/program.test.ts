import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fakeAgent, tracedPing } from '../api/fake-agent.ts';
import { type ApiServer, serveApi } from '../api/server.ts';
import { EmbeddedStore } from '../datastore/embedded.ts';
import { resourceKey } from '../datastore/keys.ts';
import { TortieError } from '../error.ts';
import type { PurgeOptions } from '../purge.ts';
import type { ReplayOptions } from '../replay.ts';
import { statusText } from './node.ts';
import { runCli } from './test-io.ts';

const RUNTIME = await fakeAgent().runtime();

let runFolder: string;
let folder: string;
let socket: string;
let server: ApiServer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-cli-'));
  runFolder = join(folder, 'run');
  socket = join(runFolder, 'node1', 'api.sock');
  server = await serveApi(socket, fakeAgent());
  mkdirSync(join(folder, 'resources'));
  writeFileSync(
    join(folder, 'resources', 'pool.yaml'),
    'apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.65.0.0/16}\n',
  );
  writeFileSync(
    join(folder, 'resources', 'node.yaml'),
    'apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: node1}\nspec: {bgp: {ipv4Address: 192.0.2.1/24}}\n',
  );
  writeFileSync(join(folder, 'agent.yaml'), 'nodeName: node1\ndatastore: {kind: static, path: resources}\n');
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

const here = (args: string, world = {}) => runCli(args.split(' '), { runFolder, ...world });
const file = (name: string) => join(folder, name);

describe('verbs that ask the agent', () => {
  it.each([
    [
      'show ports',
      `PORT   KIND   NETNS     DEVICE   ADDRESSES      MAC                 MTU    WORKERS   STATE    RX   TX   DETAIL
pod1   pod    ns-pod1   eth0     10.65.0.2/32   02:00:00:00:00:01   1480   0,1       up       12   9
ipip   ipip   -         -        192.0.2.1      -                   1480   0         failed   0    0    socket: EPERM
`,
    ],
    [
      'show routes',
      `PREFIX         NEXT HOP    VIA    PORT      ORIGIN
10.65.1.0/26   192.0.2.2   ipip   ipip      bgp 192.0.2.9 (AS 64512)
0.0.0.0/0      -           host   tortie0   default
`,
    ],
    [
      'show lookup 10.65.1.2',
      `     PREFIX         NEXT HOP    VIA    PORT      ORIGIN
*    10.65.1.0/26   192.0.2.2   ipip   ipip      bgp 192.0.2.9 (AS 64512)
     0.0.0.0/0      -           host   tortie0   default
`,
    ],
    [
      'show drops',
      `PORT   REASON        PACKETS   DESCRIPTION                   LAST                       ITS HEADERS
pod1   ttl_expired   3         TTL ran out here              2026-01-02T03:04:05.678Z   10.65.0.2:1000 > 10.65.1.2:80 TCP, ttl 1, 60 bytes, DF
pod1   no_route      1         no route to the destination   -                          -
`,
    ],
    [
      'show workers',
      `WORKER   THREAD   STATE     DEATHS   BURSTS   FRAMES   SLEEPS   PORTS
0        3        running   0        20       21       19       pod1,ipip
`,
    ],
    [
      'show runtime',
      `WORKER   PORTS   WAKEUPS   BURSTS   FRAMES   FRAMES/BURST   RECEIVE NS   PIPELINE NS   TRANSMIT NS   CUT      JOINED   BUSY     DEATHS
0        2       19        20       210      10.5           1000         200           1500          3 > 90   45 > 2   12.5 %   1

A keeper holds 19 descriptors for the next agent. The one before left 19; 2 routes of its run are stale until 2026-01-01T00:02:00.000Z.
`,
    ],
    ['config show', 'nodeName: node1\nworkers: 1\n'],
    [
      'trace --count 1',
      `packet 1
  received on pod1, 98 bytes
  IPv4 10.65.0.2 > 10.65.1.2, ICMP, ttl 64, 84 bytes: header good
  source 10.65.0.2 is the pod’s own
  look-up 10.65.1.2: 10.65.1.0/26 ipip via 192.0.2.2, from bgp 192.0.2.9 (AS 64512)
  sent on ipip, 104 bytes
  => sent on ipip

`,
    ],
  ])('prints tables: %s', async (args, expected) => {
    expect(await here(args)).toMatchObject({ code: 0, out: expected });
  });

  it.each([
    ['node status', fakeAgent().nodeStatus()],
    ['show ports', fakeAgent().ports()],
    ['show routes', fakeAgent().routes()],
    ['show lookup 10.65.1.2', fakeAgent().lookup('10.65.1.2')],
    ['show drops', fakeAgent().drops()],
    ['show runtime', RUNTIME],
    ['config show', fakeAgent().configShow()],
    ['trace --count 1', tracedPing],
  ])('prints JSON: %s', async (args, expected) => {
    const { code, out } = await here(`${args} --json`);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(expected);
  });

  it.each([
    [
      'show lookup nonsense',
      "'nonsense' is invalid for argument 'ip'. It is no IP address such as 10.65.1.2 or fd65::2.",
    ],
    ['trace --count 0', 'It is no number from 1 to 10000.'],
    ['show route', "unknown command 'route'\n(Did you mean routes?)"],
    ['show ports --jsn', "unknown option '--jsn'\n(Did you mean --json?)"],
    ['show ports --socket x --node y', "option '--socket <path>' cannot be used with option '--node <name>'"],
    ['agent', "required option '--config <file>' not specified"],
    ['show', 'Usage: tortie show'],
  ])('refuses %s with exit code 64', async (args, expected) => {
    const { code, err, out } = await here(args);
    expect({ code, out }).toEqual({ code: 64, out: '' });
    expect(err).toContain(expected);
  });
});

describe('node status', () => {
  it('is calicoctl’s', () => {
    const since = new Date(2026, 0, 2, 8, 30, 5).toISOString();
    const old = new Date(2025, 11, 24, 8, 30, 5).toISOString();
    const peer = { type: 'global', state: 'start', since, info: 'Connect', lastError: null } as const;
    const status = {
      ...fakeAgent().nodeStatus(),
      peersV4: [
        {
          ...peer,
          address: '192.0.2.2',
          type: 'node-to-node mesh',
          state: 'up',
          info: 'Established',
        } as const,
        { ...peer, address: '192.0.2.3', since: old, info: 'Active', lastError: 'Hold timer expired' },
      ],
    };
    expect(statusText(status, new Date(2026, 0, 2, 12, 0, 0))).toBe(`Calico process is running.

IPv4 BGP status
+--------------+-------------------+-------+------------+---------------------------+
| PEER ADDRESS |     PEER TYPE     | STATE |   SINCE    |           INFO            |
+--------------+-------------------+-------+------------+---------------------------+
| 192.0.2.2    | node-to-node mesh | up    | 08:30:05   | Established               |
| 192.0.2.3    | global            | start | 2025-12-24 | Active Hold timer expired |
+--------------+-------------------+-------+------------+---------------------------+

IPv6 BGP status
No IPv6 peers found.

`);
    expect(statusText({ ...status, peersV4: [] }, new Date())).toContain('\nNo IPv4 peers found.\n');
    const six = { ...peer, address: '2001:db8::2', type: 'node specific' } as const;
    expect(
      statusText({ ...status, peersV4: [], peersV6: [six] }, new Date(2026, 0, 2, 12, 0, 0)),
    ).toBe(`Calico process is running.

IPv4 BGP status
No IPv4 peers found.

IPv6 BGP status
+--------------+---------------+-------+----------+---------+
| PEER ADDRESS |   PEER TYPE   | STATE |  SINCE   |  INFO   |
+--------------+---------------+-------+----------+---------+
| 2001:db8::2  | node specific | start | 08:30:05 | Connect |
+--------------+---------------+-------+----------+---------+

`);
  });

  it('says when there is no agent, in both streams', async () => {
    expect(await runCli(['node', 'status', '--socket', file('none.sock')])).toEqual({
      code: 69,
      out: 'Calico process is not running.\n',
      err: `tortie: no agent answers on ${file('none.sock')}; start one with: tortie agent --config FILE (AGENT_NOT_RUNNING)\n`,
    });
  });
});

describe('finding the agent', () => {
  it('takes --socket, --node, TORTIE_SOCKET or the only one', async () => {
    expect((await runCli(['show', 'ports', '--socket', socket])).code).toBe(0);
    expect((await here('show ports --node node1')).code).toBe(0);
    expect((await here('show ports --node other')).err).toContain('other/api.sock');
    expect((await runCli(['show', 'ports'], { env: { TORTIE_SOCKET: socket } })).code).toBe(0);
    expect((await here('show ports')).code).toBe(0);
  });

  it('is one clear line when there is none, or several', async () => {
    const none = await runCli(['show', 'ports', '--json']);
    expect(none.code).toBe(69);
    expect(none.out).toBe('');
    expect(none.err).toMatch(
      /^tortie: no agent has a socket under \/nonexistent; .*\(AGENT_NOT_RUNNING\)\n$/,
    );
    const other = await serveApi(join(runFolder, 'node2', 'api.sock'), fakeAgent());
    const several = await here('show ports');
    await other.close();
    expect(several).toMatchObject({
      code: 64,
      err: 'tortie: several nodes have a socket here: node1, node2; choose one with --node NAME (AGENT_AMBIGUOUS)\n',
    });
  });
});

describe('config', () => {
  it('checks settings with their resources, or resources alone', async () => {
    const counts = '2 resources (1 Node, 1 IPPool): all good';
    expect(await runCli(['config', 'check', file('agent.yaml')])).toEqual({
      code: 0,
      out: `${file('agent.yaml')}: settings of node node1, ${counts}\n`,
      err: '',
    });
    expect((await runCli(['config', 'check', file('resources')])).out).toBe(
      `${file('resources')}: ${counts}\n`,
    );
  });

  it('names every fault, one a line, and exits 78', async () => {
    const bad = file('bad.yaml');
    writeFileSync(
      bad,
      'nodeName: node1\ndatastore: {kind: static, path: resources}\nworker: 1\nicmpRate: 0\n',
    );
    const { code, out, err } = await runCli(['config', 'check', bad]);
    expect({ code, out }).toEqual({ code: 78, out: '' });
    expect(err.trimEnd().split('\n').sort()).toEqual([
      expect.stringContaining(`${bad}:3:1: worker: unknown key; did you mean workers?`),
      expect.stringContaining(`${bad}:4:1: icmpRate: 0: `),
    ]);
    const json = await runCli(['config', 'check', bad, '--json']);
    expect(json.code).toBe(78);
    expect(JSON.parse(json.out)).toMatchObject({
      ok: false,
      errors: expect.arrayContaining([
        expect.objectContaining({ file: bad, line: 3, column: 1, path: 'worker' }),
      ]),
    });
  });

  it('knows a node that the resources do not know', async () => {
    const strange = file('strange.yaml');
    writeFileSync(strange, 'nodeName: node9\ndatastore: {kind: static, path: resources}\n');
    expect(await runCli(['config', 'check', strange])).toMatchObject({
      code: 78,
      err: expect.stringMatching(/^tortie: no Node "node9" .*\(NODE_UNKNOWN\)\n$/),
    });
  });

  it('says of a store what is wrong with it, and what it leaves out', async () => {
    const away = file('away.yaml');
    writeFileSync(away, 'nodeName: node1\ndatastore: {kind: etcd, endpoints: ["http://127.0.0.1:1"]}\n');
    const advice = 'connect ECONNREFUSED 127.0.0.1:1; does it run, and are datastore.endpoints right?';
    expect(await runCli(['config', 'check', away])).toMatchObject({
      code: 1,
      err: `tortie: etcd http://127.0.0.1:1: ${advice} (STORE_UNAVAILABLE)\n`,
    });
    const own = file('own.yaml');
    writeFileSync(own, 'nodeName: node1\ndatastore: {kind: embedded, path: store}\n');
    const store = new EmbeddedStore(file('store'));
    await store.put(resourceKey({ kind: 'IPPool', name: 'a' }), '{"kind":');
    await store.close();
    expect(await runCli(['config', 'check', own])).toMatchObject({
      code: 0,
      out: `${own}: settings of node node1, 0 resources: all good\n`,
      err: expect.stringMatching(
        /^warning: IPPool a in the store: .*\nwarning: node node1 is not registered yet/,
      ),
    });
    writeFileSync(join(file('store'), 'data.mdb'), 'nonsense');
    expect(await runCli(['config', 'check', own])).toMatchObject({
      code: 1,
      err: expect.stringMatching(/it is damaged: .* \(STORE_CORRUPT\)\n$/),
    });
  });

  it('shows settings with all defaults', async () => {
    const { out } = await runCli(['config', 'show', file('agent.yaml')]);
    expect(out).toContain('hostDevice: tortie0\n');
    const json = await runCli(['config', 'show', file('agent.yaml'), '--json']);
    expect(JSON.parse(json.out)).toMatchObject({ datastore: { path: file('resources') }, workers: 1 });
  });
});

describe('verbs that do', () => {
  it('runs the agent and takes its exit code', async () => {
    const files: string[] = [];
    const runAgent = async (name: string) => {
      files.push(name);
      return 7;
    };
    expect((await runCli(['agent', '--config', 'a.yaml'], { actions: { runAgent } })).code).toBe(7);
    expect(files).toEqual(['a.yaml']);
  });

  it('hands captures to replay by port', async () => {
    const asked: ReplayOptions[] = [];
    const runReplay = async (options: ReplayOptions) => {
      asked.push(options);
      return 0;
    };
    const args = [
      'replay',
      '--config',
      'l',
      '--out',
      'o',
      '--in',
      'a=1.pcap',
      'b=2.pcap',
      '--in',
      'c=x=y.pcap',
    ];
    expect(await runCli(args, { actions: { runReplay } })).toMatchObject({ code: 0 });
    const inputs = new Map([
      ['a', '1.pcap'],
      ['b', '2.pcap'],
      ['c', 'x=y.pcap'],
    ]);
    expect(asked).toEqual([{ config: 'l', out: 'o', inputs, json: false }]);
    const twice = await runCli([...args, '--in', 'a=3.pcap'], { actions: { runReplay } });
    expect(twice).toMatchObject({ code: 64, err: expect.stringContaining('Port a has a file already.') });
    expect((await runCli([...args, '--in', 'a'])).err).toContain('It is not PORT=FILE.');
  });

  it('purges what it is told to, and fails if something stays', async () => {
    const asked: PurgeOptions[] = [];
    const device = { kind: 'device', subject: 'device eth0 in pod1' } as const;
    const purge = async (options: PurgeOptions) => {
      asked.push(options);
      return [
        { ...device, error: null },
        { ...device, error: options.dryRun ? null : 'EBUSY' },
      ];
    };
    const actions = { purge };
    expect(await runCli(['purge', '--config', file('agent.yaml'), '--dry-run'], { actions })).toEqual({
      code: 0,
      out: 'would remove device eth0 in pod1\n'.repeat(2),
      err: '',
    });
    expect(await runCli(['purge', '--all'], { actions })).toEqual({
      code: 1,
      out: 'removed device eth0 in pod1\ncould not remove device eth0 in pod1: EBUSY\n',
      err: '',
    });
    const json = await runCli(['purge', '--node', 'n', '--json'], { actions });
    expect(JSON.parse(json.out)).toMatchObject({
      dryRun: false,
      actions: [{ error: null }, { error: 'EBUSY' }],
    });
    expect(asked).toEqual([
      { nodeName: 'node1', apiSocket: '/run/tortie/node1/api.sock', dryRun: true },
      { all: true, dryRun: false },
      { nodeName: 'n', dryRun: false },
    ]);
    expect(await runCli(['purge'], { actions })).toMatchObject({
      code: 64,
      err: 'tortie: give one of --config FILE, --node NAME and --all (PURGE_SCOPE)\n',
    });
  });
});

describe('failures', () => {
  const fails = (error: Error) => ({ actions: { runAgent: () => Promise.reject(error) } });
  it('have the exit code of the error and never a stack, unless asked for', async () => {
    const known = await runCli(['agent', '--config', 'x'], fails(new TortieError('X', 'no x; get one', 69)));
    expect(known).toEqual({ code: 69, out: '', err: 'tortie: no x; get one (X)\n' });
    const bug = await runCli(['agent', '--config', 'x'], fails(new Error('boo')));
    expect(bug).toEqual({
      code: 1,
      out: '',
      err: 'tortie: unexpected error: boo; set TORTIE_DEBUG=1 for more\n',
    });
    const debug = await runCli(['agent', '--config', 'x'], {
      env: { TORTIE_DEBUG: '1' },
      ...fails(new Error('boo')),
    });
    expect(debug.err).toContain('program.test.ts');
  });

  it('do not come of asking for help or the version', async () => {
    expect((await runCli(['--help'])).code).toBe(0);
    expect(await runCli(['--version'])).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
  });
});
