import { describe, expect, it } from 'vitest';
import { checkWrite, faultsOfWrite } from './checks.ts';
import { type Kind, type Resource, SCHEMAS } from './schema.ts';

const make = (kind: Kind, name: string, spec: object): Resource =>
  SCHEMAS[kind].parse({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec }) as Resource;

const pool = make('IPPool', 'one', { cidr: '10.65.0.0/16' });
const node = make('Node', 'a', { bgp: { ipv4Address: '192.0.2.1/24' } });

const faults = (resource: Resource, previous: Resource | null, others: Resource[]) =>
  faultsOfWrite(resource, previous, others).map(({ code, path, message }) => [code, path.join('.'), message]);

describe('a write to a store', () => {
  it.each<[string, Resource, Resource | null, unknown]>([
    ['the same again', pool, pool, []],
    ['another mode', make('IPPool', 'one', { cidr: '10.65.0.0/16', vxlanMode: 'Always' }), pool, []],
    [
      'another prefix',
      make('IPPool', 'one', { cidr: '10.66.0.0/16' }),
      pool,
      [['POOL_IMMUTABLE', 'spec.cidr', '10.65.0.0/16 cannot become 10.66.0.0/16: make a new pool instead']],
    ],
    [
      'another block size',
      make('IPPool', 'one', { cidr: '10.65.0.0/16', blockSize: 27 }),
      pool,
      [['POOL_IMMUTABLE', 'spec.blockSize', '26 cannot become 27: make a new pool instead']],
    ],
    ['the block size by name', make('IPPool', 'one', { cidr: '10.65.0.0/16', blockSize: 26 }), pool, []],
    [
      'an overlapping pool',
      make('IPPool', 'two', { cidr: '10.65.0.0/24' }),
      null,
      [['POOL_OVERLAP', 'spec.cidr', '10.65.0.0/24 overlaps pool one (10.65.0.0/16)']],
    ],
    [
      'a node with the address of another',
      make('Node', 'b', { bgp: { ipv4Address: '192.0.2.1/24' } }),
      null,
      [['ADDRESS_TAKEN', 'spec.bgp.ipv4Address', '192.0.2.1 is taken by node a']],
    ],
    ['a node with its own address', make('Node', 'a', { bgp: { ipv4Address: '192.0.2.1/24' } }), node, []],
    [
      'a peer that is none',
      make('BGPPeer', 'p', { peerIP: '192.0.2.9' }),
      null,
      [['PEER_UNCLEAR', 'spec.asNumber', 'is missing; a peer has peerIP and asNumber, or a peerSelector']],
    ],
    [
      'a peer that is two',
      make('BGPPeer', 'p', { peerIP: '192.0.2.9', peerSelector: 'all()' }),
      null,
      [['PEER_UNCLEAR', 'spec.peerSelector', 'set peerSelector, or peerIP and asNumber, not both']],
    ],
    [
      'a peer of a node to come',
      make('BGPPeer', 'p', { node: 'c', peerIP: '192.0.2.9', asNumber: 64512 }),
      null,
      [],
    ],
    [
      'a second IPAMConfig',
      make('IPAMConfig', 'mine', {}),
      null,
      [['NAME_NOT_DEFAULT', 'metadata.name', 'the one IPAMConfig is named "default"']],
    ],
  ])('%s', (_name, resource, previous, expected) => {
    expect(faults(resource, previous, [pool, node])).toEqual(expected);
  });

  it('is refused with the code of its first fault', () => {
    const write = () => checkWrite(make('IPPool', 'two', { cidr: '10.65.0.0/24' }), null, [pool]);
    expect(write).toThrow(expect.objectContaining({ code: 'POOL_OVERLAP', exitCode: 78 }));
  });
});
