/**
 * Nanosecond operations of the packet path, each by itself, with benchmark.js, which calibrates its loops.
 * For finding out what an edit did to one function; what counts is `encap-*` and the traffic entries.
 * Run: node dist/bench/micro.js
 */
import Benchmark from 'benchmark';
import { lookup4, openFib4 } from '../dataplane/fib/fib4.ts';
import { hasPeer } from '../dataplane/fib/peers.ts';
import { PEER_VXLAN, packet, Scenario } from '../dataplane/scenario.ts';
import { sum16, viewOf } from '../dataplane/wire/bytes.ts';
import { flowHash } from '../dataplane/wire/flow.ts';
import { checkIpv4, DONT_FRAGMENT, decrementTtl, putIpv4 } from '../dataplane/wire/ipv4.ts';

const { tables } = new Scenario();
const fib = openFib4(tables.fib4);
const peers = new Int32Array(tables.peers);
const small = viewOf(packet());
const large = viewOf(packet({ payload: new Uint8Array(1460) }));
const header = viewOf(new Uint8Array(20));
let address = 0;
/** Results end here, so that no engine may leave the work out. */
let sink = 0;

const suite = new Benchmark.Suite();
const operations: Record<string, () => void> = {
  'checkIpv4, 20 bytes': () => {
    sink += checkIpv4(small, 0, small.byteLength);
  },
  decrementTtl: () => decrementTtl(small, 0),
  'putIpv4, checksum included': () => putIpv4(header, 0, 0, 84, 1, DONT_FRAGMENT, 64, 17, address, 1),
  flowHash: () => {
    sink += flowHash(small, 0, small.byteLength);
  },
  'sum16, 1480 bytes': () => {
    sink += sum16(large, 0, large.byteLength, 0);
  },
  'lookup4, a few routes': () => {
    address = (address + 0x9e3779b1) | 0;
    sink += lookup4(fib, address);
  },
  hasPeer: () => {
    if (hasPeer(peers, PEER_VXLAN)) sink++;
  },
};
for (const [name, operation] of Object.entries(operations)) suite.add(name, operation);
suite.run();
// A suite is an array of its benchmarks, though its type does not say so.
for (let i = 0; i < suite.length; i++) {
  const { name, hz, stats } = (suite as unknown as Record<number, Benchmark>)[i]!;
  console.log(`${name?.padEnd(28)} ${(1e9 / hz!).toFixed(1).padStart(7)} ns  ±${stats.rme.toFixed(1)} %`);
}
if (Number.isNaN(sink)) throw new Error('an operation answered nonsense');
