/**
 * What a plan is made from: the nodes and replicas as the coordinator knows them at one version. Plans are pure functions of
 * a snapshot; whoever carries one out first checks that the version still stands.
 */
import type { Device } from "../../domain/hardware.ts";
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { NodeState, ReplicaState } from "../../domain/node.ts";
import type { ObservedSpeed } from "./observed-speed.ts";

/** What is absent or null is not known, and neutral wherever a rule does not demand it. */
export interface NodeFact {
  readonly nodeId: NodeId;
  readonly state: NodeState;
  readonly isYielding: boolean;
  readonly devices: readonly Device[];
  /** On the reference load; null when the node has not measured it. */
  readonly decodeTokPerSecond: number | null;
  /** What it did with files that it ran. */
  readonly observedSpeeds?: readonly ObservedSpeed[];
  /** Round trip to the coordinator, as the node measures it. */
  readonly rttMs?: number | null;
  /** As the node's operator named it. A rule that demands a region is met by no node of unknown region. */
  readonly region?: string | null;
  /** Failure domains: who owns it, and the network prefix that its link comes from. Null: a domain of its own. */
  readonly owner?: string | null;
  readonly network?: string | null;
  /** 0 to 1; unknown is 1. */
  readonly trust?: number;
  /** Of the whole machine; unknown is 0. */
  readonly priceMicroUsdPerHour?: number;
  readonly gramsCo2PerHour?: number;
  /** Chance that it stays for the planner's horizon; unknown is 1. */
  readonly stayChance?: number;
  /** Digests of the weights that lie on its disk. */
  readonly cachedWeights?: ReadonlySet<Sha256Hex>;
  /** It can run some layers of a model, as a stage of a chain. */
  readonly hasStageServing?: boolean;
  /** Measured links to other nodes. */
  readonly links?: readonly LinkFact[];
  /** Models that a server of its owner's holds. */
  readonly attached?: readonly AttachedOffer[];
}

export interface AttachedOffer {
  readonly modelId: ModelId;
  readonly contextTokens: number;
}

export interface LinkFact {
  readonly to: NodeId;
  readonly rttMs: number;
  readonly bytesPerSecond: number;
}

export interface ReplicaFact {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly modelId: ModelId;
  readonly deviceId: string;
  /** Which of the model's files it runs; absent when the model has one. */
  readonly weightsSha256?: Sha256Hex;
  readonly state: ReplicaState;
  /** Sequences that may run at the same time. */
  readonly slots: number;
  /** Live leases, as the coordinator's lease table counts them. */
  readonly slotsLeased: number;
  readonly contextTokens: number;
  /** Planned memory: weights, KV cache of all slots, and what computing needs. */
  readonly memoryBytes: number;
  /** Last time a lease on it was live, or when it became ready. */
  readonly lastUsedAtMs: number;
  /** Its engine stops background work by itself while others run. */
  readonly holdsBack?: boolean;
  /**
   * A stage of a chain, or a spare one. The last stage stands for the chain: it is `ready` when the chain serves, and takes the leases. The others hold
   * memory and count as no replica of the model.
   */
  readonly stage?: {
    /** Null: a spare. */
    readonly chainId: string | null;
    readonly first: number;
    readonly count: number;
    readonly isLast: boolean;
    /** Of the last stage: one token's way through the whole chain, as its stages measured it; absent: nobody did. */
    readonly loopMs?: number | null;
  };
}

export interface Snapshot {
  readonly version: number;
  /** In the order of node ids. */
  readonly nodes: ReadonlyMap<NodeId, NodeFact>;
  /** Sorted by replica id. */
  readonly replicas: readonly ReplicaFact[];
}

/** Why something was not chosen. The counts go into refusals and logs, so that "no capacity" explains itself. */
export type LoserReason =
  | "no-node"
  | "no-replica"
  | "node-offline"
  | "node-suspect"
  | "node-draining"
  | "node-yielding"
  | "node-failed-before"
  | "replica-not-ready"
  | "context-too-small"
  | "memory-too-small"
  | "load-failed-recently"
  | "slots-full"
  | "region-not-allowed"
  | "trust-too-low"
  | "price-too-high"
  | "too-many-hops"
  | "serves-no-stages"
  | "model-not-splittable"
  | "replica-here-already"
  | "shares-failure-domain"
  | "not-worth-it";

export type LoserCounts = ReadonlyMap<LoserReason, number>;

/** It counts as a replica of its model: the whole model, or the stage that stands for a chain. */
export function isReplicaFact({ stage }: Pick<ReplicaFact, "stage">): boolean {
  return stage === undefined || (stage.isLast && stage.chainId !== null);
}

/** Why a node takes no work at all; null when it does. */
export function nodeObstacle(node: NodeFact): LoserReason | null {
  switch (node.state) {
    case "offline":
      return "node-offline";
    case "suspect":
      return "node-suspect";
    case "draining":
      return "node-draining";
    case "online":
      return node.isYielding ? "node-yielding" : null;
  }
}

export function countLoser(losers: Map<LoserReason, number>, reason: LoserReason): void {
  losers.set(reason, (losers.get(reason) ?? 0) + 1);
}

/** For people: `slots-full: 2, node-suspect: 1`; most frequent first, ties by name. */
export function describeLosers(losers: LoserCounts): string {
  return [...losers]
    .sort(([nameA, countA], [nameB, countB]) => countB - countA || (nameA < nameB ? -1 : 1))
    .map(([name, count]) => `${name}: ${count}`)
    .join(", ");
}
