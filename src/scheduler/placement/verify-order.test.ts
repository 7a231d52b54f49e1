import { describe, expect, test } from "vitest";
import { deviceOf, GB, nodeFact, nodeNamed, readyReplica, weightsOf } from "../../../test/support/placement-samples.ts";
import { modelId } from "../../domain/ids.ts";
import { type LoadOrder, pairKey, type UnloadOrder } from "./plan-question.ts";
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
