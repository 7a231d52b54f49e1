/**
 * Fills the place of one lost stage (chain-repair.ts has the order of preference). Nothing here names a survivor: the answer is one node for one
 * stage, so nobody else moves, and nobody else fetches anything.
 */
import type { NodeId } from "../../domain/ids.ts";
import { countLoser, type LoserReason } from "../placement/snapshot.ts";
import type { ChainRepair, ChainRepairQuestion, SpareStage, StageCandidate } from "./chain-repair.ts";
import { byNearness, bytesToFetch, roomObstacle, type Unmeasured } from "./stage-room.ts";

/** What a node's own state says. A node that holds a spare of the stage has a stage of the model "here already", which keeps no spare from serving. */
const NODE_OBSTACLES: ReadonlySet<LoserReason> = new Set([
  "node-offline",
  "node-suspect",
  "node-draining",
  "node-yielding",
]);

/** The order in which spares and candidates come changes nothing. */
export function repairChain(question: ChainRepairQuestion): ChainRepair {
  const { lost, candidates } = question;
  const spare = bestSpare(question);
  if (spare !== null && doubtOf(question, spare) < 2) return { kind: "spare", spare };
  const near = byNearness(lost);
  const fetch = (one: StageCandidate) => bytesToFetch(one.storedBytes, lost.weightsBytes);
  const losers = new Map<LoserReason, number>();
  let best: StageCandidate | null = null;
  for (const candidate of candidates) {
    const obstacle = roomObstacle(candidate, lost.memoryBytes);
    if (obstacle !== null) countLoser(losers, obstacle);
    else if (
      best === null ||
      (doubt(candidate) - doubt(best) || fetch(candidate) - fetch(best) || near(candidate, best)) < 0
    )
      best = candidate;
  }
  if (spare !== null && (best === null || doubt(best) > 0)) return { kind: "spare", spare };
  if (best === null) {
    if (candidates.length === 0) countLoser(losers, "no-node");
    return { kind: "plan-anew", losers: [...losers].sort(([a], [b]) => (a < b ? -1 : 1)) };
  }
  const fetchBytes = fetch(best);
  const { nodeId, deviceId } = best;
  return { kind: "load", nodeId, deviceId, fetchBytes, why: fetchBytes === 0 ? "on-disk" : "least-to-fetch" };
}

function doubt(of: Pick<StageCandidate, "doubt"> | undefined): number {
  return of?.doubt ?? 0;
}

function doubtOf({ candidates }: ChainRepairQuestion, { nodeId }: SpareStage): number {
  return doubt(candidates.find((one) => one.nodeId === nodeId));
}

/** A spare of just these layers, on a node that takes work; of several one that is doubted least, then the nearest. */
function bestSpare({ lost, spares, candidates }: ChainRepairQuestion): SpareStage | null {
  const near = byNearness(lost);
  const known = new Map<NodeId, StageCandidate>(candidates.map((one) => [one.nodeId, one]));
  const fitting = spares.filter(({ first, count, nodeId }) => {
    const obstacle = known.get(nodeId)?.obstacle ?? null;
    return first === lost.first && count === lost.count && (obstacle === null || !NODE_OBSTACLES.has(obstacle));
  });
  const measured = (spare: SpareStage): Unmeasured =>
    known.get(spare.nodeId) ?? {
      nodeId: spare.nodeId,
      stayChance: 1,
      previousRttMs: null,
      nextRttMs: null,
      bytesPerSecond: null,
    };
  const sorted = fitting.sort(
    (a, b) =>
      doubt(known.get(a.nodeId)) - doubt(known.get(b.nodeId)) ||
      near(measured(a), measured(b)) ||
      (a.replicaId < b.replicaId ? -1 : a.replicaId > b.replicaId ? 1 : 0),
  );
  return sorted[0] ?? null;
}
