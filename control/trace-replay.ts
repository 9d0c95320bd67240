/** Packets of captures, followed through the pipeline of a node that a lab file describes. */
import { replay } from '../dataplane/replay.ts';
import type { TracedPacket } from '../dataplane/trace.ts';
import { parseAddress4, tryAddress6 } from './address.ts';
import { routeView, routeView6 } from './agent/view.ts';
import type { TraceRequest, TraceView } from './api/types.ts';
import { EX_CONFIG, TortieError } from './error.ts';
import { explain, type Names } from './explain.ts';
import { compileFilter } from './filter.ts';
import { type Lab, loadLab, readCaptures } from './replay.ts';

export interface TraceReplayOptions extends TraceRequest {
  readonly config: string;
  /** Capture file by port name. */
  readonly inputs: ReadonlyMap<string, string>;
}

export async function traceReplay(options: TraceReplayOptions): Promise<TraceView[]> {
  const { config, inputs, port: name, filter = '', sample, snap, count } = options;
  const lab = loadLab(config);
  const port = name === undefined ? undefined : lab.ports.find((known) => known.name === name);
  if (name !== undefined && !port) {
    const names = lab.ports.map((known) => known.name).join(', ');
    throw new TortieError('PORT_UNKNOWN', `no port "${name}" in ${config}; ports: ${names}`, EX_CONFIG);
  }
  const { traces } = readCaptures(lab, config, inputs, (records) =>
    replay({
      tables: lab.tables.shared,
      node: lab.desired.node,
      ports: lab.ports,
      inputs: records,
      trace: {
        count,
        program: compileFilter(filter),
        ...(port && { port: port.id }),
        ...(sample !== undefined && { sample }),
        ...(snap !== undefined && { snap }),
      },
    }),
  );
  const names = namesOf(lab);
  return traces.slice(0, count).map((packet, index) => viewOf(packet, index, lab, names, snap ?? 0));
}

function viewOf(
  { steps, port, time, length, bytes }: TracedPacket,
  index: number,
  lab: Lab,
  names: Names,
  snap: number,
): TraceView {
  const { name, kind } = lab.ports.find(({ id }) => id === port)!;
  return {
    packet: index + 1,
    at: new Date(time).toISOString(),
    port: name,
    kind,
    length,
    ...(snap > 0 && { bytes: Buffer.from(bytes.subarray(0, snap)).toString('hex') }),
    missed: 0,
    ...explain(steps, names),
  };
}

function namesOf({ ports, tables }: Lab): Names {
  return {
    port: (id) => ports.find((port) => port.id === id)?.name ?? `port ${id}`,
    route: (address) => {
      const words = tryAddress6(address);
      if (words) return tables.matches6(words).map(routeView6)[0] ?? null;
      return tables.matches(parseAddress4(address)).map(routeView)[0] ?? null;
    },
  };
}
