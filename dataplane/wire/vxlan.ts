/** VXLAN (RFC 7348 section 5). Offsets count from the VXLAN header. */
import { put32 } from './bytes.ts';

export const VXLAN_LENGTH = 8;
export const VXLAN_PORT = 4789;
/** Lowest of the ephemeral source ports that RFC 7348 section 5 recommends: 49152-65535. */
export const VXLAN_SOURCE_BASE = 0xc000;
export const VXLAN_SOURCE_MASK = 0x3fff;

/** Source port of a packet whose flow has this hash. */
export const sourcePortOf = (hash: number): number => VXLAN_SOURCE_BASE | (hash & VXLAN_SOURCE_MASK);
/** Flow label of the outer IPv6 header (RFC 6438 section 3): never 0, which would say that there is none. */
export const flowLabelOf = (hash: number): number => (hash >>> 4) & 0xfffff || 1;

/** The I flag: the VNI is valid. All other flags are reserved and ignored on receipt. */
export const hasVni = (bytes: DataView, offset: number): boolean => (bytes.getUint8(offset) & 0x08) !== 0;
export const vni = (bytes: DataView, offset: number): number =>
  (bytes.getUint8(offset + 4) << 16) | (bytes.getUint8(offset + 5) << 8) | bytes.getUint8(offset + 6);

export function putVxlan(bytes: DataView, offset: number, networkIdentifier: number): void {
  put32(bytes, offset, 0x08000000);
  put32(bytes, offset + 4, networkIdentifier << 8);
}
