import { describe, expect, test } from "vitest";
import {
  deviceOf,
  GB,
  gpuOf,
  nodeFact,
  nodeNamed,
  plannedModel,
  planQuestion,
  readyReplica,
  replicaNamed,
  waitingFor,
  weightsOf,
} from "../../../test/support/placement-samples.ts";
import { modelId } from "../../domain/ids.ts";
import { planPlacement, wantedReplicas } from "./plan-placement.ts";
import type { ChainOrder, PlacementPlan, PlannedModel, PlanQuestion, ReplicaOrder } from "./plan-question.ts";
import { repairPlacement, servingCounts } from "./repair-placement.ts";
import type { LinkFact, NodeFact, ReplicaFact } from "./snapshot.ts";

const LARGE = plannedModel("a", { fileBytes: 20 * GB, layerCount: 32, contextTokensMax: 4_096 });
const lan = (to: number): LinkFact => ({ to: nodeNamed(to), rttMs: 0.4, bytesPerSecond: 1.25e9 });
const wan = (to: number): LinkFact => ({ to: nodeNamed(to), rttMs: 40, bytesPerSecond: 125e6 });
const stage = (index: number, links: readonly LinkFact[] = [], change: Partial<NodeFact> = {}): NodeFact =>
  nodeFact(index, { devices: [gpuOf(16 * GB)], decodeTokPerSecond: 1_000, hasStageServing: true, links, ...change });
const plan = (
  nodes: readonly NodeFact[],
  more: Partial<Omit<PlanQuestion, "grid">> & { replicas?: readonly ReplicaFact[] } = {},
): PlacementPlan => planPlacement(planQuestion({ nodes, models: [LARGE], ...more }));
const chainsOf = (orders: readonly ReplicaOrder[]): readonly ChainOrder[] =>
  orders.flatMap((order) => (order.kind === "load-chain" ? [order] : []));
const planned = (nodes: readonly NodeFact[], models: readonly PlannedModel[] = [LARGE]) => {
  const made = plan(nodes, { models });
  const [model] = made.models;
  return { orders: made.orders, replicas: model?.replicas ?? [], losers: Object.fromEntries(model?.losers ?? []) };
};

/** The chain over nodes 0 and 1 as the next snapshot has it. */
function heldChain(change: (isLast: boolean) => Partial<ReplicaFact> = () => ({})): readonly ReplicaFact[] {
  return [0, 1].map((at) => {
    const isLast = at === 1;
    return readyReplica(at, {
      deviceId: "cuda0",
      weightsSha256: weightsOf("a"),
      memoryBytes: 12 * GB,
      slots: 8,
      stage: { chainId: "c".repeat(32), first: 16 * at, count: 16, isLast },
      ...change(isLast),
    });
  });
}

describe("a model that fits no node", () => {
  test("is ordered as a chain over a LAN's nodes before it goes over a wide-area link", () => {
    const nodes = [stage(0, [wan(1), wan(2)]), stage(1, [lan(2), wan(0)]), stage(2, [lan(1), wan(0)])];
    const { replicas, orders } = planned(nodes);
    expect(replicas).toMatchObject([{ kind: "lan-group", isHeld: false }]);
    expect([...(replicas[0]?.nodeIds ?? [])].sort()).toEqual([nodeNamed(1), nodeNamed(2)]);
    expect(chainsOf(orders)).toHaveLength(1);
  });

  test("goes over a chain where no LAN holds it; its stages follow each other and have room for their layers", () => {
    const { replicas, orders } = planned([stage(0, [wan(1)]), stage(1, [wan(0)])]);
    expect(replicas).toMatchObject([{ kind: "chain" }]);
    const [order] = chainsOf(orders);
    expect(order).toMatchObject({ modelId: "a", weightsSha256: weightsOf("a"), why: "warm", contextTokens: 4_096 });
    expect(order?.sequencesMax).toBeGreaterThanOrEqual(16);
    const [first, second] = order?.stages ?? [];
    expect([first?.first, second?.first, (first?.count ?? 0) + (second?.count ?? 0)]).toEqual([0, first?.count, 32]);
    for (const { memoryBytes, count } of order?.stages ?? []) {
      expect(memoryBytes).toBeLessThanOrEqual(16 * GB);
      expect(memoryBytes).toBeGreaterThan((count * 20 * GB) / 32);
    }
  });

  test("counts what the ends hold: a node that has room for its layers only takes no end", () => {
    const ends = { embeddingBytes: 3 * GB, outputBytes: 3 * GB };
    const [variant] = LARGE.variants;
    const model = variant === undefined ? LARGE : { ...LARGE, variants: [{ ...variant, ends }] };
    const nodes = [0, 1, 2].map((at) => stage(at, [], { devices: [gpuOf((at === 1 ? 6 : 12) * GB)] }));
    const [order] = chainsOf(planned(nodes, [model]).orders);
    expect(order?.stages.map(({ nodeId }) => nodeId)[1]).toBe(nodeNamed(1));
  });

  test("is cut into no stage of a number of layers that its architecture refuses", () => {
    const nodes = [stage(0, [wan(1)]), stage(1, [wan(0)])];
    const counts = (change: Partial<PlannedModel>) => {
      return chainsOf(planned(nodes, [{ ...LARGE, ...change }]).orders).flatMap(({ stages }) =>
        stages.map(({ count }) => count),
      );
    };
    const free = counts({});
    expect(free).toHaveLength(2);
    const moved = counts({ stageCountsRefused: free });
    expect(moved).toHaveLength(2);
    expect(moved.filter((count) => free.includes(count))).toEqual([]);
  });

  test("gets room from idle replicas above their models' warm numbers, where its chain would stand, and from no more", () => {
    const other = plannedModel("b", { fileBytes: 4 * GB, contextTokensMax: 4_096, warmReplicas: 1 });
    const held = (index: number, change: Partial<ReplicaFact> = {}) =>
      readyReplica(index, { modelId: modelId("b"), deviceId: "cuda0", memoryBytes: 10 * GB, ...change });
    const nodes = [0, 1, 2].map((at) => stage(at, [lan((at + 1) % 3), lan((at + 2) % 3)]));
    const ask = (replicas: readonly ReplicaFact[], nowMs = 20_000) => {
      const { orders } = plan(nodes, { models: [LARGE, other], waiting: waitingFor("a"), replicas, nowMs });
      return orders.flatMap((one) => (one.kind === "unload" ? [`${one.why} ${one.replicaId}`] : [one.kind]));
    };
    const [used, idle, third] = [held(0, { slotsLeased: 1 }), held(1), held(2)];
    expect(ask([used, idle])).toEqual(["load-chain"]);
    expect(ask([used, idle, third])).toEqual([`make-room ${replicaNamed(1)}`]);
    // One that is unloaded already will do.
    expect(ask([used, { ...idle, state: "draining" }, third])).toEqual([]);
    expect(ask([used, idle, third], 1_000)).toEqual([]);
    expect(ask([used, { ...idle, slotsLeased: 1 }, { ...third, slotsLeased: 1 }])).toEqual([]);
  });

  test("is chained over no nodes that serve no stages, which is counted", () => {
    const nodes = [0, 1].map((index) => nodeFact(index, { devices: [deviceOf(16 * GB)] }));
    const { replicas, losers } = planned(nodes);
    expect(replicas).toEqual([]);
    expect(losers).toMatchObject({ "serves-no-stages": 2 });
  });

  test("is not chained when it cannot be split, which is counted", () => {
    const { orders, losers } = planned([stage(0, [lan(1)]), stage(1, [lan(0)])], [{ ...LARGE, canSplit: false }]);
    expect(orders).toEqual([]);
    expect(losers).toMatchObject({ "model-not-splittable": 2 });
  });

  test("waits out a failed load on a node, and takes no node that holds a stage of the model", () => {
    const nodes = [stage(0), stage(1), stage(2)];
    const failed = plan(nodes, { notBeforeMs: new Map([[`${nodeNamed(0)} a`, 10_000]]), nowMs: 1_000 });
    expect(chainsOf(failed.orders)[0]?.stages.map(({ nodeId }) => nodeId)).not.toContain(nodeNamed(0));
    const spare = readyReplica(1, { deviceId: "cuda0", stage: { chainId: null, first: 0, count: 16, isLast: false } });
    const beside = plan(nodes, { replicas: [spare] });
    expect(chainsOf(beside.orders)[0]?.stages.map(({ nodeId }) => nodeId)).not.toContain(nodeNamed(1));
  });
});

test("a model that one node can hold is never chained", () => {
  const nodes = [stage(0, [lan(1)]), stage(1, [lan(0)]), nodeFact(2, { devices: [gpuOf(48 * GB)] })];
  expect(planned(nodes).replicas).toMatchObject([{ kind: "whole", nodeIds: [nodeNamed(2)] }]);
});

describe("a chain that is there", () => {
  const nodes = [stage(0), stage(1), stage(2), stage(3)];

  test("is one replica of its model, however many stages it has: planning again orders nothing", () => {
    const again = plan(nodes, { replicas: heldChain() });
    expect(again.orders).toEqual([]);
    expect(again.models[0]).toMatchObject({ replicaCount: 1, replicas: [{ isHeld: true, slots: 8 }] });
    expect(again.models[0]?.replicas[0]?.stages).toEqual([
      { nodeId: nodeNamed(0), first: 0, count: 16 },
      { nodeId: nodeNamed(1), first: 16, count: 16 },
    ]);
    expect(wantedReplicas(again).get(modelId("a"))).toBe(1);
  });

  test("counts once where losses are counted, and a chain that is loading keeps nothing else from being seen as missing", () => {
    const held = new Map(nodes.map((fact) => [fact.nodeId, fact]));
    expect(servingCounts({ nodes: held, replicas: heldChain() }).get(modelId("a"))).toBe(1);
    const spare = readyReplica(3, { stage: { chainId: null, first: 0, count: 16, isLast: false } });
    expect(servingCounts({ nodes: held, replicas: [spare] }).get(modelId("a"))).toBeUndefined();
    const repair = repairPlacement(planQuestion({ nodes, models: [LARGE], replicas: [spare] }), new Map());
    expect(repair).toMatchObject({ orders: [], short: ["a"] });
  });

  test("is counted with the speed that its stages measured", () => {
    const measured = heldChain((isLast) => ({
      stage: { chainId: "c".repeat(32), first: isLast ? 16 : 0, count: 16, isLast, ...(isLast ? { loopMs: 50 } : {}) },
    }));
    const [replica] = plan(nodes, { replicas: measured }).models[0]?.replicas ?? [];
    expect(replica?.speed).toEqual({ loneTokPerSecond: 20, source: "observed", attempts: 0 });
    const [modelled] = plan(nodes, { replicas: heldChain() }).models[0]?.replicas ?? [];
    expect(modelled?.speed?.source).toBe("modelled");
  });

  test("gets a second one beside it when all its slots are taken and somebody waits", () => {
    const full = heldChain(() => ({ slotsLeased: 8 }));
    const [order] = chainsOf(plan(nodes, { replicas: full, waiting: waitingFor("a") }).orders);
    expect(order?.why).toBe("waiting");
    expect(order?.stages.map(({ nodeId }) => nodeId).sort()).toEqual([nodeNamed(2), nodeNamed(3)]);
  });

  test("goes as a whole, by its last stage's name, when nobody used it for long or its model is removed; spares go with the model", () => {
    const idle = { models: [{ ...LARGE, warmReplicas: 0 }], nowMs: 10_000_000, replicas: heldChain() };
    expect(plan(nodes, idle).orders).toMatchObject([{ kind: "unload", replicaId: replicaNamed(1), why: "idle" }]);
    const spare = readyReplica(3, { stage: { chainId: null, first: 0, count: 16, isLast: false } });
    const removed = plan(nodes, { models: [], replicas: [...heldChain(), spare] });
    expect(removed.orders).toMatchObject([
      { kind: "unload", replicaId: replicaNamed(1), why: "model-removed" },
      { kind: "unload", replicaId: replicaNamed(3), why: "model-removed" },
    ]);
  });

  test("gives its place to a whole replica where a node comes that can hold one, and is not given up for a small gain", () => {
    const slow = heldChain((isLast) => ({
      stage: { chainId: "c".repeat(32), first: isLast ? 16 : 0, count: 16, isLast, ...(isLast ? { loopMs: 400 } : {}) },
    }));
    const roomy = nodeFact(4, { devices: [gpuOf(80 * GB, { name: "NVIDIA H100" })], decodeTokPerSecond: 2_000 });
    const moved = plan([...nodes, roomy], { replicas: slow });
    expect(moved.orders).toMatchObject([{ kind: "load", nodeId: nodeNamed(4), why: "move" }]);
    const plodding = nodeFact(4, { devices: [deviceOf(80 * GB)], decodeTokPerSecond: 1_000 });
    expect(plan([...nodes, plodding], { replicas: slow }).orders).toEqual([]);
  });
});
