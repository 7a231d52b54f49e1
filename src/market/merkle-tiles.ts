/**
 * A log that grows by appending and gives proofs without keeping every leaf in memory. Leaves come in tiles of 256: of a
 * full tile only its root is kept (and the perfect subtrees above it), of the last, unfinished tile the leaves. That is 64
 * bytes per 256 receipts: 25 MB for a hundred million. A proof inside a full tile needs that tile's 256 leaves back from
 * the store, which the caller fetches first (`tileOf`).
 */
import { assert } from "../domain/assert.ts";
import { nodeHash, type Sha256 } from "../domain/merkle-tree.ts";
import { inclusionPath, type PerfectHash, rootOf } from "./merkle-log.ts";

const TILE_LEVEL = 8;
/** Leaves in a tile. */
export const TILE_LEAVES = 2 ** TILE_LEVEL;

export class MerkleTiles {
  readonly #sha256: Sha256;
  /** `#above[k]` holds the perfect subtrees of level TILE_LEVEL + k, in order. */
  readonly #above: Uint8Array[][] = [];
  #lastTile: Uint8Array[] = [];
  #size = 0;

  constructor(sha256: Sha256) {
    this.#sha256 = sha256;
  }

  get size(): number {
    return this.#size;
  }

  append(leaf: Uint8Array): void {
    this.#lastTile.push(leaf);
    this.#size++;
    if (this.#lastTile.length < TILE_LEAVES) return;
    let hash = foldTile(this.#lastTile, TILE_LEVEL, 0, this.#sha256);
    this.#lastTile = [];
    for (let level = 0; ; level++) {
      const row = this.#above[level] ?? [];
      this.#above[level] = row;
      row.push(hash);
      if (row.length % 2 === 1) return;
      hash = nodeHash(hashAt(row, row.length - 2), hash, this.#sha256);
    }
  }

  root(): Uint8Array {
    return rootOf(this.#size, this.#perfect(null), this.#sha256);
  }

  /** The leaves that `inclusion` needs for this leaf; null when they are in memory. */
  tileOf(index: number): { readonly from: number; readonly to: number } | null {
    assert(index < this.#size, `leaf ${index} is in a log of ${this.#size}`);
    const from = index - (index % TILE_LEAVES);
    return from >= this.#size - this.#lastTile.length ? null : { from, to: from + TILE_LEAVES };
  }

  /** Path of a leaf in the tree of the present size. `tile`: the leaves of `tileOf(index)`. */
  inclusion(index: number, tile: readonly Uint8Array[] | null): Uint8Array[] {
    const from = index - (index % TILE_LEAVES);
    const fetched = tile === null ? null : { from, leaves: tile };
    return inclusionPath({ index, size: this.#size }, this.#perfect(fetched), this.#sha256);
  }

  #perfect(fetched: { from: number; leaves: readonly Uint8Array[] } | null): PerfectHash {
    return (level, index) => {
      if (level >= TILE_LEVEL) return hashAt(this.#above[level - TILE_LEVEL] ?? [], index);
      const start = index * 2 ** level;
      const tileStart = start - (start % TILE_LEAVES);
      if (fetched !== null && tileStart === fetched.from) {
        return foldTile(fetched.leaves, level, start - tileStart, this.#sha256);
      }
      assert(tileStart >= this.#size - this.#lastTile.length, `the tile of leaf ${start} was fetched`);
      return foldTile(this.#lastTile, level, start - tileStart, this.#sha256);
    };
  }
}

/** The perfect subtree of `level` over the leaves from `start`. */
function foldTile(leaves: readonly Uint8Array[], level: number, start: number, sha256: Sha256): Uint8Array {
  if (level === 0) return hashAt(leaves, start);
  const half = 2 ** (level - 1);
  const left = foldTile(leaves, level - 1, start, sha256);
  return nodeHash(left, foldTile(leaves, level - 1, start + half, sha256), sha256);
}

function hashAt(row: readonly Uint8Array[], index: number): Uint8Array {
  const hash = row[index];
  assert(hash !== undefined, `hash ${index} of ${row.length} is known`);
  return hash;
}
