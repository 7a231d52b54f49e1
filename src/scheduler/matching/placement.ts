/**
 * The matcher's front door: which replica takes this attempt. Filters first, each counted, then a score in parts:
 *
 * | part     | range    | why                                                                                     |
 * | -------- | -------- | --------------------------------------------------------------------------------------- |
 * | load     | 0 to 1   | share of slots that are free: the least loaded replica answers soonest                   |
 * | affinity | 0 or 0.5 | it decoded the head of this prompt before, so its KV cache spares the prefill            |
 * | speed    | 0 to 0.2 | measured decode speed against the fastest candidate: breaks near ties towards fast nodes |
 *
 * A replica that is not ready never wins: the caller waits in its queue while the replica plan loads one. Ties fall to the
 * smaller replica id, so one snapshot has one answer.
 * Not handled: price, region, trust, hedging.
 */
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import {
  countLoser,
  type LoserCounts,
  type LoserReason,
  type NodeFact,
  nodeObstacle,
  type ReplicaFact,
  type Snapshot,
} from "../placement/snapshot.ts";

export interface PlacementRequest {
  readonly modelId: ModelId;
  /** Prompt, what was generated so far and what may still be generated. */
  readonly tokensNeeded: number;
  /** Nodes that failed this choice a short while ago. */
  readonly excludedNodeIds: ReadonlySet<NodeId>;
  /** The replica that decoded this prompt's head before, if any. */
  readonly hintReplicaId: ReplicaId | null;
}

export interface ScoreParts {
  readonly load: number;
  readonly affinity: number;
  readonly speed: number;
}

export interface Placement {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  /** What the plan saw and the lease must still find: compare-and-swap. */
  readonly slotsLeasedSeen: number;
  readonly versionSeen: number;
  readonly score: ScoreParts;
  readonly losers: LoserCounts;
}

export interface NoPlacement {
  readonly losers: LoserCounts;
}

const AFFINITY_SCORE = 0.5;
const SPEED_SCORE_MAX = 0.2;

export function chooseReplica(question: {
  snapshot: Snapshot;
  request: PlacementRequest;
}): Outcome<Placement, NoPlacement> {
  const { snapshot, request } = question;
  const losers = new Map<LoserReason, number>();
  const candidates: { replica: ReplicaFact; node: NodeFact }[] = [];
  for (const replica of snapshot.replicas) {
    if (replica.modelId !== request.modelId) continue;
    const node = snapshot.nodes.get(replica.nodeId);
    const obstacle = replicaObstacle(replica, node, request);
    if (obstacle !== null || node === undefined) countLoser(losers, obstacle ?? "node-offline");
    else candidates.push({ replica, node });
  }
  if (candidates.length === 0) {
    if (losers.size === 0) countLoser(losers, snapshot.nodes.size === 0 ? "no-node" : "no-replica");
    return no({ losers });
  }
  const fastest = Math.max(...candidates.map(({ node }) => node.decodeTokPerSecond ?? 0));
  const scored = candidates.map(({ replica, node }) => ({ replica, score: scoreOf(replica, node, request, fastest) }));
  scored.sort((a, b) => total(b.score) - total(a.score) || (a.replica.replicaId < b.replica.replicaId ? -1 : 1));
  const [best] = scored;
  if (best === undefined) return no({ losers });
  return ok({
    replicaId: best.replica.replicaId,
    nodeId: best.replica.nodeId,
    slotsLeasedSeen: best.replica.slotsLeased,
    versionSeen: snapshot.version,
    score: best.score,
    losers,
  });
}

function replicaObstacle(
  replica: ReplicaFact,
  node: NodeFact | undefined,
  request: PlacementRequest,
): LoserReason | null {
  if (node === undefined) return "node-offline";
  const obstacle = nodeObstacle(node);
  if (obstacle !== null) return obstacle;
  if (replica.state !== "ready") return "replica-not-ready";
  if (request.excludedNodeIds.has(replica.nodeId)) return "node-failed-before";
  if (replica.contextTokens < request.tokensNeeded) return "context-too-small";
  return replica.slotsLeased >= replica.slots ? "slots-full" : null;
}

function scoreOf(replica: ReplicaFact, node: NodeFact, request: PlacementRequest, fastest: number): ScoreParts {
  return {
    load: 1 - replica.slotsLeased / replica.slots,
    affinity: replica.replicaId === request.hintReplicaId ? AFFINITY_SCORE : 0,
    speed: fastest > 0 ? (SPEED_SCORE_MAX * (node.decodeTokPerSecond ?? 0)) / fastest : 0,
  };
}

function total(score: ScoreParts): number {
  return score.load + score.affinity + score.speed;
}
