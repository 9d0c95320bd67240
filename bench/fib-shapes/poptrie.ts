/**
 * A popcount-compressed trie (Poptrie: Asai and Ohara, SIGCOMM 2015): 16 bits direct, then nodes of 6 bits
 * with a vector of children and a vector of leaf runs. Smallest, and a node is rebuilt as a whole.
 */
import { maskOf } from '../../dataplane/fib/prefix-map.ts';

const DIRECT = 16;
const LEAF = 0x8000_0000 | 0;
/** int32 cells of a node: children low, high; leaf runs low, high; first child; first leaf. */
const NODE = 6;

interface Route {
  prefix: number;
  length: number;
  adjacency: number;
}

export class Poptrie {
  readonly root = new Int32Array(1 << DIRECT).fill(LEAF);
  nodes = new Int32Array(NODE * 4096);
  leaves = new Uint16Array(4096);
  #nodeCount = 0;
  #leafCount = 0;
  /** Routes longer than the direct bits, by their root cell, and the shorter ones. */
  readonly #long = new Map<number, Route[]>();
  readonly #short: Route[] = [];

  get bytes(): number {
    return this.root.byteLength + this.#nodeCount * NODE * 4 + this.#leafCount * 2;
  }

  build(routes: Iterable<Route>): void {
    for (const route of routes) this.#store(route);
    for (let cell = 0; cell < 1 << DIRECT; cell++) this.#rebuild(cell);
  }

  /** An update rebuilds every root cell that it touches; what was there before is garbage. */
  set(prefix: number, length: number, adjacency: number): void {
    this.#store({ prefix, length, adjacency });
    this.#rebuildUnder(prefix, length);
  }

  delete(prefix: number, length: number): void {
    const list = length > DIRECT ? (this.#long.get(prefix >>> (32 - DIRECT)) ?? []) : this.#short;
    const at = list.findIndex((route) => route.prefix === prefix && route.length === length);
    if (at >= 0) list.splice(at, 1);
    this.#rebuildUnder(prefix, length);
  }

  #store(route: Route): void {
    if (route.length <= DIRECT) this.#short.push(route);
    else {
      const cell = route.prefix >>> (32 - DIRECT);
      const list = this.#long.get(cell);
      if (list) list.push(route);
      else this.#long.set(cell, [route]);
    }
  }

  #rebuildUnder(prefix: number, length: number): void {
    const first = prefix >>> (32 - DIRECT);
    const count = length >= DIRECT ? 1 : 1 << (DIRECT - length);
    for (let cell = first; cell < first + count; cell++) this.#rebuild(cell);
  }

  #rebuild(cell: number): void {
    const base = cell << (32 - DIRECT);
    let cover = { length: -1, adjacency: 0 };
    for (const route of this.#short) {
      if ((base & maskOf(route.length)) === route.prefix && route.length > cover.length) cover = route;
    }
    const routes = this.#long.get(cell) ?? [];
    this.root[cell] =
      routes.length === 0
        ? LEAF | cover.adjacency
        : this.#fill(this.#nodesRoom(1), base, DIRECT, cover.adjacency, routes);
  }

  /** Fill node `index` for the routes under base/depth; returns the index. */
  #fill(index: number, base: number, depth: number, cover: number, routes: Route[]): number {
    const width = Math.min(6, 32 - depth);
    const slots = new Array<{ leaf: number; length: number; under: Route[] }>(64);
    for (let i = 0; i < 64; i++) slots[i] = { leaf: cover, length: depth, under: [] };
    for (const route of routes) {
      const first = ((route.prefix - base) >>> 0) >>> (32 - depth - width);
      if (route.length > depth + width) slots[first]!.under.push(route);
      else {
        for (let i = first; i < first + (1 << (depth + width - route.length)); i++) {
          if (route.length >= slots[i]!.length)
            Object.assign(slots[i]!, { leaf: route.adjacency, length: route.length });
        }
      }
    }
    const vector = [0, 0];
    const leafVector = [0, 0];
    const children: number[] = [];
    const leaves: number[] = [];
    for (let i = 0; i < 1 << width; i++) {
      const slot = slots[i]!;
      if (slot.under.length > 0) {
        vector[i >> 5]! |= 1 << (i & 31);
        children.push(i);
      } else if (leaves.length === 0 || leaves.at(-1) !== slot.leaf) {
        leafVector[i >> 5]! |= 1 << (i & 31);
        leaves.push(slot.leaf);
      }
    }
    const firstChild = this.#nodesRoom(children.length);
    const firstLeaf = this.#leavesRoom(leaves.length);
    this.leaves.set(leaves, firstLeaf);
    this.nodes.set(
      [vector[0]!, vector[1]!, leafVector[0]!, leafVector[1]!, firstChild, firstLeaf],
      index * NODE,
    );
    for (const [i, slot] of children.entries()) {
      const at = slots[slot]!;
      this.#fill(
        firstChild + i,
        (base + slot * 2 ** (32 - depth - width)) | 0,
        depth + width,
        at.leaf,
        at.under,
      );
    }
    return index;
  }

  #nodesRoom(count: number): number {
    const first = this.#nodeCount;
    this.#nodeCount += count;
    if (this.#nodeCount * NODE > this.nodes.length) {
      const nodes = new Int32Array(Math.max(this.nodes.length * 2, this.#nodeCount * NODE));
      nodes.set(this.nodes);
      this.nodes = nodes;
    }
    return first;
  }

  #leavesRoom(count: number): number {
    const first = this.#leafCount;
    this.#leafCount += count;
    if (this.#leafCount > this.leaves.length) {
      const leaves = new Uint16Array(Math.max(this.leaves.length * 2, this.#leafCount));
      leaves.set(this.leaves);
      this.leaves = leaves;
    }
    return first;
  }
}

function popcount(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Bits set in a vector at or below bit `at`. */
function rank(low: number, high: number, at: number): number {
  if (at < 32) return popcount(low & (0xffffffff >>> (31 - at)));
  return popcount(low) + popcount(high & (0xffffffff >>> (63 - at)));
}

export function lookupPoptrie(
  root: Int32Array,
  nodes: Int32Array,
  leaves: Uint16Array,
  address: number,
): number {
  let index = root[address >>> 16]!;
  if (index < 0) return index & 0x7fff_ffff;
  let depth = DIRECT;
  for (;;) {
    const node = index * NODE;
    const width = depth > 26 ? 32 - depth : 6;
    const at = (address >>> (32 - depth - width)) & ((1 << width) - 1);
    const low = nodes[node]!;
    const high = nodes[node + 1]!;
    const isChild = at < 32 ? (low >>> at) & 1 : (high >>> (at - 32)) & 1;
    if (!isChild) return leaves[nodes[node + 5]! + rank(nodes[node + 2]!, nodes[node + 3]!, at) - 1]!;
    index = nodes[node + 4]! + rank(low, high, at) - 1;
    depth += width;
  }
}
