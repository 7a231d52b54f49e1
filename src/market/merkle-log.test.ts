import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { leafHash, nodeHash, type Sha256, treeRoot } from "../domain/merkle-tree.ts";
import { fromHex, toHex } from "./hex.ts";
import { consistencyPath, inclusionPath, isConsistent, isIncluded, type PerfectHash, rootOf } from "./merkle-log.ts";
import { MerkleTiles, TILE_LEAVES } from "./merkle-tiles.ts";

const sha256: Sha256 = (data) => new Uint8Array(createHash("sha256").update(data).digest());
const bytes = (hex: string) => fromHex(hex) ?? new Uint8Array(0);
const leafOf = (index: number) => leafHash(new TextEncoder().encode(`entry ${index}`), sha256);

/** The definition of RFC 9162 section 2.1.1, word for word. */
function naiveRoot(leaves: readonly Uint8Array[]): Uint8Array {
  const [only, ...rest] = leaves;
  if (only === undefined) return sha256(new Uint8Array(0));
  if (rest.length === 0) return only;
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return nodeHash(naiveRoot(leaves.slice(0, split)), naiveRoot(leaves.slice(split)), sha256);
}

const LEAVES = Array.from({ length: 80 }, (_, index) => leafOf(index));
const kept = new Map<string, Uint8Array>();
const once = (name: string, compute: () => Uint8Array) => {
  const hash = kept.get(name) ?? compute();
  kept.set(name, hash);
  return hash;
};
const perfect: PerfectHash = (level, index) =>
  once(`${level}/${index}`, () => naiveRoot(LEAVES.slice(index * 2 ** level, (index + 1) * 2 ** level)));
const rootAt = (size: number) => once(`root ${size}`, () => naiveRoot(LEAVES.slice(0, size)));

test("the root that one pass over the entries finds is that of the definition", () => {
  const entries = Array.from({ length: 300 }, (_, index) => new TextEncoder().encode(`entry ${index}`));
  for (let size = 0; size <= entries.length; size++) {
    const leaves = entries.slice(0, size).map((entry) => leafHash(entry, sha256));
    expect(toHex(treeRoot(entries.slice(0, size), sha256))).toBe(toHex(naiveRoot(leaves)));
  }
});

describe("the tree of RFC 9162", () => {
  test("gives the published hashes of Certificate Transparency's test tree", () => {
    const entries = [
      "",
      "00",
      "10",
      "2021",
      "3031",
      "40414243",
      "5051525354555657",
      "606162636465666768696a6b6c6d6e6f",
    ];
    const leaves = entries.map((entry) => leafHash(bytes(entry), sha256));
    const roots = [
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
      "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
      "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
      "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
      "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
      "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
      "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
      "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    const hashOf: PerfectHash = (level, index) => naiveRoot(leaves.slice(index * 2 ** level, (index + 1) * 2 ** level));
    expect(roots.map((_, size) => toHex(rootOf(size, hashOf, sha256)))).toEqual(roots);
  });

  test("proves every leaf in every size, with a path of the length that the tree has", () => {
    for (let size = 1; size <= LEAVES.length; size++) {
      for (let index = 0; index < size; index++) {
        const path = inclusionPath({ index, size }, perfect, sha256);
        expect(path.length).toBeLessThanOrEqual(Math.ceil(Math.log2(size)));
        expect(isIncluded({ leafHash: leafOf(index), index, size, path, root: rootAt(size) }, sha256)).toBe(true);
      }
    }
  });

  test("proves every growth", () => {
    for (let to = 1; to <= LEAVES.length; to++) {
      for (let from = 1; from <= to; from++) {
        const path = consistencyPath({ from, to }, perfect, sha256);
        const claim = { from: { size: from, root: rootAt(from) }, to: { size: to, root: rootAt(to) }, path };
        expect(isConsistent(claim, sha256)).toBe(true);
      }
    }
  });

  const spot = fc
    .integer({ min: 1, max: 80 })
    .chain((size) => fc.record({ size: fc.constant(size), index: fc.nat(size - 1) }));

  test("accepts no other leaf, place, size, root or path", () => {
    fc.assert(
      fc.property(spot, fc.nat(79), fc.nat(31), ({ size, index }, other, at) => {
        const path = inclusionPath({ index, size }, perfect, sha256);
        const claim = { leafHash: leafOf(index), index, size, path, root: rootAt(size) };
        const flip = (hash: Uint8Array) => hash.map((byte, position) => (position === at ? byte ^ 1 : byte));
        if (other !== index) {
          expect(isIncluded({ ...claim, leafHash: leafOf(other) }, sha256)).toBe(false);
          expect(isIncluded({ ...claim, index: other }, sha256)).toBe(false);
        }
        expect(isIncluded({ ...claim, root: flip(claim.root) }, sha256)).toBe(false);
        expect(isIncluded({ ...claim, path: [...path, leafOf(0)] }, sha256)).toBe(false);
        expect(isIncluded({ ...claim, path: path.slice(1) }, sha256)).toBe(path.length === 0);
        for (const [step, hash] of path.entries()) {
          expect(isIncluded({ ...claim, path: path.with(step, flip(hash)) }, sha256)).toBe(false);
          expect(isIncluded({ ...claim, path: path.with(step, hash.slice(1)) }, sha256)).toBe(false);
        }
        for (const [badIndex, badSize] of [
          [-1, size],
          [size, size],
          [0.5, size],
          [index, Number.NaN],
        ] as const) {
          expect(isIncluded({ ...claim, index: badIndex, size: badSize }, sha256)).toBe(false);
        }
      }),
    );
  });

  test("accepts no rewritten past", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 79 }), fc.integer({ min: 1, max: 80 }), fc.nat(100), (from, more, step) => {
        const to = Math.min(80, from + more);
        if (to === from) return;
        const path = consistencyPath({ from, to }, perfect, sha256);
        const claim = { from: { size: from, root: rootAt(from) }, to: { size: to, root: rootAt(to) }, path };
        const otherRoot = leafOf(999);
        expect(isConsistent({ ...claim, from: { size: from, root: otherRoot } }, sha256)).toBe(false);
        expect(isConsistent({ ...claim, to: { size: to, root: otherRoot } }, sha256)).toBe(false);
        expect(isConsistent({ ...claim, path: [...path, otherRoot] }, sha256)).toBe(false);
        expect(isConsistent({ ...claim, path: path.with(step % path.length, otherRoot) }, sha256)).toBe(false);
        expect(isConsistent({ ...claim, path: path.slice(1) }, sha256)).toBe(false);
      }),
    );
  });
});

describe("tiles", () => {
  test("give the same root and proofs as the whole tree, over tile borders", () => {
    const size = 3 * TILE_LEAVES + 70;
    const leaves = Array.from({ length: size }, (_, index) => leafOf(index));
    const tiles = new MerkleTiles(sha256);
    const checked = new Set([1, 2, 255, 256, 257, 511, 512, 513, 767, 768, 769, size]);
    for (const [index, leaf] of leaves.entries()) {
      tiles.append(leaf);
      if (!checked.has(index + 1)) continue;
      const root = naiveRoot(leaves.slice(0, index + 1));
      expect(toHex(tiles.root())).toBe(toHex(root));
      for (const at of [0, 1, 255, 256, 300, 511, 512, 767, 768, index].filter((one) => one <= index)) {
        const range = tiles.tileOf(at);
        const path = tiles.inclusion(at, range === null ? null : leaves.slice(range.from, range.to));
        expect(isIncluded({ leafHash: leafOf(at), index: at, size: index + 1, path, root }, sha256)).toBe(true);
      }
    }
  });

  test("say which leaves they need back", () => {
    const tiles = new MerkleTiles(sha256);
    for (let index = 0; index < TILE_LEAVES + 5; index++) tiles.append(leafOf(index));
    expect(tiles.tileOf(7)).toEqual({ from: 0, to: TILE_LEAVES });
    expect(tiles.tileOf(TILE_LEAVES + 1)).toBeNull();
    expect(() => tiles.inclusion(7, null)).toThrow("was fetched");
    expect(() => tiles.tileOf(TILE_LEAVES + 5)).toThrow("is in a log of");
  });
});
