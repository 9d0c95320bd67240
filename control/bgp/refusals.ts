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

export type Refusals = Readonly<Record<Counter, number>>;

/** The counters now; those that the kernel does not have are 0. */
export function readRefusals(file = '/proc/net/netstat'): Refusals {
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
  const parts = concerning
    .map((name) => ({ name, count: now[name] - before[name] }))
    .filter(({ count }) => count > 0)
    .map(({ name, count }) => `${count} segment${count === 1 ? '' : 's'} ${COUNTERS[name]} (${name})`);
  return parts.length === 0 ? null : `the kernel refused ${parts.join(' and ')} meanwhile, of all peers`;
}
