/**
 * The limits of the dataplane and the memory that control and workers share.
 *
 * Everything here is created once by the control thread and handed to workers as SharedArrayBuffers.
 * Control writes routes and adjacencies; each worker writes its own slice of the counters; nobody locks.
 */

/** Most worker threads. */
export const MAX_WORKERS = 16;
/** Most ports (pods + host + tunnels); a port id is an index below this. */
export const MAX_PORTS = 1024;
/** Most adjacencies; a FIB entry is an adjacency index below this. Index 0 is "no route". */
export const MAX_ADJACENCIES = 32768;
/** Most known peers (addresses that may send us tunnel packets) of each family. */
export const MAX_PEERS = 16384;
/** Frames in one burst. */
export const BURST = 64;
/** Frames that the pipeline takes at a time, and so the most that it queues for one port; a burst may be longer. */
export const EGRESS_ROWS = 256;
/** Rows that a receive may fill: the kernel joins up to 64 datagrams (UDP_GRO_CNT_MAX), which are split again. */
export const RECEIVE_ROWS = BURST * 64;
/** Bytes kept free in front of every received frame: outer Ethernet + IPv6 + UDP + VXLAN, and room to spare. */
export const HEADROOM = 128;
/** Largest frame a port can hand us, bytes. */
export const MAX_FRAME = 65536 + 64;

export interface SharedTables {
  /** FIB for IPv4, see fib/fib4.ts. */
  readonly fib4: SharedArrayBuffer;
  /** FIB for IPv6, see fib/fib6.ts. */
  readonly fib6: SharedArrayBuffer;
  /** Adjacency rows, see fib/adjacency.ts. */
  readonly adjacencies: SharedArrayBuffer;
  /** Buckets of groups, see fib/groups.ts. */
  readonly groups: SharedArrayBuffer;
  /** Known peers, see fib/peers.ts. */
  readonly peers: SharedArrayBuffer;
  /** Known peers over IPv6, see fib/peers6.ts. */
  readonly peers6: SharedArrayBuffer;
  /** Counters, see counters.ts. */
  readonly counters: SharedArrayBuffer;
  /** The last frame dropped for each reason at each port, see evidence.ts. */
  readonly evidence: SharedArrayBuffer;
  /** Quiet points of the workers, see memory/grace.ts. */
  readonly epochs: SharedArrayBuffer;
}
