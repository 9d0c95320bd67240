import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readKernelDrops } from './snmp.ts';

const folder = mkdtempSync(join(tmpdir(), 'tortie-snmp-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('adds up both families', () => {
  writeFileSync(
    join(folder, 'snmp'),
    'Ip: Forwarding DefaultTTL ReasmFails FragOKs\nIp: 1 64 3 9\nUdp: InDatagrams NoPorts InCsumErrors\nUdp: 100 2 5\n',
  );
  writeFileSync(
    join(folder, 'snmp6'),
    'Ip6ReasmFails                   \t4\nUdp6InCsumErrors                \t6\n',
  );
  expect(readKernelDrops(folder)).toEqual({ reassembly: 7, udpChecksum: 11 });
});

it('is zero where nothing is told, and reads what this kernel tells', () => {
  expect(readKernelDrops(join(folder, 'nowhere'))).toEqual({ reassembly: 0, udpChecksum: 0 });
  const { reassembly, udpChecksum } = readKernelDrops();
  expect(reassembly).toBeGreaterThanOrEqual(0);
  expect(udpChecksum).toBeGreaterThanOrEqual(0);
});
