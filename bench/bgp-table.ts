/**
 * What the decoder and the RIB cost without a network: `node --expose-gc dist/bench/bgp-table.js replay FILE | decode | memory
 * PEERS ROUTES`. A process of its own, so that nobody else's memory counts. Prints the figures of one run as an object.
 */
import { readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { AttributeTable } from '../control/bgp/attribute-table.ts';
import { type Attributes, encodeAttributes, NO_ATTRIBUTES } from '../control/bgp/attributes.ts';
import { get16, get32 } from '../control/bgp/bytes.ts';
import { IPV4, IPV6, parseWords } from '../control/bgp/family.ts';
import { Importer } from '../control/bgp/importer.ts';
import { HEADER, MAX_MESSAGE, UPDATE } from '../control/bgp/message.ts';
import { RECORD_HEADER } from '../control/bgp/mrt.ts';
import { decodeBgp4mp } from '../control/bgp/mrt-message.ts';
import { PrefixList } from '../control/bgp/nlri.ts';
import { ACCEPT_ALL } from '../control/bgp/policy.ts';
import { encodeAnnouncements, UpdateDecoder } from '../control/bgp/update.ts';
import type { PathSource } from '../control/rib/decision.ts';
import { Rib } from '../control/rib/rib.ts';
import { loadRoutes } from './fib-shapes/routes.ts';

/** Prefixes in one turn of the event loop, as sessions take them. */
const SLICE = 1024;
const PREFIXES_A_SET = 6;
const PASSES = 7;

/** Heap and buffers, and what the process holds of memory, bytes. */
function memory(): { used: number; resident: number } {
  globalThis.gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { used: heapUsed + external, resident: rss };
}

/** RIBs as a speaker has them, and for each peer what takes its UPDATEs. */
class Tables {
  readonly table = new AttributeTable();
  readonly ribs: readonly [Rib, Rib] = [new Rib(IPV4, this.table), new Rib(IPV6, this.table)];
  readonly decoder = new UpdateDecoder(
    {
      as4: true,
      ibgp: true,
      firstAs: null,
      families: [true, true],
      addPath: [false, false],
      nextHop6: true,
      nextHops: this.table.nextHops,
    },
    this.table,
  );

  peer(index: number): Importer {
    const name = `10.0.0.${index}`;
    const source: PathSource = {
      index,
      name,
      address: parseWords(name),
      id: index,
      asn: 64512,
      internal: true,
      client: false,
      local: false,
    };
    for (const rib of this.ribs) rib.addSource(source);
    const rules = {
      internal: true,
      asns: [64512],
      allowOwnAs: 0,
      routerId: 1 << 24,
      clusterId: 1 << 24,
      ownAddresses: new Set<string>(),
      role: null,
      peerAsn: 64512,
    };
    const counters = { routesRefused: 0, routesFiltered: 0 } as never;
    const config = { rules, policy: ACCEPT_ALL, keepFiltered: false };
    return new Importer(this.ribs, this.table, source, config, counters, () => {});
  }

  /** Take UPDATEs a slice in a turn, until all best paths are chosen. */
  async take(importer: Importer, updates: readonly Uint8Array[]): Promise<number> {
    let prefixes = 0;
    let slice = 0;
    for (const bytes of updates) {
      const taken = importer.take(this.decoder.decode(bytes, HEADER, bytes.length));
      for (const count of typeof taken === 'number' ? [taken] : taken) {
        prefixes += count;
        slice += count;
        if (slice < SLICE) continue;
        slice = 0;
        await turn();
      }
    }
    while (this.ribs.some((rib) => !rib.isSettled)) await turn();
    return prefixes;
  }
}

/** The UPDATEs of a recorded session. */
function recorded(file: string): Uint8Array[] {
  const raw = readFileSync(file);
  const bytes = new Uint8Array(file.endsWith('.gz') ? gunzipSync(raw) : raw);
  const updates: Uint8Array[] = [];
  for (let at = 0; at + RECORD_HEADER <= bytes.length; ) {
    const end = at + RECORD_HEADER + get32(bytes, at + 8);
    const [type, subtype] = [get16(bytes, at + 4), get16(bytes, at + 6)];
    const record = { time: 0, offset: at, type, subtype, bytes, at: at + RECORD_HEADER, end };
    const found = decodeBgp4mp(record);
    if (found && !found.states && bytes[found.at + 18] === UPDATE)
      updates.push(bytes.subarray(found.at, found.end));
    at = end;
  }
  return updates;
}

/** UPDATEs of a full table, a set of attributes for every few prefixes; every peer has its own next hop and paths. */
function generated(tables: Tables, count: number, peer: number): Uint8Array[] {
  const { prefixes, lengths } = loadRoutes(count);
  const updates: Uint8Array[] = [];
  const nextHop = tables.table.nextHops.at(IPV4, [(10 << 24) | peer]);
  for (let i = 0; i < prefixes.length; i += PREFIXES_A_SET) {
    const list = new PrefixList(IPV4);
    const end = Math.min(prefixes.length, i + PREFIXES_A_SET);
    for (let j = i; j < end; j++) list.add([prefixes[j]!], lengths[j]!);
    const asns = [64000 + peer, 1 + ((i / PREFIXES_A_SET) % 70_000), 65_000 + (i % 8)];
    const attributes: Attributes = {
      ...NO_ATTRIBUTES,
      asPath: [{ set: false, asns }],
      localPref: 100,
      nextHop,
    };
    const encoded = { bytes: encodeAttributes(attributes, { as4: true, nextHop: true }), nextHop: null };
    const form = { family: IPV4, addPath: false, maxMessage: MAX_MESSAGE };
    for (const message of encodeAnnouncements(encoded, list, form)) updates.push(message);
  }
  return updates;
}

async function replay(file: string) {
  const updates = recorded(file);
  const tables = new Tables();
  const importer = tables.peer(1);
  const before = memory();
  const begun = performance.now();
  const prefixes = await tables.take(importer, updates);
  const seconds = (performance.now() - begun) / 1000;
  const after = memory();
  const paths = tables.ribs[0].pathCount + tables.ribs[1].pathCount;
  return {
    seconds,
    prefixes,
    paths,
    sets: tables.table.size,
    bytesAPath: (after.used - before.used) / paths,
  };
}

/** Millions of prefixes a second through the decoder alone, in messages as full as they come. */
function decode() {
  const tables = new Tables();
  const { prefixes, lengths } = loadRoutes();
  const nextHop = tables.table.nextHops.at(IPV4, [10 << 24]);
  const attributes: Attributes = { ...NO_ATTRIBUTES, localPref: 100, nextHop };
  const encoded = { bytes: encodeAttributes(attributes, { as4: true, nextHop: true }), nextHop: null };
  const list = new PrefixList(IPV4);
  for (const [i, prefix] of prefixes.entries()) list.add([prefix], lengths[i]!);
  const form = { family: IPV4, addPath: false, maxMessage: MAX_MESSAGE };
  const updates = [...encodeAnnouncements(encoded, list, form)];
  const speeds = Array.from({ length: PASSES }, () => {
    const begun = performance.now();
    let count = 0;
    for (const bytes of updates) {
      for (const { prefixes: found } of tables.decoder.decode(bytes, HEADER, bytes.length).announced)
        count += found.count;
    }
    return count / 1000 / (performance.now() - begun);
  });
  speeds.sort((a, b) => a - b);
  return { millions: speeds[PASSES >> 1]! };
}

async function fullTables(peers: number, routes: number) {
  const tables = new Tables();
  const before = memory();
  const begun = performance.now();
  for (let peer = 1; peer <= peers; peer++)
    await tables.take(tables.peer(peer), generated(tables, routes, peer));
  const seconds = (performance.now() - begun) / 1000;
  const after = memory();
  const paths = tables.ribs[0].pathCount;
  return {
    seconds,
    paths,
    sets: tables.table.size,
    bytesAPath: (after.used - before.used) / paths,
    residentAPath: (after.resident - before.resident) / paths,
  };
}

const [what, ...args] = process.argv.slice(2);
const run = {
  replay: () => replay(args[0]!),
  decode,
  memory: () => fullTables(Number(args[0]), Number(args[1])),
}[what!];
if (!run) throw new Error(`"${what}" is none of replay, decode, memory`);
console.log(JSON.stringify(await run()));
