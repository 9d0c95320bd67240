/**
 * What a FIB of some size costs: `node --expose-gc dist/bench/fib-size.js ROUTES KEYS` prints millions of look-ups a
 * second over the keys and the bytes that the process grew by, writer included. ROUTES is as dpdk-fib reads it. A
 * process of its own, so that no other table's pages count.
 */
import { readFileSync } from 'node:fs';
import { ROUTE_BYTES } from './dpdk.ts';
import { buildFib4, millionsPerSecond, PASSES } from './fib4.ts';
import { summarize } from './harness.ts';

const [routesFile, keysFile] = process.argv.slice(2);
const bytes = readFileSync(keysFile!);
const keys = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);

const image = readFileSync(routesFile!);
const count = image.length / ROUTE_BYTES;
const at = (read: (offset: number) => number) => (_: unknown, i: number) => read(i * ROUTE_BYTES);
const routes = {
  description: '',
  prefixes: new Int32Array(count).map(at((offset) => image.readInt32LE(offset))),
  lengths: new Uint8Array(count).map(at((offset) => image[offset + 16]!)),
  adjacencies: new Uint16Array(count).map(at((offset) => image.readUInt16LE(offset + 18))),
};

const resident = (): number => {
  globalThis.gc?.();
  return process.memoryUsage.rss();
};
const before = resident();
const { fib, writer } = buildFib4(routes);
const grown = resident() - before;
millionsPerSecond(fib, keys);
const speeds = Array.from({ length: PASSES }, () => millionsPerSecond(fib, keys));
// The writer is asked last, so that it is alive when memory is measured.
console.log(summarize(speeds).median, grown, writer.constructor.name);
