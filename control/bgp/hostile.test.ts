/** Messages that asked too much of us once: what each of them did is told, and that it does no more. */
import { describe, expect, it } from 'vitest';
import { Rib } from '../rib/rib.ts';
import { AttributeTable } from './attribute-table.ts';
import { distinct } from './attributes.ts';
import { explain } from './connection.ts';

import { CEASE, CEASE_HARD_RESET, CEASE_MAX_PREFIXES, CEASE_SHUTDOWN } from './error.ts';
import { IPV4, IPV6 } from './family.ts';
import type { ImportRules } from './import.ts';
import { Importer } from './importer.ts';
import { HEADER, MAX_EXTENDED_MESSAGE } from './message.ts';
import type { PeerCounters } from './status.ts';

import { announcing, attributesOf, decode, IBGP, listOf, sourceOf } from './test-routes.ts';
import { until } from './until.ts';
import { MAX_ATTRIBUTES, UpdateDecoder } from './update.ts';

const asns = Array.from({ length: 255 }, (_, i) => i + 1);
const pathOf = (segments: number) => Array.from({ length: segments }, () => ({ set: false, asns }));

describe('a 2-octet peer with extended messages', () => {
  // 25,500 ASes: 51 kB there, 102 kB in four octets, for which an attribute's length has no room.
  it('has routes withdrawn whose AS_PATH has no room in four octets', () => {
    const attributes = attributesOf('10.0.0.9', { asPath: pathOf(100) });
    const form = { as4: false, maxMessage: MAX_EXTENDED_MESSAGE };
    const [message] = announcing(attributes, listOf('10.1.0.0/16'), form);
    const told = decode(message!, { ...IBGP, as4: false });
    expect(told).toMatchObject({
      announced: [],
      withdrawn: ['10.1.0.0/16'],
      fault: `path attributes of more than ${MAX_ATTRIBUTES} bytes`,
    });
  });

  it('may announce long ones that have', () => {
    const attributes = attributesOf('10.0.0.9', { asPath: pathOf(50) });
    const form = { as4: false, maxMessage: MAX_EXTENDED_MESSAGE };
    const [message] = announcing(attributes, listOf('10.1.0.0/16'), form);
    const told = decode(message!, { ...IBGP, as4: false });
    expect(told.announced).toEqual([{ attributes, prefixes: ['10.1.0.0/16'] }]);
  });
});

describe('a message of 65,535 bytes', () => {
  const source = sourceOf(1, { internal: false, asn: 65001 });
  const counters = { routesRefused: 0, routesFiltered: 0 } as PeerCounters;
  const rules: ImportRules = {
    internal: false,
    asns: [64512],
    allowOwnAs: 0,
    routerId: 1,
    clusterId: 1,
    ownAddresses: new Set(),
    role: null,
    peerAsn: 65001,
  };
  /** What takes UPDATEs in, with a policy that asks about every prefix. */
  function importer() {
    const table = new AttributeTable();
    const ribs = [new Rib(IPV4, table), new Rib(IPV6, table)] as const;
    for (const rib of ribs) rib.addSource(source);
    const verdict = { accept: true, reason: '', operations: [{ kind: 'prepend', asns: [7] } as const] };
    const config = { rules, policy: { key: 'all', evaluate: () => verdict }, keepFiltered: false };
    const decoder = new UpdateDecoder({ ...IBGP, ibgp: false, nextHops: table.nextHops }, table);
    return { table, ribs, decoder, made: new Importer(ribs, table, source, config, counters, () => {}) };
  }
  const [message] = announcing(
    attributesOf('10.0.0.9', { localPref: null }),
    listOf(...Array.from({ length: 65_000 }, () => '0.0.0.0/0')),
    { maxMessage: MAX_EXTENDED_MESSAGE },
  );

  it('with 65,000 prefixes is taken in a slice at a time', async () => {
    const { table, ribs, decoder, made } = importer();
    const steps = [...(made.take(decoder.decode(message!, HEADER, message!.length)) as Iterable<number>)];
    decoder.release();
    expect(steps.reduce((sum, count) => sum + count)).toBe(65_000);
    expect(Math.max(...steps)).toBeLessThanOrEqual(1024);
    await until('settled', () => ribs[0].isSettled);
    expect([ribs[0].size, table.size]).toEqual([1, 1]);
    expect([...ribs[0].best()][0]!.path.attributes.asPath).toEqual([{ set: false, asns: [7] }]);
  });

  it('that is given up half-way leaves nothing behind', async () => {
    const { table, ribs, decoder, made } = importer();
    (made.take(decoder.decode(message!, HEADER, message!.length)) as Iterator<number>).next();
    decoder.release();
    made.release();
    ribs[0].drop(source);
    await until('settled', () => ribs[0].isSettled);
    expect([ribs[0].size, table.size]).toEqual([0, 0]);
  });

  it('that repeats an attribute thousands of times is told of once', () => {
    const repeated = Uint8Array.from({ length: 60_000 }, (_, i) => [0x40, 1, 1, 0][i % 4]!);
    const body = Uint8Array.of(0, 0, repeated.length >> 8, repeated.length & 255, ...repeated);
    expect(decode(body).discarded).toEqual(['attribute 1 occurs again']);
  });

  it('with thousands of communities loses only those that come again', () => {
    const list = Array.from({ length: 14_000 }, (_, i) => i * 3);
    expect(distinct(list, 1)).toBe(list);
    expect(distinct([...list, ...list.slice(0, 500), 1], 1)).toEqual([...list, 1]);
    const large = list.slice(0, 12_000);
    expect(distinct(large, 3)).toBe(large);
    expect(distinct([...large, ...large.slice(30, 60), 1, 2, 3], 3)).toEqual([...large, 1, 2, 3]);
  });
});

describe('a NOTIFICATION', () => {
  it('of hard resets within each other is explained once', () => {
    const data = new Uint8Array(60_000);
    for (let at = 0; at < data.length; at += 2) data.set([CEASE, CEASE_HARD_RESET], at);
    expect(explain({ code: CEASE, subcode: CEASE_HARD_RESET, data })).toBe(
      'Cease: hard reset (6/9): Cease: hard reset (6/9)',
    );
  });

  it('cannot steer a terminal by its words, nor claim more than there are', () => {
    const words = Buffer.from('a\u001b[2Jb\u009bc');
    const said = (length: number) =>
      explain({ code: CEASE, subcode: CEASE_SHUTDOWN, data: Uint8Array.of(length, ...words) });
    expect(said(words.length)).toBe('Cease: administrative shutdown (6/2): "a [2Jb c"');
    expect(said(255)).toBe(said(words.length));
    expect(said(0)).toBe('Cease: administrative shutdown (6/2)');
  });
});

describe('a NOTIFICATION of too many prefixes', () => {
  const said = (...data: number[]) =>
    explain({ code: CEASE, subcode: CEASE_MAX_PREFIXES, data: Uint8Array.from(data) });
  const text = 'Cease: maximum number of prefixes reached (6/1)';

  it('tells the limit where the peer does (RFC 4486 4)', () => {
    expect(said(0, 2, 1, 0xff, 0, 0, 1)).toBe(`${text}: more than 4278190081 ipv6 prefixes`);
    expect(said(0, 25, 70, 0, 0, 0, 9)).toBe(`${text}: more than 9 prefixes`);
    expect(said(0, 2, 1, 0, 0, 1)).toBe(text);
    expect(said()).toBe(text);
  });
});

describe('attributes without prefixes', () => {
  it('are not held, though they were just seen with some', () => {
    const table = new AttributeTable();
    const decoder = new UpdateDecoder({ ...IBGP, nextHops: table.nextHops }, table);
    const [message] = announcing(attributesOf('10.0.0.9'), listOf('10.1.0.0/16'));
    const body = message!.subarray(HEADER);
    decoder.decode(body, 0, body.length);
    expect(table.size).toBe(1);
    // Without the three bytes of the prefix.
    decoder.decode(body, 0, body.length - 3);
    decoder.release();
    expect(table.size).toBe(0);
  });
});
