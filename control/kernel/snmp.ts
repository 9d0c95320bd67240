/**
 * What the kernel drops before the sockets of tunnels see it: fragments that it could not join, and datagrams with a wrong checksum
 * (/proc/net/snmp and snmp6). They are counted for the namespace as a whole, other programs' datagrams among them.
 */
import { readFileSync } from 'node:fs';

export interface KernelDrops {
  /** Fragments of IP packets that were never whole. */
  readonly reassembly: number;
  /** Datagrams whose UDP checksum was wrong. */
  readonly udpChecksum: number;
}

/** Of our own namespace; zeros where the kernel does not tell. */
export function readKernelDrops(folder = '/proc/self/net'): KernelDrops {
  const four = parseSnmp(read(`${folder}/snmp`));
  const six = parseSnmp6(read(`${folder}/snmp6`));
  const sum = (name4: string, name6: string) => (four.get(name4) ?? 0) + (six.get(name6) ?? 0);
  return {
    reassembly: sum('Ip.ReasmFails', 'Ip6ReasmFails'),
    udpChecksum: sum('Udp.InCsumErrors', 'Udp6InCsumErrors'),
  };
}

/** Lines come in pairs, "Udp: names" and "Udp: values". */
function parseSnmp(text: string): Map<string, number> {
  const lines = text.split('\n');
  const values = new Map<string, number>();
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [group, ...names] = lines[i]!.split(' ');
    const numbers = lines[i + 1]!.split(' ').slice(1);
    for (const [at, name] of names.entries())
      values.set(`${group!.slice(0, -1)}.${name}`, Number(numbers[at]));
  }
  return values;
}

function parseSnmp6(text: string): Map<string, number> {
  return new Map([...text.matchAll(/^(\w+)\s+(\d+)$/gm)].map(([, name, value]) => [name!, Number(value)]));
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
