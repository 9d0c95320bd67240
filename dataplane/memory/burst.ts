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
 * On transmit: pieces of the frame beside this row's own, which follow as rows of which only OFFSET and LENGTH
 * count; the frame is all of them one behind another. LENGTH of the first row is its own piece's.
 */
export const PIECES = 11;
/** Length of the whole frame, all pieces, in bytes: what is accounted. 0: as LENGTH. */
export const TOTAL = 12;

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
