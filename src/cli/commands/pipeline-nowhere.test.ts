import { describe, expect, test } from "vitest";
import type { ChainList, ChainStageRow } from "../../coordinator/admin/chain-schema.ts";
import { type GridPlan, gridPlanSchema } from "../../coordinator/admin/plan-schema.ts";
import { pipelineText } from "./pipeline.ts";

const STAGE: ChainStageRow = {
  ...{ first: 0, count: 4, replicaId: "rep_a", nodeId: "node_a", nodeName: "attic", deviceId: "cpu", memoryBytes: 1 },
  ...{ state: "ready", isLinked: true, successor: null, singleMs: 2, singlesMean: 1, promptMsPerPosition: 1 },
  ...{ nextRttMs: 1, nextCarrier: "tcp", bytesSent: 0, positionsSent: 0 },
};
const CHAIN: ChainList["chains"][number] = {
  ...{ chainId: "0123456789abcdef0123456789abcdef", modelId: "large", weightsSha256: "a".repeat(64), state: "serving" },
  ...{ chainEpoch: 524_289, wire: "f32", layerCount: 4, contextTokens: 2_048, sequencesMax: 16, stages: [STAGE] },
  ...{ loopMs: 1, loneTokPerSecond: 1, drafted: 0, accepted: 0, repairs: 0, recoveryMs: null, trouble: null },
  missing: [],
};

function list(chains: ChainList["chains"]): ChainList {
  const stats = { repairs: 0, repairsBySpare: 0, moves: 0, dissolved: 0, troubles: 0, garbage: 0 };
  return { chains, spares: [], stats };
}

function plan(models: readonly { modelId: string; warm: number; replicas: number; reason: string }[]): GridPlan {
  return gridPlanSchema.parse({
    plan: {
      ...{ madeAtMs: 1, ageMs: 1, tookMs: 1, version: 1, nodes: 3, objectiveMicroUsdPerHour: 0 },
      ...{ boundMicroUsdPerHour: 0, gap: 0, loads: 0, unloads: 0, movedBytes: 0, gainLeftMicroUsdPerHour: 0 },
      models: models.map(({ modelId, warm, replicas, reason }) => ({
        ...{ modelId, warmReplicas: warm, demandTokPerSecond: 0, capacityTokPerSecond: 0, servedTokPerSecond: 0 },
        ...{ replicaCount: replicas, replicas: [], losers: { [reason]: 3 }, bestLosers: [] },
      })),
    },
  });
}

const SMALL = { modelId: "small", warm: 1, replicas: 1, reason: "not-worth-it" };
const LARGE = { modelId: "large", warm: 1, replicas: 0, reason: "memory-too-small" };

describe("a model that is wanted and has no place", () => {
  test("is named where no chain runs, with what would help", () => {
    expect(pipelineText(list([]), null, plan([SMALL, LARGE]))).toBe(
      "no model is split over nodes\n" +
        "  ! large: no node and no chain of nodes has room for it (`fallow plan` tells more); another node, or a higher --max-vram, would help\n",
    );
  });

  test("is named beside the chains of others, and not while a chain of it is on its way", () => {
    const text = pipelineText(
      list([CHAIN]),
      null,
      plan([LARGE, { ...LARGE, modelId: "huge", reason: "node-draining" }]),
    );
    expect(text.match(/^ {2}! .*$/gm)).toEqual([
      "  ! huge: no node and no chain of nodes has room for it (`fallow plan` tells more)",
    ]);
  });

  test("is nothing to tell of when nobody wants it", () => {
    expect(pipelineText(list([]), null, plan([SMALL, { ...LARGE, warm: 0 }]))).toBe(
      "no model is split over nodes: each one that is wanted fits on a node\n",
    );
  });
});

test.each([60, 80, 95, 104, 120])("no line of a drawn chain is wider than a terminal of %i columns", (columns) => {
  const [drawn = ""] = pipelineText(list([CHAIN]), columns).split("\n\n");
  for (const line of drawn.split("\n")) expect(line.length).toBeLessThanOrEqual(columns);
});
