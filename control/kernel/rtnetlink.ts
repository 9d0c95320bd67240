/**
 * Changes of a pod's namespace, asked of the kernel without a process of its own: a pod is set up in a millisecond. Commands are
 * those that plan.ts writes for iproute2, which carries out whatever is not understood here.
 */
import { getSystemErrorName } from 'node:util';
import { native as load } from '../../dataplane/native/index.ts';
import { bytesOf6, isIp6, parseAddress4, parseMac, tryAddress6 } from '../address.ts';
import type { Family, Prefix } from '../bgp/family.ts';
import { type Failure, ipApply, type Netns } from './iproute.ts';

const RTM_NEWLINK = 16;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const NLM_F_REPLACE = 0x100;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const CREATE = NLM_F_CREATE | NLM_F_EXCL;
const AF_INET = 2;
const AF_INET6 = 10;
const NLMSG_HEADER = 16;

/** linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h. */
const IFLA = { address: 1, mtu: 4, queueLength: 13, alias: 20, afSpec: 26 } as const;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const GEN_MODES: Record<string, number> = { eui64: 0, none: 1 };
const IFF_UP = 1;
const IFA = { address: 1, local: 2 } as const;
const IFA_F_NODAD = 2;
const RTA = { dst: 1, oif: 4, gateway: 5, metric: 6, prefsrc: 7, multipath: 9, via: 18 } as const;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_NOWHERE = 255;
const RTN_UNICAST = 1;

/** Netlink is in the machine's byte order. */
const LITTLE = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

type Attribute = readonly [type: number, value: Uint8Array];

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const bytesOf = (address: string): Uint8Array => {
  if (isIp6(address)) return bytesOf6(tryAddress6(address)!);
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, parseAddress4(address));
  return bytes;
};

const aligned = (length: number): number => (length + 3) & ~3;

function encodeAttributes(attributes: readonly Attribute[]): Uint8Array {
  const parts = attributes.map(([type, value]) => {
    const bytes = new Uint8Array(aligned(4 + value.length));
    bytes.set(new Uint8Array(Uint16Array.of(4 + value.length, type).buffer));
    bytes.set(value, 4);
    return bytes;
  });
  return Buffer.concat(parts);
}

function message(
  type: number,
  flags: number,
  body: Uint8Array,
  attributes: readonly Attribute[],
): Uint8Array {
  const rest = encodeAttributes(attributes);
  const length = NLMSG_HEADER + body.length + rest.length;
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length, LITTLE);
  view.setUint16(4, type, LITTLE);
  view.setUint16(6, flags, LITTLE);
  bytes.set(body, NLMSG_HEADER);
  bytes.set(rest, NLMSG_HEADER + body.length);
  return bytes;
}

/** struct ifinfomsg. */
function link(index: number, up: boolean, attributes: readonly Attribute[]): Uint8Array {
  const body = new Uint8Array(16);
  body.set(u32(index), 4);
  if (up) for (const at of [8, 12]) body.set(u32(IFF_UP), at);
  return message(RTM_NEWLINK, 0, body, attributes);
}

function linkSet(index: number, what: string, value: string): Uint8Array | null {
  switch (what) {
    case 'up':
      return link(index, true, []);
    case 'alias':
      return link(index, false, [[IFLA.alias, Buffer.from(value)]]);
    case 'mtu':
      return link(index, false, [[IFLA.mtu, u32(Number(value))]]);
    case 'txqueuelen':
      return link(index, false, [[IFLA.queueLength, u32(Number(value))]]);
    case 'address':
      return link(index, false, [[IFLA.address, parseMac(value)]]);
    case 'addrgenmode': {
      const mode = GEN_MODES[value];
      if (mode === undefined) return null;
      const six = encodeAttributes([[IFLA_INET6_ADDR_GEN_MODE, Uint8Array.of(mode)]]);
      return link(index, false, [[IFLA.afSpec, encodeAttributes([[AF_INET6, six]])]]);
    }
    default:
      return null;
  }
}

/** struct ifaddrmsg. */
function address(type: number, index: number, cidr: string, noDad: boolean): Uint8Array {
  const [text = '', length] = cidr.split('/');
  const value = bytesOf(text);
  const body = new Uint8Array(8);
  body.set([isIp6(text) ? AF_INET6 : AF_INET, Number(length), noDad ? IFA_F_NODAD : 0, 0]);
  body.set(u32(index), 4);
  const attributes: Attribute[] = [
    [IFA.local, value],
    [IFA.address, value],
  ];
  return message(type, type === RTM_NEWADDR ? CREATE : 0, body, attributes);
}

/** struct rtmsg: to one address, or, with a gateway, to all. */
function route(index: number, to: string | null, gateway: string | null, metric: number): Uint8Array {
  const is6 = isIp6(to ?? gateway ?? '');
  const body = new Uint8Array(12);
  const length = to === null ? 0 : is6 ? 128 : 32;
  const scope = gateway === null && !is6 ? RT_SCOPE_LINK : 0;
  body.set([is6 ? AF_INET6 : AF_INET, length, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST]);
  const attributes: Attribute[] = [[RTA.oif, u32(index)]];
  if (to !== null) attributes.push([RTA.dst, bytesOf(to)]);
  if (gateway !== null) attributes.push([RTA.gateway, bytesOf(gateway)]);
  if (metric > 0) attributes.push([RTA.metric, u32(metric)]);
  return message(RTM_NEWROUTE, CREATE, body, attributes);
}

const ROUTE_ACTIONS = {
  add: [RTM_NEWROUTE, CREATE],
  replace: [RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE],
  del: [RTM_DELROUTE, 0],
} as const;

export interface RouteForm {
  /** One, or several that share the flows by weight. */
  readonly hops: readonly FormHop[];
  /** Preferred source, address, or null. */
  readonly source: string | null;
}

export interface FormHop {
  /** Address, or null: what is there is on the link. */
  readonly gateway: string | null;
  /** Of the device. */
  readonly index: number;
  /** 1 to 256; counts where there are several. */
  readonly weight: number;
}

export type RouteAction = keyof typeof ROUTE_ACTIONS;

/** Where the prefix stands in a request: its length, and the words of its address, the first attribute. */
const LENGTH_AT = NLMSG_HEADER + 1;
const WORDS_AT = NLMSG_HEADER + 12 + 4;

function gatewayOf({ gateway }: FormHop, family: Family): Attribute[] {
  if (gateway === null) return [];
  const hop = bytesOf(gateway);
  if (hop.length === 4 * family.words) return [[RTA.gateway, hop]];
  return [[RTA.via, Uint8Array.of(...new Uint8Array(Uint16Array.of(AF_INET6).buffer), ...hop)]];
}

/** A struct rtnexthop each, with its gateway behind it. */
function multipathOf(hops: readonly FormHop[], family: Family): Uint8Array {
  const parts = hops.map((hop) => {
    const gateway = encodeAttributes(gatewayOf(hop, family));
    const bytes = new Uint8Array(8 + gateway.length);
    bytes.set(new Uint8Array(Uint16Array.of(bytes.length).buffer));
    bytes[3] = hop.weight - 1;
    bytes.set(u32(hop.index), 4);
    bytes.set(gateway, 8);
    return bytes;
  });
  return Buffer.concat(parts);
}

/**
 * A request for the main table of either family, to be completed by `aimRoute`: all routes that say the same but for the
 * prefix share it. An IPv4 route may have an IPv6 gateway.
 */
export function encodeRoute(
  action: RouteAction,
  family: Family,
  { hops, source }: RouteForm,
  protocol: number,
): Uint8Array {
  const [type, flags] = ROUTE_ACTIONS[action];
  const is6 = family.words === 4;
  const body = new Uint8Array(12);
  const [hop, ...others] = hops as [FormHop, ...FormHop[]];
  const isSeveral = others.length > 0;
  const scope = hop.gateway === null && !isSeveral && !is6 ? RT_SCOPE_LINK : 0;
  // Several go without being named, whatever has become of them meanwhile.
  const anyScope = isSeveral && action === 'del' ? RT_SCOPE_NOWHERE : scope;
  body.set([is6 ? AF_INET6 : AF_INET, 0, 0, 0, RT_TABLE_MAIN, protocol, anyScope, RTN_UNICAST]);
  const attributes: Attribute[] = [[RTA.dst, new Uint8Array(4 * family.words)]];
  if (!isSeveral) attributes.push([RTA.oif, u32(hop.index)], ...gatewayOf(hop, family));
  else if (action !== 'del') attributes.push([RTA.multipath, multipathOf(hops, family)]);
  if (source !== null) attributes.push([RTA.prefsrc, bytesOf(source)]);
  return message(type, flags, body, attributes);
}

/** Complete a request that begins at `at`. */
export function aimRoute(
  view: DataView,
  at: number,
  { words, length }: Pick<Prefix, 'words' | 'length'>,
): void {
  view.setUint8(at + LENGTH_AT, length);
  for (let i = 0; i < words.length; i++) view.setInt32(at + WORDS_AT + 4 * i, words[i]!);
}

/** The request that a command stands for, or null if it is none of those that plan.ts writes for pods. */
function encode(command: string, indexOf: (device: string) => number | undefined): Uint8Array | null {
  const device = / dev (\S+)/.exec(command)?.[1];
  const index = device === undefined ? undefined : indexOf(device);
  if (index === undefined) return null;
  const rest = command.replace(/ dev \S+/, '');
  const set = /^link set (\w+)(?: (\S+))?$/.exec(rest);
  if (set) return linkSet(index, set[1]!, set[2] ?? '');
  const changed = /^addr (add|del) ([\da-f.:]+\/\d+)( nodad)?$/.exec(rest);
  if (changed) {
    return address(changed[1] === 'add' ? RTM_NEWADDR : RTM_DELADDR, index, changed[2]!, !!changed[3]);
  }
  const way = /^route add (?:(default) via ([\da-f.:]+)|([\d.]+) scope link)(?: metric (\d+))?$/.exec(rest);
  if (!way) return null;
  return route(index, way[3] ?? null, way[1] ? way[2]! : null, Number(way[4] ?? 0));
}

/**
 * Carry out commands in a pod's namespace; one that fails does not stop the rest. `indexOf` gives the index of a device there.
 * Throws the addon's error if the namespace cannot be entered.
 */
export async function applyInPod(
  netns: Exclude<Netns, null>,
  commands: readonly string[],
  indexOf: (device: string) => number | undefined,
): Promise<readonly Failure[]> {
  if (commands.length === 0) return [];
  const requests = commands.map((command) => encode(command, indexOf));
  const known = requests.filter((request) => request !== null);
  // All by one way: their order matters.
  if (known.length < requests.length) return ipApply(netns, commands);
  const errors = new Int32Array(known.length);
  load().netlinkChange(netns, Buffer.concat(known), errors);
  return commands.flatMap((command, index) => {
    const error = errors[index]!;
    return error === 0 ? [] : [{ command, message: `RTNETLINK answers: ${getSystemErrorName(-error)}` }];
  });
}
