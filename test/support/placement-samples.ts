/** Nodes, models and replicas as plans are made from them; every sample is sound unless `change` says otherwise. */
import type { Device } from "../../src/domain/hardware.ts";
import { type ModelId, modelId, nodeId, replicaId, sha256Hex } from "../../src/domain/ids.ts";
import { packGrid } from "../../src/scheduler/placement/grid-columns.ts";
import { OBJECTIVE, TIER_RULES } from "../../src/scheduler/placement/objective.ts";
import type {
  DemandClass,
  ModelVariant,
  PlannedModel,
  PlanQuestion,
} from "../../src/scheduler/placement/plan-question.ts";
import type { NodeFact, ReplicaFact } from "../../src/scheduler/placement/snapshot.ts";

export const GB = 1e9;
export const nodeNamed = (index: number) => nodeId(`node_${index.toString(16).padStart(32, "0")}`);
export const replicaNamed = (index: number) => replicaId(`rep_${index.toString(10).padStart(26, "0")}`);
/** The digest of the first file of the model of this name. */
export const weightsOf = (name: string) =>
  sha256Hex(
    [...name]
      .map((letter) => letter.charCodeAt(0).toString(16))
      .join("")
      .padEnd(64, "0")
      .slice(0, 64),
  );

export function deviceOf(memoryBytes: number, change: Partial<Device> = {}): Device {
  return {
    deviceId: "cpu",
    kind: "cpu",
    variant: "cpu",
    name: "device",
    memoryBytes,
    memoryFreeBytes: memoryBytes,
    reserveBytes: 0,
    ...change,
  };
}

export function gpuOf(memoryBytes: number, change: Partial<Device> = {}): Device {
  return deviceOf(memoryBytes, { deviceId: "cuda0", kind: "gpu", variant: "cuda", ...change });
}

export function nodeFact(index: number, change: Partial<NodeFact> = {}): NodeFact {
  return {
    nodeId: nodeNamed(index),
    state: "online",
    isYielding: false,
    devices: [deviceOf(4 * GB)],
    decodeTokPerSecond: null,
    ...change,
  };
}

export function plannedModel(
  name: string,
  change: Partial<Omit<PlannedModel, "modelId" | "variants">> & Partial<ModelVariant> = {},
): PlannedModel {
  const {
    quantisation = "Q8_0",
    weightsSha256 = weightsOf(name),
    fileBytes = GB,
    kvBytesPerToken = 10_000,
    qualityPenalty = 0,
    ...rest
  } = change;
  return {
    modelId: modelId(name),
    contextTokensMax: 4_096,
    layerCount: 32,
    embeddingLength: 4_096,
    warmReplicas: 1,
    valueMicroUsdPerMtok: 1_000_000,
    variants: [{ quantisation, weightsSha256, fileBytes, kvBytesPerToken, qualityPenalty }],
    ...rest,
  };
}

export function readyReplica(index: number, change: Partial<ReplicaFact> = {}): ReplicaFact {
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

export function demandFor(name: string, change: Partial<Omit<DemandClass, "modelId">> = {}): DemandClass {
  return {
    modelId: modelId(name),
    tier: "default",
    region: null,
    tokPerSecond: 100,
    promptTokensMean: 100,
    outputTokensMean: 100,
    contextTokensNeeded: 200,
    ...change,
  };
}

export const waitingFor = (name: string, tokensNeeded = 100): PlanQuestion["waiting"] =>
  new Map<ModelId, { waiting: number; tokensNeeded: number }>([[modelId(name), { waiting: 1, tokensNeeded }]]);

export function planQuestion(
  asked: Partial<Omit<PlanQuestion, "grid">> & {
    readonly nodes: readonly NodeFact[];
    readonly replicas?: readonly ReplicaFact[];
  },
): PlanQuestion {
  const { nodes, replicas = [], ...rest } = asked;
  return {
    grid: packGrid({ version: 1, nodes: new Map(nodes.map((fact) => [fact.nodeId, fact])), replicas }),
    models: [plannedModel("a")],
    classes: [],
    waiting: new Map(),
    tiers: TIER_RULES,
    weights: OBJECTIVE,
    notBeforeMs: new Map(),
    nowMs: 1_000,
    idleUnloadMs: 60_000,
    horizonMs: 3_600_000,
    ...rest,
  };
}
