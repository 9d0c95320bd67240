/**
 * Whether the agent lives and is ready, part by part, as Felix tells it: every part reports by itself, and a report that is not
 * renewed in time is as good as a bad one. Served as GET /liveness and /readiness, 200 or 503, with a table for people.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { TortieError } from '../error.ts';
import { closeServer, HTTP_LIMITS } from './http.ts';

export interface HealthReport {
  /** Left out: the part says nothing of it, and never is an obstacle. */
  readonly live?: boolean;
  readonly ready?: boolean;
  /** Why not, for people. */
  readonly detail?: string | null;
}

interface Part extends HealthReport {
  /** How long a report is good for, ms; 0: for ever. */
  readonly timeoutMs: number;
  readonly at: number;
}

export class Health {
  readonly #parts = new Map<string, Part>();
  readonly #now: () => number;

  /** `now`: ms of a clock that nobody sets. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  report(part: string, timeoutMs: number, report: HealthReport): void {
    this.#parts.set(part, { ...report, timeoutMs, at: this.#now() });
  }

  isLive(): boolean {
    return [...this.#parts.values()].every(
      (part) => part.live === undefined || this.#word(part, 'live') === LIVE,
    );
  }

  isReady(): boolean {
    const parts = [...this.#parts.values()];
    return (
      parts.length > 0 &&
      parts.every((part) => part.ready === undefined || this.#word(part, 'ready') === READY)
    );
  }

  /** Felix's table. */
  text(): string {
    const rows = [...this.#parts].map(([name, part]) => [
      name,
      part.timeoutMs === 0 ? '-' : `${part.timeoutMs / 1000}s`,
      this.#word(part, 'live'),
      this.#word(part, 'ready'),
      part.detail ?? '',
    ]);
    const all = [['COMPONENT', 'TIMEOUT', 'LIVENESS', 'READINESS', 'DETAIL'], ...rows];
    const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
    const rule = `+${widths.map((width) => '-'.repeat(width + 2)).join('+')}+\n`;
    const line = (row: readonly string[]) =>
      `|${row.map((cell, i) => ` ${cell.padEnd(widths[i]!)} `).join('|')}|\n`;
    return `${rule}${line(all[0]!)}${rule}${all.slice(1).map(line).join('')}${rule}`;
  }

  #word(part: Part, what: 'live' | 'ready'): string {
    const value = part[what];
    if (value === undefined) return '-';
    if (part.timeoutMs > 0 && this.#now() - part.at > part.timeoutMs) return 'timed out';
    if (what === 'live') return value ? LIVE : 'reporting non-live';
    return value ? READY : 'reporting non-ready';
  }
}

const LIVE = 'reporting live';
const READY = 'reporting ready';

export interface HealthServer {
  /** The port that it listens on. */
  readonly port: number;
  close(): Promise<void>;
}

/** Throws HEALTH_ADDRESS if it cannot be bound. */
export async function serveHealth(
  { address, port }: { readonly address: string; readonly port: number },
  health: Health,
  onError: (error: unknown) => void = () => {},
): Promise<HealthServer> {
  const server = createServer(HTTP_LIMITS, (request, response) => answer(health, request, response));
  server.maxConnections = HTTP_LIMITS.maxConnections;
  await new Promise<void>((resolve, reject) => {
    server.once('error', ({ message }) => {
      const advice = 'set health.address and health.port to what is free here, or health.enabled to false';
      reject(new TortieError('HEALTH_ADDRESS', `cannot serve /readiness: ${message}; ${advice}`));
    });
    server.listen(port, address, resolve);
  });
  server.on('error', onError);
  const bound = server.address();
  return {
    port: bound !== null && typeof bound === 'object' ? bound.port : port,
    close: () => closeServer(server),
  };
}

function answer(health: Health, request: IncomingMessage, response: ServerResponse): void {
  const { pathname } = new URL(request.url ?? '/', 'http://tortie');
  response.setHeader('content-type', 'text/plain; charset=utf-8');
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { connection: 'close' }).end('only GET is served\n');
    return;
  }
  if (pathname !== '/liveness' && pathname !== '/readiness') {
    response.writeHead(404).end('only /liveness and /readiness are served here\n');
    return;
  }
  const isGood = pathname === '/liveness' ? health.isLive() : health.isReady();
  response.writeHead(isGood ? 200 : 503).end(health.text());
}
