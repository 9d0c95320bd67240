/**
 * Capture files as ports: a reader for pcap (both byte orders, micro- and nanoseconds) and pcapng (section,
 * interface, enhanced and simple packet blocks), and a writer of the classic microsecond pcap that every tool
 * reads. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
 */

/** Link types that tortie reads and writes (LINKTYPE registry). */
export const LINK_ETHERNET = 1;
/** Packets begin with their IP header. 101 is RAW; some systems write 12 or 14, others 228 for IPv4. */
export const LINK_RAW = 101;
const RAW_ALIASES = new Set([12, 14, 228]);

export interface PcapRecord {
  /** Nanoseconds since the epoch. */
  readonly time: bigint;
  readonly link: number;
  /** The bytes that were captured, a view into the file. */
  readonly data: Uint8Array;
  /** Length on the wire; more than data.length if the capture was cut short. */
  readonly wireLength: number;
}

/** A capture that cannot be read: says where. `code` is stable. */
export class PcapError extends Error {
  readonly code: 'PCAP_FORMAT' | 'PCAP_TRUNCATED';
  constructor(code: PcapError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

const MICRO = 0xa1b2c3d4;
const NANO = 0xa1b23c4d;
const SECTION = 0x0a0d0d0a;
const BYTE_ORDER = 0x1a2b3c4d;

/** The records of a capture file of either format, in file order. */
export function* readPcap(file: Uint8Array): Generator<PcapRecord> {
  if (file.length < 24)
    throw new PcapError('PCAP_FORMAT', `${file.length} bytes are too few for a capture file`);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const magic = view.getUint32(0);
  if (magic === SECTION) yield* readBlocks(file, view);
  else yield* readClassic(file, view, magic);
}

function* readClassic(file: Uint8Array, view: DataView, magic: number): Generator<PcapRecord> {
  const swapped = swap32(magic);
  const little = swapped === MICRO || swapped === NANO;
  if (!little && magic !== MICRO && magic !== NANO) {
    throw new PcapError('PCAP_FORMAT', `magic number 0x${magic.toString(16)} is neither pcap nor pcapng`);
  }
  const unit = magic === NANO || swapped === NANO ? 1n : 1000n;
  const link = normalLink(view.getUint32(20, little) & 0xffff);
  let at = 24;
  while (at < file.length) {
    if (at + 16 > file.length) throw truncated(at);
    const captured = view.getUint32(at + 8, little);
    if (at + 16 + captured > file.length) throw truncated(at);
    yield {
      time:
        BigInt(view.getUint32(at, little)) * 1_000_000_000n + BigInt(view.getUint32(at + 4, little)) * unit,
      link,
      data: file.subarray(at + 16, at + 16 + captured),
      wireLength: view.getUint32(at + 12, little),
    };
    at += 16 + captured;
  }
}

interface Interface {
  readonly link: number;
  readonly snaplen: number;
  /** Ticks a second. */
  readonly resolution: bigint;
}

function* readBlocks(file: Uint8Array, view: DataView): Generator<PcapRecord> {
  let little = false;
  let interfaces: Interface[] = [];
  let at = 0;
  while (at < file.length) {
    if (at + 12 > file.length) throw truncated(at);
    const section = view.getUint32(at) === SECTION;
    if (section) {
      little = view.getUint32(at + 8, true) === BYTE_ORDER;
      if (!little && view.getUint32(at + 8) !== BYTE_ORDER) {
        throw new PcapError('PCAP_FORMAT', `byte ${at}: section without a byte-order magic`);
      }
      interfaces = [];
    }
    const type = view.getUint32(at, little);
    const length = view.getUint32(at + 4, little);
    if (length < 12 || length % 4 !== 0)
      throw new PcapError('PCAP_FORMAT', `byte ${at}: block length ${length}`);
    if (at + length > file.length) throw truncated(at);
    const body = at + 8;
    const end = at + length - 4;
    if (type === 1 && end - body >= 8) {
      interfaces.push({
        link: normalLink(view.getUint16(body, little)),
        snaplen: view.getUint32(body + 4, little),
        resolution: resolutionOf(view, body + 8, end, little),
      });
    } else if (type === 6 && end - body >= 20) {
      const from = interfaceAt(interfaces, view.getUint32(body, little), at);
      const ticks =
        (BigInt(view.getUint32(body + 4, little)) << 32n) | BigInt(view.getUint32(body + 8, little));
      const captured = view.getUint32(body + 12, little);
      if (body + 20 + captured > end) throw truncated(at);
      yield {
        time: (ticks * 1_000_000_000n) / from.resolution,
        link: from.link,
        data: file.subarray(body + 20, body + 20 + captured),
        wireLength: view.getUint32(body + 16, little),
      };
    } else if (type === 3 && end - body >= 4) {
      const from = interfaceAt(interfaces, 0, at);
      const wireLength = view.getUint32(body, little);
      const limit = from.snaplen === 0 ? wireLength : Math.min(wireLength, from.snaplen);
      const captured = Math.min(limit, end - body - 4);
      yield { time: 0n, link: from.link, data: file.subarray(body + 4, body + 4 + captured), wireLength };
    }
    at += length;
  }
}

function interfaceAt(interfaces: Interface[], index: number, at: number): Interface {
  const found = interfaces[index];
  if (!found)
    throw new PcapError('PCAP_FORMAT', `byte ${at}: packet of interface ${index}, which is not described`);
  return found;
}

/** The if_tsresol option (code 9): a power of ten, or of two with the top bit set; default 10^6. */
function resolutionOf(view: DataView, start: number, end: number, little: boolean): bigint {
  let at = start;
  while (at + 4 <= end) {
    const code = view.getUint16(at, little);
    const length = view.getUint16(at + 2, little);
    if (code === 0) break;
    if (code === 9 && length === 1 && at + 5 <= end) {
      const value = view.getUint8(at + 4);
      return value & 0x80 ? 2n ** BigInt(value & 0x7f) : 10n ** BigInt(value);
    }
    at += 4 + ((length + 3) & ~3);
  }
  return 1_000_000n;
}

const normalLink = (link: number): number => (RAW_ALIASES.has(link) ? LINK_RAW : link);
const truncated = (at: number) =>
  new PcapError('PCAP_TRUNCATED', `byte ${at}: the file ends inside a packet`);
const swap32 = (value: number): number =>
  (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;

/** Collects frames into a classic little-endian microsecond pcap. */
export class PcapWriter {
  readonly #parts: Buffer[] = [];

  constructor(link: number) {
    const header = Buffer.alloc(24);
    header.writeUInt32LE(MICRO, 0);
    header.writeUInt16LE(2, 4);
    header.writeUInt16LE(4, 6);
    header.writeUInt32LE(262144, 16);
    header.writeUInt32LE(link, 20);
    this.#parts.push(header);
  }

  /** Append a copy of a frame; `time` in nanoseconds since the epoch. */
  write(time: bigint, frame: Uint8Array): void {
    const header = Buffer.alloc(16);
    header.writeUInt32LE(Number(time / 1_000_000_000n), 0);
    header.writeUInt32LE(Number((time % 1_000_000_000n) / 1000n), 4);
    header.writeUInt32LE(frame.length, 8);
    header.writeUInt32LE(frame.length, 12);
    this.#parts.push(header, Buffer.from(frame));
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
