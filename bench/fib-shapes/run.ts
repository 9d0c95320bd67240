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

/** Microseconds to withdraw a route of the table or to announce it again, of 400 routes: median, most. */
function updateCost(shape: Shape, routes: Routes): { median: number; most: number } {
  const next = random(99);
  const costs = Array.from({ length: 400 }, () => {
    const i = (next() >>> 0) % routes.prefixes.length;
    const [prefix, length] = [routes.prefixes[i]!, routes.lengths[i]!];
    const both = timed(() => {
      shape.delete(prefix, length);
      shape.set(prefix, length, routes.adjacencies[i]!);
    });
    return (both / 2) * 1000;
  });
  return { most: Math.max(...costs), median: median(costs) };
}

/** Throws unless all shapes give the same answers to all keys. */
function compare(shapes: readonly Shape[], keys: readonly Int32Array[]): void {
  const sums = new Set(shapes.map((shape) => keys.map((some) => shape.run(some)).join()));
  if (sums.size !== 1) throw new Error(`the shapes disagree: ${[...sums].join(' and ')}`);
}

console.log(`Node ${process.version}, medians of ${ROUNDS} alternated rounds of 2^20 keys\n`);
console.log(
  '| routes | shape | random keys, M/s | keys from the table, M/s | resident, MiB | build, ms | update, µs: median, most |',
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
  const shapes = builds.map(({ shape }) => shape);
  compare(shapes, [keys.table, keys.random]);
  for (let round = 0; round < ROUNDS; round++) {
    for (const build of builds) {
      for (const kind of ['random', 'table'] as const) {
        build[kind].push(keys[kind].length / timed(() => build.shape.run(keys[kind])) / 1000);
      }
    }
  }
  for (const { shape, milliseconds, random: r, table } of builds) {
    // Before the updates, which leave garbage in Poptrie.
    const mebibytes = shape.bytes / 2 ** 20;
    const update = updateCost(shape, routes);
    const cells = [
      median(r).toFixed(0),
      median(table).toFixed(0),
      mebibytes.toFixed(2),
      milliseconds.toFixed(0),
      `${update.median.toFixed(1)}, ${update.most.toFixed(0)}`,
    ];
    console.log(`| ${routes.prefixes.length.toLocaleString('en')} | ${shape.name} | ${cells.join(' | ')} |`);
  }
  compare(shapes, [keys.table, keys.random]);
}
