/**
 * The control socket: HTTP/1.1 over a Unix socket that only its owner may open. What asks is a GET, what changes
 * something a POST, both without a body. Answers are JSON; long lists are one JSON object a line (NDJSON), and so are
 * a trace and what BGP does, for as long as the client stays; a dump is a file; /metrics is Prometheus' text.
 */

import { chmodSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { MOST_SNAP } from '../../dataplane/trace.ts';
import { tryAddress4, tryAddress6 } from '../address.ts';
import { FAMILIES } from '../bgp/family.ts';
import { EX_UNAVAILABLE, TortieError } from '../error.ts';
import { closeServer, HTTP_LIMITS } from './http.ts';
import { writeBytes, writeLines } from './lines.ts';
import { answerMetrics } from './metrics.ts';
import {
  type AgentApi,
  type ApiErrorBody,
  type BgpDumpQuery,
  type BgpRouteQuery,
  type BgpWatch,
  type BgpWatchQuery,
  type ExplainRequest,
  MAX_TRACE_COUNT,
  type TraceRequest,
} from './types.ts';

/** Longest path that fits a sockaddr_un, with its final zero. */
const MAX_SOCKET_PATH = 107;
/** A tracing client that lets this much pile up, bytes, is cut off. */
const MAX_TRACE_BACKLOG = 4 * 1024 * 1024;
/** Long lists that may be read at a time. A reader may take as long as it likes. */
const MAX_LISTS = 16;

export interface ApiServer {
  readonly path: string;
  /** Ends all connections and removes the socket. */
  close(): Promise<void>;
}

/**
 * Serve an agent. A socket file that nobody answers on is replaced.
 * Throws AGENT_RUNNING if somebody does, SOCKET_PATH if the path cannot hold a socket.
 */
export async function serveApi(
  path: string,
  api: AgentApi,
  onError: (error: unknown) => void = () => {},
): Promise<ApiServer> {
  await claim(path);
  const leaving = new AbortController();
  const lists = new Lists(leaving.signal);
  const server = createServer(HTTP_LIMITS, (request, response) => {
    answer(api, request, response, leaving.signal, lists).catch((error) => fail(response, error, onError));
  });
  server.maxConnections = HTTP_LIMITS.maxConnections;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(pathError(path, error.message)));
    // Owner only from the first moment: a socket is bound before listen() returns.
    const umask = process.umask(0o177);
    try {
      server.listen(path, resolve);
    } finally {
      process.umask(umask);
    }
  });
  chmodSync(path, 0o600);
  server.on('error', onError);
  return {
    path,
    close: () => {
      leaving.abort();
      return closeServer(server);
    },
  };
}

const pathError = (path: string, why: string) =>
  new TortieError('SOCKET_PATH', `cannot serve on ${path}: ${why}; set sockets.api to another path`);

/** Make sure that a socket can be bound at the path. */
async function claim(path: string): Promise<void> {
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH)
    throw pathError(path, `${length} bytes, a socket has at most ${MAX_SOCKET_PATH}`);
  try {
    mkdirSync(dirname(path), { recursive: true });
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (!found) return;
    if (!found.isSocket()) throw pathError(path, 'something that is no socket is there');
    if (await answers(path)) {
      throw new TortieError(
        'AGENT_RUNNING',
        `an agent already answers on ${path}; stop it first`,
        EX_UNAVAILABLE,
      );
    }
    unlinkSync(path);
  } catch (error) {
    if (error instanceof TortieError) throw error;
    throw pathError(path, (error as Error).message);
  }
}

const answers = (path: string): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else reject(error);
    });
  });

class RequestError extends TortieError {
  readonly status: number;
  constructor(status: number, code: string, message: string) {
    super(code, message);
    this.status = status;
  }
}

const NDJSON = 'application/x-ndjson';

/** What changes something. */
const ACTIONS = ['/v1/bgp/refresh', '/v1/bgp/reset'];

async function answer(
  api: AgentApi,
  request: IncomingMessage,
  response: ServerResponse,
  leaving: AbortSignal,
  lists: Lists,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://tortie');
  const query = url.searchParams;
  const method = ACTIONS.includes(url.pathname) ? 'POST' : 'GET';
  if (request.method !== method)
    throw new RequestError(405, 'METHOD', `${request.method}: only ${method} is served`);
  if (request.headers['transfer-encoding'] || Number(request.headers['content-length'] ?? 0) > 0) {
    response.setHeader('connection', 'close');
    throw new RequestError(413, 'BODY', 'a request has no body');
  }
  switch (url.pathname) {
    case '/v1/node/status':
      return json(response, api.nodeStatus());
    case '/v1/ports':
      return json(response, api.ports());
    case '/v1/routes':
      return lists.write(response, api.routes());
    case '/v1/lookup':
      return json(response, api.lookup(addressOf(query.get('address') ?? '')));
    case '/v1/drops':
      return json(response, api.drops());
    case '/v1/path-mtu':
      return json(response, api.pathMtus());
    case '/v1/workers':
      return json(response, await api.workers());
    case '/v1/runtime':
      return json(response, await api.runtime());
    case '/metrics':
      return answerMetrics(api, response);
    case '/v1/config':
      return json(response, api.configShow());
    case '/v1/bgp/summary':
      return json(response, api.bgp.summary());
    case '/v1/bgp/peers':
      return json(response, api.bgp.peers());
    case '/v1/bgp/routes':
      return lists.write(response, api.bgp.routes(routeQuery(query)));
    case '/v1/bgp/dump':
      return lists.file(response, api.bgp.dump(dumpQuery(query)));
    case '/v1/bgp/why':
      return json(response, api.bgp.why(query.get('prefix') ?? '', query.get('to') ?? undefined));
    case '/v1/bgp/monitor':
      return lists.follow(response, (wake) => api.bgp.watch(watchQuery(query), wake));
    case '/v1/bgp/refresh':
      api.bgp.refresh(query.get('peer') ?? '');
      return json(response, {});
    case '/v1/bgp/reset':
      api.bgp.reset(query.get('peer') ?? '', query.get('message') ?? '');
      return json(response, {});
    case '/v1/explain':
      return json(response, api.explain(explainRequest(query)));
    case '/v1/trace':
      return trace(api, traceRequest(query), response, leaving);
    default:
      throw new RequestError(404, 'NOT_FOUND', `${url.pathname} is not served`);
  }
}

function addressOf(text: string): string {
  if (tryAddress4(text) === null && tryAddress6(text) === null) {
    throw new RequestError(400, 'ADDRESS', `"${text}" is no IP address; give one such as 10.65.0.2`);
  }
  return text;
}

function traceRequest(query: URLSearchParams): TraceRequest {
  const port = query.get('port');
  const filter = query.get('filter');
  const sample = numberOf(query, 'sample', 1_000_000);
  const snap = numberOf(query, 'snap', MOST_SNAP);
  return {
    count: numberOf(query, 'count', MAX_TRACE_COUNT) ?? 1,
    ...(port !== null && { port }),
    ...(filter !== null && { filter }),
    ...(sample !== undefined && { sample }),
    ...(snap !== undefined && { snap }),
  };
}

function explainRequest(query: URLSearchParams): ExplainRequest {
  const proto = query.get('proto') ?? 'icmp';
  if (proto !== 'icmp' && proto !== 'tcp' && proto !== 'udp') {
    throw new RequestError(400, 'PROTO', `proto "${proto}" is none of icmp, tcp and udp`);
  }
  const numbers = { sport: 65_535, dport: 65_535, size: 65_535, ttl: 255 } as const;
  const given = Object.entries(numbers).map(([name, most]) => [name, numberOf(query, name, most)] as const);
  return {
    from: query.get('from') ?? '',
    to: addressOf(query.get('to') ?? ''),
    proto,
    df: query.get('df') !== 'false',
    ...Object.fromEntries(given.filter(([, value]) => value !== undefined)),
  };
}

/** A number from 1 to `most` in the query; undefined: there is none. */
function numberOf(query: URLSearchParams, name: string, most: number): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  if (!/^\d{1,7}$/.test(text) || Number(text) < 1 || Number(text) > most) {
    throw new RequestError(400, name.toUpperCase(), `${name} "${text}" is not a number from 1 to ${most}`);
  }
  return Number(text);
}

function routeQuery(query: URLSearchParams): BgpRouteQuery {
  const text = (name: 'prefix' | 'in' | 'out') => {
    const value = query.get(name);
    return value === null ? {} : { [name]: value };
  };
  if (query.has('in') && query.has('out')) {
    throw new RequestError(
      400,
      'QUERY',
      'either what a peer told us or what we told it: give one of in and out',
    );
  }
  return {
    ...text('prefix'),
    ...text('in'),
    ...text('out'),
    longer: query.get('longer') === 'true',
    best: query.get('best') === 'true',
    ...familyOf(query),
  };
}

function familyOf(query: URLSearchParams): Pick<BgpDumpQuery, 'family'> {
  const name = query.get('family');
  if (name === null) return {};
  const family = FAMILIES.find((known) => known.name === name);
  if (family) return { family: family.name };
  const names = FAMILIES.map((known) => known.name).join(' or ');
  throw new RequestError(400, 'FAMILY', `"${name}" is no family; give ${names}`);
}

function dumpQuery(query: URLSearchParams): BgpDumpQuery {
  const peer = query.get('in');
  return { ...(peer !== null && { in: peer }), ...familyOf(query) };
}

function watchQuery(query: URLSearchParams): BgpWatchQuery {
  const peer = query.get('peer');
  return { ...(peer !== null && { peer }), best: query.get('best') === 'true' };
}

/** Lists that are being read, as many as there may be. */
class Lists {
  readonly #leaving: AbortSignal;
  #open = 0;

  constructor(leaving: AbortSignal) {
    this.#leaving = leaving;
  }

  /** What goes wrong in the middle is told by a line of its own; what is not whole ends with the connection. */
  write(response: ServerResponse, rows: Iterable<object | null>): Promise<void> {
    return this.#begin(response, NDJSON, async (signal) => {
      await writeLines(response, rows, signal);
      if (signal.aborted) response.destroy();
    });
  }

  /** A file has no mark at its end either. */
  file(response: ServerResponse, pieces: Iterable<Uint8Array | null>): Promise<void> {
    return this.#begin(response, 'application/octet-stream', async (signal) => {
      try {
        await writeBytes(response, pieces, signal);
      } catch (error) {
        response.destroy();
        throw error;
      }
      if (signal.aborted) response.destroy();
    });
  }

  /** What is there and what comes, until the client goes. */
  follow(response: ServerResponse, open: (wake: () => void) => BgpWatch): Promise<void> {
    return this.#begin(response, NDJSON, async (signal) => {
      let wake = () => {};
      signal.addEventListener('abort', () => wake());
      const watch = open(() => wake());
      try {
        // The head tells the client that from now on nothing escapes it.
        response.flushHeaders();
        while (!signal.aborted) {
          const woken = new Promise<void>((resolve) => {
            wake = resolve;
          });
          await writeLines(response, watch.events(), signal);
          if (!signal.aborted) await woken;
        }
      } finally {
        watch.close();
      }
    });
  }

  async #begin(
    response: ServerResponse,
    contentType: string,
    write: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    if (this.#open === MAX_LISTS) {
      throw new RequestError(503, 'BUSY', `${MAX_LISTS} lists are being read; wait until one has ended`);
    }
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    response.setHeader('content-type', contentType);
    this.#open++;
    try {
      await write(AbortSignal.any([gone.signal, this.#leaving]));
    } finally {
      this.#open--;
    }
    response.end();
  }
}

async function trace(
  api: AgentApi,
  wanted: TraceRequest,
  response: ServerResponse,
  leaving: AbortSignal,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  response.setHeader('content-type', 'application/x-ndjson');
  const tracing = api.trace(
    wanted,
    (packet) => {
      if (response.destroyed) return;
      response.write(`${JSON.stringify(packet)}\n`);
      if (response.writableLength > MAX_TRACE_BACKLOG) response.destroy();
    },
    AbortSignal.any([gone.signal, leaving]),
  );
  // The head tells the client that tracing has begun; a request that is refused at once gets a status instead.
  const begun = setImmediate(() => response.flushHeaders());
  try {
    await tracing;
  } finally {
    clearImmediate(begun);
  }
  response.end();
}

function json(response: ServerResponse, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body);
}

/** Errors with a code are the caller's to read; anything else is ours, and is reported. */
function fail(response: ServerResponse, error: unknown, onError: (error: unknown) => void): void {
  const known = error instanceof TortieError;
  if (!known) onError(error);
  const body: ApiErrorBody = {
    error: {
      code: known ? error.code : 'INTERNAL',
      message: known ? error.message : `the agent failed: ${error instanceof Error ? error.message : error}`,
    },
  };
  const text = `${JSON.stringify(body)}\n`;
  // In the middle of a trace the error is its last line.
  if (response.headersSent) response.end(text);
  else {
    const status = error instanceof RequestError ? error.status : known ? 400 : 500;
    response.writeHead(status, { 'content-type': 'application/json' }).end(text);
  }
}
