/** Messages that asked too much of us once: what each of them did is told, and that it does no more. */
import { describe, expect, it } from 'vitest';
import { AttributeTable } from './attribute-table.ts';
import { explain } from './connection.ts';

import { CEASE, CEASE_HARD_RESET, CEASE_SHUTDOWN } from './error.ts';
import { HEADER, MAX_EXTENDED_MESSAGE } from './message.ts';

import { announcing, attributesOf, decode, IBGP, listOf } from './test-routes.ts';
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
