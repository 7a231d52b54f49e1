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
import { pairKey } from "./plan-question.ts";
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
    const nodes = [0, 1, 2].map((at) => node(at, { decodeTokPerSecond: 40_000 }));
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

  test("one that pays for its memory stays, however long it was unused, and goes when nobody asks", () => {
    const cachedWeights = new Set([weightsOf("a")]);
    const nodes = [0, 1, 2].map((at) => node(at, { stayChance: 0.97, decodeTokPerSecond: 40_000, cachedWeights }));
    const replicas = [ready(0, { lastUsedAtMs: 900_000 }), ready(1, { lastUsedAtMs: 100_000 })];
    const at = (tokPerSecond: number) => {
      const classes = tokPerSecond === 0 ? [] : [demandFor("a", { tokPerSecond })];
      const { orders } = plan({ nodes, replicas, classes, nowMs: 1_000_000, idleUnloadMs: 600_000 });
      return orders.map(({ kind, why }) => `${kind} ${why}`);
    };
    expect(at(5)).toEqual([]);
    expect(at(0.01)).toEqual(["unload idle"]);
    expect(at(0)).toEqual(["unload idle"]);
  });

  test("not while somebody waits for the model", () => {
    const replicas = [ready(0, { slotsLeased: 2 }), ready(1, { contextTokens: 10 })];
    const nodes = [node(0), node(1)];
    expect(unloads(plan({ nodes, replicas, nowMs: 999_999, waiting: waitingFor("a") }))).toEqual([]);
  });
});

describe("rules", () => {
  test("demand of a region is served in that region only, and by no node that names none", () => {
    const nodes = [node(0), node(1, { region: "us" }), node(2, { region: "eu" })];
    const result = plan({
      nodes,
      models: [model("a", { warmReplicas: 0 })],
      classes: [demandFor("a", { region: "eu" })],
    });
    expect(loads(result)).toEqual(["a@2"]);
    expect(Object.fromEntries(result.models[0]?.losers ?? [])).toMatchObject({ "region-not-allowed": 2 });
  });

  test("a tier's floor of trust and its cap on prices keep nodes out by name", () => {
    const tiers = { ...TIER_RULES, default: { ...TIER_RULES.default, trustMin: 0.8, priceMicroUsdPerHourMax: 1_000 } };
    const nodes = [node(0, { trust: 0.7 }), node(1, { priceMicroUsdPerHour: 1_001 }), node(2, { trust: 0.8 })];
    const result = plan({ nodes, tiers, models: [model("a", { warmReplicas: 0 })], classes: [demandFor("a")] });
    expect(loads(result)).toEqual(["a@2"]);
    expect(Object.fromEntries(result.models[0]?.losers ?? [])).toMatchObject({
      "trust-too-low": 1,
      "price-too-high": 1,
    });
  });

  test("copies go to different owners, networks and regions where there is a choice", () => {
    const spread = { owner: "ann", network: "10.0.0.0/24" };
    const fast = { devices: [gpuOf(24 * GB)], decodeTokPerSecond: 4_000 };
    const nodes = [node(0, { ...spread, ...fast }), node(1, { ...spread, ...fast }), node(2, { owner: "bob" })];
    expect(loads(plan({ nodes, models: [model("a", { warmReplicas: 2 })] }))).toEqual(["a@0", "a@2"]);
    expect(loads(plan({ nodes: nodes.slice(0, 2), models: [model("a", { warmReplicas: 2 })] }))).toEqual([
      "a@0",
      "a@1",
    ]);
  });
});

describe("worth", () => {
  test("demand beyond one replica's speed brings more, and what is served brings none", () => {
    const nodes = [0, 1, 2, 3].map((index) => node(index, { decodeTokPerSecond: 4_000 }));
    const models = [model("a", { warmReplicas: 1 })];
    expect(loads(plan({ nodes, models, classes: [demandFor("a", { tokPerSecond: 1 })] }))).toHaveLength(1);
    expect(loads(plan({ nodes, models, classes: [demandFor("a", { tokPerSecond: 1_000 })] }))).toHaveLength(4);
  });

  test("weights that lie on a disk, a low price, clean power and a node that stays are each preferred", () => {
    const at = (change: Partial<NodeFact>) => loads(plan({ nodes: [node(0), node(1, change)] }));
    const costly = (change: Partial<NodeFact>) => loads(plan({ nodes: [node(0, change), node(1)] }));
    expect(at({})).toEqual(["a@0"]);
    expect(at({ cachedWeights: new Set([weightsOf("a")]) })).toEqual(["a@1"]);
    expect(costly({ priceMicroUsdPerHour: 100_000 })).toEqual(["a@1"]);
    expect(costly({ gramsCo2PerHour: 300 })).toEqual(["a@1"]);
    expect(costly({ stayChance: 0.3 })).toEqual(["a@1"]);
  });

  test("the coarser file where the finer one does not fit, and the finer one where it does", () => {
    const [fine] = model("a", { fileBytes: 3 * GB, quantisation: "Q8_0" }).variants;
    const [coarse] = model("a4", { fileBytes: 1.5 * GB, quantisation: "Q4_K_M", qualityPenalty: 0.3 }).variants;
    const variants = [fine, coarse].flatMap((variant) => (variant === undefined ? [] : [variant]));
    const both = { ...model("a"), variants };
    const on = (memoryBytes: number) => {
      const nodes = [node(0, { devices: [gpuOf(memoryBytes)], decodeTokPerSecond: 1_000 })];
      return plan({ nodes, models: [both] }).models[0]?.replicas[0]?.quantisation;
    };
    expect(on(2.5 * GB)).toBe("Q4_K_M");
    expect(on(12 * GB)).toBe("Q8_0");
  });

  test("a model that fits one node is never spread, and one that fits none says that nobody serves stages", () => {
    const nodes = [0, 1, 2].map((index) => node(index));
    const whole = plan({ nodes, models: [model("a")] });
    expect(whole.models[0]?.replicas.map(({ kind }) => kind)).toEqual(["whole"]);
    const large = plan({ nodes, models: [model("a", { fileBytes: 6 * GB })] });
    expect(large.orders).toEqual([]);
    expect(Object.fromEntries(large.models[0]?.losers ?? [])).toEqual({ "memory-too-small": 3, "serves-no-stages": 3 });
  });
});

describe("sharing memory", () => {
  const hungry = { fileBytes: 0.5 * GB, kvBytesPerToken: 100_000, contextTokensMax: 32_768 };

  test("models that each could fill the node get a part of it when all of them have to be there", () => {
    const models = ["a", "b", "c"].map((name) => model(name, hungry));
    const result = plan({ nodes: [node(0, { devices: [device(8 * GB)] })], models });
    expect(loads(result)).toEqual(["a@0", "b@0", "c@0"]);
  });

  test("an idle replica above its model's warm number makes room for one that has to be there", () => {
    const idle = ready(0, { modelId: modelId("b"), memoryBytes: 3.5 * GB, lastUsedAtMs: 0 });
    const models = [model("a"), model("b", { warmReplicas: 0 })];
    const busy = { ...idle, slotsLeased: 1 };
    const at = { nodes: [node(0)], models, nowMs: 20_000 };
    expect(unloads(plan({ ...at, replicas: [idle] }))).toEqual(["0 make-room"]);
    expect(unloads(plan({ ...at, replicas: [busy] }))).toEqual([]);
  });

  test("a replica that took the whole device comes back smaller beside a second model", () => {
    const nodes = [node(0, { devices: [device(8 * GB)] })];
    const fat = ready(0, { memoryBytes: 7.9 * GB, lastUsedAtMs: 0 });
    const models = ["a", "b"].map((name) => model(name, hungry));
    expect(unloads(plan({ nodes, models, replicas: [fat], nowMs: 20_000 }))).toEqual(["0 make-room"]);
    expect(loads(plan({ nodes, models, nowMs: 21_000 }))).toEqual(["a@0", "b@0"]);
  });
});

describe("moves", () => {
  const slow = node(0, { decodeTokPerSecond: 1_000 });
  const fast = (decodeTokPerSecond: number) => node(1, { decodeTokPerSecond });
  const cached = new Set([weightsOf("a")]);
  const asked = {
    replicas: [ready(0, { slots: 64 })],
    models: [model("a")],
    classes: [demandFor("a", { tokPerSecond: 2 })],
  };

  test("a replica moves to a node where it is worth far more", () => {
    expect(plan({ ...asked, nodes: [slow, fast(40_000)] }).orders).toMatchObject([
      { kind: "load", nodeId: nodeNamed(1), why: "move" },
    ]);
  });

  test("and stays when the gain is within the hysteresis, which the plan tells", () => {
    const near = plan({ ...asked, nodes: [slow, { ...fast(1_010), cachedWeights: cached }] });
    expect(near.orders).toEqual([]);
    expect(near.gainLeftMicroUsdPerHour).toBeGreaterThan(0);
  });

  test("what was seen of a node is not left for what another's card promises, unless it promises far more", () => {
    const seen = (on: NodeFact, factor: number): NodeFact => ({
      ...on,
      observedSpeeds: [
        { deviceId: "cpu", weightsSha256: weightsOf("a"), tokenSeconds: (factor * GB) / 3_136_736 / 1_000, count: 64 },
      ],
    });
    const moves = (from: NodeFact, to: NodeFact) => plan({ ...asked, nodes: [from, to] }).orders.length;
    expect(moves(slow, fast(1_100))).toBe(1);
    expect(moves(seen(slow, 1), fast(1_100))).toBe(0);
    expect(moves(seen(slow, 1), seen(fast(1_100), 1 / 1.1))).toBe(1);
    expect(moves(seen(slow, 4), fast(1_100))).toBe(1);
  });

  test("the bytes of the move count: the same gain is taken where the weights are already", () => {
    const models = [model("a", { fileBytes: 1.2 * GB, valueMicroUsdPerMtok: 5_000 })];
    const gain = (change: Partial<NodeFact>) =>
      plan({ ...asked, models, nodes: [slow, { ...fast(2_000), ...change }] }).orders.length;
    expect(gain({ cachedWeights: cached })).toBe(1);
    expect(gain({})).toBe(0);
  });

  test("a plan that was carried out is not undone by the next one", () => {
    const nodes = [slow, fast(40_000)];
    const moved = [ready(0), ready(1)];
    expect(plan({ ...asked, nodes, replicas: moved }).orders).toEqual([]);
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
