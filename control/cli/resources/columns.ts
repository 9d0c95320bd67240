/** The columns of `get`, by kind: calicoctl's, to the letter. */
import type { BGPFilter, Kind, Resource, ResourceOf } from '../../resources/schema.ts';
import { DEFAULT_AS } from '../../resources/schema.ts';

/** What cells of one resource take from others. */
export interface Surroundings {
  readonly defaultAs: number;
}

type Cell<K extends Kind> = (resource: ResourceOf<K>, around: Surroundings) => string;

interface KindColumns<K extends Kind> {
  readonly narrow: readonly string[];
  readonly wide: readonly string[];
  readonly cells: Readonly<Record<string, Cell<K>>>;
}

/** Longest list of prefixes in a cell. */
const MAX_LIST = 80;

const name = ({ metadata }: Resource): string => metadata.name;
const only = <K extends Kind>(
  cells: Record<string, Cell<K>>,
  narrow = Object.keys(cells),
): KindColumns<K> => ({
  narrow,
  wide: narrow,
  cells,
});

const rulesOf = ({ exportV4, exportV6, importV4, importV6 }: BGPFilter['spec']) => ({
  exported: exportV4.length + exportV6.length,
  imported: importV4.length + importV6.length,
});

export const COLUMNS: { readonly [K in Kind]: KindColumns<K> } = {
  IPPool: {
    narrow: ['NAME', 'CIDR', 'SELECTOR'],
    wide: [
      'NAME',
      'CIDR',
      'NAT',
      'IPIPMODE',
      'VXLANMODE',
      'DISABLED',
      'DISABLEBGPEXPORT',
      'SELECTOR',
      'ASSIGNMENTMODE',
    ],
    cells: {
      NAME: name,
      CIDR: ({ spec }) => spec.cidr,
      NAT: ({ spec }) => String(spec.natOutgoing),
      IPIPMODE: ({ spec }) => spec.ipipMode,
      VXLANMODE: ({ spec }) => spec.vxlanMode,
      DISABLED: ({ spec }) => String(spec.disabled),
      DISABLEBGPEXPORT: ({ spec }) => String(spec.disableBGPExport),
      SELECTOR: ({ spec }) => spec.nodeSelector,
      ASSIGNMENTMODE: ({ spec }) => spec.assignmentMode,
    },
  },
  Node: {
    narrow: ['NAME'],
    wide: ['NAME', 'ASN', 'IPV4', 'IPV6'],
    cells: {
      NAME: name,
      ASN: ({ spec: { bgp } }, { defaultAs }) => (bgp ? String(bgp.asNumber ?? `(${defaultAs})`) : ''),
      IPV4: ({ spec }) => spec.bgp?.ipv4Address ?? '',
      IPV6: ({ spec }) => spec.bgp?.ipv6Address ?? '',
    },
  },
  BGPConfiguration: only<'BGPConfiguration'>({
    NAME: name,
    LOGSEVERITY: ({ spec }) => spec.logSeverityScreen ?? '',
    MESHENABLED: ({ spec }) => String(spec.nodeToNodeMeshEnabled ?? '-'),
    ASNUMBER: ({ spec }) => String(spec.asNumber ?? '-'),
  }),
  BGPPeer: only<'BGPPeer'>({
    NAME: name,
    PEERIP: ({ spec }) => spec.peerIP ?? '',
    NODE: ({ spec }) => spec.node || spec.nodeSelector || '(global)',
    ASN: ({ spec }) => String(spec.asNumber ?? 0),
  }),
  BGPFilter: only<'BGPFilter'>({
    NAME: name,
    NUMEXPORT: ({ spec }) => String(rulesOf(spec).exported),
    NUMIMPORT: ({ spec }) => String(rulesOf(spec).imported),
  }),
  WorkloadEndpoint: {
    narrow: ['WORKLOAD', 'NODE', 'NETWORKS', 'INTERFACE'],
    wide: ['NAME', 'WORKLOAD', 'NODE', 'NETWORKS', 'INTERFACE', 'PROFILES', 'NATS'],
    cells: {
      NAME: name,
      NAMESPACE: ({ metadata }) => metadata.namespace ?? 'default',
      NODE: ({ spec }) => spec.node,
      ORCHESTRATOR: ({ spec }) => spec.orchestrator,
      WORKLOAD: ({ spec }) => spec.workload ?? spec.pod ?? '',
      NETWORKS: ({ spec }) => spec.ipNetworks.join(','),
      NATS: ({ spec }) =>
        (spec.ipNATs ?? []).map(({ internalIP, externalIP }) => `{${internalIP} ${externalIP}}`).join(','),
      PROFILES: ({ spec }) => (spec.profiles ?? []).join(','),
      INTERFACE: ({ spec }) => spec.interfaceName,
    },
  },
  FelixConfiguration: only<'FelixConfiguration'>({ NAME: name }),
  IPAMConfig: {
    narrow: ['NAME', 'STRICTAFFINITY', 'AUTOALLOCATEBLOCKS'],
    wide: ['NAME', 'STRICTAFFINITY', 'AUTOALLOCATEBLOCKS', 'MAXBLOCKSPERHOST'],
    cells: {
      NAME: name,
      STRICTAFFINITY: ({ spec }) => String(spec.strictAffinity),
      AUTOALLOCATEBLOCKS: ({ spec }) => String(spec.autoAllocateBlocks),
      MAXBLOCKSPERHOST: ({ spec }) => String(spec.maxBlocksPerHost),
    },
  },
  IPReservation: {
    narrow: ['NAME'],
    wide: ['NAME', 'CIDRS'],
    cells: {
      NAME: name,
      CIDRS: ({ spec }) => {
        const all = spec.reservedCIDRs.join(',');
        return all.length > MAX_LIST ? `${all.slice(0, MAX_LIST - 3)}...` : all;
      },
    },
  },
};

/** The AS of nodes that name none. */
export const defaultAsOf = (configurations: readonly Resource[]): number =>
  configurations.flatMap((resource) =>
    resource.kind === 'BGPConfiguration' && resource.metadata.name === 'default'
      ? (resource.spec.asNumber ?? [])
      : [],
  )[0] ?? DEFAULT_AS;
