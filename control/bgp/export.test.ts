import { describe, expect, it } from 'vitest';
import { parseAddress4 } from '../address.ts';
import type { PathSource } from '../rib/decision.ts';
import { GRACEFUL_SHUTDOWN, LLGR_STALE } from './attribute-table.ts';
import { type Attributes, NO_ATTRIBUTES } from './attributes.ts';
import { type ExportRules, exported, exportedOr } from './export.ts';
import { IPV4, IPV6 } from './family.ts';
import { type ImportRules, imported, refusal } from './import.ts';
import { ACCEPT_ALL } from './policy.ts';
import { attributesOf, nextHopOf, sourceOf } from './test-routes.ts';

const US = nextHopOf('10.0.0.1');
const FAR = '10.9.0.1';
const own = sourceOf(0, { local: true, internal: false });
const internal = sourceOf(2);
const client = sourceOf(4, { client: true });
const external = sourceOf(3, { internal: false, asn: 65001 });
const RULES: ExportRules = {
  family: IPV4,
  internal: true,
  localAsn: 64512,
  routerId: parseAddress4('10.0.0.1'),
  clusterId: parseAddress4('10.0.0.1'),
  client: false,
  self: US,
  nextHopMode: 'auto',
  nextHop6: false,
  role: null,
  longLived: false,
  gracefulShutdown: false,
  policy: ACCEPT_ALL,
};
const OUTSIDE: ExportRules = { ...RULES, internal: false };
const seq = (...asns: number[]) => [{ set: false, asns }];
const heard: Attributes = {
  ...attributesOf(FAR, { localPref: null }),
  asPath: seq(65001),
  med: 7,
  communities: [0x00010002],
  unknown: [{ type: 99, value: Uint8Array.of(1) }],
};
const tell = (attributes: Attributes, from: PathSource, rules: ExportRules, stale = false) =>
  exported(attributes, from, stale, [], rules);

describe('export', () => {
  it('of our own routes names ourselves as next hop', () => {
    expect(tell(NO_ATTRIBUTES, own, RULES)).toEqual({ ...NO_ATTRIBUTES, nextHop: US, localPref: 100 });
    expect(tell(NO_ATTRIBUTES, own, OUTSIDE)).toEqual({ ...NO_ATTRIBUTES, nextHop: US, asPath: seq(64512) });
  });

  it('is withheld with the reason', () => {
    const why = (attributes: Attributes, from: PathSource, rules: ExportRules, stale = false) =>
      exportedOr(attributes, from, stale, [], rules);
    const marked = (community: number) => ({ ...heard, communities: [community] });
    expect(why(marked(0xffffff02), external, RULES)).toBe('it has the community no-advertise');
    expect(why(marked(0xffffff01), external, OUTSIDE)).toBe('it has the community no-export');
    expect(why(marked(0xffffff03), external, OUTSIDE)).toBe('it has the community no-export-subconfed');
    expect(why(heard, internal, RULES)).toBe('it is from an internal peer, and neither is a client');
    expect(why(heard, external, RULES, true)).toMatch(/it is stale/);
    expect(why(heard, external, { ...OUTSIDE, self: null })).toMatch(/no address of ours/);
    expect(why(heard, external, { ...RULES, family: IPV6 })).toBe(
      `the peer takes no next hop such as ${FAR} for ipv6`,
    );
    expect(why({ ...heard, otc: 65001 }, external, { ...OUTSIDE, role: 'customer' })).toMatch(
      /customers only/,
    );
  });

  it('to an internal peer keeps the next hop and the path, and always has LOCAL_PREF', () => {
    expect(tell(heard, external, RULES)).toEqual({ ...heard, localPref: 100 });
    expect(tell(heard, external, { ...RULES, nextHopMode: 'self' })?.nextHop).toBe(US);
  });

  it('to an external peer keeps what is transitive and drops what is ours', () => {
    const inside = {
      ...heard,
      localPref: 200,
      originatorId: 5,
      clusterList: [6],
      extendedCommunities: [0x00020000, 1, 0x40020000, 2],
    };
    expect(tell(inside, internal, OUTSIDE)).toEqual({
      ...heard,
      asPath: seq(64512, 65001),
      nextHop: US,
      med: null,
      extendedCommunities: [0x00020000, 1],
    });
    expect(tell(inside, internal, { ...OUTSIDE, nextHopMode: 'keep' })?.nextHop?.text).toBe(FAR);
  });

  it('is none from internal to internal, unless one of them is our client (RFC 4456 6)', () => {
    const told = (from: PathSource, toClient: boolean) =>
      tell(heard, from, { ...RULES, client: toClient }) !== null;
    expect([told(internal, false), told(internal, true), told(client, false), told(client, true)]).toEqual([
      false,
      true,
      true,
      true,
    ]);
    expect(told(external, false)).toBe(true);
  });

  it('reflects with ORIGINATOR_ID and CLUSTER_LIST and changes nothing else (RFC 4456 8, 10)', () => {
    const reflected = tell({ ...heard, localPref: 50 }, client, RULES);
    expect(reflected).toEqual({
      ...heard,
      localPref: 50,
      originatorId: client.id,
      clusterList: [RULES.clusterId],
    });
    const again = tell({ ...heard, originatorId: 9, clusterList: [8] }, client, RULES);
    expect(again).toMatchObject({ originatorId: 9, clusterList: [RULES.clusterId, 8] });
  });

  it('heeds the well-known communities (RFC 1997)', () => {
    const told = (community: number, rules: ExportRules) =>
      tell({ ...heard, communities: [community] }, external, rules) !== null;
    expect([told(0xffffff01, RULES), told(0xffffff01, OUTSIDE)]).toEqual([true, false]);
    expect([told(0xffffff02, RULES), told(0xffffff02, OUTSIDE)]).toEqual([false, false]);
    expect([told(0xffffff03, RULES), told(0xffffff03, OUTSIDE)]).toEqual([true, false]);
  });

  it('carries the well-known communities of our own routes and of the policy, for the peer to heed', () => {
    for (const community of [0xffffff01, 0xffffff02, 0xffffff03]) {
      expect(tell({ ...NO_ATTRIBUTES, communities: [community] }, own, OUTSIDE)?.communities).toEqual([
        community,
      ]);
      const operation = { kind: 'add community', community } as const;
      expect(exported(heard, external, false, [operation], OUTSIDE)?.communities).toContain(community);
    }
  });

  it('names ourselves where the next hop is an address of a link', () => {
    const words = [0xfe800000 | 0, 0, 0, 9];
    const local = { ...nextHopOf('fe80::9'), words, linkLocal: words };
    const six = nextHopOf('fd00::1');
    const rules = { ...RULES, family: IPV6, self: six };
    expect(tell({ ...heard, nextHop: local }, external, rules)?.nextHop).toBe(six);
  });

  it('is none without a next hop of the right family', () => {
    expect(tell(NO_ATTRIBUTES, own, { ...RULES, self: null })).toBeNull();
    const six = { ...heard, nextHop: nextHopOf('fd00::9') };
    expect(tell(six, external, RULES)).toBeNull();
    expect(tell(six, external, { ...RULES, nextHop6: true })?.nextHop?.text).toBe('fd00::9');
  });

  it('marks and keeps what is for customers only (RFC 9234 5)', () => {
    const to = (role: ExportRules['role'], otc: number | null) =>
      tell({ ...heard, otc }, external, { ...OUTSIDE, role });
    expect([to('provider', null)?.otc, to('peer', null)?.otc, to('rs', null)?.otc]).toEqual([
      64512, 64512, 64512,
    ]);
    expect([to('customer', null)?.otc, to('rs-client', null)?.otc, to(null, null)?.otc]).toEqual([
      null,
      null,
      null,
    ]);
    expect([to('customer', 65001), to('peer', 65001), to('rs-client', 65001)]).toEqual([null, null, null]);
    expect([to('provider', 65001)?.otc, to('rs', 65001)?.otc, to(null, 65001)?.otc]).toEqual([
      65001, 65001, 65001,
    ]);
  });

  it('says that we leave (RFC 8326), and which routes are stale (RFC 9494 4.3)', () => {
    expect(tell(heard, external, { ...OUTSIDE, gracefulShutdown: true })?.communities).toContain(
      GRACEFUL_SHUTDOWN,
    );
    expect(tell(heard, external, RULES, true)).toBeNull();
    const stale = tell(heard, external, { ...RULES, longLived: true }, true);
    expect(stale?.communities).toContain(LLGR_STALE);
    expect(tell({ ...heard, communities: [LLGR_STALE] }, external, RULES)).toBeNull();
  });

  it("does what the policy's operations say", () => {
    const out = exported(
      heard,
      external,
      false,
      [
        { kind: 'add community', community: 0xfc000001 },
        { kind: 'add community', community: 0x00010002 },
        { kind: 'add large community', community: [64512, 1, 2] },
        { kind: 'prepend', asns: [64513, 64514] },
        { kind: 'set local preference', value: 7 },
      ],
      RULES,
    );
    expect(out).toEqual({
      ...heard,
      communities: [0x00010002, 0xfc000001],
      largeCommunities: [64512, 1, 2],
      asPath: seq(64513, 64514, 65001),
      localPref: 7,
    });
  });
});

describe('import', () => {
  const rules: ImportRules = {
    internal: false,
    asns: [64512],
    allowOwnAs: 0,
    routerId: parseAddress4('10.0.0.1'),
    clusterId: parseAddress4('10.0.0.7'),
    ownAddresses: new Set(['10.0.0.1']),
    role: null,
    peerAsn: 65001,
  };
  const refused = (more: Partial<Attributes>, change: Partial<ImportRules> = {}) =>
    refusal({ ...heard, ...more }, { ...rules, ...change });

  it('refuses loops, and what leads to ourselves', () => {
    expect(refused({})).toBeNull();
    expect(refused({ asPath: seq(65001, 64512) })).toMatch(/our AS/);
    expect(refused({ asPath: seq(65001, 64512) }, { allowOwnAs: 1 })).toBeNull();
    expect(refused({ asPath: seq(64512, 64512) }, { allowOwnAs: 1 })).toMatch(/our AS/);
    expect(refused({ originatorId: rules.routerId })).toMatch(/ORIGINATOR_ID/);
    expect(refused({ clusterList: [1, rules.clusterId] })).toMatch(/CLUSTER_LIST/);
    expect(refused({ nextHop: US })).toMatch(/NEXT_HOP/);
  });

  it('refuses route leaks (RFC 9234 5)', () => {
    expect(refused({ otc: 65001 }, { role: 'provider' })).toMatch(/leak/);
    expect(refused({ otc: 65001 }, { role: 'rs' })).toMatch(/leak/);
    expect(refused({ otc: 65002 }, { role: 'peer' })).toMatch(/leak: OTC of AS 65002/);
    expect(refused({ otc: 65001 }, { role: 'peer' })).toBeNull();
    expect(refused({ otc: 65002 }, { role: 'customer' })).toBeNull();
    expect(refused({ otc: 65002 })).toBeNull();
  });

  it('takes off what is not to cross the border of an AS, in and out (RFC 4360 6, RFC 5701 2)', () => {
    const six = (...types: number[]) => ({
      type: 25,
      value: Uint8Array.from(types.flatMap((type) => [type, ...new Array(19).fill(7)])),
    });
    const other = { type: 99, value: Uint8Array.of(1) };
    const come = {
      ...heard,
      extendedCommunities: [0x40040000, 1, 0x00020000, 2, 0xc0000000 >>> 0, 3],
      unknown: [six(0x40, 0, 0x40), other],
    };
    const left = { ...heard, extendedCommunities: [0x00020000, 2], unknown: [six(0), other] };
    expect(imported(come, rules)).toEqual(left);
    expect(imported(come, { ...rules, internal: true })).toBe(come);
    expect(tell(come, internal, OUTSIDE)).toMatchObject({
      extendedCommunities: left.extendedCommunities,
      unknown: left.unknown,
    });
    expect(tell(come, external, RULES)).toMatchObject({ unknown: come.unknown });
    expect(imported({ ...heard, unknown: [six(0x40)] }, rules).unknown).toEqual([]);
    expect(imported(heard, rules)).toBe(heard);
  });

  it('marks what is for customers only, and makes who leaves the last choice (RFC 8326 4.2)', () => {
    const otc = (role: ImportRules['role']) => imported(heard, { ...rules, role }).otc;
    expect([otc('customer'), otc('peer'), otc('rs-client'), otc('provider'), otc(null)]).toEqual([
      65001,
      65001,
      65001,
      null,
      null,
    ]);
    const leaving = { ...heard, localPref: 100, communities: [GRACEFUL_SHUTDOWN] };
    expect(imported(leaving, rules).localPref).toBe(0);
    expect(imported(leaving, { ...rules, internal: true }).localPref).toBe(100);
  });
});
