/**
 * Traced packets as pcapng (draft-ietf-opsawg-pcapng), with what was done with each as its comment, so that Wireshark shows both. Ports
 * are interfaces of the file. A frame from a VXLAN socket begins with its VXLAN header, which no link type has: it is written as an
 * exported PDU of UDP's port.
 */
import type { PortKind } from '../dataplane/messages.ts';
import { LINK_ETHERNET, LINK_RAW } from '../dataplane/port/pcap.ts';
import { VXLAN_PORT } from '../dataplane/wire/vxlan.ts';

const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const ENHANCED_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const LINK_EXPORTED_PDU = 252;
/** Options, by block. */
const OPT_COMMENT = 1;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;
/** The packet was received. */
const INBOUND = 1;
/** Tags of an exported PDU: the dissector by its table and number. */
const PDU_TABLE = 14;
const PDU_TABLE_NUMBER = 32;
const MICROSECONDS = 6;
/** Most bytes of an option. */
const MOST_COMMENT = 65_532;

export interface PcapngPacket {
  readonly port: string;
  readonly kind: PortKind;
  /** Milliseconds since 1970. */
  readonly time: number;
  /** Bytes as received, and how many there were. */
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly comment: string;
}

/** Makes the pieces of a file: `head` once, then `packet` of each. */
export class PcapngWriter {
  readonly #interfaces = new Map<string, number>();

  head(program: string): Buffer {
    const fixed = Buffer.alloc(16);
    fixed.writeUInt32LE(BYTE_ORDER, 0);
    fixed.writeUInt16LE(1, 4);
    // The section's length is not known.
    fixed.writeBigInt64LE(-1n, 8);
    return block(SECTION, fixed, [option(SHB_USERAPPL, Buffer.from(program))]);
  }

  packet({ port, kind, time, bytes, length, comment }: PcapngPacket): Buffer {
    const before: Buffer[] = [];
    let number = this.#interfaces.get(port);
    if (number === undefined) {
      number = this.#interfaces.size;
      this.#interfaces.set(port, number);
      before.push(interfaceBlock(port, kind));
    }
    const front = isVxlan(kind) ? exportedPdu(VXLAN_PORT) : Buffer.alloc(0);
    const data = Buffer.concat([front, bytes]);
    const fixed = Buffer.alloc(20);
    const microseconds = BigInt(Math.round(time * 1000));
    fixed.writeUInt32LE(number, 0);
    fixed.writeUInt32LE(Number(microseconds >> 32n), 4);
    fixed.writeUInt32LE(Number(microseconds & 0xffffffffn), 8);
    fixed.writeUInt32LE(data.length, 12);
    fixed.writeUInt32LE(front.length + length, 16);
    const flags = Buffer.alloc(4);
    flags.writeUInt32LE(INBOUND);
    const text = Buffer.from(comment).subarray(0, MOST_COMMENT);
    const options = [option(OPT_COMMENT, text), option(EPB_FLAGS, flags)];
    return Buffer.concat([...before, block(ENHANCED_PACKET, Buffer.concat([fixed, padded(data)]), options)]);
  }
}

const isVxlan = (kind: PortKind): boolean => kind === 'vxlan' || kind === 'vxlan6';

function interfaceBlock(name: string, kind: PortKind): Buffer {
  const fixed = Buffer.alloc(8);
  const isDevice = kind === 'pod' || kind === 'host';
  const link = isVxlan(kind) ? LINK_EXPORTED_PDU : isDevice ? LINK_ETHERNET : LINK_RAW;
  fixed.writeUInt16LE(link, 0);
  return block(INTERFACE, fixed, [
    option(IF_NAME, Buffer.from(name)),
    option(IF_TSRESOL, Buffer.of(MICROSECONDS)),
  ]);
}

/** Tags in network order: what UDP of this port is dissected as, and the end. */
function exportedPdu(port: number): Buffer {
  const number = Buffer.alloc(4);
  number.writeUInt32BE(port);
  return Buffer.concat([
    tag(PDU_TABLE, Buffer.from('udp.port')),
    tag(PDU_TABLE_NUMBER, number),
    Buffer.alloc(4),
  ]);
}

function tag(code: number, value: Uint8Array): Buffer {
  const head = Buffer.alloc(4);
  const body = padded(value);
  head.writeUInt16BE(code, 0);
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, body]);
}

const padded = (bytes: Uint8Array): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

function option(code: number, value: Uint8Array): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(code, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, padded(value)]);
}

function block(type: number, body: Uint8Array, options: readonly Buffer[]): Buffer {
  const end = Buffer.alloc(4);
  const inner = Buffer.concat([body, ...options, end]);
  const head = Buffer.alloc(8);
  const tail = Buffer.alloc(4);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(inner.length + 12, 4);
  tail.writeUInt32LE(inner.length + 12, 0);
  return Buffer.concat([head, inner, tail]);
}
