/** Where things stand in a store: the layout of Calico's etcd datastore, so that either may read what the other wrote. */
import { type Kind, SCHEMAS } from '../resources/schema.ts';
import type { ResourceKey } from './datastore.ts';

export const RESOURCES = '/calico/resources/v3/projectcalico.org/';
const IPAM = '/calico/ipam/v2';

const plural = (kind: Kind): string => {
  const name = kind.toLowerCase();
  return name.endsWith('y') ? `${name.slice(0, -1)}ies` : `${name}s`;
};
const KINDS = new Map(Object.keys(SCHEMAS).map((kind) => [plural(kind as Kind), kind as Kind]));

/** The one IPAMConfig stands with IPAM's own data, and in its form (ipam-config.ts). */
export const IPAM_CONFIG = `${IPAM}/config`;
/** The one IPAMConfig that there is; it stands at Calico's key of IPAM. */
export const IPAM_CONFIG_NAME = 'default';

export const resourcePrefix = (kind: Kind): string =>
  kind === 'IPAMConfig' ? IPAM_CONFIG : `${RESOURCES}${plural(kind)}/`;

export const resourceKey = ({ kind, name, namespace }: ResourceKey): string =>
  kind === 'IPAMConfig' && name === IPAM_CONFIG_NAME
    ? IPAM_CONFIG
    : `${RESOURCES}${plural(kind)}/${namespace === undefined ? '' : `${namespace}/`}${name}`;

/** What a key names, or null if it is no resource's. */
export function resourceKeyOf(key: string): ResourceKey | null {
  if (key === IPAM_CONFIG) return { kind: 'IPAMConfig', name: IPAM_CONFIG_NAME };
  const [folder = '', ...names] = key.slice(RESOURCES.length).split('/');
  const kind = KINDS.get(folder);
  const [first, second] = names;
  if (!kind || !key.startsWith(RESOURCES) || first === undefined || names.length > 2) return null;
  return second === undefined ? { kind, name: first } : { kind, namespace: first, name: second };
}

const family = (cidr: string): string => (cidr.includes(':') ? 'ipv6' : 'ipv4');
const dashed = (cidr: string): string => cidr.replace('/', '-');

export const BLOCKS = `${IPAM}/assignment/`;
/** Of a block, its CIDR in canonical form. */
export const blockKey = (cidr: string): string => `${BLOCKS}${family(cidr)}/block/${dashed(cidr)}`;

export const AFFINITIES = `${IPAM}/host/`;
export const affinityPrefix = (node: string): string => `${AFFINITIES}${node}/`;
/** The claim of a node to a block. */
export const affinityKey = (node: string, cidr: string): string =>
  `${affinityPrefix(node)}${family(cidr)}/block/${dashed(cidr)}`;

export const HANDLES = `${IPAM}/handle/`;
export const handleKey = (id: string): string => `${HANDLES}${id}`;

/** How the agent of a node fares: goes with its lease. */
export const statusKey = (node: string): string => `/calico/felix/v2/no-region/host/${node}/status`;
