/**
 * The node of lab.yaml as the kernel would be it: Calico's rules in one namespace, and another in which all
 * its links end, so that a program there sees what leaves each. Made inside scripts/lab/enter.
 *
 * tortie and its host are one router with a port between them; here the kernel is tortie's half alone, and what is the
 * host's leaves it by the device `tortie0`, by rules that stand before the table of local addresses.
 */
import { execFile, spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { ROOT } from '../lab/cluster.ts';
import * as f from './frames.ts';
import { PORTS, type PortName } from './frames.ts';

const run = promisify(execFile);
const ROUTER = 'oracle-router';
const WIRE = 'oracle-wire';
const TIMEOUT_MS = 60_000;
/** No link is to be narrower than what is asked of the tunnel. */
const WIDE = 9000;
const POD_MTU = 1430;
const PATIENCE_MS = 3_600_000;

export type Frames = readonly (readonly [PortName, Uint8Array])[];

const HOST_GATEWAY = '169.254.3.1';
const HOST_GATEWAY6 = 'fe80::3:1';

/** Whether this kernel can be the router, or why not. */
export async function kernelFault(): Promise<string | null> {
  try {
    await run('ip', ['link', 'add', 'oracle0', 'type', 'vxlan', 'id', '1', 'dstport', '4789']);
    await run('ip', ['link', 'del', 'oracle0']);
    return null;
  } catch {
    return 'this kernel has no VXLAN devices (try: modprobe vxlan)';
  }
}

const links = (): string[] =>
  [
    ['cali-a', f.GATEWAY_MAC, f.MAC_A],
    ['cali-b', f.GATEWAY_MAC, f.MAC_B],
    ['tortie0', f.GATEWAY_MAC, f.MAC_HOST],
    ['underlay', f.MAC_NODE, f.MAC_NODE2],
  ].flatMap(([name, near, far]) => [
    `link add ${name} address ${near} mtu ${WIDE} type veth peer name ${name} address ${far} mtu ${WIDE} netns ${WIRE}`,
  ]);

const TUNNELS = ['vxlan.calico', 'vxlan-v6.calico'];
const VTEPS = [
  [f.VTEP2, f.NODE2, 1],
  [f.VTEP3, f.NODE3, 2],
] as const;

/** Addresses, neighbours and routes of the router, as arguments of ip. `host`: MAC of the host's device. */
const addresses = (host: string): string[] => [
  'addr add 192.0.2.1/24 dev underlay',
  `link add vxlan.calico address ${f.VTEP1} mtu 1450 type vxlan id ${f.VNI} local ${f.NODE} dev underlay dstport ${f.VXLAN_PORT} srcport 49152 65535 nolearning ttl 64 tos inherit df set udpcsum`,
  'link set vxlan.calico up',
  'addr add 10.66.0.1/32 dev vxlan.calico',
  `addr add ${f.NODE_U6}/64 dev underlay nodad`,
  `link add vxlan-v6.calico address ${f.VTEP1_6} mtu 1430 type vxlan id ${f.VNI} local ${f.NODE_U6} dev underlay dstport ${f.VXLAN_PORT} srcport 49152 65535 nolearning ttl 64 tos inherit`,
  'link set vxlan-v6.calico up',
  `addr add ${f.NODE_6}/128 dev vxlan-v6.calico nodad`,
  `neigh add ${f.NODE4_U6} lladdr ${f.MAC_NODE2} dev underlay nud permanent`,
  `neigh add fd66::4:1 lladdr ${f.VTEP4} dev vxlan-v6.calico nud permanent`,
  'route add fd66::4:0/122 via fd66::4:1 dev vxlan-v6.calico onlink',
  // The other nodes, as Felix writes them.
  ...VTEPS.flatMap(([vtep, node, n]) => [
    `neigh add ${node} lladdr ${f.MAC_NODE2} dev underlay nud permanent`,
    `neigh add 10.66.${n}.1 lladdr ${vtep} dev vxlan.calico nud permanent`,
    `neigh add fd66::${n}:1 lladdr ${vtep} dev vxlan.calico nud permanent`,
    `route add 10.66.${n}.0/26 via 10.66.${n}.1 dev vxlan.calico onlink`,
    `route add fd66::${n}:0/122 via fd66::${n}:1 dev vxlan.calico onlink`,
  ]),
  `route add ${f.MANY_REMOTE} via 10.66.1.1 dev vxlan.calico onlink`,
  // Pods: /32, from the node's address, no larger than what they take.
  ...[
    ['cali-a', f.A, f.A6, f.MAC_A],
    ['cali-b', f.B, f.B6, f.MAC_B],
  ].flatMap(([name, four, six, mac]) => [
    `neigh add ${four} lladdr ${mac} dev ${name} nud permanent`,
    `neigh add ${six} lladdr ${mac} dev ${name} nud permanent`,
    `route add ${four}/32 dev ${name} scope link src ${f.NODE} mtu ${POD_MTU}`,
    `route add ${six}/128 dev ${name} src ${f.NODE_6} mtu ${POD_MTU}`,
  ]),
  // More sources, since the kernel tells each about dead routes once a second.
  `route add ${f.MANY} via ${f.A} dev cali-a onlink src ${f.NODE} mtu ${POD_MTU}`,
  `neigh add ${f.LINK_LOCAL_A} lladdr ${f.MAC_A} dev cali-a nud permanent`,
  // Its own blocks, where no pod lives.
  'route add blackhole 10.66.0.0/26',
  'route add blackhole fd66::/122',
  'route add prohibit 10.99.1.0/24',
  'route add unreachable 10.99.2.0/24',
  'route add blackhole 10.99.3.0/24',
  'route add throw 10.99.4.0/24',
  '-6 route add prohibit fd99:1::/64',
  '-6 route add unreachable fd99:2::/64',
  '-6 route add blackhole fd99:3::/64',
  '-6 route add throw fd99:4::/64',
  // All else is the host's.
  `neigh add ${HOST_GATEWAY} lladdr ${host} dev tortie0 nud permanent`,
  `neigh add ${HOST_GATEWAY6} lladdr ${host} dev tortie0 nud permanent`,
  `route add default via ${HOST_GATEWAY} dev tortie0 onlink src ${f.NODE}`,
  `-6 route add default via ${HOST_GATEWAY6} dev tortie0 onlink src ${f.NODE_6}`,
  // So is what is meant for the node itself, before the kernel takes it for its own.
  'rule add pref 100 lookup local',
  'rule del pref 0',
  '-6 rule add pref 100 lookup local',
  '-6 rule del pref 0',
  ...['cali-a', 'cali-b', 'tortie0', ...TUNNELS].flatMap((iif) => [
    `rule add pref 10 iif ${iif} lookup 100`,
    `-6 rule add pref 10 iif ${iif} lookup 100`,
  ]),
  // Its errors to other nodes' addresses go the same way; its tunnel packets do not.
  'rule add pref 10 iif lo ipproto icmp lookup 100',
  ...['192.0.2.0/24', '10.66.0.1/32'].map(
    (to) => `route add ${to} via ${HOST_GATEWAY} dev tortie0 onlink table 100`,
  ),
  ...[`${f.NODE_6}/128`, f.UNDERLAY6].map(
    (to) => `-6 route add ${to} via ${HOST_GATEWAY6} dev tortie0 onlink table 100`,
  ),
  '-6 rule add pref 10 iif lo ipproto ipv6-icmp lookup 100',
  // Felix lets the gateway of IPv6 be found by its link-local address; these are asked for, too.
  ...[f.B6, f.REMOTE6].map((target) => `-6 neigh add proxy ${target} dev cali-a`),
];

const ALL = ['all', 'default', ...PORTS] as const;
const SETTINGS = [
  'net.ipv4.ip_forward=1',
  'net.ipv6.conf.all.forwarding=1',
  // Each frame is judged by itself, not by how many there were before.
  'net.ipv4.icmp_ratemask=0',
  'net.ipv4.icmp_msgs_per_sec=10000000',
  'net.ipv4.icmp_msgs_burst=10000000',
  'net.ipv6.icmp.ratelimit=0',
  // What waits for its other fragments waits for good: it would be told about while another frame is judged.
  'net.ipv4.ipfrag_time=3600',
  'net.ipv4.ipfrag_high_thresh=268435456',
  'net.ipv6.ip6frag_time=3600',
  'net.ipv6.ip6frag_high_thresh=268435456',
  // Whom it looks for in vain it looks for once, not again while another frame is judged.
  ...PORTS.map((device) => `net.ipv6.neigh.${device}.retrans_time_ms=${PATIENCE_MS}`),
  ...ALL.flatMap((device) => [
    `net.ipv4.conf.${device}.rp_filter=1`,
    `net.ipv4.conf.${device}.send_redirects=0`,
    `net.ipv4.conf.${device}.accept_redirects=0`,
    `net.ipv6.conf.${device}.accept_redirects=0`,
    `net.ipv6.conf.${device}.accept_ra=0`,
    `net.ipv6.conf.${device}.accept_dad=0`,
  ]),
  ...PORTS.flatMap((device) => [
    `net.ipv4.neigh.${device}.proxy_delay=0`,
    `net.ipv6.neigh.${device}.proxy_delay=0`,
  ]),
  ...['cali-a', 'cali-b', 'tortie0'].flatMap((device) => [
    `net.ipv4.conf.${device}.proxy_arp=1`,
    `net.ipv6.conf.${device}.proxy_ndp=1`,
  ]),
];

/**
 * What Felix writes as iptables rules: tunnel packets from nodes alone, and IPv6 pods from their own addresses. And of the
 * underlay nothing but tunnel packets, since all else there is the host's.
 */
const RULES = `
table inet oracle {
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "underlay" udp dport != ${f.VXLAN_PORT} drop
    iifname "underlay" meta l4proto != udp drop
    iifname "underlay" ip saddr != { ${f.NODE2}, ${f.NODE3} } drop
    iifname "underlay" ip6 saddr != ${f.NODE4_U6} drop
  }
  chain prerouting {
    type filter hook prerouting priority 0; policy accept;
    iifname "underlay" fib daddr type != local drop
  }
}
table ip6 oracle6 {
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    ip6 saddr fe80::/10 accept
    ip6 saddr :: accept
    iifname { "cali-a", "cali-b", "vxlan.calico", "vxlan-v6.calico" } fib saddr . iif oif 0 drop
  }
}
`;

/** Markers: a packet from each port to pod b, by the longest way that a packet from there may take. */
function markers(): Record<string, string> {
  const data = f.join(Buffer.from('ORACLE'), f.u32(0));
  const from = (src: string) => f.ip4(f.udp(data, { src, dst: f.B, sum: 0 }), { src, dst: f.B });
  const frames: Record<PortName, Uint8Array> = {
    'cali-a': f.fromA4(from(f.A)),
    'cali-b': f.ethernet('ip4', from(f.B), f.GATEWAY_MAC, f.MAC_B),
    tortie0: f.fromHost4(from(f.WORLD)),
    underlay: f.vxlan(from(f.REMOTE), { sum: 0 }),
  };
  const hex = Object.entries(frames).map(([port, frame]) => [port, Buffer.from(frame).toString('hex')]);
  return { exit: 'cali-b', ...Object.fromEntries(hex) };
}

export class Kernel {
  /** Build the router. `host`: MAC of the host's device. */
  static async create(host: string): Promise<Kernel> {
    const kernel = new Kernel();
    try {
      await kernel.#build(host);
      return kernel;
    } catch (error) {
      await kernel.close();
      throw error;
    }
  }

  async #build(host: string): Promise<void> {
    const ip = (netns: string, command: string) => run('ip', ['-n', netns, ...command.split(' ')]);
    const within = (netns: string, ...command: string[]) => run('ip', ['netns', 'exec', netns, ...command]);
    for (const netns of [ROUTER, WIRE]) await run('ip', ['netns', 'add', netns]);
    await within(WIRE, 'sysctl', '-qw', 'net.ipv6.conf.default.disable_ipv6=1');
    for (const command of links()) await ip(ROUTER, command);
    await ip(ROUTER, 'link set lo up');
    await within(ROUTER, 'sysctl', '-qw', ...SETTINGS);
    for (const port of PORTS) {
      for (const netns of [WIRE, ROUTER]) {
        // What leaves is to be as it would be on a wire: whole and with its checksums.
        await within(netns, 'ethtool', '-K', port, 'tx', 'off', 'gro', 'off', 'gso', 'off', 'tso', 'off');
      }
      await ip(WIRE, `link set ${port} arp off up`);
      await ip(ROUTER, `link set ${port} up`);
    }
    for (const command of addresses(host)) await ip(ROUTER, command);
    for (const [vtep, node] of VTEPS) {
      await run('bridge', ['-n', ROUTER, 'fdb', 'append', vtep, 'dev', 'vxlan.calico', 'dst', node]);
    }
    await run('bridge', [
      '-n',
      ROUTER,
      'fdb',
      'append',
      f.VTEP4,
      'dev',
      'vxlan-v6.calico',
      'dst',
      f.NODE4_U6,
    ]);
    for (const tunnel of TUNNELS) {
      const patience = `net.ipv6.neigh.${tunnel.replace('.', '/')}.retrans_time_ms=${PATIENCE_MS}`;
      await within(ROUTER, 'sysctl', '-qw', patience);
      await within(ROUTER, 'ethtool', '-K', tunnel, 'gro', 'off');
    }
    await within(ROUTER, 'nft', RULES);
  }

  /** What leaves for each case, in the order of the cases. Throws if the router lost a marker. */
  async outcomes(cases: readonly Frames[]): Promise<Frames[]> {
    const child = spawn(
      'ip',
      ['netns', 'exec', WIRE, 'python3', `${ROOT}/scripts/oracle/kernel.py`, ...PORTS],
      {
        stdio: ['pipe', 'pipe', 'pipe'],
        timeout: TIMEOUT_MS + cases.length * 10,
        killSignal: 'SIGKILL',
      },
    );
    const ended = new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    const lines = [markers(), ...cases.map((frames) => frames.map(([port, frame]) => [port, hexOf(frame)]))];
    child.stdin.on('error', () => {
      // It ended, and its exit says why.
    });
    child.stdin.end(`${lines.map((line) => JSON.stringify(line)).join('\n')}\n`);
    const [out, said, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    if (code !== 0) throw new Error(`the kernel's side ended with ${code}: ${said.trim()}`);
    return out
      .trimEnd()
      .split('\n')
      .map((line) =>
        (JSON.parse(line) as [PortName, string][]).map(
          ([port, hex]) => [port, Buffer.from(hex, 'hex')] as const,
        ),
      );
  }

  async close(): Promise<void> {
    for (const netns of [ROUTER, WIRE]) await run('ip', ['netns', 'del', netns]).catch(() => {});
  }
}

const hexOf = (frame: Uint8Array): string => Buffer.from(frame).toString('hex');
