/**
 * From a TCP stream, torn wherever the network likes, to whole BGP messages.
 *
 * Memory is bounded: one chunk as the socket gave it and less than one message left over from before. The
 * caller takes all messages out (or pauses the socket) before it pushes more.
 */
import { checkHeader, HEADER, MAX_MESSAGE } from './message.ts';

export interface Framed {
  type: number;
  /** The message's body is bytes[offset..end). It stays as it is; no later push writes over it. */
  bytes: Uint8Array;
  offset: number;
  end: number;
}

export class Framer {
  /** Largest message that may come, bytes. */
  limit = MAX_MESSAGE;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;

  /** Bytes not yet taken. */
  get pending(): number {
    return this.#bytes.length - this.#at;
  }

  push(chunk: Uint8Array): void {
    const rest = this.pending;
    // A plain view: `slice` of a Buffer would not copy, and a kept attribute would keep the whole chunk alive.
    if (rest === 0) this.#bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
    else {
      const joined = new Uint8Array(rest + chunk.length);
      joined.set(this.#bytes.subarray(this.#at));
      joined.set(chunk, rest);
      this.#bytes = joined;
    }
    this.#at = 0;
  }

  /** The next whole message, or null until more arrives. Throws BgpError 1/x at a header that is wrong. */
  next(): Framed | null {
    const start = this.#at;
    if (this.pending < HEADER) return null;
    const length = checkHeader(this.#bytes, start, this.limit);
    if (this.pending < length) return null;
    this.#at = start + length;
    return {
      type: this.#bytes[start + 18]!,
      bytes: this.#bytes,
      offset: start + HEADER,
      end: start + length,
    };
  }
}
