/**
 * The production pipeline over capture files: no devices, no clock but the captures', the same bytes out
 * every time.
 */

import type { PortCounters } from './counters.ts';
import { readPortCounters } from './counters.ts';
import { LENGTH, OFFSET, ROW } from './memory/burst.ts';
import { HEADROOM, MAX_FRAME, type SharedTables } from './memory/layout.ts';
import type { NodeSpec, PortSpec, TraceFilter } from './messages.ts';
import { Pipeline } from './pipeline.ts';
import { LINK_ETHERNET, LINK_RAW, PcapError, type PcapRecord, PcapWriter } from './port/pcap.ts';
import type { TracedPacket } from './trace.ts';
import { viewOf } from './wire/bytes.ts';
import { ETHERNET_LENGTH, etherType, TYPE_IPV4, TYPE_IPV6 } from './wire/ethernet.ts';

export interface ReplayOptions {
  /** Filled tables: routes, adjacencies, peers. Counters should be fresh. */
  readonly tables: SharedTables;
  readonly node: NodeSpec;
  readonly ports: readonly PortSpec[];
  /** What each port receives; ports are named by id. Merged by time, ties in this order. */
  readonly inputs: readonly { readonly port: number; readonly records: Iterable<PcapRecord> }[];
  readonly trace?: TraceFilter;
}

export interface ReplayResult {
  /** One capture a port, empty ones too, by port id. */
  readonly captures: Map<number, Buffer>;
  readonly accounts: Map<number, PortCounters>;
  readonly traces: TracedPacket[];
  /** Frames that were captured shorter than they were on the wire, by port id. */
  readonly cut: Map<number, number>;
}

/** Bytes for the pieces of a frame. */
const SPARE = 4 * MAX_FRAME;

/** Run captures through a pipeline of one worker. */
export function replay(options: ReplayOptions): ReplayResult {
  const spare = HEADROOM + MAX_FRAME;
  const arena = new Uint8Array(spare + SPARE);
  let now = 0n;
  const clock = () => Number(now / 1000n) / 1000;
  const pipeline = new Pipeline({
    tables: options.tables,
    worker: 0,
    arena,
    spare: [spare, arena.length],
    clock,
  });
  pipeline.setNode(options.node);
  pipeline.setTrace(options.trace ?? null);
  const writers = new Map<number, PcapWriter>();
  const links = new Map<number, number>();
  for (const port of options.ports) {
    pipeline.attach(port);
    const link = port.kind === 'underlay' ? LINK_RAW : LINK_ETHERNET;
    links.set(port.id, link);
    writers.set(port.id, new PcapWriter(link));
  }

  const rows = new Int32Array(ROW);
  const cut = new Map<number, number>();
  const traces: TracedPacket[] = [];
  for (const { port, record } of inOrder(options.inputs)) {
    now = record.time;
    const frame = adapt(record, links.get(port)!);
    if (record.data.length < record.wireLength) cut.set(port, (cut.get(port) ?? 0) + 1);
    arena.set(frame, HEADROOM);
    rows[OFFSET] = HEADROOM;
    rows[LENGTH] = frame.length;
    pipeline.receiveBurst(port, rows, 1);
    const { egress } = pipeline;
    for (let i = 0; i < egress.dirtyCount; i++) {
      const to = egress.dirty[i];
      const out = egress.rows(to);
      const count = egress.count(to);
      for (let row = 0; row < count * ROW; row += ROW) {
        writers
          .get(to)!
          .write(record.time, arena.subarray(out[row + OFFSET], out[row + OFFSET] + out[row + LENGTH]));
      }
      pipeline.transmitted(to, out, count);
    }
    egress.clear();
    traces.push(...pipeline.takeTraces());
  }

  const counters = new Float64Array(options.tables.counters);
  return {
    captures: new Map([...writers].map(([port, writer]) => [port, writer.bytes()])),
    accounts: new Map(options.ports.map((port) => [port.id, readPortCounters(counters, port.id)])),
    traces,
    cut,
  };
}

/** The frame as the port wants it: an underlay port takes packets, and strips Ethernet where a capture has it. */
function adapt(record: PcapRecord, wanted: number): Uint8Array {
  if (record.link === wanted) {
    if (record.data.length > MAX_FRAME) {
      throw new PcapError(
        'PCAP_FORMAT',
        `a frame of ${record.data.length} bytes; at most ${MAX_FRAME} are taken`,
      );
    }
    return record.data;
  }
  if (record.link === LINK_ETHERNET && wanted === LINK_RAW) {
    // What is not IP on the underlay is the kernel's business: hand on nothing, to be counted as no packet.
    const type = record.data.length >= ETHERNET_LENGTH ? etherType(viewOf(record.data), 0) : 0;
    const isIp = type === TYPE_IPV4 || type === TYPE_IPV6;
    return isIp ? record.data.subarray(ETHERNET_LENGTH) : record.data.subarray(record.data.length);
  }
  throw new PcapError(
    'PCAP_FORMAT',
    `link type ${record.link} where ${wanted === LINK_RAW ? 'RAW or ' : ''}ETHERNET is needed`,
  );
}

/** Merge inputs by time; on a tie the earlier input goes first. Records within an input keep their order. */
function* inOrder(inputs: ReplayOptions['inputs']): Generator<{ port: number; record: PcapRecord }> {
  const heads = inputs.map(({ port, records }) => {
    const iterator = records[Symbol.iterator]();
    return { port, iterator, next: iterator.next() };
  });
  for (;;) {
    let first: (typeof heads)[number] | undefined;
    for (const head of heads) {
      if (!head.next.done && (!first || head.next.value.time < (first.next.value as PcapRecord).time))
        first = head;
    }
    if (!first) return;
    yield { port: first.port, record: first.next.value as PcapRecord };
    first.next = first.iterator.next();
  }
}
