import { describe, expect, it } from 'vitest';
import { type Kind, type Resource, SCHEMAS } from '../resources/schema.ts';
import { natTable } from './nat.ts';

const v3 = (kind: Kind, name: string, spec: unknown): Resource =>
  SCHEMAS[kind].parse({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec }) as Resource;

const pool = (name: string, cidr: string, natOutgoing: boolean) => v3('IPPool', name, { cidr, natOutgoing });
const nodes = [
  v3('Node', 'a', { bgp: { ipv4Address: '192.0.2.1/24', ipv6Address: '2001:db8::1/64' } }),
  v3('Node', 'b', { bgp: { ipv4Address: '192.0.2.2/24' } }),
];
const rulesOf = (...resources: Resource[]) =>
  natTable({ nodeName: 'a', hostDevice: 'tortie0', resources: [...nodes, ...resources] });

describe('natTable', () => {
  it('masks what leaves all pools, by family, and only pools that ask for it', () => {
    const text = rulesOf(
      pool('one', '10.65.0.0/16', true),
      pool('two', '10.66.0.0/16', false),
      pool('six', 'fd65::/48', true),
    );
    expect(text).toContain(
      'set inside4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.65.0.0/16, 10.66.0.0/16 } }',
    );
    expect(text).toContain('elements = { 10.65.0.0/16 } }');
    expect(text).toContain('oifname != "tortie0" ip saddr @leaving4 ip daddr != @inside4 masquerade');
    expect(text).toContain('oifname != "tortie0" ip6 saddr @leaving6 ip6 daddr != @inside6 masquerade');
  });

  it('without such a pool only turns packets that come back where they came from', () => {
    const text = rulesOf(pool('two', '10.66.0.0/16', false));
    expect(text).not.toContain('saddr @leaving');
    expect(text).toContain('iifname "tortie0" oifname "tortie0" ct status dnat masquerade');
  });

  it('heeds the address and the exclusions of FelixConfiguration, the node’s before the default', () => {
    const text = rulesOf(
      pool('one', '10.65.0.0/16', true),
      v3('FelixConfiguration', 'default', {
        natOutgoingAddress: '192.0.2.9',
        natOutgoingExclusions: 'IPPoolsAndHostIPs',
      }),
      v3('FelixConfiguration', 'node.a', { natOutgoingAddress: '192.0.2.10' }),
    );
    expect(text).toContain('ip daddr != @inside4 snat ip to 192.0.2.10');
    expect(text).toContain('elements = { 10.65.0.0/16, 192.0.2.1, 192.0.2.2 }');
  });

  it('leaves tunnel packets untracked', () => {
    expect(rulesOf()).toContain('iifname "tortie0" ip saddr 192.0.2.1 notrack');
  });
});
