/** Packets of the wild, some malformed on purpose: what looks like BGP in them, to the decoders and to sessions. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readPcap } from '../../../dataplane/port/pcap.ts';
import { BgpError } from '../error.ts';
import { Framer } from '../framing.ts';
import {
  decodeNotification,
  decodeOpen,
  decodeRouteRefresh,
  MAX_EXTENDED_MESSAGE,
  NOTIFICATION,
  OPEN,
  ROUTE_REFRESH,
  UPDATE,
} from '../message.ts';
import { decode, IBGP } from '../test-routes.ts';
import { Campaign } from './campaign.ts';

const FOLDER = join(import.meta.dirname, '../../../../shared/data/pcap');
const isThere = existsSync(FOLDER);
if (!isThere) console.log(`skipped: malformed packets (${FOLDER} is missing)`);

/** By file: what its messages are (types), or what is wrong with them; as a plain session of 4-octet ASes reads them. */
const CAPTURES: readonly [file: string, messages: string][] = [
  ['bgp-4byte-asn.pcap', '8 x 1, 16 x 4, 4 x AS_PATH: a segment is cut short, 6 x 2, 1 x 3'],
  ['bgp-addpath.pcap', '1 x 3/10'],
  ['bgp-as-path-oobr.pcap', '137 x 2, 67 x 3/1, 131 x 3/2, 4 x cut short'],
  ['bgp-bgp_capabilities_print-oobr-1.pcap', '1 x 2/1'],
  ['bgp-enhanced-route-refresh.pcapng', '1 x 1'],
  ['bgp-extended-msg.pcapng', '1 x 1'],
  ['bgp-large-community.pcap', '5 x 2'],
  ['bgp-role.pcapng', '1 x 1, 9 x 2, 2 x 4'],
  ['bgp-shutdown-communication.pcapng', '2 x 3'],
  ['bgp_mp_reach_nlri-oobr.pcap', '6 x 3/1'],
];

const MARKER = Buffer.alloc(16, 0xff);

/** From each marker on to the end of its packet. */
function* streams(file: string): Generator<Uint8Array> {
  for (const record of readPcap(readFileSync(join(FOLDER, file)))) {
    const data = Buffer.from(record.data);
    for (let at = data.indexOf(MARKER); at >= 0; at = data.indexOf(MARKER, at + MARKER.length)) {
      yield data.subarray(at);
    }
  }
}

/** What the first message of a stream is, or what is wrong with it. */
function first(stream: Uint8Array): string {
  const framer = new Framer();
  framer.limit = MAX_EXTENDED_MESSAGE;
  framer.push(stream);
  try {
    const message = framer.next();
    if (!message) return 'cut short';
    const { type, bytes, offset, end } = message;
    if (type === OPEN) decodeOpen(bytes, offset, end);
    else if (type === NOTIFICATION) decodeNotification(bytes, offset, end);
    else if (type === ROUTE_REFRESH) decodeRouteRefresh(bytes, offset, end);
    else if (type === UPDATE) return decode(bytes.subarray(offset, end)).fault ?? `${type}`;
    return `${type}`;
  } catch (error) {
    if (!(error instanceof BgpError)) throw error;
    return `${error.code}/${error.subcode}`;
  }
}

/** In order, with how often each came. */
function tally(list: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const what of list) counts.set(what, (counts.get(what) ?? 0) + 1);
  return [...counts].map(([what, count]) => `${count} x ${what}`).join(', ');
}

describe.skipIf(!isThere)('packets of the wild', () => {
  let campaign: Campaign;
  beforeAll(async () => {
    campaign = new Campaign(1, []);
    await campaign.start();
  });
  afterAll(() => campaign.end());

  it.each(CAPTURES)('%s', async (file, messages) => {
    const list = [...streams(file)];
    expect(tally(list.map(first))).toBe(messages);
    for (const stream of list) await campaign.replay(stream);
  });

  it('has MP_REACH_NLRI twice where path identifiers make its prefixes readable', () => {
    const [stream] = streams('bgp-addpath.pcap');
    expect(() => decode(stream!, { ...IBGP, addPath: [true, true] })).toThrow('attribute 14 occurs twice');
  });
});
