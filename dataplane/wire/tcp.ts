/** TCP (RFC 9293), as far as segments are cut and joined. Offsets count from the TCP header. */
import { get16, get32 } from './bytes.ts';

export const TCP_LENGTH = 20;
/** Where the checksum stands. */
export const TCP_CHECKSUM = 16;

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;
export const URG = 0x20;
/** RFC 3168 6.1.2. */
export const CWR = 0x80;

export const sequence = (bytes: DataView, offset: number): number => get32(bytes, offset + 4);
export const acknowledgement = (bytes: DataView, offset: number): number => get32(bytes, offset + 8);
/** Length of the header with its options, by its own word: 0 to 60. */
export const tcpHeaderLength = (bytes: DataView, offset: number): number =>
  (bytes.getUint8(offset + 12) >> 4) << 2;
export const tcpFlags = (bytes: DataView, offset: number): number => bytes.getUint8(offset + 13);
export const tcpChecksum = (bytes: DataView, offset: number): number => get16(bytes, offset + TCP_CHECKSUM);
