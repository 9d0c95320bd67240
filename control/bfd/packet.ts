/** BFD Control packets (RFC 5880 section 4.1). */

export const VERSION = 1;
/** Bytes of a packet without authentication, and the least with it. */
export const LENGTH = 24;
const LEAST_AUTHENTICATED = 26;

/** Values of the State field. */
export const ADMIN_DOWN = 0;
export const DOWN = 1;
export const INIT = 2;
export const UP = 3;
export type State = typeof ADMIN_DOWN | typeof DOWN | typeof INIT | typeof UP;
export const STATE_NAMES = ['AdminDown', 'Down', 'Init', 'Up'] as const;

/** Values of the Diagnostic field that we send ourselves. */
export const DIAG_NONE = 0;
export const DIAG_TIMEOUT = 1;
export const DIAG_NEIGHBOR_DOWN = 3;
export const DIAG_ADMIN_DOWN = 7;
const DIAGNOSTICS = [
  'no diagnostic',
  'control detection time expired',
  'echo function failed',
  'neighbor signaled session down',
  'forwarding plane reset',
  'path down',
  'concatenated path down',
  'administratively down',
  'reverse concatenated path down',
];

/** In words; numbers without a name are for the future (RFC 5880 section 4.1). */
export const diagnosticText = (diagnostic: number): string =>
  DIAGNOSTICS[diagnostic] ?? `diagnostic ${diagnostic}`;

export interface ControlPacket {
  /** Why the sender's session last changed state. */
  diagnostic: number;
  state: State;
  poll: boolean;
  final: boolean;
  /** The sender's BFD lives on while its control plane does not. */
  independent: boolean;
  demand: boolean;
  /** Packets that may be missed: never 0. */
  multiplier: number;
  /** The sender's discriminator, never 0, and ours, 0 while it is unknown to the sender. Unsigned. */
  mine: number;
  yours: number;
  /** Microseconds. */
  minTxUs: number;
  minRxUs: number;
  /** 0: no Echo packets, please. */
  minEchoRxUs: number;
}

/** Why a packet is discarded, in the order in which RFC 5880 section 6.8.6 looks. The last three are the receiver's. */
export const DISCARDS = [
  'version',
  'length',
  'multiplier',
  'multipoint',
  'discriminator',
  'state',
  'authentication',
  'session',
] as const;
export type Discard = (typeof DISCARDS)[number];

const POLL = 0x20;
const FINAL = 0x10;
const INDEPENDENT = 0x08;
const AUTHENTICATED = 0x04;
const DEMAND = 0x02;
const MULTIPOINT = 0x01;

export function encode(packet: ControlPacket): Buffer {
  const bytes = Buffer.alloc(LENGTH);
  bytes[0] = (VERSION << 5) | packet.diagnostic;
  bytes[1] =
    (packet.state << 6) |
    (packet.poll ? POLL : 0) |
    (packet.final ? FINAL : 0) |
    (packet.independent ? INDEPENDENT : 0) |
    (packet.demand ? DEMAND : 0);
  bytes[2] = packet.multiplier;
  bytes[3] = LENGTH;
  bytes.writeUInt32BE(packet.mine, 4);
  bytes.writeUInt32BE(packet.yours, 8);
  bytes.writeUInt32BE(packet.minTxUs, 12);
  bytes.writeUInt32BE(packet.minRxUs, 16);
  bytes.writeUInt32BE(packet.minEchoRxUs, 20);
  return bytes;
}

/**
 * A datagram's payload as a packet, or why it is to be discarded (RFC 5880 section 6.8.6). Authentication is not
 * implemented, so that no session uses it: packets that carry it are discarded.
 */
export function decode(bytes: Buffer): ControlPacket | Discard {
  // Without a Length field there is no version to speak of.
  if (bytes.length < 4) return 'length';
  const flags = bytes[1]!;
  const length = bytes[3]!;
  if (bytes[0]! >> 5 !== VERSION) return 'version';
  if (length < (flags & AUTHENTICATED ? LEAST_AUTHENTICATED : LENGTH) || length > bytes.length)
    return 'length';
  if (bytes[2] === 0) return 'multiplier';
  if (flags & MULTIPOINT) return 'multipoint';
  const mine = bytes.readUInt32BE(4);
  const yours = bytes.readUInt32BE(8);
  const state = (flags >> 6) as State;
  if (mine === 0) return 'discriminator';
  if (yours === 0 && state > DOWN) return 'state';
  if (flags & AUTHENTICATED) return 'authentication';
  return {
    diagnostic: bytes[0]! & 0x1f,
    state,
    poll: (flags & POLL) !== 0,
    final: (flags & FINAL) !== 0,
    independent: (flags & INDEPENDENT) !== 0,
    demand: (flags & DEMAND) !== 0,
    multiplier: bytes[2]!,
    mine,
    yours,
    minTxUs: bytes.readUInt32BE(12),
    minRxUs: bytes.readUInt32BE(16),
    minEchoRxUs: bytes.readUInt32BE(20),
  };
}
