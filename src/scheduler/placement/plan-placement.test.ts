import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  demandFor,
  deviceOf as device,
  GB,
  gpuOf,
  plannedModel as model,
  nodeFact as node,
  nodeNamed,
  planQuestion,
  readyReplica as ready,
  waitingFor,
  weightsOf,
} from "../../../test/support/placement-samples.ts";
import { usableBytes } from "../../domain/hardware.ts";
import { modelId } from "../../domain/ids.ts";
import { TIER_RULES } from "./objective.ts";
import { planPlacement } from "./plan-placement.ts";
import { type PlanQuestion, pairKey } from "./plan-question.ts";
import { COMPUTE_BYTES } from "./slots.ts";
import type { NodeFact, ReplicaFact } from "./snapshot.ts";

const plan = (asked: Parameters<typeof planQuestion>[0]) => planPlacement(planQuestion(asked));
const loads = (result: ReturnType<typeof plan>) =>
  result.orders.flatMap((order) =>
    order.kind === "load" ? [`${order.modelId}@${Number(order.nodeId.slice(-2))}`] : [],
  );
const unloads = (result: ReturnType<typeof plan>) =>
  result.orders.flatMap((order) => (order.kind === "unload" ? [`${order.replicaId.slice(-1)} ${order.why}`] : []));

describe("loading", () => {
  test("the warm number of replicas, each on a node of its own", () => {
    const nodes = [node(0), node(1), node(2)];
    expect(loads(plan({ nodes, models: [model("a", { warmReplicas: 2 })] }))).toEqual(["a@0", "a@1"]);
  });

  test("models spread over nodes: the emptier node comes first", () => {
    expect(loads(plan({ nodes: [node(0), node(1)], models: [model("a"), model("b")] }))).toEqual(["a@0", "b@1"]);
  });

  test("a cold model only when somebody waits for it", () => {
    const models = [model("a", { warmReplicas: 0 })];
    expect(loads(plan({ nodes: [node(0)], models }))).toEqual([]);
    expect(loads(plan({ nodes: [node(0)], models, waiting: waitingFor("a") }))).toEqual(["a@0"]);
  });

  test.each(["planned", "loading"] as const)("not again while one is %s", (state) => {
    const replicas = [ready(0, { state })];
    expect(loads(plan({ nodes: [node(0), node(1)], replicas, waiting: waitingFor("a") }))).toEqual([]);
  });

  test.each([
    ["suspect", { state: "suspect" }],
    ["offline", { state: "offline" }],
    ["draining", { state: "draining" }],
    ["yielding", { isYielding: true }],
  ] as const)("a replica on a node that is %s is replaced at once", (_name, change) => {
    expect(loads(plan({ nodes: [node(0, change), node(1)], replicas: [ready(0)] }))).toEqual(["a@1"]);
  });

  test("one more when every slot is taken and somebody waits, and not while that one loads", () => {
    const nodes = [node(0), node(1), node(2)];
    const full = ready(0, { slotsLeased: 2 });
    expect(loads(plan({ nodes, replicas: [full] }))).toEqual([]);
    expect(loads(plan({ nodes, replicas: [full], waiting: waitingFor("a") }))).toEqual(["a@1"]);
    const loading = ready(1, { state: "loading" });
    expect(loads(plan({ nodes, replicas: [full, loading], waiting: waitingFor("a") }))).toEqual([]);
  });

  test("a larger one when the ready one's context is too small for who waits", () => {
    const small = ready(0, { contextTokens: 512 });
    expect(loads(plan({ nodes: [node(0), node(1)], replicas: [small], waiting: waitingFor("a", 3_000) }))).toEqual([
      "a@1",
    ]);
  });

  test("a GPU before a CPU", () => {
    const gpu = gpuOf(4 * GB);
    const result = plan({ nodes: [node(0), node(1, { devices: [device(64 * GB), gpu] })] });
    expect(result.orders).toMatchObject([{ kind: "load", nodeId: nodeNamed(1), deviceId: "cuda0" }]);
  });

  test("a pair of node and model whose load failed waits out its back-off", () => {
    const notBeforeMs = new Map([[pairKey(nodeNamed(0), modelId("a")), 5_000]]);
    const early = plan({ nodes: [node(0)], notBeforeMs, nowMs: 4_999 });
    expect(loads(early)).toEqual([]);
    expect(early.models[0]?.losers).toEqual([["load-failed-recently", 1]]);
    expect(loads(plan({ nodes: [node(0)], notBeforeMs, nowMs: 5_000 }))).toEqual(["a@0"]);
  });

  test("nothing where it does not fit, and the shortage says why", () => {
    const result = plan({ nodes: [node(0, { devices: [device(1 * GB)] }), node(1, { state: "offline" })] });
    expect(loads(result)).toEqual([]);
    expect(result.models[0]?.losers).toEqual([
      ["memory-too-small", 1],
      ["node-offline", 1],
      ["serves-no-stages", 1],
    ]);
  });
});

describe("unloading", () => {
  test("a replica of a model that was removed, once it is idle", () => {
    expect(unloads(plan({ nodes: [node(0)], models: [], replicas: [ready(0)] }))).toEqual(["0 model-removed"]);
    expect(unloads(plan({ nodes: [node(0)], models: [], replicas: [ready(0, { slotsLeased: 1 })] }))).toEqual([]);
  });

  test("the longest unused above the warm number, after the idle time", () => {
    const replicas = [
      ready(0, { lastUsedAtMs: 500 }),
      ready(1, { lastUsedAtMs: 100 }),
      ready(2, { lastUsedAtMs: 900 }),
    ];
    const nodes = [node(0), node(1), node(2)];
    expect(unloads(plan({ nodes, replicas, nowMs: 60_099 }))).toEqual([]);
    expect(unloads(plan({ nodes, replicas, nowMs: 60_100 }))).toEqual(["1 idle"]);
    expect(unloads(plan({ nodes, replicas, nowMs: 999_999 }))).toEqual(["1 idle", "0 idle"]);
  });

  test("not while somebody waits for the model", () => {
    const replicas = [ready(0, { slotsLeased: 2 }), ready(1, { contextTokens: 10 })];
    const nodes = [node(0), node(1)];
    expect(unloads(plan({ nodes, replicas, nowMs: 999_999, waiting: waitingFor("a") }))).toEqual([]);
  });
});

describe("laws", () => {
  test("no plan exceeds a device's usable memory, whatever runs there", () => {
    const grids = fc.record({
      memories: fc.array(fc.integer({ min: 0, max: 8 * GB }), { minLength: 1, maxLength: 6 }),
      reserve: fc.integer({ min: 0, max: 2 * GB }),
      warm: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 5 }),
      taken: fc.array(fc.integer({ min: 0, max: 3 * GB }), { maxLength: 6 }),
    });
    fc.assert(
      fc.property(grids, ({ memories, reserve, warm, taken }) => {
        const nodes = memories.map((memoryBytes, at) =>
          node(at, { devices: [device(memoryBytes, { reserveBytes: reserve })] }),
        );
        const replicas = taken
          .slice(0, nodes.length)
          .map((memoryBytes, at) => ready(at, { modelId: modelId("old"), memoryBytes, slotsLeased: 1 }));
        const models = warm.map((warmReplicas, at) =>
          model(`m${at}`, { warmReplicas, fileBytes: (at + 1) * 0.3 * GB }),
        );
        const planned = new Map(replicas.map((replica) => [replica.nodeId, replica.memoryBytes]));
        const { orders } = plan({ nodes, models, replicas });
        const pairs = orders.flatMap((order) => (order.kind === "load" ? [pairKey(order.nodeId, order.modelId)] : []));
        expect(new Set(pairs).size).toBe(pairs.length);
        for (const order of orders) {
          if (order.kind !== "load") continue;
          const before = planned.get(order.nodeId) ?? 0;
          const fact = nodes.find(({ nodeId: id }) => id === order.nodeId);
          const [only] = fact?.devices ?? [];
          planned.set(order.nodeId, before + order.size.memoryBytes);
          expect(before + order.size.memoryBytes).toBeLessThanOrEqual(only === undefined ? 0 : usableBytes(only));
        }
      }),
    );
  });

  test("planning again on top of a plan orders nothing more", () => {
    const grids = fc.array(fc.integer({ min: COMPUTE_BYTES, max: 12 * GB }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(grids, fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }), (memories, warm) => {
        const nodes = memories.map((memoryBytes, at) => node(at, { devices: [device(memoryBytes)] }));
        const models = warm.map((warmReplicas, at) => model(`m${at}`, { warmReplicas }));
        const first = plan({ nodes, models });
        const replicas = first.orders.flatMap((order, at): ReplicaFact[] => {
          if (order.kind !== "load") return [];
          const { nodeId: on, modelId: of, size } = order;
          const { contextTokens, memoryBytes, sequencesMax: slots } = size;
          return [ready(at, { nodeId: on, modelId: of, state: "planned", contextTokens, memoryBytes, slots })];
        });
        expect(plan({ nodes, models, replicas }).orders).toEqual([]);
      }),
    );
  });
});
