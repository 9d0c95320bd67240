/** A socket of memory: for what no real network does on demand, and for more sessions than a kernel would like. */
import { Duplex } from 'node:stream';

/** What is written is kept, and taken (or not) as told. What the peer sends is pushed. */
export class MemorySocket extends Duplex {
  readonly localAddress = '10.0.0.1';
  readonly written: Uint8Array[] = [];
  #held: (() => void) | null = null;
  #takes = true;

  set takes(takes: boolean) {
    this.#takes = takes;
    if (!takes) return;
    const held = this.#held;
    this.#held = null;
    held?.();
  }

  setNoDelay(): void {}

  override _read(): void {}

  override _write(chunk: Uint8Array, _: string, done: () => void): void {
    this.written.push(chunk);
    if (this.#takes) done();
    else this.#held = done;
  }
}
