import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChunkSet } from "../../domain/chunk-set.ts";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import type { LinkEstimate } from "../network/link-table.ts";
import { type HolderCandidate, RANKED_HOLDERS_MAX, rankHolders } from "./rank-holders.ts";

const node = (number: number): NodeId => nodeId(`node_${number.toString(16).padStart(32, "0")}`);
const COUNT = 64;
const link = (rttMs: number, bytesPerSecond: number): LinkEstimate => ({
  rttMs,
  bytesPerSecond,
  lossShare: 0,
  confidence: 1,
  basis: "measured",
});
const candidate = (number: number, more: Partial<HolderCandidate> = {}): HolderCandidate => ({
  nodeId: node(number),
  chunks: ChunkSet.full(COUNT),
  network: `net ${number}`,
  link: null,
  uploads: 0,
  uploadsMax: 4,
  isWaitedFor: false,
  ...more,
});
const question = { nodeId: node(0), network: "home", need: ChunkSet.full(COUNT), isIdle: false };
const rank = (candidates: readonly HolderCandidate[], more: Partial<typeof question> = {}) =>
  rankHolders({ ...question, ...more }, candidates).map((id) => Number.parseInt(id.slice(-8), 16));

describe("holders are ranked", () => {
  test("own network first, then by the time that a chunk takes", () => {
    const far = candidate(1, { link: link(150, 5_000_000) });
    const wide = candidate(2, { link: link(40, 100_000_000) });
    const home = candidate(3, { network: "home", link: link(1, 50_000_000), uploads: 1 });
    const unknown = candidate(4);
    expect(rank([far, wide, home, unknown])).toEqual([3, 2, 4, 1]);
  });

  test("the free before the busy, the busy before the full, when the ways are alike", () => {
    const way = { link: link(10, 10_000_000) };
    expect(
      rank([candidate(1, { ...way, uploads: 4 }), candidate(2, { ...way, uploads: 2 }), candidate(3, way)]),
    ).toEqual([3, 2, 1]);
  });

  test("and left out when they serve nobody, have nothing that is needed, or are the node itself", () => {
    const need = ChunkSet.of(COUNT, [[5, 1]]);
    const other = candidate(2, { chunks: ChunkSet.of(COUNT, [[6, 10]]) });
    expect(rank([candidate(0), candidate(1, { uploadsMax: 0 }), other, candidate(3)], { need })).toEqual([3]);
  });

  test("without those that others wait for, when chunks are brought ahead of need", () => {
    const some = [candidate(1, { isWaitedFor: true }), candidate(2, { uploads: 4 }), candidate(3, { uploads: 1 })];
    expect(rank(some, { isIdle: true })).toEqual([3]);
    expect(rank(some)).toHaveLength(3);
  });

  test("with those who alone have a needed chunk among the bounded many, however far they are", () => {
    const common = ChunkSet.of(COUNT, [[0, 60]]);
    const near = Array.from({ length: 100 }, (_, at) =>
      candidate(at + 1, { chunks: common, link: link(1 + at, 50_000_000) }),
    );
    const rare = candidate(200, { chunks: ChunkSet.of(COUNT, [[60, 4]]), link: link(400, 100_000) });
    const ranked = rank([rare, ...near]);
    expect(ranked).toHaveLength(RANKED_HOLDERS_MAX);
    expect(ranked.slice(0, 31)).toEqual(Array.from({ length: 31 }, (_, at) => at + 1));
    expect(ranked.at(-1)).toBe(200);
  });

  test("law: the same whatever the order in which they are given", () => {
    const some = fc.array(
      fc.record({ rttMs: fc.integer({ min: 1, max: 3 }), uploads: fc.nat(5), near: fc.boolean() }),
      { maxLength: 60, size: "max" },
    );
    fc.assert(
      fc.property(some, fc.nat(), (drawn, turn) => {
        const candidates = drawn.map(({ rttMs, uploads, near }, at) =>
          candidate(at + 1, { link: link(rttMs, 1e7), uploads, network: near ? "home" : null }),
        );
        const cut = turn % Math.max(1, candidates.length);
        expect(rank([...candidates.slice(cut), ...candidates.slice(0, cut)])).toEqual(rank(candidates));
      }),
    );
  });
});
