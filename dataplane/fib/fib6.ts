/**
 * The compiled IPv6 trie, as workers read it, in 16-bit cells.
 *
 * The first 24 bits index `BASE`. A cell below LINK is an adjacency index, 0 meaning "no route but the default"; from LINK
 * on, its low 15 bits name a group of 256 cells for the next eight bits. So down to /48, which is as long as the
 * Internet's prefixes are: at most four loads, each level with groups of its own. What is longer (a cluster's blocks
 * of /122, pods' /128) is sparse and far down, and a level a byte would be a chain of single children. There a group
 * tells in its row at which byte it stands and what all addresses below it share up to there; an address that
 * differs takes the row's own adjacency. The default route stands in the header.
 */
import { get32 } from '../wire/bytes.ts';

export const GROUP_CELLS = 256;
/** From here on a cell is a link. */
export const LINK = 0x8000;
export const INDEX = 0x7fff;
/** Most groups of a level: of /24s, /32s and /40s that hold longer prefixes, and in all of the groups below /48. */
export const MAX_GROUPS6 = 0x8000;
/** Where each level's cells begin. */
export const BASE = 0;
export const LEVEL_32 = 1 << 24;
const LEVEL_CELLS = MAX_GROUPS6 * GROUP_CELLS;
export const LEVEL_40 = LEVEL_32 + LEVEL_CELLS;
export const LEVEL_48 = LEVEL_40 + LEVEL_CELLS;
export const DEEP = LEVEL_48 + LEVEL_CELLS;
export const CELLS6 = DEEP + LEVEL_CELLS;
/** Bytes of the prefix that the fixed levels take. */
export const DEEP_BYTE = 6;

/** A deep group's row, int32 cells: bits 32 to 127 of what its addresses share, masks of those, ... */
export const ROW6 = 8;
export const KEY = 0;
export const MASK = 3;
/** ... the byte of the address that picks a cell, and the adjacency of an address that differs (or 0). */
export const AT = 6;
export const ELSE = 7;

const HEADER_BYTES = 64;

export interface Fib6 {
  /** Cell 0: adjacency of the default route, 0 if there is none. */
  readonly header: Int32Array;
  readonly cells: Uint16Array;
  readonly rows: Int32Array;
}

export function createFib6(): SharedArrayBuffer {
  return new SharedArrayBuffer(HEADER_BYTES + MAX_GROUPS6 * ROW6 * 4 + CELLS6 * 2);
}

export function openFib6(shared: SharedArrayBuffer): Fib6 {
  const rows = MAX_GROUPS6 * ROW6;
  return {
    header: new Int32Array(shared, 0, HEADER_BYTES / 4),
    rows: new Int32Array(shared, HEADER_BYTES, rows),
    cells: new Uint16Array(shared, HEADER_BYTES + rows * 4, CELLS6),
  };
}

/** The adjacency index for the address at `at`; 0 is "no route". */
export function lookup6(fib: Fib6, bytes: DataView, at: number): number {
  const cells = fib.cells;
  const first = get32(bytes, at);
  let cell = cells[first >>> 8];
  if (cell >= LINK) {
    cell = cells[LEVEL_32 + (((cell & INDEX) << 8) | (first & 0xff))];
    if (cell >= LINK) {
      const next = bytes.getUint16(at + 4);
      cell = cells[LEVEL_40 + (((cell & INDEX) << 8) | (next >> 8))];
      if (cell >= LINK) {
        cell = cells[LEVEL_48 + (((cell & INDEX) << 8) | (next & 0xff))];
        if (cell >= LINK) cell = lookupDeep(fib, cell, bytes, at);
      }
    }
  }
  return cell !== 0 ? cell : fib.header[0];
}

function lookupDeep(fib: Fib6, link: number, bytes: DataView, at: number): number {
  const { rows, cells } = fib;
  const second = get32(bytes, at + 4);
  const third = get32(bytes, at + 8);
  const fourth = get32(bytes, at + 12);
  let cell = link;
  // Each group stands at a later byte than the one before: ten turns at most.
  while (cell >= LINK) {
    const group = cell & INDEX;
    const row = group * ROW6;
    const differs =
      ((second ^ rows[row + KEY]) & rows[row + MASK]) |
      ((third ^ rows[row + KEY + 1]) & rows[row + MASK + 1]) |
      ((fourth ^ rows[row + KEY + 2]) & rows[row + MASK + 2]);
    if (differs !== 0) return rows[row + ELSE];
    cell = cells[DEEP + ((group << 8) | bytes.getUint8(at + rows[row + AT]))];
  }
  return cell;
}
