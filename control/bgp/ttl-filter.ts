/**
 * TTL security where a socket listens (RFC 5082): a filter in classic BPF that drops what comes from a peer with too
 * low a TTL, its first SYN on. The socket itself can hold one limit (IP_MINTTL), and the peers have one each.
 */
import { IPV4, parseWords } from './family.ts';

export interface TtlLimit {
  address: string;
  /** Least TTL or hop limit. */
  least: number;
}

/** What a program may be long (BPF_MAXINSNS). */
export const MAX_INSTRUCTIONS = 4096;

const LOAD_WORD = 0x20;
const LOAD_BYTE = 0x30;
const LOAD_MEMORY = 0x60;
const STORE = 0x02;
const JUMP = 0x05;
const JUMP_IF_EQUAL = 0x15;
const JUMP_IF_AT_LEAST = 0x35;
const RETURN = 0x06;

/** Offsets from here on count from the IP header (SKF_NET_OFF). */
const NETWORK = -0x100000;
/** Of TTL and source address in IPv4, of hop limit and source address in IPv6. */
const OFFSETS = [
  { ttl: 8, source: 12 },
  { ttl: 7, source: 8 },
] as const;
const ALL = -1;
const TTL_CELL = 0;

/**
 * The program for sockets of one family, four numbers an instruction: code, jt, jf, k; empty if there is no limit. What
 * comes from other addresses passes. Throws RangeError if it would be too long: about 1,300 IPv4 or 450 IPv6 peers.
 */
export function ttlFilter(limits: readonly TtlLimit[]): Int32Array {
  if (limits.length === 0) return new Int32Array(0);
  const peers = limits.map(({ address, least }) => ({ words: parseWords(address), least }));
  const size = peers[0]!.words.length;
  const { ttl, source } = OFFSETS[size === 1 ? IPV4.index : 1];
  const levels = [...new Set(peers.map(({ least }) => least))];
  const code: number[] = [];
  const emit = (...instruction: [number, number, number, number]) => code.push(...instruction);
  const here = () => code.length / 4;

  // How long the part with the addresses is, each with the jump to its level, says where the levels are.
  const perPeer = 2 * size + 1;
  const levelsAt = 2 + perPeer * peers.length + 1;
  const LEVEL = 4;
  if (levelsAt + LEVEL * levels.length > MAX_INSTRUCTIONS) {
    throw new RangeError(
      `TTL security for ${peers.length} peers of one family is more than the kernel filters`,
    );
  }
  emit(LOAD_BYTE, 0, 0, NETWORK + ttl);
  emit(STORE, 0, 0, TTL_CELL);
  for (const { words, least } of peers) {
    for (const [i, word] of words.entries()) {
      emit(LOAD_WORD, 0, 0, NETWORK + source + 4 * i);
      emit(JUMP_IF_EQUAL, 0, 2 * (size - i - 1) + 1, word);
    }
    emit(JUMP, 0, 0, levelsAt + LEVEL * levels.indexOf(least) - here() - 1);
  }
  emit(RETURN, 0, 0, ALL);
  for (const least of levels) {
    emit(LOAD_MEMORY, 0, 0, TTL_CELL);
    emit(JUMP_IF_AT_LEAST, 0, 1, least);
    emit(RETURN, 0, 0, ALL);
    emit(RETURN, 0, 0, 0);
  }
  return Int32Array.from(code);
}
