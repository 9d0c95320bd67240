/**
 * Routes that BGP had told the agent before, in a file: they stand in until BGP has told them anew, or a bounded time is
 * over. So a restart forgets nobody. The file is for this node alone and lives under /run, as long as the system is up.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { formatPrefix4, formatPrefix6, tryPrefix4, tryPrefix6, type Words6 } from '../address.ts';
import { IPV4, IPV6, parseWords } from '../bgp/family.ts';
import type { LearnedRoute, StaleRoute } from './feeder.ts';

/** More routes than this are not kept: writing them down would take longer than learning them anew. */
export const MAX_KEPT_ROUTES = 50_000;
const FORMAT = 2;

interface Kept {
  readonly format: number;
  /** More than are kept: there were routes, but not these. */
  readonly tooMany: boolean;
  readonly routes: readonly (readonly [prefix: string, nextHop: string, peerLabel: string])[];
}

export class LearnedRoutes {
  readonly #path: string;
  #saved = '';

  constructor(path: string) {
    this.#path = path;
  }

  /** What the agent before had learned; null if there was none. A file that is not whole is no file. */
  load(): StaleRoute[] | null {
    try {
      const { format, routes } = JSON.parse(readFileSync(this.#path, 'utf8')) as Kept;
      return format === FORMAT ? routes.map(parse) : null;
    } catch {
      return null;
    }
  }

  /** Write down what is in force, for the next agent. False: it is too much, and nothing is kept of it. */
  save(routes: Iterable<LearnedRoute>): boolean {
    const kept: [string, string, string][] = [];
    let tooMany = false;
    for (const { family, words, length, nextHop, peerLabel } of routes) {
      if (kept.length === MAX_KEPT_ROUTES) {
        tooMany = true;
        kept.length = 0;
        break;
      }
      const text =
        family === IPV4
          ? formatPrefix4(words[0]!, length)
          : formatPrefix6({ words: words as unknown as Words6, length });
      kept.push([text, nextHop, peerLabel]);
    }
    const text = JSON.stringify({ format: FORMAT, tooMany, routes: kept } satisfies Kept);
    if (text === this.#saved) return !tooMany;
    mkdirSync(dirname(this.#path), { recursive: true });
    writeFileSync(`${this.#path}.new`, text, { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
    this.#saved = text;
    return !tooMany;
  }
}

function parse([prefix, nextHop, peerLabel]: Kept['routes'][number]): StaleRoute {
  const via = { text: nextHop, words: parseWords(nextHop) };
  const four = tryPrefix4(prefix);
  if (four) return { family: IPV4, words: [four.prefix], length: four.length, nextHop: via, peerLabel };
  const six = tryPrefix6(prefix);
  if (!six) throw new Error(`"${prefix}" is no prefix`);
  return { family: IPV6, words: [...six.words], length: six.length, nextHop: via, peerLabel };
}
