/** What docs/CLI.md does not show: JSON, errors, and what is rare. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fakeAgent } from '../api/fake-agent.ts';
import { fakeBgp, fakePeers, fakeRoutes } from '../api/fake-bgp.ts';
import { type ApiServer, serveApi } from '../api/server.ts';
import type { BgpEvent, BgpRouteView } from '../api/types.ts';
import type { MessageView, UpdateView } from '../bgp/describe.ts';
import { TortieError } from '../error.ts';
import { ageText, byPrefix, eventText, whyText } from './bgp-text.ts';
import { runCli } from './test-io.ts';

let runFolder: string;
const servers: ApiServer[] = [];
const asked: string[][] = [];
beforeAll(async () => {
  runFolder = mkdtempSync(join(tmpdir(), 'tortie-bgp-'));
  const serve = async (node: string, bgp: Partial<ReturnType<typeof fakeBgp>>) =>
    servers.push(
      await serveApi(join(runFolder, node, 'api.sock'), {
        ...fakeAgent(),
        bgp: { ...fakeBgp(asked), ...bgp },
      }),
    );
  await serve('node1', {});
  const off = () => {
    throw new TortieError('BGP_OFF', 'this agent speaks no BGP');
  };
  await serve('off', { peers: off, summary: off, routes: off });
  const summary = () => ({ ...fakeBgp().summary(), problems: [] });
  await serve('alone', { peers: () => [], summary, routes: () => [] });
});
afterAll(async () => {
  for (const server of servers) await server.close();
  rmSync(runFolder, { recursive: true });
});

const NOW = new Date('2026-01-01T12:00:00Z');
const ask = (...args: string[]) => runCli(['bgp', ...args], { runFolder });
const here = (args: string) => ask(...args.split(' '), '--node', 'node1');
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const linesOf = (out: string): unknown[] =>
  out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('JSON', () => {
  it.each<[string, unknown]>([
    ['peers', fakePeers()],
    ['peer 192.0.2.2', fakePeers()[0]],
    ['peer node2', fakePeers()[0]],
    ['summary', { ...fakeBgp().summary(), peers: fakePeers() }],
    ['why 203.0.113.0/24', fakeBgp().why('203.0.113.0/24')],
    ['refresh 192.0.2.2', { peer: '192.0.2.2' }],
    ['refresh uplink', { peer: 'uplink' }],
    ['reset 192.0.2.2', { peer: '192.0.2.2', message: null }],
  ])('of %s', async (args, expected) => {
    const { code, out } = await here(`${args} --json`);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(plain(expected));
  });

  it('of routes and events is one object a line', async () => {
    expect(linesOf((await here('routes --json')).out)).toEqual(fakeRoutes());
    const { out, err } = await here('monitor --json --count 3');
    expect(linesOf(out)).toMatchObject([{ event: 'state' }, { event: 'message' }, { event: 'message' }]);
    expect(err).toBe('Watching. Ctrl-C ends it.\n');
  });
});

describe('errors', () => {
  it.each([
    [
      'peer 192.0.2.9',
      1,
      'no peer "192.0.2.9"; peers: 192.0.2.2 (node2), 198.51.100.1 (uplink) (PEER_UNKNOWN)',
    ],
    [
      'routes --in 192.0.2.9',
      1,
      'no peer "192.0.2.9"; peers: 192.0.2.2 (node2), 198.51.100.1 (uplink) (PEER_UNKNOWN)',
    ],
    ['reset 192.0.2.9', 1, 'no peer "192.0.2.9"'],
    ['peer noc', 1, 'no peer "noc"; peers: 192.0.2.2 (node2), 198.51.100.1 (uplink) (PEER_UNKNOWN)'],
    [
      'peer 198.51.100.7',
      1,
      'no peer "198.51.100.7"; left out: BGPPeer backup, peer 198.51.100.7: the password',
    ],
    ['peer backup', 1, 'no peer "backup"; left out: BGPPeer backup, peer 198.51.100.7: the password'],
    ['refresh backup', 1, 'no peer "backup"; left out: BGPPeer backup, peer 198.51.100.7: the password'],
    ['why 10.65.1.65/26', 64, 'It has bits behind its length. The prefix is 10.65.1.64/26.'],
    ['routes fd65:1::2/64', 64, 'It has bits behind its length. The prefix is fd65:1::/64.'],
    ['why 10.65', 64, 'It is no prefix such as 10.65.1.0/26 or fd65::/64, and no address.'],
    ['routes 2001:db8::/200', 64, 'It is no prefix'],
    ['routes --in 192.0.2.2 --out 192.0.2.2', 64, 'cannot be used with'],
    ['routes --out 192.0.2.2 --best', 64, 'cannot be used with'],
    ['routes --family ipx', 64, 'Allowed choices are ipv4, ipv6'],
    ['monitor --count 0', 64, 'It is no number from 1.'],
    ['nonsense', 64, "unknown command 'nonsense'"],
  ])('%s', async (args, status, expected) => {
    const { code, out, err } = await here(args);
    expect({ code, out }).toEqual({ code: status, out: '' });
    expect(err).toContain(expected);
  });

  it('of a message that is too long comes before anything is done', async () => {
    const { code, err } = await ask('reset', '192.0.2.2', '--message', 'é'.repeat(128), '--node', 'node1');
    expect(code).toBe(64);
    expect(err).toContain('It has 256 bytes; 255 are allowed (RFC 9003).');
  });

  it('is one line without an agent, and without BGP', async () => {
    for (const verb of ['peers', 'routes', 'monitor']) {
      expect(await ask(verb, '--socket', '/nonexistent/api.sock')).toMatchObject({
        code: 69,
        err: expect.stringMatching(/no agent answers on .*; start one with/),
      });
    }
    for (const verb of ['peers', 'summary', 'routes']) {
      expect(await ask(verb, '--node', 'off')).toMatchObject({
        code: 1,
        out: '',
        err: 'tortie: this agent speaks no BGP (BGP_OFF)\n',
      });
    }
  });
});

it('resets with words', async () => {
  await ask('reset', '192.0.2.2', '--message', 'back at noon', '--node', 'node1');
  expect(asked.at(-1)).toEqual(['reset', '192.0.2.2', 'back at noon']);
});

it('knows no peer without a name', async () => {
  for (const verb of [
    ['peer'],
    ['refresh'],
    ['reset'],
    ['monitor'],
    ['routes', '--in'],
    ['routes', '--out'],
  ]) {
    const { code, err } = await ask(...verb, '', '--node', 'node1');
    expect({ code, err }).toEqual({ code: 64, err: expect.stringContaining('It is empty') });
  }
});

it('filters what it shows', async () => {
  expect((await here('routes --in 198.51.100.1 --best')).out).toBe('No routes.\n');
  expect((await here('routes --in uplink')).out).toBe((await here('routes --in 198.51.100.1')).out);
  expect((await here('routes 10.65.1.0/26 --json')).out.trim().split('\n')).toHaveLength(1);
  const { out } = await here('monitor 192.0.2.2 --count 2');
  expect(out).toMatch(/from 192\.0\.2\.2: UPDATE .*\n.* to 192\.0\.2\.2: KEEPALIVE\n$/);
  expect((await here('monitor node2 --count 2')).out).toBe(out);
  expect(await ask('peers', '--node', 'alone')).toMatchObject({ out: 'No peers.\n' });
});

it('ends a monitor by the interrupt', async () => {
  const interrupt = new AbortController();
  let out = '';
  const { code } = await runCli(['bgp', 'monitor', '--node', 'node1'], {
    runFolder,
    interrupted: interrupt.signal,
    out: (text) => {
      out += text;
      if (out.includes('KEEPALIVE')) interrupt.abort();
    },
  });
  expect(code).toBe(0);
});

describe('texts', () => {
  it.each([
    [0, '00:00:00'],
    [86_399, '23:59:59'],
    [86_400, '1d00h'],
    [6 * 86_400 + 3600 * 5, '6d05h'],
    [7 * 86_400, '1w0d'],
    [-5, '00:00:00'],
  ])('of an age: %d s is %s', (seconds, expected) => {
    expect(ageText(new Date(NOW.getTime() - seconds * 1000).toISOString(), NOW)).toBe(expected);
  });

  it('of routes are in the order of their addresses', () => {
    const prefixes = ['fd65::/64', '203.0.113.0/24', '10.0.0.0/16', '10.0.0.0/8', '9.0.0.0/8', '::/0'];
    const rows = prefixes.map(
      (prefix): BgpRouteView => ({
        ...fakeRoutes()[0]!,
        prefix,
        family: prefix.includes(':') ? 'ipv6' : 'ipv4',
      }),
    );
    expect(rows.sort(byPrefix).map(({ prefix }) => prefix)).toEqual([
      '9.0.0.0/8',
      '10.0.0.0/8',
      '10.0.0.0/16',
      '203.0.113.0/24',
      '::/0',
      'fd65::/64',
    ]);
  });

  it('of what nobody announces point to what holds it', () => {
    const none = { prefix: null, decidedBy: null, candidates: [], told: null };
    expect(whyText('10.0.0.0/24', { ...none, covering: '10.0.0.0/8' }, NOW)).toBe(
      'Nobody announces 10.0.0.0/24; BGP’s route to it is 10.0.0.0/8.\n',
    );
    expect(whyText('10.0.0.0/24', { ...none, covering: null }, NOW)).toContain('nor is there a route');
  });

  it('of a path name all that it carries', () => {
    const path: BgpRouteView = {
      ...fakeRoutes()[0]!,
      pathId: 7,
      state: 'multipath',
      reason: 'router id',
      detail: '192.0.2.9 against 192.0.2.3',
      attributes: {
        ...fakeRoutes()[0]!.attributes,
        largeCommunities: ['64512:1:2'],
        extendedCommunities: ['rt:64512:1'],
        clusterList: ['192.0.2.8', '192.0.2.9'],
        originatorId: '192.0.2.7',
        aggregator: '64512 192.0.2.9',
        onlyToCustomer: 64501,
        others: ['99:01ab'],
      },
    };
    const why = { prefix: path.prefix, covering: null, decidedBy: 'router id', told: null };
    const text = whyText(path.prefix, { ...why, candidates: [fakeRoutes()[0]!, path] }, NOW);
    for (const expected of [
      '2. may share the load and is equal up to router id, 192.0.2.9 against 192.0.2.3\n',
      'path identifier 7',
      'originator 192.0.2.7',
      'aggregated by AS 64512 192.0.2.9',
      'only to customers, says AS 64501',
      'large communities 64512:1:2',
      'extended communities rt:64512:1',
      'cluster list 192.0.2.8 192.0.2.9',
      'other attributes 99:01ab',
    ]) {
      expect(text).toContain(expected);
    }
  });

  const at = '2026-01-01T12:00:00.120Z';
  const message = { at, event: 'message', peer: '192.0.2.2', length: 100 } as const;
  const update: MessageView & UpdateView = {
    type: 'UPDATE',
    length: 100,
    withdrawn: [],
    announced: [],
    endOfRib: null,
    fault: null,
    discarded: [],
    unlisted: 0,
  };
  it.each<[string, BgpEvent]>([
    [
      'from 192.0.2.2: OPEN AS 64512, router id 192.0.2.2, hold time 90 s; IPv4 unicast, route refresh',
      {
        ...message,
        direction: 'in',
        type: 'OPEN',
        asn: 64512,
        routerId: '192.0.2.2',
        holdTime: 90,
        capabilities: ['IPv4 unicast', 'route refresh'],
      },
    ],
    [
      'to 192.0.2.2: NOTIFICATION Cease (6/0)',
      { ...message, direction: 'out', type: 'NOTIFICATION', text: 'Cease (6/0)' },
    ],
    [
      'to 192.0.2.2: ROUTE-REFRESH ipv4 request',
      {
        ...message,
        direction: 'out',
        type: 'ROUTE-REFRESH',
        family: 'ipv4',
        subtype: 'request',
      },
    ],
    [
      'from 192.0.2.2: UPDATE end of ipv6: all routes are told',
      { ...message, direction: 'in', ...update, endOfRib: 'ipv6' },
    ],
    [
      'from 192.0.2.2: UPDATE withdrawn 1 2 3 4 5 6 7 8 and 2 more; malformed, taken as a withdrawal: no ORIGIN; 70 prefixes more; left out: MED',
      {
        ...message,
        direction: 'in',
        ...update,
        withdrawn: [...'1234567890'],
        fault: 'no ORIGIN',
        discarded: ['MED'],
        unlisted: 70,
      },
    ],
    [
      'from 192.0.2.2: a message of 100 bytes that cannot be read: bad',
      { ...message, direction: 'in', type: 'malformed', reason: 'bad' },
    ],
  ])('of an event: %s', (expected, event) => {
    expect(eventText(event)).toBe(`12:00:00.120 ${expected}\n`);
  });
});
