/**
 * A frame as named fields, so that two of them can be compared and a difference has a name. Shares nothing with the packet
 * path. Addresses and numbers are text; what cannot be read is kept as bytes.
 */
import { checksum, join, NODE, type PortName, u8, u16, u32, VXLAN_PORT } from './frames.ts';

export type Fields = Record<string, string>;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const get16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
const get32 = (bytes: Uint8Array, at: number): number => get16(bytes, at) * 65536 + get16(bytes, at + 2);
const macText = (bytes: Uint8Array): string => hex(bytes).match(/../g)!.join(':');
const ip4Text = (bytes: Uint8Array): string => [...bytes].join('.');

/** The address in the form of RFC 5952. */
export function ip6Text(bytes: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, i) => get16(bytes, i * 2).toString(16));
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (words[at + length] === '0') length++;
    if (length > best.length) best = { at, length };
  }
  if (best.at < 0) return words.join(':');
  return `${words.slice(0, best.at).join(':')}::${words.slice(best.at + best.length).join(':')}`;
}

/** Read a frame as it stands on a port: with an Ethernet header, except that the underlay's begin with IP. */
export function decode(port: PortName, frame: Uint8Array): Fields {
  const fields: Fields = {};
  if (port === 'underlay') packet(fields, '', frame, frame.length > 0 && frame[0]! >> 4 === 6 ? 6 : 4);
  else ethernet(fields, '', frame);
  return fields;
}

function ethernet(fields: Fields, at: string, bytes: Uint8Array): void {
  if (bytes.length < 14) {
    fields[`${at}bytes`] = hex(bytes);
    return;
  }
  fields[`${at}eth.dst`] = macText(bytes.subarray(0, 6));
  fields[`${at}eth.src`] = macText(bytes.subarray(6, 12));
  const type = get16(bytes, 12);
  fields[`${at}eth.type`] = type.toString(16).padStart(4, '0');
  const inner = bytes.subarray(14);
  if (type === 0x0800) packet(fields, at, inner, 4);
  else if (type === 0x86dd) packet(fields, at, inner, 6);
  else if (type === 0x0806) arp(fields, at, inner);
  else fields[`${at}bytes`] = hex(inner);
}

function arp(fields: Fields, at: string, bytes: Uint8Array): void {
  if (bytes.length < 28) {
    fields[`${at}arp.bytes`] = hex(bytes);
    return;
  }
  fields[`${at}arp.types`] = hex(bytes.subarray(0, 6));
  fields[`${at}arp.operation`] = String(get16(bytes, 6));
  fields[`${at}arp.sender.mac`] = macText(bytes.subarray(8, 14));
  fields[`${at}arp.sender`] = ip4Text(bytes.subarray(14, 18));
  fields[`${at}arp.target.mac`] = macText(bytes.subarray(18, 24));
  fields[`${at}arp.target`] = ip4Text(bytes.subarray(24, 28));
  fields[`${at}padding`] = hex(bytes.subarray(28));
}

function packet(fields: Fields, at: string, bytes: Uint8Array, expected: 4 | 6): void {
  const version = bytes.length === 0 ? 0 : bytes[0]! >> 4;
  if (version === 4 && expected === 4 && bytes.length >= 20) packet4(fields, at, bytes);
  else if (version === 6 && expected === 6 && bytes.length >= 40) packet6(fields, at, bytes);
  else fields[`${at}ip.bytes`] = hex(bytes);
}

function tos(fields: Fields, at: string, value: number): void {
  fields[`${at}ip.dscp`] = String(value >> 2);
  fields[`${at}ip.ecn`] = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE'][value & 3]!;
}

function packet4(fields: Fields, at: string, bytes: Uint8Array): void {
  const header = Math.max(20, Math.min((bytes[0]! & 15) * 4, bytes.length));
  const total = Math.max(header, Math.min(get16(bytes, 2), bytes.length));
  const fragment = get16(bytes, 6);
  const flags = ['MF', 'DF', 'reserved'].filter((_, i) => (fragment >> (13 + i)) & 1);
  tos(fields, at, bytes[1]!);
  fields[`${at}ip.header`] = String(bytes[0]! & 15);
  fields[`${at}ip.length`] = String(get16(bytes, 2));
  fields[`${at}ip.id`] = String(get16(bytes, 4));
  fields[`${at}ip.flags`] = flags.join('+');
  fields[`${at}ip.offset`] = String((fragment & 0x1fff) * 8);
  fields[`${at}ip.ttl`] = String(bytes[8]!);
  fields[`${at}ip.protocol`] = String(bytes[9]!);
  fields[`${at}ip.checksum`] = checksum(bytes.subarray(0, header)) === 0 ? 'good' : 'bad';
  const [src, dst] = [bytes.subarray(12, 16), bytes.subarray(16, 20)];
  fields[`${at}ip.src`] = ip4Text(src);
  fields[`${at}ip.dst`] = ip4Text(dst);
  fields[`${at}ip.options`] = hex(bytes.subarray(20, header));
  fields[`${at}padding`] = hex(bytes.subarray(total));
  const body = bytes.subarray(header, total);
  if ((fragment & 0x1fff) !== 0) {
    fields[`${at}payload`] = hex(body);
    return;
  }
  const pseudo = (length: number) => join(src, dst, u8(0, bytes[9]!), u16(length));
  transport(fields, at, bytes[9]!, body, pseudo, (fragment & 0x2000) === 0);
}

function packet6(fields: Fields, at: string, bytes: Uint8Array): void {
  const total = Math.min(40 + get16(bytes, 4), bytes.length);
  tos(fields, at, (get16(bytes, 0) >> 4) & 255);
  fields[`${at}ip.flow`] = String(get32(bytes, 0) & 0xfffff);
  fields[`${at}ip.length`] = String(get16(bytes, 4));
  fields[`${at}ip.next`] = String(bytes[6]!);
  fields[`${at}ip.hops`] = String(bytes[7]!);
  const [src, dst] = [bytes.subarray(8, 24), bytes.subarray(24, 40)];
  fields[`${at}ip.src`] = ip6Text(src);
  fields[`${at}ip.dst`] = ip6Text(dst);
  fields[`${at}padding`] = hex(bytes.subarray(total));
  const pseudo = (length: number) => join(src, dst, u32(length), u32(bytes[6]!));
  transport(fields, at, bytes[6]!, bytes.subarray(40, total), pseudo, true);
}

function transport(
  fields: Fields,
  at: string,
  protocol: number,
  body: Uint8Array,
  pseudo: (length: number) => Uint8Array,
  whole: boolean,
): void {
  if (protocol === 1 && body.length >= 8) {
    icmp(fields, `${at}icmp.`, body, checksum(body) === 0);
  } else if (protocol === 58 && body.length >= 8) {
    icmp(fields, `${at}icmp6.`, body, checksum(pseudo(body.length), body) === 0);
  } else if (protocol === 17 && at === '' && body.length >= 16 && get16(body, 2) === VXLAN_PORT) {
    vxlan(fields, body, pseudo, whole);
  } else {
    fields[`${at}payload`] = hex(body);
  }
}

function icmp(fields: Fields, at: string, body: Uint8Array, good: boolean): void {
  fields[`${at}type`] = String(body[0]!);
  fields[`${at}code`] = String(body[1]!);
  fields[`${at}checksum`] = good ? 'good' : 'bad';
  fields[`${at}rest`] = hex(body.subarray(4, 8));
  fields[`${at}length`] = String(body.length);
  fields[`${at}data`] = hex(body.subarray(8));
}

function vxlan(
  fields: Fields,
  body: Uint8Array,
  pseudo: (length: number) => Uint8Array,
  whole: boolean,
): void {
  fields['udp.source'] = String(get16(body, 0));
  fields['udp.length'] = String(get16(body, 4));
  const good = checksum(pseudo(body.length), body) === 0;
  if (whole) fields['udp.checksum'] = get16(body, 6) === 0 ? 'none' : good ? 'good' : 'bad';
  fields['vxlan.flags'] = String(body[8]!);
  fields['vxlan.reserved'] = hex(join(body.subarray(9, 12), body.subarray(15, 16)));
  fields['vxlan.vni'] = String(get32(body, 12) >>> 8);
  ethernet(fields, 'inner.', body.subarray(16));
}

/** Whether the node made the packet itself, of which this is the header at `at`. */
const isOurs = (fields: Fields, at: string): boolean =>
  [NODE, '10.66.0.1'].includes(fields[`${at}ip.src`] ?? '') && fields[`${at}icmp.type`] !== undefined;

/** What two routers may do differently at will: numbers that are any, as long as they are in order. */
export function normalise(fields: Fields): Fields {
  const result = { ...fields };
  // The identification of what the node itself sends.
  for (const at of ['', 'inner.']) if (isOurs(result, at)) result[`${at}ip.id`] = 'any';
  const source = Number(result['udp.source']);
  if (result['udp.source'] !== undefined) {
    result['udp.source'] = source >= 49152 ? 'ephemeral' : String(source);
    if (result['ip.id'] !== undefined) result['ip.id'] = 'any';
  }
  return result;
}

/** A frame in a few words: where it left and what it is. */
export function summary(port: PortName, fields: Fields): string {
  const at = fields['inner.ip.src'] === undefined ? '' : 'inner.';
  const kind = (): string => {
    const get = (name: string) => fields[`${at}${name}`];
    if (get('arp.operation')) return `ARP ${get('arp.operation')} ${get('arp.sender')}`;
    for (const name of ['icmp', 'icmp6']) {
      if (get(`${name}.type`)) return `${name.toUpperCase()} ${get(`${name}.type`)}/${get(`${name}.code`)}`;
    }
    return get('ip.protocol')
      ? `IP ${get('ip.protocol')}`
      : get('ip.next')
        ? `IP6 ${get('ip.next')}`
        : 'bytes';
  };
  return `${port}: ${at === '' ? '' : 'VXLAN '}${kind()}`;
}
