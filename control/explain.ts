/** Trace records in words: which port, which checks, which route and who announced it, which tunnel, what became of it. */
import { DROP_REASONS } from '../dataplane/drops.ts';
import { KIND_NAMES } from '../dataplane/fib/adjacency.ts';
import * as step from '../dataplane/trace.ts';
import { AGAINST_POD, STEP_CELLS, STEPS } from '../dataplane/trace.ts';
import { formatAddress4, formatAddress6, formatMac } from './address.ts';
import { PROTOCOLS } from './frame-text.ts';

/** What the dataplane knows by number only. */
export interface Names {
  port(id: number): string;
  /** The route that an address matches now: prefix, how it leaves, who told, and of several the step that decided. */
  route(address: string): {
    readonly prefix: string;
    readonly via: string;
    readonly origin: string;
    readonly decided?: string | null;
  } | null;
}

export interface ExplainedStep {
  readonly step: string;
  readonly text: string;
  readonly [argument: string]: unknown;
}

export interface Explanation {
  readonly steps: ExplainedStep[];
  /** "sent on cali1234", "consumed", "dropped: no_route". */
  readonly verdict: string;
}

/** Next headers of IPv6 that are no protocol. */
const EXTENSIONS: Record<number, string> = {
  0: 'hop-by-hop options',
  43: 'routing header',
  44: 'fragment',
  60: 'destination options',
};
/** Why an ICMP error was not sent. */
const WHY_NOT: Record<number, string> = {
  [step.FORBIDDEN]: 'forbidden about this packet',
  [step.LIMITED]: 'rate limit',
  [step.NO_WAY_BACK]: 'nothing leads to the sender',
};
/** Codepoints of RFC 3168. */
const ECN_NAMES = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE'] as const;
const ICMP_ERRORS: Record<number, string> = {
  [(3 << 8) | 0]: '3/0 network unreachable',
  [(3 << 8) | 1]: '3/1 host unreachable',
  [(3 << 8) | 4]: '3/4 fragmentation needed',
  [(3 << 8) | 13]: '3/13 prohibited',
  [(11 << 8) | 0]: '11/0 time exceeded',
};

const ICMP6_ERRORS: Record<number, string> = {
  [(1 << 8) | 0]: '1/0 no route',
  [(1 << 8) | 1]: '1/1 prohibited',
  [(1 << 8) | 2]: '1/2 beyond the scope of the source',
  [(1 << 8) | 3]: '1/3 address unreachable',
  [(2 << 8) | 0]: '2/0 packet too big',
  [(3 << 8) | 0]: '3/0 time exceeded',
  [(4 << 8) | 0]: '4/0 parameter problem',
};

const icmp6Name = (typeCode: number): string =>
  ICMP6_ERRORS[typeCode] ?? `${typeCode >> 8}/${typeCode & 255}`;
const icmpName = (typeCode: number): string => ICMP_ERRORS[typeCode] ?? `${typeCode >> 8}/${typeCode & 255}`;

/** One traced packet, step by step. */
export function explain(record: Int32Array, names: Names): Explanation {
  const steps: ExplainedStep[] = [];
  let verdict = 'unfinished';
  /** Of the IPv6 packet in hand. */
  let destination6 = '';
  for (let at = 0; at + STEP_CELLS <= record.length; at += STEP_CELLS) {
    const code = record[at]!;
    const args = record.subarray(at + 1, at + STEP_CELLS);
    const [name, ...labels] = STEPS[code]!;
    const data = Object.assign({}, ...labels.map((label, i) => readable(label, i, args, names)));
    if (code === step.DESTINATION6) destination6 = formatAddress6(args);
    const text =
      code === step.LOOKUP6 ? lookupText(destination6, args[2]!, names) : textOf(code, args, names);
    steps.push({ step: name, text, ...data });
    if (code === step.SENT)
      verdict = verdict.startsWith('dropped') ? verdict : `sent on ${names.port(args[0]!)}`;
    else if (code === step.FRAGMENT) verdict = 'held: waits for the other fragments';
    else if (code === step.CONSUMED) verdict = 'consumed';
    else if (code === step.DROPPED) verdict = `dropped: ${DROP_REASONS[args[0]!]!.name}`;
  }
  return { steps, verdict };
}

const ADDRESSES = new Set(['source', 'destination', 'sender', 'target', 'peer', 'nextHop']);

/** The argument by its label, of which some stand for several values, and some for one value of several arguments. */
function readable(label: string, at: number, args: Int32Array, names: Names): Record<string, unknown> {
  const value = args[at]!;
  switch (label) {
    case 'ttlProtocol':
      return { ttl: value >> 8, protocol: value & 255 };
    case 'typeCode':
      return { type: value >> 8, code: value & 255 };
    case 'why':
      return { why: WHY_NOT[value] };
    case 'against':
      return { against: value === AGAINST_POD ? 'pod' : 'peer' };
    case 'a':
      return { address: formatAddress6(args) };
    case 'hi':
      return { mac: macText(value, args[at + 1]!) };
    case 'b':
    case 'c':
    case 'd':
    case 'lo':
      return {};
    default:
      return { [label]: plain(label, value, names) };
  }
}

function plain(label: string, value: number, names: Names): unknown {
  // A peer over IPv6 has a number of 0/8 here, and its address in a step of its own.
  if (label === 'nextHop' && value >>> 24 === 0) return null;
  if (ADDRESSES.has(label)) return formatAddress4(value);
  if (label === 'port') return names.port(value);
  if (label === 'reason') return DROP_REASONS[value]!.name;
  if (label === 'kind') return KIND_NAMES[value];
  return value;
}

function lookupText(destination: string, nextHop: number, names: Names): string {
  const route = names.route(destination);
  const decided = route?.decided ? `, best by ${route.decided}` : '';
  const why = route ? `${route.prefix} ${route.via}, from ${route.origin}${decided}` : 'no route';
  // Peers over IPv6 are numbers in 0/8.
  return `look-up ${destination}: ${why}${nextHop >>> 24 ? `, next hop ${formatAddress4(nextHop)}` : ''}`;
}

function textOf(code: number, [a, b, c, d]: Int32Array, names: Names): string {
  const address = (value: number | undefined) => formatAddress4(value!);
  switch (code) {
    case step.RECEIVED:
      return `received on ${names.port(a!)}, ${b} bytes`;
    case step.ARP_REQUEST:
      return `ARP: who has ${address(b)}? asks ${address(a)}`;
    case step.ARP_REPLY:
      return `ARP: ${address(a)} is at ee:ee:ee:ee:ee:ee`;
    case step.TUNNEL:
      return `${KIND_NAMES[a!]} from ${address(b)}${c ? `, VNI ${c}` : ''}`;
    case step.HEADER:
      return `IPv4 ${address(a)} > ${address(b)}, ${PROTOCOLS[c! & 255] ?? `protocol ${c! & 255}`}, ttl ${c! >> 8}, ${d} bytes: header good`;
    case step.SOURCE_CHECKED:
      return `source ${address(a)} is ${b === AGAINST_POD ? 'the pod’s own' : 'routed via that peer'}`;
    case step.LOOKUP:
      return lookupText(address(a), d!, names);
    case step.TTL:
      return `ttl ${a} > ${b}`;
    case step.TOO_BIG:
      return `${a} bytes where ${b} fit`;
    case step.ENCAPSULATED:
      return `into ${KIND_NAMES[a!]}, ${address(b)} > ${address(c)}${KIND_NAMES[a!] === 'vxlan' ? `, VNI ${d}` : ''}`;
    case step.ICMP_ERROR:
      return `ICMP ${icmpName(a!)} to ${address(b)}${c ? `, MTU ${c}` : ''}`;
    case step.ICMP_SUPPRESSED:
      return `ICMP ${icmpName(a!)} not sent: ${WHY_NOT[b!]}`;
    case step.SENT:
      return `sent on ${names.port(a!)}, ${b} bytes`;
    case step.SOURCE6:
      return `from ${formatAddress6([a!, b!, c!, d!])}`;
    case step.DESTINATION6:
      return `to ${formatAddress6([a!, b!, c!, d!])}`;
    case step.HEADER6:
      return `IPv6, ${PROTOCOLS[b!] ?? EXTENSIONS[b!] ?? `next header ${b}`}, hop limit ${a}, ${c} bytes: header good`;
    case step.SOURCE_CHECKED6:
      return `source is ${a === AGAINST_POD ? 'the pod’s own' : 'routed via that peer'}`;
    case step.SOLICITATION:
      return `neighbour discovery: who has ${formatAddress6([a!, b!, c!, d!])}?`;
    case step.ADVERTISEMENT:
      return `neighbour discovery: ${formatAddress6([a!, b!, c!, d!])} is at ee:ee:ee:ee:ee:ee`;
    case step.ICMP6_ERROR:
      return `ICMPv6 ${icmp6Name(a!)} to the sender${b ? `, ${a! >> 8 === 2 ? 'MTU' : 'byte'} ${b}` : ''}`;
    case step.ICMP6_SUPPRESSED:
      return `ICMPv6 ${icmp6Name(a!)} not sent: ${WHY_NOT[b!]}`;
    case step.ECN:
      return `ECN ${ECN_NAMES[a!]} in ${ECN_NAMES[b!]}${c! < 0 ? '' : `: ${ECN_NAMES[c!]}`}`;
    case step.PEER6:
      return `tunnel peer ${formatAddress6([a!, b!, c!, d!])}`;
    case step.TUNNEL6:
      return `VXLAN over IPv6 from that peer, VNI ${b}`;
    case step.ENCAPSULATED6:
      return `into VXLAN over IPv6 to that peer, VNI ${b}, flow label 0x${c!.toString(16)}`;
    case step.FRAGMENTED:
      return `DF is clear: ${a} pieces of at most ${b} bytes`;
    case step.FRAGMENT:
      return `${c ? 'last ' : ''}fragment of a tunnel packet, ${b} bytes from ${a}`;
    case step.REASSEMBLED:
      return `whole again from ${a} fragments, ${b} bytes`;
    case step.GROUP:
      return `several next hops, group ${a}: the flow has bucket ${b}${d! >>> 24 ? `, of ${address(d)}` : ''}`;
    case step.MTU:
      return b ? `${a} bytes, ${b} fit` : `${a} bytes, any size fits`;
    case step.OUTER:
      return `outer header: ${a ? `UDP source port ${a}, ` : ''}TOS 0x${b!.toString(16).padStart(2, '0')}, ttl ${c}, ${d} bytes in all`;
    case step.LINK:
      return `Ethernet ee:ee:ee:ee:ee:ee > ${macText(a!, b!)}`;
    case step.CONSUMED:
      return 'consumed: answered here';
    default: {
      const reason = DROP_REASONS[a!]!;
      return `dropped: ${reason.name}, ${reason.description}`;
    }
  }
}

const macText = (hi: number, lo: number): string =>
  formatMac(Uint8Array.of(hi >> 8, hi, lo >> 24, lo >> 16, lo >> 8, lo));
