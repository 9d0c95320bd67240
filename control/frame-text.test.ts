import fc from 'fast-check';
import { expect, it } from 'vitest';
import { frame, GATEWAY, icmpMessage, MAC_A, packet, packet6, vxlanPayload } from '../dataplane/scenario.ts';
import { put32, viewOf } from '../dataplane/wire/bytes.ts';
import { TYPE_ARP, TYPE_IPV6 } from '../dataplane/wire/ethernet.ts';
import { DONT_FRAGMENT, MORE_FRAGMENTS } from '../dataplane/wire/ipv4.ts';
import { frameText, outermostOfSent } from './frame-text.ts';

const arp = () => {
  const bytes = new Uint8Array(28);
  bytes.set([0, 1, 8, 0, 6, 4, 0, 1]);
  put32(viewOf(bytes), 14, 0x0a410002);
  put32(viewOf(bytes), 24, 0xa9fe0101 | 0);
  return frame(bytes, GATEWAY, MAC_A, TYPE_ARP);
};

it.each([
  ['UDP', frame(packet()), '10.65.0.2:1000 > 10.65.0.3:2000 UDP, ttl 64, 32 bytes'],
  [
    'DF and ICMP',
    frame(packet({ protocol: 1, flags: DONT_FRAGMENT, payload: icmpMessage(8, 0) })),
    '10.65.0.2 > 10.65.0.3 ICMP 8/0, ttl 64, 28 bytes, DF',
  ],
  [
    'a first fragment',
    frame(packet({ flags: MORE_FRAGMENTS })),
    '10.65.0.2:1000 > 10.65.0.3:2000 UDP, ttl 64, 32 bytes, fragment from 0',
  ],
  [
    'a later fragment, which shows no ports',
    frame(packet({ flags: 4 })),
    '10.65.0.2 > 10.65.0.3 UDP, ttl 64, 32 bytes, fragment from 32',
  ],
  [
    'IPv6',
    frame(packet6(), GATEWAY, MAC_A, TYPE_IPV6),
    '[fd65::2]:1000 > [fd65::3]:2000 UDP, hop limit 64, 52 bytes',
  ],
  [
    'SCTP',
    frame(packet({ protocol: 132, payload: Uint8Array.of(3, 232, 7, 208, 0, 0, 0, 0) })),
    '10.65.0.2:1000 > 10.65.0.3:2000 SCTP, ttl 64, 28 bytes',
  ],
  ['ARP', arp(), 'ARP who has 169.254.1.1, 10.65.0.2 says'],
  [
    'another protocol',
    frame(packet(), GATEWAY, MAC_A, 0x88cc),
    '02:00:00:00:00:0a > ee:ee:ee:ee:ee:ee, EtherType 0x88cc',
  ],
])('tells of %s', (_, bytes, text) => {
  expect(frameText(bytes, 'ethernet')).toBe(text);
});

it('tells of tunnels and what is inside', () => {
  expect(frameText(vxlanPayload(packet()), 'vxlan')).toBe(
    'VXLAN 4096: 10.65.0.2:1000 > 10.65.0.3:2000 UDP, ttl 64, 32 bytes',
  );
  const ipip = packet({ source: '192.0.2.1', destination: '192.0.2.2', protocol: 4, payload: packet() });
  expect(frameText(ipip, 'ip')).toBe(
    '192.0.2.1 > 192.0.2.2 IPIP, ttl 64, 52 bytes | 10.65.0.2:1000 > 10.65.0.3:2000 UDP, ttl 64, 32 bytes',
  );
  const datagram = new Uint8Array(8 + 8 + 14 + 32);
  datagram.set([0xc0, 0, 0x12, 0xb5]);
  datagram.set(vxlanPayload(packet()), 8);
  expect(frameText(packet({ payload: datagram }), 'ip')).toBe(
    '10.65.0.2:49152 > 10.65.0.3:4789 UDP, ttl 64, 82 bytes | VXLAN 4096: 10.65.0.2:1000 > 10.65.0.3:2000 UDP, ttl 64, 32 bytes',
  );
});

it('goes no further into a header that is too short to be one', () => {
  const endless = packet({ protocol: 4, payload: packet() });
  for (let words = 0; words < 5; words++) {
    endless[0] = 0x40 | words;
    expect(frameText(endless, 'ip')).toBe('10.65.0.2 > 10.65.0.3 IPIP, ttl 64, 52 bytes');
  }
});

it('knows a frame to a device from a packet to a tunnel', () => {
  expect(outermostOfSent(frame(packet(), MAC_A, GATEWAY), 'ethernet')).toBe('ethernet');
  expect(outermostOfSent(frame(packet(), MAC_A, GATEWAY), 'vxlan')).toBe('ethernet');
  expect(outermostOfSent(packet(), 'ethernet')).toBe('ip');
  expect(outermostOfSent(packet6(), 'vxlan')).toBe('ip');
});

it('knows what was dropped as it had been received, since no queue had room for what it would become', () => {
  expect(outermostOfSent(frame(packet()), 'ethernet')).toBe('ethernet');
  expect(outermostOfSent(vxlanPayload(packet()), 'vxlan')).toBe('vxlan');
  expect(outermostOfSent(packet(), 'ip')).toBe('ip');
});

it('says something of any bytes', () => {
  const whole = [
    frame(packet()),
    frame(packet6({ next: 0, payload: new Uint8Array(16) }), GATEWAY, MAC_A, TYPE_IPV6),
    vxlanPayload(packet()),
  ];
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 140 }),
        fc.tuple(fc.constantFrom(...whole), fc.nat(140)).map(([bytes, length]) => bytes.slice(0, length)),
      ),
      fc.constantFrom('ethernet' as const, 'vxlan' as const, 'ip' as const),
      (bytes, outermost) => {
        expect(frameText(bytes, outermost)).not.toBe('');
      },
    ),
    { numRuns: 2000 },
  );
});
