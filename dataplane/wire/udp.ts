/** UDP (RFC 768). Offsets count from the UDP header. */
import { get16, put16, put32, sum16 } from './bytes.ts';

export const UDP_LENGTH = 8;

export const sourcePort = (bytes: DataView, offset: number): number => get16(bytes, offset);
export const destinationPort = (bytes: DataView, offset: number): number => get16(bytes, offset + 2);
export const udpLength = (bytes: DataView, offset: number): number => get16(bytes, offset + 4);
export const udpChecksum = (bytes: DataView, offset: number): number => get16(bytes, offset + 6);

export function putUdp(bytes: DataView, offset: number, from: number, to: number, length: number): void {
  put32(bytes, offset, (from << 16) | to);
  // And no checksum.
  put32(bytes, offset + 4, length << 16);
}

/** Compute and store the checksum; a sum of 0 is sent as 0xffff, since 0 means "none". */
export function putUdpChecksum(bytes: DataView, offset: number, length: number, pseudo: number): void {
  put16(bytes, offset + 6, 0);
  const checksum = ~sum16(bytes, offset, length, pseudo) & 0xffff;
  put16(bytes, offset + 6, checksum === 0 ? 0xffff : checksum);
}

/** Whether the checksum is right, or absent (0, allowed over IPv4). */
export function udpChecksumHolds(bytes: DataView, offset: number, length: number, pseudo: number): boolean {
  return udpChecksum(bytes, offset) === 0 || sum16(bytes, offset, length, pseudo) === 0xffff;
}
