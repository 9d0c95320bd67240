/**
 * What MRT files hold, in RIBs of its own: the tables and the decision process of the speaker, without one. No policy is
 * applied and every next hop counts as reachable: files say neither.
 *
 * A record, a path or a message that cannot be read is counted and left out, and the next one is looked at. Only where
 * no next record can be found does it end, see RecordReader.
 */
import type { PathSource } from '../rib/decision.ts';
import { MAX_SOURCES, Rib } from '../rib/rib.ts';
import { type AttributeSet, AttributeTable, hashOf } from './attribute-table.ts';
import { type AttributeContext, type Attributes, decodeAttributes } from './attributes.ts';
import { BgpError } from './error.ts';
import { FAMILIES, type Family, type FamilyName, formatWords, IPV4, IPV6 } from './family.ts';
import { checkHeader, decodeOpen, HEADER, MAX_EXTENDED_MESSAGE, OPEN, UPDATE } from './message.ts';
import {
  BGP4MP,
  BGP4MP_ET,
  kindOf,
  MrtFault,
  type MrtRecord,
  PEER_INDEX_TABLE,
  TABLE_DUMP_V2,
} from './mrt.ts';
import { type Bgp4mp, decodeBgp4mp, ESTABLISHED } from './mrt-message.ts';
import {
  decodePeerIndex,
  entriesIn,
  type MrtPeer,
  prefixIn,
  type RibEntry,
  ribForm,
  tableNextHop,
} from './mrt-table.ts';
import { decodePrefixes, PATH_ID, PrefixList } from './nlri.ts';
import { UpdateDecoder } from './update.ts';

/** Kinds of records, and of faults, that are told apart. */
const MAX_KINDS = 64;
/** Attribute lists that are recognised without decoding them again; a power of two. */
const MEMORY = 4096;

/** So many of a kind; `offset`: where the first was in the file, uncompressed. */
export interface MrtCount {
  readonly what: string;
  readonly count: number;
  readonly offset: number;
}

export interface MrtSummary {
  /** Seconds since the epoch; null: there is no record. */
  readonly from: number | null;
  readonly to: number | null;
  readonly records: MrtCount[];
  /** Records of kinds that are not read. */
  readonly skipped: MrtCount[];
  readonly malformed: MrtCount[];
  readonly peers: number;
  readonly tables: { family: FamilyName; prefixes: number; paths: number; bytes: number }[];
  readonly attributeSets: number;
}

interface Remembered {
  readonly hash: number;
  readonly raw: Uint8Array;
  readonly set: AttributeSet;
}

class Counts {
  readonly #kinds = new Map<string, { count: number; offset: number }>();

  add(what: string, offset: number): void {
    const known = this.#kinds.get(what);
    if (known) known.count++;
    else if (this.#kinds.size < MAX_KINDS) this.#kinds.set(what, { count: 1, offset });
    else this.add([...this.#kinds.keys()].at(-1)!, offset);
  }

  list(): MrtCount[] {
    return [...this.#kinds].map(([what, { count, offset }]) => ({ what, count, offset }));
  }
}

export class MrtLoader {
  readonly table = new AttributeTable();
  readonly ribs: readonly [Rib, Rib];
  readonly #asn: number | null;
  readonly #records = new Counts();
  readonly #skipped = new Counts();
  readonly #malformed = new Counts();
  /** By AS and address, and for those of a table by identifier, too. */
  readonly #sources = new Map<string, PathSource>();
  #sourceCount = 0;
  /** Of the table that is read, by number. */
  #peers: readonly PathSource[] = [];
  readonly #decoders = new Map<string, UpdateDecoder>();
  readonly #memory: (Remembered | undefined)[] = new Array(MEMORY);
  readonly #prefix = [new PrefixList(IPV4), new PrefixList(IPV6)] as const;
  readonly #context: AttributeContext;
  #from: number | null = null;
  #to: number | null = null;
  /** When what is announced now came, ms since the epoch. */
  #now = 0;

  /** `asn`: our AS, for files that do not say it: peers of the same AS are internal ones. */
  constructor({ asn = null }: { asn?: number | null } = {}) {
    this.#asn = asn;
    const clock = () => this.#now;
    this.ribs = [new Rib(IPV4, this.table, clock), new Rib(IPV6, this.table, clock)];
    this.#context = {
      as4: true,
      ibgp: true,
      firstAs: null,
      families: [true, true],
      addPath: [false, false],
      nextHop6: true,
      nextHops: this.table.nextHops,
    };
  }

  take(record: MrtRecord): void {
    const { type, subtype, time, offset } = record;
    this.#from = Math.min(this.#from ?? time, time);
    this.#to = Math.max(this.#to ?? time, time);
    this.#records.add(kindOf(record), offset);
    try {
      let isRead = false;
      if (type === TABLE_DUMP_V2) isRead = this.#takeTable(record, subtype);
      else if (type === BGP4MP || type === BGP4MP_ET) isRead = this.#takeMessage(record);
      if (!isRead) this.#skipped.add(kindOf(record), offset);
    } catch (error) {
      if (!(error instanceof MrtFault) && !(error instanceof BgpError)) throw error;
      this.#malformed.add(`${kindOf(record)}: ${error.message}`, offset);
    }
  }

  /** All best paths are chosen. */
  async settled(): Promise<void> {
    while (this.ribs.some((rib) => !rib.isSettled)) await new Promise((resolve) => setImmediate(resolve));
  }

  summary(): MrtSummary {
    return {
      from: this.#from,
      to: this.#to,
      records: this.#records.list(),
      skipped: this.#skipped.list(),
      malformed: this.#malformed.list(),
      peers: this.#sourceCount,
      tables: FAMILIES.map(({ name, index }) => {
        const { size, pathCount, bytes } = this.ribs[index];
        return { family: name, prefixes: size, paths: pathCount, bytes };
      }),
      attributeSets: this.table.size,
    };
  }

  // ---- Peers -----------------------------------------------------------------------------------------

  #source(asn: number, address: readonly number[], id: number | null, localAsn: number | null): PathSource {
    const name = formatWords(address.length === 1 ? IPV4 : IPV6, address);
    const key = `${asn} ${name}`;
    const known = this.#sources.get(id === null ? key : `${key} ${id}`);
    if (known) return known;
    if (this.#sourceCount + 1 >= MAX_SOURCES) throw new MrtFault(`more than ${MAX_SOURCES - 1} peers`);
    const local = address.every((word) => word === 0);
    const source: PathSource = {
      index: ++this.#sourceCount,
      name: local ? '' : name,
      address,
      id: id ?? 0,
      asn,
      internal: !local && asn === (this.#asn ?? localAsn),
      client: false,
      local,
    };
    if (!this.#sources.has(key)) this.#sources.set(key, source);
    if (id !== null) this.#sources.set(`${key} ${id}`, source);
    for (const rib of this.ribs) rib.addSource(source);
    return source;
  }

  // ---- Tables ----------------------------------------------------------------------------------------

  #takeTable(record: MrtRecord, subtype: number): boolean {
    if (subtype === PEER_INDEX_TABLE) {
      const { peers } = decodePeerIndex(record);
      // The owner's own entry tells its AS, which nothing else in a table does.
      const own = peers.find(({ address, asn }) => asn !== 0 && address.every((word) => word === 0));
      this.#peers = peers.map(({ id, address, asn }: MrtPeer) =>
        this.#source(asn, address, id, own?.asn ?? null),
      );
      return true;
    }
    const form = ribForm(subtype);
    if (!form) return false;
    const list = this.#prefix[form.family.index];
    const { from, to } = prefixIn(record, form.family);
    list.clear();
    decodePrefixes(record.bytes, from, to, false, list);
    try {
      for (const entry of entriesIn(record, to, form.addPath))
        this.#takeEntry(record, form.family, list, entry);
    } finally {
      this.ribs[form.family.index].settle();
    }
    return true;
  }

  #takeEntry(record: MrtRecord, family: Family, list: PrefixList, entry: RibEntry): void {
    const source = this.#peers[entry.peer];
    if (!source) {
      const most = `the table has ${this.#peers.length}`;
      return this.#malformed.add(`${kindOf(record)}: peer ${entry.peer}, ${most}`, record.offset);
    }
    const set = this.#setOf(record, entry);
    if (!set) return;
    list.data[PATH_ID] = entry.pathId;
    this.#now = entry.since * 1000;
    this.ribs[family.index].announceOne(source, set, list.data, 0);
    this.table.release(set.id);
  }

  /** The attributes of a path, held once more; null: they cannot be read. */
  #setOf(record: MrtRecord, { at, end }: RibEntry): AttributeSet | null {
    const { bytes } = record;
    const hash = hashOf(bytes, at, end);
    const known = this.#memory[hash & (MEMORY - 1)];
    if (known?.hash === hash && isSame(known.raw, bytes, at, end) && this.table.isHeld(known.set)) {
      this.table.hold(known.set.id);
      return known.set;
    }
    try {
      const set = this.table.acquire(this.#decode(record, at, end));
      this.#memory[hash & (MEMORY - 1)] = { hash, raw: bytes.slice(at, end), set };
      return set;
    } catch (error) {
      if (!(error instanceof MrtFault) && !(error instanceof BgpError)) throw error;
      this.#malformed.add(`${kindOf(record)}: ${error.message}`, record.offset);
      return null;
    }
  }

  #decode(record: MrtRecord, at: number, end: number): Attributes {
    const { bytes } = record;
    const hop = tableNextHop(bytes, at, end);
    const list = new Uint8Array(end - at - (hop ? hop.to - hop.from : 0));
    list.set(bytes.subarray(at, hop?.from ?? end));
    if (hop) list.set(bytes.subarray(hop.to, end), hop.from - at);
    const { attributes, fault, discarded } = decodeAttributes(list, 0, list.length, this.#context);
    if (fault) throw new MrtFault(fault);
    for (const text of discarded) this.#malformed.add(`${kindOf(record)}: left out: ${text}`, record.offset);
    if (!hop?.words) return attributes;
    const family = hop.words.length === 1 ? IPV4 : IPV6;
    return { ...attributes, nextHop: this.table.nextHops.at(family, hop.words, hop.linkLocal) };
  }

  // ---- Messages --------------------------------------------------------------------------------------

  #takeMessage(record: MrtRecord): boolean {
    const message = decodeBgp4mp(record);
    if (!message || message.isLocal) return false;
    const { peerAsn, peer, localAsn, states } = message;
    const source = this.#source(peerAsn, peer, null, localAsn);
    if (states) {
      if (states.from === ESTABLISHED && states.to !== ESTABLISHED) this.#forget(source);
      return true;
    }
    const { bytes, at, end, time } = { ...record, ...message };
    if (end - at < HEADER) throw new MrtFault(`a message of ${end - at} bytes`);
    const length = checkHeader(bytes, at, MAX_EXTENDED_MESSAGE);
    if (at + length > end)
      throw new MrtFault(`a message of ${length} bytes in a record with room for ${end - at}`);
    const stop = at + length;
    const type = bytes[at + 18];
    if (type === OPEN) source.id = decodeOpen(bytes, at + HEADER, stop).routerId;
    if (type !== UPDATE) return true;
    this.#now = time * 1000;
    this.#takeUpdate(record, source, this.#decoder(source, message), at + HEADER, stop);
    return true;
  }

  #takeUpdate(record: MrtRecord, source: PathSource, decoder: UpdateDecoder, at: number, end: number): void {
    const { withdrawn, announced, fault, discarded } = decoder.decode(record.bytes, at, end);
    if (fault) this.#malformed.add(`UPDATE: ${fault}`, record.offset);
    for (const text of discarded) this.#malformed.add(`UPDATE: left out: ${text}`, record.offset);
    for (const { index } of FAMILIES) this.ribs[index].withdraw(source, withdrawn[index]);
    for (const { set, prefixes } of announced)
      this.ribs[prefixes.family.index].announce(source, set, prefixes);
    decoder.release();
  }

  #decoder({ index, internal }: PathSource, { as4, addPath }: Bgp4mp): UpdateDecoder {
    const key = `${index} ${as4} ${addPath}`;
    let decoder = this.#decoders.get(key);
    if (!decoder) {
      const context = { ...this.#context, as4, ibgp: internal, addPath: [addPath, addPath] as const };
      decoder = new UpdateDecoder(context, this.table);
      this.#decoders.set(key, decoder);
    }
    return decoder;
  }

  #forget(source: PathSource): void {
    for (const rib of this.ribs) {
      rib.markStale(source);
      rib.sweepStale(source);
    }
  }
}

function isSame(raw: Uint8Array, bytes: Uint8Array, at: number, end: number): boolean {
  if (raw.length !== end - at) return false;
  for (let i = 0; i < raw.length; i++) if (raw[i] !== bytes[at + i]) return false;
  return true;
}
