import { expect, test } from "vitest";
import {
  deviceOf,
  GB,
  gpuOf,
  nodeFact,
  nodeNamed,
  plannedModel,
  planQuestion,
} from "../../../test/support/placement-samples.ts";
import { planPlacement } from "./plan-placement.ts";
import type { LinkFact, NodeFact } from "./snapshot.ts";

const LARGE = plannedModel("a", { fileBytes: 20 * GB, layerCount: 32, contextTokensMax: 4_096 });
const lan = (to: number): LinkFact => ({ to: nodeNamed(to), rttMs: 0.4, bytesPerSecond: 1.25e9 });
const wan = (to: number): LinkFact => ({ to: nodeNamed(to), rttMs: 40, bytesPerSecond: 125e6 });
const stage = (index: number, links: readonly LinkFact[]): NodeFact =>
  nodeFact(index, { devices: [gpuOf(16 * GB)], decodeTokPerSecond: 1_000, hasStageServing: true, links });
const placed = (nodes: readonly NodeFact[]) => {
  const plan = planPlacement(planQuestion({ nodes, models: [LARGE] }));
  return { orders: plan.orders, replicas: plan.models[0]?.replicas ?? [], losers: plan.models[0]?.losers ?? [] };
};

test("a model that fits no node goes over a LAN's nodes before it goes over a wide-area link", () => {
  const nodes = [stage(0, [wan(1), wan(2)]), stage(1, [lan(2), wan(0)]), stage(2, [lan(1), wan(0)])];
  const { replicas, orders } = placed(nodes);
  expect(replicas).toMatchObject([{ kind: "lan-group" }]);
  expect([...(replicas[0]?.nodeIds ?? [])].sort()).toEqual([nodeNamed(1), nodeNamed(2)]);
  expect(orders).toEqual([]);
});

test("over a chain where no LAN holds it", () => {
  const { replicas, orders } = placed([stage(0, [wan(1)]), stage(1, [wan(0)])]);
  expect(replicas).toMatchObject([{ kind: "chain" }]);
  expect(replicas[0]?.nodeIds).toHaveLength(2);
  expect(orders).toEqual([]);
});

test("over none when the nodes serve no stages, which is counted", () => {
  const nodes = [0, 1].map((index) => nodeFact(index, { devices: [deviceOf(16 * GB)] }));
  const { replicas, losers } = placed(nodes);
  expect(replicas).toEqual([]);
  expect(Object.fromEntries(losers)).toMatchObject({ "serves-no-stages": 2 });
});

test("and never while one node can hold it", () => {
  const nodes = [stage(0, [lan(1)]), stage(1, [lan(0)]), nodeFact(2, { devices: [gpuOf(48 * GB)] })];
  expect(placed(nodes).replicas).toMatchObject([{ kind: "whole", nodeIds: [nodeNamed(2)] }]);
});
