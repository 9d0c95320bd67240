import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { describeRefusals, readCounters, refusalReader } from './refusals.ts';

const none = { TCPMD5Failure: 0, TCPMD5NotFound: 0, TCPMD5Unexpected: 0, TCPMinTTLDrop: 0, dropped: 0 };

it('reads the counters of the kernel, and 0 for those it does not have', () => {
  const folder = mkdtempSync(join(tmpdir(), 'refusals-'));
  const file = join(folder, 'netstat');
  writeFileSync(
    file,
    'TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure\nTcpExt: 9 1 2 3\nIpExt: InOctets\nIpExt: 5\n',
  );
  expect(readCounters(file)).toEqual({
    TCPMD5NotFound: 1,
    TCPMD5Unexpected: 2,
    TCPMD5Failure: 3,
    TCPMinTTLDrop: 0,
  });
  rmSync(folder, { recursive: true });
  const { dropped: _, ...counters } = none;
  expect(readCounters(file)).toEqual(counters);
});

it('reads once for all who ask at a time', () => {
  let asked = 0;
  const read = refusalReader(() => ++asked);
  const first = read();
  expect(Object.values(first).every(Number.isInteger)).toBe(true);
  expect(read()).toBe(first);
  expect(first.dropped).toBe(1);
});

it('tells a peer what can have to do with it', () => {
  const now = { TCPMD5Failure: 1, TCPMD5NotFound: 2, TCPMD5Unexpected: 3, TCPMinTTLDrop: 4, dropped: 8 };
  const tell = (password: string | null, ttlSecurity: number | null) =>
    describeRefusals(none, now, { password, ttlSecurity });
  expect(tell('x', null)).toBe(
    'the kernel refused 1 segment with a wrong MD5 signature (TCPMD5Failure) and 2 segments without the MD5 signature that they need (TCPMD5NotFound) meanwhile, of all peers',
  );
  expect(tell(null, 1)).toMatch(
    /^the kernel refused 3 .*Unexpected\) and 4 .*further away.*MinTTLDrop\) and 2 segments where we listen/,
  );
  expect(describeRefusals(now, now, { password: 'x', ttlSecurity: 1 })).toBeNull();
  expect(
    describeRefusals(none, { ...none, TCPMD5Unexpected: 1 }, { password: 'x', ttlSecurity: 1 }),
  ).toBeNull();
});
