import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAddress4, parsePrefix4 } from '../address.ts';
import {
  type AttributeContext,
  type Attributes,
  attributesKey,
  hasAs,
  NO_ATTRIBUTES,
  neighbourAs,
  pathLength,
  prepend,
} from './attributes.ts';
import { BgpError } from './error.ts';
import { frame, HEADER, MAX_MESSAGE, UPDATE } from './message.ts';
import { decodeUpdate, encodeAnnouncements, encodeWithdrawals, type Update } from './update.ts';

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));
const flat = (...prefixes: string[]) =>
  prefixes.flatMap((text) => {
    const { prefix, length } = parsePrefix4(text);
    return [prefix, length];
  });

const IBGP: AttributeContext = { as4: true, ibgp: true, firstAs: 64512 };
const EBGP: AttributeContext = { as4: true, ibgp: false, firstAs: 65001 };
const EBGP_2: AttributeContext = { as4: false, ibgp: false, firstAs: 65001 };

const u16 = (value: number) => value.toString(16).padStart(4, '0');
/** Body of an UPDATE from hex of its three parts. */
function body(withdrawn: string, attributes: string, prefixes: string): Uint8Array {
  const [w, a, p] = [hex(withdrawn), hex(attributes), hex(prefixes)];
  return Uint8Array.from([...hex(u16(w.length)), ...w, ...hex(u16(a.length)), ...a, ...p]);
}
const decode = (bytes: Uint8Array, context = IBGP): Update => decodeUpdate(bytes, 0, bytes.length, context);
const whole = (message: Uint8Array, context = IBGP): Update =>
  decodeUpdate(message, HEADER, message.length, context);

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
      c0 08 08 ffffff01 fc000001 80 09 04 0a000003 80 0a 08 0a000004 0a000005 e0 20 03 010203`;
    const update = decode(body('18 0a4202 00', attributes, `${PREFIX} 20 0a000001`));
    expect(update).toEqual({
      withdrawn: flat('10.66.2.0/24', '0.0.0.0/0'),
      fault: null,
      discarded: [],
      announced: [
        {
          prefixes: flat('10.65.1.0/26', '10.0.0.1/32'),
          attributes: {
            origin: 0,
            asPath: [
              { set: false, asns: [65001, 65536] },
              { set: true, asns: [65002] },
            ],
            nextHop: parseAddress4('10.0.0.2'),
            med: 0xfffffffe,
            localPref: 0x80000000,
            atomicAggregate: true,
            aggregator: { asn: 65001, address: parseAddress4('10.0.0.9') },
            communities: [0xffffff01, 0xfc000001],
            originatorId: parseAddress4('10.0.0.3'),
            clusterList: [parseAddress4('10.0.0.4'), parseAddress4('10.0.0.5')],
            unknown: [{ type: 32, value: Uint8Array.of(1, 2, 3) }],
          },
        },
      ],
    });
  });

  it('constructs', () => {
    const attributes: Attributes = {
      ...NO_ATTRIBUTES,
      asPath: [{ set: false, asns: [65001] }],
      nextHop: parseAddress4('10.0.0.2'),
      localPref: 100,
    };
    expect([...encodeAnnouncements({ attributes, prefixes: flat('10.65.1.0/26') }, { as4: true })]).toEqual([
      frame(UPDATE, body('', GOOD + LOCAL_PREF, PREFIX)),
    ]);
    expect([...encodeWithdrawals(flat('10.66.2.0/24', '0.0.0.0/0'))]).toEqual([
      frame(UPDATE, body('18 0a4202 00', '', '')),
    ]);
  });

  it('takes an empty one, the end of the RIB, as nothing', () => {
    expect(decode(body('', '', ''))).toEqual({ withdrawn: [], announced: [], fault: null, discarded: [] });
  });

  it('ignores bits behind a prefix', () => {
    expect(decode(body('1a 0a4101ff', '', '')).withdrawn).toEqual(flat('10.65.1.192/26'));
  });

  it('reads IPv4 unicast out of MP_REACH_NLRI and MP_UNREACH_NLRI, and skips other families', () => {
    const reach = `80 0e 0e 0001 01 04 0a000007 00 ${PREFIX}`;
    const update = decode(body('', `${ORIGIN} ${AS_PATH} ${reach} 80 0f 07 0001 01 18 0a4202`, ''));
    expect(update.announced[0]?.prefixes).toEqual(flat('10.65.1.0/26'));
    expect(update.announced[0]?.attributes.nextHop).toBe(parseAddress4('10.0.0.7'));
    expect(update.withdrawn).toEqual(flat('10.66.2.0/24'));
    const ipv6 = decode(body('', '80 0f 04 0002 01 00', ''));
    expect(ipv6).toEqual({ withdrawn: [], announced: [], fault: null, discarded: [] });
  });

  it('splits what does not fit one message, and says nothing where attributes leave no room', () => {
    const prefixes = Array.from({ length: 3000 }, (_, i) => [(0x0a000000 + i * 256) | 0, 24]).flat();
    const attributes = { ...NO_ATTRIBUTES, nextHop: parseAddress4('10.0.0.2') };
    const messages = [...encodeAnnouncements({ attributes, prefixes }, { as4: true })];
    expect(messages.every(({ length }) => length <= MAX_MESSAGE)).toBe(true);
    expect(messages.flatMap((m) => whole(m).announced.flatMap((a) => a.prefixes))).toEqual(prefixes);
    const withdrawals = [...encodeWithdrawals(prefixes)];
    expect(withdrawals.flatMap((message) => whole(message).withdrawn)).toEqual(prefixes);
    const huge = { ...attributes, unknown: [{ type: 99, value: new Uint8Array(4060) }] };
    expect([...encodeAnnouncements({ attributes: huge, prefixes }, { as4: true })]).toEqual([]);
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
    ['MP_REACH_NLRI with a next hop of 16 bytes', `80 0e 15 0001 01 10 ${'00'.repeat(17)}`, /^3\/9/],
    ['a bad prefix in MP_REACH_NLRI', '80 0e 0a 0001 01 04 0a000007 00 21', '3/10'],
  ])('%s', (_, attributes, error) => {
    expect(failure(() => decode(body('', attributes, PREFIX)))).toMatch(error);
  });

  it('a malformed attribute without any prefix to withdraw (RFC 7606 5.2)', () => {
    expect(failure(() => decode(body('', '40 01 01 07', '')))).toBe('3/1');
    expect(failure(() => decode(body(PREFIX, '40 01 05', '')))).toBe('3/1');
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
    expect(update.withdrawn).toEqual(flat('10.65.1.0/26'));
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

  it('ignores both when a 2-octet speaker aggregated', () => {
    const four = 'c0 11 06 02 01 00010000 c0 12 08 00010000 0a000009';
    const wide = `40 02 06 02 02 fde9 5ba0 c0 07 06 5ba0 0a000009 ${four}`;
    expect(path(wide)).toEqual([{ set: false, asns: [65001, 65536] }]);
    const stale = `40 02 06 02 02 fde9 5ba0 c0 07 06 fde9 0a000009 ${four}`;
    expect(path(stale)).toEqual([{ set: false, asns: [65001, 23456] }]);
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
const anyAttributes: fc.Arbitrary<Attributes> = fc.record({
  origin: fc.integer({ min: 0, max: 2 }),
  asPath: fc.array(segment, { maxLength: 3 }),
  nextHop: host,
  med: fc.option(uint32),
  localPref: fc.option(uint32),
  atomicAggregate: fc.boolean(),
  aggregator: fc.option(fc.record({ asn, address: host })),
  communities: fc.array(uint32, { maxLength: 80 }),
  originatorId: fc.option(fc.integer()),
  clusterList: fc.array(fc.integer(), { maxLength: 4 }),
  unknown: fc.uniqueArray(
    fc.record({ type: fc.integer({ min: 40, max: 255 }), value: fc.uint8Array({ maxLength: 40 }) }),
    { maxLength: 3, selector: ({ type }) => type },
  ),
});
const anyPrefixes = fc
  .array(fc.tuple(fc.integer(), fc.integer({ min: 0, max: 32 })), { minLength: 1, maxLength: 50 })
  .map((list) => list.flatMap(([address, length]) => [length ? address & (-1 << (32 - length)) : 0, length]));

describe('encoding and decoding', () => {
  it('is the identity', () => {
    fc.assert(
      fc.property(anyAttributes, anyPrefixes, (attributes, prefixes) => {
        for (const message of encodeAnnouncements({ attributes, prefixes }, { as4: true })) {
          expect(whole(message)).toMatchObject({ withdrawn: [], fault: null, discarded: [] });
          expect(whole(message).announced).toEqual([{ attributes, prefixes }]);
        }
        expect([...encodeWithdrawals(prefixes)].flatMap((m) => whole(m).withdrawn)).toEqual(prefixes);
      }),
    );
  });

  it('is the identity by way of a 2-octet speaker, for paths of sequences', () => {
    fc.assert(
      fc.property(fc.array(asn, { minLength: 1, maxLength: 255 }), fc.option(asn), (asns, aggregating) => {
        const attributes: Attributes = {
          ...NO_ATTRIBUTES,
          nextHop: 0x0a000001,
          asPath: [{ set: false, asns }],
          aggregator: aggregating === null ? null : { asn: aggregating, address: 1 },
        };
        const [message] = encodeAnnouncements({ attributes, prefixes: [0, 0] }, { as4: false });
        const decoded = whole(message!, { as4: false, ibgp: true, firstAs: 1 });
        expect(decoded.announced[0]?.attributes).toEqual(attributes);
      }),
    );
  });

  it('gives equal keys to equal attributes only', () => {
    fc.assert(
      fc.property(anyAttributes, anyAttributes, (a, b) => {
        expect(attributesKey({ ...a })).toBe(attributesKey(a));
        const encoded = (x: Attributes) =>
          [...encodeAnnouncements({ attributes: x, prefixes: [0, 0] }, { as4: true })].map(String).join();
        expect(attributesKey(a) === attributesKey(b)).toBe(encoded(a) === encoded(b));
      }),
    );
  });

  it('throws nothing but BgpError, whatever the bytes', () => {
    fc.assert(
      fc.property(
        anyAttributes,
        anyPrefixes,
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 8 }),
        fc.constantFrom(IBGP, EBGP, EBGP_2),
        (attributes, prefixes, changes, context) => {
          for (const message of encodeAnnouncements({ attributes, prefixes }, { as4: true })) {
            const bytes = message.slice();
            for (const [at, value] of changes) bytes[HEADER + (at % (bytes.length - HEADER))] = value;
            expect(failure(() => whole(bytes, context))).toMatch(/^(none|3\/)/);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});
