/** The speaker's tables as an MRT file (RFC 6396), made while it is read: nothing is copied. */
import { parseAddress4 } from '../address.ts';
import type { BgpDumpQuery } from '../api/types.ts';
import type { SpeakerConfig } from '../bgp/config.ts';
import { FAMILIES, type Family } from '../bgp/family.ts';
import {
  encodePeerIndex,
  MAX_PEERS,
  type MrtPeer,
  type TableEntry,
  TableWriter,
  tableAttributes,
} from '../bgp/mrt-table.ts';
import type { Speaker } from '../bgp/speaker.ts';
import type { Path, PathSource } from '../rib/decision.ts';
import { NEXT_HOP_UNREACHABLE, type Rib } from '../rib/rib.ts';
import { VERSION } from '../version.ts';

/** Prefixes until the reader may pause. */
const BREATH = 64;
/** Bytes that are handed over at once. */
const PIECE = 64 * 1024;
/** 0.0.0.0: routes of the table's owner. */
const OWN_ADDRESS = [0];

/**
 * As BgpView.dump says it; `peer` is the address of that of `in`. What the import policy or a loop check refused is left
 * out, unless it is asked what one peer told.
 */
export function* dumpOf(
  speaker: Speaker,
  { asn, routerId }: SpeakerConfig,
  { family: only }: BgpDumpQuery,
  peer: string | null,
): Generator<Uint8Array | null> {
  const time = Math.floor(Date.now() / 1000);
  const collector = parseAddress4(routerId);
  const own: MrtPeer = { id: collector, address: OWN_ADDRESS, asn };
  const peers = [own];
  const numbers = new Map<PathSource, number>([[speaker.local, 0]]);
  const from = peer === null ? null : speaker.source(peer);
  for (const status of speaker.peers().slice(0, MAX_PEERS - 1)) {
    const source = speaker.source(status.address)!;
    numbers.set(source, peers.length);
    peers.push({ id: source.id, address: source.address, asn: source.asn });
  }
  // A path that waits for its next hop is told: it may be reached by those who read the file.
  const isMeant = ({ source, excluded }: Path): boolean =>
    from === null ? excluded === null || excluded === NEXT_HOP_UNREACHABLE : source === from;
  yield encodePeerIndex({ collector, view: `tortie ${VERSION}`, peers }, time);
  const writer = new TableWriter(time, PIECE);
  for (const family of FAMILIES) {
    if ((only ?? family.name) !== family.name) continue;
    const rib = speaker.ribs[family.index];
    // Prefixes that come while this is read have numbers beyond, or places of others that went.
    for (let id = 0; id < rib.end; id++) {
      const entries: TableEntry[] = [];
      for (const path of rib.pathsAt(id)) {
        const number = numbers.get(path.source);
        if (number !== undefined && isMeant(path)) entries.push(entryOf(family, path, number));
      }
      if (entries.length > 0) writer.add(family, prefixBytes(rib, id), entries);
      if (writer.isFull) yield writer.take();
      else if (id % BREATH === 0) yield null;
    }
  }
  yield writer.take();
}

const entryOf = (family: Family, { set, since, pathId }: Path, peer: number): TableEntry => ({
  peer,
  since: Math.floor(since / 1000),
  pathId,
  attributes: tableAttributes(set.bytes, set.nextHop, family),
});

function prefixBytes(rib: Rib, id: number): Uint8Array {
  const length = rib.lengthOf(id);
  const bytes = new Uint8Array(1 + ((length + 7) >> 3));
  bytes[0] = length;
  for (let i = 1; i < bytes.length; i++) {
    bytes[i] = rib.wordOf(id, (i - 1) >> 2) >>> (24 - 8 * ((i - 1) & 3));
  }
  return bytes;
}
