/**
 * A burst: one arena of bytes and one row of sixteen int32 (a cache line) a frame. The addon fills rows on receive and reads
 * them on transmit, so a whole burst crosses the language border in one call.
 */

/** int32 cells in a row. */
export const ROW = 16;
/** Byte offset of the frame in the arena. */
export const OFFSET = 0;
/** Length of the frame in bytes. */
export const LENGTH = 1;
/** Port id: on receive unused, on transmit the ingress port that a failed send is charged to. */
export const PORT = 2;
/** IPv4 address, host order: on receive the outer source, on transmit the outer destination. */
export const ADDRESS = 3;
/** UDP port: on receive the outer source port, on transmit the wanted source port (picks the sending socket). */
export const UDP_PORT = 4;
/** Outer TOS byte (DSCP and ECN). */
export const TOS = 5;
/** Written by transmit: 0, or the errno of the failed send. */
export const STATUS = 6;
/** Payload bytes of each segment but the last when the frame is a super-frame (virtio's gso_size), else 0. */
export const SEGMENT = 7;
/** Bits below: what was left for a device to do when the frame was handed to us, and is left still. */
export const OFFLOAD = 8;
/**
 * With PARTIAL_CHECKSUM: where in the arena the checksummed bytes begin (they end with the frame), and where
 * the checksum field is, which holds the folded sum of the pseudo header. Positions in the arena, since
 * neither encapsulation nor decapsulation moves a payload.
 */
export const CHECKSUM_START = 9;
export const CHECKSUM_FIELD = 10;
/**
 * On transmit: how many rows of the same array, from row PIECE on, hold the rest. To a TAP: the frame is this
 * row's bytes and those of its pieces one behind another (a joined super-frame). To a tunnel's socket: each
 * piece is a packet of its own, and this row's own bytes are not sent (a super-frame that was cut); SEGMENT is
 * then the size of each packet but the last, when the kernel is to cut a run of them, or 0.
 */
export const PIECES = 11;
export const PIECE = 12;
/** Arena position behind the last header, which the kernel wants contiguous; 0: not known. */
export const HEADERS_END = 13;
/**
 * To a TAP, of a super-frame in a UDP tunnel: arena positions of the outer UDP and the inner IP header, else 0.
 * The outer checksum field then holds the sum of its pseudo header.
 */
export const OUTER_TRANSPORT = 14;
export const INNER_NETWORK = 15;
/** In a piece: a second run of bytes behind the first, so that new headers can go before an old payload. */
export const BODY_OFFSET = 14;
export const BODY_LENGTH = 15;

/** Bits of OFFLOAD. The low byte is virtio's gso_type without its ECN bit: 0 none, 1 TCPv4, 4 TCPv6, 5 UDP (USO). */
export const SUPER_TCP4 = 1;
export const SUPER_TCP6 = 4;
export const SUPER_UDP = 5;
export const SUPER_MASK = 0xff;
/** The segments' CWR flag is on the first only (virtio's GSO_ECN, RFC 3168 6.1.2). */
export const SUPER_ECN = 0x100;
/** The transport checksum is still to be completed (virtio's NEEDS_CSUM). */
export const PARTIAL_CHECKSUM = 0x200;
/** The transport checksum was found right by who handed us the frame (virtio's DATA_VALID). */
export const CHECKED = 0x400;
/** Came from a tunnel's wire: it may be joined with its neighbours (dataplane/offload/join.ts). */
export const SEGMENTED = 0x800;
/** Shares its receive buffer with the frame before it: nothing but 14 bytes may be written in front of it. */
export const TIGHT = 0x1000;
