/** Which way tunnels leave this node: the fastest that kernel and host allow, unless the settings say. */
import type { TunnelWay } from '../../dataplane/messages.ts';
import type { Native } from '../../dataplane/native/index.ts';

/** Those that have a setting, and VXLAN over IPv6, which goes as VXLAN but never through the host. */
export type Tunnel = 'vxlan' | 'ipip' | 'vxlan6';
export type WaySetting = TunnelWay | 'auto';

/** What the kernel and the host allow; each obstacle in words, null if there is none. */
export interface WayFacts {
  /** Why the host device cannot take super-frames of this tunnel. */
  readonly hostObstacle: Readonly<Record<Tunnel, string | null>>;
  /** Why the host would not forward what its device brings. */
  readonly forwardObstacle: string | null;
  /** VXLAN is sent with UDP checksums. */
  readonly udpChecksum: boolean;
}

export interface Choice {
  readonly way: TunnelWay;
  /** Why this one, for people. */
  readonly reason: string;
  /** What was asked for and cannot be had, or null. */
  readonly problem: string | null;
}

export function chooseWay(tunnel: Tunnel, setting: WaySetting, facts: WayFacts): Choice {
  const unchecked =
    tunnel === 'vxlan' && !facts.udpChecksum ? 'UDP checksums are off, and segmentation needs them' : null;
  const obstacle = unchecked ?? facts.hostObstacle[tunnel] ?? facts.forwardObstacle;
  const next: TunnelWay = unchecked === null ? 'sockets' : 'plain';
  switch (setting) {
    case 'auto':
      return obstacle === null
        ? { way: 'host', reason: 'kernel and host allow it', problem: null }
        : { way: next, reason: obstacle, problem: null };
    case 'host': {
      // A firewall's policy is a guess about other packets: who asks for this way knows the rules.
      const hard = unchecked ?? facts.hostObstacle[tunnel];
      if (hard === null) return { way: 'host', reason: 'as configured', problem: null };
      return { way: next, reason: hard, problem: `offload.${tunnel}: host is not possible: ${hard}` };
    }
    case 'sockets':
      if (unchecked === null) return { way: 'sockets', reason: 'as configured', problem: null };
      return {
        way: 'plain',
        reason: unchecked,
        problem: `offload.vxlan: sockets is not possible: ${unchecked}`,
      };
    case 'plain':
      return { way: 'plain', reason: 'as configured', problem: null };
  }
}

/** The header of a device that takes UDP tunnels' super-frames (Linux 6.17). */
const TUNNEL_VNET_HEADER = 24;

const ONLY_IPV4 = 'the way through the host is for tunnels over IPv4';

/** What keeps the host's device from taking super-frames, by tunnel. Puts the mark of IPIP's on it if it can. */
export function hostObstacles(
  native: Native,
  device: string,
  vnetHeader: number,
): Record<Tunnel, string | null> {
  if (vnetHeader === 0) {
    const closed = `the host device ${device} is not open`;
    return { vxlan: closed, ipip: closed, vxlan6: ONLY_IPV4 };
  }
  return {
    vxlan: vnetHeader < TUNNEL_VNET_HEADER ? 'the kernel has no UDP tunnel GSO on TAP (Linux 6.17)' : null,
    ipip: ipipObstacle(native, device),
    vxlan6: ONLY_IPV4,
  };
}

function ipipObstacle(native: Native, device: string): string | null {
  try {
    native.ipipMarkAttach({ name: device });
    return null;
  } catch (error) {
    return `IPIP super-frames cannot be marked: ${(error as Error).message}`;
  }
}
