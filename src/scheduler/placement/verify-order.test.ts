import { describe, expect, test } from "vitest";
import { deviceOf, GB, nodeFact, nodeNamed, readyReplica, weightsOf } from "../../../test/support/placement-samples.ts";
import { modelId } from "../../domain/ids.ts";
import { type ChainOrder, type LoadOrder, pairKey, type UnloadOrder } from "./plan-question.ts";
import type { NodeFact, ReplicaFact } from "./snapshot.ts";
import { orderObstacle } from "./verify-order.ts";

const load: LoadOrder = {
  kind: "load",
  nodeId: nodeNamed(0),
  modelId: modelId("a"),
  deviceId: "cpu",
  weightsSha256: weightsOf("a"),
  size: { contextTokens: 4_096, sequencesMax: 4, memoryBytes: 2 * GB },
  why: "demand",
  movedBytes: GB,
};

function obstacleTo(
  order: LoadOrder | UnloadOrder,
  now: { node?: NodeFact | null; held?: readonly ReplicaFact[]; notBeforeMs?: ReadonlyMap<string, number> },
) {
  const { node = nodeFact(0), held = [], notBeforeMs = new Map() } = now;
  return orderObstacle(order, { node: () => node ?? undefined, replicasOn: () => held, notBeforeMs, nowMs: 1_000 });
}

describe("an order to load", () => {
  test("stands while the node has room and takes work", () => {
    expect(obstacleTo(load, {})).toBeNull();
  });

  test.each([
    ["no-node", { node: null }],
    ["node-yielding", { node: nodeFact(0, { isYielding: true }) }],
    ["node-offline", { node: nodeFact(0, { state: "offline" }) }],
    ["replica-here-already", { held: [readyReplica(0, { memoryBytes: 1 })] }],
    ["memory-too-small", { held: [readyReplica(0, { modelId: modelId("b"), memoryBytes: 3 * GB })] }],
    ["memory-too-small", { node: nodeFact(0, { devices: [deviceOf(8 * GB, { deviceId: "cuda0" })] }) }],
    ["memory-too-small", { node: nodeFact(0, { devices: [deviceOf(4 * GB, { reserveBytes: 3 * GB })] }) }],
    ["load-failed-recently", { notBeforeMs: new Map([[pairKey(nodeNamed(0), modelId("a")), 1_001]]) }],
  ] as const)("falls with %s", (obstacle, now) => {
    expect(obstacleTo(load, now)).toBe(obstacle);
  });

  test("does not count what failed or is gone", () => {
    const held = [readyReplica(0, { state: "failed" }), readyReplica(1, { state: "gone" })];
    expect(obstacleTo(load, { held })).toBeNull();
  });
});

test("an order to unload falls when the replica works or is not there", () => {
  const { replicaId, nodeId } = readyReplica(0);
  const unload: UnloadOrder = { kind: "unload", nodeId, replicaId, modelId: modelId("a"), why: "idle" };
  expect(obstacleTo(unload, { held: [readyReplica(0)] })).toBeNull();
  expect(obstacleTo(unload, { held: [readyReplica(0, { slotsLeased: 1 })] })).toBe("replica-in-use");
  expect(obstacleTo(unload, {})).toBe("replica-unknown");
});

describe("an order for a chain", () => {
  const chain: ChainOrder = {
    kind: "load-chain",
    modelId: modelId("a"),
    weightsSha256: weightsOf("a"),
    stages: [0, 1].map((at) => ({
      nodeId: nodeNamed(at),
      deviceId: "cpu",
      first: 4 * at,
      count: 4,
      memoryBytes: 2 * GB,
    })),
    sequencesMax: 4,
    contextTokens: 4_096,
    why: "warm",
    movedBytes: 0,
  };
  const stands = (nodes: readonly NodeFact[], held: readonly ReplicaFact[] = [], order = chain) =>
    orderObstacle(order, {
      node: (id) => nodes.find(({ nodeId }) => nodeId === id),
      replicasOn: (id) => held.filter(({ nodeId }) => nodeId === id),
      notBeforeMs: new Map(),
      nowMs: 1_000,
    });
  const both = [nodeFact(0, { hasStageServing: true }), nodeFact(1, { hasStageServing: true })];

  test("stands while each of its nodes has room and takes work", () => {
    expect(stands(both)).toBeNull();
  });

  test("falls with any of its stages", () => {
    expect(stands(both.slice(0, 1))).toBe("no-node");
    expect(stands([nodeFact(0), nodeFact(1, { isYielding: true })])).toBe("node-yielding");
    expect(stands([nodeFact(0), nodeFact(1, { hasStageServing: false })])).toBe("serves-no-stages");
    const spare = readyReplica(1, { memoryBytes: 1, stage: { chainId: null, first: 0, count: 4, isLast: false } });
    expect(stands(both, [spare])).toBe("replica-here-already");
    expect(stands(both, [readyReplica(0, { modelId: modelId("b"), memoryBytes: 3 * GB })])).toBe("memory-too-small");
  });

  test("falls when one node would hold two of its stages", () => {
    const stages = chain.stages.map((stage) => ({ ...stage, nodeId: nodeNamed(0) }));
    expect(stands(both, [], { ...chain, stages })).toBe("replica-here-already");
  });
});
