import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as arp from './arp.ts';
import { fold, get16, get32, put16, put32, sum16, updateChecksum, viewOf } from './bytes.ts';
import * as ethernet from './ethernet.ts';
import { flowHash } from './flow.ts';
import * as icmp from './icmp.ts';
import * as ipv4 from './ipv4.ts';
import * as udp from './udp.ts';
import * as vxlan from './vxlan.ts';

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
/** Memory as it is before a header is written: nothing may be left of it afterwards. */
const dirty = (length: number) => new Uint8Array(length).fill(0xa5);
const seeded = <T>(property: fc.IPropertyWithHooks<T> | fc.IProperty<T>) =>
  fc.assert(property, { verbose: 1 });
const byteArrays = (min: number, max: number) => fc.uint8Array({ minLength: min, maxLength: max });

describe('bytes', () => {
  it('reads back what it wrote', () => {
    seeded(
      fc.property(fc.integer({ min: 0, max: 0xffff }), fc.integer(), (short, word) => {
        const bytes = dirty(8);
        put16(viewOf(bytes), 1, short);
        put32(viewOf(bytes), 3, word | 0);
        expect(get16(viewOf(bytes), 1)).toBe(short);
        expect(get32(viewOf(bytes), 3)).toBe(word | 0);
        expect([bytes[0], bytes[7]]).toEqual([0xa5, 0xa5]);
      }),
    );
  });

  it('sums as RFC 1071 section 3 does by hand', () => {
    expect(sum16(viewOf(hex('0001 f203 f4f5 f6f7')), 0, 8, 0)).toBe(0xddf2);
    expect(sum16(viewOf(hex('01')), 0, 1, 0)).toBe(0x0100);
  });

  it('sums 64 KiB of ones without overflow', () => {
    const bytes = new Uint8Array(65535).fill(0xff);
    let naive = 0n;
    for (let i = 0; i < bytes.length; i += 2) naive += BigInt((bytes[i]! << 8) | (bytes[i + 1] ?? 0));
    while (naive > 0xffffn) naive = (naive & 0xffffn) + (naive >> 16n);
    expect(sum16(viewOf(bytes), 0, bytes.length, 0)).toBe(Number(naive));
  });

  it('updates a checksum as a fresh sum would, for every value (RFC 1624 equation 3)', () => {
    seeded(
      fc.property(
        byteArrays(20, 20),
        fc.integer({ min: 0, max: 8 }),
        fc.integer({ min: 0, max: 0xffff }),
        (bytes, word, value) => {
          // Some word must be non-zero before and after, as in every IP header, or both zeros would be right.
          bytes[18] = 0x45;
          const before = ~sum16(viewOf(bytes), 0, 20, 0) & 0xffff;
          const old = get16(viewOf(bytes), word * 2);
          put16(viewOf(bytes), word * 2, value);
          expect(updateChecksum(before, old, value)).toBe(~sum16(viewOf(bytes), 0, 20, 0) & 0xffff);
        },
      ),
    );
    // The example of RFC 1624 section 4.
    expect(updateChecksum(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
  });
});

describe('ipv4', () => {
  // 10.65.0.2 > 10.65.1.2, ICMP, ttl 64, 84 bytes, DF; checksum as Linux wrote it.
  const header = () => hex('4500 0054 1c46 4000 4001 08de 0a41 0002 0a41 0102');

  it('deconstructs a header', () => {
    const bytes = new Uint8Array(84);
    bytes.set(header());
    put16(viewOf(bytes), 10, 0);
    put16(viewOf(bytes), 10, ~sum16(viewOf(bytes), 0, 20, 0));
    expect(ipv4.checkIpv4(viewOf(bytes), 0, 84)).toBe(ipv4.IPV4_OK);
    expect(ipv4.headerLength(viewOf(bytes), 0)).toBe(20);
    expect(ipv4.totalLength(viewOf(bytes), 0)).toBe(84);
    expect(ipv4.ttl(viewOf(bytes), 0)).toBe(64);
    expect(ipv4.protocol(viewOf(bytes), 0)).toBe(ipv4.PROTOCOL_ICMP);
    expect(ipv4.fragment(viewOf(bytes), 0)).toBe(ipv4.DONT_FRAGMENT);
    expect(ipv4.source(viewOf(bytes), 0)).toBe(0x0a410002);
    expect(ipv4.destination(viewOf(bytes), 0)).toBe(0x0a410102);
  });

  it('constructs the same header in dirty memory', () => {
    const bytes = dirty(22);
    ipv4.putIpv4(viewOf(bytes), 1, 0, 84, 0x1c46, ipv4.DONT_FRAGMENT, 64, 1, 0x0a410002, 0x0a410102);
    const expected = header();
    put16(viewOf(expected), 10, 0);
    put16(viewOf(expected), 10, ~sum16(viewOf(expected), 0, 20, 0));
    expect(bytes.subarray(1, 21)).toEqual(expected);
    expect([bytes[0], bytes[21]]).toEqual([0xa5, 0xa5]);
  });

  it.each([
    ['short', (b: Uint8Array) => b.subarray(0, 19), ipv4.IPV4_SHORT],
    ['version', (b: Uint8Array) => b.fill(0x65, 0, 1), ipv4.IPV4_VERSION],
    ['header length below 20', (b: Uint8Array) => b.fill(0x44, 0, 1), ipv4.IPV4_HEADER_LENGTH],
    [
      'header length beyond the frame',
      (b: Uint8Array) => b.fill(0x4f, 0, 1).subarray(0, 30),
      ipv4.IPV4_HEADER_LENGTH,
    ],
    ['total length below the header', (b: Uint8Array) => b.fill(19, 3, 4), ipv4.IPV4_TOTAL_LENGTH],
    ['total length beyond the frame', (b: Uint8Array) => b.fill(85, 3, 4), ipv4.IPV4_TOTAL_LENGTH],
    ['checksum', (b: Uint8Array) => b.fill(0x55, 10, 11), ipv4.IPV4_CHECKSUM],
  ])('refuses a bad %s', (_name, damage, expected) => {
    const bytes = new Uint8Array(84);
    ipv4.putIpv4(viewOf(bytes), 0, 0, 84, 1, 0, 64, 1, 0x0a410002, 0x0a410102);
    const damaged = damage(bytes);
    expect(ipv4.checkIpv4(viewOf(damaged), 0, damaged.length)).toBe(expected);
  });

  it('refuses fragment offset 1 and no other', () => {
    for (const offset of [0, 1, 2, 185]) {
      const bytes = new Uint8Array(84);
      ipv4.putIpv4(viewOf(bytes), 0, 0, 84, 1, offset, 64, 1, 0x0a410002, 0x0a410102);
      expect(ipv4.checkIpv4(viewOf(bytes), 0, 84)).toBe(offset === 1 ? ipv4.IPV4_OFFSET_ONE : ipv4.IPV4_OK);
    }
  });

  it.each([
    ['loose', [0x83, 7, 4, 198, 51, 100, 1, 0], ipv4.IPV4_SOURCE_ROUTE],
    ['strict', [0x89, 7, 8, 198, 51, 100, 1, 0], ipv4.IPV4_SOURCE_ROUTE],
    ['behind others', [1, 0x94, 4, 0, 0, 0x83, 3, 4], ipv4.IPV4_SOURCE_ROUTE],
    ['behind the end', [1, 0, 0x83, 3, 4, 0, 0, 0], ipv4.IPV4_OK],
    ['within another', [0x5e, 8, 0x83, 3, 4, 0, 0, 0], ipv4.IPV4_OK],
    ['behind one of no length', [0x5e, 0, 0x83, 3, 4, 0, 0, 0], ipv4.IPV4_OK],
    ['behind one beyond the header', [0x5e, 9, 0x83, 3, 4, 0, 0, 0], ipv4.IPV4_OK],
    ['of which there is but the type of another', [1, 1, 1, 1, 1, 1, 1, 7], ipv4.IPV4_OK],
  ])('refuses a source route: %s', (_name, options, expected) => {
    const bytes = new Uint8Array(40);
    ipv4.putIpv4(viewOf(bytes), 0, 0, 40, 1, 0, 64, 17, 0x0a410002, 0x0a410102);
    bytes[0] = 0x47;
    bytes.set(options, 20);
    ipv4.putHeaderChecksum(viewOf(bytes), 0);
    expect(ipv4.checkIpv4(viewOf(bytes), 0, 40)).toBe(expected);
  });

  it('accepts options and padding', () => {
    const bytes = new Uint8Array(60);
    ipv4.putIpv4(viewOf(bytes), 0, 0, 40, 1, 0, 64, 17, 0x0a410002, 0x0a410102);
    bytes[0] = 0x46;
    bytes.set([1, 1, 1, 0], 20);
    put16(viewOf(bytes), 10, 0);
    put16(viewOf(bytes), 10, ~sum16(viewOf(bytes), 0, 24, 0));
    expect(ipv4.checkIpv4(viewOf(bytes), 0, 60)).toBe(ipv4.IPV4_OK);
  });

  it('keeps the checksum right while the TTL sinks, whatever the header', () => {
    seeded(
      fc.property(byteArrays(20, 20), fc.integer({ min: 1, max: 255 }), (bytes, ttl) => {
        bytes[0] = 0x45;
        bytes[8] = ttl;
        put16(viewOf(bytes), 10, 0);
        put16(viewOf(bytes), 10, ~sum16(viewOf(bytes), 0, 20, 0));
        ipv4.decrementTtl(viewOf(bytes), 0);
        expect(bytes[8]).toBe(ttl - 1);
        expect(sum16(viewOf(bytes), 0, 20, 0)).toBe(0xffff);
      }),
    );
  });

  it('never passes a header whose accessors could fail', () => {
    seeded(
      fc.property(byteArrays(0, 80), (bytes) => {
        if (ipv4.checkIpv4(viewOf(bytes), 0, bytes.length) !== ipv4.IPV4_OK) return;
        expect(ipv4.totalLength(viewOf(bytes), 0)).toBeLessThanOrEqual(bytes.length);
        expect(ipv4.headerLength(viewOf(bytes), 0)).toBeLessThanOrEqual(ipv4.totalLength(viewOf(bytes), 0));
      }),
    );
  });

  it('knows who cannot be a source or a destination', () => {
    const martian = [0x00000001, 0x7f000001, 0xe0000001 | 0, 0xf0000001 | 0, -1];
    expect(martian.map(ipv4.isMartianSource)).toEqual(martian.map(() => true));
    expect([0x0a000001, 0xdfffffff | 0, 0x80000001 | 0].map(ipv4.isMartianSource)).toEqual([
      false,
      false,
      false,
    ]);
    expect(ipv4.isMulticast(0xefffffff | 0)).toBe(true);
    expect(ipv4.isBroadcast(-1)).toBe(true);
    expect(ipv4.isLinkLocal(0xa9fe0101 | 0)).toBe(true);
  });
});

describe('arp', () => {
  const request = () => hex('0001 0800 06 04 0001 024270000001 0a410002 000000000000 a9fe0101');

  it('turns a request into its reply in place', () => {
    const bytes = request();
    expect(arp.checkArp(viewOf(bytes), 0, 28)).toBe(true);
    expect(arp.operation(viewOf(bytes), 0)).toBe(arp.ARP_REQUEST);
    arp.replyInPlace(viewOf(bytes), 0, ethernet.GATEWAY_HI, ethernet.GATEWAY_LO);
    expect(bytes).toEqual(hex('0001 0800 06 04 0002 eeeeeeeeeeee a9fe0101 024270000001 0a410002'));
  });

  it('refuses what is short or not IPv4 over Ethernet', () => {
    expect(arp.checkArp(viewOf(request()), 0, 27)).toBe(false);
    for (const at of [0, 2, 4, 5]) {
      const bytes = request();
      bytes[at]! ^= 0x40;
      expect(arp.checkArp(viewOf(bytes), 0, 28)).toBe(false);
    }
  });
});

describe('udp, vxlan, icmp, ethernet', () => {
  it('writes a UDP checksum that holds, and never 0', () => {
    seeded(
      fc.property(byteArrays(8, 100), (bytes) => {
        udp.putUdp(viewOf(bytes), 0, 50000, 4789, bytes.length);
        const pseudo = ipv4.pseudoSum(0x0a000001, 0xc0000201 | 0, 17, bytes.length);
        udp.putUdpChecksum(viewOf(bytes), 0, bytes.length, pseudo);
        expect(udp.udpChecksum(viewOf(bytes), 0)).not.toBe(0);
        expect(udp.udpChecksumHolds(viewOf(bytes), 0, bytes.length, pseudo)).toBe(true);
        bytes[7]! ^= 1;
        expect(udp.udpChecksumHolds(viewOf(bytes), 0, bytes.length, pseudo)).toBe(
          udp.udpChecksum(viewOf(bytes), 0) === 0,
        );
      }),
    );
  });

  it('writes a VXLAN header with reserved bits zero (RFC 7348 section 5)', () => {
    const bytes = dirty(8);
    vxlan.putVxlan(viewOf(bytes), 0, 4096);
    expect(bytes).toEqual(hex('08000000 00100000'));
    expect(vxlan.hasVni(viewOf(bytes), 0)).toBe(true);
    expect(vxlan.vni(viewOf(hex('ff123456 00abcdff')), 0)).toBe(0x00abcd);
    expect(vxlan.hasVni(viewOf(hex('f7000000 00000000')), 0)).toBe(false);
  });

  it('writes an ICMP error in front of its quotation', () => {
    const bytes = dirty(8 + 28);
    icmp.putError(viewOf(bytes), 0, icmp.UNREACHABLE, icmp.CODE_FRAGMENTATION_NEEDED, 1450, 28);
    expect(bytes.subarray(0, 2)).toEqual(hex('0304'));
    expect(bytes.subarray(4, 8)).toEqual(hex('0000 05aa'));
    expect(sum16(viewOf(bytes), 0, 36, 0)).toBe(0xffff);
    expect([0, 3, 4, 5, 8, 11, 12, 13].filter(icmp.isError)).toEqual([3, 4, 5, 11, 12]);
  });

  it('writes an Ethernet header', () => {
    const bytes = dirty(14);
    ethernet.putEthernet(viewOf(bytes), 0, 0x0242, 0x70000001, 0xeeee, 0xeeeeeeee | 0, ethernet.TYPE_IPV4);
    expect(bytes).toEqual(hex('024270000001 eeeeeeeeeeee 0800'));
    expect(ethernet.destinationHi(viewOf(bytes), 0)).toBe(0x0242);
    expect(ethernet.destinationLo(viewOf(bytes), 0)).toBe(0x70000001);
    expect(ethernet.sourceLo(viewOf(bytes), 0)).toBe(0xeeeeeeee | 0);
    expect(ethernet.isGroup(viewOf(hex('0100')), 0)).toBe(true);
  });
});

describe('flow hash', () => {
  const packet = (destinationPort: number, flags = 0) => {
    const bytes = new Uint8Array(28);
    ipv4.putIpv4(viewOf(bytes), 0, 0, 28, 1, flags, 64, 17, 0x0a410002, 0x0a410102);
    udp.putUdp(viewOf(bytes), 20, 40000, destinationPort, 8);
    return bytes;
  };

  it('is stable for a flow and leaves ports out of fragments', () => {
    expect(flowHash(viewOf(packet(53)), 0, 28)).toBe(flowHash(viewOf(packet(53)), 0, 28));
    expect(flowHash(viewOf(packet(53)), 0, 28)).not.toBe(flowHash(viewOf(packet(54)), 0, 28));
    expect(flowHash(viewOf(packet(53, 0x2000)), 0, 28)).toBe(flowHash(viewOf(packet(54, 0x00b9)), 0, 28));
  });

  it('spreads 4,096 flows over 16 sockets within a third of even', () => {
    const buckets = new Array<number>(16).fill(0);
    for (let port = 0; port < 4096; port++) buckets[flowHash(viewOf(packet(port)), 0, 28) & 15]! += 1;
    expect(Math.min(...buckets)).toBeGreaterThan(170);
    expect(Math.max(...buckets)).toBeLessThan(342);
  });
});

it('folds', () => {
  expect(fold(0x1fffe)).toBe(0xffff);
  expect(fold(0xffffffff)).toBe(0xffff);
});
