import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LINK_ETHERNET, LINK_RAW, PcapError, PcapWriter, readPcap } from './pcap.ts';

const second = 1_000_000_000n;
const shared = new URL('../../../shared/data/pcap/', import.meta.url);

function sample(): Buffer {
  const writer = new PcapWriter(LINK_ETHERNET);
  writer.write(1000n * second + 1_500_000n, Uint8Array.of(1, 2, 3));
  writer.write(1001n * second, new Uint8Array(70000).fill(7));
  return writer.bytes();
}

it('reads back what it wrote', () => {
  const records = [...readPcap(sample())];
  expect(records.map((record) => [record.time, record.link, record.data.length, record.wireLength])).toEqual([
    [1000n * second + 1_500_000n, LINK_ETHERNET, 3, 3],
    [1001n * second, LINK_ETHERNET, 70000, 70000],
  ]);
  expect(records[0]!.data).toEqual(Buffer.from([1, 2, 3]));
});

it('writes what an independent reader reads', async () => {
  const pcapParser = createRequire(import.meta.url)('pcap-parser') as {
    parse(file: string): NodeJS.EventEmitter;
  };
  const folder = mkdtempSync(join(tmpdir(), 'tortie-pcap-'));
  const file = join(folder, 'sample.pcap');
  writeFileSync(file, sample());
  const packets: [number, number, number][] = [];
  await new Promise((resolve, reject) => {
    const parser = pcapParser.parse(file);
    parser.on(
      'packet',
      (packet: { header: { timestampSeconds: number; timestampMicroseconds: number }; data: Buffer }) => {
        packets.push([
          packet.header.timestampSeconds,
          packet.header.timestampMicroseconds,
          packet.data.length,
        ]);
      },
    );
    parser.on('end', resolve);
    parser.on('error', reject);
  });
  rmSync(folder, { recursive: true });
  expect(packets).toEqual([
    [1000, 1500, 3],
    [1001, 0, 70000],
  ]);
});

describe('other forms', () => {
  it('reads the other byte order, nanoseconds and raw link types', () => {
    const file = Buffer.alloc(24 + 16 + 2);
    file.writeUInt32BE(0xa1b23c4d, 0);
    file.writeUInt32BE(228, 20);
    file.writeUInt32BE(5, 24);
    file.writeUInt32BE(42, 28);
    file.writeUInt32BE(2, 32);
    file.writeUInt32BE(9, 36);
    expect([...readPcap(file)]).toMatchObject([{ time: 5n * second + 42n, link: LINK_RAW, wireLength: 9 }]);
  });

  it('reads pcapng: interfaces, resolutions, enhanced and simple packets', () => {
    const block = (type: number, body: Buffer) => {
      const padded = Buffer.concat([body, Buffer.alloc(-body.length & 3)]);
      const bytes = Buffer.alloc(12 + padded.length);
      bytes.writeUInt32LE(type, 0);
      bytes.writeUInt32LE(bytes.length, 4);
      padded.copy(bytes, 8);
      bytes.writeUInt32LE(bytes.length, bytes.length - 4);
      return bytes;
    };
    const words = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer);
    const section = block(0x0a0d0d0a, words(0x1a2b3c4d, 1, 0xffffffff, 0xffffffff));
    const nano = block(1, Buffer.concat([words(LINK_ETHERNET, 0), Buffer.from([9, 0, 1, 0, 9, 0, 0, 0])]));
    const enhanced = block(6, Buffer.concat([words(0, 0, 77, 3, 5), Buffer.from([1, 2, 3])]));
    const simple = block(3, Buffer.concat([words(2), Buffer.from([8, 9])]));
    const unknown = block(0xbad, words(1, 2));
    expect([...readPcap(Buffer.concat([section, nano, unknown, enhanced, simple]))]).toMatchObject([
      { time: 77n, link: LINK_ETHERNET, data: Buffer.from([1, 2, 3]), wireLength: 5 },
      { time: 0n, data: Buffer.from([8, 9]), wireLength: 2 },
    ]);
  });
});

describe('bad input', () => {
  it.each([
    ['nothing', Buffer.alloc(0), 'PCAP_FORMAT'],
    ['text', Buffer.from('this is no capture file at all'), 'PCAP_FORMAT'],
    ['cut in a header', sample().subarray(0, 30), 'PCAP_TRUNCATED'],
    ['cut in a packet', sample().subarray(0, 41), 'PCAP_TRUNCATED'],
  ])('is an error that says where: %s', (_name, file, code) => {
    let caught: unknown;
    try {
      for (const _record of readPcap(file));
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(PcapError);
    expect((caught as PcapError).code).toBe(code);
  });

  it('never is anything but a PcapError, whatever the bytes', () => {
    const heads = [sample().subarray(0, 24), Buffer.from('0a0d0d0a1c0000004d3c2b1a01000000', 'hex')];
    fc.assert(
      fc.property(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 200 }), (head, rest) => {
        try {
          for (const record of readPcap(Buffer.concat([head, rest])))
            expect(record.data.length).toBeLessThan(400);
        } catch (error) {
          expect(error).toBeInstanceOf(PcapError);
        }
      }),
      { verbose: 1 },
    );
  });
});

describe('recorded captures', () => {
  const names = [
    'vxlan.pcap',
    'gso-ipv4-vxlan-ipv4.pcap',
    'bgp-role.pcapng',
    'icmp-length-zero.pcapng',
    'arp-oobr.pcap',
  ];
  it.each(names)('reads %s', (name) => {
    let file: Buffer;
    try {
      file = readFileSync(new URL(name, shared));
    } catch {
      console.log(`skipped: ${name} is not at ../shared/data/pcap`);
      return;
    }
    expect([...readPcap(file)].length).toBeGreaterThan(0);
  });
});
