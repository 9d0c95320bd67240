import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAddress4 } from '../address.ts';
import {
  type AttributeContext,
  type Attributes,
  hasAs,
  NO_ATTRIBUTES,
  neighbourAs,
  pathLength,
  prepend,
} from './attributes.ts';
import { BgpError } from './error.ts';
import { IPV4, IPV6 } from './family.ts';
import { frame, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, UPDATE } from './message.ts';
import { PrefixList } from './nlri.ts';
import {
  announcing,
  attributesOf,
  decode,
  IBGP,
  listOf,
  many,
  nextHopOf,
  type Told,
  textsOf,
  withdrawing,
} from './test-routes.ts';
import { endOfRib } from './update.ts';

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));
const NOTHING: Told = { withdrawn: [], announced: [], endOfRib: null, fault: null, discarded: [] };

const EBGP: AttributeContext = { ...IBGP, ibgp: false, firstAs: 65001 };
const EBGP_2: AttributeContext = { ...EBGP, as4: false };

const u16 = (value: number) => value.toString(16).padStart(4, '0');
/** Body of an UPDATE from hex of its three parts. */
function body(withdrawn: string, attributes: string, prefixes: string): Uint8Array {
  const [w, a, p] = [hex(withdrawn), hex(attributes), hex(prefixes)];
  return Uint8Array.from([...hex(u16(w.length)), ...w, ...hex(u16(a.length)), ...a, ...p]);
}
function failure(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (!(error instanceof BgpError)) throw error;
    return `${error.code}/${error.subcode} ${Buffer.from(error.data).toString('hex')}`.trim();
  }
  return 'none';
}

const ORIGIN = '40 01 01 00';
const AS_PATH = '40 02 06 02 01 0000fde9'; // 65001
const NEXT_HOP = '40 03 04 0a000002';
const LOCAL_PREF = '40 05 04 00000064';
const GOOD = ORIGIN + AS_PATH + NEXT_HOP;
const PREFIX = '1a 0a410100'; // 10.65.1.0/26

describe('UPDATE', () => {
  it('deconstructs', () => {
    const attributes = `${ORIGIN} 40 02 10 02 02 0000fde9 00010000 01 01 0000fdea ${NEXT_HOP}
      80 04 04 fffffffe 40 05 04 80000000 40 06 00 c0 07 08 0000fde9 0a000009
      c0 08 08 ffffff01 fc000001 80 09 04 0a000003 80 0a 08 0a000004 0a000005 c0 10 08 0002000180000005
      c0 20 0c fa56ea00 00000001 00000002 c0 23 04 0000fde9 e0 63 03 010203`;
    const update = decode(body('18 0a4202 00', attributes, `${PREFIX} 20 0a000001`));
    expect(update).toEqual({
      withdrawn: ['10.66.2.0/24', '0.0.0.0/0'],
      endOfRib: null,
      fault: null,
      discarded: [],
      announced: [
        {
          prefixes: ['10.65.1.0/26', '10.0.0.1/32'],
          attributes: {
            origin: 0,
            asPath: [
              { set: false, asns: [65001, 65536] },
              { set: true, asns: [65002] },
            ],
            nextHop: nextHopOf('10.0.0.2'),
            med: 0xfffffffe,
            localPref: 0x80000000,
            atomicAggregate: true,
            aggregator: { asn: 65001, address: parseAddress4('10.0.0.9') },
            communities: [0xffffff01, 0xfc000001],
            originatorId: parseAddress4('10.0.0.3'),
            clusterList: [parseAddress4('10.0.0.4'), parseAddress4('10.0.0.5')],
            extendedCommunities: [0x00020001, 0x80000005],
            largeCommunities: [4200000000, 1, 2],
            otc: 65001,
            unknown: [{ type: 99, value: Uint8Array.of(1, 2, 3) }],
          },
        },
      ],
    });
  });

  it('constructs', () => {
    const attributes = attributesOf('10.0.0.2', { asPath: [{ set: false, asns: [65001] }] });
    expect(announcing(attributes, listOf('10.65.1.0/26'))).toEqual([
      frame(UPDATE, body('', GOOD + LOCAL_PREF, PREFIX)),
    ]);
    expect(withdrawing(listOf('10.66.2.0/24', '0.0.0.0/0'))).toEqual([
      frame(UPDATE, body('18 0a4202 00', '', '')),
    ]);
  });

  it('takes the end of the RIB as such (RFC 4724 2)', () => {
    expect(decode(body('', '', ''))).toEqual({ ...NOTHING, endOfRib: 'ipv4' });
    expect(decode(body('', '80 0f 03 0002 01', ''))).toEqual({ ...NOTHING, endOfRib: 'ipv6' });
    expect(decode(endOfRib(IPV4)).endOfRib).toBe('ipv4');
    expect(decode(endOfRib(IPV6)).endOfRib).toBe('ipv6');
  });

  it('ignores bits behind a prefix', () => {
    expect(decode(body('1a 0a4101ff', '', '')).withdrawn).toEqual(['10.65.1.192/26']);
    const six = decode(body('', '80 0f 0a 0002 01 2f 20010db8ffff', '')).withdrawn;
    expect(six).toEqual(['2001:db8:fffe::/47']);
  });

  it('reads MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760), and skips families that are not agreed on', () => {
    const reach = `80 0e 0e 0001 01 04 0a000007 00 ${PREFIX}`;
    const update = decode(body('', `${ORIGIN} ${AS_PATH} ${reach} 80 0f 07 0001 01 18 0a4202`, ''));
    expect(update.announced[0]?.prefixes).toEqual(['10.65.1.0/26']);
    expect(update.announced[0]?.attributes.nextHop?.text).toBe('10.0.0.7');
    expect(update.withdrawn).toEqual(['10.66.2.0/24']);
    const ipv6 = body('', '80 0f 08 0002 01 20 20010db8', '');
    expect(decode(ipv6).withdrawn).toEqual(['2001:db8::/32']);
    expect(decode(ipv6, { ...IBGP, families: [true, false] })).toEqual(NOTHING);
  });

  const FD = 'fd000000000000000000000000000002';
  const LL = 'fe800000000000000000000000000002';
  const reach6 = (hop: string, family = '0002 01') => {
    const nlri = family.startsWith('0002') ? '20 20010db8' : PREFIX;
    const size = (hex(hop).length + 5 + hex(nlri).length).toString(16).padStart(2, '0');
    return `80 0e ${size} ${family} ${hex(hop).length.toString(16).padStart(2, '0')} ${hop} 00 ${nlri}`;
  };

  it('takes IPv6 next hops with or without a link-local one (RFC 2545 3)', () => {
    const hop = (text: string) =>
      decode(body('', `${reach6(text)} ${ORIGIN} ${AS_PATH}`, '')).announced[0]?.attributes.nextHop;
    expect(hop(FD)).toMatchObject({ text: 'fd00::2', linkLocal: null });
    expect(hop(FD + LL)).toMatchObject({ text: 'fd00::2', linkLocal: [0xfe800000 | 0, 0, 0, 2] });
    expect(hop('00'.repeat(16) + LL)).toMatchObject({ text: 'fe80::2' });
    const multicast = decode(body('', `${reach6(`ff${'00'.repeat(15)}`)} ${ORIGIN} ${AS_PATH}`, ''));
    expect(multicast).toMatchObject({ withdrawn: ['2001:db8::/32'], fault: /no host address/ });
  });

  it('takes IPv6 next hops for IPv4 only where that was agreed on (RFC 8950)', () => {
    const bytes = body('', `${reach6(FD, '0001 01')} ${ORIGIN} ${AS_PATH}`, '');
    expect(decode(bytes).announced[0]).toMatchObject({
      prefixes: ['10.65.1.0/26'],
      attributes: { nextHop: { text: 'fd00::2' } },
    });
    expect(failure(() => decode(bytes, { ...IBGP, nextHop6: false }))).toMatch(/^3\/9/);
  });

  it('reads path identifiers (RFC 7911 3)', () => {
    const context = { ...IBGP, addPath: [true, true] as const };
    const update = decode(body(`00000007 ${PREFIX}`, GOOD, `ffffffff ${PREFIX} 00000001 ${PREFIX}`), context);
    expect(update.withdrawn).toEqual(['10.65.1.0/26#7']);
    expect(update.announced[0]?.prefixes).toEqual(['10.65.1.0/26#4294967295', '10.65.1.0/26#1']);
    expect(failure(() => decode(body('000000', '', ''), context))).toBe('3/10');
  });

  it('splits what does not fit one message, and says nothing where attributes leave no room', () => {
    const list = many(3000);
    const attributes = attributesOf('10.0.0.2');
    const messages = announcing(attributes, list);
    expect(messages.every(({ length }) => length <= MAX_MESSAGE)).toBe(true);
    expect(messages.flatMap((m) => decode(m).announced.flatMap((a) => a.prefixes))).toEqual(textsOf(list));
    const long = announcing(attributes, list, { maxMessage: MAX_EXTENDED_MESSAGE });
    expect(long).toHaveLength(1);
    expect(withdrawing(list).flatMap((message) => decode(message).withdrawn)).toEqual(textsOf(list));
    const huge = { ...attributes, unknown: [{ type: 99, value: new Uint8Array(4060) }] };
    expect(announcing(huge, list)).toEqual([]);
  });

  it('recognises attributes that it has just seen, and tells a malformed copy from them', () => {
    const update = body('', GOOD, PREFIX);
    const again = body('', GOOD, '18 0a4202');
    expect(decode(update).announced[0]?.attributes).toEqual(decode(again).announced[0]?.attributes);
    expect(decode(body('', GOOD.replace('40 01 01 00', '40 01 01 03'), PREFIX)).fault).toBe('ORIGIN 3');
  });
});

describe('errors that end the session (RFC 4271 6.3, RFC 7606 3 and 5)', () => {
  it.each([
    ['withdrawn routes too long', '0005 0000', '3/1'],
    ['attributes too long', '0000 0005 400101', '3/1'],
    ['a withdrawn prefix length of 33', '0006 21 0a00000000 0000', '3/10'],
    ['a withdrawn prefix cut short', '0002 18 0a 0000', '3/10'],
    ['an announced prefix length of 255', '0000 0000 ff', '3/10'],
    ['an announced prefix cut short', '0000 0000 20 0a0000', '3/10'],
  ])('%s', (_, bytes, error) => {
    expect(failure(() => decode(hex(bytes)))).toBe(error);
  });

  it.each([
    ['an unknown well-known attribute', `${GOOD} 40 63 01 aa`, '3/2 406301aa'],
    ['MP_REACH_NLRI twice', `${'80 0e 09 0001 01 04 0a000007 00'.repeat(2)}`, '3/1'],
    ['MP_UNREACH_NLRI cut short', `${GOOD} 80 0f 02 0001`, '3/9 800f020001'],
    ['MP_REACH_NLRI cut short', `${GOOD} 80 0e 05 0001 01 04 0a`, '3/9 800e05000101040a'],
    ['MP_REACH_NLRI with a next hop of 5 bytes', `80 0e 0a 0001 01 05 ${'00'.repeat(6)}`, /^3\/9/],
    ['a bad prefix in MP_REACH_NLRI', '80 0e 0a 0001 01 04 0a000007 00 21', '3/10'],
  ])('%s', (_, attributes, error) => {
    expect(failure(() => decode(body('', attributes, PREFIX)))).toMatch(error);
  });

  it('a malformed attribute without any prefix to withdraw (RFC 7606 5.2)', () => {
    expect(failure(() => decode(body('', '40 01 01 07', '')))).toBe('3/1');
    expect(failure(() => decode(body(PREFIX, '40 01 05', '')))).toBe('3/1');
    const empty = '80 0e 09 0001 01 04 0a000007 00';
    expect(failure(() => decode(body('', `${empty} 40 01 01 07`, '')))).toBe('3/1');
  });
});

describe('errors that cost only the routes (RFC 7606 treat-as-withdraw)', () => {
  it.each([
    ['ORIGIN of 2 bytes', `40 01 02 0000 ${AS_PATH} ${NEXT_HOP}`],
    ['ORIGIN 3', `40 01 01 03 ${AS_PATH} ${NEXT_HOP}`],
    ['ORIGIN said to be optional', `c0 01 01 00 ${AS_PATH} ${NEXT_HOP}`],
    ['AS_PATH with an unknown segment', `${ORIGIN} 40 02 06 05 01 0000fde9 ${NEXT_HOP}`],
    ['AS_PATH with a confederation segment', `${ORIGIN} 40 02 06 03 01 0000fde9 ${NEXT_HOP}`],
    ['AS_PATH with an empty segment', `${ORIGIN} 40 02 02 02 00 ${NEXT_HOP}`],
    ['AS_PATH cut short', `${ORIGIN} 40 02 05 02 01 0000fd ${NEXT_HOP}`],
    ['AS_PATH with one byte too many', `${ORIGIN} 40 02 07 02 01 0000fde9 02 ${NEXT_HOP}`],
    ['AS_PATH with AS 0', `${ORIGIN} 40 02 06 02 01 00000000 ${NEXT_HOP}`],
    ['NEXT_HOP of 3 bytes', `${ORIGIN} ${AS_PATH} 40 03 03 0a0000`],
    ['NEXT_HOP 0.0.0.0', `${ORIGIN} ${AS_PATH} 40 03 04 00000000`],
    ['NEXT_HOP multicast', `${ORIGIN} ${AS_PATH} 40 03 04 e0000001`],
    ['MULTI_EXIT_DISC of 3 bytes', `${GOOD} 80 04 03 000000`],
    ['LOCAL_PREF of 5 bytes', `${GOOD} 40 05 05 0000000000`],
    ['COMMUNITIES of 6 bytes', `${GOOD} c0 08 06 000000000000`],
    ['COMMUNITIES of 0 bytes', `${GOOD} c0 08 00`],
    ['COMMUNITIES not transitive', `${GOOD} 80 08 04 00000000`],
    ['EXTENDED COMMUNITIES of 7 bytes', `${GOOD} c0 10 07 00000000000000`],
    ['IPv6 EXTENDED COMMUNITIES of 8 bytes', `${GOOD} c0 19 08 0000000000000000`],
    ['LARGE_COMMUNITY of 8 bytes', `${GOOD} c0 20 08 0000000000000000`],
    ['LARGE_COMMUNITY of 0 bytes', `${GOOD} c0 20 00`],
    ['OTC of 2 bytes', `${GOOD} c0 23 02 fde9`],
    ['ORIGINATOR_ID of 0 bytes', `${GOOD} 80 09 00`],
    ['CLUSTER_LIST of 5 bytes', `${GOOD} 80 0a 05 0000000000`],
    ['an attribute beyond the end', `${GOOD} 80 04 04 0000`],
    ['half an attribute header', `${GOOD} 80 04`],
    ['half an extended header', `${GOOD} 90 04 00`],
    ['no ORIGIN', `${AS_PATH} ${NEXT_HOP}`],
    ['no AS_PATH', `${ORIGIN} ${NEXT_HOP}`],
    ['no NEXT_HOP', `${ORIGIN} ${AS_PATH}`],
  ])('%s', (_, attributes) => {
    const update = decode(body('', attributes, PREFIX));
    expect(update.fault).not.toBeNull();
    expect(update.announced).toEqual([]);
    expect(update.withdrawn).toEqual(['10.65.1.0/26']);
  });

  it('a NEXT_HOP that is no address, of routes in MP_REACH_NLRI, is of no account (RFC 4760 3)', () => {
    const reach = `80 0e 1a 0002 01 10 20010db8${'00'.repeat(11)}01 00 20 20010db8`;
    const update = decode(body('', `${reach} ${ORIGIN} ${AS_PATH} 40 03 04 00000000`, ''));
    expect(update).toMatchObject({ fault: null, announced: [{ prefixes: ['2001:db8::/32'] }] });
  });

  it('AS_PATH that does not begin with the external peer', () => {
    expect(decode(body('', GOOD, PREFIX), EBGP).fault).toBeNull();
    expect(decode(body('', GOOD, PREFIX), { ...EBGP, firstAs: 65009 }).fault).toMatch(/65009/);
    expect(decode(body('', `${ORIGIN} 40 02 00 ${NEXT_HOP}`, PREFIX), EBGP).fault).toMatch(/65001/);
  });
});

describe('errors that cost only the attribute (RFC 7606 discard)', () => {
  it.each([
    ['ATOMIC_AGGREGATE of 1 byte', `${GOOD} 40 06 01 00`, IBGP],
    ['AGGREGATOR of 6 bytes among 4-octet speakers', `${GOOD} c0 07 06 fde9 0a000001`, IBGP],
    ['AGGREGATOR with AS 0', `${GOOD} c0 07 08 00000000 0a000001`, IBGP],
    ['an attribute that comes twice', `${GOOD} ${ORIGIN}`, IBGP],
    ['LOCAL_PREF from outside', GOOD + LOCAL_PREF, EBGP],
    ['malformed ORIGINATOR_ID from outside', `${GOOD} 80 09 01 00`, EBGP],
    ['CLUSTER_LIST from outside', `${GOOD} 80 0a 04 00000001`, EBGP],
  ])('%s', (_, attributes, context) => {
    const update = decode(body('', attributes, PREFIX), context);
    expect(update.discarded).toHaveLength(1);
    expect(update.fault).toBeNull();
    const { localPref, originatorId, clusterList, aggregator, atomicAggregate } =
      update.announced[0]!.attributes;
    expect([localPref, originatorId, clusterList, aggregator, atomicAggregate]).toEqual([
      null,
      null,
      [],
      null,
      false,
    ]);
  });

  it('counts a community that comes twice once (RFC 8092 5)', () => {
    const [large, small] = ['00000001 00000002 00000003', '00010002'];
    const update = decode(body('', `${GOOD} c0 20 18 ${large} ${large} c0 08 08 ${small} ${small}`, PREFIX));
    expect(update.announced[0]?.attributes).toMatchObject({
      largeCommunities: [1, 2, 3],
      communities: [0x10002],
    });
  });

  it('keeps unknown transitive attributes, drops others in silence', () => {
    const update = decode(body('', `${GOOD} c0 63 01 aa 80 64 01 bb`, PREFIX));
    expect(update.announced[0]?.attributes.unknown).toEqual([{ type: 99, value: Uint8Array.of(0xaa) }]);
    expect(update.discarded).toEqual([]);
  });
});

describe('2-octet speakers (RFC 6793)', () => {
  const path = (attributes: string) =>
    decode(body('', `${ORIGIN} ${NEXT_HOP} ${attributes}`, PREFIX), EBGP_2).announced[0]?.attributes.asPath;

  it('puts AS4_PATH behind the hops that only AS_PATH has', () => {
    expect(path('40 02 08 02 03 fde9 5ba0 5ba0  c0 11 0a 02 02 00010000 00010001')).toEqual([
      { set: false, asns: [65001, 65536, 65537] },
    ]);
  });

  it('ignores an AS4_PATH longer than AS_PATH, and a malformed one', () => {
    expect(path('40 02 04 02 01 fde9  c0 11 0a 02 02 00010000 00010001')).toEqual([
      { set: false, asns: [65001] },
    ]);
    expect(path('40 02 04 02 01 fde9  c0 11 03 02 02 00')).toEqual([{ set: false, asns: [65001] }]);
  });

  it('leaves segments of a confederation out of AS4_PATH, and goes on (section 6)', () => {
    const four = 'c0 11 0c 03 01 0000fdf0 02 01 00010000';
    const update = decode(body('', `${ORIGIN} ${NEXT_HOP} 40 02 06 02 02 fde9 5ba0 ${four}`, PREFIX), EBGP_2);
    expect(update.announced[0]?.attributes.asPath).toEqual([{ set: false, asns: [65001, 65536] }]);
    expect(update.discarded).toEqual(['AS4_PATH: a segment of a confederation']);
  });

  it.each([
    ['c0', 'as they should be'],
    ['40', 'with flags of another kind'],
  ])('takes AS4_PATH and AS4_AGGREGATOR from 2-octet speakers alone (section 6), flags %s, %s', (flags) => {
    const four = `${flags} 11 06 02 01 00010000 ${flags} 12 08 00010000 0a000009`;
    const update = decode(body('', `${GOOD} c0 07 08 00005ba0 0a000009 ${four}`, PREFIX), EBGP);
    expect(update.announced[0]?.attributes).toMatchObject({
      asPath: [{ set: false, asns: [65001] }],
      aggregator: { asn: 23456 },
      unknown: [],
    });
  });

  it('ignores AS 0 in AS4_PATH and AS4_AGGREGATOR (RFC 7607 2)', () => {
    const two = `${ORIGIN} ${NEXT_HOP} 40 02 06 02 02 fde9 5ba0 c0 07 06 5ba0 0a000009`;
    const update = decode(
      body('', `${two} c0 11 06 02 01 00000000 c0 12 08 00000000 0a000009`, PREFIX),
      EBGP_2,
    );
    expect(update.fault).toBeNull();
    expect(update.discarded).toEqual(['AS4_PATH: AS 0', 'AS4_AGGREGATOR with AS 0']);
    expect(update.announced[0]?.attributes).toMatchObject({
      asPath: [{ set: false, asns: [65001, 23456] }],
      aggregator: { asn: 23456 },
    });
  });

  it('ignores both when a 2-octet speaker aggregated', () => {
    const four = 'c0 11 06 02 01 00010000 c0 12 08 00010000 0a000009';
    const wide = `40 02 06 02 02 fde9 5ba0 c0 07 06 5ba0 0a000009 ${four}`;
    expect(path(wide)).toEqual([{ set: false, asns: [65001, 65536] }]);
    const stale = `40 02 06 02 02 fde9 5ba0 c0 07 06 fde9 0a000009 ${four}`;
    expect(path(stale)).toEqual([{ set: false, asns: [65001, 23456] }]);
  });
});

describe('what is passed on', () => {
  const passedOn = (attributes: string) => {
    const update = decode(body('', `${GOOD} ${attributes}`, PREFIX));
    const [message] = announcing(update.announced[0]!.attributes, listOf('10.65.1.0/26'));
    return Buffer.from(message!).toString('hex');
  };

  it('has the Partial bit where we do not know the attribute, or somebody before did not (RFC 4271 5)', () => {
    expect(passedOn('c0 63 01 aa')).toContain('e06301aa');
    expect(passedOn('e0 08 04 00010002')).toContain('e0080400010002');
    expect(passedOn('c0 08 04 00010002')).toContain('c0080400010002');
    expect(passedOn('e0 20 0c 00000001 00000002 00000003')).toContain('e0200c');
    expect(passedOn('e0 23 04 0000fde9')).toContain('e023040000fde9');
    const route = '0002 20010db8000000000000000000000001 0064';
    expect(passedOn(`c0 19 14 ${route}`)).toContain('c01914');
    expect(passedOn(`e0 19 14 ${route}`)).toContain('e01914');
  });

  it('keeps the Partial bit in the table of attributes', () => {
    const { attributes } = decode(body('', `${GOOD} e0 08 04 00010002`, PREFIX)).announced[0]!;
    expect(attributes.partial).toEqual([8]);
    expect(
      decode(body('', `${GOOD} c0 08 04 00010002`, PREFIX)).announced[0]!.attributes.partial,
    ).toBeUndefined();
  });

  it('has no link-local next hop, which the peer need not share (RFC 2545 3)', () => {
    const hop = IBGP.nextHops.at(IPV6, [0x20010db8, 0, 0, 9], [0xfe800000 | 0, 0, 0, 9]);
    const [message] = announcing({ ...attributesOf('10.0.0.2'), nextHop: hop }, listOf('2001:db8::/32'));
    expect(decode(message!).announced[0]?.attributes.nextHop).toMatchObject({
      text: '2001:db8::9',
      linkLocal: null,
    });
  });
});

describe('AS paths', () => {
  const set = { set: true, asns: [3, 4] };
  it('count a set as one hop', () => {
    expect(pathLength([{ set: false, asns: [1, 2] }, set])).toBe(3);
  });
  it('name the neighbour', () => {
    expect([neighbourAs([]), neighbourAs([set]), neighbourAs([{ set: false, asns: [1, 2] }])]).toEqual([
      null,
      null,
      1,
    ]);
  });
  it('grow at the front', () => {
    expect(prepend([], 9)).toEqual([{ set: false, asns: [9] }]);
    expect(prepend([{ set: false, asns: [1] }], 9)).toEqual([{ set: false, asns: [9, 1] }]);
    expect(prepend([set], 9)).toEqual([{ set: false, asns: [9] }, set]);
    const full = { set: false, asns: Array.from({ length: 255 }, () => 1) };
    expect(prepend([full], 9)).toEqual([{ set: false, asns: [9] }, full]);
    expect(hasAs([set], 4)).toBe(true);
    expect(hasAs([set], 5)).toBe(false);
  });
});

const asn = fc.oneof(fc.integer({ min: 1, max: 65535 }), fc.integer({ min: 1, max: 0xffffffff }));
const host = fc.integer({ min: 0x01000000, max: 0xdfffffff }).map((address) => address | 0);
const uint32 = fc.integer({ min: 0, max: 0xffffffff });
const segment = fc.record({ set: fc.boolean(), asns: fc.array(asn, { minLength: 1, maxLength: 255 }) });
const tuples = (size: number) =>
  fc
    .uniqueArray(fc.array(uint32, { minLength: size, maxLength: size }), { maxLength: 20, selector: String })
    .map((list) => list.flat());
const hop4 = host.map((address) => IBGP.nextHops.at(IPV4, [address]));
const hop6 = fc
  .tuple(fc.integer(), fc.integer())
  .map((low) => IBGP.nextHops.at(IPV6, [0x20010db8, 0, ...low]));
const anyAttributes: fc.Arbitrary<Attributes> = fc.record({
  origin: fc.integer({ min: 0, max: 2 }),
  asPath: fc.array(segment, { maxLength: 3 }),
  nextHop: fc.oneof(hop4, hop6),
  med: fc.option(uint32),
  localPref: fc.option(uint32),
  atomicAggregate: fc.boolean(),
  aggregator: fc.option(fc.record({ asn, address: host })),
  communities: tuples(1),
  extendedCommunities: tuples(2),
  largeCommunities: tuples(3),
  originatorId: fc.option(fc.integer()),
  clusterList: fc.array(fc.integer(), { maxLength: 4 }),
  otc: fc.option(uint32),
  unknown: fc.uniqueArray(
    fc.record({ type: fc.integer({ min: 40, max: 255 }), value: fc.uint8Array({ maxLength: 40 }) }),
    { maxLength: 3, selector: ({ type }) => type },
  ),
});
const masked = (words: number[], length: number) =>
  words.map((word, i) => {
    const bits = length - 32 * i;
    return bits >= 32 ? word : bits <= 0 ? 0 : word & (-1 << (32 - bits));
  });
const anyList = fc.constantFrom(IPV4, IPV6).chain((family) => {
  const words = fc.array(fc.integer(), { minLength: family.words, maxLength: family.words });
  const entry = fc.tuple(words, fc.integer({ min: 0, max: family.bits }), fc.integer());
  return fc.array(entry, { minLength: 1, maxLength: 50 }).map((entries) => {
    const list = new PrefixList(family);
    for (const [address, length, pathId] of entries) list.add(masked(address, length), length, pathId);
    return list;
  });
});
/** IPv6 routes have no IPv4 next hops. */
const anyRoutes = fc.tuple(anyAttributes, anyList, hop6).map(([attributes, list, hop]) => ({
  attributes:
    list.family === IPV6 && attributes.nextHop!.family === IPV4
      ? { ...attributes, nextHop: hop }
      : attributes,
  list,
}));
const withoutIds = (texts: string[]) => texts.map((text) => text.replace(/#.*/, ''));

describe('encoding and decoding', () => {
  it('is the identity, for both families, with path identifiers or without', () => {
    fc.assert(
      fc.property(anyRoutes, fc.boolean(), ({ attributes, list }, addPath) => {
        const context = { ...IBGP, addPath: [addPath, addPath] as const };
        const expected = addPath ? textsOf(list) : withoutIds(textsOf(list));
        for (const message of announcing(attributes, list, { addPath })) {
          expect(decode(message, context)).toEqual({
            ...NOTHING,
            announced: [{ attributes, prefixes: expected }],
          });
        }
        const withdrawals = withdrawing(list, { addPath });
        expect(withdrawals.flatMap((m) => decode(m, context).withdrawn)).toEqual(expected);
      }),
    );
  });

  it('is the identity by way of a 2-octet speaker, for paths of sequences', () => {
    fc.assert(
      fc.property(fc.array(asn, { minLength: 1, maxLength: 255 }), fc.option(asn), (asns, aggregating) => {
        const attributes: Attributes = {
          ...NO_ATTRIBUTES,
          nextHop: nextHopOf('10.0.0.1'),
          asPath: [{ set: false, asns }],
          aggregator: aggregating === null ? null : { asn: aggregating, address: 1 },
        };
        const [message] = announcing(attributes, listOf('0.0.0.0/0'), { as4: false });
        const decoded = decode(message!, { ...IBGP, as4: false });
        expect(decoded.announced[0]?.attributes).toEqual(attributes);
      }),
    );
  });

  it('throws nothing but BgpError, whatever the bytes', () => {
    fc.assert(
      fc.property(
        anyRoutes,
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 8 }),
        fc.constantFrom(IBGP, EBGP, EBGP_2),
        ({ attributes, list }, changes, context) => {
          for (const message of announcing(attributes, list)) {
            const bytes = message.slice(19);
            for (const [at, value] of changes) bytes[at % bytes.length] = value;
            expect(failure(() => decode(bytes, context))).toMatch(/^(none|3\/)/);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});
