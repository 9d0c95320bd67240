/** A multibit trie with strides 16-8-8 in 32-bit cells: no cell for each /24, one more load for long prefixes. */
import { maskOf, PrefixMap } from '../../dataplane/fib/prefix-map.ts';

const CHILD = 0x8000_0000 | 0;

export class Multibit {
  readonly root = new Int32Array(1 << 16);
  /** Nodes of 256 cells, for both lower levels. */
  nodes = new Int32Array(256 * 64);
  readonly #rootDepth = new Uint8Array(1 << 16);
  #nodeDepth = new Uint8Array(256 * 64);
  #used = 0;
  readonly #routes = new PrefixMap();

  get bytes(): number {
    return this.root.byteLength + this.#used * 256 * 4;
  }

  set(prefix: number, length: number, adjacency: number): void {
    this.#routes.set(prefix, length, adjacency);
    this.#paint(prefix, length, adjacency, length, 0, length);
  }

  delete(prefix: number, length: number): void {
    this.#routes.delete(prefix, length);
    const depth = Math.max(0, this.#routes.coverLength(prefix, length));
    const cover = Math.max(0, this.#routes.get(prefix & maskOf(depth), depth));
    this.#paint(prefix, length, cover, depth, length, length);
  }

  /** Give the cells under a prefix, owned by prefixes of `least`..`most` bits, to an adjacency at `depth`. */
  #paint(
    prefix: number,
    length: number,
    adjacency: number,
    depth: number,
    least: number,
    most: number,
  ): void {
    if (length <= 16) {
      const first = prefix >>> 16;
      for (let i = first; i < first + (1 << (16 - length)); i++) {
        if (this.root[i]! < 0) this.#paintNode(this.root[i]! & ~CHILD, 0, 256, adjacency, depth, least, most);
        else if (this.#rootDepth[i]! >= least && this.#rootDepth[i]! <= most) {
          this.root[i] = adjacency;
          this.#rootDepth[i] = depth;
        }
      }
      return;
    }
    const top = prefix >>> 16;
    if (this.root[top]! >= 0) this.root[top] = CHILD | this.#node(this.root[top]!, this.#rootDepth[top]!);
    let node = this.root[top]! & ~CHILD;
    let bits = 24;
    if (length > 24) {
      const at = node * 256 + ((prefix >>> 8) & 255);
      if (this.nodes[at]! >= 0) {
        const child = this.#node(this.nodes[at]!, this.#nodeDepth[at]!);
        this.nodes[at] = CHILD | child;
      }
      node = this.nodes[at]! & ~CHILD;
      bits = 32;
    }
    const first = (prefix >>> (32 - bits)) & 255;
    this.#paintNode(node, first, 1 << (bits - length), adjacency, depth, least, most);
  }

  #paintNode(
    node: number,
    first: number,
    count: number,
    adjacency: number,
    depth: number,
    least: number,
    most: number,
  ): void {
    for (let at = node * 256 + first; at < node * 256 + first + count; at++) {
      if (this.nodes[at]! < 0)
        this.#paintNode(this.nodes[at]! & ~CHILD, 0, 256, adjacency, depth, least, most);
      else if (this.#nodeDepth[at]! >= least && this.#nodeDepth[at]! <= most) {
        this.nodes[at] = adjacency;
        this.#nodeDepth[at] = depth;
      }
    }
  }

  #node(adjacency: number, depth: number): number {
    if ((this.#used + 1) * 256 > this.nodes.length) {
      const nodes = new Int32Array(this.nodes.length * 2);
      nodes.set(this.nodes);
      this.nodes = nodes;
      const depths = new Uint8Array(nodes.length);
      depths.set(this.#nodeDepth);
      this.#nodeDepth = depths;
    }
    this.nodes.fill(adjacency, this.#used * 256, this.#used * 256 + 256);
    this.#nodeDepth.fill(depth, this.#used * 256, this.#used * 256 + 256);
    return this.#used++;
  }
}

export function lookupMultibit(root: Int32Array, nodes: Int32Array, address: number): number {
  let cell = root[address >>> 16]!;
  if (cell >= 0) return cell;
  cell = nodes[((cell & 0x7fffffff) << 8) | ((address >>> 8) & 255)]!;
  return cell >= 0 ? cell : nodes[((cell & 0x7fffffff) << 8) | (address & 255)]!;
}
