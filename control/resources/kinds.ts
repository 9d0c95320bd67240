/** What kinds are called on the command line: calicoctl's spellings. */
import { EX_USAGE, TortieError } from '../error.ts';
import { KINDS, type Kind } from './schema.ts';
import { nearest } from './yaml.ts';

/** The first is the kind's own name, the second its plural. */
export const SPELLINGS: Readonly<Record<Kind, readonly string[]>> = {
  IPPool: ['ippool', 'ippools', 'ipp', 'ipps', 'pool', 'pools'],
  Node: ['node', 'nodes', 'no', 'nos'],
  BGPConfiguration: ['bgpconfiguration', 'bgpconfigurations', 'bgpconfig', 'bgpconfigs'],
  BGPPeer: ['bgppeer', 'bgppeers', 'bgpp', 'bgpps', 'bp', 'bps'],
  BGPFilter: ['bgpfilter', 'bgpfilters', 'bgpf', 'bgpfs', 'bf', 'bfs'],
  WorkloadEndpoint: ['workloadendpoint', 'workloadendpoints', 'wep', 'weps'],
  FelixConfiguration: ['felixconfiguration', 'felixconfigurations', 'felixconfig', 'felixconfigs'],
  IPAMConfig: ['ipamconfig', 'ipamconfigs', 'ipamconfiguration', 'ipamconfigurations'],
  IPReservation: ['ipreservation', 'ipreservations', 'reservation', 'reservations'],
};

/** The kind that is meant, in any case of letters. Throws KIND_UNKNOWN. */
export function kindOf(text: string): Kind {
  const word = text.toLowerCase();
  const kind = KINDS.find((candidate) => SPELLINGS[candidate].includes(word));
  if (kind) return kind;
  const near = nearest(word, Object.values(SPELLINGS).flat());
  const hint = near
    ? `did you mean ${near}?`
    : `supported: ${KINDS.map((known) => SPELLINGS[known][0]).join(', ')}`;
  throw new TortieError('KIND_UNKNOWN', `resource type '${text}' is not supported; ${hint}`, EX_USAGE);
}
