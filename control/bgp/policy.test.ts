import { describe, expect, it } from 'vitest';
import { parseAddress4 } from '../address.ts';
import type { PathSource } from '../rib/decision.ts';
import { type Attributes, NO_ATTRIBUTES } from './attributes.ts';
import { exported, type Side } from './policy.ts';

const US = parseAddress4('10.0.0.1');
const FAR = parseAddress4('10.9.0.1');
const source = (address: number, internal: boolean, local = false): PathSource => ({
  address,
  id: address,
  asn: internal ? 64512 : 65001,
  internal,
  local,
});
const own = source(0, false, true);
const [internal, external] = [source(2, true), source(3, false)];
const side = (peer: PathSource): Side => ({
  asn: 64512,
  routerId: US,
  localAddress: US,
  ownAddresses: [],
  peer,
});
const heard: Attributes = {
  ...NO_ATTRIBUTES,
  asPath: [{ set: false, asns: [65001] }],
  nextHop: FAR,
  med: 7,
  communities: [0x00010002],
  unknown: [{ type: 99, value: Uint8Array.of(1) }],
};
const path = (from: PathSource, attributes: Attributes) => ({
  source: from,
  attributes,
  nextHop: attributes.nextHop ?? 0,
});

describe('export', () => {
  it('of our own routes names ourselves as next hop', () => {
    expect(exported(path(own, NO_ATTRIBUTES), side(internal))).toEqual({
      ...NO_ATTRIBUTES,
      nextHop: US,
      localPref: 100,
    });
    expect(exported(path(own, NO_ATTRIBUTES), side(external))).toEqual({
      ...NO_ATTRIBUTES,
      nextHop: US,
      asPath: [{ set: false, asns: [64512] }],
    });
  });

  it('to an internal peer keeps the next hop and the path, and always has LOCAL_PREF', () => {
    expect(exported(path(external, heard), side(internal))).toEqual({ ...heard, localPref: 100 });
  });

  it('to an external peer keeps what is transitive and drops what is ours', () => {
    const inside = { ...heard, localPref: 200, originatorId: 5, clusterList: [6] };
    expect(exported(path(internal, inside), side(external))).toEqual({
      ...heard,
      asPath: [{ set: false, asns: [64512, 65001] }],
      nextHop: US,
      med: null,
    });
  });

  it('is none from internal to internal, and none back', () => {
    expect(exported(path(source(9, true), heard), side(internal))).toBeNull();
    expect(exported(path(external, heard), side(external))).toBeNull();
  });

  it('heeds the well-known communities (RFC 1997)', () => {
    const from = source(9, false);
    const told = (community: number, to: PathSource) =>
      exported(path(from, { ...heard, communities: [community] }), side(to)) !== null;
    expect([told(0xffffff01, internal), told(0xffffff01, external)]).toEqual([true, false]);
    expect([told(0xffffff02, internal), told(0xffffff02, external)]).toEqual([false, false]);
    expect([told(0xffffff03, internal), told(0xffffff03, external)]).toEqual([true, false]);
  });
});
