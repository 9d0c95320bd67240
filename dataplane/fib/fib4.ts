/**
 * The compiled IPv4 trie, as workers read it: DIR-24-8 (Gupta, Lin, McKeown, INFOCOM 1998) in 16-bit cells.
 *
 * `base` has one cell for each /24. A cell below 0x8000 is an adjacency index, 0 meaning "no route but the
 * default"; from 0x8000 on, its low 15 bits name a group of 256 cells, one for each address of that /24. The
 * default route stands in the header, so that it need not be written into 16 M cells. Pages that no route
 * touches stay unmapped. Why this shape: docs/ARCHITECTURE.md has the measurements.
 */

export const BASE_CELLS = 1 << 24;
export const GROUP_CELLS = 256;
export const GROUP_FLAG = 0x8000;
/** Most /24s that hold longer prefixes. */
export const MAX_GROUPS = 0x8000;
const HEADER_BYTES = 64;

export interface Fib4 {
  /** Cell 0: adjacency of the default route, 0 if there is none. */
  readonly header: Int32Array;
  readonly base: Uint16Array;
  readonly groups: Uint16Array;
}

export function createFib4(): SharedArrayBuffer {
  return new SharedArrayBuffer(HEADER_BYTES + (BASE_CELLS + MAX_GROUPS * GROUP_CELLS) * 2);
}

export function openFib4(shared: SharedArrayBuffer): Fib4 {
  return {
    header: new Int32Array(shared, 0, HEADER_BYTES / 4),
    base: new Uint16Array(shared, HEADER_BYTES, BASE_CELLS),
    groups: new Uint16Array(shared, HEADER_BYTES + BASE_CELLS * 2, MAX_GROUPS * GROUP_CELLS),
  };
}

/** The adjacency index for an address (int32, host order); 0 is "no route". */
export function lookup4(fib: Fib4, address: number): number {
  const cell = fib.base[address >>> 8];
  const found = cell < GROUP_FLAG ? cell : fib.groups[((cell & 0x7fff) << 8) | (address & 0xff)];
  return found !== 0 ? found : fib.header[0];
}
