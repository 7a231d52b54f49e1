/**
 * Why a decision fell as it did: the best candidates with the parts of their scores, and how many replicas of the model each rule
 * turned away. Read off the scratch right after the decision, before anything changes.
 */
import type { NodeId, ReplicaId } from "../../domain/ids.ts";
import type { MatchScratch } from "./match.ts";
import type { MatchIndex } from "./match-index.ts";
import { NO_OBSTACLE, replicaObstacle, replicaParts } from "./match-query.ts";
import { OBSTACLES, type ObstacleCounts, obstacleCounts } from "./match-request.ts";
import type { ScoreParts } from "./score.ts";

export const EXPLAINED_MAX = 5;
/** Of a model with more replicas than this, only those that the search met are counted: an explanation may not cost more than its decision. */
export const COUNTED_MAX = 1_000;

export interface ExplainedCandidate {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly scoreMs: number;
  readonly parts: ScoreParts;
  readonly slotsLeased: number;
  readonly slots: number;
}

export interface MatchExplanation {
  /** Highest score first, ties by id. */
  readonly candidates: readonly ExplainedCandidate[];
  /** Candidates that were scored. */
  readonly scored: number;
  /** Replicas of the model, in whatever state. */
  readonly replicas: number;
  /** By the first rule that each broke. */
  readonly turnedAway: ObstacleCounts;
  /** False when the model has more replicas than are counted. */
  readonly isComplete: boolean;
}

export function explainMatch(index: MatchIndex, scratch: MatchScratch): MatchExplanation {
  const { query } = scratch;
  if (query === null) return NOTHING;
  const lists = index.replicaShelf(query.request.modelId).lists.filter((list) => list !== undefined);
  const replicas = lists.reduce((sum, list) => sum + list.size, 0);
  const isComplete = replicas <= COUNTED_MAX;
  const counts = isComplete ? new Int32Array(OBSTACLES.length) : scratch.turnedAway;
  if (isComplete) {
    for (const replica of lists.flatMap((list) => [...list.members()])) {
      const obstacle = replicaObstacle(index, query, replica);
      if (obstacle !== NO_OBSTACLE) counts[obstacle] = (counts[obstacle] ?? 0) + 1;
    }
  }
  return {
    candidates: bestOf(index, scratch),
    scored: scratch.scored,
    replicas,
    turnedAway: obstacleCounts(counts),
    isComplete,
  };
}

const NOTHING: MatchExplanation = { candidates: [], scored: 0, replicas: 0, turnedAway: new Map(), isComplete: true };

function bestOf(index: MatchIndex, scratch: MatchScratch): readonly ExplainedCandidate[] {
  const { query } = scratch;
  if (query === null) return [];
  const { replicas, nodes } = index;
  const ranked = Array.from({ length: scratch.scored }, (_, at) => ({
    replica: scratch.candidates[at] ?? 0,
    scoreMs: scratch.scores[at] ?? 0,
  }));
  ranked.sort((a, b) => b.scoreMs - a.scoreMs || (replicas.ids.key(a.replica) < replicas.ids.key(b.replica) ? -1 : 1));
  return ranked.slice(0, EXPLAINED_MAX).map(({ replica, scoreMs }) => ({
    replicaId: replicas.ids.key(replica),
    nodeId: nodes.ids.key(replicas.node(replica)),
    scoreMs,
    parts: replicaParts(index, query, replica),
    slotsLeased: replicas.slotsLeased(replica),
    slots: replicas.slots(replica),
  }));
}

/** For people: `slots-full: 2, node-suspect: 1`; most frequent first, ties by name. */
export function describeObstacles(counts: ObstacleCounts): string {
  return [...counts]
    .sort(([nameA, countA], [nameB, countB]) => countB - countA || (nameA < nameB ? -1 : 1))
    .map(([name, count]) => `${name}: ${count}`)
    .join(", ");
}
