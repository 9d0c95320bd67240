/**
 * `encap-vxlan`, `encap-ipip`: the pipeline over buffers in memory, from a pod's frame to the tunnel's queue,
 * accounts settled. No I/O, so this is what our own code costs. The twin is the same work in C, and must
 * produce the same bytes.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as adj from '../dataplane/fib/adjacency.ts';
import { LENGTH, OFFSET, ROW } from '../dataplane/memory/burst.ts';
import { BURST, HEADROOM } from '../dataplane/memory/layout.ts';
import {
  frame,
  IPIP_PORT_ID,
  NODE,
  POD_A,
  packet,
  Scenario,
  VNI,
  VTEP_OWN,
  VTEP_PEER,
  VXLAN_PORT_ID,
} from '../dataplane/scenario.ts';
import { get32, viewOf } from '../dataplane/wire/bytes.ts';
import { isLinkLocal, isMartianDestination, isMulticast, pseudoSum } from '../dataplane/wire/ipv4.ts';
import { putUdp, putUdpChecksum } from '../dataplane/wire/udp.ts';
import { loadRoutes, type Routes, tableKeys } from './fib-shapes/routes.ts';
import { type BenchContext, type BenchEntry, compilerVersion, type Prepared } from './harness.ts';

const run = promisify(execFile);

/** Nodes, each behind a tunnel of its own, to which the routes of the table are dealt. */
const PEERS = 256;
/** Rows of the adjacency table that the twin is given: those of the peers and of the scenario. */
const TWIN_ADJACENCIES = 512;
/** Enough different packets that neither tables nor branches are known by heart. */
const BURSTS = 256;
/** Headroom and a 64-byte frame. */
const SLOT = HEADROOM + 64;
const PAYLOAD = 22;

type Mode = 'vxlan' | 'ipip';

/** All bursts, each 64 slots of headroom and frame: UDP from pod a to addresses inside the routes. */
function makeImage(destinations: Int32Array): Uint8Array {
  const image = new Uint8Array(BURSTS * BURST * SLOT);
  for (let slot = 0; slot < BURSTS * BURST; slot++) {
    const destination = formatIp4(destinations[slot]!);
    const inner = packet({ destination, payload: new Uint8Array(8 + PAYLOAD) });
    const bytes = viewOf(inner);
    putUdp(bytes, 20, 1024 + (Math.imul(slot, 7919) & 0x7fff), 53, 8 + PAYLOAD);
    const pseudo = pseudoSum(get32(bytes, 12), get32(bytes, 16), 17, 8 + PAYLOAD);
    putUdpChecksum(bytes, 20, 8 + PAYLOAD, pseudo);
    image.set(frame(inner), slot * SLOT + HEADROOM);
  }
  return image;
}

const formatIp4 = (address: number): string =>
  [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');

/** Addresses inside the routes that may be forwarded, as many as there are frames. */
function destinationsIn(routes: Routes): Int32Array {
  const legal = (address: number) =>
    !isMartianDestination(address) && !isMulticast(address) && !isLinkLocal(address);
  return tableKeys(routes)
    .filter(legal)
    .subarray(0, BURSTS * BURST);
}

function adjacencyOf(mode: Mode, peer: number): adj.Adjacency {
  const nextHop = NODE + 256 + peer;
  if (mode === 'ipip') {
    const none = { dmac: null, smac: null, vni: 0 };
    return { kind: adj.IPIP, port: IPIP_PORT_ID, nextHop, mtu: 1480, source: NODE, ...none };
  }
  const ends = { dmac: VTEP_PEER, smac: VTEP_OWN, vni: VNI };
  return { kind: adj.VXLAN, port: VXLAN_PORT_ID, nextHop, mtu: 1450, source: NODE, ...ends };
}

class Bench {
  readonly #scenario = new Scenario();
  readonly #arena = this.#scenario.arena;
  readonly #image: Uint8Array;
  readonly #bursts: Uint8Array[] = [];
  readonly #rows = new Int32Array(BURST * ROW);

  constructor(mode: Mode, routes: Routes, image: Uint8Array) {
    const { adjacencies, fib } = this.#scenario;
    const peers = Array.from({ length: PEERS }, (_, peer) => adjacencies.acquire(adjacencyOf(mode, peer)));
    for (let i = 0; i < routes.prefixes.length; i++) {
      fib.set(routes.prefixes[i]!, routes.lengths[i]!, peers[i % PEERS]!);
    }
    this.#image = image;
    for (let burst = 0; burst < BURSTS; burst++) {
      this.#bursts.push(image.subarray(burst * BURST * SLOT, (burst + 1) * BURST * SLOT));
    }
    for (let i = 0; i < BURST; i++) {
      this.#rows[i * ROW + OFFSET] = i * SLOT + HEADROOM;
      this.#rows[i * ROW + LENGTH] = 14 + 20 + 8 + PAYLOAD;
    }
  }

  /** What the twin reads: the FIB, adjacency rows, and the image. */
  async writeTwinInput(path: string): Promise<void> {
    const { fib4, adjacencies } = this.#scenario.tables;
    const rows = new Uint8Array(adjacencies, 0, TWIN_ADJACENCIES * adj.ADJ_ROW * 4);
    await writeFile(path, [new Uint8Array(fib4), rows, this.#image]);
  }

  /** One burst, fresh frames to settled accounts; `seen` gets each frame that left. */
  burst(number: number, seen?: (frame: Uint8Array) => void): void {
    this.#arena.set(this.#bursts[number]!);
    const { pipeline } = this.#scenario;
    pipeline.receiveBurst(POD_A, this.#rows, BURST);
    const { egress } = pipeline;
    for (let i = 0; i < egress.dirtyCount; i++) {
      const port = egress.dirty[i]!;
      const rows = egress.rows(port);
      const count = egress.count(port);
      for (let row = 0; seen && row < count * ROW; row += ROW) {
        seen(this.#arena.subarray(rows[row + OFFSET]!, rows[row + OFFSET]! + rows[row + LENGTH]!));
      }
      pipeline.transmitted(port, rows, count);
    }
    egress.clear();
  }

  /** FNV-1a over every frame of one pass. The first pass only: identifications count on. */
  digest(): string {
    let hash = 0x811c9dc5;
    for (let burst = 0; burst < BURSTS; burst++) {
      this.burst(burst, (bytes) => {
        for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
      });
    }
    return (hash >>> 0).toString(16).padStart(8, '0');
  }

  /** Millions of packets a second of CPU time: others on the machine are not to count. */
  measure(seconds: number): number {
    const start = cpuMs();
    const end = start + seconds * 1000;
    let bursts = 0;
    let now = start;
    while (now < end) {
      for (let burst = 0; burst < BURSTS; burst++) this.burst(burst);
      bursts += BURSTS;
      now = cpuMs();
    }
    return (bursts * BURST) / ((now - start) * 1000);
  }
}

/** CPU time of this process, the engine's compiler and collector included. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

async function prepare(mode: Mode, context: BenchContext): Promise<Prepared> {
  const seconds = context.quick ? 0.3 : 1;
  const routes = loadRoutes();
  const bench = new Bench(mode, routes, makeImage(destinationsIn(routes)));
  const digest = bench.digest();
  bench.measure(seconds);

  const twin = await context.compile('encap-twin');
  const folder = await mkdtemp(join(tmpdir(), 'tortie-bench-encap-'));
  const input = join(folder, 'input');
  await bench.writeTwinInput(input);
  const runTwin = async () => {
    const { stdout } = await run(twin, [mode, input, String(seconds)], { timeout: 60_000 });
    const [figure, theirs] = stdout.trim().split(' ');
    if (theirs !== digest) throw new Error(`the twin sent other bytes: digest ${theirs}, ours ${digest}`);
    return Number(figure);
  };
  return {
    setting: routes.description,
    ours: async () => bench.measure(seconds),
    peers: { 'c-twin': { version: await compilerVersion(), run: runTwin } },
    close: () => rm(folder, { recursive: true }),
  };
}

export const entries: BenchEntry[] = (['vxlan', 'ipip'] as const).map((mode) => ({
  name: `encap-${mode}`,
  unit: 'M packets/s',
  better: 'higher',
  peers: ['c-twin'],
  prepare: (context) => prepare(mode, context),
}));
