import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sum16, viewOf } from './bytes.ts';
import { flowHash6 } from './flow.ts';
import * as icmpv6 from './icmpv6.ts';
import * as ipv6 from './ipv6.ts';
import * as nd from './nd.ts';

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
const dirty = (length: number) => new Uint8Array(length).fill(0xa5);
const A = 'fd00000000000000 0000000000000002';
const B = 'fd00000100000000 0000000000000003';

/** A packet of these next headers and their bytes; `chain` is [next header, bytes] from the fixed header on. */
function packet(next: number, rest: string): Uint8Array {
  const payload = hex(rest);
  const bytes = new Uint8Array(40 + payload.length);
  ipv6.putIpv6(viewOf(bytes), 0, 0, payload.length, next, 64);
  bytes.set(hex(A + B), 8);
  bytes.set(payload, 40);
  return bytes;
}

describe('IPv6', () => {
  it('writes the head of a header over dirty memory, and reads it back', () => {
    const bytes = dirty(10);
    ipv6.putIpv6(viewOf(bytes), 1, 0xb8, 1280, 58, 255);
    expect(bytes).toEqual(hex('a5 6b800000 0500 3a ff a5'));
    const view = viewOf(bytes);
    expect([ipv6.trafficClass(view, 1), ipv6.totalLength(view, 1)]).toEqual([0xb8, 1320]);
    expect([ipv6.nextHeader(view, 1), ipv6.hopLimit(view, 1)]).toEqual([58, 255]);
    ipv6.decrementHopLimit(view, 1);
    expect(bytes).toEqual(hex('a5 6b800000 0500 3a fe a5'));
  });

  it('checks version and lengths; more bytes than announced are padding', () => {
    const good = packet(17, '0001 0002 0008 0000');
    const check = (bytes: Uint8Array, length = bytes.length) => ipv6.checkIpv6(viewOf(bytes), 0, length);
    expect(check(good)).toBe(ipv6.IPV6_OK);
    expect(check(Uint8Array.from([...good, 0, 0]))).toBe(ipv6.IPV6_OK);
    expect(check(good, 39)).toBe(ipv6.IPV6_SHORT);
    expect(check(good, 47)).toBe(ipv6.IPV6_PAYLOAD_LENGTH);
    // A jumbogram, whole as far as its 16 bits of length go.
    expect(check(packet(0, '3b00 c204 00010000').with(5, 0))).toBe(ipv6.IPV6_PAYLOAD_LENGTH);
    good[0] = 0x45;
    expect(check(good)).toBe(ipv6.IPV6_VERSION);
  });

  it('walks extension headers to the transport', () => {
    const walk = (bytes: Uint8Array) => {
      const upper = ipv6.upperLayer(viewOf(bytes), 0, bytes.length);
      if (upper === ipv6.CHAIN_BROKEN) return 'broken';
      return [ipv6.upperProtocol(upper), ipv6.upperOffset(upper), (upper & ipv6.FRAGMENTED) !== 0];
    };
    const options = (next: string) => `${next}00 0104 00000000`;
    expect(walk(packet(6, ''))).toEqual([6, 40, false]);
    expect(walk(packet(0, options('3a')))).toEqual([58, 48, false]);
    // Hop-by-hop, routing, destination options, authentication of 12 bytes, UDP.
    const long = `${options('2b')} ${options('3c')} ${options('33')} 1101 0000 00000000 00000000`;
    expect(walk(packet(0, long))).toEqual([17, 76, false]);
    // The first fragment shows its transport, a later one does not.
    expect(walk(packet(44, '1100 0001 00000001'))).toEqual([17, 48, true]);
    expect(walk(packet(44, '1100 0008 00000001'))).toEqual([44, 40, true]);
    expect(walk(packet(44, '1100 0000 00000001'))).toEqual([17, 48, false]);
    expect(walk(packet(0, '3a00 0104'))).toBe('broken');
    expect(walk(packet(0, '3a01 0104 00000000'))).toBe('broken');
    const chain = (count: number) => packet(60, options('3c').repeat(count - 1) + options('3b'));
    expect(walk(chain(ipv6.MAX_EXTENSIONS))).toEqual([59, 40 + 8 * ipv6.MAX_EXTENSIONS, false]);
    expect(walk(chain(ipv6.MAX_EXTENSIONS + 1))).toBe('broken');
  });

  it('finds a routing header of type 0 that is not used up', () => {
    const find = (bytes: Uint8Array) => ipv6.routingHeader0(viewOf(bytes), 0, bytes.length);
    const options = (next: string) => `${next}00 0104 00000000`;
    const routing = (type: string, left: string) => `3b02 ${type}${left} 00000000 ${B}`;
    expect(find(packet(43, routing('00', '01')))).toBe(40);
    expect(find(packet(0, options('3c') + options('2b') + routing('00', '01')))).toBe(56);
    expect(find(packet(44, `2b00 0001 00000001 ${routing('00', '01')}`))).toBe(48);
    for (const bytes of [
      packet(43, routing('00', '00')),
      packet(43, routing('02', '01')),
      packet(44, `2b00 0008 00000001 ${routing('00', '01')}`),
      packet(6, routing('00', '01')),
      packet(43, '3b02 00'),
      packet(60, options('3c').repeat(ipv6.MAX_EXTENSIONS - 1) + options('2b') + routing('00', '01')),
    ]) {
      expect(find(bytes)).toBe(0);
    }
  });

  it('never reads beyond a packet, whatever is in it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 40, maxLength: 120 }), (bytes) => {
        bytes[0] = 0x60;
        const upper = ipv6.upperLayer(viewOf(bytes), 0, bytes.length);
        if (upper !== ipv6.CHAIN_BROKEN) expect(ipv6.upperOffset(upper)).toBeLessThanOrEqual(bytes.length);
        flowHash6(viewOf(bytes), 0, bytes.length);
        expect(ipv6.routingHeader0(viewOf(bytes), 0, bytes.length)).toBeLessThan(bytes.length);
      }),
      { verbose: 1 },
    );
  });

  it('knows kinds of addresses', () => {
    const at = (text: string) => {
      expect(isIPv6(text)).toBe(true);
      const [head, tail] = text.split('::').map((half) => half.split(':').filter(Boolean));
      const words = [...head!, ...Array(8 - head!.length - (tail?.length ?? 0)).fill('0'), ...(tail ?? [])];
      return viewOf(hex(words.map((word) => word.padStart(4, '0')).join('')));
    };
    const kinds = (text: string) =>
      Object.entries({
        unspecified: ipv6.isUnspecified6,
        multicast: ipv6.isMulticast6,
        link: ipv6.isLinkLocal6,
        reserved: ipv6.isReserved6,
      })
        .filter(([, is]) => is(at(text), 0))
        .map(([name]) => name);
    expect(kinds('::')).toEqual(['unspecified', 'reserved']);
    expect(kinds('::1')).toEqual(['reserved']);
    expect(kinds('::ffff:c000:201')).toEqual(['reserved']);
    expect(kinds('ff02::1')).toEqual(['multicast']);
    expect(kinds('febf::1')).toEqual(['link']);
    expect([kinds('fec0::1'), kinds('2001:db8::1'), kinds('64:ff9b::1')]).toEqual([[], [], []]);
  });
});

describe('flow hash of IPv6', () => {
  const hash = (bytes: Uint8Array) => flowHash6(viewOf(bytes), 0, bytes.length);
  it('takes the ports, behind extension headers too, and leaves them out of fragments', () => {
    const plain = packet(17, '9c40 0035 0008 0000');
    expect(hash(plain)).not.toBe(hash(packet(17, '9c40 0036 0008 0000')));
    expect(hash(packet(60, '1100 0104 00000000 9c40 0035 0008 0000'))).toBe(hash(plain));
    const fragment = (offset: string, ports: string) =>
      packet(44, `1100 ${offset} 00000001 ${ports} 0008 0000`);
    expect(hash(fragment('0001', '9c40 0035'))).toBe(hash(fragment('00b8', '1234 5678')));
  });

  it('spreads 4,096 flows over 16 sockets within a third of even', () => {
    const buckets = new Array<number>(16).fill(0);
    const bytes = packet(17, '9c40 0035 0008 0000');
    for (let port = 0; port < 4096; port++) {
      viewOf(bytes).setUint16(42, port);
      buckets[hash(bytes) & 15]! += 1;
    }
    expect(Math.min(...buckets)).toBeGreaterThan(170);
    expect(Math.max(...buckets)).toBeLessThan(342);
  });
});

describe('ICMPv6 and neighbour discovery', () => {
  it('writes an error that sums to nothing with its pseudo header', () => {
    const bytes = packet(58, '00'.repeat(48));
    const view = viewOf(bytes);
    icmpv6.putError6(view, 40, icmpv6.TOO_BIG6, 0, 1400);
    const pseudo = ipv6.pseudoSum6(view, 0, 58, 48);
    icmpv6.putIcmpv6Checksum(view, 40, 48, pseudo);
    expect(bytes.subarray(40, 48)).toEqual(
      hex(`0200 ${icmpv6.icmpv6Checksum(view, 40).toString(16)} 00000578`),
    );
    expect(icmpv6.icmpv6ChecksumHolds(view, 40, 48, pseudo)).toBe(true);
    // The same by hand: addresses, length, next header (RFC 8200 8.1), message.
    expect(
      sum16(viewOf(Uint8Array.from([...hex(`${A + B} 00000030 0000003a`), ...bytes.subarray(40)])), 0, 88, 0),
    ).toBe(0xffff);
  });

  it('knows errors, redirects and listener messages by type', () => {
    expect([1, 4, 127, 137].every(icmpv6.isError6)).toBe(true);
    expect([128, 129, 135, 136].some(icmpv6.isError6)).toBe(false);
    expect([130, 131, 132, 143].every(icmpv6.isListener)).toBe(true);
    expect([128, 133, 142, 144].some(icmpv6.isListener)).toBe(false);
  });

  it('checks solicitations and finds the sender’s link-layer address', () => {
    const check = (text: string) => nd.checkSolicitation(viewOf(hex(text)), 0, hex(text).length);
    const head = `8700 0000 00000000 ${B}`;
    expect(check(head)).toBe(true);
    expect(check(`${head} 0101 020000000a0b`)).toBe(true);
    expect(check(`8701 0000 00000000 ${B}`)).toBe(false);
    expect(check(`8700 0000 00000000 ff02${'00'.repeat(13)}01`)).toBe(false);
    for (const options of ['01', '0100', '0102 020000000a0b'])
      expect(check(`${head} ${options}`)).toBe(false);
    const found = hex(`${head} 0e01 000000000000 0101 020000000a0b`);
    const at = nd.sourceLinkLayer(viewOf(found), 0, found.length);
    expect([nd.linkLayerHi(viewOf(found), at), nd.linkLayerLo(viewOf(found), at)]).toEqual([0x0200, 0x0a0b]);
    expect(nd.sourceLinkLayer(viewOf(found), 0, 32)).toBe(0);
  });

  it('writes an advertisement over dirty memory', () => {
    const bytes = dirty(32);
    nd.putAdvertisement(
      viewOf(bytes),
      0,
      nd.FLAG_ROUTER | nd.FLAG_SOLICITED,
      viewOf(hex(B)),
      0,
      0xeeee,
      0xeeeeeeee | 0,
    );
    expect(bytes).toEqual(hex(`8800 0000 c0000000 ${B} 0201 eeeeeeeeeeee`));
  });
});
