/**
 * What the kernel refuses of TCP segments before any program sees them: a wrong password, or a peer too far away, shows
 * nowhere but in counters, and as a peer that never answers.
 */
import { readFileSync } from 'node:fs';

/** Counters of TcpExt in /proc/net/netstat, of all connections in this network namespace. */
const COUNTERS = {
  TCPMD5Failure: 'with a wrong MD5 signature',
  TCPMD5NotFound: 'without the MD5 signature that they need',
  TCPMD5Unexpected: 'with an MD5 signature from where none is configured',
  TCPMinTTLDrop: 'from further away than TTL security allows',
} as const;
type Counter = keyof typeof COUNTERS;

type Counts = Record<Counter, number>;
export type Refusals = Readonly<Counts> & {
  /** What our sockets that listen have dropped, for these reasons and for their filters of TTLs. */
  readonly dropped: number;
};

/** How old a reading may be, ms: one serves all sessions that ask. */
const FRESH_MS = 1000;

/** A reader for all sessions of a speaker; `dropped` is asked for what has no counter in /proc. */
export function refusalReader(dropped: () => number): () => Refusals {
  let last: Refusals | null = null;
  let readAt = 0;
  return () => {
    if (!last || performance.now() - readAt >= FRESH_MS) {
      last = { ...readCounters(), dropped: dropped() };
      readAt = performance.now();
    }
    return last;
  };
}

/** The counters now; those that the kernel does not have are 0. */
export function readCounters(file = '/proc/net/netstat'): Readonly<Counts> {
  const counts = { TCPMD5Failure: 0, TCPMD5NotFound: 0, TCPMD5Unexpected: 0, TCPMinTTLDrop: 0 };
  let text = '';
  try {
    text = readFileSync(file, 'ascii');
  } catch {
    // Without /proc nothing is known.
  }
  const [names = [], values = []] = text
    .split('\n')
    .filter((line) => line.startsWith('TcpExt:'))
    .map((line) => line.split(' '));
  for (const [i, name] of names.entries()) if (name in counts) counts[name as Counter] = Number(values[i]);
  return counts;
}

/** What was refused between two readings that can have to do with a peer, in words; null: nothing. */
export function describeRefusals(
  before: Refusals,
  now: Refusals,
  { password, ttlSecurity }: { password: string | null; ttlSecurity: number | null },
): string | null {
  const concerning: Counter[] =
    password === null ? ['TCPMD5Unexpected'] : ['TCPMD5Failure', 'TCPMD5NotFound'];
  if (ttlSecurity !== null) concerning.push('TCPMinTTLDrop');
  const since = (name: keyof Refusals) => Math.max(0, now[name] - before[name]);
  const segments = (count: number) => `${count} segment${count === 1 ? '' : 's'}`;
  const parts = concerning
    .filter((name) => since(name) > 0)
    .map((name) => `${segments(since(name))} ${COUNTERS[name]} (${name})`);
  // A filter has no counter of its own: what else the listening socket drops is taken away.
  const filtered =
    since('dropped') - since('TCPMD5Failure') - since('TCPMD5NotFound') - since('TCPMD5Unexpected');
  if (ttlSecurity !== null && filtered > 0)
    parts.push(`${segments(filtered)} where we listen, as it does ${COUNTERS.TCPMinTTLDrop}`);
  return parts.length === 0 ? null : `the kernel refused ${parts.join(' and ')} meanwhile, of all peers`;
}
