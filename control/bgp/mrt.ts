/**
 * The MRT format (RFC 6396; RFC 8050 for path identifiers): a file is one record after another, each with a common
 * header of 12 bytes: when, what, and how long.
 */
import { TortieError } from '../error.ts';
import { get16, get32, put16, put32 } from './bytes.ts';

export const RECORD_HEADER = 12;
/** Longest record that is read, bytes. The largest that are written in the wild have a tenth of it. */
export const MAX_RECORD = 16 * 1024 * 1024;

export const TABLE_DUMP_V2 = 13;
export const BGP4MP = 16;
/** With microseconds ahead of the body (RFC 6396 section 3). */
export const BGP4MP_ET = 17;

/** Subtypes of TABLE_DUMP_V2. */
export const PEER_INDEX_TABLE = 1;
export const RIB_IPV4_UNICAST = 2;
export const RIB_IPV6_UNICAST = 4;
export const RIB_IPV4_UNICAST_ADDPATH = 8;
export const RIB_IPV6_UNICAST_ADDPATH = 10;

/** Subtypes of BGP4MP and BGP4MP_ET. */
export const STATE_CHANGE = 0;
export const MESSAGE = 1;
export const MESSAGE_AS4 = 4;
export const STATE_CHANGE_AS4 = 5;
export const MESSAGE_LOCAL = 6;
export const MESSAGE_AS4_LOCAL = 7;
export const MESSAGE_ADDPATH = 8;
export const MESSAGE_AS4_ADDPATH = 9;
export const MESSAGE_LOCAL_ADDPATH = 10;
export const MESSAGE_AS4_LOCAL_ADDPATH = 11;

const BGP4MP_NAMES: Readonly<Record<number, string>> = {
  [STATE_CHANGE]: 'STATE_CHANGE',
  [MESSAGE]: 'MESSAGE',
  [MESSAGE_AS4]: 'MESSAGE_AS4',
  [STATE_CHANGE_AS4]: 'STATE_CHANGE_AS4',
  [MESSAGE_LOCAL]: 'MESSAGE_LOCAL',
  [MESSAGE_AS4_LOCAL]: 'MESSAGE_AS4_LOCAL',
  [MESSAGE_ADDPATH]: 'MESSAGE_ADDPATH',
  [MESSAGE_AS4_ADDPATH]: 'MESSAGE_AS4_ADDPATH',
  [MESSAGE_LOCAL_ADDPATH]: 'MESSAGE_LOCAL_ADDPATH',
  [MESSAGE_AS4_LOCAL_ADDPATH]: 'MESSAGE_AS4_LOCAL_ADDPATH',
};

/** Types and subtypes with a name (IANA, "Multi-threaded Routing Toolkit (MRT)"). */
const TYPES: Readonly<Record<number, readonly [name: string, subtypes: Readonly<Record<number, string>>]>> = {
  11: ['OSPFv2', {}],
  12: ['TABLE_DUMP', {}],
  [TABLE_DUMP_V2]: [
    'TABLE_DUMP_V2',
    {
      [PEER_INDEX_TABLE]: 'PEER_INDEX_TABLE',
      [RIB_IPV4_UNICAST]: 'RIB_IPV4_UNICAST',
      3: 'RIB_IPV4_MULTICAST',
      [RIB_IPV6_UNICAST]: 'RIB_IPV6_UNICAST',
      5: 'RIB_IPV6_MULTICAST',
      6: 'RIB_GENERIC',
      7: 'GEO_PEER_TABLE',
      [RIB_IPV4_UNICAST_ADDPATH]: 'RIB_IPV4_UNICAST_ADDPATH',
      9: 'RIB_IPV4_MULTICAST_ADDPATH',
      [RIB_IPV6_UNICAST_ADDPATH]: 'RIB_IPV6_UNICAST_ADDPATH',
      11: 'RIB_IPV6_MULTICAST_ADDPATH',
      12: 'RIB_GENERIC_ADDPATH',
    },
  ],
  [BGP4MP]: ['BGP4MP', BGP4MP_NAMES],
  [BGP4MP_ET]: ['BGP4MP_ET', BGP4MP_NAMES],
  32: ['ISIS', {}],
  33: ['ISIS_ET', {}],
  48: ['OSPFv3', {}],
  49: ['OSPFv3_ET', {}],
};

export interface MrtRecord {
  readonly type: number;
  readonly subtype: number;
  /** Seconds since the epoch. */
  readonly time: number;
  /** Where the record begins in its file, uncompressed: bytes. */
  readonly offset: number;
  /** The body is bytes[at..end). It is good until the reader is given more. */
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly end: number;
}

/** "TABLE_DUMP_V2 RIB_IPV4_UNICAST", or numbers where there is no name. */
export function kindOf({ type, subtype }: Pick<MrtRecord, 'type' | 'subtype'>): string {
  const [name, subtypes] = TYPES[type] ?? [`type ${type}`, {}];
  return `${name} ${subtypes[subtype] ?? `subtype ${subtype}`}`;
}

/** A record whose body is not what its header says. It is skipped: the next one can be found. */
export class MrtFault extends Error {}

const broken = (message: string) => new TortieError('MRT_FILE', message);

/** From the bytes of a file, in pieces of any size, to its records. Holds less than one record. */
export class RecordReader {
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  /** Of #bytes[#at] in the file. */
  #offset = 0;

  push(chunk: Uint8Array): void {
    const rest = this.#bytes.length - this.#at;
    if (rest === 0) this.#bytes = chunk;
    else {
      const joined = new Uint8Array(rest + chunk.length);
      joined.set(this.#bytes.subarray(this.#at));
      joined.set(chunk, rest);
      this.#bytes = joined;
    }
    this.#at = 0;
  }

  /** Bytes of records that were taken. */
  get offset(): number {
    return this.#offset;
  }

  /** The next whole record, or null until more arrives. Throws MRT_FILE at a header that cannot be one. */
  next(): MrtRecord | null {
    const bytes = this.#bytes;
    const start = this.#at;
    if (bytes.length - start < RECORD_HEADER) return null;
    const type = get16(bytes, start + 4);
    const length = get32(bytes, start + 8) >>> 0;
    const offset = this.#offset;
    if (offset === 0 && !(type in TYPES)) {
      throw broken(`no MRT file: its first record would be of type ${type}, which MRT does not have`);
    }
    if (length > MAX_RECORD) {
      const most = `at most ${MAX_RECORD} are read`;
      throw broken(`at offset ${offset}: a record of ${length} bytes, ${most}; the file is damaged there`);
    }
    const end = start + RECORD_HEADER + length;
    if (end > bytes.length) return null;
    this.#at = end;
    this.#offset += end - start;
    return {
      type,
      subtype: get16(bytes, start + 6),
      time: get32(bytes, start) >>> 0,
      offset,
      bytes,
      at: start + RECORD_HEADER,
      end,
    };
  }

  /** There is no more. Throws MRT_FILE if the file ends within a record, or has none. */
  finish(): void {
    const rest = this.#bytes.length - this.#at;
    if (rest > 0) {
      throw broken(
        `cut short: it ends ${rest} bytes into the record at offset ${this.#offset}; copy it anew`,
      );
    }
    if (this.#offset === 0) throw broken('empty: an MRT file has at least one record');
  }
}

/** Write the header of a record at `at`; its body lies behind it and ends at `end`. */
export function putHeader(
  bytes: Uint8Array,
  at: number,
  end: number,
  time: number,
  type: number,
  subtype: number,
): void {
  put32(bytes, at, time);
  put16(bytes, at + 4, type);
  put16(bytes, at + 6, subtype);
  put32(bytes, at + 8, end - at - RECORD_HEADER);
}
