/**
 * Routes that BGP had told the agent before, in a file: they stand in until BGP has told them anew, or a bounded time is
 * over. So a restart forgets nobody. The file is for this node alone and lives under /run, as long as the system is up.
 */
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { formatPrefix, parsePrefix, parseWords } from '../bgp/family.ts';
import type { Feeder, LearnedRoute, StaleRoute } from './feeder.ts';

/**
 * More routes than this are not kept: writing them down would take longer than learning them anew. Of so many there are those
 * into tunnels, which the kernel does not have.
 */
export const MAX_KEPT_ROUTES = 50_000;
/** Routes that are written down in one turn of the event loop: a few milliseconds. */
const SLICE = 2000;
const FORMAT = 4;

/** The first line of the file; each other is a route. */
interface Head {
  readonly format: number;
  /** More than are kept: there were others. */
  readonly tooMany: boolean;
  /** So that half a file is seen to be one. */
  readonly count: number;
}
/** `layout`: of several next hops the one that each bucket has, a byte each, in base64. */
type Line = readonly [prefix: string, nextHops: readonly string[], peerLabel: string, layout?: string];

export type InForce = Pick<Feeder, 'size' | 'standins' | 'routes' | 'tunnelled'>;

export class LearnedRoutes {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** What the agent before had learned; null if there was none. A file that is not whole is no file. */
  load(): StaleRoute[] | null {
    try {
      const [head, ...lines] = readFileSync(this.#path, 'utf8').trimEnd().split('\n');
      const { format, count } = JSON.parse(head!) as Head;
      if (format !== FORMAT || count !== lines.length) return null;
      return lines.map((line) => parse(JSON.parse(line) as Line));
    } catch {
      return null;
    }
  }

  /**
   * Write down what is in force, for the next agent, a slice in a turn. False: it is too much, and only what goes into tunnels
   * is kept of it, the first of them. What changes meanwhile may or may not be in it.
   */
  async save(force: InForce): Promise<boolean> {
    const tooMany = force.size + force.standins > MAX_KEPT_ROUTES;
    const lines: string[] = [];
    for (const route of tooMany ? force.tunnelled() : force.routes()) {
      if (lines.length === MAX_KEPT_ROUTES) break;
      if (route !== null) lines.push(lineOf(route));
      if (route === null || lines.length % SLICE === 0) await turn();
    }
    mkdirSync(dirname(this.#path), { recursive: true });
    const file = openSync(`${this.#path}.new`, 'w', 0o600);
    try {
      const head: Head = { format: FORMAT, tooMany, count: lines.length };
      writeSync(file, `${JSON.stringify(head)}\n`);
      for (let at = 0; at < lines.length; at += SLICE) {
        writeSync(file, lines.slice(at, at + SLICE).join(''));
        await turn();
      }
    } finally {
      closeSync(file);
    }
    renameSync(`${this.#path}.new`, this.#path);
    return !tooMany;
  }
}

function lineOf({ family, words, length, nextHop, peerLabel, shares, layout }: LearnedRoute): string {
  const nextHops = layout ? shares.map((share) => share.nextHop) : [nextHop];
  const line: Line = [formatPrefix({ family, words, length }), nextHops, peerLabel];
  return `${JSON.stringify(layout ? [...line, Buffer.from(layout).toString('base64')] : line)}\n`;
}

function parse([prefix, texts, peerLabel, layout]: Line): StaleRoute {
  const nextHops = texts.map((text) => ({ text, words: parseWords(text) }));
  const { family, words, length } = parsePrefix(prefix);
  const places = layout === undefined ? null : Uint8Array.from(Buffer.from(layout, 'base64'));
  return { family, words: Array.from(words), length, nextHops, peerLabel, layout: places };
}
