/** Kernel parameters of the node's namespace, by /proc/sys, which shows the namespace of whoever looks. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Failure } from './iproute.ts';

/** What the node's kernel needs to be one router with tortie behind its host device. */
export function hostSysctls(device: string): readonly (readonly [string, string])[] {
  const conf = `net/ipv4/conf/${device}`;
  return [
    ['net/ipv4/ip_forward', '1'],
    // Loose: tortie has checked sources strictly, by pod, and allows some that the kernel routes elsewhere.
    [`${conf}/rp_filter`, '2'],
    [`${conf}/send_redirects`, '0'],
    // Tunnel packets through the device bear the node's own address (docs/ARCHITECTURE.md, "Ways of a tunnel").
    [`${conf}/accept_local`, '1'],
  ];
}

/** The same for IPv6, where a node has it: forwarding, and no advertisements heeded behind tortie's own device. */
export const hostSysctls6 = (device: string): readonly (readonly [string, string])[] => [
  ['net/ipv6/conf/all/forwarding', '1'],
  [`net/ipv6/conf/${device}/accept_ra`, '0'],
];

/** Set what differs. Unchanged values are not written: writing ip_forward resets others. */
export function applySysctls(wanted: readonly (readonly [string, string])[]): Failure[] {
  const failures: Failure[] = [];
  for (const [name, value] of wanted) {
    const path = `/proc/sys/${name}`;
    try {
      if (readFileSync(path, 'utf8').trim() !== value) writeFileSync(path, value);
    } catch (error) {
      const message = (error as Error).message;
      failures.push({ command: `sysctl ${name}=${value}`, message });
    }
  }
  return failures;
}
