import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { deviceOf, GB, nodeFact } from "../../../test/support/placement-samples.ts";
import { modelId, type NodeId } from "../../domain/ids.ts";
import type { NodeFact } from "../../scheduler/placement/snapshot.ts";
import { type Asking, impossibility, Possible, type SizedModels } from "./possible.ts";

const NODES = 6;
const SMALL = modelId("small");
const LARGE = modelId("large");
const UNKNOWN = modelId("unknown");

/** The pool's promises: the same map until something changes, and each node as it is. */
class Nodes {
  #facts: ReadonlyMap<NodeId, NodeFact> = new Map();
  walks = 0;

  put(fact: NodeFact): void {
    this.#facts = new Map([...this.#facts, [fact.nodeId, fact]]);
  }
  drop(nodeId: NodeId): void {
    this.#facts = new Map([...this.#facts].filter(([id]) => id !== nodeId));
  }
  nodes(): ReadonlyMap<NodeId, NodeFact> {
    this.walks += 1;
    return this.#facts;
  }
  node(nodeId: NodeId): NodeFact | null {
    return this.#facts.get(nodeId) ?? null;
  }
}

const sizes = new Map([
  [SMALL, { fileBytes: GB, kvBytesPerToken: 10_000, contextTokensMax: 8_192 }],
  [LARGE, { fileBytes: 6 * GB, kvBytesPerToken: 200_000, contextTokensMax: 8_192 }],
]);
const models: SizedModels = {
  get: (id) => {
    const manifest = sizes.get(id);
    return manifest === undefined ? null : { manifest };
  },
};

const facts = fc.record({
  at: fc.nat(NODES - 1),
  state: fc.constantFrom<NodeFact["state"]>("online", "online", "suspect", "offline", "draining"),
  isYielding: fc.boolean(),
  gigabytes: fc.array(fc.constantFrom(1, 2, 7, 8, 12), { maxLength: 2 }),
  region: fc.constantFrom("eu", "us", null),
  trust: fc.option(fc.constantFrom(0.2, 0.9), { nil: undefined }),
  price: fc.option(fc.constantFrom(10, 1_000), { nil: undefined }),
});
const askings = fc
  .record({
    model: fc.constantFrom(SMALL, LARGE, UNKNOWN),
    tokens: fc.constantFrom(100, 3_000, 8_192, 8_193),
    constraints: fc.option(
      fc.record({
        regions: fc.option(fc.subarray(["eu", "us", "mars"])),
        trustMin: fc.option(fc.constant(0.5)),
        priceMicroUsdPerHourMax: fc.option(fc.constant(100)),
        excludedRegions: fc.subarray(["eu"]),
      }),
      { nil: undefined },
    ),
  })
  .map(
    ({ model, tokens, constraints }): Asking => ({
      modelId: model,
      terms: constraints === undefined ? {} : { constraints },
      tokensNeeded: () => tokens,
    }),
  );
const steps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: facts.map((fact) => ({ kind: "node" as const, fact })) },
    { weight: 1, arbitrary: fc.nat(NODES - 1).map((at) => ({ kind: "gone" as const, at })) },
    { weight: 6, arbitrary: askings.map((asking) => ({ kind: "ask" as const, asking })) },
  ),
  { minLength: 20, maxLength: 80 },
);

describe("whether a request can ever run", () => {
  test("is answered as a walk over all nodes would, word for word, while nodes come, change and go", () => {
    fc.assert(
      fc.property(steps, (list) => {
        const pool = new Nodes();
        const possible = new Possible({ models, pool });
        for (const step of list) {
          if (step.kind === "gone") pool.drop(nodeFact(step.at).nodeId);
          if (step.kind === "node") {
            const { at, gigabytes, trust, price, ...fact } = step.fact;
            const devices = gigabytes.map((count) => deviceOf(count * GB));
            const priced = price === undefined ? {} : { priceMicroUsdPerHour: price };
            pool.put(nodeFact(at, { ...fact, devices, ...priced, ...(trust === undefined ? {} : { trust }) }));
          }
          if (step.kind !== "ask") continue;
          const walked = impossibility(step.asking, { models, nodes: pool.nodes() });
          expect(possible.impossibility(step.asking)).toEqual(walked);
          expect(possible.impossibility(step.asking)).toEqual(walked);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("takes no walk while the node that said yes still can, whatever else changes", () => {
    const pool = new Nodes();
    const possible = new Possible({ models, pool });
    const asking: Asking = { modelId: SMALL, terms: {}, tokensNeeded: () => 100 };
    pool.put(nodeFact(0));
    expect(possible.impossibility(asking)).toBeNull();
    expect(pool.walks).toBe(1);
    for (let at = 1; at < NODES; at++) {
      pool.put(nodeFact(at));
      expect(possible.impossibility(asking)).toBeNull();
    }
    expect(pool.walks).toBe(1);
    pool.drop(nodeFact(0).nodeId);
    expect(possible.impossibility(asking)).toBeNull();
    expect(pool.walks).toBe(2);
  });
});

describe("a model that no node can hold alone", () => {
  const manifest = {
    ...{ fileBytes: 20 * GB, kvBytesPerToken: 100_000, contextTokensMax: 8_192 },
    ...{ architecture: "llama", layerCount: 20, parameterCount: 2e10, vocabSize: 32_000, embeddingLength: 4_096 },
  };
  const asking: Asking = { modelId: LARGE, terms: {}, tokensNeeded: () => 2_000 };
  const refusalOn = (nodes: readonly NodeFact[], architecture = "llama", needsWhole = false) => {
    const told: SizedModels = { get: () => ({ manifest: { ...manifest, architecture } }) };
    const facts = new Map(nodes.map((node) => [node.nodeId, node]));
    const possible = new Possible({
      models: told,
      pool: { nodes: () => facts, node: (nodeId) => facts.get(nodeId) ?? null },
    });
    // What other requests were answered says nothing of this one.
    possible.impossibility({ ...asking, needsWhole: !needsWhole });
    const first = possible.impossibility({ ...asking, needsWhole });
    // The second answer comes from memory.
    expect(possible.impossibility({ ...asking, needsWhole })).toEqual(first);
    return first;
  };
  const stages = [0, 1].map((at) => nodeFact(at, { devices: [deviceOf(14 * GB)], hasStageServing: true }));

  test("is possible when the nodes that serve stages hold it together", () => {
    expect(refusalOn(stages)).toBeNull();
  });

  test("is refused when they do not, or serve none, with that reason", () => {
    const message = (nodes: readonly NodeFact[]) => refusalOn(nodes)?.message;
    expect(message(stages.slice(1))).toMatch(
      /nor can the nodes that serve stages together: [0-9.]+ GB of memory are missing/,
    );
    expect(message([0, 1].map((at) => nodeFact(at, { devices: [deviceOf(14 * GB)] })))).toContain(
      "memory-too-small: 2",
    );
  });

  test("gives no embeddings: who asks for them is told so at once, and may ask where one node holds it", () => {
    const refusal = refusalOn(stages, "llama", true);
    expect(refusal).toMatchObject({ code: "invalid-request", param: "model", retryAfterMs: null });
    expect(refusal?.message).toContain("large runs in stages over several nodes");
    expect(refusalOn([...stages, nodeFact(2, { devices: [deviceOf(40 * GB)] })], "llama", true)).toBeNull();
    expect(refusalOn(stages.slice(1), "llama", true)?.code).toBe("no-capable-node");
  });

  test("is refused by the name of its architecture when that cannot be split", () => {
    expect(refusalOn(stages, "mamba")?.message).toContain("mamba of 20 layers cannot be split");
  });
});
