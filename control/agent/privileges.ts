/** What the agent may do, and no more (capabilities(7)); docs/tortie.service allows the same. */
import { native } from '../../dataplane/native/index.ts';

const CAPABILITIES = {
  /** Ports below 1024: BGP. */
  CAP_NET_BIND_SERVICE: 10,
  /** Devices, addresses, routes, nftables, tc. */
  CAP_NET_ADMIN: 12,
  /** IPIP's raw sockets. */
  CAP_NET_RAW: 13,
  /** Namespaces of pods, and the BPF program of IPIP's super-frames. */
  CAP_SYS_ADMIN: 21,
} as const;

/** Give up all other privileges, for good, for this thread, those that it makes from now on, and what they start. */
export function dropPrivileges(): void {
  native().keepCapabilities(Object.values(CAPABILITIES).reduce((mask, bit) => mask | (1 << bit), 0));
}
