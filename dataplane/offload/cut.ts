/**
 * Cutting a super-frame into the packets that it stands for, byte for byte as the kernel's own segmentation
 * would (net/ipv4/tcp_offload.c and udp_offload.c of Linux): IP identification counts up, TCP sequence numbers
 * go on, CWR is on the first segment only, FIN and PSH on the last only, all else is copied.
 *
 * Only headers are written; a payload stays where it was received. Transport checksums are left partial, for
 * the addon to complete as it sends.
 */
import {
  BODY_LENGTH,
  BODY_OFFSET,
  CHECKSUM_FIELD,
  CHECKSUM_START,
  HEADERS_END,
  LENGTH,
  OFFLOAD,
  OFFSET,
  PARTIAL_CHECKSUM,
  PIECE,
  PIECES,
  ROW,
  SEGMENT,
  SUPER_MASK,
  SUPER_UDP,
} from '../memory/burst.ts';
import { fold, get16, get32, put16, put32, sum16, viewOf } from '../wire/bytes.ts';
import { PROTOCOL_TCP, PROTOCOL_UDP, putHeaderChecksum } from '../wire/ipv4.ts';
import { CWR, FIN, PSH, TCP_CHECKSUM } from '../wire/tcp.ts';
import { UDP_LENGTH } from '../wire/udp.ts';

/** Most packets that one super-frame is cut into; smaller segments are not worth a super-frame. */
export const MAX_SEGMENTS = 1024;
/** Bytes of the arena that one packet's headers take: tunnel, IPv6 with a little, TCP with options. */
const HEADER_ROOM = 256;
/** Bytes of the arena that cutting needs for the headers of a burst. */
export const CUT_ROOM = 4 * MAX_SEGMENTS * HEADER_ROOM;

/** What goes in front of each packet, and must be made to fit it. */
export const PREFIX_FIXED = 0;
/** An outer IPv4 header comes first: total length, identification and checksum are each packet's own. */
export const PREFIX_IPV4 = 1;

/** A worker's room for cutting: headers in the arena from `start` on, piece rows in `rows` from `first` on. */
export class Cutter {
  readonly #arena: Uint8Array;
  readonly #bytes: DataView;
  readonly #start: number;
  #next = 0;
  #piece = 0;

  constructor(arena: Uint8Array, start: number) {
    this.#arena = arena;
    this.#bytes = viewOf(arena);
    this.#start = start;
  }

  /** Begin a new burst of which the pieces go to rows from `firstPiece` on. */
  begin(firstPiece: number): void {
    this.#next = this.#start;
    this.#piece = firstPiece;
  }

  /**
   * Cut the super-frame in `row`: its inner IP header is at `ip`, and the `ip - OFFSET` bytes before it go in
   * front of each packet. Points PIECES and PIECE of the row at the packets. False: it has too many segments,
   * or no room is left; nothing was changed.
   */
  cut(rows: Int32Array, row: number, ip: number, prefixKind: number): boolean {
    const bytes = this.#bytes;
    const segment = rows[row + SEGMENT];
    const offset = rows[row + OFFSET];
    const headersEnd = rows[row + HEADERS_END];
    const end = offset + rows[row + LENGTH];
    const headers = headersEnd - offset;
    const count = Math.ceil((end - headersEnd) / segment);
    if (
      count > MAX_SEGMENTS ||
      headers > HEADER_ROOM ||
      this.#next + count * HEADER_ROOM > this.#start + CUT_ROOM ||
      (this.#piece + count) * ROW > rows.length
    )
      return false;

    const isUdp = (rows[row + OFFLOAD] & SUPER_MASK) === SUPER_UDP;
    const isIpv4 = bytes.getUint8(ip) >> 4 === 4;
    const transport = rows[row + CHECKSUM_START];
    const ipAt = ip - offset;
    const transportAt = transport - offset;
    // The pseudo header but for its length (RFC 9293 3.1, RFC 8200 8.1).
    const addresses = isIpv4 ? sum16(bytes, ip + 12, 8, 0) : sum16(bytes, ip + 8, 32, 0);
    const pseudo = addresses + (isUdp ? PROTOCOL_UDP : PROTOCOL_TCP);
    const identification = get16(bytes, ip + 4);
    const outerIdentification = get16(bytes, offset + 4);
    const sequence = isUdp ? 0 : get32(bytes, transport + 4);
    const flags = isUdp ? 0 : bytes.getUint8(transport + 13);

    for (let i = 0; i < count; i++) {
      const body = headersEnd + i * segment;
      const bodyLength = i === count - 1 ? end - body : segment;
      const at = this.#next;
      this.#next += HEADER_ROOM;
      // The first copy is made from the frame, of which nothing is written.
      this.#arena.copyWithin(at, offset, headersEnd);
      const packet = at + ipAt;
      const upper = at + transportAt;
      const upperLength = headers - transportAt + bodyLength;
      if (isIpv4) {
        put16(bytes, packet + 2, headers - ipAt + bodyLength);
        put16(bytes, packet + 4, identification + i);
        putHeaderChecksum(bytes, packet);
      } else {
        put16(bytes, packet + 4, headers - ipAt - 40 + bodyLength);
      }
      if (prefixKind === PREFIX_IPV4) {
        put16(bytes, at + 2, headers + bodyLength);
        put16(bytes, at + 4, outerIdentification + i);
        putHeaderChecksum(bytes, at);
      }
      const partial = fold(pseudo + upperLength);
      let field: number;
      if (isUdp) {
        field = upper + UDP_LENGTH - 2;
        put16(bytes, upper + 4, upperLength);
      } else {
        field = upper + TCP_CHECKSUM;
        put32(bytes, upper + 4, (sequence + i * segment) | 0);
        let own = flags;
        if (i > 0) own &= ~CWR;
        if (i < count - 1) own &= ~(FIN | PSH);
        bytes.setUint8(upper + 13, own);
      }
      put16(bytes, field, partial);

      const piece = this.#piece++ * ROW;
      rows[piece + OFFSET] = at;
      rows[piece + LENGTH] = headers;
      rows[piece + BODY_OFFSET] = body;
      rows[piece + BODY_LENGTH] = bodyLength;
      rows[piece + OFFLOAD] = PARTIAL_CHECKSUM | (rows[row + OFFLOAD] & SUPER_MASK);
      rows[piece + CHECKSUM_START] = upper;
      rows[piece + CHECKSUM_FIELD] = field;
      rows[piece + PIECES] = 0;
    }
    rows[row + PIECE] = this.#piece - count;
    rows[row + PIECES] = count;
    return true;
  }
}

/** Length of the longest packet that a super-frame is cut into, from its IP header at `ip` on; bytes. */
export function longestPacket(rows: Int32Array, row: number, ip: number): number {
  return rows[row + HEADERS_END] - ip + rows[row + SEGMENT];
}
