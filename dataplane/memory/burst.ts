/**
 * A burst: one arena of bytes and one row of eight int32 a frame. The addon fills rows on receive and reads
 * them on transmit, so a whole burst crosses the language border in one call.
 */

/** int32 cells in a row. */
export const ROW = 8;
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
/** Segment size in bytes when the frame is a super-frame, else 0. */
export const SEGMENT = 7;
