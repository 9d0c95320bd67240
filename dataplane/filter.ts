/**
 * Which frames are traced: a small program over the headers of a frame, outermost to innermost, and over what became of it. Control
 * compiles it from an expression (control/filter.ts); here it runs, without allocation, and looks at no more bytes than there are.
 *
 * A program is in postfix order: tests push a truth, operators take theirs from the stack. It holds for a frame if it holds for any
 * one of its packets: a tunnel packet is asked first, then what is inside it. Before a frame has come to its end,
 * what asks for that is UNKNOWN (Kleene's logic), so most frames are known not to matter when they come.
 */
import { get16, get32 } from './wire/bytes.ts';
import { ETHERNET_LENGTH, TYPE_ARP, TYPE_IPV4, TYPE_IPV6 } from './wire/ethernet.ts';
import * as ipv4 from './wire/ipv4.ts';
import * as ipv6 from './wire/ipv6.ts';
import { UDP_LENGTH } from './wire/udp.ts';
import { VXLAN_LENGTH, VXLAN_PORT } from './wire/vxlan.ts';

/** Operators and tests; behind each of its name its operands. */
export const AND = 1;
export const OR = 2;
export const NOT = 3;
/** direction, address, mask. */
export const ADDRESS4 = 4;
/** direction, four words of address, four of mask. */
export const ADDRESS6 = 5;
/** An IP protocol, behind extension headers. */
export const PROTOCOL = 6;
/** direction, least, most; of TCP, UDP and SCTP. */
export const PORTS = 7;
/** EtherType of the packet: IPv4, IPv6 or ARP. */
export const NETWORK = 8;
/** least, most; bytes of the frame as received. */
export const LENGTH = 9;
/** SENT, CONSUMED, DROPPED or HELD. */
export const VERDICT = 10;
/** A drop reason. */
export const REASON = 11;
/** Operands of each. */
export const OPERANDS: readonly number[] = [0, 0, 0, 0, 3, 9, 1, 3, 1, 2, 1, 1];

/** Directions, as bits. */
export const SOURCE = 1;
export const DESTINATION = 2;

/** Verdicts. PENDING: the frame has not come to its end. */
export const PENDING = -1;
export const SENT = 0;
export const CONSUMED = 1;
export const DROPPED = 2;
export const HELD = 3;

const FALSE = 0;
const TRUE = 2;
export const UNKNOWN = 1;

/** What a program may need of the stack, and have of cells. */
export const MAX_STACK = 32;
export const MAX_PROGRAM = 1024;
/** Packets within packets that are asked. */
const MAX_LAYERS = 4;

/** What a frame begins with. */
export const ETHERNET = 0;
export const VXLAN = 1;
export const IP = 2;

const TCP = 6;
const UDP = 17;
const SCTP = 132;
const ARP_ADDRESSES = [14, 24] as const;
const ARP_LENGTH = 28;

export class FrameFilter {
  readonly #program: Int32Array;
  readonly #stack = new Uint8Array(MAX_STACK);
  // The packet that is asked.
  #network = 0;
  #at = 0;
  #protocol = -1;
  /** Of its ports; 0: it has none. */
  #ports = 0;

  /** An empty program holds for all. */
  constructor(program: Int32Array) {
    this.#program = program;
  }

  /**
   * Whether the frame matches: true, false, or UNKNOWN as a number while its verdict is PENDING. `length` bytes of it are at `offset`;
   * `whole` is how many it had.
   */
  matches(
    bytes: DataView,
    offset: number,
    length: number,
    whole: number,
    outermost: number,
    verdict: number,
    reason: number,
  ): boolean | typeof UNKNOWN {
    if (this.#program.length === 0) return true;
    const end = offset + length;
    let best = FALSE;
    let at = this.#first(bytes, offset, end, outermost);
    let layers = 0;
    do {
      const found = this.#run(bytes, whole, verdict, reason);
      if (found > best) best = found;
      if (best === TRUE) return true;
      at = at < 0 ? -1 : this.#inner(bytes, end);
    } while (at >= 0 && ++layers < MAX_LAYERS);
    return best === FALSE ? false : UNKNOWN;
  }

  /** Describe the outermost packet; where it begins, or -1 if there is none that we know. */
  #first(bytes: DataView, offset: number, end: number, outermost: number): number {
    if (outermost === IP) return this.#packet(bytes, offset, end);
    const at = outermost === VXLAN ? offset + VXLAN_LENGTH : offset;
    return this.#frame(bytes, at, end);
  }

  #frame(bytes: DataView, at: number, end: number): number {
    this.#forget();
    const network = at + ETHERNET_LENGTH;
    if (network > end) return -1;
    const type = get16(bytes, at + 12);
    if (type === TYPE_IPV4 || type === TYPE_IPV6) return this.#packet(bytes, network, end);
    if (type !== TYPE_ARP || network + ARP_LENGTH > end) return -1;
    this.#network = TYPE_ARP;
    this.#at = network;
    return network;
  }

  #packet(bytes: DataView, at: number, end: number): number {
    this.#forget();
    if (at >= end) return -1;
    const version = bytes.getUint8(at) >> 4;
    if (version === 4 && at + ipv4.IPV4_LENGTH <= end) {
      this.#network = TYPE_IPV4;
      this.#protocol = ipv4.protocol(bytes, at);
      const upper = at + ipv4.headerLength(bytes, at);
      const isLater = (ipv4.fragment(bytes, at) & ipv4.FRAGMENT_OFFSET) !== 0;
      if (!isLater && upper >= at + ipv4.IPV4_LENGTH && upper + 4 <= end) this.#ports = upper;
    } else if (version === 6 && at + ipv6.IPV6_LENGTH <= end) {
      this.#network = TYPE_IPV6;
      const found = ipv6.upperLayer(bytes, at, end - at);
      this.#protocol = found === ipv6.CHAIN_BROKEN ? ipv6.nextHeader(bytes, at) : ipv6.upperProtocol(found);
      const upper = found === ipv6.CHAIN_BROKEN ? end : at + ipv6.upperOffset(found);
      // A later fragment has its packet's protocol, as one of IPv4 has, and no ports.
      if (this.#protocol === ipv6.NEXT_FRAGMENT && upper < end) this.#protocol = bytes.getUint8(upper);
      else if (upper + 4 <= end) this.#ports = upper;
    } else {
      return -1;
    }
    this.#at = at;
    return at;
  }

  #forget(): void {
    this.#network = 0;
    this.#protocol = -1;
    this.#ports = 0;
  }

  /** Describe the packet inside the one that was asked, if it is a tunnel's. */
  #inner(bytes: DataView, end: number): number {
    const ports = this.#ports;
    if (ports === 0) return -1;
    if (this.#protocol === ipv4.PROTOCOL_IPIP) return this.#packet(bytes, ports, end);
    const isVxlan = this.#protocol === UDP && get16(bytes, ports + 2) === VXLAN_PORT;
    return isVxlan ? this.#frame(bytes, ports + UDP_LENGTH + VXLAN_LENGTH, end) : -1;
  }

  #run(bytes: DataView, whole: number, verdict: number, reason: number): number {
    const program = this.#program;
    const stack = this.#stack;
    let top = 0;
    for (let at = 0; at < program.length; ) {
      const code = program[at];
      let value = FALSE;
      switch (code) {
        case AND:
          top -= 2;
          value = Math.min(stack[top], stack[top + 1]);
          break;
        case OR:
          top -= 2;
          value = Math.max(stack[top], stack[top + 1]);
          break;
        case NOT:
          value = TRUE - stack[--top];
          break;
        case VERDICT:
          value = verdict === PENDING ? UNKNOWN : truth(verdict === program[at + 1]);
          break;
        case REASON:
          value = verdict === PENDING ? UNKNOWN : truth(verdict === DROPPED && reason === program[at + 1]);
          break;
        case LENGTH:
          value = truth(whole >= program[at + 1] && whole <= program[at + 2]);
          break;
        default:
          value = truth(this.#test(bytes, code, at + 1));
      }
      stack[top++] = value;
      at += 1 + OPERANDS[code];
    }
    return stack[0];
  }

  /** A test of the packet, with operands from cell `at` on. */
  #test(bytes: DataView, code: number, at: number): boolean {
    const program = this.#program;
    switch (code) {
      case NETWORK:
        return this.#network === program[at];
      case PROTOCOL:
        return this.#protocol === program[at];
      case PORTS:
        return this.#isPort(bytes, program[at], program[at + 1], program[at + 2]);
      case ADDRESS4:
        return this.#isAddress4(bytes, program[at], program[at + 1], program[at + 2]);
      default:
        return this.#network === TYPE_IPV6 && this.#isAddress6(bytes, program[at], at + 1);
    }
  }

  #isPort(bytes: DataView, direction: number, least: number, most: number): boolean {
    const ports = this.#ports;
    const protocol = this.#protocol;
    if (ports === 0 || (protocol !== TCP && protocol !== UDP && protocol !== SCTP)) return false;
    const source = get16(bytes, ports);
    const destination = get16(bytes, ports + 2);
    return (
      ((direction & SOURCE) !== 0 && source >= least && source <= most) ||
      ((direction & DESTINATION) !== 0 && destination >= least && destination <= most)
    );
  }

  #isAddress4(bytes: DataView, direction: number, address: number, mask: number): boolean {
    if (this.#network !== TYPE_IPV4 && this.#network !== TYPE_ARP) return false;
    const isArp = this.#network === TYPE_ARP;
    const source = get32(bytes, this.#at + (isArp ? ARP_ADDRESSES[0] : 12));
    const destination = get32(bytes, this.#at + (isArp ? ARP_ADDRESSES[1] : 16));
    return (
      ((direction & SOURCE) !== 0 && (source & mask) === address) ||
      ((direction & DESTINATION) !== 0 && (destination & mask) === address)
    );
  }

  #isAddress6(bytes: DataView, direction: number, at: number): boolean {
    return (
      ((direction & SOURCE) !== 0 && this.#isWords(bytes, this.#at + ipv6.SOURCE, at)) ||
      ((direction & DESTINATION) !== 0 && this.#isWords(bytes, this.#at + ipv6.DESTINATION, at))
    );
  }

  #isWords(bytes: DataView, offset: number, at: number): boolean {
    const program = this.#program;
    for (let i = 0; i < 4; i++) {
      if ((get32(bytes, offset + 4 * i) & program[at + 4 + i]) !== program[at + i]) return false;
    }
    return true;
  }
}

const truth = (holds: boolean): number => (holds ? TRUE : FALSE);
