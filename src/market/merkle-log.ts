/**
 * The Merkle tree of RFC 9162 section 2.1: an append-only list whose root commits to every entry and its place. A path of
 * O(log n) hashes shows that an entry is in the tree (inclusion) or that a tree only grew (consistency).
 *
 * Leaves are hashed with prefix 0x00 and inner nodes with 0x01. A tree of n leaves splits at the largest power of two below
 * n, so every left subtree is perfect and keeps its hash for ever: (level, index) names the perfect subtree over leaves
 * [index * 2^level, (index + 1) * 2^level). Proofs ask for such subtrees through `PerfectHash`; who keeps them is the
 * caller's matter (tiles in market/merkle-tiles.ts).
 */
import { assert } from "../domain/assert.ts";
import { HASH_BYTES, nodeHash, type Sha256 } from "../domain/merkle-tree.ts";

/** Hash of the perfect subtree; level 0 is a leaf's hash. */
export type PerfectHash = (level: number, index: number) => Uint8Array;

/** 2^48 leaves: a bound on the walk and on the length of a proof. */
export const PATH_HASHES_MAX = 48;

/** MTH of the whole tree; of an empty one, the hash of nothing. */
export function rootOf(size: number, perfect: PerfectHash, sha256: Sha256): Uint8Array {
  return size === 0 ? sha256(new Uint8Array(0)) : rangeHash({ start: 0, end: size }, perfect, sha256);
}

/** PATH(index, D[size]), from the leaf upwards. */
export function inclusionPath(
  at: { readonly index: number; readonly size: number },
  perfect: PerfectHash,
  sha256: Sha256,
): Uint8Array[] {
  assert(at.index >= 0 && at.index < at.size, `leaf ${at.index} is in a tree of ${at.size}`);
  const path: Uint8Array[] = [];
  let start = 0;
  let end = at.size;
  while (end - start > 1) {
    const middle = start + splitOf(end - start);
    const isLeft = at.index < middle;
    path.push(rangeHash(isLeft ? { start: middle, end } : { start, end: middle }, perfect, sha256));
    if (isLeft) end = middle;
    else start = middle;
  }
  return path.reverse();
}

/** PROOF(from, D[to]) with 0 < from <= to; empty when they are equal. */
export function consistencyPath(
  sizes: { readonly from: number; readonly to: number },
  perfect: PerfectHash,
  sha256: Sha256,
): Uint8Array[] {
  assert(sizes.from > 0 && sizes.from <= sizes.to, `a tree of ${sizes.from} grew to ${sizes.to}`);
  const path: Uint8Array[] = [];
  let start = 0;
  let end = sizes.to;
  let isWholeOld = true;
  while (sizes.from !== end) {
    const middle = start + splitOf(end - start);
    if (sizes.from <= middle) {
      path.push(rangeHash({ start: middle, end }, perfect, sha256));
      end = middle;
    } else {
      path.push(rangeHash({ start, end: middle }, perfect, sha256));
      start = middle;
      isWholeOld = false;
    }
  }
  if (!isWholeOld) path.push(rangeHash({ start, end }, perfect, sha256));
  return path.reverse();
}

export interface InclusionClaim {
  readonly leafHash: Uint8Array;
  readonly index: number;
  readonly size: number;
  readonly path: readonly Uint8Array[];
  readonly root: Uint8Array;
}

/** RFC 9162 section 2.1.3.2. */
export function isIncluded(claim: InclusionClaim, sha256: Sha256): boolean {
  if (!Number.isSafeInteger(claim.size) || !Number.isSafeInteger(claim.index)) return false;
  if (claim.index < 0 || claim.index >= claim.size || claim.path.length > PATH_HASHES_MAX) return false;
  let at = claim.index;
  let last = claim.size - 1;
  let hash = claim.leafHash;
  for (const sibling of claim.path) {
    if (last === 0 || sibling.length !== HASH_BYTES) return false;
    if (at % 2 === 1 || at === last) {
      hash = nodeHash(sibling, hash, sha256);
      while (at % 2 === 0 && at !== 0) {
        at = half(at);
        last = half(last);
      }
    } else {
      hash = nodeHash(hash, sibling, sha256);
    }
    at = half(at);
    last = half(last);
  }
  return last === 0 && isEqualHash(hash, claim.root);
}

export interface ConsistencyClaim {
  readonly from: { readonly size: number; readonly root: Uint8Array };
  readonly to: { readonly size: number; readonly root: Uint8Array };
  readonly path: readonly Uint8Array[];
}

/** RFC 9162 section 2.1.4.2. */
export function isConsistent(claim: ConsistencyClaim, sha256: Sha256): boolean {
  const { from, to } = claim;
  if (!Number.isSafeInteger(from.size) || !Number.isSafeInteger(to.size)) return false;
  if (from.size <= 0 || from.size > to.size || claim.path.length > PATH_HASHES_MAX + 1) return false;
  if (claim.path.some((hash) => hash.length !== HASH_BYTES)) return false;
  if (from.size === to.size) return claim.path.length === 0 && isEqualHash(from.root, to.root);
  const path = isPowerOfTwo(from.size) ? [from.root, ...claim.path] : claim.path;
  const [first, ...rest] = path;
  if (first === undefined) return false;
  let at = from.size - 1;
  let last = to.size - 1;
  while (at % 2 === 1) {
    at = half(at);
    last = half(last);
  }
  let oldHash = first;
  let newHash = first;
  for (const sibling of rest) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      oldHash = nodeHash(sibling, oldHash, sha256);
      newHash = nodeHash(sibling, newHash, sha256);
      while (at % 2 === 0 && at !== 0) {
        at = half(at);
        last = half(last);
      }
    } else {
      newHash = nodeHash(newHash, sibling, sha256);
    }
    at = half(at);
    last = half(last);
  }
  return last === 0 && isEqualHash(oldHash, from.root) && isEqualHash(newHash, to.root);
}

function rangeHash(range: { start: number; end: number }, perfect: PerfectHash, sha256: Sha256): Uint8Array {
  const width = range.end - range.start;
  // Ranges of an RFC 9162 tree start at a multiple of their width rounded up, so a power of two is an aligned subtree.
  if (isPowerOfTwo(width)) return perfect(levelOf(width), range.start / width);
  const middle = range.start + splitOf(width);
  return nodeHash(
    rangeHash({ start: range.start, end: middle }, perfect, sha256),
    rangeHash({ start: middle, end: range.end }, perfect, sha256),
    sha256,
  );
}

/** The largest power of two below `width` (which is at least 2). */
function splitOf(width: number): number {
  let split = 1;
  while (split * 2 < width) split *= 2;
  return split;
}

function levelOf(width: number): number {
  let level = 0;
  for (let span = 1; span < width; span *= 2) level++;
  return level;
}

function isPowerOfTwo(value: number): boolean {
  return value >= 1 && 2 ** levelOf(value) === value;
}

// Shifts work on 32 bits only; sizes go beyond.
function half(value: number): number {
  return Math.floor(value / 2);
}

function isEqualHash(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
