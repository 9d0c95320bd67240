/** ARP for IPv4 over Ethernet (RFC 826). Offsets count from the ARP header. */
import { get16, get32, put16, put32 } from './bytes.ts';

export const ARP_LENGTH = 28;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;

/** Whether `length` bytes hold an Ethernet/IPv4 ARP packet. */
export function checkArp(bytes: DataView, offset: number, length: number): boolean {
  return (
    length >= ARP_LENGTH &&
    get16(bytes, offset) === 1 &&
    get16(bytes, offset + 2) === 0x0800 &&
    bytes.getUint8(offset + 4) === 6 &&
    bytes.getUint8(offset + 5) === 4
  );
}

export const operation = (bytes: DataView, offset: number): number => get16(bytes, offset + 6);
export const senderMacHi = (bytes: DataView, offset: number): number => get16(bytes, offset + 8);
export const senderMacLo = (bytes: DataView, offset: number): number => get32(bytes, offset + 10);
export const senderAddress = (bytes: DataView, offset: number): number => get32(bytes, offset + 14);
export const targetAddress = (bytes: DataView, offset: number): number => get32(bytes, offset + 24);

/** Turn a request into its reply in place: the target becomes the sender, at the given MAC. */
export function replyInPlace(bytes: DataView, offset: number, macHi: number, macLo: number): void {
  const target = targetAddress(bytes, offset);
  put16(bytes, offset + 6, ARP_REPLY);
  put16(bytes, offset + 18, senderMacHi(bytes, offset));
  put32(bytes, offset + 20, senderMacLo(bytes, offset));
  put32(bytes, offset + 24, senderAddress(bytes, offset));
  put16(bytes, offset + 8, macHi);
  put32(bytes, offset + 10, macLo);
  put32(bytes, offset + 14, target);
}
