/**
 * Which shape should the FIB have? Measures 16-8-8 multibit, DIR-24-8 and Poptrie at three sizes, and prints
 * a Markdown table. Run: node dist/bench/fib-shapes/run.js
 */
import { performance } from 'node:perf_hooks';
import { createFib4, lookup4, openFib4 } from '../../dataplane/fib/fib4.ts';
import { Fib4Writer } from '../../dataplane/fib/fib4-writer.ts';
import { createEpochs, GracePeriods } from '../../dataplane/memory/grace.ts';
import { lookupMultibit, Multibit } from './multibit.ts';
import { lookupPoptrie, Poptrie } from './poptrie.ts';
import { loadRoutes, type Routes, random, randomKeys, tableKeys } from './routes.ts';

interface Shape {
  readonly name: string;
  /** Look up all keys, return a sum so that nothing is optimised away. */
  run(keys: Int32Array): number;
  set(prefix: number, length: number, adjacency: number): void;
  delete(prefix: number, length: number): void;
  readonly bytes: number;
}

const ROUNDS = 9;
const PAGE_CELLS = 2048;
const each = (routes: Routes, visit: (prefix: number, length: number, adjacency: number) => void) => {
  for (let i = 0; i < routes.prefixes.length; i++)
    visit(routes.prefixes[i]!, routes.lengths[i]!, routes.adjacencies[i]!);
};

function dir24(routes: Routes): Shape {
  const shared = createFib4();
  const writer = new Fib4Writer(shared, new GracePeriods(createEpochs()));
  each(routes, (prefix, length, adjacency) => writer.set(prefix, length, adjacency));
  const fib = openFib4(shared);
  return {
    name: 'DIR-24-8, 16-bit cells',
    run(keys) {
      let sum = 0;
      for (let i = 0; i < keys.length; i++) sum += lookup4(fib, keys[i]!);
      return sum;
    },
    set: (prefix, length, adjacency) => writer.set(prefix, length, adjacency),
    delete: (prefix, length) => writer.delete(prefix, length),
    get bytes() {
      // What is resident: pages of the base that hold a route, and the groups.
      let pages = 0;
      for (let page = 0; page < fib.base.length; page += PAGE_CELLS) {
        if (fib.base.subarray(page, page + PAGE_CELLS).some((cell) => cell !== 0)) pages++;
      }
      return pages * PAGE_CELLS * 2 + writer.stats().groups * 512;
    },
  };
}

function multibit(routes: Routes): Shape {
  const trie = new Multibit();
  each(routes, (prefix, length, adjacency) => trie.set(prefix, length, adjacency));
  return {
    name: '16-8-8 multibit, 32-bit cells',
    run(keys) {
      const { root, nodes } = trie;
      let sum = 0;
      for (let i = 0; i < keys.length; i++) sum += lookupMultibit(root, nodes, keys[i]!);
      return sum;
    },
    set: (prefix, length, adjacency) => trie.set(prefix, length, adjacency),
    delete: (prefix, length) => trie.delete(prefix, length),
    get bytes() {
      return trie.bytes;
    },
  };
}

function poptrie(routes: Routes): Shape {
  const trie = new Poptrie();
  trie.build(
    Array.from(routes.prefixes, (prefix, i) => ({
      prefix,
      length: routes.lengths[i]!,
      adjacency: routes.adjacencies[i]!,
    })),
  );
  return {
    name: 'Poptrie, 16 direct + 6-bit nodes',
    run(keys) {
      const { root, nodes, leaves } = trie;
      let sum = 0;
      for (let i = 0; i < keys.length; i++) sum += lookupPoptrie(root, nodes, leaves, keys[i]!);
      return sum;
    },
    set: (prefix, length, adjacency) => trie.set(prefix, length, adjacency),
    delete: (prefix, length) => trie.delete(prefix, length),
    get bytes() {
      return trie.bytes;
    },
  };
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;

function timed(work: () => unknown): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

/** Microseconds for one insert and one delete of a route that is not there: /24 and /28 in turn. */
function updateCost(shape: Shape): number {
  const next = random(99);
  const count = 400;
  const total = timed(() => {
    for (let i = 0; i < count; i++) {
      const length = i % 2 ? 24 : 28;
      // Class E: no route of the table is touched.
      const prefix = (0xf0000000 | (next() & 0x0fffffff)) & (-1 << (32 - length));
      shape.set(prefix, length, 5);
      shape.delete(prefix, length);
    }
  });
  return (total / count / 2) * 1000;
}

console.log(`Node ${process.version}, medians of ${ROUNDS} alternated rounds of 2^20 keys\n`);
console.log(
  '| routes | shape | random keys, M/s | keys from the table, M/s | resident, MiB | build, ms | update, µs |',
);
console.log('|---|---|---|---|---|---|---|');
for (const size of [100, 10_000, Number.POSITIVE_INFINITY]) {
  const routes = loadRoutes(size);
  const keys = { random: randomKeys(), table: tableKeys(routes) };
  const builds = [multibit, dir24, poptrie].map((build) => {
    let shape!: Shape;
    const milliseconds = timed(() => {
      shape = build(routes);
    });
    return { shape, milliseconds, random: [] as number[], table: [] as number[] };
  });
  const sums = new Set(builds.map(({ shape }) => shape.run(keys.table) + shape.run(keys.random)));
  if (sums.size !== 1) throw new Error(`the shapes disagree: ${[...sums].join(', ')}`);
  for (let round = 0; round < ROUNDS; round++) {
    for (const build of builds) {
      for (const kind of ['random', 'table'] as const) {
        build[kind].push(keys[kind].length / timed(() => build.shape.run(keys[kind])) / 1000);
      }
    }
  }
  for (const { shape, milliseconds, random: r, table } of builds) {
    const cells = [
      median(r).toFixed(0),
      median(table).toFixed(0),
      (shape.bytes / 2 ** 20).toFixed(2),
      milliseconds.toFixed(0),
      updateCost(shape).toFixed(1),
    ];
    console.log(`| ${routes.prefixes.length.toLocaleString('en')} | ${shape.name} | ${cells.join(' | ')} |`);
  }
}
