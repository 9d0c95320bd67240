/** What peers of all kinds say when they say it right: what is mutated. */
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { parseAddress4 } from '../../address.ts';
import { AS_TRANS, type Attributes } from '../attributes.ts';
import { put16 } from '../bytes.ts';
import { CAP_AS4, type Capability, ourCapabilities } from '../capabilities.ts';
import type { PeerConfig, Role } from '../config.ts';
import { FAMILIES, IPV6, parseWords } from '../family.ts';
import {
  checkHeader,
  encodeNotification,
  encodeOpen,
  encodeRouteRefresh,
  frame,
  HEADER,
  keepalive,
  MAX_EXTENDED_MESSAGE,
  UPDATE,
} from '../message.ts';
import { BGP4MP, BGP4MP_ET, RecordReader } from '../mrt.ts';
import { decodeBgp4mp } from '../mrt-message.ts';
import { encodePrefixes } from '../nlri.ts';
import { ACCEPT_ALL } from '../policy.ts';
import { announcing, attributesOf, listOf, many, nextHopOf, table, withdrawing } from '../test-routes.ts';
import { endOfRib } from '../update.ts';

/** AS of the speaker. */
export const ASN = 64512;

/** One kind of peer: how the speaker is told of it, what it opens with, and what it says then. */
export interface Form {
  readonly peer: PeerConfig;
  readonly open: Uint8Array;
  readonly messages: readonly Uint8Array[];
  /** Some that take long to work off. */
  readonly large: readonly Uint8Array[];
}

interface Shape {
  asn: number;
  address: string;
  as4: boolean;
  addPath: boolean;
  role?: Role;
  peer: Partial<PeerConfig>;
}

const text = (...parts: string[]) => parts.flatMap((part) => [part.length, ...Buffer.from(part)]);

/** Those that we have no use for besides ours: they are sent in the wild. */
const FOREIGN: readonly Capability[] = [
  { code: 1, value: Uint8Array.of(0, 25, 0, 70) },
  { code: 3, value: Uint8Array.of(0, 1, 0, 1, 1, 64, 3) },
  { code: 73, value: Uint8Array.from(text('router', 'example')) },
  { code: 75, value: Uint8Array.from(text('speaker 1.2')) },
  { code: 128, value: new Uint8Array(0) },
];

export function openAs({ asn, address, as4, addPath, role }: Omit<Shape, 'peer'>): Uint8Array {
  const ours = ourCapabilities({
    asn,
    families: FAMILIES,
    restartTime: 120,
    restarting: false,
    longLivedTime: 60,
    addPathReceive: addPath,
    addPathSend: addPath,
    role: role ?? null,
  });
  return encodeOpen({
    as2: asn > 0xffff ? AS_TRANS : asn,
    holdTime: 90,
    routerId: parseAddress4(address),
    capabilities: [...ours.filter(({ code }) => as4 || code !== CAP_AS4), ...FOREIGN],
  });
}

const path = (asns: number[], ...sets: number[][]) => [
  { set: false, asns },
  ...sets.map((set) => ({ set: true, asns: set })),
];

function formOf(shape: Shape): Form {
  const { asn, address, as4, addPath, peer } = shape;
  const first = asn === ASN ? [] : [asn];
  const simple = attributesOf('10.0.0.77', { asPath: path([...first, 65001]) });
  const rich: Partial<Attributes> = {
    asPath: path([...first, 65001, 70000], [3, 4, 80000]),
    med: 5,
    atomicAggregate: true,
    aggregator: { asn: 70000, address: 0x0a000001 },
    communities: [1, 2, 0xffffff01],
    extendedCommunities: [0x00020000, 5, 0x40020000, 6],
    largeCommunities: [1, 2, 3, 4, 5, 6],
    clusterList: [9, 10],
    originatorId: 8,
    otc: 65001,
    unknown: [
      { type: 25, value: new Uint8Array(20).fill(1) },
      { type: 99, value: Uint8Array.of(1, 2, 3) },
    ],
  };
  const long = path([...first, ...Array.from({ length: 200 }, (_, i) => i + 70000)]);
  const crowd = Array.from({ length: 300 }, (_, i) => i);
  const four = attributesOf('10.0.0.78', rich);
  const six = attributesOf('fd00::78', rich);
  const linked = { ...six, nextHop: table.nextHops.at(IPV6, parseWords('fd00::79'), parseWords('fe80::79')) };
  const form = { as4, addPath };
  const list6 = listOf('2001:db8::/32#1', '2001:db8:1::/48#2', '::/0#3', '2001:db8::1/128#4');
  const list4 = listOf('0.0.0.0/0#1', '10.0.0.0/8#1', '10.0.0.0/8#2', '10.1.2.3/32#1', '172.16.0.0/12#2');
  const refresh = (subtype: number) =>
    [...FAMILIES, { afi: 25, safi: 70 }].map(({ afi, safi }) => encodeRouteRefresh({ afi, subtype, safi }));

  /** All that one UPDATE can hold. */
  const mixed = () => {
    const [message] = announcing(six, list6, form);
    const [unreach] = withdrawing(listOf('2001:db8:2::/48#1'), form);
    const prefixes = new Uint8Array(100);
    const used = encodePrefixes(list4, 0, list4.end, addPath, prefixes, 0);
    const nlri = prefixes.subarray(0, used);
    const nextHop = Uint8Array.of(0x40, 3, 4, 10, 0, 0, 78);
    const attributes = Buffer.concat([unreach!.subarray(HEADER + 4), message!.subarray(HEADER + 4), nextHop]);
    const body = Buffer.concat([Uint8Array.of(0, used), nlri, Uint8Array.of(0, 0), attributes, nlri]);
    put16(body, 2 + used, attributes.length);
    return frame(UPDATE, body);
  };

  return {
    peer: {
      address,
      asn,
      passive: true,
      label: 'global',
      families: ['ipv4', 'ipv6'],
      nextHop6: 'fd00::1',
      importPolicy: ACCEPT_ALL,
      exportPolicy: ACCEPT_ALL,
      longLivedTime: 60,
      keepFiltered: true,
      maxPrefixes: 50_000,
      maxPrefixesRestart: 1,
      ...peer,
    },
    open: openAs(shape),
    messages: [
      ...announcing(simple, many(20), form),
      ...announcing(simple, list4, form),
      ...announcing(four, list4, form),
      ...announcing(attributesOf('10.0.0.79', { asPath: long }), list4, form),
      ...announcing(attributesOf('10.0.0.79', { asPath: path(first), communities: crowd }), list4, form),
      ...announcing(six, list6, form),
      ...announcing(linked, list6, form),
      ...announcing(attributesOf('fd00::78', { asPath: path([...first, 1]) }), list6, form),
      ...announcing({ ...simple, nextHop: nextHopOf('fd00::7a') }, list4, form),
      mixed(),
      ...withdrawing(many(3), form),
      ...withdrawing(list4, form),
      ...withdrawing(list6, form),
      ...FAMILIES.map(endOfRib),
      ...[0, 1, 2].flatMap(refresh),
      keepalive,
      openAs(shape),
      encodeNotification({ code: 6, subcode: 2, data: Uint8Array.of(2, 104, 105) }),
      encodeNotification({ code: 6, subcode: 9, data: Uint8Array.of(6, 4, 2, 104, 105) }),
    ],
    large: [
      ...announcing(simple, many(8000), { ...form, maxMessage: MAX_EXTENDED_MESSAGE }),
      ...announcing(
        attributesOf('10.0.0.80', {
          asPath: Array.from({ length: 50 }, () => ({ set: false, asns: crowd.slice(1, 256) })),
        }),
        list4,
        { ...form, maxMessage: MAX_EXTENDED_MESSAGE },
      ),
    ],
  };
}

/** Peers of all kinds. `recorded`: UPDATEs of a 4-octet external peer, for one that says what was really said. */
export function forms(recorded: readonly Uint8Array[]): Form[] {
  const external = { as4: true, addPath: false };
  const list = [
    formOf({
      asn: ASN,
      address: '10.0.0.2',
      as4: true,
      addPath: true,
      peer: { reflectorClient: true, addPath: { receive: true, send: 4 } },
    }),
    formOf({ ...external, asn: 65001, address: '10.0.0.3', role: 'customer', peer: { role: 'provider' } }),
    formOf({ ...external, asn: 65002, address: '10.0.0.4', as4: false, peer: { enforceFirstAs: false } }),
    formOf({ ...external, asn: ASN, address: '10.0.0.5', as4: false, peer: {} }),
  ];
  if (recorded.length > 0) {
    const shape = { ...external, asn: 65003, address: '10.0.0.6', peer: { enforceFirstAs: false } };
    list.push({ ...formOf(shape), messages: recorded });
  }
  return list;
}

/** UPDATEs out of an MRT file, gzipped; none where there is no such file. */
export function recordedUpdates(file: string, most: number): Uint8Array[] {
  if (!existsSync(file)) return [];
  const reader = new RecordReader();
  reader.push(gunzipSync(readFileSync(file)));
  const updates: Uint8Array[] = [];
  for (let record = reader.next(); record && updates.length < most; record = reader.next()) {
    if (record.type !== BGP4MP && record.type !== BGP4MP_ET) continue;
    const found = decodeBgp4mp(record);
    if (!found?.as4 || found.states || found.end - found.at < HEADER) continue;
    const end = found.at + checkHeader(record.bytes, found.at, MAX_EXTENDED_MESSAGE);
    if (record.bytes[found.at + 18] === UPDATE) updates.push(record.bytes.slice(found.at, end));
  }
  return updates;
}
