/**
 * What the planner is asked and what it answers. Both are plain data and typed arrays, because they cross to another thread; the
 * answer is a pure function of the question.
 *
 * Money here is a rate of micro-USD per hour, a float: it compares plans and never reaches the ledger.
 */
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import type { GridColumns } from "./grid-columns.ts";
import type { ReplicaSize } from "./slots.ts";
import type { LoserReason } from "./snapshot.ts";
import type { SpeedSource } from "./speed-model.ts";

/** Weights that a chain's ends hold beside their layers. */
export interface EndBytes {
  readonly embeddingBytes: number;
  /** Of a head that is the embedding once more (tied), as much again. */
  readonly outputBytes: number;
  /** Of all layers; absent: what the ends leave of the file. */
  readonly layersBytes?: number;
}

/** One file in which the model exists. Which one runs where is for the planner to choose. */
export interface ModelVariant {
  readonly quantisation: string;
  readonly weightsSha256: Sha256Hex;
  readonly fileBytes: number;
  readonly kvBytesPerToken: number;
  /** Of the file, what only a chain's first and last stage hold; absent: not known, and spread over the layers. */
  readonly ends?: EndBytes;
  /** 0 to 1: the share of a token's value that this quantisation loses against the best one. */
  readonly qualityPenalty: number;
}

export interface PlannedModel {
  readonly modelId: ModelId;
  readonly contextTokensMax: number;
  readonly layerCount: number;
  readonly embeddingLength: number;
  /** Absent: it can. Architectures that are not known to give the same output in stages are never chained. */
  readonly canSplit?: boolean;
  /** Numbers of layers that no stage of it may have; absent: none. */
  readonly stageCountsRefused?: readonly number[];
  /** Replicas that are there without demand. */
  readonly warmReplicas: number;
  /** What a million output tokens are worth: their price. */
  readonly valueMicroUsdPerMtok: number;
  /** At least one. */
  readonly variants: readonly ModelVariant[];
}

/** Who asks for a model, as far as rules tell them apart. */
export interface DemandClass {
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
  /** Only nodes of this region may serve it; null: any node may. */
  readonly region: string | null;
  /** Output tokens a second, as counted or foreseen. */
  readonly tokPerSecond: number;
  readonly promptTokensMean: number;
  readonly outputTokensMean: number;
  /** Longest context that it needs. */
  readonly contextTokensNeeded: number;
}

/** Requests of a model that wait for a replica at this moment. */
export interface Demand {
  /** Requests without a replica that could take them now, at least 1. */
  readonly waiting: number;
  /** Context that the largest of them needs. */
  readonly tokensNeeded: number;
}

/** What a tier demands of the nodes that serve it. */
export interface TierRule {
  /** Worth of its tokens against the price list. */
  readonly valueFactor: number;
  readonly trustMin: number;
  /** Null: no cap. */
  readonly priceMicroUsdPerHourMax: number | null;
  /** Stages of a chain at most. */
  readonly stagesMax: number;
}

/** How the parts of the objective weigh against each other; `OBJECTIVE` in objective.ts has the values in use and why. */
export interface ObjectiveWeights {
  readonly movedMicroUsdPerGb: number;
  readonly carbonMicroUsdPerGram: number;
  readonly memoryMicroUsdPerGbHour: number;
  /** Value of demand that the loss of all replicas leaves unserved, as a multiple of its value. */
  readonly lossFactor: number;
  /** Extra time of each token because answers are checked: 0.05 is 5 %. */
  readonly verificationOverhead: number;
}

export interface PlanQuestion {
  readonly grid: GridColumns;
  readonly models: readonly PlannedModel[];
  readonly classes: readonly DemandClass[];
  readonly waiting: ReadonlyMap<ModelId, Demand>;
  readonly tiers: Readonly<Record<ServiceTier, TierRule>>;
  readonly weights: ObjectiveWeights;
  /** Key of `pairKey`: until when this model is not loaded on this node again. */
  readonly notBeforeMs: ReadonlyMap<string, number>;
  readonly nowMs: number;
  readonly idleUnloadMs: number;
  /** How long the plan is to hold: the time over which `stayChance` was forecast. */
  readonly horizonMs: number;
}

/** A stage of a chain to be loaded. */
export interface StageOrderPlace {
  readonly nodeId: NodeId;
  readonly deviceId: string;
  readonly first: number;
  readonly count: number;
  /** Weights of its layers, its share of the KV cache of all slots, and what computing needs. */
  readonly memoryBytes: number;
}

/** A replica over several nodes; stages in order. */
export interface ChainOrder {
  readonly kind: "load-chain";
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly stages: readonly StageOrderPlace[];
  readonly sequencesMax: number;
  readonly contextTokens: number;
  readonly why: "warm" | "waiting" | "demand" | "lost" | "move";
  readonly movedBytes: number;
}

export type ReplicaOrder =
  | {
      readonly kind: "load";
      readonly nodeId: NodeId;
      readonly modelId: ModelId;
      readonly deviceId: string;
      readonly weightsSha256: Sha256Hex;
      readonly size: ReplicaSize;
      readonly why: "warm" | "waiting" | "demand" | "lost" | "move";
      readonly movedBytes: number;
    }
  | ChainOrder
  | {
      /** Of a chain's last stage: all of the chain goes. */
      readonly kind: "unload";
      readonly nodeId: NodeId;
      readonly replicaId: ReplicaId;
      readonly modelId: ModelId;
      readonly why: "idle" | "model-removed" | "make-room";
    };
export type LoadOrder = Extract<ReplicaOrder, { kind: "load" }>;
export type UnloadOrder = Extract<ReplicaOrder, { kind: "unload" }>;

export type PlacementKind = "whole" | "lan-group" | "chain";

/** The layers that one node of a chain runs. */
export interface StagePlace {
  readonly nodeId: NodeId;
  readonly first: number;
  readonly count: number;
}

export interface PlacedReplica {
  /** In the order of the chain; one node for a whole model. */
  readonly nodeIds: readonly NodeId[];
  /** Of a chain, in order: each layer once. */
  readonly stages?: readonly StagePlace[];
  readonly deviceId: string;
  readonly kind: PlacementKind;
  readonly quantisation: string;
  readonly slots: number;
  readonly contextTokens: number;
  readonly tokPerSecond: number;
  /** Of one sequence that has the device, or the chain, for itself, and how that is known; null: not told. */
  readonly speed: { readonly loneTokPerSecond: number; readonly source: SpeedSource; readonly attempts: number } | null;
  readonly isHeld: boolean;
}

export interface PlanLoser {
  readonly nodeId: NodeId;
  readonly reason: LoserReason;
  readonly gainMicroUsdPerHour: number | null;
}

export interface ModelPlan {
  readonly modelId: ModelId;
  readonly warmReplicas: number;
  readonly demandTokPerSecond: number;
  readonly capacityTokPerSecond: number;
  readonly servedTokPerSecond: number;
  /** Whole ones; `replicas` tells the first of them, and chains. */
  readonly replicaCount: number;
  readonly replicas: readonly PlacedReplica[];
  /** Nodes that each constraint kept out; sorted by name. */
  readonly losers: readonly (readonly [LoserReason, number])[];
  /** Of the nodes without this model: those nearest to being chosen, best first. */
  readonly bestLosers: readonly PlanLoser[];
}

export interface PlacementPlan {
  readonly version: number;
  readonly nodes: number;
  readonly orders: readonly ReplicaOrder[];
  readonly models: readonly ModelPlan[];
  /** Of what exists and of what is ordered, moves left out. */
  readonly objectiveMicroUsdPerHour: number;
  /** No placement of these models on these nodes is worth more. */
  readonly boundMicroUsdPerHour: number;
  /** 0 to 1: the share of the bound that is not reached; 0 when there is nothing to serve. */
  readonly gap: number;
  readonly movedBytes: number;
  /** What moves would have gained that hysteresis held back. */
  readonly gainLeftMicroUsdPerHour: number;
}

export function pairKey(nodeId: NodeId, modelId: ModelId): string {
  return `${nodeId} ${modelId}`;
}
