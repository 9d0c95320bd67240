/**
 * Readers in threads of their own while control writes: what they see must be legal at every moment. The
 * threads run the built readers (scripts/build), since workers on Node 20 do not load TypeScript.
 */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { createEpochs, GracePeriods } from '../memory/grace.ts';
import { createAdjacencies, IPIP } from './adjacency.ts';
import { AdjacencyWriter } from './adjacency-writer.ts';
import { deal } from './deal.ts';
import { createFib4 } from './fib4.ts';
import { Fib4Writer } from './fib4-writer.ts';
import { createFib6 } from './fib6.ts';
import { Fib6Writer } from './fib6-writer.ts';
import { createGroups } from './groups.ts';
import { GroupWriter } from './groups-writer.ts';
import { createPeers, PeerWriter } from './peers.ts';
import { createPeers6, Peer6Writer } from './peers6.ts';
import { maskOf } from './prefix-map.ts';
import { maskWord } from './prefix-map6.ts';

const BUILT = new URL('../../dist/dataplane/', import.meta.url);
const built = existsSync(new URL('fib/fib4.js', BUILT));
if (!built) console.log('racing.test.ts: skipped, reader threads need the build (scripts/build)');
const race = built ? it : it.skip;

/** Rounds that a reader and the writer make at least. */
const READER_ROUNDS = 2_000;
const WRITER_ROUNDS = 20_000;

/** Cells that both threads know: the reader's rounds so far, and the writer's word to stop. */
const ROUNDS = 0;
const STOP = 1;

/**
 * Call `write` until a reader thread has made its rounds beside it; answers with what the reader reported as
 * wrong. `look` is the body of a round, between two quiet points: it has `data`, the readers' functions,
 * `linger()` (as if the thread lost its processor here) and `wrong(text)`.
 */
async function raceAgainst(
  data: { epochs: SharedArrayBuffer; [name: string]: unknown },
  look: string,
  write: (round: number) => void,
): Promise<string[]> {
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const thread = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads');
     const { built, shared, data } = workerData;
     (async () => {
       const { lookup4, openFib4 } = await import(built + 'fib/fib4.js');
       const { lookup6, openFib6 } = await import(built + 'fib/fib6.js');
       const { bucketOf } = await import(built + 'fib/groups.js');
       const { hasPeer } = await import(built + 'fib/peers.js');
       const { peer6, peer6Cell } = await import(built + 'fib/peers6.js');
       const { ADJ_ROW, ADJ_MTU, ADJ_NEXT_HOP, ADJ_VNI } = await import(built + 'fib/adjacency.js');
       const { Readers } = await import(built + 'memory/grace.js');
       const readers = new Readers(data.epochs);
       const found = new Set();
       const wrong = (text) => { if (found.size < 10) found.add(text); };
       const linger = () => { for (let i = 0; i < 300; i++) Atomics.load(shared, ${STOP}); };
       const fib = data.fib4 && openFib4(data.fib4);
       const fib6 = data.fib6 && openFib6(data.fib6);
       const rows = data.adjacencies && new Int32Array(data.adjacencies);
       const groups = data.groups && new Uint16Array(data.groups);
       const peers = data.peers && new Int32Array(data.peers);
       const look = () => { ${look} };
       while (Atomics.load(shared, ${STOP}) === 0) {
         readers.enter(3);
         look();
         // Asleep now and then, as a worker without packets is.
         if (Atomics.add(shared, ${ROUNDS}, 1) % 8 === 0) readers.leave(3);
       }
       readers.leave(3);
       parentPort.postMessage([...found]);
     })();`,
    { eval: true, workerData: { built: BUILT.href, shared, data } },
  );
  const report = once(thread, 'message');
  // Its failure to load is the test's failure, not a wait without end.
  let failed = false;
  report.catch(() => {
    failed = true;
  });
  for (let round = 0; !failed && (round < WRITER_ROUNDS || Atomics.load(shared, ROUNDS) < READER_ROUNDS); ) {
    // A reader that is not there yet, or not any more, is told by events: let them in.
    for (let i = 0; i < 500; i++) write(round++);
    await new Promise((resolve) => setImmediate(resolve));
  }
  Atomics.store(shared, STOP, 1);
  const [wrong] = (await report) as [string[]];
  await thread.terminate();
  return wrong;
}

function tables() {
  const epochs = createEpochs();
  const fib4 = createFib4();
  const grace = new GracePeriods(epochs);
  return { epochs, fib4, grace, fib: new Fib4Writer(fib4, grace) };
}

race('a reader sees routes that cover its address, and never a hole', async () => {
  const { epochs, fib4, grace, fib } = tables();
  // Nested routes, each with two adjacencies in turn. Every other one always stays, so for each address the
  // longest that stays sets how short an answer may be.
  const routes = [8, 15, 16, 20, 23, 24, 25, 26, 27, 29, 30, 32].flatMap((length, i) =>
    [0x0a000000, 0x0a0000ff, 0x0a00017f].map((address, j) => ({
      prefix: address & maskOf(length),
      length,
      stays: (i + j) % 2 === 0,
    })),
  );
  const unique = routes.filter(
    (a, i) => routes.findIndex((b) => a.prefix === b.prefix && a.length === b.length) === i,
  );
  const adjacency = (route: number, turn: number) => 1 + route * 2 + (turn & 1);
  const addresses = Int32Array.from({ length: 512 }, (_, i) => 0x0a000000 + i);
  const covers = (i: number, address: number) => (address & maskOf(unique[i]!.length)) === unique[i]!.prefix;
  /** For each address, by adjacency: is it a legal answer? */
  const legal = Array.from(addresses, (address) => {
    const least = Math.max(...unique.map((r, i) => (r.stays && covers(i, address) ? r.length : 0)));
    const answers = new Uint8Array(1 + unique.length * 2);
    for (const [i, route] of unique.entries()) {
      if (covers(i, address) && route.length >= least)
        answers[adjacency(i, 0)] = answers[adjacency(i, 1)] = 1;
    }
    return answers;
  });
  for (const [i, { prefix, length }] of unique.entries()) fib.set(prefix, length, adjacency(i, 0));

  const wrong = await raceAgainst(
    { epochs, fib4, addresses, legal },
    `for (let i = 0; i < data.addresses.length; i++) {
       const answer = lookup4(fib, data.addresses[i]);
       if (data.legal[i][answer] !== 1) wrong('10.0.' + (i >> 8) + '.' + (i & 255) + ' gave ' + answer);
     }`,
    (round) => {
      const i = round % unique.length;
      const { prefix, length, stays } = unique[i]!;
      const turn = Math.floor(round / unique.length);
      if (stays || turn % 3 !== 0) fib.set(prefix, length, adjacency(i, turn));
      else fib.delete(prefix, length);
      grace.poll();
    },
  );
  expect(wrong).toEqual([]);
});

race(
  'a reader sees IPv6 routes that cover its address, and never a hole, while groups are put between and taken away',
  async () => {
    const epochs = createEpochs();
    const fib6 = createFib6();
    const grace = new GracePeriods(epochs);
    const fib = new Fib6Writer(fib6, grace);
    const words = [
      [0xfd000010, 0x00650000, 0, 0],
      [0xfd000010, 0x00650000, 0, 0x3f],
      [0xfd000010, 0x00650000, 0x00010000, 0x3f],
      [0xfd000010, 0x00650001, 0x00010000, 0x3f],
      [0xfd000010, 0x00660001, 0x00010000, 0x3f],
    ].map((address) => Int32Array.from(address));
    const covers = (route: { words: Int32Array; length: number }, address: Int32Array) =>
      route.words.every((word, i) => (address[i]! & maskWord(route.length, i)) === word);
    const routes = [8, 24, 30, 40, 47, 48, 56, 64, 72, 100, 122, 128].flatMap((length, i) =>
      words.map((address, j) => ({
        words: address.map((word, k) => word & maskWord(length, k)),
        length,
        stays: (i + j) % 3 === 0,
      })),
    );
    const unique = routes.filter((a, i) => {
      const same = (b: typeof a) => a.length === b.length && a.words.join() === b.words.join();
      return routes.findIndex(same) === i;
    });
    const bytesOf = (address: Int32Array) => {
      const view = new DataView(new ArrayBuffer(16));
      for (const [i, word] of address.entries()) view.setInt32(i * 4, word);
      return new Uint8Array(view.buffer);
    };
    const prefixes = unique.map((route) => bytesOf(route.words));
    const adjacency = (route: number, turn: number) => 1 + route * 2 + (turn & 1);
    const addresses = words.flatMap((address) => [
      address,
      address.map((word, i) => (i === 3 ? word ^ 1 : word)),
      address.map((word, i) => (i === 2 ? word ^ 0x100 : word)),
      address.map((word, i) => (i === 1 ? word ^ 2 : word)),
    ]);
    /** For each address, by adjacency: is it a legal answer? */
    const legal = addresses.map((address) => {
      const least = Math.max(...unique.map((r) => (r.stays && covers(r, address) ? r.length : 0)));
      const answers = new Uint8Array(1 + unique.length * 2);
      for (const [i, route] of unique.entries()) {
        if (covers(route, address) && route.length >= least)
          answers[adjacency(i, 0)] = answers[adjacency(i, 1)] = 1;
      }
      return answers;
    });
    for (const [i, { length }] of unique.entries()) fib.set(prefixes[i]!, length, adjacency(i, 0));

    const wrong = await raceAgainst(
      { epochs, fib6, addresses: addresses.map(bytesOf), legal },
      `for (let i = 0; i < data.addresses.length; i++) {
       const answer = lookup6(fib6, new DataView(data.addresses[i].buffer), 0);
       if (data.legal[i][answer] !== 1) wrong(Buffer.from(data.addresses[i]).toString('hex') + ' gave ' + answer);
     }`,
      (round) => {
        const i = round % unique.length;
        const { length, stays } = unique[i]!;
        const turn = Math.floor(round / unique.length);
        if (stays || turn % 3 !== 0) fib.set(prefixes[i]!, length, adjacency(i, turn));
        else fib.delete(prefixes[i]!, length);
        grace.poll();
      },
    );
    expect(wrong).toEqual([]);
  },
);

race('a group is not used for another /24 while a reader may hold it', async () => {
  const { epochs, fib4, grace, fib } = tables();
  fib.set(0x0a000000, 24, 2);
  fib.set(0x0a000100, 24, 12);
  const wrong = await raceAgainst(
    { epochs, fib4 },
    `const cell = fib.base[0x0a0000];
     linger();
     const answer = cell < 0x8000 ? cell : fib.groups[((cell & 0x7fff) << 8) | 5];
     if (answer !== 2 && answer !== 3) wrong('10.0.0.5 gave ' + answer);`,
    (round) => {
      // The group that the one gives back is the next that the other takes.
      const [prefix, adjacency] = round % 2 ? [0x0a000100, 13] : [0x0a000000, 3];
      fib.set(prefix, 25, adjacency);
      fib.delete(prefix, 25);
      grace.poll();
    },
  );
  expect(wrong).toEqual([]);
});

race('a row stays as it is while a reader may have come to it', async () => {
  const { epochs, fib4, grace, fib } = tables();
  const adjacencies = createAdjacencies();
  const writer = new AdjacencyWriter(adjacencies, grace);
  const row = (n: number) =>
    writer.acquire({ kind: IPIP, port: 1, nextHop: n, mtu: n, source: 1, dmac: null, smac: null, vni: n });
  let current = row(1);
  fib.set(0x0a000000, 24, current);
  const wrong = await raceAgainst(
    { epochs, fib4, adjacencies },
    `const at = lookup4(fib, 0x0a000005) * ADJ_ROW;
     const hop = rows[at + ADJ_NEXT_HOP];
     linger();
     if (hop === 0 || rows[at + ADJ_MTU] !== hop || rows[at + ADJ_VNI] !== hop)
       wrong(at + ': ' + [hop, rows[at + ADJ_MTU], rows[at + ADJ_VNI]]);`,
    (round) => {
      const old = current;
      current = row(round + 2);
      fib.set(0x0a000000, 24, current);
      writer.release(old);
      grace.poll();
    },
  );
  expect(wrong).toEqual([]);
});

race('a group leads to members that stay, or to one that was there, while others come and go', async () => {
  const { epochs, fib4, grace, fib } = tables();
  const [adjacencies, groups] = [createAdjacencies(), createGroups()];
  const rows = new AdjacencyWriter(adjacencies, grace);
  const writer = new GroupWriter(groups, rows, grace);
  const acquire = (n: number) =>
    rows.acquire({ kind: IPIP, port: 1, nextHop: n, mtu: n, source: 1, dmac: null, smac: null, vni: n });
  const stays = [acquire(1), acquire(2)];
  let layout = deal(stays, null);
  let other = 0;
  let group = writer.acquire(layout);
  fib.set(0x0a000000, 24, group);
  const wrong = await raceAgainst(
    { epochs, fib4, adjacencies, groups },
    `const at = lookup4(fib, 0x0a000005) * ADJ_ROW;
     linger();
     for (let hash = 0; hash < 128; hash += 9) {
       const row = groups[bucketOf(rows, at, hash)] * ADJ_ROW;
       const hop = rows[row + ADJ_NEXT_HOP];
       linger();
       if (hop === 0 || rows[row + ADJ_MTU] !== hop || rows[row + ADJ_VNI] !== hop)
         wrong(hash + ': ' + [hop, rows[row + ADJ_MTU], rows[row + ADJ_VNI]]);
     }`,
    (round) => {
      const before = other;
      other = round % 3 === 0 ? 0 : acquire(round + 3);
      layout = deal(other > 0 ? [...stays, other] : stays, layout);
      if (round % 5 > 0) writer.update(group, layout);
      else {
        const old = group;
        group = writer.acquire(layout);
        fib.set(0x0a000000, 24, group);
        writer.release(old);
      }
      if (before > 0) rows.release(before);
      grace.poll();
    },
  );
  expect(wrong).toEqual([]);
});

race('a peer that stays is always found, and a stranger never, while others come and go', async () => {
  const epochs = createEpochs();
  const peers = createPeers();
  const writer = new PeerWriter(peers);
  // Multiples of 2^26 all have the same home: one run of slots holds everybody.
  const address = (i: number) => Math.imul(i + 1, 1 << 26);
  const members = Int32Array.from({ length: 12 }, (_, i) => address(i * 3));
  const strangers = Int32Array.from({ length: 12 }, (_, i) => address(i * 3 + 1));
  const others = Array.from({ length: 12 }, (_, i) => address(i * 3 + 2));
  // Members stand behind others in a run, so that every deletion leaves something to step over.
  for (let i = 0; i < 12; i++) {
    writer.add(others[i]!);
    writer.add(members[i]!);
  }
  const wrong = await raceAgainst(
    { epochs, peers, members, strangers },
    `for (const peer of data.members) if (!hasPeer(peers, peer)) wrong('lost ' + peer);
     for (const peer of data.strangers) if (hasPeer(peers, peer)) wrong('invented ' + peer);`,
    (round) => {
      const other = others[(round * 5) % others.length]!;
      if (writer.has(other)) writer.delete(other);
      else writer.add(other);
    },
  );
  expect(wrong).toEqual([]);
});

race(
  'a peer over IPv6 keeps its number, and what has been given a number is that peer until it is let go',
  async () => {
    const epochs = createEpochs();
    const grace = new GracePeriods(epochs);
    const peers6 = createPeers6();
    const writer = new Peer6Writer(peers6, grace);
    // These all have the same home: one run of slots holds everybody, and slots change hands.
    const address = (i: number) => [0x20010db8, 0, i, Math.imul(i, 0xc2b2ae35)];
    const all = Array.from({ length: 60 }, (_, i) => address(i + 1));
    const members = all.filter((_, i) => i % 2 === 0);
    const others = all.filter((_, i) => i % 2 === 1);
    const numbers = members.map((words) => writer.add(words));
    const wrong = await raceAgainst(
      { epochs, peers6, members, numbers, others },
      `const table = new Int32Array(data.peers6);
     const view = new DataView(new ArrayBuffer(16));
     const numberOf = (words) => {
       words.forEach((word, i) => view.setInt32(4 * i, word));
       return peer6(table, view, 0);
     };
     data.members.forEach((words, i) => {
       const number = numberOf(words);
       if (number !== data.numbers[i]) wrong('member ' + i + ' is ' + number);
     });
     for (const words of data.others) {
       const number = numberOf(words);
       if (number === 0) continue;
       linger();
       const at = peer6Cell(number);
       if (words.some((word, i) => table[at + i] !== word)) wrong('number ' + number + ' is another');
     }`,
      (round) => {
        const other = others[(Math.imul(round, 0x9e3779b1) >>> 13) % others.length]!;
        if (writer.has(other)) writer.delete(other);
        else writer.add(other);
        grace.poll();
      },
    );
    expect(wrong).toEqual([]);
  },
);
