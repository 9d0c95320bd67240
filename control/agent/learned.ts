/**
 * Routes that BGP had told the agent before, kept in a file until BGP has told them anew or a bounded time is over:
 * so a restart forgets nobody. The file is for this node alone and lives under /run, as long as the system is up.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { BgpRoute } from '../desired.ts';
import { routeKey } from '../desired.ts';

/** More routes than this are not kept: writing them down would take longer than learning them anew. */
export const MAX_KEPT_ROUTES = 50_000;
const FORMAT = 1;

export class LearnedRoutes {
  readonly #path: string;
  #stale = new Map<number, BgpRoute>();
  #until = 0;
  #saved = '';

  constructor(path: string) {
    this.#path = path;
  }

  /** Take what the agent before had learned as stale, for this many seconds. A file that is not whole is no file. */
  load(seconds: number, now = Date.now()): void {
    try {
      const { format, routes } = JSON.parse(readFileSync(this.#path, 'utf8')) as {
        format: number;
        routes: [number, number, number, string][];
      };
      if (format !== FORMAT || seconds === 0) return;
      this.#stale = new Map(
        routes.map(([prefix, length, nextHop, peerLabel]) => [
          routeKey(prefix, length),
          { prefix, length, nextHop, peerLabel },
        ]),
      );
      this.#until = now + seconds * 1000;
    } catch {
      this.#stale = new Map();
    }
  }

  /** How many routes are stale, and until when. */
  get staleCount(): number {
    return this.#stale.size;
  }
  get staleUntil(): Date | null {
    return this.#stale.size > 0 ? new Date(this.#until) : null;
  }

  /** Whether stale routes are there that should go. */
  isOver(isSynchronised: boolean, now = Date.now()): boolean {
    return this.#stale.size > 0 && (isSynchronised || now >= this.#until);
  }

  /**
   * What BGP tells now, and what it told the agent before as long as that is stale. A route that is told anew is stale
   * no more: when its peer then goes, so does the route.
   */
  merge(told: Iterable<BgpRoute>, isSynchronised: boolean, now = Date.now()): BgpRoute[] {
    const routes = [...told];
    if (this.isOver(isSynchronised, now)) this.#stale = new Map();
    if (this.#stale.size === 0) return routes;
    for (const { prefix, length } of routes) this.#stale.delete(routeKey(prefix, length));
    return [...routes, ...this.#stale.values()];
  }

  /** Write down what is in force, for the next agent. False: it is too much, and nothing is kept. */
  save(routes: readonly BgpRoute[]): boolean {
    if (routes.length > MAX_KEPT_ROUTES) {
      rmSync(this.#path, { force: true });
      this.#saved = '';
      return false;
    }
    const text = JSON.stringify({
      format: FORMAT,
      routes: routes.map(({ prefix, length, nextHop, peerLabel }) => [prefix, length, nextHop, peerLabel]),
    });
    if (text === this.#saved) return true;
    mkdirSync(dirname(this.#path), { recursive: true });
    writeFileSync(`${this.#path}.new`, text, { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
    this.#saved = text;
    return true;
  }
}
