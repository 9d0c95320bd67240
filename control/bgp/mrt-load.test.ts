/** MRT files of others, and files that are none. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TortieError } from '../error.ts';
import { loadMrt } from '../load-mrt.ts';
import { put16, put32 } from './bytes.ts';
import { FAMILIES, formatPrefix, IPV4, IPV6 } from './family.ts';
import { encodeOpen, keepalive } from './message.ts';
import {
  BGP4MP,
  BGP4MP_ET,
  MESSAGE,
  MESSAGE_ADDPATH,
  MESSAGE_AS4,
  MESSAGE_AS4_ADDPATH,
  MESSAGE_AS4_LOCAL,
  PEER_INDEX_TABLE,
  putHeader,
  RECORD_HEADER,
  RecordReader,
  STATE_CHANGE,
  STATE_CHANGE_AS4,
  TABLE_DUMP_V2,
} from './mrt.ts';
import { MrtLoader } from './mrt-load.ts';
import { encodePeerIndex, TableWriter, tableAttributes } from './mrt-table.ts';
import { announcing, attributesOf, listOf, table } from './test-routes.ts';
import { until } from './until.ts';

const run = promisify(execFile);

const RECORDED = join(import.meta.dirname, '../../../shared/data/bgp-session-2015.mrt.gz');
if (!existsSync(RECORDED)) console.log(`skipped: loading a recorded session (${RECORDED} is missing)`);
const noBird = !existsSync('/usr/sbin/bird') || !existsSync('/usr/sbin/birdc');
if (noBird)
  console.log('skipped: loading a dump of BIRD (bird or birdc is not installed; apt-get install bird2)');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-mrt-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const written = (name: string, bytes: Uint8Array): string => {
  const file = join(folder, name);
  writeFileSync(file, bytes);
  return file;
};

const failure = (loading: Promise<unknown>): Promise<TortieError> =>
  loading.then(
    () => expect.unreachable('it was read'),
    (error) => error as TortieError,
  );

const bytesOf = (...parts: (number | Uint8Array)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'number' ? Uint8Array.of(part) : part)));

function record(type: number, subtype: number, ...body: (number | Uint8Array)[]): Buffer {
  const bytes = bytesOf(new Uint8Array(RECORD_HEADER), ...body);
  putHeader(bytes, 0, bytes.length, 1000, type, subtype);
  return bytes;
}

const word = (value: number) => {
  const bytes = new Uint8Array(4);
  put32(bytes, 0, value);
  return bytes;
};
const half = (value: number) => {
  const bytes = new Uint8Array(2);
  put16(bytes, 0, value);
  return bytes;
};

/** Peer 192.0.2.2 AS 65001 of 192.0.2.1 AS 65000. */
const head = (as4: boolean) =>
  bytesOf(
    ...[65001, 65000].map((asn) => (as4 ? word(asn) : half(asn))),
    half(0),
    half(1),
    word(0xc0000202),
    word(0xc0000201),
  );

const path = (asns: number[], more: object = {}) =>
  attributesOf('192.0.2.2', { localPref: null, asPath: [{ set: false, asns }], ...more });

const updates = (prefixes: string[], { as4 = true, addPath = false } = {}) =>
  bytesOf(...announcing(path([65001, 70000]), listOf(...prefixes), { as4, addPath }));

const routesIn = (loader: MrtLoader): string[] => {
  const texts: string[] = [];
  for (const rib of loader.ribs) {
    for (let id = 0; id < rib.end; id++) {
      for (const { source, pathId, attributes, since } of rib.pathsAt(id)) {
        const asPath = attributes.asPath.flatMap(({ asns }) => asns).join(' ');
        const identifier = pathId === 0 ? '' : `#${pathId}`;
        texts.push(`${formatPrefix(rib.prefixOf(id))}${identifier} ${source.name} ${asPath} ${since / 1000}`);
      }
    }
  }
  return texts.sort();
};

async function loaded(...records: Uint8Array[]): Promise<MrtLoader> {
  const loader = new MrtLoader();
  const reader = new RecordReader();
  reader.push(bytesOf(...records));
  for (let next = reader.next(); next; next = reader.next()) loader.take(next);
  reader.finish();
  await loader.settled();
  return loader;
}

describe('messages', () => {
  it.each([
    ['AS2', BGP4MP, MESSAGE, { as4: false }, '', ''],
    ['AS4', BGP4MP, MESSAGE_AS4, {}, '', ''],
    ['AS4 with microseconds', BGP4MP_ET, MESSAGE_AS4, {}, '', ''],
    ['AS2 with identifiers', BGP4MP, MESSAGE_ADDPATH, { as4: false, addPath: true }, '#7', '#7'],
    ['AS4 with identifiers', BGP4MP, MESSAGE_AS4_ADDPATH, { addPath: true }, '#7', '#7'],
  ] as const)('of the form %s announce', async (_, type, subtype, form, given, kept) => {
    const as4 = !('as4' in form);
    const micros = type === BGP4MP_ET ? [word(250_000)] : [];
    const update = updates([`10.0.0.0/8${given}`], form);
    const loader = await loaded(record(type, subtype, ...micros, head(as4), update));
    expect(routesIn(loader)).toEqual([`10.0.0.0/8${kept} 192.0.2.2 65001 70000 1000`]);
    expect(loader.summary()).toMatchObject({ malformed: [], skipped: [], peers: 1 });
  });

  it('tell identifiers, are nothing where they only keep a session alive, and are not read where we sent them', async () => {
    const open = encodeOpen({ as2: 65001, holdTime: 90, routerId: 0x0a090807, capabilities: [] });
    const loader = await loaded(
      record(BGP4MP, MESSAGE_AS4, head(true), open),
      record(BGP4MP, MESSAGE_AS4, head(true), keepalive),
      record(BGP4MP, MESSAGE_AS4_LOCAL, head(true), updates(['10.1.0.0/16'])),
      record(BGP4MP, MESSAGE_AS4, head(true), updates(['10.2.0.0/16'])),
    );
    expect(loader.summary()).toMatchObject({
      skipped: [{ what: 'BGP4MP MESSAGE_AS4_LOCAL', count: 1 }],
      malformed: [],
    });
    const [route] = [...loader.ribs[0].best()];
    expect(route).toMatchObject({ prefix: { length: 16 }, path: { source: { id: 0x0a090807 } } });
  });

  it.each([
    ['AS2', STATE_CHANGE, false],
    ['AS4', STATE_CHANGE_AS4, true],
  ])('are forgotten when the session ends: state changes %s', async (_, subtype, as4) => {
    const change = (from: number, to: number) => record(BGP4MP, subtype, head(as4), half(from), half(to));
    const announced = record(BGP4MP, MESSAGE_AS4, head(true), updates(['10.0.0.0/8']));
    const up = await loaded(change(5, 6), announced);
    expect(up.ribs[0].pathCount).toBe(1);
    const down = await loaded(change(5, 6), announced, change(6, 1));
    expect(down.ribs[0].pathCount).toBe(0);
  });
});

/** A table of two peers, in the forms that its writer and others choose. */
function tableFile(): Buffer {
  const nextHop6 = attributesOf('2001:db8::9').nextHop!;
  const set = table.acquire(path([65001, 65010]));
  const writer = new TableWriter(1000, 4096);
  const entry = (peer: number, pathId: number, attributes: Uint8Array) => ({
    peer,
    since: 900 + peer,
    pathId,
    attributes,
  });
  const four = tableAttributes(set.bytes, set.nextHop, IPV4);
  const six = tableAttributes(set.bytes, nextHop6, IPV6);
  writer.add(IPV4, [8, 10], [entry(1, 0, four), entry(2, 5, four), entry(2, 6, four)]);
  writer.add(IPV4, [0], [entry(1, 0, six)]);
  writer.add(IPV6, [32, 0x20, 1, 0x0d, 0xb8], [entry(2, 0, six)]);
  const peers = [
    { id: 1, address: [0], asn: 65000 },
    { id: 2, address: [0xc0000202 | 0], asn: 65001 },
    { id: 3, address: [0x20010db8, 0, 0, 3], asn: 4200000000 },
  ];
  return bytesOf(encodePeerIndex({ collector: 1, view: 'test', peers }, 1000), writer.take());
}

describe('tables', () => {
  it('are what was written, byte for byte as the RFCs say', async () => {
    const bytes = tableFile();
    // Header of 12; collector, view, 3 peers of type 2 (AS4), 2, and 3 (AS4, IPv6).
    expect(bytes.toString('hex', 0, 12)).toBe(
      `000003e8000d0001000000${(4 + 6 + 2 + 13 + 13 + 25).toString(16)}`,
    );
    expect(bytes.toString('hex', 12, 24)).toBe('00000001000474657374' + '0003');
    expect(bytes.toString('hex', 24, 50)).toBe(
      '02000000010000000000' + '00fde8' + '0200000002c0000202' + '0000fde9',
    );
    const rib = 12 + 63;
    // Sequence 0, 10.0.0.0/8, one path: peer 1, its time, and the length of its attributes.
    expect(bytes.toString('hex', rib + 4, rib + 8)).toBe('000d0002');
    expect(bytes.toString('hex', rib + 12, rib + 26)).toBe('00000000080a00010001' + '00000385');
    const loader = await loaded(bytes);
    expect(loader.summary()).toMatchObject({ malformed: [], skipped: [], peers: 3 });
    expect(loader.summary().records.map(({ what, count }) => `${count} ${what}`)).toEqual([
      '1 TABLE_DUMP_V2 PEER_INDEX_TABLE',
      '2 TABLE_DUMP_V2 RIB_IPV4_UNICAST',
      '1 TABLE_DUMP_V2 RIB_IPV4_UNICAST_ADDPATH',
      '1 TABLE_DUMP_V2 RIB_IPV6_UNICAST',
    ]);
    expect(routesIn(loader)).toEqual([
      '0.0.0.0/0 192.0.2.2 65001 65010 901',
      '10.0.0.0/8 192.0.2.2 65001 65010 901',
      '10.0.0.0/8#5 2001:db8::3 65001 65010 902',
      '10.0.0.0/8#6 2001:db8::3 65001 65010 902',
      '2001:db8::/32 2001:db8::3 65001 65010 902',
    ]);
    expect(loader.ribs[1].get({ family: IPV6, words: [0x20010db8, 0, 0, 0], length: 32 })).toMatchObject({
      path: { nextHop: { text: '2001:db8::9' } },
    });
  });

  it('may keep the whole MP_REACH_NLRI, as some writers do', async () => {
    const set = table.acquire(path([65001]));
    const hop = [0x20, 1, 0x0d, 0xb8, ...new Array(11).fill(0), 9];
    const whole = [0x80, 14, 26, 0, 2, 1, 16, ...hop, 0, 32, 0x20, 1, 0x0d, 0xb8];
    whole[2] = whole.length - 3;
    const writer = new TableWriter(1000, 4096);
    const attributes = bytesOf(set.bytes, Uint8Array.from(whole));
    writer.add(IPV6, [32, 0x20, 1, 0x0d, 0xb8], [{ peer: 0, since: 0, pathId: 0, attributes }]);
    const peers = [{ id: 2, address: [0xc0000202 | 0], asn: 65001 }];
    const loader = await loaded(encodePeerIndex({ collector: 1, view: '', peers }, 1000), writer.take());
    expect([...loader.ribs[1].best()]).toMatchObject([{ path: { nextHop: { text: '2001:db8::9' } } }]);
  });

  it.each([
    [
      'a peer that is not named',
      [0, 0, 0, 0, 8, 10, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0],
      'peer 9, the table has 0',
    ],
    ['a prefix that is too long', [0, 0, 0, 0, 33, 10, 0, 0], 'prefix length 33'],
    ['a prefix cut short', [0, 0, 0, 0, 24, 10, 0], 'a prefix is cut short'],
    ['no prefix', [0, 0, 0, 0], 'no prefix'],
    ['no count', [0, 0, 0, 0, 8, 10, 0], 'no count of paths'],
    ['a path cut short', [0, 0, 0, 0, 8, 10, 0, 1, 0], 'a path is cut short'],
    ['attributes that are too long', [0, 0, 0, 0, 8, 10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9], 'run over the end'],
    ['more than its paths', [0, 0, 0, 0, 8, 10, 0, 0, 7], 'bytes behind the last path'],
  ])('with %s are counted, and what follows is read', async (_, body, expected) => {
    const loader = await loaded(record(TABLE_DUMP_V2, 2, ...body), tableFile());
    expect(loader.summary().malformed).toMatchObject([
      { what: expect.stringContaining(expected), count: 1, offset: 0 },
    ]);
    expect(loader.ribs[0].pathCount).toBe(4);
  });

  it.each([
    ['cut short', [0, 0, 0, 1, 0, 9], 'the table of peers is cut short'],
    ['with more than its peers', [0, 0, 0, 1, 0, 0, 0, 0, 1], 'bytes behind the last peer'],
  ])('of peers %s are counted', async (_, body, expected) => {
    const loader = await loaded(record(TABLE_DUMP_V2, PEER_INDEX_TABLE, ...body));
    expect(loader.summary().malformed).toMatchObject([{ what: expect.stringContaining(expected) }]);
  });
});

describe('files', () => {
  it('may be compressed by gzip', async () => {
    const file = written('table.mrt.gz', gzipSync(tableFile()));
    const { summary } = await loadMrt(file);
    expect(summary).toMatchObject({ bytes: tableFile().length, asPaths: 1, from: 1000, to: 1000 });
  });

  it.each<[string, Uint8Array, string]>([
    ['of bzip2', Buffer.from('BZh91AY'), 'is compressed by bzip2, which is not read; run: bunzip2 --keep'],
    ['of xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58]), 'is compressed by xz'],
    ['of text', Buffer.from('10.0.0.0/8 via 192.0.2.1\n'), 'no MRT file: its first record would be of type'],
    ['that are empty', Buffer.alloc(0), 'empty'],
    ['of gzip cut short', gzipSync(tableFile()).subarray(0, 60), 'its gzip is damaged'],
    ['cut short', tableFile().subarray(0, 100), 'cut short: it ends 25 bytes into the record at offset 75'],
    [
      'with a length that cannot be',
      bytesOf(tableFile().subarray(0, 75), Buffer.from('000003e8000d0002ffffffff', 'hex')),
      'at offset 75: a record of 4294967295 bytes',
    ],
  ])('%s are refused with the reason', async (_, bytes, expected) => {
    const error = await failure(loadMrt(written('bad', bytes)));
    expect(error).toMatchObject({
      code: 'MRT_FILE',
      exitCode: 65,
      message: expect.stringContaining(expected),
    });
  });

  it('that are not there are another error', async () => {
    expect(await failure(loadMrt(join(folder, 'none')))).toMatchObject({ code: 'MRT_FILE', exitCode: 66 });
  });

  it('of any bytes are read or refused, wherever they are cut or broken', async () => {
    const whole = bytesOf(
      tableFile(),
      record(BGP4MP, STATE_CHANGE_AS4, head(true), half(5), half(6)),
      record(BGP4MP, MESSAGE_AS4, head(true), updates(['10.0.0.0/8', '10.1.0.0/16'])),
      record(BGP4MP_ET, MESSAGE_AS4, word(1), head(true), updates(['2001:db8::/32'].slice(1), {})),
    );
    let seed = 7;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
      return seed % below;
    };
    let refused = 0;
    let read = 0;
    const attempt = async (bytes: Buffer) => {
      try {
        const loader = await loaded(bytes);
        read++;
        expect(loader.ribs[0].pathCount).toBeLessThan(20);
      } catch (error) {
        if (!(error instanceof TortieError)) throw error;
        expect(error.code).toBe('MRT_FILE');
        refused++;
      }
    };
    for (let end = 0; end < whole.length; end++) await attempt(whole.subarray(0, end));
    expect(refused).toBeGreaterThan(whole.length - 10);
    for (let round = 0; round < 3000; round++) {
      const bytes = Buffer.from(whole);
      for (let i = random(4); i >= 0; i--) bytes[random(bytes.length)] = random(256);
      await attempt(bytes);
    }
    expect(read).toBeGreaterThan(500);
  });
});

describe.skipIf(!existsSync(RECORDED))('a recorded session', () => {
  it('is loaded whole; what cannot be read of it is counted', async () => {
    const { summary, why } = await loadMrt(RECORDED);
    expect(summary).toMatchObject({
      bytes: gunzipSync(readFileSync(RECORDED)).length,
      peers: 1,
      asPaths: 76_813,
      attributeSets: 89_633,
      tables: [{ prefixes: 577_699, paths: 577_699 }, { prefixes: 0 }],
      skipped: [],
      malformed: [
        { what: 'UPDATE: AS_PATH: AS 0', count: 1, offset: 6_330_542 },
        { what: 'UPDATE: left out: AGGREGATOR with AS 0', count: 3, offset: 8_001_599 },
      ],
    });
    expect(why('8.8.8.8')).toMatchObject({ prefix: '8.8.8.0/24', decidedBy: 'only path' });
  });
});

describe.skipIf(noBird)('a dump of BIRD', () => {
  it('is loaded', async () => {
    const config = [
      'router id 192.0.2.9;',
      'protocol device {}',
      'protocol static s4 { ipv4; route 198.51.100.0/24 unreachable; route 203.0.113.0/24 unreachable; }',
      'protocol static s6 { ipv6; route 2001:db8:1::/48 unreachable; }',
    ];
    const [conf, ctl, file] = ['bird.conf', 'bird.ctl', 'bird.mrt'].map((name) => join(folder, name));
    writeFileSync(conf!, config.join('\n'));
    const bird = spawn('/usr/sbin/bird', ['-f', '-c', conf!, '-s', ctl!, '-P', join(folder, 'bird.pid')]);
    try {
      await until('its socket', () => existsSync(ctl!));
      await run('/usr/sbin/birdc', ['-s', ctl!, `mrt dump table "master*" to "${file}"`]);
      const tables = await until('the dump', async () => {
        const { summary } = await loadMrt(file!).catch(() => ({ summary: null }));
        return summary?.tables[1]?.paths === 1 && summary;
      });
      expect(tables).toMatchObject({
        malformed: [],
        skipped: [],
        tables: FAMILIES.map(({ name, index }) => ({ family: name, paths: 2 - index })),
      });
    } finally {
      bird.kill();
    }
  });
});
