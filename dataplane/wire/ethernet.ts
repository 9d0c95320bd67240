/** Ethernet II. */
import { get16, get32, put16, put32 } from './bytes.ts';

export const ETHERNET_LENGTH = 14;
export const TYPE_IPV4 = 0x0800;
export const TYPE_ARP = 0x0806;
export const TYPE_VLAN = 0x8100;
export const TYPE_IPV6 = 0x86dd;

/** The gateway's MAC in every pod: ee:ee:ee:ee:ee:ee, as its first two and last four bytes. */
export const GATEWAY_HI = 0xeeee;
export const GATEWAY_LO = 0xeeeeeeee | 0;

/** A MAC address is handled as its first two bytes (uint16) and its last four (int32). */
export const destinationHi = (bytes: DataView, offset: number): number => get16(bytes, offset);
export const destinationLo = (bytes: DataView, offset: number): number => get32(bytes, offset + 2);
export const sourceHi = (bytes: DataView, offset: number): number => get16(bytes, offset + 6);
export const sourceLo = (bytes: DataView, offset: number): number => get32(bytes, offset + 8);
export const etherType = (bytes: DataView, offset: number): number => get16(bytes, offset + 12);
/** Group bit: multicast or broadcast destination. */
export const isGroup = (bytes: DataView, offset: number): boolean => (bytes.getUint8(offset) & 1) !== 0;

export function putEthernet(
  bytes: DataView,
  offset: number,
  dmacHi: number,
  dmacLo: number,
  smacHi: number,
  smacLo: number,
  type: number,
): void {
  put32(bytes, offset, (dmacHi << 16) | (dmacLo >>> 16));
  put32(bytes, offset + 4, (dmacLo << 16) | smacHi);
  put32(bytes, offset + 8, smacLo);
  put16(bytes, offset + 12, type);
}
