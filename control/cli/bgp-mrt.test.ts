import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { fakeAgent } from '../api/fake-agent.ts';
import { fakeBgp } from '../api/fake-bgp.ts';
import { type ApiServer, serveApi } from '../api/server.ts';
import { IPV4 } from '../bgp/family.ts';
import { encodePeerIndex, TableWriter, tableAttributes } from '../bgp/mrt-table.ts';
import { attributesOf, table } from '../bgp/test-routes.ts';
import { loadMrt } from '../load-mrt.ts';
import { runCli } from './test-io.ts';

let runFolder: string;
let folder: string;
const servers: ApiServer[] = [];
/** What the agent called "broken" does in the middle of a dump. */
let fail: () => void;
beforeAll(async () => {
  runFolder = mkdtempSync(join(tmpdir(), 'tortie-mrt-'));
  const serve = async (node: string, bgp: object) =>
    servers.push(
      await serveApi(join(runFolder, node, 'api.sock'), { ...fakeAgent(), bgp: { ...fakeBgp(), ...bgp } }),
    );
  await serve('node1', {});
  await serve('broken', {
    dump: function* () {
      yield new Uint8Array(100);
      fail();
      yield null;
    },
  });
});
afterAll(async () => {
  for (const server of servers) await server.close();
  rmSync(runFolder, { recursive: true });
});
beforeEach(() => {
  folder = mkdtempSync(join(runFolder, 'files-'));
});

const dump = (file: string, node = 'node1', ...more: string[]) =>
  runCli(['bgp', 'dump', file, '--node', node, ...more], { runFolder });

const load = (file: string, ...more: string[]) =>
  runCli(['bgp', 'load', file, ...more], { actions: { loadMrt } });

it('a dump is what the agent says, compressed if asked for, and replaces what was there', async () => {
  const whole = Buffer.concat([...fakeBgp().dump({})].filter((piece) => piece !== null));
  const file = join(folder, 'table.mrt');
  writeFileSync(file, 'before');
  expect(await dump(file)).toEqual({
    code: 0,
    out: `${file} has the table: ${whole.length} bytes of MRT\n`,
    err: '',
  });
  expect(readFileSync(file)).toEqual(whole);
  const { out } = await dump(`${file}.gz`, 'node1', '--json');
  expect(JSON.parse(out)).toEqual({ file: `${file}.gz`, bytes: whole.length });
  expect(gunzipSync(readFileSync(`${file}.gz`))).toEqual(whole);
  expect(readdirSync(folder).sort()).toEqual(['table.mrt', 'table.mrt.gz']);
});

it.each<[string, () => void]>([
  [
    'fails',
    () => {
      throw new Error('a bug');
    },
  ],
  ['leaves', () => void servers.at(-1)!.close()],
])('a dump of an agent that %s is no file, and leaves what was there', async (_, how) => {
  fail = how;
  const file = join(folder, 'table.mrt');
  writeFileSync(file, 'before');
  const { code, err } = await dump(file, 'broken');
  expect(code).toBe(69);
  expect(err).toContain('AGENT_GONE');
  expect(readFileSync(file, 'utf8')).toBe('before');
  expect(readdirSync(folder)).toEqual(['table.mrt']);
});

it('a dump that is interrupted, of a peer that is not known, or to nowhere is no file', async () => {
  const file = join(folder, 'table.mrt');
  const interrupted = AbortSignal.abort();
  const cut = await runCli(['bgp', 'dump', file, '--node', 'node1'], { runFolder, interrupted });
  expect(cut).toMatchObject({ code: 1, err: expect.stringContaining('DUMP_INTERRUPTED') });
  const unknown = await dump(file, 'node1', '--in', '192.0.2.9');
  expect(unknown).toMatchObject({ code: 1, err: expect.stringContaining('PEER_UNKNOWN') });
  const nowhere = await dump(join(folder, 'none', 'table.mrt'));
  expect(nowhere).toMatchObject({ code: 1, err: expect.stringContaining('ENOENT') });
  expect(existsSync(file)).toBe(false);
  expect(readdirSync(folder)).toEqual([]);
});

/** Two peers announce 10.0.0.0/8, one 10.1.0.0/16; one path names a peer that is not there. */
function tableFile(): string {
  const writer = new TableWriter(1_767_268_800, 4096);
  const entry = (peer: number, asns: number[]) => {
    const set = table.acquire(attributesOf('192.0.2.2', { localPref: null, asPath: [{ set: false, asns }] }));
    const attributes = tableAttributes(set.bytes, set.nextHop, IPV4);
    return { peer, since: 1_767_268_700, pathId: 0, attributes };
  };
  writer.add(IPV4, [8, 10], [entry(1, [65001, 65009]), entry(2, [65002]), entry(7, [1])]);
  writer.add(IPV4, [16, 10, 1], [entry(1, [65001])]);
  const peers = [
    { id: 1, address: [0], asn: 65000 },
    { id: 2, address: [0xc0000202 | 0], asn: 65001 },
    { id: 3, address: [0xc0000203 | 0], asn: 65002 },
  ];
  const file = join(folder, 'table.mrt');
  const index = encodePeerIndex({ collector: 1, view: '', peers }, 1_767_268_800);
  writeFileSync(file, Buffer.concat([index, writer.take()]));
  return file;
}

it('a file is summed up', async () => {
  const file = tableFile();
  const { out } = await load(file);
  expect(out.replace(file, 'FILE').replace(/\d+\.\d s, \d+ MiB/, 'SECONDS, MEMORY')).toMatchInlineSnapshot(`
    "FILE: 216 bytes, from 2026-01-01T12:00:00Z to 2026-01-01T12:00:00Z
      1 x TABLE_DUMP_V2 PEER_INDEX_TABLE
      2 x TABLE_DUMP_V2 RIB_IPV4_UNICAST
    3 peers
    IPv4: 3 paths to 2 prefixes
    IPv6: 0 paths to 0 prefixes
    3 AS paths, 3 sets of attributes
    SECONDS, MEMORY
    malformed: 1 x TABLE_DUMP_V2 RIB_IPV4_UNICAST: peer 7, the table has 3; first at offset 59
    "
  `);
  const { out: json } = await load(file, '--json');
  expect(JSON.parse(json)).toMatchObject({ peers: 3, asPaths: 3, tables: [{ paths: 3 }, { paths: 0 }] });
});

it('a file answers for routes, and why', async () => {
  const file = tableFile();
  expect((await load(file, '--why', '10.2.0.1')).out).toMatchInlineSnapshot(`
    "10.0.0.0/8: the first of 2 paths is best, by AS path length.

    1. best by AS path length
       from 192.0.2.3 (AS 65002), 00:01:40 old
       next hop 192.0.2.2 (cost 0)
       local preference 100 (none came), AS path 65002, origin IGP, MED none

    2. worse by AS path length, 2 against 1
       from 192.0.2.2 (AS 65001), 00:01:40 old
       next hop 192.0.2.2 (cost 0)
       local preference 100 (none came), AS path 65001 65009, origin IGP, MED none
    "
  `);
  expect((await load(file, '--routes', '10.0.0.0/8', '--longer')).out).toMatchInlineSnapshot(`
    "     PREFIX        NEXT HOP    MED   LOCPREF   AS PATH       ORIGIN   FROM                   AGE        REASON
    *    10.0.0.0/8    192.0.2.2   -     -         65002         IGP      192.0.2.3 (AS 65002)   00:01:40   AS path length
         10.0.0.0/8    192.0.2.2   -     -         65001 65009   IGP      192.0.2.2 (AS 65001)   00:01:40   worse by AS path length, 2 against 1
    *    10.1.0.0/16   192.0.2.2   -     -         65001         IGP      192.0.2.2 (AS 65001)   00:01:40   only path
    "
  `);
  const { out } = await load(file, '--routes', '10.0.0.0/8', '--best', '--json');
  expect(JSON.parse(out)).toMatchObject({ state: 'best', peer: '192.0.2.3' });
  expect((await load(file, '--routes', '11.0.0.0/8')).out).toBe('No routes.\n');
  // With our AS, that peer is an internal one.
  const { out: why } = await load(file, '--why', '10.0.0.0/8', '--asn', '65002', '--json');
  expect(JSON.parse(why)).toMatchObject({ decidedBy: 'AS path length' });
});

it('what is no file of routes is an error with its place', async () => {
  const file = tableFile();
  writeFileSync(file, readFileSync(file).subarray(0, 90));
  const { code, out, err } = await load(file);
  expect({ code, out }).toEqual({ code: 65, out: '' });
  expect(err).toMatch(
    /^tortie: .*table.mrt: cut short: it ends \d+ bytes into the record at offset \d+.*\(MRT_FILE\)\n$/,
  );
  expect((await load(file, '--asn', '0')).code).toBe(64);
  for (const option of ['--longer', '--best']) {
    const { code, err } = await load(file, option);
    expect(code).toBe(64);
    expect(err).toContain('give --routes PREFIX with them');
  }
  expect((await load(file, '--routes', '10.0.0.0/8', '--why', '10.0.0.0/8')).code).toBe(64);
});
