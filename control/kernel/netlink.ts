/**
 * What is in a network namespace, asked of the kernel without a process of its own: with 250 pods a look at all of
 * them takes milliseconds. Shapes and words are those of `ip -json -details -Numeric`. Numbers are from the uapi headers.
 */
import ipaddr from 'ipaddr.js';
import { native as load } from '../../dataplane/native/index.ts';
import { formatAddress4, formatMac } from '../address.ts';
import { parseWords } from '../bgp/family.ts';
import type { Address, Link, Netns, Route, RouteHop } from './iproute.ts';

const RTM_GETLINK = 18;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const AF_INET = 2;
const AF_INET6 = 10;

const NLMSG_HEADER = 16;
const RTATTR_HEADER = 4;
const MAC_LENGTH = 6;
/** linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h. */
const IFINFOMSG = 16;
const IFADDRMSG = 8;
const RTMSG = 12;
const IFLA = { address: 1, name: 3, mtu: 4, queueLength: 13, info: 18, alias: 20 } as const;
const IFLA_INFO_DATA = 2;
const IFLA_TUN_MULTI_QUEUE = 7;
const IFA = { address: 1, local: 2 } as const;
const RTA = {
  dst: 1,
  oif: 4,
  gateway: 5,
  metric: 6,
  prefsrc: 7,
  metrics: 8,
  multipath: 9,
  table: 15,
  via: 18,
} as const;
const RTAX_MTU = 2;
/** struct rtnexthop: length, flags, weight less one, device. */
const RTNEXTHOP = 8;
const RT_TABLE_MAIN = 254;
/** A cached copy of another route. */
const RTM_F_CLONED = 0x200;
/** Flags of a link by their bits (linux/if.h). */
const FLAGS = [
  'UP',
  'BROADCAST',
  'DEBUG',
  'LOOPBACK',
  'POINTOPOINT',
  'NOTRAILERS',
  'RUNNING',
  'NOARP',
  'PROMISC',
] as const;

/** Netlink is in the machine's byte order. */
const LITTLE = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/**
 * All links of a namespace with their addresses, and the IPv4 routes of its main table: those of one routing protocol, or
 * all. Throws the addon's error.
 */
export function readNamespace(netns: Netns, protocol?: number): { links: Link[]; routes: Route[] } {
  const links = readLinks(netns);
  const names = new Map(links.map(({ ifindex, ifname }) => [ifindex, ifname]));
  return { links, routes: readFamily(netns, AF_INET, protocol, names) };
}

/** All links of a namespace with their addresses. Throws the addon's error. */
export function readLinks(netns: Netns): Link[] {
  const where = netns === null ? {} : { netns };
  const ask = (type: number) => messages(load().netlinkDump({ ...where, type, family: 0 }));
  const addresses = new Map<number, Address[]>();
  for (const message of ask(RTM_GETADDR)) {
    const ifindex = message.getUint32(4, LITTLE);
    const of = addresses.get(ifindex) ?? [];
    of.push(addressOf(message));
    addresses.set(ifindex, of);
  }
  return ask(RTM_GETLINK).map((message) => linkOf(message, addresses));
}

/** The IPv6 routes of a namespace's main table, the same. */
export function readRoutes6(netns: Netns, protocol?: number): Route[] {
  return readFamily(netns, AF_INET6, protocol);
}

/**
 * The routes of one routing protocol in the main table of a namespace. Those to everywhere are told apart: 0.0.0.0/0
 * and ::/0.
 */
export function readRoutes(netns: Netns, protocol: number): Route[] {
  return [[AF_INET, '0.0.0.0/0'] as const, [AF_INET6, '::/0'] as const].flatMap(([family, everywhere]) =>
    readFamily(netns, family, protocol).map((route) =>
      route.dst === 'default' ? { ...route, dst: everywhere } : route,
    ),
  );
}

/** How the kernel reaches an address. */
export interface Reached {
  /** The neighbour, or the address itself. */
  readonly gateway: string;
  readonly dev: string;
  /** Where the route has one of its own, or packets came back for their size. */
  readonly mtu?: number;
}

/** How a namespace reaches each of these addresses (text), as the kernel would send now; or the name of the errno of its refusal. */
export function reach(
  netns: Netns,
  addresses: readonly string[],
): (Reached | { readonly refused: string })[] {
  if (addresses.length === 0) return [];
  const names = namesOf(netns);
  return addresses.map((address) => {
    try {
      return reachedOf(load().netlinkAsk(netns ?? '', routeRequest(address)), address, names);
    } catch (error) {
      return { refused: (error as NodeJS.ErrnoException).code ?? String(error) };
    }
  });
}

/** struct nlmsghdr, struct rtmsg, RTA_DST. */
function routeRequest(address: string): Uint8Array {
  const words = parseWords(address);
  const view = new DataView(new ArrayBuffer(NLMSG_HEADER + RTMSG + RTATTR_HEADER + 4 * words.length));
  view.setUint32(0, view.byteLength, LITTLE);
  view.setUint16(4, RTM_GETROUTE, LITTLE);
  view.setUint8(NLMSG_HEADER, words.length === 1 ? AF_INET : AF_INET6);
  view.setUint8(NLMSG_HEADER + 1, 32 * words.length);
  const at = NLMSG_HEADER + RTMSG;
  view.setUint16(at, RTATTR_HEADER + 4 * words.length, LITTLE);
  view.setUint16(at + 2, RTA.dst, LITTLE);
  for (const [i, word] of words.entries()) view.setInt32(at + RTATTR_HEADER + 4 * i, word);
  return bytesOf(view);
}

function reachedOf(answer: Uint8Array, address: string, names: ReadonlyMap<number, string>): Reached {
  const attributes = attributesOf(messages(answer)[0]!, RTMSG);
  const metrics = attributes.get(RTA.metrics);
  const mtu = metrics && attributesOf(metrics, 0).get(RTAX_MTU);
  return {
    gateway: gatewayOf(attributes).gateway ?? address,
    dev: names.get(numberOf(attributes.get(RTA.oif))) ?? '',
    ...(mtu && { mtu: numberOf(mtu) }),
  };
}

function readFamily(
  netns: Netns,
  family: number,
  protocol: number | undefined,
  known?: ReadonlyMap<number, string>,
): Route[] {
  const where = netns === null ? {} : { netns };
  const only = protocol === undefined ? {} : { protocol };
  const found = messages(load().netlinkDump({ ...where, type: RTM_GETROUTE, family, ...only }));
  if (found.length === 0) return [];
  const names = known ?? namesOf(netns);
  const routes = found.flatMap((message) => routeOf(message, names));
  // A kernel before 4.20 does not choose for us.
  return protocol === undefined ? routes : routes.filter((route) => route.protocol === String(protocol));
}

/** Names of a namespace's links by index. */
function namesOf(netns: Netns): Map<number, string> {
  const where = netns === null ? {} : { netns };
  const links = messages(load().netlinkDump({ ...where, type: RTM_GETLINK, family: 0 }));
  return new Map(
    links.map((message) => linkOf(message, new Map())).map(({ ifindex, ifname }) => [ifindex, ifname]),
  );
}

/** The bodies of messages that lie one behind another. */
function messages(bytes: Uint8Array): DataView[] {
  const found: DataView[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + NLMSG_HEADER <= bytes.length; ) {
    const length = view.getUint32(at, LITTLE);
    found.push(new DataView(bytes.buffer, bytes.byteOffset + at + NLMSG_HEADER, length - NLMSG_HEADER));
    at += (length + 3) & ~3;
  }
  return found;
}

/** Attributes by type, from an offset on. */
function attributesOf(view: DataView, start: number): Map<number, DataView> {
  const found = new Map<number, DataView>();
  for (let at = start; at + RTATTR_HEADER <= view.byteLength; ) {
    const length = view.getUint16(at, LITTLE);
    if (length < RTATTR_HEADER) break;
    // The two highest bits are flags.
    const type = view.getUint16(at + 2, LITTLE) & 0x3fff;
    const offset = view.byteOffset + at + RTATTR_HEADER;
    found.set(type, new DataView(view.buffer, offset, length - RTATTR_HEADER));
    at += (length + 3) & ~3;
  }
  return found;
}

const bytesOf = (view: DataView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const numberOf = (view: DataView | undefined): number => view?.getUint32(0, LITTLE) ?? 0;
const textOf = (view: DataView | undefined): string =>
  view ? new TextDecoder().decode(bytesOf(view)).replace(/\0$/, '') : '';
const ipOf = (view: DataView): string =>
  view.byteLength === 4
    ? formatAddress4(view.getInt32(0))
    : ipaddr.fromByteArray([...bytesOf(view)]).toString();

function linkOf(message: DataView, addresses: ReadonlyMap<number, Address[]>): Link {
  const ifindex = message.getUint32(4, LITTLE);
  const flags = message.getUint32(8, LITTLE);
  const attributes = attributesOf(message, IFINFOMSG);
  const [mac, alias, info] = [IFLA.address, IFLA.alias, IFLA.info].map((type) => attributes.get(type));
  const data = info && attributesOf(info, 0).get(IFLA_INFO_DATA);
  const multiQueue = data && attributesOf(data, 0).get(IFLA_TUN_MULTI_QUEUE);
  return {
    ifindex,
    ifname: textOf(attributes.get(IFLA.name)),
    flags: FLAGS.filter((_, bit) => flags & (1 << bit)),
    mtu: numberOf(attributes.get(IFLA.mtu)),
    txqlen: numberOf(attributes.get(IFLA.queueLength)),
    ...(mac?.byteLength === MAC_LENGTH && { address: formatMac(bytesOf(mac)) }),
    ...(alias && { ifalias: textOf(alias) }),
    addr_info: addresses.get(ifindex) ?? [],
    ...(multiQueue && { linkinfo: { info_data: { multi_queue: multiQueue.getUint8(0) === 1 } } }),
  };
}

function addressOf(message: DataView): Address {
  const attributes = attributesOf(message, IFADDRMSG);
  // On a link between two, IFA_ADDRESS is the other's.
  const address = attributes.get(IFA.local) ?? attributes.get(IFA.address);
  return {
    family: message.getUint8(0) === AF_INET6 ? 'inet6' : 'inet',
    local: address ? ipOf(address) : '',
    prefixlen: message.getUint8(1),
    scope: String(message.getUint8(3)),
  };
}

function gatewayOf(attributes: ReadonlyMap<number, DataView>): { gateway?: string } {
  const via = attributes.get(RTA.via);
  // struct rtvia: a family before the address.
  const other = via && new DataView(via.buffer, via.byteOffset + 2, via.byteLength - 2);
  const gateway = attributes.get(RTA.gateway) ?? other;
  return gateway ? { gateway: ipOf(gateway) } : {};
}

function hopsOf(multipath: DataView, names: ReadonlyMap<number, string>): RouteHop[] {
  const hops: RouteHop[] = [];
  for (let at = 0; at + RTNEXTHOP <= multipath.byteLength; ) {
    const length = multipath.getUint16(at, LITTLE);
    if (length < RTNEXTHOP) break;
    const dev = names.get(multipath.getInt32(at + 4, LITTLE));
    const rest = new DataView(multipath.buffer, multipath.byteOffset + at + RTNEXTHOP, length - RTNEXTHOP);
    const weight = multipath.getUint8(at + 3) + 1;
    hops.push({ ...gatewayOf(attributesOf(rest, 0)), ...(dev !== undefined && { dev }), weight });
    at += (length + 3) & ~3;
  }
  return hops;
}

/** Nothing for what is no route of the main table. */
function routeOf(message: DataView, names: ReadonlyMap<number, string>): Route[] {
  const attributes = attributesOf(message, RTMSG);
  const table = numberOf(attributes.get(RTA.table)) || message.getUint8(4);
  if (table !== RT_TABLE_MAIN || message.getUint32(8, LITTLE) & RTM_F_CLONED) return [];
  const length = message.getUint8(1);
  const whole = message.getUint8(0) === AF_INET6 ? 128 : 32;
  const [to, prefsrc] = [RTA.dst, RTA.prefsrc].map((type) => attributes.get(type));
  const dev = names.get(numberOf(attributes.get(RTA.oif)));
  const multipath = attributes.get(RTA.multipath);
  const metric = numberOf(attributes.get(RTA.metric));
  const dst = to ? `${ipOf(to)}${length === whole ? '' : `/${length}`}` : 'default';
  return [
    {
      type: String(message.getUint8(7)),
      dst,
      ...gatewayOf(attributes),
      ...(dev !== undefined && { dev }),
      ...(multipath && { nexthops: hopsOf(multipath, names) }),
      protocol: String(message.getUint8(5)),
      ...(prefsrc && { prefsrc: ipOf(prefsrc) }),
      ...(metric > 0 && { metric }),
    },
  ];
}
