/**
 * The addon's face: system calls and bulk memory work, no protocol. Every failed call throws an Error with
 * `code` (errno name), `errno`, `syscall` and a message that names the subject:
 * "TUNSETIFF eth0 in /run/netns/pod1: EBUSY, ...".
 */
import { createRequire } from 'node:module';

export interface TapOptions {
  /** Namespace: a name under /run/netns, a path to a namespace file, or absent for the caller's own. */
  readonly netns?: string;
  readonly name: string;
  readonly queues?: number;
  readonly mtu?: number;
  /** Six bytes. */
  readonly mac?: Uint8Array;
  /** Interface alias, by which a purge knows the device as ours. */
  readonly alias?: string;
  /** Keep the device when the last descriptor closes. */
  readonly persist?: boolean;
  readonly up?: boolean;
  /** virtio's header before each frame, and all that the kernel offers of checksum, TSO and USO to us. */
  readonly offloads?: boolean;
}
export interface Tap {
  /** One descriptor a queue, non-blocking. */
  readonly fds: number[];
  readonly ifindex: number;
  /** False when the device was there before and has been adopted. */
  readonly created: boolean;
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** Bytes of virtio's header, for tapRead and tapWrite: 0 none, 10, or 24 where UDP tunnels' super-frames may be written. */
  readonly vnetHeader: number;
}
export interface UdpOptions {
  readonly netns?: string;
  /** IPv4 host order; 0: any. Or: */
  readonly address?: number;
  /** IPv6 as text: the socket takes and sends IPv6 only, with hop limit 64. */
  readonly address6?: string;
  readonly port: number;
  /**
   * Share the port with other sockets: the kernel gives each datagram to one of them, by a hash of outer source and port. That is
   * enough to spread a tunnel over workers, and keeps a flow on one: the source port is the flow's entropy (RFC 7348
   * 5), so that a program of ours (SO_ATTACH_REUSEPORT_CBPF) would hash the same thing.
   */
  readonly reusePort?: boolean;
  readonly bufferBytes?: number;
  /** False: send checksum 0 (SO_NO_CHECK). */
  readonly checksum?: boolean;
  /** True: nothing sent is fragmented, EMSGSIZE beyond the path MTU (IP_PMTUDISC_DO). */
  readonly dontFragment?: boolean;
  /** True: whatever arrives is discarded at once, instead of filling a buffer that nobody reads. */
  readonly sendOnly?: boolean;
  /** True: the kernel may hand over datagrams of a flow joined (UDP_GRO); SEGMENT tells. */
  readonly join?: boolean;
}
export interface RawOptions {
  readonly netns?: string;
  /** Of ICMP (1) the socket is given destination unreachable only. */
  readonly protocol: number;
  /** Local address to bind, IPv4 host order; 0: any. */
  readonly address: number;
  /** Frames to send carry their own IP header (IP_HDRINCL). */
  readonly headerIncluded?: boolean;
  readonly bufferBytes?: number;
}
export interface DatagramOptions {
  /** Local, IPv4 or IPv6 as text. */
  readonly address: string;
  readonly port: number;
  /** Of what is sent. Default 64. */
  readonly ttl?: number;
  /** What arrives with less is discarded by the kernel (RFC 5082). Default 0. */
  readonly leastTtl?: number;
  /** TOS, or Traffic Class, of what is sent. Default 0. */
  readonly trafficClass?: number;
  readonly bufferBytes?: number;
  /** True: whatever arrives is discarded at once. */
  readonly sendOnly?: boolean;
}

/** What `fdWatch` gives and `fdUnwatch` takes. */
export type FdWatch = object & { readonly brand: 'FdWatch' };

/**
 * Bursts: `arena` is the worker's bytes, `rows` one row of sixteen int32 a frame (memory/burst.ts). Receives
 * put frame i behind `headroom` free bytes, next offsets rounded up to 64, beginning at arena offset
 * `start`; they return the number of frames (0: nothing there) and throw on anything but EAGAIN.
 * Sends write errno or 0 into each row's STATUS and return the number that went.
 */
export interface Native {
  tapOpen(options: TapOptions): Tap;
  /** Change a device that exists. */
  linkSet(options: {
    netns?: string;
    name: string;
    mtu?: number;
    mac?: Uint8Array;
    up?: boolean;
    alias?: string;
  }): void;
  /** Remove persistence: the device goes with its last descriptor. */
  tapRelease(fd: number): void;
  /**
   * At the ingress of a TAP: IPIP super-frames that are written to it get their true GSO type, by a tc-BPF program that goes with
   * the device (bpf.c). Again on a marked device: nothing changes but the program, which is renewed.
   */
  ipipMarkAttach(options: { netns?: string; name: string }): void;
  ipipMarkDetach(options: { netns?: string; name: string }): void;
  /** Whether the kernel takes the program from us. */
  ipipMarkSupported(): boolean;
  /** Set a kernel parameter, "net/ipv4/ip_forward", in a network namespace: a name, a path, or "" for the caller's own. */
  sysctlSet(netns: string, name: string, value: string): void;
  /**
   * All messages of a dump of rtnetlink(7), one behind another. `type`: RTM_GETLINK and the like; `family`: AF_INET, or all;
   * `protocol`: of routes only those with this one, where the kernel can choose.
   */
  netlinkDump(options: { netns?: string; type: number; family?: number; protocol?: number }): Uint8Array;
  /**
   * The answer to one request of rtnetlink(7), in a namespace ("": the caller's own). Throws with the kernel's errno as `code` where it
   * refuses.
   */
  netlinkAsk(netns: string, request: Uint8Array): Uint8Array;
  /**
   * Carry out requests of rtnetlink(7), one behind another in `requests`, in a namespace ("": the caller's own). Into `errors`, as long
   * as there are requests, goes each one's errno, or 0.
   */
  netlinkChange(netns: string, requests: Uint8Array, errors: Int32Array): void;
  udpOpen(options: UdpOptions): number;
  rawOpen(options: RawOptions): number;
  /** A bound socket for node:dgram (`bind({ fd })`), which closes it: the one descriptor that is not this environment's. */
  datagramOpen(options: DatagramOptions): number;
  /** What the kernel did not queue for a socket: refused by its filter, wrongly signed, or no room. Modulo 2^32. */
  socketDrops(fd: number): number;
  /**
   * Of `count` raw sockets of tunnels (1 to 64), keep for this one the packets whose inner flow hashes to `index` (spread.c); called
   * again, the new share replaces the old. While the shares of several sockets change one by one, a packet may
   * come twice or not at all.
   */
  socketSpread(fd: number, share: { index: number; count: number }): void;
  close(fd: number): void;
  /** Let go of a descriptor that another owner in this process closes from now on, such as a socket of Node's. */
  release(fd: number): void;

  /**
   * A TCP socket, non-blocking, bound unless `address` is 0.0.0.0 or :: and `port` 0. It is to be connected or
   * listened with by Node (`release`).
   */
  tcpOpen(options: { address: string; port: number }): number;
  /**
   * Sign what goes to an address, and take only what is signed from there (RFC 2385, TCP_MD5SIG). A password of up to 80
   * bytes; "": no longer. Connections inherit the key of their peer from the socket that listens.
   */
  tcpPassword(fd: number, address: string, password: string): void;
  /**
   * TTL or hop limit of what goes, 1 to 255, or -1 for the system's; and the least of what is taken, 0 for any
   * (IP_MINTTL, IPV6_MINHOPCOUNT).
   */
  tcpTtl(fd: number, ttl: number, least: number): void;
  /**
   * Classic BPF for what comes (SO_ATTACH_FILTER), four numbers an instruction: code, jt, jf, k; none: no filter.
   * Connections inherit it from the socket that listens.
   */
  socketFilter(fd: number, program: Int32Array): void;

  /**
   * Unix sockets of SOCK_SEQPACKET, non-blocking. `path` begins with / or, in the abstract namespace, with @. A listening
   * socket's file is made for our own user alone; removing it, also a stale one, is the caller's.
   */
  unixListen(path: string): number;
  unixConnect(path: string): number;
  /** The next connection and who made it (SO_PEERCRED), if there is one. */
  unixAccept(fd: number): { fd: number; pid: number; uid: number } | undefined;
  /**
   * A message of a byte or more, with up to 253 descriptors, over any Unix socket. Returns the bytes that went: all, but on a
   * stream that is nearly full. The sender keeps its descriptors.
   */
  sendFds(fd: number, fds: Int32Array, payload: Uint8Array): number;
  /**
   * The next message, if there is one; `bytes` 0: the other end is closed. Its descriptors are this environment's now. One
   * whose payload or descriptors did not fit is dropped whole: EMSGSIZE, EMFILE.
   */
  receiveFds(fd: number, buffer: Uint8Array): { fds: number[]; bytes: number } | undefined;
  /** A datagram with descriptors to a Unix socket (dataplane/native/systemd.ts). Blocks for two seconds at most. */
  notifySend(path: string, state: Uint8Array, fds: Int32Array): void;
  /**
   * Give up all capabilities (capabilities(7)) whose bits are not set, for this thread, the threads that it makes and the programs
   * that it starts, for good.
   */
  keepCapabilities(mask: number): void;
  /** Take over a descriptor that came by exec: closed with this environment, and by exec. */
  adopt(fd: number): void;

  tapRead(
    fd: number,
    arena: Uint8Array,
    rows: Int32Array,
    max: number,
    start: number,
    headroom: number,
    vnetHeader: number,
  ): number;
  tapWrite(fd: number, arena: Uint8Array, rows: Int32Array, count: number, vnetHeader: number): number;
  /**
   * Fills ADDRESS, UDP_PORT and TOS of each row as well. An IPv6 address does not fit ADDRESS: it is written into the sixteen
   * bytes in front of its datagram.
   */
  udpReceive(
    fd: number,
    arena: Uint8Array,
    rows: Int32Array,
    max: number,
    start: number,
    headroom: number,
  ): number;
  /**
   * Sends row i from socket pool[UDP_PORT & (pool.length - 1)] to ADDRESS:port with TOS. pool.length: power of two. `runs` 1:
   * neighbours of one size to one place may go as one run (UDP_SEGMENT); what becomes of the run is each one's STATUS.
   */
  udpSend(
    pool: Int32Array,
    arena: Uint8Array,
    rows: Int32Array,
    count: number,
    port: number,
    runs: number,
  ): number;
  /**
   * The same by sockets of IPv6. The destination, and the flow label (Linux 5.3 for one that nobody leased), are taken from the outer IPv6
   * header, which stands with UDP's in the 48 bytes in front of each row; rows of one ADDRESS have one destination.
   */
  udp6Send(
    pool: Int32Array,
    arena: Uint8Array,
    rows: Int32Array,
    count: number,
    port: number,
    runs: number,
  ): number;
  /** Frames start at their IP header. Fills ADDRESS and TOS. */
  rawReceive(
    fd: number,
    arena: Uint8Array,
    rows: Int32Array,
    max: number,
    start: number,
    headroom: number,
  ): number;
  rawSend(fd: number, arena: Uint8Array, rows: Int32Array, count: number): number;

  /**
   * Call back on this thread's event loop whenever a descriptor has input or is closed by its other end, until `fdUnwatch`. Stop before
   * the descriptor is closed. A watch keeps the process alive.
   */
  fdWatch(fd: number, onReady: () => void): FdWatch;
  fdUnwatch(watch: FdWatch): void;

  epollCreate(): number;
  /** Watch fd for input; `tag` is what epollWait reports. */
  epollAdd(epoll: number, fd: number, tag: number): void;
  epollDelete(epoll: number, fd: number): void;
  /**
   * Writes ready tags; timeout in ms, -1 waits for ever. Blocks the thread. Into `clock` go the times of falling
   * asleep and of waking, CLOCK_MONOTONIC in ms.
   */
  epollWait(epoll: number, tags: Int32Array, timeoutMs: number, clock?: Float64Array): number;
  eventfdCreate(): number;
  eventfdSignal(fd: number): void;
  eventfdDrain(fd: number): void;

  /** Internet checksum (RFC 1071) of bytes, folded, not complemented; `seed` is added first. */
  checksum(bytes: Uint8Array, offset: number, length: number, seed: number): number;
  /** The same for many: a job is four cells, [offset, length, seed, the sum as the answer]. */
  checksums(bytes: Uint8Array, jobs: Int32Array, count: number): void;
}

const require = createRequire(import.meta.url);
let loaded: Native | undefined;

/** Load the addon on first use, so that replay and tests without devices never need it. */
export function native(): Native {
  if (loaded) return loaded;
  // From source (dataplane/native) and from dist (dist/dataplane/native) alike.
  for (const up of ['../..', '../../..']) {
    try {
      loaded = require(`${up}/build/Release/tortie.node`) as Native;
      return loaded;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw new Error('the addon is not built: run scripts/setup (or: npm rebuild)');
}
