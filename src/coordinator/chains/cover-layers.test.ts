import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nodeId, replicaId } from "../../domain/ids.ts";
import { coverLayers, type LooseStage, partialCover } from "./cover-layers.ts";

const stage = (at: number, node: number, range: readonly [first: number, count: number]): LooseStage => ({
  replicaId: replicaId(`rep_${String(at).padStart(26, "0")}`),
  nodeId: nodeId(`node_${String(node).padStart(32, "0")}`),
  first: range[0],
  count: range[1],
});

describe("a chain of stages that are there", () => {
  test("needs every layer once", () => {
    expect(coverLayers([stage(0, 0, [0, 4]), stage(1, 1, [5, 3])], 8)).toBeNull();
    expect(coverLayers([stage(0, 0, [0, 5]), stage(1, 1, [4, 4])], 8)).toBeNull();
    expect(coverLayers([stage(0, 0, [0, 8])], 8)).toBeNull();
  });

  test("takes no node twice, and finds a way around one that leads nowhere", () => {
    const stages = [stage(0, 0, [0, 6]), stage(1, 0, [6, 2]), stage(2, 1, [0, 4]), stage(3, 2, [4, 4])];
    expect(coverLayers(stages, 8)?.map(({ first }) => first)).toEqual([0, 4]);
  });

  test("any split of the layers over as many nodes is found among stages of others", () => {
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 31 }), { minLength: 1, maxLength: 6 });
    const noise = fc.array(
      fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 31 }), fc.integer({ min: 1, max: 8 })),
      {
        maxLength: 12,
      },
    );
    fc.assert(
      fc.property(cuts, noise, (drawn, others) => {
        const ends = [0, ...drawn.sort((a, b) => a - b), 32];
        const split = drawn.concat(32).map((end, at) => stage(at, 100 + at, [ends[at] ?? 0, end - (ends[at] ?? 0)]));
        const loose = [...split, ...others.map(([node, first, count], at) => stage(50 + at, node, [first, count]))];
        const found = coverLayers(loose, 32) ?? [];
        expect(found.reduce((next, { first, count }) => (first === next ? next + count : -1), 0)).toBe(32);
        expect(new Set(found.map((one) => one.nodeId)).size).toBe(found.length);
      }),
    );
  });
});

describe("what is left of a chain", () => {
  test("keeps the stages in their places, with the gaps between", () => {
    const left = [stage(2, 2, [6, 2]), stage(0, 0, [0, 3])];
    expect(
      partialCover(left, 8)?.map(({ first, count, stage: held }) => [first, count, held?.replicaId ?? null]),
    ).toEqual([
      [0, 3, left[1]?.replicaId],
      [3, 3, null],
      [6, 2, left[0]?.replicaId],
    ]);
    expect(partialCover([stage(0, 0, [0, 4]), stage(1, 1, [4, 4])], 8)).toBeNull();
    expect(partialCover([], 8)).toBeNull();
  });

  test("has every layer once and no node twice, whatever is there", () => {
    const ranges = fc.array(fc.tuple(fc.nat(6), fc.nat(31), fc.integer({ min: 1, max: 12 })), { maxLength: 8 });
    fc.assert(
      fc.property(ranges, (drawn) => {
        const there = drawn.map(([node, first, count], at) => stage(at, node, [first, Math.min(count, 32 - first)]));
        const parts = partialCover(there, 32);
        if (parts === null) return;
        let next = 0;
        for (const { first, count, stage: held } of parts) {
          expect(first).toBe(next);
          if (held !== null) expect([held.first, held.count]).toEqual([first, count]);
          next = first + count;
        }
        expect(next).toBe(32);
        const nodes = parts.flatMap(({ stage: held }) => held?.nodeId ?? []);
        expect(new Set(nodes).size).toBe(nodes.length);
      }),
    );
  });
});
