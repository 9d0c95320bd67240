/**
 * Expressions that say which packets are meant, in the manner of pcap-filter(7), compiled for the dataplane: "tcp and dst port 80 and
 * host 10.65.1.2", "icmp or icmp6", "net 10.65.0.0/16 and not arp", and, of a packet that has come to its end, "verdict drop" and
 * "reason no_route". As there, "and" and "or" have equal precedence and associate to the left, and a bare value repeats
 * the qualifiers before it: "tcp port 80 or 443".
 *
 *   expression := term (("and" | "or") term)*
 *   term       := ("not" | "!") term | "(" expression ")" | primitive
 */
import { DROP } from '../dataplane/drops.ts';
import * as filter from '../dataplane/filter.ts';
import { TYPE_ARP, TYPE_IPV4, TYPE_IPV6 } from '../dataplane/wire/ethernet.ts';
import { mask4, mask6, tryAddress4, tryAddress6, tryPrefix4, tryPrefix6 } from './address.ts';
import { TortieError } from './error.ts';

const PROTOCOLS: Record<string, number> = { icmp: 1, ipip: 4, tcp: 6, udp: 17, icmp6: 58, sctp: 132 };
const NETWORKS: Record<string, number> = { ip: TYPE_IPV4, ip6: TYPE_IPV6, arp: TYPE_ARP };
const VERDICTS: Record<string, number> = {
  sent: filter.SENT,
  consumed: filter.CONSUMED,
  drop: filter.DROPPED,
  dropped: filter.DROPPED,
  held: filter.HELD,
};
const BOTH = filter.SOURCE | filter.DESTINATION;
const WORDS = new Set(['and', 'or', 'not', '&&', '||', '!', '(', ')']);
const MOST_CHARACTERS = 2000;
const MOST_DEPTH = 16;

interface Token {
  readonly text: string;
  /** Of its first character, from 1 on. */
  readonly at: number;
}

/** A code and its operand: "tcp" in front of "port 80". */
type Guard = readonly [code: number, operand: number];

/** What a bare value repeats. */
interface Qualifiers {
  readonly direction: number;
  readonly kind: 'host' | 'net' | 'port' | 'portrange' | 'proto' | 'verdict' | 'reason';
  readonly guards: readonly Guard[];
}

/** Compile; "" holds for all packets. Throws a TortieError FILTER that says where and what was expected. */
export function compileFilter(text: string): Int32Array {
  if (text.length > MOST_CHARACTERS) throw fault(`is longer than ${MOST_CHARACTERS} characters`, 1);
  const tokens = [...text.matchAll(/[()!]|&&|\|\||[^\s()!&|]+|[&|]/g)].map(({ 0: token, index }) => ({
    text: token,
    at: index + 1,
  }));
  return tokens.length === 0 ? new Int32Array(0) : new Compiler(tokens, text.length + 1).compile();
}

const fault = (what: string, at: number): TortieError =>
  new TortieError('FILTER', `filter, character ${at}: ${what}`);

class Compiler {
  readonly #tokens: readonly Token[];
  readonly #end: number;
  readonly #program: number[] = [];
  #next = 0;
  #depth = 0;
  #stack = 0;
  #last: Qualifiers | null = null;

  constructor(tokens: readonly Token[], end: number) {
    this.#tokens = tokens;
    this.#end = end;
  }

  compile(): Int32Array {
    this.#expression();
    const left = this.#tokens[this.#next];
    if (left) throw fault(`"${left.text}" where "and", "or" or the end was expected`, left.at);
    if (this.#program.length > filter.MAX_PROGRAM) throw fault('is too long; ask for less at once', 1);
    return Int32Array.from(this.#program);
  }

  // ---- Grammar ---------------------------------------------------------------------------------------

  #expression(): void {
    this.#term();
    for (;;) {
      const operator = this.#peek();
      const code =
        operator === 'and' || operator === '&&'
          ? filter.AND
          : operator === 'or' || operator === '||'
            ? filter.OR
            : 0;
      if (code === 0) return;
      this.#next++;
      this.#term();
      this.#stack--;
      this.#program.push(code);
    }
  }

  #term(): void {
    const token = this.#tokens[this.#next];
    if (!token) throw fault('ends where a packet is to be described, as in "host 10.65.1.2"', this.#end);
    if (++this.#depth > MOST_DEPTH) throw fault('is nested too deeply', token.at);
    if (token.text === 'not' || token.text === '!') {
      this.#next++;
      this.#term();
      this.#program.push(filter.NOT);
    } else if (token.text === '(') {
      this.#next++;
      this.#expression();
      const close = this.#tokens[this.#next++];
      if (close?.text !== ')') throw fault('")" is missing', close?.at ?? this.#end);
    } else {
      this.#primitive();
    }
    this.#depth--;
  }

  /** `guards`: what stands in front of it, and has been tested. */
  #primitive(guards: readonly Guard[] = []): void {
    const token = this.#tokens[this.#next]!;
    const { text } = token;
    if (Object.hasOwn(NETWORKS, text)) {
      return this.#qualified([...guards, [filter.NETWORK, NETWORKS[text]!]]);
    }
    if (Object.hasOwn(PROTOCOLS, text)) {
      return this.#qualified([...guards, [filter.PROTOCOL, PROTOCOLS[text]!]]);
    }
    if (text === 'less' || text === 'greater') {
      this.#next++;
      const length = this.#number(65_600);
      return text === 'less'
        ? this.#test(filter.LENGTH, 0, length)
        : this.#test(filter.LENGTH, length, 0x7fffffff);
    }
    const qualifiers = this.#qualifiers();
    if (!qualifiers)
      throw fault(`"${text}" is nothing that a packet is described by; see tortie trace --help`, token.at);
    const repeated = guards.length > 0 ? [] : qualifiers.guards;
    this.#last = { ...qualifiers, guards: guards.length > 0 ? guards : repeated };
    for (const guard of repeated) this.#test(...guard);
    this.#value(qualifiers);
    for (let i = 0; i < repeated.length; i++) this.#and();
  }

  /** "tcp port 80" is "tcp and port 80". The last guard is the word in hand. */
  #qualified(guards: readonly Guard[]): void {
    this.#next++;
    this.#test(...guards.at(-1)!);
    const next = this.#peek();
    if (next === undefined || WORDS.has(next)) return;
    this.#primitive(guards);
    this.#and();
  }

  #and(): void {
    this.#stack--;
    this.#program.push(filter.AND);
  }

  /** "src", "dst port", "net", or nothing before a bare value. */
  #qualifiers(): Qualifiers | null {
    let direction = BOTH;
    let isQualified = false;
    const first = this.#peek();
    if (first === 'src' || first === 'dst') {
      this.#next++;
      isQualified = true;
      direction = first === 'src' ? filter.SOURCE : filter.DESTINATION;
      const [joint, other] = [this.#peek(), this.#tokens[this.#next + 1]?.text];
      if (joint === 'or' && (other === 'src' || other === 'dst') && other !== first) {
        this.#next += 2;
        direction = BOTH;
      }
    }
    const kind = this.#peek();
    switch (kind) {
      case 'host':
      case 'net':
      case 'port':
      case 'portrange':
        this.#next++;
        return { direction, kind, guards: [] };
      case 'proto':
      case 'verdict':
      case 'reason':
        if (isQualified) return null;
        this.#next++;
        return { direction, kind, guards: [] };
    }
    if (isQualified) return { direction, kind: kindOf(kind ?? ''), guards: [] };
    const last = this.#last;
    if (!isAddress(kind ?? '')) return last?.kind === 'host' || last?.kind === 'net' ? null : last;
    const isRepeated = last?.kind === 'host' || last?.kind === 'net';
    const { direction: before, guards } = isRepeated ? last : { direction: BOTH, guards: [] };
    return { direction: before, kind: kindOf(kind!), guards };
  }

  #value({ direction, kind }: Qualifiers): void {
    switch (kind) {
      case 'host':
        return this.#address(direction, false);
      case 'net':
        return this.#address(direction, true);
      case 'port': {
        const port = this.#number(65_535);
        return this.#test(filter.PORTS, direction, port, port);
      }
      case 'portrange': {
        const token = this.#take('a range of ports such as 8000-8080');
        const [, low, high] = /^(\d{1,5})-(\d{1,5})$/.exec(token.text) ?? [];
        if (low === undefined || Number(low) > Number(high) || Number(high) > 65_535)
          throw fault(`"${token.text}" is no range of ports such as 8000-8080`, token.at);
        return this.#test(filter.PORTS, direction, Number(low), Number(high));
      }
      case 'proto': {
        const name = this.#peek() ?? '';
        if (!Object.hasOwn(PROTOCOLS, name)) return this.#test(filter.PROTOCOL, this.#number(255));
        this.#next++;
        return this.#test(filter.PROTOCOL, PROTOCOLS[name]!);
      }
      case 'verdict':
        return this.#test(filter.VERDICT, this.#named(VERDICTS, 'verdict'));
      case 'reason':
        return this.#test(filter.REASON, this.#named(DROP, 'drop reason'));
    }
  }

  #address(direction: number, isNet: boolean): void {
    const token = this.#take(isNet ? 'a network such as 10.65.0.0/16' : 'an address such as 10.65.1.2');
    const { text } = token;
    const net4 = isNet ? tryPrefix4(text) : null;
    const host4 = net4 ? null : tryAddress4(text);
    if (net4 || host4 !== null) {
      const mask = net4 ? mask4(net4.length) : -1;
      return this.#test(filter.ADDRESS4, direction, (net4?.prefix ?? host4!) & mask, mask);
    }
    const net6 = isNet ? tryPrefix6(text) : null;
    const words = net6?.words ?? tryAddress6(text);
    if (!words) {
      throw fault(
        `"${text}" is no ${isNet ? 'network such as 10.65.0.0/16 or fd65::/64' : 'address such as 10.65.1.2 or fd65::2'}`,
        token.at,
      );
    }
    const mask = mask6(net6?.length ?? 128);
    this.#test(filter.ADDRESS6, direction, ...words.map((word, i) => word & mask[i]!), ...mask);
  }

  // ---- Parts -----------------------------------------------------------------------------------------

  #peek(): string | undefined {
    return this.#tokens[this.#next]?.text;
  }

  #take(what: string): Token {
    const token = this.#tokens[this.#next];
    if (!token || WORDS.has(token.text)) throw fault(`${what} is missing`, token?.at ?? this.#end);
    this.#next++;
    return token;
  }

  #number(most: number): number {
    const token = this.#take(`a number up to ${most}`);
    if (!/^\d{1,6}$/.test(token.text) || Number(token.text) > most)
      throw fault(`"${token.text}" is no number up to ${most}`, token.at);
    return Number(token.text);
  }

  #named(names: Readonly<Record<string, number>>, what: string): number {
    const token = this.#take(`a ${what}`);
    if (!Object.hasOwn(names, token.text)) {
      const known = Object.keys(names);
      const some = known.length > 8 ? 'docs/DROPS.md lists them' : `there are ${known.join(', ')}`;
      throw fault(`"${token.text}" is no ${what}; ${some}`, token.at);
    }
    return names[token.text]!;
  }

  #test(code: number, ...operands: number[]): void {
    if (++this.#stack > filter.MAX_STACK) throw fault('is nested too deeply', 1);
    this.#program.push(code, ...operands);
  }
}

const kindOf = (text: string): 'net' | 'host' => (text.includes('/') ? 'net' : 'host');

const isAddress = (text: string): boolean =>
  tryAddress4(text) !== null ||
  tryAddress6(text) !== null ||
  tryPrefix4(text) !== null ||
  tryPrefix6(text) !== null;
