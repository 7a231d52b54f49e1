import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  demandFor,
  deviceOf,
  GB,
  gpuOf,
  nodeFact,
  plannedModel,
  planQuestion,
  readyReplica,
} from "../../../test/support/placement-samples.ts";
import { usableBytes } from "../../domain/hardware.ts";
import { modelId } from "../../domain/ids.ts";
import { TIER_RULES } from "./objective.ts";
import { planPlacement } from "./plan-placement.ts";
import type { DemandClass, LoadOrder, PlannedModel, PlanQuestion } from "./plan-question.ts";
import { pairKey } from "./plan-question.ts";
import type { NodeFact, ReplicaFact } from "./snapshot.ts";

const MODELS = ["a", "b", "c", "d"];
const REGIONS = ["eu", "us"];
const rules = { trustMin: 0.6, priceMicroUsdPerHourMax: 60_000 };
const tiers = { ...TIER_RULES, priority: { ...TIER_RULES.priority, ...rules } };

interface Drawn {
  readonly nodes: readonly NodeFact[];
  readonly models: readonly PlannedModel[];
  readonly classes: readonly DemandClass[];
  readonly replicas: readonly ReplicaFact[];
}

const drawnNode = fc.record({
  gigabytes: fc.integer({ min: 0, max: 12 }),
  isGpu: fc.boolean(),
  reserve: fc.integer({ min: 0, max: 3 }),
  region: fc.constantFrom(null, ...REGIONS),
  owner: fc.constantFrom(null, "ann", "bob"),
  trust: fc.constantFrom(0.5, 0.7, 1),
  price: fc.constantFrom(0, 50_000, 90_000),
  stay: fc.constantFrom(0.3, 0.9, 1),
  speed: fc.constantFrom(null, 500, 4_000),
  state: fc.constantFrom("online", "online", "online", "suspect", "draining"),
  hasWeights: fc.boolean(),
});
const drawnModel = fc.record({
  warm: fc.integer({ min: 0, max: 3 }),
  gigabytes: fc.constantFrom(0.3, 1, 3, 7),
  value: fc.constantFrom(0, 100_000, 2_000_000),
  isCoarseToo: fc.boolean(),
});
const drawnClass = fc.record({
  model: fc.constantFrom(...MODELS),
  tier: fc.constantFrom("priority", "default", "flex"),
  region: fc.constantFrom(null, ...REGIONS),
  tokPerSecond: fc.constantFrom(1, 50, 2_000),
});
const drawn = fc
  .record({
    nodes: fc.array(drawnNode, { minLength: 0, maxLength: 8 }),
    models: fc.array(drawnModel, { minLength: 0, maxLength: MODELS.length }),
    classes: fc.uniqueArray(drawnClass, {
      maxLength: 6,
      selector: ({ model, tier, region }) => `${model} ${tier} ${region}`,
    }),
    held: fc.array(fc.record({ model: fc.constantFrom(...MODELS), isBusy: fc.boolean() }), { maxLength: 6 }),
  })
  .map((draw): Drawn => {
    const nodes = draw.nodes.map((node, index) => {
      const make = node.isGpu ? gpuOf : deviceOf;
      return nodeFact(index, {
        devices: [make(node.gigabytes * GB, { reserveBytes: node.reserve * GB })],
        state: node.state,
        region: node.region,
        owner: node.owner,
        trust: node.trust,
        priceMicroUsdPerHour: node.price,
        stayChance: node.stay,
        decodeTokPerSecond: node.speed,
        ...(node.hasWeights ? { cachedWeights: new Set([...modelOf("a").variants].map((v) => v.weightsSha256)) } : {}),
      });
    });
    const models = draw.models.map((model, index) => {
      const fine = modelOf(MODELS[index] ?? "a", model);
      const [file] = fine.variants;
      if (!model.isCoarseToo || file === undefined) return fine;
      const { fileBytes } = file;
      const coarse = { ...file, quantisation: "Q4_K_M", fileBytes: fileBytes / 2, qualityPenalty: 0.2 };
      return {
        ...fine,
        variants: [
          file,
          { ...coarse, weightsSha256: plannedModel("q4").variants[0]?.weightsSha256 ?? file.weightsSha256 },
        ],
      };
    });
    const replicas = draw.held.slice(0, nodes.length).map(({ model, isBusy }, index) => {
      const deviceId = nodes[index]?.devices[0]?.deviceId ?? "cpu";
      return readyReplica(index, { modelId: modelId(model), deviceId, memoryBytes: GB, slotsLeased: isBusy ? 1 : 0 });
    });
    const classes = draw.classes.map(({ model, ...asked }) => demandFor(model, asked));
    return { nodes, models, classes, replicas };
  });

function modelOf(name: string, model = { warm: 1, gigabytes: 1, value: 1_000_000 }): PlannedModel {
  const { warm: warmReplicas, gigabytes, value: valueMicroUsdPerMtok } = model;
  return plannedModel(name, { warmReplicas, fileBytes: gigabytes * GB, valueMicroUsdPerMtok });
}

const questionOf = (grid: Drawn): PlanQuestion => planQuestion({ ...grid, tiers, nowMs: 100_000 });
const loadsOf = (grid: Drawn): readonly LoadOrder[] =>
  planPlacement(questionOf(grid)).orders.flatMap((order) => (order.kind === "load" ? [order] : []));

describe("every plan", () => {
  test("keeps within each device's usable memory, with what is there and what is ordered", () => {
    fc.assert(
      fc.property(drawn, (grid) => {
        const taken = new Map(grid.replicas.map(({ nodeId, memoryBytes }) => [nodeId, memoryBytes]));
        for (const { nodeId, size } of loadsOf(grid)) taken.set(nodeId, (taken.get(nodeId) ?? 0) + size.memoryBytes);
        for (const { nodeId, size } of loadsOf(grid)) {
          const device = grid.nodes.find((node) => node.nodeId === nodeId)?.devices[0];
          expect(size.memoryBytes).toBeGreaterThan(0);
          expect(taken.get(nodeId) ?? 0).toBeLessThanOrEqual(device === undefined ? 0 : usableBytes(device));
        }
      }),
    );
  });

  test("has a model at most once on a node, and on none that takes no work", () => {
    fc.assert(
      fc.property(drawn, (grid) => {
        const held = grid.replicas.map(({ nodeId, modelId: of }) => pairKey(nodeId, of));
        const pairs = [...held, ...loadsOf(grid).map((order) => pairKey(order.nodeId, order.modelId))];
        expect(new Set(pairs).size).toBe(pairs.length);
        for (const { nodeId } of loadsOf(grid)) {
          expect(grid.nodes.find((node) => node.nodeId === nodeId)?.state).toBe("online");
        }
      }),
    );
  });

  test("orders for demand only where region, trust and price of some of that demand allow it", () => {
    fc.assert(
      fc.property(drawn, (grid) => {
        for (const { nodeId, modelId: of, why } of loadsOf(grid)) {
          if (why !== "demand") continue;
          const node = grid.nodes.find((known) => known.nodeId === nodeId);
          const allowed = grid.classes.filter(({ modelId: asked, tier, region }) => {
            const isRegion = region === null || region === node?.region;
            const isTrusted = tier !== "priority" || (node?.trust ?? 0) >= rules.trustMin;
            const isCheap = tier !== "priority" || (node?.priceMicroUsdPerHour ?? 0) <= rules.priceMicroUsdPerHourMax;
            return asked === of && isRegion && isTrusted && isCheap;
          });
          expect(allowed.length).toBeGreaterThan(0);
        }
      }),
    );
  });

  test("is the same in whatever order nodes, replicas, models and demand arrive", () => {
    fc.assert(
      fc.property(drawn, (grid) => {
        const turned: Drawn = {
          nodes: [...grid.nodes].reverse(),
          replicas: [...grid.replicas].reverse(),
          models: [...grid.models].reverse(),
          classes: [...grid.classes].reverse(),
        };
        expect(planPlacement(questionOf(turned))).toEqual(planPlacement(questionOf(grid)));
      }),
    );
  });

  test("is worth no more than its bound, and its gap is a share", () => {
    fc.assert(
      fc.property(drawn, (grid) => {
        const plan = planPlacement(questionOf(grid));
        const { objectiveMicroUsdPerHour: worth, boundMicroUsdPerHour: bound, gap } = plan;
        expect(worth).toBeLessThanOrEqual(bound + 1e-6 * Math.max(1, Math.abs(bound)));
        expect(gap).toBeGreaterThanOrEqual(0);
        expect(gap).toBeLessThanOrEqual(1);
      }),
    );
  });

  test("unloads nothing that works", () => {
    fc.assert(
      fc.property(drawn, (grid) => {
        const busy = new Set(
          grid.replicas.filter(({ slotsLeased }) => slotsLeased > 0).map(({ replicaId }) => replicaId),
        );
        for (const order of planPlacement(questionOf(grid)).orders) {
          if (order.kind === "unload") expect(busy.has(order.replicaId)).toBe(false);
        }
      }),
    );
  });
});

test("an empty grid has a plan at once, with nothing in it", () => {
  const plan = planPlacement(planQuestion({ nodes: [] }));
  expect(plan).toMatchObject({ orders: [], gap: 0, nodes: 0 });
  expect(plan.models[0]?.losers).toEqual([["no-node", 1]]);
  expect(planPlacement(planQuestion({ nodes: [], models: [] })).models).toEqual([]);
});
