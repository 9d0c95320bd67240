/**
 * Address translation on the host's side, by nftables, in a table of our own. Two things need it: pods of pools with
 * `natOutgoing` on their way out of all pools; and packets that come from the host device, were given another destination by
 * somebody's rules (a hostPort, a service), and leave by the host device again: their answer would go straight to the pod, which
 * never asked the one that answers, unless the host stands between them.
 */
import { spawn } from 'node:child_process';
import { formatAddress4, formatAddress6, isIp6 } from '../address.ts';
import {
  type FelixConfiguration,
  felixSettings,
  nodeAddress4,
  nodeAddress6,
  type Resource,
} from '../resources/schema.ts';

/** Of each network namespace, so of each node. */
export const NAT_TABLE = 'tortie';
const TIMEOUT_MS = 10_000;
const VXLAN_PORT = 4789;

export interface NatFacts {
  readonly nodeName: string;
  readonly hostDevice: string;
  readonly resources: readonly Resource[];
}

/** The table as `nft -f` takes it. Pure. */
export function natTable({ nodeName, hostDevice, resources }: NatFacts): string {
  const pools = resources.flatMap((resource) => (resource.kind === 'IPPool' ? [resource.spec] : []));
  const nodes = resources.flatMap((resource) => (resource.kind === 'Node' ? [resource] : []));
  const settings: FelixConfiguration['spec'] = felixSettings(nodeName, resources);
  const spareNodes = settings.natOutgoingExclusions === 'IPPoolsAndHostIPs';
  const own = nodes.find(({ metadata }) => metadata.name === nodeName);
  const self = own && nodeAddress4(own.spec)?.address;
  const self6 = own && nodeAddress6(own.spec)?.words;

  const family = (is6: boolean, cidr: string) => isIp6(cidr) === is6;
  const sets: string[] = [];
  const rules: string[] = [];
  for (const is6 of [false, true]) {
    const inside = pools.map(({ cidr }) => cidr).filter((cidr) => family(is6, cidr));
    const leaving = pools.filter(({ natOutgoing }) => natOutgoing).map(({ cidr }) => cidr);
    const masked = leaving.filter((cidr) => family(is6, cidr));
    if (masked.length === 0) continue;
    const spared = spareNodes ? addressesOf(nodes, is6) : [];
    const [number, ip] = is6 ? ['6', 'ip6'] : ['4', 'ip'];
    sets.push(setOf(`inside${number}`, is6, [...inside, ...spared]), setOf(`leaving${number}`, is6, masked));
    const address = is6 ? undefined : settings.natOutgoingAddress;
    const action = address === undefined ? 'masquerade' : `snat ${ip} to ${address}`;
    rules.push(
      `oifname != "${hostDevice}" ${ip} saddr @leaving${number} ${ip} daddr != @inside${number} ${action}`,
    );
  }
  // Tunnel packets have no connection to be tracked; they are many.
  const tunnels =
    self === undefined
      ? []
      : [
          `iifname "${hostDevice}" ip saddr ${formatAddress4(self)} notrack`,
          `ip daddr ${formatAddress4(self)} udp dport ${VXLAN_PORT} notrack`,
          `ip daddr ${formatAddress4(self)} ip protocol 4 notrack`,
        ];
  if (self6) tunnels.push(`ip6 daddr ${formatAddress6(self6)} udp dport ${VXLAN_PORT} notrack`);
  return [
    `table inet ${NAT_TABLE} {`,
    ...sets,
    '  chain untracked {',
    '    type filter hook prerouting priority raw; policy accept;',
    ...tunnels.map((rule) => `    ${rule}`),
    '  }',
    '  chain source {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    `    iifname "${hostDevice}" oifname "${hostDevice}" ct status dnat masquerade`,
    ...rules.map((rule) => `    ${rule}`),
    '  }',
    '}',
    '',
  ].join('\n');
}

function addressesOf(nodes: readonly Extract<Resource, { kind: 'Node' }>[], is6: boolean): string[] {
  const texts = nodes.map(({ spec }) => (is6 ? spec.bgp?.ipv6Address : spec.bgp?.ipv4Address));
  return texts.flatMap((text) => (text === undefined ? [] : [text.split('/')[0]!]));
}

const setOf = (name: string, is6: boolean, elements: readonly string[]): string =>
  `  set ${name} { type ${is6 ? 'ipv6_addr' : 'ipv4_addr'}; flags interval; auto-merge; elements = { ${[...new Set(elements)].join(', ')} } }`;

/** Keeps the table of a node as it should be. */
export class Nat {
  /** The table that was written last, and how nft prints it. */
  #written = '';
  #listed = '';

  /** `look`: see whether somebody else changed it. Resolves with what could not be had, for people. */
  async apply(facts: NatFacts, look: boolean): Promise<string[]> {
    const wanted = natTable(facts);
    try {
      if (wanted === this.#written && !(look && (await list()) !== this.#listed)) return [];
      // One transaction: "add" so that there is something to delete.
      await nft(['-f', '-'], `add table inet ${NAT_TABLE}\ndelete table inet ${NAT_TABLE}\n${wanted}`);
      this.#written = wanted;
      this.#listed = await list();
      return [];
    } catch (error) {
      this.#written = '';
      const needed = /leaving[46]/.test(wanted);
      if (!needed) return [];
      return (error as NodeJS.ErrnoException).code === 'ENOENT'
        ? ['natOutgoing needs nft (Debian package nftables), which is not here']
        : [`natOutgoing: nft: ${(error as Error).message}`];
    }
  }
}

/** Whether the table is there, in the namespace of `enter`'s command. */
export async function hasNatTable(enter: readonly string[] = []): Promise<boolean> {
  return nft(['list', 'table', 'inet', NAT_TABLE], '', enter).then(
    () => true,
    () => false,
  );
}

export const removeNatTable = (enter: readonly string[] = []): Promise<string> =>
  nft(['delete', 'table', 'inet', NAT_TABLE], '', enter);

const list = (): Promise<string> => nft(['list', 'table', 'inet', NAT_TABLE]).catch(() => '');

/** Run nft; its output. Rejects with ENOENT where there is none, else with what nft said. */
function nft(args: readonly string[], input = '', enter: readonly string[] = []): Promise<string> {
  const [program, ...all] = [...enter, 'nft', ...args];
  return new Promise((resolve, reject) => {
    const child = spawn(program!, all, { timeout: TIMEOUT_MS, killSignal: 'SIGKILL' });
    let [said, complaint] = ['', ''];
    child.stdout.on('data', (data: Buffer) => {
      said += data;
    });
    child.stderr.on('data', (data: Buffer) => {
      complaint += data;
    });
    child.on('error', reject);
    child.stdin.on('error', () => undefined);
    child.on('close', (code) => {
      if (code === 0) resolve(said);
      else reject(new Error(complaint.trim().split('\n')[0] || `exit ${code}`));
    });
    child.stdin.end(input);
  });
}
