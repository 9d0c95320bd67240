import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createEpochs, GracePeriods, Readers } from '../memory/grace.ts';
import { MAX_ADJACENCIES, MAX_PEERS } from '../memory/layout.ts';
import { putAddress } from '../wire/ipv6.ts';
import { ADJ_KIND, ADJ_NEXT_HOP, ADJ_ROW, type Adjacency, createAdjacencies, IPIP } from './adjacency.ts';
import { AdjacencyWriter } from './adjacency-writer.ts';
import { createPeers, hasPeer, PeerWriter } from './peers.ts';
import { createPeers6, Peer6Writer, peer6, peer6Cell } from './peers6.ts';

const tunnel = (nextHop: number): Adjacency => ({
  kind: IPIP,
  port: 4,
  nextHop,
  mtu: 1480,
  source: 1,
  dmac: null,
  smac: null,
  vni: 0,
});

describe('adjacencies', () => {
  it('shares equal rows and reuses a row only after its last reference and a grace period', () => {
    const epochs = createEpochs();
    const readers = new Readers(epochs);
    const grace = new GracePeriods(epochs);
    const shared = createAdjacencies();
    const table = new Int32Array(shared);
    const writer = new AdjacencyWriter(shared, grace);
    const first = writer.acquire(tunnel(7));
    expect(writer.acquire(tunnel(7))).toBe(first);
    expect(first).toBeGreaterThan(0);
    expect(table[first * ADJ_ROW + ADJ_KIND]).toBe(IPIP);
    readers.enter(0);
    writer.release(first);
    writer.release(first);
    expect(() => writer.release(first)).toThrow(/not in use/);
    grace.poll();
    expect(writer.acquire(tunnel(8))).not.toBe(first);
    expect(table[first * ADJ_ROW + ADJ_NEXT_HOP]).toBe(7);
    readers.enter(0);
    grace.poll();
    expect(writer.acquire(tunnel(9))).toBe(first);
    expect(writer.size).toBe(2);
  });

  it('says so when all rows are used', () => {
    const writer = new AdjacencyWriter(createAdjacencies(), new GracePeriods(createEpochs()));
    for (let i = 1; i < MAX_ADJACENCIES; i++) writer.acquire(tunnel(i));
    expect(() => writer.acquire(tunnel(0))).toThrow(expect.objectContaining({ code: 'ADJACENCY_FULL' }));
    writer.release(1);
    expect(writer.acquire(tunnel(0))).toBe(1);
  });
});

describe('peers', () => {
  it('has what a Set has, after any sequence', () => {
    const addresses = fc.constantFrom(...Array.from({ length: 40 }, (_, i) => Math.imul(i + 1, 0x01010001)));
    fc.assert(
      fc.property(fc.array(fc.tuple(addresses, fc.boolean()), { maxLength: 200 }), (steps) => {
        const shared = createPeers();
        const table = new Int32Array(shared);
        const writer = new PeerWriter(shared);
        const model = new Set<number>();
        for (const [address, add] of steps) {
          if (add) {
            expect(writer.add(address)).toBe(true);
            model.add(address);
          } else {
            writer.delete(address);
            model.delete(address);
          }
        }
        expect(writer.size).toBe(model.size);
        for (let i = 0; i < 40; i++) {
          const address = Math.imul(i + 1, 0x01010001);
          expect(hasPeer(table, address)).toBe(model.has(address));
        }
      }),
      { verbose: 1 },
    );
  });

  it('never has addresses of 0/8 or broadcast, has a limit, and frees tombstones', () => {
    const shared = createPeers();
    const table = new Int32Array(shared);
    const writer = new PeerWriter(shared);
    expect([writer.add(0), writer.add(1), writer.add(0xffffff), writer.add(-1)]).not.toContain(true);
    const TEN = 10 << 24;
    expect([hasPeer(table, 0), hasPeer(table, -1)]).toEqual([false, false]);
    for (let i = 1; i <= MAX_PEERS; i++) expect(writer.add(TEN + i)).toBe(true);
    expect(writer.add(TEN + MAX_PEERS + 1)).toBe(false);
    for (let i = 1; i <= MAX_PEERS; i++) writer.delete(TEN + i);
    expect(writer.size).toBe(0);
    expect(table.every((cell) => cell === 0)).toBe(true);
    for (let i = 1; i <= MAX_PEERS; i++) writer.add(-i - 1);
    expect(hasPeer(table, -2)).toBe(true);
    expect(hasPeer(table, TEN + 2)).toBe(false);
  });

  it('keeps free slots for a search to end at while a full table changes', () => {
    const shared = createPeers();
    const table = new Int32Array(shared);
    const writer = new PeerWriter(shared);
    // An odd multiplier: every number gives another address, spread over the table.
    const address = (i: number) => Math.imul(i, 0x2c1b3c6d);
    for (let i = 1; i <= MAX_PEERS; i++) writer.add(address(i));
    for (let i = 1; i <= MAX_PEERS * 12; i++) {
      writer.delete(address(i));
      writer.add(address(i + MAX_PEERS));
    }
    expect(table.filter((cell) => cell === 0).length).toBeGreaterThan(table.length / 3);
    expect(hasPeer(table, address(MAX_PEERS * 13))).toBe(true);
    expect(hasPeer(table, address(MAX_PEERS * 12))).toBe(false);
  });
});

describe('peers over IPv6', () => {
  const at = new DataView(new ArrayBuffer(16));
  const open = () => {
    const shared = createPeers6();
    const table = new Int32Array(shared);
    const epochs = createEpochs();
    const grace = new GracePeriods(epochs);
    const numberOf = (words: readonly number[]) => {
      putAddress(at, 0, words);
      return peer6(table, at, 0);
    };
    return { table, grace, readers: new Readers(epochs), writer: new Peer6Writer(shared, grace), numberOf };
  };
  const address = (i: number) => [0x20010db8, i & 3, 0, i];

  it('number each address, after any sequence', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(40), fc.boolean()), { maxLength: 200 }), (steps) => {
        const { table, grace, writer, numberOf } = open();
        const model = new Map<number, number>();
        for (const [i, isAdded] of steps) {
          if (isAdded) model.set(i, writer.add(address(i)));
          else {
            writer.delete(address(i));
            model.delete(i);
          }
          grace.poll();
        }
        for (let i = 0; i <= 40; i++) expect(numberOf(address(i))).toBe(model.get(i) ?? 0);
        expect(new Set(model.values()).size).toBe(model.size);
        for (const [i, number] of model) {
          const cell = peer6Cell(number);
          expect([...table.subarray(cell, cell + 4)]).toEqual(address(i));
          // Of 0/8: no packet over IPv4 comes from there.
          expect(number >>> 24).toBe(0);
        }
      }),
      { verbose: 1 },
    );
  });

  it('give a number to another only after a grace period, have a limit, and leave no tombstones', () => {
    const { table, grace, readers, writer, numberOf } = open();
    readers.enter(0);
    const first = writer.add(address(1));
    expect(writer.add(address(1))).toBe(first);
    writer.delete(address(1));
    grace.poll();
    expect(numberOf(address(1))).toBe(0);
    expect(writer.add(address(1))).not.toBe(first);
    writer.delete(address(1));
    readers.enter(0);
    grace.poll();
    expect(writer.add(address(1))).toBe(first);
    for (let i = 2; i <= MAX_PEERS; i++) expect(writer.add(address(i))).toBeGreaterThan(0);
    expect(writer.add(address(0))).toBe(0);
    for (let i = 1; i <= MAX_PEERS; i++) writer.delete(address(i));
    expect(writer.size).toBe(0);
    readers.leave(0);
    grace.poll();
    const states = table.filter((_, cell) => cell % 8 === 0);
    expect(states.every((state) => state === 0)).toBe(true);
  });
});
