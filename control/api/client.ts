/** The other end of the control socket. */
import { type IncomingMessage, request } from 'node:http';
import { EX_NOPERM, EX_UNAVAILABLE, TortieError } from '../error.ts';
import type {
  ApiErrorBody,
  DropView,
  LookupView,
  NodeStatusView,
  PortView,
  RouteView,
  RuntimeView,
  TraceRequest,
  TraceView,
  WorkerView,
} from './types.ts';

/** Longest silence of an agent that was asked something, ms. A trace may be silent for as long as it likes. */
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
  routes = (): Promise<RouteView[]> => this.#get('/v1/routes');
  lookup = (address: string): Promise<LookupView> =>
    this.#get(`/v1/lookup?${new URLSearchParams({ address })}`);
  drops = (): Promise<DropView[]> => this.#get('/v1/drops');
  workers = (): Promise<WorkerView[]> => this.#get('/v1/workers');
  runtime = (): Promise<RuntimeView> => this.#get('/v1/runtime');
  config = (): Promise<unknown> => this.#get('/v1/config');

  /** Traced packets as they come; `onBegun` is called once the agent is tracing. Ends with the count or the signal. */
  async *trace(wanted: TraceRequest, signal: AbortSignal, onBegun = () => {}): AsyncGenerator<TraceView> {
    const query = new URLSearchParams(
      Object.entries(wanted).map(([key, value]): [string, string] => [key, String(value)]),
    );
    try {
      const response = await this.#open(`/v1/trace?${query}`, signal);
      onBegun();
      for await (const line of linesOf(response)) {
        const packet = JSON.parse(line) as TraceView | ApiErrorBody;
        if ('error' in packet) throw new TortieError(packet.error.code, packet.error.message);
        yield packet;
      }
      if (!response.complete) throw this.#gone();
    } catch (error) {
      if (!signal.aborted) throw error instanceof TortieError ? error : this.#gone();
    }
  }

  async #get<T>(path: string): Promise<T> {
    const silence = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    try {
      return JSON.parse(await textOf(await this.#open(path, silence))) as T;
    } catch (error) {
      if (error instanceof TortieError) throw error;
      if (!silence.aborted) throw this.#gone();
      const seconds = ANSWER_TIMEOUT_MS / 1000;
      const message = `the agent on ${this.path} gave no answer within ${seconds} s; look at its log`;
      throw new TortieError('AGENT_SILENT', message, EX_UNAVAILABLE);
    }
  }

  /** A successful response, its body still to be read. */
  async #open(path: string, signal: AbortSignal): Promise<IncomingMessage> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request({ socketPath: this.path, path, signal, agent: false }, resolve);
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
