/** Resources from a multi-document file or a folder of files, checked each by itself and all together. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { containsText, isIp6, overlapText, tryInterface4 } from '../address.ts';
import { EX_CONFIG, TortieError } from '../error.ts';
import { API_VERSION, blockSizeOf, type Kind, type Resource, SCHEMAS } from './schema.ts';
import { type Complaint, ConfigError, parseSources, type Source, validate } from './yaml.ts';

interface Loaded {
  readonly source: Source;
  readonly resource: Resource;
}

/** Read all resources under a path. Throws a ConfigError with everything that is wrong. */
export function loadResources(path: string): Resource[] {
  const complaints: Complaint[] = [];
  const loaded: Loaded[] = [];
  for (const file of filesOf(path)) {
    let sources: Source[];
    try {
      sources = parseSources(file, textOf(file));
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      complaints.push(...error.complaints);
      continue;
    }
    for (const source of sources) {
      const resource = one(source, complaints);
      if (resource) loaded.push({ source, resource });
    }
  }
  if (complaints.length === 0) complaints.push(...together(loaded));
  if (complaints.length > 0) throw new ConfigError(complaints);
  return loaded.map(({ resource }) => resource);
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw unreadable(file, error);
  }
}

function filesOf(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    const names = readdirSync(path).filter((name) => /\.(ya?ml|json)$/.test(name));
    return names.sort().map((name) => join(path, name));
  } catch (error) {
    throw unreadable(path, error);
  }
}

const unreadable = (path: string, error: unknown) =>
  new TortieError(
    'RESOURCES_UNREADABLE',
    `cannot read resources at ${path}: ${(error as NodeJS.ErrnoException).code}; check the path`,
    EX_CONFIG,
  );

const envelope = z.looseObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.enum(Object.keys(SCHEMAS) as [Kind, ...Kind[]]),
});

function one(source: Source, complaints: Complaint[]): Resource | null {
  const head = validate(source, envelope, complaints);
  const resource = head ? (validate(source, SCHEMAS[head.kind], complaints) as Resource | null) : null;
  if (resource?.kind !== 'IPPool') return resource;
  // The one default that depends on another field.
  return { ...resource, spec: { ...resource.spec, blockSize: blockSizeOf(resource.spec) } };
}

/** What no single resource can tell. */
function together(loaded: readonly Loaded[]): Complaint[] {
  const complaints: Complaint[] = [];
  const names = new Claims();
  const addresses = new Claims();
  const ofKind = <K extends Kind>(kind: K) =>
    loaded.filter((item) => item.resource.kind === kind) as {
      source: Source;
      resource: Extract<Resource, { kind: K }>;
    }[];
  const pools = ofKind('IPPool');
  const nodes = ofKind('Node');

  for (const { source, resource } of loaded) {
    const { name, namespace } = resource.metadata;
    const taken = names.claim(`${resource.kind} ${namespace ?? ''}/${name}`, source.file);
    if (taken)
      complaints.push(
        source.complain(['metadata', 'name'], `${resource.kind} ${name} is there twice (also in ${taken})`),
      );
  }
  for (const [index, { source, resource }] of pools.entries()) {
    if (resource.spec.ipipMode !== 'Never' && resource.spec.vxlanMode !== 'Never') {
      complaints.push(
        source.complain(
          ['spec', 'vxlanMode'],
          'a pool has ipipMode or vxlanMode, not both: set one to Never',
        ),
      );
    }
    const { cidr } = resource.spec;
    if (isIp6(cidr) && resource.spec.ipipMode !== 'Never') {
      complaints.push(source.complain(['spec', 'ipipMode'], 'an IPv6 pool has no IPIP: set vxlanMode'));
    }
    const [least, most] = isIp6(cidr) ? [116, 128] : [20, 32];
    const size = blockSizeOf(resource.spec);
    if (size < least || size > most) {
      complaints.push(source.complain(['spec', 'blockSize'], `${size} is not in ${least}..${most}`));
    }
    if (lengthOf(cidr) > blockSizeOf(resource.spec)) {
      complaints.push(
        source.complain(
          ['spec', 'blockSize'],
          `${blockSizeOf(resource.spec)} is larger than the pool ${cidr}`,
        ),
      );
    }
    for (const other of pools.slice(0, index)) {
      if (overlapText(cidr, other.resource.spec.cidr)) {
        complaints.push(
          source.complain(
            ['spec', 'cidr'],
            `${resource.spec.cidr} overlaps pool ${other.resource.metadata.name} (${other.resource.spec.cidr})`,
          ),
        );
      }
    }
  }
  const blocks: { text: string; node: string }[] = [];
  for (const { source, resource } of nodes) {
    const { name } = resource.metadata;
    const { bgp, ipv4VXLANTunnelAddr, ipv6VXLANTunnelAddr, vxlanTunnelMACAddr } = resource.spec;
    const claims: [string[], string | undefined][] = [
      [
        ['spec', 'bgp', 'ipv4Address'],
        bgp && tryInterface4(bgp.ipv4Address) ? bgp.ipv4Address.split('/')[0] : undefined,
      ],
      [['spec', 'vxlanTunnelMACAddr'], vxlanTunnelMACAddr?.toLowerCase()],
      [['spec', 'bgp', 'ipv6Address'], bgp?.ipv6Address?.split('/')[0]],
      [['spec', 'ipv6VXLANTunnelAddr'], ipv6VXLANTunnelAddr],
    ];
    // One node may use one tunnel address for both tunnels.
    for (const tunnel of new Set([bgp?.ipv4IPIPTunnelAddr, ipv4VXLANTunnelAddr])) {
      claims.push([['spec', tunnel === ipv4VXLANTunnelAddr ? 'ipv4VXLANTunnelAddr' : 'bgp'], tunnel]);
    }
    for (const [path, address] of claims) {
      const taken = address && addresses.claim(address, `node ${name}`);
      if (taken) complaints.push(source.complain(path, `${address} is taken by ${taken}`));
    }
    for (const [index, text] of resource.spec.blocks.entries()) {
      const pool = pools.find((item) => containsText(item.resource.spec.cidr, text))?.resource;
      if (!pool) complaints.push(source.complain(['spec', 'blocks', index], `${text} lies in no IPPool`));
      else if (blockSizeOf(pool.spec) !== lengthOf(text)) {
        complaints.push(
          source.complain(
            ['spec', 'blocks', index],
            `${text}: blocks of pool ${pool.metadata.name} are /${blockSizeOf(pool.spec)}`,
          ),
        );
      }
      const owner = blocks.find((other) => overlapText(other.text, text));
      if (owner)
        complaints.push(
          source.complain(['spec', 'blocks', index], `${text} overlaps ${owner.text} of node ${owner.node}`),
        );
      blocks.push({ text, node: name });
    }
  }
  for (const { source, resource } of ofKind('BGPPeer')) {
    const { node } = resource.spec;
    if (node && !nodes.some((item) => item.resource.metadata.name === node)) {
      complaints.push(source.complain(['spec', 'node'], `there is no Node ${node}`));
    }
  }
  const ports = new Claims();
  for (const { source, resource } of ofKind('WorkloadEndpoint')) {
    const { name } = resource.metadata;
    const { node, ipNetworks, interfaceName } = resource.spec;
    if (!nodes.some((item) => item.resource.metadata.name === node)) {
      complaints.push(source.complain(['spec', 'node'], `there is no Node ${node}`));
    }
    const port = ports.claim(`${node} ${interfaceName}`, `WorkloadEndpoint ${name}`);
    if (port)
      complaints.push(
        source.complain(['spec', 'interfaceName'], `${interfaceName} is taken by ${port} on ${node}`),
      );
    for (const [index, text] of ipNetworks.entries()) {
      const path = ['spec', 'ipNetworks', index];
      const host = isIp6(text) ? 128 : 32;
      if (lengthOf(text) !== host)
        complaints.push(source.complain(path, `${text}: a pod has /${host} addresses`));
      const taken = addresses.claim(text.split('/')[0]!, `WorkloadEndpoint ${name}`);
      if (taken) complaints.push(source.complain(path, `${text} is taken by ${taken}`));
      if (!pools.some((pool) => containsText(pool.resource.spec.cidr, text))) {
        complaints.push(source.complain(path, `${text} lies in no IPPool`));
      }
    }
  }
  return complaints;
}

/** Prefix length of a checked prefix. */
const lengthOf = (text: string): number => Number(text.split('/')[1] ?? (isIp6(text) ? 128 : 32));

/** Who has what: `claim` answers with the earlier claimant, if there is one. */
class Claims {
  readonly #owners = new Map<string, string>();
  claim(what: string, owner: string): string | undefined {
    const before = this.#owners.get(what);
    if (before === undefined) this.#owners.set(what, owner);
    return before;
  }
}
