/** What is asked of ours against each peer, as ratios of medians: the least, and what to reach for. */

export interface Mark {
  readonly least: number;
  readonly reach: number;
  /** As people say it: for times, how many times the peer's ours may take. */
  readonly text: string;
}

/** Ratios this close to a mark meet it: less than what one machine drifts. */
const TOLERANCE = 0.05;

const atLeast = (least: number, reach = least): Mark => ({
  least,
  reach,
  text: reach === least ? `${least} x` : `${least} x / ${reach} x`,
});
const atMost = (times: number): Mark => ({ least: 1 / times, reach: 1 / times, text: `${times} x at most` });

const MARKS: Readonly<Record<string, Readonly<Record<string, Mark>>>> = {
  'tap-tcp': {
    'c-relay': atLeast(1),
    'ovs-dpdk': atLeast(1, 1.3),
    'kernel-router': atLeast(0.6, 0.8),
  },
  'tap-udp64': { 'c-relay': atLeast(1) },
  'vxlan-tcp': {
    'kernel-vxlan': atLeast(0.75, 0.9),
    ovs: atLeast(10),
    fastd: atLeast(10),
    vtun: atLeast(10),
  },
  'ipip-tcp': { 'kernel-vxlan': atLeast(0.75, 0.9) },
  'vxlan-sockets-tcp': { 'kernel-vxlan': atLeast(0.5, 0.65) },
  'vxlan-wire-tcp': { 'kernel-vxlan': atLeast(0.85, 1) },
  'ipip-wire-tcp': { 'kernel-vxlan': atLeast(1.1, 1.25) },
  'ipip-sockets-wire-tcp': { 'kernel-vxlan': atLeast(0.35) },
  'direct-wire-tcp': { 'vxlan-wire-tcp': atLeast(1) },
  'vxlan-udp64': { 'kernel-vxlan': atLeast(0.95), ovs: atLeast(1.5) },
  'rtt-p50': { 'c-relay': atMost(1.2) },
  'rtt-p999': { 'c-relay': atMost(1.5) },
  'encap-vxlan': { 'c-twin': atLeast(0.5) },
  'encap-ipip': { 'c-twin': atLeast(0.5) },
  'fib4-random': { rte_lpm: atLeast(1), rte_fib: atLeast(0.75, 1) },
  'fib4-table': { rte_lpm: atLeast(1), rte_fib: atLeast(0.75, 1) },
  'fib6-random': { rte_lpm: atLeast(1), rte_fib: atLeast(0.75, 1) },
  'fib6-table': { rte_lpm: atLeast(1), rte_fib: atLeast(0.75, 1) },
  'bgp-load': { bird: atMost(1), gobgp: { least: 3, reach: 3, text: 'a third at most' } },
  'bgp-load-99': { bird: atMost(1.5) },
  'bgp-load-diverse': { bird: atMost(1), gobgp: { least: 3, reach: 3, text: 'a third at most' } },
  'bgp-load-diverse-99': { bird: atMost(1) },
  'bgp-reflect': { bird: atMost(2) },
  'node-cni-add': { 'ptp-host-local': atMost(1.5) },
};

export const markOf = (entry: string, peer: string): Mark | undefined => MARKS[entry]?.[peer];

export function verdict({ least, reach }: Mark, ratio: number): 'missed' | 'met' | 'reached' {
  if (ratio < least * (1 - TOLERANCE)) return 'missed';
  return reach > least && ratio >= reach * (1 - TOLERANCE) ? 'reached' : 'met';
}
