/**
 * What a plan is made from: the nodes and replicas as the coordinator knows them at one version. Plans are pure functions of
 * a snapshot; whoever carries one out first checks that the version still stands.
 */
import type { Device } from "../../domain/hardware.ts";
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import type { NodeState, ReplicaState } from "../../domain/node.ts";

export interface NodeFact {
  readonly nodeId: NodeId;
  readonly state: NodeState;
  readonly isYielding: boolean;
  readonly devices: readonly Device[];
  /** On the reference load; null when the node has not measured it. */
  readonly decodeTokPerSecond: number | null;
}

export interface ReplicaFact {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly modelId: ModelId;
  readonly deviceId: string;
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
  | "slots-full";

export type LoserCounts = ReadonlyMap<LoserReason, number>;

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
