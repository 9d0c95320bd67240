/** Control packets, each rule of RFC 5880 section 6.8.6 on literal bytes; and tshark as an independent reader. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  type ControlPacket,
  DOWN,
  decode,
  diagnosticText,
  encode,
  LENGTH,
  type State,
  UP,
} from './packet.ts';

const example: ControlPacket = {
  diagnostic: 3,
  state: UP,
  poll: true,
  final: false,
  independent: true,
  demand: false,
  multiplier: 3,
  mine: 0xdeadbeef,
  yours: 0x01020304,
  minTxUs: 300_000,
  minRxUs: 100_000,
  minEchoRxUs: 0,
};
const HEX = '23e80318deadbeef01020304000493e0000186a000000000';
const bytes = (hex: string) => Buffer.from(hex, 'hex');
/** The example with other bytes at a place. */
const changed = (at: number, ...values: number[]) => {
  const copy = bytes(HEX);
  copy.set(values, at);
  return copy;
};

it('writes and reads a packet byte for byte', () => {
  expect(encode(example).toString('hex')).toBe(HEX);
  expect(decode(bytes(HEX))).toEqual(example);
});

it('reads back whatever it writes', () => {
  const word = fc.integer({ min: 0, max: 0xffffffff });
  const packet = fc.record({
    diagnostic: fc.integer({ min: 0, max: 31 }),
    state: fc.integer({ min: 0, max: 3 }) as fc.Arbitrary<State>,
    poll: fc.boolean(),
    final: fc.boolean(),
    independent: fc.boolean(),
    demand: fc.boolean(),
    multiplier: fc.integer({ min: 1, max: 255 }),
    mine: fc.integer({ min: 1, max: 0xffffffff }),
    yours: fc.integer({ min: 1, max: 0xffffffff }),
    minTxUs: word,
    minRxUs: word,
    minEchoRxUs: word,
  });
  fc.assert(
    fc.property(packet, (one) => {
      expect(decode(encode(one))).toEqual(one);
    }),
  );
});

it.each([
  ['another version', changed(0, 0x03), 'version'],
  ['no room for a length', bytes('20c003'), 'length'],
  ['a length below 24', changed(3, 23), 'length'],
  ['a length below 26 with authentication', changed(1, 0xc4), 'length'],
  ['a length beyond the payload', changed(3, 25), 'length'],
  ['a cut packet', bytes(HEX).subarray(0, 23), 'length'],
  ['a multiplier of 0', changed(2, 0), 'multiplier'],
  ['the multipoint bit', changed(1, 0xc1), 'multipoint'],
  ['no discriminator of its own', changed(4, 0, 0, 0, 0), 'discriminator'],
  ['Up without our discriminator', changed(8, 0, 0, 0, 0), 'state'],
  ['Init without our discriminator', Buffer.from(changed(8, 0, 0, 0, 0)).fill(0x80, 1, 2), 'state'],
  ['authentication', Buffer.concat([changed(1, 0xc4, 3, 26), Buffer.of(1, 2)]), 'authentication'],
])('discards a packet with %s', (_, packet, reason) => {
  expect(decode(packet)).toBe(reason);
});

it('takes Down without our discriminator, and bytes behind the packet', () => {
  const first = changed(8, 0, 0, 0, 0);
  first[1] = DOWN << 6;
  expect(decode(first)).toMatchObject({ state: DOWN, yours: 0 });
  expect(decode(Buffer.concat([bytes(HEX), Buffer.alloc(8)]))).toEqual(example);
});

it('never throws, whatever comes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (junk) => {
      decode(Buffer.from(junk));
      const near = bytes(HEX);
      for (const [at, value] of junk.entries()) near[at % LENGTH] = value;
      decode(near);
    }),
  );
});

it('names what it knows', () => {
  expect(diagnosticText(1)).toBe('control detection time expired');
  expect(diagnosticText(31)).toBe('diagnostic 31');
});

const TSHARK = '/usr/bin/tshark';
if (!existsSync(TSHARK)) console.log('skipped: tshark on BFD packets (apt-get install tshark)');

it.skipIf(!existsSync(TSHARK))('is read by tshark as it is meant', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tortie-bfd-'));
  const file = join(folder, 'bfd.pcap');
  writeFileSync(file, pcap(encode(example)));
  const fields = [
    'version',
    'diag',
    'sta',
    'flags.p',
    'flags.c',
    'detect_time_multiplier',
    'my_discriminator',
  ];
  fields.push('your_discriminator', 'desired_min_tx_interval', 'required_min_rx_interval');
  try {
    const args = ['-r', file, '-T', 'fields', ...fields.flatMap((field) => ['-e', `bfd.${field}`])];
    const { stdout } = await promisify(execFile)(TSHARK, [...args, '-e', '_ws.expert'], { timeout: 60_000 });
    const said = stdout.trimEnd().split('\t');
    expect(said.map((text) => (text === 'True' ? '1' : text))).toEqual([
      '1',
      '0x03',
      '0x03',
      '1',
      '1',
      '3',
      '0xdeadbeef',
      '0x01020304',
      '300000',
      '100000',
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** A capture file with one UDP datagram to port 3784 in IPv4 (LINKTYPE_RAW). */
function pcap(payload: Buffer): Buffer {
  const header = Buffer.alloc(24 + 16 + 28);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65_535, 16);
  header.writeUInt32LE(101, 20);
  const size = 28 + payload.length;
  header.writeUInt32LE(size, 32);
  header.writeUInt32LE(size, 36);
  header.set([0x45, 0xc0, 0, size, 0, 0, 0, 0, 255, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 40);
  header.set([0xc0, 0x00, 0x0e, 0xc8, 0, size - 20, 0, 0], 60);
  return Buffer.concat([header, payload]);
}
