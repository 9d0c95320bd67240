/** Frames made of the corpus by a few mistakes each, the same ones for the same seed. */
import { Random } from '../../dataplane/random.ts';
import type { Case } from './corpus.ts';
import type { PortName } from './frames.ts';
import * as f from './frames.ts';

const ETHERNET = 14;
/** UDP and VXLAN headers, and the inner Ethernet header. */
const TUNNEL = 8 + 8 + ETHERNET;
const TYPE_IPV6 = 0x86dd;
const NEXT_FRAGMENT = 44;
const MOST_CHANGES = 3;
/** How often checksums are right again afterwards: most mistakes would else be seen by nobody. */
const MENDED = 0.85;

const ADDRESSES = [
  f.A,
  f.B,
  f.NOBODY,
  f.NODE,
  f.NODE2,
  '10.66.0.1',
  '10.66.1.1',
  f.REMOTE,
  f.REMOTE3,
  f.WORLD,
  f.PROHIBITED,
  f.UNREACHABLE,
  f.BLACKHOLED,
  f.NO_ROUTE,
  '10.77.3.4',
  '0.0.0.0',
  '0.0.0.1',
  '127.0.0.1',
  '169.254.1.1',
  '224.0.0.1',
  '240.0.0.1',
  '255.255.255.255',
].map(f.ip4Bytes);
const ADDRESSES6 = [
  f.A6,
  f.B6,
  f.NOBODY6,
  f.NODE_6,
  'fd66::1:1',
  f.REMOTE6,
  f.REMOTE36,
  f.REMOTE46,
  f.NODE4_U6,
  f.NODE_U6,
  f.WORLD6,
  f.PROHIBITED6,
  f.UNREACHABLE6,
  f.BLACKHOLED6,
  f.NO_ROUTE6,
  '::',
  '::1',
  '::ffff:a42:3',
  f.GATEWAY6,
  f.LINK_LOCAL_A,
  'ff02::1',
  'ff0e::1',
].map(f.ip6Bytes);
const BYTES = [0, 1, 2, 4, 6, 17, 58, 59, 64, 127, 128, 254, 255];
const WORDS = [0, 1, 7, 8, 20, 40, 0x2000, 0x4000, 0x8000, 0x1fff, 0xffff];

/** More fragments to come, or an offset. */
const FRAGMENT = 0x3fff;

interface Counts {
  /** Identifications that fragments were given; those of the corpus are among the first hundred. */
  fragments: number;
}

class Mutation {
  readonly #random: Random;
  readonly #counts: Counts;
  readonly #number: number;
  #frame: Buffer;
  readonly #port: PortName;
  /** Length of the outer IP header, which begins the frame's packet. */
  readonly #outer: number;
  /** Where the innermost IP header begins. */
  readonly #ip: number;

  constructor(random: Random, counts: Counts, number: number, port: PortName, frame: Uint8Array) {
    this.#random = random;
    this.#counts = counts;
    this.#number = number;
    this.#port = port;
    this.#frame = Buffer.from(frame);
    this.#outer = this.#frame.readUInt16BE(12) === TYPE_IPV6 ? 40 : 20;
    this.#ip = port === 'underlay' ? ETHERNET + this.#outer + TUNNEL : ETHERNET;
  }

  make(): Buffer {
    const changes = 1 + this.#random.below(MOST_CHANGES);
    for (let i = 0; i < changes; i++) this.#change();
    this.#spread();
    if (this.#random.chance(MENDED)) this.#mend();
    // Less than an Ethernet header cannot be sent, nor more than the kernel's links take.
    return this.#frame.length < ETHERNET ? Buffer.concat([this.#frame], ETHERNET) : this.#frame;
  }

  #change(): void {
    const change = this.#random.of([
      () => this.#byte(),
      () => this.#byte(),
      () => this.#field(),
      () => this.#field(),
      () => this.#field(),
      () => this.#address(),
      () => this.#address(),
      () => this.#length(),
      ...(this.#port === 'underlay'
        ? [() => this.#tunnelField(), () => this.#tunnelField()]
        : [() => this.#mac()]),
    ]);
    change();
  }

  /** Any byte behind the Ethernet header. */
  #byte(): void {
    const headers = Math.min(this.#frame.length - ETHERNET, this.#ip + 48 - ETHERNET);
    if (headers <= 0) return;
    const at = ETHERNET + this.#random.below(headers);
    this.#frame[at] = this.#random.chance(0.5)
      ? this.#random.of(BYTES)
      : this.#frame[at]! ^ (1 << this.#random.below(8));
  }

  /** A field of the IP header, with a value that somebody might treat as another. */
  #field(): void {
    const is6 = this.#frame[this.#ip]! >> 4 === 6;
    const [bytes, words] = is6
      ? [[0, 1, 6, 7], [4]]
      : [
          [0, 1, 8, 9],
          [2, 4, 6],
        ];
    if (this.#random.chance(0.6)) this.#put(this.#ip + this.#random.of(bytes), f.u8(this.#random.of(BYTES)));
    else this.#put(this.#ip + this.#random.of(words), f.u16(this.#random.of(WORDS)));
  }

  #address(): void {
    const is6 = this.#frame[this.#ip]! >> 4 === 6;
    // A source that is not the sender's is dropped: mostly destinations.
    const isSource = this.#random.chance(0.2);
    if (is6) this.#put(this.#ip + (isSource ? 8 : 24), this.#random.of(ADDRESSES6));
    else this.#put(this.#ip + (isSource ? 12 : 16), this.#random.of(ADDRESSES));
  }

  #mac(): void {
    this.#put(0, f.macBytes(this.#random.of([f.GATEWAY_MAC, f.MAC_B, f.BROADCAST_MAC, '33:33:00:00:00:01'])));
  }

  /** Cut, or padded. */
  #length(): void {
    if (this.#random.chance(0.5))
      this.#frame = this.#frame.subarray(0, Math.max(ETHERNET, this.#random.below(this.#frame.length)));
    else this.#frame = f.join(this.#frame, f.filled(1 + this.#random.below(64)));
  }

  /** Outer header, UDP, VXLAN, inner MACs. */
  #tunnelField(): void {
    const outer = ETHERNET;
    const upper = outer + this.#outer;
    const is6 = this.#outer === 40;
    const change = this.#random.of([
      () => this.#put(outer + (is6 ? 0 : 1), f.u8(this.#random.of(BYTES))),
      () => this.#put(outer + (is6 ? 7 : 8), f.u8(this.#random.of([0, 1, 2]))),
      () => this.#put(outer + (is6 ? 8 : 12), this.#random.of(is6 ? ADDRESSES6 : ADDRESSES)),
      () => this.#put(upper + 4, f.u16(this.#random.of(WORDS))),
      () => this.#put(upper + 8, f.u8(this.#random.of(BYTES))),
      () => this.#put(upper + 12 + this.#random.below(4), f.u8(this.#random.of(BYTES))),
      () =>
        this.#put(upper + 16, f.macBytes(this.#random.of([f.VTEP2, f.BROADCAST_MAC, '01:00:5e:00:00:01']))),
    ]);
    change();
  }

  #put(at: number, value: Uint8Array): void {
    if (at + value.length <= this.#frame.length) this.#frame.set(value, at);
  }

  /** A source of its own for what dead routes may be told about: the kernel tells each source once a second. */
  #spread(): void {
    const ip = this.#ip;
    if (this.#port === 'underlay') this.#identify();
    if (this.#frame.length < ip + 20 || this.#frame[ip]! >> 4 !== 4) return;
    const address = (at: number) => this.#frame.subarray(ip + at, ip + at + 4);
    const isDead = address(16)[0] === 10 && address(16)[1] === 99;
    const isOfMany = address(12)[0] === 10 && [66, 77, 78].includes(address(12)[1]!);
    if (!isDead || (this.#port !== 'tortie0' && !isOfMany)) return;
    const first = { 'cali-a': [10, 77], 'cali-b': [10, 77], tortie0: [198, 18], underlay: [10, 78] }[
      this.#port
    ];
    const number = this.#number & 0xffff;
    this.#put(ip + 12, f.u8(...first, number >> 8, number & 255));
  }

  /** A number of its own for a fragment of a tunnel packet, which is not to be joined with another's. */
  #identify(): void {
    const ip = ETHERNET;
    if (this.#frame.length < ip + this.#outer + 8) return;
    if (this.#outer === 20 && (this.#frame.readUInt16BE(ip + 6) & FRAGMENT) !== 0) {
      this.#put(ip + 4, f.u16(++this.#counts.fragments));
    } else if (this.#outer === 40 && this.#frame[ip + 6] === NEXT_FRAGMENT) {
      this.#put(ip + this.#outer + 4, f.u32(++this.#counts.fragments));
    }
  }

  /** Header checksums right again, and the outer one of UDP. */
  #mend(): void {
    if (this.#port === 'underlay') {
      this.#mendHeader(ETHERNET);
      this.#mendDatagram(ETHERNET + this.#outer);
    }
    this.#mendHeader(this.#ip);
  }

  /** Over IPv4 none will do. */
  #mendDatagram(at: number): void {
    if (this.#outer === 20) return this.#put(at + 6, f.u16(0));
    const length = this.#frame.length - at;
    if (length < 8) return;
    this.#put(at + 6, f.u16(0));
    const addresses = this.#frame.subarray(ETHERNET + 8, ETHERNET + 40);
    const sum = f.checksum(addresses, f.u32(length), f.u32(17), this.#frame.subarray(at));
    this.#put(at + 6, f.u16(sum || 0xffff));
  }

  #mendHeader(at: number): void {
    const header = (this.#frame[at]! & 15) * 4;
    if (this.#frame[at]! >> 4 !== 4 || header < 20 || at + header > this.#frame.length) return;
    this.#put(at + 10, f.u16(0));
    this.#put(at + 10, f.u16(f.checksum(this.#frame.subarray(at, at + header))));
  }
}

/** `count` cases of one frame each. */
export function mutations(corpus: readonly Case[], count: number, seed: number): Case[] {
  const random = new Random(seed);
  const counts = { fragments: 100 };
  return Array.from({ length: count }, (_, number) => {
    const of = random.of(corpus);
    const [port, frame] = of.frames.at(-1)!;
    const made = new Mutation(random, counts, number, port, frame).make();
    return {
      name: `mutation ${number} of seed ${seed}, of “${of.name}”`,
      frames: [[port, made]],
      again: `--seed ${seed} --mutation ${number}`,
    };
  });
}
