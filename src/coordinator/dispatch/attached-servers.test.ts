import { describe, expect, test } from "vitest";
import { ATTACHED_DEVICE_ID, type EngineAbility } from "../../domain/attached-engine.ts";
import type { NodeId } from "../../domain/ids.ts";
import { modelId, nodeId } from "../../domain/ids.ts";
import { pairKey } from "../../scheduler/placement/plan-question.ts";
import { backoffKey, type HeldEngine, nodesLacking } from "./attached-servers.ts";

const NODES = [1, 2, 3].map((index) => nodeId(`node_${String(index).repeat(32)}`));
const [ONE, TWO, THREE] = NODES;
const MODEL = modelId("tiny");
const OTHER = modelId("other");

function held(node: NodeId | undefined, lacks: readonly EngineAbility[], more: Partial<HeldEngine> = {}): HeldEngine {
  return { nodeId: node ?? nodeId(""), modelId: MODEL, report: { state: "ready", lacks: [...lacks] }, ...more };
}

function lacking(needs: readonly EngineAbility[], all: readonly (HeldEngine & { isOwn?: boolean })[]) {
  const others = (node: NodeId) => all.filter((one) => one.nodeId === node);
  return [...nodesLacking({ modelId: MODEL, needs }, { attached: all.filter(({ isOwn }) => isOwn !== true), others })];
}

describe("a node lacks what a request needs", () => {
  test("when its server does, and no other replica of the model there is better", () => {
    const all = [held(ONE, ["grammar"]), held(TWO, []), held(THREE, ["grammar"]), { ...held(THREE, []), isOwn: true }];
    expect(lacking(["grammar"], all)).toEqual([ONE]);
    expect(lacking(["logprobs"], all)).toEqual([]);
    expect(lacking([], all)).toEqual([]);
  });

  test("while its server is only loading, and nobody knows what it can", () => {
    expect(lacking(["grammar"], [held(ONE, [], { report: { state: "loading" } })])).toEqual([ONE]);
    expect(lacking(["grammar"], [held(ONE, [], { report: null })])).toEqual([ONE]);
  });

  test("not because of what it lacks for another model", () => {
    expect(lacking(["grammar"], [held(ONE, ["grammar"], { modelId: OTHER })])).toEqual([]);
  });
});

test("a load that fails on a server does not keep the model from the node's own devices", () => {
  const load = { nodeId: ONE ?? nodeId(""), modelId: MODEL };
  expect(backoffKey({ ...load, deviceId: "cpu" })).toBe(pairKey(load.nodeId, MODEL));
  expect(backoffKey({ ...load, deviceId: ATTACHED_DEVICE_ID })).not.toBe(pairKey(load.nodeId, MODEL));
});
