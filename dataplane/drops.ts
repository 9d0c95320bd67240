/**
 * The one registry of drop reasons. The order is the number that counters and traces use; append only.
 * docs/DROPS.md is made from it ("npx vitest run dataplane/drops -u").
 */
export interface DropReason {
  readonly name: string;
  /** What was wrong with the packet, a line for `show drops`. */
  readonly description: string;
  /** What it usually comes from. */
  readonly cause: string;
  /** What a person can do about it. */
  readonly cure: string;
}

const registry = {
  frame_short: [
    'frame too short for its Ethernet header',
    'a truncated capture, or a broken driver',
    'look at the sender with tcpdump',
  ],
  not_ip: [
    'EtherType that is neither IP nor ARP',
    'a protocol of the link, such as LLDP or spanning tree, in a pod; in a capture of the underlay ARP, too',
    'nothing, unless a pod must speak that protocol: this network carries IP',
  ],
  vlan_tag: ['802.1Q tag', 'a VLAN device in the pod', 'send untagged frames'],
  foreign_mac: [
    'destination MAC is not the gateway',
    'a neighbour entry of the sender that somebody wrote or that is stale',
    'flush the neighbour cache of the sender: ip neigh flush all',
  ],
  arp_malformed: [
    'ARP that is not IPv4 over Ethernet',
    'a fuzzer, or a broken stack',
    'look at the sender with tcpdump',
  ],
  arp_silent: [
    'ARP that must stay unanswered: probe, gratuitous, reply, or for the own address',
    'a pod that looks whether its address is taken: an answer would say that it is',
    'nothing',
  ],
  arp_refused: [
    'ARP whose sender is not the pod',
    'an address added by hand, a bridge in the pod, or spoofing',
    'give the pod the address by its WorkloadEndpoint, or look who sends',
  ],
  ip4_short: ['fewer bytes than an IPv4 header', 'a truncated frame', 'look at the sender with tcpdump'],
  ip4_version: ['IP version is not 4', 'a corrupt frame', 'look at the link and the sender'],
  ip4_header_length: [
    'IPv4 header length below 20 or beyond the frame',
    'a corrupt or forged frame',
    'look at the sender with tcpdump',
  ],
  ip4_total_length: [
    'IPv4 total length below the header or beyond the frame',
    'a truncated frame',
    'look for an MTU that is smaller on the way than at the ends',
  ],
  ip4_checksum: ['IPv4 header checksum is wrong', 'a corrupt frame', 'look at the link or the sender'],
  ip4_offset_one: [
    'fragment offset 1, which hides TCP flags',
    'an attack on filters (RFC 1858)',
    'look at the sender',
  ],
  martian_source: [
    'source address that cannot be one',
    'spoofing, or a program that binds to loopback and sends elsewhere',
    'look at the sender',
  ],
  martian_destination: [
    'destination address that cannot be one',
    'a name that resolves to 0.0.0.0 or loopback',
    'look at what the sender resolves',
  ],
  multicast: [
    'multicast destination',
    'service discovery such as mDNS',
    'nothing: pods on a routed network have no multicast',
  ],
  broadcast: [
    'limited broadcast destination',
    'a DHCP client in the pod',
    'nothing: pods on a routed network have no broadcast, and get their address by CNI',
  ],
  link_local: [
    'destination in 169.254/16 or fe80::/10, never forwarded',
    'a metadata service such as 169.254.169.254 that the pod looks for',
    'use a routed address',
  ],
  pod_source: [
    'source address is not the pod’s',
    'an address added by hand, a container network inside the pod, or spoofing',
    'add the prefix to allowSpoofedSourcePrefixes of the WorkloadEndpoint if it is meant',
  ],
  ttl_expired: [
    'TTL ran out here',
    'a traceroute, or a routing loop',
    'see show lookup on this node and the next: they must not point at each other',
  ],
  no_route: [
    'no route to the destination',
    'a node or a pool that this node has not heard of',
    'see show lookup, and whether BGP is up: bgp peers',
  ],
  blackhole: [
    'blackhole route: an own block where no pod has the address',
    'the pod is gone and its clients do not know yet',
    'see the age of DNS records and of the clients’ connections',
  ],
  unreachable: ['unreachable route', 'a route that was set so by hand', 'see show lookup for who set it'],
  prohibit: ['prohibit route', 'a route that was set so by hand', 'see show lookup for who set it'],
  too_big: [
    'packet larger than the next link',
    'a sender that sets DF and learned a larger MTU, or has not heard of this one',
    'let ICMP 3/4 and ICMPv6 2 through to the sender; give pods the MTU of the underlay minus the tunnel; for IPv6 in VXLAN, paths of 1,350 bytes or more',
  ],
  tunnel_loop: [
    'tunnel towards ourselves, or a tunnel’s end inside itself',
    'a node’s address lies in a pool, or a route to it leads into the tunnel',
    'take the nodes’ network out of the pools',
  ],
  host_loop: [
    'came from the host and would go back to it',
    'the host routes to tortie what nobody has',
    'see ip route on the host, and show lookup',
  ],
  vxlan_short: [
    'too short for VXLAN and inner headers',
    'a truncated or foreign packet on UDP 4789',
    'look at the sender with tcpdump',
  ],
  vxlan_flags: [
    'VXLAN without the I flag',
    'a foreign protocol on UDP 4789',
    'look at the sender with tcpdump',
  ],
  vxlan_vni: [
    'VXLAN network identifier is not ours',
    'another overlay on the same port, or nodes of different settings',
    'set the same VNI on all nodes: vxlanVNI of FelixConfiguration',
  ],
  vxlan_vlan: [
    'VLAN tag inside VXLAN',
    'a VTEP that is attached to a VLAN (RFC 7348 6.1)',
    'set the sending VTEP to untagged',
  ],
  vxlan_mac: [
    'inner destination MAC is not our VTEP’s',
    'the sender has a stale VTEP MAC',
    'compare vxlanTunnelMACAddr of our Node with the sender’s neighbour table',
  ],
  outer_destination: [
    'tunnel packet to an address that is not ours',
    'the node’s address has changed and others do not know yet',
    'check the node address: get node',
  ],
  outer_fragment: [
    'fragment of a tunnel packet that cannot be part of any',
    'a forged or broken packet: too long, empty, or not a multiple of eight bytes',
    'look at the peer with tcpdump',
  ],
  udp_length: ['UDP length disagrees with IP', 'a corrupt packet', 'look at the sender with tcpdump'],
  udp_checksum: [
    'UDP checksum is wrong',
    'a corrupt packet, or a device that promised a checksum and did not compute it',
    'look at the link; try ethtool -K DEVICE tx off at the sender',
  ],
  not_tunnel: [
    'underlay packet that is no tunnel’s',
    'a capture that has more than tunnels',
    'nothing: it is not for tortie',
  ],
  unknown_peer: [
    'tunnel packet from an address that is no node’s',
    'a node that is not registered, or has several addresses',
    'add the Node or its address, or look for an intruder',
  ],
  peer_source: [
    'inner source is not routed via that peer',
    'routes that disagree between nodes for a moment, or spoofing',
    'see show lookup for the inner source; if it lasts, look at that peer',
  ],
  tx_full: [
    'the egress queue was full',
    'a receiver that is slower than the sender',
    'give the receiver more CPU, or the sender less to send; see show runtime',
  ],
  tx_too_big: [
    'the underlay refused the size',
    'the MTU of the underlay shrank',
    'lower the pods’ MTU, or mend the underlay',
  ],
  tx_failed: [
    'the egress device refused the frame',
    'a device that is down or gone',
    'see show ports, and the log',
  ],
  offload_header: [
    'what the device says of checksum or segments contradicts the packet',
    'a raw socket in the pod wrote a header that lies',
    'look at the program in the pod',
  ],
  tx_segments: [
    'a super-frame of too many small segments',
    'a sender whose MSS is tiny',
    'look at the path MTU that the sender has learned: ip route get',
  ],
  port_gone: ['the egress port is gone', 'the pod was just removed', 'nothing'],
  ip6_short: ['fewer bytes than an IPv6 header', 'a truncated frame', 'look at the sender with tcpdump'],
  ip6_version: ['IP version is not 6', 'a corrupt frame', 'look at the link and the sender'],
  ip6_payload_length: [
    'IPv6 payload length beyond the frame',
    'a truncated frame',
    'look for an MTU that is smaller on the way than at the ends',
  ],
  nd_malformed: [
    'neighbour discovery that breaks RFC 4861 7.1',
    'a fuzzer, or a packet from beyond the link',
    'look at the sender with tcpdump',
  ],
  nd_silent: [
    'neighbour discovery that must stay unanswered: duplicate address detection, for the own address, or for routers',
    'a pod that starts',
    'nothing',
  ],
  nd_refused: [
    'neighbour solicitation whose sender is not the pod',
    'an address added by hand, or spoofing',
    'give the pod the address by its WorkloadEndpoint, or look who sends',
  ],
  mld: [
    'multicast listener message',
    'every IPv6 stack sends some',
    'nothing: pods on a routed network have no multicast',
  ],
  bandwidth: [
    'the pod is sent more than its limit, and the queue before it is full',
    'a sender without congestion control, or a limit that is too low',
    'raise ingressBandwidth or ingressBurst of its WorkloadEndpoint, or the runtime’s limit',
  ],
  ecn_ce: [
    'the network marked congestion on the tunnel packet, and the packet inside knows no ECN (RFC 6040)',
    'a full queue between the nodes that marks instead of dropping',
    'as with any loss by congestion: look for the full queue',
  ],
  udp6_unchecked: [
    'UDP without a checksum over IPv6, where there must be one (RFC 8200 8.1)',
    'a sending VTEP that was told to leave it out (RFC 6935)',
    'take that setting back: `udp6zerocsumtx` of a Linux device',
  ],
  ip6_routing_header: [
    'routing header of type 0 with segments left (RFC 5095)',
    'nothing but attacks and old test tools sends it',
    'look at the sender',
  ],
  fragment_overlap: [
    'fragments of a tunnel packet overlap or contradict each other, which costs the whole packet (RFC 5722)',
    'an attack on what looks into packets, or two senders that use one identification',
    'look at the peer with tcpdump; raise the underlay’s MTU so that nothing is fragmented',
  ],
  fragment_duplicate: [
    'fragment of a tunnel packet that had come before',
    'a network that duplicates packets',
    'look for a loop in the underlay',
  ],
  reassembly_timeout: [
    'fragment of a tunnel packet of which the rest did not come within 30 seconds',
    'loss in the underlay',
    'look for the loss; raise the underlay’s MTU so that nothing is fragmented',
  ],
  reassembly_full: [
    'fragment of a tunnel packet that had to give way to newer ones: 32 packets may wait',
    'much loss in the underlay, or an attack',
    'raise the underlay’s MTU so that nothing is fragmented',
  ],
  ip4_source_route: [
    'IPv4 option that asks for a way of the sender’s own: loose or strict source route (RFC 7126)',
    'nothing but attacks and old test tools sends it',
    'look at the sender',
  ],
} as const satisfies Record<string, readonly [description: string, cause: string, cure: string]>;

export type DropName = keyof typeof registry;

export const DROP_REASONS: readonly DropReason[] = Object.entries(registry).map(
  ([name, [description, cause, cure]]) => ({ name, description, cause, cure }),
);

/** Number of each reason by name: `DROP.no_route`. */
export const DROP = Object.fromEntries(Object.keys(registry).map((name, index) => [name, index])) as Record<
  DropName,
  number
>;
