import { describe, expect, test } from "vitest";
import {
  GB,
  gpuOf,
  plannedModel as model,
  nodeFact as node,
  nodeNamed,
  planQuestion,
  weightsOf,
} from "../../../test/support/placement-samples.ts";
import { planPlacement } from "./plan-placement.ts";
import type { NodeFact } from "./snapshot.ts";

const plan = (asked: Parameters<typeof planQuestion>[0]) => planPlacement(planQuestion(asked));

describe("speed", () => {
  const card = (name: string, change: Partial<NodeFact> = {}) => ({
    devices: [gpuOf(24 * GB, { name })],
    decodeTokPerSecond: 1_000,
    ...change,
  });
  const big = [model("a", { fileBytes: 8 * GB })];
  const told = (nodes: readonly NodeFact[]) => plan({ nodes, models: big }).models[0]?.replicas[0];

  test("of two cards the faster one is chosen by its name, and an unknown one is not preferred", () => {
    const slow = node(0, card("Tesla T4"));
    const fast = node(1, card("NVIDIA GeForce RTX 4090"));
    const unknown = node(2, card("some GPU"));
    expect(told([slow, fast, unknown])).toMatchObject({ nodeIds: [nodeNamed(1)], speed: { source: "modelled" } });
    expect(told([slow, unknown])).toMatchObject({ nodeIds: [nodeNamed(0)] });
    expect(told([unknown])).toMatchObject({ speed: { source: "neutral", attempts: 0 } });
  });

  test("what a node did with the file outweighs its card's name, and only for this file and device", () => {
    const seen = { deviceId: "cuda0", weightsSha256: weightsOf("a"), tokenSeconds: 0.5, count: 40 };
    const fast = (observed: typeof seen) => node(1, card("NVIDIA GeForce RTX 4090", { observedSpeeds: [observed] }));
    const slow = node(0, card("Tesla T4"));
    expect(told([slow, fast(seen)])).toMatchObject({ nodeIds: [nodeNamed(0)] });
    expect(told([fast(seen)])).toMatchObject({ speed: { source: "observed", attempts: 40 } });
    expect(told([slow, fast({ ...seen, weightsSha256: weightsOf("b") })])).toMatchObject({ nodeIds: [nodeNamed(1)] });
    expect(told([slow, fast({ ...seen, deviceId: "cuda1" })])).toMatchObject({ nodeIds: [nodeNamed(1)] });
  });

  test("of equal nodes the nearer one is chosen", () => {
    const nodes = [node(0, card("Tesla T4", { rttMs: 300 })), node(1, card("Tesla T4", { rttMs: 10 }))];
    expect(told(nodes)).toMatchObject({ nodeIds: [nodeNamed(1)] });
  });
});
