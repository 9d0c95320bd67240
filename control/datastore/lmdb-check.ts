/**
 * Is a file of LMDB whole? The library maps it into memory and trusts it: what a broken disk, a copy cut off or another program
 * left there ends the process by a signal. So the pages of all trees are looked at before it is opened; values are not.
 *
 * Layout (mdb.c of LMDB 1.0, data version 2, as the package `lmdb` has it; native byte order):
 *
 *   page   0 number (8), 8 transaction (8), 18 flags (2), 20 end of the pointers (2), 22 begin of the nodes (2), 24 pointers (2 each)
 *   meta   24 magic (4), 28 version (4), 48 tree of free pages (48), 96 main tree (48), 144 last page (8), 152 transaction (8)
 *   tree   0 page size (4, of the first), 40 root page (8)
 *   node   0 size of the data, or lower part of a page number (4), 4 flags, or its upper part (2), 6 size of the key (2), key, data
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const HEADER = 24;
const META_SIZE = 168;
const TREE_FREE = 48;
const TREE_MAIN = 96;
const TREE_SIZE = 48;
const TREE_ROOT = 40;
const NODE_HEADER = 8;
const BRANCH = 0x01;
const LEAF = 0x02;
const OVERFLOW = 0x04;
const META = 0x08;
/** The value stands on pages of its own. */
const BIG_DATA = 0x01;
/** The value is another tree. */
const SUB_TREE = 0x02;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;
/** Deeper is no tree of 2^48 pages. */
const MAX_DEPTH = 48;
/** While others write, a look may come too late for what it looks at: pause before the next, and looks at most. */
const PAUSE_MS = 20;
const LOOKS = 5;

interface Meta {
  readonly transaction: bigint;
  readonly pageSize: number;
  readonly lastPage: bigint;
  readonly roots: readonly bigint[];
}

/** What is wrong with the file; null if nothing is, or if there is no file yet. Throws what reading throws. */
export function faultOf(path: string): string | null {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    let last: Look = { fault: null, transaction: null };
    for (let looked = 0; looked < LOOKS; looked++) {
      const look = lookAt(file);
      if (look.fault === null) return null;
      // The pages of a transaction are written over only when a later one is on the disk, and the first ones are written in
      // an instant: who finds the same again has found damage, and else somebody works with the file.
      if (look.fault === last.fault && look.transaction === last.transaction) return look.fault;
      last = look;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
    }
    return null;
  } finally {
    closeSync(file);
  }
}

interface Look {
  readonly fault: string | null;
  readonly transaction: bigint | null;
}

function lookAt(file: number): Look {
  const { size } = fstatSync(file);
  if (size === 0) return { fault: null, transaction: null };
  const meta = latestMeta(file, size);
  if (typeof meta === 'string') return { fault: meta, transaction: null };
  return { fault: new Walk(file, size, meta).fault(), transaction: meta.transaction };
}

/** The later of the two meta pages, or what is wrong with one: the library needs both, and writes neither in part. */
function latestMeta(file: number, size: number): Meta | string {
  const first = metaAt(file, size, 0);
  if (typeof first === 'string') return first;
  const second = metaAt(file, size, first.pageSize);
  if (typeof second === 'string') return second;
  return first.transaction > second.transaction ? first : second;
}

function metaAt(file: number, size: number, at: number): Meta | string {
  const bytes = Buffer.alloc(META_SIZE);
  readSync(file, bytes, 0, META_SIZE, at);
  const isMeta = bytes.readUInt32LE(HEADER) === MAGIC && (bytes.readUInt16LE(18) & META) !== 0;
  if (!isMeta) return `does not begin as a store does, at byte ${at}`;
  const version = bytes.readUInt32LE(HEADER + 4);
  if (version !== DATA_VERSION) return `is of version ${version}, not ${DATA_VERSION}`;
  const pageSize = bytes.readUInt32LE(TREE_FREE);
  if (pageSize < 512 || pageSize > 65536 || size < 2 * pageSize) {
    return `has ${size} bytes, too few for its pages`;
  }
  return {
    transaction: bytes.readBigUInt64LE(152),
    pageSize,
    lastPage: bytes.readBigUInt64LE(144),
    roots: [TREE_FREE, TREE_MAIN].map((tree) => bytes.readBigUInt64LE(tree + TREE_ROOT)),
  };
}

class Walk {
  readonly #file: number;
  readonly #size: number;
  readonly #meta: Meta;
  readonly #seen = new Set<bigint>();

  constructor(file: number, size: number, meta: Meta) {
    this.#file = file;
    this.#size = size;
    this.#meta = meta;
  }

  fault(): string | null {
    for (const root of this.#meta.roots) {
      const fault = this.#tree(root, 0);
      if (fault !== null) return fault;
    }
    return null;
  }

  #tree(root: bigint, depth: number): string | null {
    return root === NO_PAGE ? null : this.#page(root, depth);
  }

  #page(number: bigint, depth: number): string | null {
    const { pageSize } = this.#meta;
    const page = Buffer.allocUnsafe(pageSize);
    const fault = this.#read(number, page, 1n);
    if (fault !== null) return fault;
    const flags = page.readUInt16LE(18) & (BRANCH | LEAF | OVERFLOW | META);
    const [lower, upper] = [page.readUInt16LE(20), page.readUInt16LE(22)];
    const isBranch = flags === BRANCH;
    if ((!isBranch && flags !== LEAF) || lower % 2 !== 0 || lower > upper || HEADER + upper > pageSize) {
      return `page ${number} is none of a tree`;
    }
    if (depth > MAX_DEPTH) return `page ${number} is too deep`;
    for (let pointer = HEADER; pointer < HEADER + lower; pointer += 2) {
      const at = HEADER + page.readUInt16LE(pointer);
      const wrong =
        at < HEADER + upper || at + NODE_HEADER > pageSize
          ? `page ${number} points outside itself`
          : isBranch
            ? this.#page(BigInt(page.readUIntLE(at, 6)), depth + 1)
            : this.#leaf(page, at, number, depth);
      if (wrong !== null) return wrong;
    }
    return null;
  }

  #leaf(page: Buffer, at: number, number: bigint, depth: number): string | null {
    const size = page.readUInt32LE(at);
    const flags = page.readUInt16LE(at + 4);
    const data = at + NODE_HEADER + page.readUInt16LE(at + 6);
    const held = flags & BIG_DATA ? 8 : flags & SUB_TREE ? TREE_SIZE : size;
    if (data + held > page.length) return `page ${number} has a value that does not end on it`;
    if (flags & BIG_DATA) {
      const pages = Math.ceil((HEADER + size) / page.length);
      return this.#overflow(page.readBigUInt64LE(data), BigInt(pages));
    }
    return flags & SUB_TREE ? this.#tree(page.readBigUInt64LE(data + TREE_ROOT), depth + 1) : null;
  }

  #overflow(number: bigint, pages: bigint): string | null {
    const header = Buffer.allocUnsafe(HEADER);
    const fault = this.#read(number, header, pages);
    if (fault !== null) return fault;
    return header.readUInt16LE(18) & OVERFLOW ? null : `page ${number} holds no value`;
  }

  /** Read the beginning of a page, which bears its number and is used once. */
  #read(number: bigint, bytes: Buffer, pages: bigint): string | null {
    const { pageSize, lastPage } = this.#meta;
    const end = (number + pages) * BigInt(pageSize);
    if (number + pages - 1n > lastPage || end > BigInt(this.#size)) {
      return `page ${number} is behind its end: ${this.#size} bytes`;
    }
    if (this.#seen.has(number)) return `page ${number} is used twice`;
    this.#seen.add(number);
    readSync(this.#file, bytes, 0, bytes.length, Number(number) * pageSize);
    return bytes.readBigUInt64LE(0) === number ? null : `page ${number} is overwritten`;
  }
}
