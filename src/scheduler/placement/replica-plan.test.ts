import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Device, usableBytes } from "../../domain/hardware.ts";
import { type ModelId, modelId, nodeId, replicaId } from "../../domain/ids.ts";
import { capableNodes } from "./capable-nodes.ts";
import { type Demand, type PlannedModel, type PlanQuestion, pairKey, planReplicas } from "./replica-plan.ts";
import { COMPUTE_BYTES, replicaBytes, SLOTS_MAX, sizeReplica } from "./slots.ts";
import type { NodeFact, ReplicaFact } from "./snapshot.ts";

const GB = 1e9;
const nodeNamed = (index: number) => nodeId(`node_${index.toString(16).padStart(32, "0")}`);
const replicaNamed = (index: number) => replicaId(`rep_${index.toString(10).padStart(26, "0")}`);

function device(memoryBytes: number, change: Partial<Device> = {}): Device {
  const name = "device";
  return {
    deviceId: "cpu",
    kind: "cpu",
    variant: "cpu",
    name,
    memoryBytes,
    memoryFreeBytes: memoryBytes,
    reserveBytes: 0,
    ...change,
  };
}

function node(index: number, change: Partial<NodeFact> = {}): NodeFact {
  const devices = [device(4 * GB)];
  return { nodeId: nodeNamed(index), state: "online", isYielding: false, devices, decodeTokPerSecond: null, ...change };
}

function model(name: string, change: Partial<PlannedModel> = {}): PlannedModel {
  const size = { fileBytes: 1 * GB, kvBytesPerToken: 10_000, contextTokensMax: 4_096 };
  return { modelId: modelId(name), ...size, warmReplicas: 1, ...change };
}

function ready(index: number, change: Partial<ReplicaFact> = {}): ReplicaFact {
  return {
    replicaId: replicaNamed(index),
    nodeId: nodeNamed(index),
    modelId: modelId("a"),
    deviceId: "cpu",
    state: "ready",
    slots: 2,
    slotsLeased: 0,
    contextTokens: 4_096,
    memoryBytes: 2 * GB,
    lastUsedAtMs: 0,
    ...change,
  };
}

function plan(question: {
  nodes: readonly NodeFact[];
  models?: readonly PlannedModel[];
  replicas?: readonly ReplicaFact[];
  demand?: ReadonlyMap<ModelId, Demand>;
  notBeforeMs?: ReadonlyMap<string, number>;
  nowMs?: number;
}) {
  const full: PlanQuestion = {
    snapshot: {
      version: 1,
      nodes: new Map(question.nodes.map((fact) => [fact.nodeId, fact])),
      replicas: question.replicas ?? [],
    },
    models: question.models ?? [model("a")],
    demand: question.demand ?? new Map(),
    notBeforeMs: question.notBeforeMs ?? new Map(),
    nowMs: question.nowMs ?? 1_000,
    idleUnloadMs: 60_000,
  };
  return planReplicas(full);
}

const waitingFor = (name: string, tokensNeeded = 100) => new Map([[modelId(name), { waiting: 1, tokensNeeded }]]);
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
    expect(loads(plan({ nodes: [node(0)], models, demand: waitingFor("a") }))).toEqual(["a@0"]);
  });

  test.each(["planned", "loading"] as const)("not again while one is %s", (state) => {
    const replicas = [ready(0, { state })];
    expect(loads(plan({ nodes: [node(0), node(1)], replicas, demand: waitingFor("a") }))).toEqual([]);
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
    expect(loads(plan({ nodes, replicas: [full], demand: waitingFor("a") }))).toEqual(["a@1"]);
    const loading = ready(1, { state: "loading" });
    expect(loads(plan({ nodes, replicas: [full, loading], demand: waitingFor("a") }))).toEqual([]);
  });

  test("a larger one when the ready one's context is too small for who waits", () => {
    const small = ready(0, { contextTokens: 512 });
    expect(loads(plan({ nodes: [node(0), node(1)], replicas: [small], demand: waitingFor("a", 3_000) }))).toEqual([
      "a@1",
    ]);
  });

  test("a GPU before a CPU", () => {
    const gpu = device(4 * GB, { deviceId: "cuda0", kind: "gpu", variant: "cuda" });
    const result = plan({ nodes: [node(0), node(1, { devices: [device(64 * GB), gpu] })] });
    expect(result.orders).toMatchObject([{ kind: "load", nodeId: nodeNamed(1), deviceId: "cuda0" }]);
  });

  test("a pair of node and model whose load failed waits out its back-off", () => {
    const notBeforeMs = new Map([[pairKey(nodeNamed(0), modelId("a")), 5_000]]);
    const early = plan({ nodes: [node(0)], notBeforeMs, nowMs: 4_999 });
    expect(loads(early)).toEqual([]);
    expect(early.shortages.get(modelId("a"))).toEqual(new Map([["load-failed-recently", 1]]));
    expect(loads(plan({ nodes: [node(0)], notBeforeMs, nowMs: 5_000 }))).toEqual(["a@0"]);
  });

  test("nothing where it does not fit, and the shortage says why", () => {
    const result = plan({ nodes: [node(0, { devices: [device(1 * GB)] }), node(1, { state: "offline" })] });
    expect(loads(result)).toEqual([]);
    expect(result.shortages.get(modelId("a"))).toEqual(
      new Map([
        ["memory-too-small", 1],
        ["node-offline", 1],
      ]),
    );
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
    expect(unloads(plan({ nodes, replicas, nowMs: 999_999, demand: waitingFor("a") }))).toEqual([]);
  });
});

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
      model: model("a"),
      tokensNeeded: 4_000,
    });
    expect(found).toMatchObject({ capable: 1, mayReturn: 1 });
    expect(Object.fromEntries(found.losers)).toEqual({ "node-suspect": 1, "memory-too-small": 2 });
  });

  test("a context that no device can hold is no capacity", () => {
    const found = capableNodes({ nodes: nodes(node(0)), model: model("a"), tokensNeeded: 4_097 });
    expect(found).toMatchObject({ capable: 0, losers: new Map([["context-too-small", 1]]) });
  });
});

const sizes = fc.record({
  fileBytes: fc.integer({ min: 1, max: 50 * GB }),
  kvBytesPerToken: fc.integer({ min: 0, max: 2_000_000 }),
  contextTokensMax: fc.integer({ min: 1, max: 200_000 }),
});

describe("laws", () => {
  test("a replica never takes more than is free, and has at least one slot", () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 0, max: 200 * GB }), (size, freeBytes) => {
        const sized = sizeReplica(size, freeBytes);
        if (!sized.ok) {
          expect(sized.reason.neededBytes).toBeGreaterThan(freeBytes);
          return;
        }
        expect(sized.value.memoryBytes).toBeLessThanOrEqual(freeBytes);
        expect(sized.value.memoryBytes).toBe(replicaBytes(size, sized.value));
        expect(sized.value.sequencesMax).toBeGreaterThanOrEqual(1);
        expect(sized.value.sequencesMax).toBeLessThanOrEqual(SLOTS_MAX);
        expect(sized.value.contextTokens).toBeLessThanOrEqual(size.contextTokensMax);
      }),
    );
  });

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
