/**
 * The adjacency table: what to do with a packet once the FIB has named a row.
 *
 * A row is written by control before any FIB entry refers to it and is never changed while one does
 * (replace = new row, new FIB entries, old row retired after a grace period). Workers only read.
 */
import { MAX_ADJACENCIES } from '../memory/layout.ts';

/** int32 cells in a row: 64 bytes, one cache line. */
export const ADJ_ROW = 16;

export const ADJ_KIND = 0;
/** Port that the packet leaves by. */
export const ADJ_PORT = 1;
/** Peer node (tunnel end, or next hop in direct mode), IPv4 host order; of VXLAN6 the peer's number (peers6.ts). */
export const ADJ_NEXT_HOP = 2;
/** Largest inner IP packet that fits, bytes. 0: no limit of ours. */
export const ADJ_MTU = 3;
/** Outer source address of a tunnel, IPv4 host order. */
export const ADJ_SOURCE = 4;
/** Destination MAC (pod's, or the remote VTEP's): first two bytes, last four. */
export const ADJ_DMAC_HI = 5;
export const ADJ_DMAC_LO = 6;
/** Source MAC (the gateway's, or our VTEP's): first two bytes, last four. */
export const ADJ_SMAC_HI = 7;
export const ADJ_SMAC_LO = 8;
/** VXLAN network identifier. */
export const ADJ_VNI = 9;
/** VXLAN6: the peer's address, four words. */
export const ADJ_NEXT_HOP6 = 10;
/** Of a GROUP: its number among them (groups.ts). */
export const ADJ_GROUP = 15;

/** Kinds. 0 is what an empty FIB answers. */
export const NO_ROUTE = 0;
/** A pod on this node. */
export const POD = 1;
/** This host's kernel, for itself or to forward (default route, direct mode). ADJ_NEXT_HOP set in direct mode. */
export const HOST = 2;
export const VXLAN = 3;
export const IPIP = 4;
/** Silence. */
export const BLACKHOLE = 5;
/** ICMP 3/1. */
export const UNREACHABLE = 6;
/** ICMP 3/13. */
export const PROHIBIT = 7;
/** VXLAN over IPv6. */
export const VXLAN6 = 8;
/** Several rows share the route (groups.ts). */
export const GROUP = 9;

export const KIND_NAMES = [
  'no-route',
  'pod',
  'host',
  'vxlan',
  'ipip',
  'blackhole',
  'unreachable',
  'prohibit',
  'vxlan6',
  'group',
] as const;

export interface Adjacency {
  kind: number;
  port: number;
  nextHop: number;
  mtu: number;
  source: number;
  dmac: Uint8Array | null;
  smac: Uint8Array | null;
  vni: number;
  /** Of VXLAN6, four words. */
  nextHop6?: readonly number[];
  group?: number;
}

export function createAdjacencies(): SharedArrayBuffer {
  return new SharedArrayBuffer(MAX_ADJACENCIES * ADJ_ROW * 4);
}

const hi = (mac: Uint8Array | null) => (mac ? (mac[0]! << 8) | mac[1]! : 0);
const lo = (mac: Uint8Array | null) =>
  mac ? (mac[2]! << 24) | (mac[3]! << 16) | (mac[4]! << 8) | mac[5]! : 0;

/** Write one row. The caller owns the row: no FIB entry refers to it yet. */
export function writeAdjacency(table: Int32Array, index: number, a: Adjacency): void {
  const row = index * ADJ_ROW;
  table[row + ADJ_KIND] = a.kind;
  table[row + ADJ_PORT] = a.port;
  table[row + ADJ_NEXT_HOP] = a.nextHop | 0;
  table[row + ADJ_MTU] = a.mtu;
  table[row + ADJ_SOURCE] = a.source | 0;
  table[row + ADJ_DMAC_HI] = hi(a.dmac);
  table[row + ADJ_DMAC_LO] = lo(a.dmac);
  table[row + ADJ_SMAC_HI] = hi(a.smac);
  table[row + ADJ_SMAC_LO] = lo(a.smac);
  table[row + ADJ_VNI] = a.vni;
  for (let word = 0; word < 4; word++) table[row + ADJ_NEXT_HOP6 + word] = a.nextHop6?.[word] ?? 0;
  table[row + ADJ_GROUP] = a.group ?? 0;
}
