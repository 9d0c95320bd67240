/** The other end of the control socket. */
import { type IncomingMessage, request } from 'node:http';
import { EX_NOPERM, EX_UNAVAILABLE, TortieError } from '../error.ts';
import type {
  ApiErrorBody,
  BgpDumpQuery,
  BgpEvent,
  BgpPeerView,
  BgpRouteQuery,
  BgpRouteView,
  BgpSummaryView,
  BgpWatchQuery,
  BgpWhyView,
  DropView,
  ExplainRequest,
  ExplainView,
  LookupView,
  NodeStatusView,
  PathMtuView,
  PortView,
  RouteView,
  RuntimeView,
  TraceRequest,
  TraceView,
  WorkerView,
} from './types.ts';

/** Longest silence of an agent that was asked something, ms. What comes in lines may be silent for as long as it likes. */
const ANSWER_TIMEOUT_MS = 10_000;

/**
 * Asks the agent behind a socket. Every method throws a TortieError: AGENT_NOT_RUNNING if nobody answers,
 * AGENT_DENIED if the socket may not be opened, AGENT_SILENT, AGENT_GONE, or the code that the agent answered.
 */
export class ApiClient {
  readonly path: string;
  constructor(path: string) {
    this.path = path;
  }

  nodeStatus = (): Promise<NodeStatusView> => this.#get('/v1/node/status');
  ports = (): Promise<PortView[]> => this.#get('/v1/ports');
  /** As many as there are: for those who know that they are few. */
  routes = async (): Promise<RouteView[]> => {
    const routes: RouteView[] = [];
    for await (const route of this.eachRoute(new AbortController().signal)) routes.push(route);
    return routes;
  };
  eachRoute = (signal: AbortSignal): AsyncGenerator<RouteView> => this.#lines('/v1/routes', signal);
  lookup = (address: string): Promise<LookupView> =>
    this.#get(`/v1/lookup?${new URLSearchParams({ address })}`);
  drops = (): Promise<DropView[]> => this.#get('/v1/drops');
  pathMtus = (): Promise<PathMtuView[]> => this.#get('/v1/path-mtu');
  workers = (): Promise<WorkerView[]> => this.#get('/v1/workers');
  runtime = (): Promise<RuntimeView> => this.#get('/v1/runtime');
  config = (): Promise<unknown> => this.#get('/v1/config');

  readonly bgp = {
    summary: (): Promise<BgpSummaryView> => this.#get('/v1/bgp/summary'),
    peers: (): Promise<BgpPeerView[]> => this.#get('/v1/bgp/peers'),
    /** In no order; as many as there are, so nobody should keep them. */
    routes: (query: BgpRouteQuery, signal: AbortSignal): AsyncGenerator<BgpRouteView> =>
      this.#lines(`/v1/bgp/routes?${queryOf(query)}`, signal),
    /** The bytes of an MRT file. Ends early with the signal: look at it before the file is taken for whole. */
    dump: (query: BgpDumpQuery, signal: AbortSignal): AsyncGenerator<Buffer> =>
      this.#bytes(`/v1/bgp/dump?${queryOf(query)}`, signal),
    why: (prefix: string, to?: string): Promise<BgpWhyView> =>
      this.#get(`/v1/bgp/why?${queryOf({ prefix, to })}`),
    /** What happens from when `onBegun` is called. Ends with the signal. */
    monitor: (query: BgpWatchQuery, signal: AbortSignal, onBegun = () => {}): AsyncGenerator<BgpEvent> =>
      this.#lines(`/v1/bgp/monitor?${queryOf(query)}`, signal, onBegun),
    refresh: async (peer: string): Promise<void> => {
      await this.#get(`/v1/bgp/refresh?${queryOf({ peer })}`, 'POST');
    },
    reset: async (peer: string, message?: string): Promise<void> => {
      await this.#get(`/v1/bgp/reset?${queryOf({ peer, message })}`, 'POST');
    },
  };

  /** Traced packets as they come; `onBegun` is called once the agent is tracing. Ends with the count or the signal. */
  explain = (wanted: ExplainRequest): Promise<ExplainView> => this.#get(`/v1/explain?${queryOf(wanted)}`);
  trace = (wanted: TraceRequest, signal: AbortSignal, onBegun = () => {}): AsyncGenerator<TraceView> =>
    this.#lines(`/v1/trace?${queryOf(wanted)}`, signal, onBegun);

  async *#lines<T extends object>(path: string, signal: AbortSignal, onBegun = () => {}): AsyncGenerator<T> {
    try {
      const response = await this.#open(path, signal);
      onBegun();
      for await (const line of linesOf(response)) {
        const row = JSON.parse(line) as T | ApiErrorBody;
        if ('error' in row) throw new TortieError(row.error.code, row.error.message);
        yield row;
      }
      if (!response.complete) throw this.#gone();
    } catch (error) {
      if (!signal.aborted) throw error instanceof TortieError ? error : this.#gone();
    }
  }

  async *#bytes(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
    try {
      const response = await this.#open(path, signal);
      for await (const part of response) yield part as Buffer;
      if (!response.complete) throw this.#gone();
    } catch (error) {
      if (!signal.aborted) throw error instanceof TortieError ? error : this.#gone();
    }
  }

  async #get<T>(path: string, method?: 'POST'): Promise<T> {
    const silence = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    try {
      return JSON.parse(await textOf(await this.#open(path, silence, method))) as T;
    } catch (error) {
      if (error instanceof TortieError) throw error;
      if (!silence.aborted) throw this.#gone();
      const seconds = ANSWER_TIMEOUT_MS / 1000;
      const message = `the agent on ${this.path} gave no answer within ${seconds} s; look at its log`;
      throw new TortieError('AGENT_SILENT', message, EX_UNAVAILABLE);
    }
  }

  /** A successful response, its body still to be read. */
  async #open(path: string, signal: AbortSignal, method = 'GET'): Promise<IncomingMessage> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request({ socketPath: this.path, path, method, signal, agent: false }, resolve);
      sent.once('error', (error) => reject(this.#connectError(error)));
      sent.end();
    });
    if (response.statusCode === 200) return response;
    const { error } = JSON.parse(await textOf(response)) as ApiErrorBody;
    throw new TortieError(error.code, error.message);
  }

  #connectError(error: NodeJS.ErrnoException): Error {
    switch (error.code) {
      case 'ENOENT':
      case 'ECONNREFUSED':
      case 'ENOTSOCK':
        return new TortieError(
          'AGENT_NOT_RUNNING',
          `no agent answers on ${this.path}; start one with: tortie agent --config FILE`,
          EX_UNAVAILABLE,
        );
      case 'EACCES':
      case 'EPERM':
        return new TortieError(
          'AGENT_DENIED',
          `${this.path} is for its owner only; run as the agent's user`,
          EX_NOPERM,
        );
      default:
        return error;
    }
  }

  #gone(): TortieError {
    return new TortieError('AGENT_GONE', `the agent on ${this.path} went away`, EX_UNAVAILABLE);
  }
}

/** What is given of a query. */
const queryOf = (query: object): URLSearchParams =>
  new URLSearchParams(
    Object.entries(query)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]): [string, string] => [key, String(value)]),
  );

async function textOf(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of response) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = '';
  for await (const part of response.setEncoding('utf8')) {
    const lines = `${rest}${part}`.split('\n');
    rest = lines.pop()!;
    yield* lines;
  }
}
