import { expect, it } from 'vitest';
import { chooseWay, type WayFacts } from './ways.ts';

const able: WayFacts = {
  hostObstacle: { vxlan: null, ipip: null, vxlan6: 'over IPv6' },
  forwardObstacle: null,
  udpChecksum: true,
};
const oldKernel: WayFacts = { ...able, hostObstacle: { ...able.hostObstacle, vxlan: 'old kernel' } };
const firewalled: WayFacts = { ...able, forwardObstacle: 'policy drop' };
const unchecked: WayFacts = { ...able, udpChecksum: false };

it.each([
  ['vxlan', 'auto', able, 'host', 'kernel and host allow it', false],
  ['vxlan', 'auto', oldKernel, 'sockets', 'old kernel', false],
  ['ipip', 'auto', oldKernel, 'host', 'kernel and host allow it', false],
  ['vxlan', 'auto', firewalled, 'sockets', 'policy drop', false],
  ['vxlan', 'auto', unchecked, 'plain', 'UDP checksums are off, and segmentation needs them', false],
  ['vxlan6', 'auto', unchecked, 'sockets', 'over IPv6', false],
  ['vxlan6', 'plain', able, 'plain', 'as configured', false],
  ['ipip', 'auto', unchecked, 'host', 'kernel and host allow it', false],
  ['vxlan', 'host', able, 'host', 'as configured', false],
  ['vxlan', 'host', firewalled, 'host', 'as configured', false],
  ['vxlan', 'host', oldKernel, 'sockets', 'old kernel', true],
  ['vxlan', 'sockets', able, 'sockets', 'as configured', false],
  ['vxlan', 'sockets', unchecked, 'plain', 'UDP checksums are off, and segmentation needs them', true],
  ['vxlan', 'plain', able, 'plain', 'as configured', false],
] as const)('%s, set to %s: %o', (tunnel, setting, facts, way, reason, isProblem) => {
  const choice = chooseWay(tunnel, setting, facts);
  expect([choice.way, choice.reason, choice.problem !== null]).toEqual([way, reason, isProblem]);
});
