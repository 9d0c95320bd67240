/**
 * Frames by hand, and the addresses of the oracle's small world. Nothing here is shared with the packet path: what it gets
 * wrong must not be got wrong here in the same way.
 */

/** The node's ports, on both sides of the comparison. */
export const PORTS = ['cali-a', 'cali-b', 'tortie0', 'underlay'] as const;
export type PortName = (typeof PORTS)[number];

export const GATEWAY_MAC = 'ee:ee:ee:ee:ee:ee';
export const MAC_A = '02:00:00:00:00:0a';
export const MAC_B = '02:00:00:00:00:0b';
export const MAC_HOST = '52:54:00:00:00:aa';
export const MAC_NODE = '52:54:00:00:00:01';
export const MAC_NODE2 = '52:54:00:00:00:02';
export const VTEP1 = '66:00:00:00:00:01';
export const VTEP2 = '66:00:00:00:00:02';
export const VTEP3 = '66:00:00:00:00:03';
/** Of tunnels over IPv6. */
export const VTEP1_6 = '66:00:00:00:06:01';
export const VTEP4 = '66:00:00:00:06:04';
export const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';

export const NODE = '192.0.2.1';
export const NODE2 = '192.0.2.2';
export const NODE3 = '192.0.2.3';
/** Underlay addresses of IPv6, and the network that they are in. */
export const NODE_U6 = '2001:db8:1::1';
export const NODE4_U6 = '2001:db8:1::4';
export const UNDERLAY6 = '2001:db8:1::/64';
export const A = '10.66.0.2';
export const B = '10.66.0.3';
/** Pod a's as well, and those of a pod of node2. */
export const MANY = '10.77.0.0/16';
export const MANY_REMOTE = '10.78.0.0/16';
/** In this node's block; nobody has it. */
export const NOBODY = '10.66.0.9';
export const REMOTE = '10.66.1.2';
export const REMOTE3 = '10.66.2.2';
export const WORLD = '198.51.100.1';
export const PROHIBITED = '10.99.1.1';
export const UNREACHABLE = '10.99.2.1';
export const BLACKHOLED = '10.99.3.1';
export const NO_ROUTE = '10.99.4.1';

export const NODE_6 = 'fd66::1';
export const A6 = 'fd66::2';
export const B6 = 'fd66::3';
export const NOBODY6 = 'fd66::9';
export const REMOTE6 = 'fd66::1:2';
export const REMOTE36 = 'fd66::2:2';
/** By a tunnel over IPv6. */
export const REMOTE46 = 'fd66::4:2';
export const WORLD6 = '2001:db8::1';
export const PROHIBITED6 = 'fd99:1::1';
export const UNREACHABLE6 = 'fd99:2::1';
export const BLACKHOLED6 = 'fd99:3::1';
export const NO_ROUTE6 = 'fd99:4::1';
export const GATEWAY6 = 'fe80::ecee:eeff:feee:eeee';
/** What the pod's MAC makes of fe80::/64. */
export const LINK_LOCAL_A = 'fe80::ff:fe00:a';

export const VNI = 4096;
export const VXLAN_PORT = 4789;

const ETHERTYPE = { ip4: 0x0800, arp: 0x0806, vlan: 0x8100, ip6: 0x86dd } as const;

export const u8 = (...values: number[]): Buffer => Buffer.from(values);
export const u16 = (value: number): Buffer => Buffer.from([(value >> 8) & 255, value & 255]);
export const u32 = (value: number): Buffer => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)]);
export const join = (...parts: Uint8Array[]): Buffer => Buffer.concat(parts);
export const filled = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, i) => i & 255));

export const macBytes = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex');
export const ip4Bytes = (text: string): Buffer => Buffer.from(text.split('.').map(Number));

export function ip6Bytes(text: string): Buffer {
  const [head, tail] = text.split('::') as [string, string | undefined];
  const words = (part: string) =>
    part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16));
  const [before, after] = [words(head), words(tail ?? '')];
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0);
  return join(...[...before, ...zeros, ...after].map(u16));
}

/** The checksum of RFC 1071 over some bytes. */
export function checksum(...parts: Uint8Array[]): number {
  const bytes = join(...parts);
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? bytes[i]! << 8 : bytes[i]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

export function ethernet(
  type: keyof typeof ETHERTYPE | number,
  inner: Uint8Array,
  to: string,
  from: string,
): Buffer {
  return join(macBytes(to), macBytes(from), u16(typeof type === 'number' ? type : ETHERTYPE[type]), inner);
}

export interface Ip4 {
  src?: string;
  dst?: string;
  ttl?: number;
  tos?: number;
  id?: number;
  /** DF, MF and offset as they stand in the header. */
  fragment?: number;
  protocol?: number;
  options?: Uint8Array;
  version?: number;
  headerWords?: number;
  length?: number;
  checksum?: number;
}

export const DF = 0x4000;
export const MF = 0x2000;

/** An IPv4 packet, by default from pod a to pod b; what is not said is right. */
export function ip4(payload: Uint8Array, fields: Ip4 = {}): Buffer {
  const options = fields.options ?? u8();
  const header = (sum: number) =>
    join(
      u8(((fields.version ?? 4) << 4) | (fields.headerWords ?? 5 + options.length / 4), fields.tos ?? 0),
      u16(fields.length ?? 20 + options.length + payload.length),
      u16(fields.id ?? 0x1234),
      u16(fields.fragment ?? 0),
      u8(fields.ttl ?? 64, fields.protocol ?? 17),
      u16(sum),
      ip4Bytes(fields.src ?? A),
      ip4Bytes(fields.dst ?? B),
      options,
    );
  return join(header(fields.checksum ?? checksum(header(0))), payload);
}

export interface Ip6 {
  src?: string;
  dst?: string;
  hops?: number;
  trafficClass?: number;
  flow?: number;
  next?: number;
  length?: number;
  version?: number;
}

/** An IPv6 packet, by default from pod a to pod b; what is not said is right. */
export function ip6(payload: Uint8Array, fields: Ip6 = {}): Buffer {
  const first =
    ((fields.version ?? 6) << 28) | ((fields.trafficClass ?? 0) << 20) | ((fields.flow ?? 0) & 0xfffff);
  return join(
    u32(first >>> 0),
    u16(fields.length ?? payload.length),
    u8(fields.next ?? 17, fields.hops ?? 64),
    ip6Bytes(fields.src ?? A6),
    ip6Bytes(fields.dst ?? B6),
    payload,
  );
}

function pseudo(addresses: { src?: string; dst?: string }, protocol: number, length: number): Buffer {
  const src = addresses.src ?? A;
  const dst = addresses.dst ?? B;
  return src.includes(':')
    ? join(ip6Bytes(src), ip6Bytes(dst), u32(length), u32(protocol))
    : join(ip4Bytes(src), ip4Bytes(dst), u8(0, protocol), u16(length));
}

/** A UDP datagram; without `sum` its checksum is right for these addresses. */
export function udp(
  data: Uint8Array,
  between: { src?: string; dst?: string; from?: number; to?: number; sum?: number; length?: number } = {},
): Buffer {
  const length = 8 + data.length;
  const datagram = (sum: number) =>
    join(u16(between.from ?? 1000), u16(between.to ?? 2000), u16(between.length ?? length), u16(sum), data);
  return datagram(between.sum ?? (checksum(pseudo(between, 17, length), datagram(0)) || 0xffff));
}

/** A TCP segment without options. */
export function tcp(
  data: Uint8Array,
  between: { src?: string; dst?: string; from?: number; to?: number; flags?: number } = {},
): Buffer {
  const segment = (sum: number) =>
    join(
      u16(between.from ?? 40000),
      u16(between.to ?? 80),
      u32(1),
      u32(1),
      u8(0x50, between.flags ?? 0x18),
      u16(64240),
      u16(sum),
      u16(0),
      data,
    );
  return segment(checksum(pseudo(between, 6, 20 + data.length), segment(0)));
}

/** An ICMP message: type, code, the four bytes that depend on them, data. */
export function icmp(type: number, code: number, rest: number, data: Uint8Array, sum?: number): Buffer {
  const message = (value: number) => join(u8(type, code), u16(value), u32(rest), data);
  return message(sum ?? checksum(message(0)));
}

/** The same for ICMPv6, whose checksum needs the addresses. */
export function icmp6(
  type: number,
  code: number,
  rest: number,
  data: Uint8Array,
  between: { src?: string; dst?: string; sum?: number } = {},
): Buffer {
  const message = (value: number) => join(u8(type, code), u16(value), u32(rest), data);
  const addresses = { src: between.src ?? A6, dst: between.dst ?? B6 };
  return message(between.sum ?? checksum(pseudo(addresses, 58, 8 + data.length), message(0)));
}

export function arp(fields: {
  operation?: number;
  senderMac?: string;
  sender?: string;
  targetMac?: string;
  target: string;
}): Buffer {
  return join(
    u16(1),
    u16(0x0800),
    u8(6, 4),
    u16(fields.operation ?? 1),
    macBytes(fields.senderMac ?? MAC_A),
    ip4Bytes(fields.sender ?? A),
    macBytes(fields.targetMac ?? '00:00:00:00:00:00'),
    ip4Bytes(fields.target),
  );
}

/** The group that solicitations for an address go to. */
export function solicitedNode(address: string): string {
  const bytes = ip6Bytes(address);
  return `ff02::1:ff${bytes.subarray(13, 14).toString('hex')}:${bytes.subarray(14).toString('hex')}`;
}

/** A frame of a pod to its gateway. */
export const fromA4 = (packet: Uint8Array, to = GATEWAY_MAC): Buffer => ethernet('ip4', packet, to, MAC_A);
export const fromA6 = (packet: Uint8Array, to = GATEWAY_MAC): Buffer => ethernet('ip6', packet, to, MAC_A);

export interface Tunnel {
  src?: string;
  dst?: string;
  tos?: number;
  ttl?: number;
  fragment?: number;
  id?: number;
  flags?: number;
  reserved1?: number;
  reserved2?: number;
  vni?: number;
  sum?: number;
  udpLength?: number;
  from?: number;
  to?: number;
  type?: keyof typeof ETHERTYPE | number;
  innerTo?: string;
  innerFrom?: string;
}

/** A frame of the underlay: a packet in VXLAN from node2 to this node, or over IPv6 from node4 if `src` is of IPv6. */
export function vxlan(packet: Uint8Array, fields: Tunnel = {}): Buffer {
  const over6 = fields.src?.includes(':') ?? false;
  const [src, dst] = [fields.src ?? NODE2, fields.dst ?? (over6 ? NODE_U6 : NODE)];
  const is4 = packet[0]! >> 4 !== 6;
  const inner = ethernet(
    fields.type ?? (is4 ? 'ip4' : 'ip6'),
    packet,
    fields.innerTo ?? (over6 ? VTEP1_6 : VTEP1),
    fields.innerFrom ?? (over6 ? VTEP4 : VTEP2),
  );
  const header = join(
    u8(fields.flags ?? 8),
    u8(0, 0, 0).fill(fields.reserved1 ?? 0),
    u32((fields.vni ?? VNI) << 8).fill(fields.reserved2 ?? 0, 3),
  );
  const datagram = udp(join(header, inner), {
    src,
    dst,
    from: fields.from ?? 55555,
    to: fields.to ?? VXLAN_PORT,
    ...(fields.sum !== undefined && { sum: fields.sum }),
    ...(fields.udpLength !== undefined && { length: fields.udpLength }),
  });
  const { tos, ttl, fragment, id } = fields;
  if (over6) {
    return fromUnderlay(
      ip6(datagram, {
        src,
        dst,
        ...(tos !== undefined && { trafficClass: tos }),
        ...(ttl !== undefined && { hops: ttl }),
      }),
    );
  }
  const outer = ip4(datagram, {
    src,
    dst,
    ...(tos !== undefined && { tos }),
    ...(ttl !== undefined && { ttl }),
    ...(fragment !== undefined && { fragment }),
    ...(id !== undefined && { id }),
  });
  return fromUnderlay(outer);
}

export const fromUnderlay = (packet: Uint8Array): Buffer =>
  ethernet(packet[0]! >> 4 === 6 ? 'ip6' : 'ip4', packet, MAC_NODE, MAC_NODE2);
export const fromHost4 = (packet: Uint8Array): Buffer => ethernet('ip4', packet, GATEWAY_MAC, MAC_HOST);
export const fromHost6 = (packet: Uint8Array): Buffer => ethernet('ip6', packet, GATEWAY_MAC, MAC_HOST);
