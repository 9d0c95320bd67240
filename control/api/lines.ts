/** Long lists, one JSON object a line (NDJSON), and files, written without a pause for anybody else and without being kept. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';

/** How long rows are made in one turn of the event loop, ms. */
const SLICE_MS = 2;
/** Characters that are handed over at once. */
const CHUNK = 64 * 1024;

/** Lets one writer work in a turn of the event loop, however many there are: all others wait in line. */
class Turns {
  readonly #waiting: (() => void)[] = [];
  #scheduled = false;

  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#waiting.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#waiting.shift()!();
      this.#schedule();
    });
  }
}

const turns = new Turns();

/**
 * Write rows until there are no more or `signal` aborts; null is no row. The rows are asked for as fast as the
 * client reads, and no faster, so one that does not read costs a chunk.
 */
export async function writeLines(
  response: ServerResponse,
  rows: Iterable<object | null>,
  signal: AbortSignal,
): Promise<void> {
  const iterator = rows[Symbol.iterator]();
  try {
    for (let done = false; !done; ) {
      await turns.next();
      if (signal.aborted) return;
      const until = performance.now() + SLICE_MS;
      let text = '';
      do {
        const { value, done: isOver } = iterator.next();
        done = isOver === true;
        if (!done && value !== null) text += `${JSON.stringify(value)}\n`;
      } while (!done && text.length < CHUNK && performance.now() < until);
      if (text !== '' && !response.write(text)) await once(response, 'drain', { signal }).catch(() => {});
    }
  } finally {
    iterator.return?.();
  }
}

/**
 * Write bytes until there are no more or `signal` aborts, in the same manner; null is nothing. A piece is written as it
 * is.
 */
export async function writeBytes(
  response: ServerResponse,
  pieces: Iterable<Uint8Array | null>,
  signal: AbortSignal,
): Promise<void> {
  const iterator = pieces[Symbol.iterator]();
  try {
    for (let done = false; !done; ) {
      await turns.next();
      if (signal.aborted) return;
      const until = performance.now() + SLICE_MS;
      let isFull = false;
      do {
        const { value, done: isOver } = iterator.next();
        done = isOver === true;
        if (!done && value !== null) isFull = !response.write(value);
      } while (!done && !isFull && performance.now() < until);
      if (isFull) await once(response, 'drain', { signal }).catch(() => {});
    }
  } finally {
    iterator.return?.();
  }
}
