import { describe, expect, test } from "vitest";
import { deviceOf as device, GB, nodeFact as node } from "../../../test/support/placement-samples.ts";
import { capableNodes } from "./capable-nodes.ts";
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
