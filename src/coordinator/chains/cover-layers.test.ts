import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nodeId, replicaId } from "../../domain/ids.ts";
import { coverLayers, type LooseStage } from "./cover-layers.ts";

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
