import { describe, expect, it } from 'vitest';
import { parseAddress4 } from '../address.ts';
import { NO_ATTRIBUTES } from './attributes.ts';
import type { Agreement } from './connection.ts';
import { Describer } from './describe.ts';
import { CEASE, CEASE_HARD_RESET, CEASE_SHUTDOWN } from './error.ts';
import { openOf } from './fake-peer.ts';
import { IPV6 } from './family.ts';
import { encodeNotification, encodeRouteRefresh, frame, keepalive, UPDATE } from './message.ts';
import { announcing, attributesOf, listOf, many, withdrawing } from './test-routes.ts';
import { asPathText, attributesView, communityText, extendedCommunityTexts } from './text.ts';
import { endOfRib } from './update.ts';

const agreement = (more: Partial<Agreement> = {}) =>
  ({
    as4: true,
    families: [true, true],
    addPathReceive: [false, false],
    addPathSend: [false, false],
    nextHop6: true,
    ...more,
  }) as Agreement;
const incoming = new Describer(agreement(), 'in', true);
const hex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));

describe('a message', () => {
  it('is told by what it says', () => {
    const open = openOf(4_200_000_000, '192.0.2.2', 90, { restartTime: 120 });
    expect(incoming.describe(open)).toMatchObject({
      type: 'OPEN',
      length: open.length,
      asn: 4_200_000_000,
      routerId: '192.0.2.2',
      holdTime: 90,
      capabilities: expect.arrayContaining(['IPv6 unicast', '4-octet AS 4200000000']),
    });
    expect(incoming.describe(keepalive)).toEqual({ type: 'KEEPALIVE', length: 19 });
    expect(incoming.describe(encodeRouteRefresh({ afi: 2, safi: 1, subtype: 0 }))).toEqual({
      type: 'ROUTE-REFRESH',
      length: 23,
      family: 'ipv6',
      subtype: 'request',
    });
    expect(incoming.describe(encodeRouteRefresh({ afi: 25, safi: 70, subtype: 2 }))).toMatchObject({
      family: '25/70',
      subtype: 'end',
    });
    const data = Uint8Array.of(CEASE, CEASE_SHUTDOWN, 4, ...Buffer.from('noon'));
    const cease = encodeNotification({ code: CEASE, subcode: CEASE_HARD_RESET, data });
    expect(incoming.describe(cease)).toMatchObject({
      type: 'NOTIFICATION',
      text: 'Cease: hard reset (6/9): Cease: administrative shutdown (6/2): "noon"',
    });
  });

  it('with routes is told by them, in both families', () => {
    const attributes = attributesOf('192.0.2.9', {
      asPath: [
        { set: false, asns: [64501, 64502] },
        { set: true, asns: [64503, 64504] },
      ],
      med: 20,
      communities: [0xfc000064, 0xffffff01],
    });
    const [four] = announcing(attributes, listOf('10.0.0.0/8', '203.0.113.0/24'));
    expect(incoming.describe(four!)).toMatchObject({
      type: 'UPDATE',
      announced: [
        {
          prefixes: ['10.0.0.0/8', '203.0.113.0/24'],
          nextHop: '192.0.2.9',
          attributes: {
            asPath: '64501 64502 {64503 64504}',
            med: 20,
            communities: ['64512:100', 'no-export'],
          },
        },
      ],
      withdrawn: [],
      endOfRib: null,
      fault: null,
    });
    const [six] = announcing(attributesOf('2001:db8::9'), listOf('2001:db8:1::/48'));
    expect(incoming.describe(six!)).toMatchObject({
      announced: [{ prefixes: ['2001:db8:1::/48'], nextHop: '2001:db8::9' }],
    });
    const [gone] = withdrawing(listOf('2001:db8:1::/48'));
    expect(incoming.describe(gone!)).toMatchObject({ withdrawn: ['2001:db8:1::/48'], announced: [] });
    expect(incoming.describe(endOfRib(IPV6))).toMatchObject({ endOfRib: 'ipv6' });
  });

  it('is read as the session and the direction have it', () => {
    const addPath = agreement({ addPathReceive: [true, false] });
    const [update] = announcing(attributesOf('192.0.2.9'), listOf('10.0.0.0/8#7'), { addPath: true });
    expect(new Describer(addPath, 'in', true).describe(update!)).toMatchObject({
      announced: [{ prefixes: ['10.0.0.0/8#7'] }],
    });
    const [plain] = announcing(attributesOf('192.0.2.9'), listOf('10.0.0.0/8'));
    expect(new Describer(addPath, 'out', true).describe(plain!)).toMatchObject({
      announced: [{ prefixes: ['10.0.0.0/8'] }],
    });
  });

  it('of very many routes names some', () => {
    const list = many(5000);
    const [update] = announcing(attributesOf('192.0.2.9'), list, { maxMessage: 65_535 });
    const view = incoming.describe(update!);
    expect(view).toMatchObject({ unlisted: 5000 - 4096 });
    if (view.type === 'UPDATE') expect(view.announced[0]!.prefixes).toHaveLength(4096);
  });

  it('that cannot be read is told by why', () => {
    expect(incoming.describe(frame(UPDATE, hex('ffff 0000')))).toMatchObject({
      type: 'malformed',
      reason: expect.stringContaining('withdrawn routes run over the end'),
    });
    // Treated as withdrawn (RFC 7606): no ORIGIN.
    const attributes = '40 02 00 40 03 04 c0000209 40 05 04 00000064';
    expect(incoming.describe(frame(UPDATE, hex(`0000 0011 ${attributes} 08 0a`)))).toMatchObject({
      type: 'UPDATE',
      withdrawn: ['10.0.0.0/8'],
      fault: 'no ORIGIN',
    });
    expect(new Describer(null, 'in', false).describe(endOfRib(IPV6))).toMatchObject({
      reason: 'UPDATE outside of a session',
    });
  });
});

describe('attributes', () => {
  it('are written as people write them', () => {
    expect(asPathText([])).toBe('');
    expect([0xfc000001, 0xffff029a, 0xffffff03, 0xffff0000].map(communityText)).toEqual([
      '64512:1',
      'blackhole',
      'no-export-subconfed',
      'graceful-shutdown',
    ]);
    expect(
      extendedCommunityTexts([
        0x0002fc00, 100, 0x0103c000, 0x02010007, 0x02020001, 0x00000009, 0x80060000, 0x12345678,
      ]),
    ).toEqual(['rt:64512:100', 'ro:192.0.2.1:7', 'rt:65536:9', '0x8006000012345678']);
  });

  it('are all shown', () => {
    const view = attributesView({
      ...NO_ATTRIBUTES,
      largeCommunities: [64512, 1, 4_000_000_000],
      originatorId: parseAddress4('192.0.2.7'),
      clusterList: [parseAddress4('192.0.2.8')],
      aggregator: { asn: 64512, address: parseAddress4('192.0.2.9') },
      atomicAggregate: true,
      otc: 64501,
      unknown: [{ type: 99, value: Uint8Array.of(1, 0xab) }],
    });
    expect(view).toMatchObject({
      largeCommunities: ['64512:1:4000000000'],
      originatorId: '192.0.2.7',
      clusterList: ['192.0.2.8'],
      aggregator: '64512 192.0.2.9',
      atomicAggregate: true,
      onlyToCustomer: 64501,
      others: ['99:01ab'],
    });
  });
});
