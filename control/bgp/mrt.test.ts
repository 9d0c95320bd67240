/** A session recorded in the wild (MRT, RFC 6396): all of it decodes, and what it announced is what we find. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { Rib } from '../rib/rib.ts';
import { AttributeTable } from './attribute-table.ts';
import { encodeAttributes } from './attributes.ts';
import { get16, get32 } from './bytes.ts';
import { IPV4 } from './family.ts';
import { checkHeader, HEADER, MAX_MESSAGE, UPDATE } from './message.ts';
import { IBGP, plain, sourceOf, textsOf } from './test-routes.ts';
import { until } from './until.ts';
import { encodeAnnouncements, UpdateDecoder } from './update.ts';

const FILE = join(import.meta.dirname, '../../../shared/data/bgp-session-2015.mrt.gz');
const missing = !existsSync(FILE);
if (missing) console.log(`skipped: decoding a recorded session (${FILE} is missing)`);

const BGP4MP_ET = 17;
const MESSAGE_AS4 = 4;

/** Offset of each BGP message. */
function* messages(bytes: Uint8Array): Generator<number> {
  for (let at = 0; at + 12 <= bytes.length; ) {
    const [type, subtype, length] = [get16(bytes, at + 4), get16(bytes, at + 6), get32(bytes, at + 8)];
    // Microseconds, then peer AS, local AS, interface, family, two addresses of IPv4 or IPv6.
    const head = at + 12 + 4;
    if (type === BGP4MP_ET && subtype === MESSAGE_AS4) {
      const addresses = get16(bytes, head + 10) === 1 ? 8 : 32;
      yield head + 12 + addresses;
    }
    at += 12 + length;
  }
}

describe.skipIf(missing)('a recorded session', () => {
  it('decodes into 577,706 prefixes, and encodes again to the same', async () => {
    const file = gunzipSync(readFileSync(FILE));
    const bytes = new Uint8Array(file.buffer, file.byteOffset, file.length);
    const table = new AttributeTable();
    const rib = new Rib(IPV4, table);
    const source = sourceOf(1, { internal: false });
    rib.addSource(source);
    // The recorded peer is a route server in part: not all paths begin with its AS.
    const context = { ...IBGP, ibgp: false, nextHops: table.nextHops };
    const [decoder, second] = [new UpdateDecoder(context, table), new UpdateDecoder(context, table)];
    const faults: string[] = [];
    /** Every prefix that was ever named in an announcement, and those that stand at the end. */
    const named = new Set<string>();
    const standing = new Set<string>();
    let updates = 0;
    for (const offset of messages(bytes)) {
      const end = offset + checkHeader(bytes, offset, MAX_MESSAGE);
      if (bytes[offset + 18] !== UPDATE) continue;
      const update = decoder.decode(bytes, offset + HEADER, end);
      const withdrawn = textsOf(update.withdrawn[0]);
      for (const text of withdrawn) standing.delete(text);
      if (update.fault) {
        faults.push(update.fault);
        for (const text of withdrawn) named.add(text);
      }
      rib.withdraw(source, update.withdrawn[0]);
      for (const { set, prefixes } of update.announced) {
        rib.announce(source, set, prefixes);
        for (const text of textsOf(prefixes)) {
          named.add(text);
          standing.add(text);
        }
        if (updates++ % 16 !== 0) continue;
        const encoded = {
          bytes: encodeAttributes(set.attributes, { as4: true, nextHop: true }),
          nextHop: null,
        };
        const format = { family: IPV4, addPath: false, maxMessage: MAX_MESSAGE };
        const [message, ...more] = encodeAnnouncements(encoded, prefixes, format);
        expect(more).toEqual([]);
        const again = plain(second.decode(message!, HEADER, message!.length));
        expect(again.announced).toEqual(plain(update).announced);
      }
    }
    // One path of the wild does hold AS 0 (RFC 7607): its routes count as withdrawn.
    expect(faults).toEqual(['AS_PATH: AS 0']);
    expect(updates).toBeGreaterThan(76_820);
    expect(named.size).toBe(577_706);
    expect(rib.count(source)).toBe(standing.size);
    // Nothing was chosen while this ran in one turn: each standing prefix is told once.
    let told = 0;
    rib.on('change', (ids, count) => {
      for (const id of ids.subarray(0, count)) if (rib.hasBest(id)) told++;
    });
    await until('all is told', () => rib.isSettled);
    expect(told).toBe(standing.size);
    decoder.release();
    second.release();
    rib.drop(source);
    await until('all is forgotten', () => rib.size === 0);
    expect(table.size).toBe(0);
  }, 60_000);
});
