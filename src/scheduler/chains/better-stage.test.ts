import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type NodeId, nodeId } from "../../domain/ids.ts";
import {
  type BetterCandidate,
  type BetterStage,
  type BetterStageQuestion,
  badnessOf,
  betterStage,
  type ServingStage,
} from "./better-stage.ts";

const GB = 1e9;
const named = (index: number): NodeId => nodeId(`node_${String(index).padStart(32, "0")}`);

/** A world: nodes with true times and chances, and the same way between all of them unless a test says otherwise. */
interface TrueNode {
  readonly layerMs: number;
  readonly stayChance: number;
  readonly farMs: number;
  readonly storedGb: number;
  readonly freeGb: number;
}

const plain: TrueNode = { layerMs: 1, stayChance: 0.95, farMs: 2, storedGb: 4, freeGb: 8 };
const COUNT = 4;

/** One chain over `members`; everything was measured as it is. */
function questionOf(nodes: readonly TrueNode[], members: readonly number[]): BetterStageQuestion {
  const at = (index: number) => nodes[index] ?? plain;
  const known = new Map(nodes.map((one, index) => [named(index), one]));
  const hopSeconds = (from: NodeId, to: NodeId) => {
    return ((known.get(from)?.farMs ?? 0) + (known.get(to)?.farMs ?? 0)) / 1_000;
  };
  const outside = [...nodes.keys()].filter((index) => !members.includes(index));
  const candidates = outside.map((index): BetterCandidate => {
    const { layerMs, stayChance, storedGb, freeGb } = at(index);
    const seen = { layerSeconds: layerMs / 1_000, weight: 1 };
    const [storedBytes, freeBytes] = [storedGb * GB, freeGb * GB];
    return {
      nodeId: named(index),
      obstacle: null,
      freeBytes,
      storedBytes,
      stayChance,
      modelledLayerSeconds: 0.001,
      seen,
    };
  });
  const stages = members.map((index, place): ServingStage => {
    const { layerMs, stayChance } = at(index);
    return {
      nodeId: named(index),
      count: COUNT,
      memoryBytes: 6 * GB,
      weightsBytes: 4 * GB,
      stayChance,
      measuredSeconds: (COUNT * layerMs) / 1_000,
      modelledSeconds: COUNT * 0.001,
      measuredHopSeconds: hopSeconds(named(index), named(members[(place + 1) % members.length] ?? 0)),
      candidates,
    };
  });
  return { stages, hopSeconds };
}

function moved(members: readonly number[], { at, nodeId: to }: BetterStage): readonly number[] {
  return members.with(at, Number(to.slice(5)));
}

describe("a stage moves", () => {
  const chain = [plain, plain, plain];
  const ask = (third: Partial<TrueNode>, outside: Partial<TrueNode> = {}) => {
    return betterStage(questionOf([plain, plain, { ...plain, ...third }, { ...plain, ...outside }], [0, 1, 2]));
  };

  test("to nobody when all are alike, or the other is only a little better", () => {
    expect(betterStage(questionOf([...chain, plain], [0, 1, 2]))).toBeNull();
    expect(ask({ layerMs: 1.5, stayChance: 0.93 })).toBeNull();
  });

  test("off a node that is far slower than the others, and off one that is far away", () => {
    expect(ask({ layerMs: 6 })).toMatchObject({ at: 2, nodeId: named(3), fetchBytes: 0, why: "quicker" });
    expect(ask({ farMs: 20 })).toMatchObject({ at: 2, why: "quicker" });
  });

  test("to a node that stays, off one that goes", () => {
    expect(ask({ stayChance: 0.4 })).toMatchObject({ at: 2, why: "stays-longer" });
    expect(ask({ stayChance: 0.4 }, { layerMs: 4 })).toBeNull();
  });

  test("not where there is no room, nor for a gain that the bytes are not worth", () => {
    expect(ask({ layerMs: 6 }, { freeGb: 5 })).toBeNull();
    expect(ask({ layerMs: 2.7 })).not.toBeNull();
    expect(ask({ layerMs: 2.7 }, { storedGb: 0 })).toBeNull();
    const taken = questionOf([plain, plain, { ...plain, layerMs: 6 }, plain], [0, 1, 2]);
    const stages = taken.stages.map((stage) => {
      return { ...stage, candidates: stage.candidates.map((one) => ({ ...one, obstacle: "node-yielding" as const })) };
    });
    expect(betterStage({ ...taken, stages })).toBeNull();
  });

  test("not because models of speed and ways are too fair: what holds for the chain is taken to hold for the others", () => {
    const fair = questionOf([...chain, plain], [0, 1, 2]);
    const stages = fair.stages.map((stage) => ({
      ...stage,
      measuredSeconds: 10 * (stage.measuredSeconds ?? 0),
      measuredHopSeconds: 10 * (stage.measuredHopSeconds ?? 0),
      candidates: stage.candidates.map((one) => ({ ...one, seen: null })),
    }));
    expect(betterStage({ ...fair, stages })).toBeNull();
    const [first, ...rest] = stages;
    const slow = first === undefined ? [] : [{ ...first, measuredSeconds: 10 * (first.measuredSeconds ?? 0) }, ...rest];
    expect(betterStage({ ...fair, stages: slow })).toMatchObject({ at: 0, why: "quicker" });
  });

  test("not to where the way is not known", () => {
    const { stages } = questionOf([plain, plain, { ...plain, layerMs: 6 }, plain], [0, 1, 2]);
    expect(betterStage({ stages, hopSeconds: () => null })).toBeNull();
  });
});

describe("whatever the nodes are like", () => {
  const node: fc.Arbitrary<TrueNode> = fc.record({
    layerMs: fc.constantFrom(0.2, 0.5, 1, 1.1, 2, 8, 50),
    stayChance: fc.constantFrom(0, 0.3, 0.6, 0.9, 0.95, 0.99, 1),
    farMs: fc.constantFrom(0, 0.2, 1, 5, 40),
    storedGb: fc.constantFrom(0, 2, 4),
    freeGb: fc.constantFrom(5, 6, 24),
  });
  const worlds = fc.record({
    nodes: fc.array(node, { minLength: 3, maxLength: 9 }),
    stages: fc.integer({ min: 2, max: 5 }),
  });

  test("no move predicts what is worse, and what it predicts is what comes", () => {
    fc.assert(
      fc.property(worlds, ({ nodes, stages }) => {
        const members = [...nodes.keys()].slice(0, Math.min(stages, nodes.length - 1));
        const move = betterStage(questionOf(nodes, members));
        if (move === null) return;
        const { now, then, why } = move;
        expect(badnessOf(then)).toBeLessThan(badnessOf(now));
        if (why === "quicker") expect(then.loopSeconds).toBeLessThanOrEqual(0.8 * now.loopSeconds);
        else expect(then.lossChance).toBeLessThanOrEqual(0.5 * now.lossChance);
        expect(then.slowestSeconds).toBeLessThanOrEqual(1.05 * now.slowestSeconds);
        const next = betterStage(questionOf(nodes, moved(members, move)));
        if (next === null) return;
        expect(next.now.loopSeconds).toBeCloseTo(then.loopSeconds, 9);
        expect(next.now.lossChance).toBeCloseTo(then.lossChance, 9);
      }),
      { numRuns: 500 },
    );
  });

  test("a move is not taken back, and moves come to an end", () => {
    fc.assert(
      fc.property(worlds, ({ nodes, stages }) => {
        let members: readonly number[] = [...nodes.keys()].slice(0, Math.min(stages, nodes.length - 1));
        const been = new Set([members.join()]);
        for (;;) {
          const move = betterStage(questionOf(nodes, members));
          if (move === null) return;
          const left = members[move.at] ?? 0;
          members = moved(members, move);
          expect(been.has(members.join())).toBe(false);
          been.add(members.join());
          const after = questionOf(nodes, members);
          const onlyBack = after.stages.map((stage, at) => ({
            ...stage,
            candidates: stage.candidates.filter((one) => at === move.at && one.nodeId === named(left)),
          }));
          expect(betterStage({ ...after, stages: onlyBack })).toBeNull();
        }
      }),
      { numRuns: 500 },
    );
  });
});
