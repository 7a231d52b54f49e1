import { describe, expect, test } from "vitest";
import { deviceOf as device, GB, nodeFact as node } from "../../../test/support/placement-samples.ts";
import { canChain, capableNodes, chainShortageBytes } from "./capable-nodes.ts";
import type { NodeFact } from "./snapshot.ts";

const model = { fileBytes: GB, kvBytesPerToken: 10_000, contextTokensMax: 4_096 };

describe("capableNodes", () => {
  const nodes = (...facts: NodeFact[]) => new Map(facts.map((fact) => [fact.nodeId, fact]));
  test("tells nodes that could from those that might come back and those that cannot", () => {
    const found = capableNodes({
      nodes: nodes(
        node(0),
        node(1, { state: "suspect" }),
        node(2, { devices: [device(GB)] }),
        node(3, { devices: [] }),
      ),
      model,
      tokensNeeded: 4_000,
    });
    expect(found).toMatchObject({ capable: 1, mayReturn: 1 });
    expect(Object.fromEntries(found.losers)).toEqual({ "node-suspect": 1, "memory-too-small": 2 });
  });

  test("a context that no device can hold is no capacity", () => {
    const found = capableNodes({ nodes: nodes(node(0)), model, tokensNeeded: 4_097 });
    expect(found).toMatchObject({ capable: 0, losers: new Map([["context-too-small", 1]]) });
  });
});

describe("canChain", () => {
  const large = { fileBytes: 20 * GB, kvBytesPerToken: 100_000, contextTokensMax: 4_096, layerCount: 20 };
  const stageNode = (index: number, gigabytes: number, change: Partial<NodeFact> = {}) =>
    node(index, { devices: [device(gigabytes * GB)], hasStageServing: true, ...change });
  const ask = (
    facts: readonly NodeFact[],
    change: { tokensNeeded?: number; stagesMax?: number; model?: object } = {},
  ) => canChain({ tokensNeeded: 2_000, stagesMax: 4, nodes: facts, ...change, model: { ...large, ...change.model } });

  test("says how much memory is missing, at least", () => {
    const short = (facts: readonly NodeFact[], tokensNeeded = 2_000) =>
      chainShortageBytes({ tokensNeeded, stagesMax: 4, nodes: facts, model: large });
    expect(short([stageNode(0, 12), stageNode(1, 12)])).toBe(0);
    const [less, more] = [short([stageNode(0, 12), stageNode(1, 5)]), short([stageNode(0, 12), stageNode(1, 8)])];
    expect(less).toBeGreaterThan(more);
    expect(more).toBeGreaterThan(0);
    expect(less).toBeLessThan(8 * GB);
    expect(short([])).toBeGreaterThan(large.fileBytes);
    expect(short([stageNode(0, 12), stageNode(1, 12)], 4_097)).toBe(Number.POSITIVE_INFINITY);
  });

  test("says yes when the nodes that serve stages hold the layers together", () => {
    expect(ask([stageNode(0, 12), stageNode(1, 12)])).toBe(true);
    expect(ask([stageNode(0, 12), stageNode(1, 12, { state: "suspect" })])).toBe(true);
  });

  test.each([
    ["too small together", [stageNode(0, 12), stageNode(1, 5)], {}],
    ["one alone", [stageNode(0, 40)], {}],
    ["one serves whole models only", [stageNode(0, 12), stageNode(1, 12, { hasStageServing: false })], {}],
    ["one takes no work", [stageNode(0, 12), stageNode(1, 12, { isYielding: true })], {}],
    ["a longer context than the model's", [stageNode(0, 12), stageNode(1, 12)], { tokensNeeded: 4_097 }],
    ["more stages than allowed", Array.from({ length: 5 }, (_, at) => stageNode(at, 5)), {}],
    [
      "ends that take what is left",
      [stageNode(0, 12), stageNode(1, 12)],
      { model: { ends: { embeddingBytes: 4 * GB, outputBytes: 4 * GB }, fileBytes: 24 * GB } },
    ],
  ] as const)("says no: %s", (_, facts, change) => {
    expect(ask(facts, change)).toBe(false);
  });
});
