/**
 * Models that fit on one machine, placed by the product's placement planner: facts of the simulated grid become its snapshot, its
 * orders become what machines shall hold. A stage's memory is paged here, so the planner is told to size slots for a short context.
 */
import { assert } from "../../../domain/assert.ts";
import {
  type ModelId,
  modelId,
  type NodeId,
  nodeId,
  replicaId,
  type Sha256Hex,
  sha256Hex,
} from "../../../domain/ids.ts";
import { SERVICE_TIERS } from "../../../domain/tier.ts";
import { packGrid } from "../../../scheduler/placement/grid-columns.ts";
import { OBJECTIVE, TIER_RULES } from "../../../scheduler/placement/objective.ts";
import { planPlacement } from "../../../scheduler/placement/plan-placement.ts";
import type { DemandClass, PlannedModel, PlanQuestion } from "../../../scheduler/placement/plan-question.ts";
import { CONTEXT_TOKENS_MIN } from "../../../scheduler/placement/slots.ts";
import type { NodeFact, ReplicaFact } from "../../../scheduler/placement/snapshot.ts";
import type { GridNode, Stage, StagePlan } from "../grid/grid-parts.ts";
import { missingBytes } from "../grid/node-disk.ts";
import { SEQUENCES_MAX, STEP_OVERHEAD_MS, usableBytesOf } from "../grid/stage-speed.ts";
import type { GridFacts } from "./policy.ts";
import type { SimModel } from "./served-mix.ts";
import { modelBytes } from "./served-mix.ts";

const DEVICE = "gpu";
/** What a default-tier token is worth in micro-USD per million: grows with the model, as prices do. */
const VALUE_PER_BILLION = 12_500;
const IDLE_UNLOAD_MS = 600_000;
/** The planner's horizon: what a copy that is loaded now should outlast. */
export const HORIZON_MS = 3_600_000;

export interface WholeModelRules {
  /** Chance that a machine stays for the horizon. */
  readonly stays: (node: GridNode) => number;
  /** What machines hold and have on disk is told to the planner; otherwise it plans as if all were empty. */
  readonly isSticky: boolean;
}

/** For the machines given, by index. `models` are indexes of models that fit on one machine. */
export function planWholeModels(
  facts: GridFacts,
  on: { readonly nodes: readonly GridNode[]; readonly models: readonly number[]; readonly rules: WholeModelRules },
): ReadonlyMap<number, readonly StagePlan[]> {
  const { nodes, models, rules } = on;
  const stages = rules.isSticky
    ? nodes.flatMap(({ stages: held }) => held.filter((stage) => isKept(stage, models)))
    : [];
  const question = questionOf(facts, { nodes, models, stages, rules });
  const plan = planPlacement(question);
  const unloaded = new Set(plan.orders.flatMap((order) => (order.kind === "unload" ? [order.replicaId] : [])));
  const wanted = new Map<number, StagePlan[]>(nodes.map(({ index }) => [index, []]));
  for (const stage of stages) {
    if (!unloaded.has(replicaOf(stage))) wanted.get(stage.node.index)?.push(stage);
  }
  for (const order of plan.orders) {
    if (order.kind !== "load") continue;
    const model = models.find((index) => modelOf(facts, index).name === order.modelId);
    const node = nodes.find(({ index }) => idOf(index) === order.nodeId);
    assert(model !== undefined && node !== undefined, "the planner orders what it was asked about");
    const end = modelOf(facts, model).layerCount;
    wanted.get(node.index)?.push({ model, first: 0, end, memoryBytes: order.size.memoryBytes });
  }
  return wanted;
}

function isKept(stage: Stage, models: readonly number[]): boolean {
  return !stage.isLeaving && models.includes(stage.model) && stage.first === 0 && stage.end === stage.spec.layerCount;
}

function questionOf(
  facts: GridFacts,
  of: {
    readonly nodes: readonly GridNode[];
    readonly models: readonly number[];
    readonly stages: readonly Stage[];
    readonly rules: WholeModelRules;
  },
): PlanQuestion {
  const { nodes, models, stages } = of;
  const demand = facts.demand();
  const replicas = stages.map((stage): ReplicaFact => replicaFact(stage, facts));
  replicas.sort((a, b) => (a.replicaId < b.replicaId ? -1 : 1));
  const waiting = new Map<ModelId, { waiting: number; tokensNeeded: number }>();
  for (const model of models) {
    const count = demand[model]?.waiting ?? 0;
    if (count > 0)
      waiting.set(modelId(modelOf(facts, model).name), { waiting: count, tokensNeeded: CONTEXT_TOKENS_MIN });
  }
  return {
    grid: packGrid({
      version: 1,
      nodes: new Map(nodes.map((node) => [idOf(node.index), nodeFact(node, facts, of)])),
      replicas,
    }),
    models: models.map((model) => plannedModel(modelOf(facts, model))),
    classes: models.flatMap((model) => classesOf(facts, model)),
    waiting,
    tiers: TIER_RULES,
    weights: OBJECTIVE,
    notBeforeMs: new Map(),
    nowMs: facts.nowMs,
    idleUnloadMs: IDLE_UNLOAD_MS,
    horizonMs: HORIZON_MS,
  };
}

function nodeFact(
  node: GridNode,
  facts: GridFacts,
  of: { readonly models: readonly number[]; readonly rules: WholeModelRules },
): NodeFact {
  const { draw } = node;
  const bytes = usableBytesOf(draw.gpu);
  return {
    nodeId: idOf(node.index),
    state: "online",
    isYielding: false,
    devices: [
      {
        deviceId: DEVICE,
        kind: "gpu",
        variant: "cuda",
        name: draw.gpu.name,
        memoryBytes: bytes,
        memoryFreeBytes: bytes,
        reserveBytes: 0,
      },
    ],
    decodeTokPerSecond: 1_000 / STEP_OVERHEAD_MS,
    region: facts.scenario.regionNames[draw.region] ?? null,
    owner: draw.owner,
    network: null,
    stayChance: of.rules.stays(node),
    cachedWeights: new Set(of.rules.isSticky ? cachedOn(node, facts, of.models) : []),
  };
}

function cachedOn(node: GridNode, facts: GridFacts, models: readonly number[]): readonly Sha256Hex[] {
  return models.flatMap((model) => {
    const spec = modelOf(facts, model);
    const whole = { model, first: 0, end: spec.layerCount, memoryBytes: 0 };
    return missingBytes(node, whole, spec) === 0 ? [digestOf(spec)] : [];
  });
}

function replicaFact(stage: Stage, facts: GridFacts): ReplicaFact {
  const loading = stage.state === "fetching" ? "planned" : "loading";
  return {
    replicaId: replicaOf(stage),
    nodeId: idOf(stage.node.index),
    modelId: modelId(stage.spec.name),
    deviceId: DEVICE,
    weightsSha256: digestOf(stage.spec),
    state: stage.state === "ready" ? "ready" : loading,
    slots: slotsOf(stage),
    slotsLeased: stage.sequences.size,
    contextTokens: CONTEXT_TOKENS_MIN,
    memoryBytes: stage.memoryBytes,
    lastUsedAtMs: stage.sequences.size > 0 ? facts.nowMs : stage.lastUsedAtMs,
  };
}

function slotsOf(stage: Stage): number {
  return Math.max(1, Math.min(SEQUENCES_MAX, Math.floor(stage.kvTokensMax / CONTEXT_TOKENS_MIN)));
}

function plannedModel(spec: SimModel): PlannedModel {
  return {
    modelId: modelId(spec.name),
    contextTokensMax: CONTEXT_TOKENS_MIN,
    layerCount: spec.layerCount,
    embeddingLength: spec.activationBytes / 2,
    warmReplicas: 1,
    valueMicroUsdPerMtok: worthOf(spec),
    variants: [
      {
        quantisation: "only",
        weightsSha256: digestOf(spec),
        fileBytes: Math.ceil(modelBytes(spec)),
        kvBytesPerToken: spec.kvBytesPerTokenLayer * spec.layerCount,
        qualityPenalty: 0,
      },
    ],
  };
}

/** Two operations for each parameter and token. */
function worthOf(spec: SimModel): number {
  return Math.round((VALUE_PER_BILLION * spec.flopsPerTokenLayer * spec.layerCount) / 2e9);
}

function classesOf(facts: GridFacts, model: number): readonly DemandClass[] {
  const asked = facts.demand()[model];
  if (asked === undefined || asked.requestsPerSecond <= 0) return [];
  return SERVICE_TIERS.map((tier) => ({
    modelId: modelId(modelOf(facts, model).name),
    tier,
    region: null,
    tokPerSecond: asked.outputTokensPerSecond * (asked.tierShares[tier] ?? 0),
    promptTokensMean: asked.promptTokensMean,
    outputTokensMean: asked.outputTokensMean,
    contextTokensNeeded: CONTEXT_TOKENS_MIN,
  }));
}

function modelOf(facts: GridFacts, model: number): SimModel {
  const spec = facts.scenario.models[model];
  assert(spec !== undefined, `${model} is a model of the grid`);
  return spec;
}

function idOf(index: number): NodeId {
  return nodeId(`node_${index.toString(16).padStart(32, "0")}`);
}

function replicaOf(stage: Stage) {
  return replicaId(`rep_${String(stage.number).padStart(26, "0")}`);
}

function digestOf(spec: SimModel): Sha256Hex {
  const hex = [...spec.name].map((letter) => letter.charCodeAt(0).toString(16)).join("");
  return sha256Hex(hex.padEnd(64, "0").slice(0, 64));
}
