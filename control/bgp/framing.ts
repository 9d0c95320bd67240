/** Messages out of a TCP stream, wherever it is torn. Holds at most one incomplete message. */
import { checkHeader, HEADER_LENGTH } from './message.ts';

export interface Message {
  readonly type: number;
  /** What follows the header; valid until the next call of `push`. */
  readonly body: Buffer;
}

export class Framer {
  #rest: Buffer = Buffer.alloc(0);

  /** Add bytes, and take the messages that are complete now. Throws a BgpError at a bad header. */
  *push(chunk: Buffer): Generator<Message> {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= HEADER_LENGTH) {
      const length = checkHeader(bytes, at);
      if (bytes.length - at < length) break;
      yield { type: bytes[at + 18]!, body: bytes.subarray(at + HEADER_LENGTH, at + length) };
      at += length;
    }
    this.#rest = Buffer.from(bytes.subarray(at));
  }
}
