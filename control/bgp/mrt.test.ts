/** A session recorded in the wild (MRT, RFC 6396): all of it decodes, and what it announced is what we find. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { Rib } from '../rib/rib.ts';
import { get16, get32 } from './bytes.ts';
import { checkHeader, HEADER, UPDATE } from './message.ts';
import { decodeUpdate, encodeAnnouncements } from './update.ts';

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
    const rib = new Rib();
    const source = { address: 1, id: 1, asn: 1, internal: false, local: false };
    // The recorded peer is a route server in part: not all paths begin with its AS.
    const context = { as4: true, ibgp: false, firstAs: null };
    const faults: string[] = [];
    /** Every prefix that was ever named in an announcement, and those that stand at the end. */
    const named = new Set<number>();
    const standing = new Set<number>();
    const keys = (list: number[]) =>
      Array.from({ length: list.length / 2 }, (_, i) => (list[2 * i]! >>> 0) * 64 + list[2 * i + 1]!);
    let updates = 0;
    for (const offset of messages(bytes)) {
      const end = offset + checkHeader(bytes, offset);
      if (bytes[offset + 18] !== UPDATE) continue;
      const update = decodeUpdate(bytes, offset + HEADER, end, context);
      for (const key of keys(update.withdrawn)) standing.delete(key);
      if (update.fault) {
        faults.push(update.fault);
        for (const key of keys(update.withdrawn)) named.add(key);
      }
      rib.withdraw(source, update.withdrawn);
      for (const announced of update.announced) {
        const { attributes, prefixes } = announced;
        rib.announce(source, attributes, prefixes);
        for (const key of keys(prefixes)) {
          named.add(key);
          standing.add(key);
        }
        if (updates++ % 16 !== 0) continue;
        const [message, ...more] = encodeAnnouncements(announced, context);
        expect(more).toEqual([]);
        const again = decodeUpdate(message!, HEADER, message!.length, context);
        expect(again.announced).toEqual([announced]);
      }
    }
    // One path of the wild does hold AS 0 (RFC 7607): its routes count as withdrawn.
    expect(faults).toEqual(['AS_PATH: AS 0']);
    expect(updates).toBeGreaterThan(76_820);
    expect(named.size).toBe(577_706);
    expect(rib.count(source)).toBe(standing.size);
    // Nothing was chosen while this ran in one turn: each standing prefix is told once.
    let told = 0;
    await new Promise<void>((resolve) => {
      rib.on('change', (changes) => {
        told += changes.length;
        if (told >= standing.size) resolve();
      });
    });
    expect(told).toBe(standing.size);
  }, 60_000);
});
