/** Packets followed through the pipeline of a live node: those that come by, and one that is made up. */
import type { TraceFilter } from '../../dataplane/messages.ts';
import type { TracedPacket } from '../../dataplane/trace.ts';
import { tryAddress4, tryAddress6 } from '../address.ts';
import type { ExplainRequest, ExplainView, LookupView, TraceRequest, TraceView } from '../api/types.ts';
import { TortieError } from '../error.ts';
import { explain, type Names } from '../explain.ts';
import { compileFilter } from '../filter.ts';
import type { NodeAgent } from './node.ts';
import type { OpenPort } from './ports.ts';
import { tryOut } from './what-if.ts';

export class Tracing {
  readonly #agent: NodeAgent;
  readonly #lookup: (address: string) => LookupView;
  #running = false;

  constructor(agent: NodeAgent, lookup: (address: string) => LookupView) {
    this.#agent = agent;
    this.#lookup = lookup;
  }

  /** Trace until the count is reached or `signal` aborts. Throws PORT_UNKNOWN, FILTER and TRACE_BUSY. */
  async trace(request: TraceRequest, emit: (packet: TraceView) => void, signal: AbortSignal): Promise<void> {
    const { workers } = this.#agent;
    const filter = this.#filterOf(request);
    if (this.#running) {
      throw new TortieError('TRACE_BUSY', 'another trace is running; wait for it to end, or end it');
    }
    this.#running = true;
    let left = request.count;
    try {
      await new Promise<void>((resolve, reject) => {
        signal.addEventListener('abort', () => resolve());
        if (signal.aborted) resolve();
        this.#agent.onTrace = (packets, missed) => {
          for (const packet of packets) {
            if (left === 0) return;
            emit({ packet: request.count - left + 1, ...this.#view(packet, request.snap ?? 0), missed });
            left--;
            if (left === 0) resolve();
          }
        };
        workers.trace(filter).catch(reject);
      });
    } finally {
      this.#agent.onTrace = null;
      this.#running = false;
      // A worker that has just ended needs no filter taken away.
      await workers.trace(null).catch(() => undefined);
    }
  }

  /** What would become of a packet. Throws PORT_UNKNOWN, FAMILY, SIZE and NOT_READY. */
  explain(request: ExplainRequest): ExplainView {
    const { node, ports, tables } = this.#agent;
    if (!node) throw new TortieError('NOT_READY', 'the agent has no picture of its node yet; ask again');
    const from = this.#find(request.from);
    const { frame, packet, text } = tryOut(request, from, {
      node,
      ports: ports.list(),
      tables: tables.shared,
    });
    return {
      from: from.desired.name,
      packet: text,
      length: frame.length,
      ...explain(packet.steps, this.#names()),
    };
  }

  /** A port by its name, its pod's name, network namespace, or address. */
  #find(wanted: string): OpenPort {
    const words = tryAddress6(wanted)?.join();
    const address = tryAddress4(wanted);
    const list = this.#agent.ports.list();
    const found = list.filter(({ desired }) => {
      const { name, kind, netns, addresses, addresses6 } = desired;
      if (kind === 'host') return wanted === 'host' || wanted === name;
      if (kind !== 'pod') return false;
      const isAddress =
        (address !== null && addresses.includes(address)) || addresses6.some((own) => own.join() === words);
      const isCalled = this.#agent.podNames.get(name)?.includes(wanted) ?? false;
      return wanted === name || wanted === netns || isAddress || isCalled;
    });
    const [port] = found;
    if (port && found.length === 1) return port;
    const names = list.filter(({ desired: { kind } }) => kind === 'pod').map(({ desired: { name } }) => name);
    const what = port ? `"${wanted}" is more than one port` : `no pod "${wanted}"`;
    throw new TortieError(
      'PORT_UNKNOWN',
      `${what}; give a pod's name, a port's, a network namespace or an address: host, ${names.join(', ')}`,
    );
  }

  #filterOf({ port: name, filter = '', sample, snap, count }: TraceRequest): TraceFilter {
    const port = name === undefined ? null : this.#agent.ports.get(name);
    if (port === undefined) {
      const names = this.#agent.ports.list().map((known) => known.desired.name);
      throw new TortieError('PORT_UNKNOWN', `no port "${name}"; ports: ${names.join(', ')}`);
    }
    return {
      count,
      program: compileFilter(filter),
      ...(port && { port: port.id }),
      ...(sample !== undefined && { sample }),
      ...(snap !== undefined && { snap }),
    };
  }

  #view(
    { steps, port, time, length, bytes }: TracedPacket,
    snap: number,
  ): Omit<TraceView, 'packet' | 'missed'> {
    const from = this.#agent.ports.list().find(({ id }) => id === port)?.desired;
    return {
      at: new Date(time).toISOString(),
      port: from?.name ?? `port ${port}`,
      kind: from?.kind ?? 'pod',
      length,
      ...(snap > 0 && { bytes: Buffer.from(bytes.subarray(0, snap)).toString('hex') }),
      ...explain(steps, this.#names()),
    };
  }

  #names(): Names {
    const { ports, routing } = this.#agent;
    return {
      port: (id) => ports.list().find((port) => port.id === id)?.desired.name ?? `port ${id}`,
      route: (address) => {
        const { route } = this.#lookup(address);
        if (route.via === 'no-route') return null;
        const isLearned = route.origin.startsWith('bgp ') && routing.view.isRunning;
        return { ...route, decided: isLearned ? routing.view.why(route.prefix).decidedBy : null };
      },
    };
  }
}
