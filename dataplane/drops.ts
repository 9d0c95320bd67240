/**
 * The one registry of drop reasons. The order is the number that counters and traces use; append only.
 * `description` is a line for `show drops`; `cure` is what a person can do about it.
 */
export interface DropReason {
  readonly name: string;
  readonly description: string;
  readonly cure: string;
}

const registry = {
  frame_short: ['frame too short for its Ethernet header', 'a truncated capture, or a broken driver'],
  not_ip: ['EtherType that is neither IP nor ARP', 'nothing, unless a pod must speak that protocol'],
  vlan_tag: ['802.1Q tag', 'send untagged frames'],
  foreign_mac: ['destination MAC is not the gateway', 'flush the neighbour cache of the sender'],
  arp_malformed: ['ARP that is not IPv4 over Ethernet', 'look at the sender with tcpdump'],
  arp_silent: ['ARP that must stay unanswered: probe, gratuitous, reply, or for the own address', 'nothing'],
  arp_refused: ['ARP whose sender is not the pod', 'look for spoofing, or an address added by hand'],
  ip4_short: ['fewer bytes than an IPv4 header', 'a truncated frame: look at the sender'],
  ip4_version: ['IP version is not 4', 'a corrupt frame: look at the sender'],
  ip4_header_length: ['IPv4 header length below 20 or beyond the frame', 'a corrupt frame'],
  ip4_total_length: ['IPv4 total length below the header or beyond the frame', 'a truncated frame'],
  ip4_checksum: ['IPv4 header checksum is wrong', 'a corrupt frame: look at the link or the sender'],
  ip4_offset_one: ['fragment offset 1, which hides TCP flags', 'an attack (RFC 1858): look at the sender'],
  martian_source: ['source address that cannot be one', 'look at the sender for spoofing'],
  martian_destination: ['destination address that cannot be one', 'look at what the sender resolves'],
  multicast: ['multicast destination', 'pods on a routed network have no multicast'],
  broadcast: ['limited broadcast destination', 'pods on a routed network have no broadcast'],
  link_local: ['destination in 169.254/16 or fe80::/10, never forwarded', 'use a routed address'],
  pod_source: ['source address is not the pod’s', 'add it to allowSpoofedSourcePrefixes if it is meant'],
  ttl_expired: ['TTL ran out here', 'a traceroute, or a routing loop: see show lookup'],
  no_route: ['no route to the destination', 'see show lookup, and whether BGP is up'],
  blackhole: [
    'blackhole route: an own block where no pod has the address',
    'the pod is gone; DNS may be stale',
  ],
  unreachable: ['unreachable route', 'see show lookup for who set it'],
  prohibit: ['prohibit route', 'see show lookup for who set it'],
  too_big: ['packet larger than the next link', 'let ICMP 3/4 through to the sender'],
  tunnel_loop: ['tunnel towards ourselves, or a tunnel’s end inside itself', 'a node address lies in a pool'],
  host_loop: ['came from the host and would go back to it', 'the host routes here what nobody has'],
  vxlan_short: ['too short for VXLAN and inner headers', 'a truncated or foreign packet on UDP 4789'],
  vxlan_flags: ['VXLAN without the I flag', 'a foreign protocol on UDP 4789'],
  vxlan_vni: ['VXLAN network identifier is not ours', 'set the same VNI on all nodes'],
  vxlan_vlan: ['VLAN tag inside VXLAN', 'set the sending VTEP to untagged'],
  vxlan_mac: [
    'inner destination MAC is not our VTEP’s',
    'the sender has a stale VTEP MAC: see its Node resource',
  ],
  outer_destination: ['tunnel packet to an address that is not ours', 'check the node address'],
  outer_fragment: ['fragment of a tunnel packet', 'raise the underlay’s MTU or lower the pods’'],
  udp_length: ['UDP length disagrees with IP', 'a corrupt packet'],
  udp_checksum: ['UDP checksum is wrong', 'a corrupt packet: look at the link'],
  not_tunnel: ['underlay packet that is no tunnel’s', 'nothing: it is not for tortie'],
  unknown_peer: ['tunnel packet from an address that is no node’s', 'add the Node, or look for an intruder'],
  peer_source: ['inner source is not routed via that peer', 'routes disagree between nodes, or spoofing'],
  tx_full: ['the egress queue was full', 'the receiver is slower than the sender'],
  tx_too_big: ['the underlay refused the size', 'the path MTU shrank: lower the pods’ MTU'],
  tx_failed: ['the egress device refused the frame', 'see show ports, and the log'],
  offload_header: [
    'what the device says of checksum or segments contradicts the packet',
    'a raw socket in the pod wrote a header that lies',
  ],
  tx_segments: ['a super-frame of too many small segments', 'the sender’s MSS is tiny: look at its path MTU'],
  port_gone: ['the egress port is gone', 'the pod was just removed'],
  ip6_short: ['fewer bytes than an IPv6 header', 'a truncated frame: look at the sender'],
  ip6_version: ['IP version is not 6', 'a corrupt frame: look at the sender'],
  ip6_payload_length: ['IPv6 payload length beyond the frame', 'a truncated frame'],
  nd_malformed: ['neighbour discovery that breaks RFC 4861 7.1', 'look at the sender with tcpdump'],
  nd_silent: [
    'neighbour discovery that must stay unanswered: duplicate address detection, for the own address, or for routers',
    'nothing',
  ],
  nd_refused: [
    'neighbour solicitation whose sender is not the pod',
    'look for spoofing, or an address added by hand',
  ],
  mld: ['multicast listener message', 'nothing: pods on a routed network have no multicast'],
  bandwidth: [
    'the pod is sent more than its limit, and the queue before it is full',
    'raise ingressBandwidth or ingressBurst of its WorkloadEndpoint, or the runtime’s limit',
  ],
  ecn_ce: [
    'the network marked congestion on the tunnel packet, and the packet inside knows no ECN (RFC 6040)',
    'as good as any loss by congestion: look for the full queue between the nodes',
  ],
} as const satisfies Record<string, readonly [description: string, cure: string]>;

export type DropName = keyof typeof registry;

export const DROP_REASONS: readonly DropReason[] = Object.entries(registry).map(
  ([name, [description, cure]]) => ({ name, description, cure }),
);

/** Number of each reason by name: `DROP.no_route`. */
export const DROP = Object.fromEntries(Object.keys(registry).map((name, index) => [name, index])) as Record<
  DropName,
  number
>;
