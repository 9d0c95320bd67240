/**
 * Where tortie differs from the kernel, and why. docs/DIFFERENCES.md is made of this table; a difference that no entry claims
 * fails the oracle, and so does an entry that nothing needs any more.
 */
import type { Difference } from './compare.ts';
import type { Fields } from './decode.ts';

export interface Listed {
  readonly title: string;
  readonly kernel: string;
  readonly tortie: string;
  readonly reason: string;
  /** Whether it is this that is seen. */
  claims(difference: Difference): boolean;
}

// ---- What a difference is about --------------------------------------------------------------------

const isOutcome = ({ field }: Difference): boolean => field === 'outcome';
const isSilence = (text: string): boolean => text === 'silence';
/** tortie dropped for one of these reasons. */
const dropped = (difference: Difference, ...reasons: string[]): boolean =>
  difference.of.drops.some((drop) => reasons.includes(drop));
/** What went in, or its inner packet. */
const input = ({ of }: Difference, name: string): string | undefined =>
  of.input.fields[`${of.input.fields['inner.ip.src'] === undefined ? '' : 'inner.'}${name}`];
const is6 = (difference: Difference): boolean => input(difference, 'ip.hops') !== undefined;
const lifetime = (difference: Difference): number =>
  Number(input(difference, 'ip.ttl') ?? input(difference, 'ip.hops'));
const crossesHostPort = ({ of }: Difference): boolean =>
  of.input.port === 'tortie0' || of.tortie.some(({ port }) => port === 'tortie0');
/** A field without the prefix of an inner packet. */
const plain = (field: string): string => field.replace(/^inner\./, '');
/** The field of the packet that the difference is in. */
const beside = (
  { field, fields }: Difference,
  whose: 'kernel' | 'tortie',
  name: string,
): string | undefined => fields?.[whose][field.startsWith('inner.') ? `inner.${name}` : name];
const isError6 = (difference: Difference): boolean =>
  Number(beside(difference, 'tortie', 'icmp6.type')) < 128;
const isError4 = (difference: Difference): boolean =>
  ['3', '11', '12'].includes(beside(difference, 'tortie', 'icmp.type') ?? '');
const isArp = (difference: Difference): boolean => input(difference, 'arp.operation') !== undefined;
/** The kernel advertises where it is solicited. */
const isAnswered = (difference: Difference): boolean =>
  isSolicitation(difference) && ADVERTISED.test(difference.kernel);
const isSolicitation = (difference: Difference): boolean => input(difference, 'icmp6.type') === '135';

/** Where the option that ends the list is, or all of them end. */
function endOfOptions(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length && bytes[at] !== 0) at += bytes[at] === 1 ? 1 : Math.max(bytes[at + 1] ?? 2, 2);
  return Math.min(at, bytes.length);
}

/** Types of the options in an IPv4 header, and whether they can be read to the end. */
function optionsOf(difference: Difference): { types: number[]; readable: boolean } {
  const bytes = Buffer.from(input(difference, 'ip.options') ?? '', 'hex');
  const types: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    const type = bytes[at]!;
    if (type === 0) break;
    types.push(type);
    if (type === 1) {
      at++;
      continue;
    }
    const length = bytes[at + 1] ?? 0;
    if (length < 2 || at + length > bytes.length) return { types, readable: false };
    at += length;
  }
  return { types, readable: true };
}
const ADVERTISED = /ICMP6 136\/0$/;
const UNKNOWN_OPTION = /ICMP6 4\/2$/;
const DESTINATION_OPTIONS = '60';
const EXTENSIONS = ['0', '43', '44', '51', '60', '135'];
const RECORD_ROUTE = 7;
const TIMESTAMP = 0x44;
const CIPSO = 0x86;
const ROUTER_ALERT = 0x94;
const READ_BY_KERNEL = [RECORD_ROUTE, TIMESTAMP, CIPSO, ROUTER_ALERT];
const hasOptions = (difference: Difference): boolean => (input(difference, 'ip.options') ?? '') !== '';

// ---- The table -------------------------------------------------------------------------------------

export const DIFFERENCES: readonly { readonly topic: string; readonly listed: readonly Listed[] }[] = [
  {
    topic: 'The host port',
    listed: [
      {
        title: 'TTL across the host port',
        kernel: 'takes one, and answers TTL 1 with 11/0 (IPv6: 3/0)',
        tortie: 'takes none',
        reason:
          'tortie and its host’s kernel are one router; a packet that crosses the port between them loses its TTL in the kernel behind it.',
        claims: (d) => {
          if (!crossesHostPort(d)) return false;
          if (isOutcome(d)) return lifetime(d) <= 1 && /ICMP6? (11|3)\/0|silence/.test(d.kernel);
          return ['ip.ttl', 'ip.hops'].includes(plain(d.field)) && Number(d.kernel) === Number(d.tortie) - 1;
        },
      },
      {
        title: 'From the host and back to it',
        kernel: 'forwards it back',
        tortie: 'drops (`host_loop`), and answers 3/0 (IPv6: 1/0)',
        reason:
          'The host sent it here because nobody nearer has it; back and forth it would go until its TTL is used up.',
        claims: (d) => isOutcome(d) && dropped(d, 'host_loop'),
      },
      {
        title: 'A pod’s source from the host',
        kernel: 'drops it: reverse path filter',
        tortie: 'forwards it',
        reason:
          'What comes from the host has had the host’s reverse path filter, which knows by which device it came.',
        claims: (d) => isOutcome(d) && d.of.input.port === 'tortie0' && isSilence(d.kernel),
      },
    ],
  },
  {
    topic: 'Sources and destinations',
    listed: [
      {
        title: 'The inner source of another node',
        kernel: 'takes an inner packet from any node, if its source is routed into the tunnel',
        tortie: 'drops it (`peer_source`) unless its source is routed via that very node',
        reason:
          'A node speaks for its own pods alone; the kernel’s filter knows the device, not the tunnel’s far end.',
        claims: (d) => isOutcome(d) && dropped(d, 'peer_source') && isSilence(d.tortie),
      },
      {
        title: 'A node’s own address as the inner source',
        kernel: 'drops it: the address is not routed into the tunnel',
        tortie: 'takes it from that node',
        reason:
          'ICMP errors and what a node’s host sends to pods may carry the node’s address; only that node can send so.',
        claims: (d) =>
          isOutcome(d) &&
          isSilence(d.kernel) &&
          d.of.input.port === 'underlay' &&
          d.of.input.fields['ip.src'] === d.of.input.fields['inner.ip.src'],
      },
      {
        title: 'Forged sources to dead routes',
        kernel: 'answers with the route’s error before it looks at the source',
        tortie: 'drops them (`pod_source`, `martian_source`, `peer_source`)',
        reason:
          'A source that may not send is not to be told anything, least of all where somebody else has that address.',
        claims: (d) =>
          isOutcome(d) &&
          dropped(d, 'pod_source', 'martian_source', 'peer_source') &&
          isSilence(d.tortie) &&
          /: (VXLAN )?ICMP 3\/(0|1|13)$/.test(d.kernel),
      },
      {
        title: 'Sources that cannot be one',
        kernel: 'takes 0/8 (but 0.0.0.0) and 240/4 for addresses like any other',
        tortie: 'drops them (`martian_source`)',
        reason: 'RFC 1812 5.3.7, RFC 6890: the one is for hosts without an address, the other reserved.',
        claims: (d) =>
          isOutcome(d) && dropped(d, 'martian_source') && /^(0|24\d|25\d)\./.test(input(d, 'ip.src') ?? ''),
      },
      {
        title: 'Destinations that cannot be one',
        kernel: 'forwards 0/8 (but 0.0.0.0), 240/4, `::` and IPv4-mapped addresses by its default route',
        tortie: 'drops them (`martian_destination`)',
        reason: 'RFC 1812 5.3.7, RFC 6890: no such address is to be forwarded.',
        claims: (d) => isOutcome(d) && dropped(d, 'martian_destination') && isSilence(d.tortie),
      },
      {
        title: 'Link-local destinations of IPv4',
        kernel: 'forwards 169.254/16 by its default route',
        tortie: 'drops them (`link_local`)',
        reason: 'RFC 3927 7: a router must not forward them.',
        claims: (d) => isOutcome(d) && dropped(d, 'link_local') && !is6(d),
      },
      {
        title: 'Link-local destinations of IPv6',
        kernel: 'answers for the gateway’s own address, and looks for others on the link',
        tortie: 'drops them (`link_local`); the gateway speaks neighbour discovery alone',
        reason:
          'Nobody but the gateway is on a pod’s link, and the gateway is no host with services of its own.',
        claims: (d) => isOutcome(d) && dropped(d, 'link_local') && is6(d),
      },
      {
        title: 'Groups of IPv6',
        kernel: 'answers an echo to all nodes, and to all routers',
        tortie: 'drops what is for a group (`multicast`), but for ND and MLD',
        reason:
          'Pods on a routed network have no multicast, and the gateway is no host with services of its own.',
        claims: (d) => isOutcome(d) && dropped(d, 'multicast') && is6(d),
      },
      {
        title: 'A link-local source beyond its link, and something else amiss',
        kernel: 'tells of its route or its hop limit first, and tells even itself',
        tortie: 'drops it (`martian_source`), and answers 1/2',
        reason:
          'A source is looked at before a route is, and who takes the gateway’s own is told nothing. Where nothing else is amiss both answer 1/2.',
        claims: (d) =>
          isOutcome(d) &&
          dropped(d, 'martian_source') &&
          is6(d) &&
          /^(silence|cali-a: ICMP6 1\/2)$/.test(d.tortie),
      },
    ],
  },
  {
    topic: 'ICMP errors',
    listed: [
      {
        title: 'Errors about ICMP messages of types that nobody knows',
        kernel: 'sends none about unknown types and router advertisements',
        tortie: 'sends none about the five errors that RFC 792 defines, and about all else it does',
        reason: 'RFC 1812 4.3.2.7 forbids errors about errors, not about messages.',
        claims: (d) =>
          isOutcome(d) &&
          isSilence(d.kernel) &&
          input(d, 'ip.protocol') === '1' &&
          /: (VXLAN )?ICMP (3|11)\//.test(d.tortie),
      },
      {
        title: 'Traffic class of ICMPv6 errors',
        kernel: '0',
        tortie: '0xc0, precedence “internetwork control”',
        reason:
          'No RFC says one. Errors about IPv4 are to have this (RFC 1812 4.3.2.5), and the reason is the same.',
        claims: (d) => plain(d.field) === 'ip.dscp' && isClassOfError(d),
      },
      {
        title: 'Flow label of ICMPv6 errors',
        kernel: 'a hash of addresses and a secret',
        tortie: '0',
        reason:
          'Each error is a flow of its own; 0 is what RFC 6437 2 has for packets that are not labelled.',
        claims: (d) => plain(d.field) === 'ip.flow' && isError6(d) && d.tortie === '0',
      },
      {
        title: 'Hop limit in the quotation of Packet Too Big',
        kernel: 'already lowered, if the packet was too big for a link that is no tunnel or came by one',
        tortie: 'as received',
        reason: 'RFC 4443 2.4 (c): the quotation is of the packet that invoked the error.',
        claims: (d) => {
          if (plain(d.field) !== 'icmp6.data' || beside(d, 'tortie', 'icmp6.type') !== '2') return false;
          const [theirs, ours] = [Buffer.from(d.kernel, 'hex'), Buffer.from(d.tortie, 'hex')];
          if (theirs.length !== ours.length || theirs[7] !== ours[7]! - 1) return false;
          theirs[7] = ours[7]!;
          return theirs.equals(ours);
        },
      },
      {
        title: 'Errors about what a link-local address sent to the node',
        kernel: 'from the address that the packet was for',
        tortie: 'from the gateway’s link-local address',
        reason: 'It is the node’s address on that link, whichever of the others the packet was for.',
        claims: (d) => d.field === 'ip.src' && isError6(d) && dropped(d, 'martian_source'),
      },
      {
        title: 'Unreachable routes of IPv6',
        kernel: '1/0, no route',
        tortie: '1/3, address unreachable',
        reason: 'An unreachable route is no missing one; IPv4 tells them apart as well (3/1 and 3/0).',
        claims: (d) =>
          isOutcome(d) && dropped(d, 'unreachable') && d.kernel.replace('1/0', '1/3') === d.tortie,
      },
    ],
  },
  {
    topic: 'IPv4 options',
    listed: [
      {
        title: 'Record route and timestamp',
        kernel: 'writes its address or the time into them',
        tortie: 'passes them on as they are',
        reason:
          'They would cost a rewrite, for tools that traceroute has replaced. RFC 7126 lets a router forward such packets as if the options were not there.',
        claims: (d) =>
          plain(d.field) === 'ip.options' &&
          optionsOf(d).types.some((type) => type === RECORD_ROUTE || type === TIMESTAMP),
      },
      {
        title: 'Behind the end of the options',
        kernel: 'writes zeros',
        tortie: 'leaves what is there',
        reason:
          'RFC 791 3.1 has zeros there, and nobody reads them; a router that changes them would have to mend the checksum.',
        claims: (d) => {
          if (plain(d.field) !== 'ip.options' || !/^0*$/.test(d.kernel.slice(d.kernel.indexOf('00'))))
            return false;
          const bytes = Buffer.from(d.tortie, 'hex');
          const end = endOfOptions(bytes);
          return (
            end < bytes.length && bytes.subarray(0, end).equals(Buffer.from(d.kernel, 'hex').subarray(0, end))
          );
        },
      },
      {
        title: 'Options in ICMP errors',
        kernel: 'copies record route, timestamp and the like from the offending packet into its error',
        tortie: 'sends errors without options, and quotes the packet as received',
        reason:
          'RFC 1812 4.3.2.6 wants source routes alone to be copied, and no packet with one is forwarded.',
        claims: (d) => hasOptions(d) && isErrorWithOptions(d),
      },
      {
        title: 'Source routes that cannot be read',
        kernel: 'answers 12/0 before it drops them for being source routes',
        tortie: 'drops them (`ip4_source_route`) in silence, like any',
        reason: 'RFC 7126 4.3 and 4.4: packets with them are dropped.',
        claims: (d) => isOutcome(d) && dropped(d, 'ip4_source_route') && isSilence(d.tortie),
      },
      {
        title: 'Options that cannot be read, and CIPSO',
        kernel: 'drops the packet, and answers 12/0 where an error may be sent',
        tortie: 'passes them on as they are',
        reason: 'tortie reads no options: who reads them judges them.',
        claims: (d) =>
          isOutcome(d) &&
          (!optionsOf(d).readable || optionsOf(d).types.some((type) => READ_BY_KERNEL.includes(type))) &&
          (isSilence(d.kernel) || /: (VXLAN )?ICMP 12\/0$/.test(d.kernel)),
      },
    ],
  },
  {
    topic: 'Fragments',
    listed: [
      {
        title: 'Options of a later fragment that is cut again',
        kernel: 'copies all of them to each piece',
        tortie: 'copies those that are to be copied, and writes no-operations over the others',
        reason: 'RFC 791 3.1: the others belong into the first fragment of a packet alone.',
        claims: (d) => {
          const was = input(d, 'ip.offset');
          return plain(d.field) === 'ip.options' && was !== '0' && beside(d, 'tortie', 'ip.offset') !== was;
        },
      },
      {
        title: 'Fragment offset 1',
        kernel: 'forwards it',
        tortie: 'drops it (`ip4_offset_one`)',
        reason:
          'RFC 1858: it hides the flags of a TCP header from filters; nobody sends such fragments in earnest.',
        claims: (d) => isOutcome(d) && dropped(d, 'ip4_offset_one'),
      },
    ],
  },
  {
    topic: 'Outer headers',
    listed: [
      {
        title: 'Destination options in front of a tunnel packet',
        kernel:
          'drops the packet for options that it cannot read, or that want it if unknown, and answers 4/2 where they ask for it',
        tortie: 'passes them over in replay, where no kernel is in front of it',
        reason: 'No VTEP sends them.',
        claims: (d) =>
          isOutcome(d) &&
          (isSilence(d.kernel) || UNKNOWN_OPTION.test(d.kernel)) &&
          d.of.input.port === 'underlay' &&
          d.of.input.fields['ip.next'] === DESTINATION_OPTIONS,
      },
      {
        title: 'UDP length 0 over IPv6',
        kernel: 'takes the length from the IPv6 header, as a jumbogram’s',
        tortie: 'drops it (`udp_length`)',
        reason: 'No link here carries jumbograms (RFC 2675).',
        claims: (d) => isOutcome(d) && dropped(d, 'udp_length') && d.of.input.fields['udp.length'] === '0',
      },
      {
        title: 'Flow label of tunnels over IPv6',
        kernel: '0',
        tortie: 'the inner flow’s hash',
        reason:
          'RFC 6438 4: so that routers on the way may share out flows without looking behind the IPv6 header.',
        claims: (d) => d.field === 'ip.flow' && d.port === 'underlay' && d.kernel === '0' && d.tortie !== '0',
      },
      {
        title: 'CE into a tunnel',
        kernel: 'writes ECT(0) outside',
        tortie: 'copies CE',
        reason: 'RFC 6040 4.1, normal mode; the kernel keeps to the older RFC 3168 9.1.1.',
        claims: (d) =>
          d.field === 'ip.ecn' &&
          d.kernel === 'ECT(0)' &&
          d.tortie === 'CE' &&
          beside(d, 'tortie', 'inner.ip.ecn') === 'CE',
      },
    ],
  },
  {
    topic: 'Ethernet and VXLAN',
    listed: [
      {
        title: 'Reserved bits',
        kernel: 'drops packets with bits that it knows no meaning of',
        tortie: 'ignores them',
        reason: 'RFC 7348 5: reserved fields are ignored on receipt.',
        claims: (d) =>
          isOutcome(d) &&
          isSilence(d.kernel) &&
          d.of.input.fields['vxlan.vni'] !== undefined &&
          (d.of.input.fields['vxlan.flags'] !== '8' || d.of.input.fields['vxlan.reserved'] !== '00000000'),
      },
      {
        title: 'Tags of VLAN 0',
        kernel: 'takes it for none',
        tortie: 'drops it as it drops all tags (`vlan_tag`, `vxlan_vlan`)',
        reason:
          'RFC 7348 6.1 discards inner frames with a tag, and a pod’s device has no queues by priority.',
        claims: (d) => isOutcome(d) && dropped(d, 'vxlan_vlan', 'vlan_tag'),
      },
      {
        title: 'A tunnel’s end inside itself',
        kernel: 'encapsulates what comes from the far end’s own address and is for a pod there',
        tortie: 'drops it (`tunnel_loop`)',
        reason: 'RFC 2003 3.2: were that end routed into the tunnel, such packets would go round for ever.',
        claims: (d) => isOutcome(d) && dropped(d, 'tunnel_loop'),
      },
      {
        title: 'Our own VTEP’s MAC as the inner source',
        kernel: 'drops it as a loop',
        tortie: 'takes it',
        reason: 'A loop shows in the source address, which must be routed via the sending node.',
        claims: (d) =>
          isOutcome(d) && isSilence(d.kernel) && d.of.input.fields['inner.eth.src'] === '66:00:00:00:00:01',
      },
    ],
  },
  {
    topic: 'ARP',
    listed: [
      {
        title: 'What is answered',
        kernel: 'answers for what it would forward by another port',
        tortie: 'answers for every target but the pod’s own addresses',
        reason:
          'The pod’s default route leads here, whatever becomes of the packet; silence would only delay its error.',
        claims: (d) => isOutcome(d) && isArp(d) && isSilence(d.kernel) && /: ARP 2 /.test(d.tortie),
      },
      {
        title: 'Who is answered',
        kernel: 'answers whoever has an address that is routed to the pod',
        tortie: 'answers the pod’s own MAC alone (`arp_refused`)',
        reason: 'Nobody else is on a pod’s link.',
        claims: (d) => isOutcome(d) && isArp(d) && dropped(d, 'arp_refused'),
      },
      {
        title: 'Probes',
        kernel: 'defends its own addresses against who would take one',
        tortie: 'answers no probe (`arp_silent`)',
        reason:
          'What is answered for every target must not be answered here, or no pod could have an address. IPAM sees to it that addresses are not given twice.',
        claims: (d) => isOutcome(d) && isArp(d) && dropped(d, 'arp_silent') && isSilence(d.tortie),
      },
      {
        title: 'Hardware type 6',
        kernel: 'answers it as if it were Ethernet',
        tortie: 'drops it (`arp_malformed`)',
        reason: 'It belongs to token ring, FDDI and IEEE 802 networks, and no pod has one.',
        claims: (d) => isOutcome(d) && isArp(d) && dropped(d, 'arp_malformed'),
      },
    ],
  },
  {
    topic: 'Neighbour discovery',
    listed: [
      {
        title: 'What is answered',
        kernel: 'answers for its own addresses and for targets that it was told one by one',
        tortie: 'answers for every target but the pod’s own addresses',
        reason: 'As with ARP.',
        claims: (d) => isOutcome(d) && isSolicitation(d) && isSilence(d.kernel) && ADVERTISED.test(d.tortie),
      },
      {
        title: 'The router flag for others',
        kernel: 'clear',
        tortie: 'set',
        reason: 'Who answers, and whose MAC it is, is a router.',
        claims: (d) =>
          plain(d.field) === 'icmp6.rest' &&
          isSolicitation(d) &&
          [d.kernel, d.tortie].join() === '40000000,c0000000',
      },
      {
        title: 'Solicitations to an address',
        kernel: 'advertises without the option of its MAC, and without the override flag',
        tortie: 'advertises as to a group',
        reason:
          'RFC 4861 7.2.4 lets it be left out there; one answer for all is simpler, and confirms the entry as well.',
        claims: (d) =>
          isSolicitation(d) &&
          (input(d, 'ip.dst') ?? '').startsWith('fe80:') &&
          ['ip.length', 'icmp6.rest', 'icmp6.length', 'icmp6.data'].includes(plain(d.field)),
      },
      {
        title: 'Who is answered',
        kernel: 'answers whatever MAC a solicitation names',
        tortie: 'answers the pod’s own MAC alone (`nd_refused`)',
        reason: 'Nobody else is on a pod’s link.',
        claims: (d) => isOutcome(d) && isSolicitation(d) && dropped(d, 'nd_refused'),
      },
      {
        title: 'Duplicate address detection',
        kernel: 'defends its own addresses, and those of the targets that it was told',
        tortie: 'is silent (`nd_silent`)',
        reason:
          'What is answered for everybody must not be answered here, or no pod could have an address. IPAM sees to it that addresses are not given twice.',
        claims: (d) => isOutcome(d) && dropped(d, 'nd_silent') && isAnswered(d),
      },
      {
        title: 'Discovery that is not for the link',
        kernel: 'forwards it, down to an error about its hop limit',
        tortie: 'drops it (`nd_malformed`, `nd_silent`)',
        reason:
          'RFC 4861 7.1 and 8.1: a hop limit other than 255 has crossed a router, and what has must not have.',
        claims: (d) => isOutcome(d) && dropped(d, 'nd_malformed', 'nd_silent') && !isAnswered(d),
      },
      {
        title: 'Listener messages that are not for the link',
        kernel: 'forwards them',
        tortie: 'drops them (`mld`)',
        reason:
          'RFC 2710 3, RFC 3810 5: they have hop limit 1 and a link-local source, and are for the link alone.',
        claims: (d) => isOutcome(d) && dropped(d, 'mld'),
      },
      {
        title: 'Redirects',
        kernel: 'tells a pod of what is on its own link',
        tortie: 'sends none',
        reason: 'As Calico: a pod’s link has no other host on it.',
        claims: (d) => isOutcome(d) && d.kernel.replace(/cali-[ab]: ICMP6 137\/0, /, '') === d.tortie,
      },
    ],
  },
  {
    topic: 'IPv6 extension headers',
    listed: [
      {
        title: 'Hop-by-hop options',
        kernel: 'reads them before all else, and drops or answers 4/2 as an unknown option’s type asks',
        tortie: 'reads none: the packet goes its way by its other headers',
        reason: 'RFC 8200 4: a router reads them only if it is configured to.',
        claims: (d) =>
          isOutcome(d) &&
          input(d, 'ip.next') === '0' &&
          (isSilence(d.kernel) || /: (VXLAN )?ICMP6 4\/[012]$/.test(d.kernel)),
      },
      {
        title: 'Payload length 0 in front of hop-by-hop options',
        kernel: 'sends all of the frame on, as it would a jumbogram’s',
        tortie: 'drops it (`ip6_payload_length`)',
        reason: 'It says that a jumbogram follows (RFC 2675 2), and no link here carries one.',
        claims: (d) => isOutcome(d) && dropped(d, 'ip6_payload_length') && input(d, 'ip.length') === '0',
      },
      {
        title: 'Routing headers of type 0',
        kernel: 'forwards them on the way to the next of their addresses',
        tortie: 'drops them (`ip6_routing_header`), and answers 4/0',
        reason: 'RFC 5095: nobody honours them, and on their way they would go to and fro.',
        claims: (d) => isOutcome(d) && dropped(d, 'ip6_routing_header'),
      },
      {
        title: 'Chains that cannot be walked',
        kernel: 'sends an error about a packet whose extension headers are more than eight, or cut',
        tortie: 'sends none',
        reason: 'The walk is bounded, and what a packet cannot be seen to be may be an error.',
        claims: (d) =>
          isOutcome(d) &&
          is6(d) &&
          isSilence(d.tortie) &&
          EXTENSIONS.includes(input(d, 'ip.next') ?? '') &&
          dropped(d, 'ttl_expired', 'no_route', 'unreachable', 'prohibit', 'too_big'),
      },
    ],
  },
];

/** The DSCP of an ICMPv6 error, or of the tunnel's header that copies it. */
function isClassOfError(difference: Difference): boolean {
  const { fields, tortie, kernel } = difference;
  const of = (frame: Fields | undefined) => frame?.['inner.icmp6.type'] ?? frame?.['icmp6.type'];
  return Number(of(fields?.tortie)) < 128 && kernel === '0' && tortie === '48';
}

/** An IPv4 error in which only options, and what follows from them, differ. */
function isErrorWithOptions(difference: Difference): boolean {
  const { field, fields } = difference;
  const names = ['ip.header', 'ip.length', 'ip.options', 'icmp.data', 'icmp.length'];
  const isAround =
    ['ip.length', 'udp.length'].includes(field) && fields?.tortie['inner.icmp.type'] !== undefined;
  return (isError4(difference) && names.includes(plain(field))) || isAround;
}

/** All entries, in the order of the document. */
export const LISTED: readonly Listed[] = DIFFERENCES.flatMap(({ listed }) => listed);

/** docs/DIFFERENCES.md. */
export function document(): string {
  const lines = [
    '# Where tortie differs from the kernel',
    '',
    'The same frames go through `tortie replay` and through a node made of the kernel: a VXLAN device, proxy ARP and NDP,',
    'forwarding, reverse path filter, and the rules that Calico writes. What leaves is compared field by field. Every difference',
    'that was found is either mended or stands here; `npm run test:oracle` fails on others, and on a row that nothing needs any more.',
    '',
    'Not compared are the numbers that may be any: the identification of packets that a node sends itself, and a tunnel’s source',
    'port as long as it is one of 49152 to 65535. IPIP, of which no kernel module may be at hand, is not compared.',
    '',
    'This file is made of `scripts/oracle/differences.ts`: `npm run test:oracle -- --update`.',
  ];
  for (const { topic, listed } of DIFFERENCES) {
    lines.push('', `## ${topic}`, '', '| what | the kernel | tortie | why |', '|---|---|---|---|');
    for (const { title, kernel, tortie, reason } of listed) {
      lines.push(`| ${title} | ${kernel} | ${tortie} | ${reason} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}
