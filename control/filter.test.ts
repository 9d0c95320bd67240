/** Expressions, as they are meant: against a naive reading of made packets, and against libpcap's. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { DROP } from '../dataplane/drops.ts';
import * as filter from '../dataplane/filter.ts';
import { FrameFilter } from '../dataplane/filter.ts';
import { LINK_ETHERNET, PcapWriter } from '../dataplane/port/pcap.ts';
import { frame, GATEWAY, icmpMessage, MAC_A, packet, packet6, vxlanPayload } from '../dataplane/scenario.ts';
import { put16, put32, viewOf } from '../dataplane/wire/bytes.ts';
import { TYPE_ARP, TYPE_IPV6 } from '../dataplane/wire/ethernet.ts';
import { compileFilter } from './filter.ts';

const matches = (
  text: string,
  bytes: Uint8Array,
  verdict = filter.SENT,
  reason = 0,
  kind = filter.ETHERNET,
) =>
  new FrameFilter(compileFilter(text)).matches(
    viewOf(bytes),
    0,
    bytes.length,
    bytes.length,
    kind,
    verdict,
    reason,
  );

const segment = (from: number, to: number): Uint8Array => {
  const bytes = new Uint8Array(20);
  put16(viewOf(bytes), 0, from);
  put16(viewOf(bytes), 2, to);
  bytes[12] = 0x50;
  return bytes;
};
const tcp4 = frame(packet({ destination: '10.65.1.2', protocol: 6, payload: segment(40_000, 80) }));
const udp4 = frame(packet({ source: '10.65.1.2', destination: '10.65.0.3' }));
const ping4 = frame(packet({ protocol: 1, payload: icmpMessage(8, 0) }));
const later4 = frame(
  packet({ destination: '10.65.1.2', protocol: 6, flags: 100, payload: segment(40_000, 80) }),
);
const udp6 = frame(packet6({ destination: 'fd65::1:2' }), GATEWAY, MAC_A, TYPE_IPV6);
const sctp4 = frame(packet({ protocol: 132, payload: segment(40_000, 443) }));
const tcp6 = frame(packet6({ next: 6, payload: segment(80, 40_000) }), GATEWAY, MAC_A, TYPE_IPV6);
const later6 = frame(
  packet6({ next: 44, payload: Uint8Array.of(17, 0, 0, 80, 0, 0, 0, 1, 7, 208, 0, 80) }),
  GATEWAY,
  MAC_A,
  TYPE_IPV6,
);
const arp = (() => {
  const bytes = new Uint8Array(28);
  bytes.set([0, 1, 8, 0, 6, 4, 0, 1]);
  put32(viewOf(bytes), 14, 0x0a410002);
  put32(viewOf(bytes), 24, 0xa9fe0101 | 0);
  return frame(bytes, GATEWAY, MAC_A, TYPE_ARP);
})();
const ipip = packet({ source: '192.0.2.1', destination: '192.0.2.2', protocol: 4, payload: tcp4.slice(14) });
const ALL = { tcp4, udp4, ping4, later4, udp6, arp };
const MORE = { ...ALL, tcp6, sctp4, later6 };

describe('an expression', () => {
  it.each<[string, (keyof typeof ALL)[]]>([
    ['', ['tcp4', 'udp4', 'ping4', 'later4', 'udp6', 'arp']],
    ['tcp', ['tcp4', 'later4']],
    ['tcp port 80', ['tcp4']],
    ['tcp and dst port 80 and host 10.65.1.2', ['tcp4']],
    ['src host 10.65.1.2', ['udp4']],
    ['dst host 10.65.1.2 or fd65::1:2', ['tcp4', 'later4', 'udp6']],
    ['src host 10.65.1.2 or 10.65.0.3', ['udp4']],
    ['dst net 10.65.0.3/32 or 10.65.0.2/32', ['udp4', 'ping4']],
    ['src or dst host 10.65.1.2', ['tcp4', 'udp4', 'later4']],
    ['10.65.1.2', ['tcp4', 'udp4', 'later4']],
    ['net 10.65.1.0/24 and udp', ['udp4']],
    ['net fd65::/16', ['udp6']],
    ['host 169.254.1.1', ['arp']],
    ['icmp or icmp6', ['ping4']],
    ['ip', ['tcp4', 'udp4', 'ping4', 'later4']],
    ['ip6 or arp', ['udp6', 'arp']],
    ['not ip', ['udp6', 'arp']],
    ['! (ip or ip6)', ['arp']],
    ['port 80 or 2000', ['tcp4', 'udp4', 'udp6']],
    ['portrange 1000-2000', ['udp4', 'udp6']],
    ['src portrange 1001-2000', []],
    ['proto 6', ['tcp4', 'later4']],
    ['proto udp && ip6', ['udp6']],
    ['greater 60', ['udp6']],
    ['less 42', ['ping4', 'arp']],
    // Equal precedence, from the left, as with pcap-filter.
    ['icmp or tcp and port 80', ['tcp4']],
    ['icmp or (tcp and port 80)', ['tcp4', 'ping4']],
  ])('%s', (text, expected) => {
    const found = Object.entries(ALL).filter(([, bytes]) => matches(text, bytes) === true);
    expect(found.map(([name]) => name)).toEqual(expected);
  });

  it.each<[string, (keyof typeof MORE)[]]>([
    // What is in front of "port" is repeated with it.
    ['tcp port 80 or 2000', ['tcp4', 'tcp6']],
    ['ip6 tcp port 80 or 2000', ['tcp6']],
    ['udp port 80 or tcp src port 80 or 40000', ['tcp4', 'tcp6']],
    ['udp port 80 or port 40000', ['tcp4', 'tcp6', 'sctp4']],
    ['sctp', ['sctp4']],
    ['dst port 443', ['sctp4']],
    // Fragments have the protocol of their packet, and only the first one has ports.
    ['udp and ip6', ['udp6', 'later6']],
    ['udp port 2000 and ip6', ['udp6']],
  ])('%s, of more', (text, expected) => {
    const found = Object.entries(MORE).filter(([, bytes]) => matches(text, bytes) === true);
    expect(found.map(([name]) => name)).toEqual(expected);
  });

  it('holds for a packet inside a tunnel, or for that around it, but not for half of each', () => {
    const inVxlan = vxlanPayload(tcp4.slice(14));
    const about = (text: string, bytes: Uint8Array, kind: number) =>
      matches(text, bytes, filter.SENT, 0, kind);
    expect(about('tcp dst port 80', inVxlan, filter.VXLAN)).toBe(true);
    expect(about('tcp dst port 80', ipip, filter.IP)).toBe(true);
    expect(about('ipip and host 192.0.2.2', ipip, filter.IP)).toBe(true);
    expect(about('host 192.0.2.2 and port 80', ipip, filter.IP)).toBe(false);
  });

  it('asks what became of a packet once that is known', () => {
    expect(matches('verdict drop', tcp4, filter.PENDING)).toBe(filter.UNKNOWN);
    expect(matches('udp and verdict drop', tcp4, filter.PENDING)).toBe(false);
    expect(matches('tcp or verdict drop', tcp4, filter.PENDING)).toBe(true);
    expect(matches('not reason no_route', tcp4, filter.PENDING)).toBe(filter.UNKNOWN);
    expect(matches('verdict drop', tcp4, filter.DROPPED, DROP.blackhole)).toBe(true);
    expect(matches('verdict sent', tcp4, filter.DROPPED, DROP.blackhole)).toBe(false);
    expect(matches('reason no_route', tcp4, filter.DROPPED, DROP.blackhole)).toBe(false);
    expect(matches('tcp and reason blackhole or no_route', tcp4, filter.DROPPED, DROP.no_route)).toBe(true);
  });

  it.each([
    ['tcp and', 8, /ends where a packet is to be described/],
    ['host', 5, /an address such as 10.65.1.2 is missing/],
    ['host 10.65.1', 6, /"10.65.1" is no address/],
    ['net 10.65.1.0/33', 5, /is no network such as/],
    ['tcp prot 80', 5, /"prot" is nothing that a packet is described by/],
    ['port 65536', 6, /is no number up to 65535/],
    ['portrange 90-80', 11, /is no range of ports/],
    ['(tcp', 5, /"\)" is missing/],
    ['tcp)', 4, /"\)" where "and", "or" or the end was expected/],
    ['tcp & udp', 5, /"&" is nothing/],
    ['verdict lost', 9, /there are sent, consumed, drop, dropped, held/],
    ['reason nothing', 8, /docs\/DROPS.md lists them/],
    ['and tcp', 1, /"and" is nothing/],
    ['80', 1, /"80" is nothing/],
    ['src proto tcp', 1, /is nothing/],
    [`${'('.repeat(40)}tcp`, 17, /nested too deeply/],
    ['x'.repeat(3000), 1, /longer than 2000 characters/],
  ])('%s is refused, and where', (text, at, what) => {
    expect(() => compileFilter(text)).toThrow(new RegExp(`^filter, character ${at}: `));
    expect(() => compileFilter(text)).toThrow(what);
  });
});

/** A tree, and what it means. */
type Truths = Readonly<Record<string, boolean>>;
interface Tree {
  readonly text: string;
  readonly means: (truths: Truths) => boolean;
}
const leaf = fc
  .constantFrom('tcp', 'udp', 'ip6', 'arp', 'port 80', 'src host 10.65.1.2', 'net 10.65.0.0/16', 'greater 60')
  .map((text): Tree => ({ text, means: (truths) => truths[text]! }));
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5 },
    leaf,
    fc.tuple(tie('tree'), tie('tree'), fc.boolean()).map(([a, b, isAnd]) => ({
      text: `(${a.text} ${isAnd ? 'and' : 'or'} ${b.text})`,
      means: (truths: Truths) =>
        isAnd ? a.means(truths) && b.means(truths) : a.means(truths) || b.means(truths),
    })),
    tie('tree').map((a) => ({ text: `not ${a.text}`, means: (truths: Truths) => !a.means(truths) })),
  ),
}));

it('means what its parts mean', () => {
  fc.assert(
    fc.property(tree, fc.constantFrom(...Object.values(ALL)), ({ text, means }, bytes) => {
      const leaves = [
        'tcp',
        'udp',
        'ip6',
        'arp',
        'port 80',
        'src host 10.65.1.2',
        'net 10.65.0.0/16',
        'greater 60',
      ];
      const truths = Object.fromEntries(leaves.map((each) => [each, matches(each, bytes) === true]));
      expect(matches(text, bytes)).toBe(means(truths));
    }),
    { numRuns: 500 },
  );
});

it('is asked of any bytes without harm', () => {
  const text =
    'tcp port 80 or host fd65::1 or net 10.0.0.0/8 or icmp6 or arp or src portrange 1-9 or verdict held';
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom(0, 1, 2),
      fc.nat(200),
      (bytes, kind, cut) => {
        matches(text, bytes, filter.SENT, 0, kind);
        for (const seed of [...Object.values(ALL), ipip]) {
          const bent = seed.slice(0, cut);
          bytes.forEach((value, i) => {
            if (i % 7 === 0 && i < bent.length) bent[i] = value;
          });
          matches(text, bent, filter.SENT, 0, kind);
        }
      },
    ),
    { numRuns: 300 },
  );
});

/** Expressions of what both know, bare values among them. */
const primitive = fc.oneof(
  fc.constantFrom('tcp', 'udp', 'icmp', 'ip', 'ip6', 'arp', 'sctp', 'less 60', 'greater 60'),
  fc
    .tuple(
      fc.constantFrom('', 'tcp ', 'udp ', 'sctp '),
      fc.constantFrom('', 'src ', 'dst ', 'src or dst '),
      fc.array(fc.constantFrom('80', '443', '1000', '2000', '40000'), { minLength: 1, maxLength: 3 }),
      fc.constantFrom(' or ', ' and ', ' or not '),
    )
    .map(([protocol, direction, ports, joint]) => `${protocol}${direction}port ${ports.join(joint)}`),
  fc
    .tuple(
      fc.constantFrom('', 'src ', 'dst ', 'ip ', 'arp '),
      fc.array(fc.constantFrom('10.65.0.2', '10.65.1.2', '10.65.0.3'), { minLength: 1, maxLength: 3 }),
      fc.constantFrom(' or ', ' and ', ' or not '),
    )
    .map(([qualifier, hosts, joint]) => `${qualifier}host ${hosts.join(joint)}`),
  fc.constantFrom('net 10.65.0.0/24', 'dst net fd65::/112', 'portrange 1000-2000', 'tcp src portrange 1-99'),
);
const expression = fc
  .array(fc.tuple(fc.constantFrom('', 'not '), primitive, fc.constantFrom(' and ', ' or ')), {
    minLength: 1,
    maxLength: 4,
  })
  .map((parts) => parts.map(([not, text, joint], i) => (i > 0 ? joint : '') + not + text).join(''));

describe('libpcap', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tortie-filter-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const hasTcpdump = (() => {
    try {
      execFileSync('tcpdump', ['--version'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  })();

  const frames = Object.values(MORE);
  const file = join(folder, 'all.pcap');
  const writer = new PcapWriter(LINK_ETHERNET);
  for (const [i, bytes] of frames.entries()) writer.write(BigInt(i + 1) * 1_000_000_000n, bytes);
  writeFileSync(file, writer.bytes());

  // Where both say something, they are to say the same.
  function expectTheSame(text: string): void {
    const { stdout, stderr, status } = spawnSync('tcpdump', ['-n', '-tt', '-r', file, text], {
      encoding: 'utf8',
    });
    // What cannot hold for any packet is an error there.
    expect(status === 0 || stderr.includes('expression rejects all packets'), stderr).toBe(true);
    const theirs = [...stdout.matchAll(/^(\d+)\./gm)].map(([, second]) => Number(second) - 1);
    const ours = [...frames.keys()].filter((i) => matches(text, frames[i]!) === true);
    expect({ text, packets: ours }).toEqual({ text, packets: theirs });
  }

  it.runIf(hasTcpdump)('chooses the same packets', () => {
    for (const text of [
      'tcp and dst port 80',
      'port 80 or 2000',
      'src host 10.65.1.2 or dst host fd65::1:2',
      'net 10.65.1.0/24 and not arp',
      'icmp or tcp and port 80',
      'ip6 or arp',
      'host 169.254.1.1',
      'portrange 1000-2000 and ip',
      'src host 10.65.1.2 or 10.65.0.3',
      'dst host 10.65.1.2 or 10.65.0.3',
      'src 10.65.1.2 or 10.65.0.3',
      'not (udp or tcp)',
      'greater 60',
      'less 42',
      'tcp port 80 or 2000',
      'udp and ip6',
    ]) {
      expectTheSame(text);
    }
  });
  it.runIf(hasTcpdump)('chooses the same packets by whatever expression', () => {
    fc.assert(fc.property(expression, expectTheSame), { numRuns: 150 });
  });
  it.skipIf(hasTcpdump)('is not here', () => {
    console.log('skipped: no tcpdump to compare with');
  });
});
